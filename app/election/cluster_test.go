package election_test

import (
	"slices"
	"testing"
	"time"

	"habot/app/election"
	"habot/app/election/electiontest"
)

// run lets a cluster live until an instant, with every guarantee checked.
func run(t *testing.T, c *electiontest.Cluster, until time.Duration) {
	t.Helper()
	if err := c.Run(until); err != nil {
		t.Fatal(err)
	}
}

// cluster starts a calm cluster: all replicas at once, and the wall clocks right.
func cluster(t *testing.T, replicas, quorum int) *electiontest.Cluster {
	t.Helper()
	c := electiontest.New(electiontest.Options{
		Seed: 1, Replicas: replicas, Quorum: quorum, Lease: lease,
		Noise: electiontest.Noise{MaxDelay: time.Millisecond},
		Trace: func(line string) { t.Log(line) },
	})
	return c
}

func only(t *testing.T, c *electiontest.Cluster, want int) {
	t.Helper()
	if got := c.Primaries(); !slices.Equal(got, []int{want}) {
		t.Fatalf("at %v the primaries are %v, want %d alone", c.Now(), got, want)
	}
}

func TestLowestTimestampWinsWhenAllStartTogether(t *testing.T) {
	t.Parallel()
	for lowest := range 5 {
		c := cluster(t, 5, 0)
		for i := range 5 {
			// Their claims are nanoseconds apart, on their way at the same time.
			c.SetWall(i, time.Duration(100+i))
		}
		c.SetWall(lowest, 1)
		for i := range 5 {
			c.Start(i)
		}
		run(t, c, 5*lease)
		only(t, c, lowest)
		if len(c.Terms) != 1 {
			t.Errorf("%d terms, want one: no replica may become primary and be displaced", len(c.Terms))
		}
	}
}

func TestNewcomerWhoseClockRunsBehindNeitherPreemptsNorGoesBack(t *testing.T) {
	t.Parallel()
	c := cluster(t, 3, 0)
	c.Start(0)
	c.Start(1)
	run(t, c, 3*lease)
	first := c.Primary()
	c.SetWall(2, -10*time.Hour)
	c.SetWall(1-first, -10*time.Hour)
	c.Start(2)
	run(t, c, 8*lease)
	only(t, c, first)
	if r := c.Role(2); r != election.Standby {
		t.Errorf("the newcomer is %s, want standby", r)
	}
	// Its successor's clock is ten hours behind, its timestamp is not.
	c.Crash(first)
	run(t, c, 12*lease)
	if c.Primary() == first || c.Primary() < 0 {
		t.Fatalf("the primary is %d, want another than %d", c.Primary(), first)
	}
	if err := c.CheckOrder(); err != nil {
		t.Error(err)
	}
}

func TestPrimaryThatCrashesIsReplacedWithinALeaseAndAFewRoundTrips(t *testing.T) {
	t.Parallel()
	c := cluster(t, 3, 0)
	for i := range 3 {
		c.Start(i)
	}
	run(t, c, 3*lease)
	c.Crash(c.Primary())
	run(t, c, c.Now()+lease+lease/10)
	if c.Primary() < 0 {
		t.Fatalf("no primary %v after the crash", lease+lease/10)
	}
	if got := c.Terms[1]; got.From-c.Terms[0].To > lease+lease/10 {
		t.Errorf("the takeover took %v", got.From-c.Terms[0].To)
	}
}

func TestMinorityLosesItsPrimaryAndTheMajorityHasOne(t *testing.T) {
	t.Parallel()
	c := cluster(t, 5, 0)
	for i := range 5 {
		c.Start(i)
	}
	run(t, c, 3*lease)
	p := c.Primary()
	other := (p + 1) % 5
	c.Partition(p, other)
	run(t, c, c.Now()+3*lease)
	if now := c.Primary(); now == p || now == other || now < 0 {
		t.Fatalf("the primary is %d, want one of the majority", now)
	}
	now := c.Primary()
	c.Heal()
	run(t, c, c.Now()+3*lease)
	only(t, c, now)
}

func TestQuorumOfOneKeepsAPrimaryInEveryPartitionAndTheHigherStepsDown(t *testing.T) {
	t.Parallel()
	c := cluster(t, 2, 1)
	c.Start(0)
	c.Start(1)
	run(t, c, 3*lease)
	first := c.Primary()
	only(t, c, first)
	c.Partition(0)
	run(t, c, 6*lease)
	if p := c.Primaries(); len(p) != 2 {
		t.Fatalf("while they cannot reach each other the primaries are %v, want both", p)
	}
	c.Heal()
	run(t, c, 9*lease)
	only(t, c, first) // its timestamp is the lower one
	if r := c.Role(1 - first); r != election.Standby {
		t.Errorf("the other is %s, want standby", r)
	}
	if got := c.Terms[len(c.Terms)-1]; got.Reason != election.ReasonLowerPrimary {
		t.Errorf("it stepped down for %q", got.Reason)
	}
}

// A quorum of two of four: the lower primary's promises outlive the meeting with a higher one, and the
// higher one's release.
func TestLowerPrimaryKeepsItsQuorumWhenPartitionsMeet(t *testing.T) {
	t.Parallel()
	c := cluster(t, 4, 2)
	for i := range 4 {
		c.Start(i)
	}
	run(t, c, 3*lease)
	first := c.Primary()
	only(t, c, first)
	c.Partition(first, (first+1)%4)
	run(t, c, 7*lease)
	if p := c.Primaries(); len(p) != 2 {
		t.Fatalf("while they cannot reach each other the primaries are %v, want two", p)
	}
	c.Heal()
	run(t, c, 12*lease)
	only(t, c, first)
	if len(c.Terms) != 2 {
		t.Errorf("%d terms, want the two of the partitions: the lower primary was displaced", len(c.Terms))
	}
}

func TestGrowingFromThreeToFiveKeepsOnePrimary(t *testing.T) {
	t.Parallel()
	c := cluster(t, 3, 0)
	for i := range 3 {
		c.Start(i)
	}
	run(t, c, 3*lease)
	p := c.Primary()
	c.Resize(5)
	c.Start(c.AddHost())
	c.Start(c.AddHost())
	run(t, c, 12*lease)
	only(t, c, p)
	if len(c.Terms) != 1 {
		t.Errorf("%d terms, want one", len(c.Terms))
	}
	for i := range 5 {
		if v := c.View(i); v.Expected != 5 || v.Quorum != 3 || v.Reachable != 5 {
			t.Errorf("host %d: expected %d, quorum %d, reachable %d", i, v.Expected, v.Quorum, v.Reachable)
		}
	}
}

func TestHandOverTakesAFewRoundTrips(t *testing.T) {
	t.Parallel()
	c := cluster(t, 3, 0)
	for i := range 3 {
		c.Start(i)
	}
	run(t, c, 3*lease)
	c.Resign(c.Primary(), election.ReasonSwitchover)
	run(t, c, 6*lease)
	if len(c.Terms) != 2 {
		t.Fatalf("%d terms, want two", len(c.Terms))
	}
	if gap := c.Terms[1].From - c.Terms[0].To; gap > lease/20 {
		t.Errorf("there was no primary for %v", gap)
	}
	if c.Terms[0].Host == c.Terms[1].Host {
		t.Error("it handed over to itself")
	}
}

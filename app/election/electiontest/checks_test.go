package electiontest

import (
	"errors"
	"math"
	"testing"
	"time"

	"habot/app/election"
)

// calm is a cluster of three whose primary is p, with a and b standing by.
func calm(t *testing.T) (c *Cluster, p, a, b *host) {
	t.Helper()
	c = New(Options{Seed: 1, Replicas: 3, Noise: Noise{MaxDelay: time.Millisecond}})
	for i := range 3 {
		c.Start(i)
	}
	if err := c.Run(3 * lease); err != nil {
		t.Fatal(err)
	}
	i := c.Primary()
	return c, c.hosts[i], c.hosts[(i+1)%3], c.hosts[(i+2)%3]
}

// Each case has something happen that a correct machine never does: a check that misses it is worth nothing.
func TestEveryCheckCanFail(t *testing.T) {
	t.Parallel()
	newer := func(h *host, by int64) election.Claim {
		return election.Claim{Timestamp: h.account.own.Timestamp + by, Replica: "x"}
	}
	request := func(h *host, claim election.Claim) election.ClaimRequest {
		return election.ClaimRequest{Claim: claim, From: h.machine.Status(0)}
	}
	leaving := func(h *host, departed bool) election.LeaveRequest {
		return election.LeaveRequest{From: h.machine.Status(0), Departed: departed}
	}
	cases := map[string]struct {
		want Guarantee
		do   func(c *Cluster, p, a, b *host)
	}{
		"two act": {Safety, func(_ *Cluster, _, a, _ *host) {
			a.botRunning, a.workUntil = true, math.MaxInt64
		}},
		"two hold a lease": {Safety, func(_ *Cluster, _, a, _ *host) {
			a.botRunning, a.leaseEnd = true, math.MaxInt64
		}},
		"a term under a lower timestamp": {Order, func(c *Cluster, p, a, _ *host) {
			a.workUntil = math.MaxInt64
			c.restarted = true
			claim := newer(p, -1)
			c.claims(a, claim)
			a.account.acknowledge(p.id, math.MaxInt64)
			c.begins(a, claim)
		}},
		"a term under the same timestamp, without restarts": {Order, func(c *Cluster, p, a, _ *host) {
			a.workUntil = math.MaxInt64
			c.begins(a, newer(p, 0))
		}},
		"a timestamp used twice": {Order, func(c *Cluster, p, _, _ *host) {
			c.claims(p, election.Claim{Timestamp: p.account.own.Timestamp, Replica: "y"})
		}},
		"a promise broken by a grant": {NoPreemption, func(c *Cluster, p, a, b *host) {
			c.replied(a, request(b, newer(p, 1)), election.ClaimAnswer{Granted: true})
		}},
		"a promise broken by a claim": {NoPreemption, func(c *Cluster, p, a, _ *host) {
			c.claims(a, newer(p, 1))
		}},
		"a renewal refused": {NoPreemption, func(c *Cluster, p, a, _ *host) {
			c.replied(a, request(p, p.account.own), election.ClaimAnswer{Refusal: election.RefusedFloor})
		}},
		"a lease lost that others support": {NoPreemption, func(c *Cluster, p, _, _ *host) {
			c.stops(p, election.StopWork{Reason: election.ReasonLeaseLost})
		}},
		"a switchover that was not requested": {NoPreemption, func(c *Cluster, p, _, _ *host) {
			c.stops(p, election.StopWork{Reason: election.ReasonSwitchover})
		}},
		"a healthy primary displaced as unhealthy": {NoPreemption, func(c *Cluster, p, _, _ *host) {
			c.stops(p, election.StopWork{Reason: election.ReasonUnhealthy})
		}},
		"a majority's primary displaced by a lower one": {NoPreemption, func(c *Cluster, p, _, _ *host) {
			c.stops(p, election.StopWork{Reason: election.ReasonLowerPrimary})
		}},
		"a candidate that stays though it received a lower claim": {LowestWins, func(c *Cluster, p, a, b *host) {
			a.account.own = newer(p, 2)
			c.replied(a, request(b, newer(p, 1)), election.ClaimAnswer{Refusal: election.RefusedHeld})
		}},
		"a candidate that grants and stays": {LowestWins, func(c *Cluster, p, a, b *host) {
			a.account.own = newer(p, 2)
			c.replied(a, request(b, newer(p, 1)), election.ClaimAnswer{Granted: true})
		}},
		"a candidate that yields to a higher one": {LowestWins, func(c *Cluster, p, a, b *host) {
			from := request(b, newer(p, 3))
			from.From.Primary = election.Claim{}
			c.gaveUp(a, election.ClaimReceived{Request: from}, election.ElectionEnded{Claim: newer(p, 2), Result: election.ElectionYielded})
		}},
		"a release while the work runs": {Duty, func(c *Cluster, p, _, _ *host) {
			c.ends(p, election.EndRequest{Claim: p.account.own, Released: true})
		}},
		"a bot without a lease": {Duty, func(c *Cluster, p, a, _ *host) {
			c.begins(a, newer(p, 1))
		}},
		"a halt without a word": {Duty, func(c *Cluster, p, _, _ *host) {
			c.carryOut(p, election.Tick{}, election.Halt{})
		}},
		"a change of role that there is not": {Roles, func(c *Cluster, p, _, _ *host) {
			p.account.role = election.Standby
			c.reached(p)
		}},
		"more under way than could be": {Storm, func(c *Cluster, _, _, _ *host) {
			for range storm + 1 {
				c.At(4*lease, func() {})
			}
			_ = c.Run(4 * lease)
		}},
		"no replica takes over": {Liveness, func(c *Cluster, p, a, _ *host) {
			p.frozenUntil, a.frozenUntil = never, never
			if err := c.goes(p.index); err != nil {
				c.broken = err
			}
		}},
		"a grant of one that has left": {Number, func(c *Cluster, p, a, _ *host) {
			a.account.departed = true
			c.replied(a, request(p, p.account.own), election.ClaimAnswer{Granted: true})
		}},
		"one that has left while its grant is counted": {Number, func(c *Cluster, _, a, _ *host) {
			c.leaves(a, leaving(a, true))
		}},
		"one that has left while its work runs": {Duty, func(c *Cluster, p, _, _ *host) {
			c.leaves(p, leaving(p, true))
		}},
		"a dismissal from another's claim": {Number, func(c *Cluster, p, a, _ *host) {
			c.dismisses(p, leaving(a, false), election.LeaveAnswer{Dismissed: true, Claim: newer(p, 1)})
		}},
		"a dismissal of one that the lease rests on": {Number, func(c *Cluster, p, a, b *host) {
			for _, h := range []*host{a, b} {
				c.dismisses(p, leaving(h, false), election.LeaveAnswer{Dismissed: true, Claim: p.account.own})
			}
		}},
		"a number below those that run": {Number, func(c *Cluster, _, a, _ *host) {
			c.resized(a, election.LeaveReceived{}, 2)
		}},
		"a grant to one that cannot take part": {Duty, func(c *Cluster, p, a, b *host) {
			b.incompatible = OtherLease
			c.replied(a, request(b, election.Claim{Timestamp: newer(p, 1).Timestamp, Replica: b.id}), election.ClaimAnswer{Granted: true})
		}},
		"a tick that was due": {Spin, func(c *Cluster, p, _, _ *host) {
			c.now += lease
			c.wakeUp(p)
		}},
		"one that was asked to stop does not": {Liveness, func(c *Cluster, p, _, _ *host) {
			p.frozenUntil = never
			if err := c.allStop(newDice(1, forPeace, 2)); err != nil {
				c.broken = err
			}
		}},
		"a larger number stays after a scale-in": {Liveness, func(c *Cluster, p, _, _ *host) {
			for range 2 {
				c.Start(c.AddHost())
				c.members++
			}
			if err := c.Run(c.now + 8*lease); err != nil {
				c.broken = err
				return
			}
			for _, h := range c.hosts {
				h.frozenUntil = never
			}
			if err := c.scalesIn(p.index); err != nil {
				c.broken = err
			}
		}},
		"displaced in peace": {NoPreemption, func(c *Cluster, p, _, _ *host) {
			c.At(c.now+lease, func() { c.Resign(p.index, election.ReasonSwitchover) })
			if err := c.stays(p.index); err != nil {
				c.broken = err
			}
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, p, a, b := calm(t)
			tc.do(c, p, a, b)
			var broken *BrokenError
			if err := c.Check(); !errors.As(err, &broken) || broken.Guarantee != tc.want {
				t.Errorf("the check says %v, want %s", err, tc.want)
			}
		})
	}
}

func TestCoverageTellsWhatNeverOccurred(t *testing.T) {
	t.Parallel()
	v := NewCoverage()
	all := len(v.Missing())
	v.Counts["fault crash"]++
	v.Moves[[2]election.Role{election.Candidate, election.Primary}]++
	v.Counts["an unknown kind"]++
	if got := len(v.Missing()); got != all-2+1 {
		t.Errorf("%d things are missing, want %d", got, all-1)
	}
}

// hasty is the first plan that breaks SAFETY if replicas keep no silence when they start: about one in four hundred does.
func hasty() (Plan, error) {
	for seed := uint64(1); ; seed++ {
		p := Draw(seed)
		p.Hasty = true
		var broken *BrokenError
		if _, err := p.Run(nil, nil); errors.As(err, &broken) && broken.Guarantee == Safety {
			return p, err
		}
		if seed == 2000 {
			return p, nil
		}
	}
}

func TestFailureShrinksToItsCause(t *testing.T) {
	t.Parallel()
	p, err := hasty()
	if err == nil {
		t.Fatal("2,000 schedules without the joining silence broke nothing: they are too tame")
	}
	small, err := Shrink(p)
	var broken *BrokenError
	if !errors.As(err, &broken) || broken.Guarantee != Safety {
		t.Fatalf("the shrunk plan broke %v, the first one broke SAFETY", err)
	}
	if len(small.Faults) > 12 || len(small.Faults) >= len(p.Faults) {
		t.Errorf("%d faults were shrunk to %d only:\n%s", len(p.Faults), len(small.Faults), &small)
	}
	again, _ := Shrink(p)
	if again.String() != small.String() {
		t.Errorf("shrunk again it is another one:\n%s\n%s", &small, &again)
	}
	read, err := ParsePlan(small.String())
	if err != nil {
		t.Fatal(err)
	}
	if _, again := read.Run(nil, nil); again == nil || again.Error() != broken.Error() {
		t.Errorf("from its text it broke %v, before %v", again, broken)
	}
	read.Hasty = false
	if _, err := read.Run(nil, nil); err != nil {
		t.Errorf("with the silence kept it broke %v", err)
	}
}

func TestPlanThatBreaksNothingIsNotShrunk(t *testing.T) {
	t.Parallel()
	p := Draw(1)
	if small, err := Shrink(p); err != nil || small.String() != p.String() {
		t.Errorf("it became another one, %v", err)
	}
}

func TestPlansAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		p := Draw(seed)
		q, err := ParsePlan(p.String())
		if err != nil || q.String() != p.String() {
			t.Fatalf("seed %d: %v\n%s\n%s", seed, err, &p, &q)
		}
	}
	for _, text := range []string{
		"", "replicas 0", "replicas 99", "replicas x", "replicas 3 4", "colour blue", "replicas 3\n1s explode r1", "replicas 3\n1s crash r3",
		"replicas 3\n1s crash x1", "replicas 3\n1s on monday crash it", "replicas 3\n1s freeze r1", "replicas 3\nincompatible tall", "replicas 3\nlifelines none",
		"replicas 3\n1s cut r1", "replicas 3\n1s configure r1 3", "replicas 3\nwallclocks melted", "replicas 3\n1s on win +x crash it",
	} {
		if _, err := ParsePlan(text); !errors.Is(err, ErrPlan) {
			t.Errorf("%q: %v, want ErrPlan", text, err)
		}
	}
}

// A plan is the same story each time, to the last line.
func TestPlanIsTheSameStoryEachTime(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		var stories [2][]string
		for i := range stories {
			p := Draw(seed)
			if _, err := p.Run(func(line string) { stories[i] = append(stories[i], line) }, nil); err != nil {
				t.Fatal(err)
			}
		}
		if len(stories[0]) == 0 || len(stories[0]) != len(stories[1]) {
			t.Fatalf("seed %d: %d lines, then %d", seed, len(stories[0]), len(stories[1]))
		}
		for i, line := range stories[0] {
			if stories[1][i] != line {
				t.Fatalf("seed %d: %q, then %q", seed, line, stories[1][i])
			}
		}
	}
}

package electiontest_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"habot/app/election/electiontest"
)

// Here an assumption of SAFETY.md is broken on purpose. Two primaries are possible then; what is checked is that it stays a
// matter of moments, and that the cluster finds its way back.

// acting is what an observer of Telegram sees of a cluster.
type acting struct {
	two  time.Duration // for how long more than one host acted, in all
	none time.Duration // for how long none did, at a stretch, once one had
}

// watch lets a cluster run and looks at it every hundredth of a lease.
func watch(t *testing.T, c *electiontest.Cluster, until time.Duration) acting {
	t.Helper()
	const every = 10 * time.Millisecond
	var a acting
	var none time.Duration
	for c.Now() < until {
		if err := c.Run(c.Now() + every); err != nil {
			t.Fatal(err)
		}
		switch n := len(c.Primaries()); {
		case n > 1:
			a.two, none = a.two+every, 0
		case n == 0 && len(c.Terms) > 0:
			none += every
		default:
			none = 0
		}
		a.none = max(a.none, none)
	}
	return a
}

// six hosts believe in three replicas. The first three know of three, the others of all six.
func six(seed uint64, together bool) *electiontest.Cluster {
	c := electiontest.New(electiontest.Options{
		Seed: seed, Replicas: 3, Noise: electiontest.Noise{MaxDelay: 20 * time.Millisecond}, Outside: true,
	})
	for range 3 {
		c.AddHost()
	}
	d := rand.New(rand.NewPCG(seed, 6))
	for i := range 6 {
		if i < 3 {
			c.List(i, 0, 1, 2)
		}
		at := time.Duration(0)
		if !together {
			at = time.Duration(d.Int64N(int64(time.Second)))
		}
		c.At(at, func() { c.Start(i) })
	}
	return c
}

func TestSixReplicasThatBelieveInThreeHaveOnePrimary(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		if a := watch(t, six(seed, seed%2 == 0), 40*time.Second); a.two > 50*time.Millisecond || a.none > 2*time.Second {
			t.Errorf("seed %d: two acted for %v, none for %v", seed, a.two, a.none)
		}
	}
}

// The primary crashes every ten leases or so and comes back.
func TestSixReplicasThatBelieveInThreeFindAPrimaryAfterCrashes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		c := six(seed, seed%2 == 0)
		d := rand.New(rand.NewPCG(seed, 7))
		within := func(most time.Duration) time.Duration { return time.Duration(d.Int64N(int64(most))) }
		for at := 6*time.Second + within(8*time.Second); at < 50*time.Second; at += 6*time.Second + within(8*time.Second) {
			back := within(4 * time.Second)
			c.At(at, func() {
				if p := c.Primary(); p >= 0 {
					c.Crash(p)
					c.At(c.Now()+back, func() { c.Start(p) })
				}
			})
		}
		if a := watch(t, c, 60*time.Second); a.two > 100*time.Millisecond || a.none > 10*time.Second {
			t.Errorf("seed %d: two acted for %v, none for %v", seed, a.two, a.none)
		}
	}
}

// A hypervisor pauses the primary, and its clocks with it: it wakes in the belief that its lease holds.
func TestPrimaryThatWasPausedWithItsClocksStepsDownAtItsNextRenewal(t *testing.T) {
	t.Parallel()
	const lease, pause = time.Second, 3 * time.Second
	twice := 0
	for seed := range uint64(200) {
		c := electiontest.New(electiontest.Options{
			Seed: seed, Replicas: 3, Noise: electiontest.Noise{MaxDelay: 20 * time.Millisecond}, Outside: true,
		})
		for i := range 3 {
			c.Start(i)
		}
		if err := c.Run(5*lease + time.Duration(seed)*7*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		p := c.Primary()
		c.Pause(p, pause)
		if err := c.Run(c.Now() + pause); err != nil {
			t.Fatal(err)
		}
		next := len(c.Terms)
		a := watch(t, c, c.Now()+10*lease)
		if a.two > 0 {
			twice++
		}
		if a.two > 6*lease/10 || a.none > 0 || len(c.Terms) != next || c.Primary() == p {
			t.Errorf("seed %d: two acted for %v, none for %v, %d terms more", seed, a.two, a.none, len(c.Terms)-next)
		}
	}
	if twice == 0 {
		t.Error("no primary that was paused ever acted beside another: the pause is none")
	}
}

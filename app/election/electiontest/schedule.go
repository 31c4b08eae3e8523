package electiontest

import (
	"fmt"
	"slices"
	"time"

	"habot/app/election"
)

// Schedule runs one random schedule of faults from a seed: a cluster, a time of trouble, then peace.
// It returns the cluster and the first broken guarantee. The same seed is the same story.
func Schedule(seed uint64, trace func(string)) (*Cluster, error) {
	c := New(draw(seed, trace))
	restarts := c.rng.IntN(3) > 0 // without restarts ORDER must hold throughout
	begin, trouble := 2*c.opt.Lease, 30*c.opt.Lease
	for i := range c.hosts {
		c.At(time.Duration(c.rng.Int64N(int64(c.opt.Lease))), func() { c.Start(i) })
	}
	if c.opt.Replicas == 3 && c.rng.IntN(4) == 0 {
		begin = c.grow(5)
	}
	members := len(c.hosts)
	if c.opt.Replicas > 1 && c.majority() && c.rng.IntN(8) == 0 { // below a majority it would be a primary too
		stranger := c.AddStranger()
		c.At(begin, func() { c.Start(stranger) })
		c.At(trouble-1, func() { c.Crash(stranger) })
	}
	for at := begin; at < trouble; at += time.Duration(c.rng.Int64N(int64(2 * c.opt.Lease))) {
		c.At(at, func() { c.misfortune(members, restarts) })
	}
	if err := c.Run(trouble); err != nil {
		return c, err
	}
	if !restarts && c.majority() {
		if err := c.CheckOrder(); err != nil {
			return c, err
		}
	}
	return c, c.peace(members)
}

// grow has a cluster grow to n replicas in calm, as resizing is meant to be done, and returns when the
// trouble may begin: when the replicas that have not been restarted have seen the others for long
// enough to use the larger number.
func (c *Cluster) grow(n int) time.Duration {
	faults := c.opt.Faults
	c.opt.Faults.Loss, c.opt.Faults.Duplicate, c.opt.Faults.MaxDelay = 0, 0, time.Millisecond
	c.At(3*c.opt.Lease, func() {
		c.Resize(n)
		for i := range n {
			c.Start(i)
		}
	})
	for len(c.hosts) < n {
		c.AddHost()
	}
	begin := 12 * c.opt.Lease
	c.At(begin, func() { c.opt.Faults = faults })
	return begin
}

// draw draws a cluster from a seed.
func draw(seed uint64, trace func(string)) Options {
	sizes := []int{3, 3, 3, 5, 2, 4, 7, 1, 2, 3, 4}
	quorums := []int{8: 1, 9: 1, 10: 2}
	opt := Options{
		Seed:     seed,
		Replicas: sizes[seed%uint64(len(sizes))],
		Quorum:   quorums[seed%uint64(len(sizes))],
		Lease:    time.Second,
		Trace:    trace,
	}
	s := seed / uint64(len(sizes))
	opt.Faults.Drift = s&1 == 0
	opt.Faults.WallJumps = s&2 == 0
	opt.Faults.Loss = []float64{0, 0.02, 0.2, 0.4}[s>>2&3]
	opt.Faults.Duplicate = []float64{0, 0.1}[s>>4&1]
	opt.Faults.MaxDelay = []time.Duration{time.Millisecond, 50 * time.Millisecond, 400 * time.Millisecond, 3 * time.Second}[s>>5&3]
	return opt
}

// misfortune does one random thing to one random host of the members.
func (c *Cluster) misfortune(members int, restarts bool) {
	i, j := c.rng.IntN(members), c.rng.IntN(members)
	if p := c.Primary(); p >= 0 && c.rng.IntN(2) == 0 {
		i = p // trouble prefers the primary
	}
	switch c.rng.IntN(13) {
	case 0, 1:
		if !restarts {
			return
		}
		c.Crash(i)
		c.At(c.now+time.Duration(c.rng.Int64N(int64(3*c.opt.Lease))), func() { c.Start(i) })
	case 2:
		c.Freeze(i, time.Duration(c.rng.Int64N(int64(4*c.opt.Lease))))
	case 3:
		c.Partition(i)
	case 4:
		c.Partition(i, j)
	case 5:
		c.Cut(i, j)
	case 6, 7:
		c.Heal()
	case 8:
		if c.opt.Faults.WallJumps {
			c.JumpWall(i)
		}
	case 9:
		c.SetHealth(i, c.rng.IntN(2) == 0)
	case 10:
		c.Resign(i, election.ReasonSwitchover)
	case 11:
		if !restarts {
			return
		}
		c.Stop(i)
		c.At(c.now+4*c.opt.Lease, func() { c.Start(i) })
	case 12:
		c.FailPart(i)
	}
}

// peace mends everything and checks LIVENESS: a primary within the bound, one only, and it stays.
func (c *Cluster) peace(members int) error {
	delayed := c.opt.Faults.MaxDelay
	c.opt.Faults.Loss, c.opt.Faults.Duplicate, c.opt.Faults.MaxDelay = 0, 0, time.Millisecond
	c.Heal()
	for i, h := range c.hosts[:members] {
		h.frozenUntil = 0
		c.SetHealth(i, true)
		if !h.leaving {
			c.Start(i)
		}
	}
	// What is still under way, or about to leave, first.
	settle := c.now + delayed + 8*c.opt.Lease
	if err := c.Run(settle); err != nil {
		return err
	}
	for i := range members {
		c.Start(i)
	}
	// Joining, one lease that may be held by a dead candidate, and a few round trips.
	bound := c.now + 3*c.opt.Lease
	for c.now < bound && c.Primary() < 0 {
		if err := c.Run(c.now + c.opt.Lease/20); err != nil {
			return err
		}
	}
	p := c.Primaries()
	if len(p) != 1 {
		return fmt.Errorf("LIVENESS: the primaries at %v, %v after peace, are %v", c.now, c.now-settle, p)
	}
	terms := len(c.Terms)
	if err := c.Run(c.now + 5*c.opt.Lease); err != nil {
		return err
	}
	if now := c.Primaries(); len(c.Terms) != terms || !slices.Equal(now, p) {
		return fmt.Errorf("NO PREEMPTION: host %v was displaced in peace, now %v", p, now)
	}
	for i := range members {
		if i != p[0] && c.Role(i) != election.Standby {
			return fmt.Errorf("LIVENESS: host %d is %q in peace, not standby", i, c.Role(i))
		}
	}
	return nil
}

package electiontest

import (
	"fmt"
	"time"

	"habot/app/election"
)

// Schedule runs one random schedule of faults from a seed: a cluster, a time of trouble, then peace.
// It returns the cluster and the first broken guarantee. The same seed is the same story.
func Schedule(seed uint64, trace func(string)) (*Cluster, error) {
	c := New(draw(seed, trace))
	restarts := c.rng.IntN(3) > 0 // without restarts ORDER must hold throughout
	for i := range c.hosts {
		c.At(time.Duration(c.rng.Int64N(int64(c.opt.Lease))), func() { c.Start(i) })
	}
	trouble := 30 * c.opt.Lease
	for at := 2 * c.opt.Lease; at < trouble; at += time.Duration(c.rng.Int64N(int64(2 * c.opt.Lease))) {
		c.At(at, func() { c.misfortune(restarts) })
	}
	if err := c.Run(trouble); err != nil {
		return c, err
	}
	if !restarts {
		if err := c.CheckOrder(); err != nil {
			return c, err
		}
	}
	return c, c.peace()
}

// draw draws a cluster from a seed.
func draw(seed uint64, trace func(string)) Options {
	sizes := []int{3, 3, 3, 5, 2, 4, 7, 1}
	opt := Options{
		Seed:     seed,
		Replicas: sizes[seed%uint64(len(sizes))],
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

// misfortune does one random thing to one random host.
func (c *Cluster) misfortune(restarts bool) {
	i := c.rng.IntN(len(c.hosts))
	j := c.rng.IntN(len(c.hosts))
	if p := c.Primary(); p >= 0 && c.rng.IntN(2) == 0 {
		i = p // trouble prefers the primary
	}
	switch c.rng.IntN(12) {
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
	}
}

// peace mends everything and checks LIVENESS: a primary within the bound, and that it stays.
func (c *Cluster) peace() error {
	delayed := c.opt.Faults.MaxDelay
	c.opt.Faults.Loss, c.opt.Faults.Duplicate, c.opt.Faults.MaxDelay = 0, 0, time.Millisecond
	c.Heal()
	for i, h := range c.hosts {
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
	for i := range c.hosts {
		c.Start(i)
	}
	// Joining, one lease that may be held by a dead candidate, and a few round trips.
	bound := c.now + 3*c.opt.Lease
	for c.now < bound && c.Primary() < 0 {
		if err := c.Run(c.now + c.opt.Lease/20); err != nil {
			return err
		}
	}
	p := c.Primary()
	if p < 0 {
		return fmt.Errorf("LIVENESS: no primary at %v, %v after peace", c.now, c.now-settle)
	}
	terms := len(c.Terms)
	if err := c.Run(c.now + 5*c.opt.Lease); err != nil {
		return err
	}
	if len(c.Terms) != terms || c.Primary() != p {
		return fmt.Errorf("NO PREEMPTION: host %d was displaced in peace, now %d", p, c.Primary())
	}
	for i := range c.hosts {
		if i != p && c.Role(i) != election.Standby {
			return fmt.Errorf("LIVENESS: host %d is %q in peace, not standby", i, c.Role(i))
		}
	}
	return nil
}

package node_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
)

// What messages cost of a processor at either end, about as BenchmarkExchange and BenchmarkHandshake of peer measure it.
const (
	costOfMessage   = 100 * time.Microsecond
	costOfHandshake = 700 * time.Microsecond
)

// busy is a machine with few processors that all replicas of a cluster share. A request that is given up costs as much as
// any other, and its connection: the next needs a handshake.
type busy struct {
	processors chan struct{}
	wires      sync.WaitGroup

	mu       sync.Mutex
	idle     map[string]int // connections, by their way
	requests map[string]int // by who made them
}

func newBusy(t *testing.T, processors int) *busy {
	b := &busy{processors: make(chan struct{}, processors), idle: map[string]int{}, requests: map[string]int{}}
	t.Cleanup(b.wires.Wait)
	return b
}

// work takes a processor for d, when one is free.
func (b *busy) work(d time.Duration) {
	b.processors <- struct{}{}
	time.Sleep(d)
	<-b.processors
}

// connect takes an idle connection, or makes one.
func (b *busy) connect(way string) {
	b.mu.Lock()
	found := b.idle[way] > 0
	if found {
		b.idle[way]--
	}
	b.mu.Unlock()
	if !found {
		b.work(costOfHandshake)
		b.work(costOfHandshake)
	}
}

func (b *busy) release(way string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.idle[way]++
}

// made returns how many requests each replica has made since it was called last.
func (b *busy) made() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	made := b.requests
	b.requests = map[string]int{}
	return made
}

// busyLink is a link between replicas that share a busy machine.
type busyLink struct {
	link
	b *busy
}

// over takes a request to another replica at its cost. What has left is handled there, whether the caller still waits or not.
func over[A any](ctx context.Context, l busyLink, addr string, ask func(context.Context) (A, error)) (A, error) {
	type result struct {
		answer A
		err    error
	}
	way := l.from + " to " + addr
	l.b.mu.Lock()
	l.b.requests[l.from]++
	l.b.mu.Unlock()
	answered := make(chan result, 1)
	l.b.wires.Go(func() {
		l.b.connect(way)
		l.b.work(costOfMessage)
		serving, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		a, err := ask(serving)
		l.b.work(costOfMessage)
		answered <- result{a, err}
	})
	select {
	case r := <-answered:
		l.b.release(way)
		return r.answer, r.err
	case <-ctx.Done():
		var none A
		return none, ctx.Err()
	}
}

func (l busyLink) Status(ctx context.Context, addr string) (election.Status, error) {
	return over(ctx, l, addr, func(ctx context.Context) (election.Status, error) { return l.link.Status(ctx, addr) })
}

func (l busyLink) Claim(ctx context.Context, addr string, req election.ClaimRequest) (election.ClaimAnswer, error) {
	return over(ctx, l, addr, func(ctx context.Context) (election.ClaimAnswer, error) { return l.link.Claim(ctx, addr, req) })
}

func (l busyLink) End(ctx context.Context, addr string, req election.EndRequest) error {
	_, err := over(ctx, l, addr, func(ctx context.Context) (struct{}, error) { return struct{}{}, l.link.End(ctx, addr, req) })
	return err
}

const manyLease = 550 * time.Millisecond

// many starts n replicas at once on two processors.
func many(t *testing.T, n int) (*cluster, *busy) {
	t.Helper()
	b := newBusy(t, 2)
	c := newCluster(t)
	for i := range n {
		name := fmt.Sprintf("r%02d", i+1)
		c.start(name, func(m *member) {
			m.cfg.Transport = busyLink{link{c, name}, b}
			m.cfg.Election.Replicas = n
			m.cfg.Election.Lease = manyLease
		})
	}
	return c, b
}

// allFollow waits until all others stand by a primary that knows it, and returns the primary.
func (c *cluster) allFollow() (primary *member) {
	c.t.Helper()
	c.await(10*time.Second, "all others to stand by a primary", func() bool {
		if primary = c.primary(); primary == nil {
			return false
		}
		v := primary.node.View()
		standing := 0
		for _, p := range v.Peers {
			if p.Reachable && p.Status.Role == election.Standby && p.Status.Primary == v.Self.Primary {
				standing++
			}
		}
		return standing == len(c.all())-1
	})
	return primary
}

// Replicas that start together on two processors have a primary soon, whatever their number; when it is gone another takes
// over as fast as of three; and at rest one of many is as busy as one of few.
func TestManyReplicasOnTwoProcessors(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 25, 50} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, b := many(t, n)
				t.Logf("a primary after %v", c.await(5*time.Second, "a primary", func() bool { return c.primary() != nil }))
				primary := c.allFollow()
				time.Sleep(2 * time.Second)
				b.made()
				const rest = 10
				time.Sleep(rest * time.Second)
				made := b.made()
				delete(made, primary.name())
				// Four questions a second, and one to itself: its own address is among those that it is given.
				if most := slices.Max(slices.Collect(maps.Values(made))); most > rest*5 {
					t.Errorf("a standby made %d requests in %d s", most, rest)
				}
				for range 3 {
					primary = c.allFollow()
					time.Sleep(manyLease)
					c.sever(primary, true)
					if _, took := c.successor(primary, 2*manyLease); took > manyLease*11/10 {
						t.Errorf("a successor after %v", took)
					}
					c.sever(primary, false)
				}
			})
		})
	}
}

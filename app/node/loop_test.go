package node_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
	"habot/app/node"
)

// calls are all calls that need the loop, by what they must return once it does not answer.
func calls(n *node.Node) map[string]func(ctx context.Context) error {
	claim := election.Claim{Timestamp: 1, Replica: "x"}
	from := election.Status{Protocol: election.Protocol, Replica: "x", Name: "x", Role: election.Candidate, Lease: lease}
	return map[string]func(ctx context.Context) error{
		"Status": func(ctx context.Context) error {
			_, err := n.Status(ctx)
			return err
		},
		"Claim": func(ctx context.Context) error {
			_, err := n.Claim(ctx, election.ClaimRequest{From: from, Claim: claim})
			return err
		},
		"End": func(ctx context.Context) error { return n.End(ctx, election.EndRequest{From: from, Claim: claim}) },
		"Leave": func(ctx context.Context) error {
			_, err := n.Leave(ctx, election.LeaveRequest{From: election.Status{Protocol: election.Protocol, Replica: "x", Lease: lease}})
			return err
		},
		"SwitchoverHere": func(ctx context.Context) error { return n.SwitchoverHere(ctx, "") },
		"Switchover":     func(ctx context.Context) error { return n.Switchover(ctx, "") },
	}
}

func TestCallsAfterTheEndReturnAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		p.leave(nil)
		<-p.exited
		from := time.Now()
		for range 300 { // more than the queue holds
			for name, call := range calls(p.node) {
				if err := call(t.Context()); !errors.Is(err, node.ErrBusy) {
					t.Fatalf("%s: %v, want ErrBusy", name, err)
				}
			}
			p.node.SetHealth(election.Health{})
		}
		if v := p.node.View(); v.Self.Name != "" && v.Self.Name != p.name() {
			t.Errorf("view %+v", v)
		}
		if took := time.Since(from); took != 0 {
			t.Errorf("it took %s", took)
		}
		_ = c
	})
}

func TestCallsToAStuckLoopEndWithTheirContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stuck := newStickable(t)
		c, p := three(t, stuck.option)
		c.brief, c.halting = true, true // it outlives its lease, and a process that halts does not matter here
		time.Sleep(3 * lease)
		before := p.node.View()
		stuck.who.Store(p)
		time.Sleep(settings.Heartbeat())
		var all sync.WaitGroup
		for range 100 { // more than the queue holds
			for name, call := range calls(p.node) {
				all.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), lease/10)
					defer cancel()
					if err := call(ctx); !errors.Is(err, node.ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("%s: %v", name, err)
					}
				})
			}
		}
		from := time.Now()
		all.Wait()
		if took := time.Since(from); took > lease/10 {
			t.Errorf("they took %s", took)
		}
		from = time.Now()
		if v := p.node.View(); v.Self.Replica != before.Self.Replica || len(v.History) != len(before.History) {
			t.Errorf("view %+v, want the last one known", v)
		}
		if took := time.Since(from); took != lease {
			t.Errorf("the view took %s", took)
		}
		for range 1000 {
			p.node.SetHealth(election.Health{OK: true})
		}
		stuck.free() // what was asked runs now, after the caller has gone
		c.await(2*lease, "the loop to answer again", func() bool { return p.node.View().Self.Role != election.Primary })
	})
}

func TestCallsRaceWithTheEndWithoutDeadlock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, p := three(t)
		time.Sleep(3 * lease)
		var all sync.WaitGroup
		for name, call := range calls(p.node) {
			if name == "Switchover" || name == "SwitchoverHere" {
				continue
			}
			for range 8 {
				all.Go(func() {
					for {
						err := call(context.Background()) // nothing but the node ends it
						if errors.Is(err, node.ErrBusy) {
							return
						}
						if err != nil {
							t.Errorf("%s: %v", name, err)
							return
						}
						p.node.SetHealth(election.Health{OK: true})
						_ = p.node.View()
						time.Sleep(hop / 10)
					}
				})
			}
		}
		p.leave(nil)
		<-p.exited
		all.Wait()
		if p.err != nil {
			t.Errorf("Run returned %v", p.err)
		}
	})
}

// chatty is a transport that reports health from inside the loop.
type chatty struct {
	node.Transport
	tell func()
}

func (c chatty) Addresses() []string {
	c.tell()
	return c.Transport.Addresses()
}

func TestSetHealthNeverBlocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const often = 1000 // more than the queue holds
		var c *cluster
		c = newCluster(t)
		for _, name := range []string{"a", "b", "c"} {
			c.start(name, func(m *member) {
				tell := func() {
					for i := range often {
						m.node.SetHealth(election.Health{Detail: fmt.Sprint(i)})
					}
					m.node.SetHealth(election.Health{OK: true})
				}
				m.cfg.Transport = chatty{m.cfg.Transport, tell}
				m.cfg.Work = func(ctx context.Context, term node.Term) error {
					tell()
					_ = m.node.View()
					if err := m.node.Switchover(ctx, "nobody"); !errors.Is(err, election.ErrNoSuccessor) {
						t.Errorf("a switchover asked by the work: %v", err)
					}
					return untilStopped(ctx, term)
				}
			})
		}
		c.await(2*lease, "a primary", func() bool { return c.primary() != nil })
		time.Sleep(5 * lease)
		for _, m := range c.all() {
			if v := m.node.View(); !v.Self.Health.OK {
				t.Errorf("%s: health %+v, want the last brought", m.name(), v.Self.Health)
			}
		}
		if len(c.terms()) != 1 {
			t.Errorf("%d terms", len(c.terms()))
		}
	})
}

func TestHealthBroughtBeforeTheStartCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		m := c.start("a", func(m *member) {
			m.cfg.Expect = func() func(time.Duration) {
				var once sync.Once
				return func(time.Duration) { once.Do(func() { m.node.SetHealth(election.Health{Detail: "down"}) }) }
			}()
		})
		synctest.Wait()
		if h := m.node.View().Self.Health; h.OK || h.Detail != "down" {
			t.Errorf("health %+v", h)
		}
	})
}

func TestLoopPromisesToComeRoundWithinTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		due := map[string]time.Time{}
		c, p := three(t, func(m *member) {
			m.cfg.Expect = func(d time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				if at, ok := due[m.name()]; ok && time.Now().After(at) {
					t.Errorf("%s is late by %s", m.name(), time.Since(at))
				}
				if d > 3*lease/4 {
					t.Errorf("a promise of %s", d)
				}
				due[m.name()] = time.Now().Add(d)
			}
		})
		time.Sleep(3 * lease)
		c.sever(p, true)
		c.successor(p, 2*lease)
	})
}

package node_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
	"habot/app/node"
)

var errBroken = errors.New("something broke")

// stubborn is work that ends with its process alone.
func stubborn(dead <-chan struct{}) option {
	return withWork(func(context.Context, node.Term) error {
		<-dead
		return nil
	})
}

func TestWorkThatIgnoresItsContextHaltsTheReplicaBeforeAnotherBegins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dead := make(chan struct{})
		c, p := three(t, stubborn(dead))
		c.halting = true // the guard may be there first: both act at the lease's end
		time.Sleep(3 * lease)
		synctest.Wait()
		c.sever(p, true)
		end := time.Now().Add(p.node.View().Self.Remaining)
		c.await(2*lease, "Run to return", func() bool { return closed(p.exited) })
		close(dead) // with its process; begin() sees whether that came in time
		if !errors.Is(p.err, node.ErrHalted) {
			t.Errorf("Run returned %v", p.err)
		}
		if late := time.Since(end); late > 0 {
			t.Errorf("Run returned %s after the end of the lease", late)
		}
		c.successor(p, lease)
	})
}

func TestGuardHaltsAProcessThatIsSlowToExit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dead := make(chan struct{})
		c, p := three(t, stubborn(dead))
		c.halting = true
		for _, m := range c.all() {
			c.sever(m, true)
		}
		c.await(2*lease, "Run to return", func() bool { return closed(p.exited) })
		c.await(2*settings.StopMargin(), "a call of Halt", func() bool { return len(p.halts) == 1 })
		close(dead)
	})
}

// stickable makes one replica's loop stand still on demand.
type stickable struct {
	who   atomic.Pointer[member]
	until chan struct{}
}

func newStickable(t *testing.T) *stickable {
	t.Helper()
	return &stickable{until: make(chan struct{})}
}

func (s *stickable) option(m *member) {
	m.cfg.Expect = func(time.Duration) {
		if s.who.Load() == m {
			<-s.until
		}
	}
}

func (s *stickable) free() {
	s.who.Store(nil)
	close(s.until)
}

func TestGuardHaltsWhenTheLoopIsStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dead := make(chan struct{})
		stuck := newStickable(t)
		c, p := three(t, stubborn(dead), stuck.option)
		c.halting, c.brief = true, true
		time.Sleep(3 * lease)
		synctest.Wait()
		end := time.Now().Add(p.node.View().Self.Remaining)
		stuck.who.Store(p)
		c.await(2*lease, "Halt", func() bool { return len(p.halts) == 1 })
		// It may renew once more before it stands still.
		latest := end.Add(settings.Heartbeat())
		if now := time.Now(); now.Before(end) || now.After(latest) {
			t.Errorf("halted %s after the end of the lease", now.Sub(end))
		}
		if c.terms()[0].term.Held() {
			t.Error("a lease that ran out is held: it must not need the loop")
		}
		close(dead)
		stuck.free()
	})
}

// A poll that is under way beside a successor's is cut off by Telegram, or cuts that off.
func TestWorkIsCutOffAtItsDeadlineThoughTheLoopIsStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stuck := newStickable(t)
		cut := make(chan time.Time, 10)
		c, p := three(t, stuck.option, withWork(func(ctx context.Context, _ node.Term) error {
			<-ctx.Done()
			cut <- time.Now()
			return nil
		}))
		time.Sleep(3 * lease)
		synctest.Wait()
		end := time.Now().Add(p.node.View().Self.Remaining)
		stuck.who.Store(p)
		c.successor(p, 2*lease)
		if late := (<-cut).Sub(end.Add(settings.Heartbeat())); late > -settings.StopMargin()/2 {
			t.Errorf("cut off %v after its lease could have ended", late)
		}
		stuck.free()
	})
}

func TestGuardLetsWorkBeThatEndedBehindAStuckLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stuck := newStickable(t)
		c, p := three(t, stuck.option, withWork(func(ctx context.Context, term node.Term) error {
			for term.Held() && ctx.Err() == nil {
				time.Sleep(hop)
			}
			return nil
		}))
		time.Sleep(3 * lease)
		stuck.who.Store(p)
		c.successor(p, 2*lease)
		time.Sleep(3 * lease)
		if len(p.halts) != 0 {
			t.Errorf("halted: %s", <-p.halts)
		}
		stuck.free()
	})
}

func TestWorkThatEndsByItselfReleasesTheLease(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end  func() error
		want error
	}{
		"an error": {func() error { return errBroken }, errBroken},
		"nil":      {func() error { return nil }, node.ErrWorkFailed},
		"a panic":  {func() error { panic("index out of range") }, node.ErrWorkFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				broken := make(chan struct{})
				c, p := three(t, withWork(func(_ context.Context, term node.Term) error {
					select {
					case <-broken:
						return test.end()
					case <-term.Drain:
						return nil
					}
				}))
				time.Sleep(3 * lease)
				broken <- struct{}{}
				next, took := c.successor(p, 2*lease)
				if took > fewTrips {
					t.Errorf("a successor after %s", took)
				}
				if next.term.Change.Reason != election.ReasonPartFailed {
					t.Errorf("took over because of %s", next.term.Change.Reason)
				}
				c.await(lease, "Run to return", func() bool { return closed(p.exited) })
				if !errors.Is(p.err, node.ErrWorkFailed) || !errors.Is(p.err, test.want) {
					t.Errorf("Run returned %v", p.err)
				}
				time.Sleep(3 * lease)
				if len(c.terms()) != 2 {
					t.Errorf("%d terms", len(c.terms()))
				}
			})
		})
	}
}

// An error while stepping down is no failure of the replica: it goes on as a standby.
func TestWorkThatEndsBadlyWhenToldToIsNoFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t, withWork(func(ctx context.Context, term node.Term) error {
			_ = untilStopped(ctx, term)
			return errBroken
		}))
		time.Sleep(3 * lease)
		if err := p.node.Switchover(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		c.successor(p, fewTrips)
		time.Sleep(2 * lease)
		if closed(p.exited) {
			t.Fatalf("Run returned %v", p.err)
		}
		if r := p.node.View().Self.Role; r != election.Standby {
			t.Errorf("it is %s", r)
		}
	})
}

// unheard is a transport whose claims get no answers.
type unheard struct{ node.Transport }

func (unheard) Claim(ctx context.Context, _ string, _ election.ClaimRequest) (election.ClaimAnswer, error) {
	<-ctx.Done()
	return election.ClaimAnswer{}, ctx.Err()
}

// unanswered is a transport whose questions get no answers: it finds a primary only by its claims.
type unanswered struct{ node.Transport }

func (unanswered) Status(ctx context.Context, _ string) (election.Status, error) {
	<-ctx.Done()
	return election.Status{}, ctx.Err()
}

// A replica more than REPLICAS says makes a majority larger, and can end a lease from one moment to the next.
func TestALeaseThatALargerQuorumEndsLeavesTheWorkItsMargin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		stopping := func(ctx context.Context, _ node.Term) error {
			<-ctx.Done()
			time.Sleep(settings.StopMargin() / 2)
			return nil
		}
		alone := c.start("a", withWork(stopping), func(m *member) {
			m.cfg.Election.Replicas, m.cfg.Transport = 1, unheard{m.cfg.Transport}
		})
		c.await(2*lease, "a primary", func() bool { return c.primary() == alone })
		c.start("b", func(m *member) { m.cfg.Transport = unanswered{m.cfg.Transport} })
		c.await(8*lease, "the lease to end", func() bool { return c.primary() == nil })
		time.Sleep(lease)
		if closed(alone.exited) {
			t.Errorf("it ended with %v", alone.err)
		}
	})
}

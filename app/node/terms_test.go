package node_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
	"habot/app/node"
)

func TestOnePrimaryAmongThree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		time.Sleep(20 * lease)
		if n := len(c.terms()); n != 1 {
			t.Fatalf("%d terms in 20 quiet leases, want 1", n)
		}
		for _, m := range c.all() {
			v := m.node.View()
			want := election.Standby
			if m == p {
				want = election.Primary
			}
			if v.Self.Role != want || v.Self.PrimaryName != p.name() || v.Mode != "primary-backup" || v.Reachable != 3 || v.Quorum != 2 {
				t.Errorf("%s sees %+v", m.name(), v)
			}
		}
		if !c.last().term.Held() {
			t.Error("the primary does not hold its lease")
		}
	})
}

func TestSuccessorBeginsAfterTheWorkOfACutPrimaryEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		time.Sleep(5 * lease)
		c.sever(p, true)
		next, took := c.successor(p, 2*lease) // begin() sees that nothing overlaps
		if took > lease+lease/4 {
			t.Errorf("a successor after %s", took)
		}
		if r := next.term.Change.Reason; r != election.ReasonCrash || next.term.Change.Previous != p.name() {
			t.Errorf("took over from %s because of %s", next.term.Change.Previous, r)
		}
		c.sever(p, false)
		c.await(2*lease, "the old primary to follow", func() bool {
			return p.node.View().Self.PrimaryName == next.who.name()
		})
		time.Sleep(5 * lease)
		if n := len(c.terms()); n != 2 {
			t.Errorf("%d terms, want 2: a replica that comes back displaces none", n)
		}
	})
}

func TestRoleSurvivesTheLossOfOneStandby(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		c.sever(c.others(p)[0], true)
		time.Sleep(10 * lease)
		if n := len(c.terms()); n != 1 || c.primary() != p {
			t.Errorf("%d terms, primary %v", n, c.primary())
		}
	})
}

// Only the node knows the deadline of the work: it follows from what is left of the lease.
func TestWorkIsCancelledAStopMarginBeforeItsLeaseEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cancelled := make(chan time.Time, 1)
		c, p := three(t, withWork(func(ctx context.Context, term node.Term) error {
			select {
			case <-ctx.Done():
				if term.Held() {
					t.Error("still held when cancelled")
				}
				cancelled <- time.Now()
			case <-term.Drain:
			}
			return nil
		}))
		time.Sleep(5 * lease)
		synctest.Wait()
		c.sever(p, true)
		v := p.node.View()
		end := time.Now().Add(v.Self.Remaining)
		deadline := end.Add(-settings.StopMargin())
		held := c.last().term.Held

		time.Sleep(time.Until(deadline) - time.Nanosecond)
		if !held() {
			t.Error("the lease is not held just before the deadline")
		}
		if len(cancelled) != 0 {
			t.Error("cancelled before the deadline")
		}
		time.Sleep(time.Nanosecond)
		if held() {
			t.Error("the lease is held at the deadline")
		}
		synctest.Wait()
		if len(cancelled) != 1 {
			t.Fatal("not cancelled at the deadline")
		}
		if at := <-cancelled; !at.Equal(deadline) {
			t.Errorf("cancelled %s before the end of the lease, want %s", end.Sub(at), settings.StopMargin())
		}
		next, _ := c.successor(p, 2*lease)
		if next.at.Before(end) {
			t.Errorf("the successor began %s before the lease ended", end.Sub(next.at))
		}
		if held() {
			t.Error("held again after it was lost")
		}
	})
}

func TestHeldIsTrueOnlyForTheTermThatRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		time.Sleep(3 * lease)
		first := c.last().term
		if err := p.node.Switchover(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		second, _ := c.successor(p, fewTrips)
		if first.Held() || !second.term.Held() {
			t.Error("after the switchover it is not the second term that is held")
		}
		c.await(lease, "a standby to be known", func() bool {
			return second.who.node.Switchover(t.Context(), p.name()) == nil
		})
		third, _ := c.successor(second.who, fewTrips)
		if third.who != p || first.Held() || !third.term.Held() {
			t.Error("a term that ended is held again because its replica is primary again")
		}
	})
}

func TestSwitchoverMovesTheRoleWithinAFewRoundTrips(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		named       bool // a standby is named
		fromStandby bool // asked at another standby
	}{
		{"to any", false, false},
		{"to a named one", true, false},
		{"to any, asked at a standby", false, true},
		{"to a named one, asked at a standby", true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				drained := false
				c, p := three(t, withWork(func(ctx context.Context, term node.Term) error {
					<-term.Drain
					drained = true
					if ctx.Err() != nil || !term.Held() {
						t.Error("the lease was not left to what is in hand")
					}
					return nil
				}))
				time.Sleep(3 * lease)
				at, to := p, ""
				want := c.others(p)
				if test.fromStandby {
					at = c.others(p)[0]
				}
				if test.named {
					want = want[1:]
					to = want[0].name()
				}
				if err := at.node.Switchover(t.Context(), to); err != nil {
					t.Fatal(err)
				}
				next, took := c.successor(p, lease)
				if took > fewTrips {
					t.Errorf("took %s", took)
				}
				if !slices.Contains(want, next.who) {
					t.Errorf("%s took over", next.who.name())
				}
				if ch := next.term.Change; ch.Reason != election.ReasonSwitchover || ch.Previous != p.name() || ch.Gap > fewTrips {
					t.Errorf("change %+v", ch)
				}
				if !drained {
					t.Error("the work was not drained")
				}
			})
		})
	}
}

func TestSwitchoverThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		time.Sleep(3 * lease)
		standby := c.others(p)[0]
		for name, test := range map[string]struct {
			at   *member
			to   string
			want error
		}{
			"unknown name":                     {p, "nobody", election.ErrNoSuccessor},
			"unknown name, asked at a standby": {standby, "nobody", election.ErrNoSuccessor},
			"to the primary itself":            {p, p.name(), election.ErrNoSuccessor},
		} {
			if err := test.at.node.Switchover(t.Context(), test.to); !errors.Is(err, test.want) {
				t.Errorf("%s: %v, want %v", name, err, test.want)
			}
		}
		if err := standby.node.SwitchoverHere(t.Context(), ""); !errors.Is(err, election.ErrNotPrimary) {
			t.Errorf("at a standby: %v", err)
		}
		if n := len(c.terms()); n != 1 {
			t.Errorf("%d terms after refusals", n)
		}
	})
}

func TestSwitchoverWithoutAPrimaryIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		m := c.start("a")
		time.Sleep(3 * lease)
		if err := m.node.Switchover(t.Context(), ""); !errors.Is(err, election.ErrNotPrimary) {
			t.Errorf("got %v", err)
		}
		if c.primary() != nil {
			t.Error("one of three is primary")
		}
	})
}

func TestShutdownDrainsReleasesAndLeaves(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cause error
		want  election.Reason
	}{
		"asked to stop": {nil, election.ReasonShutdown},
		"a part failed": {node.ErrPartFailed, election.ReasonPartFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const draining = 3 * lease
				c, p := three(t, withWork(func(ctx context.Context, term node.Term) error {
					<-term.Drain
					select {
					case <-time.After(draining): // longer than a lease: it is renewed meanwhile
					case <-ctx.Done():
					}
					if term.Change.Reason == election.ReasonStart && (ctx.Err() != nil || !term.Held()) {
						t.Error("the lease was not held until what was in hand was finished")
					}
					return nil
				}))
				time.Sleep(3 * lease)
				p.leave(test.cause)
				next, took := c.successor(p, draining+lease)
				if took < draining || took > draining+fewTrips {
					t.Errorf("a successor after %s, want %s and a few round trips", took, draining)
				}
				if ch := next.term.Change; ch.Reason != test.want || ch.Gap > fewTrips {
					t.Errorf("change %+v", ch)
				}
				left := c.await(lease, "Run to return", func() bool { return closed(p.exited) })
				if p.err != nil || left > fewTrips {
					t.Errorf("Run returned %v after %s", p.err, left)
				}
				time.Sleep(5 * lease)
				if n := len(c.terms()); n != 2 {
					t.Errorf("%d terms, want 2", n)
				}
			})
		})
	}
}

func TestStandbyLeavesAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		s := c.others(p)[0]
		s.leave(nil)
		c.await(fewTrips, "Run to return", func() bool { return closed(s.exited) })
		if s.err != nil {
			t.Errorf("Run returned %v", s.err)
		}
		time.Sleep(5 * lease)
		if len(c.terms()) != 1 {
			t.Error("the primary changed")
		}
	})
}

// With a third replica gone, the successor needs the grant of the one that leaves.
func TestLeavingReplicaGrantsItsSuccessor(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]bool{"shutdown": false, "failed work": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				broken := make(chan struct{})
				c, p := three(t, withWork(func(_ context.Context, term node.Term) error {
					select {
					case <-term.Drain:
						return nil
					case <-broken:
						return errBroken
					}
				}))
				time.Sleep(3 * lease)
				c.others(p)[0].leave(nil)
				time.Sleep(3 * lease)
				if fail {
					broken <- struct{}{}
				} else {
					p.leave(nil)
				}
				next, took := c.successor(p, 3*lease)
				if took > fewTrips {
					t.Errorf("%s took over after %s", next.who.name(), took)
				}
				within := lease
				if !fail { // as long as it may, since the successor has no quorum without it
					time.Sleep(p.cfg.Election.LeaveWithin - lease)
					if closed(p.exited) || c.primary() != next.who {
						t.Errorf("it has left: %v; %v is primary", closed(p.exited), c.primary())
					}
					within += lease
				}
				c.await(within, "Run to return", func() bool { return closed(p.exited) })
			})
		})
	}
}

func TestUnhealthyPrimaryHandsOverToAHealthyStandby(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		time.Sleep(3 * lease)
		for _, m := range append(c.others(p), p) {
			m.node.SetHealth(election.Health{Detail: "Telegram is down"})
			time.Sleep(lease) // the primary is to know
		}
		time.Sleep(5 * lease)
		if len(c.terms()) != 1 {
			t.Fatal("the role moved though no replica is healthy")
		}
		well := c.others(p)[1]
		well.node.SetHealth(election.Health{OK: true})
		next, _ := c.successor(p, 2*lease)
		if next.who != well || next.term.Change.Reason != election.ReasonUnhealthy {
			t.Errorf("%s took over, %s", next.who.name(), next.term.Change.Reason)
		}
	})
}

func TestRestartedReplicaJoinsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		time.Sleep(3 * lease)
		p.leave(nil)
		<-p.exited
		again := c.start(p.name(), func(m *member) { m.cfg.Election.Self += "-2" })
		c.await(3*lease, "it to follow", func() bool { return again.node.View().Self.Role == election.Standby })
		time.Sleep(2 * lease)
		if v := again.node.View(); v.Reachable != 3 || v.Expected != 3 {
			t.Errorf("it sees %d of %d replicas", v.Reachable, v.Expected)
		}
	})
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// Load balancers, and checks that there is one primary, must not get what was true before.
func TestAReplicaThatHasLeftIsNotCalledPrimary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, p := three(t)
		if v := p.node.View(); !v.IsPrimary() {
			t.Fatalf("it is %s", v.Self.Role)
		}
		p.leave(nil)
		<-p.exited
		if v := p.node.View(); v.IsPrimary() || v.Mode != "primary-backup" || v.Expected != 3 {
			t.Errorf("having left it says %+v", v)
		}
	})
}

// The way there and back is no part of what is promised.
func TestAcknowledgementCountsFromWhenItsRequestLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, p := three(t)
		time.Sleep(3 * lease)
		var longest time.Duration
		for range 8 * int(settings.Heartbeat()/hop) {
			time.Sleep(hop / 4)
			longest = max(longest, p.node.View().Self.Remaining)
		}
		if most := settings.GrantedFor() - 2*hop; longest > most {
			t.Errorf("%v of the lease remained when an answer came, want %v at most", longest, most)
		}
	})
}

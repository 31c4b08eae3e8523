package node_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
)

// slowLink is a way to others of which claims come back late, or not at all from some.
type slowLink struct {
	link
	takes time.Duration
	hangs string // the address that never answers
}

func (l slowLink) Addresses() []string {
	if l.hangs == "" {
		return l.link.Addresses()
	}
	return append(l.link.Addresses(), l.hangs)
}

func (l slowLink) Claim(ctx context.Context, addr string, req election.ClaimRequest) (election.ClaimAnswer, error) {
	if addr == l.hangs {
		<-ctx.Done()
		return election.ClaimAnswer{}, ctx.Err()
	}
	select {
	case <-time.After(l.takes):
	case <-ctx.Done():
		return election.ClaimAnswer{}, ctx.Err()
	}
	return l.link.Claim(ctx, addr, req)
}

// Answers count when they come, be they later than half a lease.
func TestAnswersOfSlowReplicasCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for _, name := range []string{"a", "b", "c"} {
			c.start(name, func(m *member) { m.cfg.Transport = slowLink{link: link{c, name}, takes: 11 * lease / 20} })
		}
		c.await(4*lease, "a primary", func() bool { return c.primary() != nil })
		first := c.primary()
		time.Sleep(20 * lease)
		if c.primary() != first || len(c.terms()) != 1 {
			t.Errorf("the role was lost: %d terms", len(c.terms()))
		}
	})
}

// Below a majority a candidate waits for every replica, but not for one that hangs.
func TestBelowAMajorityAReplicaThatHangsIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.start("a", func(m *member) {
			m.cfg.Election.Replicas, m.cfg.Election.Quorum = 2, 1
			m.cfg.Transport = slowLink{link: link{c, "a"}, hangs: "b"}
		})
		took := c.await(3*lease, "a primary", func() bool { return c.primary() != nil })
		if most := settings.JoinSilence() + settings.QueryTimeout() + fewTrips; took > most {
			t.Errorf("it took %v, want %v at most", took, most)
		}
	})
}

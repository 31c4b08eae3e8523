package node_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
)

// unhistoric is a way to the others on which the first few questions for a history get no answer.
type unhistoric struct {
	link
	mu    sync.Mutex
	fails int            // how many to each address
	asked map[string]int // by address
	last  time.Time      // when any was asked
}

func (u *unhistoric) History(ctx context.Context, addr string) (election.History, error) {
	u.mu.Lock()
	u.asked[addr]++
	u.last = time.Now()
	fails := u.asked[addr] <= u.fails
	u.mu.Unlock()
	if fails {
		return election.History{}, errCut
	}
	return u.link.History(ctx, addr)
}

// A process that starts learns what was before its time, also if the first answers get lost. It asks while it is new, 10 s, and
// no replica that has answered.
func TestANewProcessAsksForTheHistoryUntilItHasIt(t *testing.T) {
	for name, tc := range map[string]struct {
		fails int
		knows bool
	}{"answered": {0, true}, "lost twice": {2, true}, "never answered": {1 << 30, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, first := three(t)
				first.leave(nil)
				c.successor(first, 3*lease)
				<-first.exited
				u := &unhistoric{link: link{c, first.name()}, fails: tc.fails, asked: map[string]int{}}
				start := time.Now()
				again := c.start(first.name(), func(m *member) { m.cfg.Transport = u })
				time.Sleep(time.Minute)
				synctest.Wait()
				if n := len(again.node.View().History); (n == len(c.terms())) != tc.knows {
					t.Errorf("it knows %d changes of %d", n, len(c.terms()))
				}
				u.mu.Lock()
				defer u.mu.Unlock()
				if asked := u.last.Sub(start); asked == 0 || asked > 10*time.Second+lease {
					t.Errorf("it asked until %v after its start", asked)
				}
				for addr, n := range u.asked {
					if addr != first.name() && tc.knows && n != tc.fails+1 {
						t.Errorf("%s was asked %d times", addr, n)
					}
				}
			})
		})
	}
}

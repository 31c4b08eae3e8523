package node_test

import (
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
)

// The gateway passes requests on to the primary, and waits for a change.
func TestEachReplicaKnowsWhomItFollowsAndWhenThatChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		follow := func(primary *member) {
			t.Helper()
			for _, m := range c.all() {
				want := ""
				if m != primary {
					want = primary.name()
				}
				c.await(2*lease, m.name()+" follows "+primary.name(), func() bool {
					id, addr, _ := m.node.Followed()
					return id == election.ReplicaID("id-"+primary.name()) && addr == want
				})
			}
		}
		follow(p)
		changes := map[*member]<-chan struct{}{}
		for _, m := range c.all() {
			_, _, changes[m] = m.node.Followed()
			select {
			case <-changes[m]:
				t.Errorf("%s has a change already", m.name())
			default:
			}
		}
		c.await(2*lease, "a switchover", func() bool { return p.node.SwitchoverHere(t.Context(), "") == nil })
		for _, m := range c.all() {
			<-changes[m]
		}
		c.await(2*lease, "another primary", func() bool { q := c.primary(); return q != nil && q != p })
		follow(c.primary())
	})
}

// The gateway treats connections that a replica took along with it differently from those that a copy ended.
func TestItIsReportedOnceWhenAReplicaHasLeftOrItsProcessHasEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		gone := map[election.ReplicaID]int{}
		c, p := three(t, func(m *member) {
			m.cfg.Gone = func(id election.ReplicaID) {
				mu.Lock()
				defer mu.Unlock()
				gone[id]++
			}
		})
		time.Sleep(3 * lease)
		left, dead := c.others(p)[0], c.others(p)[1]
		left.leave(nil)
		<-left.exited
		c.sever(dead, true)
		p.node.ProcessDied(dead.cfg.Election.Self, nil)
		time.Sleep(lease)
		mu.Lock()
		defer mu.Unlock()
		// Of the one that left the two others learn, of the death the primary alone.
		if want := map[election.ReplicaID]int{left.cfg.Election.Self: 2, dead.cfg.Election.Self: 1}; !maps.Equal(gone, want) {
			t.Errorf("gone are %v, want %v", gone, want)
		}
	})
}

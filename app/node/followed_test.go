package node_test

import (
	"testing"
	"testing/synctest"

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

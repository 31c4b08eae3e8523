package node

import "habot/app/election"

// followed is the primary that a replica follows. changed is closed when it follows another one, or none.
type followed struct {
	id      election.ReplicaID
	changed chan struct{}
}

// Followed is the process of the primary that this replica follows, itself if it is primary, and where that is reached; both
// are empty if there is none, and the address alone while it is not known. changed is closed when it follows another one, or
// none. It does not ask the loop.
func (n *Node) Followed() (id election.ReplicaID, addr string, changed <-chan struct{}) {
	f := n.followed.Load()
	if f.id != "" && f.id != n.cfg.Election.Self {
		addr = n.sender.addressOf(f.id)
	}
	return f.id, addr, f.changed
}

// follow takes note of the primary that this replica follows. It MUST be called in the loop.
func (n *Node) follow(st election.Status) {
	id := st.Primary.Replica
	if st.Role == election.Primary {
		id = st.Replica
	}
	if before := n.followed.Load(); before.id != id {
		n.followed.Store(&followed{id: id, changed: make(chan struct{})})
		close(before.changed)
	}
}

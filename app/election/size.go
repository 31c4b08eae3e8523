package election

import (
	"maps"
)

// safe reports whether the quorum is at least a majority: then any two quorums share a replica. A
// cluster of one asks every address all the same, in case it is not alone.
func (m *Machine) safe() bool {
	n := m.expected()
	return n > 1 && m.quorum() > n/2
}

// expected is the number of replicas in force. A candidate counts at once all that are there.
func (m *Machine) expected() int {
	n := max(m.cfg.Replicas, m.size)
	if m.role == Candidate {
		n = max(n, m.present())
	}
	return n
}

// present counts the replicas in contact so lately that they can hardly have gone, those that join included: all that
// start together do. One that has started again within that time has its name twice, and counts once.
func (m *Machine) present() int {
	names := map[string]bool{m.cfg.Name: true}
	for _, p := range m.peers {
		if m.now.Sub(p.heard) <= m.cfg.Lease/2 && p.status.Role != Leaving {
			names[p.status.Name] = true
		}
	}
	return len(names)
}

func (m *Machine) quorum() int {
	if m.cfg.Quorum != 0 {
		return m.cfg.Quorum
	}
	return m.expected()/2 + 1
}

// reachable reports whether a replica is in contact, and not as the primary that another has followed since: an
// observer is not to see two after a crash.
func (m *Machine) reachable(p *peer) bool {
	followed := p.status.Role == Primary && p.status.Primary.Compare(m.last.claim) < 0 && m.safe()
	return m.now.Sub(p.heard) <= p.within && !followed && !m.hasDied(p.status.Replica)
}

// measure keeps the number of replicas in force: the configured one, or a larger one that has been
// in contact together for a while. Replicas that join do not count yet, so that one that restarts under
// another name is not counted twice. One that has left in order counts no more (countOut).
func (m *Machine) measure() {
	keep := m.retention()
	maps.DeleteFunc(m.incompatible, func(_ string, x incompatiblePeer) bool { return m.now.Sub(x.heard) > keep })
	n := 1
	for id, p := range m.peers {
		switch {
		case m.now.Sub(p.heard) > keep:
			delete(m.peers, id)
		case m.reachable(p) && p.joined:
			n++
		}
	}
	maps.DeleteFunc(m.departed, func(_ ReplicaID, at Instant) bool { return m.now.Sub(at) > keep })
	if n <= m.cfg.Replicas {
		m.growing = false
		if m.size != 0 && m.now.Sub(m.sizeSeen) > keep {
			m.resize(0)
		}
		return
	}
	m.sizeSeen = m.now
	if !m.growing {
		m.growing, m.since = true, m.now
	}
	if n > m.size && m.now.Sub(m.since) >= m.growthDelay() {
		m.resize(n)
	}
}

func (m *Machine) resize(n int) {
	if n <= m.cfg.Replicas {
		n = 0
	}
	m.size = n
	m.emit(SizeChanged{Expected: m.expected(), Configured: m.cfg.Replicas})
	m.count()
}

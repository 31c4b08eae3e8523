package election

import (
	"maps"
	"slices"
	"time"
)

// Status is what this replica says of itself at a reading of its clock.
func (m *Machine) Status(now Instant) Status {
	m.now = max(m.now, now)
	return m.status()
}

func (m *Machine) status() Status {
	s := Status{
		Protocol: Protocol,
		Replica:  m.cfg.Self,
		Name:     m.cfg.Name,
		Version:  m.cfg.Version,
		Role:     m.role,
		Floor:    m.promise.floor(),
		Health:   m.health,
		Lease:    m.cfg.Lease,
		Replicas: m.expected(),
		Quorum:   m.quorum(),
	}
	if m.last.claim.Replica == m.cfg.Self && m.role != Primary {
		// No replica is to follow a role that has ended.
		s.Primary = Claim{}
	} else if m.following() {
		s.Primary = m.last.claim
		s.PrimaryName = m.last.name
		s.Remaining = m.last.until.Sub(m.now)
	}
	if n := len(m.history); n > 0 {
		s.Change = m.history[n-1]
		s.Change.Witnessed = false
	}
	return s
}

// following reports whether a primary is known now.
func (m *Machine) following() bool {
	return !m.last.claim.IsZero() && !m.last.over && m.now < m.last.until
}

// View is what this replica knows, at a reading of its clock. Mode is left to the caller.
func (m *Machine) View(now Instant) View {
	self := m.Status(now)
	v := View{
		Self:      self,
		Expected:  m.expected(),
		Quorum:    m.quorum(),
		Reachable: 1,
		History:   slices.Clone(m.history),
	}
	for i, c := range v.History {
		v.History[i].WonAt = time.Unix(0, m.wonAt[c.Claim])
	}
	if n := len(v.History); n > 0 {
		v.Self.Change = v.History[n-1]
	}
	for _, p := range m.peers {
		r := m.reachable(p)
		if r {
			v.Reachable++
		}
		v.Peers = append(v.Peers, Peer{Status: p.status, Age: m.now.Sub(p.heard), Reachable: r})
	}
	slices.SortFunc(v.Peers, func(a, b Peer) int { return byName(a.Status, b.Status) })
	for _, name := range slices.Sorted(maps.Keys(m.incompatible)) {
		if x := m.incompatible[name]; m.now.Sub(x.heard) <= m.livenessWindow() {
			v.Mismatched = append(v.Mismatched, Mismatched{Name: name, Reason: x.why, Theirs: x.theirs})
		}
	}
	return v
}

// LeaseRemaining is what is left of this replica's own lease; 0 unless it is primary.
func (m *Machine) LeaseRemaining(now Instant) time.Duration {
	if m.role != Primary {
		return 0
	}
	return max(0, m.leaseEnd.Sub(now))
}

// Successor finds the standby that an operator names, by name or id; any if name is empty. It
// returns ErrNotPrimary unless this replica is primary, and ErrNoSuccessor if no such standby can
// take over now; a witness never can.
func (m *Machine) Successor(now Instant, name string) (ReplicaID, error) {
	m.now = max(m.now, now)
	if m.role != Primary {
		return "", ErrNotPrimary
	}
	if name == "" {
		if id := m.chooseSuccessor(false); id != "" {
			return id, nil
		}
		return "", ErrNoSuccessor
	}
	for id, p := range m.peers {
		if (p.status.Name == name || string(id) == name) && p.status.Role == Standby && !p.leaves && !p.status.IsWitness() && m.acks[id] > m.now && !m.hasDied(id) {
			return id, nil
		}
	}
	return "", ErrNoSuccessor
}

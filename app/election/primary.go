package election

import (
	"strings"
)

func (m *Machine) workUntil() Instant { return m.leaseEnd.Add(-m.cfg.StopMargin()) }

// haltAt is when a bot that was ordered to fall silent must have done so: at the end of the lease, or a
// stop margin after the order if the process was frozen beyond the lease and could not give the order in
// time (every request checks the lease itself).
func (m *Machine) haltAt() Instant { return max(m.leaseEnd, m.silentBy) }

func (m *Machine) advancePrimary() {
	switch {
	case m.hard:
		if m.now >= m.haltAt() && !m.halted {
			m.halted = true
			m.emit(Halt{m.reason})
		}
		return
	case m.now >= m.workUntil():
		m.resign(ReasonLeaseLost, "", false)
		return
	}
	if m.now >= m.sendAt {
		m.sendClaim(m.cfg.Resend())
	}
	if !m.health.OK && !m.stopping {
		if id := m.chooseSuccessor(true); id != "" {
			m.resign(ReasonUnhealthy, id, true)
		}
	}
	if m.passesOn() {
		m.passOn()
	}
}

// extend moves the lease's end to what the grants support; a failed renewal never moves it. When the
// quorum has grown the end may come nearer.
func (m *Machine) extend() {
	end, ok := m.supportedUntil()
	if !ok {
		end = m.now
	}
	if end >= m.roundAt.Add(m.cfg.GrantedFor()) {
		m.sendAt = m.roundAt.Add(m.cfg.Heartbeat()) // a quorum has granted this renewal
	}
	if end == m.leaseEnd || m.hard {
		return
	}
	m.leaseEnd = end
	m.last.sign, m.last.until = m.now, end
	m.emit(ExtendLease{WorkUntil: m.workUntil(), LeaseEnd: m.leaseEnd})
}

// resign starts the way out of the role: first the work stops. While it drains the lease is renewed.
func (m *Machine) resign(why Reason, to ReplicaID, drain bool) {
	if m.role != Primary || m.hard || (m.stopping && drain) {
		return
	}
	if !m.stopping {
		m.reason, m.successor = why, to
	}
	m.stopping = true
	if !drain {
		m.hard = true
		m.silentBy = m.now.Add(m.cfg.StopMargin())
	}
	m.emit(StopWork{Drain: drain, Reason: why})
}

// onWorkStopped releases the lease, now that the work is silent.
func (m *Machine) onWorkStopped() {
	if m.role != Primary {
		return
	}
	if !m.stopping {
		m.stopping, m.reason = true, ReasonPartFailed
	}
	c := m.own
	if !m.stays(m.successor) {
		m.successor = "" // it leaves itself, since it was chosen
	}
	if m.successor == "" && m.reason != ReasonLowerPrimary && m.rival.IsZero() {
		m.successor = m.chooseSuccessor(false)
	}
	m.promise.end(c, true)
	m.last = followed{claim: c, name: m.cfg.Name, sign: m.now, until: m.now, over: true, reason: m.reason}
	m.own, m.acks, m.dismissed, m.refused, m.reached = Claim{}, nil, nil, nil, nil
	m.claimAt = m.now.Add(m.cfg.HoldBack())
	m.emit(SteppedDown{Claim: c, Reason: m.reason})
	m.look()
	m.hearSeldom()
	m.emit(SendEnd{EndRequest{From: m.status(), Claim: c, Released: true, Reason: m.reason, Successor: m.successor}})
}

// chooseSuccessor is the standby to hand over to: one that has granted and is in contact, a healthy one if there
// is one; only one that is surely healthy if it must be. Of several the first by name.
func (m *Machine) chooseSuccessor(healthy bool) ReplicaID {
	var best *peer
	for id, p := range m.peers {
		if p.status.Role != Standby || p.leaves || m.acks[id] <= m.now || m.hasDied(id) || p.status.IsWitness() {
			continue
		}
		if healthy && (!p.status.Health.OK || m.now.Sub(p.since) < m.cfg.HealthSettles) {
			continue
		}
		if best == nil || betterSuccessor(p.status, best.status) {
			best = p
		}
	}
	if best == nil {
		return ""
	}
	return best.status.Replica
}

func betterSuccessor(a, b Status) bool {
	if a.Health.OK != b.Health.OK {
		return a.Health.OK
	}
	return byName(a, b) < 0
}

func byName(a, b Status) int {
	if d := strings.Compare(a.Name, b.Name); d != 0 {
		return d
	}
	return strings.Compare(string(a.Replica), string(b.Replica))
}

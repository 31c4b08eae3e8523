package election

// A replica that shuts down in order leaves: it goes on granting until no claimant counts its grant, and then sends that it has
// departed. The replicas that receive this count it out. SAFETY.md, "Leaving", says why that is safe.
//
// Replicas that are stopped at once leave in turn. A primary acts on until there is a replica that stays and can take over,
// and one that stands by goes on granting while the primary needs it. Neither waits longer than LeavePatience for the next sign
// of a newcomer. SAFETY.md, "Leaving in turn".

// leave is the state of a replica that shuts down.
type leave struct {
	begun bool
	// urgent: a part of the process has failed; it waits for a successor and for nothing else.
	urgent bool
	// why it leaves.
	why Reason
	// by is when it leaves in any case, leftAt how long it waits for a successor's claim at most.
	by, leftAt Instant
	// settledAt is from when on it is known which of the others leave as well: replicas that are stopped at once are
	// asked one after the other.
	settledAt Instant
	// patientUntil is how long it waits for the next sign of a newcomer.
	patientUntil Instant
	// askAt is when to ask the holder of its promise to give it back, asked how often it was asked.
	askAt Instant
	asked int
	// holderHeard is when the holder of its promise last answered, or got it: one that does not know the question
	// never will.
	holderHeard Instant
	// left: it has left, and grants nothing any more.
	left bool
}

// beginLeave has the replica shut down: a primary hands over first. One that stands by goes on granting as long as a
// primary counts its grant, for without it the primary might lose its quorum.
func (m *Machine) beginLeave(why Reason) {
	urgent := why == ReasonPartFailed
	if m.leave.begun {
		m.leave.urgent = m.leave.urgent || urgent
		if urgent {
			m.resign(why, "", true)
		}
		return
	}
	m.leave = leave{begun: true, urgent: urgent, why: why, by: m.now.Add(m.cfg.LeaveWithin), settledAt: m.now.Add(m.cfg.leaveSettles())}
	m.leave.notice(m.now, m.cfg)
	switch m.role {
	case Candidate:
		m.withdraw(ElectionAbandoned)
	case Primary:
		if urgent || m.cfg.LeavePatience == 0 || m.expected() == 1 {
			m.resign(why, "", true)
		}
	default:
		m.becomeLeaving()
	}
}

func (m *Machine) becomeLeaving() {
	was := m.role
	m.role = Leaving
	m.leave.heldBy(m.now, m.cfg)
	if was == Primary {
		m.leave.leftAt = m.now.Add(m.cfg.successorWait())
	}
	m.leave.askAt = m.now // at once: it says too that this replica is no successor
}

// notice takes in a sign of a newcomer: the next is waited for as long again, as far as there is time.
func (l *leave) notice(now Instant, cfg Config) {
	l.patientUntil = min(now.Add(cfg.LeavePatience), l.by.Add(-cfg.StopWithin))
}

// passesOn reports whether this is a primary that leaves, and acts on until there is a replica to hand over to.
func (m *Machine) passesOn() bool { return m.role == Primary && m.leave.begun && !m.stopping }

// passOn hands over as soon as a replica that stays can take over, or no more newcomers are to be expected.
func (m *Machine) passOn() {
	if m.now >= m.leave.askAt {
		m.announce()
	}
	if m.now < min(m.leave.settledAt, m.leave.patientUntil) {
		return
	}
	if id := m.chooseSuccessor(false); id != "" || m.now >= m.leave.patientUntil {
		m.resign(m.leave.why, id, true)
	}
}

// passOnDue is when passOn has something to do.
func (m *Machine) passOnDue() Instant {
	next := min(m.leave.askAt, m.leave.patientUntil)
	if m.now < m.leave.settledAt {
		next = min(next, m.leave.settledAt)
	}
	return next
}

// announce says that this replica leaves: again and again, for it may get lost.
func (m *Machine) announce() {
	m.leave.askAt = m.now.Add(min(m.cfg.Retry()/4<<min(m.leave.asked, 8), m.cfg.pollInterval()))
	m.leave.asked++
	m.emit(SendLeave{LeaveRequest{From: m.status()}})
}

// heldBy notes that another claim has the replica's promise from now on: nothing else is waited for, and its
// claimant is asked to give the promise back. It may itself be the sign of a newcomer, and needs a moment to do so.
func (l *leave) heldBy(now Instant, cfg Config) {
	l.leftAt, l.holderHeard = now, now
	l.patientUntil = max(l.patientUntil, min(l.by, now.Add(max(cfg.LeavePatience, cfg.Lease))))
	l.asked, l.askAt = 0, now.Add(cfg.Retry())
	if l.urgent {
		l.by = now
	}
}

// awaitSuccessor has a replica that leaves stay for a claim that may need its grant.
func (l *leave) awaitSuccessor(now Instant, cfg Config) {
	l.leftAt = max(l.leftAt, min(l.by, now.Add(cfg.successorWait())))
}

// bound reports whether a promise to another's claim stands.
func (m *Machine) bound() bool { return m.now < m.promise.until }

// forsaken is when a holder of the promise that answers no question counts as one that never will: it runs an older
// version. One that is gone is waited for until the promise has run out, which is no later.
func (m *Machine) forsaken() Instant { return m.leave.holderHeard.Add(m.cfg.Lease) }

// stayUntil is how long a leaving replica grants a primary that does not give its promise back: one that leaves as well finishes
// first, and for one that stays no newcomer is waited for longer than for the next sign of it.
func (m *Machine) stayUntil() Instant {
	until := min(m.leave.by, m.forsaken())
	if p := m.peers[m.promise.held.Replica]; m.cfg.LeavePatience == 0 || p != nil && p.leaves {
		return until
	}
	return min(until, m.leave.patientUntil)
}

// leaveDue is when a leaving replica has something to do.
func (m *Machine) leaveDue() Instant {
	if !m.bound() {
		return m.leave.leftAt
	}
	return min(m.promise.until, m.stayUntil(), m.leave.askAt)
}

// advanceLeaving leaves as soon as no claimant counts this replica's grant any more, and announces it: those that
// stay need not count the replica. One that cannot wait so long leaves like one that crashed.
func (m *Machine) advanceLeaving() {
	switch {
	case !m.bound() && (m.now >= m.leave.leftAt || !m.anotherStays()):
		m.leave.left = true
		if m.now >= m.joinedAt { // until then a promise of its host's earlier process may be counted
			m.emit(SendLeave{LeaveRequest{From: m.status(), Departed: true}})
		}
		m.emit(Left{})
	case !m.bound():
	case m.now >= m.stayUntil():
		m.leave.left = true
		m.emit(Left{})
	case m.now >= m.leave.askAt:
		m.announce()
	}
}

// hasDeparted reports whether a replica has left in order.
func (m *Machine) hasDeparted(id ReplicaID) bool {
	_, gone := m.departed[id]
	return gone
}

// hasEnded reports whether a claim was withdrawn or released, or its replica has left in order or died.
func (m *Machine) hasEnded(c Claim) bool {
	return m.promise.hasEnded(c) || m.hasDeparted(c.Replica) || m.hasDied(c.Replica)
}

// stays reports whether nothing is known of a replica's leaving, or its death.
func (m *Machine) stays(id ReplicaID) bool {
	p, known := m.peers[id]
	return !m.hasDeparted(id) && !m.hasDied(id) && (!known || !p.leaves)
}

// anotherStays reports whether another replica is known that does not leave, and may claim.
func (m *Machine) anotherStays() bool {
	for id, p := range m.peers {
		if !p.leaves && !m.hasDied(id) && !p.status.IsWitness() {
			return true
		}
	}
	return false
}

// onLeave takes in that another replica leaves, or has left.
func (m *Machine) onLeave(req LeaveRequest) LeaveAnswer {
	a := LeaveAnswer{Claim: m.own}
	id := req.From.Replica
	switch {
	case id == m.cfg.Self || m.mismatched(req.From) || m.hasDeparted(id) || m.hasDied(id) && !req.Departed:
	case req.Departed:
		m.floorSeen = max(m.floorSeen, req.From.Floor.Timestamp) // ORDER: it may have been the last to know
		m.countOut(req.From)
	default:
		m.observe(req.From)
		m.peers[id].leaves = true
		a.Dismissed = m.dismiss(id)
	}
	a.From = m.status()
	return a
}

// dismiss gives a replica that leaves its promise back, if a quorum supports this primary well without it. One that hands over
// where newcomers take turns with those that leave keeps all: the successor may need more than it does.
func (m *Machine) dismiss(id ReplicaID) bool {
	if m.role != Primary || m.hard {
		return false
	}
	if m.dismissed[id] {
		return true
	}
	if m.stopping && m.cfg.LeavePatience > 0 {
		return false
	}
	if end, ok := m.supportedWithout(id); !ok || end.Sub(m.now) < m.cfg.Lease/2 {
		return false
	}
	delete(m.acks, id)
	m.dismissed[id] = true
	m.extend()
	return true
}

// onLeaveAnswer takes in what a claimant says to this replica's leaving.
func (m *Machine) onLeaveAnswer(a LeaveAnswer, sentAt Instant) {
	m.receive(a.From, heardIn{answer: true, sentAt: sentAt})
	if m.role != Leaving || a.Claim.IsZero() || a.Claim != m.promise.held || a.Claim.Replica != a.From.Replica {
		return
	}
	m.leave.holderHeard = m.now
	if a.Dismissed {
		m.promise.until = min(m.promise.until, m.now)
	}
}

// countOut takes in that a replica has left in order. It announced that only when no claimant counted its grant any
// more, and it grants nothing more: one replica less may hold a promise. Its own claims are over.
func (m *Machine) countOut(s Status) {
	id := s.Replica
	gone, met := m.peers[id]
	counted := met && gone.joined
	if len(m.departed) >= endedLength {
		forgetOldest(m.departed)
	}
	m.departed[id] = m.now
	delete(m.peers, id)
	delete(m.acks, id)
	delete(m.refused, id)
	m.emit(Departed{Name: s.Name, Replica: id})
	if m.holdFor == id {
		m.holdFor = ""
	}
	if m.promise.held.Replica == id {
		m.promise.end(m.promise.held, true)
	}
	if c := m.last.claim; c.Replica == id && !m.last.over {
		m.last.sign, m.last.until, m.last.over, m.last.reason = m.now, m.now, true, ReasonShutdown
		if m.role == Standby {
			m.look()
		}
	}
	others := 0
	for _, p := range m.peers {
		if p.joined {
			others++
		}
	}
	// Those that are silent are waited for: they still count.
	if counted && 1+others < m.size {
		m.resize(m.size - 1)
	}
	m.count()
}

// forgetOldest makes room among those that are gone: the longest known is forgotten.
func forgetOldest(gone map[ReplicaID]Instant) {
	var oldest ReplicaID
	for id, at := range gone {
		if o, ok := gone[oldest]; !ok || at < o || at == o && id < oldest {
			oldest = id
		}
	}
	delete(gone, oldest)
}

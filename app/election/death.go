package election

import "time"

// A replica on the same machine learns of another's death from the kernel, at once and with certainty. What it knows of a
// process that has ended needs no time-out. SAFETY.md, "A death that was witnessed", says why that is safe: each
// replica acts on its own evidence alone, and a quorum decides as ever.

// deadLength bounds the dead that are remembered; the longest known is forgotten first. They have a set of their own, so that
// many deaths make no claim of a living replica forgotten.
const deadLength = 256

// onDeath takes in that the process of another replica has ended: it counts no grant any more and sends nothing. A
// promise that it holds binds this replica no longer, and its term is over.
func (m *Machine) onDeath(in ProcessDied) {
	id := in.Replica
	if id == "" || id == m.cfg.Self || m.hasDied(id) {
		return
	}
	if len(m.dead) >= deadLength {
		forgetOldest(m.dead)
	}
	m.dead[id] = m.now
	m.promise.free(id)
	if m.holdFor == id {
		m.holdFor = ""
	}
	if m.role == Candidate && m.heldFor(id) {
		m.sendAt = m.now // those that refused for its sake learn of its death too
	}
	if !m.hasDeparted(id) {
		name := ""
		if p := m.peers[id]; p != nil {
			name = p.status.Name
		}
		m.emit(Died{Name: name, Replica: id})
	}
	if m.last.claim.Replica == id && m.following() {
		m.inherit(in.Witnesses)
	}
}

// inherit ends the term of a primary that has died. Those that know of the death claim one after the other, the first at
// once: two claims at a time would cost the time in which one of them yields.
func (m *Machine) inherit(witnesses []ReplicaID) {
	m.last.sign, m.last.until = m.now, m.now
	m.last.over, m.last.reason, m.last.witnessed = true, ReasonCrash, true
	before := 0
	for _, id := range witnesses {
		if id < m.cfg.Self && !m.hasDied(id) && !m.isWitness(id) {
			before++
		}
	}
	m.holdFor, m.inTurn = "", true
	m.claimAt = m.now.Add(min(m.cfg.TurnAfterDeath()*time.Duration(before), m.cfg.HoldBack()))
	switch m.role {
	case Standby:
		m.look()
	case Leaving:
		m.leave.awaitSuccessor(m.now, m.cfg)
	default: // it follows no replica that could have died
	}
}

// again is how soon to ask a replica again whose promise holds for a claim that is known here to have ended. A death is known
// to all of one machine within moments.
func (m *Machine) again(holder Claim) time.Duration {
	soon := m.cfg.Retry() / 4
	if m.hasDied(holder.Replica) {
		return min(soon, max(m.now.Sub(m.ownSince), soon/8))
	}
	return soon
}

// heldFor tells whether a candidate was refused for the sake of a replica's claim.
func (m *Machine) heldFor(id ReplicaID) bool {
	held := false
	for by, r := range m.refused {
		if r.holder.Replica == id && m.now < r.until {
			delete(m.refused, by)
			held = true
		}
	}
	return held
}

// free drops the promise to a replica that has died. Its claim leaves its floor: it may have won.
func (p *promise) free(id ReplicaID) {
	delete(p.ended, id)
	if p.held.Replica == id {
		p.raise(p.held)
		p.held, p.until = Claim{}, 0
	}
}

// hasDied tells whether a replica's process is known to have ended.
func (m *Machine) hasDied(id ReplicaID) bool {
	_, dead := m.dead[id]
	return dead
}

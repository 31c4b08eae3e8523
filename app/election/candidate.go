package election

import (
	"slices"
	"time"
)

// refusal is what keeps a candidate from one replica's grant.
type refusal struct {
	holder Claim
	until  Instant
}

func (m *Machine) look() {
	if m.leave.begun {
		m.becomeLeaving()
		return
	}
	m.role = Looking
	m.lookingSince = m.now
	m.queryAt = min(m.queryAt, m.now.Add(time.Duration(m.rounds())*m.cfg.Retry()))
}

// mayClaimAt is when a looking replica becomes candidate if nothing else happens.
func (m *Machine) mayClaimAt() Instant {
	at := max(m.claimAt, m.promise.until)
	if m.holdFor != "" {
		at = max(at, m.holdUntil)
	}
	if !m.last.over {
		at = max(at, m.last.until)
	}
	if m.nominated || m.inTurn && m.health.OK {
		return at
	}
	at = max(at, m.lookingSince)
	if !m.health.OK {
		// Let those claim first who can reach Telegram.
		at = max(at, m.lookingSince.Add(m.cfg.Lease/2))
	}
	return at.Add(m.spread())
}

// query asks the others, a few at a time: often while no primary shows itself, seldom otherwise. A primary needs no
// questions: every replica answers its renewals.
func (m *Machine) query() {
	every := m.cfg.seekInterval()
	ask, missed := SendQuery{Rounds: m.rounds()}, m.now.Sub(m.last.sign) > m.cfg.Lease/2
	if m.role == Joining || m.role == Looking || (m.role == Standby && missed) {
		every = m.pollInterval()
	}
	if missed && !m.last.over {
		ask.Missed = m.last.claim.Replica
	}
	if p := m.peers[m.last.claim.Replica]; m.role == Standby && p != nil && m.now.Sub(p.heard) <= m.cfg.Lease/2 {
		ask.Known = m.last.claim.Replica
	}
	if m.role != Primary {
		m.emit(ask)
	}
	m.askedAt, m.queryAt = m.now, m.now.Add(every)
}

// askAlong asks now what would be asked before the primary's next renewal: a process that stands by has just woken for this one,
// and so have the others. Many replicas go on taking turns.
func (m *Machine) askAlong() {
	if m.role == Standby && m.rounds() == 1 && m.queryAt <= m.now.Add(m.cfg.Heartbeat()) && m.now.Sub(m.askedAt) >= m.pollInterval() {
		m.queryAt = m.now
	}
}

// askAt is when the next question is due. A standby that misses its primary asks before the lease it follows has run out:
// where the primary's INSTANCES lack this replica, questions are all it has to follow it by.
func (m *Machine) askAt() Instant {
	if m.role != Standby {
		return m.queryAt
	}
	return min(m.queryAt, max(m.last.sign.Add(m.cfg.Lease/2+1), m.askedAt.Add(m.pollInterval())))
}

// claim makes this replica a candidate under a timestamp that was never used before.
func (m *Machine) claim() {
	m.floorSeen = max(m.floorSeen, m.promise.floor().Timestamp)
	ts := max(m.wall, m.floorSeen+1, m.lastOwn+1)
	m.lastOwn = ts
	m.role, m.nominated, m.inTurn = Candidate, false, false
	m.own = Claim{ts, m.cfg.Self}
	m.ownSince = m.now
	m.reached = map[ReplicaID]bool{}
	m.acks, m.dismissed = map[ReplicaID]Instant{}, map[ReplicaID]bool{}
	m.sendClaim(m.cfg.Retry())
}

// maySendAgain: below a majority a round must be complete before the next, since every replica is asked.
func (m *Machine) maySendAgain() bool { return m.roundWas || m.safe() }

// sendClaim renews the own grant and asks every other replica for theirs.
func (m *Machine) sendClaim(again time.Duration) {
	m.promise.give(m.own, m.now.Add(m.cfg.Lease))
	m.acks[m.cfg.Self] = m.now.Add(m.cfg.GrantedFor())
	m.refused = map[ReplicaID]refusal{}
	m.round++
	m.roundWas = false
	m.roundAt, m.sendAt = m.now, m.now.Add(again)
	if m.role == Primary {
		m.queryAt = m.now.Add(m.cfg.seekInterval()) // it wakes for no question: every replica answers this
	}
	m.emit(SendClaim{Request: ClaimRequest{From: m.status(), Claim: m.own}, Round: m.round})
	m.count()
}

// onAnswer counts an answer to the current claim, by replica, from the instant its request left.
func (m *Machine) onAnswer(a ClaimAnswer, sentAt Instant) {
	if a.From.Replica == m.cfg.Self || m.hasDeparted(a.From.Replica) {
		return
	}
	if m.mismatched(a.From) {
		m.deferTo(a.From)
		if m.role == Candidate {
			m.refused[a.From.Replica] = refusal{until: m.now.Add(m.cfg.Lease)}
		}
		return
	}
	if a.Claim == m.own && !m.own.IsZero() {
		if m.role == Candidate {
			m.reached[a.From.Replica] = true
		}
		if a.Granted {
			delete(m.refused, a.From.Replica)
			if !m.dismissed[a.From.Replica] {
				m.acks[a.From.Replica] = max(m.acks[a.From.Replica], sentAt.Add(m.cfg.GrantedFor()))
			}
			m.count()
		} else if m.role == Candidate {
			m.onRefusal(a)
		}
	}
	m.receive(a.From, heardIn{answer: true, sentAt: sentAt})
}

func (m *Machine) onRefusal(a ClaimAnswer) {
	m.floorSeen = max(m.floorSeen, a.From.Floor.Timestamp, a.Holder.Timestamp)
	switch a.Refusal {
	case RefusedFloor, RefusedEnded:
		// A higher timestamp is wanted; claim again at once.
		m.withdraw(ElectionRefused)
	case RefusedJoining:
		m.refused[a.From.Replica] = refusal{until: m.now.Add(min(a.Remaining, m.cfg.JoinSilence()))}
	case RefusedHeld:
		switch {
		case m.hasEnded(a.Holder):
			// It does not know yet what is known here.
			m.sendAt = min(m.sendAt, m.now.Add(m.again(a.Holder)))
		case a.Holder.Compare(m.own) > 0:
			// A higher candidate, which withdraws when it receives this claim; or one that died, whose
			// promise runs out.
			m.refused[a.From.Replica] = refusal{holder: a.Holder, until: m.now}
		default:
			m.refused[a.From.Replica] = refusal{holder: a.Holder, until: m.now.Add(min(a.Remaining, m.cfg.Lease))}
			m.yieldIfHopeless()
		}
	default: // a configuration that differs was reported when it was received
	}
}

// yieldIfHopeless withdraws a candidacy that promises given to lower claims keep from a quorum, and
// claims again when enough of them have run out.
func (m *Machine) yieldIfHopeless() {
	var ends []Instant
	for _, r := range m.refused {
		if !r.holder.IsZero() && r.until > m.now {
			ends = append(ends, r.until)
		}
	}
	dispensable := m.expected() - m.quorum()
	if !m.safe() {
		dispensable = 0 // all that answer must grant
	}
	if len(ends) <= dispensable {
		return
	}
	slices.Sort(ends)
	m.claimAt = max(m.claimAt, ends[len(ends)-1-dispensable])
	m.withdraw(ElectionYielded)
}

// patience is how long a candidacy lasts that nothing ends. Among more replicas than REPLICAS some may not be able to reach
// a quorum ever, since their INSTANCES are fewer: they must not keep the others from theirs.
func (m *Machine) patience() time.Duration {
	if m.expected() > m.cfg.Replicas {
		return m.cfg.Lease / 4
	}
	return m.cfg.Lease
}

// timeOut ends a candidacy that nothing else ended. One that reached a quorum claims again at once: what the others promised to a
// claim whose end they do not know of runs out.
func (m *Machine) timeOut() {
	if m.expected() > m.cfg.Replicas && len(m.reached)+1 < m.quorum() {
		m.claimAt = max(m.claimAt, m.now.Add(m.cfg.Lease/2+time.Duration(place(m.cfg.Self)*float64(m.cfg.Lease))))
	}
	m.withdraw(ElectionTimedOut)
}

// withdraw ends a candidacy. Answers to it that are still under way count for nothing: its timestamp
// is never used again.
func (m *Machine) withdraw(result ElectionResult) {
	c := m.own
	m.promise.end(c, false)
	m.own, m.acks, m.dismissed, m.refused, m.reached = Claim{}, nil, nil, nil, nil
	m.emit(ElectionEnded{Claim: c, Result: result, Took: m.now.Sub(m.ownSince)})
	m.look()
	m.emit(SendEnd{EndRequest{From: m.status(), Claim: c}})
}

// count sees whether the grants make, or keep, this replica primary.
func (m *Machine) count() {
	switch m.role {
	case Candidate:
		end, ok := m.supportedUntil()
		if !ok || m.now >= end.Add(-m.cfg.StopMargin()) {
			return
		}
		if !m.safe() && !m.unopposed() {
			return
		}
		m.win(end)
	case Primary:
		m.extend()
	default: // late answers count for nothing
	}
}

// supportedUntil is the q-th latest expiry of all acknowledgements.
func (m *Machine) supportedUntil() (Instant, bool) { return m.supportedWithout("") }

// supportedWithout is supportedUntil if a replica's grant did not count.
func (m *Machine) supportedWithout(id ReplicaID) (Instant, bool) {
	q := m.quorum()
	ends := make([]Instant, 0, len(m.acks))
	for by, end := range m.acks {
		if by != id {
			ends = append(ends, end)
		}
	}
	if len(ends) < q {
		return 0, false
	}
	slices.Sort(ends)
	return ends[len(ends)-q], true
}

// unopposed: below a majority every replica is asked, and all that answer must have granted.
func (m *Machine) unopposed() bool { return m.roundWas && len(m.refused) == 0 }

func (m *Machine) win(end Instant) {
	m.emit(ElectionEnded{Claim: m.own, Result: ElectionWon, Took: m.now.Sub(m.ownSince)})
	if n := m.present(); n > max(m.cfg.Replicas, m.size) {
		m.size, m.sizeSeen = n, m.now // the quorum of the term is that of the election
		m.emit(SizeChanged{Expected: n, Configured: m.cfg.Replicas})
	}
	m.role = Primary
	m.rival, m.rivalAt = Claim{}, 0
	m.ownSince = m.now
	m.stopping, m.hard, m.halted, m.reason, m.successor = false, false, false, "", ""
	m.leaseEnd = end
	m.change = m.changeToSelf()
	m.last = followed{claim: m.own, name: m.cfg.Name, sign: m.now, until: end}
	m.remember(m.change)
	m.emit(ExtendLease{WorkUntil: m.workUntil(), LeaseEnd: m.leaseEnd})
	m.emit(StartWork{m.change})
	// Inform the others at once of the replica to follow.
	m.sendClaim(m.cfg.Resend())
}

// changeToSelf is the change to this replica: the primary before, the reason, and how long there was none.
func (m *Machine) changeToSelf() Change {
	c := Change{Claim: m.own, Name: m.cfg.Name, Reason: ReasonStart}
	if m.last.claim.IsZero() {
		return c
	}
	c.Previous = m.last.name
	c.Gap = m.now.Sub(m.last.sign)
	switch {
	case m.last.over:
		c.Reason, c.Witnessed = m.last.reason, m.last.witnessed
	case m.heardSince(m.last.claim.Replica, m.last.until):
		c.Reason = ReasonLeaseLost
	default:
		c.Reason = ReasonCrash
	}
	return c
}

func (m *Machine) heardSince(id ReplicaID, at Instant) bool {
	p, ok := m.peers[id]
	return ok && p.heard >= at
}

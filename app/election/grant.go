package election

// answer grants or refuses a claim.
func (m *Machine) answer(req ClaimRequest) ClaimAnswer {
	c := req.Claim
	a := ClaimAnswer{Claim: c}
	if held := m.promise.held; held.Replica == c.Replica && held.Timestamp < c.Timestamp && req.From.Lease == m.cfg.Lease && Speaks(req.From.Protocol) {
		// A replica that claims again has withdrawn or released its earlier claim: that message was lost.
		m.promise.end(held, true)
	}
	// A primary renews under a higher floor too, where it is followed or has a promise: a withdrawal that
	// was lost, or below a majority the meeting with a higher primary, would cost it this replica's support
	// for good. Its term has begun, so ORDER has nothing to lose.
	promised := c == m.promise.held && m.now < m.promise.until && req.From.Role == Primary && req.From.Primary == c
	renews := promised || (c == m.last.claim && m.following())
	switch {
	case !Speaks(req.From.Protocol):
		a.Refusal = RefusedProtocol
	case req.From.Lease != m.cfg.Lease:
		a.Refusal = RefusedLease
	case m.now < m.joinedAt: // also when it leaves before it has joined
		a.Refusal, a.Remaining = RefusedJoining, m.joinedAt.Sub(m.now)
	case m.leave.left: // it may have been counted out
		a.Refusal = RefusedJoining
	case m.hasEnded(c):
		a.Refusal = RefusedEnded
	case !above(c, m.promise.base) && !renews:
		a.Refusal = RefusedFloor
	case m.role == Candidate && c.Compare(m.own) < 0:
		m.withdraw(ElectionYielded)
		a.Granted = above(c, m.promise.floor()) // the base was checked, the candidacy is gone
		// Two that yield to each other's withdrawn claims and claim again at once could do so for ever.
		m.claimAt = max(m.claimAt, m.now.Add(m.cfg.Retry()))
	case m.role == Primary || (m.promise.held != c && m.now < m.promise.until):
		a.Refusal, a.Holder, a.Remaining = RefusedHeld, m.promise.held, m.promise.until.Sub(m.now)
	case !above(c, m.promise.floor()) && !renews:
		a.Refusal = RefusedFloor
	default:
		a.Granted = true
	}
	if a.Granted {
		if m.leave.begun && m.promise.held != c {
			m.leave.heldBy(m.now, m.cfg)
		}
		if m.leave.begun && m.leave.asked == 0 && req.From.Role == Primary {
			m.leave.askAt = m.now // a candidate dismisses no replica
		}
		m.promise.give(c, m.now.Add(m.cfg.Lease))
		m.floorSeen = max(m.floorSeen, c.Timestamp)
	}
	// What the claimant says of itself comes second: a claim is judged by promises alone.
	m.receive(req.From, heardIn{})
	if a.Granted && req.From.Role == Primary && req.From.Primary == c {
		m.follow(req.From, m.cfg.Lease)
		m.askAlong()
	}
	a.From = m.status()
	return a
}

// onEnd takes in that a claim was withdrawn or released.
func (m *Machine) onEnd(req EndRequest) {
	c := req.Claim
	if m.mismatched(req.From) || c.Replica == m.cfg.Self || c.Replica != req.From.Replica {
		return
	}
	if m.hasDied(c.Replica) {
		return // all its claims have ended
	}
	if !m.hasDeparted(c.Replica) {
		m.observe(req.From)
	}
	fresh := !m.hasEnded(c)
	m.promise.end(c, req.Released)
	m.floorSeen = max(m.floorSeen, c.Timestamp)
	if !req.Released || !fresh {
		return
	}
	later := c.Compare(m.last.claim) > 0 && (m.safe() || !m.following())
	if (c == m.last.claim || later) && m.role != Primary {
		if c != m.last.claim {
			m.last = followed{claim: c}
		}
		m.last.name, m.last.sign, m.last.until = req.From.Name, m.now, m.now
		m.last.over, m.last.reason = true, req.Reason
		if m.role == Standby {
			m.look()
		}
	}
	m.claimAt, m.holdFor = m.now, ""
	m.nominated = req.Successor == m.cfg.Self
	if req.Successor != "" && !m.nominated && m.stays(req.Successor) && !m.isWitness(req.Successor) {
		m.holdFor, m.holdUntil = req.Successor, m.now.Add(m.cfg.HoldBack())
	}
	if m.role == Leaving {
		m.leave.awaitSuccessor(m.now, m.cfg)
	}
}

package election

import (
	"slices"
	"time"
)

// followed is the last primary this replica knows of.
type followed struct {
	claim Claim
	name  string
	// sign is when it last showed itself primary; until is when its lease must have run out, as far
	// as is known here.
	sign, until Instant
	// over: it has released its lease, for the reason given.
	over   bool
	reason Reason
	// witnessed: it is over because its process was seen to end.
	witnessed bool
}

// incompatiblePeer is a replica that cannot take part with this one.
type incompatiblePeer struct {
	why    Refusal
	theirs string
	heard  Instant
}

// heardIn is what a status came in: an answer to a request that left at sentAt, or a request.
type heardIn struct {
	answer bool
	sentAt Instant
}

// receive takes in the status that another replica reports.
func (m *Machine) receive(s Status, in heardIn) {
	if s.Replica == m.cfg.Self || m.hasDeparted(s.Replica) || m.hasDied(s.Replica) {
		return
	}
	if m.mismatched(s) {
		m.deferTo(s)
		return
	}
	m.observe(s)
	m.floorSeen = max(m.floorSeen, s.Floor.Timestamp, s.Primary.Timestamp)
	if s.Primary.IsZero() || s.Remaining <= 0 || m.hasEnded(s.Primary) {
		return
	}
	direct := s.Role == Primary && s.Primary.Replica == s.Replica
	remaining := min(s.Remaining, m.cfg.Lease)
	switch {
	case in.answer:
		// It counts from the sending of the question: standbys that believe each other must not
		// keep a dead primary alive between them.
		remaining -= m.now.Sub(in.sentAt)
	case !direct:
		return
	}
	if direct {
		m.promise.raise(s.Primary)
	}
	if remaining > 0 {
		m.follow(s, remaining)
	}
	if direct && m.role == Primary && !m.hard {
		m.meetPrimary(s.Primary, in)
	}
}

// meetPrimary is for a primary that finds another one. What counts is an answer to a request of this term: the other
// has a lease now. With a majority quorum that is impossible as long as the assumptions hold, so one of the two leases is
// worth nothing. It is the earlier one if a clock stood still, since a majority has promised the later one. If the earlier
// one stays, replicas disagree about who they are, and it does not know of this one.
func (m *Machine) meetPrimary(c Claim, in heardIn) {
	fresh, earlier := in.answer && in.sentAt > m.ownSince, c.Compare(m.own) < 0
	switch {
	case !m.safe():
		if fresh && earlier {
			m.resign(ReasonLowerPrimary, "", false)
		}
	case !fresh:
		if !earlier {
			m.sendAt = m.now // a late message says nothing of now, the answer to a renewal does
		}
	case !earlier:
		m.rival = c
		m.resign(ReasonLeaseLost, "", false)
	case c != m.rival:
		m.rival, m.rivalAt = c, m.now
	case in.sentAt.Sub(m.rivalAt) >= m.cfg.Lease/2:
		m.resign(ReasonLeaseLost, "", false)
	}
}

// deferTo leaves a primary alone that runs under another lease: it cannot take part, but it is there, by
// a promise that a shorter silence than its own may not have outlasted.
func (m *Machine) deferTo(s Status) {
	if Speaks(s.Protocol) && s.Role == Primary && s.Primary.Replica == s.Replica && s.Remaining > 0 {
		m.claimAt = max(m.claimAt, m.now.Add(min(s.Remaining, sparing)))
	}
}

// observe keeps the latest status of each replica. One that starts again has the same name and
// another id: the old one is gone.
func (m *Machine) observe(s Status) {
	for id, p := range m.peers {
		if id != s.Replica && p.status.Name == s.Name && m.now.Sub(p.heard) > m.cfg.pollInterval()/2 {
			delete(m.peers, id)
		}
	}
	since, joined := m.now, s.Role != Joining && s.Role != Leaving // one that leaves may never have joined
	before, met := m.peers[s.Replica]
	if met {
		joined = joined || before.joined
		if m.now.Sub(before.heard) <= before.within {
			since = before.since
		}
	}
	if m.leave.begun && s.Role != Leaving && (!met || joined && !before.joined) {
		m.leave.notice(m.now, m.cfg) // a newcomer has started, or stands by
	}
	m.peers[s.Replica] = &peer{status: s, heard: m.now, since: since, within: m.livenessWindow(), joined: joined, leaves: s.Role == Leaving || met && before.leaves}
	if s.Role == Leaving && s.Replica == m.holdFor {
		m.holdFor = "" // it never claims
	}
}

// mismatched reports a replica that cannot take part with this one, once until it changes, and keeps it for
// the view.
func (m *Machine) mismatched(s Status) bool {
	var why Refusal
	var theirs string
	switch {
	case !Speaks(s.Protocol):
		why, theirs = RefusedProtocol, "another version of the protocol"
	case s.Lease != m.cfg.Lease:
		why, theirs = RefusedLease, s.Lease.String()
	}
	switch _, known := m.incompatible[s.Name]; {
	case why == "":
		delete(m.incompatible, s.Name)
	case known || len(m.incompatible) < endedLength:
		m.incompatible[s.Name] = incompatiblePeer{why, theirs, m.now}
	}
	if m.mismatchTold[s.Name] != why {
		if why == "" {
			delete(m.mismatchTold, s.Name)
		} else if len(m.mismatchTold) < endedLength {
			m.mismatchTold[s.Name] = why
			m.emit(Mismatch{Peer: s.Name, Refusal: why, Theirs: theirs})
		}
	}
	return why != ""
}

// follow takes s's word for who is primary, for as long as remaining.
func (m *Machine) follow(s Status, remaining time.Duration) {
	c := s.Primary
	if m.role == Primary || c.Replica == m.cfg.Self {
		return
	}
	if c != m.last.claim {
		if !m.last.over && m.now < m.last.until && m.prefers(m.last.claim, c) {
			return
		}
		ch := changeOf(s)
		ch.Witnessed = m.last.witnessed && ch.Reason == ReasonCrash
		m.last, m.inTurn = followed{claim: c}, false
		m.remember(ch)
	}
	if s.PrimaryName != "" {
		m.last.name = s.PrimaryName
	}
	m.last.over = false
	m.last.until = max(m.last.until, m.now.Add(remaining))
	m.last.sign = max(m.last.sign, m.now.Add(remaining-m.cfg.Lease))
	if m.role == Candidate {
		m.withdraw(ElectionYielded)
	}
	if m.role == Looking {
		m.role = Standby
	}
}

// prefers reports whether a replica that follows a goes on doing so when it learns of b. With a majority
// quorum there is one primary, and the newer claim is the later one. Below a majority two partitions
// may have met, and the lowest wins.
func (m *Machine) prefers(a, b Claim) bool {
	if m.safe() {
		return a.Compare(b) > 0
	}
	return a.Compare(b) < 0
}

// changeOf is how the primary that s speaks of took over; bare if s does not know.
func changeOf(s Status) Change {
	if s.Change.Claim == s.Primary {
		return s.Change
	}
	return Change{Claim: s.Primary, Name: s.PrimaryName, Reason: ReasonStart}
}

// learnHistory takes in changes of primary that were before this replica's time. They are no news: no output tells of them.
// What is later than all that it knows comes with a status, and is news.
func (m *Machine) learnHistory(h History) {
	var newest Claim
	if known := m.history; len(known) > 0 {
		newest = known[len(known)-1].Claim
	} else if len(h.Changes) > 0 {
		newest = h.Changes[len(h.Changes)-1].Claim
	}
	for _, c := range h.Changes {
		if c.Claim.Compare(newest) >= 0 || slices.ContainsFunc(m.history, func(k Change) bool { return k.Claim == c.Claim }) {
			continue
		}
		c.Witnessed, c.WonAt = false, time.Time{}
		m.history = append(m.history, c)
		m.wonAt[c.Claim] = min(m.wall, c.Claim.Timestamp)
	}
	slices.SortFunc(m.history, func(a, b Change) int { return a.Claim.Compare(b.Claim) })
	m.forgetHistory()
}

func (m *Machine) forgetHistory() {
	if over := len(m.history) - historyLength; over > 0 {
		for _, c := range m.history[:over] {
			delete(m.wonAt, c.Claim)
		}
		m.history = slices.Delete(m.history, 0, over)
	}
}

func (m *Machine) remember(c Change) {
	if slices.ContainsFunc(m.history, func(h Change) bool { return h.Claim == c.Claim }) {
		return
	}
	m.history = append(m.history, c)
	m.wonAt[c.Claim] = m.wall
	if c.Claim.Replica != m.cfg.Self {
		m.wonAt[c.Claim] = min(m.wall, c.Claim.Timestamp)
	}
	m.forgetHistory()
	m.emit(PrimaryChanged{c})
}

package election

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// promise is the one grant a replica may have given, and the floor beneath it.
type promise struct {
	// held is the claim last granted and not withdrawn; it is a promise until the instant until.
	held  Claim
	until Instant
	// base is the floor without held, so that a withdrawal can restore it.
	base Claim
	// ended has, per replica, the highest timestamp of its withdrawn and released claims: a late
	// message of such a claim must not bind anybody.
	ended map[ReplicaID]int64
}

// floor is the highest claim granted or heard that was not withdrawn.
func (p *promise) floor() Claim {
	if p.held.Compare(p.base) > 0 {
		return p.held
	}
	return p.base
}

func (p *promise) raise(c Claim) {
	if c.Compare(p.base) > 0 {
		p.base = c
	}
}

// give replaces what was held: what it held is the floor beneath.
func (p *promise) give(c Claim, until Instant) {
	if p.held != c {
		p.raise(p.held)
		p.held = c
	}
	p.until = until
}

// end drops a claim for good. A withdrawn one leaves no floor behind, a released one does.
func (p *promise) end(c Claim, released bool) {
	if p.ended[c.Replica] < c.Timestamp {
		p.ended[c.Replica] = c.Timestamp
	}
	if len(p.ended) > endedLength {
		p.forgetLowest()
	}
	if p.held == c {
		p.held, p.until = Claim{}, 0
	}
	if released {
		p.raise(c)
	}
}

func (p *promise) forgetLowest() {
	lowest := Claim{Timestamp: math.MaxInt64}
	for id, ts := range p.ended {
		if c := (Claim{ts, id}); c.Compare(lowest) < 0 {
			lowest = c
		}
	}
	delete(p.ended, lowest.Replica)
}

func (p *promise) hasEnded(c Claim) bool { return c.Timestamp <= p.ended[c.Replica] }

// above tells whether c may be granted over the floor f: it is higher, or it is f itself, renewed.
func above(c, f Claim) bool { return c.Timestamp > f.Timestamp || c == f }

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

// refusal is what keeps a candidate from one replica's grant.
type refusal struct {
	holder Claim
	until  Instant
}

// peer is another replica as heard last.
type peer struct {
	status Status
	heard  Instant
	since  Instant // when it was heard first, without a break since then
	// joined: it has taken part, and so may have promised something. Only such a replica counts.
	joined bool
	// within is how long after heard it counts as reachable.
	within time.Duration
}

// Machine is one replica's election. It is not safe for concurrent use: one goroutine owns it.
type Machine struct {
	cfg Config
	now Instant
	// wall is the wall clock of the current step.
	wall int64
	out  []Output

	role     Role
	joinedAt Instant
	health   Health

	leave leave
	// departed are replicas that have left in order, and when that was heard: a late message of theirs must neither
	// count them again nor bind anybody.
	departed map[ReplicaID]Instant

	promise promise
	// dead are replicas whose process is known to have ended, and since when it is known.
	dead    map[ReplicaID]Instant
	last    followed
	history []Change
	wonAt   map[Claim]int64 // by the wall clock, for people; of what is in history
	peers   map[ReplicaID]*peer

	// floorSeen is the highest timestamp met anywhere; lastOwn the last one used here.
	floorSeen, lastOwn int64
	// claimAt is when this replica may claim at the earliest; lookingSince when it began to look.
	claimAt, lookingSince Instant
	// holdFor is the successor that the last primary named, which alone may claim until holdUntil.
	holdFor   ReplicaID
	holdUntil Instant
	// nominated: the last primary nominated this replica its successor.
	nominated bool
	// inTurn: claimAt is this replica's turn among those that witnessed the last primary's death.
	inTurn  bool
	queryAt Instant // when to ask the others; see askAt
	askedAt Instant

	// The candidacy or the role: own is zero if there is none.
	own      Claim
	ownSince Instant // candidate: when it claimed; primary: when it won
	acks     map[ReplicaID]Instant
	// dismissed are replicas that leave: their grants of own were given back and never count again.
	dismissed map[ReplicaID]bool
	refused   map[ReplicaID]refusal
	round     uint64
	roundWas  bool    // the current round is complete
	roundAt   Instant // when it began
	sendAt    Instant

	// The primary's.
	leaseEnd  Instant
	change    Change
	stopping  bool // StopWork was given
	silentBy  Instant
	hard      bool // StopWork without Drain was given
	halted    bool
	reason    Reason
	successor ReplicaID
	// rival is another primary that answered in this term, although a majority quorum allows only one; rivalAt is when it
	// did first.
	rival   Claim
	rivalAt Instant

	// size is the larger number of replicas in force, or 0; since is when more than N were first
	// heard together without interruption, sizeSeen when they were last.
	size         int
	since        Instant
	growing      bool
	sizeSeen     Instant
	mismatchTold map[string]Refusal
	incompatible map[string]incompatiblePeer // by name, heard last
}

// incompatiblePeer is a replica that cannot take part with this one.
type incompatiblePeer struct {
	why    Refusal
	theirs string
	heard  Instant
}

// New returns the machine of a replica that starts now: it is silent for JoinSilence.
func New(cfg Config, r Reading) *Machine {
	m := &Machine{
		cfg:          cfg,
		now:          r.Now,
		wall:         r.Wall,
		role:         Joining,
		joinedAt:     r.Now.Add(cfg.JoinSilence()),
		queryAt:      r.Now,
		health:       Health{OK: true},
		wonAt:        map[Claim]int64{},
		peers:        map[ReplicaID]*peer{},
		dead:         map[ReplicaID]Instant{},
		departed:     map[ReplicaID]Instant{},
		mismatchTold: map[string]Refusal{},
		incompatible: map[string]incompatiblePeer{},
	}
	m.promise.ended = map[ReplicaID]int64{}
	return m
}

// Step takes one input at one reading of the clocks and returns what is to be done, in order.
func (m *Machine) Step(r Reading, in Input) []Output {
	m.now, m.wall, m.out = max(m.now, r.Now), r.Wall, nil
	if in, ok := in.(HealthChanged); ok {
		m.health = in.Health.bounded() // first: nobody is to leave for an illness that is over
	}
	m.advance()
	switch in := in.(type) {
	case Tick, HealthChanged:
	case ClaimReceived:
		m.emit(Reply{m.answer(in.Request)})
	case EndReceived:
		m.onEnd(in.Request)
	case LeaveReceived:
		m.emit(LeaveReply{m.onLeave(in.Request)})
	case LeaveAnswerReceived:
		m.onLeaveAnswer(in.Answer, in.SentAt)
	case AnswerReceived:
		m.onAnswer(in.Answer, in.SentAt)
	case StatusReceived:
		m.hear(in.Status, heardIn{answer: true, sentAt: in.SentAt})
	case RoundDone:
		if in.Round == m.round {
			m.roundWas = true
			m.count()
		}
	case ProcessDied:
		m.onDeath(in)
	case WorkStopped:
		m.onWorkStopped()
	case Resign:
		m.resign(in.Reason, in.Successor, true)
	case Leave:
		m.beginLeave(in.Reason)
	}
	m.advance()
	return m.out
}

func (m *Machine) emit(o Output) { m.out = append(m.out, o) }

// Next returns the instant at which Tick is due.
func (m *Machine) Next() Instant {
	next := m.askAt()
	switch m.role {
	case Joining:
		next = min(next, m.joinedAt)
	case Candidate:
		next = min(next, m.ownSince.Add(m.patience()))
		if m.maySendAgain() {
			next = min(next, m.sendAt)
		}
	case Primary:
		if m.hard {
			next = min(next, m.haltAt())
		} else {
			next = min(next, m.sendAt, m.workUntil())
		}
	case Standby:
		next = min(next, m.last.until)
	case Looking:
		next = min(next, m.mayClaimAt())
	case Leaving:
		if !m.leave.left {
			next = min(next, m.leaveDue())
		}
	}
	return next
}

// advance does what has become due.
func (m *Machine) advance() {
	m.measure() // first: a larger quorum can end the lease
	if m.role == Joining && m.now >= m.joinedAt {
		m.look()
	}
	if m.role == Primary {
		m.advancePrimary()
	}
	if m.role == Candidate {
		switch {
		case m.now >= m.ownSince.Add(m.patience()):
			m.timeOut()
		case m.now >= m.sendAt && m.maySendAgain():
			m.sendClaim(m.cfg.Retry())
		}
	}
	if m.role == Standby && m.now >= m.last.until {
		m.look()
	}
	if m.role == Looking && m.now >= m.mayClaimAt() {
		m.claim()
	}
	if m.role == Leaving && !m.leave.left {
		m.advanceLeaving()
	}
	if m.now >= m.askAt() {
		m.query()
	}
}

// --- looking ------------------------------------------------------------------------------------

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
// questions: its renewals are answered by everybody.
func (m *Machine) query() {
	every := m.cfg.seekInterval()
	ask, missed := SendQuery{Rounds: m.rounds()}, m.now.Sub(m.last.sign) > m.cfg.Lease/2
	if m.role == Joining || m.role == Looking || (m.role == Standby && missed) {
		every = m.pollInterval()
	}
	if missed && !m.last.over {
		ask.Missed = m.last.claim.Replica
	}
	if m.role != Primary {
		m.emit(ask)
	}
	m.askedAt, m.queryAt = m.now, m.now.Add(every)
}

// askAt is when the next question is due. A standby that misses its primary asks before the lease it follows has run out:
// where the primary's INSTANCES lack this replica, questions are all it has to follow it by.
func (m *Machine) askAt() Instant {
	if m.role != Standby {
		return m.queryAt
	}
	return min(m.queryAt, max(m.last.sign.Add(m.cfg.Lease/2+1), m.askedAt.Add(m.pollInterval())))
}

// heardIn is what a status came in: an answer to a request that left at sentAt, or a request.
type heardIn struct {
	answer bool
	sentAt Instant
}

// hear takes in what another replica says of itself.
func (m *Machine) hear(s Status, in heardIn) {
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
	if s.Protocol == Protocol && s.Role == Primary && s.Primary.Replica == s.Replica && s.Remaining > 0 {
		m.claimAt = max(m.claimAt, m.now.Add(min(s.Remaining, sparing)))
	}
}

// observe keeps what was heard last of each replica. One that starts again has the same name and
// another id: the old one is gone.
func (m *Machine) observe(s Status) {
	for id, p := range m.peers {
		if id != s.Replica && p.status.Name == s.Name && m.now.Sub(p.heard) > m.cfg.pollInterval()/2 {
			delete(m.peers, id)
		}
	}
	since, joined := m.now, s.Role != Joining && s.Role != Leaving // one that leaves may never have joined
	if p, ok := m.peers[s.Replica]; ok {
		joined = joined || p.joined
		if m.now.Sub(p.heard) <= p.within {
			since = p.since
		}
	}
	m.peers[s.Replica] = &peer{status: s, heard: m.now, since: since, within: m.livenessWindow(), joined: joined}
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
	case s.Protocol != Protocol:
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

// prefers tells whether a replica that follows a stays with it when it hears of b. With a majority
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

func (m *Machine) remember(c Change) {
	if slices.ContainsFunc(m.history, func(h Change) bool { return h.Claim == c.Claim }) {
		return
	}
	m.history = append(m.history, c)
	m.wonAt[c.Claim] = m.wall
	if c.Claim.Replica != m.cfg.Self {
		m.wonAt[c.Claim] = min(m.wall, c.Claim.Timestamp)
	}
	if len(m.history) > historyLength {
		delete(m.wonAt, m.history[0].Claim)
		m.history = slices.Delete(m.history, 0, 1)
	}
	m.emit(PrimaryChanged{c})
}

// --- granting -----------------------------------------------------------------------------------

// answer grants or refuses a claim.
func (m *Machine) answer(req ClaimRequest) ClaimAnswer {
	c := req.Claim
	a := ClaimAnswer{Claim: c}
	if held := m.promise.held; held.Replica == c.Replica && held.Timestamp < c.Timestamp && req.From.Lease == m.cfg.Lease && req.From.Protocol == Protocol {
		// Whoever claims again has withdrawn or released what it claimed before: that was lost on its way.
		m.promise.end(held, true)
	}
	// A primary renews under a higher floor too, where it is followed or has a promise: a withdrawal that
	// was lost, or below a majority the meeting with a higher primary, would cost it this replica's support
	// for good. Its term has begun, so ORDER has nothing to lose.
	promised := c == m.promise.held && m.now < m.promise.until && req.From.Role == Primary && req.From.Primary == c
	renews := promised || (c == m.last.claim && m.following())
	switch {
	case req.From.Protocol != Protocol:
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
			m.leave.askAt = m.now // a candidate dismisses nobody
		}
		m.promise.give(c, m.now.Add(m.cfg.Lease))
		m.floorSeen = max(m.floorSeen, c.Timestamp)
	}
	// What the claimant says of itself comes second: a claim is judged by promises alone.
	m.hear(req.From, heardIn{})
	if a.Granted && req.From.Role == Primary && req.From.Primary == c {
		m.follow(req.From, m.cfg.Lease)
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
	if req.Successor != "" && !m.nominated && m.stays(req.Successor) {
		m.holdFor, m.holdUntil = req.Successor, m.now.Add(m.cfg.HoldBack())
	}
	if m.role == Leaving {
		m.leave.awaitSuccessor(m.now, m.cfg)
	}
}

// --- claiming -----------------------------------------------------------------------------------

// claim makes this replica a candidate under a timestamp that was never used before.
func (m *Machine) claim() {
	m.floorSeen = max(m.floorSeen, m.promise.floor().Timestamp)
	ts := max(m.wall, m.floorSeen+1, m.lastOwn+1)
	m.lastOwn = ts
	m.role, m.nominated, m.inTurn = Candidate, false, false
	m.own = Claim{ts, m.cfg.Self}
	m.ownSince = m.now
	m.acks, m.dismissed = map[ReplicaID]Instant{}, map[ReplicaID]bool{}
	m.sendClaim(m.cfg.Retry())
}

// maySendAgain: below a majority a round must be complete before the next, since everybody is asked.
func (m *Machine) maySendAgain() bool { return m.roundWas || m.safe() }

// sendClaim renews the own grant and asks everybody for theirs.
func (m *Machine) sendClaim(again time.Duration) {
	m.promise.give(m.own, m.now.Add(m.cfg.Lease))
	m.acks[m.cfg.Self] = m.now.Add(m.cfg.GrantedFor())
	m.refused = map[ReplicaID]refusal{}
	m.round++
	m.roundWas = false
	m.roundAt, m.sendAt = m.now, m.now.Add(again)
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
	m.hear(a.From, heardIn{answer: true, sentAt: sentAt})
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
			// It has not heard yet what is known here.
			m.sendAt = min(m.sendAt, m.now.Add(m.again(a.Holder)))
		case a.Holder.Compare(m.own) > 0:
			// A higher candidate, which withdraws when it hears this claim; or one that died, whose
			// promise runs out.
			m.refused[a.From.Replica] = refusal{holder: a.Holder, until: m.now}
		default:
			m.refused[a.From.Replica] = refusal{holder: a.Holder, until: m.now.Add(min(a.Remaining, m.cfg.Lease))}
			m.yieldIfHopeless()
		}
	default: // a configuration that differs was reported when it was heard
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

func (m *Machine) timeOut() {
	if m.expected() > m.cfg.Replicas {
		m.claimAt = max(m.claimAt, m.now.Add(m.cfg.Lease/2+time.Duration(place(m.cfg.Self)*float64(m.cfg.Lease))))
	}
	m.withdraw(ElectionTimedOut)
}

// withdraw ends a candidacy. Answers to it that are still under way count for nothing: its timestamp
// is never used again.
func (m *Machine) withdraw(result ElectionResult) {
	c := m.own
	m.promise.end(c, false)
	m.own, m.acks, m.dismissed, m.refused = Claim{}, nil, nil, nil
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

// unopposed: below a majority everybody is asked, and all that answer must have granted.
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
	// Tell the others at once whom to follow.
	m.sendClaim(m.cfg.Resend())
}

// changeToSelf says from whom the role came, why, and how long nobody had it.
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

// --- being primary ------------------------------------------------------------------------------

func (m *Machine) workUntil() Instant { return m.leaseEnd.Add(-m.cfg.StopMargin()) }

// haltAt is when a bot that was told to fall silent must have done so: at the end of the lease, or a
// stop margin after it was told if the process was frozen beyond the lease and could not be told in
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
	m.own, m.acks, m.dismissed, m.refused = Claim{}, nil, nil, nil
	m.claimAt = m.now.Add(m.cfg.HoldBack())
	m.emit(SteppedDown{Claim: c, Reason: m.reason})
	m.look()
	m.hearSeldom()
	m.emit(SendEnd{EndRequest{From: m.status(), Claim: c, Released: true, Reason: m.reason, Successor: m.successor}})
}

// chooseSuccessor is the standby to hand over to: one that has granted and was heard, a healthy one if there
// is one; only one that is surely healthy if it must be. Of several the first by name.
func (m *Machine) chooseSuccessor(healthy bool) ReplicaID {
	var best *peer
	for id, p := range m.peers {
		if p.status.Role != Standby || m.acks[id] <= m.now || m.hasDied(id) {
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

// --- the number of replicas ---------------------------------------------------------------------

// safe tells whether the quorum is at least a majority: then any two quorums share a replica. A
// cluster of one asks everybody all the same, in case it is not alone.
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

// present counts the replicas that were heard so lately that they can hardly have gone, those that join included: all that
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

// reachable tells whether a replica was heard recently, and not as the primary that another has followed since:
// whoever looks after a crash is not to see two.
func (m *Machine) reachable(p *peer) bool {
	followed := m.safe() && p.status.Role == Primary && p.status.Primary.Compare(m.last.claim) < 0
	return m.now.Sub(p.heard) <= p.within && !followed && !m.hasDied(p.status.Replica)
}

// measure keeps the number of replicas in force: the configured one, or a larger one that has been
// heard together for a while. Replicas that join do not count yet, so that one that restarts under
// another name is not counted twice. One that has left in order counts no more (countOut).
func (m *Machine) measure() {
	maps.DeleteFunc(m.incompatible, func(_ string, x incompatiblePeer) bool { return m.now.Sub(x.heard) > m.retention() })
	n := 1
	for id, p := range m.peers {
		switch {
		case m.now.Sub(p.heard) > m.retention():
			delete(m.peers, id)
		case m.reachable(p) && p.joined:
			n++
		}
	}
	maps.DeleteFunc(m.departed, func(_ ReplicaID, at Instant) bool { return m.now.Sub(at) > m.retention() })
	if n <= m.cfg.Replicas {
		m.growing = false
		if m.size != 0 && m.now.Sub(m.sizeSeen) > m.retention() {
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

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

// term is the last primary this replica knows of.
type term struct {
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
	leaving  bool
	leftAt   Instant // when to stop waiting for a successor
	left     bool
	health   Health

	promise promise
	// dead are replicas whose process is known to have ended, and since when it is known.
	dead    map[ReplicaID]Instant
	last    term
	history []Change
	wonAt   map[Claim]int64 // by the wall clock, for people; of what is in history
	peers   map[ReplicaID]*peer

	// floorSeen is the highest timestamp met anywhere; lastOwn the last one used here.
	floorSeen, lastOwn int64
	// claimAt is when this replica may claim at the earliest; lookingSince when it began to look.
	claimAt, lookingSince Instant
	// named: the last primary named this replica its successor.
	named bool
	// inTurn: claimAt is this replica's turn among those that witnessed the last primary's death.
	inTurn  bool
	queryAt Instant

	// The candidacy or the role: own is zero if there is none.
	own      Claim
	ownSince Instant // candidate: when it claimed; primary: when it won
	acks     map[ReplicaID]Instant
	refused  map[ReplicaID]refusal
	round    uint64
	roundWas bool    // the current round is complete
	roundAt  Instant // when it began
	sendAt   Instant

	// The primary's.
	leaseEnd  Instant
	change    Change
	stopping  bool // StopBot was given
	silentBy  Instant
	hard      bool // StopBot without Drain was given
	halted    bool
	reason    Reason
	successor ReplicaID

	// size is the larger number of replicas in force, or 0; since is when more than N were first
	// heard together without interruption, sizeSeen when they were last.
	size         int
	since        Instant
	growing      bool
	sizeSeen     Instant
	mismatchTold map[string]Refusal
	misfits      map[string]misfit // by name, heard last
}

// misfit is a replica that cannot take part with this one.
type misfit struct {
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
		mismatchTold: map[string]Refusal{},
		misfits:      map[string]misfit{},
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
	case BotStopped:
		m.onBotStopped()
	case Resign:
		m.resign(in.Reason, in.Successor, true)
	case Leave:
		m.leave(in.Reason)
	}
	m.advance()
	return m.out
}

func (m *Machine) emit(o Output) { m.out = append(m.out, o) }

// Next returns the instant at which Tick is due.
func (m *Machine) Next() Instant {
	next := m.queryAt
	switch m.role {
	case Joining:
		next = min(next, m.joinedAt)
	case Candidate:
		next = min(next, m.ownSince.Add(m.cfg.Lease))
		if m.maySendAgain() {
			next = min(next, m.sendAt)
		}
	case Primary:
		if m.hard {
			next = min(next, m.haltAt())
		} else {
			next = min(next, m.sendAt, m.botUntil())
		}
	case Standby:
		next = min(next, m.last.until)
	case Looking:
		next = min(next, m.mayClaimAt())
	case Leaving:
		if !m.left {
			next = min(next, m.leftAt)
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
		case m.now >= m.ownSince.Add(m.cfg.Lease):
			m.withdraw(ElectionTimedOut)
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
	if m.role == Leaving && !m.left && m.now >= m.leftAt {
		m.left = true
		m.emit(Left{})
	}
	if m.now >= m.queryAt {
		m.query()
	}
}

// --- looking ------------------------------------------------------------------------------------

func (m *Machine) look() {
	if m.leaving {
		m.role = Leaving
		return
	}
	m.role = Looking
	m.lookingSince = m.now
	m.queryAt = min(m.queryAt, m.now.Add(time.Duration(m.rounds())*m.cfg.Retry()))
}

// mayClaimAt is when a looking replica becomes candidate if nothing else happens.
func (m *Machine) mayClaimAt() Instant {
	at := max(m.claimAt, m.promise.until)
	if !m.last.over {
		at = max(at, m.last.until)
	}
	if m.named || m.inTurn && m.health.OK {
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
	every := m.cfg.acquaintance()
	ask, missed := SendQuery{Rounds: m.rounds()}, m.now.Sub(m.last.sign) > m.cfg.Lease/2
	if m.role == Joining || m.role == Looking || (m.role == Standby && missed) {
		every = m.inquiry()
	}
	if missed && !m.last.over {
		ask.Missed = m.last.claim.Replica
	}
	if m.role != Primary {
		m.emit(ask)
	}
	m.queryAt = m.now.Add(every)
}

// heardIn is what a status came in: an answer to a request that left at sentAt, or a request.
type heardIn struct {
	answer bool
	sentAt Instant
}

// hear takes in what another replica says of itself.
func (m *Machine) hear(s Status, in heardIn) {
	if s.Replica == m.cfg.Self || m.hasDied(s.Replica) {
		return
	}
	if m.mismatched(s) {
		m.spare(s)
		return
	}
	m.meet(s)
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
	if direct && in.answer && m.role == Primary && in.sentAt > m.ownSince && s.Primary.Compare(m.own) < 0 {
		m.resign(ReasonLowerPrimary, "", false)
	}
}

// spare leaves a primary alone that runs under another lease: it cannot take part, but it is there, by
// a promise that a shorter silence than its own may not have outlasted.
func (m *Machine) spare(s Status) {
	if s.Protocol == Protocol && s.Role == Primary && s.Primary.Replica == s.Replica && s.Remaining > 0 {
		m.claimAt = max(m.claimAt, m.now.Add(min(s.Remaining, sparing)))
	}
}

// meet keeps what was heard last of each replica. One that starts again has the same name and
// another id: the old one is gone.
func (m *Machine) meet(s Status) {
	for id, p := range m.peers {
		if id != s.Replica && p.status.Name == s.Name && m.now.Sub(p.heard) > m.cfg.inquiry()/2 {
			delete(m.peers, id)
		}
	}
	since := m.now
	if p, ok := m.peers[s.Replica]; ok && m.now.Sub(p.heard) <= p.within {
		since = p.since
	}
	m.peers[s.Replica] = &peer{status: s, heard: m.now, since: since, within: m.hearing()}
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
	switch _, known := m.misfits[s.Name]; {
	case why == "":
		delete(m.misfits, s.Name)
	case known || len(m.misfits) < endedLength:
		m.misfits[s.Name] = misfit{why, theirs, m.now}
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
		m.last, m.inTurn = term{claim: c}, false
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
		m.promise.give(c, m.now.Add(m.cfg.Lease))
		m.floorSeen = max(m.floorSeen, c.Timestamp)
		if m.leaving {
			m.leftAt = m.now // a successor is on its way
		}
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
	m.meet(req.From)
	fresh := !m.promise.hasEnded(c)
	m.promise.end(c, req.Released)
	m.floorSeen = max(m.floorSeen, c.Timestamp)
	if !req.Released || !fresh {
		return
	}
	later := c.Compare(m.last.claim) > 0 && (m.safe() || !m.following())
	if (c == m.last.claim || later) && m.role != Primary {
		if c != m.last.claim {
			m.last = term{claim: c}
		}
		m.last.name, m.last.sign, m.last.until = req.From.Name, m.now, m.now
		m.last.over, m.last.reason = true, req.Reason
		if m.role == Standby {
			m.look()
		}
	}
	m.claimAt = m.now
	m.named = req.Successor == m.cfg.Self
	if req.Successor != "" && !m.named {
		m.claimAt = m.now.Add(m.cfg.HoldBack())
	}
}

// --- claiming -----------------------------------------------------------------------------------

// claim makes this replica a candidate under a timestamp that was never used before.
func (m *Machine) claim() {
	m.floorSeen = max(m.floorSeen, m.promise.floor().Timestamp)
	ts := max(m.wall, m.floorSeen+1, m.lastOwn+1)
	m.lastOwn = ts
	m.role, m.named, m.inTurn = Candidate, false, false
	m.own = Claim{ts, m.cfg.Self}
	m.ownSince = m.now
	m.acks = map[ReplicaID]Instant{}
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
	if a.From.Replica == m.cfg.Self {
		return
	}
	if m.mismatched(a.From) {
		m.spare(a.From)
		if m.role == Candidate {
			m.refused[a.From.Replica] = refusal{until: m.now.Add(m.cfg.Lease)}
		}
		return
	}
	if a.Claim == m.own && !m.own.IsZero() {
		if a.Granted {
			delete(m.refused, a.From.Replica)
			m.acks[a.From.Replica] = max(m.acks[a.From.Replica], sentAt.Add(m.cfg.GrantedFor()))
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
	spare := m.expected() - m.quorum()
	if !m.safe() {
		spare = 0 // all that answer must grant
	}
	if len(ends) <= spare {
		return
	}
	slices.Sort(ends)
	m.claimAt = max(m.claimAt, ends[len(ends)-1-spare])
	m.withdraw(ElectionYielded)
}

// withdraw ends a candidacy. Answers to it that are still under way count for nothing: its timestamp
// is never used again.
func (m *Machine) withdraw(result ElectionResult) {
	c := m.own
	m.promise.end(c, false)
	m.own, m.acks, m.refused = Claim{}, nil, nil
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
func (m *Machine) supportedUntil() (Instant, bool) {
	q := m.quorum()
	if len(m.acks) < q {
		return 0, false
	}
	ends := slices.Sorted(maps.Values(m.acks))
	return ends[len(ends)-q], true
}

// unopposed: below a majority everybody is asked, and all that answer must have granted.
func (m *Machine) unopposed() bool { return m.roundWas && len(m.refused) == 0 }

func (m *Machine) win(end Instant) {
	m.emit(ElectionEnded{Claim: m.own, Result: ElectionWon, Took: m.now.Sub(m.ownSince)})
	m.role = Primary
	m.ownSince = m.now
	m.stopping, m.hard, m.halted, m.reason, m.successor = false, false, false, "", ""
	m.leaseEnd = end
	m.change = m.changeToSelf()
	m.last = term{claim: m.own, name: m.cfg.Name, sign: m.now, until: end}
	m.remember(m.change)
	m.emit(ExtendLease{BotUntil: m.botUntil(), LeaseEnd: m.leaseEnd})
	m.emit(StartBot{m.change})
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

func (m *Machine) botUntil() Instant { return m.leaseEnd.Add(-m.cfg.StopMargin()) }

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
	case m.now >= m.botUntil():
		m.resign(ReasonLeaseLost, "", false)
		return
	}
	if m.now >= m.sendAt {
		m.sendClaim(m.cfg.Resend())
	}
	if !m.health.OK && !m.stopping {
		if id := m.heir(true); id != "" {
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
	m.emit(ExtendLease{BotUntil: m.botUntil(), LeaseEnd: m.leaseEnd})
}

// resign starts the way out of the role: first the bot stops. While it drains the lease is renewed.
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
	m.emit(StopBot{Drain: drain, Reason: why})
}

// onBotStopped releases the lease, now that the bot is silent.
func (m *Machine) onBotStopped() {
	if m.role != Primary {
		return
	}
	if !m.stopping {
		m.stopping, m.reason = true, ReasonPartFailed
	}
	c := m.own
	if m.successor == "" && m.reason != ReasonLowerPrimary {
		m.successor = m.heir(false)
	}
	m.promise.end(c, true)
	m.last = term{claim: c, name: m.cfg.Name, sign: m.now, until: m.now, over: true, reason: m.reason}
	m.own, m.acks, m.refused = Claim{}, nil, nil
	m.claimAt = m.now.Add(m.cfg.HoldBack())
	m.leftAt = m.now.Add(m.cfg.HoldBack())
	m.emit(SteppedDown{Claim: c, Reason: m.reason})
	m.look()
	m.hearSeldom()
	m.emit(SendEnd{EndRequest{From: m.status(), Claim: c, Released: true, Reason: m.reason, Successor: m.successor}})
}

// heir is the standby to hand over to: one that has granted and was heard, a healthy one if there
// is one; only one that is surely healthy if it must be. Of several the first by name.
func (m *Machine) heir(healthy bool) ReplicaID {
	var best *peer
	for id, p := range m.peers {
		if p.status.Role != Standby || m.acks[id] <= m.now || m.hasDied(id) {
			continue
		}
		if healthy && (!p.status.Health.OK || m.now.Sub(p.since) < m.cfg.HealthSettles) {
			continue
		}
		if best == nil || heirBefore(p.status, best.status) {
			best = p
		}
	}
	if best == nil {
		return ""
	}
	return best.status.Replica
}

func heirBefore(a, b Status) bool {
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

func (m *Machine) leave(why Reason) {
	if m.leaving {
		return
	}
	m.leaving = true
	m.leftAt = m.now
	switch m.role {
	case Candidate:
		m.withdraw(ElectionAbandoned)
	case Primary:
		m.resign(why, "", true)
	default:
		m.role = Leaving
	}
}

// --- the number of replicas ---------------------------------------------------------------------

// safe tells whether the quorum is at least a majority: then any two quorums share a replica. A
// cluster of one asks everybody all the same, in case it is not alone.
func (m *Machine) safe() bool {
	n := m.expected()
	return n > 1 && m.quorum() > n/2
}

func (m *Machine) expected() int { return max(m.cfg.Replicas, m.size) }

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
// another name is not counted twice.
func (m *Machine) measure() {
	maps.DeleteFunc(m.misfits, func(_ string, x misfit) bool { return m.now.Sub(x.heard) > m.forget() })
	n := 1
	for id, p := range m.peers {
		switch {
		case m.now.Sub(p.heard) > m.forget():
			delete(m.peers, id)
		case m.reachable(p) && p.status.Role != Joining && p.status.Role != Leaving:
			n++
		}
	}
	if n <= m.cfg.Replicas {
		m.growing = false
		if m.size != 0 && m.now.Sub(m.sizeSeen) > m.forget() {
			m.resize(0)
		}
		return
	}
	m.sizeSeen = m.now
	if !m.growing {
		m.growing, m.since = true, m.now
	}
	if n > m.size && m.now.Sub(m.since) >= m.growth() {
		m.resize(n)
	}
}

func (m *Machine) resize(n int) {
	m.size = n
	m.emit(SizeChanged{Expected: m.expected(), Configured: m.cfg.Replicas})
	m.count()
}

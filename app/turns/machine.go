package turns

import "slices"

// member is a copy that has polled, as it is known here.
type member struct {
	id      CopyID
	address string

	// polled: it has polled since it started; until then it may write. dead: it is gone, as far as is known.
	polled, dead bool
	// From sureFrom on, before sureTo, its requests came from the process that polled: there was always a connection open.
	sureFrom, sureTo Instant
	// lived is when its process before this one was last known to live; no connection of this one is older than lifeFrom.
	lived, lifeFrom Instant
	// When its last request came or ended.
	heard Instant
	// due is since when its next poll is due: calls move it, but for those with which frameworks begin.
	due Instant

	connections []Connection
	// gone are those that ended last: what comes on one of them is late, and shows nothing of the copy.
	gone []Connection
	// seen is when a request came on connections, open or gone, or went on.
	seen []sight
	// kept: it has used a connection for a second request. keeps: the process before it had, and this one has not polled yet.
	kept, keeps bool
	// suspected: one of its connections ended at ended, as if it were dead, which counts from suspect on; ending: its own
	// side closed that one.
	suspected, ending bool
	ended, suspect    Instant
	// doubted: it was suspected, and had another connection open. If that goes with a replica it is suspected again.
	doubted bool
	// shut: its side has closed its last connection, and at brisk, about then, one that was in use. None has been open
	// since the instant bare.
	shut        bool
	brisk, bare Instant

	polls []*poll
	// asked: it has polled at askedAt, from offset on.
	asked   bool
	askedAt Instant
	offset  int64
	// waits: its polls wait for updates. farewell: the last one did not, as when a framework stops.
	waits, farewell bool
	// confirmed: it has confirmed updates since it started.
	confirmed bool

	// waiting: it stands by, since the instant waitingSince.
	waiting      bool
	waitingSince Instant
	allowed      string
}

// sight is when something last came on a connection: not after its end, if that is known.
type sight struct {
	connection Connection
	at         Instant
}

// poll is a getUpdates that is held.
type poll struct {
	id         PollID
	connection Connection
	began, due Instant
	limit      int
	// over: it gets no updates, as a newer one has come or as it asks to skip what waits.
	over bool
}

// Machine decides for one term. It is not safe for concurrent use: one goroutine owns it.
type Machine struct {
	cfg   Config
	term  int64
	now   Instant
	out   []Output
	began Instant
	// notBefore: nothing is declared dead before, for this process was not running for a while.
	notBefore Instant
	stopped   bool

	members []*member // in the order in which they appeared
	active  *member
	since   Instant
	why     Reason
	// turn numbers turns of this term. first: no copy has been active before this turn, as far as is known here, or it
	// was this one: what it confirms of the first batch it was given by a predecessor.
	turn  uint64
	first bool
	// former was active last and was last known to live at alive; they count until the next turn is in force.
	former CopyID
	alive  Instant
	// lasting is the former one while it lives, and so may write until the next turn is in force.
	lasting *member
	// A turn is in force once a majority knows of it, which is with the delta turnSeq: a primary that takes over would
	// else go on with the turn before. begins is what is put out then.
	turnSeq uint64
	begins  *ActiveChanged

	items
	allowed string

	seq, known uint64
	roster     bool // it has changed in this step
	full       bool // the next delta has everything
}

// New returns the machine of a term that begins now. Terms rise from primary to primary. The state MUST be that of the
// freshest Mirror of all replicas that can be reached, this one included: of those that know what Replicated was given for
// one that has started again has forgotten it.
func New(cfg Config, term int64, now Instant, s State) *Machine {
	m := &Machine{
		cfg: cfg, term: term, now: now, began: now, since: now.Add(-s.SinceAgo), former: s.Former, alive: now.Add(-s.FormerAgo), why: s.Reason,
		first: s.Active != "" || s.Former == "", roster: true, full: true,
	}
	for _, k := range s.Members {
		if len(m.members) == MaxCopies {
			break
		}
		c := &member{
			id: k.ID, address: k.Address, polled: k.Polled, dead: k.Dead, kept: k.Kept, waits: k.Waits, allowed: k.Allowed,
			waiting: k.Waiting, waitingSince: now.Add(-k.WaitingAgo), heard: now.Add(-k.HeardAgo), due: now,
			lived: now.Add(-k.HeardAgo), askedAt: now.Add(-k.HeardAgo), shut: k.Ended, ending: k.Ended, bare: now.Add(-k.HeardAgo),
			seen: []sight{{at: now.Add(-k.HeardAgo)}},
		}
		m.members = append(m.members, c)
		if k.ID == s.Active {
			m.active, m.turn = c, 1
			c.waiting = false
		}
	}
	m.inherit(now, s.Kept)
	return m
}

// Step takes one input and returns what is to be done, in order. A reading before the last one counts as the last.
func (m *Machine) Step(now Instant, in Input) []Output {
	due := m.Next()
	m.now, m.out = max(m.now, now), nil
	if m.now > due.Add(overslept) {
		m.notBefore = m.now.Add(quiet)
	}
	m.take(in) // first: a request that waited to be read proves that its copy lives
	m.advance()
	m.age()
	m.tell()
	return m.out
}

func (m *Machine) emit(o Output) { m.out = append(m.out, o) }

func (m *Machine) take(in Input) {
	switch in := in.(type) {
	case Tick:
	case Polled:
		m.polledBy(in)
	case PollEnded:
		m.pollEnded(in.Poll)
	case Called:
		m.emit(m.called(in))
	case Alive:
		// Without its connection it goes on without the copy, which may have ended.
		if c := m.find(in.Client.Copy); c != nil && slices.Contains(c.connections, in.Client.Connection) {
			m.hear(c, in.Client)
			c.due = m.now
		}
	case Signed:
		m.signed(in)
	case ConnectionEnded:
		m.connectionEnded(in)
	case ReplicaLost:
		m.replicaLost(in.Replica)
	case AddressGone:
		for _, c := range slices.Clone(m.members) {
			if c.address == in.Address && !c.dead && c.heard < in.Asked && !c.pollsBeside(in.Replica) {
				m.die(c, ReasonGone)
			}
		}
	case Batch:
		m.batch(in.Updates)
		m.serve()
	case Replicated:
		m.known = max(m.known, min(in.Seq, m.seq))
		m.confirmKnown()
		m.enforce()
	case Next:
		if c := m.longestWaiting(); c == nil {
			m.emit(NoSpare{})
		} else {
			alive := m.now
			if m.active != nil && m.active.open() == nil {
				alive = m.active.lastAlive()
			}
			m.end(ReasonOperator, alive)
			m.begin(c)
		}
	case Stop:
		m.stopped = true
	}
}

// Next returns the instant at which Tick is due.
func (m *Machine) Next() Instant {
	next := m.now.Add(forget)
	for _, c := range m.members {
		for _, p := range c.polls {
			next = min(next, p.due)
		}
		if at, ok := m.deathOf(c); ok {
			next = min(next, max(at, m.notBefore))
		}
	}
	return next
}

// deathOf is when a copy is dead if nothing happens before.
func (m *Machine) deathOf(c *member) (at Instant, ok bool) {
	switch {
	case c.dead:
		return 0, false
	case c.suspected:
		return c.suspect.Add(quiet), true
	case len(c.polls) > 0:
		return 0, false
	}
	return c.due.Add(m.cfg.Patience), true
}

// advance does what has become due.
func (m *Machine) advance() {
	for _, c := range slices.Clone(m.members) {
		for at, ok := m.deathOf(c); ok && m.now >= max(at, m.notBefore); at, ok = m.deathOf(c) {
			m.judge(c)
		}
		if c.dead && m.now >= c.heard.Add(forget) {
			m.forget(c)
		}
		for _, p := range slices.Clone(c.polls) {
			if m.now >= p.due {
				m.answer(c, p, nil)
			}
		}
	}
}

// judge decides on a copy whose time has come.
func (m *Machine) judge(c *member) {
	switch {
	case !c.suspected:
		m.die(c, ReasonSilent)
	case len(c.connections) > 0:
		c.suspected, c.ending, c.doubted = false, false, true // a process that has ended has no connection open
	case c.farewell:
		m.die(c, ReasonStopped)
	default:
		m.die(c, ReasonEnded)
	}
}

// --- copies -------------------------------------------------------------------------------------

func (m *Machine) find(id CopyID) *member {
	for _, c := range m.members {
		if c.id == id {
			return c
		}
	}
	return nil
}

// add makes a copy of a client that polls.
func (m *Machine) add(id CopyID) *member {
	if len(m.members) >= MaxCopies {
		m.forget(m.leastOfUse())
	}
	c := &member{id: id, dead: true, heard: m.now}
	m.members = append(m.members, c)
	return c
}

// leastOfUse is the copy to forget: a dead one if there is one, the one whose last request is the oldest.
func (m *Machine) leastOfUse() (least *member) {
	for _, c := range m.members {
		if c == m.active {
			continue
		}
		if least == nil || c.dead && !least.dead || c.dead == least.dead && c.heard < least.heard {
			least = c
		}
	}
	return least
}

func (m *Machine) forget(c *member) {
	m.dismiss(c)
	m.members = slices.DeleteFunc(m.members, func(o *member) bool { return o == c })
	m.roster = true
}

// dismiss answers what polls a copy has open.
func (m *Machine) dismiss(c *member) {
	for len(c.polls) > 0 {
		m.answer(c, c.polls[0], nil)
	}
}

// request takes note of a new request of a copy.
func (m *Machine) request(c *member, from Client) {
	if from.Reused && !c.kept {
		c.kept, m.roster = true, true
	}
	m.hear(c, from)
}

// A copy shows that it lives.
func (m *Machine) hear(c *member, from Client) {
	c.heard = m.now
	c.sees(from.Connection, m.now)
	c.suspected, c.ending, c.shut, c.doubted = false, false, false, false
	if c.address != from.Address {
		c.address, m.roster = from.Address, true
	}
	if slices.Contains(c.connections, from.Connection) {
		return
	}
	if len(c.connections) >= maxConnections {
		c.connections = c.connections[1:]
	}
	c.connections = append(c.connections, from.Connection)
}

// sees takes note that something came on a connection.
func (c *member) sees(on Connection, at Instant) {
	c.seen = slices.DeleteFunc(c.seen, func(s sight) bool { return s.connection == on })
	c.seen = append(c.seen, sight{on, at})
	c.seen = c.seen[max(0, len(c.seen)-2*maxConnections):]
}

// seenBeside is when something last came on another connection than one that ends at an instant. What came on that one was sent before,
// whatever the order in which the primary gets to know of both.
func (c *member) seenBeside(ends Connection, at Instant) (last Instant) {
	for i, s := range c.seen {
		if s.connection == ends {
			c.seen[i].at = min(s.at, at.Add(-skew))
			continue
		}
		last = max(last, s.at)
	}
	return last
}

// pollsBeside tells whether the copy has a poll open through another replica than one that does not reach it. Had its machine gone, that
// one would not reach it either.
func (c *member) pollsBeside(replica string) bool {
	return slices.ContainsFunc(c.polls, func(p *poll) bool { return p.connection.Replica != replica })
}

// isNew tells whether a request may be the first of a process: its connection was opened when none of the copy was. A late
// request of a process that has ended came on one that was opened before.
func (m *Machine) isNew(c *member, from Client) bool {
	return len(c.connections) == 0 && m.now.Add(-from.Age) >= c.bare
}

// isStarting tells whether a request comes from a process that has not polled yet, and not late from the one before it.
func (m *Machine) isStarting(c *member, from Client) bool {
	return !c.polled && m.now.Add(-from.Age) >= c.lifeFrom
}

// hasEnded tells whether the copy's process has ended, as far as its connections show: its side has closed them all, the
// last one as if it were dead, or it is dead for another reason.
func (c *member) hasEnded() bool { return c.shut && (c.ending || c.dead) }

// lastAlive is when the process that polled was last known to live. Calls are not looked at: they may be the next one's.
func (c *member) lastAlive() Instant {
	switch {
	case !c.polled:
		return c.lived
	case c.suspected:
		return max(c.askedAt, c.ended)
	}
	return c.askedAt
}

// startsOver begins another life of a copy: until it polls it may write.
func (m *Machine) startsOver(c *member) {
	if c.polled {
		c.due, c.lived, c.keeps = m.now, c.lastAlive(), c.kept
	}
	c.polled, c.dead, c.lifeFrom = false, false, c.bare
	c.kept, c.asked, c.waits, c.farewell, c.confirmed, c.waiting = false, false, false, false, false, false
	m.roster = true
}

// isLate tells whether a request comes on a connection that has ended: on its way through another replica the end overtook it.
func (c *member) isLate(from Client) bool { return slices.Contains(c.gone, from.Connection) }

// called judges a call.
func (m *Machine) called(in Called) Verdict {
	c := m.find(in.Client.Copy)
	if c == nil {
		return Verdict{Pass: true}
	}
	// Connections show that a process has ended, and that one calls for the first time. The active copy may
	// write anyway, and calls getMe to see whether all is well.
	late := c.isLate(in.Client)
	if !late && m.isNew(c, in.Client) && (c.hasEnded() || in.Kind == KindStartUp && c != m.active) {
		m.startsOver(c)
	}
	if !late {
		m.request(c, in.Client)
	}
	holder := m.holder()
	if c == holder || m.isStarting(c, in.Client) || in.Kind != KindWrite {
		if c.polled && in.Kind != KindStartUp && !late {
			c.due = m.now
		}
		return Verdict{Pass: true}
	}
	v := Verdict{}
	if holder != nil {
		v.Active = holder.id
	}
	return v
}

// connectionEnded looks for signs of death in the end of a connection.
func (m *Machine) connectionEnded(in ConnectionEnded) {
	c := m.find(in.Client.Copy)
	if c == nil {
		return
	}
	c.connections = slices.DeleteFunc(c.connections, func(o Connection) bool { return o == in.Client.Connection })
	if !c.isLate(in.Client) {
		c.gone = append(c.gone, in.Client.Connection)
		c.gone = c.gone[max(0, len(c.gone)-maxConnections):]
	}
	open := in.Poll
	for _, p := range slices.Clone(c.polls) {
		if p.connection == in.Client.Connection {
			open = true
			m.drop(c, p)
		}
	}
	end := m.now.Add(-in.Ago)
	if in.Closed && (open || in.Idle <= lastUse) {
		c.brisk = max(c.brisk, end)
	}
	c.shut = in.Closed && len(c.connections) == 0 && end <= c.brisk.Add(quiet)
	c.bare = max(c.bare, end)
	sure := c.sureTo == never
	c.unsure(end)
	if last := c.seenBeside(in.Client.Connection, end); c.dead || last > end {
		return
	}
	// What has not polled yet may be the process before still, which calls on a new connection as it ends.
	if open || in.Idle <= lastUse && (c.kept || c.farewell) || in.Closed && c.keeps && !c.polled {
		c.suspected, c.ending = true, c.ending || in.Closed
		c.suspect, c.ended = max(end, m.began), c.askedAt
		if in.Closed && sure {
			c.ended = end // it lived until then; what the network lost may have ended before
		}
	}
	m.roster = m.roster || c.hasEnded()
	if c.hasEnded() && c.farewell && c.kept {
		m.die(c, ReasonStopped)
	}
}

// unsure: without a connection open, what comes next may come from another process, until it polls.
func (c *member) unsure(from Instant) {
	if len(c.connections) == 0 {
		c.sureTo = min(c.sureTo, from)
	}
}

// sure: the process that polls now is the one whose calls show what it handles.
func (c *member) sure(now Instant) {
	if c.sureTo != never {
		c.sureFrom, c.sureTo = now, never
	}
}

// replicaLost forgets what came through a replica: its end is no sign of a copy's.
func (m *Machine) replicaLost(replica string) {
	for _, c := range m.members {
		c.connections = slices.DeleteFunc(c.connections, func(o Connection) bool { return o.Replica == replica })
		c.unsure(m.now)
		for _, p := range slices.Clone(c.polls) {
			if p.connection.Replica == replica {
				m.drop(c, p)
			}
		}
		if c.doubted && !c.dead && len(c.connections) == 0 {
			c.suspected, c.suspect, c.doubted = true, m.now, false
		}
	}
}

// die declares a copy dead.
func (m *Machine) die(c *member, why Reason) {
	alive := c.lastAlive()
	c.dead, c.waiting, c.suspected = true, false, false
	m.roster = true
	if m.lasting == c {
		m.lasting = nil
	}
	m.emit(Died{c.id, why})
	m.dismiss(c)
	if c != m.active {
		return
	}
	m.end(why, alive)
	if next := m.longestWaiting(); next != nil {
		m.begin(next)
	} else {
		m.emit(ActiveChanged{From: m.former, Reason: why})
	}
}

// --- turns --------------------------------------------------------------------------------------

// longestWaiting is the copy that has waited longest of those that wait right now.
func (m *Machine) longestWaiting() (longest *member) {
	for _, c := range m.members {
		if c.waiting && !c.farewell && c.open() != nil && (longest == nil || c.waitingSince < longest.waitingSince) {
			longest = c
		}
	}
	return longest
}

// end ends the turn of the active copy, which was last known to live at alive.
func (m *Machine) end(why Reason, alive Instant) {
	if m.active == nil {
		return
	}
	if m.inForce() || m.former == "" {
		m.former, m.alive, m.lasting = m.active.id, alive, m.active
	}
	m.why, m.since, m.first, m.begins = why, m.now, false, nil
	if m.active.dead {
		m.lasting = nil
	} else {
		m.active.waiting, m.active.waitingSince = true, m.now
	}
	m.active, m.roster = nil, true
}

// begin makes a copy active, as soon as a majority knows.
func (m *Machine) begin(c *member) {
	why := m.why
	if m.former == "" {
		why = ReasonFirst
	}
	again := m.rewind(m.alive, 0)
	m.active, m.since, m.why = c, m.now, why
	c.waiting, c.due = false, m.now
	m.turns(ActiveChanged{From: m.former, To: c.id, Reason: why, Again: again})
}

// restart begins another turn of the active copy, which has started over and was last known to live at alive. What is
// below the offset its new process has confirmed itself.
func (m *Machine) restart(alive Instant, offset int64) {
	m.first = false
	m.since, m.why = m.now, ReasonRestarted
	if m.inForce() {
		m.former, m.alive, m.lasting = m.active.id, alive, nil
	}
	m.turns(ActiveChanged{From: m.former, To: m.active.id, Reason: ReasonRestarted, Again: m.rewind(alive, offset)})
}

// turns numbers a turn, which is in force with the delta of this step.
func (m *Machine) turns(c ActiveChanged) {
	m.turn++
	m.begins, m.turnSeq, m.roster = &c, m.seq+1, true
}

func (m *Machine) inForce() bool { return m.known >= m.turnSeq }

// enforce gives the active copy what it is due, if a majority has come to know of its turn.
func (m *Machine) enforce() {
	if m.begins == nil || !m.inForce() {
		return
	}
	m.emit(*m.begins)
	m.begins = nil
	m.allow()
	m.serve()
}

// holder is the copy that may write: the active one, or the one before if that lives and the turn is not in force.
func (m *Machine) holder() *member {
	if m.active != nil && !m.inForce() && m.lasting != nil {
		return m.lasting
	}
	return m.active
}

func (m *Machine) allow() {
	if a := m.active.allowed; a != "" && a != m.allowed {
		m.allowed = a
		m.emit(Allow{a})
	}
}

// View is what operators see.
type View struct {
	// Active is empty if no copy is; Since is when its turn began, or when the last one ended, and Reason why.
	Active CopyID
	Since  Instant
	Reason Reason
	Copies []CopyView
	// Pending is how many updates wait to be confirmed by a copy; InHand how many of them the active one was given.
	Pending, InHand int
	// LastConfirmed is when a copy confirmed an update last, also one that is done; 0 if none did in this term.
	LastConfirmed Instant
	// Kept and KeptBytes are what is kept to be given again.
	Kept, KeptBytes int
}

// CopyView is one copy as operators see it.
type CopyView struct {
	ID      CopyID
	Address string
	// Role is active, standby, starting or dead.
	Role string
	// LastRequest is when its last request came, Waiting since when it stands by.
	LastRequest, Waiting Instant
	// Polling: a poll of it is open.
	Polling bool
}

// View returns what operators see.
func (m *Machine) View() View {
	v := View{Since: m.since, Reason: m.why, Pending: len(m.pending), LastConfirmed: m.confirmedAt, Kept: m.count, KeptBytes: m.size}
	holder := m.holder()
	if holder != nil {
		v.Active = holder.id
	}
	for _, c := range m.members {
		role := "standby"
		switch {
		case c == holder:
			role = "active"
		case c.dead:
			role = "dead"
		case !c.polled:
			role = "starting"
		}
		v.Copies = append(v.Copies, CopyView{c.id, c.address, role, c.heard, c.waitingSince, len(c.polls) > 0})
	}
	for _, i := range m.pending {
		if i.turn == m.turn && m.active != nil {
			v.InHand++
		}
	}
	return v
}

package election

import (
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
)

// scope bounds what is enumerated.
//
// Time. All clocks are read at the same instants, a step apart; what happens at one instant happens in
// every order. Each reading is one that a real clock can show, and a Tick that comes later than Next is
// allowed: whatever is found here can happen. What happens between two steps is not looked at here, so
// different scopes take different steps. Time never ends.
//
// The network keeps everything that was sent in an instant and delivers each message in any order, any
// number of times, or never. When time passes, it loses all but at most `late` messages, whichever;
// those it delivers late, again, or never, without end. So losses are not counted: any may be lost.
//
// Claims, restarts and operators' acts are bounded in all. A replica that would claim once more than the
// scope allows falls asleep instead.
type scope struct {
	name     string
	replicas int
	// witnesses is how many of them, the last, vote and never are primary.
	witnesses int
	// configured is REPLICAS, if that is fewer: then all begin by counting all of them.
	configured int
	// step of time, in hundredths of a lease.
	step int
	// drift of each host's clock in parts per million, if it drifts.
	drift []int64
	// claims is how many candidacies there are in all.
	claims int
	// restarts is how many processes start again; their hosts crash, halt or leave at any time before,
	// and stay down for a step at least.
	restarts int
	// frozen is how many replicas may be frozen at a time, at any time, for as long as may be.
	frozen int
	// late is how many messages may be under way for longer than an instant.
	late int
	// asked is how many answers to questions may be under way; questions are asked at any time.
	asked int
	// handovers is how often a primary is asked to resign, or loses its bot.
	handovers int
	// leaves is how many replicas are asked to leave, patience for how long one goes on granting at most, in hundredths
	// of a lease.
	leaves, patience int
	// turn is for how long one that leaves waits for the next sign of a newcomer, in hundredths of a lease.
	turn int
	// deaths is how often, in all, a replica learns that the process of another has ended, at any time after it has.
	deaths int
	// sick is how often a replica's health changes.
	sick int
	// walls are what any wall clock may read at any time. All timestamps are small here: 0 is behind all.
	walls []int64
	// settled: it begins with a primary that all the others follow. Otherwise with hosts that are down
	// and start in any order, any time apart.
	settled bool
	// peace: LIVENESS and NO PREEMPTION are checked from every state too, see worker.peace.
	peace bool
	// limit on states: a scope that has more is not small, or a fault in the election made it endless.
	limit int
}

// scopeLease is such that everything the election derives from it, and every step, is exact.
const scopeLease = 400_000 * time.Nanosecond

const maxHosts = 5

// local is one host: the machine of its process, and its bot.
type local struct {
	host int
	// process is the one that runs or ran last, 0 if none did.
	process process
	up      bool
	// frozen: nothing is delivered to it and it does not notice that time passes.
	frozen bool
	// fresh: it went down in this very instant.
	fresh   bool
	machine string
	// bot runs until workUntil at most, under a lease until leaseEnd: what is left of both, on its clock.
	bot                 bool
	workUntil, leaseEnd time.Duration
}

// facts are what the guarantees ask about a host.
type facts struct {
	local
	role             Role
	own, held        Claim
	heldFor, joinsIn time.Duration
	told             bool // StopWork was given
	leaving          bool
	acts, holds      bool
	// mourns are the processes whose end it has learned of.
	mourns processes
	// counts are the processes whose grants count for own, and expects how many replicas it counts, if it has joined.
	counts  processes
	expects int
}

// processes are a set of them, as bits.
type processes uint32

func (p process) bit() processes { return 1 << p }

// account is what is counted and remembered beside the hosts and the network.
type account struct {
	claims, restarts, handovers, leaves, sick, deaths int
	// last is the claim of the last term.
	last Claim
	// grantedLast are the hosts whose process granted it, as bits; granted those that granted the
	// candidacy or the term that each host has.
	grantedLast uint8
	granted     [maxHosts]uint8
	// departed are the processes that have said that they have left.
	departed processes
}

// state is everything, by number.
type state struct {
	hosts   [maxHosts]uint32
	network uint32
	account uint32
}

// table numbers values.
type table[T comparable] struct {
	mu      sync.RWMutex
	numbers map[T]uint32
	values  []T
}

func (t *table[T]) number(v T) uint32 {
	t.mu.RLock()
	n, ok := t.numbers[v]
	t.mu.RUnlock()
	if ok {
		return n
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if n, ok := t.numbers[v]; ok {
		return n
	}
	if t.numbers == nil {
		t.numbers = map[T]uint32{}
	}
	n = uint32(len(t.values))
	t.numbers[v] = n
	t.values = append(t.values, v)
	return n
}

// all are the values so far, by number; the slice is only ever longer.
func (t *table[T]) all() []T {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.values
}

// view reads a table without a lock where it can.
type view[T comparable] struct {
	of   *table[T]
	seen []T
}

func (v *view[T]) at(n uint32) T {
	if int(n) >= len(v.seen) {
		v.seen = v.of.all()
	}
	return v.seen[n]
}

// system is what all workers on a scope share.
type system struct {
	scope
	codec    *codec
	step     time.Duration
	locals   table[facts]
	messages table[message]
	networks table[string]
	accounts table[account]
}

func newSystem(s scope) *system {
	if s.configured == 0 {
		s.configured = s.replicas
	}
	cfg := Config{Lease: scopeLease, Replicas: s.configured, LeaveWithin: scopeLease * time.Duration(s.patience) / 100,
		LeavePatience: scopeLease * time.Duration(s.turn) / 100}
	// Two more generations than the scope has, for peace.
	generations := s.restarts + s.leaves + 3
	if generations*s.replicas >= 32 {
		panic("more processes than bits")
	}
	codec := newCodec(cfg, s.replicas, generations, s.sick > 0, s.leaves > 0, s.restarts > 0)
	codec.witnesses = s.witnesses
	return &system{scope: s, step: scopeLease * time.Duration(s.step) / 100, codec: codec}
}

// passes is how much a host's clock goes on in a step.
func (s *system) passes(host int) time.Duration {
	return s.step + time.Duration(int64(s.step)*s.driftOf(host)/1_000_000)
}

func (s *system) driftOf(host int) int64 {
	if host < len(s.drift) {
		return s.drift[host]
	}
	return 0
}

// outcome is what became of one host in one step of its machine.
type outcome struct {
	host uint32
	sent []uint32
	// claims is how many candidacies began; granted and started are the claim it granted to another,
	// and its own that became a term with the support of these.
	claims           int
	granted, started Claim
	support          uint8
	departed         processes
	broken           string
	story            []string
}

// coverage counts what occurred.
type coverage map[string]int

// act is what happens next. The set is closed.
type act uint8

const (
	deliver act = iota
	pass
	crash
	start
	freeze
	wake
	botStops
	botDies
	resigns
	leaves
	healthFlips
	learns
	asks
)

// worker explores; each goroutine has its own.
type worker struct {
	*system
	local   view[facts]
	message view[message]
	network view[string]
	account view[account]
	memo    map[uint64][]outcome
	covered coverage
	steps   int // of the real machine
	ids     []uint32
}

func (s *system) worker() *worker {
	return &worker{
		system: s, local: view[facts]{of: &s.locals}, message: view[message]{of: &s.messages},
		network: view[string]{of: &s.networks}, account: view[account]{of: &s.accounts},
		memo: map[uint64][]outcome{}, covered: coverage{},
	}
}

// number numbers a host together with the facts about it.
func (w *worker) number(l local) uint32 {
	f := facts{local: l}
	if l.up {
		m := w.codec.decode(l.process, l.machine)
		f.role, f.own, f.held = m.role, m.own, m.promise.held
		f.heldFor = m.promise.until.Sub(origin)
		f.joinsIn = m.joinedAt.Sub(origin)
		f.told = m.role == Primary && m.stopping
		f.leaving = m.leave.begun
		for id := range m.dead {
			f.mourns |= w.codec.numbers[id].bit()
		}
		for id, until := range m.acks {
			if until > origin {
				f.counts |= w.codec.numbers[id].bit()
			}
		}
		if m.role != Joining {
			f.expects = m.expected()
		}
		f.acts, f.holds = l.bot && l.workUntil > 0, l.bot && l.leaseEnd > 0
	}
	return w.locals.number(f)
}

// happens tells what becomes of a host when something happens to it: one outcome, or several if it
// depends on what the wall clock reads. It is the same each time: machines are deterministic.
func (w *worker) happens(host uint32, a act, msg uint32) []outcome {
	key := uint64(host)<<32 | uint64(a)<<27 | uint64(msg)
	if out, ok := w.memo[key]; ok {
		return out
	}
	if msg >= 1<<27 {
		panic("more messages than there is room for")
	}
	out := w.consider(w.local.at(host), a, msg, w.covered, false)
	w.memo[key] = out
	return out
}

func (w *worker) consider(f facts, a act, msg uint32, covered coverage, story bool) []outcome {
	l, now := f.local, origin
	var m message
	var in Input = Tick{}
	switch a {
	case deliver:
		m = w.message.at(msg)
		in = w.codec.input(m, now)
	case pass:
		now = now.Add(w.passes(l.host))
		l.fresh = false
		l.workUntil, l.leaseEnd = max(0, l.workUntil-w.passes(l.host)), max(0, l.leaseEnd-w.passes(l.host))
		if !l.up {
			return []outcome{{host: w.number(l)}}
		}
		if l.frozen {
			l.machine = w.codec.encode(w.codec.decode(l.process, l.machine), now)
			return []outcome{{host: w.number(l)}}
		}
	case crash:
		return []outcome{{host: w.number(local{host: l.host, process: l.process, fresh: true})}}
	case start:
		if l.process == 0 {
			l.process = process(1 + l.host)
		} else {
			l.process += process(w.replicas)
		}
		l.up, l.fresh = true, false
		m := New(w.codec.config(l.process), Reading{Now: origin})
		if w.configured < w.replicas {
			m.size = w.replicas
		}
		l.machine = w.codec.encode(m, origin)
	case freeze:
		l.frozen = true
		return []outcome{{host: w.number(l)}}
	case wake:
		l.frozen = false
	case botStops, botDies:
		l.bot = false
		in = WorkStopped{}
	case resigns:
		in = Resign{Reason: ReasonSwitchover}
	case leaves:
		in = Leave{ReasonShutdown}
	case learns:
		in = w.codec.death(msg)
	case asks:
		s := w.codec.decode(l.process, l.machine).Status(origin)
		return []outcome{{sent: []uint32{w.messages.number(w.codec.statusAnswer(l.process, process(msg), s))}}}
	case healthFlips:
		ok := w.codec.decode(l.process, l.machine).health.OK
		in = HealthChanged{Health{OK: !ok}}
	}
	var outs []outcome
	for _, wall := range w.walls {
		o := w.run(l, now, in, m, wall, covered, story)
		outs = append(outs, o)
		if o.claims == 0 {
			break // it did not look at the wall clock
		}
	}
	return outs
}

// run has the real machine take one step and follows what it wants done.
func (w *worker) run(l local, now Instant, in Input, about message, wall int64, covered coverage, story bool) outcome {
	w.steps++
	m := w.codec.decode(l.process, l.machine)
	before := *m
	o := outcome{}
	breaks := func(format string, args ...any) {
		if o.broken == "" {
			o.broken = fmt.Sprintf(format, args...)
		}
	}
	tell := func(format string, args ...any) {
		if story {
			o.story = append(o.story, fmt.Sprintf(format, args...))
		}
	}
	workUntil, leaseEnd := now.Add(l.workUntil), now.Add(l.leaseEnd)
	leased := l.bot
	promised, until := m.promise.held, m.promise.until
	promises := func(c Claim) {
		switch {
		case promised == c, promised.IsZero(), until <= now:
		default:
			breaks("PROMISE: %s supports %s while its promise to %s stands", hostName(l.host), tag(c), tag(promised))
		}
		promised, until = c, now.Add(m.cfg.Lease)
	}
	switch in := in.(type) {
	case ProcessDied:
		if in.Replica == promised.Replica {
			promised = Claim{} // no host has that lease any more
		}
	case EndReceived:
		if in.Request.Claim == promised {
			promised = Claim{}
		}
	case LeaveReceived:
		if in.Request.Departed && in.Request.From.Replica == promised.Replica {
			promised = Claim{}
		}
	case LeaveAnswerReceived:
		if in.Answer.Dismissed && in.Answer.Claim == promised {
			promised = Claim{}
		}
	case ClaimReceived:
		if c := in.Request.Claim; c.Replica == promised.Replica && c.Timestamp > promised.Timestamp {
			promised = Claim{} // who claims again has withdrawn or released what it claimed before
		}
	}
	own, replies, leaveReplies := m.own, 0, 0
	var sent []message
	broadcast := func(msg message) {
		for h := range w.replicas {
			if h != l.host {
				msg.host = h
				sent = append(sent, msg)
			}
		}
	}
	for _, out := range m.Step(Reading{Now: now, Wall: wall}, in) {
		covered[strings.TrimPrefix(fmt.Sprintf("%T", out), "election.")]++
		switch out := out.(type) {
		case SendClaim:
			c := out.Request.Claim
			if c != own {
				own = c
				o.claims++
				tell("claims %s", tag(c))
				if m.cfg.Witness {
					breaks("WITNESS: %s claims %s", hostName(l.host), tag(c))
				}
			}
			promises(c)
			broadcast(w.codec.claimRequest(l.process, out.Request))
		case SendEnd:
			if l.bot {
				breaks("RELEASE: %s ends %s while its bot runs", hostName(l.host), tag(out.Request.Claim))
			}
			if out.Request.Claim == promised {
				promised = Claim{}
			}
			own = Claim{}
			if to := out.Request.Successor; to != "" && w.codec.isWitness(w.codec.numbers[to]) {
				breaks("WITNESS: %s hands over to %s", hostName(l.host), to)
			}
			tell("%s %s", map[bool]string{true: "releases", false: "withdraws"}[out.Request.Released], tag(out.Request.Claim))
			broadcast(w.codec.endRequest(l.process, out.Request))
		case Reply:
			replies++
			a := w.codec.claimAnswer(l.process, about, out.Answer)
			if a.granted {
				o.granted = a.claim
				promises(a.claim)
				covered["reply granted"]++
				if m.cfg.Witness {
					covered["reply granted by a witness"]++
				}
				tell("grants %s", tag(a.claim))
			} else {
				covered["reply refused, "+string(a.refusal)]++
				tell("refuses %s: %s", tag(a.claim), a.refusal)
			}
			sent = append(sent, a)
		case ExtendLease:
			workUntil, leaseEnd, leased = out.WorkUntil, out.LeaseEnd, true
			if out.WorkUntil >= out.LeaseEnd {
				breaks("LEASE: the bot of %s may run to the end of its lease", hostName(l.host))
			}
		case StartWork:
			if l.bot || !leased {
				breaks("LEASE: %s starts a bot that runs, or without a lease", hostName(l.host))
			}
			l.bot = true
			o.started = out.Change.Claim
			for id, until := range m.acks {
				if until > now {
					o.support |= 1 << w.codec.host(w.codec.numbers[id])
				}
			}
			tell("is primary with %s", tag(o.started))
		case StopWork:
			covered["stop bot, "+string(out.Reason)]++
			tell("tells its bot to stop: %s", out.Reason)
			switch {
			case out.Reason == ReasonLeaseLost && now >= workUntil:
			case out.Reason == ReasonUnhealthy && !m.health.OK:
			case out.Reason == ReasonShutdown && w.turn > 0 && in != (Leave{ReasonShutdown}):
				covered["waited in turn"]++
				if m.successor == "" && now < m.leave.patientUntil {
					breaks("IN TURN: %s, which leaves, stops its bot, and no replica stays to take over", hostName(l.host))
				}
			case out.Reason == ReasonShutdown && w.turn > 0:
				breaks("IN TURN: %s stops its bot as soon as it is asked to leave", hostName(l.host))
			case out.Reason == ReasonSwitchover, out.Reason == ReasonShutdown:
			default:
				breaks("NO PREEMPTION: the bot of %s is stopped for %q, and nothing was wrong", hostName(l.host), out.Reason)
			}
		case Halt:
			tell("halts")
			l = local{host: l.host, process: l.process, fresh: true}
		case SendLeave:
			if out.Request.Departed {
				o.departed = l.process.bit()
				covered["departed"]++
				tell("says that it has left")
			}
			broadcast(w.codec.leaveRequest(l.process, out.Request))
		case LeaveReply:
			leaveReplies++
			a := w.codec.leaveAnswer(l.process, about, out.Answer)
			if a.dismissed {
				covered["dismissed"]++
				tell("needs %s no more for %s", w.codec.ids[a.to], tag(a.claim))
				if a.claim != own || m.acks[w.codec.ids[a.to]] > now {
					breaks("DISMISSAL: %s counts the grant of %s though it said that it does not", hostName(l.host), w.codec.ids[a.to])
				}
			}
			if !out.Answer.Claim.IsZero() { // otherwise it is a status, and no more
				sent = append(sent, a)
			}
		case Left:
			if o.departed == 0 {
				covered["left without a word"]++
			}
			tell("has left")
			l = local{host: l.host, process: l.process, fresh: true}
		case ElectionEnded:
			covered["election "+string(out.Result)]++
		case SizeChanged:
			covered["counted out"]++
			if w.configured == w.replicas || out.Expected >= max(before.size, w.configured) {
				breaks("SIZE: %s counts %d replicas of %d", hostName(l.host), out.Expected, w.replicas)
			}
		}
	}
	if _, asked := in.(ClaimReceived); asked != (replies == 1) || replies > 1 {
		breaks("REPLY: %s gave %d replies to %T", hostName(l.host), replies, in)
	}
	if _, asked := in.(LeaveReceived); asked != (leaveReplies == 1) || leaveReplies > 1 {
		breaks("REPLY: %s gave %d replies to %T", hostName(l.host), leaveReplies, in)
	}
	if next := m.Next(); l.up && next <= now {
		breaks("TICK: %s asks for a tick that was due already", hostName(l.host))
	}
	if m.size != 0 && w.configured == w.replicas || !m.rival.IsZero() || m.halted && l.up {
		breaks("LEFT OUT: what the enumeration leaves out has changed")
	}
	if l.up && l.bot && m.role != Primary {
		breaks("ROLE: the bot of %s runs and it is %s", hostName(l.host), m.role)
	}
	covered["role "+string(m.role)]++
	if m.role != before.role {
		tell("%s, was %s", m.role, before.role)
	}
	if l.up {
		l.machine = w.codec.encode(m, now)
		l.workUntil, l.leaseEnd = 0, 0
		if l.bot {
			l.workUntil, l.leaseEnd = max(0, workUntil.Sub(now)), max(0, leaseEnd.Sub(now))
		}
	}
	o.host = w.number(l)
	for _, msg := range sent {
		o.sent = append(o.sent, w.messages.number(msg))
	}
	return o
}

// tag names a claim in a story.
func tag(c Claim) string {
	if c.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%d/%s", c.Timestamp, c.Replica)
}

// --- the network --------------------------------------------------------------------------------

// under are the messages under way, by number, in order.
func (w *worker) under(network uint32) []uint32 {
	text := w.network.at(network)
	ids := make([]uint32, 0, len(text)/4+8)
	for i := 0; i < len(text); i += 4 {
		ids = append(ids, binary.BigEndian.Uint32([]byte(text[i:])))
	}
	return ids
}

// carrying is the network with these messages under way.
func (w *worker) carrying(ids []uint32) uint32 {
	slices.Sort(ids)
	ids = slices.Compact(ids)
	text := make([]byte, 0, 128)
	for _, id := range ids {
		text = binary.BigEndian.AppendUint32(text, id)
	}
	return w.networks.number(string(text))
}

// older is a message after a step of time.
func (w *worker) older(id uint32) uint32 {
	m := w.message.at(id)
	asker := m.from
	switch m.kind {
	case endRequest, leaveRequest:
		return id
	case claimAnswer, statusAnswer, leaveAnswer:
		asker = m.to
	}
	m.age = min(m.age+w.passes(w.codec.host(asker)), w.codec.ageOfRequest())
	return w.messages.number(m)
}

// losing calls keep with every choice of at most so many of the messages.
func losing(ids []uint32, most int, keep func(kept []uint32)) {
	keep(nil)
	if most == 0 {
		return
	}
	for i, id := range ids {
		losing(ids[i+1:], most-1, func(rest []uint32) {
			keep(append(append(make([]uint32, 0, len(rest)+9), id), rest...))
		})
	}
}

// --- what happens next --------------------------------------------------------------------------

// next is one thing that can happen in a state, and what it leads to.
type next struct {
	state
	act  act
	host int
	msg  uint32
	// marks are what happened, for coverage along a path.
	marks  marks
	broken string
}

// marks are events of which a path should have had several.
type marks uint8

const (
	firstTerm marks = 1 << iota
	secondTerm
	granterDied
	granterBack
	cameLate

	allMarks = cameLate<<1 - 1
)

// expand calls yield with everything that can happen in a state.
func (w *worker) expand(s state, yield func(next)) {
	hosts := make([]facts, w.replicas)
	acc := w.account.at(s.account)
	frozen, down := 0, 0
	for h := range hosts {
		hosts[h] = w.local.at(s.hosts[h])
		if hosts[h].frozen {
			frozen++
		}
		if !hosts[h].up && hosts[h].process != 0 {
			down++
		}
	}
	network := w.under(s.network)

	// One host takes a step.
	one := func(a act, h int, msg uint32, acc account) {
		for _, o := range w.happens(s.hosts[h], a, msg) {
			if o.claims > acc.claims {
				continue // beyond the scope: it does not happen
			}
			n := next{act: a, host: h, msg: msg}
			n.state = s
			n.hosts[h] = o.host
			after := acc
			w.settle(&n, hosts, &after, h, o)
			n.account = w.accounts.number(after)
			n.network = w.after(s.network, network, hosts[h], w.local.at(o.host), o.sent)
			yield(n)
		}
	}
	answers := 0
	for _, id := range network {
		m := w.message.at(id)
		if m.kind == statusAnswer {
			answers++
		}
		to := &hosts[m.host]
		if to.up && !to.frozen && (m.to == 0 || m.to == to.process) {
			one(deliver, m.host, id, acc)
		}
	}
	for h := range hosts {
		f := &hosts[h]
		switch {
		case !f.up && f.process == 0:
			one(start, h, 0, acc)
		case !f.up && !f.fresh && acc.restarts > 0:
			after := acc
			after.restarts--
			one(start, h, 0, after)
		case f.frozen:
			one(wake, h, 0, acc)
		}
		if !f.up {
			continue
		}
		if acc.restarts > down {
			one(crash, h, 0, acc)
		}
		if f.frozen {
			continue
		}
		if frozen < w.frozen {
			one(freeze, h, 0, acc)
		}
		if f.bot && f.told {
			one(botStops, h, 0, acc)
		}
		if f.bot && !f.told && acc.handovers > 0 {
			after := acc
			after.handovers--
			one(botDies, h, 0, after)
			one(resigns, h, 0, after)
		}
		if acc.leaves > 0 && !f.leaving {
			after := acc
			after.leaves--
			one(leaves, h, 0, after)
		}
		if acc.sick > 0 {
			after := acc
			after.sick--
			one(healthFlips, h, 0, after)
		}
		for dead := range w.ended(hosts, h) {
			if acc.deaths == 0 || f.mourns&dead.bit() != 0 {
				continue
			}
			after := acc
			after.deaths--
			one(learns, h, uint32(dead)<<1, after)
			one(learns, h, uint32(dead)<<1|1, after)
		}
		if answers < w.asked {
			w.ask(s, hosts, network, h, yield)
		}
	}
	w.pass(s, hosts, acc, network, yield)
}

// ended are the processes on other hosts that have ended. What a replica learns of the death of a process that ended before it
// started is more than it can: whatever is found may still happen to another that started earlier.
func (w *worker) ended(hosts []facts, h int) iter.Seq[process] {
	return func(yield func(process) bool) {
		for i, f := range hosts {
			if i == h || f.process == 0 {
				continue
			}
			last := f.process
			if f.up {
				last -= process(w.replicas)
			}
			for p := process(1 + i); p <= last && last < process(len(w.codec.ids)); p += process(w.replicas) {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// ask has a host ask each other one, which answers at once; the answer is under way.
func (w *worker) ask(s state, hosts []facts, network []uint32, h int, yield func(next)) {
	for i, f := range hosts {
		if i == h || !f.up || f.frozen {
			continue
		}
		id := w.happens(s.hosts[i], asks, uint32(hosts[h].process))[0].sent[0]
		n := next{act: asks, host: h, msg: id, state: s}
		n.network = w.carrying(append(slices.Clone(network), id))
		yield(n)
	}
}

// after is the network after a host has taken a step. No replica waits for answers to a process that ended.
func (w *worker) after(was uint32, network []uint32, before, after facts, sent []uint32) uint32 {
	ended := before.up && !after.up
	if len(sent) == 0 && !ended {
		return was
	}
	w.ids = append(append(w.ids[:0], network...), sent...)
	if ended {
		w.ids = slices.DeleteFunc(w.ids, func(id uint32) bool { return w.message.at(id).to == before.process })
	}
	return w.carrying(w.ids)
}

// pass lets a step of time pass: every machine that is awake gets a tick, and the network forgets.
func (w *worker) pass(s state, hosts []facts, acc account, network []uint32, yield func(next)) {
	aged := make([]uint32, 0, len(network))
	for _, id := range network {
		aged = append(aged, w.older(id))
	}
	need := 0
	for h := range hosts {
		need += w.happens(s.hosts[h], pass, 0)[0].claims
	}
	scarce := need > acc.claims
	var hostsPass func(h int, n next, acc account, sent []uint32)
	hostsPass = func(h int, n next, acc account, sent []uint32) {
		if h == w.replicas {
			n.account = w.accounts.number(acc)
			losing(aged, w.late, func(kept []uint32) {
				n.network = w.carrying(append(kept, sent...))
				yield(n)
			})
			return
		}
		for _, o := range w.happens(s.hosts[h], pass, 0) {
			if o.claims > 0 && scarce {
				// Some must do without a claim: they sleep.
				asleep := n
				asleep.hosts[h] = w.happens(w.happens(s.hosts[h], freeze, 0)[0].host, pass, 0)[0].host
				hostsPass(h+1, asleep, acc, sent)
			}
			if o.claims > acc.claims {
				continue
			}
			n, acc := n, acc
			n.hosts[h] = o.host
			w.settle(&n, hosts, &acc, h, o)
			hostsPass(h+1, n, acc, append(slices.Clone(sent), o.sent...))
		}
	}
	hostsPass(0, next{act: pass, state: s}, acc, nil)
}

// settle brings the account up to date with what became of a host.
func (w *worker) settle(n *next, hosts []facts, acc *account, h int, o outcome) {
	before, after := &hosts[h], w.local.at(o.host)
	bit := uint8(1) << h
	acc.claims -= o.claims
	if before.own != after.own || before.process != after.process || before.up != after.up {
		for i := range acc.granted {
			acc.granted[i] &^= bit
		}
		if !after.own.IsZero() {
			acc.granted[h] |= bit
		}
	}
	if before.up && !after.up {
		if acc.grantedLast&bit != 0 {
			n.marks |= granterDied
		}
		acc.granted[h], acc.grantedLast = 0, acc.grantedLast&^bit
	}
	if !before.up && after.up && before.process != 0 {
		n.marks |= granterBack
	}
	if n.act == deliver && w.message.at(n.msg).age > 0 && (before.machine != after.machine || len(o.sent) > 0) {
		n.marks |= cameLate
	}
	if !o.granted.IsZero() {
		if p := w.codec.host(w.codec.numbers[o.granted.Replica]); p != h && hosts[p].own == o.granted {
			acc.granted[h] |= 1 << p
		}
		if o.granted == acc.last {
			acc.grantedLast |= bit
		}
	}
	acc.departed |= o.departed
	if n.broken == "" {
		n.broken = o.broken
	}
	if o.started.IsZero() {
		return
	}
	n.marks |= firstTerm
	if !acc.last.IsZero() {
		n.marks |= secondTerm
		if o.started.Timestamp <= acc.last.Timestamp && n.broken == "" {
			switch {
			case o.support&acc.grantedLast != 0:
				n.broken = fmt.Sprintf("ORDER: the term %s follows %s, and one of those that support it granted both", tag(o.started), tag(acc.last))
			case acc.restarts == w.restarts:
				n.broken = fmt.Sprintf("ORDER: the term %s follows %s, and no replica has restarted", tag(o.started), tag(acc.last))
			}
		}
	}
	acc.last, acc.grantedLast = o.started, 0
	for i := range acc.granted {
		if acc.granted[i]&bit != 0 {
			acc.grantedLast |= 1 << i
		}
	}
}

// check returns the guarantee that a state breaks, if any.
func (w *worker) check(s state) string {
	acting, holding := -1, -1
	departed := w.account.at(s.account).departed
	for h := range w.replicas {
		f := w.local.at(s.hosts[h])
		if gone := f.counts & departed; gone != 0 {
			return fmt.Sprintf("DEPARTED: %s counts grants of processes %b, which have said that they have left", hostName(h), gone)
		}
		if f.expects != 0 && f.expects < w.replicas-w.gone(s, departed) {
			return fmt.Sprintf("NUMBER: %s counts %d replicas, and %d of %d have left", hostName(h), f.expects, w.gone(s, departed), w.replicas)
		}
		if f.acts {
			if acting >= 0 {
				return fmt.Sprintf("SAFETY: both %s and %s act as primary", hostName(acting), hostName(h))
			}
			acting = h
		}
		if f.holds {
			if holding >= 0 {
				return fmt.Sprintf("SAFETY: both %s and %s hold a lease", hostName(holding), hostName(h))
			}
			holding = h
			if n := w.backing(s, f); n <= f.expects/2 {
				return fmt.Sprintf("BACKED: only %d of %d bear the lease of %s to its end", n, f.expects, hostName(h))
			}
		}
	}
	return ""
}

// gone is how many hosts have departed and not come back.
func (w *worker) gone(s state, departed processes) int {
	n := 0
	for h := range w.replicas {
		if f := w.local.at(s.hosts[h]); !f.up && departed&f.process.bit() != 0 {
			n++
		}
	}
	return n
}

// backing is how many hosts stand by a lease to its end: they have promised it for as long, or have
// started again and are silent for as long, or will be when they do. SAFETY follows from it being a
// majority always: no other can have one meanwhile.
func (w *worker) backing(s state, p facts) int {
	n := 0
	for h := range w.replicas {
		f := w.local.at(s.hosts[h])
		outlasts := func(d time.Duration) bool {
			return int64(d)*(1_000_000+w.driftOf(p.host)) >= int64(p.leaseEnd)*(1_000_000+w.driftOf(h))
		}
		gone := w.account.at(s.account).departed&f.process.bit() != 0
		if !f.up && f.process != 0 && !gone || f.up && (f.held == p.own && outlasts(f.heldFor) || outlasts(f.joinsIn)) {
			n++
		}
	}
	return n
}

// --- peace --------------------------------------------------------------------------------------

// peaceWithin is how long after the last fault there is a primary at the latest: a restarted replica's
// silence, a lease promised to a candidate that gave up, and a step for each to be noticed.
func (s *system) peaceWithin() time.Duration {
	return s.codec.cfg.JoinSilence() + s.codec.cfg.Lease + 3*s.step
}

// peace lets all faults end: a frozen process wakes, one that is down or about to leave starts again, every
// message arrives once and at once, bots stop when asked to. It returns the state in which a primary is
// followed by all the others and has been primary for two leases, or what is broken: no replica becomes primary
// in time, messages never cease, or the primary changes more than twice (one may be on its way out when peace
// begins) or after peaceWithin.
func (w *worker) peace(s state, told func(string)) (state, string) {
	primary, changes := -1, 0
	var since time.Duration
	for at := time.Duration(0); ; at += w.step {
		queue := w.under(s.network)
		step := func(h int, a act, msg uint32) {
			o := w.happens(s.hosts[h], a, msg)[0]
			if told != nil {
				to := s
				to.hosts[h] = o.host
				told(fmt.Sprintf("in peace at %v: %s\n       %s", at, w.tell(s, next{state: to, act: a, host: h, msg: msg}), w.roles(to)))
			}
			s.hosts[h] = o.host
			queue = append(queue, o.sent...)
		}
		for h := range w.replicas {
			f := w.local.at(s.hosts[h])
			switch {
			case !f.up && !f.fresh:
				step(h, start, 0)
			case f.leaving:
				step(h, crash, 0)
			case f.frozen:
				step(h, wake, 0)
			}
		}
		for n := 0; len(queue) > 0; n++ {
			id := queue[0]
			queue = queue[1:]
			m := w.message.at(id)
			if f := w.local.at(s.hosts[m.host]); f.up && (m.to == 0 || m.to == f.process) {
				step(m.host, deliver, id)
			}
			if f := w.local.at(s.hosts[m.host]); f.bot && f.told {
				step(m.host, botStops, 0)
			}
			if n > 1000 {
				return s, "STORM: in peace messages never cease"
			}
		}
		acting, standbys := -1, 0
		for h := range w.replicas {
			f := w.local.at(s.hosts[h])
			switch {
			case f.bot && f.told:
				step(h, botStops, 0)
			case f.acts:
				acting = h
			case f.role == Standby:
				standbys++
			}
		}
		if acting != primary && acting >= 0 {
			primary, since = acting, at
			changes++
		}
		switch {
		case primary < 0 && at > w.peaceWithin():
			return s, fmt.Sprintf("LIVENESS: %v after the last fault there is no primary", at)
		case primary >= 0 && acting != primary && at > w.peaceWithin(), changes > 2:
			return s, fmt.Sprintf("NO PREEMPTION: in peace %s was displaced", hostName(primary))
		case primary >= 0 && at-since > 2*w.codec.cfg.Lease && standbys == w.replicas-1:
			s.network = w.carrying(nil)
			return s, ""
		case at > 3*w.peaceWithin():
			return s, fmt.Sprintf("LIVENESS: %v after the last fault not all follow %s", at, hostName(primary))
		}
		for h := range w.replicas {
			step(h, pass, 0)
		}
		s.network = w.carrying(queue)
	}
}

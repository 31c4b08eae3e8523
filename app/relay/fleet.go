package relay

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// State is what is known of one address of a backend.
type State string

// The states. The set is closed: they are values of a metric's label.
const (
	// Up: it takes connections, and has not done worse since.
	Up State = "up"
	// Down: it refuses or breaks connections. No update is sent there until it takes one again.
	Down State = "down"
	// Failing: it takes connections, but answers with errors only, or not in time. It is sent one update at times.
	Failing State = "failing"
)

// States lists all states.
func States() []State { return []State{Up, Down, Failing} }

// Bounds and times of the fleet.
const (
	// maxMembers bounds how many addresses are used, of all backends together.
	maxMembers = 64
	// lingers is how long an address is used that its name resolves to no more: an answer may be partial.
	lingers = 5 * time.Second
	// errorsInARow, of two queues at least, make a member Failing. A single update may be what is wrong.
	errorsInARow = 5
	// trialFirst and trialLast are the waits before an update is sent to a Failing member again: they double.
	trialFirst = 5 * time.Second
	trialLast  = time.Minute
	// probeUp is how long a member that is not Down may show nothing of itself before it is probed.
	probeUp = 5 * time.Second
	// probeDownFirst and probeDownLast are the waits between probes of a member that is Down: they double.
	probeDownFirst = 100 * time.Millisecond
	probeDownLast  = 2 * time.Second
	// penaltyFirst and penaltyLast bound how long a member stays Down that takes connections, but breaks them each
	// time: a proxy in front of a dead backend does so.
	penaltyFirst = 250 * time.Millisecond
	penaltyLast  = 10 * time.Second
	// connectSlack and connectFactor bound, by how long connecting took last, the wait for a connection while there is
	// another member to turn to.
	connectSlack  = 75 * time.Millisecond
	connectFactor = 8
	// stickyFor is how long a queue's next update goes to where its last was handled: a conversation may be in its
	// memory there.
	stickyFor = 10 * time.Minute
	// maxSticky bounds how many queues that is known of.
	maxSticky = 10_000
)

// member is one address of one backend.
type member struct {
	backend int // its index
	addr    netip.AddrPort
}

// memberState is what is known of a member.
type memberState struct {
	state      State
	since      time.Time
	proven     bool // it has taken a connection
	detail     string
	seen       time.Time     // when its name last resolved to it
	connect    time.Duration // the last time it took to connect
	lastAnswer time.Time     // any
	lastWell   time.Time     // 2xx
	inFlight   int
	trials     int       // in a row since it is Failing
	trialAt    time.Time // Failing: when an update may be sent again
	errors     int       // in a row, answers and time-outs
	errorQueue int64     // of the first of these
	manyQueues bool      // they are of more than one
	broken     int       // connections in a row, without an answer between
	probeAt    time.Time
	probes     int       // that failed in a row
	probing    bool      // one is under way
	suspect    bool      // something speaks against it: a probe is due at once
	heldDown   time.Time // Down: until then it stays so
}

// fleet is all members and where queues stick. It is pure.
type fleet struct {
	keys    []string // of the backends, by index: what the choice goes by
	members map[member]*memberState
	sticky  map[int64]stick
	// lastWell is when any update was handled well.
	lastWell time.Time
}

type stick struct {
	to member
	at time.Time
}

func newFleet(backends []Backend) *fleet {
	f := &fleet{members: map[member]*memberState{}, sticky: map[int64]stick{}}
	for _, b := range backends {
		f.keys = append(f.keys, b.url.String())
	}
	return f
}

// change is what an input has changed that a caller may wait for.
type change struct {
	// came: a member is Up that was not, or was not there.
	came bool
	// recovered: a member that was Failing has handled an update.
	recovered bool
	// turned is the member whose state has changed; moved tells whether one has.
	turned member
	moved  bool
}

// resolved takes in the addresses of a backend.
func (f *fleet) resolved(now time.Time, backend int, addrs []netip.AddrPort) change {
	var c change
	for _, addr := range addrs {
		m := member{backend, addr}
		s := f.members[m]
		if s == nil {
			if len(f.members) >= maxMembers {
				continue
			}
			s = &memberState{state: Up, since: now, probeAt: now, detail: "not used yet"}
			f.members[m] = s
			c.came = true
		}
		s.seen = now
	}
	maps.DeleteFunc(f.members, func(m member, s *memberState) bool {
		return m.backend == backend && now.Sub(s.seen) > lingers
	})
	return c
}

// rank is the higher the better for a queue and a member: rendezvous hashing. Every replica ranks alike, and without
// a member only that member's queues move.
func (f *fleet) rank(queue int64, m member) uint64 {
	addr := m.addr.String()
	b := make([]byte, 8, 8+len(f.keys[m.backend])+len(addr))
	binary.BigEndian.PutUint64(b, uint64(queue)) //nolint:gosec // only its bits count
	sum := sha256.Sum256(append(append(b, f.keys[m.backend]...), addr...))
	return binary.BigEndian.Uint64(sum[:])
}

// choice is where an attempt goes.
type choice struct {
	to member
	// bound is how long the connection may take; 0 for as long as there is.
	bound time.Duration
}

// choose returns where a queue's update is sent now. Without a choice, until is when one that rests can be asked; zero
// if that has to be waited for a change.
func (f *fleet) choose(now time.Time, queue int64, a *attempts) (c choice, until time.Time, ok bool) {
	var order []member
	for m, s := range f.members {
		if s.state == Down {
			continue
		}
		if rest := a.resting[m]; rest.After(now) {
			if until.IsZero() || rest.Before(until) {
				until = rest
			}
			continue
		}
		order = append(order, m)
	}
	if len(order) == 0 {
		return choice{}, until, false
	}
	ranks := make(map[member]uint64, len(order))
	for _, m := range order {
		ranks[m] = f.rank(queue, m)
	}
	stuck, sticks := f.sticky[queue]
	if sticks = sticks && now.Sub(stuck.at) < stickyFor; sticks && ranks[stuck.to] != 0 {
		ranks[stuck.to] = ^uint64(0)
	}
	slices.SortFunc(order, func(x, y member) int {
		return cmp.Or(cmp.Compare(f.grade(now, x, a), f.grade(now, y, a)), cmp.Compare(ranks[y], ranks[x]))
	})
	c.to = order[0]
	if len(order) > 1 && f.grade(now, order[1], a) == gradeGood {
		c.bound = connectSlack + connectFactor*f.members[c.to].connect
	}
	if s := f.members[c.to]; s.state == Failing {
		s.trials++
		s.trialAt = now.Add(min(trialFirst<<min(s.trials, 10), trialLast))
	}
	return c, time.Time{}, true
}

// Grades of members for an attempt add up: the lowest is the best.
const (
	gradeGood    = 0
	gradeAvoided = 1
	gradeFailing = 2
)

// grade is how fit a member is for an attempt. One that fails is as good as others when a trial is due: that is how
// it is found to be well again. An update that was answered with an error is no trial.
func (f *fleet) grade(now time.Time, m member, a *attempts) int {
	grade := gradeGood
	if a.avoid[m] {
		grade += gradeAvoided
	}
	if s := f.members[m]; s.state == Failing && (now.Before(s.trialAt) || a.failures > 0) {
		grade += gradeFailing
	}
	return grade
}

// began takes in that an attempt is made.
func (f *fleet) began(m member) {
	if s := f.members[m]; s != nil {
		s.inFlight++
	}
}

// result is how an attempt ended.
type result int

const (
	// answeredWell: 2xx.
	answeredWell result = iota
	// answeredError: any other answer.
	answeredError
	// timedOut: no whole answer in time.
	timedOut
	// brokenOff: a new connection broke after the update may have left.
	brokenOff
	// stale: a connection that was used before broke, after the update may have left. A backend that has died does so,
	// and one that has closed an idle connection just then.
	stale
	// unreachable: there was no connection, so nothing left.
	unreachable
	// tooSlow: the connection took too long while there was another member; nothing left.
	tooSlow
	// aborted: the term has ended. Nothing is known.
	aborted
)

// ended takes in, at now, how an attempt ended that began at began; detail says it for people.
func (f *fleet) ended(now, began time.Time, m member, queue int64, r result, detail string) change {
	if r == answeredWell {
		f.lastWell = now
		f.stick(now, queue, m)
	}
	s := f.members[m]
	if s == nil {
		return change{}
	}
	s.inFlight = max(s.inFlight-1, 0) // it may have been forgotten meanwhile
	switch r {
	case answeredWell:
		was := s.state
		s.lastAnswer, s.lastWell, s.proven = now, now, true
		s.errors, s.broken, s.trials, s.probes = 0, 0, 0, 0
		c := f.turn(now, m, Up, "")
		c.recovered = was == Failing
		return c
	case answeredError:
		s.lastAnswer, s.proven, s.broken = now, true, 0
		f.countError(s, queue)
		if s.errors >= errorsInARow && s.manyQueues {
			return f.turn(now, m, Failing, detail)
		}
	case timedOut:
		s.broken = 0
		f.countError(s, queue)
		if s.lastWell.Before(began) { // others were not answered either
			return f.turn(now, m, Failing, detail)
		}
	case brokenOff, unreachable:
		if s.state == Down {
			return change{} // all that were in flight break at once
		}
		if s.broken++; s.broken > 1 {
			s.heldDown = now.Add(min(penaltyFirst<<min(s.broken-2, 10), penaltyLast))
		}
		s.probeAt, s.probes = now, 0
		return f.turn(now, m, Down, detail)
	case stale, tooSlow:
		s.suspect = true
	case aborted:
	}
	return change{}
}

// refusedAlone tells whether a member that takes connections has refused updates of this queue, and of no other since it took one last.
func (f *fleet) refusedAlone(queue int64) bool {
	for _, s := range f.members {
		if s.state != Down && s.errors > 0 && !s.manyQueues && s.errorQueue == queue {
			return true
		}
	}
	return false
}

// countError takes in one more answer that is none, or an error.
func (f *fleet) countError(s *memberState, queue int64) {
	if s.errors++; s.errors == 1 {
		s.errorQueue, s.manyQueues = queue, false
	} else if queue != s.errorQueue {
		s.manyQueues = true
	}
}

// turn changes a member's state.
func (f *fleet) turn(now time.Time, m member, to State, detail string) change {
	s := f.members[m]
	s.detail = detail
	if s.state == to {
		return change{}
	}
	s.state, s.since = to, now
	if to == Failing {
		s.trialAt = now.Add(trialFirst)
	}
	return change{came: to == Up, turned: m, moved: true}
}

// stick remembers where a queue's update was handled.
func (f *fleet) stick(now time.Time, queue int64, m member) {
	if queue == 0 {
		return
	}
	if _, known := f.sticky[queue]; !known && len(f.sticky) >= maxSticky {
		maps.DeleteFunc(f.sticky, func(_ int64, s stick) bool { return now.Sub(s.at) >= stickyFor })
		if len(f.sticky) >= maxSticky {
			clear(f.sticky) // the ranks say where to go
		}
	}
	f.sticky[queue] = stick{m, now}
}

// dueProbes are the members to probe now, which counts as begun, and when to look again.
func (f *fleet) dueProbes(now time.Time) (due []member, next time.Time) {
	next = now.Add(probeUp)
	for m, s := range f.members {
		if s.probing {
			continue
		}
		at := s.probeAt
		if shown := s.lastAnswer.Add(probeUp); s.state != Down && !s.lastAnswer.IsZero() && shown.After(at) {
			at = shown // an answer is as good
		}
		switch {
		case s.suspect, !at.After(now):
			s.probing, s.suspect = true, false
			due = append(due, m)
		case at.Before(next):
			next = at
		}
	}
	return due, next
}

// probed takes in, at now, whether a member took a connection, and how long that took.
func (f *fleet) probed(now time.Time, m member, took time.Duration, failure string) change {
	s := f.members[m]
	if s == nil {
		return change{}
	}
	s.probing = false
	if failure != "" {
		s.probeAt = now.Add(min(probeDownFirst<<min(s.probes, 10), probeDownLast))
		s.probes++
		return f.turn(now, m, Down, failure)
	}
	s.connect, s.probes, s.proven = took, 0, true
	s.probeAt = now.Add(probeUp)
	if s.state != Down {
		return change{}
	}
	if now.Before(s.heldDown) {
		s.probeAt = s.heldDown
		return change{}
	}
	return f.turn(now, m, Up, "")
}

// connected takes in how long a connection took.
func (f *fleet) connected(m member, took time.Duration) {
	if s := f.members[m]; s != nil {
		s.connect = took
	}
}

// ready tells whether a member takes connections, as was seen, and whether one of these is Up.
func (f *fleet) ready() (reachable, ready bool) {
	for _, s := range f.members {
		if s.proven && s.state != Down {
			reachable = true
			ready = ready || s.state == Up
		}
	}
	return reachable, ready
}

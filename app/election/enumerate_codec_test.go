package election

import (
	"encoding/binary"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"
)

// The enumeration needs machines as values: two machines that can never again behave differently must
// be one. So a machine is written down as what still makes a difference, and read back from that. What
// is left out, and why that changes nothing, is said once for every field, in kept and in leftOut; that
// no field is forgotten is a test (TestEnumerationKnowsEveryField), and so is that nothing left out is
// missed (TestEnumerationForgetsNothingThatMatters).

// process numbers the processes of a scope: 1 + host for the first on each host, and so on for those
// after a restart. 0 is none.
type process uint8

// codec writes machines down and reads them back.
type codec struct {
	cfg    Config
	hosts  int
	health bool // health may change
	leaves bool // replicas may leave
	// restarts: a host may have a second process.
	restarts bool
	// witnesses is how many of the last hosts run one.
	witnesses int
	ids       []ReplicaID
	numbers   map[ReplicaID]process
}

func newCodec(cfg Config, hosts, generations int, health, leaves, restarts bool) *codec {
	c := &codec{cfg: cfg, hosts: hosts, health: health, leaves: leaves, restarts: restarts, ids: []ReplicaID{""}, numbers: map[ReplicaID]process{"": 0}}
	for g := range generations {
		for h := range hosts {
			// A later process has a lower id, and so wins ties: no help comes from the order.
			id := ReplicaID(fmt.Sprintf("%d%c", generations-g, 'a'+h))
			c.numbers[id] = process(len(c.ids))
			c.ids = append(c.ids, id)
		}
	}
	return c
}

func (c *codec) host(p process) int { return (int(p) - 1) % c.hosts }

func (c *codec) config(p process) Config {
	cfg := c.cfg
	cfg.Self, cfg.Name, cfg.Witness = c.ids[p], hostName(c.host(p)), c.isWitness(p)
	return cfg
}

func (c *codec) isWitness(p process) bool { return c.host(p) >= c.hosts-c.witnesses }

// healthOf is a process's health, if it is as said: that of a witness never changes.
func (c *codec) healthOf(p process, ok bool) Health {
	if c.isWitness(p) {
		return WitnessHealth()
	}
	return Health{OK: ok}
}

func hostName(host int) string { return fmt.Sprintf("r%d", host) }

// origin is what every local clock reads in a machine that was just read back.
const origin = Instant(time.Hour)

// encode writes down what makes a difference, at a reading of the local clock.
func (c *codec) encode(m *Machine, now Instant) string {
	w := coder{codec: c, now: now}
	w.machine(m)
	return string(w.b)
}

// decode reads a machine back, with a clock that reads origin.
func (c *codec) decode(p process, text string) *Machine {
	m := New(c.config(p), Reading{Now: origin})
	m.last.sign = origin
	r := coder{codec: c, now: origin, b: []byte(text), reading: true}
	r.machine(m)
	return m
}

// Up to what ages are distinguished. Nothing asks by how much a request, or a claim, is older than a lease,
// but one thing asks which of the two is older (a primary that meets a lower one). An answer that old
// counts as older than the claim. It makes no difference: it would have to come from a replica that was
// primary with a lower claim after this one had become primary, and SAFETY is checked in every state.
func (c *codec) ageOfRequest() time.Duration { return c.cfg.Lease + 2 }
func (c *codec) ageOfClaim() time.Duration   { return c.cfg.Lease + 1 }

// coder goes through a machine once, in one order, and either writes or reads each field.
type coder struct {
	*codec
	now     Instant
	b       []byte
	reading bool
}

func (c *coder) machine(m *Machine) {
	role := int64(slices.Index(Roles(), m.role))
	c.number(&role)
	m.role = Roles()[role]
	c.ahead(&m.joinedAt)
	if c.leaves {
		c.leaving(m)
	}
	if c.health {
		c.flag(&m.health.OK)
		c.flag(&m.nominated)
		if m.role == Looking {
			c.ago(&m.lookingSince, m.cfg.Lease/2)
		}
	}

	c.claim(&m.promise.held)
	c.ahead(&m.promise.until)
	c.claim(&m.promise.base)
	each(c, &m.promise.ended, func(ts *int64) { c.number(ts) })
	each(c, &m.dead, func(*Instant) {})
	c.ahead(&m.last.until)
	if m.last.until > c.now {
		c.claim(&m.last.claim)
		c.flag(&m.last.over)
	}
	c.ahead(&m.claimAt)
	if c.leaves {
		holds := m.holdFor != "" && m.holdUntil > c.now
		c.flag(&holds)
		if holds {
			c.replica(&m.holdFor)
			c.ahead(&m.holdUntil)
		}
	} else {
		c.ahead(&m.holdUntil)
		if c.reading && m.holdUntil > c.now {
			m.holdFor = noSuccessor
		}
	}
	c.number(&m.floorSeen)
	lastOwn := m.lastOwn
	if lastOwn <= m.floorSeen {
		lastOwn = 0
	}
	c.number(&lastOwn)
	if c.reading {
		m.lastOwn = lastOwn
	}

	c.claim(&m.own)
	if !m.own.IsZero() {
		c.claiming(m)
	}
	if c.leaves {
		each(c, &m.peers, func(p **peer) { c.peer(m, p) })
		each(c, &m.departed, func(heard *Instant) {
			if c.reading {
				*heard = c.now
			}
		})
		size := int64(m.size)
		c.number(&size)
		m.size, m.sizeSeen = int(size), c.now
	} else {
		c.heirs(m)
	}
	if c.reading {
		for id, p := range m.peers {
			p.status.Replica, p.status.Name = id, hostName(c.host(c.numbers[id]))
			p.status.Health = c.healthOf(c.numbers[id], p.status.Health.OK)
		}
	}
	if m.role == Primary {
		c.ago(&m.roundAt, m.cfg.Lease)
		c.ahead(&m.leaseEnd)
		c.flag(&m.stopping)
		if m.stopping {
			c.stopping(m)
		}
	}
}

// noSuccessor is a successor that never claims: where no replica leaves, nothing ends the holding back for one.
const noSuccessor = "?"

func (c *coder) leaving(m *Machine) {
	l := &m.leave
	c.flag(&l.begun)
	if !l.begun {
		return
	}
	c.flag(&l.urgent)
	c.ahead(&l.by)
	if c.reading {
		l.why = ReasonShutdown
	}
	if c.cfg.LeavePatience > 0 {
		c.ahead(&l.patientUntil)
	}
	if m.role == Primary && c.cfg.LeavePatience > 0 {
		c.ahead(&l.settledAt)
		c.asks(l)
	}
	if m.role != Leaving {
		return
	}
	c.flag(&l.left)
	c.ahead(&l.leftAt)
	c.asks(l)
	c.ago(&l.holderHeard, m.cfg.Lease)
}

// asks is whether a leaver says so again, and whether it has before.
func (c *coder) asks(l *leave) {
	waits, asked := l.askAt > c.now, l.asked > 0
	c.flag(&waits)
	c.flag(&asked)
	if c.reading {
		l.askAt = c.now
		if waits {
			l.askAt = c.now.Add(c.cfg.pollInterval())
		}
		if asked {
			l.asked = 1
		}
	}
}

// peer is a replica that is known, where that may leave.
func (c *coder) peer(m *Machine, p **peer) {
	if c.reading {
		*p = &peer{status: Status{Role: Looking, Health: Health{OK: true}}, heard: c.now}
	}
	q := *p
	c.flag(&q.joined)
	standby, leaving := q.status.Role == Standby && m.acks[q.status.Replica] > c.now, q.status.Role == Leaving
	c.flag(&standby)
	c.flag(&leaving)
	c.flag(&q.leaves)
	if c.health {
		c.flag(&q.status.Health.OK)
	}
	if c.restarts {
		c.ago(&q.heard, c.cfg.pollInterval()/2+1)
	}
	switch {
	case !c.reading:
	case standby:
		q.status.Role = Standby
	case leaving:
		q.status.Role = Leaving
	}
}

// heirs are all that counts of replicas that are known, where none leaves.
func (c *coder) heirs(m *Machine) {
	heirs := map[ReplicaID]*peer{}
	for id, p := range m.peers {
		if _, granted := m.acks[id]; granted && m.acks[id] > c.now && id != m.cfg.Self && p.status.Role == Standby {
			heirs[id] = p
		}
	}
	each(c, &heirs, func(p **peer) {
		ok := !c.reading && (*p).status.Health.OK
		if c.health {
			c.flag(&ok)
		}
		if c.reading {
			*p = &peer{status: Status{Role: Standby, Health: Health{OK: ok || !c.health}}, heard: c.now.Add(-m.cfg.Heartbeat())}
		}
	})
	if c.reading {
		m.peers = heirs
	}
}

func (c *coder) claiming(m *Machine) {
	c.ago(&m.ownSince, c.ageOfClaim())
	c.ahead(&m.sendAt)
	acks := maps.Clone(m.acks)
	maps.DeleteFunc(acks, func(_ ReplicaID, until Instant) bool { return until <= c.now })
	each(c, &acks, c.ahead)
	refused := maps.Clone(m.refused)
	maps.DeleteFunc(refused, func(_ ReplicaID, r refusal) bool { return r.holder.IsZero() || r.until <= c.now })
	each(c, &refused, func(r *refusal) {
		c.claim(&r.holder)
		c.ahead(&r.until)
	})
	each(c, &m.dismissed, c.flag)
	reached := map[ReplicaID]bool{}
	if m.role == Candidate && m.expected() > m.cfg.Replicas {
		reached = m.reached
	}
	each(c, &reached, c.flag)
	if c.reading {
		m.acks, m.refused, m.reached = acks, refused, reached
	}
}

func (c *coder) stopping(m *Machine) {
	c.flag(&m.hard)
	if m.hard {
		c.ahead(&m.silentBy)
	}
	lower := m.reason == ReasonLowerPrimary
	c.flag(&lower)
	if c.reading && lower {
		m.reason = ReasonLowerPrimary
	}
	c.replica(&m.successor)
}

func (c *coder) number(v *int64) {
	if !c.reading {
		c.b = binary.AppendVarint(c.b, *v)
		return
	}
	n, size := binary.Varint(c.b)
	if size <= 0 {
		panic("a machine was not written down completely")
	}
	*v, c.b = n, c.b[size:]
}

func (c *coder) flag(v *bool) {
	var n int64
	if *v {
		n = 1
	}
	c.number(&n)
	*v = n == 1
}

func (c *coder) replica(id *ReplicaID) {
	n := int64(c.numbers[*id])
	c.number(&n)
	*id = c.ids[n]
}

func (c *coder) claim(v *Claim) {
	c.number(&v.Timestamp)
	c.replica(&v.Replica)
}

// ahead is an instant that is only asked whether it has come: all of the past is one.
func (c *coder) ahead(i *Instant) {
	n := int64(max(0, i.Sub(c.now)))
	c.number(&n)
	if c.reading {
		*i = c.now + Instant(n)
	}
}

// ago is an instant in the past of which nothing asks by how much it is longer ago than most.
func (c *coder) ago(i *Instant, most time.Duration) {
	n := int64(min(c.now.Sub(*i), most))
	c.number(&n)
	if c.reading {
		*i = c.now - Instant(n)
	}
}

// each goes through a map in the order of the processes.
func each[V any](c *coder, m *map[ReplicaID]V, value func(*V)) {
	n := int64(len(*m))
	c.number(&n)
	if c.reading {
		*m = map[ReplicaID]V{}
		for range n {
			var id ReplicaID
			var v V
			c.replica(&id)
			value(&v)
			(*m)[id] = v
		}
		return
	}
	for _, id := range slices.SortedFunc(maps.Keys(*m), func(a, b ReplicaID) int { return int(c.numbers[a]) - int(c.numbers[b]) }) {
		c.replica(&id)
		v := (*m)[id]
		value(&v)
	}
}

// messageKind tells messages apart.
type messageKind uint8

const (
	claimRequest messageKind = iota
	claimAnswer
	endRequest
	statusAnswer
	leaveRequest
	leaveAnswer
)

// message is one message under way, as what makes a difference of it.
type message struct {
	kind messageKind
	from process
	// host is where it goes. An answer goes to the process that asked, and to no later one there.
	host int
	to   process
	// age is how long ago the request left, on the clock of the host that asked; capped.
	age time.Duration

	claim     Claim
	granted   bool
	refusal   Refusal
	holder    Claim
	remaining time.Duration
	released  bool
	successor ReplicaID
	// departed and dismissed are those of a LeaveRequest and its answer.
	departed, dismissed bool
	says                says
}

// says is what makes a difference of a Status.
type says struct {
	// role is Primary, Standby or, standing for all others, Looking; where replicas leave Joining and Leaving too.
	role Role
	// primary and remaining are zero if the receiver would ignore them.
	primary   Claim
	remaining time.Duration
	floor     int64
	healthy   bool
}

// says: a name, a version and the last change are for people; what it expects and its quorum are for
// people too. The size a replica believes in is found by counting, see leftOut.
func (c *codec) says(s Status, asked bool) says {
	a := says{role: Looking, floor: max(s.Floor.Timestamp, s.Primary.Timestamp), healthy: s.Health.OK}
	if s.Role == Primary || s.Role == Standby || c.leaves && (s.Role == Joining || s.Role == Leaving) {
		a.role = s.Role
	}
	direct := s.Role == Primary && s.Primary.Replica == s.Replica
	if !s.Primary.IsZero() && s.Remaining > 0 && (asked || direct) {
		a.primary, a.remaining = s.Primary, s.Remaining
	}
	return a
}

func (c *codec) status(from process, a says) Status {
	return Status{
		Protocol: Protocol, Replica: c.ids[from], Name: hostName(c.host(from)),
		Role: a.role, Primary: a.primary, Remaining: a.remaining,
		Floor: Claim{Timestamp: a.floor}, Health: c.healthOf(from, a.healthy),
		Lease: c.cfg.Lease, Replicas: c.hosts, Quorum: c.hosts/2 + 1,
	}
}

func (c *codec) claimRequest(from process, req ClaimRequest) message {
	return message{kind: claimRequest, from: from, claim: req.Claim, says: c.says(req.From, false)}
}

func (c *codec) claimAnswer(from process, to message, a ClaimAnswer) message {
	m := message{
		kind: claimAnswer, from: from, host: c.host(to.from), to: to.from, age: to.age,
		claim: a.Claim, granted: a.Granted, refusal: a.Refusal, says: c.says(a.From, true),
	}
	if a.Refusal == RefusedHeld {
		m.holder, m.remaining = a.Holder, max(0, a.Remaining)
	}
	return m
}

func (c *codec) endRequest(from process, req EndRequest) message {
	m := message{kind: endRequest, from: from, claim: req.Claim, released: req.Released, successor: req.Successor}
	if c.leaves {
		m.says = says{role: c.says(req.From, false).role, healthy: req.From.Health.OK}
	}
	return m
}

// leaveRequest: what the leaver says of itself is noted, the floor of one that has departed, and no more.
func (c *codec) leaveRequest(from process, req LeaveRequest) message {
	a := says{role: c.says(req.From, false).role, healthy: req.From.Health.OK} // Primary, of one that acts on
	if req.Departed {
		a.floor = req.From.Floor.Timestamp
	}
	return message{kind: leaveRequest, from: from, departed: req.Departed, says: a}
}

func (c *codec) leaveAnswer(from process, to message, a LeaveAnswer) message {
	return message{
		kind: leaveAnswer, from: from, host: c.host(to.from), to: to.from, age: to.age,
		claim: a.Claim, dismissed: a.Dismissed, says: c.says(a.From, true),
	}
}

func (c *codec) statusAnswer(from, to process, s Status) message {
	return message{kind: statusAnswer, from: from, host: c.host(to), to: to, says: c.says(s, true)}
}

// death is that of a process, in the upper bits; the lowest tells whether another that learns of it is before this one.
func (c *codec) death(msg uint32) ProcessDied {
	d := ProcessDied{Replica: c.ids[msg>>1]}
	if msg&1 != 0 {
		d.Witnesses = []ReplicaID{"0"}
	}
	return d
}

// input is what a machine is given when a message arrives, at a reading of its clock.
func (c *codec) input(m message, now Instant) Input {
	from := c.status(m.from, m.says)
	switch m.kind {
	case claimRequest:
		return ClaimReceived{ClaimRequest{From: from, Claim: m.claim}}
	case claimAnswer:
		return AnswerReceived{ClaimAnswer{
			From: from, Claim: m.claim, Granted: m.granted, Refusal: m.refusal, Holder: m.holder, Remaining: m.remaining,
		}, now.Add(-m.age)}
	case endRequest:
		return EndReceived{EndRequest{From: from, Claim: m.claim, Released: m.released, Reason: ReasonSwitchover, Successor: m.successor}}
	case leaveRequest:
		return LeaveReceived{LeaveRequest{From: from, Departed: m.departed}}
	case leaveAnswer:
		return LeaveAnswerReceived{LeaveAnswer{From: from, Claim: m.claim, Dismissed: m.dismissed}, now.Add(-m.age)}
	default:
		return StatusReceived{from, now.Add(-m.age)}
	}
}

// kept are the fields that are written down, and when, if not always.
var kept = map[string]string{
	"Machine.role":          "",
	"Machine.joinedAt":      "until it has come",
	"Machine.leave":         "",
	"leave.begun":           "",
	"leave.urgent":          "once it has begun",
	"leave.by":              "once it has begun, until it has come",
	"leave.leftAt":          "while Leaving: becoming that sets it",
	"leave.settledAt":       "while Primary, where there is patience",
	"leave.patientUntil":    "where there is patience",
	"leave.askAt":           "while Leaving, or Primary where there is patience, whether it has come: it has by the next step of time",
	"leave.asked":           "while Leaving, or Primary where there is patience, whether it is 0: else it only tells how long it is until askAt",
	"leave.holderHeard":     "while Leaving, up to a lease, as forsaken asks",
	"leave.left":            "while Leaving",
	"Machine.departed":      "which they are. Here none is forgotten after a minute: no message is under way for longer",
	"Machine.holdFor":       "while holdUntil has not come; where no replica leaves nothing ends the holding back, whichever successor it is for",
	"Machine.holdUntil":     "until it has come",
	"Machine.dismissed":     "",
	"Machine.reached":       "of a candidate that counts more than REPLICAS: timeOut asks no other",
	"Machine.size":          "where replicas leave. It only shrinks here: no more than size are in contact together for as long as growth",
	"peer.joined":           "where replicas leave",
	"peer.leaves":           "where replicas leave",
	"peer.heard":            "where replicas leave: and start again, whether it was in this instant, as meet asks of an earlier process of a host",
	"LeaveRequest.From":     "its id: onLeave notes that it is in contact, and no more",
	"LeaveRequest.Departed": "",
	"LeaveAnswer.From":      "",
	"LeaveAnswer.Claim":     "",
	"LeaveAnswer.Dismissed": "",
	"Machine.health":        "OK, where health may change; Detail is for people",
	"Machine.promise":       "",
	"promise.held":          "",
	"promise.until":         "until it has come",
	"promise.base":          "",
	"promise.ended":         "",
	"Machine.dead":          "who: since when decides which of 256 is forgotten, and is not kept",
	"Machine.last":          "",
	"followed.claim":        "until its lease has run out: after that it is followed by any other as by itself, and reported to no replica",
	"followed.until":        "until it has come",
	"followed.over":         "as claim: a term that is over has run out",
	"Machine.peers":         "where replicas leave all; else the standbys among those whose grants count: the heirs. A replica whose grant begins to count is in contact in the same step",
	"Machine.floorSeen":     "",
	"Machine.lastOwn":       "while it is above floorSeen: the two are only asked which is higher, and never fall",
	"Machine.claimAt":       "until it has come",
	"Machine.lookingSince":  "while looking, where health may change, up to half a lease, as mayClaimAt asks",
	"Machine.nominated":     "where health may change: it lifts the wait of the unhealthy",
	"Machine.own":           "",
	"Machine.ownSince":      "while there is an own claim, up to a lease and a bit: a candidate gives up after a lease, a primary compares it with sentAt",
	"Machine.acks":          "until they have run out: then they count as little as none",
	"Machine.refused":       "those that yieldIfHopeless counts",
	"refusal.holder":        "",
	"refusal.until":         "",
	"Machine.sendAt":        "until it has come",
	"Machine.roundAt":       "of a primary, up to a lease: by then no grant of that round counts; sendClaim sets it",
	"Machine.leaseEnd":      "of a primary, until it has come; win sets it",
	"Machine.stopping":      "of a primary; win clears it",
	"Machine.silentBy":      "once it must be silent: resign sets it",
	"Machine.hard":          "while stopping",
	"Machine.reason":        "whether it is ReasonLowerPrimary: that names no successor. Else it is for people",
	"Machine.successor":     "while stopping: resign sets it",
	"peer.status":           "id, whether it leaves, health (a witness's does not change), and of those whose grants count whether it is standby",
	"Status.Role":           "Primary, Standby, or another; where replicas leave Joining and Leaving too",
	"Status.Primary":        "if receive accepts it",
	"Status.Remaining":      "if receive accepts it",
	"Status.Floor":          "its timestamp",
	"Status.Health":         "OK",
	"Status.Replica":        "",
	"ClaimRequest.From":     "",
	"ClaimRequest.Claim":    "",
	"ClaimAnswer.From":      "",
	"ClaimAnswer.Claim":     "",
	"ClaimAnswer.Granted":   "",
	"ClaimAnswer.Refusal":   "",
	"ClaimAnswer.Holder":    "if another claim stands in the way",
	"ClaimAnswer.Remaining": "if another claim stands in the way: above half the replicas no candidate waits for those that join",
	"EndRequest.From":       "its id, and its role where replicas leave: onEnd notes that it is in contact, and no more",
	"EndRequest.Claim":      "",
	"EndRequest.Released":   "",
	"EndRequest.Successor":  "",
}

// leftOut are the fields that are not, and why that changes nothing.
var leftOut = map[string]string{
	"leave.why":            "always a shutdown here: the other reason there is, a failed part, makes it urgent and is gone with the release",
	"Machine.cfg":          "the same for a process as long as it lives",
	"Machine.now":          "Step moves it to its reading, which never goes back",
	"Machine.wall":         "Step sets it first of all",
	"Machine.out":          "Step clears it first of all",
	"Machine.history":      "for people",
	"Machine.wonAt":        "for people",
	"Machine.change":       "for people",
	"followed.name":        "for people",
	"followed.sign":        "for people, and when to ask again: here questions are asked at any time",
	"followed.reason":      "for people",
	"followed.witnessed":   "for people",
	"Machine.inTurn":       "lifts the wait of one of many for its place; and that until lookingSince, which is past",
	"Machine.queryAt":      "here questions are asked at any time, or get lost",
	"Machine.askedAt":      "as queryAt",
	"Machine.rival":        "two leases at once, which the explorer sees that there never are; it sees that it stays zero too",
	"Machine.rivalAt":      "as rival",
	"Machine.round":        "tells rounds apart, which only counts below a majority; here the quorum is one",
	"Machine.roundWas":     "as round",
	"Machine.halted":       "a process that halts exits",
	"Machine.since":        "of N hosts no more than N are in contact together for as long as growth, and a candidate counts each host once",
	"Machine.growing":      "as since",
	"Machine.sizeSeen":     "as since",
	"Machine.incompatible": "all have one configuration",
	"Machine.mismatchTold": "all have one configuration: nothing is ever told",
	"peer.since":           "here health settles at once",
	"peer.within":          "goes with heard",
	"Status.Protocol":      "one for all",
	"Status.Name":          "the host's",
	"Status.Version":       "for people",
	"Status.PrimaryName":   "for people",
	"Status.Lease":         "one for all",
	"Status.Replicas":      "one for all",
	"Status.Quorum":        "one for all",
	"Status.Change":        "for people",
	"EndRequest.Reason":    "for people",
}

// A new field is a new difference between machines, until it has been thought about.
func TestEnumerationKnowsEveryField(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, v := range []any{Machine{}, promise{}, followed{}, peer{}, refusal{}, leave{}, Status{}, ClaimRequest{}, ClaimAnswer{}, EndRequest{}, LeaveRequest{}, LeaveAnswer{}} {
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			field := typ.Name() + "." + typ.Field(i).Name
			known[field] = true
			_, k := kept[field]
			_, l := leftOut[field]
			if k == l {
				t.Errorf("%s must be either kept or left out by the enumeration", field)
			}
		}
	}
	for _, fields := range []map[string]string{kept, leftOut} {
		for field := range fields {
			if !known[field] {
				t.Errorf("there is no %s any more", field)
			}
		}
	}
}

package electiontest

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"habot/app/election"
)

// Faults are probabilities in [0, 1] and bounds of what may go wrong.
type Faults struct {
	Loss, Duplicate float64
	// MaxDelay bounds one message's way; delays are drawn evenly, so messages overtake each other.
	MaxDelay time.Duration
	// Drift lets every local clock run fast or slow by up to half the bound.
	Drift bool
	// WallJumps lets wall clocks be off by hours and jump.
	WallJumps bool
}

// Options describe one cluster.
type Options struct {
	Seed     uint64
	Replicas int
	Quorum   int // 0: majority
	Lease    time.Duration
	Faults   Faults
	// Trace, if set, receives the story line by line.
	Trace func(line string)
}

// Term is one replica's time as primary, in true time.
type Term struct {
	Claim    election.Claim
	Host     int
	From, To time.Duration
	Reason   election.Reason
}

// host is a machine that runs one replica after another.
type host struct {
	index   int
	name    string
	machine *election.Machine // nil while it is down
	epoch   int               // counts processes; events of older ones are stale

	rate        float64       // of its local clock against true time
	clockAt     time.Duration // true time at which clockOffset was taken
	clockOffset election.Instant
	wallOffset  time.Duration
	frozenUntil time.Duration
	wakeups     int // numbers timers; older ones are stale
	botRunning  bool
	botUntil    election.Instant
	leaseEnd    election.Instant
	term        int // index into terms, -1 if none
	health      election.Health
	leaving     bool
	stranger    bool // it runs under another lease and must be left out by the others

	// For ORDER, until the process ends: the claims it granted, its own included, and who acknowledged
	// its current one until when.
	granted map[election.Claim]bool
	claim   election.Claim
	acked   map[election.ReplicaID]election.Instant
}

// Cluster is a simulated cluster. It is not safe for concurrent use.
type Cluster struct {
	opt   Options
	rng   *rand.Rand
	now   time.Duration // true time
	queue events
	seq   int
	hosts []*host
	cut   map[[2]int]bool // one-way: from, to

	// Terms are all roles so far, in the order in which they began.
	Terms []Term
	// Counts counts faults and outputs by kind (see Kinds), to see that each really occurred.
	Counts map[string]int

	// broken is the first broken guarantee that is seen in an output.
	broken error
}

// storm is more events under way than a cluster could ever need: answers cause questions without end.
const storm = 20_000

// start of wall time in the simulation.
const wallStart = int64(1_800_000_000_000_000_000)

// New returns a cluster whose hosts are all down.
func New(opt Options) *Cluster {
	if opt.Lease == 0 {
		opt.Lease = time.Second
	}
	c := &Cluster{
		opt:    opt,
		rng:    rand.New(rand.NewPCG(opt.Seed, 0x9e3779b97f4a7c15)),
		cut:    map[[2]int]bool{},
		Counts: map[string]int{},
	}
	for range opt.Replicas {
		c.AddHost()
	}
	return c
}

// AddHost adds one more host, down, and returns its number.
func (c *Cluster) AddHost() int {
	i := len(c.hosts)
	h := &host{index: i, name: fmt.Sprintf("r%d", i), rate: 1, term: -1, health: election.Health{OK: true}}
	if c.opt.Faults.Drift {
		bound := 0.5 / election.DriftBound * 0.99
		h.rate = 1 + bound*(2*c.rng.Float64()-1)
		if c.rng.IntN(2) == 0 { // often at the bound itself
			h.rate = 1 + bound*float64(1-2*c.rng.IntN(2))
		}
	}
	h.clockOffset = election.Instant(c.rng.Int64N(int64(time.Hour)))
	if c.opt.Faults.WallJumps {
		c.jumpWall(h)
	}
	c.hosts = append(c.hosts, h)
	return i
}

// AddStranger adds a host, down, whose replica runs under another lease.
func (c *Cluster) AddStranger() int {
	i := c.AddHost()
	c.hosts[i].stranger = true
	return i
}

// Resize sets the number of replicas with which replicas are started from now on.
func (c *Cluster) Resize(n int) {
	c.Counts["fault resize"]++
	c.opt.Replicas = n
}

// SetWall sets how far a host's wall clock is off.
func (c *Cluster) SetWall(i int, off time.Duration) { c.hosts[i].wallOffset = off }

// Now is true time since the beginning.
func (c *Cluster) Now() time.Duration { return c.now }

func (c *Cluster) jumpWall(h *host) {
	h.wallOffset = time.Duration(c.rng.Int64N(int64(20*time.Hour))) - 10*time.Hour
	c.Counts["fault wall clock jump"]++
}

func (h *host) local(now time.Duration) election.Instant {
	return h.clockOffset + election.Instant(float64(now-h.clockAt)*h.rate)
}

// trueTime is when the host's local clock reads i, rounded up.
func (h *host) trueTime(i election.Instant) time.Duration {
	return h.clockAt + time.Duration(float64(i-h.clockOffset)/h.rate) + 1
}

func (c *Cluster) reading(h *host) election.Reading {
	return election.Reading{Now: h.local(c.now), Wall: wallStart + int64(c.now) + int64(h.wallOffset)}
}

func (c *Cluster) trace(format string, args ...any) {
	if c.opt.Trace != nil {
		c.opt.Trace(fmt.Sprintf("%10.4fs  ", c.now.Seconds()) + fmt.Sprintf(format, args...))
	}
}

// --- what a story or a schedule can do ------------------------------------------------------------

// Start boots a replica on a host that is down.
func (c *Cluster) Start(i int) {
	h := c.hosts[i]
	if h.machine != nil {
		return
	}
	c.Counts["fault start"]++
	if h.stranger {
		c.Counts["fault stranger"]++
	}
	h.epoch++
	id := election.ReplicaID(fmt.Sprintf("%04x-%s.%d", c.rng.Uint32()&0xffff, h.name, h.epoch))
	r := c.reading(h)
	h.leaving = false
	h.granted, h.claim = map[election.Claim]bool{}, election.Claim{}
	lease := c.opt.Lease
	if h.stranger {
		lease *= 2
	}
	h.machine = election.New(election.Config{
		Self: id, Name: h.name, Lease: lease, Replicas: c.opt.Replicas, Quorum: c.opt.Quorum,
	}, r)
	c.trace("%s starts", h.name)
	c.step(h, election.HealthChanged{Health: h.health})
}

// Crash kills a replica: its memory is lost and its bot is silent at once.
func (c *Cluster) Crash(i int) {
	h := c.hosts[i]
	if h.machine == nil {
		return
	}
	c.Counts["fault crash"]++
	c.trace("%s crashes (%s)", h.name, h.machine.Status(h.local(c.now)).Role)
	c.kill(h, election.ReasonCrash)
}

func (c *Cluster) kill(h *host, why election.Reason) {
	c.silence(h, why)
	h.machine = nil
	h.epoch++
	h.frozenUntil = 0
}

// Freeze stops a host for a while; its clocks go on, what arrives waits.
func (c *Cluster) Freeze(i int, d time.Duration) {
	h := c.hosts[i]
	if h.machine == nil {
		return
	}
	c.Counts["fault freeze"]++
	c.trace("%s freezes for %v", h.name, d)
	h.frozenUntil = max(h.frozenUntil, c.now+d)
}

// Cut breaks the way from one host to another, in that direction only.
func (c *Cluster) Cut(from, to int) {
	c.Counts["fault cut"]++
	c.cut[[2]int{from, to}] = true
}

// Heal mends every way.
func (c *Cluster) Heal() {
	c.trace("the network heals")
	clear(c.cut)
}

// Partition cuts every way between the group and the others, both ways.
func (c *Cluster) Partition(group ...int) {
	c.Counts["fault partition"]++
	c.trace("partition: %v against the rest", group)
	for i := range c.hosts {
		for j := range c.hosts {
			if slices.Contains(group, i) != slices.Contains(group, j) {
				c.cut[[2]int{i, j}] = true
			}
		}
	}
}

// Resign asks a host's replica to hand over.
func (c *Cluster) Resign(i int, why election.Reason) {
	h := c.hosts[i]
	if h.machine == nil {
		return
	}
	c.Counts["fault resign"]++
	to, _ := h.machine.Successor(h.local(c.now), "")
	c.step(h, election.Resign{Reason: why, Successor: to})
}

// Stop shuts a host's replica down in order.
func (c *Cluster) Stop(i int) {
	h := c.hosts[i]
	if h.machine == nil {
		return
	}
	c.Counts["fault leave"]++
	c.trace("%s is told to stop", h.name)
	h.leaving = true
	c.step(h, election.Leave{Reason: election.ReasonShutdown})
}

// FailPart lets the bot of a host's replica die by itself, if it runs.
func (c *Cluster) FailPart(i int) {
	h := c.hosts[i]
	if h.machine == nil || !h.botRunning {
		return
	}
	c.Counts["fault bot died"]++
	c.silence(h, election.ReasonPartFailed)
	c.step(h, election.BotStopped{})
}

// SetHealth changes what a host's replica knows of its way to Telegram.
func (c *Cluster) SetHealth(i int, ok bool) {
	h := c.hosts[i]
	h.health.OK = ok
	if h.machine != nil {
		c.Counts["fault health"]++
		c.step(h, election.HealthChanged{Health: h.health})
	}
}

// JumpWall sets a host's wall clock hours off.
func (c *Cluster) JumpWall(i int) { c.jumpWall(c.hosts[i]) }

// Up tells whether a host's replica runs.
func (c *Cluster) Up(i int) bool { return c.hosts[i].machine != nil }

// Role is a host's role, empty if it is down.
func (c *Cluster) Role(i int) election.Role {
	h := c.hosts[i]
	if h.machine == nil {
		return ""
	}
	return h.machine.Status(h.local(c.now)).Role
}

// View is what a host's replica knows. The host must be up.
func (c *Cluster) View(i int) election.View {
	h := c.hosts[i]
	return h.machine.View(h.local(c.now))
}

// Primary is the first host that acts as primary now, -1 if none does.
func (c *Cluster) Primary() int {
	if p := c.Primaries(); len(p) > 0 {
		return p[0]
	}
	return -1
}

// Primaries are the hosts that act as primary now.
func (c *Cluster) Primaries() []int {
	var acting []int
	for _, h := range c.hosts {
		if c.acts(h) {
			acting = append(acting, h.index)
		}
	}
	return acting
}

// acts tells whether a host may send to Telegram now: its bot runs, its lease has not ended on its
// own clock. A frozen host counts: it wakes without knowing that it slept, and only the clock stops it.
func (c *Cluster) acts(h *host) bool {
	return h.machine != nil && h.botRunning && h.local(c.now) < h.botUntil
}

// holds tells whether a host's bot runs under a lease that has not ended. It is more than acting:
// the stop margin between the two must never be what keeps two primaries apart.
func (c *Cluster) holds(h *host) bool {
	return h.machine != nil && h.botRunning && h.local(c.now) < h.leaseEnd
}

// --- running ------------------------------------------------------------------------------------

type event struct {
	at   time.Duration
	seq  int
	do   func()
	host *host // if set, the event waits while the host is frozen and dies with its process
	ep   int
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	if q[i].at != q[j].at {
		return q[i].at < q[j].at
	}
	return q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *events) Push(x any) { *q = append(*q, x.(event)) }

// Pop implements heap.Interface.
func (q *events) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// At has f done at a true time; f may call the cluster.
func (c *Cluster) At(at time.Duration, f func()) { c.push(event{at: at, do: f}) }

func (c *Cluster) push(e event) {
	c.seq++
	e.seq = c.seq
	heap.Push(&c.queue, e)
}

func (c *Cluster) onHost(h *host, at time.Duration, f func()) {
	c.push(event{at: at, do: f, host: h, ep: h.epoch})
}

// Run lets true time pass until then, and returns the first broken guarantee.
func (c *Cluster) Run(until time.Duration) error {
	for len(c.queue) > 0 && c.queue[0].at <= until {
		if len(c.queue) > storm {
			c.breaks("STORM: %d messages and timers are under way", len(c.queue))
			return c.broken
		}
		e := heap.Pop(&c.queue).(event)
		c.now = max(c.now, e.at)
		if h := e.host; h != nil {
			if h.machine == nil || h.epoch != e.ep {
				continue
			}
			if c.now < h.frozenUntil {
				e.at = h.frozenUntil
				c.push(e)
				continue
			}
		}
		e.do()
		if err := c.Check(); err != nil {
			return err
		}
	}
	c.now = max(c.now, until)
	return c.Check()
}

func (c *Cluster) step(h *host, in election.Input) {
	epoch := h.epoch
	for _, out := range h.machine.Step(c.reading(h), in) {
		if h.machine == nil || h.epoch != epoch {
			return
		}
		c.carryOut(h, out)
	}
	if h.machine == nil || h.epoch != epoch {
		return
	}
	c.wakeUp(h)
}

// wakeUp sets the host's timer, in place of the one before.
func (c *Cluster) wakeUp(h *host) {
	next := h.machine.Next()
	if next <= h.local(c.now) {
		c.breaks("TICK: %s asks for a tick that was due already: its caller would spin", h.name)
	}
	h.wakeups++
	n := h.wakeups
	c.onHost(h, max(h.trueTime(next), c.now+1), func() {
		if h.wakeups == n {
			c.step(h, election.Tick{})
		}
	})
}

func (c *Cluster) carryOut(h *host, out election.Output) {
	switch out := out.(type) {
	case election.SendQuery:
		c.Counts["query"]++
		c.broadcast(h, func(to *host) any { return c.statusOf(to) }, func(sentAt election.Instant, answer any) {
			c.step(h, election.StatusReceived{Status: answer.(election.Status), SentAt: sentAt})
		}, nil)
	case election.SendClaim:
		c.Counts["claim"]++
		c.sendsClaim(h, out.Request.Claim)
		c.broadcast(h, func(to *host) any { return c.ask(to, out.Request) }, func(sentAt election.Instant, answer any) {
			c.isAnswered(h, sentAt, answer.(election.ClaimAnswer))
			c.step(h, election.AnswerReceived{Answer: answer.(election.ClaimAnswer), SentAt: sentAt})
		}, func() { c.step(h, election.RoundDone{Round: out.Round}) })
	case election.SendEnd:
		if out.Request.Released {
			c.Counts["release"]++
			if out.Request.Successor != "" {
				c.Counts["release to a successor"]++
			}
			if h.botRunning {
				c.breaks("RELEASE: %s released %d while its bot ran", h.name, out.Request.Claim.Timestamp)
			}
		} else {
			c.Counts["withdrawal"]++
		}
		c.broadcast(h, func(to *host) any {
			c.step(to, election.EndReceived(out))
			return nil
		}, nil, nil)
	case election.ExtendLease:
		c.Counts["extend lease"]++
		h.botUntil, h.leaseEnd = out.BotUntil, out.LeaseEnd
	case election.StartBot:
		c.startBot(h, out.Change)
	case election.StopBot:
		if out.Drain {
			c.Counts["stop bot, drain"]++
		} else {
			c.Counts["stop bot, now"]++
		}
		c.trace("%s stops its bot: %s (drain %v)", h.name, out.Reason, out.Drain)
		took := time.Duration(c.rng.Int64N(int64(c.opt.Lease / 20)))
		if out.Drain {
			took = time.Duration(c.rng.Int64N(int64(c.opt.Lease)))
		}
		c.onHost(h, c.now+took, func() {
			if h.botRunning {
				c.silence(h, out.Reason)
				c.step(h, election.BotStopped{})
			}
		})
	case election.Halt:
		c.Counts["halt"]++
		c.trace("%s halts", h.name)
		c.kill(h, out.Reason)
	case election.Left:
		c.Counts["left"]++
		c.kill(h, election.ReasonShutdown)
	case election.PrimaryChanged:
		c.Counts["primary changed, "+string(out.Change.Reason)]++
	case election.SteppedDown:
		c.Counts["stepped down, "+string(out.Reason)]++
	case election.ElectionEnded:
		c.Counts["election "+string(out.Result)]++
	case election.Mismatch:
		c.Counts["mismatch"]++
	case election.SizeChanged:
		c.Counts["size changed"]++
	}
}

// sendsClaim and isAnswered keep, for ORDER, who supports a host's claim until when.
func (c *Cluster) sendsClaim(h *host, claim election.Claim) {
	h.granted[claim] = true
	if claim != h.claim {
		h.claim, h.acked = claim, map[election.ReplicaID]election.Instant{}
	}
	h.acked[claim.Replica] = math.MaxInt64
}

func (c *Cluster) isAnswered(h *host, sentAt election.Instant, a election.ClaimAnswer) {
	if a.Granted && a.Claim == h.claim {
		until := sentAt.Add(c.opt.Lease - c.opt.Lease/election.DriftBound)
		h.acked[a.From.Replica] = max(h.acked[a.From.Replica], until)
	}
}

func (c *Cluster) startBot(h *host, ch election.Change) {
	c.Counts["start bot"]++
	c.checkOrder(h, ch.Claim)
	c.trace("%s is primary: %d after %q, %s, gap %v", h.name, ch.Claim.Timestamp, ch.Previous, ch.Reason, ch.Gap)
	h.botRunning = true
	h.term = len(c.Terms)
	c.Terms = append(c.Terms, Term{Claim: ch.Claim, Host: h.index, From: c.now, To: -1})
}

// silence ends a host's acting in the account.
func (c *Cluster) silence(h *host, why election.Reason) {
	if h.term >= 0 {
		t := &c.Terms[h.term]
		t.To, t.Reason = c.now, why
		h.term = -1
	}
	h.botRunning = false
}

func (c *Cluster) statusOf(to *host) any { return to.machine.Status(to.local(c.now)) }

func (c *Cluster) ask(to *host, req election.ClaimRequest) (answer any) {
	epoch := to.epoch
	outs := to.machine.Step(c.reading(to), election.ClaimReceived{Request: req})
	for _, out := range outs {
		if r, ok := out.(election.Reply); ok {
			answer = r.Answer
			if r.Answer.Granted {
				c.Counts["reply granted"]++
				to.granted[req.Claim] = true
			} else {
				c.Counts["reply refused, "+string(r.Answer.Refusal)]++
			}
			continue
		}
		if to.machine != nil && to.epoch == epoch {
			c.carryOut(to, out)
		}
	}
	if to.machine != nil && to.epoch == epoch {
		c.wakeUp(to)
	}
	return answer
}

// broadcast sends to every other host and brings the answers back. done is called when all have
// answered or their time was up.
func (c *Cluster) broadcast(h *host, at func(*host) any, answered func(election.Instant, any), done func()) {
	sentAt, epoch := h.local(c.now), h.epoch
	open := 0
	timeout := c.now + c.opt.Lease/2
	finish := func() {
		if open--; open == 0 && done != nil {
			done()
		}
	}
	for _, to := range c.hosts {
		if to == h {
			continue
		}
		open++
		replied := false
		settle := func() {
			if !replied {
				replied = true
				finish()
			}
		}
		c.deliver(h.index, to, func() {
			answer := at(to)
			if answer == nil || answered == nil || h.epoch != epoch {
				return // nobody waits for it
			}
			c.deliver(to.index, h, func() {
				answered(sentAt, answer)
				if h.machine != nil && h.epoch == epoch {
					settle()
				}
			})
		})
		c.onHost(h, timeout, settle)
	}
	if open == 0 && done != nil {
		c.onHost(h, c.now+1, done)
	}
}

// deliver takes one message over the network: it may be lost, come late, come twice.
func (c *Cluster) deliver(from int, to *host, f func()) {
	f0, copies := c.opt.Faults, 1
	if c.cut[[2]int{from, to.index}] {
		c.Counts["fault message cut off"]++
		return
	}
	if c.rng.Float64() < f0.Loss {
		c.Counts["fault message lost"]++
		return
	}
	if c.rng.Float64() < f0.Duplicate {
		c.Counts["fault message duplicated"]++
		copies = 2
	}
	for range copies {
		d := 200 * time.Microsecond
		if f0.MaxDelay > 0 {
			d += time.Duration(c.rng.Int64N(int64(f0.MaxDelay)))
		}
		c.onHost(to, c.now+d, f)
	}
}

// --- the guarantees -----------------------------------------------------------------------------

// majority tells whether the quorum is a majority. Below it neither SAFETY nor ORDER is promised.
func (c *Cluster) majority() bool {
	return c.opt.Quorum == 0 || c.opt.Quorum > c.opt.Replicas/2
}

// breaks keeps the first broken guarantee for Check.
func (c *Cluster) breaks(format string, args ...any) {
	if c.broken == nil {
		c.broken = fmt.Errorf("at %v "+format, append([]any{c.now}, args...)...)
	}
}

// Check returns the first guarantee that is broken: SAFETY at this instant, and whatever the outputs
// so far have broken.
func (c *Cluster) Check() error {
	if c.broken != nil || !c.majority() {
		return c.broken
	}
	var acting, holding *host
	for _, h := range c.hosts {
		if c.acts(h) {
			if acting != nil {
				return fmt.Errorf("SAFETY: at %v both %s and %s act as primary", c.now, acting.name, h.name)
			}
			acting = h
		}
		if c.holds(h) {
			if holding != nil {
				return fmt.Errorf("SAFETY: at %v both %s and %s hold a lease", c.now, holding.name, h.name)
			}
			holding = h
		}
	}
	return nil
}

// checkOrder sees that a claim that begins a term is above the last term's, if one of those that
// support it granted the last one too and has not restarted since.
func (c *Cluster) checkOrder(h *host, claim election.Claim) {
	if len(c.Terms) == 0 || !c.majority() {
		return
	}
	last := c.Terms[len(c.Terms)-1]
	if claim.Timestamp > last.Claim.Timestamp {
		return
	}
	for _, w := range c.hosts {
		if w.machine == nil || !w.granted[last.Claim] {
			continue
		}
		if h.acked[w.machine.Status(0).Replica] > h.local(c.now) {
			c.breaks("ORDER: host %d becomes primary with %d after host %d with %d, and %s granted both",
				h.index, claim.Timestamp, last.Host, last.Claim.Timestamp, w.name)
		}
	}
}

// CheckOrder returns the first pair of successive terms whose timestamps do not increase. It holds as
// long as no replica has restarted.
func (c *Cluster) CheckOrder() error {
	for i := 1; i < len(c.Terms); i++ {
		if a, b := c.Terms[i-1], c.Terms[i]; b.Claim.Timestamp <= a.Claim.Timestamp {
			return fmt.Errorf("ORDER: at %v host %d became primary with %d after host %d with %d",
				b.From, b.Host, b.Claim.Timestamp, a.Host, a.Claim.Timestamp)
		}
	}
	return nil
}

// Kinds are the faults and outputs that Counts counts: over many schedules every one must occur.
func Kinds() []string {
	return []string{
		"fault bot died", "fault crash", "fault cut", "fault freeze", "fault health", "fault leave",
		"fault message cut off", "fault message duplicated", "fault message lost", "fault partition",
		"fault resign", "fault resize", "fault start", "fault stranger", "fault wall clock jump",
		"query", "claim", "withdrawal", "release", "release to a successor",
		"reply granted", "reply refused, joining", "reply refused, floor", "reply refused, held",
		"reply refused, ended", "reply refused, lease_mismatch",
		"start bot", "extend lease", "stop bot, drain", "stop bot, now", "halt", "left",
		"election won", "election yielded", "election refused", "election timed_out", "election abandoned",
		"primary changed, start", "primary changed, crash", "primary changed, lease_lost",
		"primary changed, shutdown", "primary changed, switchover", "primary changed, unhealthy",
		"primary changed, lower_primary", "primary changed, part_failed",
		"stepped down, lease_lost", "stepped down, shutdown", "stepped down, switchover",
		"stepped down, unhealthy", "stepped down, lower_primary", "stepped down, part_failed",
		"mismatch", "size changed",
	}
}

package electiontest

import (
	"fmt"
	"slices"
	"time"

	"habot/app/election"
)

// Noise is what the network does to each message: probabilities in [0, 1], and a bound.
type Noise struct {
	Loss, Duplicate float64
	// MaxDelay bounds one message's way; delays are drawn evenly, so messages overtake each other.
	MaxDelay time.Duration
}

// WallClocks says how wall clocks are set.
type WallClocks string

// Wall clocks.
const (
	// WallRight: all show true time.
	WallRight WallClocks = ""
	// WallApart: each is off by up to ten hours.
	WallApart WallClocks = "apart"
	// WallCoarse: all show the same hour for an hour, so that candidates use the same timestamp.
	WallCoarse WallClocks = "coarse"
)

// Options describe one cluster.
type Options struct {
	Seed     uint64
	Replicas int
	Quorum   int           // 0: majority
	Lease    time.Duration // 0: a second
	Noise    Noise
	// Drift lets every local clock run fast or slow by up to half the bound, often by half the bound.
	Drift     bool
	Wall      WallClocks
	Lifelines Lifelines
	// Witnesses are the hosts whose replicas vote and never are primary.
	Witnesses []int
	// Patience is for how long one that leaves waits for the next sign of a newcomer.
	Patience time.Duration
	// Outside: the story breaks an assumption that the guarantees rest on, so Check does not judge it.
	Outside bool
	// Trace, if set, receives the story line by line.
	Trace func(line string)
	// Coverage, if set, counts what is reached; otherwise the cluster has one of its own.
	Coverage *Coverage
}

// Term is one replica's time as primary, in true time.
type Term struct {
	Claim    election.Claim
	Host     int
	From, To time.Duration // To is -1 as long as it lasts
	Reason   election.Reason
}

// Incompatible says what keeps a host's replica from taking part with the others.
type Incompatible string

// Incompatibles.
const (
	Compatible    Incompatible = ""
	OtherLease    Incompatible = "lease"    // it runs under twice the lease
	OtherProtocol Incompatible = "protocol" // it speaks another version of the protocol
)

// host is a machine that runs one replica after another.
type host struct {
	index        int
	name         string
	incompatible Incompatible
	witness      bool
	// replicas and quorum are its own configuration where that differs from the cluster's; 0 if not.
	replicas, quorum int
	lists            []int         // the hosts that it sends requests to; nil for all
	started          int           // REPLICAS of its process
	bornAt           time.Duration // true time at which its process started

	machine *election.Machine // nil while it is down
	id      election.ReplicaID
	epoch   int // counts processes; what belongs to older ones is stale
	dice    dice
	deaths  dice // of who learns of its death, and when

	rate        float64       // of its local clock against true time
	clockAt     time.Duration // true time at which clockOffset was taken
	clockOffset election.Instant
	wallOffset  time.Duration
	frozenUntil time.Duration
	late        bool          // its current step is the first after a freeze
	wakeAt      time.Duration // when it wants a tick
	timerAt     time.Duration // when its next timer fires; never if none is set
	health      election.Health
	leaving     bool
	gone        bool // for good: it left and does not start again
	asks        int  // the host it asks next

	botRunning bool
	workUntil  election.Instant
	leaseEnd   election.Instant
	term       int // index into terms, -1 if none

	account account
}

// Cluster is a simulated cluster. It is not safe for concurrent use.
type Cluster struct {
	opt       Options
	now       time.Duration // true time
	queue     queue
	hosts     []*host
	links     [maxHosts][maxHosts]dice // from, to
	cut       [maxHosts][maxHosts]bool // one-way: from, to
	cuts      int                      // how many ways are cut
	armed     []Fault                  // faults that wait for a moment
	struck    []struck
	members   int  // hosts that are no incompatible hosts and were not resized away
	hasty     bool // see Plan
	restarted bool // some host had a second process
	peaceful  bool // no fault strikes any more
	reviving  bool // hosts that leave or halt start again, within revivesIn
	revivesIn time.Duration

	// Terms are all roles so far, in the order in which they began.
	Terms []Term
	// Coverage counts what has been reached.
	Coverage *Coverage

	// broken is the first broken guarantee.
	broken error
}

const (
	maxHosts = 16
	never    = time.Duration(1<<63 - 1)
	// storm is more that is under way than a cluster could ever need: answers cause questions without end.
	storm = 20_000
	// wallStart is the wall time at which simulations begin, in nanoseconds since the Unix epoch; a whole hour.
	wallStart = int64(1_800_000_000_000_000_000)
	// anyProcess stands for whichever process runs when something happens.
	anyProcess = -1
	// hop is the least time a message takes.
	hop = 200 * time.Microsecond
)

// What a stream of dice is for.
const (
	forClock uint64 = iota + 1
	forHost
	forLink
	forPeace
	forDeath
	forLifelines
	forWitnesses
	forPatience
)

// New returns a cluster whose hosts are all down.
func New(opt Options) *Cluster {
	if opt.Lease == 0 {
		opt.Lease = time.Second
	}
	c := &Cluster{
		opt:      opt,
		Coverage: opt.Coverage,
	}
	if c.Coverage == nil {
		c.Coverage = NewCoverage()
	}
	for range opt.Replicas {
		c.AddHost()
	}
	c.members = opt.Replicas
	return c
}

// AddHost adds one more host, down, and returns its number.
func (c *Cluster) AddHost() int {
	i := len(c.hosts)
	h := &host{
		index: i, name: fmt.Sprintf("r%d", i), rate: 1, term: -1, timerAt: never,
		health: election.Health{OK: true}, dice: newDice(c.opt.Seed, forHost, uint64(i)),
		deaths: newDice(c.opt.Seed, forDeath, uint64(i)), witness: slices.Contains(c.opt.Witnesses, i),
	}
	d := newDice(c.opt.Seed, forClock, uint64(i))
	h.clockOffset = election.Instant(d.within(time.Hour))
	if c.opt.Drift {
		h.rate = 1 + drift(&d)
	}
	if c.opt.Wall == WallApart {
		c.Coverage.Counts["fault wall clock off"]++
		h.wallOffset = d.around(10*time.Hour, 10*time.Hour) - 10*time.Hour
	}
	c.hosts = append(c.hosts, h)
	for j := range c.hosts {
		c.links[i][j] = newDice(c.opt.Seed, forLink, uint64(i), uint64(j))
		c.links[j][i] = newDice(c.opt.Seed, forLink, uint64(j), uint64(i))
	}
	return i
}

// drift is how far a clock's rate is off: by up to half the bound either way, so that no two differ by
// more than the bound; often by all of that.
func drift(d *dice) float64 {
	bound := 0.5 / election.DriftBound * 0.99
	if d.chance(0.5) {
		return bound * float64(1-2*d.below(2))
	}
	return bound * (2*d.float() - 1)
}

// Now is true time since the beginning.
func (c *Cluster) Now() time.Duration { return c.now }

func (h *host) local(now time.Duration) election.Instant {
	return h.clockOffset + election.Instant(float64(now-h.clockAt)*h.rate)
}

// trueTime is when the host's local clock reads i, rounded up.
func (h *host) trueTime(i election.Instant) time.Duration {
	return h.clockAt + time.Duration(float64(i-h.clockOffset)/h.rate) + 1
}

func (c *Cluster) reading(h *host) election.Reading {
	wall := wallStart + int64(c.now) + int64(h.wallOffset)
	if c.opt.Wall == WallCoarse {
		wall -= wall % int64(time.Hour)
	}
	return election.Reading{Now: h.local(c.now), Wall: wall}
}

func (c *Cluster) trace(format string, args ...any) {
	if c.opt.Trace != nil {
		c.opt.Trace(fmt.Sprintf("%10.4fs  ", c.now.Seconds()) + fmt.Sprintf(format, args...))
	}
}

// --- what a story or a plan can do ---------------------------------------------------------------

// Start boots a replica on a host that is down.
func (c *Cluster) Start(i int) {
	h := c.hosts[i]
	if h.machine != nil {
		return
	}
	c.Coverage.Counts["fault start"]++
	if h.incompatible != Compatible {
		c.Coverage.Counts["fault incompatible, "+string(h.incompatible)]++
	}
	h.epoch++
	c.restarted = c.restarted || h.epoch > 1
	h.id = election.ReplicaID(fmt.Sprintf("%04x-%s.%d", h.dice.next()&0xffff, h.name, h.epoch))
	h.leaving, h.gone, h.late, h.frozenUntil, h.timerAt = false, false, false, 0, never
	h.account = account{}
	lease := c.opt.Lease
	if h.incompatible == OtherLease {
		lease *= 2
	}
	replicas, quorum := c.opt.Replicas, c.opt.Quorum
	if h.replicas != 0 {
		replicas, quorum = h.replicas, h.quorum
	}
	h.started, h.bornAt = replicas, c.now
	cfg := election.Config{Self: h.id, Name: h.name, Lease: lease, Replicas: replicas, Quorum: quorum, HealthSettles: lease, LeaveWithin: LeaveWithin * lease, Witness: h.witness}
	if c.opt.Patience > 0 {
		cfg.LeavePatience, cfg.LeaveWithin, cfg.StopWithin = c.opt.Patience, c.leaveWithin(), LeaveWithin*lease
	}
	began := c.reading(h)
	if c.hasty {
		began.Now = began.Now.Add(-cfg.JoinSilence())
	}
	h.machine = election.New(cfg, began)
	c.trace("%s starts as %s", h.name, h.id)
	c.step(h, election.HealthChanged{Health: h.health})
}

// Crash kills a replica: its memory is lost and its bot is silent at once.
func (c *Cluster) Crash(i int) {
	h := c.hosts[i]
	if h.machine == nil {
		return
	}
	c.Coverage.Counts["fault crash"]++
	c.trace("%s crashes (%s)", h.name, c.Role(i))
	c.kill(h, election.ReasonCrash)
}

func (c *Cluster) kill(h *host, why election.Reason) {
	c.silence(h, why)
	h.machine = nil
	c.mourn(h)
	h.epoch++
	h.frozenUntil = 0
	h.gone = h.gone && h.account.departed // otherwise it is missed
}

// ended is the end of a process by its own will.
func (c *Cluster) ended(h *host, why election.Reason) {
	c.kill(h, why)
	if c.reviving && !h.gone {
		c.At(c.now+1+h.dice.within(c.revivesIn), func() { c.Start(h.index) })
	}
}

// Freeze stops a host for a while; its clocks go on, what arrives waits.
func (c *Cluster) Freeze(i int, d time.Duration) {
	h := c.hosts[i]
	if h.machine == nil || d <= 0 {
		return
	}
	c.Coverage.Counts["fault freeze"]++
	c.trace("%s freezes for %v (%s)", h.name, d, c.Role(i))
	h.frozenUntil = max(h.frozenUntil, c.now+d)
	h.late = true
}

// Pause stops a host for a while as a hypervisor does: its clocks stand still too, which is outside the assumptions.
func (c *Cluster) Pause(i int, d time.Duration) {
	h := c.hosts[i]
	c.trace("%s is paused for %v, clocks and all (%s)", h.name, d, c.Role(i))
	h.frozenUntil = max(h.frozenUntil, c.now+d)
	h.clockOffset, h.clockAt = h.local(c.now), c.now+d
	h.wallOffset -= d
}

// List gives a host a list of the hosts that it sends requests to. What others send reaches it all the same.
func (c *Cluster) List(i int, hosts ...int) { c.hosts[i].lists = hosts }

// Cut breaks the way from one host to another, in that direction only.
func (c *Cluster) Cut(from, to int) {
	if from == to {
		return
	}
	c.Coverage.Counts["fault cut"]++
	c.trace("nothing gets from r%d to r%d any more", from, to)
	c.sever(from, to)
}

func (c *Cluster) sever(from, to int) {
	if !c.cut[from][to] {
		c.cut[from][to] = true
		c.cuts++
	}
}

// Heal mends every way.
func (c *Cluster) Heal() {
	if c.cuts == 0 {
		return
	}
	c.Coverage.Counts["fault heal"]++
	c.trace("the network heals")
	c.cut, c.cuts = [maxHosts][maxHosts]bool{}, 0
}

// Partition cuts every way between the group and the others, both ways.
func (c *Cluster) Partition(group ...int) {
	c.Coverage.Counts["fault partition"]++
	c.trace("partition: %v against the rest", group)
	for i := range c.hosts {
		for j := range c.hosts {
			if slices.Contains(group, i) != slices.Contains(group, j) {
				c.sever(i, j)
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
	c.Coverage.Counts["fault resign"]++
	to, err := h.machine.Successor(h.local(c.now), "")
	if err == nil {
		c.trace("%s is asked to hand over to %s", h.name, to)
	}
	h.account.asked = true
	c.step(h, election.Resign{Reason: why, Successor: to})
}

// Stop shuts a host's replica down in order.
func (c *Cluster) Stop(i int) {
	h := c.hosts[i]
	if h.machine == nil {
		return
	}
	c.Coverage.Counts["fault leave"]++
	c.trace("%s is asked to stop (%s)", h.name, c.Role(i))
	h.leaving, h.account.asked = true, true
	c.step(h, election.Leave{Reason: election.ReasonShutdown})
}

// FailPart lets the bot of a host's replica die by itself, if it runs.
func (c *Cluster) FailPart(i int) {
	h := c.hosts[i]
	if h.machine == nil || !h.botRunning {
		return
	}
	c.Coverage.Counts["fault bot died"]++
	c.trace("%s's bot dies", h.name)
	c.silence(h, election.ReasonPartFailed)
	c.step(h, election.WorkStopped{})
}

// SetHealth changes what a host's replica knows of its way to Telegram.
func (c *Cluster) SetHealth(i int, ok bool) {
	h := c.hosts[i]
	if h.health.OK != ok {
		c.Coverage.Counts["fault health"]++
		c.trace("%s can reach Telegram: %v", h.name, ok)
	}
	h.health.OK = ok
	if h.machine != nil {
		c.step(h, election.HealthChanged{Health: h.health})
	}
}

// SetWall sets how far a host's wall clock is off.
func (c *Cluster) SetWall(i int, off time.Duration) {
	c.Coverage.Counts["fault wall clock jump"]++
	c.trace("r%d's wall clock is off by %v", i, off)
	c.hosts[i].wallOffset = off
}

// SetDrift draws another rate of a host's local clock.
func (c *Cluster) SetDrift(i int) {
	h := c.hosts[i]
	c.Coverage.Counts["fault drift"]++
	h.clockOffset, h.clockAt = h.local(c.now), c.now
	h.rate = 1 + drift(&h.dice)
	c.trace("%s's local clock runs at %.4f", h.name, h.rate)
	if h.machine != nil {
		h.wakeAt = max(h.trueTime(h.machine.Next()), c.now+1)
		c.setTimer(h)
	}
}

// Resize sets the number of replicas with which replicas are started from now on.
func (c *Cluster) Resize(n int) {
	c.Coverage.Counts["fault resize"]++
	c.trace("REPLICAS is %d for those that start", n)
	c.opt.Replicas = n
}

// Configure gives a host a configuration of its own from its next start on.
func (c *Cluster) Configure(i, replicas, quorum int) {
	c.Coverage.Counts["fault configuration differs"]++
	c.trace("r%d is configured with REPLICAS=%d QUORUM=%d", i, replicas, quorum)
	c.hosts[i].replicas, c.hosts[i].quorum = replicas, quorum
}

// Up reports whether a host's replica runs.
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
	for _, h := range c.hosts {
		if c.acts(h) {
			return h.index
		}
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

// acts reports whether a host may send to Telegram now: its bot runs, its lease has not ended on its
// own clock. A frozen host counts: it wakes without knowing that it slept, and only the clock stops it.
func (c *Cluster) acts(h *host) bool {
	return h.machine != nil && h.botRunning && h.local(c.now) < h.workUntil
}

// holds reports whether a host's bot runs under a lease that has not ended. It is more than acting:
// the stop margin between the two must never be what keeps two primaries apart.
func (c *Cluster) holds(h *host) bool {
	return h.machine != nil && h.botRunning && h.local(c.now) < h.leaseEnd
}

// --- running -------------------------------------------------------------------------------------

// At has f done at a true time; f may call the cluster.
func (c *Cluster) At(at time.Duration, f func()) { c.queue.push(at, thing{what: aCall, do: f}) }

// Run lets true time pass until then, and returns the first broken guarantee.
func (c *Cluster) Run(until time.Duration) error {
	for c.queue.len() > 0 && c.queue.heap[0].at <= until {
		if c.queue.len() > storm {
			c.breaks(Storm, "%d messages and timers are under way", c.queue.len())
			return c.broken
		}
		e := c.queue.pop()
		c.now = max(c.now, e.at)
		if h := c.queue.things[e.place].host; h != nil {
			if ep := c.queue.things[e.place].epoch; h.machine == nil || (ep != anyProcess && h.epoch != ep) {
				c.queue.release(e.place)
				continue
			}
			if c.now < h.frozenUntil {
				c.queue.things[e.place].epoch = h.epoch // it has reached that process, and dies with it
				c.queue.put(h.frozenUntil, e.place)
				continue
			}
		}
		c.happens(c.queue.release(e.place))
		c.strike()
		if err := c.Check(); err != nil {
			return err
		}
	}
	c.now = max(c.now, until)
	return c.Check()
}

func (c *Cluster) happens(t thing) {
	h := t.host
	switch t.what {
	case aCall:
		t.do()
	case aTimer:
		if h.timerAt <= c.now {
			h.timerAt = never
		}
		if c.now >= h.wakeAt {
			c.step(h, election.Tick{})
		} else {
			c.setTimer(h)
		}
	case anArrival:
		c.arrives(h, t.msg)
	case aDeath:
		c.witnesses(h, t.death)
	case aRoundsEnd:
		c.endRound(h, t.round)
	case aSilence:
		if h.botRunning {
			c.silence(h, h.account.stopping)
			c.step(h, election.WorkStopped{})
		}
	}
}

// reply is the answer that a step gave, if it was asked something.
type reply struct {
	claim   *election.ClaimAnswer
	leaving *election.LeaveAnswer
}

// step gives a host's machine one input and does what it wants done.
func (c *Cluster) step(h *host, in election.Input) (answer reply) {
	epoch := h.epoch
	for _, out := range h.machine.Step(c.reading(h), in) {
		if h.machine == nil || h.epoch != epoch {
			return answer // a process that has ended does nothing more
		}
		switch out := out.(type) {
		case election.Reply:
			c.replied(h, in.(election.ClaimReceived).Request, out.Answer)
			answer.claim = &out.Answer
		case election.LeaveReply:
			c.dismisses(h, in.(election.LeaveReceived).Request, out.Answer)
			answer.leaving = &out.Answer
		default:
			c.carryOut(h, in, out)
		}
	}
	if h.machine == nil || h.epoch != epoch {
		return answer
	}
	c.reached(h)
	c.wakeUp(h)
	return answer
}

// wakeUp sees to it that the host gets its next tick.
func (c *Cluster) wakeUp(h *host) {
	next := h.machine.Next()
	if next <= h.local(c.now) {
		c.breaks(Spin, "%s asks for a tick that was due already: its caller would spin", h.name)
	}
	h.wakeAt = max(h.trueTime(next), c.now+1)
	c.setTimer(h)
}

// setTimer sets a timer unless an earlier one is set, which will set the next.
func (c *Cluster) setTimer(h *host) {
	if h.wakeAt < h.timerAt {
		h.timerAt = h.wakeAt
		c.queue.push(h.wakeAt, thing{what: aTimer, host: h, epoch: h.epoch})
	}
}

func (c *Cluster) carryOut(h *host, in election.Input, out election.Output) {
	counts := c.Coverage.Counts
	switch out := out.(type) {
	case election.SendQuery:
		counts["query"]++
		c.ask(h, out)
	case election.SendClaim:
		counts["claim"]++
		c.claims(h, out.Request.Claim)
		c.broadcast(h, message{kind: aClaim, input: election.ClaimReceived{Request: out.Request}}, &round{number: out.Round})
	case election.SendEnd:
		c.ends(h, out.Request)
		c.broadcast(h, message{kind: anEnd, input: election.EndReceived(out)}, nil)
	case election.ExtendLease:
		counts["extend lease"]++
		h.workUntil, h.leaseEnd = out.WorkUntil, out.LeaseEnd
	case election.StartWork:
		c.startWork(h, out.Change)
	case election.StopWork:
		c.stopWork(h, out)
	case election.Halt:
		counts["halt"]++
		c.trace("%s halts", h.name)
		if !h.account.told {
			c.breaks(Duty, "%s halts and never told its bot to stop", h.name)
		}
		c.ended(h, out.Reason)
	case election.SendLeave:
		c.leaves(h, out.Request)
		c.broadcast(h, message{kind: aLeaving, input: election.LeaveReceived(out)}, nil)
	case election.Left:
		c.left(h)
		c.ended(h, election.ReasonShutdown)
	case election.Departed:
		counts["departed"]++
		c.trace("%s knows that %s has left", h.name, out.Name)
	case election.PrimaryChanged:
		counts["primary changed, "+string(out.Change.Reason)]++
		if out.Change.Witnessed {
			counts["primary changed, death witnessed"]++
		}
	case election.Died:
		counts["died"]++
	case election.SteppedDown:
		counts["stepped down, "+string(out.Reason)]++
	case election.ElectionEnded:
		counts["election "+string(out.Result)]++
		c.gaveUp(h, in, out)
	case election.Mismatch:
		counts["mismatch, "+string(out.Refusal)]++
	case election.SizeChanged:
		counts["size changed"]++
		c.trace("%s counts %d replicas (configured %d)", h.name, out.Expected, out.Configured)
		c.resized(h, in, out.Expected)
	}
}

func (c *Cluster) startWork(h *host, ch election.Change) {
	c.Coverage.Counts["start bot"]++
	c.trace("%s is primary: %d after %q, %s, gap %v", h.name, ch.Claim.Timestamp, ch.Previous, ch.Reason, ch.Gap)
	c.begins(h, ch.Claim)
	h.botRunning = true
	h.term = len(c.Terms)
	c.Terms = append(c.Terms, Term{Claim: ch.Claim, Host: h.index, From: c.now, To: -1})
	c.moment(OnWin, h)
}

func (c *Cluster) stopWork(h *host, out election.StopWork) {
	took := h.dice.within(c.opt.Lease / 20)
	if out.Drain {
		c.Coverage.Counts["stop bot, drain"]++
		took = h.dice.within(c.opt.Lease)
	} else {
		c.Coverage.Counts["stop bot, now"]++
	}
	c.trace("%s stops its bot: %s (drain %v)", h.name, out.Reason, out.Drain)
	c.stops(h, out)
	h.account.stopping = out.Reason
	c.queue.push(c.now+took, thing{what: aSilence, host: h, epoch: h.epoch})
	c.moment(OnStop, h)
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

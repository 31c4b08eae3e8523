package electiontest

import (
	"fmt"
	"slices"
	"time"

	"habot/app/election"
)

// Plan is one schedule: a cluster, a network, and a list of faults. Everything that is random is drawn
// from the seed, from a stream of its own for each link and host, so that the same plan is the same
// story, and a plan with one fault less is the same story without it, as far as can be. It has a text form;
// see ParsePlan.
type Plan struct {
	Seed     uint64
	Replicas int
	Quorum   int // 0: majority
	// Hosts is how many there are, at least Replicas. The last one is the incompatible, if there is one.
	Hosts        int
	Incompatible Incompatible
	Noise        Noise
	// NoiseFrom and NoiseUntil bound, in true time, when there is noise.
	NoiseFrom, NoiseUntil time.Duration
	Drift                 bool
	Wall                  WallClocks
	Lifelines             Lifelines
	// Witnesses are hosts whose replicas vote and never are primary; there is another host that starts with the first ones
	// and stays.
	Witnesses []int
	// Patience is for how long one that leaves waits for the next sign of a newcomer.
	Patience time.Duration
	// Hasty replicas keep no silence when they start. It stands for a broken build, to test the tests:
	// nothing draws it.
	Hasty bool
	// Trouble is when the faults end and peace begins.
	Trouble time.Duration
	Faults  []Fault
}

// Fault is one thing done to one host at one time.
type Fault struct {
	At time.Duration
	// On, if set, has the fault wait from At on for the first such moment, and then for After.
	On    Moment
	After time.Duration
	Kind  FaultKind
	// The replica it is done to, and the other end of what is cut.
	Who, Whom Target
	// For is how long a freeze lasts, or how far a wall clock is off.
	For time.Duration
	// N and Q are REPLICAS and QUORUM.
	N, Q int
}

// FaultKind is what is done.
type FaultKind string

// The kinds of faults.
const (
	DoStart     FaultKind = "start"
	DoCrash     FaultKind = "crash"
	DoStop      FaultKind = "stop"      // in order
	DoLeave     FaultKind = "leave"     // in order, and for good
	DoFreeze    FaultKind = "freeze"    // for a while
	DoCut       FaultKind = "cut"       // one way
	DoPartition FaultKind = "partition" // one host, or two, against the rest
	DoHeal      FaultKind = "heal"
	DoWall      FaultKind = "wall"  // sets a wall clock off
	DoDrift     FaultKind = "drift" // another rate of a local clock
	DoAil       FaultKind = "ail"   // Telegram cannot be reached
	DoRecover   FaultKind = "recover"
	DoResign    FaultKind = "resign"
	DoDie       FaultKind = "die"       // the bot, by itself
	DoResize    FaultKind = "resize"    // REPLICAS of those that start later
	DoConfigure FaultKind = "configure" // REPLICAS and QUORUM of one host from its next start on
)

// Moment is something a host does, at which a fault may strike it.
type Moment string

// The moments.
const (
	OnClaim      Moment = "claim"      // it has made a claim that it had not made before
	OnGrant      Moment = "grant"      // it has granted another's claim
	OnWithdrawal Moment = "withdrawal" // it has withdrawn its claim
	OnWin        Moment = "win"        // it has become primary
	OnStop       Moment = "stop"       // its bot has been told to stop
	OnRelease    Moment = "release"    // it has released its lease
	OnLeaving    Moment = "leaving"    // it says that it leaves
	OnDeparted   Moment = "departed"   // it says that it has left
)

func allMoments() []Moment {
	return []Moment{OnClaim, OnGrant, OnWithdrawal, OnWin, OnStop, OnRelease, OnLeaving, OnDeparted}
}

// Target is a host: its number, or who it is when the fault strikes.
type Target int

// The targets that are not numbers.
const (
	ThePrimary Target = -1 - iota // host 0 if there is none
	TheStandby                    // the first, host 0 if there is none
	TheOne                        // of the moment
)

// --- carrying a plan out -------------------------------------------------------------------------

// cluster is the plan's, before anything has happened.
func (p *Plan) cluster(trace func(string), coverage *Coverage) *Cluster {
	c := New(Options{
		Seed: p.Seed, Replicas: p.Replicas, Quorum: p.Quorum, Drift: p.Drift, Wall: p.Wall, Lifelines: p.Lifelines, Witnesses: p.Witnesses, Patience: p.Patience,
		Trace: trace, Coverage: coverage,
	})
	for len(c.hosts) < p.Hosts {
		c.AddHost()
	}
	c.members = p.Hosts
	if p.Incompatible != Compatible {
		c.members--
		c.hosts[c.members].incompatible = p.Incompatible
	}
	c.hasty = p.Hasty
	c.opt.Noise.MaxDelay = time.Millisecond
	if p.Noise != c.opt.Noise && p.NoiseFrom < p.NoiseUntil {
		c.At(p.NoiseFrom, func() { c.opt.Noise = p.Noise })
		c.At(p.NoiseUntil, c.quiet)
	}
	for _, f := range p.Faults {
		if f.At < p.Trouble {
			c.At(f.At, func() { c.arm(f) })
		}
	}
	return c
}

func (c *Cluster) quiet() { c.opt.Noise = Noise{MaxDelay: time.Millisecond} }

// Run carries the plan out: the trouble, then peace. It returns the cluster and the first broken
// guarantee, a *BrokenError.
func (p *Plan) Run(trace func(string), coverage *Coverage) (*Cluster, error) {
	c := p.cluster(trace, coverage)
	if err := c.Run(p.Trouble); err != nil {
		return c, err
	}
	return c, c.peace(p.Noise.MaxDelay)
}

// arm has a fault strike now, or at its moment.
func (c *Cluster) arm(f Fault) {
	if f.On != "" {
		c.armed = append(c.armed, f)
		return
	}
	c.do(f, 0)
}

// moment tells that something has happened at a host. Faults that waited for it strike once the step is
// over.
func (c *Cluster) moment(on Moment, h *host) {
	for i, f := range c.armed {
		if f.On == on {
			c.Coverage.Counts["moment "+string(on)]++
			c.armed = append(c.armed[:i:i], c.armed[i+1:]...)
			c.struck = append(c.struck, struck{f, h.index})
			return
		}
	}
}

// struck is a fault whose moment has come, at a host.
type struck struct {
	fault Fault
	it    int
}

// strike does what moments have called for.
func (c *Cluster) strike() {
	for len(c.struck) > 0 {
		s := c.struck[0]
		c.struck = c.struck[1:]
		if s.fault.After > 0 {
			c.At(c.now+s.fault.After, func() { c.do(s.fault, s.it) })
			continue
		}
		c.do(s.fault, s.it)
	}
}

func (c *Cluster) who(t Target, it int) int {
	switch t {
	case TheOne:
		return it
	case ThePrimary:
		return max(0, c.Primary())
	case TheStandby:
		for i := range c.members {
			if c.Role(i) == election.Standby {
				return i
			}
		}
		return 0
	}
	return int(t)
}

func (c *Cluster) do(f Fault, it int) {
	if c.peaceful {
		return // it was late
	}
	i := c.who(f.Who, it)
	switch f.Kind {
	case DoStart:
		if !c.hosts[i].gone {
			c.Start(i)
		}
	case DoCrash:
		c.Crash(i)
	case DoStop:
		c.Stop(i)
	case DoLeave:
		c.hosts[i].gone = c.Up(i)
		c.Stop(i)
	case DoFreeze:
		c.Freeze(i, f.For)
	case DoCut:
		c.Cut(i, c.who(f.Whom, it))
	case DoPartition:
		c.Partition(i, c.who(f.Whom, it))
	case DoHeal:
		c.Heal()
	case DoWall:
		c.SetWall(i, f.For)
	case DoDrift:
		if c.opt.Drift {
			c.SetDrift(i)
		}
	case DoAil:
		c.SetHealth(i, false)
	case DoRecover:
		c.SetHealth(i, true)
	case DoResign:
		c.Resign(i, election.ReasonSwitchover)
	case DoDie:
		c.FailPart(i)
	case DoResize:
		c.Resize(f.N)
		c.members = min(c.members, f.N) // those that are resized away do not come back
	case DoConfigure:
		c.Configure(i, f.N, f.Q)
	}
}

// --- peace ---------------------------------------------------------------------------------------

const (
	// Recovery is, in leases, within how long after the last message of the trouble has arrived there is
	// one primary and all others follow it, if all are up and can be reached: a replica that was
	// shutting down ends within a lease for its bot and a quarter for a successor, and starts again; then
	// a joining silence; then at most one lease more, of a promise that the trouble's last messages may have
	// brought a claim whose claimant has gone; then a candidacy, with two rounds of half a lease
	// each below a majority, and the question by which standbys learn of it.
	Recovery = 5
	// Takeover is, in tenths of a lease, within how long after a primary crashed in peace there is another: a
	// lease, the drift bound, and a few tries of a twentieth where many claim at once: the slowest seen
	// in 25,000 schedules took 1.1013 leases.
	Takeover = 12
	// WitnessedTakeover is the same, in tenths of a lease, where every replica learns of the death: a few round trips.
	WitnessedTakeover = 1
	// TakeoverBelowMajority is the same there: a candidate has to wait for every replica, the dead one included,
	// so each round takes half a lease, and a candidacy that a lower one ends has others wait for its
	// promises. The slowest seen took 3.5 leases.
	TakeoverBelowMajority = 60
	// HandOver is, in tenths of a lease, how long there is no primary when one hands over in peace, after its bot
	// has stopped: a few round trips. Below a majority the successor asks every replica too, but all answer.
	HandOver = 1
	// LeaveWithin is, in leases, how long a replica that leaves goes on granting: longer than a bot drains.
	LeaveWithin = 2
	// TurnsWithin is the same, where it waits for newcomers too: they come one after the other.
	TurnsWithin = 20
	// stay is, in leases, for how long a primary is watched for staying.
	stay = 5
)

// peace mends everything and checks LIVENESS and, while nothing goes wrong, NO PREEMPTION.
func (c *Cluster) peace(late time.Duration) error {
	lease := c.opt.Lease
	c.trace("peace")
	c.quiet()
	c.Heal()
	c.armed, c.struck, c.peaceful, c.reviving = nil, nil, true, true
	for i, h := range c.hosts {
		if h.incompatible != Compatible {
			c.Crash(i)
		}
	}
	for i, h := range c.hosts[:c.members] {
		late = max(late, h.frozenUntil-c.now) // what waits for it has been put off until then
		h.frozenUntil = 0
		c.SetHealth(i, true)
		if h.machine != nil && h.replicas == 0 && h.started > c.opt.Replicas {
			c.Crash(i) // a cluster that was made smaller ends with a restart of all
		}
		if !h.gone {
			c.Start(i)
		}
	}
	c.callBack()
	began := c.now + late
	recovery := Recovery * lease
	if c.leaving() && c.opt.Patience > 0 {
		recovery += c.leaveWithin()
	}
	if err := c.Run(began + recovery); err != nil {
		return err
	}
	p := c.Primaries()
	if len(p) != 1 {
		return &BrokenError{Liveness, c.now, fmt.Sprintf("%v after peace the primaries are %v", recovery, p)}
	}
	for _, i := range c.present() {
		if i != p[0] && c.Role(i) != election.Standby {
			return &BrokenError{Liveness, c.now, fmt.Sprintf("%v after peace r%d is %q", recovery, i, c.Role(i))}
		}
	}
	c.Coverage.Recovery = max(c.Coverage.Recovery, c.Terms[c.hosts[p[0]].term].From-began)
	if err := c.stays(p[0]); err != nil {
		return err
	}
	if err := c.scalesIn(p[0]); err != nil {
		return err
	}
	return c.goes(c.Primary())
}

// leaving reports whether a replica has been asked to stop and has not yet.
func (c *Cluster) leaving() bool {
	return slices.ContainsFunc(c.hosts, func(h *host) bool { return h.machine != nil && h.leaving })
}

// leaveWithin is how long a replica that leaves goes on granting.
func (c *Cluster) leaveWithin() time.Duration {
	if c.opt.Patience > 0 {
		return TurnsWithin * c.opt.Lease
	}
	return LeaveWithin * c.opt.Lease
}

// settles is how much later a primary hands over that learns first which of the others leave as well.
func (c *Cluster) settles() time.Duration { return min(c.opt.Patience, c.opt.Lease/2) }

// present are the hosts that take part and have not left for good.
func (c *Cluster) present() []int {
	var all []int
	for i, h := range c.hosts[:c.members] {
		if !h.gone {
			all = append(all, i)
		}
	}
	return all
}

// callBack starts those that have left for good again, as long as others do not know of it and need them for a quorum.
func (c *Cluster) callBack() {
	for i, h := range c.hosts[:c.members] {
		if h.gone && !c.enough() {
			h.gone = false
			c.Start(i)
		}
	}
}

// candidates are how many of some hosts are no witnesses.
func (c *Cluster) candidates(hosts []int) int {
	n := 0
	for _, i := range hosts {
		if !c.hosts[i].witness {
			n++
		}
	}
	return n
}

// enough reports whether those that are present, and one less, are a quorum to each of them, and one can be primary.
func (c *Cluster) enough() bool {
	all := c.present()
	if len(all) < min(c.members, c.opt.Replicas) || c.candidates(all) == 0 {
		return false
	}
	for _, i := range all {
		if c.Up(i) && c.View(i).Quorum > max(1, len(all)-1) {
			return false
		}
	}
	return true
}

// scalesIn has replicas leave that are more than REPLICAS, all at once, and sees that those that stay need no larger
// quorum from then on, and that there is a primary all the time but for a handover.
func (c *Cluster) scalesIn(p int) error {
	all := c.present()
	for _, i := range all {
		if !c.Up(i) || c.View(i).Expected != len(all) || len(c.View(i).Peers) != len(all)-1 || c.hosts[i].replicas != 0 {
			return nil // it is no larger number that counts, or not yet everywhere, or some that are silent are waited for
		}
	}
	if len(all) <= c.opt.Replicas {
		return nil
	}
	c.Coverage.Counts["peace scale-in"]++
	d := newDice(c.opt.Seed, forPeace, 3)
	terms := len(c.Terms)
	for len(all) > c.opt.Replicas {
		n := d.below(len(all))
		for !c.hosts[all[n]].witness && c.candidates(all) == 1 {
			n = (n + 1) % len(all)
		}
		i := all[n]
		all = slices.Delete(all, n, n+1)
		c.At(c.now+d.within(c.opt.Lease/20), func() { c.do(Fault{Kind: DoLeave, Who: Target(i)}, 0) })
	}
	c.peaceful = false // for these faults
	err := c.Run(c.now + 2*c.opt.Lease + c.settles())
	c.peaceful = true
	if err != nil {
		return err
	}
	for _, i := range all {
		if v := c.View(i); v.Expected != c.opt.Replicas || !v.Known() {
			return &BrokenError{Liveness, c.now, fmt.Sprintf("r%d counts %d replicas after all but %d have left, and knows a primary: %t", i, v.Expected, c.opt.Replicas, v.Known())}
		}
	}
	for i, next := range c.Terms[terms:] {
		last := c.Terms[terms+i-1]
		if last.Reason != election.ReasonShutdown || next.From-last.To > HandOver*c.opt.Lease/10 {
			return &BrokenError{Liveness, c.now, fmt.Sprintf("r%d, primary, ended (%s) when others left, and there was no primary for %v", last.Host, last.Reason, next.From-last.To)}
		}
	}
	if !slices.Contains(c.present(), c.Primary()) {
		return &BrokenError{Liveness, c.now, fmt.Sprintf("after a scale-in the primary is %d, it was %d", c.Primary(), p)}
	}
	return nil
}

// stays sees that no replica displaces the primary, newcomers with any clock included.
func (c *Cluster) stays(p int) error {
	d := newDice(c.opt.Seed, forPeace, 1)
	terms := len(c.Terms)
	if i := d.below(c.members); i != p && !c.hosts[i].gone && c.spares(p) && d.chance(0.5) {
		c.Coverage.Counts["peace newcomer"]++
		c.SetWall(i, d.around(10*time.Hour, 10*time.Hour)-10*time.Hour)
		c.Crash(i)
		c.At(c.now+d.within(c.opt.Lease), func() { c.Start(i) })
	}
	if err := c.Run(c.now + stay*c.opt.Lease); err != nil {
		return err
	}
	if now := c.Primaries(); len(c.Terms) != terms || len(now) != 1 || now[0] != p {
		return &BrokenError{NoPreemption, c.now, fmt.Sprintf("r%d was displaced in peace, now %v", p, now)}
	}
	return nil
}

// spares reports whether one host can be missed: the others are a quorum to each of them.
func (c *Cluster) spares(p int) bool {
	all := c.present()
	for _, i := range all {
		if !c.Up(i) || c.View(i).Quorum > len(all)-1 {
			return false
		}
	}
	return len(all) > 1 && c.Up(p)
}

// goes sees that the role is taken over in time when the primary goes.
func (c *Cluster) goes(p int) error {
	if !c.spares(p) {
		return nil
	}
	if c.candidates(c.present()) == 1 {
		return c.remains(p)
	}
	lease := c.opt.Lease
	terms, term := len(c.Terms), c.hosts[p].term
	bound, from := Takeover*lease/10, c.now
	if !c.majority() {
		bound = TakeoverBelowMajority * lease / 10
	}
	d := newDice(c.opt.Seed, forPeace, 2)
	c.reviving = false
	crash := false
	switch d.below(4) {
	case 0:
		crash = true
		c.Coverage.Counts["peace crash"]++
		c.Crash(p)
		if c.majority() && c.opt.Lifelines == LifelinesAll {
			c.Coverage.Counts["peace crash witnessed"]++
			bound = WitnessedTakeover * lease / 10
		}
	case 1:
		c.Coverage.Counts["peace hand-over"]++
		c.Resign(p, election.ReasonSwitchover)
		bound = lease + HandOver*lease/10
	case 2:
		c.Coverage.Counts["peace shutdown"]++
		c.Stop(p)
		bound = lease + HandOver*lease/10 + c.settles()
	case 3:
		if all := len(c.present()); c.opt.Patience >= 2*lease && c.majority() && all > 2 && c.opt.Replicas > 2 && d.chance(0.7) {
			return c.inTurn(d)
		}
		return c.allStop(d)
	}
	if err := c.Run(c.now + bound); err != nil {
		return err
	}
	if now := c.Primaries(); len(now) != 1 || now[0] == p || len(c.Terms) != terms+1 {
		return &BrokenError{Liveness, c.now, fmt.Sprintf("%v after r%d went the primaries are %v, after %d terms more", bound, p, now, len(c.Terms)-terms)}
	}
	last, next := c.Terms[term], c.Terms[terms]
	if crash {
		c.Coverage.Takeover = max(c.Coverage.Takeover, next.From-from)
	} else if gap := next.From - last.To; gap > HandOver*lease/10 {
		return &BrokenError{Liveness, c.now, fmt.Sprintf("there was no primary for %v when r%d handed over", gap, p)}
	}
	return nil
}

// remains sees that the only replica that can be primary stays so when it is asked to hand over to any other, and that no witness
// takes its place when it crashes.
func (c *Cluster) remains(p int) error {
	c.Coverage.Counts["peace with one candidate"]++
	if to, err := c.hosts[p].machine.Successor(c.hosts[p].local(c.now), ""); err == nil {
		return &BrokenError{Witness, c.now, fmt.Sprintf("r%d would hand over to %s", p, to)}
	}
	c.reviving = false
	c.Crash(p)
	if err := c.Run(c.now + 3*c.opt.Lease); err != nil {
		return err
	}
	if now := c.Primaries(); len(now) != 0 {
		return &BrokenError{Witness, c.now, fmt.Sprintf("after r%d crashed the primaries are %v", p, now)}
	}
	return nil
}

// allStop stops all replicas at once, and sees that the primary can finish what it has in hand: those that stand by go on granting
// until it has released its lease, and no longer.
func (c *Cluster) allStop(d dice) error {
	c.Coverage.Counts["peace all stop"]++
	began := c.now
	for _, i := range c.present() {
		c.At(c.now+d.within(c.opt.Lease/20), func() { c.Stop(i) })
	}
	// A lease for the bot, the wait for a successor if one that is silent might be it, and little more.
	if err := c.Run(c.now + c.opt.Patience + 27*c.opt.Lease/20 + HandOver*c.opt.Lease/10); err != nil {
		return err
	}
	for _, i := range c.present() {
		if c.Up(i) {
			return &BrokenError{Liveness, c.now, fmt.Sprintf("all were asked to stop, and r%d (%s) has not", i, c.Role(i))}
		}
	}
	for _, t := range c.Terms {
		if t.To >= began && t.Reason != election.ReasonShutdown {
			return &BrokenError{Liveness, c.now, fmt.Sprintf("all were asked to stop, and r%d's term ended otherwise: %s", t.Host, t.Reason)}
		}
	}
	return nil
}

// inTurn stops all replicas at once, each of which starts again, and sees that there is a primary all the time but for handovers.
func (c *Cluster) inTurn(d dice) error {
	c.Coverage.Counts["peace in turn"]++
	c.reviving, c.revivesIn = true, c.opt.Lease/2
	terms, began := len(c.Terms), c.now
	for _, i := range c.present() {
		c.At(c.now+d.within(c.opt.Lease/20), func() { c.Stop(i) })
	}
	if err := c.Run(c.now + TurnsWithin*c.opt.Lease); err != nil {
		return err
	}
	for _, i := range c.present() {
		if c.hosts[i].bornAt < began || c.Role(i) != election.Standby && c.Role(i) != election.Primary {
			return &BrokenError{Liveness, c.now, fmt.Sprintf("all were asked to stop and start again, and r%d, %q, has not", i, c.Role(i))}
		}
	}
	for i, next := range c.Terms[terms:] {
		last := c.Terms[terms+i-1]
		if last.Reason != election.ReasonShutdown || next.From-last.To > HandOver*c.opt.Lease/10 {
			return &BrokenError{Liveness, c.now, fmt.Sprintf("all were asked to stop and start again, r%d's term ended (%s), and there was no primary for %v", last.Host, last.Reason, next.From-last.To)}
		}
	}
	return nil
}

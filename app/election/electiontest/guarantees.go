package electiontest

import (
	"fmt"
	"math"
	"slices"
	"time"

	"habot/app/election"
)

// Guarantee names what a cluster has broken.
type Guarantee string

// The guarantees of the election, as they are checked here. With a quorum below a majority neither
// SAFETY nor ORDER is promised, and neither is checked.
const (
	// Safety: after every event at most one host's bot runs under a lease that has not ended on that
	// host's own clock; at most one likewise before the stop margin begins. A frozen host counts: it does
	// not know that it slept, and only its clock stops it.
	Safety Guarantee = "SAFETY"

	// Order: a term's timestamp is above the last term's if any replica supports both, that is has granted
	// the last term's claim (or made it), has not restarted since, and supports the new claim now. As long
	// as no replica has restarted, two majorities share such a replica, so timestamps of successive
	// terms increase without a condition. And no replica claims twice under one timestamp, or goes back:
	// late answers to a withdrawn claim would count for the next.
	Order Guarantee = "ORDER"

	// NoPreemption: "a healthy primary is never displaced by a newcomer whose clock runs behind". What
	// displaces a primary is either a promise that is broken or a primary that lets go, so both are
	// checked, at any quorum and under all faults:
	//   - A replica that has granted a claim grants or makes no other until a lease has passed on its
	//     clock, unless that claim was withdrawn or released, or its own claimant makes a new one.
	//   - It grants that claim again to a primary meanwhile, as long as that one holds its lease.
	//   - A primary's bot is stopped only for a cause of its own: it was asked to hand over or to leave, it is
	//     unhealthy, below a majority it met a lower one, or the lease is lost: of the answers to its claim
	//     that granted, counted here independently from when their requests left, fewer than a quorum
	//     outlast the stop margin.
	// In peace, when nothing is lost, the first two make every renewal succeed, so no primary is displaced
	// whatever wall clocks say: that is checked as well, with newcomers whose clocks are hours behind.
	NoPreemption Guarantee = "NO PREEMPTION"

	// LowestWins: "of candidates that receive each other's claims the lowest wins". Of two candidates one of
	// which receives the other's claim, the higher falls and the lower stands. Checked whenever a claim is
	// answered and whenever a candidacy ends, at any quorum and under all faults:
	//   - A candidate that receives a lower claim does not stay candidate, unless that claim could not win
	//     either way: it is below the floor, was ended, or comes from a replica that cannot take part.
	//   - A candidate grants no claim but a lower one, and not without withdrawing its own first.
	//   - A candidate yields only to a lower claim, received itself or as the holder of a promise, or to a primary.
	// Hence no candidate that has received a lower candidate's claim wins while that one stands.
	LowestWins Guarantee = "LOWEST WINS"

	// Liveness: see Recovery, Takeover and HandOver for the bounds.
	Liveness Guarantee = "LIVENESS"

	// Number: the number of replicas that a replica counts is never below the number of those that run, or ran until
	// a lease ago, as long as all have been in contact with that many before: any two of its quorums share one that
	// may have granted. So one that has left in order is counted out only once no replica counts its grant:
	//   - When a replica says that it has left, no other's lease or candidacy counts a grant of it.
	//   - A primary that says that it counts a grant no more, does not.
	//   - One that has left grants nothing.
	Number Guarantee = "NUMBER"

	// Witness: a witness claims nothing, and no primary names it as the one to take over.
	Witness Guarantee = "WITNESS"

	// Duty is what the machine owes its caller: a lease is released only after the work has stopped, a bot
	// starts under a lease only, a process halts only after it told its bot to stop.
	Duty Guarantee = "DUTY"
	// Roles: a replica changes roles only as the protocol has it (see moves).
	Roles Guarantee = "ROLES"
	// Spin: the machine asks for a tick that was due already.
	Spin Guarantee = "SPIN"
	// Storm: messages and timers beget each other without end.
	Storm Guarantee = "STORM"
)

// BrokenError says that a guarantee does not hold.
type BrokenError struct {
	Guarantee Guarantee
	At        time.Duration // true time
	What      string
}

// Error implements error.
func (b *BrokenError) Error() string { return fmt.Sprintf("%s: at %v %s", b.Guarantee, b.At, b.What) }

// breaks keeps the first broken guarantee for Check.
func (c *Cluster) breaks(g Guarantee, format string, args ...any) {
	if c.broken == nil {
		c.broken = &BrokenError{Guarantee: g, At: c.now, What: fmt.Sprintf(format, args...)}
	}
}

// account is what the simulator keeps of one process to judge it by; it never asks the machine.
type account struct {
	// own is the claim it has made and neither withdrawn nor released; lastOwn the highest timestamp it
	// ever used.
	own     election.Claim
	lastOwn int64
	// acks are the answers that granted own, by replica: until when they count on its clock.
	// fresh is the one that its current step brings: what the step does first does not know of it.
	acks  []ack
	fresh ack
	// promised is the claim it granted last, for a lease until the instant until. Own claims are promises.
	promised election.Claim
	until    election.Instant
	// granted are all claims it ever granted, its own included.
	granted []election.Claim

	// dismissed are replicas that it said it counts no more for own.
	dismissed []election.ReplicaID
	departed  bool // it said that it has left

	role     election.Role // after its last step
	asked    bool          // to hand over or to leave, in this term
	told     bool          // its bot was ordered to stop, in this term
	stopping election.Reason
}

type ack struct {
	by    election.ReplicaID
	until election.Instant
}

func (a *account) grants(c election.Claim) {
	if n := len(a.granted); n == 0 || a.granted[n-1] != c {
		a.granted = append(a.granted, c)
	}
}

func (a *account) acknowledge(by election.ReplicaID, until election.Instant) {
	for i := range a.acks {
		if a.acks[i].by == by {
			a.acks[i].until = max(a.acks[i].until, until)
			return
		}
	}
	a.acks = append(a.acks, ack{by, until})
}

// settle counts the fresh answer.
func (a *account) settle(claim election.Claim) {
	if a.fresh.by != "" && a.own == claim {
		a.acknowledge(a.fresh.by, a.fresh.until)
	}
	a.fresh = ack{}
}

// supportedUntil is until when a quorum of q supports its own claim.
func (a *account) supportedUntil(q int) election.Instant {
	if len(a.acks) < q {
		return math.MinInt64
	}
	ends := make([]election.Instant, 0, maxHosts)
	for _, k := range a.acks {
		ends = append(ends, k.until)
	}
	slices.Sort(ends)
	return ends[len(ends)-q]
}

// majority reports whether the quorum is a majority.
func (c *Cluster) majority() bool {
	return c.opt.Quorum == 0 || c.opt.Quorum > c.opt.Replicas/2
}

// takesPart reports whether two hosts can take part in the same election.
func takesPart(a, b *host) bool {
	return a.incompatible == b.incompatible && a.incompatible == Compatible
}

func (c *Cluster) hostOf(id election.ReplicaID) *host {
	for _, h := range c.hosts {
		if h.machine != nil && h.id == id {
			return h
		}
	}
	return nil
}

// Check returns the first guarantee that is broken: SAFETY at this instant, and whatever the steps
// so far have broken.
func (c *Cluster) Check() error {
	if c.opt.Outside {
		return nil
	}
	if c.broken != nil || !c.majority() {
		return c.broken
	}
	var acting, holding *host
	for _, h := range c.hosts {
		if !h.botRunning {
			continue
		}
		if c.acts(h) {
			if acting != nil {
				c.breaks(Safety, "both %s and %s act as primary", acting.name, h.name)
			}
			acting = h
		}
		if c.holds(h) {
			if holding != nil {
				c.breaks(Safety, "both %s and %s hold a lease", holding.name, h.name)
			}
			holding = h
		}
	}
	return c.broken
}

// claims judges a claim that a host makes, or makes again.
func (c *Cluster) claims(h *host, claim election.Claim) {
	a, now := &h.account, h.local(c.now)
	if h.witness {
		c.breaks(Witness, "%s, a witness, claims with %d", h.name, claim.Timestamp)
	}
	if claim != a.own {
		if claim.Timestamp <= a.lastOwn {
			c.breaks(Order, "%s claims with %d after %d", h.name, claim.Timestamp, a.lastOwn)
		}
		if a.promised != claim && now < a.until {
			c.breaks(NoPreemption, "%s claims with %d though it promised %d to %s", h.name, claim.Timestamp, a.promised.Timestamp, a.promised.Replica)
		}
		a.own, a.lastOwn, a.acks, a.dismissed = claim, claim.Timestamp, a.acks[:0], nil
		c.moment(OnClaim, h)
	}
	a.acknowledge(h.id, now.Add(c.grantedFor()))
	a.promised, a.until = claim, now.Add(c.opt.Lease)
	a.grants(claim)
}

// grantedFor is L(1-ε), for how long an answer counts from when its request left.
func (c *Cluster) grantedFor() time.Duration { return c.opt.Lease - c.opt.Lease/election.DriftBound }

// acknowledged takes an answer to a host's claim into its account.
func (c *Cluster) acknowledged(h *host, in election.AnswerReceived) {
	if in.Answer.Granted && in.Answer.Claim == h.account.own && !slices.Contains(h.account.dismissed, in.Answer.From.Replica) {
		h.account.fresh = ack{in.Answer.From.Replica, in.SentAt.Add(c.grantedFor())}
	}
}

// replied judges a host's answer to a claim.
func (c *Cluster) replied(h *host, req election.ClaimRequest, answer election.ClaimAnswer) {
	claim, a, now := req.Claim, &h.account, h.local(c.now)
	if answer.Granted {
		c.Coverage.Counts["reply granted"]++
		if h.witness {
			c.Coverage.Counts["reply granted by a witness"]++
		}
	} else {
		c.Coverage.Counts["reply refused, "+string(answer.Refusal)]++
	}
	from := c.hostOf(claim.Replica)
	if (from != nil && !takesPart(from, h)) || h.incompatible != Compatible {
		if answer.Granted {
			c.breaks(Duty, "%s granted a claim of %s, which cannot take part", h.name, claim.Replica)
		}
		return
	}
	if answer.Granted && a.departed {
		c.breaks(Number, "%s granted %d though it said that it has left", h.name, claim.Timestamp)
	}
	if successor(a.promised, claim) {
		a.promised, a.until = election.Claim{}, 0
	}
	standing := !a.own.IsZero() && !h.botRunning && a.role != election.Primary
	switch held := now < a.until && !a.promised.IsZero(); {
	case answer.Granted && standing && a.own != claim:
		c.breaks(LowestWins, "%s granted %d and is still candidate with %d", h.name, claim.Timestamp, a.own.Timestamp)
	case standing && claim.Compare(a.own) < 0 && answer.Refusal == election.RefusedHeld:
		c.breaks(LowestWins, "%s, candidate with %d, received the lower %d and stays candidate", h.name, a.own.Timestamp, claim.Timestamp)
	case answer.Granted && held && a.promised != claim:
		c.breaks(NoPreemption, "%s granted %d of %s though it promised %d to %s", h.name, claim.Timestamp, claim.Replica, a.promised.Timestamp, a.promised.Replica)
	case !answer.Granted && held && a.promised == claim && req.From.Role == election.Primary &&
		from != nil && from.account.own == claim && c.holds(from):
		c.breaks(NoPreemption, "%s refused (%s) to renew %d, which it promised to %s", h.name, answer.Refusal, claim.Timestamp, claim.Replica)
	}
	if answer.Granted {
		a.promised, a.until = claim, now.Add(c.opt.Lease)
		a.grants(claim)
		c.moment(OnGrant, h)
	}
}

// successor: a replica that claims again has ended what it claimed before.
func successor(before, now election.Claim) bool {
	return before.Replica == now.Replica && before.Timestamp < now.Timestamp
}

// endArrives takes the end of a claim into the account of a host that receives it.
func (c *Cluster) endArrives(h *host, req election.EndRequest) {
	if from := c.hostOf(req.From.Replica); from != nil && !takesPart(from, h) {
		return
	}
	if a := &h.account; a.promised == req.Claim {
		a.promised, a.until = election.Claim{}, 0
	}
}

// dismisses judges a host's answer to one that leaves.
func (c *Cluster) dismisses(h *host, req election.LeaveRequest, answer election.LeaveAnswer) {
	a, id := &h.account, req.From.Replica
	if !answer.Dismissed {
		c.Coverage.Counts["reply needed"]++
		return
	}
	c.Coverage.Counts["reply dismissed"]++
	if answer.Claim.IsZero() || answer.Claim != a.own {
		c.breaks(Number, "%s dismissed %s from %d, which is not its claim", h.name, id, answer.Claim.Timestamp)
	}
	if !slices.Contains(a.dismissed, id) {
		a.dismissed = append(a.dismissed, id)
	}
	a.acks = slices.DeleteFunc(a.acks, func(k ack) bool { return k.by == id })
	if q := h.machine.Status(h.local(c.now)).Quorum; h.leaseEnd > a.supportedUntil(q) {
		c.breaks(Number, "%s dismissed %s and holds a lease until %v that only %v supports", h.name, id, h.leaseEnd, a.supportedUntil(q))
	}
}

// isDismissed takes the answer to one that leaves into its account.
func (c *Cluster) isDismissed(h *host, answer election.LeaveAnswer) {
	if a := &h.account; answer.Dismissed && answer.Claim == a.promised {
		a.until = min(a.until, h.local(c.now))
	}
}

// hearsLeaving takes it into the account of a host that another has left.
func (c *Cluster) hearsLeaving(h *host, req election.LeaveRequest) {
	if a := &h.account; req.Departed && election.Speaks(req.From.Protocol) && a.promised.Replica == req.From.Replica {
		a.promised, a.until = election.Claim{}, 0
	}
}

// leaves judges that a host says that it leaves, or has left.
func (c *Cluster) leaves(h *host, req election.LeaveRequest) {
	if !req.Departed {
		c.Coverage.Counts["leaving"]++
		c.moment(OnLeaving, h)
		return
	}
	c.Coverage.Counts["leaving, departed"]++
	c.trace("%s says that it has left", h.name)
	c.moment(OnDeparted, h)
	h.account.departed = true
	if h.botRunning {
		c.breaks(Duty, "%s says that it has left while its bot runs", h.name)
	}
	for _, o := range c.hosts {
		if o == h || o.machine == nil || o.account.own.IsZero() {
			continue
		}
		for _, k := range o.account.acks {
			if k.by == h.id && k.until > o.local(c.now) {
				c.breaks(Number, "%s says that it has left, and %s counts its grant of %d", h.name, o.name, o.account.own.Timestamp)
			}
		}
	}
}

// left counts how a host has left.
func (c *Cluster) left(h *host) {
	if h.account.departed {
		c.Coverage.Counts["left in order"]++
	} else {
		c.Coverage.Counts["left without a word"]++
	}
	c.trace("%s has left", h.name)
}

// resized judges the number that a host counts from now on, if that is smaller because another has left.
func (c *Cluster) resized(h *host, in election.Input, n int) {
	if _, left := in.(election.LeaveReceived); !left || c.hasty {
		return
	}
	c.Coverage.Counts["counted out"]++
	run := 0
	for _, o := range c.hosts {
		calledBack := c.peaceful && c.now-o.bornAt < 5*c.opt.Lease // growthDelay, which the others have yet to notice
		if o.machine != nil && takesPart(o, h) && !o.account.departed && !calledBack {
			run++
		}
	}
	if n < run {
		c.breaks(Number, "%s counts %d replicas, and %d run", h.name, n, run)
	}
}

// ends takes in that a host withdraws or releases its claim.
func (c *Cluster) ends(h *host, req election.EndRequest) {
	a := &h.account
	if a.promised == req.Claim {
		a.promised, a.until = election.Claim{}, 0
	}
	a.own = election.Claim{}
	if !req.Released {
		c.Coverage.Counts["withdrawal"]++
		c.moment(OnWithdrawal, h)
		return
	}
	c.Coverage.Counts["release"]++
	if req.Successor != "" {
		c.Coverage.Counts["release to a successor"]++
	}
	if to := c.hostOf(req.Successor); to != nil && to.witness {
		c.breaks(Witness, "%s releases %d to %s, a witness", h.name, req.Claim.Timestamp, to.name)
	}
	if h.botRunning {
		c.breaks(Duty, "%s released %d while its bot ran", h.name, req.Claim.Timestamp)
	}
	c.trace("%s releases %d to %q", h.name, req.Claim.Timestamp, req.Successor)
	c.moment(OnRelease, h)
}

// gaveUp judges the end of a candidacy by what brought it about.
func (c *Cluster) gaveUp(h *host, in election.Input, out election.ElectionEnded) {
	if out.Result != election.ElectionYielded {
		return
	}
	lower := func(claim election.Claim) bool { return !claim.IsZero() && claim.Compare(out.Claim) < 0 }
	ok := false
	switch in := in.(type) {
	case election.ClaimReceived:
		ok = lower(in.Request.Claim) || !in.Request.From.Primary.IsZero()
	case election.AnswerReceived:
		ok = lower(in.Answer.Holder) || !in.Answer.From.Primary.IsZero()
	case election.StatusReceived:
		ok = !in.Status.Primary.IsZero()
	}
	if !ok {
		c.breaks(LowestWins, "%s yielded with %d though it knew of nothing lower and of no primary", h.name, out.Claim.Timestamp)
	}
}

// begins judges a claim that begins a term.
func (c *Cluster) begins(h *host, claim election.Claim) {
	a, now := &h.account, h.local(c.now)
	a.asked, a.told = h.leaving, false
	if now >= h.workUntil {
		c.breaks(Duty, "%s starts its bot without a lease", h.name)
	}
	if slices.ContainsFunc(c.hosts, func(o *host) bool { return o.witness && slices.Contains(o.account.granted, claim) }) {
		c.Coverage.Counts["start bot by a witness's grant"]++
	}
	if len(c.Terms) == 0 || !c.majority() {
		return
	}
	last := c.Terms[len(c.Terms)-1]
	if claim.Timestamp > last.Claim.Timestamp {
		return
	}
	if !c.restarted {
		c.breaks(Order, "%s becomes primary with %d after %d, and no replica has restarted", h.name, claim.Timestamp, last.Claim.Timestamp)
	}
	for _, k := range append(a.acks, a.fresh) {
		if w := c.hostOf(k.by); w != nil && (w == h || k.until > now) && slices.Contains(w.account.granted, last.Claim) {
			c.breaks(Order, "%s becomes primary with %d after r%d with %d, and %s granted both",
				h.name, claim.Timestamp, last.Host, last.Claim.Timestamp, w.name)
		}
	}
}

// stops judges why a primary's bot is stopped.
func (c *Cluster) stops(h *host, out election.StopWork) {
	a := &h.account
	a.told = true
	var ok bool
	switch out.Reason {
	case election.ReasonLeaseLost:
		q := h.machine.Status(h.local(c.now)).Quorum
		margin := c.opt.Lease / 10 // election.Config.StopMargin
		ok = a.supportedUntil(q) <= h.local(c.now).Add(margin)
	case election.ReasonUnhealthy:
		ok = !h.health.OK
	case election.ReasonLowerPrimary:
		ok = !c.majority() && slices.ContainsFunc(c.Terms, func(t Term) bool { return t.Claim.Compare(a.own) < 0 })
	case election.ReasonSwitchover, election.ReasonShutdown:
		ok = a.asked
	default:
		ok = false // a bot that died by itself is not told
	}
	if !ok {
		c.breaks(NoPreemption, "%s is displaced (%s) without that cause", h.name, out.Reason)
	}
}

// CheckOrder returns the first pair of successive terms whose timestamps do not increase. It holds as
// long as no replica has restarted.
func (c *Cluster) CheckOrder() error {
	for i := 1; i < len(c.Terms); i++ {
		if a, b := c.Terms[i-1], c.Terms[i]; b.Claim.Timestamp <= a.Claim.Timestamp {
			return &BrokenError{Order, b.From, fmt.Sprintf("host %d became primary with %d after host %d with %d",
				b.Host, b.Claim.Timestamp, a.Host, a.Claim.Timestamp)}
		}
	}
	return nil
}

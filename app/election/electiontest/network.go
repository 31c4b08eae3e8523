package electiontest

import (
	"slices"
	"time"

	"habot/app/election"
)

type messageKind uint8

const (
	aQuestion messageKind = iota
	aClaim
	anEnd
	aLeaving
	anAnswer // of a question, a claim or a leaving
)

// message is one message on its way. An answer goes back to the process that asked.
type message struct {
	kind messageKind
	from *host
	// epoch and sentAt are the asker's: its process, and its local clock when the request left.
	epoch  int
	sentAt election.Instant
	input  election.Input // what the receiver's machine gets; none for a question
	round  *round
}

// round is one round of claims: every replica is asked, and it is over when all have answered or their time
// is up.
type round struct {
	number uint64
	open   int
	over   bool
	by     uint64 // bits of the hosts that have answered
}

// broadcast sends to every other host.
func (c *Cluster) broadcast(h *host, m message, r *round) {
	m.from, m.epoch, m.sentAt, m.round = h, h.epoch, h.local(c.now), r
	open := 0
	for _, to := range c.hosts {
		if to != h && h.knows(to) {
			c.deliver(to, m)
			open++
		}
	}
	if r == nil {
		return
	}
	r.open = open
	timeout := c.now + c.opt.Lease/2 // election.Config.QueryTimeout
	if r.open == 0 {
		timeout = c.now + 1
	}
	c.queue.push(timeout, thing{what: aRoundsEnd, host: h, epoch: h.epoch, round: r})
}

// knows reports whether a host's INSTANCES has another one.
func (h *host) knows(to *host) bool { return h.lists == nil || slices.Contains(h.lists, to.index) }

// ask sends a question to the host's next share of the others, and to the primary that it misses.
func (c *Cluster) ask(h *host, out election.SendQuery) {
	m := message{kind: aQuestion, from: h, epoch: h.epoch, sentAt: h.local(c.now)}
	share := (len(c.hosts) + out.Rounds - 1) / out.Rounds
	missed, known := c.hostOf(out.Missed), c.hostOf(out.Known)
	for i := range len(c.hosts) {
		to := c.hosts[(h.asks+i)%len(c.hosts)]
		if to == h || !h.knows(to) || (i >= share && to != missed) || to == known {
			continue
		}
		if i >= share {
			c.Coverage.Counts["query of a missed primary"]++
		}
		c.deliver(to, m)
	}
	h.asks = (h.asks + share) % len(c.hosts)
}

// deliver takes one message over the network: it may be lost, come late, come twice. Each message takes
// as many dice as every other.
func (c *Cluster) deliver(to *host, m message) {
	d := &c.links[m.from.index][to.index]
	lost, twice, way, secondWay := d.float(), d.float(), d.float(), d.float()
	switch n := c.opt.Noise; {
	case c.cut[m.from.index][to.index]:
		c.Coverage.Counts["fault message cut off"]++
	case lost < n.Loss:
		c.Coverage.Counts["fault message lost"]++
	default:
		c.carry(to, m, way)
		if twice < n.Duplicate {
			c.Coverage.Counts["fault message duplicated"]++
			c.carry(to, m, secondWay)
		}
	}
}

func (c *Cluster) carry(to *host, m message, way float64) {
	at := c.now + hop + time.Duration(way*float64(c.opt.Noise.MaxDelay))
	if (m.from.incompatible == OtherProtocol) != (to.incompatible == OtherProtocol) {
		m.input = ofAnotherProtocol(m.input)
	}
	process := anyProcess // a late request may reach a process that was not there when it left
	if m.kind == anAnswer {
		process = m.epoch
	}
	c.queue.push(at, thing{what: anArrival, host: to, epoch: process, msg: m})
}

// ofAnotherProtocol is what a message of another version of the protocol looks like. A incompatible's own
// machine is one of ours, so to it the others are the incompatible hosts.
func ofAnotherProtocol(in election.Input) election.Input {
	const another = election.Protocol + 1
	switch in := in.(type) {
	case election.ClaimReceived:
		in.Request.From.Protocol = another
		return in
	case election.EndReceived:
		in.Request.From.Protocol = another
		return in
	case election.AnswerReceived:
		in.Answer.From.Protocol = another
		return in
	case election.LeaveReceived:
		in.Request.From.Protocol = another
		return in
	case election.LeaveAnswerReceived:
		in.Answer.From.Protocol = another
		return in
	case election.StatusReceived:
		in.Status.Protocol = another
		return in
	}
	return in
}

// arrives gives a message to the host it reached, and sends the answer back.
func (c *Cluster) arrives(h *host, m message) {
	back := message{kind: anAnswer, from: h, epoch: m.epoch, sentAt: m.sentAt, round: m.round}
	switch m.kind {
	case aQuestion:
		back.input = election.StatusReceived{Status: h.machine.Status(h.local(c.now)), SentAt: m.sentAt}
	case aClaim:
		answer := c.step(h, m.input).claim
		if answer == nil {
			return // it ended before it answered
		}
		back.input = election.AnswerReceived{Answer: *answer, SentAt: m.sentAt}
	case aLeaving:
		c.hearsLeaving(h, m.input.(election.LeaveReceived).Request)
		answer := c.step(h, m.input).leaving
		if answer == nil {
			return
		}
		back.input = election.LeaveAnswerReceived{Answer: *answer, SentAt: m.sentAt}
	case anEnd:
		c.endArrives(h, m.input.(election.EndReceived).Request)
		c.step(h, m.input)
		return
	case anAnswer:
		c.isAnswered(h, m)
		return
	}
	if m.from.machine != nil && m.from.epoch == m.epoch {
		c.deliver(m.from, back)
	}
}

func (c *Cluster) isAnswered(h *host, m message) {
	if h.epoch != m.epoch {
		return
	}
	epoch := h.epoch
	switch in := m.input.(type) {
	case election.AnswerReceived:
		c.acknowledged(h, in)
	case election.LeaveAnswerReceived:
		c.isDismissed(h, in.Answer)
	}
	claim := h.account.own
	c.step(h, m.input)
	if h.machine == nil || h.epoch != epoch {
		return
	}
	h.account.settle(claim)
	r := m.round
	if r == nil || r.over {
		return
	}
	if bit := uint64(1) << m.from.index; r.by&bit == 0 {
		r.by |= bit
		if r.open--; r.open == 0 {
			c.endRound(h, r)
		}
	}
}

func (c *Cluster) endRound(h *host, r *round) {
	if !r.over {
		r.over = true
		c.step(h, election.RoundDone{Round: r.number})
	}
}

package turns

import (
	"slices"
	"time"
)

// polledBy takes a poll in.
func (m *Machine) polledBy(in Polled) {
	c := m.find(in.Client.Copy)
	if c != nil && c.isLate(in.Client) {
		m.emit(Answer{Poll: in.Poll})
		return
	}
	if c == nil {
		c = m.add(in.Client.Copy)
	}
	initial, alive := in.Offset <= 1, c.lastAlive()
	// No framework lowers its offset: one below what was confirmed is that of another process.
	n := len(m.window)
	again := c == m.active && n > 0 && in.Offset <= m.window[n-1].ID
	// The last call of a framework comes after it has cancelled its poll, and with that may have closed its only connection.
	leaves := in.Timeout <= 0 && c.waits && in.Offset >= 0
	if c.polled && (again || initial && c.confirmed || m.isNew(c, in.Client) && c.hasEnded() && !leaves) {
		m.startsOver(c)
	}
	// To ask for the newest updates only is how a framework begins that is to skip what waits. A copy that starts must not
	// throw away what people wrote: it is answered with nothing, and gets all from its next poll on.
	skips := in.Offset < 0
	m.request(c, in.Client)
	if c.dead || !c.polled {
		m.emit(Joined{c.id})
		m.roster = true
	}
	c.polled, c.dead, c.due = true, false, m.now
	c.sure(m.now)
	if in.Allowed != "" && in.Allowed != c.allowed {
		c.allowed, m.roster = in.Allowed, true
	}
	often := c.asked && m.now < c.askedAt.Add(minHold)
	limit, hold := m.asks(c, in)
	p := &poll{id: in.Poll, connection: in.Client.Connection, began: m.now, limit: limit, over: skips}
	m.hold(c, p)
	switch {
	case c == m.active:
		if m.inForce() {
			m.allow()
		}
		if again {
			m.restart(alive, in.Offset)
		}
	case m.active == nil && !c.farewell:
		m.begin(c)
	default:
		if !c.waiting {
			c.waiting, c.waitingSince, m.roster = true, m.now, true
		}
		if p.due = m.now.Add(max(hold, minHold)); skips {
			p.due = m.now.Add(minHold)
		}
		return
	}
	p.due = m.now.Add(hold)
	m.first = m.first && !initial // it has been given nothing yet
	m.expire()
	m.confirm(in.Offset)
	switch {
	case c.farewell, skips && !often:
		p.due = m.now
	case skips:
		p.due = m.now.Add(minHold)
	default:
		m.serve()
	}
}

// asks takes note of what a copy asks for, and returns how many updates it gets at most and how long it waits for them.
func (m *Machine) asks(c *member, in Polled) (limit int, hold time.Duration) {
	limit, hold = in.Limit, min(in.Timeout, maxHold)
	if c.asked && m.now < c.askedAt.Add(minHold) {
		hold = max(hold, minHold)
	}
	if c.asked && in.Offset == c.offset && m.now < c.askedAt.Add(oneAtATime) {
		limit = 1
	}
	c.asked, c.askedAt, c.offset = true, m.now, in.Offset
	c.confirmed = c.confirmed || in.Offset > 1
	// The last call of a framework that stops does not wait, and what it is given is thrown away. A copy that never waits
	// does not stop for that, nor does one that does not wait twice.
	waits := in.Timeout > 0
	c.farewell = !waits && c.waits
	if c.waits != waits {
		c.waits, m.roster = waits, true
	}
	return limit, hold
}

// hold adds a poll to those that a copy has open. Older ones get nothing any more, but are held for a while: two clients
// that share an address would otherwise keep ending each other's polls.
func (m *Machine) hold(c *member, p *poll) {
	for _, o := range c.polls {
		o.over, o.due = true, min(o.due, max(m.now, o.began.Add(minHold)))
	}
	if len(c.polls) >= maxPolls {
		m.answer(c, c.polls[0], nil)
	}
	c.polls = append(c.polls, p)
}

// open is the poll that updates may be given to; nil if there is none.
func (c *member) open() *poll {
	if n := len(c.polls); n > 0 && !c.polls[n-1].over {
		return c.polls[n-1]
	}
	return nil
}

// serve gives the active copy what waits for it, if it has a poll open.
func (m *Machine) serve() {
	if m.active == nil || m.stopped || !m.inForce() {
		return
	}
	p := m.active.open()
	if p == nil {
		return
	}
	m.expire()
	if given := m.give(p.limit); len(given) > 0 {
		m.answer(m.active, p, given)
	}
}

func (m *Machine) answer(c *member, p *poll, updates []Update) {
	m.drop(c, p)
	m.emit(Answer{p.id, updates})
}

// drop forgets a poll that is open.
func (m *Machine) drop(c *member, p *poll) {
	c.polls = slices.DeleteFunc(c.polls, func(o *poll) bool { return o == p })
	c.due = m.now
}

func (m *Machine) pollEnded(id PollID) {
	for _, c := range m.members {
		for _, p := range c.polls {
			if p.id == id {
				m.drop(c, p)
				return
			}
		}
	}
}

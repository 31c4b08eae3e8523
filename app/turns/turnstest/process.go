package turnstest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"habot/app/turns"
)

// process is one life of a copy.
type process struct {
	host *host
	fw   Framework
	n    int
	w    *world
	dice

	dead, frozen, stopping bool
	diedAt                 time.Duration
	inbox                  []func() // what happened while it was frozen
	conns                  []*conn  // those that are kept and free
	requests               []*request
	offset                 int64
	skip                   bool
	hand                   int
	drained                func()
	pollNow                *request

	// The judge's.
	polled, waits        bool
	askedTerm            int
	askedAt, lastRequest time.Duration
	highest              int64
	highestTurn          int
	replacedAt           time.Duration
	replaced             turns.Reason
	endUnseen, endSlow   bool
	endSeenAt            time.Duration // later than it was, as nothing got through
	gaveUp, cutOff       bool
	reused               bool // a connection
	declared             bool // dead
}

func (p *process) String() string { return fmt.Sprintf("%v.%d", p.host, p.n) }

// start starts a process on a host that has none.
func (w *world) start(h *host) {
	if h.proc != nil && !h.proc.dead {
		return
	}
	p := &process{host: h, fw: h.fw, n: len(h.procs), w: w, dice: newDice(w.plan.Seed, uint64(1000+100*h.index+len(h.procs)))}
	if p.fw.First < 0 {
		p.skip = true
	}
	p.offset = p.fw.First
	h.proc, h.absent = p, -1
	h.procs = append(h.procs, p)
	w.tell("%v starts", p)
	p.later(p.within(20*time.Millisecond, 500*time.Millisecond), p.greet)
	if p.fw.Job {
		p.later(time.Second, p.job)
	}
}

// do does something as the process, once it runs.
func (p *process) do(f func()) {
	switch {
	case p.dead:
	case p.frozen:
		p.inbox = append(p.inbox, f)
	default:
		f()
	}
}

func (p *process) later(d time.Duration, f func()) { p.w.after(d, func() { p.do(f) }) }

func (r *request) done() bool { return r.answered == nil }

// finish gives a request its answer, once.
func (r *request) finish(w *world, ids []int64, err error) {
	if r.done() {
		return
	}
	answered := r.answered
	r.answered = nil
	p := r.proc
	p.requests = slices.DeleteFunc(p.requests, func(o *request) bool { return o == r })
	c := r.conn
	c.busy--
	c.lastUse = w.now
	if c.polling == r {
		c.polling = nil
	}
	switch {
	case !c.open:
	case errors.Is(err, errBroken) || !p.fw.Keeps:
		w.closes(c)
	default:
		p.conns = append(p.conns, c)
		used := w.now
		if p.n%2 == 0 { // some close what is idle, others do not
			p.later(5*time.Second, func() {
				if c.open && c.busy == 0 && c.lastUse <= used {
					p.conns = slices.DeleteFunc(p.conns, func(o *conn) bool { return o == c })
					w.closes(c)
				}
			})
		}
	}
	answered(ids, err)
}

// ask sends a request, on a connection that is free or on a new one.
func (p *process) ask(r *request) {
	w := p.w
	r.proc, r.began = p, w.now
	p.conns = slices.DeleteFunc(p.conns, func(c *conn) bool { return !c.open })
	if n := len(p.conns); n > 0 {
		r.conn = p.conns[n-1]
		p.reused, r.reused = true, true
		p.conns = p.conns[:n-1]
	} else if r.conn = w.connect(p); r.conn == nil {
		answered := r.answered
		r.answered = nil
		p.later(time.Millisecond, func() { answered(nil, errBroken) })
		return
	}
	r.conn.lastUse = w.now
	r.conn.busy++
	if r.poll {
		r.conn.polling = r
	}
	p.requests = append(p.requests, r)
	w.send(r)
	patience := 30 * time.Second
	if r.poll {
		patience = r.timeout + 10*time.Second
	}
	p.later(patience, func() {
		if !r.done() {
			w.count("client gives up waiting")
			p.gaveUp = p.gaveUp || r.poll
			p.host.troubled = w.now
			r.finish(w, nil, errBroken)
		}
	})
}

func (w *world) connect(p *process) *conn {
	var up []*replica
	for _, r := range w.replicas {
		if r.up {
			up = append(up, r)
		}
	}
	if len(up) == 0 {
		return nil
	}
	w.lastPoll++ // a number as good as any
	c := &conn{number: uint64(w.lastPoll), proc: p, front: pick(p.dice, up...), open: true, opened: w.now}
	c.via = c.front.name()
	c.front.conns = append(c.front.conns, c)
	if p.host.cut {
		w.lostSoon(c)
	}
	return c
}

// --- what it does -----------------------------------------------------------------------------------

// greet, getMe, and then it polls.
func (p *process) greet() {
	if !p.fw.Greets {
		p.getMe()
		return
	}
	p.ask(&request{kind: turns.KindWrite, chat: 1, answered: func(_ []int64, err error) {
		if err != nil && p.fw.Fragile {
			p.w.count("process that ends as it cannot greet")
			p.w.kill(p.host, p.within(100*time.Millisecond, 3*time.Second))
			return
		}
		p.getMe()
	}})
}

func (p *process) getMe() {
	if !p.fw.StartsUp {
		p.poll()
		return
	}
	p.ask(&request{kind: turns.KindStartUp, answered: func(_ []int64, err error) {
		if err != nil {
			p.later(p.fw.Backoff, p.getMe)
			return
		}
		p.poll()
	}})
}

func (p *process) poll() {
	if p.stopping {
		return
	}
	r := &request{poll: true, offset: p.offset, limit: p.fw.Limit, timeout: p.fw.Timeout}
	if p.w.peace {
		r.limit = 100 // to be done in time
	}
	r.answered = func(ids []int64, err error) {
		p.pollNow = nil
		switch {
		case err != nil:
			p.later(p.fw.Backoff, p.poll)
		case p.skip:
			p.skip, p.offset = false, 1
			if len(ids) > 0 {
				p.offset = ids[len(ids)-1] + 1
			}
			p.poll()
		case len(ids) == 0:
			p.later(p.fw.Pause, p.poll)
		default:
			p.receive(ids)
		}
	}
	p.pollNow = r
	p.ask(r)
}

func (p *process) receive(ids []int64) {
	left := len(ids)
	next := func() {
		if left--; left == 0 && !p.fw.Before {
			p.offset = ids[len(ids)-1] + 1
			p.later(p.fw.Pause, p.poll)
		}
	}
	for _, id := range ids {
		p.handle(p.w.update(id), next)
	}
	if p.fw.Before {
		p.offset = ids[len(ids)-1] + 1
		p.later(p.fw.Pause, p.poll)
	}
}

// handle thinks, answers or not, and is done with an update.
func (p *process) handle(u *update, done func()) {
	p.hand++
	finished := func() {
		p.hand--
		if p.drained != nil && p.hand == 0 {
			p.drained()
		}
		done()
	}
	think := p.fw.Think
	if p.w.peace {
		think = min(think, 100*time.Millisecond)
	}
	p.later(p.within(0, think), func() {
		if u.poison && p.fw.Before && !p.w.peace {
			p.w.count("process that ends of an update")
			p.w.kill(p.host, p.within(100*time.Millisecond, 3*time.Second))
			return
		}
		if p.chance(p.fw.Ignores) {
			u.handled = true
			finished()
			return
		}
		p.ask(&request{kind: turns.KindWrite, chat: u.chat, answered: func(_ []int64, err error) {
			u.attempts++
			switch {
			case err == nil:
				if u.handled {
					p.w.count("update answered twice")
				}
				u.handled = true
			case errors.Is(err, errRefused):
				p.w.count("answer refused")
			default:
				u.failed = true
			}
			finished()
		}})
	})
}

// job sends something each second.
func (p *process) job() {
	if p.stopping {
		return
	}
	p.later(time.Second, p.job)
	p.ask(&request{kind: turns.KindWrite, answered: func(_ []int64, err error) {
		if errors.Is(err, errRefused) && p.fw.Fragile {
			p.w.count("process that ends as its job is refused")
			p.w.kill(p.host, p.within(100*time.Millisecond, 3*time.Second))
		}
	}})
}

// --- what is done to it ------------------------------------------------------------------------------

// kill ends a host's process, and starts another after a while.
func (w *world) kill(h *host, again time.Duration) {
	p := h.proc
	if p == nil || p.dead {
		return
	}
	w.tell("%v ends, with %d in hand", p, p.hand)
	polling := false
	for _, r := range p.requests {
		if r.conn.open && r.conn.polling == r {
			polling = true
		}
	}
	p.dead, p.diedAt, p.frozen, p.endSlow = true, w.now, false, w.now < w.slow+4*time.Second
	p.cutOff = h.cut
	h.absent = w.now
	for _, r := range w.replicas {
		for _, c := range slices.Clone(r.conns) {
			if c.proc == p && c.open {
				w.closes(c)
			}
		}
	}
	h.unseen = true
	w.watchHandOn(p, polling && w.now >= w.slow && !h.cut, again)
	w.probe(h)
	w.after(again, func() { w.start(h) })
}

// watchHandOn sees that another copy takes over soon, if one waits and nothing else happens.
func (w *world) watchHandOn(p *process, polling bool, again time.Duration) {
	waits := slices.ContainsFunc(w.hosts, func(h *host) bool {
		return h != p.host && h.proc != nil && !h.proc.dead && h.proc.pollNow != nil && h.proc.waits && h.proc.polled && !h.cut && !h.proc.frozen && h.proc.w.now-h.proc.askedAt < h.proc.fw.Timeout-2*time.Second
	})
	if !polling || !waits || again < handOn || w.active != p.host || w.machine == nil || w.now < w.dozes || !w.majority() {
		return
	}
	term, turn := w.term, w.turn
	w.after(handOn, func() {
		if w.term == term && w.machine != nil && w.turn == turn && w.active == p.host && p.host.proc == p && p.lastRequest <= p.diedAt && w.majority() && w.now > w.dozes+2*handOn && w.now > w.slow+2*handOn {
			w.breaks(HandedOn, "%v ended, and %v is still active", p, w.active)
		}
	})
}

// terminate asks a process to stop in order.
func (p *process) terminate(w *world, again time.Duration) {
	if p.dead || p.frozen || p.stopping {
		return
	}
	w.tell("%v is told to stop", p)
	p.stopping = true
	end := func() {
		if !p.dead {
			w.kill(p.host, again)
		}
	}
	leave := func() {
		if p.fw.Drains && p.hand > 0 {
			p.drained = func() { p.later(10*time.Millisecond, end) }
			p.later(p.w.plan.Config.Patience, end)
			return
		}
		p.later(20*time.Millisecond, end)
	}
	if r := p.pollNow; r != nil && !r.done() {
		// Its poll is cancelled, which closes the connection.
		r.answered = nil
		p.requests = slices.DeleteFunc(p.requests, func(o *request) bool { return o == r })
		p.gaveUp = true
		w.cancel(r)
	}
	if !p.fw.Farewell || !p.polled {
		leave()
		return
	}
	p.ask(&request{poll: true, offset: p.offset, limit: 1, answered: func([]int64, error) {
		w.count("farewell")
		leave()
	}})
}

// cancel closes the connection of a poll that is under way.
func (w *world) cancel(r *request) {
	c := r.conn
	c.open = false
	w.after(w.network.within(0, 3*time.Millisecond), func() {
		if r.proc.host.cut {
			w.lostSoon(c)
			return
		}
		c.polling = &request{proc: r.proc, conn: c, answered: func([]int64, error) {}} // it was open when it ended
		w.ended(c, true)
	})
}

// freeze stops a process for a while.
func (p *process) freeze(w *world, d time.Duration) {
	if p.dead || p.frozen {
		return
	}
	w.tell("%v freezes", p)
	p.frozen = true
	w.after(d, func() {
		if p.frozen {
			p.wake()
		}
	})
}

func (p *process) wake() {
	p.frozen = false
	p.host.troubled = p.w.now
	p.w.tell("%v wakes", p)
	inbox := p.inbox
	p.inbox = nil
	for _, f := range inbox {
		p.do(f)
	}
}

// cut cuts a host off for a while.
func (w *world) cut(h *host, d time.Duration) {
	if h.cut {
		return
	}
	w.tell("%v is cut off", h)
	h.cut, h.absent, h.troubled = true, w.now, w.now
	for _, r := range w.replicas {
		for _, c := range r.conns {
			if c.proc.host == h && c.open {
				w.lostSoon(c)
			}
		}
	}
	w.probe(h)
	w.after(d, func() { w.heal(h) })
}

func (w *world) heal(h *host) {
	if !h.cut {
		return
	}
	w.tell("%v is back", h)
	h.cut, h.troubled = false, w.now
	if h.proc != nil && !h.proc.dead {
		h.absent = -1
	}
	under := h.held
	h.held = nil
	for _, one := range under {
		w.after(w.network.within(0, 200*time.Millisecond), func() { w.across(one.conn, one.do) })
	}
	for _, r := range w.replicas {
		for _, c := range slices.Clone(r.conns) {
			if c.proc.host == h && !c.open { // its end had not got through
				w.after(w.network.within(0, time.Second), func() {
					if slices.Contains(c.front.conns, c) {
						w.ended(c, true)
					}
				})
			}
		}
	}
}

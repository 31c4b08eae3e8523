package turnstest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"habot/app/turns"
)

const replicas = 3

// world is everything: Telegram, the replicas, and the hosts of copies.
type world struct {
	clock
	plan     *Plan
	trace    func(string)
	coverage *Coverage
	broken   *BrokenError
	peace    bool

	// Telegram.
	firstID int64
	updates []*update

	// The replicas.
	replicas []*replica
	primary  *replica // nil: none
	machine  *turns.Machine
	term     int
	stopped  bool
	tickAt   time.Duration
	dozes    time.Duration // the primary does not run until then
	backlog  []func()      // what waits for that
	slow     time.Duration // requests are late until then
	acked    uint64
	polls    map[turns.PollID]*request
	lastPoll turns.PollID
	waiting  []*request
	crashes  []time.Duration

	hosts []*host
	armed []Fault

	// The judge's.
	active *host
	// activeProc is its process when its turn began.
	activeProc *process
	fresh      bool // no copy has been active, as far as this primary knows
	turn       int
	dead       map[int]bool // as declared
	known      map[int]bool // to the machine, as a copy

	network, chance, feed dice
}

// replica is one of habot.
type replica struct {
	index  int
	life   int
	up     bool
	mirror turns.Mirror
	// deaf: it misses deltas until then. arrives is when what was sent last arrives.
	deaf, arrives time.Duration
	// reports are ends of connections that were not reported to a primary yet.
	reports []report
	conns   []*conn
}

type report struct {
	proc *process
	in   turns.ConnectionEnded
	at   time.Duration
}

// host is where one copy runs. Its address stays the same.
type host struct {
	index   int
	id      turns.CopyID
	address string
	fw      Framework
	proc    *process
	procs   []*process
	cut     bool
	// absent is since when nothing answers at its address; -1 if something does.
	absent time.Duration
	// troubled is when its connections were last ended by others than itself.
	troubled time.Duration
	// unseen: the end of its last process was not seen as one, so that the next may be taken for it.
	unseen bool
	held   []held // what is under way while it is cut off
	dice
}

type held struct {
	conn *conn
	do   func()
}

func (h *host) String() string {
	if h == nil {
		return "none"
	}
	return string(h.id)
}

// conn is a connection of a process to a replica.
type conn struct {
	number  uint64
	proc    *process
	front   *replica
	via     string // the front's process
	open    bool
	opened  time.Duration
	lastUse time.Duration
	// arrived is when what was sent last arrives: nothing overtakes on a connection.
	arrived time.Duration
	polling *request
	busy    int
}

// request is one request of a process.
type request struct {
	proc  *process
	conn  *conn
	began time.Duration
	poll  bool
	// reused: its connection was used before.
	reused bool
	over   bool // no one waits for its answer any more

	offset  int64
	limit   int
	timeout time.Duration

	kind turns.Kind
	chat int64

	answered func(ids []int64, err error)

	// The judge's.
	active, recent, farewell, crowded, waited bool
	signs                                     []*given
}

type failure string

func (f failure) Error() string { return string(f) }

const (
	errRefused = failure("refused")
	errBroken  = failure("connection broken")
	errGateway = failure("no primary")
)

// Run carries the plan out: the trouble, then peace. It returns what it cost, and the first broken guarantee, a
// *BrokenError.
func (p *Plan) Run(trace func(string), coverage *Coverage) (time.Duration, error) {
	w := &world{
		plan: p, trace: trace, coverage: coverage, firstID: 1000, polls: map[turns.PollID]*request{},
		dead: map[int]bool{}, known: map[int]bool{},
		network: newDice(p.Seed, 2), chance: newDice(p.Seed, 3), feed: newDice(p.Seed, 4), tickAt: -1,
	}
	for i := range replicas {
		w.replicas = append(w.replicas, &replica{index: i, up: true})
	}
	for i, fw := range p.Copies {
		h := &host{index: i, id: turns.CopyID(fmt.Sprintf("c%d", i)), address: fmt.Sprintf("10.0.0.%d", i), fw: fw, absent: 0,
			troubled: -time.Hour, dice: newDice(p.Seed, 100+uint64(i))}
		w.hosts = append(w.hosts, h)
		w.after(h.within(0, 2*time.Second), func() { w.start(h) })
	}
	w.elect(0)
	for _, f := range p.Faults {
		w.after(f.At, func() { w.arm(f) })
	}
	w.nextUpdate()
	broken := func() bool { return w.broken != nil }
	w.run(p.Trouble, broken)
	w.calm()
	w.run(p.Trouble+2*p.Config.Patience+90*time.Second, broken)
	if w.broken == nil {
		w.judgeEnd()
	}
	if w.broken != nil {
		return w.now, w.broken
	}
	return w.now, nil
}

func (w *world) tell(format string, args ...any) {
	if w.trace != nil {
		w.trace(fmt.Sprintf("%9.3f  ", w.now.Seconds()) + fmt.Sprintf(format, args...))
	}
}

func (w *world) host(id turns.CopyID) *host {
	for _, h := range w.hosts {
		if h.id == id {
			return h
		}
	}
	return nil
}

// --- Telegram ---------------------------------------------------------------------------------------

func (w *world) nextUpdate() {
	pause := time.Duration(w.feed.ExpFloat64() / w.plan.Rate * float64(time.Second))
	w.after(pause, func() {
		if w.peace {
			return
		}
		for range pick(w.feed, 1, 1, 1, 5) {
			u := &update{id: w.firstID + int64(len(w.updates)), chat: 1 + int64(w.feed.IntN(w.plan.Chats))}
			if w.feed.chance(w.plan.Queries) {
				u.expires = w.now + 30*time.Second
			}
			u.poison = w.feed.chance(w.plan.Poison)
			w.updates = append(w.updates, u)
		}
		w.bring()
		w.nextUpdate()
	})
}

// bring gives the machine what is new, as intake does: a hundred at most that are not done.
func (w *world) bring() {
	if w.machine == nil || w.stopped {
		return
	}
	var batch []turns.Update
	n := 0
	for _, u := range w.updates {
		if u.upstream || u.expires != 0 && u.expires <= w.now && u.term != w.term {
			continue
		}
		if n++; n > 100 {
			break
		}
		if u.term != w.term {
			u.term, u.ended = w.term, false
			t := turns.Update{ID: u.id, Chat: u.chat, Raw: []byte("{}")}
			if u.expires != 0 {
				t.Expires = w.local(w.primary, u.expires)
			}
			batch = append(batch, t)
		}
	}
	if len(batch) > 0 {
		w.input(turns.Batch{Updates: batch})
	}
}

// --- replicas ---------------------------------------------------------------------------------------

// local is a time on a replica's own clock.
func (w *world) local(r *replica, t time.Duration) turns.Instant {
	return turns.Instant(t + time.Duration(r.index)*1000*time.Hour)
}

// elect makes a replica primary after a while.
func (w *world) elect(after time.Duration) {
	w.after(after, func() {
		if w.primary != nil {
			return
		}
		var up []*replica
		for _, r := range w.replicas {
			if r.up {
				up = append(up, r)
			}
		}
		if len(up) < replicas/2+1 {
			w.elect(time.Second)
			return
		}
		w.begin(pick(w.chance, up...))
	})
}

// freshest is what the replicas know that can be reached. One that has started again knows nothing, so that a mere majority
// might not.
func (w *world) freshest(r *replica) turns.State {
	best := r
	for _, o := range w.replicas {
		if o.up && o.mirror.Version().Compare(best.mirror.Version()) > 0 {
			best = o
			w.count("primary that learns from another")
		}
	}
	return best.mirror.State(w.local(best, w.now))
}

func (w *world) begin(r *replica) {
	w.term++
	w.primary, w.stopped, w.acked, w.dozes, w.tickAt = r, false, 0, 0, -1
	s := w.freshest(r)
	w.tell("replica %d is primary: active %q, %d kept", r.index, s.Active, len(s.Kept))
	w.machine = turns.New(w.plan.Config, int64(w.term), w.local(r, w.now), s)
	w.count("primary")
	for _, u := range w.updates {
		u.seq = 0
	}
	if len(w.crashes) > 1 && w.crashes[len(w.crashes)-2] > w.now-2*time.Minute {
		for _, u := range w.updates {
			u.missed = u.missed || u.upstream && !slices.ContainsFunc(s.Kept, func(k turns.Kept) bool { return k.ID == u.id })
		}
	}
	w.dead, w.known = map[int]bool{}, map[int]bool{}
	for _, m := range s.Members {
		h := w.host(m.ID)
		w.known[h.index], w.dead[h.index] = m.Polled && !m.Ended, m.Dead
		h.unseen = !m.Ended
		if m.Dead && h.proc != nil {
			h.proc.declared = true
		}
	}
	w.fresh = s.Active == "" && s.Former == ""
	if active := w.host(s.Active); active != w.active {
		w.turn++
		w.active = active
	}
	if r.deaf > 0 {
		w.count("primary that has missed deltas")
	}
	w.input(turns.Tick{})
	for _, o := range w.replicas {
		for _, rep := range o.reports {
			if o.up {
				w.count("connection's end, told late")
				w.reports(rep)
			}
		}
		o.reports = nil
	}
	w.bring()
	waiting := w.waiting
	w.waiting = nil
	for _, q := range waiting {
		w.submit(q)
	}
	w.moment(OnPrimary, nil)
}

// input gives the machine an input, once the primary runs.
func (w *world) input(in turns.Input) {
	if w.machine == nil {
		return
	}
	w.awake(func() { w.step(in) }, nil)
}

// awake does something as the primary, in order with what else waits until it runs; instead if its term is over by then.
func (w *world) awake(do, instead func()) {
	if w.now >= w.dozes && len(w.backlog) == 0 {
		do()
		return
	}
	term := w.term
	w.backlog = append(w.backlog, func() {
		if w.term == term && w.machine != nil {
			do()
		} else if instead != nil {
			instead()
		}
	})
	w.catchUpOnBacklog()
}

func (w *world) catchUpOnBacklog() {
	w.after(w.dozes-w.now, func() {
		for len(w.backlog) > 0 && w.now >= w.dozes {
			next := w.backlog[0]
			w.backlog = w.backlog[1:]
			next()
		}
		if len(w.backlog) > 0 {
			w.catchUpOnBacklog()
		}
	})
}

func (w *world) step(in turns.Input) {
	m := w.machine
	outs := m.Step(w.local(w.primary, w.now), in)
	if w.trace != nil && (len(outs) > 0 || !isTick(in)) {
		w.tell("    %s", show(in))
	}
	for _, out := range outs {
		if w.broken != nil || w.machine != m {
			return
		}
		w.output(in, out)
	}
	if w.machine != m {
		return
	}
	w.judgeBounds()
	if isTick(in) && m.Next() <= w.local(w.primary, w.now) {
		w.breaks(Spin, "the next tick is due at %v", m.Next())
	}
	w.tick()
}

func isTick(in turns.Input) bool { _, is := in.(turns.Tick); return is }

// tick sees that the machine gets its next tick.
func (w *world) tick() {
	m, term := w.machine, w.term
	due := time.Duration(m.Next() - w.local(w.primary, 0))
	if w.tickAt >= w.now && w.tickAt <= due && w.tickAt >= 0 {
		return
	}
	w.tickAt = due
	w.after(due-w.now, func() {
		if w.machine != m || w.term != term || w.tickAt != due {
			return
		}
		w.tickAt = -1
		w.input(turns.Tick{})
	})
}

func (w *world) output(in turns.Input, out turns.Output) {
	switch out := out.(type) {
	case turns.Answer:
		r := w.polls[out.Poll]
		if r == nil {
			return // its connection has ended
		}
		delete(w.polls, out.Poll)
		if w.trace != nil {
			w.tell("      answer to %v: %s", r.proc, showIDs(out.Updates))
		}
		w.judgeAnswer(r, out.Updates)
		ids := []int64{}
		for _, u := range out.Updates {
			ids = append(ids, u.ID)
		}
		w.reply(r, ids, nil)
	case turns.Verdict: // submit looks at it
	case turns.Done:
		w.tell("      done %v, %s", out.IDs, out.Outcome)
		w.judgeDone(out)
		w.upstream(out.IDs)
	case turns.Allow:
		_ = out
	case turns.Replicate:
		w.replicate(out.Delta)
	case turns.ActiveChanged:
		w.tell("      active %s -> %s, %s, %d again", out.From, out.To, out.Reason, out.Again)
		w.judgeActive(out)
	case turns.Joined:
		w.tell("      joined %s", out.Copy)
		h := w.host(out.Copy)
		w.known[h.index], w.dead[h.index] = true, false
	case turns.Died:
		w.tell("      died %s, %s", out.Copy, out.Reason)
		w.judgeDied(out)
	case turns.NoSpare:
		w.count("no spare")
	}
	_ = in
}

// upstream tells Telegram, if the primary lives long enough.
func (w *world) upstream(ids []int64) {
	term := w.term
	w.after(w.network.within(0, 300*time.Millisecond), func() {
		if w.term != term || w.machine == nil {
			w.count("confirmation that Telegram never got")
			return
		}
		for _, id := range ids {
			w.update(id).upstream = true
		}
		w.bring()
	})
}

// replicate brings a delta to the other replicas, in order, and tells the machine once a majority has it.
func (w *world) replicate(d turns.Delta) {
	for _, k := range d.Kept {
		if u := w.update(k.ID); u.seq == 0 {
			u.seq = d.Seq
		}
	}
	if w.machine.View().Kept+len(d.Removed) >= turns.MaxReplay {
		for _, id := range d.Removed {
			w.update(id).evicted = true
		}
	}
	term := w.term
	for _, r := range w.replicas {
		if r != w.primary {
			r.arrives = max(r.arrives, w.now+w.network.within(0, 20*time.Millisecond))
			w.after(r.arrives-w.now, func() { w.learn(r, term, d) })
		}
	}
}

// learn brings a delta to one replica, or all if it has missed one.
func (w *world) learn(r *replica, term int, d turns.Delta) {
	if w.term != term || w.machine == nil || !r.up {
		return
	}
	if w.now < r.deaf {
		w.count("delta that is missed")
		return
	}
	if !r.mirror.Apply(w.local(r, w.now), d) {
		w.count("full delta")
		if !r.mirror.Apply(w.local(r, w.now), w.machine.Full()) {
			w.breaks(Confirmed, "a mirror does not take a full delta")
		}
	}
	if v := r.mirror.Version(); v.Term == int64(term) && v.Seq > w.acked { // with the primary that is a majority
		w.acked = v.Seq
		w.input(turns.Replicated{Seq: v.Seq})
	}
}

// crash ends a replica's process, and starts it again.
func (w *world) crash(r *replica, again time.Duration) {
	if !r.up {
		return
	}
	w.tell("replica %d crashes", r.index)
	w.crashes = append(w.crashes, w.now)
	r.up, r.mirror, r.reports, r.deaf = false, turns.Mirror{}, nil, 0
	wasPrimary := w.primary == r
	if wasPrimary {
		w.depose()
	}
	for _, c := range slices.Clone(r.conns) {
		w.broke(c)
	}
	r.conns = nil
	name := r.name()
	r.life++
	if !wasPrimary {
		term := w.term
		w.after(w.network.within(0, 2*time.Second), func() {
			if w.term == term {
				w.input(turns.ReplicaLost{Replica: name})
			}
		})
	}
	for _, id := range sortedPolls(w.polls) {
		if w.polls[id].conn.front == r {
			delete(w.polls, id)
		}
	}
	w.after(again, func() {
		r.up = true
		w.catchUp(r)
	})
	up := 0
	for _, o := range w.replicas {
		if o.up {
			up++
		}
	}
	if up < replicas/2+1 && w.primary != nil {
		w.tell("no majority")
		w.count("primary without a majority")
		w.primary.mirror.Apply(w.local(w.primary, w.now), w.machine.Full())
		w.depose()
		wasPrimary = true
	}
	if wasPrimary {
		w.elect(w.chance.within(50*time.Millisecond, 3*time.Second))
	}
}

// catchUp brings all there is to a replica that is there again.
func (w *world) catchUp(r *replica) {
	if w.machine != nil && r != w.primary && r.up {
		w.learn(r, w.term, w.machine.Full())
	}
}

// depose ends a term. Polls that came through others wait for the next primary, calls fail.
func (w *world) depose() {
	w.primary, w.machine = nil, nil
	for _, id := range sortedPolls(w.polls) {
		r := w.polls[id]
		delete(w.polls, id)
		if r.conn.front.up && r.conn.open {
			w.wait(r)
		}
	}
}

func sortedPolls(polls map[turns.PollID]*request) []turns.PollID {
	var all []turns.PollID
	for id := range polls {
		all = append(all, id)
	}
	slices.Sort(all)
	return all
}

// name is that of a process: one that starts again is another replica.
func (r *replica) name() string { return fmt.Sprintf("r%d.%d", r.index, r.life) }

// --- requests ---------------------------------------------------------------------------------------

// delay is how long something takes between a process and a replica.
func (w *world) delay() time.Duration {
	d := w.network.within(0, 3*time.Millisecond)
	if w.now < w.slow {
		d += w.network.within(0, 2*time.Second)
	}
	return d
}

// send brings a request to a replica.
func (w *world) send(r *request) {
	c := r.conn
	c.arrived = max(c.arrived, w.now+w.delay())
	w.after(c.arrived-w.now, func() {
		w.across(c, func() {
			if c.front.up && slices.Contains(c.front.conns, c) {
				w.arrive(r)
			}
		})
	})
}

// majority tells whether another replica learns what the primary tells.
func (w *world) majority() bool {
	return slices.ContainsFunc(w.replicas, func(r *replica) bool { return r != w.primary && r.up && w.now > r.deaf+2*time.Second })
}

// across does what needs the network between a host and the rest.
func (w *world) across(c *conn, do func()) {
	if h := c.proc.host; h.cut {
		h.held = append(h.held, held{c, do})
		return
	}
	do()
}

func (w *world) arrive(r *request) {
	if w.machine == nil {
		w.wait(r)
		return
	}
	w.submit(r)
}

// wait has a request wait for a primary.
func (w *world) wait(r *request) {
	w.count("request that waits for a primary")
	w.waiting = append(w.waiting, r)
	r.waited = true
	patience := 4 * time.Second
	if r.poll {
		patience = min(max(r.timeout-(w.now-r.began), 0), 50*time.Second)
	}
	w.after(patience, func() {
		if i := slices.Index(w.waiting, r); i >= 0 {
			w.waiting = slices.Delete(w.waiting, i, i+1)
			w.reply(r, nil, errGateway)
		}
	})
}

func (r *request) client() turns.Client {
	h := r.proc.host
	return turns.Client{Copy: h.id, Address: h.address, Connection: r.conn.id(), Age: r.proc.w.now - r.conn.opened, Reused: r.reused}
}

func (c *conn) id() turns.Connection {
	return turns.Connection{Replica: c.via, Number: c.number}
}

// submit gives a request to the machine.
func (w *world) submit(r *request) {
	w.awake(func() { w.take(r) }, func() { w.arrive(r) })
}

func (w *world) take(r *request) {
	r.proc.lastRequest = w.now
	if r.proc.dead {
		w.count("request of a process that has ended")
		r.proc.host.unseen = true
	}
	if r.poll {
		if !r.conn.open {
			return // it came with the end of its connection
		}
		w.lastPoll++
		w.polls[w.lastPoll] = r
		n := 0
		for _, o := range w.polls {
			if o.proc.host == r.proc.host {
				n++
			}
		}
		for _, o := range w.polls {
			if o.proc.host == r.proc.host && o != r {
				o.over = true
				o.crowded = o.crowded || n > 8
			}
		}
		w.judgePoll(r)
		left := min(r.timeout, 50*time.Second) // without what it has waited for a primary
		if left > 0 {
			left = max(left-(w.now-r.began), time.Second)
		}
		w.step(turns.Polled{
			Poll: w.lastPoll, Client: r.client(), Offset: r.offset, Limit: r.limit, Timeout: left,
		})
		return
	}
	term := w.term
	began := w.local(w.primary, w.now)
	m := w.machine
	pass, found := false, false
	outs := m.Step(began, turns.Called{Client: r.client(), Kind: r.kind})
	for _, out := range outs {
		if v, is := out.(turns.Verdict); is {
			pass, found = v.Pass, true
			w.tell("    %v calls (%s, chat %d): %v", r.proc, r.kind, r.chat, v)
			if r.kind == turns.KindWrite {
				w.judgeWrite(r, v.Pass)
			} else if !v.Pass {
				w.breaks(One, "a %s of %v is refused", r.kind, r.proc)
			}
		}
	}
	if !found {
		w.breaks(One, "there is no verdict on a call of %v", r.proc)
	}
	for _, out := range outs {
		w.output(nil, out)
	}
	w.tick()
	if !pass {
		w.reply(r, nil, errRefused)
		return
	}
	w.after(w.network.within(5*time.Millisecond, 100*time.Millisecond), func() {
		if w.term != term || w.machine == nil {
			w.count("call whose answer was lost")
			w.reply(r, nil, errGateway)
			return
		}
		if r.kind == turns.KindWrite && r.chat != 0 {
			for _, g := range r.signs {
				g.signed = true
			}
			w.input(turns.Signed{Copy: r.proc.host.id, Began: began, Chats: []int64{r.chat}})
		}
		if r.conn.open {
			w.input(turns.Alive{Client: r.client()})
		}
		w.reply(r, nil, nil)
	})
}

// reply brings an answer to a process.
func (w *world) reply(r *request, ids []int64, err error) {
	w.after(w.network.within(0, 3*time.Millisecond), func() {
		w.across(r.conn, func() {
			if !r.conn.open || r.done() {
				return
			}
			r.proc.do(func() { r.finish(w, ids, err) })
		})
	})
}

// ended reports the end of a connection to the primary, now or when there is one.
func (w *world) ended(c *conn, closed bool) {
	w.drop(c)
	if !c.front.up {
		return
	}
	in := turns.ConnectionEnded{
		Client: turns.Client{Copy: c.proc.host.id, Address: c.proc.host.address, Connection: c.id()},
		Closed: closed, Poll: c.polling != nil && !c.polling.done(), Idle: w.now - c.lastUse,
	}
	if w.machine == nil {
		c.front.reports = append(c.front.reports, report{c.proc, in, w.now})
		return
	}
	if closed && c.proc.dead {
		c.proc.endSeenAt = w.now
	}
	w.reports(report{c.proc, in, w.now})
}

// reports tells the machine of the end of a connection, and how long ago that was.
func (w *world) reports(r report) {
	w.sees(r.proc, r.in)
	w.awake(func() {
		r.in.Ago = w.now - r.at
		w.step(r.in)
	}, nil)
}

// sees: a connection's end that the machine takes for a process's.
func (w *world) sees(p *process, in turns.ConnectionEnded) {
	if p.dead && in.Closed && (in.Poll || in.Idle <= 3*time.Second && p.reused) {
		p.host.unseen = false
	}
}

// drop forgets a connection at its replica.
func (w *world) drop(c *conn) {
	c.front.conns = slices.DeleteFunc(c.front.conns, func(o *conn) bool { return o == c })
	for _, id := range sortedPolls(w.polls) {
		if w.polls[id].conn == c {
			delete(w.polls, id)
		}
	}
	w.waiting = slices.DeleteFunc(w.waiting, func(r *request) bool { return r.conn == c })
}

// --- the ends of connections --------------------------------------------------------------------------

// closes: the process closes a connection, or ends.
func (w *world) closes(c *conn) {
	if !c.open {
		return
	}
	c.open = false
	c.arrived = max(c.arrived, w.now+w.network.within(0, 3*time.Millisecond))
	w.after(c.arrived-w.now, func() {
		if c.proc.host.cut {
			c.proc.endUnseen = true // nothing gets through; the replica gives it up in the end
			w.lostSoon(c)
			return
		}
		w.ended(c, true)
	})
}

// lostSoon: the network has lost a connection, which its replica finds out.
func (w *world) lostSoon(c *conn) {
	w.after(w.network.within(8*time.Second, 15*time.Second), func() {
		h := c.proc.host
		if !slices.Contains(c.front.conns, c) || !h.cut && c.open {
			return
		}
		h.troubled = w.now
		w.count("connection that the network lost")
		c.open = false
		w.ended(c, false)
		if r := c.polling; r != nil {
			w.after(w.network.within(0, time.Second), func() { w.across(c, func() { c.proc.do(func() { r.finish(w, nil, errBroken) }) }) })
		}
	})
}

// broke: a replica is gone, and its connections with it.
func (w *world) broke(c *conn) {
	if !c.open {
		return
	}
	c.open = false
	c.proc.host.troubled = w.now
	w.after(w.network.within(0, 3*time.Millisecond), func() {
		w.across(c, func() {
			for _, r := range slices.Clone(c.proc.requests) {
				if r.conn == c {
					c.proc.do(func() { r.finish(w, nil, errBroken) })
				}
			}
		})
	})
}

// probe looks, as replicas do, whether an address is still there.
func (w *world) probe(h *host) {
	w.after(w.chance.within(time.Second, 3*time.Second), func() {
		asked := w.now
		if h.absent < 0 || w.machine == nil {
			return
		}
		term := w.term
		w.after(3*time.Second, func() {
			if h.absent >= 0 && h.absent <= asked && w.term == term && w.machine != nil {
				w.count("address gone")
				for _, r := range w.replicas { // no host reaches it
					if r.up && w.machine != nil {
						w.input(turns.AddressGone{Address: h.address, Replica: r.name(), Asked: w.local(w.primary, asked)})
					}
				}
			}
		})
	})
}

// --- faults -------------------------------------------------------------------------------------------

// arm has a fault strike now, or at its moment.
func (w *world) arm(f Fault) {
	if w.peace {
		return
	}
	if f.On != AtOnce {
		w.armed = append(w.armed, f)
		return
	}
	w.after(f.After, func() { w.strike(f) })
}

// moment tells that something has happened. One fault that waited for it strikes.
func (w *world) moment(on Moment, _ *host) {
	for i, f := range w.armed {
		if f.On == on {
			w.count("moment: " + string(on))
			w.armed = slices.Delete(w.armed, i, i+1)
			w.after(f.After, func() { w.strike(f) })
			return
		}
	}
}

func (w *world) strike(f Fault) {
	if w.peace {
		return
	}
	h := w.active
	if f.Who >= 0 {
		h = w.hosts[f.Who%len(w.hosts)]
	}
	r := w.primary
	if f.Who >= 0 {
		r = w.replicas[f.Who%len(w.replicas)]
	}
	w.tell("FAULT %v", f)
	w.count("fault: " + string(f.Kind))
	switch f.Kind {
	case Kill:
		if h != nil {
			w.kill(h, f.For)
		}
	case Terminate:
		if h != nil && h.proc != nil {
			h.proc.terminate(w, f.For)
		}
	case Freeze:
		if h != nil && h.proc != nil {
			h.proc.freeze(w, f.For)
		}
	case Cut:
		if h != nil {
			w.cut(h, f.For)
		}
	case Crash:
		if r != nil {
			w.crash(r, f.For)
		}
	case Both:
		if w.active != nil {
			w.kill(w.active, f.For)
		}
		if w.primary != nil {
			w.crash(w.primary, f.For)
		}
	case Doze:
		w.dozes = max(w.dozes, w.now+f.For)
	case Deaf:
		if r != nil && r != w.primary {
			r.deaf = w.now + f.For
			// A delta that comes before it is brought up to date shows that it has missed some.
			w.after(f.For+pick(w.chance, 0, time.Second), func() { w.catchUp(r) })
		}
	case Switch:
		w.switchover()
	case Next:
		w.input(turns.Next{})
	case Slow:
		w.slow = w.now + f.For
	}
}

// switchover is a planned change of primary: what is in hand is confirmed, and the others know all.
func (w *world) switchover() {
	if w.machine == nil || w.stopped {
		return
	}
	w.stopped = true
	w.input(turns.Stop{})
	term := w.term
	w.after(400*time.Millisecond, func() {
		if w.term != term || w.machine == nil {
			return
		}
		old := w.primary
		for _, id := range sortedPolls(w.polls) {
			r := w.polls[id]
			delete(w.polls, id)
			w.wait(r)
		}
		old.mirror.Apply(w.local(old, w.now), w.machine.Full())
		w.primary, w.machine = nil, nil
		for _, r := range w.replicas {
			if r != old && r.up {
				w.begin(r)
				return
			}
		}
		w.elect(time.Second)
	})
}

// calm ends all trouble.
func (w *world) calm() {
	w.peace, w.armed, w.slow = true, nil, min(w.slow, w.now)
	w.tell("peace")
	for _, r := range w.replicas {
		r.up, r.deaf = true, 0
		w.catchUp(r)
	}
	w.elect(100 * time.Millisecond)
	for _, h := range w.hosts {
		w.heal(h)
		if h.proc != nil && h.proc.frozen {
			h.proc.wake()
		}
		if h.proc == nil || h.proc.dead {
			w.after(time.Second, func() { w.start(h) })
		}
	}
}

// --- words --------------------------------------------------------------------------------------------

func show(in turns.Input) string {
	text := fmt.Sprintf("%T", in)
	text = text[strings.LastIndexByte(text, '.')+1:]
	switch in := in.(type) {
	case turns.Polled:
		return fmt.Sprintf("polled by %s on %v, offset %d, timeout %v", in.Client.Copy, in.Client.Connection, in.Offset, in.Timeout)
	case turns.Signed:
		return fmt.Sprintf("signed by %s, chats %v, began %v", in.Copy, in.Chats, in.Began)
	case turns.ConnectionEnded:
		return fmt.Sprintf("connection %v of %s ended: closed %v, poll %v, idle %v, ago %v", in.Client.Connection, in.Client.Copy, in.Closed, in.Poll, in.Idle, in.Ago)
	case turns.Batch:
		return "batch " + showIDs(in.Updates)
	case turns.AddressGone:
		return "address gone " + in.Address
	case turns.Alive:
		return "alive " + string(in.Client.Copy)
	}
	return text
}

func showIDs(updates []turns.Update) string {
	var b strings.Builder
	for i, u := range updates {
		if i == 6 {
			fmt.Fprintf(&b, " ... (%d)", len(updates))
			break
		}
		fmt.Fprintf(&b, " %d/%d", u.ID, u.Chat)
	}
	return strings.TrimSpace(b.String())
}

package turns

import (
	"flag"
	"fmt"
	"hash/maphash"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

var scopeFlag = flag.String("scope", "quick", "what to enumerate: quick, large, or the name of one scope")

// scope bounds what is enumerated: two copies that run, one of them active, and some of all that can happen to them.
//
// Time goes on in steps; what happens at one instant happens in every order. A copy that does nothing is one that is
// frozen, busy, or slow: so freezes are not events. The primary has one other replica, which learns each delta
// whenever it may be, in order; Telegram learns what is done whenever it may be, or never.
type scope struct {
	name string
	// after: the copies confirm updates after they handled them, otherwise before.
	after bool
	// updates come, of one chat or of one each.
	updates int
	oneChat bool
	// crashes of processes, each followed by a start whenever it may be; unseen of them end no connection.
	crashes, unseen int
	// primaries is how often the primary crashes and the other replica takes over; moves is how often an operator moves
	// the turn on.
	primaries, moves int
	// steps of time.
	steps int
	// peace: it is seen from every state that all is handled in the end.
	peace bool
	// limit on states: a scope that has more is not small.
	limit int
}

var scopes = map[string][]scope{
	"quick": {
		{name: "crash-in-peace", updates: 1, crashes: 1, steps: 1, peace: true, limit: 40_000},
		{name: "ended", crashes: 1, steps: 2, limit: 40_000},
		{name: "silent", after: true, updates: 1, steps: 2, moves: 1, limit: 40_000},
		{name: "primary-soon", updates: 1, primaries: 1, steps: 1, limit: 40_000},
	},
	"large": {
		{name: "crash", updates: 1, crashes: 1, steps: 2, limit: 200_000},
		{name: "crash-after", after: true, updates: 1, crashes: 1, steps: 2, limit: 400_000},
		{name: "unseen", updates: 1, crashes: 1, unseen: 1, steps: 2, limit: 400_000},
		{name: "primary", updates: 1, primaries: 1, steps: 2, limit: 40_000},
		{name: "primary-moves", updates: 1, primaries: 1, moves: 1, steps: 1, peace: true, limit: 200_000},
		{name: "primary-after", after: true, updates: 1, primaries: 1, steps: 2, peace: true, limit: 200_000},
	},
}

const (
	scopeStep     = 500 * time.Millisecond
	scopePatience = time.Second
	scopeReplay   = time.Hour
	scopeCopies   = 2
)

// process is one life of a copy, as the scope has it.
type process struct {
	up, polled bool
	life       uint8
	conn       uint64
	polling    PollID
	offset     int64
	// hand are the updates that it was given and has not handled, as bits.
	hand uint8
	// top is the highest id that it was given in the turn topTurn.
	top     int64
	topTurn uint8
	// joined is the delta of this term with its first poll. strange: the primary that took over does not know of that poll,
	// and may take it for a process that starts.
	joined  uint64
	strange bool
	// last is when it polled last or was answered.
	last Instant
}

// hold is one update in a process's hand.
type hold struct {
	copy, life uint8
	confirmed  bool
	signed     bool
}

// world is everything in a scope.
type world struct {
	m      *Machine
	now    Instant
	mirror Mirror
	under  []Delta // under way to the mirror
	doing  uint8   // done, and Telegram has not been told

	procs                             [scopeCopies]process
	crashes, unseen, primaries, moves int
	arrived, steps                    int
	polls                             PollID
	conns                             uint64
	term                              int64
	active                            int // as told; -1: none
	turn                              uint8
	handled, forgotten, missing       uint8
	// spared: its answer was refused, and the other replica did not know yet that the copy's turn had ended.
	spared uint8
	holds  [][]hold // by update
	broken string
	saw    map[string]int
}

func (s scope) first() *world {
	w := &world{term: 1, active: -1, holds: make([][]hold, s.updates), saw: map[string]int{}}
	w.m = New(Config{Patience: scopePatience, Replay: scopeReplay}, w.term, 0, State{})
	w.step(s, Tick{})
	// Both copies run, the first to poll is active, and the other replica knows.
	for _, ev := range []event{{kind: starts}, {kind: starts, who: 1}, {kind: polls}, {kind: learns}, {kind: learns}} {
		w.do(s, ev)
	}
	return w
}

func (w *world) clone() *world {
	c := *w
	c.m = cloneMachine(w.m)
	c.mirror = Mirror{w.mirror.version, w.mirror.at, w.mirror.roster, slices.Clone(w.mirror.kept)}
	c.under = slices.Clone(w.under)
	c.holds = make([][]hold, len(w.holds))
	for i, h := range w.holds {
		c.holds[i] = slices.Clone(h)
	}
	return &c
}

// cloneMachine copies a machine. Items and members are shared within one, so they are mapped.
func cloneMachine(m *Machine) *Machine {
	c := *m
	c.out = nil
	c.members = nil
	for _, o := range m.members {
		n := *o
		n.connections, n.gone = slices.Clone(o.connections), slices.Clone(o.gone)
		n.polls = nil
		for _, p := range o.polls {
			q := *p
			n.polls = append(n.polls, &q)
		}
		c.members = append(c.members, &n)
		if o == m.active {
			c.active = &n
		}
		if o == m.lasting {
			c.lasting = &n
		}
	}
	copies := func(list []*item) (out []*item) {
		for _, i := range list {
			n := *i
			out = append(out, &n)
		}
		return out
	}
	c.pending, c.window = copies(m.pending), copies(m.window)
	c.ended, c.changed = nil, nil
	if m.begins != nil {
		b := *m.begins
		c.begins = &b
	}
	return &c
}

// --- what can happen ----------------------------------------------------------------------------

// event is what happens next, to a copy if it has one.
type event struct {
	kind eventKind
	who  int
	what int
}

type eventKind uint8

const (
	arrives eventKind = iota
	polls
	handles
	calls
	starts
	crashes
	crashesUnseen
	learns
	tells
	takesOver
	moves
	passes
)

func (e event) String() string {
	name := string(rune('a' + e.who))
	return map[eventKind]string{
		arrives: "an update arrives", polls: name + " polls", handles: fmt.Sprintf("%s handles %d", name, e.what+1), calls: name + " calls getMe",
		starts: name + " starts", crashes: name + " crashes", crashesUnseen: name + " crashes, unseen", learns: "the mirror learns",
		tells: "Telegram is told", takesOver: "another primary takes over", moves: "an operator moves on", passes: "time passes",
	}[e.kind]
}

// events are all that can happen next.
func (w *world) events(s scope) (all []event) {
	if w.arrived < s.updates {
		all = append(all, event{kind: arrives})
	}
	for c := range w.procs {
		p := &w.procs[c]
		if !p.up {
			all = append(all, event{kind: starts, who: c})
			continue
		}
		if p.polling == 0 && (!s.after || p.hand == 0) {
			all = append(all, event{kind: polls, who: c})
		}
		if !p.polled && p.life > 1 {
			all = append(all, event{kind: calls, who: c})
		}
		for u := range w.holds {
			if p.hand&(1<<u) != 0 {
				all = append(all, event{handles, c, u})
			}
		}
		if w.crashes < s.crashes && p.polled {
			all = append(all, event{kind: crashes, who: c})
			if w.unseen < s.unseen {
				all = append(all, event{kind: crashesUnseen, who: c})
			}
		}
	}
	if len(w.under) > 0 {
		all = append(all, event{kind: learns})
	}
	if w.doing != 0 {
		all = append(all, event{kind: tells})
	}
	if w.primaries < s.primaries {
		all = append(all, event{kind: takesOver})
	}
	if w.moves < s.moves {
		all = append(all, event{kind: moves})
	}
	if w.steps < s.steps {
		all = append(all, event{kind: passes})
	}
	return all
}

// do lets something happen.
func (w *world) do(s scope, e event) {
	w.saw[e.kindName()]++
	p := &w.procs[e.who]
	switch e.kind {
	case arrives:
		w.arrived++
		w.bring(s)
	case polls:
		w.poll(s, e.who)
	case handles:
		w.handle(s, e.who, e.what)
	case calls:
		w.step(s, Called{w.client(e.who), KindStartUp})
	case starts:
		w.conns++
		*p = process{up: true, life: p.life + 1, conn: w.conns, offset: 1}
	case crashes, crashesUnseen:
		w.crashes++
		in := ConnectionEnded{Client: w.client(e.who), Closed: true, Poll: p.polling != 0, Idle: 0}
		p.up, p.hand, p.polling = false, 0, 0
		if e.kind == crashesUnseen {
			w.unseen++
			return
		}
		w.step(s, in)
	case learns:
		d := w.under[0]
		w.under = w.under[1:]
		if !w.mirror.Apply(w.now, d) {
			w.breaks("the mirror misses what comes in order")
		}
		w.step(s, Replicated{d.Seq})
	case tells:
		w.forgotten |= w.doing
		w.doing = 0
		w.bring(s)
	case takesOver:
		w.primaries++
		w.takeOver(s)
	case moves:
		w.moves++
		w.step(s, Next{})
	case passes:
		w.steps++
		w.pass(s, scopeStep)
	}
}

func (e event) kindName() string {
	name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(e.String(), "a "), "b "), " 1")
	return strings.TrimSuffix(name, " 2")
}

func (w *world) client(c int) Client {
	id := string(rune('a' + c))
	return Client{Copy: CopyID(id), Address: id, Connection: Connection{"r", w.procs[c].conn}, Reused: w.procs[c].polled}
}

func (w *world) pass(s scope, d time.Duration) {
	until := w.now.Add(d)
	for n := 0; w.m.Next() <= until; n++ {
		if n > 100 {
			w.breaks("it asks for ticks without end")
			return
		}
		w.now = max(w.now, w.m.Next())
		w.step(s, Tick{})
	}
	w.now = until
}

func (w *world) chat(s scope, u int) int64 {
	if s.oneChat {
		return 1
	}
	return int64(1 + u)
}

// bring gives the machine what has arrived and it has not had in this term.
func (w *world) bring(s scope) {
	var b Batch
	for u := range w.arrived {
		if w.forgotten&(1<<u) == 0 && w.missing&(1<<u) == 0 {
			w.missing |= 1 << u
			b.Updates = append(b.Updates, Update{ID: int64(10 + u), Chat: w.chat(s, u), Raw: []byte{byte(u)}})
		}
	}
	if len(b.Updates) > 0 {
		w.step(s, b)
	}
}

func (w *world) poll(s scope, c int) {
	p := &w.procs[c]
	for u, holds := range w.holds {
		for i, h := range holds {
			if h.copy == uint8(c) && h.life == p.life && int64(10+u) < p.offset && (w.active == c || w.active < 0) {
				w.holds[u][i].confirmed = true
			}
		}
	}
	w.polls++
	p.polling = w.polls
	in := Polled{Poll: w.polls, Client: w.client(c), Offset: p.offset, Limit: 100, Timeout: 10 * time.Second}
	joins := !p.polled
	p.polled, p.strange, p.last = true, false, w.now
	w.step(s, in)
	if joins {
		p.joined = w.m.seq
	}
}

func (w *world) handle(s scope, c, u int) {
	p := &w.procs[c]
	p.hand &^= 1 << u
	client := w.client(c)
	began := w.now
	pass := w.step(s, Called{client, KindWrite})
	if !pass {
		if w.mirror.roster.Active == client.Copy {
			w.saw["refused before the other replica knows"]++
			w.spared |= 1 << u
		}
		return
	}
	if w.active != c && (p.polled && !p.strange && w.m.View().Active != CopyID(string(rune('a'+c)))) {
		w.breaks("a write passes that is not the active copy's")
	}
	w.handled |= 1 << u
	for v, holds := range w.holds {
		for i, h := range holds {
			if h.copy == uint8(c) && h.life == p.life && w.chat(s, v) == w.chat(s, u) {
				w.holds[v][i].signed = true
			}
		}
	}
	// In what comes at one instant a sign is later than what was given at it.
	w.step(s, Signed{Copy: client.Copy, Began: began + 1, Chats: []int64{w.chat(s, u)}})
}

func (w *world) takeOver(s scope) {
	w.under, w.doing, w.missing = nil, 0, 0
	for c := range w.procs {
		p := &w.procs[c]
		p.strange = p.strange || p.polled && p.joined > 0 && (Version{w.term, p.joined}).Compare(w.mirror.Version()) > 0
		p.joined = 0
	}
	w.term++
	state := w.mirror.State(w.now)
	w.m = New(w.m.cfg, w.term, w.now, state)
	active := -1
	if state.Active != "" {
		active = int(state.Active[0] - 'a')
	}
	if active != w.active {
		w.turn++
	}
	w.active = active
	for c := range w.procs { // their connections were to the one that crashed
		w.procs[c].polling, w.procs[c].last = 0, w.now
		w.conns++
		w.procs[c].conn = w.conns
	}
	w.step(s, Tick{})
	w.bring(s)
}

// step takes a step of the machine, and judges it. It returns whether a call passes.
func (w *world) step(s scope, in Input) (pass bool) {
	for _, out := range w.m.Step(w.now, in) {
		switch out := out.(type) {
		case Answer:
			w.answer(s, out)
		case Verdict:
			pass = out.Pass
			w.saw[fmt.Sprintf("verdict %v", pass)]++
		case Done:
			w.done(out)
		case Replicate:
			w.under = append(w.under, out.Delta)
		case ActiveChanged:
			w.saw["active, "+string(out.Reason)]++
			w.turn++
			w.active = -1
			if out.To != "" {
				w.active = int(out.To[0] - 'a')
			}
			if out.Again > 0 {
				w.saw["given again"]++
			}
		case Died:
			w.saw["died, "+string(out.Reason)]++
			if p := w.procs[out.Copy[0]-'a']; p.up && p.polled && (p.polling != 0 || w.now.Sub(p.last) < scopePatience) {
				w.breaks("%s is declared dead, and polls", out.Copy)
			}
		case NoSpare:
			w.saw["no spare"]++
		}
	}
	w.judge()
	return pass
}

func (w *world) breaks(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
	}
}

func (w *world) answer(s scope, a Answer) {
	for c := range w.procs {
		p := &w.procs[c]
		if p.polling != a.Poll || !p.up {
			continue
		}
		p.polling, p.last = 0, w.now
		if len(a.Updates) > 0 && w.active != c {
			w.breaks("%c is given updates and is not active", 'a'+c)
		}
		if p.topTurn != w.turn {
			p.top, p.topTurn = 0, w.turn
		}
		last := int64(0)
		for _, u := range a.Updates {
			n := int(u.ID - 10)
			if u.ID <= last {
				w.breaks("an answer is out of order")
			}
			if last = u.ID; !w.has(c, n) {
				if u.ID < p.top {
					w.breaks("%c is given %d for the first time after %d", 'a'+c, u.ID, p.top)
				}
				w.holds[n] = append(w.holds[n], hold{copy: uint8(c), life: p.life})
			}
			p.top = max(p.top, u.ID)
			p.hand |= 1 << n
			if !s.after || p.offset <= u.ID {
				p.offset = u.ID + 1
			}
		}
	}
}

// has tells whether the process that a copy has now was given an update.
func (w *world) has(c, u int) bool {
	return slices.ContainsFunc(w.holds[u], func(h hold) bool { return h.copy == uint8(c) && h.life == w.procs[c].life })
}

func (w *world) done(d Done) {
	for _, id := range d.IDs {
		u := int(id - 10)
		w.doing |= 1 << u
		if !slices.ContainsFunc(w.holds[u], func(h hold) bool { return h.confirmed }) {
			w.breaks("%d is done and was confirmed by none that has it", id)
		}
	}
}

// judge looks for the lemma behind REPLAY: what Telegram may have forgotten, and no process that was given it has shown a
// sign of, the primary keeps, and so does the other replica, unless it is in the hand of the process whose turn it is.
func (w *world) judge() {
	for u, holds := range w.holds {
		gone := (w.doing|w.forgotten)&(1<<u) != 0
		if !gone || slices.ContainsFunc(holds, func(h hold) bool { return h.signed }) {
			continue
		}
		id := int64(10 + u)
		if w.m.lookUp(id) == nil {
			w.breaks("%d may be forgotten, and the primary does not keep it", id)
		}
		if !slices.ContainsFunc(w.mirror.kept, func(k mirrored) bool { return k.ID == id && len(k.Raw) > 0 }) {
			w.breaks("%d may be forgotten, and the other replica does not know it", id)
		}
	}
	if len(w.m.members) > scopeCopies {
		w.breaks("there are more copies than there are")
	}
}

// calm lets all go well from here on, and returns what is not handled in the end.
func (w *world) calm(s scope) string {
	for round := range 40 {
		for len(w.under) > 0 && w.broken == "" {
			w.do(s, event{kind: learns})
		}
		if w.doing != 0 {
			w.do(s, event{kind: tells})
		}
		for c := range w.procs {
			p := &w.procs[c]
			if !p.up {
				w.do(s, event{kind: starts, who: c})
			}
			for u := range w.holds {
				if p.hand&(1<<u) != 0 {
					w.do(s, event{handles, c, u})
				}
			}
			if p.polling == 0 {
				w.poll(s, c)
			}
		}
		if round%4 == 3 {
			w.pass(s, scopeStep)
		}
	}
	if w.broken != "" {
		return w.broken
	}
	for u := range w.arrived {
		signed := slices.ContainsFunc(w.holds[u], func(h hold) bool { return h.signed })
		if (w.handled|w.spared)&(1<<u) == 0 && !signed {
			return fmt.Sprintf("in peace %d is not handled", 10+u)
		}
	}
	if w.active < 0 {
		return "in peace no copy is active"
	}
	return ""
}

// --- the search -----------------------------------------------------------------------------------

type found struct {
	parent int32
	by     event
}

type explorer struct {
	scope
	seed        maphash.Seed
	known       map[[2]uint64]struct{}
	found       []found
	transitions int
	saw         map[string]int
}

func (e *explorer) key(w *world) [2]uint64 {
	text := encode(w)
	return [2]uint64{maphash.String(e.seed, text), maphash.String(e.seed, text+"!")}
}

// explore visits every state once, nearest first, and returns the story of the first that breaks a guarantee.
func (e *explorer) explore(t *testing.T) (string, error) {
	t.Helper()
	type at struct {
		w *world
		n int32
	}
	first := e.first()
	e.known[e.key(first)] = struct{}{}
	e.found = append(e.found, found{parent: -1})
	frontier := []at{{first, 0}}
	for len(frontier) > 0 {
		var later []at
		for _, f := range frontier {
			if e.scope.peace {
				if what := f.w.clone().calm(e.scope); what != "" {
					return e.story(f.n, nil, what), nil
				}
			}
			for _, ev := range f.w.events(e.scope) {
				e.transitions++
				w := f.w.clone()
				w.saw = e.saw
				w.do(e.scope, ev)
				if w.broken != "" {
					return e.story(f.n, &ev, w.broken), nil
				}
				k := e.key(w)
				if _, known := e.known[k]; known {
					continue
				}
				e.known[k] = struct{}{}
				e.found = append(e.found, found{f.n, ev})
				later = append(later, at{w, int32(len(e.found) - 1)})
			}
			if len(e.found) > e.limit {
				return "", fmt.Errorf("more than %d states: the scope is not small", e.limit)
			}
		}
		frontier = later
	}
	return "", nil
}

// story tells the way to a state.
func (e *explorer) story(n int32, next *event, what string) string {
	var way []event
	for ; e.found[n].parent >= 0; n = e.found[n].parent {
		way = append(way, e.found[n].by)
	}
	slices.Reverse(way)
	if next != nil {
		way = append(way, *next)
	}
	var lines []string
	w := e.first()
	for i, ev := range way {
		w.do(e.scope, ev)
		lines = append(lines, fmt.Sprintf("%3d  %5.1f s  %-28s active %d, procs %+v, holds %v, forgotten %b doing %b", i+1,
			time.Duration(w.now).Seconds(), ev, w.active, w.procs, w.holds, w.forgotten, w.doing))
	}
	if next == nil {
		w.calm(e.scope)
		lines = append(lines, fmt.Sprintf("in peace: active %d, procs %+v, holds %v", w.active, w.procs, w.holds))
	}
	return strings.Join(append(lines, "     "+what), "\n")
}

// TestEveryReachableStateOfASmallScope explores all that can happen in a small scope, and checks the guarantees in every
// state. "-scope large" explores larger scopes, "-scope NAME" a single one; with -v it prints how many states there are.
func TestEveryReachableStateOfASmallScope(t *testing.T) {
	saw := map[string]int{}
	for _, s := range chosen(t) {
		t.Run(s.name, func(t *testing.T) {
			began := time.Now()
			e := &explorer{scope: s, seed: maphash.MakeSeed(), known: map[[2]uint64]struct{}{}, saw: saw}
			story, err := e.explore(t)
			if err != nil {
				t.Fatal(err)
			}
			if story != "" {
				t.Fatal(story)
			}
			t.Logf("%d states, %d transitions; %v", len(e.found), e.transitions, time.Since(began).Round(time.Millisecond))
			runtime.GC()
		})
	}
	if t.Failed() || scopes[*scopeFlag] == nil {
		return
	}
	for _, k := range slices.Sorted(maps.Keys(saw)) {
		t.Logf("%-32s %d", k, saw[k])
	}
	must := []string{
		"active, ended", "active, silent", "active, restarted", "active, operator", "died, ended", "died, silent", "given again",
	}
	for _, k := range append(must,
		"verdict true", "verdict false", "an update arrives", "polls", "handles", "starts", "crashes", "the mirror learns", "Telegram is told",
		"another primary takes over", "an operator moves on", "time passes",
	) {
		if saw[k] == 0 {
			t.Errorf("COVERAGE: %q never occurred", k)
		}
	}
}

func chosen(t *testing.T) []scope {
	if all, ok := scopes[*scopeFlag]; ok {
		return all
	}
	for _, all := range scopes {
		for _, s := range all {
			if s.name == *scopeFlag {
				return []scope{s}
			}
		}
	}
	t.Fatalf("there is no scope %q", *scopeFlag)
	return nil
}

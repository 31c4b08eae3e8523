package turnstest

import (
	"fmt"
	"time"

	"habot/app/turns"
)

// Guarantee names what was broken.
type Guarantee string

// The guarantees, as they are checked here.
const (
	// One: updates are given only to the copy whose turn it is, and a write passes only from that copy, from a process
	// that has not polled yet, or from a copy that is not known. Two may write until they poll again, as they look like a
	// process that starts: a former copy that is dead and keeps no connection, and one that has closed the connection of
	// its own poll.
	One Guarantee = "ONE"
	// Confirmed: an update is confirmed to Telegram only after a process that was given it has confirmed it in its
	// turn, and, unless it showed a sign, after the other replicas that can be reached have it.
	Confirmed Guarantee = "CONFIRMED"
	// Lost: in the end each update was handled, or it is one that no guarantee covers, see excuse.
	Lost Guarantee = "LOST"
	// Order: each answer is in Telegram's order, and what a process is given for the first time in a turn comes after
	// all that it was given in that turn.
	Order Guarantee = "ORDER"
	// Bounded: limits are kept: of answers, of what is in hand, of what is kept to be given again.
	Bounded Guarantee = "BOUNDED"
	// Stable: no copy is declared dead whose process runs, can be reached, and polls or thinks within the patience.
	Stable Guarantee = "STABLE"
	// HandedOn: a killed copy is replaced within handOn if one waits, and in peace a copy that lives is active.
	HandedOn Guarantee = "HANDED ON"
	// Patient: no empty answer comes so soon that a framework would ask in a loop.
	Patient Guarantee = "PATIENT"
	// Spin: the machine asks for a tick that was due already.
	Spin Guarantee = "SPIN"
)

// handOn bounds the time from a copy's end with a poll open to the turn of the next.
const handOn = 1300 * time.Millisecond

// noticed is how much later than it happens a replica may notice the end of a process's connections.
func (p *process) noticed() time.Duration {
	if p.endSlow {
		return 4 * time.Second
	}
	return 10 * time.Millisecond
}

// BrokenError says that a guarantee does not hold.
type BrokenError struct {
	Guarantee Guarantee
	At        time.Duration
	What      string
}

// Error implements error.
func (b *BrokenError) Error() string { return fmt.Sprintf("%s: at %v %s", b.Guarantee, b.At, b.What) }

func (w *world) breaks(g Guarantee, format string, args ...any) {
	if w.broken == nil {
		w.broken = &BrokenError{g, w.now, fmt.Sprintf(format, args...)}
		w.tell("BROKEN %v", w.broken)
	}
}

// update is one, with what became of it.
type update struct {
	id      int64
	chat    int64
	expires time.Duration // 0: never
	// upstream: Telegram has forgotten it. ended: the machine of this term needs it no more.
	upstream, ended bool
	// term is the one in which it was given to the machine.
	term int
	// seq is of the first delta of this term that has it.
	seq uint64

	givens   []*given
	handled  bool
	failed   bool // its bot was answered that the answer may not have arrived
	poison   bool
	evicted  bool // there were too many to keep
	missed   bool // two replicas crashed about then, and those who knew it were among them
	attempts int
}

// given is one update in one process's hand, in one turn.
type given struct {
	proc      *process
	turn      int
	at        time.Duration
	confirmed bool
	// touched is when it was given or confirmed.
	touched time.Duration
	signed  bool
	// greeted: the next process of the copy wrote to that chat before it polled, and the end of this one had not been seen.
	greeted bool
}

// holder is the one that had the update last: it was given it last, or confirmed it last.
func (u *update) holder() (h *given) {
	for _, g := range u.givens {
		if h == nil || g.touched >= h.touched {
			h = g
		}
	}
	return h
}

func (u *update) last() *given {
	if len(u.givens) == 0 {
		return nil
	}
	return u.givens[len(u.givens)-1]
}

func (w *world) update(id int64) *update { return w.updates[int(id-w.firstID)] }

// judgeAnswer looks at what a poll is given.
func (w *world) judgeAnswer(r *request, updates []turns.Update) {
	host, proc := r.proc.host, r.proc
	if len(updates) == 0 {
		w.judgeEmpty(r)
		return
	}
	if w.active != host {
		w.breaks(One, "%v is given updates, and active is %v", proc, w.active)
	}
	if len(updates) > r.limit || len(updates) > 100 {
		w.breaks(Bounded, "%v is given %d updates, of at most %d", proc, len(updates), r.limit)
	}
	last := int64(0)
	for _, gotten := range updates {
		u := w.update(gotten.ID)
		if gotten.ID <= last {
			w.breaks(Order, "%v is given %d after %d", proc, gotten.ID, last)
		}
		last = gotten.ID
		g := u.last()
		if g == nil || g.proc != proc || g.turn != w.turn {
			if gotten.ID < proc.highest && proc.highestTurn == w.turn {
				w.breaks(Order, "%v is given %d for the first time, after %d", proc, gotten.ID, proc.highest)
			}
			w.count(againKind(u))
			u.givens = append(u.givens, &given{proc: proc, turn: w.turn, at: w.now, touched: w.now})
		}
	}
	if proc.highestTurn != w.turn {
		proc.highestTurn, proc.highest = w.turn, 0
	}
	proc.highest = max(proc.highest, last)
	w.moment(OnAnswer, host)
}

func againKind(u *update) string {
	switch g := u.last(); {
	case g == nil:
		return "given: new"
	case g.confirmed:
		return "given: again, confirmed before"
	default:
		return "given: again, not confirmed"
	}
}

// judgeEmpty looks at an answer without updates.
func (w *world) judgeEmpty(r *request) {
	w.count("given: nothing")
	p := r.proc
	held := w.now - r.began
	soon := min(3*time.Second, max(r.timeout, 0))
	if !r.active && w.active != p.host || r.recent {
		soon = 3 * time.Second
	}
	switch {
	case held >= soon, r.farewell, r.offset < 0, r.crowded, w.dead[p.host.index], r.over:
	default:
		w.breaks(Patient, "%v is answered with nothing after %v", p, held)
	}
}

// judgePoll looks at a poll that reaches the machine.
func (w *world) judgePoll(r *request) {
	p := r.proc
	if w.active == p.host || w.fresh {
		for _, u := range w.updates {
			if u.id >= r.offset {
				break
			}
			for _, g := range u.givens {
				if g.proc == p && !g.confirmed {
					g.confirmed, g.touched = true, w.now
					w.moment(OnConfirm, p.host)
				}
			}
		}
	}
	p.polled, p.lastRequest, p.gaveUp, p.declared = true, w.now, false, false
	r.active = w.active == p.host || w.active == nil || w.machine.View().Active == p.host.id
	r.recent = p.askedTerm == w.term && w.now < p.askedAt+3*time.Second
	r.farewell = r.timeout == 0 && p.waits
	p.askedTerm, p.askedAt, p.waits = w.term, w.now, r.timeout > 0
}

// judgeWrite looks at the verdict on a write.
func (w *world) judgeWrite(r *request, pass bool) {
	p := r.proc
	switch {
	case !pass:
		w.count("write: refused")
		if w.active == p.host || !p.polled && !p.host.unseen && !r.waited && p.host.troubled < w.now-30*time.Second && w.slow < w.now-5*time.Second {
			w.breaks(One, "a write of %v is refused; active is %v", p, w.active)
		}
	case w.active == p.host:
		w.count("write: active copy")
	case w.machine.View().Active == p.host.id:
		w.count("write: copy whose turn is about to begin")
	case !p.polled:
		w.count("write: starting copy")
	case !w.known[p.host.index]:
		w.count("write: unknown copy")
	case !p.fw.Keeps && p.declared:
		w.count("write: former copy that keeps no connection")
	case p.gaveUp:
		w.count("write: copy that has closed its poll's connection")
	default:
		w.breaks(One, "a write of %v passes; active is %v", p, w.active)
	}
	if !pass {
		return
	}
	r.signs = nil
	if r.chat == 0 {
		return
	}
	for _, u := range w.updates {
		if u.chat != r.chat {
			continue
		}
		for _, g := range u.givens {
			if g.proc == p {
				r.signs = append(r.signs, g)
			}
			g.greeted = g.greeted || g.proc.host == p.host && !p.polled && g.proc.dead && g.proc.cutOff
		}
	}
}

// judgeDone looks at what is confirmed to Telegram.
func (w *world) judgeDone(d turns.Done) {
	w.count("done: " + string(d.Outcome))
	for _, id := range d.IDs {
		u := w.update(id)
		u.ended = true
		switch d.Outcome {
		case turns.OutcomeConfirmed:
			var confirmed, signed bool
			for _, g := range u.givens {
				confirmed, signed = confirmed || g.confirmed, signed || g.signed
			}
			if !confirmed {
				w.breaks(Confirmed, "%d is done, and was confirmed by none that has it", id)
			}
			if w.plan.Config.Replay > 0 && !signed && u.seq > w.acked && !w.excused(u) {
				w.breaks(Confirmed, "%d is done, and the others do not know it: delta %d, known are %d", id, u.seq, w.acked)
			}
		case turns.OutcomeExpired:
			if u.expires == 0 || w.now < u.expires {
				w.breaks(Confirmed, "%d is expired, which it is not", id)
			}
		}
	}
}

// excused: too old to be kept, or given again too often.
func (w *world) excused(u *update) bool {
	for _, g := range u.givens {
		if g.confirmed && w.excuse(u, g) != "" {
			return true
		}
	}
	return false
}

// excuse is why an update that was not handled need not have been: no guarantee covers it. Empty if one does.
func (w *world) excuse(u *update, g *given) string {
	p := g.proc
	again := 0
	for _, g := range u.givens {
		if g.confirmed {
			again++
		}
	}
	switch {
	case g.signed:
		return "it showed a sign"
	case g.confirmed && w.plan.Config.Replay == 0:
		return "nothing is given again"
	case g.confirmed && g.at < p.aliveUntil(w)-w.plan.Config.Replay+p.noticed():
		return "it was given too long before"
	case g.confirmed && again > turns.MaxAgain:
		return "it was given too often"
	case g.confirmed && u.evicted:
		return "there were too many"
	case g.confirmed && g.greeted:
		return "a greeting passed for a sign"
	case u.missed:
		return "two replicas crashed"
	}
	return ""
}

// judgeEnd says what was lost.
func (w *world) judgeEnd() {
	for _, u := range w.updates {
		g := u.holder()
		switch {
		case u.handled:
			w.count("end: handled")
		case u.expires != 0 && u.expires <= w.now:
			w.count("end: expired")
		case u.failed:
			w.count("end: its answer failed")
		case g != nil && w.excuse(u, g) != "":
			w.count("end: " + w.excuse(u, g))
		default:
			what := "never given"
			if g != nil {
				what = fmt.Sprintf("given to %v at %v, confirmed %v", g.proc, g.at, g.confirmed)
			}
			w.breaks(Lost, "update %d is not handled: %s", u.id, what)
		}
	}
	if w.active == nil || w.active.proc == nil || w.active.proc.dead {
		w.breaks(HandedOn, "in peace %v is active", w.active)
	}
	v := w.machine.View()
	if v.Pending > 0 {
		w.breaks(HandedOn, "in peace %d updates wait", v.Pending)
	}
}

// judgeDied looks at a copy that is declared dead.
func (w *world) judgeDied(d turns.Died) {
	w.count("died: " + string(d.Reason))
	h := w.host(d.Copy)
	w.dead[h.index] = true
	p := h.proc
	if p != nil {
		p.declared = true
	}
	if p == nil || p.dead || p.frozen || h.cut || p.lastRequest == 0 || h.troubled > w.now-w.plan.Config.Patience-5*time.Second || p.stopping {
		w.moment(OnDied, h)
		return
	}
	if !p.polled && d.Reason == turns.ReasonSilent {
		return // it takes long to come up
	}
	w.breaks(Stable, "%v is declared dead (%s), and runs", p, d.Reason)
}

// judgeActive looks at a change of the active copy.
func (w *world) judgeActive(c turns.ActiveChanged) {
	w.count("active: " + string(c.Reason))
	w.fresh = false
	if from := w.host(c.From); from != nil {
		for _, p := range from.procs {
			if p.replacedAt == 0 && (c.From != c.To || p.dead) {
				p.replacedAt, p.replaced = w.now, c.Reason
			}
		}
	}
	if c.From != c.To || c.Reason == turns.ReasonRestarted {
		w.turn++
	}
	w.active = w.host(c.To)
	if w.active != nil {
		if w.activeProc = w.active.proc; w.activeProc != nil {
			w.activeProc.replacedAt = 0
		}
		w.moment(OnActive, w.active)
	}
}

// aliveUntil is when a process was last known to live, as far as that can be known from outside.
func (p *process) aliveUntil(w *world) time.Duration {
	switch {
	case p.dead && !p.endUnseen:
		return p.diedAt
	case p.replacedAt == 0:
		return w.now
	case p.replaced == turns.ReasonOperator:
		return p.replacedAt
	default:
		return max(p.lastRequest, p.endSeenAt)
	}
}

func (w *world) judgeBounds() {
	v := w.machine.View()
	if v.Kept > turns.MaxReplay || v.KeptBytes > turns.MaxReplayBytes {
		w.breaks(Bounded, "%d updates of %d bytes are kept", v.Kept, v.KeptBytes)
	}
	if v.InHand > 100 {
		w.breaks(Bounded, "%d are in hand", v.InHand)
	}
	if len(v.Copies) > turns.MaxCopies {
		w.breaks(Bounded, "%d copies are known", len(v.Copies))
	}
	active := turns.CopyID("")
	if w.active != nil {
		active = w.active.id
	}
	if v.Active != active && w.active != nil && w.active.proc == w.activeProc && !w.dead[w.active.index] {
		w.breaks(One, "active is %q, and %q was told", v.Active, active)
	}
}

func (w *world) count(kind string) {
	if w.coverage != nil {
		w.coverage.Counts[kind]++
	}
}

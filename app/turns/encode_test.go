package turns

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// encode writes a world down, times relative to now: two of the same text go on alike. Connections and polls are numbered
// anew, as they are only compared with each other. A step's own results are left out, and so is what makes no difference in
// a scope: see left.
func encode(w *world) string {
	var b strings.Builder
	rel := func(i Instant) int64 {
		if i == never {
			return math.MaxInt64
		}
		return int64(w.now - i)
	}
	m := w.m
	connections, polls := ranks{}, ranks{0: 0}
	name := func(c *member) CopyID {
		if c == nil {
			return ""
		}
		return c.id
	}
	fmt.Fprintf(&b, "M %d %v %v %s %s %s %d ", max(0, -rel(m.notBefore)), m.stopped, m.first, name(m.active), m.former, name(m.lasting), max(0, int64(m.turnSeq)-int64(m.known)))
	if m.begins != nil {
		fmt.Fprintf(&b, "%v", *m.begins)
	}
	for _, c := range m.members {
		fmt.Fprintf(&b, "|C %s %v %v %v ", c.id, c.polled, c.dead, c.sureTo == never)
		if !c.dead {
			fmt.Fprintf(&b, "%d ", rel(c.due))
		}
		if c.suspected {
			fmt.Fprintf(&b, "S%d ", rel(c.suspect))
		}
		if rel(c.brisk) <= int64(quiet) {
			fmt.Fprintf(&b, "B%d ", rel(c.brisk))
		}
		for _, o := range c.connections {
			fmt.Fprintf(&b, "c%d ", connections.of(o.Number))
		}
		fmt.Fprintf(&b, "%v %v %v %v %v ", c.doubted, c.kept, c.keeps, c.ending, c.shut)
		for _, p := range c.polls {
			fmt.Fprintf(&b, "P %d %d %d %d %d %v ", polls.of(uint64(p.id)), connections.of(p.connection.Number), rel(p.began), rel(p.due), p.limit, p.over)
		}
		if c.asked {
			fmt.Fprintf(&b, "A%d %d ", min(rel(c.askedAt), int64(minHold)), c.offset)
		}
		fmt.Fprintf(&b, "%v %v %v ", c.waits, c.farewell, c.confirmed)
		if c.waiting {
			fmt.Fprintf(&b, "W%d ", rel(c.waitingSince))
		}
	}
	turn := func(t uint64) string {
		switch t {
		case 0:
			return "-"
		case m.turn:
			return "now"
		}
		return "before"
	}
	for _, list := range [][]*item{m.window, m.pending} {
		b.WriteByte('|')
		for _, i := range list {
			fmt.Fprintf(&b, "I %d %v %s %s %v %v %v %v %d %d ", i.ID, i.early, turn(i.turn), i.to, i.signed, i.confirmed, i.done, i.stored,
				max(0, int64(i.seq)-int64(m.known)), i.again)
		}
	}
	fmt.Fprintf(&b, "|%d %v %d|", m.tail, m.batched, m.seq-m.known)
	roster := func(r *Roster, gone int64) {
		fmt.Fprintf(&b, "R %s %s ", r.Active, r.Former)
		for _, c := range r.Members {
			fmt.Fprintf(&b, "%s %v %v %v %v %v ", c.ID, c.Polled, c.Dead, c.Ended, c.Kept, c.Waits)
			if c.Waiting {
				fmt.Fprintf(&b, "W%d ", int64(c.WaitingAgo)+gone)
			}
		}
	}
	roster(&w.mirror.roster, rel(w.mirror.at))
	for _, k := range w.mirror.kept {
		fmt.Fprintf(&b, "K %d %v %d ", k.ID, k.Pending, k.Again)
	}
	for _, d := range w.under {
		fmt.Fprintf(&b, "D %v %v ", d.Full, d.Removed)
		for _, k := range d.Kept {
			fmt.Fprintf(&b, "K %d %v %d ", k.ID, k.Pending, k.Again)
		}
		if d.Roster != nil {
			roster(d.Roster, 0)
		}
	}
	for c := range w.procs {
		p := w.procs[c]
		fmt.Fprintf(&b, "|%v %v %d %d %d %d %b ", p.up, p.polled, p.life, connections.of(p.conn), polls.of(uint64(p.polling)), p.offset, p.hand)
		if (Version{w.term, p.joined}).Compare(w.mirror.Version()) > 0 {
			fmt.Fprintf(&b, "J%d ", m.seq-p.joined)
		}
		fmt.Fprintf(&b, "%v %d ", p.strange, min(rel(p.last), int64(scopePatience)))
		if p.topTurn == w.turn {
			fmt.Fprintf(&b, "T%d ", p.top)
		}
		for _, o := range m.members { // whether it is late
			if o.id == w.client(c).Copy {
				fmt.Fprintf(&b, "%v ", o.isLate(w.client(c)))
			}
		}
	}
	fmt.Fprintf(&b, "|%b %d %d %d %d %d %d %d %b %b %b %b %v", w.doing, w.crashes, w.unseen, w.primaries, w.moves, w.arrived, w.steps,
		w.active, w.handled, w.forgotten, w.missing, w.spared, w.holds)
	return b.String()
}

// ranks numbers what is only compared with each other, in the order in which it is met.
type ranks map[uint64]int

func (r ranks) of(n uint64) int {
	if _, known := r[n]; !known {
		r[n] = len(r)
	}
	return r[n]
}

// left is what encode leaves out, and why that changes nothing.
var left = map[string]string{
	"Machine.cfg":     "the same in a scope",
	"Machine.term":    "only compared for order",
	"Machine.now":     "all is relative to it",
	"Machine.out":     "of one step",
	"Machine.began":   "ends of connections are told at once",
	"Machine.since":   "told to operators only",
	"Machine.why":     "told to operators only",
	"Machine.alive":   "only compared with what is to be given again, which is older than any scope",
	"Machine.roster":  "of one step",
	"Machine.full":    "of the first step",
	"Machine.items":   "written field by field",
	"Machine.allowed": "no copy of a scope says anything of kinds",
	"items.ended":     "of one step",
	"items.changed":   "of one step",
	"items.count":     "the number of those that are stored",
	"items.size":      "the size of those that are stored",
	"item.Update":     "its id stands for it",
	"item.givenAt":    "a call of a scope begins when it is answered; what is to be given again is older than any scope",
	"item.back":       "a call of a scope begins when it is answered",
	"member.address":  "no address of a scope changes or is gone",
	"member.allowed":  "no copy of a scope says anything of kinds",
	"member.sureFrom": "a call of a scope begins when it is answered",
	"member.lived":    "as Machine.alive",
	"member.ended":    "as Machine.alive",
	"member.lifeFrom": "no request of a scope comes late",
	"member.bare":     "no request of a scope comes late",
	"member.seen":     "ends of connections are told at once",
	"member.heard":    "ends of connections are told at once, and no address of a scope is gone",

	"items.confirmedAt": "told to operators only",
}

// Each field of a machine is written down, or left out for a reason.
func TestEnumerationForgetsNoField(t *testing.T) {
	t.Parallel()
	text := map[string]string{
		"Machine": "notBefore stopped turn first active former lasting turnSeq begins members seq known",
		"member": "id polled dead sureTo due connections gone doubted kept keeps suspected ending suspect shut brisk polls " +
			"asked askedAt offset waits farewell confirmed waiting waitingSince",
		"poll":  "id connection began due limit over",
		"item":  "early turn to signed confirmed done stored seq again",
		"items": "pending window tail batched",
	}
	for _, v := range []any{Machine{}, member{}, poll{}, item{}, items{}} {
		typ := reflect.TypeOf(v)
		written := strings.Fields(text[typ.Name()])
		for i := range typ.NumField() {
			name := typ.Field(i).Name
			if _, is := left[typ.Name()+"."+name]; is == slices.Contains(written, name) {
				t.Errorf("%s.%s is either written down or left out, with a reason", typ.Name(), name)
			}
		}
	}
}

// A machine and its copy do the same: copies of worlds share nothing, and what is not written down does not matter.
func TestEnumerationForgetsNothingThatMatters(t *testing.T) {
	t.Parallel()
	s := scope{updates: 2, crashes: 3, unseen: 1, primaries: 2, moves: 2, steps: 20}
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		w := s.first()
		for range 40 {
			all := w.events(s)
			if len(all) == 0 {
				break
			}
			ev := all[random.IntN(len(all))]
			before := encode(w)
			other := w.clone()
			other.saw = map[string]int{}
			other.do(s, ev)
			if encode(w) != before {
				t.Fatalf("seed %d: a copy shares something with its original, after %v", seed, ev)
			}
			w.do(s, ev)
			if a, b := encode(w), encode(other); a != b {
				t.Fatalf("seed %d: after %v\n%s\n%s", seed, ev, a, b)
			}
			if w.broken != "" {
				t.Fatalf("seed %d: %s", seed, w.broken)
			}
		}
	}
}

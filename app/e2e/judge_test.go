//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"habot/app/election"
)

// testimony is a replica's word, given between asked and told, that it holds the lease of a term.
type testimony struct{ asked, told time.Time }

// term is what was observed of one role as primary. It is held without interruption from its first testimony to
// its last: it cannot be had twice.
type term struct {
	// claim is its timestamp: no two terms have the same.
	claim  int64
	name   string
	reason election.Reason // empty if it was not observed
	words  []testimony     // in order
}

func (t term) first() testimony { return t.words[0] }
func (t term) last() testimony  { return t.words[len(t.words)-1] }

// surely tells whether the lease was held during all of a span, by testimonies before and after it.
func (t term) surely(from, to time.Time) bool {
	return t.first().told.Before(from) && to.Before(t.last().asked)
}

// bothAtOnce are the testimonies of one term in between those of another: proofs that two replicas held a
// lease at one instant. All clocks are the judge's own, so that none is a false one.
func bothAtOnce(terms []term) (proofs []string) {
	for _, outer := range terms {
		for _, inner := range terms {
			if inner.claim == outer.claim {
				continue
			}
			i := sort.Search(len(inner.words), func(i int) bool { return inner.words[i].asked.After(outer.first().told) })
			if i < len(inner.words) && outer.surely(inner.words[i].asked, inner.words[i].told) {
				proofs = append(proofs, fmt.Sprintf("%s (%d) was primary at %s, and so was %s (%d) before and after", inner.name, inner.claim,
					inner.words[i].told.Format(clock), outer.name, outer.claim))
			}
		}
	}
	return proofs
}

// outOfOrder are the terms that surely began after one with a higher timestamp.
func outOfOrder(terms []term) (proofs []string) {
	for _, earlier := range terms {
		for _, later := range terms {
			if later.first().asked.After(earlier.first().told) && later.claim < earlier.claim {
				proofs = append(proofs, fmt.Sprintf("%s with %d at %s, after %s with %d", later.name, later.claim,
					later.first().told.Format(clock), earlier.name, earlier.claim))
			}
		}
	}
	return proofs
}

// clock is how instants are written.
const clock = "15:04:05.000"

// inForce is one blow: which replicas it hit, and when.
type inForce struct {
	what string
	// deposes: it may cost a primary its role. Others (no processor, no names, no Telegram) must not.
	deposes bool
	// asks: it is an operator's request for a handover by the current primary.
	asks     bool
	victims  []string
	from, to time.Time // to is zero while it lasts
}

func (b inForce) during(from, to time.Time) bool {
	return b.from.Before(to) && (b.to.IsZero() || b.to.After(from))
}

// change is one change of primary, and the blow that explains it: none, if it was a false failover.
type change struct {
	from, to term
	cause    string
	// suspects are blows in force that ought not to have caused it.
	suspects []string
}

// handOver bounds how long a primary takes to hand over: what is in hand is answered within five seconds, or not, and
// confirmed within one.
const handOver = 8 * time.Second

// changes finds the causes of all changes of primary. A blow explains one if it hit the old primary, or so
// many that no quorum was left, and lasted until a while (aftermath) before the old primary's last report. A request for
// a handover, sent to any replica, explains one that was made by request.
func changes(terms []term, blows []inForce, quorum, replicas int, aftermath time.Duration) (all []change) {
	for i := 1; i < len(terms); i++ {
		c := change{from: terms[i-1], to: terms[i]}
		hit := map[string]bool{}
		var what []string
		for _, b := range blows {
			switch {
			case b.asks && c.to.reason == election.ReasonSwitchover && b.during(c.to.first().told.Add(-handOver), c.to.first().told):
				what = append(what, b.what)
				hit[c.from.name] = true
			case !b.during(c.from.last().asked.Add(-aftermath), c.to.first().told):
			case !b.deposes:
				c.suspects = append(c.suspects, b.what)
			default:
				what = append(what, b.what)
				for _, v := range b.victims {
					hit[v] = true
				}
			}
		}
		if hit[c.from.name] || len(hit) > replicas-quorum {
			c.cause = what[0]
			for _, b := range blows { // the one that hit the primary itself tells more
				if b.deposes && slices.Contains(b.victims, c.from.name) && slices.Contains(what, b.what) {
					c.cause = b.what
				}
			}
		}
		all = append(all, c)
	}
	return all
}

// How long no replica is known to have held a lease: in all, and at most.
func nobody(terms []term) (total, longest time.Duration) {
	var until time.Time
	for _, t := range terms {
		if gap := t.first().asked.Sub(until); !until.IsZero() && gap > 0 {
			total += gap
			longest = max(longest, gap)
		}
		if t.last().told.After(until) {
			until = t.last().told
		}
	}
	return total, longest
}

// arrival is a request that reached Telegram.
type arrival struct {
	from string
	at   time.Time
}

// late are the requests that reached Telegram while another replica surely held the lease: they were on
// the wire when their sender's ended. A sender that nothing delayed or froze for a while has no such excuse.
func late(arrivals []arrival, terms []term, blows []inForce, excuse time.Duration) (excused int, inexcusable []arrival) {
	for _, a := range arrivals {
		if !slices.ContainsFunc(terms, func(t term) bool { return t.name != a.from && t.surely(a.at, a.at) }) {
			continue
		}
		if slices.ContainsFunc(blows, func(b inForce) bool {
			return slices.Contains(b.victims, a.from) && b.during(a.at.Add(-excuse), a.at)
		}) {
			excused++
		} else {
			inexcusable = append(inexcusable, a)
		}
	}
	return excused, inexcusable
}

// told makes a term of testimonies at seconds since an origin, each given within a tenth of one.
func told(claim int64, name string, seconds ...float64) term {
	t := term{claim: claim, name: name}
	for _, s := range seconds {
		t.words = append(t.words, testimony{second(s), second(s + 0.1)})
	}
	return t
}

func second(s float64) time.Time { return time.Unix(0, 0).Add(time.Duration(s * float64(time.Second))) }

func TestJudgeSeesTwoPrimaries(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		terms []term
		two   int
	}{
		{"one after the other", []term{told(1, "a", 1, 2, 3), told(2, "b", 4, 5)}, 0},
		{"one in the midst of another", []term{told(1, "a", 1, 2, 6), told(2, "b", 4)}, 1},
		{"answers that cross prove nothing", []term{told(1, "a", 1, 2), told(2, "b", 2.05, 3)}, 0},
		{"the same replica again", []term{told(1, "a", 1, 2), told(2, "b", 3), told(3, "a", 4)}, 0},
		{"each within the other", []term{told(1, "a", 1, 3, 5), told(2, "b", 2, 4, 6)}, 2},
	} {
		if proofs := bothAtOnce(c.terms); len(proofs) != c.two {
			t.Errorf("%s: %q", c.name, proofs)
		}
	}
}

func TestJudgeSeesTimestampsOutOfOrder(t *testing.T) {
	t.Parallel()
	if proofs := outOfOrder([]term{told(1, "a", 1, 2), told(2, "b", 3), told(3, "a", 4)}); len(proofs) != 0 {
		t.Errorf("in order: %q", proofs)
	}
	if proofs := outOfOrder([]term{told(2, "a", 1, 2), told(1, "b", 3)}); len(proofs) != 1 {
		t.Errorf("out of order: %q", proofs)
	}
	if proofs := outOfOrder([]term{told(2, "a", 1), told(1, "b", 1.05)}); len(proofs) != 0 {
		t.Errorf("answers that cross prove nothing: %q", proofs)
	}
}

func TestJudgeFindsCauses(t *testing.T) {
	t.Parallel()
	kill := inForce{"kill", true, false, []string{"a"}, second(3.2), second(3.3)}
	starve := inForce{"starve", false, false, []string{"a"}, second(1), second(6)}
	one := inForce{"cut one", true, false, []string{"b"}, second(2), second(4)}
	other := inForce{"cut the other", true, false, []string{"c"}, second(2), time.Time{}}
	long := inForce{"kill", true, false, []string{"a"}, second(0), second(1)}
	ask := inForce{"ask", true, true, []string{"c"}, second(0), second(0.1)}
	for _, c := range []struct {
		name, cause string
		suspects    int
		blows       []inForce
	}{
		{"killed", "kill", 0, []inForce{kill}},
		{"killed while starved", "kill", 1, []inForce{starve, kill}},
		{"starved alone", "", 1, []inForce{starve}},
		{"one standby cut off", "", 0, []inForce{one}},
		{"no quorum", "cut one", 0, []inForce{one, other}},
		{"long ago", "", 0, []inForce{long}},
		{"nothing at all", "", 0, nil},
		{"asked of another, and slow", "ask", 0, []inForce{ask}},
		{"asked long ago", "", 0, []inForce{{"ask", true, true, []string{"c"}, second(-4), second(-3.5)}}},
	} {
		terms := []term{told(1, "a", 1, 2, 3), told(2, "b", 5)}
		if strings.HasPrefix(c.name, "asked") {
			terms[1].reason = election.ReasonSwitchover
		}
		got := changes(terms, c.blows, 2, 3, time.Second)
		if len(got) != 1 || got[0].cause != c.cause || len(got[0].suspects) != c.suspects {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestJudgeMeasuresGaps(t *testing.T) {
	t.Parallel()
	total, longest := nobody([]term{told(1, "a", 1, 2), told(2, "b", 4, 5), told(3, "a", 5.05, 6), told(4, "c", 6.5)})
	if total.Round(time.Millisecond) != 2300*time.Millisecond || longest.Round(time.Millisecond) != 1900*time.Millisecond {
		t.Errorf("%v in all, %v at most", total, longest)
	}
}

func TestJudgeExcusesWhatWasOnTheWire(t *testing.T) {
	t.Parallel()
	terms := []term{told(1, "a", 1, 2), told(2, "b", 4, 8)}
	arrivals := []arrival{{"a", second(2.5)}, {"b", second(5)}, {"a", second(6)}}
	excused, inexcusable := late(arrivals, terms, []inForce{{"cable", true, false, []string{"a"}, second(2), second(3)}}, 5*time.Second)
	if excused != 1 || len(inexcusable) != 0 {
		t.Errorf("with a cause: %d excused, not so %v", excused, inexcusable)
	}
	excused, inexcusable = late(arrivals, terms, nil, 5*time.Second)
	if excused != 0 || len(inexcusable) != 1 || inexcusable[0].at != second(6) {
		t.Errorf("without: %d excused, not so %v", excused, inexcusable)
	}
}

// With lifelines a successor may be primary milliseconds after a kill; two at one instant are no less two.
func TestJudgeKnowsTakeoversWithinMilliseconds(t *testing.T) {
	t.Parallel()
	at := func(claim int64, name string, ms ...float64) term {
		x := term{claim: claim, name: name}
		for _, m := range ms {
			x.words = append(x.words, testimony{second(m / 1000), second((m + 1) / 1000)})
		}
		return x
	}
	kill := inForce{"kill", true, false, []string{"a"}, second(0.1002), time.Time{}}
	fast := []term{at(1, "a", 60, 80, 99), at(2, "b", 104, 120)}
	if got := changes(fast, []inForce{kill}, 2, 3, time.Second); len(got) != 1 || got[0].cause != "kill" {
		t.Errorf("a takeover after 4 ms: %+v", got)
	}
	if got := changes(fast, nil, 2, 3, time.Second); len(got) != 1 || got[0].cause != "" {
		t.Errorf("a takeover after 4 ms of nothing: %+v", got)
	}
	if proofs := bothAtOnce(fast); len(proofs) != 0 {
		t.Errorf("one after the other: %q", proofs)
	}
	if proofs := bothAtOnce([]term{at(1, "a", 60, 80, 110), at(2, "b", 104, 120)}); len(proofs) != 2 {
		t.Errorf("a lease for 6 ms more: %q", proofs)
	}
	arrivals := []arrival{{"a", second(0.106)}} // it was on the wire when its sender died
	if excused, inexcusable := late(arrivals, fast, []inForce{kill}, time.Second); excused != 1 || len(inexcusable) != 0 {
		t.Errorf("on the wire: %d excused, not so %v", excused, inexcusable)
	}
	if excused, inexcusable := late(arrivals, fast, nil, time.Second); excused != 0 || len(inexcusable) != 1 {
		t.Errorf("of one that lives: %d excused, not so %v", excused, inexcusable)
	}
}

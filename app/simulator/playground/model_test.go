package playground

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"habot/app/page"
)

const (
	alice = "habot-bot-1"
	bob   = "habot-bot-2"
	ada   = int64(9001)
)

// at is a time that many milliseconds after the start of a test.
func at(ms float64) time.Time {
	return time.Unix(1_800_000_000, 0).Add(time.Duration(ms * float64(time.Millisecond)))
}

func us(ms float64) page.Micros { return page.At(at(ms)) }

func (m *Model) poll(who string, from, to float64, code int) {
	m.PollBegan(at(from), who)
	m.PollEnded(at(to), who, code)
}

func TestPollsOfOneReplicaAreOneSpanWithExactEnds(t *testing.T) {
	t.Parallel()
	m := New(nil)
	m.poll(alice, 0, 10.25, 200)
	m.poll(alice, 12, 800, 200)
	m.poll(alice, 849, 900, 200)
	m.poll(alice, 950, 1000.5, 200) // a pause of 50 ms is a gap
	f := m.Frame(at(1010), 0)
	want := []page.Span{{ID: 1, Who: alice, From: us(0), To: us(900), Polls: 3}, {ID: 3, Who: alice, From: us(950), To: us(1000.5), Polls: 1}}
	if !reflect.DeepEqual(f.Spans, want) {
		t.Errorf("spans %+v\nwant  %+v", f.Spans, want)
	}
	if len(f.Gaps) != 1 || f.Gaps[0].From != us(900) || f.Gaps[0].To != us(950) || f.Gaps[0].Before != alice || f.Gaps[0].After != alice {
		t.Errorf("gaps %+v", f.Gaps)
	}
	if len(f.Changes) != 0 {
		t.Errorf("changes %+v", f.Changes)
	}
}

// After a poll that was cut off, the replica is another process, or has been refused: what follows is another span.
func TestASpanEndsWithAPollThatDid(t *testing.T) {
	t.Parallel()
	for _, code := range []int{0, 409} {
		m := New(nil)
		m.poll(alice, 0, 10, code)
		m.poll(alice, 12, 20, 200)
		if spans := m.Frame(at(30), 0).Spans; len(spans) != 2 || spans[0].To != us(10) || spans[1].From != us(12) {
			t.Errorf("code %d: spans %+v", code, spans)
		}
	}
}

func TestAChangeShowsItsGapHoweverShort(t *testing.T) {
	t.Parallel()
	for _, gap := range []float64{1.5, 431} {
		m := New(nil)
		m.poll(alice, 0, 100, 0)
		m.PollBegan(at(100+gap), bob)
		f := m.Frame(at(200+gap), 0)
		if len(f.Gaps) != 1 || f.Gaps[0] != (page.Gap{ID: f.Gaps[0].ID, From: us(100), To: us(100 + gap), Before: alice, After: bob}) {
			t.Errorf("gaps %+v", f.Gaps)
		}
		if len(f.Changes) != 1 || f.Changes[0].Gap == nil || *f.Changes[0].Gap != int64(gap*1000) || f.Changes[0].From != alice || f.Changes[0].To != bob {
			t.Errorf("changes %+v", f.Changes)
		}
		if !f.Polling || f.Poller != bob {
			t.Errorf("%s polls: %t", f.Poller, f.Polling)
		}
	}
}

// The poll of a frozen replica stays open: what Telegram sees has no gap, and the page makes none up.
func TestAChangeUnderAnOpenPollHasNoGap(t *testing.T) {
	t.Parallel()
	m := New(nil)
	m.PollBegan(at(0), alice)
	m.PollBegan(at(500), bob)
	m.PollEnded(at(500), alice, 409)
	f := m.Frame(at(600), 0)
	if len(f.Gaps) != 0 || len(f.Changes) != 1 || f.Changes[0].Gap != nil || !strings.Contains(f.Changes[0].Reason, "open") {
		t.Errorf("gaps %+v, changes %+v", f.Gaps, f.Changes)
	}
	if len(f.Marks) != 1 || f.Marks[0].Kind != "409" || f.Marks[0].Who != alice || f.Marks[0].At != us(500) {
		t.Errorf("marks %+v", f.Marks)
	}
	if len(f.Spans) != 2 || f.Spans[0].To != us(500) || f.Spans[1].To != 0 {
		t.Errorf("spans %+v", f.Spans)
	}
}

func TestAGapIsShownWhileItGoesOn(t *testing.T) {
	t.Parallel()
	m := New(nil)
	m.poll(alice, 0, 100, 0)
	if f := m.Frame(at(149), 0); len(f.Gaps) != 0 || f.Polling {
		t.Errorf("gaps %+v: a pause is no gap yet", f.Gaps)
	}
	f := m.Frame(at(150), 0)
	if len(f.Gaps) != 1 || f.Gaps[0].From != us(100) || f.Gaps[0].To != 0 {
		t.Errorf("gaps %+v", f.Gaps)
	}
	m.PollBegan(at(700), alice)
	later := m.Frame(at(710), f.Version)
	if len(later.Gaps) != 1 || later.Gaps[0].ID != f.Gaps[0].ID || later.Gaps[0].To != us(700) {
		t.Errorf("gaps %+v, then %+v", f.Gaps, later.Gaps)
	}
}

func TestFaultsAreShadedForAsLongAsTheyLast(t *testing.T) {
	t.Parallel()
	m := New(nil)
	m.FaultBegan(at(0), 7, "hang", "", at(1000))
	m.FaultBegan(at(0), 8, "401", alice, at(2000))
	m.FaultEnded(at(1500), 8)
	m.FaultEnded(at(1600), 7)
	m.FaultEnded(at(1700), 7)
	got := m.Frame(at(3000), 0).Shades
	want := []page.Shade{{ID: 1, Kind: "hang", From: us(0), To: us(1000)}, {ID: 2, Kind: "401", Who: alice, From: us(0), To: us(1500)}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

func TestAMessageShowsWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	m := New([]int64{ada})
	m.Wrote(at(0), 1, ada, "hello", true)
	m.Wrote(at(1), 2, 4711, "of a chat that is not shown", true)
	waits := m.Frame(at(2), 0)
	if len(waits.Messages) != 1 || waits.Messages[0].Times != 0 || !waits.Messages[0].Expects {
		t.Fatalf("%+v", waits.Messages)
	}
	m.Delivered(at(3), 1, alice)
	m.Delivered(at(4), 1, bob) // again, after a crash
	m.Answered(at(5), 1, at(0), true, Who{Replica: alice}, "habot-bot-1: hello")
	once := m.Frame(at(6), waits.Version).Messages
	m.Answered(at(7), 1, at(0), false, Who{Replica: bob}, "habot-bot-2: hello")
	m.Confirmed(1)
	f := m.Frame(at(8), waits.Version)
	want := Message{
		ID: 1, Chat: ada, Text: "hello", At: us(0), Expects: true, Delivered: alice, DeliveredAt: us(3), Confirmed: true, Times: 2, serial: 1,
		Answers: []Answer{{Who{Replica: alice}, us(5), "habot-bot-1: hello"}, {Who{Replica: bob}, us(7), "habot-bot-2: hello"}},
	}
	if len(f.Messages) != 1 || !reflect.DeepEqual(f.Messages[0], want) {
		t.Errorf("%+v\nwant %+v", f.Messages, want)
	}
	if len(once) != 1 || len(once[0].Answers) != 1 {
		t.Errorf("a frame that was made has changed: %+v", once)
	}
	if q := QuantilesOf(f.took); f.took != nil && q.Answers != 1 {
		t.Errorf("%d answers count, want the first alone", q.Answers)
	}
}

func TestAMessageAfterACommandIsItsAnswerAndOthersAreTheBotsOwn(t *testing.T) {
	t.Parallel()
	m := New([]int64{ada})
	m.Said(at(0), ada, Who{Replica: alice}, "habot-bot-1 is primary")
	m.Wrote(at(1), 1, ada, "/help", false)
	m.Said(at(2), ada, Who{Replica: alice}, "not yet polled: not its answer")
	m.Delivered(at(3), 1, alice)
	m.Said(at(4), ada, Who{Replica: alice}, "/start ...")
	m.Said(at(5), ada, Who{Replica: alice}, "another")
	m.Said(at(6), 4711, Who{Replica: alice}, "a chat that is not shown")
	m.Wrote(at(7), 2, ada, "/ping", false)
	m.Delivered(at(8), 2, alice)
	m.Said(at(8+31_000), ada, Who{Replica: alice}, "long after")
	var got []string
	for _, w := range m.Frame(at(40_000), 0).Messages {
		got = append(got, fmt.Sprint(w.Bot.Replica, "|", w.Text, "|", w.Times))
	}
	want := []string{
		alice + "|habot-bot-1 is primary|0", "|/help|1", alice + "|not yet polled: not its answer|0", alice + "|another|0", "|/ping|0",
		alice + "|long after|0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

func TestQuantilesAreThoseOfTheLastMinuteByNearestRank(t *testing.T) {
	t.Parallel()
	m := New(nil)
	m.Answered(at(0), 1, at(-9000), true, Who{Replica: alice}, "old")
	for i := range 200 {
		m.Answered(at(61_000+float64(i)), int64(i), at(61_000), true, Who{Replica: alice}, "x") // took 0..199 ms
	}
	f := m.Frame(at(62_000), 0)
	var got struct{ Quantiles Quantiles }
	if err := json.Unmarshal(f.JSON(), &got); err != nil {
		t.Fatal(err)
	}
	if want := (Quantiles{Answers: 200, Median: 99, P95: 189, P99: 197, Max: 199}); got.Quantiles != want {
		t.Errorf("%+v, want %+v", got.Quantiles, want)
	}
	if (QuantilesOf(nil) != Quantiles{}) {
		t.Error("no answers have percentiles")
	}
	if again := m.Frame(at(62_500), f.Version); again.took != nil {
		t.Error("percentiles are made more than once a second")
	}
}

func TestRatesAreMeansOfTheLastFiveWholeSeconds(t *testing.T) {
	t.Parallel()
	m := New(nil)
	for i := range 100 {
		m.Wrote(at(float64(i)*100), int64(i), 0, "x", true) // 10 a second for 10 s
	}
	for ms, want := range map[float64]float64{9_950: 10, 10_050: 10, 12_500: 6, 15_050: 0, 500_000: 0} {
		c := m.sent
		if got := c.mean(at(ms)); math.Abs(got-want) > 1e-9 {
			t.Errorf("after %v ms: %v a second, want %v", ms, got, want)
		}
	}
}

// client is what a page keeps of frames.
type client struct {
	spans    map[int64]page.Span
	gaps     map[int64]page.Gap
	marks    map[int64]page.Mark
	shades   map[int64]page.Shade
	changes  map[int64]page.Change
	messages map[int64]Message
}

func (c *client) apply(f Frame) {
	if f.Full {
		*c = client{map[int64]page.Span{}, map[int64]page.Gap{}, map[int64]page.Mark{}, map[int64]page.Shade{}, map[int64]page.Change{}, map[int64]Message{}}
	}
	for _, x := range f.Spans {
		c.spans[x.ID] = x
	}
	for _, x := range f.Gaps {
		c.gaps[x.ID] = x
	}
	for _, x := range f.Marks {
		c.marks[x.ID] = x
	}
	for _, x := range f.Shades {
		c.shades[x.ID] = x
	}
	for _, x := range f.Changes {
		c.changes[x.ID] = x
	}
	for _, x := range f.Messages {
		c.messages[x.ID] = x
	}
}

// Whatever happens, what a page has after all changes is what one has that gets all there is; spans of one replica do not
// overlap, and in a gap none polls.
func TestChangesLeadToAllThereIs(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		m := New([]int64{ada, ada + 1})
		polls := map[string]int{}
		var c client
		var version uint64
		serial, fault, ms := int64(0), int64(0), 0.0
		names := []string{alice, bob, "habot-bot-3"}
		for range 150 {
			ms += float64(random.IntN(120_000)) / 1000 // more than a pause, often
			name := names[random.IntN(len(names))]
			switch random.IntN(9) {
			case 0, 1:
				m.PollBegan(at(ms), name)
				polls[name]++
			case 2, 3:
				if polls[name] > 0 {
					polls[name]--
					m.PollEnded(at(ms), name, []int{200, 409, 0}[random.IntN(3)])
				}
			case 4:
				serial++
				m.Wrote(at(ms), serial, ada+random.Int64N(3), "x", random.IntN(3) > 0)
			case 5:
				m.Answered(at(ms), 1+random.Int64N(serial+1), at(ms-5), true, Who{Replica: name}, "y")
			case 6:
				m.Delivered(at(ms), 1+random.Int64N(serial+1), name)
			case 7:
				fault++
				m.FaultBegan(at(ms), fault, "500", "", at(ms+100))
			case 8:
				m.FaultEnded(at(ms), 1+random.Int64N(fault+1))
			}
			if random.IntN(4) == 0 {
				f := m.Frame(at(ms), version)
				c.apply(f)
				version = f.Version
			}
		}
		f := m.Frame(at(ms), version)
		if version == 0 {
			continue
		}
		c.apply(f)
		var all client
		all.apply(m.Frame(at(ms), 0))
		if !reflect.DeepEqual(c, all) {
			t.Fatalf("seed %d: changes led to %+v\nall there is: %+v", seed, c, all)
		}
		spans := slices.SortedFunc(func(yield func(page.Span) bool) {
			for _, s := range all.spans {
				if !yield(s) {
					return
				}
			}
		}, func(a, b page.Span) int { return cmp.Compare(a.From, b.From) })
		for i, a := range spans {
			if a.To != 0 && a.To < a.From {
				t.Errorf("seed %d: %+v ends before it begins", seed, a)
			}
			for _, b := range spans[i+1:] {
				if a.Who == b.Who && (a.To == 0 || a.To > b.From) {
					t.Errorf("seed %d: %+v and %+v overlap", seed, a, b)
				}
			}
			for _, g := range all.gaps {
				end := a.To
				if end == 0 {
					end = us(ms)
				}
				gapEnd := g.To
				if gapEnd == 0 {
					gapEnd = us(ms)
				}
				if a.From < gapEnd && end > g.From && a.Polls == 1 {
					t.Errorf("seed %d: in the gap %+v there is %+v", seed, g, a)
				}
			}
		}
	}
}

func TestEverythingIsBounded(t *testing.T) {
	t.Parallel()
	m := New([]int64{ada})
	for i := range 5000 {
		ms := float64(i) * 200
		who := fmt.Sprintf("client-%d", i)
		m.poll(who, ms, ms+1, 409)
		m.Wrote(at(ms), int64(i), ada, strings.Repeat("ä", 10_000), true)
		for range 12 {
			m.Answered(at(ms), int64(i), at(ms), true, Who{Replica: who}, "y")
		}
		m.FaultBegan(at(ms), int64(i), "hang", "", at(ms+1))
		m.FaultEnded(at(ms+1), int64(i))
	}
	f := m.Frame(at(5000*200), 0)
	for what, c := range map[string][2]int{
		"lanes": {len(f.Lanes.Lanes), maxLanes}, "spans": {len(f.Spans), maxSpans}, "gaps": {len(f.Gaps), maxGaps}, "marks": {len(f.Marks), maxMarks},
		"shades": {len(f.Shades), maxShades}, "changes": {len(f.Changes), maxChanges}, "messages": {len(f.Messages), maxMessages},
		"times": {len(m.times), maxTimes}, "messages that wait": {len(m.pending), maxMessages}, "answers": {len(f.Messages[0].Answers), maxAnswers},
		"text": {len(f.Messages[0].Text), maxShown + 3}, "faults": {len(m.faults), 0},
	} {
		if c[0] > c[1] {
			t.Errorf("%d %s, at most %d are meant", c[0], what, c[1])
		}
	}
	if f.Messages[0].Times != 12 {
		t.Errorf("%d answers are counted", f.Messages[0].Times)
	}
}

func TestALaneThatDoesNothingForLongGoes(t *testing.T) {
	t.Parallel()
	m := New(nil)
	m.Called(at(0), Who{Replica: alice})
	m.PollBegan(at(0), bob)
	if n := len(m.Frame(at(599_000), 0).Lanes.Lanes); n != 2 {
		t.Errorf("%d lanes", n)
	}
	if lanes := m.Frame(at(601_000), 0).Lanes.Lanes; len(lanes) != 1 || lanes[0].Name != bob {
		t.Errorf("%+v: a poll that is open is something", lanes)
	}
}

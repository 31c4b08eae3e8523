package intake

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// What a predecessor handled is forgotten once Telegram's answer shows that it waits no longer: its id may come again, for
// another update, when ids have started again lower.
func TestLedgerForgetsWhatThePredecessorHandledOnceItWaitsNoLonger(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, tt := range map[string]struct {
		got  []int // a poll's answer
		want []int64
	}{
		"nothing waits":                    {nil, nil},
		"all of them wait":                 {[]int{10, 20, 500}, []int64{10, 20, 500}},
		"one is skipped over":              {[]int{10, 30, 500}, []int64{10, 500}},
		"the answer does not reach so far": {[]int{10}, []int64{10, 20, 500}},
		"they were confirmed":              {[]int{600, 601}, nil},
	} {
		l := newLedger([]int64{10, 20, 500})
		l.polled(0, tt.got)
		for _, id := range tt.got {
			l.take(id, now)
		}
		if got := l.ids(); !slices.Equal(got, tt.want) && len(got)+len(tt.want) > 0 {
			t.Errorf("%s: %v are remembered, want %v", name, got, tt.want)
		}
	}
}

// What this term has handled and not confirmed is sent to the standbys, whatever a poll's answer shows.
func TestLedgerKeepsItsOwnUntilTheyAreConfirmed(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := newLedger(nil)
	for _, id := range []int{10, 11, 12} {
		l.take(id, now)
	}
	l.done(10, now)
	l.done(12, now)
	l.polled(0, []int{10}) // one update for a poll that repeats an offset
	if got := l.ids(); !slices.Equal(got, []int64{10, 12}) {
		t.Errorf("%v are told", got)
	}
	l.polled(11, []int{11, 12})
	if got := l.ids(); !slices.Equal(got, []int64{12}) {
		t.Errorf("%v are told once 10 is confirmed", got)
	}
}

func TestOffsets(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := newLedger(nil)
	if p := l.next(0, now); p.offset != 0 || p.timeout != longTimeout || p.bound != longBound {
		t.Errorf("the first poll is %+v", p)
	}
	if p := l.next(1, now); p.offset != 0 || !p.askFirst {
		t.Errorf("without a known offset a probe is %+v", p)
	}
	for _, id := range []int{7, 8, 9} {
		if l.knows(id) || l.take(id, now) || !l.knows(id) {
			t.Errorf("update %d was not new, or is not known then", id)
		}
	}
	l.done(9, now)
	if p := l.next(0, now); p.offset != 0 || l.idle() {
		t.Errorf("nothing is to be confirmed, but the poll is %+v", p)
	}
	l.done(7, now)
	if p := l.next(0, now); p.offset != 8 {
		t.Errorf("the poll that confirms is %+v", p)
	}
	l.polled(0, []int{7, 8, 9})
	if p := l.next(0, now); p.offset != 8 {
		t.Errorf("a poll without an offset confirmed something: %+v", p)
	}
	l.polled(8, []int{8, 9})
	if p := l.next(0, now); p.offset != 0 {
		t.Errorf("confirmed, but the poll is %+v", p)
	}
	if got := l.ids(); !slices.Equal(got, []int64{9}) {
		t.Errorf("after the confirmation of 7, %v wait", got)
	}
	if one, two := l.next(1, now), l.next(2, now); one.offset != 8 || two.offset != 0 || one.askFirst || two.bound != probeBound {
		t.Errorf("probes are %+v and %+v, want different offsets", one, two)
	}
	week := now.Add(7 * 24 * time.Hour)
	for n := 1; n < 5; n++ {
		if p := l.next(n, week); p.offset != 0 {
			t.Errorf("after a week probe %d has the offset %d: ids may have started again lower", n, p.offset)
		}
	}
}

func TestLedgerConfirmsUpToTheOldestInHand(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := newLedger([]int64{12, 500})
	for _, id := range []int{10, 11, 12, 13} {
		if got := l.take(id, now); got != (id == 12) {
			t.Errorf("whether the predecessor handled %d: %v", id, got)
		}
	}
	for _, step := range []struct{ done, offset int }{{13, 0}, {10, 11}, {11, 14}} {
		l.done(step.done, now)
		if l.offset != step.offset {
			t.Errorf("with %d handled, %d confirms, want %d", step.done, l.offset, step.offset)
		}
	}
	if !l.idle() || !l.knows(10) || !l.knows(13) {
		t.Error("what is handled and not confirmed would be handled again if it came")
	}
	if l.take(14, now); l.idle() {
		t.Error("with an update in hand the ledger is idle")
	}
	l.polled(14, nil)
	if got := l.ids(); len(got) != 0 || l.offset != 0 {
		t.Errorf("after the confirmation %v wait and %d confirms", got, l.offset)
	}
}

// What is handled out of turn is sent to the successor until it is confirmed, however far its id is.
func TestLedgerKeepsWhatIsHandledOutOfTurn(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := newLedger(nil)
	for _, id := range []int{10, 11, 500} {
		l.take(id, now)
	}
	l.done(10, now)
	l.done(500, now)
	l.polled(11, []int{11, 500})
	if got := l.ids(); !slices.Equal(got, []int64{500}) || !l.knows(500) {
		t.Errorf("handled and not confirmed are %v, want 500", got)
	}
	l.done(11, now)
	if l.offset != 501 || !l.idle() {
		t.Errorf("%d confirms, want 501", l.offset)
	}
}

func TestLedgerConfirmsWhatIsKeptAndHandlesItOnce(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := newLedger([]int64{3})
	for _, id := range []int{1, 2, 3, 4} {
		l.take(id, now)
	}
	l.keep([]int{1, 4}, now)
	if l.offset != 2 {
		t.Errorf("with 1 kept %d confirms", l.offset)
	}
	l.keep([]int{2}, now)
	if l.offset != 5 || !l.idle() {
		t.Errorf("with all kept or handled %d confirms", l.offset)
	}
	l.polled(5, nil)
	if got := fmt.Sprint(l.ids()); got != "[]" {
		t.Errorf("handled are %s: what is kept is not", got)
	}
	l.done(1, now)
	if got := fmt.Sprint(l.ids()); got != "[1]" {
		t.Errorf("handled are %s", got)
	}
	// A successor, which gets them from Telegram again.
	s := newLedger([]int64{1})
	s.keep([]int{2, 4}, now)
	if s.offset != 0 {
		t.Errorf("before any poll %d confirms", s.offset)
	}
	for _, id := range []int{1, 2} {
		if got := s.take(id, now); !got {
			t.Errorf("whether %d is handled or kept: %v", id, got)
		}
	}
	if s.take(3, now) || s.offset != 3 {
		t.Errorf("%d confirms", s.offset)
	}
}

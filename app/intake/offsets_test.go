package intake

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// What a predecessor handled is forgotten once Telegram's answer shows that it waits no longer: its id may come again, for
// another update, when ids have started again lower.
func TestOffsetsForgetsWhatThePredecessorHandledOnceItWaitsNoLonger(t *testing.T) {
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
		o := newOffsets([]int64{10, 20, 500})
		o.acked(0, tt.got)
		for _, id := range tt.got {
			o.accept(id, now)
		}
		if got := o.ids(); !slices.Equal(got, tt.want) && len(got)+len(tt.want) > 0 {
			t.Errorf("%s: %v are remembered, want %v", name, got, tt.want)
		}
	}
}

// What this term has handled and not confirmed is sent to the standbys, whatever a poll's answer shows.
func TestOffsetsKeepsItsOwnUntilTheyAreConfirmed(t *testing.T) {
	t.Parallel()
	now := time.Now()
	o := newOffsets(nil)
	for _, id := range []int{10, 11, 12} {
		o.accept(id, now)
	}
	o.done(10, now)
	o.done(12, now)
	o.acked(0, []int{10}) // one update for a poll that repeats an offset
	if got := o.ids(); !slices.Equal(got, []int64{10, 12}) {
		t.Errorf("%v are told", got)
	}
	o.acked(11, []int{11, 12})
	if got := o.ids(); !slices.Equal(got, []int64{12}) {
		t.Errorf("%v are told once 10 is confirmed", got)
	}
}

func TestOffsets(t *testing.T) {
	t.Parallel()
	now := time.Now()
	o := newOffsets(nil)
	if p := o.next(0, now); p.offset != 0 || p.timeout != longTimeout || p.bound != longBound {
		t.Errorf("the first poll is %+v", p)
	}
	if p := o.next(1, now); p.offset != 0 || !p.askFirst {
		t.Errorf("without a known offset a probe is %+v", p)
	}
	for _, id := range []int{7, 8, 9} {
		if o.seen(id) || o.accept(id, now) || !o.seen(id) {
			t.Errorf("update %d was not new, or is not known then", id)
		}
	}
	o.done(9, now)
	if p := o.next(0, now); p.offset != 0 || o.idle() {
		t.Errorf("nothing is to be confirmed, but the poll is %+v", p)
	}
	o.done(7, now)
	if p := o.next(0, now); p.offset != 8 {
		t.Errorf("the poll that confirms is %+v", p)
	}
	o.acked(0, []int{7, 8, 9})
	if p := o.next(0, now); p.offset != 8 {
		t.Errorf("a poll without an offset confirmed something: %+v", p)
	}
	o.acked(8, []int{8, 9})
	if p := o.next(0, now); p.offset != 0 {
		t.Errorf("confirmed, but the poll is %+v", p)
	}
	if got := o.ids(); !slices.Equal(got, []int64{9}) {
		t.Errorf("after the confirmation of 7, %v wait", got)
	}
	if one, two := o.next(1, now), o.next(2, now); one.offset != 8 || two.offset != 0 || one.askFirst || two.bound != probeBound {
		t.Errorf("probes are %+v and %+v, want different offsets", one, two)
	}
	week := now.Add(7 * 24 * time.Hour)
	for n := 1; n < 5; n++ {
		if p := o.next(n, week); p.offset != 0 {
			t.Errorf("after a week probe %d has the offset %d: ids may have started again lower", n, p.offset)
		}
	}
}

func TestOffsetsConfirmsUpToTheOldestInHand(t *testing.T) {
	t.Parallel()
	now := time.Now()
	o := newOffsets([]int64{12, 500})
	for _, id := range []int{10, 11, 12, 13} {
		if got := o.accept(id, now); got != (id == 12) {
			t.Errorf("whether the predecessor handled %d: %v", id, got)
		}
	}
	for _, step := range []struct{ done, offset int }{{13, 0}, {10, 11}, {11, 14}} {
		o.done(step.done, now)
		if o.offset != step.offset {
			t.Errorf("with %d handled, %d confirms, want %d", step.done, o.offset, step.offset)
		}
	}
	if !o.idle() || !o.seen(10) || !o.seen(13) {
		t.Error("what is handled and not confirmed would be handled again if it came")
	}
	if o.accept(14, now); o.idle() {
		t.Error("with an update in hand it is idle")
	}
	o.acked(14, nil)
	if got := o.ids(); len(got) != 0 || o.offset != 0 {
		t.Errorf("after the confirmation %v wait and %d confirms", got, o.offset)
	}
}

// What is handled out of turn is sent to the successor until it is confirmed, however far its id is.
func TestOffsetsKeepsWhatIsHandledOutOfTurn(t *testing.T) {
	t.Parallel()
	now := time.Now()
	o := newOffsets(nil)
	for _, id := range []int{10, 11, 500} {
		o.accept(id, now)
	}
	o.done(10, now)
	o.done(500, now)
	o.acked(11, []int{11, 500})
	if got := o.ids(); !slices.Equal(got, []int64{500}) || !o.seen(500) {
		t.Errorf("handled and not confirmed are %v, want 500", got)
	}
	o.done(11, now)
	if o.offset != 501 || !o.idle() {
		t.Errorf("%d confirms, want 501", o.offset)
	}
}

func TestOffsetsConfirmsWhatIsKeptAndHandlesItOnce(t *testing.T) {
	t.Parallel()
	now := time.Now()
	o := newOffsets([]int64{3})
	for _, id := range []int{1, 2, 3, 4} {
		o.accept(id, now)
	}
	o.keep([]int{1, 4}, now)
	if o.offset != 2 {
		t.Errorf("with 1 kept %d confirms", o.offset)
	}
	o.keep([]int{2}, now)
	if o.offset != 5 || !o.idle() {
		t.Errorf("with all kept or handled %d confirms", o.offset)
	}
	o.acked(5, nil)
	if got := fmt.Sprint(o.ids()); got != "[]" {
		t.Errorf("handled are %s: what is kept is not", got)
	}
	o.done(1, now)
	if got := fmt.Sprint(o.ids()); got != "[1]" {
		t.Errorf("handled are %s", got)
	}
	// A successor, which gets them from Telegram again.
	s := newOffsets([]int64{1})
	s.keep([]int{2, 4}, now)
	if s.offset != 0 {
		t.Errorf("before any poll %d confirms", s.offset)
	}
	for _, id := range []int{1, 2} {
		if got := s.accept(id, now); !got {
			t.Errorf("whether %d is handled or kept: %v", id, got)
		}
	}
	if s.accept(3, now) || s.offset != 3 {
		t.Errorf("%d confirms", s.offset)
	}
}

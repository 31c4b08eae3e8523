package playground

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"habot/app/page"
)

const (
	one = "10.0.0.1"
	two = "10.0.0.2"
)

// reply has a copy answer, at a time, what was sent at another; below 0: what was answered before.
func (m *Model) reply(name string, ms, sent float64) {
	since := at(sent)
	if sent < 0 {
		since = since.AddDate(-1, 0, 0)
	}
	m.Answered(at(ms), 0, since, sent >= 0, Who{Replica: alice, Copy: name}, "x")
}

func TestAnswersOfOneCopyAreOneSpan(t *testing.T) {
	t.Parallel()
	m := New(nil)
	m.reply(one, 10, 0)
	m.reply(one, 500, 490)
	m.reply(one, 90_000, 89_500) // no user wrote anything for long
	c := m.Frame(at(90_001), 0).Copies
	if want := []page.Span{{ID: 1, Who: one, From: us(10), To: us(90_000), Polls: 3}}; !reflect.DeepEqual(c.Spans, want) {
		t.Errorf("spans %+v\nwant  %+v", c.Spans, want)
	}
	if len(c.Gaps)+len(c.Changes) != 0 || len(c.Lanes) != 1 || c.Lanes[0] != (page.Lane{Name: one, Seen: us(90_000), Count: 3}) {
		t.Errorf("%+v", c)
	}
}

// A gap begins when a message waits, and not before the last answer: a time in which no user writes is none.
func TestAChangeOfCopyShowsHowLongAMessageWaited(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ sent, from, to float64 }{
		{950, 1000, 1431},    // it was sent before the last answer
		{5000, 5000, 5000.5}, // long after
	} {
		m := New(nil)
		m.reply(one, 1000, 990)
		m.reply(two, c.to, c.sent)
		got := m.Frame(at(c.to+1), 0).Copies
		if len(got.Gaps) != 1 || got.Gaps[0].From != us(c.from) || got.Gaps[0].To != us(c.to) || got.Gaps[0].Before != one || got.Gaps[0].After != two {
			t.Errorf("gaps %+v", got.Gaps)
		}
		if len(got.Changes) != 1 || *got.Changes[0].Gap != int64(us(c.to)-us(c.from)) || got.Changes[0].At != us(c.to) {
			t.Errorf("changes %+v", got.Changes)
		}
		if len(got.Spans) != 2 || got.Spans[0].To != us(1000) || got.Spans[1].From != us(c.to) {
			t.Errorf("spans %+v", got.Spans)
		}
	}
}

// What another copy has answered before did not wait for the one that answers it again.
func TestAChangeWithAnAnswerGivenAgainHasNoKnownGap(t *testing.T) {
	t.Parallel()
	m := New(nil)
	m.reply(one, 0, 0)
	m.reply(two, 3000, -1)
	c := m.Frame(at(3001), 0).Copies
	if len(c.Gaps) != 0 || len(c.Changes) != 1 || c.Changes[0].Gap != nil || len(c.Spans) != 2 {
		t.Errorf("%+v", c)
	}
}

// One copy that ends and comes back has a gap, too, once a message has waited for a second.
func TestAMessageThatWaitsLongIsAGapOfTheSameCopy(t *testing.T) {
	t.Parallel()
	for wait, gaps := range map[float64]int{999: 0, 1000: 1} {
		m := New(nil)
		m.reply(one, 0, 0)
		m.reply(one, 10_000+wait, 10_000)
		c := m.Frame(at(20_000), 0).Copies
		if len(c.Gaps) != gaps || len(c.Spans) != 1+gaps || len(c.Changes) != 0 {
			t.Errorf("waited %v ms: %+v", wait, c)
		}
	}
}

// Without a gateway there is nothing to show; a copy that has asked for anything has a lane, until it does nothing for long.
func TestCopiesHaveLanesOnceTheyAsk(t *testing.T) {
	t.Parallel()
	m := New([]int64{ada})
	m.Called(at(0), Who{Replica: alice})
	m.Said(at(1), ada, Who{Replica: alice}, "up")
	if c := m.Frame(at(2), 0).Copies; !reflect.DeepEqual(c, page.Lanes{}) || strings.Contains(string(m.Frame(at(2), 0).JSON()), "copies") {
		t.Errorf("without copies: %+v", c)
	}
	for i := range 2 * maxLanes {
		m.Called(at(3), Who{Replica: alice, Copy: fmt.Sprint(i, strings.Repeat("x", 1000))})
	}
	c := m.Frame(at(4), 0).Copies
	if len(c.Lanes) != maxLanes || len(c.Lanes[0].Name) != maxCopyName || len(c.Spans) != 0 {
		t.Errorf("%d lanes, %d spans", len(c.Lanes), len(c.Spans))
	}
	m.reply("one of too many", 5, 0)
	if c := m.Frame(at(6), 0).Copies; len(c.Spans) != 0 {
		t.Errorf("spans %+v", c.Spans)
	}
	if c := m.Frame(at(11*60_000), 0).Copies; len(c.Lanes) != 0 {
		t.Errorf("%d lanes after 11 minutes", len(c.Lanes))
	}
}

// A frame has what changed: a span that goes on comes again, what is over does not.
func TestFramesHaveWhatChangedOfCopies(t *testing.T) {
	t.Parallel()
	m := New(nil)
	m.reply(one, 0, 0)
	m.reply(two, 10, 5)
	seen := m.Frame(at(11), 0)
	m.reply(two, 20, 15)
	c := m.Frame(at(21), seen.Version).Copies
	if len(c.Spans) != 1 || c.Spans[0].Who != two || c.Spans[0].Polls != 2 || len(c.Changes)+len(c.Gaps) != 0 || len(c.Lanes) != 2 {
		t.Errorf("%+v", c)
	}
}

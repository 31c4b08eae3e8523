package bot

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
)

// A hundred updates that wait may span any number of ids, when those in between have expired.
func TestWhatThePredecessorHandledIsSkippedHoweverFarItsIDIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "getUpdates" && len(f.tg.all("getUpdates")) == 1 {
				return good("[" + queued{id: 1000, chat: 1, text: "a", at: time.Now()}.json() + "]"), nil // a poll that repeats an offset gets one update
			}
			return nil, nil
		})
		for _, m := range []queued{{id: 1000, chat: 1, text: "a"}, {id: 1250, chat: 1, text: "b"}, {id: 90_000, chat: 1, text: "c"}, {id: 90_001, chat: 1, text: "d"}} {
			f.tg.inject(m)
		}
		f.start(election.Change{}, 1000, 1250, 90_000)
		after(20 * time.Second)
		f.expectTexts(1, "habot-bot-1: d")
		f.expectConfirmed(1000, 1250, 90_000, 90_001)
		f.expectOutcome(outcomeSkipped, 3)
	})
}

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

// What this term has handled and not confirmed is told to the standbys, whatever a poll's answer shows.
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

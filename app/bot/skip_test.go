package bot

import (
	"net/http"
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

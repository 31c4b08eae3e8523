package bot

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
	"habot/app/message/messagetest"
)

// The parts of an answer that have been sent are remembered: a successor in the middle sends the rest, and nothing is
// missing at the seam, though the parts begin with another replica's name.
func TestTheSuccessorSendsOnlyTheRestOfAnAnswer(t *testing.T) {
	t.Parallel()
	for _, ends := range []string{"crash", "handover"} {
		for _, successor := range []string{"a", "habot-bot-1", strings.Repeat("long-name-", 6)} {
			t.Run(ends+", to "+successor, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					f := newFixture(t)
					long := ""
					for i := range 900 {
						long += fmt.Sprintf("%d ", i)
					}
					long += strings.Repeat("\U0001F600", (4096-messagetest.Units(long))/2)
					failing := true
					f.tg.answerWith(func(c call) (*http.Response, error) {
						if c.method == "sendMessage" && failing && !strings.Contains(c.params.Text, "habot-bot-1: ") {
							return bad(500, "Internal Server Error"), nil
						}
						return nil, nil
					})
					f.tg.send(1, long)
					r := f.start(election.Change{})
					after(time.Second)
					if ends == "crash" {
						r.cancel()
						<-r.ended
					} else {
						r.drained()
					}
					f.expectConfirmed()
					failing = false
					tried := len(f.tg.texts(1))
					s := r.succeeded(successor)
					after(5 * time.Second)
					got := f.tg.texts(1)
					if len(got) != tried+1 {
						t.Fatalf("the successor sent %d parts, want the rest", len(got)-tried)
					}
					if all := got[0] + got[len(got)-1]; all != "habot-bot-1: "+long {
						t.Errorf("together the parts are %d units, want %d:\n%.60q", messagetest.Units(all), messagetest.Units(long), got[len(got)-1])
					}
					f.expectConfirmed(1000)
					s.mu.Lock()
					defer s.mu.Unlock()
					if len(s.notes) != 0 {
						t.Errorf("notes that are of no use any more: %s", s.notes)
					}
				})
			})
		}
	}
}

// A part that Telegram refuses for good ends the answer; no replica sends the first again.
func TestAnAnswerWhosePartIsRefusedIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "sendMessage" && !strings.Contains(c.params.Text, "habot-bot-1: ") {
				return bad(403, "Forbidden: bot was blocked by the user"), nil
			}
			return nil, nil
		})
		f.tg.send(1, strings.Repeat("x", 4096))
		r := f.start(election.Change{})
		after(time.Second)
		f.expectConfirmed(1000)
		f.expectOutcome(outcomeFailed, 1)
		if n := len(f.tg.texts(1)); n != 2 {
			t.Errorf("%d parts were sent", n)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.notes) != 0 {
			t.Errorf("notes that are of no use any more: %s", r.notes)
		}
	})
}

// Notes of a later version, or none at all, are no reason to stop.
func TestNotesThatCannotBeReadAreLeftAside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.send(1, "a")
		r := f.role(election.Change{})
		for _, raw := range []string{`1`, `{"of_the_future":true}`, `{"update":5}`, `{"update_id":1000,"parts":-1}`, `null`} {
			r.term.Notes = append(r.term.Notes, []byte(raw))
		}
		r.term.Notes = append(r.term.Notes, []byte(`{"update_id":5,"parts":1}`)) // it waits no longer
		r.notes = r.term.Notes
		r.run()
		after(time.Minute)
		f.expectTexts(1, "habot-bot-1: a")
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.notes) != 0 {
			t.Errorf("notes that are of no use any more: %s", r.notes)
		}
	})
}

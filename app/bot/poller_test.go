package bot

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
)

func TestUpdateIsConfirmedOnlyAfterItWasHandled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		gate := make(chan struct{})
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "sendMessage" {
				<-gate
			}
			return nil, nil
		})
		id := f.tg.send(7, "hello")
		f.start(election.Change{})
		after(4 * time.Second)
		f.expectConfirmed()
		for _, c := range f.tg.all("getUpdates") {
			if c.params.Offset > id {
				t.Errorf("a poll confirms %d, which is not handled", id)
			}
		}
		close(gate)
		synctest.Wait()
		f.expectConfirmed(id)
		f.expectOutcome(outcomeAnswered, 1)
		f.expectTexts(7, "habot-bot-1: hello")
		if c := f.tg.all("getUpdates")[0]; c.params.Limit != 100 || !slices.Equal(c.params.AllowedUpdates, []string{"message"}) {
			t.Errorf("the first poll asks for %+v", c.params)
		}
	})
}

func TestBatchIsConfirmedUpToTheOldestInHand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		gate := make(chan struct{})
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "sendMessage" && c.params.ChatID == 2 {
				<-gate
			}
			return nil, nil
		})
		one, two, three := f.tg.send(1, "a"), f.tg.send(2, "b"), f.tg.send(3, "c")
		r := f.start(election.Change{})
		after(time.Second)
		f.expectConfirmed(one)
		f.expectTexts(3, "habot-bot-1: c")
		close(gate)
		after(time.Second)
		f.expectConfirmed(one, two, three)
		if got := r.reported(); len(got) != 3 || !slices.Equal(got[2], []int64{int64(two), int64(three)}) {
			t.Errorf("reported %v", got)
		}
	})
}

func TestChatsAreHandledSideBySideAndEachInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var now, most atomic.Int64
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "sendMessage" {
				n := now.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				time.Sleep(time.Second)
				now.Add(-1)
			}
			return nil, nil
		})
		const chats = 20
		want := map[int64][]string{}
		for n := range 3 {
			for chat := int64(1); chat <= chats; chat++ {
				f.tg.send(chat, fmt.Sprint(n))
				want[chat] = append(want[chat], fmt.Sprint("habot-bot-1: ", n))
			}
		}
		f.start(election.Change{})
		after(30 * time.Second)
		for chat, texts := range want {
			f.expectTexts(chat, texts...)
		}
		if most.Load() != maxParallel {
			t.Errorf("%d chats were handled side by side, want %d", most.Load(), maxParallel)
		}
		if n := len(f.tg.confirmedIDs()); n != 3*chats {
			t.Errorf("%d updates are confirmed, want %d", n, 3*chats)
		}
		if n := f.metric("habot_update_seconds"); n != 3*chats {
			t.Errorf("%v updates were measured, want %d", n, 3*chats)
		}
	})
}

// A poll with the offset of one half a second ago gets one update: the predecessor's, perhaps.
func TestWhatThePredecessorHandledIsSkippedAndConfirmed(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]int{"in one batch": 100, "one by one": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.tg.answerWith(func(c call) (*http.Response, error) {
					if c.method == "getUpdates" && len(f.tg.all("getUpdates")) == 1 && first == 1 {
						return good("[" + queued{id: 1000, chat: 1, text: "a", at: time.Now()}.json() + "]"), nil
					}
					return nil, nil
				})
				f.tg.send(1, "a")
				f.tg.send(1, "b")
				f.tg.send(2, "c")
				f.tg.send(1, "d")
				r := f.start(election.Change{}, 1001, 1002)
				after(20 * time.Second)
				f.expectTexts(1, "habot-bot-1: a", "habot-bot-1: d")
				f.expectTexts(2)
				f.expectConfirmed(1000, 1001, 1002, 1003)
				f.expectOutcome(outcomeSkipped, 2)
				if got := r.reported(); len(got) == 0 || !slices.Equal(got[0], []int64{1000, 1001, 1002}) {
					t.Errorf("reported %v: what the predecessor handled and nobody confirmed belongs to it", got)
				}
			})
		})
	}
}

func TestReportTellsWhatWasHandledSinceTheLastConfirmation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.send(1, "a")
		f.tg.send(1, "b")
		r := f.start(election.Change{})
		after(20 * time.Second)
		f.tg.send(1, "c")
		synctest.Wait()
		want := [][]int64{{1000}, {1000, 1001}, {1002}}
		if got := r.reported(); !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("reported %v, want %v", got, want)
		}
	})
}

// The standbys keep the last report: an older one that overtakes a newer would have a successor handle
// an update again.
func TestReportsOfChatsSideBySideOnlyGrow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		const n = maxBatch - 1 // no poll confirms a part of them
		for i := range n {
			f.tg.send(int64(1+i%maxParallel), "x")
		}
		var mu sync.Mutex
		last := 0
		r := f.role(election.Change{})
		r.term.Report = func(ids []int64) {
			for range 1 + len(ids)%3*20 {
				runtime.Gosched()
			}
			mu.Lock()
			defer mu.Unlock()
			if len(ids) < last {
				t.Errorf("a report of %d updates follows one of %d", len(ids), last)
			}
			last = len(ids)
		}
		r.run()
		after(time.Second)
		mu.Lock()
		defer mu.Unlock()
		if last != n {
			t.Errorf("the last report tells of %d updates, want %d", last, n)
		}
	})
}

// While more than one poll can bring waits, the next is under way before all of the last is handled: the slots are never idle.
func TestABacklogIsPolledWhileItIsHandled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n, each = 20 * maxBatch, 10 * time.Millisecond
		f := newFixture(t)
		for i := range n {
			f.tg.send(int64(1+i%40), "x")
		}
		f.tg.slowly(each, 0)
		f.start(election.Change{})
		after(time.Minute)
		sent := f.tg.all("sendMessage")
		if len(sent) != n {
			t.Fatalf("%d of %d are answered", len(sent), n)
		}
		if took, atBest := sent[n-1].at.Sub(sent[0].at), n/maxParallel*each; took > atBest+atBest/20 {
			t.Errorf("answered in %v; %d at a time, they take %v", took, maxParallel, atBest)
		}
		if polls := len(f.tg.all("getUpdates")); polls > 3*n/maxBatch+15 {
			t.Errorf("%d polls", polls)
		}
	})
}

func TestDrainFinishesWhatIsInHandAndConfirmsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "sendMessage" {
				time.Sleep(2 * time.Second)
			}
			return nil, nil
		})
		f.tg.send(1, "a")
		r := f.start(election.Change{})
		after(time.Second)
		waits := f.tg.send(1, "for the next primary")
		polls := len(f.tg.all("getUpdates"))
		if took := r.drained(); took != time.Second {
			t.Errorf("the bot returned %v after Drain, want 1s", took)
		}
		after := f.tg.all("getUpdates")[polls:]
		if len(after) != 1 || after[0].params.Offset != 1001 || after[0].params.Limit != 1 || after[0].params.Timeout != 0 {
			t.Errorf("polls after Drain are %+v, want one that confirms", after)
		}
		f.expectConfirmed(1000)
		f.expectTexts(1, "habot-bot-1: a")
		if len(f.tg.queue) != 1 || f.tg.queue[0].id != waits {
			t.Errorf("%v wait for the next primary", f.tg.queue)
		}
	})
}

func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "sendMessage" && c.params.ChatID == 2 {
				return hang(c)
			}
			return nil, nil
		})
		f.tg.send(1, "a")
		f.tg.send(2, "b")
		f.tg.send(3, "c")
		r := f.start(election.Change{})
		after(7 * time.Second)
		polls := len(f.tg.all("getUpdates"))
		if took := r.drained(); took > 6*time.Second {
			t.Errorf("the bot returned %v after Drain", took)
		}
		if n := len(f.tg.all("getUpdates")) - polls; n != 0 {
			t.Errorf("%d polls left after Drain with nothing new to confirm", n)
		}
		f.expectConfirmed(1000)
		if got := r.reported(); !slices.Equal(got[len(got)-1], []int64{1000, 1002}) {
			t.Errorf("reported %v: the successor has to skip what was handled and could not be confirmed", got)
		}
	})
}

func TestDrainStopsPollingAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		r := f.start(election.Change{})
		after(7 * time.Second)
		polls := len(f.tg.all())
		if took := r.drained(); took != 0 {
			t.Errorf("an idle bot returned %v after Drain", took)
		}
		if n := len(f.tg.all()); n != polls {
			t.Errorf("%d requests left after Drain with nothing to confirm", n-polls)
		}
	})
}

// Telegram takes in what a poll confirms when it arrives, and would keep one that repeats it waiting.
func TestDrainDoesNotRepeatWhatAWaitingPollHasConfirmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.send(1, "a")
		r := f.start(election.Change{})
		after(time.Second) // the poll that confirms it waits for more
		polls := len(f.tg.all("getUpdates"))
		f.expectConfirmed(1000)
		if took := r.drained(); took != 0 {
			t.Errorf("the bot returned %v after Drain", took)
		}
		if n := len(f.tg.all("getUpdates")) - polls; n != 0 {
			t.Errorf("%d polls left after Drain with nothing new to confirm", n)
		}
	})
}

func TestDrainWhilePollingFailsEndsTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.answerWith(func(call) (*http.Response, error) { return tooMany(100), nil })
		r := f.start(election.Change{})
		after(7 * time.Second)
		if took := r.drained(); took != 0 {
			t.Errorf("the bot returned %v after Drain", took)
		}
	})
}

func TestNothingLeavesAfterTheContextEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 99)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			switch {
			case c.method == "sendMessage" && c.params.ChatID == 2:
				return hang(c)
			case c.method == "sendMessage":
				return tooMany(3), nil
			}
			return nil, nil
		})
		f.tg.send(1, "a")
		f.tg.send(1, "b")
		f.tg.send(2, "c")
		r := f.start(election.Change{})
		after(time.Second / 2)
		calls := len(f.tg.all())
		start := time.Now()
		r.cancel()
		<-r.ended
		if took := time.Since(start); took != 0 {
			t.Errorf("the bot returned %v after its context ended", took)
		}
		after(time.Minute)
		if got := f.tg.all()[calls:]; len(got) > 0 {
			t.Errorf("after the context ended, %d requests left, the first %s", len(got), got[0].method)
		}
		f.expectConfirmed()
		if len(r.reported()) > 0 {
			t.Errorf("reported %v", r.reported())
		}
	})
}

// The node learns of a lost lease by itself and ends ctx; until then the bot neither sends nor spins, and
// it does not return: work that ends by itself counts as failed, and the process would end.
func TestWithoutTheLeaseNoRequestLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 99)
		f.tg.send(1, "a")
		r := f.role(election.Change{})
		r.held.Store(false)
		r.run()
		after(3 * time.Second)
		if n := len(f.tg.all()); n > 0 {
			t.Errorf("%d requests left without the lease", n)
		}
		if r.hasEnded() {
			t.Error("the bot returned before it was told to")
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.promises > 1000 {
			t.Errorf("the bot came round %d times in 3s: it spins", r.promises)
		}
	})
}

func TestAnswerThatComesAfterTheLeaseIsNotHandled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		r := f.role(election.Change{})
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "getUpdates" {
				time.Sleep(time.Second)
				r.held.Store(false)
			}
			return nil, nil
		})
		f.tg.send(1, "a")
		r.run()
		after(3 * time.Second)
		f.expectTexts(1)
		f.expectConfirmed()
		f.expectOutcome(outcomeAnswered, 0)
		if r.hasEnded() {
			t.Error("the bot returned before it was told to")
		}
		if n := len(f.tg.all("getUpdates")); n != 1 {
			t.Errorf("%d polls left, want the first alone", n)
		}
	})
}

func TestLeaseThatEndsInTheMiddleOfABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 1)
		r := f.role(election.Change{})
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.params.Text == "habot-bot-1: a" {
				r.held.Store(false)
			}
			return nil, nil
		})
		f.tg.send(1, "a")
		f.tg.send(1, "/switchover")
		r.run()
		after(3 * time.Second)
		if len(f.cluster.asked) > 0 {
			t.Error("a command was carried out after the lease had ended")
		}
		if got := r.reported(); !slices.EqualFunc(got, [][]int64{{1000}}, slices.Equal) {
			t.Errorf("reported %v, want what was handled with the lease", got)
		}
		f.expectConfirmed()
		close(r.drain)
		<-r.ended
		f.expectConfirmed()
	})
}

// After a week without updates Telegram may number them anew, lower.
func TestUpdatesNumberedAnewAreNeitherLostNorSkipped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.mu.Lock()
		f.tg.nextID = 900_000_000
		f.tg.mu.Unlock()
		f.tg.send(1, "a")
		f.start(election.Change{})
		after(20 * time.Second)
		for i, id := range []int{5000, 17} {
			f.tg.mu.Lock()
			f.tg.put(queued{id: id, chat: 1, text: fmt.Sprint(i), at: time.Now()})
			f.tg.mu.Unlock()
			after(20 * time.Second)
		}
		f.expectTexts(1, "habot-bot-1: a", "habot-bot-1: 0", "habot-bot-1: 1")
		f.expectConfirmed(900_000_000, 5000, 17)
	})
}

func TestPanicInHandlingCountsAsHandledAndIsLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.cluster.panic = true
		f.tg.send(1, "/status")
		f.tg.send(1, "hello")
		f.start(election.Change{})
		after(time.Second)
		f.expectConfirmed(1000, 1001)
		f.expectOutcome(outcomePanic, 1)
		f.expectOutcome(outcomeAnswered, 1)
		f.expectLogged("the view is broken", 1)
	})
}

func TestUpdatesThatAreNoTextAreIgnoredAndConfirmed(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"no text":       `{"update_id":1000,"message":{"message_id":1,"date":1,"chat":{"id":1,"type":"private"}}}`,
		"edited":        `{"update_id":1000,"edited_message":{"message_id":1,"date":1,"chat":{"id":1,"type":"private"},"text":"x"}}`,
		"channel post":  `{"update_id":1000,"channel_post":{"message_id":1,"date":1,"chat":{"id":1,"type":"channel","title":"c"},"text":"/ping"}}`,
		"unknown kind":  `{"update_id":1000,"of_the_future":{}}`,
		"changed chat":  `{"update_id":1000,"message":{"message_id":1,"date":1,"chat":"of the future","text":"x"}}`,
		"changed shape": `{"update_id":1000,"message":"of the future"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.tg.put(queued{id: 1000, raw: raw})
				f.tg.send(1, "next")
				f.start(election.Change{})
				after(20 * time.Second)
				f.expectConfirmed(1000, 1001)
				f.expectOutcome(outcomeIgnored, 1)
				f.expectTexts(1, "habot-bot-1: next")
			})
		})
	}
}

// An update whose text and chat are plain is answered, whatever else there is in it that this version does not know.
func TestAnUpdateWithAPartOfTheFutureIsAnswered(t *testing.T) {
	t.Parallel()
	const reply = `"reply_to_message":{"message_id":3,"date":1,"chat":{"id":-1009,"type":"supergroup"},"from":{"id":123456789,"is_bot":true,"first_name":"habot"},"forward_origin":{"type":"of_the_future"}}`
	for name, part := range map[string]string{
		"forward_origin":        `"forward_origin":{"type":"of_the_future","date":1}`,
		"chat_background_set":   `"chat_background_set":{"type":{"type":"of_the_future"}}`,
		"paid_media":            `"paid_media":{"star_count":1,"paid_media":[{"type":"of_the_future"}]}`,
		"another shape":         `"entities":"of the future"`,
		"a number too large":    `"edit_date":99999999999999999999999`,
		"several":               `"forward_origin":{"type":"of_the_future"},"entities":5,"via_bot":[]`,
		"a part of a reply":     reply,
		"a field that is new":   `"of_the_future":{"type":1}`,
		"a field in from":       `"sender_boost_count":"many"`,
		"a pinned message":      `"pinned_message":{"message_id":3,"date":1,"chat":{"id":-1009,"type":"supergroup"},"forward_origin":{"type":"of_the_future"}}`,
		"an external reply":     `"external_reply":{"origin":{"type":"of_the_future"}}`,
		"a checklist to be":     `"checklist":{"title":5}`,
		"a gift of its own":     `"unique_gift":{"gift":7}`,
		"nothing, as a control": `"media_group_id":"1"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				raw := `{"update_id":1000,"message":{"message_id":1,"date":1,"from":{"id":12,"first_name":"x"},"chat":{"id":1,"type":"private"},"text":"x",` + part + `}}`
				chat := int64(1)
				if name == "a part of a reply" { // in a group this is what makes it meant for the bot
					raw, chat = strings.Replace(raw, `{"id":1,"type":"private"}`, `{"id":-1009,"type":"supergroup"}`, 1), -1009
				}
				f.tg.inject(queued{id: 1000, raw: raw})
				f.tg.send(2, "next")
				f.start(election.Change{})
				after(20 * time.Second)
				f.expectTexts(chat, "habot-bot-1: x")
				f.expectTexts(2, "habot-bot-1: next")
				f.expectConfirmed(1000, 1001)
				f.expectOutcome(outcomeAnswered, 2)
			})
		})
	}
}

// What cannot be read comes with every poll until it is confirmed: the log says so once.
func TestAnUpdateThatCannotBeReadIsReportedOnce(t *testing.T) {
	t.Parallel()
	for raw, line := range map[string]string{
		`{"update_id":1001,"message":"of the future"}`: "an update cannot be read; it is ignored",
		`{"update_id":1001,"message":{"message_id":1,"date":1,"chat":{"id":2,"type":"private"},"text":"x","forward_origin":{"type":"of_the_future"}}}`: "a part of an update cannot be read; the rest is handled",
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			f.tg.answerWith(limitFirst(1, 30))
			f.tg.send(1, "waits")
			f.tg.inject(queued{id: 1001, raw: raw})
			f.start(election.Change{})
			after(time.Minute)
			f.expectConfirmed(1000, 1001)
			f.expectLogged(line, 1)
		})
	}
}

func TestAnswersThatTelegramRefusesOrDelays(t *testing.T) {
	t.Parallel()
	once := func(resp *http.Response, err error) func(n int, c call) (*http.Response, error) {
		return func(n int, _ call) (*http.Response, error) {
			if n == 1 {
				return resp, err
			}
			return nil, nil
		}
	}
	tests := []struct {
		name     string
		answer   func(n int, c call) (*http.Response, error)
		outcome  string
		requests int
		took     [2]time.Duration // at least, at most
	}{
		{"400 is for good", once(bad(400, "Bad Request: chat not found"), nil), outcomeFailed, 1, [2]time.Duration{0, 0}},
		{"403 is for good", once(bad(403, "Forbidden: bot was blocked by the user"), nil), outcomeFailed, 1, [2]time.Duration{0, 0}},
		{"429 waits as told", once(tooMany(7), nil), outcomeAnswered, 2, [2]time.Duration{7 * time.Second, 7 * time.Second}},
		{"401 may pass", once(bad(401, "Unauthorized"), nil), outcomeAnswered, 2, [2]time.Duration{time.Millisecond, time.Second}},
		{"429 without a time", once(bad(429, "Too Many Requests"), nil), outcomeAnswered, 2, [2]time.Duration{time.Second, time.Second}},
		{"500", once(bad(500, "Internal Server Error"), nil), outcomeAnswered, 2, [2]time.Duration{time.Millisecond, time.Second}},
		{"502 page", once(answer(502, "text/html", "<html>Bad Gateway"), nil), outcomeAnswered, 2, [2]time.Duration{time.Millisecond, time.Second}},
		{"200 page", once(answer(200, "text/html", "<html>Log in to the hotel"), nil), outcomeAnswered, 2, [2]time.Duration{time.Millisecond, time.Second}},
		{"dropped", once(nil, errDropped), outcomeAnswered, 2, [2]time.Duration{time.Millisecond, time.Second}},
		{"hangs", func(n int, c call) (*http.Response, error) {
			if n == 1 {
				return hang(c)
			}
			return nil, nil
		}, outcomeAnswered, 2, [2]time.Duration{sendBound, sendBound + time.Second}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				n := 0
				f.tg.answerWith(func(c call) (*http.Response, error) {
					if c.method != "sendMessage" {
						return nil, nil
					}
					n++
					return tt.answer(n, c)
				})
				f.tg.send(1, "a")
				f.start(election.Change{})
				after(time.Minute)
				f.expectOutcome(tt.outcome, 1)
				f.expectConfirmed(1000)
				sent := f.tg.all("sendMessage")
				if len(sent) != tt.requests {
					t.Fatalf("it was sent %d times, want %d", len(sent), tt.requests)
				}
				if took := sent[len(sent)-1].at.Sub(sent[0].at); took < tt.took[0] || took > tt.took[1] {
					t.Errorf("the last attempt came %v after the first, want %v to %v", took, tt.took[0], tt.took[1])
				}
			})
		})
	}
}

func TestAnswerIsGivenUpAfterTenMinutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "sendMessage" && c.params.ChatID == 1 {
				return bad(500, "Internal Server Error"), nil
			}
			return nil, nil
		})
		f.tg.send(1, "a")
		f.start(election.Change{})
		after(9 * time.Minute)
		f.expectConfirmed()
		after(2 * time.Minute)
		f.expectConfirmed(1000)
		f.expectOutcome(outcomeFailed, 1)
		if len(f.healthChanges()) > 0 {
			t.Errorf("one chat that cannot be answered changed the health to %v", f.healthChanges())
		}
		f.tg.send(2, "b")
		after(time.Second)
		f.expectTexts(2, "habot-bot-1: b")
	})
}

// Side by side, one chat's short wait must not call in the time that another was promised.
func TestPromisesToTheWatcherHoldForAllChats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		n := 0
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "sendMessage" && c.params.ChatID == 1 {
				if n++; n == 1 {
					return tooMany(60), nil
				}
			}
			if c.method == "sendMessage" && c.params.ChatID == 2 {
				time.Sleep(time.Second)
			}
			return nil, nil
		})
		f.tg.send(1, "a")
		f.tg.send(2, "b")
		f.tg.send(2, "c")
		f.start(election.Change{}) // within, the fixture's watcher, does the looking
		after(2 * time.Minute)
		f.expectConfirmed(1000, 1001, 1002)
	})
}

func TestTermEndsOnlyWhenItsLastRequestHas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 41, 42)
		release := make(chan struct{})
		var leftLate atomic.Bool
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "sendMessage" || c.method == "setMyCommands" {
				<-release // a request that does not care about its context
				leftLate.Store(true)
				return nil, context.Canceled
			}
			return nil, nil
		})
		f.tg.send(1, "a")
		r := f.start(election.Change{})
		after(time.Second)
		r.cancel()
		after(time.Second)
		if r.hasEnded() {
			t.Error("the bot returned before its last request had ended")
		}
		close(release)
		<-r.ended
		if !leftLate.Load() {
			t.Error("no request was under way: the test shows nothing")
		}
	})
}

func TestCommandsAreSetOnceATermWithThoseOfAdminsForThemAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 41, 42)
		f.start(election.Change{})
		after(30 * time.Second)
		var got []string
		for _, c := range f.tg.all("setMyCommands") {
			var names []string
			for _, x := range c.params.Commands {
				names = append(names, x.Command)
				if n := len(x.Description); n < 1 || n > 256 {
					t.Errorf("the description of %s has %d characters", x.Command, n)
				}
			}
			got = append(got, string(c.params.Scope)+strings.Join(names, " "))
		}
		const everybody = "start help ping whoami status"
		want := []string{
			`{"type":"default"}` + everybody,
			`{"type":"chat","chat_id":41}` + everybody + " switchover",
			`{"type":"chat","chat_id":42}` + everybody + " switchover",
		}
		if !slices.Equal(got, want) {
			t.Errorf("commands set:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// A poll before which Telegram is asked for its own name, and the wait after it, are three promises and not one.
func TestEachStepOfAPollLeavesTheWatcherItsSlack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		limit := limitFirst(1, 60)
		polls := 0
		f.tg.answerWith(func(c call) (*http.Response, error) {
			switch c.method {
			case "getMe":
				time.Sleep(probeBound - time.Millisecond)
			case "getUpdates":
				switch polls++; polls {
				case 1:
				case 2:
					return nil, errDropped
				default:
					time.Sleep(waitBound - time.Millisecond)
				}
			}
			return limit(c)
		})
		f.tg.send(1, "a")
		r := f.start(election.Change{})
		after(20 * time.Second)
		if len(f.tg.all("getMe")) == 0 {
			t.Fatal("no poll asked first: the test shows nothing")
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if got := r.margins[pollLoop]; got < slack {
			t.Errorf("the poll loop came round %v before it would have counted as stalled, want %v", got, slack)
		}
	})
}

// A chat that has blocked the bot may go on writing, as may a thousand.
func TestChatsThatRefuseAnswersMakeFewLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "sendMessage" {
				return bad(403, "Forbidden: bot was blocked by the user"), nil
			}
			return nil, nil
		})
		f.start(election.Change{})
		const minutes = 10
		for i := range minutes * 60 {
			f.tg.send(int64(i%50+1), "are you there?")
			after(time.Second)
		}
		lines := strings.Count(f.logs.String(), "an update could not be answered")
		if lines < 10 || lines > 10+minutes {
			t.Errorf("%d lines for %d updates in %d minutes", lines, minutes*60, minutes)
		}
		if !regexp.MustCompile(`could not be answered".* omitted=[1-9]`).MatchString(f.logs.String()) {
			t.Error("no line says that others were left out")
		}
		f.expectOutcome(outcomeFailed, minutes*60)
	})
}

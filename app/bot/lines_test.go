package bot

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mymmrac/telego"
	"github.com/prometheus/client_golang/prometheus"

	"habot/app/election"
	"habot/app/simulator"
	"habot/app/term"
)

// limitFirst limits the first answer to a chat for so many seconds.
func limitFirst(chat int64, seconds int) func(c call) (*http.Response, error) {
	var once sync.Once
	return func(c call) (resp *http.Response, err error) {
		if c.method == "sendMessage" && c.params.ChatID == chat {
			once.Do(func() { resp = tooMany(seconds) })
		}
		return resp, nil
	}
}

func TestOneChatThatIsLimitedHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.answerWith(limitFirst(1, 15))
		f.start(election.Change{})
		after(time.Second)
		start := time.Now()
		f.tg.send(1, "0")
		for i := range int64(14) {
			after(time.Second / 3)
			f.tg.send(2+i, "x")
			f.tg.send(1, fmt.Sprint(1+i)) // joins the end of its chat's line
			after(2 * time.Second / 3)
		}
		after(2 * time.Second)
		sent := map[int64]time.Time{}
		for _, c := range f.tg.all("sendMessage") {
			sent[c.params.ChatID] = c.at
		}
		for i := range int64(14) {
			written := start.Add(time.Duration(i)*time.Second + time.Second/3)
			if late := sent[2+i].Sub(written); late < 0 || late > pollStuck {
				t.Errorf("chat %d was answered after %v, want within %v", 2+i, late, pollStuck)
			}
		}
		texts := f.tg.texts(1)
		if len(texts) != 16 || texts[0] != texts[1] {
			t.Fatalf("chat 1 was sent %q", texts)
		}
		for i, text := range texts[1:] {
			if want := fmt.Sprint("habot-bot-1: ", i); text != want {
				t.Errorf("answer %d is %q, want %q", i, text, want)
			}
		}
		polls := f.tg.all("getUpdates")
		if len(polls) > 17+14*2 {
			t.Errorf("%d polls in 17s", len(polls))
		}
		for _, c := range polls {
			if c.at.Before(start.Add(15*time.Second)) && c.params.Offset > 1000 {
				t.Errorf("after %v a poll confirms what is not handled: offset %d", c.at.Sub(start), c.params.Offset)
			}
		}
		after(time.Second)
		if n := len(f.tg.confirmedIDs()); n != 29 {
			t.Errorf("%d updates are confirmed, want 29", n)
		}
		f.expectOutcome(outcomeSkipped, 0)
		f.expectOutcome(outcomeAnswered, 29)
	})
}

func TestChatsThatWaitHoldNoPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		limited := time.Now().Add(time.Minute)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			switch wait := int(limited.Sub(c.at).Seconds()); {
			case c.method != "sendMessage" || c.params.ChatID > 2*maxParallel || wait <= 0:
				return nil, nil
			case c.params.ChatID%2 == 0:
				return bad(500, "Internal Server Error"), nil
			default:
				return tooMany(wait), nil
			}
		})
		for chat := range int64(2 * maxParallel) {
			f.tg.send(1+chat, "x")
		}
		f.tg.send(99, "x")
		f.start(election.Change{})
		after(time.Second)
		f.expectTexts(99, "habot-bot-1: x")
		f.expectConfirmed()
		after(time.Minute + 5*time.Second)
		f.expectOutcome(outcomeAnswered, maxParallel+1) // those that were limited, and chat 99
		after(giveUpAfter)
		f.expectOutcome(outcomeAnswered, 2*maxParallel+1)
		if n := len(f.tg.confirmedIDs()); n != 2*maxParallel+1 {
			t.Errorf("%d updates are confirmed, want all", n)
		}
	})
}

// While all places are taken, those that hold them promise; the fixture's watcher does the looking.
func TestWaitingForAPlaceBreaksNoPromise(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		limit, start := limitFirst(1, 2), time.Now()
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "sendMessage" && c.params.ChatID > 1 && time.Since(start) < 10*time.Second {
				return hang(c)
			}
			return limit(c)
		})
		for chat := range int64(1 + maxParallel) {
			f.tg.send(1+chat, "x")
		}
		f.start(election.Change{})
		after(9 * time.Second)
		if n := len(f.tg.texts(1)); n != 1 {
			t.Errorf("chat 1 was tried %d times: there was a place", n)
		}
		after(11 * time.Second)
		if n := len(f.tg.confirmedIDs()); n != 1+maxParallel {
			t.Errorf("%d updates are confirmed, want all", n)
		}
	})
}

// Telegram gives a hundred updates from an offset: that many may wait for one chat.
func TestAtMostAHundredUpdatesAreFetchedAndNotConfirmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.answerWith(limitFirst(1, 30))
		f.tg.send(1, "x")
		for range 3 * maxBatch {
			f.tg.send(2, "x")
		}
		r := f.start(election.Change{})
		after(29 * time.Second)
		if n := len(f.tg.texts(2)); n != maxBatch-1 {
			t.Errorf("%d others were answered, want %d", n, maxBatch-1)
		}
		reports := r.reported()
		if n := len(reports[len(reports)-1]); n != maxBatch-1 {
			t.Errorf("%d updates are reported, want %d", n, maxBatch-1)
		}
		after(2 * time.Second)
		if n := len(f.tg.confirmedIDs()); n != 3*maxBatch+1 {
			t.Errorf("%d updates are confirmed, want all", n)
		}
	})
}

func TestSuccessorSkipsWhatWasHandledOutOfTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.answerWith(limitFirst(1, 30))
		f.tg.send(1, "a")
		f.tg.send(2, "b")
		f.tg.send(1, "c")
		f.tg.send(3, "d")
		r := f.start(election.Change{})
		after(3 * time.Second)
		r.cancel() // as in a crash
		<-r.ended
		reports := r.reported()
		f.start(election.Change{}, reports[len(reports)-1]...)
		after(3 * time.Second)
		f.expectTexts(1, "habot-bot-1: a", "habot-bot-1: a", "habot-bot-1: c") // the first was refused
		f.expectTexts(2, "habot-bot-1: b")
		f.expectTexts(3, "habot-bot-1: d")
		f.expectConfirmed(1000, 1001, 1002, 1003)
		f.expectOutcome(outcomeSkipped, 2)
	})
}

func TestDrainLeavesAChatThatWaitsTooLongAtOnce(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		before, retryAfter int // seconds
		took               time.Duration
		confirmed          []int
	}{
		"waits long":                {1, 15, 0, nil},
		"waits too long":            {1, 6, 0, nil},
		"waits as long as may be":   {1, 5, 4 * time.Second, []int{1000, 1001, 1002}},
		"begins to wait in the end": {0, 15, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				limit := limitFirst(1, tt.retryAfter)
				f.tg.answerWith(func(c call) (*http.Response, error) {
					if c.method == "sendMessage" && tt.before == 0 {
						time.Sleep(time.Second)
					}
					return limit(c)
				})
				f.tg.send(1, "a")
				f.tg.send(2, "b")
				f.tg.send(1, "c")
				r := f.start(election.Change{})
				after(time.Duration(tt.before) * time.Second)
				want := tt.took
				if tt.before == 0 {
					want = time.Second
				}
				if took := r.drained(); took != want {
					t.Errorf("the bot returned %v after Drain, want %v", took, want)
				}
				f.expectConfirmed(tt.confirmed...)
				f.expectTexts(2, "habot-bot-1: b")
				if reports := r.reported(); !slices.Contains(reports[len(reports)-1], 1001) {
					t.Errorf("reported %v: the successor has to skip 1001", reports)
				}
			})
		})
	}
}

// When the way to Telegram is known not to work nothing in hand can be finished: others are to take over.
func TestDrainWithoutAWayToTelegramIsOverAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		r := f.start(election.Change{})
		after(time.Second)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "sendMessage" || len(f.tg.all("sendMessage")) > 0 {
				return hang(c)
			}
			return nil, nil
		})
		f.tg.send(1, "a")
		for len(f.healthChanges()) == 0 {
			after(time.Second)
		}
		if took := r.drained(); took != 0 {
			t.Errorf("the bot returned %v after Drain", took)
		}
		f.expectConfirmed()
	})
}

// A poll loop that stalls must be noticed, however long some chat has asked to wait.
func TestLongWaitOfAChatDoesNotHideAStalledPoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.answerWith(limitFirst(1, 300))
		f.tg.send(1, "a")
		r := f.start(election.Change{})
		after(20 * time.Second)
		r.mu.Lock()
		defer r.mu.Unlock()
		if d := time.Until(r.due[pollLoop]); d > longBound+probeBound+slack {
			t.Errorf("the watcher would wait %v for the poll loop", d)
		}
	})
}

// Chats fail, are limited and lag at random, and the role moves, planned or by a crash: each chat is answered in
// order, nothing is lost, nothing is confirmed before it is handled, and who is served well waits little.
func TestChatsGoWrongAtRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { chatsGoWrong(t, rand.New(rand.NewPCG(seed, 2))) })
		})
	}
}

func chatsGoWrong(t *testing.T, random *rand.Rand) {
	const chats, wrong = 8, 4
	f := newFixture(t)
	w := &wrongChats{
		sim: simulator.New(simulator.Config{Token: testToken, Chats: chats, Logger: slog.New(slog.DiscardHandler)}), random: rand.New(rand.NewPCG(random.Uint64(), 3)), wrong: wrong,
		written: map[string]time.Time{}, texts: map[int]string{}, failed: map[string]int{}, answered: map[string]time.Time{}, early: map[int]bool{},
	}
	f.tg.answerWith(w.answer)
	var handled []int64
	crashes := 0
	for range 6 {
		r := f.role(election.Change{}, handled...)
		r.run()
		for range 10 + random.IntN(100) { // five a second on average
			w.write(simulator.FirstChat + random.Int64N(chats))
			after(time.Duration(random.IntN(400)) * time.Millisecond)
		}
		if random.IntN(2) == 0 {
			if took := r.drained(); took > drainBound+confirmBound {
				t.Errorf("the bot returned %v after Drain", took)
			}
		} else {
			crashes++
			r.cancel()
			<-r.ended
		}
		if reports := r.reported(); len(reports) > 0 {
			handled = reports[len(reports)-1]
		}
		w.mu.Lock()
		w.moved = time.Now()
		w.mu.Unlock()
	}
	f.start(election.Change{}, handled...)
	after(giveUpAfter) // what failed three times waits for up to half a minute, and the rest of its chat with it
	report := w.sim.Report()
	if report.Answered != report.Sent || report.Confirmed != report.Sent || report.Lost != 0 || report.OutOfOrder != 0 {
		t.Errorf("the account is %+v", report)
	}
	if twice := int(report.AnsweredTwice); twice > crashes*maxParallel {
		t.Errorf("%d were answered twice in %d crashes", twice, crashes)
	}
	if len(w.early) > 0 {
		t.Errorf("confirmed before they were answered: %v", w.early)
	}
	// A term's first poll may repeat the offset of its predecessor's last, and gets one update.
	if w.longest == 0 || w.longest > 2*pollStuck+time.Second {
		t.Errorf("a chat that is served well waited %v", w.longest)
	}
}

// wrongChats is a simulated Telegram where the first chats go wrong, and what is to be seen there.
type wrongChats struct {
	sim   *simulator.Simulator
	wrong int64

	mu       sync.Mutex
	random   *rand.Rand
	written  map[string]time.Time
	texts    map[int]string       // by update
	failed   map[string]int       // attempts at a text, since Telegram did
	answered map[string]time.Time // the first time
	early    map[int]bool         // confirmed before they were answered
	moved    time.Time            // when the role moved last: no replica polls while the bot drains
	full     time.Time            // when a poll brought as many updates last as Telegram gives: there may be more
	longest  time.Duration        // that a chat waited that does not go wrong, but for a move and a hundred in hand
}

func (w *wrongChats) write(chat int64) {
	w.mu.Lock()
	text := fmt.Sprint("text ", len(w.written))
	w.written[text] = time.Now()
	w.mu.Unlock()
	w.sim.Write(chat, text)
}

// mishap is how late a request arrives, how late its answer does, and what is answered instead; nil for nothing.
// A text fails three times at most: after five the bot waits until its ten minutes are over, and so would the test.
func (w *wrongChats) mishap(chat int64, text string) (there, back time.Duration, resp *http.Response) {
	w.mu.Lock()
	defer w.mu.Unlock()
	there, back = time.Duration(w.random.IntN(25))*time.Millisecond, time.Duration(w.random.IntN(25))*time.Millisecond
	if chat-simulator.FirstChat >= w.wrong {
		return there, back, nil
	}
	switch w.random.IntN(12) {
	case 0:
		resp = tooMany(1 + w.random.IntN(8))
	case 1:
		if w.failed[text]++; w.failed[text] <= 3 {
			resp = bad(500, "Internal Server Error")
		}
	case 2:
		there = time.Duration(w.random.IntN(3000)) * time.Millisecond
	case 3:
		back = time.Duration(w.random.IntN(3000)) * time.Millisecond
		if w.failed[text]++; w.failed[text] <= 3 {
			resp = answer(502, "text/html", "<html>Bad Gateway")
		}
	}
	return there, back, resp
}

func (w *wrongChats) answer(c call) (*http.Response, error) {
	var back time.Duration
	switch c.method {
	case "getUpdates":
		w.mu.Lock()
		for id, text := range w.texts {
			if _, ok := w.answered[text]; !ok && id < c.params.Offset {
				w.early[id] = true
			}
		}
		w.mu.Unlock()
	case "sendMessage":
		var there time.Duration
		var resp *http.Response
		_, text, _ := strings.Cut(c.params.Text, ": ")
		if there, back, resp = w.mishap(c.params.ChatID, text); !sleep(c.ctx, there) {
			return nil, c.ctx.Err()
		}
		if resp != nil {
			return resp, nil
		}
		w.mu.Lock()
		if _, again := w.answered[text]; !again {
			w.answered[text] = time.Now()
			if c.params.ChatID-simulator.FirstChat >= w.wrong && w.written[text].After(w.moved) && w.written[text].After(w.full) {
				w.longest = max(w.longest, time.Since(w.written[text]))
			}
		}
		w.mu.Unlock()
	}
	rec := httptest.NewRecorder()
	req := httptest.NewRequestWithContext(c.ctx, http.MethodPost, "/bot"+testToken+"/"+c.method, bytes.NewReader(c.body))
	req.Header = c.header
	w.sim.Handler().ServeHTTP(rec, req)
	if !sleep(c.ctx, back) {
		return nil, c.ctx.Err() // Telegram has taken it in
	}
	if c.method == "getUpdates" {
		var updates struct{ Result []telego.Update }
		if err := json.Unmarshal(rec.Body.Bytes(), &updates); err != nil {
			return nil, err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(updates.Result) == maxBatch {
			w.full = time.Now()
		}
		for _, u := range updates.Result {
			w.texts[u.UpdateID] = u.Message.Text
		}
	}
	return rec.Result(), nil
}

// At fifty updates a second and a tenth of a second for each answer, no update waits for those of other chats.
func TestSlowAnswersOfOtherChatsAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const chats, lag = 8, 100 * time.Millisecond
		random := rand.New(rand.NewPCG(1, 1))
		f := newFixture(t)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			time.Sleep(lag)
			return nil, nil
		})
		f.start(election.Change{})
		written := map[string]time.Time{}
		for i := range 1000 {
			after(20 * time.Millisecond)
			text := fmt.Sprint(i)
			written["habot-bot-1: "+text] = time.Now()
			f.tg.send(1+random.Int64N(chats), text)
		}
		after(5 * time.Second)
		var sum, longest time.Duration
		for _, c := range f.tg.all("sendMessage") {
			d := c.at.Sub(written[c.params.Text])
			sum, longest = sum+d, max(longest, d)
		}
		t.Logf("updates waited %v, at most %v, in %d polls", sum/1000, longest, len(f.tg.all("getUpdates")))
		// It waits for the poll under way, the time between two, the next, and its own chat's answers.
		if longest > time.Second {
			t.Errorf("an update waited %v", longest)
		}
		if n := len(f.tg.confirmedIDs()); n != 1000 {
			t.Errorf("%d updates are confirmed", n)
		}
	})
}

// BenchmarkUpdates is one update among many, of eight chats, from a simulated Telegram on loopback to the answer.
func BenchmarkUpdates(b *testing.B) {
	sim := simulator.New(simulator.Config{Token: testToken, Chats: 8, Logger: slog.New(slog.DiscardHandler)})
	server := httptest.NewServer(sim.Handler())
	defer server.Close()
	api := New(Config{
		Token: testToken, APIURL: server.URL, Name: "habot-bot-1", Version: "1", Cluster: &cluster{}, Logger: slog.New(slog.DiscardHandler),
		Registerer: prometheus.NewRegistry(), OnHealth: func(election.Health) {},
	})
	for i := range b.N {
		sim.Write(simulator.FirstChat+int64(i%8), fmt.Sprint("text ", i))
	}
	all := make(chan struct{})
	answered := 0 // Report is never called concurrently
	b.ResetTimer()
	drain := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- api.RunAsPrimary(b.Context(), term.Term{
			Held: func() bool { return true }, Drain: drain, Expect: func(string, time.Duration) {}, Note: func([]json.RawMessage) {}, Gather: func(context.Context) {}, Late: neverLate, Noted: func() bool { return false },
			Report: func([]int64) {
				if answered++; answered == b.N {
					close(all)
				}
			},
		})
	}()
	<-all
	b.StopTimer()
	close(drain)
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/update"
)

// What no version of this program can know reaches the backend as it came.
func TestAnUpdateIsPostedByteForByteWithItsHeaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const raw = "{\"update_id\": 77 ,\n\"telepathy\":{\"chat\":{\"id\":5},\"id\":9007199254740993,\"x\":1e400,\"y\":\"\\u00e9<&>\xff\"}}"
		var header http.Header
		var method, host, path string
		var body []byte
		var size int64
		w := newWorldWith(t, "http://mybot:8000/hook/1:AAF?x=1", func(c *Config) { c.Secret = "s-3_cret" })
		w.serve(one, http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			header, method, host, path, size = req.Header.Clone(), req.Method, req.Host, req.URL.String(), req.ContentLength
			body, _ = io.ReadAll(req.Body)
			rw.WriteHeader(http.StatusNoContent)
		}))
		w.net.set(func() { w.net.names["mybot"] = []string{one} })
		w.after(3 * time.Second)
		w.giveRaw(raw)
		w.after(time.Second)
		w.expectDone(1)
		if string(body) != raw || size != int64(len(raw)) {
			t.Errorf("the body is %q, want %q", body, raw)
		}
		if method != http.MethodPost || host != "mybot:8000" || path != "/hook/1:AAF?x=1" {
			t.Errorf("%s %s%s", method, host, path)
		}
		want := map[string]string{
			"Content-Type": "application/json", "X-Telegram-Bot-Api-Secret-Token": "s-3_cret", "X-Habot-Term": "1700000000123456789",
			"User-Agent": "habot/test", "Content-Length": fmt.Sprint(len(raw)),
		}
		for name, value := range want {
			if got := header.Values(name); len(got) != 1 || got[0] != value {
				t.Errorf("%s: %q, want %q", name, got, value)
			}
		}
		if len(header) != len(want) {
			t.Errorf("more headers than wanted: %v", header)
		}
		if w.outcome(77) != update.Answered {
			t.Errorf("the outcome is %s", w.outcome(77))
		}
	})
}

func TestWithoutASecretNoneIsSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.host(one).kill()
		w.serve(one, w.note(one, func(_ http.ResponseWriter, req *http.Request, _ int64) {
			if _, ok := req.Header["X-Telegram-Bot-Api-Secret-Token"]; ok {
				t.Error("a secret is sent")
			}
		}))
		w.give(1, 1)
		w.after(time.Second)
		w.expectDone(1)
	})
}

func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		for id := range int64(20) {
			w.give(1, 1+id)
			w.after(time.Second)
		}
		w.expectDone(20)
		h := w.host(one)
		h.mu.Lock()
		defer h.mu.Unlock()
		if n := len(h.open) / 2; n > 3 { // probes are two of them
			t.Errorf("%d connections for 20 updates", n)
		}
	})
}

func TestOnly2xxIsSuccess(t *testing.T) {
	t.Parallel()
	for status, taken := range map[int]bool{
		200: true, 201: true, 202: true, 204: true, 299: true, 301: false, 302: false, 304: false, 307: false, 308: false, 400: false, 401: false, 403: false,
		404: false, 410: false, 429: false, 500: false, 502: false, 503: false, 101: false,
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "http://mybot:8000", two)
				w.host(two).kill()
				w.serve(two, w.note(two, func(rw http.ResponseWriter, _ *http.Request, id int64) {
					if id == 1 {
						rw.Header().Set("Location", "http://elsewhere:1/")
						if status == 101 {
							rw.Header().Set("Connection", "Upgrade")
							rw.Header().Set("Upgrade", "x")
						}
						rw.WriteHeader(status)
					}
				}))
				w.give(1, 1, 2)
				w.give(5, 3)
				w.after(30 * time.Second)
				if got := w.outcome(1) == update.Answered; got != taken {
					t.Errorf("taken: %v, want %v", got, taken)
				}
				if got := w.outcome(2) == update.Answered; got != taken {
					t.Error("the chat's next overtakes it")
				}
				if w.outcome(3) != update.Answered {
					t.Error("another chat waits for it")
				}
				class := "other"
				if status >= 200 {
					class = fmt.Sprintf("%dxx", status/100)
				}
				if n := w.metric("habot_backend_requests_total", "result="+class, "backend=http://mybot:8000"); n < 1 {
					t.Errorf("%s is counted %v times", class, n)
				}
			})
		})
	}
}

// The first attempt after an error is at once, the next after 1, 2, 4 ... seconds.
func TestAttemptsAreSpacedAsTelegrams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.host(one).kill()
		w.serve(one, w.note(one, func(rw http.ResponseWriter, _ *http.Request, _ int64) { rw.WriteHeader(http.StatusInternalServerError) }))
		w.give(1, 1)
		w.after(10 * time.Minute)
		times := w.times(1)
		want := []time.Duration{0, 0, 1, 2, 4, 8, 16, 32}
		for i := 1; i < len(want); i++ {
			if gap := times[i].Sub(times[i-1]); gap != want[i]*time.Second {
				t.Errorf("attempt %d came after %v, want %v s", i+1, gap, want[i])
			}
		}
		for i := len(want); i < len(times); i++ {
			if gap := times[i].Sub(times[i-1]); gap < time.Minute || gap > 2*time.Minute {
				t.Errorf("attempt %d came after %v", i+1, gap)
			}
		}
		if len(times) < 12 {
			t.Errorf("%d attempts", len(times))
		}
		if n := strings.Count(w.logged(), "did not take an update"); n == 0 || n > 12 {
			t.Errorf("%d log lines", n)
		}
	})
}

func TestRetryAfterOverridesTheSpacing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.host(one).kill()
		after := []string{"7", "2", "0", ""}
		n := 0
		w.serve(one, w.note(one, func(rw http.ResponseWriter, _ *http.Request, id int64) {
			if id == 1 && n < len(after) {
				rw.Header().Set("Retry-After", after[n])
				rw.WriteHeader(http.StatusTooManyRequests)
				n++
			}
		}))
		w.give(1, 1)
		w.give(2, 2)
		w.after(time.Minute)
		times := w.times(1)
		if len(times) != 5 {
			t.Fatalf("%d attempts", len(times))
		}
		for i, want := range []time.Duration{7, 2, 2, 4} {
			if gap := times[i+1].Sub(times[i]); gap != want*time.Second {
				t.Errorf("attempt %d came after %v, want %v s", i+2, gap, want)
			}
		}
		if n := len(w.times(2)); n != 1 {
			t.Errorf("another update was sent %d times", n)
		}
		w.expectDone(2)
	})
}

func TestRetryAfterOfOneBackendSendsTheUpdateToAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one, two)
		first := w.home(1)
		w.host(first).kill()
		w.serve(first, w.note(first, func(rw http.ResponseWriter, _ *http.Request, _ int64) {
			rw.Header().Set("Retry-After", "3600")
			rw.WriteHeader(http.StatusServiceUnavailable)
		}))
		w.give(1, 10)
		w.after(0)
		w.expectDone(1)
	})
}

// home is where a chat's updates go.
func (w *world) home(chat int64) string {
	w.t.Helper()
	w.homes++
	id := 1_000_000 + w.homes
	w.give(chat, id)
	w.after(0)
	sent := w.sent(id)
	if len(sent) != 1 {
		w.t.Fatalf("%d attempts", len(sent))
	}
	w.mu.Lock()
	delete(w.done, id)
	w.order = map[int64][]int64{}
	w.mu.Unlock()
	return sent[0].addr
}

// A backend that is killed costs what is in flight one more attempt, and nothing waits.
func TestAKilledBackendsChatsAreAnsweredElsewhereAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one, two)
		for _, addr := range []string{one, two} {
			w.host(addr).kill()
			w.serve(addr, w.note(addr, func(http.ResponseWriter, *http.Request, int64) { time.Sleep(100 * time.Millisecond) }))
		}
		w.after(time.Second)
		for chat := range int64(6) {
			w.give(1+chat, 10+10*chat, 11+10*chat)
		}
		w.after(50 * time.Millisecond)
		died := time.Now()
		w.host(one).kill()
		w.after(450 * time.Millisecond)
		w.expectDone(12)
		elsewhere := 0
		for _, g := range w.sent(0) {
			if g.at.After(died) && g.addr == one {
				t.Errorf("%d was sent to the dead", g.id)
			}
			if g.at.Equal(died) {
				elsewhere++
			}
		}
		if elsewhere == 0 {
			t.Error("nothing was sent elsewhere at once")
		}
		if n := w.metric("habot_backend_addresses", "state=down"); n != 1 {
			t.Errorf("%v are down", n)
		}
		// It comes back: what has no conversation elsewhere goes there again.
		w.serve(one, w.takes(one))
		w.after(3 * time.Second)
		if n := w.metric("habot_backend_addresses", "state=up"); n != 2 {
			t.Errorf("%v are up", n)
		}
		for chat := range int64(6) {
			w.give(1+chat, 12+10*chat)
		}
		w.after(time.Second)
		w.expectDone(18)
		for chat := range int64(6) {
			if sent := w.sent(12 + 10*chat); sent[0].addr != two {
				t.Errorf("chat %d left a backend that is well in the middle of a conversation", 1+chat)
			}
		}
	})
}

// An address that no host has any more answers no connection attempt, not even with a refusal.
func TestAVanishedBackendIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one, two)
		var mine []int64
		for chat := range int64(10) {
			if w.home(1+chat) == one {
				mine = append(mine, 1+chat)
			}
		}
		w.host(one).kill()
		w.net.set(func() { w.net.lost[one] = true })
		for i, chat := range mine {
			began := time.Now()
			w.give(chat, 2000+int64(i))
			w.after(100 * time.Millisecond)
			sent := w.sent(2000 + int64(i))
			if len(sent) != 1 || sent[0].addr != two || sent[0].at.Sub(began) > 90*time.Millisecond {
				t.Errorf("chat %d: %v", chat, sent)
			}
		}
		w.after(probeTimeout - time.Duration(len(mine)-1)*100*time.Millisecond)
		if s := w.Snapshot(); s.Addresses[0].State != Down {
			t.Errorf("a probe's time after it is still %s", s.Addresses[0].State)
		}
		began := time.Now()
		w.give(mine[0], 3000)
		w.after(0)
		if sent := w.sent(3000); len(sent) != 1 || !sent[0].at.Equal(began) {
			t.Error("it is waited for although it is known to be down")
		}
	})
}

// One that takes long to connect is no dead one: while there is no other it is waited for.
func TestASlowConnectionIsWaitedForIfThereIsNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.after(10 * time.Second) // what was connected is no more
		w.net.set(func() { w.net.slow[one] = 900 * time.Millisecond })
		w.give(1, 1)
		w.after(time.Second)
		w.expectDone(1)
	})
}

func TestAllBackendsGoneForAMinuteCostsTimeOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one, two)
		w.give(1, 1)
		w.after(time.Second)
		w.host(one).kill()
		w.host(two).kill()
		id := int64(1)
		for range 60 {
			for chat := range int64(5) {
				id++
				w.give(1+chat, id)
			}
			w.after(time.Second)
		}
		w.expectDone(1)
		if n := w.metric("habot_backend_waiting"); n != 5 {
			t.Errorf("%v wait", n)
		}
		if w.metric("habot_backend_up") != 0 || !errors.Is(w.Readiness().Ready, ErrNoBackend) || !errors.Is(w.Readiness().Reachable, ErrNoBackend) {
			t.Error("ready without a backend")
		}
		w.serve(one, w.takes(one))
		w.after(2100 * time.Millisecond)
		w.expectDone(int(id))
		if w.metric("habot_backend_up") != 1 || w.Readiness() != (Readiness{}) || w.metric("habot_backend_waiting") != 0 {
			t.Error("not ready with a backend")
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.ready) != 3 || w.ready[0] != (Readiness{}) || !errors.Is(w.ready[1].Reachable, ErrNoBackend) || w.ready[2] != (Readiness{}) {
			t.Errorf("told %v", w.ready)
		}
		for _, g := range w.got {
			if g.id > 1 && g.addr != one {
				t.Errorf("%+v", g)
			}
		}
	})
}

// A backend that is behind a proxy fails with 502 while it is away. What was answered so is not left to wait for long
// when it is back.
func TestWhenABackendAnswersWellAgainAllThatWaitIsSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.host(one).kill()
		away := true
		w.serve(one, w.note(one, func(rw http.ResponseWriter, _ *http.Request, _ int64) {
			if away {
				rw.WriteHeader(http.StatusBadGateway)
			}
		}))
		for chat := range int64(6) {
			w.give(1+chat, 1+chat)
		}
		w.after(5 * time.Minute)
		w.expectDone(0)
		if is := w.Readiness(); !errors.Is(is.Ready, ErrNoBackend) || is.Reachable != nil {
			t.Errorf("%+v", is)
		}
		w.mu.Lock()
		away = false
		w.mu.Unlock()
		w.give(7, 7)
		w.after(0)
		w.expectDone(7)
		if is := w.Readiness(); is != (Readiness{}) {
			t.Errorf("%+v", is)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if n := len(w.ready); n != 3 || w.ready[1].Ready == nil || w.ready[1].Reachable != nil {
			t.Errorf("told %v", w.ready)
		}
	})
}

func TestAnUpdateThatIsAnsweredWithErrorsWhileOthersDoWellIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one, two)
		for _, addr := range []string{one, two} {
			w.host(addr).kill()
			w.serve(addr, w.note(addr, func(rw http.ResponseWriter, _ *http.Request, id int64) {
				if id == 1 {
					rw.WriteHeader(http.StatusInternalServerError)
				}
			}))
		}
		began := time.Now()
		w.give(1, 1, 2)
		id := int64(10)
		for w.outcome(1) == "" && time.Since(began) < time.Hour {
			id++
			w.give(3, id)
			w.after(time.Second)
		}
		w.after(time.Second)
		if took := time.Since(began); took < poisonAfter || took > poisonAfter+3*time.Minute {
			t.Errorf("it took %v", took)
		}
		if w.outcome(1) != update.Poison || w.outcome(2) != update.Answered {
			t.Errorf("outcomes %q, %q", w.outcome(1), w.outcome(2))
		}
		if w.metric("habot_backend_given_up_total", "reason=poison") != 1 {
			t.Error("it is not counted")
		}
		line := regexp.MustCompile(`msg="an update is given up" update_id=1 kind=message chat_id=1 outcome=poison failures=[1-9][0-9]+ detail="answers 500"`)
		if all := w.logged(); !line.MatchString(all) || strings.Count(all, "an update is given up") != 1 {
			t.Errorf("logged %s", all)
		}
	})
}

// An update that kills the process that handles it takes the others' chats with it each time.
func TestAnUpdateThatKillsBackendsIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one, two)
		var start func(addr string)
		var kills atomic.Int32
		start = func(addr string) {
			var h *host
			h = w.serve(addr, w.note(addr, func(_ http.ResponseWriter, _ *http.Request, id int64) {
				if id == 1 {
					kills.Add(1)
					go func() {
						h.kill()
						time.Sleep(2 * time.Second) // Docker starts it again
						start(addr)
					}()
					time.Sleep(time.Second)
				}
			}))
		}
		for _, addr := range []string{one, two} {
			w.host(addr).kill()
			start(addr)
		}
		began := time.Now()
		w.give(1, 1, 2)
		id := int64(10)
		for w.outcome(1) == "" && time.Since(began) < time.Hour {
			id++
			w.give(3, id)
			w.after(time.Second)
		}
		w.after(time.Minute)
		if w.outcome(1) != update.Poison || w.outcome(2) != update.Answered {
			t.Errorf("outcomes %q, %q after %v", w.outcome(1), w.outcome(2), time.Since(began))
		}
		if kills.Load() > 30 {
			t.Errorf("it killed %d times", kills.Load())
		}
		w.expectDone(int(id) - 10 + 2)
	})
}

// Telegram forgets an inline query after 30 s, a button press after 150 s: so do we. Messages it keeps for a day.
func TestWhatTelegramDoesNotKeepIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.host(one).kill()
		w.giveRaw(`{"update_id":1,"inline_query":{"id":"1","from":{"id":5}}}`)
		w.giveRaw(`{"update_id":2,"callback_query":{"id":"1","from":{"id":5}}}`)
		w.give(5, 3)
		for _, step := range []struct {
			after    time.Duration
			outcomes string
		}{{29 * time.Second, "[  ]"}, {2 * time.Second, "[expired  ]"}, {118 * time.Second, "[expired  ]"}, {2 * time.Second, "[expired expired ]"}} {
			w.after(step.after)
			if got := fmt.Sprint([]update.Outcome{w.outcome(1), w.outcome(2), w.outcome(3)}); got != step.outcomes {
				t.Errorf("%v later: %s, want %s", step.after, got, step.outcomes)
			}
		}
		w.after(10 * time.Minute)
		if o := w.outcome(3); o != "" || w.metric("habot_backend_given_up_total", "reason=expired") != 2 {
			t.Errorf("a message: %q", o)
		}
		w.serve(one, w.takes(one))
		w.after(3 * time.Second)
		w.expectDone(3)
	})
}

// Telegram counts from a message's date, or from when another update came, and not from when its turn comes.
func TestWhatTelegramDoesNotKeepIsCountedFromItsDate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.host(one).kill()
		w.give(5, 1, 2, 3)
		for id := range int64(3) {
			w.giveRaw(fmt.Sprintf(`{"update_id":%d,"callback_query":{"id":"1","from":{"id":5}}}`, 11+id))
		}
		w.after(3 * time.Minute)
		if w.outcome(11) != update.Expired || w.outcome(13) != update.Expired {
			t.Errorf("of button presses that came together the outcomes are %q, %q, %q", w.outcome(11), w.outcome(12), w.outcome(13))
		}
		// A clock that is wrong costs no message: each waits for a minute at least.
		w.giveRaw(`{"update_id":21,"message":{"message_id":1,"date":1,"chat":{"id":6},"text":"x"}}`)
		w.after(leastWait - time.Second)
		if o := w.outcome(21); o != "" {
			t.Errorf("an old message is %s at once", o)
		}
		w.after(2 * time.Second)
		if o := w.outcome(21); o != update.Expired {
			t.Errorf("an old message is %q", o)
		}
		w.after(24*time.Hour - 5*time.Minute)
		if w.outcome(1) != "" {
			t.Errorf("given up too soon")
		}
		w.after(10 * time.Minute)
		if w.outcome(1) != update.Expired || w.outcome(3) != update.Expired {
			t.Errorf("of messages that came together the outcomes are %q, %q, %q", w.outcome(1), w.outcome(2), w.outcome(3))
		}
	})
}

// A chat that a backend refuses waits on its own account, and so does one that it puts off. A backend that refuses all is another thing.
func TestAChatThatIsRefusedAloneWaitsOnItsOwnAccount(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		all    bool // whether other chats are refused, too
		want   bool
	}{
		"put off": {func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Retry-After", "20")
			rw.WriteHeader(http.StatusTooManyRequests)
		}, false, true},
		"put off, as all others": {func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Retry-After", "20")
			rw.WriteHeader(http.StatusTooManyRequests)
		}, true, true},
		"refused":                {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) }, false, true},
		"refused, as all others": {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) }, true, false},
		"busy, as all others": {func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Retry-After", "20")
			rw.WriteHeader(http.StatusServiceUnavailable)
		}, true, false},
		"not answered": {func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "http://mybot:8000", one)
				w.host(one).kill()
				var well atomic.Bool
				w.serve(one, w.note(one, func(rw http.ResponseWriter, req *http.Request, id int64) {
					if !well.Load() && (id == 1 || tt.all) {
						tt.answer(rw, req)
					}
				}))
				w.give(1, 1)
				for i := range int64(40) {
					if !tt.all && i%2 == 0 { // of others there may be nothing to see while a chat fills the window
						continue
					}
					w.give(100+i, 100+i)
				}
				w.after(150 * time.Second)
				if got := w.waitsAlone(1); got != tt.want {
					t.Errorf("it waits on its own account: %v", got)
				}
				well.Store(true)
				w.after(10 * time.Minute)
				if w.outcome(1) != update.Answered {
					t.Errorf("the outcome is %q", w.outcome(1))
				}
			})
		})
	}
}

// A backend's name that does not exist yet: it starts, warns and waits.
func TestANameThatDoesNotExistYetIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://later:8000")
		w.give(1, 1)
		w.after(time.Minute)
		w.expectDone(0)
		if n := strings.Count(w.logged(), "name cannot be resolved"); n != 1 {
			t.Errorf("%d warnings", n)
		}
		if s := w.Snapshot(); s.Unresolved["http://later:8000"] == "" || s.Waiting != 1 {
			t.Errorf("%+v", s)
		}
		w.mu.Lock()
		if len(w.ready) != 1 || !errors.Is(w.ready[0].Ready, ErrNoBackend) || !strings.Contains(w.ready[0].Reachable.Error(), "no such host") {
			t.Errorf("told %v", w.ready)
		}
		w.mu.Unlock()
		w.serve(two, w.takes(two))
		w.net.set(func() { w.net.names["later"] = []string{two} })
		w.after(2 * time.Second)
		w.expectDone(1)
	})
}

// Docker's DNS fails at times. What was known is used.
func TestANameThatIsNotResolvedAnyMoreKeepsItsAddresses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.net.set(func() { delete(w.net.names, "mybot") })
		w.after(time.Minute)
		w.give(1, 1)
		w.after(0)
		w.expectDone(1)
	})
}

func TestNewCopiesAreFoundAndFormerOnesForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.serve(two, w.takes(two))
		w.net.set(func() { w.net.names["mybot"] = []string{one, two} })
		w.after(2 * time.Second)
		for chat := range int64(20) {
			w.give(1+chat, 1+chat)
		}
		w.after(0)
		seen := map[string]int{}
		for _, g := range w.sent(0) {
			seen[g.addr]++
		}
		if seen[one] == 0 || seen[two] == 0 {
			t.Errorf("sent to %v", seen)
		}
		w.net.set(func() { w.net.names["mybot"] = []string{two} })
		w.after(10 * time.Second)
		if s := w.Snapshot(); len(s.Addresses) != 1 || s.Addresses[0].Address != two {
			t.Errorf("%+v", s)
		}
	})
}

func TestSeveralURLsAreOneFleet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://10.0.0.1:8000/a,http://10.0.0.2:8000/b", one, two)
		for chat := range int64(20) {
			w.give(1+chat, 1+chat)
		}
		w.after(0)
		w.expectDone(20)
		seen := map[string]int{}
		for _, g := range w.sent(0) {
			seen[g.addr]++
		}
		if seen[one] < 3 || seen[two] < 3 {
			t.Errorf("sent to %v", seen)
		}
	})
}

func TestABackendThatHangsIsAskedNoMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one, two)
		hung := w.home(1)
		var mine []int64
		for chat := range int64(30) {
			if w.home(1+chat) == hung {
				mine = append(mine, 1+chat)
			}
		}
		w.host(hung).kill()
		w.after(time.Second)
		w.serve(hung, w.note(hung, func(_ http.ResponseWriter, req *http.Request, _ int64) { <-req.Context().Done() }))
		w.after(stickyFor + time.Second)
		w.give(mine[0], 10)
		w.after(DefaultTimeout - time.Second)
		if w.outcome(10) != "" {
			t.Error("it is not waited for")
		}
		w.after(time.Second)
		if w.outcome(10) != update.Answered {
			t.Error("it did not go elsewhere when it had hung long enough")
		}
		if w.metric("habot_backend_requests_total", "result=timeout") != 1 || w.metric("habot_backend_addresses", "state=failing") != 1 {
			t.Error("the time-out is not seen")
		}
		for i, chat := range mine[1:] {
			w.give(chat, 100+int64(i))
		}
		w.after(0)
		for i := range mine[1:] {
			if w.outcome(100+int64(i)) != update.Answered {
				t.Error("another chat waits for the one that hangs")
			}
		}
	})
}

// The lease is looked at as the update leaves, not only before a connection is made: one that leaves in one write with its headers,
// and one that takes more.
func TestNothingLeavesWithoutTheLease(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"short": "x", "long": strings.Repeat("x", 2*oneWrite)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testNothingLeavesWithoutTheLease(t, text)
		})
	}
}

func testNothingLeavesWithoutTheLease(t *testing.T, text string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.after(10 * time.Second) // what was connected is no more
		w.net.set(func() { w.net.slow[one] = 500 * time.Millisecond })
		w.giveRaw(fmt.Sprintf(`{"update_id":1,"message":{"message_id":1,"date":%d,"chat":{"id":1},"text":%q}}`, time.Now().Unix(), text))
		w.after(250 * time.Millisecond)
		w.lost.Store(true)
		w.after(5 * time.Second)
		if n := len(w.sent(0)); n != 0 {
			t.Errorf("%d were sent without the lease", n)
		}
		w.expectDone(0)
		if s := w.Snapshot(); s.Addresses[0].State != Up {
			t.Error("the backend is blamed for it")
		}
		w.lost.Store(false)
		w.after(5 * time.Second)
		w.expectDone(1)
	})
}

// What a backend has taken is handled, also if the lease ended meanwhile; but a call that it answers with is not
// carried out then, so the successor has to ask again.
func TestTheLeaseEndsWhileABackendHandles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.host(one).kill()
		w.serve(one, w.note(one, func(rw http.ResponseWriter, _ *http.Request, id int64) {
			time.Sleep(time.Second)
			if id == 2 {
				rw.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(rw, `{"method":"sendMessage","chat_id":1,"text":"x"}`)
			}
		}))
		w.telegram.script = func(int, Call) (verdict, time.Duration, error) {
			if w.lost.Load() {
				return Over, 0, errTest
			}
			return Done, 0, nil
		}
		w.give(1, 1)
		w.give(2, 2)
		w.after(500 * time.Millisecond)
		w.lost.Store(true)
		w.after(time.Second)
		if w.outcome(1) != update.Answered || w.outcome(2) != "" {
			t.Errorf("outcomes %q, %q", w.outcome(1), w.outcome(2))
		}
		w.lost.Store(false)
		w.after(10 * time.Second)
		w.expectDone(2)
		if n := len(w.times(2)); n != 2 {
			t.Errorf("it was asked %d times", n)
		}
	})
}

func TestDrainFinishesWhatABackendIsHandling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.host(one).kill()
		w.serve(one, w.note(one, func(rw http.ResponseWriter, req *http.Request, id int64) {
			switch {
			case id == 3:
				rw.WriteHeader(http.StatusServiceUnavailable)
			case id < 3:
				time.Sleep(3 * time.Second)
			default:
				select {
				case <-req.Context().Done():
				case <-time.After(30 * time.Second):
				}
			}
		}))
		w.give(1, 1, 2) // the second begins after the drain has
		w.give(2, 4)    // takes too long
		w.give(3, 3)    // waits
		w.after(2 * time.Second)
		took, left := w.drain(5 * time.Second)
		if took != 5*time.Second || left != 2 {
			t.Errorf("drained in %v, %d left", took, left)
		}
		w.expectDone(2)
	})
}

func TestCallsInAnswersAreCarriedOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		small, smallBody := files(t, 1000, "chat_id=5", "method=sendDocument")
		large, largeBody := files(t, 3<<20, "method=sendPhoto", "chat_id=5")
		w := newWorld(t, "http://mybot:8000", one)
		w.host(one).kill()
		answers := map[int64][2]string{
			1: {"application/json; charset=utf-8", `{"method":"sendMessage","chat_id":5,"text":"a"}`},
			2: {formType, "method=answerCallbackQuery&callback_query_id=7"},
			3: {small, string(smallBody)},
			4: {large, string(largeBody)},
			5: {jsonType, `{"method":"doSomethingNew"}`},
		}
		w.serve(one, w.note(one, func(rw http.ResponseWriter, _ *http.Request, id int64) {
			rw.Header().Set("Content-Type", answers[id][0])
			_, _ = io.WriteString(rw, answers[id][1])
		}))
		w.give(1, 1, 2, 3, 4, 5)
		w.after(time.Second)
		w.expectDone(5)
		if got := strings.Join(w.telegram.methods(), " "); got != "sendMessage answerCallbackQuery sendDocument sendPhoto doSomethingNew" {
			t.Errorf("carried out %s", got)
		}
		for i, c := range w.telegram.calls {
			want := answers[int64(1+i)]
			if c.ContentType != want[0] || w.telegram.bodies[i] != want[1] {
				t.Errorf("%s: %s, %d bytes; want %s, %d bytes", c.Method, c.ContentType, len(w.telegram.bodies[i]), want[0], len(want[1]))
			}
		}
		if n := w.metric("habot_backend_replies_total", "outcome=carried_out"); n != 5 {
			t.Errorf("%v are counted", n)
		}
	})
}

func TestCallsThatAreNotCarriedOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.host(one).kill()
		bad := []string{"getUpdates", "LOGOUT", "logOut", "setWebhook", "deleteWebhook", "close", "getMe", "../sendMessage", "a b"}
		w.serve(one, w.note(one, func(rw http.ResponseWriter, _ *http.Request, id int64) {
			rw.Header().Set("Content-Type", "application/json")
			if int(id) <= len(bad) {
				_, _ = fmt.Fprintf(rw, `{"method":%q}`, bad[id-1])
			} else {
				_, _ = io.WriteString(rw, `<html>junk`)
			}
		}))
		for i := range len(bad) + 1 {
			w.give(1, int64(1+i))
			w.after(11 * time.Second)
		}
		w.expectDone(len(bad) + 1)
		if calls := w.telegram.methods(); len(calls) != 0 {
			t.Errorf("carried out %v", calls)
		}
		if w.metric("habot_backend_replies_total", "outcome=forbidden") != float64(len(bad)) || w.metric("habot_backend_replies_total", "outcome=malformed") != 1 {
			t.Error("they are not counted")
		}
		if n := strings.Count(w.logged(), "names a method that is not allowed"); n != len(bad) {
			t.Errorf("%d lines for %d answers", n, len(bad))
		}
	})
}

// giveUpCall is how long a call is tried, as any other message to Telegram.
const giveUpCall = 10 * time.Minute

// Telegram fails, limits and refuses calls as it does others.
func TestACallIsTriedAgainWhileTelegramFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.host(one).kill()
		w.serve(one, w.note(one, func(rw http.ResponseWriter, _ *http.Request, _ int64) {
			rw.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(rw, `{"method":"sendMessage","chat_id":5,"text":"a"}`)
		}))
		var at []time.Time
		w.telegram.script = func(n int, _ Call) (verdict, time.Duration, error) {
			at = append(at, time.Now())
			switch n {
			case 1:
				return Again, 0, errTest
			case 2:
				return Again, 7 * time.Second, errTest
			case 3:
				return Done, 0, nil
			}
			return Refused, 0, errTest
		}
		w.give(1, 1)
		w.after(20 * time.Second)
		w.expectDone(1)
		if len(at) != 3 || at[1].Sub(at[0]) > 100*time.Millisecond || at[2].Sub(at[1]) != 7*time.Second {
			t.Errorf("tried at %v", at)
		}
		w.give(1, 2)
		w.after(time.Second)
		w.expectDone(2)
		if w.metric("habot_backend_replies_total", "outcome=refused") != 1 || !strings.Contains(w.logged(), "was not carried out") {
			t.Error("the refusal is not reported")
		}
		w.telegram.script = func(int, Call) (verdict, time.Duration, error) { return Again, 0, errTest }
		w.give(1, 3)
		w.after(giveUpCall + time.Second)
		w.expectDone(3)
		if w.metric("habot_backend_replies_total", "outcome=failed") != 1 {
			t.Error("the failure is not counted")
		}
		if n := len(w.times(0)) + len(w.times(1)) + len(w.times(2)) + len(w.times(3)); n != 6 {
			t.Errorf("backends were asked %d times", n/2)
		}
	})
}

// A call that Telegram may have carried out is not repeated every two seconds: users would get hundreds of copies.
func TestACallOfUnknownFateIsRepeatedAFewTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.host(one).kill()
		w.serve(one, w.note(one, func(rw http.ResponseWriter, _ *http.Request, _ int64) {
			rw.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(rw, `{"method":"sendMessage","chat_id":5,"text":"a"}`)
		}))
		w.telegram.script = func(int, Call) (verdict, time.Duration, error) { return Unknown, 0, errTest }
		w.give(1, 1)
		w.after(time.Minute)
		if n := len(w.telegram.methods()); n < 3 || n > 4 {
			t.Errorf("%d copies in a minute", n)
		}
		w.after(giveUpCall - time.Minute - time.Second)
		if o := w.outcome(1); o != "" {
			t.Errorf("%s before it was given up", o)
		}
		w.after(2 * time.Second)
		w.expectDone(1)
		if n := len(w.telegram.methods()); n > 7 { // as of any other message
			t.Errorf("%d copies in all", n)
		}
		again := time.Now()
		w.telegram.script = func(int, Call) (verdict, time.Duration, error) {
			if time.Since(again) < giveUpCall {
				return Unknown, 0, errTest
			}
			return Done, 0, nil // as the ten minutes end
		}
		w.give(1, 2)
		w.after(giveUpCall + time.Second)
		if n := w.metric("habot_backend_replies_total", "outcome=carried_out"); n != 1 {
			t.Errorf("%v calls were carried out after an outage of ten minutes", n)
		}
	})
}

// A long reply cannot be read twice: the backend is asked again.
func TestALongReplyThatIsNotSentOnIsAskedForAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		large, largeBody := files(t, 3<<20, "method=sendPhoto", "chat_id=5")
		w := newWorld(t, "http://mybot:8000", one)
		w.host(one).kill()
		n := 0
		w.serve(one, w.note(one, func(rw http.ResponseWriter, _ *http.Request, _ int64) {
			rw.Header().Set("Content-Type", large)
			rw.Header().Set("Content-Length", fmt.Sprint(len(largeBody)))
			if n++; n == 1 {
				_, _ = rw.Write(largeBody[:2<<20])
				panic(http.ErrAbortHandler)
			}
			_, _ = rw.Write(largeBody)
		}))
		w.telegram.script = func(n int, _ Call) (verdict, time.Duration, error) {
			if n == 2 {
				return Again, 0, errTest
			}
			return Done, 0, nil
		}
		w.give(1, 1)
		w.after(10 * time.Second)
		w.expectDone(1)
		if n != 3 {
			t.Errorf("the backend was asked %d times, want 3", n)
		}
		if got := len(w.telegram.bodies[2]); got != len(largeBody) {
			t.Errorf("%d bytes were sent on", got)
		}
	})
}

// Whatever a backend answers is bounded, and costs no update.
func TestStrangeAnswers(t *testing.T) {
	t.Parallel()
	chunk := bytes.Repeat([]byte("1"), 64<<10)
	endless := func(rw http.ResponseWriter) {
		for {
			if _, err := rw.Write(chunk); err != nil {
				return
			}
		}
	}
	raw := func(text string) func(http.ResponseWriter) {
		return func(rw http.ResponseWriter) {
			conn, _, err := rw.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		}
	}
	for name, tt := range map[string]struct {
		answer func(rw http.ResponseWriter)
		taken  bool   // at once
		line   string // a part of the log; empty for nothing odd
	}{
		"endless text": {endless, true, ""},
		"endless json": {func(rw http.ResponseWriter) {
			rw.Header().Set("Content-Type", "application/json")
			endless(rw)
		}, true, "webhook reply cannot be read"},
		"100 MB of json": {func(rw http.ResponseWriter) {
			rw.Header().Set("Content-Type", "application/json")
			rw.Header().Set("Content-Length", fmt.Sprint(100<<20))
			endless(rw)
		}, true, "webhook reply cannot be read"},
		"endless error": {func(rw http.ResponseWriter) {
			rw.WriteHeader(http.StatusInternalServerError)
			endless(rw)
		}, false, "answers 500"},
		"json that does not come": {func(rw http.ResponseWriter) {
			rw.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(rw, `{"method":`)
			_ = http.NewResponseController(rw).Flush()
			time.Sleep(90 * time.Second)
		}, false, "no whole answer within 1m0s"},
		"text that does not come": {func(rw http.ResponseWriter) {
			_ = http.NewResponseController(rw).Flush()
			time.Sleep(90 * time.Second)
		}, true, ""},
		"nothing":                  {raw(""), false, "EOF"},
		"half a status":            {raw("HTTP/1.1 20"), false, "malformed HTTP"},
		"no HTTP":                  {raw("hello\r\n\r\n"), false, "malformed HTTP"},
		"half the headers":         {raw("HTTP/1.1 200 OK\r\nContent-Type: app"), false, "EOF"},
		"half a json":              {raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"method\":\"sendMessage\""), false, "the answer is incomplete"},
		"half a text":              {raw("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nO"), true, ""},
		"204 with a body":          {raw("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"), true, ""},
		"headers without an end":   {raw("HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 100) + "\r\n"), false, "headers"},
		"json until the end of it": {raw("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{}"), true, ""},
		"a status of its own":      {raw("HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"), false, "answers 999"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "http://mybot:8000", one)
				w.host(one).kill()
				n := 0
				w.serve(one, w.note(one, func(rw http.ResponseWriter, _ *http.Request, id int64) {
					if id == 1 {
						if n++; n == 1 {
							tt.answer(rw)
						}
					}
				}))
				w.give(1, 1, 2)
				w.give(2, 3)
				w.after(time.Second)
				if got := w.outcome(1) == update.Answered && n == 1; got != tt.taken {
					t.Errorf("taken at once: %v, want %v; asked %d times", got, tt.taken, n)
				}
				w.after(2 * time.Minute)
				w.expectDone(3)
				if want := map[bool]int{true: 1, false: 2}[tt.taken]; n != want {
					t.Errorf("asked %d times, want %d", n, want)
				}
				if calls := w.telegram.methods(); len(calls) != 0 {
					t.Errorf("carried out %v", calls)
				}
				if name == "204 with a body" {
					return // the next update may be on its way on that connection by then, and meet the rest: it is sent again then
				}
				if odd := strings.Contains(w.logged(), "level=WARN"); !strings.Contains(w.logged(), tt.line) || odd != (tt.line != "") {
					t.Errorf("want %q in the log:\n%s", tt.line, w.logged())
				}
			})
		})
	}
}

// A reply with files that is larger than any upload that Telegram takes is none, whether its length is known or not: its update counts as handled, and
// is not sent, nor its files sent on, again and again.
func TestAReplyThatIsTooLargeForTelegramIsNone(t *testing.T) {
	t.Parallel()
	for name, known := range map[string]bool{"length known": true, "endless": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				contentType, body := files(t, 1, "method=sendDocument", "chat_id=5")
				head := body[:bytes.Index(body, []byte("x\r\n"))] //nolint:gocritic // it is there
				chunk := bytes.Repeat([]byte("x"), 1<<20)
				w := newWorld(t, "http://mybot:8000", one)
				w.host(one).kill()
				w.serve(one, w.note(one, func(rw http.ResponseWriter, _ *http.Request, id int64) {
					if id != 1 {
						return
					}
					rw.Header().Set("Content-Type", contentType)
					if known {
						rw.Header().Set("Content-Length", fmt.Sprint(100<<20))
					}
					for _, err := rw.Write(head); err == nil; {
						_, err = rw.Write(chunk)
					}
				}))
				w.give(1, 1, 2)
				w.after(time.Minute)
				w.expectDone(2)
				if n := len(w.sent(1)); n != 1 || w.outcome(1) != update.Answered {
					t.Errorf("sent %d times, outcome %s", n, w.outcome(1))
				}
				if n := len(w.telegram.methods()); known && n != 0 || n > 1 {
					t.Errorf("sent on %d times", n)
				}
				if w.metric("habot_backend_replies_total", "outcome=malformed") != 1 || !strings.Contains(w.logged(), "webhook reply cannot be read") {
					t.Errorf("it is not reported:\n%s", w.logged())
				}
			})
		})
	}
}

// A bot whose every answer is a call that Telegram refuses makes few lines, and each update counts as handled.
func TestCallsThatTelegramRefusesMakeFewLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.host(one).kill()
		w.serve(one, w.note(one, func(rw http.ResponseWriter, _ *http.Request, _ int64) {
			rw.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(rw, `{"method":"sendTelepathy","chat_id":5}`)
		}))
		w.telegram.script = func(int, Call) (verdict, time.Duration, error) { return Refused, 0, errTest }
		for id := range int64(100) {
			w.give(1+id%5, 1+id)
		}
		w.after(time.Minute + time.Second)
		w.give(1, 101)
		w.after(time.Second)
		w.expectDone(101)
		if n := w.metric("habot_backend_replies_total", "outcome=refused"); n != 101 {
			t.Errorf("%v refusals are counted", n)
		}
		if got := w.logged(); strings.Count(got, "was not carried out") != lostBurst+1 || !strings.Contains(got, fmt.Sprintf("omitted=%d", 100-lostBurst)) {
			t.Errorf("%d lines", strings.Count(got, "was not carried out"))
		}
	})
}

// No secret is in a log line, a metric or a status: neither the URL's path and query, nor the secret token.
func TestNoSecretIsShown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorldWith(t, "http://mybot:8000/1:AAHsecretpath?k=secretquery", func(c *Config) { c.Secret = "secrettoken" }, one)
		w.host(one).kill()
		w.give(1, 1)
		w.after(time.Minute)
		w.serve(one, w.note(one, func(rw http.ResponseWriter, _ *http.Request, id int64) {
			if id == 2 {
				conn, _, _ := rw.(http.Hijacker).Hijack()
				_, _ = io.WriteString(conn, "junk\r\n\r\n")
				_ = conn.Close()
				return
			}
			rw.WriteHeader(http.StatusInternalServerError)
		}))
		w.after(time.Minute)
		w.give(2, 2)
		w.after(time.Minute)
		families, err := w.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{w.logged(), fmt.Sprint(families), fmt.Sprint(w.Snapshot()), fmt.Sprint(w.Readiness())} {
			if strings.Contains(text, "secret") || strings.Contains(text, "AAH") {
				t.Errorf("a secret is in %s", text)
			}
		}
	})
}

// A backend closes a connection that was idle for long just as the next update is written. That is no outage.
func TestAnIdleConnectionThatIsClosedIsNoOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.host(one).kill()
		w.after(time.Second)
		n := 0
		w.serve(one, w.note(one, func(http.ResponseWriter, *http.Request, int64) {
			if n++; n == 2 {
				panic(http.ErrAbortHandler)
			}
		}))
		w.after(3 * time.Second)
		w.mu.Lock()
		told := len(w.ready)
		w.mu.Unlock()
		w.give(1, 1)
		w.after(time.Second)
		w.give(1, 2)
		w.after(0)
		w.expectDone(2)
		if n := len(w.times(2)); n != 2 {
			t.Errorf("sent %d times", n)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.ready) != told {
			t.Errorf("told %v", w.ready)
		}
	})
}

// When a backend comes back while the lease is lost, not even a connection is made for an update.
func TestWithoutTheLeaseNoAttemptIsMade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.host(one).kill()
		w.give(1, 1)
		w.after(time.Second)
		w.lost.Store(true)
		w.serve(one, w.takes(one))
		w.after(10 * time.Second)
		if n := w.metric("habot_backend_requests_total", "result=aborted"); n != 0 || len(w.sent(0)) != 0 {
			t.Errorf("%v attempts were begun", n)
		}
		w.lost.Store(false)
		w.after(time.Second)
		w.expectDone(1)
	})
}

// A reply with a large file may take longer than an answer, as long as it comes.
func TestALongReplyHasMoreTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		large, largeBody := files(t, 3<<20, "method=sendPhoto", "chat_id=5")
		w := newWorld(t, "http://mybot:8000", one)
		w.host(one).kill()
		w.serve(one, w.note(one, func(rw http.ResponseWriter, _ *http.Request, _ int64) {
			rw.Header().Set("Content-Type", large)
			_, _ = rw.Write(largeBody[:2<<20])
			time.Sleep(DefaultTimeout + 30*time.Second)
			_, _ = rw.Write(largeBody[2<<20:])
		}))
		w.give(1, 1)
		w.after(2 * time.Minute)
		w.expectDone(1)
		if n := len(w.times(1)); n != 1 || len(w.telegram.bodies) != 1 || w.telegram.bodies[0] != string(largeBody) {
			t.Errorf("sent %d times", n)
		}
	})
}

func TestTheGate(t *testing.T) {
	t.Parallel()
	held := true
	g := &gate{held: func() bool { return held }}
	if err := g.open(); err != nil || !g.abandon() {
		t.Errorf("open: %v", err)
	}
	g.connect(false) // too late
	if err := g.open(); !errors.Is(err, errTooSlow) {
		t.Errorf("a connection that was given up lets the update leave: %v", err)
	}
	g = &gate{held: func() bool { return held }}
	if g.connect(true); g.abandon() {
		t.Error("a connection that came is given up")
	}
	held = false
	if err := g.open(); !errors.Is(err, errLeaseLost) {
		t.Errorf("without the lease: %v", err)
	}
	held = true
	if err := g.open(); !errors.Is(err, errLeaseLost) {
		t.Error("half of an update leaves in another lease")
	}
}

func TestNoURLIsInAMessage(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("make a request: %w", &url.Error{Op: "parse", URL: "http://mybot/1:AAHsecret", Err: errTest})
	if got := textOf(err); got != errTest.Error() {
		t.Errorf("the message is %q", got)
	}
	if got := textOf(errors.New(strings.Repeat("ä", maxDetail))); len(got) > maxDetail || strings.Contains(got, "\xc3\x00") {
		t.Errorf("%d bytes", len(got))
	}
}

// A backend that fails is another matter than one that is gone: only the second may be seen from one replica alone.
func TestReadinessIsToldInBothSenses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.host(one).kill()
		h := w.serve(one, w.note(one, func(rw http.ResponseWriter, _ *http.Request, _ int64) { rw.WriteHeader(http.StatusBadGateway) }))
		for chat := range int64(6) {
			w.give(1+chat, 1+chat)
		}
		w.after(time.Minute)
		h.kill()
		w.after(time.Minute)
		w.serve(one, w.takes(one))
		w.after(10 * time.Second)
		w.expectDone(6)
		w.mu.Lock()
		defer w.mu.Unlock()
		var told []string
		for _, is := range w.ready {
			told = append(told, fmt.Sprint(is.Reachable == nil, " ", is.Ready == nil))
		}
		if got := strings.Join(told, ", "); got != "true true, true false, false false, true true" {
			t.Errorf("told reachable, ready: %s", got)
		}
	})
}

// A resolver may give an address more than once, and as IPv6 writes an IPv4 address.
func TestAnAddressThatIsResolvedTwiceIsOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "http://mybot:8000", one)
		w.net.set(func() { w.net.names["mybot"] = []string{one, "[::ffff:10.0.0.1]:8000", one} })
		w.after(3 * time.Second)
		if s := w.Snapshot(); len(s.Addresses) != 1 {
			t.Errorf("%+v", s)
		}
	})
}

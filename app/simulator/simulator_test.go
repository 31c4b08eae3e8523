package simulator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const testToken = "123456:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// inMemory calls a handler without a network, which a synctest bubble could not wait for.
type inMemory struct{ handler http.Handler }

func (m inMemory) RoundTrip(req *http.Request) (*http.Response, error) {
	in := req.Clone(req.Context())
	in.RemoteAddr = "192.0.2.1:1234"
	if in.Body == nil {
		in.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	m.handler.ServeHTTP(rec, in)
	if err := req.Context().Err(); err != nil {
		return nil, fmt.Errorf("call in memory: %w", err)
	}
	return rec.Result(), nil
}

// reply is the Bot API's answer as a client sees it.
type reply struct {
	code        int
	header      http.Header
	OK          bool            `json:"ok"`
	Result      json.RawMessage `json:"result"`
	Description string          `json:"description"`
	ErrorCode   int             `json:"error_code"`
	Parameters  struct {
		RetryAfter      int   `json:"retry_after"`
		MigrateToChatID int64 `json:"migrate_to_chat_id"`
	} `json:"parameters"`
	took time.Duration
}

// rig is a simulator and its clients.
type rig struct {
	*Simulator
	t      *testing.T
	client *http.Client
	base   string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	s := New(Config{Token: testToken, Chats: 3, Logger: slog.New(slog.DiscardHandler)})
	return &rig{Simulator: s, t: t, client: &http.Client{Transport: inMemory{s.Handler()}}, base: "http://telegram"}
}

// request makes a call of a method of the Bot API by a poller.
func (r *rig) request(ctx context.Context, who, method string, form url.Values) *http.Request {
	r.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.base+"/bot"+testToken+"/"+method, strings.NewReader(form.Encode()))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("User-Agent", "habot/1 ("+who+")")
	return req
}

func (r *rig) do(req *http.Request) (reply, error) {
	start := time.Now()
	res, err := r.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = res.Body.Close() }()
	a := reply{code: res.StatusCode, header: res.Header, took: time.Since(start)}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return a, err
	}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
		err = json.Unmarshal(body, &a)
	}
	return a, err
}

// call makes a call that must get some answer; pairs are names and values.
func (r *rig) call(who, method string, pairs ...string) reply {
	r.t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	a, err := r.do(r.request(r.t.Context(), who, method, form))
	if err != nil {
		r.t.Fatalf("%s: %v", method, err)
	}
	return a
}

// background makes a call that waits; its answer comes on the channel.
func (r *rig) background(who, method string, pairs ...string) <-chan reply {
	answer := make(chan reply, 1)
	go func() { answer <- r.call(who, method, pairs...) }()
	synctest.Wait()
	return answer
}

func updateIDs(t *testing.T, a reply) []int {
	t.Helper()
	var updates []struct {
		ID int `json:"update_id"`
	}
	if err := json.Unmarshal(a.Result, &updates); err != nil {
		t.Fatalf("%+v: %v", a, err)
	}
	list := []int{}
	for _, u := range updates {
		list = append(list, u.ID)
	}
	return list
}

func (a reply) expect(t *testing.T, code int, description string) {
	t.Helper()
	if a.code != code || a.Description != description || a.OK != (code == http.StatusOK) || (code != http.StatusOK && a.ErrorCode != code) {
		t.Errorf("answer %d %q (ok %t, error_code %d), want %d %q", a.code, a.Description, a.OK, a.ErrorCode, code, description)
	}
}

// took expects virtual time to have passed.
func (a reply) expectTook(t *testing.T, want time.Duration) {
	t.Helper()
	if a.took != want {
		t.Errorf("the answer took %s, want %s", a.took, want)
	}
}

func TestPollThatWaitsIsAnsweredWhenAnUpdateComes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		waiting := r.background(alice, "getUpdates", "timeout", "50")
		time.Sleep(7 * time.Second)
		r.Write(FirstChat, "hello")
		a := <-waiting
		a.expect(t, http.StatusOK, "")
		a.expectTook(t, 7*time.Second)
		if n := len(updateIDs(t, a)); n != 1 {
			t.Errorf("%d updates, want 1", n)
		}
		if rep := r.Report(); rep.Delivered != 1 || rep.Confirmed != 0 {
			t.Errorf("%+v", rep)
		}
	})
}

func TestPollThatWaitsInVainGetsNothingAfterItsTimeout(t *testing.T) {
	t.Parallel()
	for asked, want := range map[string]time.Duration{"": 0, "0": 0, "2": 2 * time.Second, "50": 50 * time.Second, "3600": 50 * time.Second} {
		t.Run("timeout "+asked, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newRig(t).call(alice, "getUpdates", "timeout", asked)
				a.expect(t, http.StatusOK, "")
				a.expectTook(t, want)
				if string(a.Result) != "[]" {
					t.Errorf("result %s, want an empty list", a.Result)
				}
			})
		})
	}
}

func TestPollThatDoesNotWaitGetsWhatIsThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Write(FirstChat, "hello")
		for i := range 50 { // a choice by chance shows within these
			time.Sleep(time.Minute)
			if n := len(updateIDs(t, r.call(alice, "getUpdates", "timeout", "0"))); n != 1 {
				t.Fatalf("poll %d got %d updates, want 1", i, n)
			}
		}
	})
}

func TestOlderOfTwoWaitingPollsGets409(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		older := r.background(alice, "getUpdates", "timeout", "50")
		time.Sleep(5 * time.Second)
		newer := r.background(bob, "getUpdates", "timeout", "50")
		a := <-older
		a.expect(t, http.StatusConflict, conflictPoll)
		a.expectTook(t, 5*time.Second)
		r.Write(FirstChat, "hello")
		b := <-newer
		b.expect(t, http.StatusOK, "")
		if n := len(updateIDs(t, b)); n != 1 {
			t.Errorf("the newer poll got %d updates, want 1", n)
		}
		if rep := r.Report(); rep.Conflicts != 1 || rep.Overlaps != 1 || rep.PollerChanges != 1 {
			t.Errorf("%+v", rep)
		}
	})
}

func TestPollThatFindsUpdatesOrDoesNotWaitAbortsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		waiting := r.background(alice, "getUpdates", "timeout", "50")
		time.Sleep(time.Second)
		r.call(bob, "getUpdates", "offset", "-1").expect(t, http.StatusOK, "") // does not wait
		// As in the moment before the poll that waits is woken.
		r.mu.Lock()
		r.bot.queue.push(queued{id: r.bot.queue.next(), kind: "message", body: []byte(`{"update_id":1}`), expires: time.Now().Add(time.Hour)})
		r.mu.Unlock()
		b := r.call(bob, "getUpdates", "offset", "-2", "timeout", "50")
		b.expect(t, http.StatusOK, "")
		b.expectTook(t, 0)
		if n := len(updateIDs(t, b)); n != 1 {
			t.Errorf("%d updates, want 1", n)
		}
		a := <-waiting
		a.expect(t, http.StatusOK, "")
		a.expectTook(t, 50*time.Second)
		if rep := r.Report(); rep.Conflicts != 0 {
			t.Errorf("%d conflicts, want none", rep.Conflicts)
		}
	})
}

func TestSecondConflictWithinThreeSecondsIsLateByThree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		first := r.background(alice, "getUpdates", "timeout", "50")
		second := r.background(bob, "getUpdates", "timeout", "50", "offset", "0")
		(<-first).expectTook(t, 0)
		time.Sleep(time.Second)
		third := r.background(carol, "getUpdates", "timeout", "50")
		a := <-second
		a.expect(t, http.StatusConflict, conflictPoll)
		a.expectTook(t, 4*time.Second)
		time.Sleep(time.Second) // five seconds after the first
		fourth := r.background(alice, "getUpdates", "timeout", "1")
		b := <-third
		b.expect(t, http.StatusConflict, conflictPoll)
		b.expectTook(t, 4*time.Second)
		(<-fourth).expect(t, http.StatusOK, "")
	})
}

func TestSameOffsetAgainAtOnceWaitsThreeSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.call(alice, "getUpdates", "offset", "0").expectTook(t, 0)
		time.Sleep(time.Second)
		r.call(alice, "getUpdates", "offset", "0").expectTook(t, 3*time.Second)
		r.call(alice, "getUpdates", "offset", "0").expectTook(t, 0) // three seconds since the last began
	})
}

func TestSameOffsetWithinHalfASecondGetsOneUpdate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for i := range 5 {
			r.Write(FirstChat, fmt.Sprint(i))
		}
		for _, c := range []struct {
			after time.Duration
			want  int
		}{{0, 5}, {100 * time.Millisecond, 1}, {499 * time.Millisecond, 1}, {500 * time.Millisecond, 5}} {
			time.Sleep(c.after)
			if n := len(updateIDs(t, r.call(alice, "getUpdates"))); n != c.want {
				t.Errorf("%s after the last: %d updates, want %d", c.after, n, c.want)
			}
		}
	})
}

func TestUpdateIsGivenAgainUntilAHigherOffsetConfirmsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Write(FirstChat, "one")
		r.Write(FirstChat, "two")
		got := updateIDs(t, r.call(alice, "getUpdates"))
		time.Sleep(time.Second)
		again := updateIDs(t, r.call(bob, "getUpdates"))
		if len(got) != 2 || fmt.Sprint(got) != fmt.Sprint(again) {
			t.Fatalf("%v, then %v; want the same two", got, again)
		}
		left := updateIDs(t, r.call(bob, "getUpdates", "offset", fmt.Sprint(got[0]+1)))
		if len(left) != 1 || left[0] != got[1] {
			t.Errorf("%v left, want %d", left, got[1])
		}
		if rep := r.Report(); rep.Confirmed != 1 || rep.Delivered != 2 {
			t.Errorf("confirmed %d, delivered %d; want 1, 2", rep.Confirmed, rep.Delivered)
		}
	})
}

func TestExpiredUpdatesAreNotGivenAndAccountedAsDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.control(`{"updates":[{"kind":"inline_query","payload":{"id":"1"}},{"kind":"callback_query","payload":{"id":"2"}}],
			"messages":[{"chat_id":1001,"text":"hello"}]}`)
		for _, c := range []struct {
			after time.Duration
			left  int
		}{{30 * time.Second, 3}, {time.Second, 2}, {119 * time.Second, 2}, {time.Second, 1}, {24 * time.Hour, 0}} {
			time.Sleep(c.after)
			if n := len(updateIDs(t, r.call(alice, "getUpdates"))); n != c.left {
				t.Errorf("%d updates left %s later, want %d", n, c.after, c.left)
			}
		}
		if rep := r.Report(); rep.Dropped != 3 || rep.Lost != 0 || rep.Unanswered != 0 {
			t.Errorf("dropped %d, lost %d, unanswered %d; want 3, 0, 0", rep.Dropped, rep.Lost, rep.Unanswered)
		}
	})
}

func TestPollWhoseClientGoesAwayDeliversNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, leave := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := r.do(r.request(ctx, alice, "getUpdates", url.Values{"timeout": {"50"}}))
			ended <- err
		}()
		synctest.Wait()
		leave()
		if err := <-ended; err == nil {
			t.Fatal("the client that went away got an answer")
		}
		synctest.Wait()
		r.Write(FirstChat, "hello")
		a := r.call(bob, "getUpdates", "timeout", "50")
		a.expectTook(t, 0)
		if n := len(updateIDs(t, a)); n != 1 {
			t.Errorf("%d updates, want 1", n)
		}
		if rep := r.Report(); rep.Conflicts != 0 || rep.Delivered != 1 || rep.Overlaps != 0 {
			t.Errorf("%+v", rep)
		}
	})
}

func TestUpdatesForAClientThatHasGoneAreNotDelivered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.beginPoll(alice, pollRequest{limit: 100, timeout: 50}, func() bool { return false })
	r.Write(FirstChat, "hello")
	got := <-w.answer
	r.endPoll(w, got, 0)
	if rep := r.Report(); len(got.updates) != 1 || rep.Delivered != 0 || rep.Confirmed != 0 {
		t.Errorf("%d updates, delivered %d, confirmed %d; want 1, 0, 0", len(got.updates), rep.Delivered, rep.Confirmed)
	}
}

func TestUpdateIDsStartAgainLowerOnRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Write(FirstChat, "before")
		r.control(`{"lower_ids":true,"messages":[{"chat_id":1001,"text":"still in line"}]}`)
		before := updateIDs(t, r.call(alice, "getUpdates"))
		if len(before) != 2 || before[1] != before[0]+1 {
			t.Fatalf("%v: ids start again only once nothing waits", before)
		}
		r.call(alice, "getUpdates", "offset", fmt.Sprint(before[1]+1))
		r.Write(FirstChat, "after")
		after := updateIDs(t, r.call(alice, "getUpdates"))
		if len(after) != 1 || after[0] >= before[0] || after[0] < 1 {
			t.Errorf("id %v after %v, want lower", after, before)
		}
	})
}

func TestIDsStartAgainOnceWhatWaitedHasExpired(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.control(`{"updates":[{"kind":"inline_query","payload":{}}]}`)
		old := updateIDs(t, r.call(alice, "getUpdates"))
		r.control(`{"lower_ids":true}`)
		time.Sleep(31 * time.Second)
		r.Write(FirstChat, "after")
		if got := updateIDs(t, r.call(alice, "getUpdates")); len(got) != 1 || got[0] >= old[0] {
			t.Errorf("id %v after %v, want lower", got, old)
		}
	})
}

func TestSetWebhookEndsTheWaitingPollAndForbidsOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		waiting := r.background(alice, "getUpdates", "timeout", "50")
		time.Sleep(time.Second)
		r.call(bob, "setWebhook", "url", "https://example.org/hook").expect(t, http.StatusOK, "Webhook was set")
		a := <-waiting
		a.expect(t, http.StatusConflict, conflictSetHook)
		a.expectTook(t, time.Second)
		b := r.call(alice, "getUpdates", "timeout", "50")
		b.expect(t, http.StatusConflict, conflictWebhook)
		b.expectTook(t, 3*time.Second) // the second within three seconds
		r.call(alice, "setWebhook", "url", "https://example.org/hook").expect(t, http.StatusOK, "Webhook is already set")
		r.Write(FirstChat, "hello")
		r.call(alice, "deleteWebhook").expect(t, http.StatusOK, "Webhook was deleted")
		r.call(alice, "deleteWebhook").expect(t, http.StatusOK, "Webhook is already deleted")
		if n := len(updateIDs(t, r.call(alice, "getUpdates"))); n != 1 {
			t.Errorf("%d updates after the webhook, want 1: it drops nothing", n)
		}
	})
}

func TestWebhookIsDeletedWithoutEndingAPoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		waiting := r.background(alice, "getUpdates", "timeout", "10")
		r.call(bob, "deleteWebhook").expect(t, http.StatusOK, "Webhook is already deleted")
		r.call(bob, "setWebhook").expect(t, http.StatusOK, "Webhook is already deleted")
		a := <-waiting
		a.expect(t, http.StatusOK, "")
		a.expectTook(t, 10*time.Second)
	})
}

func TestUsersWriteAtTheRateSet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { r.RunUsers(ctx); close(ended) }()
		expect := func(want int64) {
			t.Helper()
			synctest.Wait()
			if got := r.Report().Sent; got != want {
				t.Fatalf("%d messages, want %d", got, want)
			}
		}
		time.Sleep(time.Minute)
		expect(0)
		r.SetRate(5)
		time.Sleep(10*time.Second + time.Millisecond)
		expect(50)
		r.SetRate(0.25) // begins now
		time.Sleep(9 * time.Second)
		expect(52)
		r.SetRate(0)
		time.Sleep(time.Hour)
		expect(52)
		r.SetRate(30) // no whole number of nanoseconds apart, and no drift
		time.Sleep(100*time.Second + time.Millisecond)
		expect(52 + 3000)
		r.SetRate(1e-12) // one in thirty thousand years
		time.Sleep(90 * time.Minute)
		expect(52 + 3000)
		r.SetRate(0.0002) // one in 5,000 s, more than an hour
		time.Sleep(5001 * time.Second)
		expect(52 + 3001)
		stop()
		<-ended
	})
}

// Beside a bot with a real token the simulator stays idle.
func TestUsersMayAwaitABot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.cfg.AwaitBot = true
		r.SetRate(5)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { r.RunUsers(ctx); close(ended) }()
		expect := func(want int64) {
			t.Helper()
			synctest.Wait()
			if got := r.Report().Sent; got != want {
				t.Fatalf("%d messages, want %d", got, want)
			}
		}
		time.Sleep(time.Hour + time.Millisecond)
		expect(0)
		r.call(alice, "getMe").expect(t, http.StatusOK, "")
		time.Sleep(time.Hour)
		expect(0)
		r.call(alice, "getUpdates", "timeout", "0").expect(t, http.StatusOK, "")
		time.Sleep(10 * time.Second)
		expect(50) // what they did not write they do not catch up on
		time.Sleep(10 * time.Second)
		expect(100)
		stop()
		<-ended
	})
}

func TestUsersTakeTurnsAndNeverSayTheSame(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	chats, texts := map[int64]int{}, map[string]bool{}
	for range 30 {
		r.writeNext()
	}
	for _, rec := range r.account.records {
		chats[rec.Chat]++
		texts[rec.Text] = true
	}
	if len(texts) != 30 || len(chats) != 3 || chats[FirstChat] != 10 || chats[FirstChat+2] != 10 {
		t.Errorf("%d texts, chats %v", len(texts), chats)
	}
}

func TestRunServesAndStopsWithPollsThatWait(t *testing.T) {
	t.Parallel()
	s := New(Config{Addr: "127.0.0.1:0", Token: testToken, Chats: 1, Rate: 0, Logger: slog.New(slog.DiscardHandler)})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	r := &rig{Simulator: s, t: t, client: &http.Client{Transport: transport}, base: "http://" + s.Addr().String()}
	r.call(alice, "getMe").expect(t, http.StatusOK, "")
	cut := make(chan error, 1)
	go func() {
		_, err := r.do(r.request(t.Context(), alice, "getUpdates", url.Values{"timeout": {"50"}}))
		cut <- err
	}()
	for range 1000 { // until the poll has arrived
		if s.Report().Polls == 1 {
			break
		}
		r.call(bob, "getMe")
	}
	stop()
	if err := <-ran; err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := <-cut; err == nil {
		t.Error("the poll that waited got an answer from a server that went away")
	}
}

// control sends a /control that must be taken.
func (r *rig) control(body string) {
	r.t.Helper()
	if code, text := r.post("/control", body); code != http.StatusOK {
		r.t.Fatalf("control: %d %s", code, text)
	}
}

func (r *rig) post(path, body string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.base+path, bytes.NewReader([]byte(body)))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return r.text(req)
}

func (r *rig) get(path string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.base+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.text(req)
}

func (r *rig) text(req *http.Request) (int, string) {
	r.t.Helper()
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// A handover: the predecessor's connection is closed, and its poll not yet taken out when the successor's comes.
func TestPollWhoseClientHungUpConflictsWithNobody(t *testing.T) {
	for gone, conflicts := range map[bool]string{true: "", false: conflictPoll} {
		s := New(Config{Token: "1:x", Logger: slog.New(slog.DiscardHandler)})
		old := s.beginPoll("alice", pollRequest{limit: 100, timeout: 50}, func() bool { return gone })
		s.beginPoll("bob", pollRequest{limit: 100, timeout: 50}, func() bool { return false })
		if a := <-old.answer; a.conflict != conflicts {
			t.Errorf("gone: %v, the older poll gets %q", gone, a.conflict)
		}
	}
}

// The real server writes an update into 64 KiB and drops what does not fit; it cuts an answer at 4 MiB.
func TestSizesOfUpdatesAndAnswersAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, c := range []struct {
		size  int
		taken bool
	}{{maxUpdate - 1000, true}, {maxUpdate + 1, false}} {
		before := r.Report()
		r.control(`{"updates":[{"kind":"message","payload":{"text":"` + strings.Repeat("x", c.size) + `"}}]}`)
		after := r.Report()
		if dropped := after.Dropped - before.Dropped; after.Sent != before.Sent+1 || (dropped == 0) != c.taken {
			t.Errorf("of an update of %d bytes %d were dropped", c.size, dropped)
		}
	}
	r.call(alice, "deleteWebhook", "drop_pending_updates", "true")
	for range 100 {
		r.control(`{"updates":[{"kind":"message","payload":{"text":"` + strings.Repeat("x", 60_000) + `"}}]}`)
	}
	a := r.call(alice, "getUpdates")
	if n := len(updateIDs(t, a)); n != 69 || len(a.Result) > maxAnswer {
		t.Errorf("%d updates in %d bytes", n, len(a.Result))
	}
	ids := updateIDs(t, a)
	if n := len(updateIDs(t, r.call(alice, "getUpdates", "offset", fmt.Sprint(ids[len(ids)-1]+1)))); n != 31 {
		t.Errorf("%d updates are left, want the rest", n)
	}
}

func TestEveryKindOfTheRealServerIsKnown(t *testing.T) {
	t.Parallel()
	if n := len(allowedKinds()); n != 27 {
		t.Errorf("%d kinds", n)
	}
	for _, kind := range allowedKinds() {
		r := newRig(t)
		r.call(alice, "getUpdates", "allowed_updates", `["`+kind+`"]`)
		r.control(`{"updates":[{"kind":"` + kind + `","payload":{}}]}`)
		if n := len(updateIDs(t, r.call(alice, "getUpdates", "offset", "-1"))); n != 1 {
			t.Errorf("%d updates of the kind %s", n, kind)
		}
	}
}

// A client may call itself anything, and a control may write to any chat.
func TestTheAccountIsBoundedWhateverClientsSay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for i := range 3 * maxPollers {
			r.call(fmt.Sprint("poller ", i), "getUpdates")
			time.Sleep(time.Second)
		}
		r.mu.Lock()
		if n, m := len(r.account.lastEnd), len(r.account.displaced); n > maxPollers || m > maxPollers {
			t.Errorf("%d and %d pollers are remembered", n, m)
		}
		r.mu.Unlock()
		if rep := r.Report(); rep.Handovers[len(rep.Handovers)-1].GapSeconds != 1 {
			t.Errorf("the last handover is %+v", rep.Handovers[len(rep.Handovers)-1])
		}
		for i := range int64(maxKnownChats + 10) {
			r.Write(1_000_000+i, "x")
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if n := len(r.chats); n != maxKnownChats {
			t.Errorf("%d chats are known", n)
		}
	})
}

func TestCommandScopesAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	list := `[{"command":"start","description":"Begin"}]`
	r.call(alice, "setMyCommands", "commands", list, "language_code", "german").expect(t, http.StatusBadRequest, "Bad Request: invalid language code specified")
	for i := range maxScopes {
		r.call(alice, "setMyCommands", "commands", list, "scope", fmt.Sprintf(`{"type":"chat_member","chat_id":1001,"user_id":%d}`, i+1)).expect(t, http.StatusOK, "")
	}
	r.call(alice, "setMyCommands", "commands", list).expect(t, http.StatusBadRequest, "Bad Request: too many scopes")
	r.call(alice, "setMyCommands", "commands", list, "scope", `{"type":"chat_member","chat_id":1001,"user_id":1}`).expect(t, http.StatusOK, "")
}

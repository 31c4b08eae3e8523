package gateway

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/botapi"
	"habot/app/turns"
)

// Who stands by may not send, but may read, set the bot up, and write until it polls. Who never polls may send.
func TestWhoMaySend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		one := w.bot("10.0.0.1").run()
		after(time.Second)
		two, shop := w.bot("10.0.0.2"), w.bot("10.0.0.3")
		if a := two.call("sendMessage", "chat_id", "1", "text", "I am up"); a.status != 200 {
			t.Errorf("a copy that starts: %+v", a)
		}
		two.run()
		after(time.Second)
		for _, method := range []string{"sendMessage", "SENDPHOTO", "sendChatAction", "deleteMessage", "answerCallbackQuery", "of_the_future", "?method=sendMessage"} {
			a := two.call(method, "chat_id", "1", "text", "job")
			if a.status != 409 || !strings.Contains(a.body, "the active copy is 10.0.0.1") {
				t.Errorf("%s of a copy that stands by: %+v", method, a)
			}
		}
		for _, method := range []string{"getChat", "getFile", "setMyCommands", "setMyName", "deleteMyCommands", "setChatMenuButton", "getMe", "deleteWebhook"} {
			if a := two.call(method, "chat_id", "1"); a.status != 200 {
				t.Errorf("%s of a copy that stands by: %+v", method, a)
			}
		}
		for _, b := range []*bot{one, shop} {
			if a := b.call("sendMessage", "chat_id", "1", "text", "job"); a.status != 200 {
				t.Errorf("%s: %+v", b.address, a)
			}
		}
		if n := len(w.tg.got("sendMessage")); n != 3 {
			t.Errorf("%d messages were sent", n)
		}
		if n := w.metric("habot_gateway_calls_total", "result", "refused"); n != 7 {
			t.Errorf("%v refused calls are counted", n)
		}
	})
}

// What this version does not know reaches a copy as Telegram sent it, and so does what it is given again: a kind to be, fields, numbers beyond 2^53,
// white space, escapes.
func TestACopyGetsUpdatesByteForByte(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		raws := []string{
			`{"update_id":1000,"of_the_future":{"id":12345678901234567890123,"date":1,"chat":{"id":-1001234567890},"ratio":1.10e-5,"text":"\u00e4\/<&>"}}`,
			`{ "update_id" : 1001, "message":{"message_id":9007199254740993,"date":1,"chat":{"id":1,"type":"private"},"text":"x","new":[true,null]},"beside":{}}`,
			`{"update_id":1002,"message":"of the future"}`,
		}
		one := w.bot("10.0.0.1")
		if a := one.call("getUpdates", "timeout", "0"); a.status != 200 {
			t.Errorf("%+v", a)
		}
		for _, raw := range raws {
			w.tg.bring(raw)
		}
		after(time.Second)
		want := `{"ok":true,"result":[` + strings.Join(raws, ",") + `]}`
		if a := one.call("getUpdates", "timeout", "0"); a.body != want {
			t.Errorf("got\n%s\nwant\n%s", a.body, want)
		}
		one.call("getUpdates", "timeout", "0", "offset", "1003") // confirmed, without a sign
		two, again := w.bot("10.0.0.2"), make(chan answer, 1)
		go func() { again <- two.call("getUpdates", "timeout", "30") }()
		after(time.Second)
		if err := w.gateway.Next(t.Context()); err != nil {
			t.Error(err)
		}
		if a := <-again; a.body != want {
			t.Errorf("given again\n%s\nwant\n%s", a.body, want)
		}
	})
}

// What a copy confirmed and showed no sign of having handled is given to its successor, in front of all else. What was
// answered is not.
func TestWhatShowedNoSignIsGivenAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		one := w.bot("10.0.0.1")
		one.answers = false
		one.run()
		after(time.Second)
		two := w.bot("10.0.0.2").run()
		after(time.Second)
		silent, answered := w.tg.say(1, "a"), w.tg.say(2, "b")
		after(time.Second)
		one.call("sendMessage", "chat_id", "2", "text", "done")
		w.tg.expectConfirmed(silent, answered)
		one.kill()
		fresh := w.tg.say(1, "c")
		after(1500 * time.Millisecond)
		two.expectGot(silent, fresh)
		after(time.Second)
		w.tg.expectConfirmed(silent, answered, fresh)
		if n := w.metric("habot_gateway_given_again_total"); n != 1 {
			t.Errorf("%v are counted as given again", n)
		}
		if n := w.metric("habot_gateway_turns_total", "reason", "ended"); n != 1 {
			t.Errorf("%v turns ended", n)
		}
	})
}

// A call is a sign though its body is compressed, and it reaches Telegram as it is. What does not expand to parameters is none, and is
// passed on all the same: Telegram judges it.
func TestSignsInCompressedBodies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		one := w.bot("10.0.0.1")
		one.answers = false
		one.run()
		after(time.Second)
		two := w.bot("10.0.0.2").run()
		after(time.Second)
		packed := func(encoding, text string) string {
			var b bytes.Buffer
			var zip io.WriteCloser = gzip.NewWriter(&b)
			if encoding == "deflate" {
				zip = zlib.NewWriter(&b)
			}
			_, _ = io.WriteString(zip, text)
			_ = zip.Close()
			return b.String()
		}
		multi, file := uploading(2*botapi.MaxParameters, nil)
		whole, err := io.ReadAll(file)
		if err != nil {
			t.Fatal(err)
		}
		var want []int64
		for i, c := range []struct {
			encoding, body string
			sign           bool
		}{
			{"gzip", packed("gzip", `{"chat_id":1}`), true},
			{"deflate", packed("deflate", `{"chat_id":2}`), true},
			{"GZIP", packed("gzip", `{"text":"`+strings.Repeat("x", 900<<10)+`","chat_id":3}`), true},
			{"gzip", packed("gzip", string(whole)), false}, // most of it is a file, which does not count
			{"gzip", packed("gzip", `{"chat_id":5}`)[:20], false},
			{"gzip", `{"chat_id":6}`, false},
			{"br", `{"chat_id":7}`, false},
		} {
			id := w.tg.say(int64(i+1), "a")
			after(time.Second)
			kind := asJSON
			if i == 3 {
				kind = multi
			}
			a, err := one.do(t.Context(), "POST", one.path("sendMessage"), map[string]string{"Content-Type": kind, "Content-Encoding": c.encoding}, strings.NewReader(c.body))
			if got := w.tg.got("sendMessage"); err != nil || a.status != 200 || len(got) != i+1 || got[i].size != int64(len(c.body)) || len(c.body) > maxBuffered {
				t.Errorf("%d, of %d bytes: %+v, %v, %d calls", i, len(c.body), a, err, len(got))
			}
			if !c.sign {
				want = append(want, id)
			}
		}
		one.kill()
		after(1500 * time.Millisecond)
		two.expectGot(want...)
	})
}

// A change of primary changes neither the copy nor anything that it sees: its poll goes on, and what it confirmed stays so.
func TestAChangeOfPrimaryKeepsTheCopy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		first := w.start()
		one := w.bot("10.0.0.1").run()
		after(time.Second)
		two := w.bot("10.0.0.2").run()
		after(time.Second)
		a := w.tg.say(1, "a")
		after(time.Second)
		began := time.Now()
		first.end()
		if took := time.Since(began); took > time.Second {
			t.Errorf("the end of the term took %v", took)
		}
		b := w.tg.say(1, "b")
		after(2 * time.Second) // there is no primary
		w.start()
		after(time.Second)
		c := w.tg.say(1, "c")
		after(time.Second)
		one.expectGot(a, b, c)
		two.expectGot()
		w.tg.expectConfirmed(a, b, c)
		if n := len(w.tg.got("sendMessage")); n != 3 {
			t.Errorf("%d answers", n)
		}
		if n := w.metric("habot_gateway_turns_total", "reason", "first"); n != 1 {
			t.Errorf("%v turns began", n)
		}
	})
}

// While no replica is primary a poll waits as long as it asks, a call four seconds, and neither is passed on later.
func TestWithoutAPrimary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.bot("10.0.0.1")
		for method, wait := range map[string]time.Duration{"sendMessage?chat_id=1": callWait, "getChat": callWait, "getUpdates?timeout=30": 30 * time.Second, "getUpdates": callWait, "getUpdates?timeout=99": 50 * time.Second} {
			began := time.Now()
			a := b.call(method)
			if a.status != 502 || a.header.Get("Retry-After") != "1" || time.Since(began) != wait || !strings.Contains(a.body, "nothing was sent") {
				t.Errorf("%s: %+v after %v, want 502 after %v", method, a, time.Since(began), wait)
			}
		}
		started := make(chan struct{})
		go func() {
			defer close(started)
			time.Sleep(3 * time.Second)
			w.start()
		}()
		if a := b.call("sendMessage", "chat_id", "1"); a.status != 200 {
			t.Errorf("one that comes in time: %+v", a)
		}
		<-started
		if n := len(w.tg.got()); n != 1 {
			t.Errorf("%d calls reached Telegram", n)
		}
	})
}

// Without the lease no call leaves, no update is given and nothing is confirmed.
func TestWithoutTheLeaseNothingIsDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.start()
		one := w.bot("10.0.0.1").run()
		after(time.Second)
		r.held.Store(false)
		w.tg.say(1, "a")
		began := time.Now()
		if a := one.call("sendMessage", "chat_id", "1", "text", "x"); a.status != 502 || !strings.Contains(a.body, "nothing was sent") {
			t.Errorf("%+v after %v", a, time.Since(began))
		}
		after(10 * time.Second)
		one.expectGot()
		if n := len(w.tg.got()); n != 0 {
			t.Errorf("%d calls reached Telegram", n)
		}
		w.tg.expectConfirmed()
		r.held.Store(true)
		after(10 * time.Second)
		if len(one.got) != 1 || len(w.tg.got()) != 1 {
			t.Errorf("with the lease: %v, %v", one.got, w.tg.got())
		}
	})
}

// A call that has not left when the term ends, because a connection was being made for it, is the next primary's.
func TestACallThatDidNotLeaveIsTheNextPrimarys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		first := w.start()
		var dials atomic.Int32
		w.tg.answerWith(func(req *http.Request) (*http.Response, error) {
			if !strings.HasSuffix(req.URL.Path, "/sendmessage") || dials.Add(1) > 1 {
				return nil, nil
			}
			<-req.Context().Done() // its body is never read
			return nil, req.Context().Err()
		})
		started := make(chan struct{})
		go func() {
			defer close(started)
			time.Sleep(time.Second)
			first.held.Store(false)
			first.cancel()
			<-first.ended
			time.Sleep(time.Second)
			w.start()
		}()
		if a := w.bot("10.0.0.1").call("sendMessage", "chat_id", "1", "text", "x"); a.status != 200 {
			t.Errorf("%+v", a)
		}
		<-started
		if n := len(w.tg.got("sendMessage")); n != 1 {
			t.Errorf("%d calls reached Telegram", n)
		}
	})
}

// Names tell copies apart that share an address.
func TestCopiesByName(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		one := w.bot("10.0.0.1")
		one.name = "left"
		two := w.bot("10.0.0.1")
		two.name = "right"
		one.run()
		after(time.Second)
		two.run()
		after(time.Second)
		id := w.tg.say(1, "a")
		after(time.Second)
		one.expectGot(id)
		two.expectGot()
		if a := two.call("sendMessage", "chat_id", "1"); a.status != 409 || !strings.Contains(a.body, "the active copy is left") {
			t.Errorf("%+v", a)
		}
		one.kill()
		after(1500 * time.Millisecond)
		if a := two.call("sendMessage", "chat_id", "1"); a.status != 200 {
			t.Errorf("%+v", a)
		}
	})
}

// The address of another copy is no name: a copy without one is known by it.
func TestNoCopyIsNamedLikeAnAddress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		w.bot("10.0.0.1").run()
		after(time.Second)
		w.bot("10.0.0.2").run()
		after(time.Second)
		two := w.bot("10.0.0.2")
		two.name = "10.0.0.1"
		for _, method := range []string{"sendMessage?chat_id=1", "getUpdates", "getMe"} {
			if a := two.call(method); a.status != 404 || !strings.HasPrefix(a.body, `{"ok":false,"error_code":404,`) {
				t.Errorf("%s: %+v", method, a)
			}
		}
		if got := w.tg.got(); len(got) > 0 {
			t.Errorf("Telegram got %+v", got)
		}
		if s := w.gateway.Snapshot(t.Context()); s == nil || len(s.Copies) != 2 || s.Active != "10.0.0.1" {
			t.Errorf("%+v", s)
		}
	})
}

// The older of two polls at once is answered with nothing, once it has been held for a while; the newer gets what comes.
func TestTwoPollsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		one := w.bot("10.0.0.1")
		var older atomic.Pointer[answer]
		go func() {
			a := one.call("getUpdates?timeout=30")
			older.Store(&a)
		}()
		after(time.Second)
		newer := make(chan answer, 1)
		go func() { newer <- one.call("getUpdates?timeout=30") }()
		after(5 * time.Second)
		if a := older.Load(); a == nil || a.status != 200 || a.body != `{"ok":true,"result":[]}` {
			t.Errorf("the older: %+v", a)
		}
		w.tg.say(1, "a")
		if a := <-newer; !strings.Contains(a.body, `"text":"a"`) {
			t.Errorf("the newer: %+v", a)
		}
	})
}

// A copy that polls in a hot loop is held for three seconds, every other time at least.
func TestAHotLoopIsHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		for i, address := range []string{"10.0.0.1", "10.0.0.2"} { // the active one and another
			b := w.bot(address)
			began, n := time.Now(), 0
			for time.Since(began) < time.Minute {
				if a := b.call("getUpdates"); a.status != 200 {
					t.Fatalf("%+v", a)
				}
				n++
			}
			if n < 15 || n > 42 {
				t.Errorf("copy %d polled %d times in a minute", i, n)
			}
		}
	})
}

// Of a copy that confirms nothing no more than a hundred updates are in hand, or as many as it asks for, and that is reported.
func TestACopyThatNeverConfirms(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{100, 10, 1} {
		t.Run(strconv.Itoa(limit), func(t *testing.T) {
			t.Parallel()
			aCopyThatNeverConfirms(t, limit)
		})
	}
}

func aCopyThatNeverConfirms(t *testing.T, limit int) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		one := w.bot("10.0.0.1")
		for range 300 {
			w.tg.say(1, "a")
		}
		after(3 * time.Second)
		for range 20 {
			a := one.call(fmt.Sprintf("getUpdates?timeout=10&limit=%d", limit))
			if n := strings.Count(a.body, "update_id"); n > limit {
				t.Fatalf("%d updates at once", n)
			}
			after(5 * time.Second)
		}
		s := w.gateway.Snapshot(t.Context())
		if s == nil || s.InHand != limit || s.Pending != 100 {
			t.Fatalf("%+v", s)
		}
		if why := w.gateway.NoCopy(); !strings.HasPrefix(why, fmt.Sprintf("the copy 10.0.0.1 was given %d updates and has confirmed none of them for ", limit)) {
			t.Errorf("told: %q", why)
		}
		if up := w.metric("habot_gateway_up"); up != 0 {
			t.Errorf("habot_gateway_up is %v", up)
		}
		w.tg.expectConfirmed()
		if a := one.call(fmt.Sprintf("getUpdates?timeout=10&limit=%d&offset=%d", limit, 1000+limit)); strings.Count(a.body, "update_id") == 0 {
			t.Errorf("after it confirmed: %+v", a)
		}
		if why := w.gateway.NoCopy(); why != "" {
			t.Errorf("told after it confirmed: %q", why)
		}
	})
}

// leftBehind is what a former copy had of n updates.
func leftBehind(n int64) turns.State {
	left := turns.State{Roster: turns.Roster{Former: "10.0.0.9", Reason: turns.ReasonEnded}}
	for id := range n {
		left.Kept = append(left.Kept, turns.Kept{
			Update: turns.Update{ID: id + 1, Chat: 1, Raw: fmt.Appendf(nil, `{"update_id":%d}`, id+1)}, GivenAgo: time.Second,
		})
	}
	return left
}

// Updates that Telegram need not keep any more are confirmed like any other.
func TestACopyThatConfirmsWhatItIsGivenAgainConfirms(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(cfg *Config) { cfg.Replicas = &inherited{state: leftBehind(400)} })
		w.start()
		after(time.Second)
		one := w.bot("10.0.0.1")
		for offset := 0; offset < 400; offset += 100 {
			a := one.call(fmt.Sprintf("getUpdates?timeout=10&offset=%d", offset+1))
			if n := strings.Count(a.body, "update_id"); n != 100 {
				t.Fatalf("%d updates from %d on: %+v", n, offset+1, a)
			}
			for range 4 { // it takes long for them
				after(10 * time.Second)
				if why := w.gateway.NoCopy(); why != "" {
					t.Errorf("from %d on: %q", offset+1, why)
				}
			}
			if age := w.metric("habot_gateway_unconfirmed_seconds"); math.Round(age) != 40 {
				t.Errorf("from %d on nothing was confirmed for %v s, want 40", offset+1, age)
			}
		}
	})
}

// What a former copy leaves behind, and its successor is given again, is no problem before that had a minute for it.
func TestACopyThatIsGivenAHundredAgainHasTimeForThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(cfg *Config) { cfg.Replicas = &inherited{state: leftBehind(100)} })
		after(2 * stuckFor)
		w.start()
		after(time.Second)
		a := w.bot("10.0.0.1").call("getUpdates?timeout=10")
		if n := strings.Count(a.body, "update_id"); n != 100 {
			t.Fatalf("%d updates: %+v", n, a)
		}
		if why := w.gateway.NoCopy(); why != "" {
			t.Errorf("told at once: %q", why)
		}
		after(stuckFor + time.Second)
		if why := w.gateway.NoCopy(); !strings.HasPrefix(why, "the copy 10.0.0.1 was given 100 updates and has confirmed none of them for 1m") {
			t.Errorf("told after a minute: %q", why)
		}
	})
}

// The primary remembers which copy became active when, and why; of many the last 100.
func TestChangesOfTheActiveCopyAreRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		began := time.Now()
		one := w.bot("10.0.0.1").run()
		after(time.Second)
		w.bot("10.0.0.2").run()
		after(9 * time.Second)
		if err := w.gateway.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		after(10 * time.Second)
		one.kill()
		w.bot("10.0.0.3").run()
		after(10 * time.Second)
		if err := w.gateway.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		s := w.gateway.Snapshot(t.Context())
		if s == nil || s.Primary != "habot-bot-1" {
			t.Fatalf("%+v", s)
		}
		var got []string
		for _, c := range s.Changes {
			got = append(got, fmt.Sprintf("%d s: %s after %q: %s", int(c.At.Sub(began).Seconds()), c.To, c.From, c.Cause()))
		}
		if want := []string{
			`0 s: 10.0.0.1 after "": 10.0.0.1 is the first`,
			`10 s: 10.0.0.2 after "10.0.0.1": an operator moved the turn on`,
			`30 s: 10.0.0.3 after "10.0.0.2": an operator moved the turn on`,
		}; !slices.Equal(got, want) {
			t.Errorf("%q\nwant %q", got, want)
		}
		for i := range 250 {
			w.gateway.observe(turns.ActiveChanged{To: turns.CopyID(fmt.Sprint(i)), Reason: turns.ReasonGone, From: "x"})
		}
		if s := w.gateway.Snapshot(t.Context()); len(s.Changes) != 100 || s.Changes[0].To != "150" || s.Changes[99].Cause() != "x is gone: its machine is not reachable" {
			t.Errorf("%d changes are remembered", len(s.Changes))
		}
	})
}

// 500 copies stand by, each with a connection of its own; the next takes over when the active one ends.
func TestFiveHundredCopies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		var all []*bot
		for i := range 500 {
			b := w.bot(fmt.Sprintf("10.0.%d.%d", i/200, 1+i%200))
			all = append(all, b.run())
			after(time.Millisecond)
		}
		after(2 * time.Minute)
		s := w.gateway.Snapshot(t.Context())
		if s == nil || len(s.Copies) != 500 || s.Active != "10.0.0.1" {
			t.Fatalf("%+v", s)
		}
		all[0].kill()
		after(2 * time.Second)
		id := w.tg.say(1, "a")
		after(time.Second)
		got := 0
		for _, b := range all {
			b.mu.Lock()
			if len(b.errors) > 0 {
				t.Errorf("%s: %q", b.address, b.errors)
			}
			if slices.Equal(b.got, []int64{id}) {
				got++
			}
			b.mu.Unlock()
		}
		if got != 1 {
			t.Errorf("%d copies were given it", got)
		}
		if n := w.metric("habot_gateway_copies", "role", "standby"); n != 498 {
			t.Errorf("%v stand by", n)
		}
		for _, b := range all {
			go b.kill()
		}
		after(time.Second)
	})
}

// An operator moves the turn on; without another copy that waits nothing happens.
func TestNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if err := w.gateway.Next(t.Context()); !errors.Is(err, ErrUnknown) {
			t.Errorf("without a primary: %v", err)
		}
		first := w.start()
		one := w.bot("10.0.0.1").run()
		after(time.Second)
		if err := w.gateway.Next(t.Context()); !errors.Is(err, ErrNoSpare) {
			t.Errorf("alone: %v", err)
		}
		two := w.bot("10.0.0.2").run()
		after(time.Second)
		if err := w.gateway.Next(t.Context()); err != nil {
			t.Error(err)
		}
		id := w.tg.say(1, "a")
		after(time.Second)
		one.expectGot()
		two.expectGot(id)
		s := w.gateway.Snapshot(t.Context())
		if s == nil || s.Active != "10.0.0.2" || s.Reason != "operator" || len(s.Copies) != 2 || s.Copies[0].Role != roleStandby || !s.Copies[0].Polling {
			t.Errorf("%+v", s)
		}
		if lines := strings.Join(s.Lines(), "\n"); !strings.Contains(lines, "copy 10.0.0.2: active since ") || !strings.Contains(lines, "copy 10.0.0.1: standby, last request ") || !strings.Contains(lines, "Go-http-client") {
			t.Errorf("lines:\n%s", lines)
		}
		at := "last change of the active copy: 10.0.0.2 became active at " + s.Since.UTC().Format(time.TimeOnly)
		if want := at + ", 1s ago, replacing 10.0.0.1. Reason: an operator moved the turn on"; !slices.Contains(s.Lines(), want) {
			t.Errorf("no line %q in %q", want, s.Lines())
		}
		// The next primary has not seen that change: it knows what the others were sent.
		first.end()
		w.gateway.mu.Lock()
		w.gateway.changes = []Change{{At: s.Since.Add(-time.Minute), To: "10.0.0.2", Reason: "first"}} // of an earlier term of its own
		w.gateway.mu.Unlock()
		w.start()
		after(time.Second)
		if s = w.gateway.Snapshot(t.Context()); s == nil {
			t.Fatal("the next primary knows nothing")
		}
		if want := at + ", 2s ago, replacing the copy before it. Reason: an operator moved the turn on"; !slices.Contains(s.Lines(), want) {
			t.Errorf("the next primary: no line %q in %q", want, s.Lines())
		}
	})
}

// The last change of the active copy, whatever is known of it.
func TestTheLastChangeOfTheActiveCopy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		since := time.Now().Add(-90 * time.Second)
		at := " at " + since.UTC().Format(time.TimeOnly) + ", 1m30s ago"
		for _, known := range []struct {
			s    Snapshot
			want string
		}{
			{Snapshot{Active: "a"}, ""},
			{Snapshot{Active: "a", Since: since, Reason: "first"}, "a became active" + at + ". Reason: a is the first"},
			{Snapshot{Active: "a", Since: since, Reason: "ended"}, "a became active" + at + ", replacing the copy before it. Reason: the copy before it has ended, as its connections show"},
			{Snapshot{Active: "a", Since: since, Reason: "restarted"}, "a became active" + at + ". Reason: a has started over"},
			{
				Snapshot{Since: since, Reason: "gone", Changes: []Change{{At: since, To: "a", Reason: "first"}}},
				"none is active" + at + ". Reason: the copy before it is gone: its machine is not reachable",
			},
		} {
			want := known.want
			if want != "" {
				want = "last change of the active copy: " + want
			}
			if got := known.s.last(); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
	})
}

// A machine that is gone without a word is noticed: its address is unreachable. One that refuses, or from which nothing comes
// back, is not gone, and an address that was never reached shows nothing.
func TestAMachineThatIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var gone, mute atomic.Bool
		w := newWorld(t, func(cfg *Config) {
			cfg.Dial = func(ctx context.Context, _, address string) (net.Conn, error) {
				errno := syscall.ECONNREFUSED
				switch {
				case strings.HasPrefix(address, "10.0.0.2"):
					errno = syscall.EHOSTUNREACH // there is no way to it, yet its requests come
				case gone.Load():
					time.Sleep(3 * time.Second)
					errno = syscall.EHOSTUNREACH
				case mute.Load():
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}
			}
		})
		w.start()
		one := w.bot("10.0.0.1")
		one.takes, one.before = 70*time.Second, false // neither polls nor calls for a while
		one.run()
		after(10 * time.Second)
		two := w.bot("10.0.0.2").run()
		mute.Store(true)
		w.tg.say(1, "a")
		after(30 * time.Second)
		if s := w.gateway.Snapshot(t.Context()); s.Active != "10.0.0.1" {
			t.Errorf("one whose host is mute is gone: %+v", s)
		}
		gone.Store(true)
		after(10 * time.Second)
		if s := w.gateway.Snapshot(t.Context()); s.Active != "10.0.0.2" || s.Reason != "gone" {
			t.Errorf("one whose host is gone: %+v", s)
		}
		two.kill()
		one.kill()
	})
}

// So it is among many copies, though the active one was the last to come.
func TestTheActiveCopysMachineIsGoneAmongMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var gone atomic.Bool
		w := newWorld(t, func(cfg *Config) {
			cfg.Dial = func(_ context.Context, _, address string) (net.Conn, error) {
				errno := syscall.ECONNREFUSED
				if gone.Load() && strings.HasPrefix(address, "10.0.9.9:") {
					time.Sleep(3 * time.Second)
					errno = syscall.EHOSTUNREACH
				}
				return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}
			}
		})
		w.start()
		last := w.bot("10.0.9.9")
		for i := range 3 * maxProbed {
			b := w.bot(fmt.Sprintf("10.0.0.%d", 1+i)).run()
			after(time.Millisecond)
			defer b.kill()
		}
		after(time.Minute)
		last.takes, last.before = 70*time.Second, false // neither polls nor calls for a while
		last.run()
		after(time.Second)
		for i := range 3 * maxProbed { // the turn goes round
			if err := w.gateway.Next(t.Context()); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
			after(time.Millisecond)
		}
		if s := w.gateway.Snapshot(t.Context()); s.Active != "10.0.9.9" {
			t.Fatalf("active is %s", s.Active)
		}
		w.tg.say(1, "a")
		after(10 * time.Second)
		gone.Store(true)
		after(10 * time.Second)
		if s := w.gateway.Snapshot(t.Context()); s.Active == "10.0.9.9" || s.Reason != "gone" {
			t.Errorf("one whose host is gone is active: %s, %s", s.Active, s.Reason)
		}
		last.kill()
	})
}

// A replica that leaves answers the polls that it holds: frameworks log a connection that breaks as an error.
func TestAReplicaThatLeavesAnswersPolls(t *testing.T) {
	t.Parallel()
	for name, primary := range map[string]bool{"primary": true, "no primary": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				if primary {
					w.start()
				}
				go func() {
					time.Sleep(2 * time.Second)
					if primary {
						w.term.end() // first, as a service stops
					}
					w.leave()
				}()
				began := time.Now()
				a := w.bot("10.0.0.1").call("getUpdates", "timeout", "30")
				if a.status != 200 || a.body != `{"ok":true,"result":[]}` || !a.closes || time.Since(began) > 2100*time.Millisecond {
					t.Errorf("%+v after %v", a, time.Since(began))
				}
			})
		})
	}
}

// A client that keeps a connection may send on it when its replica has begun to stop: it is answered, and learns that the connection
// ends. Without open connections nothing is waited for.
func TestAReplicaThatStopsClosesConnectionsWithAnAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.bot("10.0.0.1")
		if a := b.call("getMe"); a.status != 200 || a.closes {
			t.Errorf("before: %+v", a)
		}
		w.leave()
		time.Sleep(300 * time.Millisecond)
		if a := b.call("getMe"); a.status != 200 || !a.closes || len(b.conns) != 1 {
			t.Errorf("while it stops: %+v, on %d connections", a, len(b.conns))
		}
		if a, err := b.do(t.Context(), http.MethodGet, b.path("getMe"), nil, nil); err == nil {
			t.Errorf("on a new connection: %+v", a)
		}
		began := time.Now()
		w.left()
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("without connections it took %v more", took)
		}
	})
}

// The replica asks its own port whether that answers, and keeps the connection: it is no copy's.
func TestAReplicaThatStopsWaitsForNoConnectionOfItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.bot("127.0.0.1")
		if a, err := b.do(t.Context(), http.MethodHead, "/livez", nil, nil); err != nil || a.closes {
			t.Errorf("%+v, %v", a, err)
		}
		began := time.Now()
		w.leave()
		w.left()
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("it takes %v", took)
		}
	})
}

// inherited are replicas of which one has ended that knew of a copy.
type inherited struct {
	Alone
	state turns.State
}

// Begin implements Replicas.
func (i *inherited) Begin(ctx context.Context, term int64, replicated func(seq uint64)) turns.State {
	i.Alone.Begin(ctx, term, replicated)
	return i.state
}

// A machine that had the primary and the active copy is gone: its successor, which that copy never polled, notices it by the address.
// It does not take one for gone that has a poll open with it, nor one whose host lives.
func TestAMachineThatIsGoneWithThePrimary(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		gone, polls bool
		active      turns.CopyID
	}{
		"gone":                    {gone: true, active: "10.0.0.2"},
		"its host lives":          {active: "10.0.0.1"},
		"it cannot be reached":    {gone: true, polls: true, active: "10.0.0.1"},
		"it has reached this one": {polls: true, active: "10.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var gone atomic.Bool
				w := newWorld(t, func(cfg *Config) {
					cfg.Elsewhere = func() []string { return []string{"10.0.0.1"} }
					cfg.Replicas = &inherited{state: turns.State{Roster: turns.Roster{
						Active: "10.0.0.1", Reason: turns.ReasonFirst, Members: []turns.Member{{ID: "10.0.0.1", Address: "10.0.0.1", Polled: true, Kept: true, Waits: true, HeardAgo: time.Second}},
					}}}
					cfg.Dial = func(_ context.Context, _, address string) (net.Conn, error) {
						errno := syscall.ECONNREFUSED
						if gone.Load() && strings.HasPrefix(address, "10.0.0.1:") {
							time.Sleep(3 * time.Second)
							errno = syscall.EHOSTUNREACH
						}
						return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}
					}
				})
				after(20 * time.Second)
				two := w.bot("10.0.0.2").run()
				gone.Store(c.gone)
				w.start()
				after(100 * time.Millisecond)
				one := w.bot("10.0.0.1")
				if c.polls {
					one.run()
				}
				after(4 * time.Second)
				if s := w.gateway.Snapshot(t.Context()); s.Active != string(c.active) {
					t.Errorf("active is %q, want %q", s.Active, c.active)
				}
				one.kill()
				two.kill()
			})
		})
	}
}

// A framework that stops confirms with a last poll, and ends its connections: the next copy takes over at once, and nothing is
// given twice.
func TestAFrameworkThatStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		one := w.bot("10.0.0.1").run()
		after(time.Second)
		two := w.bot("10.0.0.2").run()
		after(time.Second)
		id := w.tg.say(1, "a")
		after(time.Second)
		one.stop() // its poll is cancelled, which closes that connection
		<-one.ended
		if a := one.call(fmt.Sprintf("getUpdates?offset=%d&limit=1", one.offset)); a.body != `{"ok":true,"result":[]}` {
			t.Errorf("the last poll: %+v", a)
		}
		one.kill()
		next := w.tg.say(1, "b")
		after(300 * time.Millisecond)
		one.expectGot(id)
		two.expectGot(next)
	})
}

// The kinds of updates that the active copy asks for are those that Telegram is asked for.
func TestAllowedUpdates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		after(6 * time.Second)
		if w.tg.asked() != "-" {
			t.Errorf("before a copy polls: %q", w.tg.asked())
		}
		one, two := w.bot("10.0.0.1"), w.bot("10.0.0.2")
		one.call("getUpdates?timeout=1&allowed_updates=" + `["message","MESSAGE_reaction"]`)
		two.call("getUpdates?timeout=1&allowed_updates=" + `["poll"]`)
		one.call("getUpdates?timeout=9&allowed_updates=null")
		if w.tg.asked() != `["message","message_reaction"]` {
			t.Errorf("asked for %q", w.tg.asked())
		}
		one.call("getUpdates?timeout=9&allowed_updates=" + `[]`)
		after(6 * time.Second)
		if w.tg.asked() != `[]` {
			t.Errorf("asked for %q", w.tg.asked())
		}
	})
}

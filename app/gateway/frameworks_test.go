package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// sent is a request as a framework sends it, below /bot<token>/.
type sent struct {
	verb, target, kind, body string
	chunked                  bool
}

func posted(kind, method, body string) sent {
	return sent{verb: http.MethodPost, target: method, kind: kind, body: body}
}

func (b *bot) send(ctx context.Context, s sent) (answer, error) {
	var body io.Reader
	switch {
	case s.chunked:
		body = io.MultiReader(strings.NewReader(s.body))
	case s.body != "":
		body = strings.NewReader(s.body)
	}
	header := map[string]string{}
	if s.kind != "" {
		header["Content-Type"] = s.kind
	}
	return b.do(ctx, s.verb, b.path(s.target), header, body)
}

// framework is how a bot of one framework starts, polls and stops by default.
type framework struct {
	name  string
	start []sent
	// first is its first poll, next one with an offset, last what it polls when it stops; nil: it stops without.
	first sent
	next  func(offset int64) sent
	last  func(offset int64) sent
	// held is how long a poll is held that gets nothing.
	held time.Duration
}

// frameworks are the ones that people use, as their sources have them; each with the call by which its users skip what waits.
func frameworks(t *testing.T) []framework {
	t.Helper()
	const s = time.Second
	poll := func(kind, format string) func(int64) sent {
		return func(offset int64) sent { return posted(kind, "getUpdates", fmt.Sprintf(format, offset)) }
	}
	query := func(format string) func(int64) sent {
		return func(offset int64) sent {
			return sent{verb: http.MethodGet, target: fmt.Sprintf(format, offset)}
		}
	}
	get := func(method, body string) sent {
		return sent{verb: http.MethodGet, target: method, kind: urlencoded, body: body}
	}
	multi, _ := form(t)
	parts := func(offset int64) sent {
		kind, body := form(t, "offset", fmt.Sprint(offset), "timeout", "59")
		return sent{verb: http.MethodPost, target: "getUpdates", kind: kind, body: body, chunked: true}
	}
	kinds := "&allowed_updates=%%5B%%22message%%22%%2C+%%22callback_query%%22%%5D"
	return []framework{
		{
			"python-telegram-bot 22", []sent{posted(urlencoded, "getMe", ""), posted(urlencoded, "deleteWebhook", "drop_pending_updates=true")},
			posted(urlencoded, "getUpdates", "offset=0&timeout=10"), poll(urlencoded, "offset=%d&timeout=10"), poll(urlencoded, "offset=%d&timeout=0"), 10 * s,
		},
		{
			"python-telegram-bot 13", []sent{posted(asJSON, "getMe", "{}"), posted(asJSON, "deleteWebhook", `{"drop_pending_updates": true}`)},
			posted(asJSON, "getUpdates", `{"timeout": "10"}`), poll(asJSON, `{"offset": "%d", "timeout": "10"}`), nil, 10 * s,
		},
		{
			"aiogram", []sent{posted(urlencoded, "deleteWebhook", "drop_pending_updates=True"), posted(urlencoded, "getMe", "")},
			posted(urlencoded, "getUpdates", strings.ReplaceAll("timeout=10"+kinds, "%%", "%")), poll(urlencoded, "offset=%d&timeout=10"+kinds), nil, 10 * s,
		},
		{
			"pyTelegramBotAPI", []sent{{verb: http.MethodGet, target: "getUpdates?offset=-1&timeout=20"}, {verb: http.MethodGet, target: "getMe"}},
			sent{verb: http.MethodGet, target: "getUpdates?offset=1&timeout=20"}, query("getUpdates?offset=%d&timeout=20"), nil, 20 * s,
		},
		{
			"pyTelegramBotAPI, everything in the query of a POST",
			[]sent{posted("", "getUpdates?offset=-1&timeout=20", ""), posted("", "getMe", ""), posted("", "deleteWebhook?drop_pending_updates=True", "")},
			posted("", "getUpdates?offset=1&timeout=20", ""), func(offset int64) sent { return posted("", fmt.Sprintf("getUpdates?timeout=20&offset=%d", offset), "") }, nil, 20 * s,
		},
		{
			"pyTelegramBotAPI, asynchronous", []sent{get("getUpdates", "offset=-1"), get("getMe", "")},
			get("getUpdates", "timeout=20"), func(offset int64) sent { return get("getUpdates", fmt.Sprintf("offset=%d&timeout=20", offset)) }, nil, 20 * s,
		},
		{
			"telegraf", []sent{posted(asJSON, "getMe", "{}"), posted(asJSON, "deleteWebhook", `{"drop_pending_updates":true}`)},
			posted(asJSON, "getUpdates", `{"timeout":50,"offset":0,"allowed_updates":[]}`), poll(asJSON, `{"timeout":50,"offset":%d,"allowed_updates":[]}`),
			poll(asJSON, `{"offset":%d,"limit":1}`), 50 * s,
		},
		{
			"grammY", []sent{posted(asJSON, "getMe", "{}"), posted(asJSON, "deleteWebhook", `{"drop_pending_updates":true}`)},
			posted(asJSON, "getUpdates", `{"offset":1,"limit":100,"timeout":30,"allowed_updates":[]}`), poll(asJSON, `{"offset":%d,"limit":100,"timeout":30}`),
			poll(asJSON, `{"offset":%d,"limit":1}`), 30 * s,
		},
		{
			"grammY's runner", []sent{posted(asJSON, "getMe", "{}")},
			posted(asJSON, "getUpdates", `{"offset":0,"limit":100,"timeout":30}`), poll(asJSON, `{"offset":%d,"limit":87,"timeout":30}`), nil, 30 * s,
		},
		{
			"node-telegram-bot-api 0.67", nil,
			posted(urlencoded, "getUpdates", "timeout=10&offset=0"), poll(urlencoded, "timeout=10&offset=%d"), poll(urlencoded, "offset=%d&limit=1&timeout=0"), 10 * s,
		},
		{"node-telegram-bot-api 2", nil, posted(urlencoded, "getUpdates", "timeout=30"), poll(urlencoded, "offset=%d&timeout=30"), nil, 30 * s},
		{"telego", nil, posted(asJSON, "getUpdates", `{"timeout":8}`), poll(asJSON, `{"offset":%d,"timeout":8}`), nil, 8 * s},
		{
			"telebot, as its README has it", []sent{posted(asJSON, "getMe", "null\n")},
			posted(asJSON, "getUpdates", `{"allowed_updates":"null","offset":"1","timeout":"10"}`), poll(asJSON, `{"allowed_updates":"null","offset":"%d","timeout":"10"}`), nil, 10 * s,
		},
		{
			"telebot", []sent{posted(asJSON, "getMe", "null\n")},
			posted(asJSON, "getUpdates", `{"allowed_updates":"null","offset":"1","timeout":"0"}`), poll(asJSON, `{"allowed_updates":"null","offset":"%d","timeout":"0"}`), nil, 3 * s,
		},
		{"go-telegram", []sent{posted(multi, "getMe", "")}, parts(1), parts, nil, 50 * s},
		{
			"go-telegram-bot-api", []sent{posted(urlencoded, "getMe", "")},
			posted(urlencoded, "getUpdates", "allowed_updates=null&timeout=60"), poll(urlencoded, "allowed_updates=null&offset=%d&timeout=60"), nil, 50 * s,
		},
		{
			"go-telegram-bot-api without a timeout", []sent{posted(urlencoded, "getMe", "")},
			posted(urlencoded, "getUpdates", "allowed_updates=null"), poll(urlencoded, "allowed_updates=null&offset=%d"), nil, 3 * s,
		},
	}
}

const none = `{"ok":true,"result":[]}`

// eachFramework runs a test for each, side by side.
func eachFramework(t *testing.T, test func(t *testing.T, f framework)) {
	t.Helper()
	for _, f := range frameworks(t) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, f) })
		})
	}
}

// A bot of each framework starts beside an active copy: what it calls is answered at once and throws nothing away, its polls
// are held and bring nothing, and what it confirms or asks for is not.
func TestEachFrameworkStartsAsAStandby(t *testing.T) {
	t.Parallel()
	eachFramework(t, func(t *testing.T, f framework) {
		w := newWorld(t)
		w.start()
		one, two := w.bot("10.0.0.1"), w.bot("10.0.0.2")
		one.call("getUpdates?timeout=1&allowed_updates=" + `["message"]`)
		id := w.tg.say(1, "a")
		if a := one.call("getUpdates?timeout=10"); !strings.Contains(a.body, fmt.Sprint(id)) {
			t.Fatalf("the active copy: %+v", a)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() { // it lives, and confirms nothing
			for ctx.Err() == nil {
				_, _ = one.send(ctx, posted("", "getUpdates?timeout=1", ""))
				select {
				case <-time.After(20 * time.Second):
				case <-ctx.Done():
				}
			}
		}()
		ask := func(what string, s sent, takes time.Duration, want string) {
			t.Helper()
			began := time.Now()
			a, err := two.send(t.Context(), s)
			if took := time.Since(began); err != nil || a.status != 200 || !strings.Contains(a.body, want) || took != takes {
				t.Errorf("%s: %+v, %v after %v, want %s after %v", what, a, err, took, want, takes)
			}
		}
		for _, s := range f.start {
			takes, want := time.Duration(0), `{"ok":true,`
			if strings.HasPrefix(s.target, "getUpdates") { // skips what waits
				takes, want = 3*time.Second, none
			}
			ask("start: "+s.target, s, takes, want)
		}
		skips := f.start != nil && strings.HasPrefix(f.start[0].target, "getUpdates")
		ask("setMyCommands", posted(asJSON, "setMyCommands", `{"commands":[]}`), 0, `"ok":true`)
		if !skips { // that was its first poll
			ask("its greeting", posted(asJSON, "sendMessage", `{"chat_id":5,"text":"I am up"}`), 0, `"ok":true`)
		}
		ask("the first poll", f.first, f.held, none)
		ask("one that confirms", f.next(id+1), f.held, none)
		if f.last != nil {
			ask("the last poll", f.last(id+1), 3*time.Second, none)
		}
		w.tg.expectConfirmed()
		if w.tg.asked() != `["message"]` {
			t.Errorf("asked for %s", w.tg.asked())
		}
		if a := one.call("getUpdates?timeout=10"); !strings.Contains(a.body, fmt.Sprint(id)) {
			t.Errorf("the active copy then: %+v", a)
		}
		for _, c := range w.tg.got() {
			if c.path != "/botT/setmycommands" && c.path != "/botT/sendmessage" {
				t.Errorf("Telegram got %+v", c)
			}
		}
	})
}

// What frameworks ask for before all else is answered at once also while no replica is primary.
func TestEachFrameworkStartsWithoutAPrimary(t *testing.T) {
	t.Parallel()
	eachFramework(t, func(t *testing.T, f framework) {
		w := newWorld(t)
		after(time.Second)
		b := w.bot("10.0.0.2")
		for _, s := range f.start {
			if strings.HasPrefix(s.target, "getUpdates") {
				continue
			}
			began := time.Now()
			if a, err := b.send(t.Context(), s); err != nil || a.status != 200 || time.Since(began) > 0 {
				t.Errorf("%s: %+v, %v after %v", s.target, a, err, time.Since(began))
			}
		}
	})
}

// transports are the ways in which clients use connections.
func transports() map[string]func(*http.Transport) {
	return map[string]func(*http.Transport){
		"kept":            func(*http.Transport) {},
		"one each":        func(tr *http.Transport) { tr.DisableKeepAlives = true },
		"HTTP/2 in clear": func(tr *http.Transport) { tr.Protocols = unencrypted() },
	}
}

func unencrypted() *http.Protocols {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	return &p
}

// A bot of each framework is given updates from its first poll on, confirms them with its polls, whatever becomes of its connections,
// and is noticed when it ends: what it did not get is the next copy's, and nothing is given twice.
func TestEachFrameworkAsTheActiveCopy(t *testing.T) {
	t.Parallel()
	for name, change := range transports() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachFramework(t, func(t *testing.T, f framework) {
				w := newWorld(t)
				w.start()
				one := w.bot("10.0.0.1")
				transport, ok := one.http.Transport.(*http.Transport)
				if !ok {
					t.Fatal("another transport")
				}
				change(transport)
				w.tg.say(1, "first") // before it starts, and skips what waits
				after(time.Second)
				for _, s := range f.start {
					if a, err := one.send(t.Context(), s); err != nil || a.status != 200 {
						t.Errorf("%s: %+v, %v", s.target, a, err)
					}
				}
				first, second := int64(1000), int64(1001)
				two := w.bot("10.0.0.2")
				var killed atomic.Bool
				// polls polls, once more if that brings nothing, as one without a timeout may.
				polls := func(ctx context.Context, s sent) <-chan answer {
					got := make(chan answer, 1)
					go func() {
						a, err := one.send(ctx, s)
						if err == nil && a.body == none && ctx.Err() == nil {
							a, err = one.send(ctx, s)
						}
						if err != nil && ctx.Err() == nil && !killed.Load() {
							t.Errorf("%+v: %v", s, err)
						}
						got <- a
					}()
					after(time.Second)
					return got
				}
				brings := func(got <-chan answer, id int64) {
					t.Helper()
					if a := <-got; a.status != 200 || strings.Count(a.body, "update_id") != 1 || !strings.Contains(a.body, fmt.Sprintf(`"update_id":%d,`, id)) {
						t.Errorf("a poll that is to bring %d: %+v", id, a)
					}
				}
				answers := func() { // while it polls
					t.Helper()
					if a, err := one.send(t.Context(), posted(urlencoded, "sendMessage", "chat_id=1&text=x")); err != nil || a.status != 200 {
						t.Errorf("its answer: %+v, %v", a, err)
					}
				}
				polling, cancel := context.WithCancel(t.Context())
				defer cancel()
				brings(polls(polling, f.first), first)
				two.run()
				got := polls(polling, f.next(first+1))
				answers()
				w.tg.say(1, "second")
				brings(got, second)
				got = polls(polling, f.next(second+1))
				answers()
				after(time.Second)
				w.tg.expectConfirmed(first, second)
				left := int64(1002)
				if f.last != nil {
					cancel() // which closes that connection, or resets that stream
					<-got
					w.tg.say(1, "not seen")
					after(100 * time.Millisecond)
					if a, err := one.send(t.Context(), f.last(second+1)); err != nil || a.body != none {
						t.Errorf("the last poll: %+v, %v", a, err)
					}
					one.kill()
				} else {
					killed.Store(true)
					one.kill()
					cancel()
					<-got
					after(1200 * time.Millisecond)
					w.tg.say(1, "not seen")
				}
				after(1500 * time.Millisecond)
				two.expectGot(left)
				w.tg.expectConfirmed(first, second, left)
			})
		})
	}
}

package gateway

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/botapi"
)

// form are parts of a multipart body.
func form(t *testing.T, fields ...string) (kind, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i+1 < len(fields); i += 2 {
		if err := w.WriteField(fields[i], fields[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), b.String()
}

const (
	urlencoded = "application/x-www-form-urlencoded"
	asJSON     = "application/json"
)

// Every way in which a framework polls is understood: it is given the update from 1001 on.
func TestPollsAreUnderstoodInEachEncoding(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		multi, parts := form(t, "offset", "1001", "timeout", "59", "limit", "100")
		bot := "/bot" + copyToken
		for name, r := range map[string]struct{ verb, path, kind, body string }{
			"query of a GET":        {"GET", bot + "/getUpdates?offset=1001&timeout=20", "", ""},
			"query of a POST":       {"POST", bot + "/getUpdates?offset=1001&timeout=20&long_polling_timeout=20", "", ""},
			"form":                  {"POST", bot + "/getUpdates", urlencoded, "offset=1001&timeout=10"},
			"form of a GET":         {"GET", bot + "/getUpdates", urlencoded, "offset=1001&timeout=20"},
			"JSON":                  {"POST", bot + "/getUpdates", asJSON, `{"offset":1001,"timeout":30,"allowed_updates":[]}`},
			"JSON, all strings":     {"POST", bot + "/getUpdates", asJSON, `{"offset":"1001","timeout":"10","allowed_updates":"null"}`},
			"null as kinds":         {"POST", bot + "/getUpdates", urlencoded, "offset=1001&timeout=60&allowed_updates=null"},
			"multipart":             {"POST", bot + "/getUpdates", multi, parts},
			"any case":              {"POST", bot + "/GETupdates", urlencoded, "offset=1001&timeout=9"},
			"method as a parameter": {"GET", bot + "/?method=getUpdates&offset=1001&timeout=9", "", ""},
			"method in the body":    {"POST", bot + "/", urlencoded, "method=GetUpdates&offset=1001&timeout=9"},
			"slashes":               {"GET", "//bot" + copyToken + "/getUpdates?offset=1001&timeout=9", "", ""},
			"escaped colon":         {"GET", "/bot" + strings.Replace(copyToken, ":", "%3A", 1) + "/getUpdates?offset=1001&timeout=9", "", ""},
			"query before body":     {"POST", bot + "/getUpdates?offset=1001", urlencoded, "offset=5&timeout=9"},
		} {
			w.start()
			b := w.bot("10.0.0.1")
			first, second := w.tg.say(1, "a"), w.tg.say(1, "b")
			// The framework has the first already.
			if a, err := b.do(t.Context(), "GET", b.path("getUpdates")+"?timeout=20", nil, nil); err != nil || !strings.Contains(a.body, fmt.Sprint(first)) {
				t.Fatalf("%s: %+v, %v", name, a, err)
			}
			after(4 * time.Second) // one that polls often is held
			path := strings.Replace(r.path, "1001", fmt.Sprint(second), 1)
			body := strings.Replace(r.body, "1001", fmt.Sprint(second), 1)
			began := time.Now()
			a, err := b.do(t.Context(), r.verb, path, map[string]string{"Content-Type": r.kind}, strings.NewReader(body))
			if err != nil || a.status != 200 || strings.Contains(a.body, fmt.Sprint(first)) || !strings.Contains(a.body, fmt.Sprint(second)) || time.Since(began) > 0 {
				t.Errorf("%s: %+v, %v after %v", name, a, err, time.Since(began))
			}
			if kind := a.header.Get("Content-Type"); kind != botapi.ContentType {
				t.Errorf("%s: content type %q", name, kind)
			}
			if _, err := b.do(t.Context(), "GET", b.path("getUpdates")+fmt.Sprintf("?offset=%d", second+1), nil, nil); err != nil {
				t.Error(err)
			}
			b.kill()
			after(4 * time.Second)
			w.term.end()
			w.gateway.cfg.Replicas = &Alone{}
		}
	})
}

// A member of the cluster that is no replica of ours may be who a request is passed on to.
func TestWhatIsPassedOnToAnotherReplicaHasNoToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var passedOn []string
		moved := make(chan struct{})
		w := newWorld(t, func(cfg *Config) {
			cfg.Pass.Primary = func() (string, string, <-chan struct{}) { return "process-2", "10.0.1.2", moved }
			cfg.Pass.Forward = func(_ context.Context, _ string, r *http.Request, origin string) (*http.Response, error) {
				body, _ := io.ReadAll(r.Body)
				passedOn = append(passedOn, fmt.Sprint(r.URL.RequestURI(), " ", r.URL, " ", r.Header, " ", origin, " ", string(body)))
				return jsonAnswer(200, `{"ok":true,"result":[]}`), nil
			}
		})
		b := w.bot("10.0.0.1")
		escaped := strings.Replace(copyToken, ":", "%3A", 1)
		paths := []string{
			"/bot" + copyToken + "/getChat?chat_id=1", "/bot" + copyToken + "/getUpdates", "//bot" + escaped + "/sendMessage?chat_id=1&text=a",
			"/copy/one/bot" + copyToken + "/getChat", "/bot" + copyToken + "/test/getChat",
			"/bot" + copyToken + "/?method=getChat",
		}
		for _, path := range paths {
			if a, err := b.do(t.Context(), "POST", path, nil, strings.NewReader("")); err != nil || a.status != 200 {
				t.Errorf("%s: %+v, %v", path, a, err)
			}
		}
		if len(passedOn) != len(paths) {
			t.Errorf("%d of %d were passed on", len(passedOn), len(paths))
		}
		w.expectNoToken(strings.ReplaceAll(strings.Join(passedOn, "\n"), "%3A", ":"))
	})
}

// What is answered here never reaches Telegram, however it is spelled.
func TestAnsweredHere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t) // not even a primary is needed
		after(time.Second)
		b := w.bot("10.0.0.1")
		multi, _ := form(t)
		bot := "/bot" + copyToken
		for _, r := range []struct {
			verb, path, kind, body string
			status                 int
			want                   string
		}{
			{"POST", bot + "/getMe", "", "", 200, `"username":"test_bot"`},
			{"GET", bot + "/GETME", "", "", 200, `"username":"test_bot"`},
			{"POST", bot + "/getMe", multi, "", 200, `"username":"test_bot"`}, // go-telegram
			{"POST", bot + "/getMe", asJSON, "null", 200, `"username":"test_bot"`},
			{"POST", bot + "/deleteWebhook", asJSON, `{"drop_pending_updates":true}`, 200, `"result":true`},
			{"GET", bot + "/deletewebhook?drop_pending_updates=Yes", "", "", 200, `"result":true`},
			{"POST", bot + "/setWebhook", urlencoded, "url=https%3A%2F%2Fx", 400, "BACKEND"},
			{"POST", bot + "/SETWEBHOOK?url=https://x", "", "", 400, "BACKEND"},
			{"POST", bot + "/setWebHook", urlencoded, "", 200, `"result":true`}, // node-telegram-bot-api 0.67 after a 409
			{"POST", bot + "/getWebhookInfo", "", "", 200, `"url":""`},
			{"POST", bot + "/logOut", "", "", 400, "log the bot out"},
			{"GET", bot + "/LOGOUT", "", "", 400, "log the bot out"},
			{"GET", bot + "/?method=logOut", "", "", 400, "log the bot out"},
			{"POST", bot + "/", urlencoded, "method=LogOut", 400, "log the bot out"},
			{"POST", bot + "/", asJSON, `{"method":"logOut"}`, 400, "log the bot out"},
			{"POST", "//bot" + copyToken + "/Close", "", "", 400, "close"},
			{"POST", "/copy/a/bot" + copyToken + "/close", "", "", 400, "close"},
			{"POST", bot + "/test/logOut", "", "", 400, "log the bot out"},
			{"GET", bot + "/test/getUpdates", "", "", 400, "test servers"},
			{"DELETE", bot + "/getMe", "", "", 501, "GET and POST"},
			{"PUT", bot + "/getMe", "", "", 501, "GET and POST"},
			{"GET", "/", "", "", 404, "Not Found"},
			{"GET", "/next", "", "", 404, "Not Found"},
			{"GET", "/copies", "", "", 404, "Not Found"},
			{"GET", bot, "", "", 404, "Not Found"},
			{"GET", bot + "/", "", "", 404, "Not Found"},
			{"GET", bot + "/getMe/x", "", "", 404, "Not Found"},
			{"GET", bot + "/get-me", "", "", 404, "Not Found"},
			{"GET", "/file/bot" + copyToken + "/../../etc/passwd", "", "", 404, "Not Found"},
			{"GET", "/file/bot" + copyToken + "/a/%2e%2e/%2e%2e/getMe", "", "", 404, "Not Found"},
			{"GET", "/file/bot" + copyToken + "/a/..%2f..%2fgetMe", "", "", 404, "Not Found"},
			{"GET", "/copy/a%2fb/bot" + copyToken + "/getMe", "", "", 404, "Not Found"},
		} {
			a, err := b.do(t.Context(), r.verb, r.path, map[string]string{"Content-Type": r.kind}, strings.NewReader(r.body))
			if err != nil || a.status != r.status || !strings.Contains(a.body, r.want) {
				t.Errorf("%s %s: %+v, %v; want %d, %s", r.verb, r.path, a, err, r.status, r.want)
			}
			if r.status >= 400 && !strings.HasPrefix(a.body, fmt.Sprintf(`{"ok":false,"error_code":%d,"description":"`, r.status)) {
				t.Errorf("%s %s: %s", r.verb, r.path, a.body)
			}
		}
		if got := w.tg.got(); len(got) > 0 {
			t.Errorf("Telegram got %+v", got)
		}
		if n := w.logged("a copy asked to drop pending updates"); n != 1 {
			t.Errorf("dropping is logged %d times", n)
		}
	})
}

// How many updates wait the primary knows: a replica that is not primary asks it, and does not wait long.
func TestHowManyUpdatesWaitIsWhatThePrimaryKnows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		primary, moved := "", make(chan struct{})
		w := newWorld(t, func(cfg *Config) {
			cfg.Pass.Primary = func() (string, string, <-chan struct{}) { return primary, "10.0.1.2", moved }
			cfg.Pass.Forward = func(_ context.Context, _ string, r *http.Request, _ string) (*http.Response, error) {
				if r.URL.Path != pathCopies {
					t.Errorf("passed on: %s", r.URL.Path)
				}
				return jsonAnswer(200, `{"pending":17}`), nil
			}
		})
		b := w.bot("10.0.0.1")
		ask := func(want string, within time.Duration) {
			t.Helper()
			began := time.Now()
			if a := b.call("getWebhookInfo"); a.status != 200 || !strings.Contains(a.body, `"pending_update_count":`+want+"}") || time.Since(began) > within {
				t.Errorf("%+v after %v, want %s", a, time.Since(began), want)
			}
		}
		ask("0", seenBound)
		primary = "process-2"
		ask("17", 0)
		primary = "process-1"
		w.start()
		after(time.Second)
		w.tg.say(1, "a")
		after(time.Second)
		ask("1", 0)
	})
}

// What Telegram answers habot is no matter of the copies: no refusal, page or failure of a poll reaches one, and getMe is answered from memory.
func TestWhatTelegramAnswersToHabotsPollsReachesNoCopy(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]func() (*http.Response, error){
		"conflict": func() (*http.Response, error) {
			return jsonAnswer(409, `{"ok":false,"error_code":409,"description":"Conflict: terminated by other getUpdates request"}`), nil
		},
		"unauthorized": func() (*http.Response, error) {
			return jsonAnswer(401, `{"ok":false,"error_code":401,"description":"Unauthorized"}`), nil
		},
		"not found": func() (*http.Response, error) {
			return jsonAnswer(404, `{"ok":false,"error_code":404,"description":"Not Found"}`), nil
		},
		"limited": func() (*http.Response, error) {
			return jsonAnswer(429, `{"ok":false,"error_code":429,"description":"Too Many Requests","parameters":{"retry_after":3}}`), nil
		},
		"a page": func() (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusBadGateway, Header: http.Header{"Content-Type": {"text/html"}}, Body: io.NopCloser(strings.NewReader("<html>"))}, nil
		},
		"nothing": func() (*http.Response, error) { return nil, errGone },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.start()
				after(time.Second)
				w.tg.refuseAll(refusal)
				after(meEvery + time.Minute) // it has asked for the bot again, in vain
				for i, address := range []string{"10.0.0.1", "10.0.0.2"} {
					b := w.bot(address)
					if a := b.call("getMe"); a.status != 200 || !strings.Contains(a.body, "test_bot") {
						t.Errorf("getMe: %+v", a)
					}
					for range 3 {
						began := time.Now()
						if a := b.call("getUpdates?timeout=20"); a.status != 200 || a.body != none || time.Since(began) != 20*time.Second {
							t.Errorf("copy %d: %+v after %v", i, a, time.Since(began))
						}
					}
				}
				w.tg.refuseAll(nil)
				after(2 * time.Minute)
				id := w.tg.say(1, "a")
				after(time.Second)
				if a := w.bot("10.0.0.1").call("getUpdates?timeout=20"); !strings.Contains(a.body, fmt.Sprint(id)) {
					t.Errorf("then: %+v", a)
				}
			})
		})
	}
}

// Wrong tokens are refused after a while, and those that are too many at once as such. The real token is wrong, too.
func TestWrongTokens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		b := w.bot("10.0.0.9")
		for _, token := range []string{realToken, copyToken + "x", copyToken[:len(copyToken)-1], "1:x", ":", "None", "", strings.Repeat("1", 90) + ":x"} {
			for _, path := range []string{"/bot" + token + "/sendMessage", "/file/bot" + token + "/a", "/copy/a/bot" + token + "/getUpdates", "/bot" + token + "/logOut"} {
				began := time.Now()
				a, err := b.do(t.Context(), "POST", path, nil, nil)
				if err != nil || a.status != 401 || time.Since(began) != refusalWait {
					t.Errorf("%s: %+v, %v after %v", path, a, err, time.Since(began))
				}
			}
		}
		for range 3 * maxRefusals {
			go func() {
				began := time.Now()
				a, err := b.do(t.Context(), "GET", "/bot1:x/getMe", nil, nil)
				if took := time.Since(began); err == nil && (a.status != 401 || took != refusalWait) && (a.status != 429 || took > 0) {
					t.Errorf("%+v after %v", a, took)
				}
			}()
		}
		after(500 * time.Millisecond)
		if a := b.call("getWebhookInfo"); a.status != 200 {
			t.Errorf("beside them: %+v", a)
		}
		after(5 * time.Second)
		if n := w.metric("habot_gateway_refused_tokens_total"); n != 32+3*maxRefusals {
			t.Errorf("%v are counted", n)
		}
		if got := w.tg.got(); len(got) > 0 {
			t.Errorf("Telegram got %+v", got)
		}
	})
}

func (w *world) metric(name string, labels ...string) float64 {
	w.t.Helper()
	families, err := w.reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
	next:
		for _, m := range family.GetMetric() {
			for i := 0; i+1 < len(labels); i += 2 {
				found := false
				for _, l := range m.GetLabel() {
					found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
				}
				if !found {
					continue next
				}
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return -1
}

// A call reaches Telegram as it is: its query, its body, its encoding, byte for byte; the token is the real one, and the method
// stands in the path.
func TestCallsPassAsTheyAre(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		b := w.bot("10.0.0.1") // does not poll: a client
		multi, parts := form(t, "chat_id", "5", "text", "hi")
		long := strings.Repeat("x", 200<<10)
		bot := "/bot" + copyToken
		for i, r := range []struct{ verb, path, kind, body, method, query string }{
			{"POST", bot + "/sendMessage", urlencoded, "chat_id=1&text=%C3%A4", "sendmessage", ""},
			{"GET", bot + "/sendMessage", urlencoded, "chat_id=1&text=a", "sendmessage", ""},
			{"POST", bot + "/sendMessage?chat_id=1&text=" + long, "", "", "sendmessage", "chat_id=1&text=" + long},
			{"POST", bot + "/SendMessage", asJSON, `{"chat_id":1,"new":[{}]}`, "sendmessage", ""},
			{"POST", bot + "/sendMessage", multi, parts, "sendmessage", ""},
			{"POST", bot + "/", urlencoded, "method=sendMessage&chat_id=1", "sendmessage", ""},
			{"POST", bot + "/sendMessage", asJSON, `{"broken`, "sendmessage", ""}, // the real server ignores it
			{"POST", bot + "/of_the_future", asJSON, `{}`, "of_the_future", ""},
			{"GET", bot + "/getChat?chat_id=1", "", "", "getchat", "chat_id=1"},
			{"POST", bot + "/test/sendMessage", asJSON, `{}`, "test/sendmessage", ""},
		} {
			var body io.Reader = strings.NewReader(r.body)
			if i%2 == 1 {
				body = io.MultiReader(body) // chunked
			}
			a, err := b.do(t.Context(), r.verb, r.path, map[string]string{"Content-Type": r.kind}, body)
			got := w.tg.got()
			if err != nil || a.status != 200 || len(got) != i+1 {
				t.Fatalf("%s: %+v, %v, %d calls", r.path[:50], a, err, len(got))
			}
			if c := got[i]; c.path != "/botT/"+r.method || c.query != r.query || c.body != r.body || c.kind != r.kind {
				t.Errorf("%.60s reached Telegram as %+v", r.path, c)
			}
		}
	})
}

// What is too large is refused before it is read, and nothing of it reaches Telegram.
func TestTooMuch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		b := w.bot("10.0.0.1")
		big := strings.Repeat("x", botapi.MaxParameters)
		multi, parts := form(t, "chat_id", "1", "text", big)
		zipped := func(text string) string {
			var packed bytes.Buffer
			zip := gzip.NewWriter(&packed)
			_, _ = io.WriteString(zip, text)
			_ = zip.Close()
			if packed.Len() > maxBuffered {
				t.Errorf("%d bytes are no small body", packed.Len())
			}
			return packed.String()
		}
		for _, r := range []struct {
			path, kind, body string
			status           int
			encoding         string
		}{
			{b.path("sendMessage"), urlencoded, "chat_id=1&text=" + big, 413, ""},
			{b.path("sendMessage"), asJSON, `{"text":"` + big + `"}`, 413, ""},
			{b.path("sendMessage"), multi, parts, 413, ""},
			{b.path("setMyCommands"), asJSON, `{"commands":"` + big + `"}`, 413, ""},
			{b.path("getChat"), urlencoded, "chat_id=" + big, 413, ""},
			{b.path("sendChatAction"), multi, parts, 413, ""},
			{b.path("getUpdates"), urlencoded, "x=" + big, 413, ""},
			{b.path(""), urlencoded, "method=sendMessage&x=" + big, 413, ""},
			{b.path("sendMessage"), asJSON, zipped(`{"chat_id":1,"text":"` + big + `"}`), 413, "gzip"},
			{b.path("sendMessage"), multi, zipped(parts), 413, "gzip"},
			{b.path("setMyCommands"), asJSON, zipped(`{"commands":"` + big + big + `"}`), 413, "gzip"},
			{b.path("sendMessage") + "?text=" + strings.Repeat("y", maxHeaders+8<<10), "", "", 431, ""},
		} {
			a, err := b.do(t.Context(), "POST", r.path, map[string]string{"Content-Type": r.kind, "Content-Encoding": r.encoding}, strings.NewReader(r.body))
			if err != nil || a.status != r.status {
				t.Errorf("%.80s: %.200v, %v, want %d", r.path, a, err, r.status)
			}
		}
		if got := w.tg.got(); len(got) > 0 {
			t.Errorf("Telegram got %d calls", len(got))
		}
		if a := b.call("sendMessage", "chat_id", "1", "text", strings.Repeat("x", 900<<10)); a.status != 200 {
			t.Errorf("one within the bounds: %v", a)
		}
	})
}

func TestAPollsQueryIsWhatItAsksFor(t *testing.T) {
	t.Parallel()
	for _, u := range []botapi.Updates{
		{Limit: 1}, {Offset: -1 << 31, Limit: 100, Timeout: 50 * time.Second}, {Offset: 7, Limit: 9, Timeout: time.Second, Allowed: `["message","poll"]`}, {Limit: 5, Allowed: "[]"},
	} {
		p, err := botapi.ReadParams(pollQuery(u), "", "", strings.NewReader(""), append(botapi.Wanted("getupdates"), "method")...)
		if got := botapi.UpdatesIn(p); err != nil || got != u || p["method"] != "getUpdates" {
			t.Errorf("%+v is %+v, %v", u, got, err)
		}
	}
}

// A poll with a large body is answered like any other, on the primary and through another replica, and what is kept of it while it
// waits is small. More than the bound of parameters is refused.
func TestPollsWithLargeBodies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		primary := w.gateway.Passer()
		away := newWorld(t, func(cfg *Config) {
			cfg.Replica = "process-2"
			cfg.Pass.Primary = func() (string, string, <-chan struct{}) { return "process-1", "10.0.1.1", nil }
			cfg.Pass.Forward = func(ctx context.Context, _ string, r *http.Request, origin string) (*http.Response, error) {
				if size := r.ContentLength + int64(len(r.URL.RawQuery)); size < 0 || size > 1024 {
					t.Errorf("%d bytes of a poll are passed on", size)
				}
				rec := httptest.NewRecorder()
				if err := primary.Forwarded(rec, r.WithContext(ctx), origin); err != nil {
					return nil, err
				}
				return rec.Result(), nil
			}
		})
		id := w.tg.say(1, "a")
		after(time.Second)
		filler := strings.Repeat("x", 200<<10)
		var packed bytes.Buffer
		zip := gzip.NewWriter(&packed)
		random := rand.NewChaCha8([32]byte{})
		noise := make([]byte, 100<<10)
		_, _ = random.Read(noise)
		_, _ = fmt.Fprintf(zip, `{"timeout":9,"offset":%d,"limit":"7","x":"%x"}`, id, noise)
		_ = zip.Close()
		multi, parts := form(t, "timeout", "9", "offset", strconv.FormatInt(id, 10), "x", filler)
		for name, world := range map[string]*world{"primary": w, "standby": away} {
			b := world.bot("10.0.0.1")
			for _, r := range []struct{ query, kind, encoding, body string }{
				{"", urlencoded, "", fmt.Sprintf("x=%s&timeout=9&offset=%d", filler, id)},
				{"", asJSON, "", fmt.Sprintf(`{"x":"%s","timeout":9,"offset":%d,"allowed_updates":["message","poll"]}`, filler, id)},
				{"", multi, "", parts},
				{"", asJSON, "gzip", packed.String()},
				{fmt.Sprintf("?timeout=9&offset=%d&x=%s", id, filler[:100<<10]), urlencoded, "", "timeout=1&offset=1&x=" + filler},
				{"?method=getUpdates", urlencoded, "", fmt.Sprintf("x=%s&timeout=9&offset=%d", filler, id)},
			} {
				if len(r.body) <= maxBuffered {
					t.Errorf("%d bytes are no large body", len(r.body))
				}
				path := b.path("getUpdates") + r.query
				if strings.HasPrefix(r.query, "?method") {
					path = b.path("") + r.query
				}
				a, err := b.do(t.Context(), "POST", path, map[string]string{"Content-Type": r.kind, "Content-Encoding": r.encoding}, strings.NewReader(r.body))
				if err != nil || a.status != 200 || !strings.Contains(a.body, fmt.Sprintf(`"update_id":%d`, id)) {
					t.Errorf("%s, %.30s %.30s: %+v, %v", name, r.query, r.body, a, err)
				}
			}
			a, err := b.do(t.Context(), "POST", b.path("getUpdates"), map[string]string{"Content-Type": urlencoded}, strings.NewReader("x="+strings.Repeat(filler, 6)))
			if err != nil || a.status != 413 || !strings.HasPrefix(a.body, `{"ok":false,"error_code":413,"description":"Request Entity Too Large`) {
				t.Errorf("%s, too large: %+v, %v", name, a, err)
			}
			after(6 * time.Second)
		}
		if w.tg.asked() != `["message","poll"]` {
			t.Errorf("asked for %q", w.tg.asked())
		}
	})
}

// A body that ends before its length says so is refused; what comes after the length is another request.
func TestBodiesOfAnotherLength(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		send := func(body string) string {
			conn, err := w.pipes.dial(t.Context(), "10.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				_, _ = io.WriteString(conn, body)
			}()
			closing := time.AfterFunc(40*time.Second, func() { _ = conn.Close() })
			defer closing.Stop()
			raw, _ := io.ReadAll(conn)
			return string(raw)
		}
		head := "POST /bot" + copyToken + "/sendMessage HTTP/1.1\r\nHost: x\r\nContent-Type: " + urlencoded + "\r\nContent-Length: 10\r\n\r\n"
		if got := send(head + "chat_id=1"); strings.Contains(got, "200 OK") || len(w.tg.got()) > 0 {
			t.Errorf("shorter: %q, %+v", got, w.tg.got())
		}
		got := send(head + "chat_id=12&text=POST /x")
		if n := w.tg.got(); len(n) != 1 || n[0].body != "chat_id=12" {
			t.Errorf("longer: %+v", n)
		}
		if !strings.Contains(got, "200 OK") || !strings.Contains(got, "400 Bad Request") {
			t.Errorf("longer: %q", got)
		}
	})
}

// A client that does not read its answer, or trickles its request, delays no other.
func TestSlowClientsDelayNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		var slowest []net.Conn
		for range 50 {
			conn, err := w.pipes.dial(t.Context(), "10.0.0.7")
			if err != nil {
				t.Fatal(err)
			}
			slowest = append(slowest, conn)
			go func() {
				_, _ = io.WriteString(conn, "GET /bot"+copyToken+"/getChat?chat_id=1 HTTP/1.1\r\nHost: x\r\n\r\n") // never reads
			}()
			slow, err := w.pipes.dial(t.Context(), "10.0.0.8")
			if err != nil {
				t.Fatal(err)
			}
			slowest = append(slowest, slow)
			go func() {
				_, _ = io.WriteString(slow, "POST /bot"+copyToken+"/sendMessage HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n")
				for range 1000 {
					if _, err := io.WriteString(slow, "x"); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			}()
		}
		after(time.Second)
		b := w.bot("10.0.0.1").run()
		id := w.tg.say(1, "a")
		began := time.Now()
		if a := b.call("sendMessage", "chat_id", "1", "text", "x"); a.status != 200 || time.Since(began) > 0 {
			t.Errorf("%+v after %v", a, time.Since(began))
		}
		after(time.Second)
		b.expectGot(id)
		for _, c := range slowest {
			_ = c.Close()
		}
		after(2 * time.Second)
	})
}

func TestHTTP2WithoutTLS(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		b := w.bot("10.0.0.1")
		transport, ok := b.http.Transport.(*http.Transport)
		if !ok {
			t.Fatal("another transport")
		}
		transport.Protocols = &http.Protocols{}
		transport.Protocols.SetUnencryptedHTTP2(true)
		b.run()
		id := w.tg.say(1, "a")
		after(time.Second)
		b.expectGot(id)
		if n := len(b.conns); n != 1 {
			t.Errorf("%d connections", n)
		}
		b.kill()
		after(3 * time.Second)
		if s := w.gateway.Snapshot(context.Background()); s == nil || s.Active != "" {
			t.Errorf("after its end: %+v", s)
		}
	})
}

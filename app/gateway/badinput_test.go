package gateway

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/turns"
)

// exchange writes on a new connection and returns what comes back until that ends, or for 20 s.
func (w *world) exchange(raw string) string {
	w.t.Helper()
	conn, err := w.pipes.dial(w.t.Context(), "10.0.0.66")
	if err != nil {
		w.t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(conn, raw) }()
	closing := time.AfterFunc(20*time.Second, func() { _ = conn.Close() })
	defer closing.Stop()
	got, _ := io.ReadAll(conn) // it is cut off
	_ = conn.Close()
	return string(got)
}

// What is no request of the Bot API is answered without a redirect and without a token, and nothing of it reaches Telegram.
func TestRequestsThatAreNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		after(time.Second)
		bot := "/bot" + copyToken
		const host = " HTTP/1.1\r\nHost: x\r\n"
		write := "POST " + bot + "/sendMessage" + host
		for _, r := range []struct {
			raw  string
			code int // 0: any error
		}{
			{"GET http://bot:8082" + host + "\r\n", 404},
			{"GET bot" + copyToken + "/getMe" + host + "\r\n", 404},
			{"GET *" + host + "\r\n", 404},
			{"OPTIONS *" + host + "\r\n", 501},
			{"OPTIONS " + bot + "/getMe" + host + "\r\n", 501},
			{"CONNECT bot:8082" + host + "\r\n", 501},
			{"HEAD " + bot + "/sendMessage" + host + "\r\n", 501},
			{"post " + bot + "/sendMessage" + host + "\r\n", 501},
			{"GET " + bot + "/getMe#x" + host + "\r\n", 404},
			{"GET " + bot + "/send%zzMessage" + host + "\r\n", 0},
			{"GET " + bot + "/sendMessage\r\n\r\n", 0},
			{"GET " + bot + "/sendMessage HTTP/3.0\r\nHost: x\r\n\r\n", 0},
			{"POST " + bot + "/sendMessage HTTP/1.1\r\nContent-Length: 3\r\n\r\na=b", 0}, // no Host
			{write + "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400},
			{write + "Transfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n", 0}, // ends never
			{write + "Transfer-Encoding: gzip\r\n\r\nzz\r\n\r\n", 0},
			{write + "Content-Length: 4\r\nContent-Length: 5\r\n\r\na=bcd", 0},
			{write + "Content-Length: -4\r\n\r\na=bc", 0},
			{write + "Content-Length: 9999999999999999999999\r\n\r\na=bc", 0},
			{write + "Expect: tea\r\nContent-Length: 4\r\n\r\na=bc", 417},
			{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 0}, // TLS
			{"\x00\r\n\r\n", 0},
			{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage of another kind", 0},
		} {
			got := w.exchange(r.raw)
			name := strings.ReplaceAll(fmt.Sprintf("%.60q", r.raw), copyToken, "T")
			w.expectNoToken(got)
			if strings.Contains(got, "Location:") || strings.HasPrefix(got, "HTTP/1.1 2") || strings.HasPrefix(got, "HTTP/1.1 3") {
				t.Errorf("%s is answered with %q", name, got)
			}
			if r.code != 0 && !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", r.code)) {
				t.Errorf("%s is answered with %q, want %d", name, got, r.code)
			}
			if r.code == 404 || r.code == 501 || r.code == 400 {
				_, body, _ := strings.Cut(got, "\r\n\r\n")
				if !strings.HasPrefix(body, fmt.Sprintf(`{"ok":false,"error_code":%d,"description":"`, r.code)) && !strings.HasPrefix(r.raw, "HEAD") {
					t.Errorf("%s is answered with %q", name, body)
				}
			}
		}
		if got := w.tg.got(); len(got) > 0 {
			t.Errorf("Telegram got %+v", got)
		}
		if a := w.bot("10.0.0.1").call("sendMessage", "chat_id", "1"); a.status != 200 {
			t.Errorf("then: %+v", a)
		}
	})
}

// What is unusual and yet a request is answered as one.
func TestRequestsThatAreUnusual(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		after(time.Second)
		bot := "/bot" + copyToken
		for _, r := range []struct {
			raw, body string
			calls     int
		}{
			{"GET http://bot:8082" + bot + "/sendMessage?chat_id=1 HTTP/1.1\r\nHost: bot:8082\r\n\r\n", "", 1}, // through a proxy
			{"GET " + bot + "/sendMessage HTTP/1.0\r\n\r\n", "", 1},
			{"POST " + bot + "/sendMessage HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\na=b", "a=b", 1},
			{"POST " + bot + "/sendMessage HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\na=b", "a=b", 1},
			{"POST " + bot + "/sendMessage HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: 3\r\n\r\na=b", "a=b", 1},
			{"POST " + bot + "/sendMessage HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n2\r\n=b\r\n0\r\nTrailer: x\r\n\r\n", "a=b", 1},
			{"GET " + bot + "/sendMessage?a=%zz&%&;=;&=& HTTP/1.1\r\nHost: x\r\n\r\n", "", 1},
			// Two at once on one connection, the first of which has two lengths: the one that ends it counts.
			{"POST " + bot + "/sendMessage HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n0\r\n\r\nGET " + bot + "/getChat HTTP/1.1\r\nHost: x\r\n\r\n", "a=b", 2},
		} {
			before := len(w.tg.got())
			got := w.exchange(r.raw)
			calls := w.tg.got()[before:]
			name := strings.ReplaceAll(fmt.Sprintf("%.90q", r.raw), copyToken, "T")
			if strings.Count(got, " 200 OK\r\n") != r.calls || len(calls) != r.calls || calls[0].path != "/botT/sendmessage" || calls[0].body != r.body {
				t.Errorf("%s: %q, %+v", name, got, calls)
			}
		}
	})
}

// A body that cannot be read as what it says it is has no parameters, and a poll goes on without them.
func TestPollsWithBodiesThatAreMalformed(t *testing.T) {
	t.Parallel()
	multi, parts := form(t, "offset", "1001", "timeout", "0")
	for name, r := range map[string]sent{
		"JSON that breaks off":        posted(asJSON, "getUpdates", `{"offset":1001,"timeout":5`),
		"JSON with more after it":     posted(asJSON, "getUpdates", `{"offset":1001,"timeout":5}x`),
		"JSON, a list":                posted(asJSON, "getUpdates", `[{"offset":1001}]`),
		"JSON, null":                  posted(asJSON, "getUpdates", "null"),
		"JSON as a form":              posted(urlencoded, "getUpdates", `{"offset":1001,"timeout":5}`),
		"a form as JSON":              posted(asJSON, "getUpdates", "offset=1001&timeout=5"),
		"of no kind":                  posted("", "getUpdates", "offset=1001&timeout=5"),
		"multipart that breaks off":   posted(multi, "getUpdates", parts[:len(parts)-20]),
		"multipart without parts":     posted(multi, "getUpdates", ""),
		"multipart, another boundary": posted(multi+"x", "getUpdates", parts),
		"bytes":                       posted(asJSON, "getUpdates", "\x00\xff\xfe"),
		"values that are none":        posted(asJSON, "getUpdates", `{"offset":{},"timeout":[],"limit":"x","allowed_updates":7}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.start()
				b := w.bot("10.0.0.1")
				first, second := w.tg.say(1, "a"), w.tg.say(1, "b")
				if a := b.call("getUpdates?timeout=9"); strings.Count(a.body, "update_id") != 2 {
					t.Fatalf("%+v", a)
				}
				after(4 * time.Second)
				b.call("getUpdates") // which does not wait: from now on one may be malformed and still be given something
				after(4 * time.Second)
				a, err := b.send(t.Context(), r)
				if err != nil || a.status != 200 || !strings.Contains(a.body, fmt.Sprint(first)) || !strings.Contains(a.body, fmt.Sprint(second)) && !strings.Contains(r.body, `"limit":"x"`) {
					t.Errorf("%+v, %v", a, err)
				}
				after(2 * time.Second)
				w.tg.expectConfirmed()
			})
		})
	}
}

// A compressed body is read; one that is compressed otherwise, or not at all, is refused.
func TestCompressedPolls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		b := w.bot("10.0.0.1")
		first, second := w.tg.say(1, "a"), w.tg.say(1, "b")
		b.call("getUpdates?timeout=9")
		after(4 * time.Second)
		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		_, _ = fmt.Fprintf(z, `{"offset":%d,"timeout":9}`, second)
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		ask := func(encoding, body string) answer {
			a, err := b.do(t.Context(), http.MethodPost, b.path("getUpdates"), map[string]string{"Content-Type": asJSON, "Content-Encoding": encoding}, strings.NewReader(body))
			if err != nil {
				t.Error(err)
			}
			return a
		}
		if a := ask("gzip", zipped.String()); a.status != 200 || strings.Contains(a.body, fmt.Sprint(first)) || !strings.Contains(a.body, fmt.Sprint(second)) {
			t.Errorf("gzip: %+v", a)
		}
		if a := ask("br", "x"); a.status != 415 || !strings.HasPrefix(a.body, `{"ok":false,"error_code":415,`) {
			t.Errorf("br: %+v", a)
		}
		if a := ask("gzip", "{}"); a.status != 400 || !strings.HasPrefix(a.body, `{"ok":false,"error_code":400,`) {
			t.Errorf("what is not compressed: %+v", a)
		}
		// A method is found in a compressed body, too.
		zipped.Reset()
		z.Reset(&zipped)
		_, _ = io.WriteString(z, `{"method":"logOut"}`)
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		a, err := b.do(t.Context(), http.MethodPost, b.path(""), map[string]string{"Content-Type": asJSON, "Content-Encoding": "gzip"}, &zipped)
		if err != nil || a.status != 400 || !strings.Contains(a.body, "log the bot out") {
			t.Errorf("a compressed logOut: %+v, %v", a, err)
		}
		if got := w.tg.got(); len(got) > 0 {
			t.Errorf("Telegram got %+v", got)
		}
	})
}

// No spelling of what would log the bot out, end polling or throw updates away reaches Telegram: from the active copy,
// from one that stands by, or from a client.
func TestNoSpellingOfLogOutReachesTelegram(t *testing.T) {
	t.Parallel()
	var calls []sent
	for _, method := range []string{"logOut", "close", "setWebhook", "deleteWebhook"} {
		upper, escaped := strings.ToUpper(method), fmt.Sprintf("%%%02x", method[0])+method[1:]
		multi, parts := form(t, "method", method, "drop_pending_updates", "true", "url", "https://x")
		const query = "?drop_pending_updates=true&url=https://x"
		for _, path := range []string{
			method, upper, strings.ToLower(method), escaped, "test/" + method, "./" + method, "x/../" + method, "%2e/" + method, method + "/", "/" + method,
			method + "%20", method + "%00", method + "%0a", method + "%2f", method + ";a", "%20" + method, strings.Replace(method, "o", "%6f", 1),
			strings.Replace(method, "o", "%256f", 1), strings.Replace(method, "o", "%C0%AF", 1), strings.Replace(method, "s", "\u017f", 1),
		} {
			calls = append(calls, sent{verb: "GET", target: path + query}, sent{verb: "POST", target: path + query, kind: asJSON, body: `{"drop_pending_updates":true}`})
		}
		for _, s := range []sent{
			{verb: "GET", target: query + "&method=" + method}, {verb: "GET", target: query + "&method=" + upper}, {verb: "GET", target: query + "&%6Dethod=" + escaped},
			{verb: "GET", target: "test" + query + "&method=" + method}, {verb: "GET", target: "test/" + query + "&method=" + method},
			{verb: "GET", target: query + "&method=" + method + "&method=getMe"}, {verb: "GET", target: query + "&method=getMe&method=" + method},
			{verb: "POST", target: query, kind: asJSON, body: `{"method":"` + method + `"}`}, {verb: "POST", target: query, kind: asJSON, body: `{"\u006dethod":"` + method + `"}`},
			{verb: "POST", target: query, kind: asJSON, body: `{"method":"getMe","method":"` + method + `"}`},
			{verb: "POST", target: query, kind: urlencoded, body: "method=" + escaped}, {verb: "GET", target: query, kind: urlencoded, body: "method=" + method},
			{verb: "POST", target: query, kind: multi, body: parts}, {verb: "POST", target: query, kind: multi, body: parts, chunked: true},
			{verb: "POST", target: "getMe" + query + "&method=" + method}, {verb: "POST", target: "getMe" + query, kind: asJSON, body: `{"method":"` + method + `"}`},
		} {
			calls = append(calls, s)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		active := w.bot("10.0.0.1").run()
		after(time.Second)
		standby := w.bot("10.0.0.2").run()
		after(time.Second)
		for _, b := range []*bot{active, standby, w.bot("10.0.0.3")} {
			for _, s := range calls {
				a, err := b.send(t.Context(), s)
				var form struct {
					OK          bool
					ErrorCode   int `json:"error_code"`
					Description string
				}
				if err != nil || json.Unmarshal([]byte(a.body), &form) != nil || form.OK != (a.status == 200) || !form.OK && (form.ErrorCode != a.status || form.Description == "") {
					t.Errorf("%s: %+v: %+v, %v", b.address, s, a, err)
				}
			}
		}
		if got := w.tg.got(); len(got) > 0 {
			t.Errorf("Telegram got %d calls, the first: %+v", len(got), got[0])
		}
		id := w.tg.say(1, "a")
		after(time.Second)
		active.expectGot(id)
		standby.expectGot()
	})
}

// A path of a file that leads elsewhere does not reach Telegram.
func TestPathsOfFilesStayBelowTheBots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tg.answerWith(func(req *http.Request) (*http.Response, error) {
			if path := strings.Replace(req.URL.Path, realToken, "T", 1); path != "/botT/getMe" { // asked by habot
				t.Errorf("Telegram got %s", path)
			}
			return nil, nil
		})
		after(time.Minute) // it has asked for the bot
		b := w.bot("10.0.0.1")
		for _, path := range []string{
			"..", ".", "../x", "a/../../x", "a/..", "%2e%2e/x", "a/%2e%2e/%2e%2e/getMe", "..%2fbot" + copyToken + "/logOut", "a/..%2f..%2fgetMe", "a%5c..%5cb", "..%5c..", "",
			"/etc/passwd", "//etc/passwd", "%2fetc/passwd", "a//b", "a/./b", "a%00b", "a%0d%0aX: y", "test/../x", "test/", "test/..", "%252e%252e%00",
		} {
			for _, root := range []string{"/file/bot", "//file//bot", "/copy/x/file/bot"} {
				a, err := b.do(t.Context(), http.MethodGet, root+copyToken+"/"+path, nil, nil)
				if err != nil || a.status != 404 || !strings.HasPrefix(a.body, `{"ok":false,"error_code":404,`) {
					t.Errorf("%s: %+v, %v", path, a, err)
				}
			}
		}
	})
}

// What another replica passes on is looked at as what comes from a copy: it may be of another version, or no replica of ours.
func TestWhatIsPassedOnIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		after(time.Second)
		origin, err := json.Marshal(passedOrigin{Origin: Origin{Replica: "process-2", Address: "10.0.0.9"}})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(path, body string) *httptest.ResponseRecorder {
			rec := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
			r.Header.Set("Content-Type", urlencoded)
			if err := w.gateway.Passer().Forwarded(rec, r.WithContext(t.Context()), string(origin)); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			return rec
		}
		passed := "/bot" + w.gateway.front.passed
		for path, body := range map[string]string{
			passed + "/logOut": "", passed + "/": "method=close", passed + "/?method=LOGOUT": "", passed + "/setWebhook": "url=https://x", passed + "/deleteWebhook": "drop_pending_updates=1",
			"/bot" + copyToken + "/sendMessage": "chat_id=1", "/bot" + realToken + "/sendMessage": "chat_id=1", "/bot0:x/sendMessage": "chat_id=1", "/bot/sendMessage": "chat_id=1",
			"/file" + passed + "/a": "", "/sendMessage": "",
		} {
			if rec := ask(path, body); rec.Code != 404 || !strings.HasPrefix(rec.Body.String(), `{"ok":false,"error_code":404,`) {
				t.Errorf("%s is answered with %d %s", strings.ReplaceAll(path, copyToken, "T"), rec.Code, rec.Body)
			}
		}
		if got := w.tg.got(); len(got) > 0 {
			t.Errorf("Telegram got %+v", got)
		}
		if rec := ask(passed+"/sendMessage", "chat_id=1"); rec.Code != 200 {
			t.Errorf("a call that may be passed on: %d %s", rec.Code, rec.Body)
		}
	})
}

// Connections are bounded, in all and of one address; those that are open go on, and this machine's own are always taken.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		after(time.Second)
		open := func(address string) net.Conn {
			conn, err := w.pipes.dial(t.Context(), address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			return conn
		}
		answers := func(conn net.Conn) bool {
			_ = conn.SetDeadline(time.Now().Add(time.Second))
			go func() { _, _ = io.WriteString(conn, "GET /bot"+copyToken+"/getMe HTTP/1.1\r\nHost: x\r\n\r\n") }()
			n, err := conn.Read(make([]byte, 4096))
			return err == nil && n > 0
		}
		b := w.bot("10.0.0.1")
		b.answers = false // that would need another connection
		b.run()
		after(time.Second)
		keep := func(conn net.Conn) { // idle ones are those that have had an answer
			if !answers(conn) {
				t.Error("one within the bounds is refused")
			}
		}
		for range maxPerAddress {
			keep(open("10.0.0.2"))
		}
		if answers(open("10.0.0.2")) {
			t.Error("more than one address may have")
		}
		keep(open("10.0.0.3"))
		for i := range maxConnections - maxPerAddress - 2 { // those of b and of 10.0.0.3
			keep(open(fmt.Sprintf("10.0.1.%d", i+1)))
		}
		if answers(open("10.0.0.4")) {
			t.Error("more than there may be")
		}
		if !answers(open("127.0.0.1")) {
			t.Error("a probe of this machine is refused")
		}
		id := w.tg.say(1, "a")
		after(time.Second)
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.got) != 1 || b.got[0] != id {
			t.Errorf("a copy that is there got %v, want %d", b.got, id)
		}
	})
}

// The headers of a request have ten seconds; a connection that idles has as long as the real server's.
func TestConnectionsThatSayNothingEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		lasts := func(start string) time.Duration {
			conn, err := w.pipes.dial(t.Context(), "10.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			began := time.Now()
			go func() {
				if _, err := io.WriteString(conn, start); err != nil {
					return
				}
				for strings.HasPrefix(start, "GET") && !strings.HasSuffix(start, "\r\n\r\n") {
					time.Sleep(time.Second)
					if _, err := io.WriteString(conn, "X: y\r\n"); err != nil {
						return
					}
				}
			}()
			_, _ = io.Copy(io.Discard, conn)
			return time.Since(began)
		}
		for name, c := range map[string]struct {
			start string
			want  time.Duration
		}{
			"nothing":              {"", headerBound},
			"half a line":          {"POST /bot", headerBound},
			"one header a second":  {"GET /bot" + copyToken + "/getMe HTTP/1.1\r\nHost: x\r\n", headerBound},
			"idle after an answer": {"GET /bot" + copyToken + "/getMe HTTP/1.1\r\nHost: x\r\n\r\n", idleBound},
		} {
			if got := lasts(c.start); got != c.want {
				t.Errorf("%s: it lasts for %v, want %v", name, got, c.want)
			}
		}
		b := w.bot("10.0.0.2")
		b.call("getMe")
		time.Sleep(idleBound - time.Second)
		if a := b.call("getMe"); a.status != 200 || len(b.conns) != 1 {
			t.Errorf("after minutes: %+v, on %d connections", a, len(b.conns))
		}
	})
}

// HTTP/2 has the same bounds: on headers, on parameters, on tokens and on what is under way on one connection.
func TestHTTP2HasTheSameBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		after(time.Second)
		second := func(address string) *bot {
			b := w.bot(address)
			transport, ok := b.http.Transport.(*http.Transport)
			if !ok {
				t.Fatal("another transport")
			}
			transport.Protocols = unencrypted()
			return b
		}
		b := second("10.0.0.1")
		if a := b.call("sendMessage", "chat_id", "1", "text", strings.Repeat("x", 900<<10)); a.status != 200 {
			t.Errorf("within the bounds: %+v", a)
		}
		if a := b.call("sendMessage", "chat_id", "1", "text", strings.Repeat("x", 1<<20)); a.status != 413 {
			t.Errorf("parameters: %+v", a)
		}
		if a, err := b.do(t.Context(), http.MethodGet, b.path("sendMessage?text="+strings.Repeat("y", 200<<10)), nil, nil); err != nil || a.status != 200 {
			t.Errorf("long headers: %d, %v", a.status, err)
		}
		if a, err := b.do(t.Context(), http.MethodGet, b.path("sendMessage?text="+strings.Repeat("y", maxHeaders+8<<10)), nil, nil); err == nil && a.status != 431 {
			t.Errorf("headers: %d, %v", a.status, err)
		}
		began := time.Now()
		if a, err := b.do(t.Context(), http.MethodGet, "/bot1:x/getMe", nil, nil); err != nil || a.status != 401 || time.Since(began) != refusalWait {
			t.Errorf("a wrong token: %+v, %v after %v", a, err, time.Since(began))
		}
		if n := len(w.tg.got()); n != 2 {
			t.Errorf("%d calls reached Telegram", n)
		}
		// What its first frame, SETTINGS, announces net/http enforces (RFC 9113, section 6.5.2).
		frame := w.exchange("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
		if want := string([]byte{0, 3, 0, 0, 0, maxStreams}); !strings.Contains(frame, want) {
			t.Errorf("no bound on calls at once on a connection: %q", frame)
		}
	})
}

// Over HTTP/2 as over HTTP/1.1 an upload streams, one that stalls is given up, and so is an answer that is not read.
func TestTransfersOverHTTP2(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		after(time.Second)
		b := w.bot("10.0.0.1")
		transport, ok := b.http.Transport.(*http.Transport)
		if !ok {
			t.Fatal("another transport")
		}
		transport.Protocols = unencrypted()
		kind, body := uploading(5<<20, nil)
		a, err := b.do(t.Context(), http.MethodPost, b.path("sendDocument"), map[string]string{"Content-Type": kind}, body)
		if err != nil || a.status != 200 || w.tg.largest < 5<<20 {
			t.Errorf("%+v, %v, %d bytes", a, err, w.tg.largest)
		}
		var failed, closed atomic.Int64
		w.tg.answerWith(func(req *http.Request) (*http.Response, error) {
			switch {
			case strings.HasSuffix(req.URL.Path, "/senddocument"):
				if _, err := io.Copy(io.Discard, req.Body); err != nil {
					failed.Add(1)
					return nil, err
				}
				t.Error("an upload reached Telegram whole")
			case strings.HasPrefix(req.URL.Path, "/file/"):
				return &http.Response{
					StatusCode: http.StatusOK, Header: http.Header{}, ContentLength: 64 << 20,
					Body: &counted{Reader: io.LimitReader(zeros{}, 64<<20), closed: func() { closed.Add(1) }},
				}, nil
			}
			return nil, nil
		})
		kind, body = uploading(10<<20, func(sent int) {
			if sent > 1<<20 {
				time.Sleep(stallBound + time.Second)
			}
		})
		began := time.Now()
		a, err = b.do(t.Context(), http.MethodPost, b.path("sendDocument"), map[string]string{"Content-Type": kind}, body)
		if err == nil && a.status != 400 || time.Since(began) > stallBound+2*time.Second {
			t.Errorf("one that stalls: %+v, %v after %v", a, err, time.Since(began))
		}
		after(time.Minute)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://bot:8082/file/bot"+copyToken+"/a", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := b.http.Do(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%+v, %v", resp, err)
		}
		after(stallBound + 2*time.Second) // and does not read
		if failed.Load() != 1 || closed.Load() != 1 {
			t.Errorf("%d uploads broke off, %d downloads have ended", failed.Load(), closed.Load())
		}
		if a := b.call("sendMessage", "chat_id", "1"); a.status != 200 {
			t.Errorf("on the same connection: %+v", a)
		}
		_ = resp.Body.Close()
		after(time.Minute)
	})
}

type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A replica that stops answers polls over HTTP/2, too.
func TestAReplicaThatStopsAnswersPollsOverHTTP2(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		after(time.Second)
		b := w.bot("10.0.0.1")
		if transport, ok := b.http.Transport.(*http.Transport); ok {
			transport.Protocols = unencrypted()
		}
		go func() {
			time.Sleep(2 * time.Second)
			w.term.end()
			w.leave()
		}()
		began := time.Now()
		a := b.call("getUpdates", "timeout", "30")
		if a.status != 200 || a.body != none || time.Since(began) > 2100*time.Millisecond {
			t.Errorf("%+v after %v", a, time.Since(began))
		}
		w.left()
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("it stops after %v", took)
		}
	})
}

// Downloads take turns as uploads do; a client that does not read what it asked for is cut off, and lets others begin before.
func TestDownloadsTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		file := make([]byte, 1<<20)
		var under, most atomic.Int64
		w.tg.answerWith(func(req *http.Request) (*http.Response, error) {
			if !strings.HasPrefix(req.URL.Path, "/file/") {
				return nil, nil
			}
			most.Store(max(most.Load(), under.Add(1)))
			return &http.Response{
				StatusCode: http.StatusOK, Header: http.Header{}, ContentLength: int64(len(file)),
				Body: &counted{Reader: &slowly{bytes.NewReader(file)}, closed: func() { under.Add(-1) }},
			}, nil
		})
		after(time.Second)
		gets := func(address string) (took time.Duration) {
			b := w.bot(address)
			began := time.Now()
			a, err := b.do(t.Context(), http.MethodGet, "/file/bot"+copyToken+"/a", nil, nil)
			if err != nil || a.status != 200 || len(a.body) != len(file) {
				t.Errorf("%d, %d bytes, %v", a.status, len(a.body), err)
			}
			return time.Since(began)
		}
		began, all := time.Now(), make(chan time.Duration, 10)
		for range 10 {
			go func() { all <- gets("10.0.0.1") }()
		}
		for range 10 {
			<-all
		}
		if most.Load() != maxFast || time.Since(began) != 5*time.Second {
			t.Errorf("%d at a time, %v for 10", most.Load(), time.Since(began))
		}
		for range maxFast {
			conn, err := w.pipes.dial(t.Context(), "10.0.0.2")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.WriteString(conn, "GET /file/bot"+copyToken+"/a HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
		}
		after(time.Second)
		if took := gets("10.0.0.3"); took > fastFor+2*time.Second {
			t.Errorf("beside two that are not read it takes %v", took)
		}
		after(stallBound + 2*time.Second)
		if n := under.Load(); n != 0 {
			t.Errorf("%d are still under way", n)
		}
	})
}

// counted is a body that reports its end.
type counted struct {
	io.Reader
	closed func()
}

// Close implements io.Closer.
func (c *counted) Close() error {
	c.closed()
	return nil
}

// slowly takes a second for its first bytes.
type slowly struct{ r io.Reader }

// Read implements io.Reader.
func (s *slowly) Read(p []byte) (int, error) {
	if r, ok := s.r.(*bytes.Reader); ok && r.Len() == int(r.Size()) {
		time.Sleep(time.Second)
	}
	return s.r.Read(p)
}

// No more than 64 large bodies are under way, however slow they are; those that wait leave when their client does.
func TestSlowUploadsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slots := newTransfers()
		over := make(chan struct{})
		var taken atomic.Int64
		var gone atomic.Int64
		for range 3 * maxTransfers {
			go func() {
				release := slots.take(nil, over)
				if release == nil {
					gone.Add(1)
					return
				}
				taken.Add(1)
				<-over
				release()
			}()
		}
		after(time.Hour)
		if n := taken.Load(); n != maxTransfers {
			t.Errorf("%d are under way", n)
		}
		hungUp, left := make(chan struct{}), make(chan func(), 1)
		go func() { left <- slots.take(hungUp, nil) }()
		after(time.Second)
		close(hungUp)
		synctest.Wait()
		select {
		case release := <-left:
			if release != nil {
				t.Error("one too many is under way")
			}
		default:
			t.Error("one whose client is gone waits on")
		}
		close(over)
		after(time.Second)
		if n := gone.Load(); n == 0 || n+taken.Load() != 3*maxTransfers {
			t.Errorf("%d were under way, %d went away", taken.Load(), n)
		}
		if len(slots.all) > 0 || len(slots.fast) > 0 {
			t.Error("room is not given back")
		}
	})
}

// The address that a copy is known by is the one that the replica has seen: no header of a client changes it.
func TestNoHeaderChangesWhoACopyIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		w.bot("10.0.0.1").run()
		after(time.Second)
		two := w.bot("10.0.0.2").run()
		after(time.Second)
		a, err := two.do(t.Context(), http.MethodPost, two.path("sendMessage?chat_id=1"), map[string]string{
			"X-Forwarded-For": "10.0.0.1", "X-Real-IP": "10.0.0.1", "Forwarded": "for=10.0.0.1", "Habot-Origin": `{"Replica":"process-1","Address":"10.0.0.1"}`,
			"Habot-Copy": "10.0.0.1", "Host": "10.0.0.1",
		}, nil)
		if err != nil || a.status != 409 || len(w.tg.got()) > 0 {
			t.Errorf("%+v, %v, %+v", a, err, w.tg.got())
		}
		s := w.gateway.Snapshot(t.Context())
		if s == nil || len(s.Copies) != 2 || s.Active != "10.0.0.1" || s.Reason != string(turns.ReasonFirst) {
			t.Errorf("%+v", s)
		}
	})
}

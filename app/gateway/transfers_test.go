package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/peer"
)

// uploading is a multipart body with a file of so many bytes, which streams. pace is called before each piece, and before its end.
func uploading(size int, pace func(sent int)) (kind string, body io.Reader) {
	const boundary = "xxxxxxxxxxxx"
	head := "--" + boundary + "\r\nContent-Disposition: form-data; name=\"chat_id\"\r\n\r\n5\r\n--" + boundary +
		"\r\nContent-Disposition: form-data; name=\"document\"; filename=\"f\"\r\n\r\n"
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, head)
		piece := make([]byte, 64<<10)
		for sent := 0; sent < size; sent += len(piece) {
			if pace != nil {
				pace(sent)
			}
			if _, err := w.Write(piece[:min(len(piece), size-sent)]); err != nil {
				return
			}
		}
		if pace != nil {
			pace(size)
		}
		_, _ = io.WriteString(w, "\r\n--"+boundary+"--\r\n")
		_ = w.Close()
	}()
	return "multipart/form-data; boundary=" + boundary, r
}

// An upload streams to Telegram as it is, and is a sign for the chat that it names.
func TestAnUploadStreams(t *testing.T) {
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
		w.tg.say(5, "send me a file")
		after(time.Second)
		kind, body := uploading(20<<20, nil)
		a, err := one.do(t.Context(), http.MethodPost, one.path("sendDocument"), map[string]string{"Content-Type": kind}, body)
		if err != nil || a.status != 200 {
			t.Fatalf("%+v, %v", a, err)
		}
		if got := w.tg.got("sendDocument"); len(got) != 1 || w.tg.largest < 20<<20 || got[0].kind != kind {
			t.Errorf("%d bytes, %+v", w.tg.largest, got)
		}
		one.kill()
		after(2 * time.Second)
		two.expectGot() // the upload was the sign
	})
}

// An upload that stalls is given up, and so is one whose client goes away; nothing whole reaches Telegram.
func TestUploadsThatStall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		var failed atomic.Int64
		w.tg.answerWith(func(req *http.Request) (*http.Response, error) {
			if !strings.HasSuffix(req.URL.Path, "/senddocument") {
				return nil, nil
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				failed.Add(1)
				return nil, err
			}
			t.Error("an upload reached Telegram whole")
			return nil, errors.New("whole")
		})
		one := w.bot("10.0.0.1")
		kind, body := uploading(10<<20, func(sent int) {
			if sent > 1<<20 {
				time.Sleep(stallBound + time.Second)
			}
		})
		began := time.Now()
		a, err := one.do(t.Context(), http.MethodPost, one.path("sendDocument"), map[string]string{"Content-Type": kind}, body)
		if err == nil && a.status != 400 || time.Since(began) > stallBound+2*time.Second {
			t.Errorf("one that stalls: %+v, %v after %v", a, err, time.Since(began))
		}
		after(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		kind, body = uploading(10<<20, func(sent int) {
			if sent > 1<<20 {
				cancel()
			}
		})
		if a, err := one.do(ctx, http.MethodPost, one.path("sendDocument"), map[string]string{"Content-Type": kind}, body); err == nil {
			t.Errorf("one that goes away: %+v", a)
		}
		after(time.Minute)
		if failed.Load() != 2 {
			t.Errorf("%d broke off", failed.Load())
		}
	})
}

// A copy that stands by and trickles an upload, which is refused, does not delay the end of a term.
func TestARefusedUploadDelaysNoEndOfATerm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.start()
		w.bot("10.0.0.1").run()
		after(time.Second)
		two := w.bot("10.0.0.2").run()
		after(time.Second)
		kind, body := uploading(10<<20, func(sent int) {
			if sent > 1<<20 {
				time.Sleep(stallBound / 2)
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			_, _ = two.do(ctx, http.MethodPost, two.path("sendDocument"), map[string]string{"Content-Type": kind}, body)
		}()
		after(time.Minute)
		began := time.Now()
		r.end()
		if took := time.Since(began); took > time.Second {
			t.Errorf("it takes %v", took)
		}
		cancel()
		after(time.Minute)
	})
}

// Nor does a client that does not read its answer: Telegram has the call by then.
func TestAnAnswerThatIsNotReadDelaysNoEndOfATerm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.start()
		after(time.Second)
		conn, err := w.pipes.dial(t.Context(), "10.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, "GET /bot"+copyToken+"/sendMessage?chat_id=1&text=x HTTP/1.1\r\nHost: habot\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		if n := len(w.tg.got("sendMessage")); n != 1 {
			t.Errorf("%d calls", n)
		}
		began := time.Now()
		r.end()
		if took := time.Since(began); took > answersBound+time.Second/2 {
			t.Errorf("it takes %v", took)
		}
	})
}

// The lease is looked at as each piece leaves, the last one too: an upload that outlasts it never is a request.
func TestAnUploadThatOutlastsTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.start()
		_, body := uploading(1<<20, nil)
		whole, err := io.Copy(io.Discard, body)
		if err != nil {
			t.Fatal(err)
		}
		w.tg.answerWith(func(req *http.Request) (*http.Response, error) {
			if !strings.HasSuffix(req.URL.Path, "/senddocument") {
				return nil, nil
			}
			// A body whose length is known is whole with its last byte, not with its end.
			_, err := io.CopyN(io.Discard, req.Body, whole)
			if err == nil {
				t.Error("the whole upload left")
			}
			return nil, err
		})
		one := w.bot("10.0.0.1")
		kind, body := uploading(1<<20, func(sent int) {
			if sent == 1<<20 { // before the last bytes, for which the reader waits already
				time.Sleep(time.Second)
				r.held.Store(false)
			}
		})
		a, err := one.do(t.Context(), http.MethodPost, one.path("sendDocument"), map[string]string{"Content-Type": kind}, body)
		if err != nil || a.status != 502 || !strings.Contains(a.body, "nothing was sent") {
			t.Errorf("%+v, %v", a, err)
		}
		after(time.Minute)
	})
}

// Two uploads are under way at a time. One that is slow makes way after a while.
func TestUploadsTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		var under, most atomic.Int64
		w.tg.answerWith(func(req *http.Request) (*http.Response, error) {
			if !strings.HasSuffix(req.URL.Path, "/senddocument") {
				return nil, nil
			}
			most.Store(max(most.Load(), under.Add(1)))
			defer under.Add(-1)
			_, err := io.Copy(io.Discard, req.Body)
			time.Sleep(time.Second)
			if err != nil {
				return nil, err
			}
			return jsonAnswer(200, `{"ok":true,"result":{}}`), nil
		})
		var all sync.WaitGroup
		send := func(pace func(int)) {
			all.Go(func() {
				b := w.bot("10.0.0.1")
				kind, body := uploading(1<<20, pace)
				if a, err := b.do(t.Context(), http.MethodPost, b.path("sendDocument"), map[string]string{"Content-Type": kind}, body); err != nil || a.status != 200 {
					t.Errorf("%+v, %v", a, err)
				}
			})
		}
		for range 20 {
			send(nil)
		}
		began := time.Now()
		all.Wait()
		if most.Load() != 2 || time.Since(began) != 10*time.Second {
			t.Errorf("%d at a time, %v for 20", most.Load(), time.Since(began))
		}
		for range 2 {
			send(func(int) { time.Sleep(20 * time.Second) }) // for minutes
		}
		after(time.Second)
		began = time.Now()
		b := w.bot("10.0.0.2")
		kind, body := uploading(1<<20, nil)
		if a, err := b.do(t.Context(), http.MethodPost, b.path("sendDocument"), map[string]string{"Content-Type": kind}, body); err != nil || a.status != 200 {
			t.Errorf("%+v, %v", a, err)
		}
		if took := time.Since(began); took > fastFor+2*time.Second {
			t.Errorf("beside two slow ones it took %v", took)
		}
		all.Wait()
	})
}

// behind returns a standby of a replica. So many requests at once are passed on as there are connections.
func (w *world) behind(replica string) *world {
	w.t.Helper()
	primary, conns := w.gateway.Passer(), make(chan struct{}, peer.MaxPassing)
	return newWorld(w.t, func(cfg *Config) {
		cfg.Replica = replica
		cfg.Pass.Primary = func() (string, string, <-chan struct{}) { return "process-1", "10.0.1.1", nil }
		cfg.Pass.Forward = func(ctx context.Context, _ string, r *http.Request, origin string) (*http.Response, error) {
			select {
			case conns <- struct{}{}:
				defer func() { <-conns }()
			case <-ctx.Done():
				return nil, peer.ErrNotSent
			}
			rec := httptest.NewRecorder()
			if err := primary.Forwarded(rec, r.WithContext(ctx), origin); err != nil {
				return nil, errors.Join(peer.ErrNotTaken, err)
			}
			return rec.Result(), nil
		}
	})
}

// Two uploads are under way at a time on the primary. However many wait for them through a standby, calls and polls through it do not.
func TestManyUploadsThroughAStandbyDelayNothingElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		away := w.behind("process-2")
		goOn := make(chan struct{})
		w.tg.answerWith(func(req *http.Request) (*http.Response, error) {
			if !strings.HasSuffix(req.URL.Path, "/senddocument") {
				return nil, nil
			}
			_, err := io.Copy(io.Discard, req.Body)
			<-goOn
			if err != nil {
				return nil, err
			}
			return jsonAnswer(200, `{"ok":true,"result":{}}`), nil
		})
		var all sync.WaitGroup
		var sent, refused atomic.Int64
		for range peer.MaxPassing + 20 {
			all.Go(func() {
				b := away.bot("10.0.0.1")
				kind, body := uploading(2*maxBuffered, nil)
				a, err := b.do(t.Context(), http.MethodPost, b.path("sendDocument"), map[string]string{"Content-Type": kind}, body)
				switch {
				case err == nil && a.status == 200:
					sent.Add(1)
				case err == nil && a.status == 502 && strings.Contains(a.body, "too many uploads") && a.header.Get("Retry-After") == "1":
					refused.Add(1)
				default:
					t.Errorf("%+v, %v", a, err)
				}
			})
		}
		after(2 * time.Second)
		b := away.bot("10.0.0.2")
		for _, one := range []struct {
			asks string
			wait time.Duration
		}{{"sendMessage?chat_id=1&text=x", 0}, {"getChat?chat_id=1", 0}, {"getUpdates?timeout=5", 5 * time.Second}} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			began := time.Now()
			a, err := b.do(ctx, http.MethodGet, b.path(one.asks), nil, nil)
			cancel()
			if err != nil || a.status != 200 || time.Since(began) != one.wait {
				t.Errorf("beside them %s: %+v, %v after %v", one.asks, a, err, time.Since(began))
			}
		}
		after(uploadWait)
		if n := refused.Load(); n != peer.MaxPassing+20-peer.MaxUploads || sent.Load() > 0 {
			t.Errorf("%d are refused, %d sent", n, sent.Load())
		}
		close(goOn)
		all.Wait()
		if n := sent.Load(); n != peer.MaxUploads {
			t.Errorf("%d are sent", n)
		}
	})
}

// A refused upload is read to its end: frameworks do not look at an answer before.
func TestARefusedUploadIsAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		w.bot("10.0.0.1").run()
		after(time.Second)
		two := w.bot("10.0.0.2").run()
		after(time.Second)
		kind, body := uploading(20<<20, nil)
		a, err := two.do(t.Context(), http.MethodPost, two.path("sendDocument"), map[string]string{"Content-Type": kind}, body)
		if err != nil || a.status != 409 || len(w.tg.got()) != 0 {
			t.Errorf("%+v, %v, %v", a, err, w.tg.got())
		}
	})
}

// Files stream down, parts of them too; from any replica. Other answers keep the form of the Bot API.
func TestFiles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		file := bytes.Repeat([]byte("0123456789abcdef"), 20<<16) // 20 MiB
		w.tg.answerWith(func(req *http.Request) (*http.Response, error) {
			switch path := strings.Replace(req.URL.Path, realToken, "T", 1); {
			case path == "/file/botT/documents/a b.bin" && req.Method == http.MethodGet:
				resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/octet-stream"}}, ContentLength: int64(len(file))}
				content := file
				if req.Header.Get("Range") == "bytes=16-31" {
					content = file[16:32]
					resp.StatusCode, resp.ContentLength = 206, 16
					resp.Header.Set("Content-Range", "bytes 16-31/"+strconv.Itoa(len(file)))
				}
				resp.Body = io.NopCloser(bytes.NewReader(content))
				return resp, nil
			case path == "/file/botT/"+"var/lib/T/x":
				t.Error("the token in a path of a local server is not put back")
			case path == "/file/botT/page":
				return &http.Response{StatusCode: http.StatusBadGateway, Header: http.Header{"Content-Type": {"text/html"}}, Body: io.NopCloser(strings.NewReader("<html>"))}, nil
			case strings.HasPrefix(path, "/file/botT/"):
				return jsonAnswer(404, `{"ok":false,"error_code":404,"description":"Not Found: `+realToken+`"}`), nil
			case strings.HasSuffix(path, "/getfile"):
				return jsonAnswer(200, `{"ok":true,"result":{"file_path":"/var/lib/`+realToken+`/x"}}`), nil
			}
			return nil, nil
		})
		b := w.bot("10.0.0.1")
		a, err := b.do(t.Context(), http.MethodGet, "/file/bot"+copyToken+"/documents/a%20b.bin", nil, nil)
		if err != nil || a.status != 200 || a.body != string(file) || a.header.Get("Content-Length") != strconv.Itoa(len(file)) {
			t.Errorf("%d, %d bytes, %v", a.status, len(a.body), err)
		}
		a, err = b.do(t.Context(), http.MethodGet, "/copy/x/file/bot"+copyToken+"/documents/a%20b.bin", map[string]string{"Range": "bytes=16-31"}, nil)
		if err != nil || a.status != 206 || a.body != string(file[16:32]) || !strings.HasPrefix(a.header.Get("Content-Range"), "bytes 16-31/") {
			t.Errorf("a part: %+v, %v", a, err)
		}
		a, err = b.do(t.Context(), http.MethodGet, "/file/bot"+copyToken+"/none", nil, nil)
		if err != nil || a.status != 404 || a.body != `{"ok":false,"error_code":404,"description":"Not Found: `+copyToken+`"}` {
			t.Errorf("none: %+v, %v", a, err)
		}
		a, err = b.do(t.Context(), http.MethodGet, "/file/bot"+copyToken+"/page", nil, nil)
		if err != nil || a.status != 502 || !strings.Contains(a.body, "not one of the Bot API") || strings.Contains(a.body, "carried out") {
			t.Errorf("a page: %+v, %v", a, err)
		}
		w.start()
		after(time.Second)
		a = b.call("getFile", "file_id", "x")
		if a.status != 200 || a.body != `{"ok":true,"result":{"file_path":"/var/lib/`+copyToken+`/x"}}` {
			t.Errorf("a local server's: %+v", a)
		}
	})
}

// What Telegram answers is handed on: its refusals, and how long to wait. What is no answer of the Bot API becomes one, and
// names no address.
func TestTelegramsAnswersAreHandedOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		b := w.bot("10.0.0.1")
		for i, r := range []struct {
			resp   func(req *http.Request) (*http.Response, error)
			status int
			want   string
		}{
			{func(*http.Request) (*http.Response, error) {
				resp := jsonAnswer(429, `{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 7","parameters":{"retry_after":7}}`)
				resp.Header.Set("Retry-After", "7")
				return resp, nil
			}, 429, `"retry_after":7`},
			{func(*http.Request) (*http.Response, error) {
				return jsonAnswer(403, `{"ok":false,"error_code":403,"description":"Forbidden: bot was blocked by the user"}`), nil
			}, 403, "blocked by the user"},
			{func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusBadGateway, Header: http.Header{"Content-Type": {"text/html"}}, Body: io.NopCloser(strings.NewReader("<html>"))}, nil
			}, 502, "not one of the Bot API; the call may have been carried out"},
			{func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/html"}}, Body: io.NopCloser(strings.NewReader("<html>"))}, nil
			}, 502, "not one of the Bot API; the call may have been carried out"},
			{func(*http.Request) (*http.Response, error) {
				return nil, fmt.Errorf("dial https://api.telegram.org/bot%s: refused", realToken)
			}, 502, "nothing was sent"},
			{func(req *http.Request) (*http.Response, error) {
				_, _ = io.Copy(io.Discard, req.Body)
				return nil, fmt.Errorf("read https://api.telegram.org/bot%s: reset", realToken)
			}, 502, "may have been carried out"},
			{func(req *http.Request) (*http.Response, error) {
				_, _ = io.Copy(io.Discard, req.Body)
				<-req.Context().Done()
				return nil, req.Context().Err()
			}, 502, "may have been carried out"},
		} {
			w.tg.answerWith(func(req *http.Request) (*http.Response, error) {
				if strings.HasSuffix(req.URL.Path, "/sendmessage") {
					return r.resp(req)
				}
				return nil, nil
			})
			began := time.Now()
			a := b.call("sendMessage", "chat_id", "1")
			if a.status != r.status || !strings.Contains(a.body, r.want) || !strings.HasPrefix(a.body, `{"ok":false,`) || time.Since(began) > answerBound {
				t.Errorf("%d: %+v after %v", i, a, time.Since(began))
			}
			if r.status == 429 && a.header.Get("Retry-After") != "7" || strings.Contains(a.body, "carried out") && a.header.Get("Retry-After") != "" {
				t.Errorf("%d: %v", i, a.header)
			}
		}
		for result, want := range map[string]float64{callPassed: 2, callUnsent: 1, callUnknown: 4} {
			if n := w.metric("habot_gateway_calls_total", "result", result); n != want {
				t.Errorf("%v are counted as %s, want %v", n, result, want)
			}
		}
	})
}

// A text is replaced wherever the pieces are cut.
func TestReplacer(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var text strings.Builder
		for range random.IntN(20) {
			text.WriteString([]string{"x", "ab", "aab", "aabb", "abc"}[random.IntN(5)])
		}
		r := newReplacer(&choppy{strings.NewReader(text.String()), random}, "aabb", "<>")
		got, err := io.ReadAll(r)
		if want := strings.ReplaceAll(text.String(), "aabb", "<>"); err != nil || string(got) != want {
			t.Fatalf("%q: %q, %v; want %q", text.String(), got, err, want)
		}
	}
}

type choppy struct {
	r      io.Reader
	random *rand.Rand
}

// Read implements io.Reader.
func (c *choppy) Read(p []byte) (int, error) { return c.r.Read(p[:1+c.random.IntN(5)]) }

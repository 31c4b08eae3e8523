package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// endless is a file that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// A client that does not read what it is answered, or does not send what it has announced, is cut off: whatever it asked, and with
// which token ever.
func TestEachWaitForAClientHasABound(t *testing.T) {
	t.Parallel()
	bot := " /bot" + copyToken + "/"
	const http1 = " HTTP/1.1\r\nHost: x\r\n"
	for name, c := range map[string]struct {
		request string
		within  time.Duration
	}{
		"a poll with updates":           {"GET" + bot + "getUpdates?timeout=50" + http1 + "\r\n", stallBound},
		"a poll without":                {"GET" + bot + "getUpdates?timeout=5&offset=-1" + http1 + "\r\n", minimumHold + stallBound},
		"a call":                        {"GET" + bot + "sendMessage?chat_id=1" + http1 + "\r\n", stallBound},
		"what is answered here":         {"GET" + bot + "getMe" + http1 + "\r\n", stallBound},
		"a file":                        {"GET /file/bot" + copyToken + "/a" + http1 + "\r\n", stallBound},
		"a wrong token":                 {"GET /bot1:x/getMe" + http1 + "\r\n", refusalWait + stallBound},
		"no path of the Bot API":        {"GET /x" + http1 + "\r\n", stallBound},
		"another HTTP method":           {"PUT" + bot + "getMe" + http1 + "\r\n", stallBound},
		"what net/http refuses":         {"hello\r\n\r\n", headerBound + stallBound},
		"a body that is asked for":      {"POST" + bot + "sendMessage" + http1 + "Expect: 100-continue\r\nContent-Length: 9\r\n\r\n", stallBound},
		"headers without an end":        {"GET" + bot + "getMe" + http1, headerBound},
		"no body to a call":             {"POST" + bot + "sendMessage" + http1 + "Content-Length: 9\r\n\r\n", 2 * stallBound},
		"no body to a wrong token":      {"POST /bot1:x/getMe" + http1 + "Content-Length: 9\r\n\r\n", refusalWait + 2*stallBound},
		"no body to no path":            {"POST /x" + http1 + "Content-Length: 9\r\n\r\n", 2 * stallBound},
		"no body to a file":             {"POST /file/bot" + copyToken + "/a" + http1 + "Content-Length: 9\r\n\r\n", 2 * stallBound},
		"no body to another method":     {"PUT" + bot + "getMe" + http1 + "Content-Length: 9\r\n\r\n", 2 * stallBound},
		"no chunk to no path":           {"POST /x" + http1 + "Transfer-Encoding: chunked\r\n\r\n", 2 * stallBound},
		"an upload that stops":          {"POST" + bot + "sendDocument" + http1 + "Content-Length: 900000\r\n\r\n" + strings.Repeat("x", maxBuffered+4096), 2 * stallBound},
		"an upload that stops, refused": {"POST /bot1:x/sendDocument" + http1 + "Content-Length: 900000\r\n\r\n" + strings.Repeat("x", maxBuffered+4096), refusalWait + 2*stallBound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.tg.answerWith(func(req *http.Request) (*http.Response, error) {
					if strings.HasPrefix(req.URL.Path, "/file/") {
						return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, ContentLength: -1, Body: io.NopCloser(endless{})}, nil
					}
					return nil, nil
				})
				w.start()
				w.tg.say(1, "a")
				after(time.Second)
				conn, err := w.pipes.dial(t.Context(), "10.0.0.1")
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				go func() { _, _ = io.WriteString(conn, c.request) }() // it may be refused before its end
				after(c.within + time.Second)
				_ = conn.SetReadDeadline(time.Now().Add(time.Second)) // pipes have them
				if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
					t.Errorf("it is not cut off after %v: %d, %v", c.within, n, err)
				}
			})
		})
	}
}

// The wait for the answer to an upload is none for the client: Telegram may take longer than a client may for its next bytes.
func TestTheAnswerToAnUploadMayTakeLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(cfg *Config) {
			moved := make(chan struct{})
			cfg.Pass.Primary = func() (string, string, <-chan struct{}) { return "process-2", "10.0.1.2", moved }
			cfg.Pass.Forward = func(_ context.Context, _ string, r *http.Request, _ string) (*http.Response, error) {
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					return nil, err
				}
				select {
				case <-time.After(answerBound - time.Second):
					return jsonAnswer(200, `{"ok":true,"result":{}}`), nil
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
			}
		})
		b := w.bot("10.0.0.1")
		for _, length := range []string{"known", "unknown"} {
			kind, body := uploading(1<<20, nil)
			if length == "known" {
				raw, _ := io.ReadAll(body)
				body = bytes.NewReader(raw)
			}
			a, err := b.do(t.Context(), http.MethodPost, b.path("sendDocument"), map[string]string{"Content-Type": kind}, body)
			if err != nil || a.status != 200 || a.body != `{"ok":true,"result":{}}` {
				t.Errorf("its length is %s: %+v, %v", length, a, err)
			}
		}
	})
}

// minimumHold is how long a poll without updates waits at least.
const minimumHold = 5 * time.Second

package gateway

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// sends writes to a connection of its own, and returns all that comes back until it is closed.
func (w *world) sends(text string) string {
	w.t.Helper()
	conn, err := w.pipes.dial(w.t.Context(), "10.0.0.1")
	if err != nil {
		w.t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(conn, text) }() // it may be refused before its end
	closing := time.AfterFunc(10*time.Minute, func() { _ = conn.Close() })
	defer closing.Stop()
	raw, _ := io.ReadAll(conn)
	_ = conn.Close()
	return string(raw)
}

// What net/http refuses before any handler sees it is answered in the form of the Bot API, too.
func TestWhatIsNoHTTPIsAnsweredInTheFormOfTheBotAPI(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		get := "GET /bot" + copyToken + "/getMe HTTP/1.1\r\n"
		for name, c := range map[string]struct {
			request string
			status  int
			want    string
		}{
			"no HTTP":                          {"hello\r\n\r\n", 400, "Bad Request"},
			"TLS":                              {"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", 400, "Bad Request"},
			"no path":                          {"GET  HTTP/1.1\r\nHost: x\r\n\r\n", 400, "Bad Request"},
			"no Host":                          {get + "\r\n", 400, "missing required Host header"},
			"two Hosts":                        {get + "Host: x\r\nHost: y\r\n\r\n", 400, "Bad Request"},
			"a malformed Host":                 {get + "Host: a b\r\n\r\n", 400, "malformed Host header"},
			"a header without a colon":         {get + "Host: x\r\nnothing\r\n\r\n", 400, "Bad Request"},
			"a malformed name of a header":     {get + "Host: x\r\na b: c\r\n\r\n", 400, "invalid header name"},
			"a length that is no number":       {get + "Host: x\r\nContent-Length: ten\r\n\r\n", 400, "Bad Request"},
			"an unknown transfer encoding":     {get + "Host: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "Not Implemented"},
			"another version of HTTP":          {strings.Replace(get, "1.1", "3.0", 1) + "Host: x\r\n\r\n", 505, "unsupported protocol version"},
			"headers that are too large":       {get + "Host: x\r\nx: " + strings.Repeat("y", maxHeaders+8<<10) + "\r\n\r\n", 431, "256 KiB"},
			"an expectation that is not known": {get + "Host: x\r\nExpect: the-best\r\n\r\n", 417, "Expectation Failed"},
		} {
			raw := w.sends(c.request)
			resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(raw)), nil)
			if err != nil {
				t.Errorf("%s: %q, %v", name, raw, err)
				continue
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			var answer struct {
				OK          *bool
				ErrorCode   int `json:"error_code"`
				Description string
			}
			if err != nil || json.Unmarshal(body, &answer) != nil || answer.OK == nil || *answer.OK || answer.ErrorCode != c.status ||
				!strings.Contains(answer.Description, c.want) || resp.StatusCode != c.status || !resp.Close ||
				resp.ContentLength != int64(len(body)) || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
				t.Errorf("%s: %q, %v", name, raw, err)
			}
		}
	})
}

// After an answer of a handler, too; and what a handler writes is never taken for a refusal.
func TestWhatIsAnsweredIsNotTakenForARefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		page := "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"
		w.tg.answerWith(func(req *http.Request) (*http.Response, error) {
			if !strings.HasPrefix(req.URL.Path, "/file/") {
				return nil, nil
			}
			return &http.Response{
				StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, ContentLength: -1,
				Body: io.NopCloser(io.MultiReader(strings.NewReader(strings.Repeat("x", 5000)), strings.NewReader(page))),
			}, nil
		})
		raw := w.sends("GET /file/bot" + copyToken + "/a HTTP/1.1\r\nHost: x\r\n\r\nhello\r\n\r\n")
		if strings.Count(raw, page) != 1 || strings.Count(raw, `{"ok":false,"error_code":400,"description":"Bad Request"}`) != 1 {
			t.Errorf("%q", raw)
		}
	})
}

// A handler that fails is no reason for an answer in another form, and what it had written does not look whole.
func TestAHandlerThatPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tg.answerWith(func(req *http.Request) (*http.Response, error) {
			if strings.HasSuffix(req.URL.Path, "/late") {
				return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Header: http.Header{}, Body: io.NopCloser(io.MultiReader(strings.NewReader("begun"), panics{}))}, nil
			}
			if strings.HasSuffix(req.URL.Path, "/soon") {
				panic("a bug")
			}
			return nil, nil
		})
		b := w.bot("10.0.0.1")
		a, err := b.do(t.Context(), http.MethodGet, "/file/bot"+copyToken+"/soon", nil, nil)
		if err != nil || a.status != 500 || !strings.HasPrefix(a.body, `{"ok":false,"error_code":500,"description":"Internal Server Error`) {
			t.Errorf("%+v, %v", a, err)
		}
		if a, err = b.do(t.Context(), http.MethodGet, "/file/bot"+copyToken+"/late", nil, nil); err == nil {
			t.Errorf("%+v", a)
		}
		if n := w.logged("a request of a copy panicked"); n < 2 {
			t.Errorf("it is logged %d times", n)
		}
	})
}

type panics struct{}

func (panics) Read([]byte) (int, error) { panic("a bug") }

package telegram

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// base is a way to Telegram made of a function.
type base func(req *http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f base) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func newTestClient(token string, rt http.RoundTripper, admins ...int64) *Client {
	return New(Config{
		Token: token, APIURL: "http://telegram.test", Name: "habot-bot-1", Version: "1.2.3", Registerer: prometheus.NewRegistry(), Transport: rt,
		IsAdmin: func(chat int64) bool { return slices.Contains(admins, chat) },
	})
}

func getMe(ctx context.Context, c *Client) error { return c.Call(ctx, "getMe", nil, nil) }

func getUpdates(ctx context.Context, c *Client) error {
	return c.Call(ctx, "getUpdates", struct{}{}, &[]json.RawMessage{})
}

func TestUserAgentNamesVersionAndReplica(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"habot-bot-1": "habot/1 (habot-bot-1)",
		"a\r\nX: b":   "habot/1 (aX: b)",
		"a)(b":        "habot/1 (ab)",
		"käse":        "habot/1 (kse)",
	} {
		if got := UserAgent("1", name); got != want {
			t.Errorf("userAgent for %q is %q, want %q", name, got, want)
		}
	}
}

// The name of a copy leaves for a server alone that said last that it is the simulator: Telegram gets what it always does.
func TestTheCopyIsNamedToTheSimulatorAlone(t *testing.T) {
	t.Parallel()
	for _, simulated := range []bool{false, true} {
		var got []string
		b := newTestClient(testToken, base(func(req *http.Request) (*http.Response, error) {
			got = append(got, strings.Join(req.Header.Values("Habot-Copy"), " "))
			resp := good("true")
			if simulated {
				resp.Header = http.Header{"Habot-Simulator": {"true"}}
			}
			return resp, nil
		}))
		pass := func(name string) {
			t.Helper()
			resp, err := b.Pass(WithCopy(inTerm(t), name), Passed{Method: "sendMessage", Body: strings.NewReader("{}"), Size: 2})
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		}
		pass("one") // the server has not answered yet
		pass("10.0.0.1\r\nX: \u00e4")
		if err := b.Call(inTerm(t), "getUpdates", nil, nil); err != nil {
			t.Fatal(err)
		}
		pass("one")
		was := simulated
		simulated = false
		pass("one")
		pass("one") // what answers there now is no simulator
		want := []string{"", "", "", "", "", ""}
		if was {
			want = []string{"", "10.0.0.1X: ", "", "one", "one", ""}
		}
		if !slices.Equal(got, want) {
			t.Errorf("simulator %t: named %q, want %q", was, got, want)
		}
	}
}

func TestWithoutTheLeaseTheErrorIsErrLeaseLost(t *testing.T) {
	t.Parallel()
	b := newTestClient(testToken, base(func(*http.Request) (*http.Response, error) {
		t.Error("a request left")
		return good("true"), nil
	}))
	err := getMe(WithLease(t.Context(), func() bool { return false }), b)
	if !errors.Is(err, ErrLeaseLost) {
		t.Errorf("error: %v", err)
	}
	if v := Judge(t.Context(), err); v != Over {
		t.Errorf("judged %v", v)
	}
}

// Between the check and the first byte a connection may have to be made, and the process may freeze.
func TestLeaseThatEndsWhileAConnectionIsMadeSendsNothing(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	received := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			received <- err
			return
		}
		defer func() { _ = conn.Close() }()
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err == nil {
			_, err = io.ReadAll(req.Body)
		}
		received <- err
	}()
	var held atomic.Bool
	held.Store(true)
	rt := newBase(nil)
	rt.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		held.Store(false)
		return new(net.Dialer).DialContext(ctx, network, listener.Addr().String())
	}
	b := newTestClient(testToken, rt)
	err = getMe(WithLease(t.Context(), held.Load), b)
	rt.CloseIdleConnections()
	if !errors.Is(err, ErrLeaseLost) {
		t.Errorf("error: %v", err)
	}
	if err := <-received; !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a whole request left without the lease (%v)", err)
	}
}

// A proxy or server that answers 502 now and then costs no handshake; one whose page never ends costs its connection, and no time.
func TestAnAnswer5xxLeavesItsConnection(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		page  func(w http.ResponseWriter, req *http.Request)
		conns int64
	}{
		"a page": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("bad gateway ", 500))
		}, 1},
		"an endless one": {func(w http.ResponseWriter, req *http.Request) {
			_ = http.NewResponseController(w).Flush()
			<-req.Context().Done()
		}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var conns atomic.Int64
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				_, _ = io.Copy(io.Discard, req.Body)
				w.WriteHeader(http.StatusBadGateway)
				tt.page(w, req)
			}))
			server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
				if s == http.StateNew {
					conns.Add(1)
				}
			}
			server.Start()
			defer server.Close()
			rt := newBase(nil)
			defer rt.CloseIdleConnections()
			c := New(Config{Token: testToken, APIURL: server.URL, Registerer: prometheus.NewRegistry(), Transport: rt})
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				err := getMe(ctx, c)
				if ended := ctx.Err(); !errors.Is(err, errServer) || ended != nil {
					t.Errorf("error: %v, %v", err, ended)
				}
				cancel()
			}
			if n := conns.Load(); n != tt.conns {
				t.Errorf("%d connections for 3 requests, want %d", n, tt.conns)
			}
		})
	}
}

// The environment is the configuration's to read.
func TestNoProxyIsTakenFromTheEnvironment(t *testing.T) {
	t.Parallel()
	if newBase(nil).Proxy != nil {
		t.Error("the way to Telegram asks for a proxy")
	}
}

// net/http sends a request again over a new connection if an idle one was closed.
func TestRequestSentAgainIsHeldToTheLeaseToo(t *testing.T) {
	t.Parallel()
	var held atomic.Bool
	held.Store(true)
	b := newTestClient(testToken, base(func(req *http.Request) (*http.Response, error) {
		held.Store(false)
		if req.GetBody == nil {
			return nil, errors.New("cannot send again")
		}
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		defer func() { _ = body.Close() }()
		_, err = io.ReadAll(body)
		return nil, err
	}))
	if err := getMe(WithLease(t.Context(), held.Load), b); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("error: %v", err)
	}
}

func TestTokenIsInNoError(t *testing.T) {
	t.Parallel()
	for _, ft := range outages() {
		t.Run(ft.name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			b := newTestClient(testToken, base(func(*http.Request) (*http.Response, error) {
				requests.Add(1)
				return ft.answer()
			}))
			err := getMe(t.Context(), b)
			if err == nil {
				t.Fatal("no error")
			}
			if strings.Contains(err.Error(), testSecret) {
				t.Errorf("the token is in %q", err)
			}
			if strings.Contains(err.Error(), placeholder) {
				t.Errorf("what looks like a wrong token is in %q", err)
			}
			if requests.Load() != 1 {
				t.Errorf("%d requests left: a redirect was followed", requests.Load())
			}
		})
	}
}

func TestRedaction(t *testing.T) {
	t.Parallel()
	tests := []struct{ token, text, want string }{
		{"1:abc", "at /bot1:abc/getMe", "at /bot<token>/getMe"},
		{"1:abc", "at /bot1%3Aabc/getMe", "at /bot1%3A<token>/getMe"},
		{"abc", "abc", "<token>"},
		{"", "a", "a"},
		{"1:abc", "at /bot" + placeholder + "/getMe", "at /bot<token>/getMe"},
		{"", "at /bot" + placeholder + "/getMe", "at /bot<token>/getMe"},
	}
	for _, tt := range tests {
		if got := redaction(tt.token, nil)(tt.text); got != tt.want {
			t.Errorf("%q without %q is %q, want %q", tt.text, tt.token, got, tt.want)
		}
	}
}

// endless is a body of n bytes of white space.
func endless(n int64) io.ReadCloser { return io.NopCloser(io.LimitReader(spaces{}, n)) }

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	const start = `{"ok":true,"result":[]}`
	for _, tt := range []struct {
		name string
		size int64
		ok   bool
	}{
		{"as long as may be", maxResponse, true},
		{"one byte longer", maxResponse + 1, false},
		{"without an end", 1 << 50, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newTestClient(testToken, base(func(*http.Request) (*http.Response, error) {
				resp := good("")
				resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(start), endless(tt.size-int64(len(start)))))
				return resp, nil
			}))
			err := getUpdates(inTerm(t), b)
			if (err == nil) != tt.ok {
				t.Errorf("error: %v", err)
			}
			if !tt.ok && Judge(t.Context(), err) != Transient {
				t.Errorf("%v is not transient", err)
			}
		})
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		ctx  context.Context
		resp *http.Response
		err  error
		want Verdict
	}{
		"fine":               {t.Context(), good("[]"), nil, Fine},
		"ended":              {ended, nil, context.Canceled, Over},
		"ended with a 409":   {ended, bad(409, otherPoller), nil, Over},
		"dropped":            {t.Context(), nil, errDropped, Transient},
		"own time-out":       {t.Context(), nil, context.DeadlineExceeded, Transient},
		"limited":            {t.Context(), tooMany(3), nil, Limited},
		"unauthorized":       {t.Context(), bad(401, "Unauthorized"), nil, Unauthorized},
		"other poller":       {t.Context(), bad(409, otherPoller), nil, Conflict},
		"setWebhook":         {t.Context(), bad(409, "Conflict: terminated by setWebhook request"), nil, Conflict},
		"webhook":            {t.Context(), bad(409, webhookSet), nil, Webhook},
		"blocked":            {t.Context(), bad(403, "Forbidden"), nil, Permanent},
		"wrong":              {t.Context(), bad(400, "Bad Request: message is too long"), nil, Permanent},
		"too large":          {t.Context(), bad(413, "Request Entity Too Large"), nil, Permanent},
		"not found":          {t.Context(), bad(404, "Not Found"), nil, Unauthorized},
		"no such method":     {t.Context(), bad(404, "Not Found: method not found"), nil, Permanent},
		"logged out":         {t.Context(), bad(400, "Logged out"), nil, Unauthorized},
		"logged out, words":  {t.Context(), bad(400, "Bad Request: logged out"), nil, Unauthorized},
		"another server's":   {t.Context(), bad(421, "Misdirected Request: unallowed token specified"), nil, Unauthorized},
		"too slow":           {t.Context(), bad(408, "Request Timeout"), nil, Transient},
		"unheard of":         {t.Context(), bad(418, "I'm a teapot"), nil, Transient},
		"500":                {t.Context(), bad(500, "Internal Server Error"), nil, Transient},
		"500 in a 200":       {t.Context(), answer(200, "", `{"ok":false,"error_code":500,"description":"x"}`), nil, Transient},
		"no code":            {t.Context(), answer(200, "", `{"ok":false,"description":"x"}`), nil, Transient},
		"no error":           {t.Context(), answer(200, "", `{"ok":false}`), nil, Transient},
		"page":               {t.Context(), answer(403, "text/html", "<html>"), nil, Transient},
		"nothing":            {t.Context(), answer(200, "", ""), nil, Transient},
		"something else":     {t.Context(), answer(200, "", `{"ok":true,"result":{"a":1}}`), nil, Transient},
		"not even an object": {t.Context(), answer(200, "", `[]`), nil, Transient},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTestClient(testToken, base(func(*http.Request) (*http.Response, error) { return tt.resp, tt.err }))
			err := getUpdates(inTerm(t), b)
			if got := Judge(tt.ctx, err); got != tt.want {
				t.Errorf("%v is judged %v, want %v", err, got, tt.want)
			}
		})
	}
}

// inTerm is a context of a term whose lease holds.
func inTerm(t *testing.T) context.Context {
	return WithLease(t.Context(), func() bool { return true })
}

func TestWithoutATermOnlyWhatConflictsWithNobodyLeaves(t *testing.T) {
	t.Parallel()
	var left []string
	telegram := base(func(req *http.Request) (*http.Response, error) {
		left = append(left, path.Base(req.URL.Path))
		return good("[]"), nil
	})
	admins, nobodys := newTestClient(testToken, telegram, operator), newTestClient(testToken, telegram)
	ctx := t.Context()
	type params map[string]any
	for name, ask := range map[string]func() error{
		"getUpdates":          func() error { return admins.Call(ctx, "getUpdates", nil, nil) },
		"getUpdates, marked":  func() error { return admins.Call(context.WithValue(ctx, heldKey{}, nil), "getUpdates", nil, nil) },
		"deleteWebhook":       func() error { return admins.Call(ctx, "deleteWebhook", params{}, nil) },
		"setMyCommands":       func() error { return admins.Call(ctx, "setMyCommands", params{}, nil) },
		"to somebody":         func() error { return admins.Call(ctx, "sendMessage", params{"chat_id": anybody, "text": "x"}, nil) },
		"to a name":           func() error { return admins.Call(ctx, "sendMessage", params{"chat_id": "@x", "text": "x"}, nil) },
		"to no admin":         func() error { return nobodys.Call(ctx, "sendMessage", params{"chat_id": operator, "text": "x"}, nil) },
		"a photo to an admin": func() error { return admins.Call(ctx, "sendPhoto", params{"chat_id": operator, "photo": "x"}, nil) },
		"a dice to an admin":  func() error { return admins.Call(ctx, "sendDice", params{"chat_id": operator}, nil) },
		"close":               func() error { return admins.Call(ctx, "close", nil, nil) },
		"forwarded to an admin, as a form": func() error {
			return admins.Forward(ctx, "sendMessage", "application/x-www-form-urlencoded", strings.NewReader("chat_id=1&text=x"), 16)
		},
	} {
		err := ask()
		if !errors.Is(err, errNeedsLease) || Judge(ctx, err) != Over {
			t.Errorf("%s: %v, want %v", name, err, errNeedsLease)
		}
	}
	if len(left) != 0 {
		t.Fatalf("%v left without a lease", left)
	}
	_ = getMe(ctx, admins)
	_ = admins.Call(ctx, "getWebhookInfo", nil, nil)
	_ = admins.Call(ctx, "sendMessage", params{"chat_id": operator, "text": "x"}, nil)
	_ = getUpdates(inTerm(t), admins)
	if want := []string{"getMe", "getWebhookInfo", "sendMessage", "getUpdates"}; !slices.Equal(left, want) {
		t.Errorf("%v left, want %v", left, want)
	}
}

func TestRetryAfterIsBounded(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[int]time.Duration{-5: time.Second, 0: time.Second, 7: 7 * time.Second, 1 << 40: 5 * time.Minute} {
		b := newTestClient(testToken, base(func(*http.Request) (*http.Response, error) { return tooMany(seconds), nil }))
		err := getMe(t.Context(), b)
		if got := RetryAfter(err); got != want {
			t.Errorf("retry_after %d gives %v, want %v", seconds, got, want)
		}
		reg := prometheus.NewRegistry()
		reg.MustRegister(b.metrics.retryAfter)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		if h := families[0].GetMetric()[0].GetHistogram(); h.GetSampleCount() != 1 || h.GetSampleSum() != want.Seconds() {
			t.Errorf("retry_after %d is measured as %v, want %v once", seconds, h, want)
		}
	}
}

func TestBackOffDoublesUpToItsLimitAndLeavesOutAtMostHalf(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]time.Duration{0: time.Second, 1: 2 * time.Second, 2: 4 * time.Second, 3: 5 * time.Second, 1000: 5 * time.Second} {
		if got := BackOff(n, time.Second, 5*time.Second, 0); got != want {
			t.Errorf("attempt %d waits %v, want %v", n, got, want)
		}
		if got := BackOff(n, time.Second, 5*time.Second, 0.999999); got < want/2 || got > want {
			t.Errorf("attempt %d waits %v, want %v at least", n, got, want/2)
		}
	}
}

func TestWhetherARequestLeftIsKnown(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		way  base
		left bool
	}{
		"no connection": {func(*http.Request) (*http.Response, error) { return nil, errors.New("no route to host") }, false},
		"broken while it was written": {func(req *http.Request) (*http.Response, error) {
			_, _ = req.Body.Read(make([]byte, 1))
			return nil, errors.New("connection reset by peer")
		}, true},
	} {
		b := newTestClient(testToken, tt.way)
		for what, ctx := range map[string]context.Context{"in a term": inTerm(t), "without one": t.Context()} {
			err := getMe(ctx, b)
			if errors.Is(err, ErrNotSent) == tt.left || Judge(ctx, err) != Transient {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}

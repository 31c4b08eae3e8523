package bot

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mymmrac/telego"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"habot/app/election"
)

// base is a way to Telegram made of a function.
type base func(req *http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f base) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func newTestBot(t *testing.T, token string, rt http.RoundTripper, admins ...int64) *Bot {
	t.Helper()
	b, err := New(Config{
		Token: token, APIURL: "http://telegram.test", Name: "habot-bot-1", Version: "1.2.3", Cluster: &cluster{}, AdminChatIDs: admins,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), OnHealth: func(election.Health) {}, Transport: rt,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestUserAgentNamesVersionAndReplica(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 1)
		f.tg.send(1, "a")
		f.start(election.Change{})
		after(time.Second)
		for _, c := range f.tg.all() {
			if got := c.header.Get("User-Agent"); got != "habot/1.2.3 (habot-bot-1)" {
				t.Errorf("%s says User-Agent: %s", c.method, got)
			}
		}
	})
	for name, want := range map[string]string{
		"habot-bot-1": "habot/1 (habot-bot-1)",
		"a\r\nX: b":   "habot/1 (aX: b)",
		"a)(b":        "habot/1 (ab)",
		"käse":        "habot/1 (kse)",
	} {
		if got := userAgent("1", name); got != want {
			t.Errorf("userAgent for %q is %q, want %q", name, got, want)
		}
	}
}

func TestWithoutTheLeaseTheErrorIsErrLeaseLost(t *testing.T) {
	t.Parallel()
	b := newTestBot(t, testToken, base(func(*http.Request) (*http.Response, error) {
		t.Error("a request left")
		return good("true"), nil
	}))
	_, err := b.api.GetMe(withHeld(t.Context(), func() bool { return false }))
	if !errors.Is(err, ErrLeaseLost) {
		t.Errorf("error: %v", err)
	}
	if v := judge(t.Context(), err); v != over {
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
	b := newTestBot(t, testToken, rt)
	_, err = b.api.GetMe(withHeld(t.Context(), held.Load))
	rt.CloseIdleConnections()
	if !errors.Is(err, ErrLeaseLost) {
		t.Errorf("error: %v", err)
	}
	if err := <-received; !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a whole request left without the lease (%v)", err)
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
	b := newTestBot(t, testToken, base(func(req *http.Request) (*http.Response, error) {
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
	if _, err := b.api.GetMe(withHeld(t.Context(), held.Load)); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("error: %v", err)
	}
}

func TestTokenIsInNoError(t *testing.T) {
	t.Parallel()
	for _, ft := range outages() {
		if ft.name == "hang" {
			continue
		}
		t.Run(ft.name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			b := newTestBot(t, testToken, base(func(*http.Request) (*http.Response, error) {
				requests.Add(1)
				return ft.answer(call{})
			}))
			_, err := b.api.GetMe(t.Context())
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
			b := newTestBot(t, testToken, base(func(*http.Request) (*http.Response, error) {
				resp := good("")
				resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(start), endless(tt.size-int64(len(start)))))
				return resp, nil
			}))
			_, err := b.api.GetUpdates(inTerm(t), nil)
			if (err == nil) != tt.ok {
				t.Errorf("error: %v", err)
			}
			if !tt.ok && judge(t.Context(), err) != transient {
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
		want verdict
	}{
		"fine":               {t.Context(), good("[]"), nil, fine},
		"ended":              {ended, nil, context.Canceled, over},
		"ended with a 409":   {ended, bad(409, otherPoller), nil, over},
		"dropped":            {t.Context(), nil, errDropped, transient},
		"own time-out":       {t.Context(), nil, context.DeadlineExceeded, transient},
		"limited":            {t.Context(), tooMany(3), nil, limited},
		"unauthorized":       {t.Context(), bad(401, "Unauthorized"), nil, unauthorized},
		"other poller":       {t.Context(), bad(409, otherPoller), nil, conflict},
		"setWebhook":         {t.Context(), bad(409, "Conflict: terminated by setWebhook request"), nil, conflict},
		"webhook":            {t.Context(), bad(409, webhookSet), nil, webhook},
		"blocked":            {t.Context(), bad(403, "Forbidden"), nil, permanent},
		"wrong":              {t.Context(), bad(400, "Bad Request: message is too long"), nil, permanent},
		"too large":          {t.Context(), bad(413, "Request Entity Too Large"), nil, permanent},
		"not found":          {t.Context(), bad(404, "Not Found"), nil, unauthorized},
		"logged out":         {t.Context(), bad(400, "Logged out"), nil, unauthorized},
		"logged out, words":  {t.Context(), bad(400, "Bad Request: logged out"), nil, unauthorized},
		"another server's":   {t.Context(), bad(421, "Misdirected Request: unallowed token specified"), nil, unauthorized},
		"too slow":           {t.Context(), bad(408, "Request Timeout"), nil, transient},
		"unheard of":         {t.Context(), bad(418, "I'm a teapot"), nil, transient},
		"500":                {t.Context(), bad(500, "Internal Server Error"), nil, transient},
		"500 in a 200":       {t.Context(), answer(200, "", `{"ok":false,"error_code":500,"description":"x"}`), nil, transient},
		"no code":            {t.Context(), answer(200, "", `{"ok":false,"description":"x"}`), nil, transient},
		"no error":           {t.Context(), answer(200, "", `{"ok":false}`), nil, transient},
		"page":               {t.Context(), answer(403, "text/html", "<html>"), nil, transient},
		"nothing":            {t.Context(), answer(200, "", ""), nil, transient},
		"something else":     {t.Context(), answer(200, "", `{"ok":true,"result":{"a":1}}`), nil, transient},
		"not even an object": {t.Context(), answer(200, "", `[]`), nil, transient},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTestBot(t, testToken, base(func(*http.Request) (*http.Response, error) { return tt.resp, tt.err }))
			_, err := b.api.GetUpdates(inTerm(t), nil)
			if got := judge(tt.ctx, err); got != tt.want {
				t.Errorf("%v is judged %v, want %v", err, got, tt.want)
			}
		})
	}
}

// inTerm is a context of a term whose lease holds.
func inTerm(t *testing.T) context.Context {
	return withHeld(t.Context(), func() bool { return true })
}

func TestWithoutATermOnlyWhatConflictsWithNobodyLeaves(t *testing.T) {
	t.Parallel()
	var left []string
	telegram := base(func(req *http.Request) (*http.Response, error) {
		left = append(left, path.Base(req.URL.Path))
		return good("[]"), nil
	})
	api, nobodys := newTestBot(t, testToken, telegram, operator).api, newTestBot(t, testToken, telegram).api
	ctx := t.Context()
	to := func(chat telego.ChatID) *telego.SendMessageParams {
		return &telego.SendMessageParams{ChatID: chat, Text: "x"}
	}
	for name, ask := range map[string]func() error{
		"getUpdates":         func() error { _, err := api.GetUpdates(ctx, nil); return err },
		"getUpdates, marked": func() error { _, err := api.GetUpdates(context.WithValue(ctx, heldKey{}, nil), nil); return err },
		"deleteWebhook":      func() error { return api.DeleteWebhook(ctx, &telego.DeleteWebhookParams{}) },
		"setMyCommands":      func() error { return api.SetMyCommands(ctx, &telego.SetMyCommandsParams{}) },
		"to somebody":        func() error { _, err := api.SendMessage(ctx, to(telego.ChatID{ID: anybody})); return err },
		"to a name":          func() error { _, err := api.SendMessage(ctx, to(telego.ChatID{Username: "@x"})); return err },
		"to no admin":        func() error { _, err := nobodys.SendMessage(ctx, to(telego.ChatID{ID: operator})); return err },
		"a photo to an admin": func() error {
			_, err := api.SendPhoto(ctx, &telego.SendPhotoParams{ChatID: telego.ChatID{ID: operator}, Photo: telego.InputFile{FileID: "x"}})
			return err
		},
		"a dice to an admin": func() error {
			_, err := api.SendDice(ctx, &telego.SendDiceParams{ChatID: telego.ChatID{ID: operator}})
			return err
		},
		"close": func() error { return api.Close(ctx) },
	} {
		err := ask()
		if !errors.Is(err, errNeedsLease) || judge(ctx, err) != over {
			t.Errorf("%s: %v, want %v", name, err, errNeedsLease)
		}
	}
	if len(left) != 0 {
		t.Fatalf("%v left without a lease", left)
	}
	_, _ = api.GetMe(ctx)
	_, _ = api.SendMessage(ctx, to(telego.ChatID{ID: operator}))
	_, _ = api.GetUpdates(inTerm(t), nil)
	if want := []string{"getMe", "sendMessage", "getUpdates"}; !slices.Equal(left, want) {
		t.Errorf("%v left, want %v", left, want)
	}
}

func TestRetryAfterIsBounded(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[int]time.Duration{-5: time.Second, 0: time.Second, 7: 7 * time.Second, 1 << 40: 5 * time.Minute} {
		b := newTestBot(t, testToken, base(func(*http.Request) (*http.Response, error) { return tooMany(seconds), nil }))
		_, err := b.api.GetMe(t.Context())
		if got := retryAfter(err); got != want {
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
		if got := backOff(n, time.Second, 5*time.Second, 0); got != want {
			t.Errorf("attempt %d waits %v, want %v", n, got, want)
		}
		if got := backOff(n, time.Second, 5*time.Second, 0.999999); got < want/2 || got > want {
			t.Errorf("attempt %d waits %v, want %v at least", n, got, want/2)
		}
	}
}

func TestMetricsKeepTheirNamesAndFormAndClosedLabels(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 1)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			switch c.params.ChatID {
			case 3:
				return bad(403, "Forbidden"), nil
			case 4:
				return nil, errDropped
			}
			return nil, nil
		})
		f.tg.send(1, "/ping")
		f.tg.send(2, "/ping@other")
		f.tg.send(3, "a")
		f.tg.send(5, "b")
		r := f.start(election.Change{}, 1003)
		after(time.Second)
		f.tg.send(4, "c")
		after(5 * time.Second)
		r.drained()
		for outcome, want := range map[string]float64{
			outcomeAnswered: 1, outcomeIgnored: 1, outcomeFailed: 1, outcomeSkipped: 1, outcomePanic: 0,
		} {
			f.expectOutcome(outcome, want)
		}
		if got := f.metric("habot_update_age_seconds"); got != 3 {
			t.Errorf("the age of %v updates was measured, want 3", got)
		}
		if got := f.metric("habot_telegram_requests_total", "method", "sendMessage", "code", "403"); got != 1 {
			t.Errorf("%v requests with 403 counted", got)
		}
		if got := f.metric("habot_telegram_requests_total", "method", "sendMessage", "code", "error"); got == 0 {
			t.Error("requests without an answer are not counted")
		}
		problems, err := testutil.GatherAndLint(f.reg)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
		families, err := f.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, family := range families {
			names = append(names, family.GetName())
		}
		want := []string{
			"habot_admin_messages_total", "habot_telegram_conflicts_total", "habot_telegram_request_seconds", "habot_telegram_requests_total",
			"habot_telegram_retry_after_seconds", "habot_telegram_trouble", "habot_update_age_seconds", "habot_update_seconds", "habot_updates_total",
		}
		if !slices.Equal(names, want) {
			t.Errorf("metrics are %v, want %v", names, want)
		}
	})
}

func TestOffsets(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := newLedger(nil)
	if p := l.next(0, now); p.offset != 0 || p.timeout != longTimeout || p.bound != longBound {
		t.Errorf("the first poll is %+v", p)
	}
	if p := l.next(1, now); p.offset != 0 || !p.askFirst {
		t.Errorf("without a known offset a probe is %+v", p)
	}
	for _, id := range []int{7, 8, 9} {
		if l.knows(id) || l.take(id, now) || !l.knows(id) {
			t.Errorf("update %d was not new, or is not known then", id)
		}
	}
	l.done(9, now)
	if p := l.next(0, now); p.offset != 0 || l.idle() {
		t.Errorf("nothing is to be confirmed, but the poll is %+v", p)
	}
	l.done(7, now)
	if p := l.next(0, now); p.offset != 8 {
		t.Errorf("the poll that confirms is %+v", p)
	}
	l.polled(0, []int{7, 8, 9})
	if p := l.next(0, now); p.offset != 8 {
		t.Errorf("a poll without an offset confirmed something: %+v", p)
	}
	l.polled(8, []int{8, 9})
	if p := l.next(0, now); p.offset != 0 {
		t.Errorf("confirmed, but the poll is %+v", p)
	}
	if got := l.ids(); !slices.Equal(got, []int64{9}) {
		t.Errorf("after the confirmation of 7, %v wait", got)
	}
	if one, two := l.next(1, now), l.next(2, now); one.offset != 8 || two.offset != 0 || one.askFirst || two.bound != probeBound {
		t.Errorf("probes are %+v and %+v, want different offsets", one, two)
	}
	week := now.Add(7 * 24 * time.Hour)
	for n := 1; n < 5; n++ {
		if p := l.next(n, week); p.offset != 0 {
			t.Errorf("after a week probe %d has the offset %d: ids may have started again lower", n, p.offset)
		}
	}
}

func TestLedgerConfirmsUpToTheOldestInHand(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := newLedger([]int64{12, 500})
	for _, id := range []int{10, 11, 12, 13} {
		if got := l.take(id, now); got != (id == 12) {
			t.Errorf("whether the predecessor handled %d: %v", id, got)
		}
	}
	for _, step := range []struct{ done, offset int }{{13, 0}, {10, 11}, {11, 14}} {
		l.done(step.done, now)
		if l.offset != step.offset {
			t.Errorf("with %d handled, %d confirms, want %d", step.done, l.offset, step.offset)
		}
	}
	if !l.idle() || !l.knows(10) || !l.knows(13) {
		t.Error("what is handled and not confirmed would be handled again if it came")
	}
	if l.take(14, now); l.idle() {
		t.Error("with an update in hand the ledger is idle")
	}
	l.polled(14, nil)
	if got := l.ids(); len(got) != 0 || l.offset != 0 {
		t.Errorf("after the confirmation %v wait and %d confirms", got, l.offset)
	}
}

// What is handled out of turn is told to the successor until it is confirmed, however far its id is.
func TestLedgerKeepsWhatIsHandledOutOfTurn(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := newLedger(nil)
	for _, id := range []int{10, 11, 500} {
		l.take(id, now)
	}
	l.done(10, now)
	l.done(500, now)
	l.polled(11, []int{11, 500})
	if got := l.ids(); !slices.Equal(got, []int64{500}) || !l.knows(500) {
		t.Errorf("handled and not confirmed are %v, want 500", got)
	}
	l.done(11, now)
	if l.offset != 501 || !l.idle() {
		t.Errorf("%d confirms, want 501", l.offset)
	}
}

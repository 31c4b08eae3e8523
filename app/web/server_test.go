package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"habot/app/diagnosis"
	"habot/app/election"
	"habot/app/gateway"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const adminToken = "the-administrators-token"

// replica is what the tests make of one.
type replica struct {
	view func() election.View
	move func(ctx context.Context, successor string) error
}

func (r replica) View() election.View { return r.view() }

func (r replica) Switchover(ctx context.Context, successor string) error {
	return r.move(ctx, successor)
}

func healthy(role election.Role) election.View {
	v := election.View{
		Mode: "primary-backup", Expected: 3, Reachable: 1, Quorum: 2,
		Self: election.Status{Replica: "aa", Name: "habot-bot-1", Version: "1.0.0", Role: role, Health: election.Health{OK: true}},
	}
	switch role {
	case election.Primary:
		v.Self.Primary, v.Self.PrimaryName = election.Claim{Timestamp: 1700000000123456789, Replica: "aa"}, "habot-bot-1"
	case election.Standby:
		v.Self.Primary, v.Self.PrimaryName = election.Claim{Timestamp: 1700000000123456789, Replica: "bb"}, "habot-bot-2"
	}
	return v
}

// configure makes a configuration in which all is well; change says what is not.
func configure(change func(*Config)) Config {
	cfg := Config{
		Addr: "127.0.0.1:0",
		Replica: replica{
			view: func() election.View { return healthy(election.Standby) },
			move: func(context.Context, string) error { return nil },
		},
		Failing: func() []string { return nil }, LastPoll: func() time.Time { return time.Time{} }, OperatorKey: operatorKey,
		Gatherer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	if cfg.Facts == nil {
		cfg.Facts = func() diagnosis.Facts { return diagnosis.Facts{View: cfg.Replica.View(), Failing: cfg.Failing()} }
	}
	return cfg
}

func viewing(v election.View) func(*Config) {
	return func(cfg *Config) { cfg.Replica = replica{view: func() election.View { return v }} }
}

func ask(h http.Handler, req *http.Request) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w.Code, w.Body.String()
}

func get(s *Server, path string) (int, string) {
	return ask(s.http.Handler, httptest.NewRequest(http.MethodGet, path, nil))
}

func expect(t *testing.T, what string, code int, body string, wantCode int, wantBody string) {
	t.Helper()
	if code != wantCode || body != wantBody {
		t.Errorf("%s: %d %q, want %d %q", what, code, body, wantCode, wantBody)
	}
}

var allRoles = []election.Role{election.Joining, election.Looking, election.Candidate, election.Primary, election.Standby, election.Leaving}

func TestLivezDependsOnPartsAloneNotOnRoleQuorumOrTelegram(t *testing.T) {
	t.Parallel()
	for _, role := range allRoles {
		v := healthy(role)
		v.Self.Health = election.Health{Detail: "Telegram is down"}
		failing := []string(nil)
		s := NewServer(configure(func(cfg *Config) {
			viewing(v)(cfg)
			cfg.Facts = func() diagnosis.Facts {
				return diagnosis.Facts{View: v, Trouble: diagnosis.TroubleToken, Failing: failing}
			}
			cfg.Failing = func() []string { return failing }
		}))
		code, body := get(s, "/livez")
		expect(t, string(role), code, body, 200, "ok\n")
		failing = []string{"poller", "watch"}
		code, body = get(s, "/livez")
		expect(t, string(role)+", failing", code, body, 503, "failing: poller, watch\n")
	}
}

func TestReadyzSaysWhyNot(t *testing.T) {
	t.Parallel()
	unhealthy := healthy(election.Primary)
	unhealthy.Self.Health = election.Health{Detail: "polls fail"}
	leaving := healthy(election.Leaving)
	leaving.Self.Primary = election.Claim{Timestamp: 5, Replica: "bb"}
	for _, c := range []struct {
		what    string
		view    election.View
		failing []string
		trouble diagnosis.Trouble
		code    int
		body    string
	}{
		{"primary", healthy(election.Primary), nil, "", 200, "ok\n"},
		{"standby", healthy(election.Standby), nil, "", 200, "ok\n"},
		{"joining", healthy(election.Joining), nil, "", 503, "not ready: no primary yet: this replica has just started\n"},
		{"looking", healthy(election.Looking), nil, "", 503, "not ready: no primary: 1 of 3 replicas reachable, 2 needed\n"},
		{"candidate", healthy(election.Candidate), nil, "", 503, "not ready: no primary: 1 of 3 replicas reachable, 2 needed\n"},
		{"leaving", leaving, nil, "", 503, "not ready: this replica is leaving\n"},
		{"unhealthy", unhealthy, nil, "", 503, "not ready: polls fail\n"},
		{"trouble", healthy(election.Standby), nil, diagnosis.TroubleConflict, 503, "not ready: another program polls with this token (409)\n"},
		{"a failing part", healthy(election.Primary), []string{"poller"}, "", 503, "not ready: components of this replica fail: poller\n"},
		{"all at once", unhealthy, []string{"poller"}, diagnosis.TroubleToken, 503, "not ready: components of this replica fail: poller\n"},
	} {
		s := NewServer(configure(func(cfg *Config) {
			viewing(c.view)(cfg)
			cfg.Facts = func() diagnosis.Facts { return diagnosis.Facts{View: c.view, Trouble: c.trouble, Failing: c.failing} }
		}))
		code, body := get(s, "/readyz")
		expect(t, c.what, code, body, c.code, c.body)
	}
}

func TestPrimaryIs200OnThePrimaryOnly(t *testing.T) {
	t.Parallel()
	for _, role := range allRoles {
		v := healthy(role)
		code, body := get(NewServer(configure(viewing(v))), "/primary")
		want := http.StatusServiceUnavailable
		if role == election.Primary {
			want = http.StatusOK
		}
		var said struct {
			Primary   bool   `json:"primary"`
			Name      string `json:"name"`
			Timestamp int64  `json:"timestamp_ns"`
			Self      string `json:"self"`
		}
		if err := json.Unmarshal([]byte(body), &said); err != nil {
			t.Fatal(err)
		}
		if code != want || said.Primary != (role == election.Primary) || said.Name != v.Self.PrimaryName ||
			said.Timestamp != v.Self.Primary.Timestamp || said.Self != "habot-bot-1" {
			t.Errorf("%s: %d %s", role, code, body)
		}
	}
}

func TestClusterAndHistoryShowAllThatIsKnown(t *testing.T) {
	t.Parallel()
	v := cluster()
	s := NewServer(configure(viewing(v)))
	var status Status
	code, body := get(s, "/cluster")
	want := Status{View: v, Verdict: diagnosis.Of(diagnosis.Facts{View: v})}
	err := json.Unmarshal([]byte(body), &status)
	if time.Since(status.At) > time.Minute {
		t.Errorf("/cluster was answered at %v", status.At)
	}
	if status.At = want.At; err != nil || code != 200 || !reflect.DeepEqual(status, want) {
		t.Errorf("/cluster: %d %v %s", code, err, body)
	}
	if !strings.Contains(body, `"text": "the bot answers: habot-bot-1 is primary"`) {
		t.Errorf("/cluster without a verdict: %s", body)
	}
	var history []election.Change
	code, body = get(s, "/history")
	if err := json.Unmarshal([]byte(body), &history); err != nil || code != 200 || !reflect.DeepEqual(history, v.History) {
		t.Errorf("/history: %d %v %s", code, err, body)
	}
	code, body = get(NewServer(configure(nil)), "/history")
	expect(t, "no history", code, body, 200, "[]")
}

func TestIndexShowsTheStatusAndTheAddresses(t *testing.T) {
	t.Parallel()
	v := cluster()
	v.Self.Name = "100%s"
	var status strings.Builder
	WriteStatus(&status, Status{View: v, Verdict: diagnosis.Of(diagnosis.Facts{View: v})})
	code, body := get(NewServer(configure(viewing(v))), "/")
	ago := regexp.MustCompile(`, [0-9.]+ \w+ ago, replacing`)
	if !ago.MatchString(body) {
		t.Errorf("/ does not tell how long ago the last change was: %s", body)
	}
	body = ago.ReplaceAllString(body, ", replacing")
	expect(t, "/", code, body, 200, status.String()+"\n/livez /readyz /primary /cluster /history /metrics, POST /switchover, POST /backend/next\n")
}

func TestUnknownPathsAndMethodsAreRefused(t *testing.T) {
	t.Parallel()
	s := NewServer(configure(func(cfg *Config) {
		cfg.Replica = replica{
			view: func() election.View { return healthy(election.Primary) },
			move: func(context.Context, string) error { t.Error("moved"); return nil },
		}
	}))
	for _, c := range []struct {
		method, path string
		code         int
		allow        string
	}{
		{"GET", "/nothing", 404, ""}, {"POST", "/cluster/x", 404, ""}, {"GET", "/debug/pprof/", 404, ""}, {"GET", "/%2e%2e/etc/passwd", 404, ""},
		{"GET", "/LIVEZ", 404, ""}, {"GET", "/v1/primary", 404, ""}, {"GET", "/" + strings.Repeat("a/", 2000), 404, ""},
		{"GET", "/switchover", 405, "POST"}, {"HEAD", "/switchover", 405, "POST"}, {"PUT", "/switchover", 405, "POST"}, {"DELETE", "/switchover", 405, "POST"},
		{"OPTIONS", "/switchover", 405, "POST"}, {"POST", "/livez", 405, "GET"}, {"POST", "/metrics", 405, "GET"}, {"TRACE", "/primary", 405, "GET"},
		{"FOO", "/cluster", 405, "GET"}, {"HEAD", "/cluster", 405, "GET"},
	} {
		w := httptest.NewRecorder()
		req := fromCommandLine(httptest.NewRequest(c.method, c.path, nil))
		s.http.Handler.ServeHTTP(w, req)
		var said map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || said["error"] == "" || w.Code != c.code {
			t.Errorf("%s %.30s: %d %q, want %d and a reason", c.method, c.path, w.Code, w.Body, c.code)
		}
		if !strings.Contains(w.Header().Get("Allow"), c.allow) {
			t.Errorf("%s %s: Allow %q, want %s", c.method, c.path, w.Header().Get("Allow"), c.allow)
		}
	}
}

func TestNoAnswerIsKeptOrGuessedAt(t *testing.T) {
	t.Parallel()
	s := NewServer(configure(nil))
	for _, path := range []string{"/", "/livez", "/readyz", "/primary", "/cluster", "/history", "/metrics", "/switchover", "/nothing"} {
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, w.Header())
		}
	}
}

// operatorKey is what the command line in the same container shows.
const operatorKey = "the-key-that-follows-from-the-cluster-secret"

// fromCommandLine is a request as the command line in the same container makes it.
func fromCommandLine(req *http.Request) *http.Request {
	return from(req, "127.0.0.1:50000", "127.0.0.1:8080", map[string]string{"Authorization": "Bearer " + operatorKey})
}

// from is a request of a client at remote that reached the server at the address that host names, or at 10.0.0.7.
func from(req *http.Request, remote, host string, header map[string]string) *http.Request {
	for k, v := range header {
		req.Header.Set(k, v)
	}
	req.RemoteAddr, req.Host = remote, host
	local, err := net.ResolveTCPAddr("tcp", host)
	if err != nil || strings.HasPrefix(host, "evil") || local.IP == nil {
		local = &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 8080}
	}
	if strings.HasPrefix(remote, "127.") {
		local = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}
	}
	return req.WithContext(context.WithValue(req.Context(), http.LocalAddrContextKey, net.Addr(local)))
}

func TestWhoMaySwitchOver(t *testing.T) {
	t.Parallel()
	const remote, loopback, own = "192.0.2.1:5000", "127.0.0.1:5000", "10.0.0.7:5000"
	bearer := func(token string, more ...string) map[string]string {
		h := map[string]string{"Authorization": "Bearer " + token}
		for i := 0; i < len(more); i += 2 {
			h[more[i]] = more[i+1]
		}
		return h
	}
	for _, c := range []struct {
		what, token, remote, host string
		header                    map[string]string
		allowed                   bool
	}{
		// The command line, in the same container.
		{"the command line", "", loopback, "127.0.0.1:8080", bearer(operatorKey), true},
		{"the command line, IPv6", "", "[::1]:5000", "[::1]:8080", bearer(operatorKey), true},
		{"the command line, IPv4 in IPv6", "", "[::ffff:127.0.0.1]:5000", "127.0.0.1:8080", bearer(operatorKey), true},
		{"the command line, by name", "", loopback, "localhost:8080", bearer(operatorKey), true},
		{"the command line, although there is a token", adminToken, loopback, "127.0.0.1:8080", bearer(operatorKey), true},
		{"the command line, HTTP_ADDR is not the loopback", "", own, "10.0.0.7:8080", bearer(operatorKey), true},
		{"the command line, wrong key", "", loopback, "127.0.0.1:8080", bearer(operatorKey + "x"), false},
		{"the key from elsewhere", "", remote, "10.0.0.7:8080", bearer(operatorKey), false},
		{"the key from elsewhere, pretending", "", remote, "127.0.0.1:8080", bearer(operatorKey, "X-Forwarded-For", "127.0.0.1", "Forwarded", "for=127.0.0.1"), false},
		{"the key, a browser's page", "", loopback, "127.0.0.1:8080", bearer(operatorKey, "Origin", "http://127.0.0.1:3000"), false},
		{"the key, a browser's page at our own address", "", own, "10.0.0.7:8080", bearer(operatorKey, "Origin", "http://10.0.0.7:3000"), false},
		{"the key, a browser's sandbox", "", loopback, "127.0.0.1:8080", bearer(operatorKey, "Origin", "null"), false},
		{"the key, a name that leads to the loopback", "", loopback, "evil.example:8080", bearer(operatorKey), false},
		{"the key, a name that begins like it", "", loopback, "127.0.0.1.evil.example", bearer(operatorKey), false},
		{"the key, no Host", "", loopback, "", bearer(operatorKey), false},
		{"the key through a proxy", "", loopback, "127.0.0.1:8080", bearer(operatorKey, "X-Forwarded-For", "192.0.2.1"), false},
		{"the key through another", "", loopback, "127.0.0.1:8080", bearer(operatorKey, "Forwarded", "for=192.0.2.1"), false},
		{"the key through a third", "", loopback, "127.0.0.1:8080", bearer(operatorKey, "Via", "1.1 proxy"), false},
		{"the key through a fourth", "", loopback, "127.0.0.1:8080", bearer(operatorKey, "X-Real-Ip", "192.0.2.1"), false},

		// The loopback alone proves nothing: a reverse proxy on the same host comes from there too, and nginx with its
		// defaults adds no header and sends the loopback as Host.
		{"the loopback", "", loopback, "127.0.0.1:8080", nil, false},
		{"the loopback, there is a token", adminToken, loopback, "127.0.0.1:8080", nil, false},
		{"the loopback, an empty key", "", loopback, "127.0.0.1:8080", bearer(""), false},
		{"the loopback, a token where there is none", "", loopback, "127.0.0.1:8080", bearer("x"), false},

		// ADMIN_TOKEN, from anywhere.
		{"the token", adminToken, remote, "bot:8080", bearer(adminToken), true},
		{"the token, from the loopback", adminToken, loopback, "127.0.0.1:8080", bearer(adminToken), true},
		{"the token through a proxy", adminToken, loopback, "bot.example", bearer(adminToken, "X-Forwarded-For", "192.0.2.1"), true},
		{"a page with the token", adminToken, remote, "bot:8080", bearer(adminToken, "Origin", "http://ops"), true},
		{"elsewhere", "", remote, "127.0.0.1:8080", nil, false},
		{"elsewhere, there is a token", adminToken, remote, "bot:8080", nil, false},
		{"wrong token", adminToken, remote, "bot:8080", bearer(adminToken + "x"), false},
		{"half a token", adminToken, remote, "bot:8080", bearer(adminToken[:8]), false},
		{"empty token", adminToken, remote, "bot:8080", bearer(""), false},
		{"empty token where there is none", "", remote, "bot:8080", bearer(""), false},
		{"another scheme", adminToken, remote, "bot:8080", map[string]string{"Authorization": "Basic " + adminToken}, false},
		{"the token in another header", adminToken, remote, "bot:8080", map[string]string{"X-Admin-Token": adminToken}, false},
		{"a remote address that is none", "", "@", "127.0.0.1:8080", bearer(operatorKey), false},
	} {
		moved := false
		var logged bytes.Buffer
		s := NewServer(configure(func(cfg *Config) {
			cfg.AdminToken, cfg.OperatorKey = c.token, operatorKey
			cfg.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
			cfg.Replica = replica{move: func(context.Context, string) error { moved = true; return nil }}
		}))
		code, body := ask(s.http.Handler, from(httptest.NewRequest(http.MethodPost, "/switchover", nil), c.remote, c.host, c.header))
		want := http.StatusForbidden
		if c.allowed {
			want = http.StatusAccepted
		}
		if code != want || moved != c.allowed {
			t.Errorf("%s: %d %s, moved %t, want %d", c.what, code, body, moved, want)
		}
		if strings.Contains(logged.String()+body, adminToken[:8]) || strings.Contains(logged.String()+body, operatorKey[:12]) {
			t.Errorf("%s: a secret is shown: %s %s", c.what, &logged, body)
		}
	}
}

func TestSwitchoverNamesTheSuccessor(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 257)
	for _, c := range []struct {
		query, body string
		code        int
		to          string
	}{
		{"", "", 202, ""}, {"", "{}", 202, ""}, {"", " {\"to\":\"\"}\n", 202, ""},
		{"", `{"to":"habot-bot-2"}`, 202, "habot-bot-2"}, {"?to=habot-bot-2", "", 202, "habot-bot-2"},
		{"?to=other", `{"to":"habot-bot-2"}`, 202, "habot-bot-2"}, {"", `{"to":"` + long[1:] + `"}`, 202, long[1:]},
		{"", `{"to":"` + long + `"}`, 400, ""}, {"?to=" + long, "", 400, ""},
		{"", "habot-bot-2", 400, ""}, {"", `{"to":5}`, 400, ""}, {"", `["habot-bot-2"]`, 400, ""}, {"", `{"to":"a"`, 400, ""},
		{"", `{"successor":"habot-bot-2"}`, 400, ""}, {"", `{"to":"a"}{"to":"b"}`, 400, ""}, {"", `{"to":"a"} x`, 400, ""}, {"", "\x00\xff", 400, ""},
		{"", `to=habot-bot-2`, 400, ""}, {"", strings.Repeat("[", 4000), 400, ""},
		{"", `{"to":"a"}` + strings.Repeat(" ", maxBody), 400, ""},
	} {
		to, moved := "", false
		s := NewServer(configure(func(cfg *Config) {
			cfg.Replica = replica{move: func(_ context.Context, name string) error { to, moved = name, true; return nil }}
		}))
		code, body := ask(s.http.Handler, fromCommandLine(httptest.NewRequest(http.MethodPost, "/switchover"+c.query, strings.NewReader(c.body))))
		if code != c.code || to != c.to || moved != (c.code == 202) {
			t.Errorf("%.40q %.40q: %d %s, to %q, want %d to %q", c.query, c.body, code, body, to, c.code, c.to)
		}
	}
}

// The turn is moved on by those who may switch over, and by no one else.
func TestNext(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		may  bool
		next func(context.Context) error
		code int
		says string
	}{
		{true, func(context.Context) error { return nil }, 202, "ok"},
		{true, func(context.Context) error { return gateway.ErrNoSpare }, 409, "no other copy stands by"},
		{true, func(context.Context) error { return gateway.ErrUnknown }, 409, "no replica is primary"},
		{true, nil, 409, "BACKEND is not gateway"},
		{false, func(context.Context) error { t.Error("it was moved on"); return nil }, 403, "ADMIN_TOKEN"},
	} {
		s := NewServer(configure(func(cfg *Config) { cfg.Next = c.next }))
		req := httptest.NewRequest(http.MethodPost, "/backend/next", nil)
		if c.may {
			req = fromCommandLine(req)
		}
		if code, body := ask(s.http.Handler, req); code != c.code || !strings.Contains(body, c.says) {
			t.Errorf("%d %s, want %d, %q", code, body, c.code, c.says)
		}
	}
	if code, _ := get(NewServer(configure(nil)), "/backend/next"); code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", code)
	}
}

// The status shows copies, those of the primary wherever it is asked.
func TestStatusShowsCopies(t *testing.T) {
	t.Parallel()
	s := NewServer(configure(func(cfg *Config) {
		cfg.Copies = func(context.Context) *gateway.Snapshot {
			return &gateway.Snapshot{Active: "10.0.0.5", Pending: 3, InHand: 2, Copies: []gateway.Copy{{Name: "10.0.0.5", Role: "active"}}}
		}
	}))
	_, body := get(s, "/")
	if !strings.Contains(body, "copy 10.0.0.5: active since ") || !strings.Contains(body, "updates: 3 wait, of which the active copy has 2 in hand") {
		t.Errorf("/: %s", body)
	}
	if _, body := get(s, "/cluster"); !strings.Contains(body, `"active": "10.0.0.5"`) {
		t.Errorf("/cluster: %s", body)
	}
}

// endless is a body that does not end in reasonable time, and counts what was taken of it.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	if e.read += len(p); e.read > 64<<20 {
		return 0, errors.New("all of it was read")
	}
	return copy(p, bytes.Repeat([]byte(" "), len(p))), nil
}

func TestAHugeBodyIsNotReadToItsEnd(t *testing.T) {
	t.Parallel()
	s := NewServer(configure(nil))
	body := &endless{}
	code, said := ask(s.http.Handler, fromCommandLine(httptest.NewRequest(http.MethodPost, "/switchover", body)))
	expect(t, "endless", code, said, 400, `{"error":"the body is too large or cannot be read"}`)
	if body.read > 2*maxBody {
		t.Errorf("read %d bytes", body.read)
	}
	// Of those who may not, nothing is read at all.
	body = &endless{}
	if code, _ = ask(s.http.Handler, httptest.NewRequest(http.MethodPost, "/switchover", body)); code != 403 || body.read > 0 {
		t.Errorf("from elsewhere: %d, read %d bytes", code, body.read)
	}
}

func TestWhatBecameOfASwitchover(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		code int
		body string
	}{
		{nil, 202, `{"ok":true}`},
		{fmt.Errorf("ask 10.0.0.7:7175: %w", election.ErrNoSuccessor), 409, `{"error":"no standby can take over just now: none has granted the primary's lease lately"}`},
		{fmt.Errorf("ask 10.0.0.7:7175: %w", election.ErrNotPrimary), 409, `{"error":"the primary is changing just now; try again"}`},
		{errors.New("some detail"), 503, `{"error":"the switchover could not be started; the log of this replica says why"}`},
	} {
		s := NewServer(configure(func(cfg *Config) {
			cfg.Replica = replica{view: cluster, move: func(context.Context, string) error { return c.err }}
		}))
		code, body := ask(s.http.Handler, fromCommandLine(httptest.NewRequest(http.MethodPost, "/switchover", nil)))
		expect(t, fmt.Sprint(c.err), code, body, c.code, c.body)
	}
}

// gathering is a Gatherer of nothing that does something first.
func gathering(first func() error) prometheus.Gatherer {
	return prometheus.GathererFunc(after(first, prometheus.NewRegistry().Gather))
}

func after[T any](first func() error, next func() (T, error)) func() (T, error) {
	return func() (T, error) {
		if err := first(); err != nil {
			return *new(T), err
		}
		return next()
	}
}

func TestAPanicCostsOneRequestOnly(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	broken := true
	blow := func() {
		if broken {
			panic("kaboom")
		}
	}
	s := NewServer(configure(func(cfg *Config) {
		cfg.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		cfg.Replica = replica{
			view: func() election.View { blow(); return healthy(election.Primary) },
			move: func(context.Context, string) error { blow(); return nil },
		}
		cfg.Failing = func() []string { blow(); return nil }
		cfg.Gatherer = gathering(func() error { blow(); return nil })
	}))
	for _, path := range []string{"/", "/livez", "/readyz", "/primary", "/cluster", "/history", "/metrics", "/switchover"} {
		method := http.MethodGet
		if path == "/switchover" {
			method = http.MethodPost
		}
		broken = true
		logged.Reset()
		code, body := ask(s.http.Handler, fromCommandLine(httptest.NewRequest(method, path, nil)))
		if code != 500 || strings.Contains(body, "kaboom") || !strings.Contains(logged.String(), "kaboom") || !strings.Contains(logged.String(), "path="+path) {
			t.Errorf("%s: %d %q, logged %q", path, code, body, &logged)
		}
		broken = false
		if code, body = ask(s.http.Handler, fromCommandLine(httptest.NewRequest(method, path, nil))); code >= 300 {
			t.Errorf("%s, afterwards: %d %q", path, code, body)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "habot_primary", Help: "h"})
	registry.MustRegister(gauge)
	gauge.Set(1)
	s := NewServer(configure(func(cfg *Config) { cfg.Gatherer = registry }))
	if code, body := get(s, "/metrics"); code != 200 || !strings.Contains(body, "\nhabot_primary 1\n") {
		t.Errorf("%d %s", code, body)
	}
	s = NewServer(configure(func(cfg *Config) {
		cfg.Gatherer = gathering(func() error { return errors.New("broken") })
	}))
	if code, _ := get(s, "/metrics"); code != 500 {
		t.Errorf("a broken collector: %d", code)
	}
}

func TestScrapesAtOnceAreBounded(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}, 5), make(chan struct{})
	s := NewServer(configure(func(cfg *Config) {
		cfg.Gatherer = gathering(func() error {
			entered <- struct{}{}
			<-release
			return nil
		})
	}))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { get(s, "/metrics") })
		<-entered
	}
	if code, _ := get(s, "/metrics"); code != 503 || len(entered) > 0 {
		t.Errorf("the fifth: %d, gathered %d more", code, len(entered))
	}
	if code, _ := get(s, "/livez"); code != 200 {
		t.Errorf("/livez meanwhile: %d", code)
	}
	close(release)
	all.Wait()
}

// serve runs a server on the loopback until the test ends.
func serve(t *testing.T, cfg Config) *Server {
	t.Helper()
	s := NewServer(cfg)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

func TestProbesMayAskWithHEAD(t *testing.T) {
	t.Parallel()
	s := serve(t, configure(viewing(healthy(election.Primary))))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, path := range []string{"/livez", "/readyz", "/primary"} {
		resp, err := client.Head("http://" + s.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK || len(body) > 0 || err != nil || resp.ContentLength <= 0 {
			t.Errorf("%s: %d %q %v, length %d", path, resp.StatusCode, body, err, resp.ContentLength)
		}
	}
}

func TestServeEndsWithItsContextAndFreesThePort(t *testing.T) {
	t.Parallel()
	s := NewServer(configure(nil))
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	second := NewServer(configure(func(cfg *Config) { cfg.Addr = s.Addr().String() }))
	if err := second.Listen(); err == nil || !strings.HasPrefix(err.Error(), "listen for operators: ") {
		t.Errorf("a port in use: %v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stop() // before it began: the shortest life is an orderly one too
	if err := s.Serve(ctx); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if err := second.Listen(); err != nil {
		t.Errorf("the port is still in use: %v", err)
	}
	_ = second.listener.Close()
}

func TestServeReportsALostListener(t *testing.T) {
	t.Parallel()
	s := NewServer(configure(nil))
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	_ = s.listener.Close()
	if err := s.Serve(context.Background()); err == nil || !strings.HasPrefix(err.Error(), "serve operators: ") {
		t.Errorf("Serve: %v", err)
	}
}

// cluster is a view with everything in it.
func cluster() election.View {
	at := func(s string) int64 {
		d, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			panic(err)
		}
		return d.UnixNano()
	}
	first := election.Claim{Timestamp: at("2026-01-02T03:04:05.6Z"), Replica: "bb"}
	now := election.Claim{Timestamp: at("2026-01-02T03:09:00Z"), Replica: "aa"}
	return election.View{
		Mode: "primary-backup", Expected: 4, Reachable: 3, Quorum: 3,
		Self: election.Status{
			Protocol: 1, Replica: "cc", Name: "habot-bot-3", Version: "1.0.0", Role: election.Standby, Primary: now, PrimaryName: "habot-bot-1",
			Remaining: time.Second, Lease: time.Second, Replicas: 4, Quorum: 3, Health: election.Health{OK: true},
		},
		Peers: []election.Peer{
			{Status: election.Status{Replica: "aa", Name: "habot-bot-1", Version: "1.0.0", Role: election.Primary, Primary: now, PrimaryName: "habot-bot-1", Health: election.Health{OK: true}}, Age: 80 * time.Millisecond, Reachable: true},
			{Status: election.Status{Replica: "bb", Name: "habot-bot-2", Version: "0.9.0", Role: election.Primary, Primary: first, Health: election.Health{OK: true}}, Age: 12400 * time.Millisecond},
			{Status: election.Status{Replica: "dd", Name: "habot-bot-4", Version: "1.0.0", Role: election.Standby, Primary: now, Health: election.Health{Detail: "Telegram does not answer"}}, Age: time.Millisecond, Reachable: true},
		},
		History: []election.Change{
			{Claim: first, Name: "habot-bot-2", Reason: election.ReasonStart},
			{Claim: now, Name: "habot-bot-1", Previous: "habot-bot-2", Reason: election.ReasonCrash, Gap: 1234567 * time.Microsecond},
		},
	}
}

// Whatever is posted, it is refused or names one successor of a bounded name, and says the same again when it
// is written anew.
func FuzzSuccessor(f *testing.F) {
	for _, body := range []string{"", "{}", `{"to":"habot-bot-2"}`, `{"to":5}`, `{"TO":"x"}`, `{"to":"a"}{"to":"b"}`, `{"to":"a"} x`, "null", "\xff", `{"to":"\ud800"}`} {
		f.Add("", []byte(body))
		f.Add("to=other&to=more", []byte(body))
	}
	f.Fuzz(func(t *testing.T, query string, body []byte) {
		read := func(query string, body []byte) (string, error) {
			req := httptest.NewRequest(http.MethodPost, "/switchover", bytes.NewReader(body))
			req.URL.RawQuery = query
			return successor(req)
		}
		to, err := read(query, body)
		if err != nil {
			if to != "" || len(err.Error()) > 100 {
				t.Errorf("%q, %v", to, err)
			}
			return
		}
		if len(to) > 256 || len(body) > maxBody {
			t.Errorf("took a name of %d bytes from a body of %d", len(to), len(body))
		}
		var said map[string]any
		if len(body) > 0 {
			if err := json.Unmarshal(body, &said); err != nil || len(said) > 1 {
				t.Errorf("took %q: %v", body, err)
			}
		}
		if len(said) == 0 && utf8.ValidString(to) && to != (&url.URL{RawQuery: query}).Query().Get("to") {
			t.Errorf("the query %q names %q", query, to)
		}
		if !utf8.ValidString(to) {
			return // JSON cannot say it
		}
		anew, err := json.Marshal(map[string]string{"to": to})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := read("", anew); err != nil || again != to {
			t.Errorf("%q comes back as %q, %v", to, again, err)
		}
	})
}

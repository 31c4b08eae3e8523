package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/config"
	"habot/app/election"
	"habot/app/peer"
	"habot/app/telegram"
)

func world(t *testing.T, opts Options) *World {
	t.Helper()
	w, err := NewWorld(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// asked is a replica that answers its status and takes note of everything else.
type asked struct {
	status election.Status
	copies []byte // what it answers to a message
	mu     sync.Mutex
	calls  []string
}

func (a *asked) note(call string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, call)
}

func (a *asked) Status(context.Context) (election.Status, error) { return a.status, nil }
func (a *asked) Claim(context.Context, election.ClaimRequest) (election.ClaimAnswer, error) {
	a.note("claim")
	return election.ClaimAnswer{}, nil
}
func (a *asked) End(context.Context, election.EndRequest) error { a.note("end"); return nil }
func (a *asked) Leave(context.Context, election.LeaveRequest) (election.LeaveAnswer, error) {
	a.note("leave")
	return election.LeaveAnswer{}, nil
}
func (a *asked) History(context.Context) (election.History, error) {
	a.note("history")
	return election.History{}, nil
}
func (a *asked) Progress(context.Context, election.Progress) (election.ProgressAnswer, error) {
	a.note("progress")
	return election.ProgressAnswer{}, nil
}
func (a *asked) SwitchoverHere(context.Context, string) error { a.note("switchover"); return nil }

// Forwarded implements peer.Gateway, as Message does.
func (a *asked) Forwarded(http.ResponseWriter, *http.Request, string) error {
	a.note("forwarded")
	return election.ErrNotPrimary
}

func (a *asked) Message(_ context.Context, kind string, body []byte) ([]byte, error) {
	a.note(fmt.Sprintf("%s %q", kind, body))
	return a.copies, nil
}

// serve runs a replica's server with the identity of a token, and returns its address.
func serve(t *testing.T, a *asked, token string) string {
	t.Helper()
	identity, err := peer.NewIdentity([]byte("derived from the token " + token))
	if err != nil {
		t.Fatal(err)
	}
	server := peer.NewServer(peer.ServerConfig{Addr: "127.0.0.1:0", Identity: identity, Replica: a, Gateway: a, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err := server.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return server.Addr().String()
}

func TestAReplicaIsAskedForItsStatusAlone(t *testing.T) {
	t.Parallel()
	a := &asked{status: replica("a").Status}
	addr := serve(t, a, testToken)
	r, err := world(t, options(t)).Replica(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	if r.Status.Name != "a" || r.RoundTrip <= 0 || r.Asked.IsZero() || r.Answered.Before(r.Asked) {
		t.Errorf("%+v", r)
	}
	if ahead, known := clock(r); !known || ahead != 0 {
		t.Errorf("one machine's clock is %v ahead of itself (known: %t)", ahead, known)
	}
	if len(a.calls) != 0 {
		t.Errorf("also asked: %v", a.calls)
	}
}

// What the primary knows of copies comes over the replicas' port, which is open where the gateway's and the operators' may not be.
func TestAReplicaIsAskedForCopies(t *testing.T) {
	t.Parallel()
	raw, err := json.Marshal(copies("active", "standby"))
	if err != nil {
		t.Fatal(err)
	}
	a := &asked{copies: raw}
	w, addr := world(t, options(t, "BACKEND=gateway")), serve(t, a, testToken)
	s, err := w.Copies(t.Context(), addr)
	if err != nil || s.Active != "copy-0" || s.Standby() != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	a.mu.Lock()
	if !slices.Equal(a.calls, []string{`copies ""`}) {
		t.Errorf("it is asked: %v", a.calls)
	}
	a.mu.Unlock()
	if s, err := w.Copies(t.Context(), serve(t, &asked{copies: []byte("<html>")}, testToken)); err == nil {
		t.Errorf("nonsense is taken for %+v", s)
	}
	if s, err := w.Copies(t.Context(), serve(t, &asked{copies: raw}, "another token")); err == nil {
		t.Errorf("another bot's copies: %+v", s)
	}
}

// What can be at an address of INSTANCES, by the line that it gives.
func TestWhatIsNoReplicaOfThisBotIsRecognized(t *testing.T) {
	t.Parallel()
	page := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(page.Close)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	opts := options(t)
	w := world(t, opts)
	for addr, want := range map[string]string{
		serve(t, &asked{status: replica("a").Status}, "another token"): "it belongs to another bot",
		page.Listener.Addr().String():                                  "what listens there is no replica",
		closed.Addr().String():                                         "no replica listens there (connection refused)",
		silent.Addr().String():                                         "it accepts the connection and does not answer as a replica (no answer in time)",
	} {
		ctx := t.Context()
		if addr == silent.Addr().String() {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond) // real time: this one is waited for
			defer cancel()
		}
		_, err := w.Replica(ctx, addr)
		if l := unanswered("replica", met{addr: addr, err: err}); err == nil || !strings.HasPrefix(l.Text, want) {
			t.Errorf("%v: %q, want %q", err, l.Text, want)
		}
	}
}

// telegramServer answers as Telegram would, and takes note of methods.
func telegramServer(t *testing.T, answers map[string]string) (apiURL string, methods func() []string) {
	t.Helper()
	var mu sync.Mutex
	var called []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		method := filepath.Base(req.URL.Path)
		mu.Lock()
		called = append(called, method)
		mu.Unlock()
		_, _ = w.Write([]byte(answers[method]))
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []string {
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(called)
		return called
	}
}

func TestTelegramIsAskedForWhatChangesNothing(t *testing.T) {
	t.Parallel()
	api, methods := telegramServer(t, map[string]string{
		"getMe":          `{"ok":true,"result":{"id":123456,"username":"my_bot"}}`,
		"getWebhookInfo": `{"ok":true,"result":{"url":"https://bot.example.org/` + testToken + `","pending_update_count":3}}`,
	})
	opts := options(t, "TELEGRAM_API_URL="+api)
	e := examination{Options: opts, Probes: world(t, opts)}
	lines := texts(e.telegram(t.Context()))
	want := []string{
		"OK    token: accepted, the bot is @my_bot",
		"WARN  webhook: one is set, to bot.example.org: a replica that becomes primary deletes it once and keeps the 3 updates that wait; stop what sets it",
	}
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "OK    Telegram's address 127.0.0.1:") || !slices.Equal(lines[1:], want) {
		t.Errorf("%s", strings.Join(lines, "\n"))
	}
	if got := methods(); !slices.Equal(got, []string{"getMe", "getWebhookInfo"}) {
		t.Errorf("methods %v", got)
	}
}

func TestARefusalOfTelegramIsALine(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{
		`{"ok":false,"error_code":401,"description":"Unauthorized"}`: "ERROR token: Telegram rejects the token (401",
		`{"ok":false,"error_code":404,"description":"Not Found"}`:    "ERROR token: Telegram rejects the token (401",
		`<html>` + testToken: "ERROR token: getMe is not answered",
		``:                   "ERROR token: getMe is not answered",
	} {
		api, _ := telegramServer(t, map[string]string{"getMe": answer, "getWebhookInfo": answer})
		opts := options(t, "TELEGRAM_API_URL="+api)
		lines := texts(examination{Options: opts, Probes: world(t, opts)}.telegram(t.Context()))
		if !strings.HasPrefix(lines[1], want) || strings.Contains(strings.Join(lines, ""), testToken[7:]) {
			t.Errorf("%s: %s", answer, strings.Join(lines, "\n"))
		}
	}
}

func TestACertificateThatIsNotTrustedIsFound(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	server.StartTLS()
	t.Cleanup(server.Close)
	w, addr := world(t, options(t)), netip.MustParseAddrPort(server.Listener.Addr().String())
	if _, err := w.Dial(t.Context(), addr, "127.0.0.1"); err == nil || !strings.HasPrefix(reason(err), "its certificate is not trusted (x509:") {
		t.Errorf("%v", err)
	}
	if took, err := w.Dial(t.Context(), addr, ""); err != nil || took <= 0 {
		t.Errorf("%v, %v", took, err)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	if _, err := w.Dial(t.Context(), netip.MustParseAddrPort(plain.Listener.Addr().String()), "127.0.0.1"); err == nil || reason(err) != "what answers there does not speak TLS" {
		t.Errorf("%v", err)
	}
}

// names are name servers that fail.
type names func(ctx context.Context) error

func (n names) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	return nil, n(ctx)
}

// A machine without network: the name servers do not answer, or there is no way to them.
func TestWithoutANetworkAnExaminationIsBoundedAndClear(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		names names
		want  string
	}{
		"dropped":     {func(ctx context.Context) error { <-ctx.Done(); return errServers }, "no name server has answered"},
		"unreachable": {func(context.Context) error { return &net.DNSError{Err: "network is unreachable", IsTemporary: true} }, "the name server fails (network is unreachable)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				opts := options(t, "INSTANCES=one.example.org,two.example.org", "BACKEND=http://bot.example.org/hook", "LIFELINE_DIR=")
				w, err := NewWorld(opts)
				if err != nil {
					t.Fatal(err)
				}
				defer w.Close()
				w.resolver = c.names
				begun := time.Now()
				lines := Examine(t.Context(), opts, w)
				if took := time.Since(begun); took > bound {
					t.Errorf("it took %v", took)
				}
				got := texts(lines)
				for i, subject := range map[int]string{1: "instance one.example.org", 2: "instance two.example.org", 6: "Telegram's address api.telegram.org:443", 9: "backend http://bot.example.org:80"} {
					if !strings.HasPrefix(got[i], "ERROR "+subject+": ") || !strings.Contains(got[i], c.want) {
						t.Errorf("%q, want %q with %q", got[i], subject, c.want)
					}
				}
				var out bytes.Buffer
				if code := Write(&out, lines); code != 2 {
					t.Errorf("exit code %d", code)
				}
			})
		})
	}
}

func TestLimitsAreReadFromEitherVersionOfCgroups(t *testing.T) {
	t.Parallel()
	const limits = "Limit                     Soft Limit           Hard Limit           Units\nMax open files            4096                 8192                 files\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  Limits
	}{
		"version 2": {map[string]string{"/proc/self/limits": limits, "/sys/fs/cgroup/memory.max": "134217728\n", "/sys/fs/cgroup/cpu.max": "50000 100000\n"}, Limits{4096, 128 << 20, 0.5}},
		"version 2, no limits": {map[string]string{
			"/proc/self/limits":         "Max open files            unlimited            unlimited            files\n",
			"/sys/fs/cgroup/memory.max": "max\n", "/sys/fs/cgroup/cpu.max": "max 100000\n",
		}, Limits{}},
		"version 1": {map[string]string{
			"/sys/fs/cgroup/memory/memory.limit_in_bytes": "67108864\n", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
		}, Limits{0, 64 << 20, 2}},
		"version 1, no limits": {map[string]string{
			"/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
		}, Limits{}},
		"nonsense":  {map[string]string{"/proc/self/limits": "Max open files\n", "/sys/fs/cgroup/memory.max": "x", "/sys/fs/cgroup/cpu.max": "1 0"}, Limits{}},
		"not there": {nil, Limits{}},
	} {
		w := &World{readFile: func(name string) ([]byte, error) {
			if text, ok := c.files[name]; ok {
				return []byte(text), nil
			}
			return nil, fs.ErrNotExist
		}}
		if got := w.Limits(); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestFilesAreReadWithinBounds(t *testing.T) {
	t.Parallel()
	w, err := NewWorld(Options{Problems: config.Problems{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, bytes.Repeat([]byte("a"), 2*maxFile), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := w.File(big); err != nil || len(f.Content) != maxFile || f.Judged && f.ByReplicas != (os.Getuid() == replicaUser) {
		t.Errorf("%d bytes, judged %t, readable %t, %v", len(f.Content), f.Judged, f.ByReplicas, err)
	}
	if err := os.Chmod(big, 0o444); err != nil {
		t.Fatal(err)
	}
	if f, err := w.File(big); err != nil || f.Judged && !f.ByReplicas {
		t.Errorf("readable for all: %t, %v", f.ByReplicas, err)
	}
	if _, err := w.File(dir); !errors.Is(err, errNoFile) {
		t.Errorf("a folder: %v", err)
	}
	if _, err := w.File(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is missing: %v", err)
	}
}

func TestWhoReadsAFileFollowsFromOwnerAndMode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode        fs.FileMode
		user, group uint32
		want        bool
	}{
		{0o400, replicaUser, 0, true}, {0o044, replicaUser, 0, false}, {0o640, 0, replicaUser, true}, {0o604, 0, replicaUser, false}, {0o644, 0, 0, true}, {0o640, 0, 0, false}, {0o600, 1000, 1000, false},
	} {
		if got := readableBy(c.mode, c.user, c.group); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

func TestResolvedAddressesAreThemselves(t *testing.T) {
	t.Parallel()
	w := world(t, options(t))
	for host, want := range map[string]string{"10.0.0.1": "10.0.0.1", "::ffff:10.0.0.1": "10.0.0.1", "fd00::1": "fd00::1", "fe80::1%eth0": "fe80::1%eth0"} {
		if got, err := w.Resolve(t.Context(), host); err != nil || fmt.Sprint(got) != "["+want+"]" {
			t.Errorf("%s: %v, %v", host, got, err)
		}
	}
}

// The errors of Telegram's client stay what they are.
func TestJudgementsPassThroughTheWorld(t *testing.T) {
	t.Parallel()
	raw, err := json.Marshal(map[string]any{"ok": false, "error_code": 429, "description": "Too Many Requests", "parameters": map[string]int{"retry_after": 9}})
	if err != nil {
		t.Fatal(err)
	}
	api, _ := telegramServer(t, map[string]string{"getMe": string(raw)})
	_, err = world(t, options(t, "TELEGRAM_API_URL="+api)).Me(t.Context())
	if telegram.Judge(t.Context(), err) != telegram.Limited || telegram.RetryAfter(err) != 9*time.Second {
		t.Errorf("%v", err)
	}
}

package web

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
	"habot/app/gateway"
)

// newClient is a client of a server on the loopback.
func newClient(t *testing.T, cfg Config, token string) *Client {
	t.Helper()
	s := serve(t, cfg)
	c := NewClient(s.Addr().String(), token)
	t.Cleanup(c.Close)
	return c
}

func TestTheCommandLineTalksToTheReplicaBesideIt(t *testing.T) {
	t.Parallel()
	c := newClient(t, configure(viewing(cluster())), operatorKey)
	ctx := t.Context()
	if err := c.Healthcheck(ctx); err != nil {
		t.Errorf("Healthcheck: %v", err)
	}
	if err := c.Answers(ctx); err != nil {
		t.Errorf("Answers: %v", err)
	}
	if s, err := c.Status(ctx); err != nil || !reflect.DeepEqual(s.View, cluster()) || !s.Verdict.OK() {
		t.Errorf("Status: %v %+v", err, s)
	}
	if h, err := c.History(ctx); err != nil || !reflect.DeepEqual(h, cluster().History) {
		t.Errorf("History: %v %+v", err, h)
	}
}

func TestTheCommandLineMovesTheTurnOn(t *testing.T) {
	t.Parallel()
	var moved atomic.Int32
	c := newClient(t, configure(func(cfg *Config) {
		cfg.Next = func(context.Context) error {
			if moved.Add(1) > 1 {
				return gateway.ErrNoSpare
			}
			return nil
		}
	}), operatorKey)
	if err := c.Next(t.Context()); err != nil || moved.Load() != 1 {
		t.Errorf("%v, moved %d times", err, moved.Load())
	}
	if err := c.Next(t.Context()); err == nil || !strings.Contains(err.Error(), "no other copy stands by") {
		t.Errorf("without another: %v", err)
	}
}

// moving is a replica whose role moves, at once or with a change after the next view.
type moving struct {
	mu     sync.Mutex
	view   election.View
	asked  []string
	change election.Change
}

func (m *moving) View() election.View {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view
}

func (m *moving) Switchover(_ context.Context, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, to)
	m.view.Self.Change, m.view.Self.Primary = m.change, m.change.Claim
	return nil
}

func TestASwitchoverReturnsWhoTookOver(t *testing.T) {
	t.Parallel()
	m := &moving{view: cluster(), change: election.Change{
		Claim: election.Claim{Timestamp: cluster().Self.Primary.Timestamp + 1, Replica: "cc"}, Name: "habot-bot-3", Previous: "habot-bot-1",
		Reason: election.ReasonSwitchover, Gap: 2 * time.Millisecond,
	}}
	m.view.Self.Change = cluster().History[1]
	c := newClient(t, configure(func(cfg *Config) { cfg.Replica = m }), operatorKey)
	change, took, err := c.Switchover(t.Context(), `a "quoted" name`)
	if err != nil || change != m.change || took <= 0 || took > 10*time.Second || m.asked[0] != `a "quoted" name` {
		t.Errorf("%+v after %v, %v; asked to move to %q", change, took, err, m.asked)
	}
}

func TestASwitchoverThatIsNotSeenEndsAfterItsBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := NewClient(":1", "")
		s := NewServer(configure(func(cfg *Config) {
			cfg.Replica = replica{view: cluster, move: func(context.Context, string) error { return nil }}
		}))
		c.adminToken = operatorKey
		c.http.Transport = transport(func(req *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			s.http.Handler.ServeHTTP(w, from(req, "127.0.0.1:5", "127.0.0.1:8080", nil))
			return w.Result(), nil
		})
		began := time.Now()
		if _, _, err := c.Switchover(t.Context(), ""); !errors.Is(err, ErrNotSwitched) {
			t.Errorf("Switchover: %v", err)
		}
		if d := time.Since(began); d != switchedWithin {
			t.Errorf("after %v", d)
		}
	})
}

// switchover is what a switchover is refused with.
func switchover(c *Client, t *testing.T, to string) error {
	t.Helper()
	_, _, err := c.Switchover(t.Context(), to)
	return err
}

func TestTheCommandLineShowsItsToken(t *testing.T) {
	t.Parallel()
	cfg := configure(func(cfg *Config) {
		cfg.AdminToken = adminToken
		cfg.Replica = replica{view: cluster, move: func(context.Context, string) error { return election.ErrNoSuccessor }}
	})
	if err := switchover(newClient(t, cfg, adminToken), t, "habot-bot-9"); err == nil || err.Error() != "there is no replica habot-bot-9; there are habot-bot-1, habot-bot-2, habot-bot-3, habot-bot-4" {
		t.Errorf("the token: %v", err)
	}
	err := switchover(newClient(t, cfg, "another-secret-token"), t, "")
	const want = "a switchover needs ADMIN_TOKEN as bearer token, or the command line in the same container with the replica's own configuration"
	if err == nil || err.Error() != want {
		t.Errorf("another token: %v, want %s", err, want)
	}
}

func TestARefusalIsReadable(t *testing.T) {
	t.Parallel()
	broken := false
	c := newClient(t, configure(func(cfg *Config) {
		cfg.Failing = func() []string { return []string{"poller"} }
		cfg.Replica = replica{
			view: func() election.View {
				if broken {
					panic("kaboom")
				}
				return cluster()
			},
			move: func(context.Context, string) error { return election.ErrNoSuccessor },
		}
	}), operatorKey)
	ctx := t.Context()
	for _, got := range []struct {
		err  error
		want string
	}{
		{c.Healthcheck(ctx), "the replica refuses (503 Service Unavailable): failing: poller"},
		{switchover(c, t, "habot-bot-1"), "habot-bot-1 is primary already"},
		{switchover(c, t, "habot-bot-2"), "habot-bot-2 is not reachable, last contact 12 s ago"},
		{switchover(c, t, "habot-bot-4"), "habot-bot-4 cannot take over just now: it has not granted the primary's lease lately"},
		{switchover(c, t, strings.Repeat("n", 300)), "the replica refuses (400 Bad Request): the name is too long"},
	} {
		if got.err == nil || got.err.Error() != got.want {
			t.Errorf("got %v, want %s", got.err, got.want)
		}
	}
	broken = true
	if _, err := c.Status(ctx); err == nil || err.Error() != "the replica refuses (500 Internal Server Error): " {
		t.Errorf("Status: %v", err)
	}
	if err := c.Answers(ctx); err != nil {
		t.Errorf("a server that reports a failing part does answer: %v", err)
	}
}

func TestNobodyThereIsAnError(t *testing.T) {
	t.Parallel()
	s := NewServer(configure(nil))
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	_ = s.listener.Close()
	c := NewClient(s.Addr().String(), adminToken)
	_, status := c.Status(t.Context())
	for _, err := range []error{c.Healthcheck(t.Context()), c.Answers(t.Context()), switchover(c, t, ""), status} {
		if err == nil || !strings.HasPrefix(err.Error(), "ask the replica: ") || strings.Contains(err.Error(), adminToken) {
			t.Errorf("got %v", err)
		}
	}
}

func TestTheClientGoesWhereTheServerListens(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		":8080": "http://127.0.0.1:8080", "0.0.0.0:8080": "http://127.0.0.1:8080", "[::]:8080": "http://127.0.0.1:8080",
		"[::1]:8080": "http://[::1]:8080", "10.0.0.7:80": "http://10.0.0.7:80", "localhost:1": "http://localhost:1",
	} {
		if got := NewClient(addr, "").base; got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

// transport answers without a network.
type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(req *http.Request) (*http.Response, error) { return t(req) }

func TestAHealthcheckWaitsNoLongerThanItsOwnBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := NewClient(":1", "")
		c.http.Transport = transport(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		})
		began := time.Now()
		if err := c.Healthcheck(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Healthcheck: %v", err)
		}
		if d := time.Since(began); d != 2*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

func TestTheClientDoesNotBelieveEverything(t *testing.T) {
	t.Parallel()
	body := &endless{}
	c := NewClient(":1", "")
	for _, junk := range []io.Reader{body, strings.NewReader("<html>"), strings.NewReader(`{"self":5}`), strings.NewReader("")} {
		c.http.Transport = transport(func(req *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(junk), Request: req}, nil
		})
		if _, err := c.Status(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "read the replica's answer: ") {
			t.Errorf("Status: %v", err)
		}
	}
	if body.read > 8<<20 {
		t.Errorf("read %d bytes", body.read)
	}
}

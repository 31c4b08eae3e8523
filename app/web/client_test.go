package web

import (
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
)

func TestWriteStatus(t *testing.T) {
	t.Parallel()
	alone := healthy(election.Looking)
	started := healthy(election.Primary)
	started.Mode, started.Expected, started.Quorum = "bot-only", 1, 1
	started.History = []election.Change{{Claim: started.Self.Primary, Name: "habot-bot-1", Reason: election.ReasonStart}}
	for _, c := range []struct {
		what string
		view election.View
		want string
	}{
		{"all there is to say", cluster(), `
REPLICA      ROLE           HEALTH                    PRIMARY SINCE            VERSION
habot-bot-1  primary        healthy                   2026-01-02 03:09:00 UTC  1.0.0
habot-bot-2  not reachable  last heard 12 s ago                                0.9.0
habot-bot-3  standby        healthy                                            1.0.0
habot-bot-4  standby        Telegram does not answer                           1.0.0
3 of 4 replicas reachable, 3 are needed; mode primary-backup
last change: habot-bot-1 after habot-bot-2 at 2026-01-02 03:09:00 UTC (crash), nobody was primary for 1.235 s
`},
		{"nothing known", alone, `
REPLICA      ROLE     HEALTH   PRIMARY SINCE  VERSION
habot-bot-1  looking  healthy                 1.0.0
1 of 3 replicas reachable, 2 are needed; mode primary-backup
`},
		{"the first primary", started, `
REPLICA      ROLE     HEALTH   PRIMARY SINCE            VERSION
habot-bot-1  primary  healthy  2023-11-14 22:13:20 UTC  1.0.0
1 of 1 replicas reachable, 1 are needed; mode bot-only
last change: habot-bot-1 at 2023-11-14 22:13:20 UTC (start), nobody was primary for 0.000 s
`},
	} {
		var got strings.Builder
		WriteStatus(&got, c.view)
		if got.String() != c.want[1:] {
			t.Errorf("%s: got\n%s\nwant%s", c.what, &got, c.want)
		}
	}
}

func TestWriteStatusLeavesTheViewAsItIs(t *testing.T) {
	t.Parallel()
	v := cluster()
	v.Peers = append(make([]election.Peer, 0, 10), v.Peers...)
	WriteStatus(io.Discard, v)
	if !reflect.DeepEqual(v, cluster()) {
		t.Errorf("the view was changed: %+v", v)
	}
}

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
	var to string
	c := newClient(t, configure(func(cfg *Config) {
		cfg.Replica = replica{view: cluster, move: func(_ context.Context, name string) error { to = name; return nil }}
	}), operatorKey)
	ctx := t.Context()
	if err := c.Healthcheck(ctx); err != nil {
		t.Errorf("Healthcheck: %v", err)
	}
	if err := c.Answers(ctx); err != nil {
		t.Errorf("Answers: %v", err)
	}
	if v, err := c.Status(ctx); err != nil || !reflect.DeepEqual(v, cluster()) {
		t.Errorf("Status: %v %+v", err, v)
	}
	if err := c.Switchover(ctx, `a "quoted" name`); err != nil || to != `a "quoted" name` {
		t.Errorf("Switchover: %v, to %q", err, to)
	}
	if err := c.Switchover(ctx, ""); err != nil || to != "" {
		t.Errorf("Switchover to any: %v, to %q", err, to)
	}
}

func TestTheCommandLineShowsItsToken(t *testing.T) {
	t.Parallel()
	cfg := configure(func(cfg *Config) { cfg.AdminToken = adminToken })
	if err := newClient(t, cfg, adminToken).Switchover(t.Context(), ""); err != nil {
		t.Errorf("the token: %v", err)
	}
	err := newClient(t, cfg, "another-secret-token").Switchover(t.Context(), "")
	const want = "the replica refuses (403 Forbidden): a switchover needs ADMIN_TOKEN as bearer token, or the command line in the same container with the replica's own configuration"
	if err == nil || err.Error() != want {
		t.Errorf("another token: %v, want %s", err, want)
	}
}

func TestARefusalIsReadable(t *testing.T) {
	t.Parallel()
	c := newClient(t, configure(func(cfg *Config) {
		cfg.Failing = func() []string { return []string{"poller"} }
		cfg.Replica = replica{
			view: func() election.View { panic("kaboom") },
			move: func(context.Context, string) error { return election.ErrNoSuccessor },
		}
	}), operatorKey)
	ctx := t.Context()
	_, status := c.Status(ctx)
	for _, got := range []struct {
		err  error
		want string
	}{
		{c.Healthcheck(ctx), "the replica refuses (503 Service Unavailable): failing: poller"},
		{c.Switchover(ctx, "x"), "the replica refuses (409 Conflict): no such standby can take over"},
		{c.Switchover(ctx, strings.Repeat("n", 300)), "the replica refuses (400 Bad Request): the name is too long"},
		{status, "the replica refuses (500 Internal Server Error): "},
	} {
		if got.err == nil || got.err.Error() != got.want {
			t.Errorf("got %v, want %s", got.err, got.want)
		}
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
	for _, err := range []error{c.Healthcheck(t.Context()), c.Answers(t.Context()), c.Switchover(t.Context(), ""), status} {
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

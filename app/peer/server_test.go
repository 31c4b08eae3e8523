package peer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"habot/app/election"
	"habot/app/logging"
)

func encode(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// with is a sound claim request in which one thing is different.
func with(t testing.TB, edit func(r *election.ClaimRequest)) string {
	t.Helper()
	r := claimRequest("a")
	edit(&r)
	return encode(t, r)
}

func TestAnotherVersionOfTheProtocolIsRefusedBeforeItsBody(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"3", "0", "", "01", "1, 2", "-1"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := serve(t)
				resp := s.ask(http.MethodPost, pathClaims, "no message of ours", func(r *http.Request) {
					r.Header.Set(protocolHeader, version)
				})
				if resp.StatusCode != http.StatusConflict || resp.Header.Get(protocolHeader) != "2" || resp.Header.Get(versionsHeader) != "1-2" {
					t.Errorf("answered %d, protocol %q", resp.StatusCode, resp.Header.Get(protocolHeader))
				}
				if said, err := decode(resp.Body, checkComplaint); err != nil || !strings.Contains(said.Error, ErrProtocol.Error()) {
					t.Errorf("said %q, %v", said.Error, err)
				}
				s.refused(reasonProtocol, 1)
			})
		})
	}
}

func TestWhatIsNoMessageIsRefusedWithoutACall(t *testing.T) {
	t.Parallel()
	sound := encode(t, claimRequest("a"))
	long := strings.Repeat("x", maxText+1)
	for name, body := range map[string]string{
		"junk":               "\x00\xff{{",
		"empty":              "",
		"half":               sound[:len(sound)/2],
		"null":               "null",
		"a list":             "[" + sound + "]",
		"an unknown field":   strings.Replace(sound, `{`, `{"more":1,`, 1),
		"something trailing": sound + "x",
		"two messages":       sound + sound,
		"too large":          sound + strings.Repeat(" ", maxBody),
		"huge":               strings.Repeat(" ", 1<<20) + sound,
		"deep":               strings.Repeat("[", maxBody),
		"another type":       strings.Replace(sound, `"protocol":2`, `"protocol":"2"`, 1),
		"a claim for another replica": with(t, func(r *election.ClaimRequest) {
			r.Claim.Replica = "c"
		}),
		"a claim of no replica": with(t, func(r *election.ClaimRequest) { r.Claim.Replica, r.From.Replica = "", "" }),
		"no timestamp":          with(t, func(r *election.ClaimRequest) { r.Claim.Timestamp = 0 }),
		"a timestamp below":     with(t, func(r *election.ClaimRequest) { r.Claim.Timestamp = -1 }),
		"a timestamp that leaves no room": with(t, func(r *election.ClaimRequest) {
			r.Claim.Timestamp = 1<<62 + 1
		}),
		"a floor out of bounds": with(t, func(r *election.ClaimRequest) { r.From.Floor.Timestamp = 1<<63 - 1 }),
		"no role":               with(t, func(r *election.ClaimRequest) { r.From.Role = "" }),
		"a long name":           with(t, func(r *election.ClaimRequest) { r.From.Name = long }),
		"a long id":             with(t, func(r *election.ClaimRequest) { r.From.Primary.Replica = election.ReplicaID(long) }),
		"a long reason":         with(t, func(r *election.ClaimRequest) { r.From.Change.Reason = election.Reason(long) }),
		"a long detail":         with(t, func(r *election.ClaimRequest) { r.From.Health.Detail = long }),
		"a lease of days":       with(t, func(r *election.ClaimRequest) { r.From.Lease = maxSpan + 1 }),
		"a negative remainder":  with(t, func(r *election.ClaimRequest) { r.From.Remaining = -1 }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := serve(t)
				resp := s.ask(http.MethodPost, pathClaims, body, nil)
				if resp.StatusCode != http.StatusBadRequest || !resp.Close {
					t.Errorf("answered %d, close %v", resp.StatusCode, resp.Close)
				}
				s.refused(reasonRequest, 1)
			})
		})
	}
}

func TestEveryBodyIsChecked(t *testing.T) {
	t.Parallel()
	other := endRequest("a")
	other.Claim.Replica = "c"
	much := progress()
	much.Handled = make([]int64, maxHandled+1)
	notes := progress()
	for range maxNotes + 1 {
		notes.Notes = append(notes.Notes, json.RawMessage("1"))
	}
	terms := progress()
	terms.Settled = slices.Repeat([]election.Settled{{Claim: terms.Claim}}, maxSettled+1)
	for name, test := range map[string]struct{ method, path, body string }{
		"an end of another replica's claim": {http.MethodDelete, pathClaims, encode(t, other)},
		"a claim as an end":                 {http.MethodDelete, pathClaims, `{"grant":true}`},
		"a claim as a leaving":              {http.MethodPost, pathLeave, encode(t, claimRequest("a"))},
		"a leaving of no replica":           {http.MethodPost, pathLeave, `{"departed":true}`},
		"progress of no replica":            {http.MethodPost, pathProgress, `{"handled":[1]}`},
		"too much progress":                 {http.MethodPost, pathProgress, encode(t, much)},
		"too many notes":                    {http.MethodPost, pathProgress, encode(t, notes)},
		"too many terms":                    {http.MethodPost, pathProgress, encode(t, terms)},
		"a term that is none":               {http.MethodPost, pathProgress, `{"claim":{"timestamp":1,"replica":"a"},"settled":[{}]}`},
		"a long successor":                  {http.MethodPost, pathSwitchover, encode(t, switchover{strings.Repeat("x", maxText+1)})},
		"a switchover of more":              {http.MethodPost, pathSwitchover, `{"successor":"b","force":true}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := serve(t)
				if resp := s.ask(test.method, test.path, test.body, nil); resp.StatusCode != http.StatusBadRequest {
					t.Errorf("answered %d", resp.StatusCode)
				}
				s.refused(reasonRequest, 1)
			})
		})
	}
}

func TestOnlyJSONIsRead(t *testing.T) {
	t.Parallel()
	for contentType, want := range map[string]int{
		"":                                http.StatusUnsupportedMediaType,
		"text/plain":                      http.StatusUnsupportedMediaType,
		"application/jsonp":               http.StatusUnsupportedMediaType,
		"application/json; charset=utf-8": http.StatusOK,
	} {
		t.Run(contentType, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := serve(t)
				resp := s.ask(http.MethodPost, pathClaims, encode(t, claimRequest("a")), func(r *http.Request) {
					r.Header.Set("Content-Type", contentType)
				})
				if resp.StatusCode != want {
					t.Errorf("answered %d, want %d", resp.StatusCode, want)
				}
				if want != http.StatusOK {
					s.refused(reasonRequest, 1)
				}
			})
		})
	}
}

func TestOtherMethodsAndPathsAreRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, pathClaims, http.StatusMethodNotAllowed},
		{http.MethodPut, pathClaims, http.StatusMethodNotAllowed},
		{http.MethodDelete, pathPrimary, http.StatusMethodNotAllowed},
		{http.MethodOptions, pathPrimary, http.StatusMethodNotAllowed},
		{http.MethodGet, pathSwitchover, http.StatusMethodNotAllowed},
		{http.MethodDelete, pathLeave, http.StatusMethodNotAllowed},
		{http.MethodGet, "/", http.StatusNotFound},
		{http.MethodGet, "/metrics", http.StatusNotFound},
		{http.MethodGet, "/debug/pprof/", http.StatusNotFound},
		{http.MethodGet, "/v1/primary/", http.StatusNotFound},
		{http.MethodPost, "/v1/claims/", http.StatusNotFound},
		{http.MethodGet, "//v1/primary", http.StatusNotFound},
		{http.MethodGet, "/V1/PRIMARY", http.StatusNotFound},
		{http.MethodGet, "/v1/../v1/primary", http.StatusNotFound},
	} {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := serve(t)
				resp := s.ask(test.method, test.path, encode(t, claimRequest("a")), nil)
				if resp.StatusCode != test.want || resp.Header.Get(protocolHeader) != "1" {
					t.Errorf("answered %d, want %d; protocol %q", resp.StatusCode, test.want, resp.Header.Get(protocolHeader))
				}
				s.refused(reasonRequest, 1)
			})
		})
	}
}

// A slow client holds a connection for a few seconds and no longer, wherever it stalls.
func TestSlowConnectionsAreCutOff(t *testing.T) {
	t.Parallel()
	head := "POST /v1/claims HTTP/1.1\r\nHost: b\r\nHabot-Protocol: 1\r\nContent-Type: application/json\r\nContent-Length: 500\r\n"
	for name, test := range map[string]struct {
		sent  string
		bound time.Duration
	}{
		"in the handshake": {"", 2 * time.Second},
		"in the headers":   {head, 2 * time.Second},
		"in the body":      {head + "\r\n{", 5 * time.Second},
		"between requests": {"GET /v1/primary HTTP/1.1\r\nHost: b\r\nHabot-Protocol: 1\r\n\r\n", time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := serve(t)
				var conn net.Conn
				if test.sent == "" {
					raw, err := s.net.dial(t.Context(), "", "")
					if err != nil {
						t.Fatal(err)
					}
					conn = raw
				} else {
					conn = s.open()
				}
				defer func() { _ = conn.Close() }()
				from := time.Now()
				if _, err := io.WriteString(conn, test.sent); err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, conn) // until the server closes
				if took := time.Since(from); took > test.bound+time.Second || took < test.bound {
					t.Errorf("cut off after %s, want %s", took, test.bound)
				}
				if n := s.replica.calls.Load(); (n != 0) != (test.bound == time.Minute) {
					t.Errorf("%d calls", n)
				}
			})
		})
	}
}

// A body that trickles in is bounded as a whole.
func TestTrickleIsCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		conn := s.open()
		defer func() { _ = conn.Close() }()
		from := time.Now()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = io.WriteString(conn, "POST /v1/claims HTTP/1.1\r\nHost: b\r\nHabot-Protocol: 1\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n")
			for time.Since(from) < time.Minute {
				time.Sleep(100 * time.Millisecond)
				if _, err := io.WriteString(conn, " "); err != nil {
					return
				}
			}
		}()
		_, _ = io.Copy(io.Discard, conn)
		if took := time.Since(from); took > 7*time.Second {
			t.Errorf("cut off after %s", took)
		}
		_ = conn.Close()
		<-ended
		s.refused(reasonRequest, 1)
	})
}

func TestErrorsOfTheReplicaAreAnsweredWithoutTheirDetails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		s.replica.err = errors.New("a secret of this replica")
		resp := s.ask(http.MethodPost, pathClaims, encode(t, claimRequest("a")), nil)
		said, err := decode(resp.Body, checkComplaint)
		if resp.StatusCode != http.StatusServiceUnavailable || err != nil || strings.Contains(said.Error, "secret") {
			t.Errorf("answered %d, %q, %v", resp.StatusCode, said.Error, err)
		}
	})
}

func TestPanicOfOneRequestHarmsNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		s.replica.before = func(context.Context) {
			if s.replica.calls.Load() == 1 {
				panic("index out of range")
			}
		}
		if resp := s.ask(http.MethodGet, pathPrimary, "", nil); resp.StatusCode != http.StatusInternalServerError {
			t.Errorf("answered %d", resp.StatusCode)
		}
		if n := s.log.count(slog.LevelError, "panicked"); n != 1 {
			t.Errorf("told %d times", n)
		}
		if resp := s.ask(http.MethodGet, pathPrimary, "", nil); resp.StatusCode != http.StatusOK {
			t.Errorf("then answered %d", resp.StatusCode)
		}
	})
}

func TestServeEndsThoughARequestIsStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		s.replica.before = func(ctx context.Context) { <-ctx.Done() }
		c, _ := s.client("ours")
		failed := make(chan error, 1)
		go func() {
			_, err := c.Status(context.WithoutCancel(t.Context()), "b:7175")
			failed <- err
		}()
		synctest.Wait()
		from := time.Now()
		s.stop()
		err := <-s.ended
		s.ended <- err
		if took := time.Since(from); err != nil || took > time.Second {
			t.Errorf("Serve returned %v after %s", err, took)
		}
		if err := <-failed; err == nil {
			t.Error("the stuck request was answered")
		}
		if _, err := s.net.dial(t.Context(), "", ""); err == nil {
			t.Error("it still accepts connections")
		}
	})
}

// On shutdown the answer that a successor waits for goes out before the server ends.
func TestServeAnswersWhatIsUnderWayWhenItEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		s.replica.before = func(context.Context) { time.Sleep(100 * time.Millisecond) }
		c, _ := s.client("ours")
		answered := make(chan error, 1)
		go func() {
			_, err := c.Claim(context.WithoutCancel(t.Context()), "b:7175", claimRequest("a"))
			answered <- err
		}()
		synctest.Wait()
		s.stop()
		if err := <-answered; err != nil {
			t.Error(err)
		}
	})
}

func TestServerOnAPort(t *testing.T) {
	t.Parallel()
	r := &replica{}
	s := NewServer(ServerConfig{
		Addr: "127.0.0.1:0", Identity: identity(t, "ours"), Replica: r, Logger: slog.New(slog.DiscardHandler),
		Registerer: prometheus.NewRegistry(),
	})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	c := NewClient(ClientConfig{Identity: identity(t, "ours"), Self: "a", Logger: slog.New(slog.DiscardHandler)})
	defer c.Close()
	if _, err := c.Status(t.Context(), s.Addr().String()); err != nil {
		t.Error(err)
	}
	taken := NewServer(ServerConfig{
		Addr: s.Addr().String(), Identity: identity(t, "ours"), Replica: r, Logger: slog.New(slog.DiscardHandler),
		Registerer: prometheus.NewRegistry(),
	})
	if err := taken.Listen(); err == nil {
		t.Error("one port was opened twice")
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr().String()); err == nil {
		_ = conn.Close()
		t.Error("the port is still open")
	}
}

func TestServeFailsWithItsListener(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		_ = s.net.Close()
		err := <-s.ended
		if err == nil {
			t.Error("Serve returned nil though it cannot accept any more")
		}
		s.ended <- nil
	})
}

func TestRefusedHandshakesAreToldOncePerAddressAndRememberedWithinBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		h := &refusedHandshakes{s: s.server, lines: logging.NewQuotas(1, time.Minute)}
		handle := func(format string, args ...any) {
			r := slog.NewRecord(time.Now(), slog.LevelDebug, fmt.Sprintf(format, args...), 0)
			if err := h.Handle(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		told := func() int { return s.log.count(slog.LevelDebug, "refused a connection") }
		handle("http: TLS handshake error from 10.0.0.1:1: EOF")
		handle("http: TLS handshake error from 10.0.0.1:2: remote error: tls: bad certificate")
		handle("http: TLS handshake error from [2001:db8::1]:1: EOF")
		handle("http: TLS handshake error from [2001:db8::1]:2: EOF")
		handle("http: something else")
		if n := told(); n != 3 {
			t.Errorf("told %d times, want once for each of two addresses and the unknown", n)
		}
		for i := range 3 * maxRemembered {
			handle("http: TLS handshake error from 10.0.%d.%d:1: EOF", i/256+1, i%256)
		}
		if n := testutil.ToFloat64(s.server.refusals.WithLabelValues(reasonTLS)); n != 5+3*maxRemembered {
			t.Errorf("%v counted", n)
		}
	})
}

func TestRefusalsAreCountedFromZero(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	NewServer(ServerConfig{Identity: identity(t, "ours"), Replica: &replica{}, Logger: slog.New(slog.DiscardHandler), Registerer: reg})
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	if n, err := testutil.GatherAndCount(reg, "habot_peer_refusals_total"); err != nil || n != 3 {
		t.Errorf("%d series, %v", n, err)
	}
}

func TestAnswersOfOneConnectionFollowEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		conn := s.open()
		defer func() { _ = conn.Close() }()
		lines := bufio.NewReader(conn)
		for range 3 {
			if _, err := io.WriteString(conn, "GET /v1/primary HTTP/1.1\r\nHost: b\r\nHabot-Protocol: 1\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(lines, nil)
			if err != nil {
				t.Fatal(err)
			}
			if st, err := decode(resp.Body, checkStatus); err != nil || st.Replica != "b" {
				t.Errorf("answered %+v, %v", st, err)
			}
		}
	})
}

// What the wire says stays what version 1.0.0 says, whatever the errors say, and has a code beside it.
func TestRefusalsAreWordedAsVersionOneWordsThem(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err        error
		code, text string
	}{
		{election.ErrNotPrimary, "not_primary", "this replica is not primary"},
		{election.ErrNoSuccessor, "no_successor", "no such standby can take over"},
	} {
		t.Run(test.code, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := serve(t)
				s.replica.err = fmt.Errorf("in other words: %w", test.err)
				resp := s.ask(http.MethodPost, pathSwitchover, `{"successor":"x"}`, nil)
				body, _ := io.ReadAll(resp.Body)
				if resp.StatusCode != http.StatusConflict || resp.Header.Get("Habot-Refusal") != test.code || string(body) != `{"error":"`+test.text+`"}` {
					t.Errorf("%d %q %s", resp.StatusCode, resp.Header.Get("Habot-Refusal"), body)
				}
			})
		})
	}
}

// The watchdog asks so: without a connection, and a replica that hangs or fails gives no sign of life.
func TestTheOwnServerIsAskedWithoutAConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		served := 0
		r := &replica{}
		s := NewServer(ServerConfig{
			Identity: identity(t, "ours"), Replica: r, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
			Served: func() { served++ },
		})
		if err := s.Answers(t.Context()); err != nil || served != 1 || len(r.took) != 1 {
			t.Errorf("%v, served %d times, the replica was asked for %v", err, served, r.took)
		}
		r.err = errors.New("busy")
		if err := s.Answers(t.Context()); err == nil || served != 1 {
			t.Errorf("%v of a replica that does not answer, served %d times", err, served)
		}
		r.err, r.before = nil, func(context.Context) { time.Sleep(time.Minute) }
		start := time.Now()
		if err := s.Answers(t.Context()); err != nil || time.Since(start) != time.Minute {
			t.Errorf("%v after %v of a replica that takes a minute", err, time.Since(start))
		}
	})
}

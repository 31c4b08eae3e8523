package peer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/election"
)

// fuzzed decodes raw. What is taken is within bounds, and is the same when it is sent on.
func fuzzed[M any](t *testing.T, raw []byte, check func(M) error) (m M, ok bool) {
	t.Helper()
	m, err := decode(bytes.NewReader(raw), check)
	if err != nil {
		if !errors.Is(err, ErrMessage) {
			t.Fatalf("refused with %v, want ErrMessage", err)
		}
		return m, false
	}
	if len(raw) > maxBody {
		t.Fatalf("took %d bytes", len(raw))
	}
	again, err := decode(bytes.NewReader([]byte(encode(t, m))), check)
	if err != nil || !reflect.DeepEqual(again, m) {
		t.Fatalf("%+v came back as %+v, %v", m, again, err)
	}
	return m, true
}

// seeds are sound messages and a few that are not.
func seeds(f *testing.F, sound ...any) {
	f.Helper()
	for _, m := range sound {
		f.Add([]byte(encode(f, m)))
	}
	for _, junk := range []string{"", "null", "{}", "[]", `{"from":{}}`, `{"claim":{"timestamp_ns":1e3}}`, `{"remaining_ns":-1}`, "\xff"} {
		f.Add([]byte(junk))
	}
}

// machine is an election that has joined: what it is given MUST NOT make it panic, nor say what the
// other side refuses.
func machine() (*election.Machine, election.Reading) {
	m := election.New(election.Config{Self: "m", Name: "m", Lease: time.Second, Replicas: 3}, election.Reading{Wall: 1})
	return m, election.Reading{Now: election.Instant(2 * time.Second), Wall: int64(2 * time.Second)}
}

// sayable fails the test if a machine says what a decoder refuses.
func sayable(t *testing.T, m *election.Machine, r election.Reading, outs []election.Output) {
	t.Helper()
	if err := checkStatus(m.Status(r.Now)); err != nil {
		t.Fatalf("its status would be refused: %v", err)
	}
	for _, out := range outs {
		var err error
		switch out := out.(type) {
		case election.Reply:
			err = checkClaimAnswer(out.Answer)
		case election.SendClaim:
			err = checkClaimRequest(out.Request)
		case election.SendEnd:
			err = checkEndRequest(out.Request)
		case election.SendLeave:
			err = checkLeaveRequest(out.Request)
		case election.LeaveReply:
			err = checkLeaveAnswer(out.Answer)
		}
		if err != nil {
			t.Fatalf("%+v would be refused: %v", out, err)
		}
	}
}

func FuzzStatus(f *testing.F) {
	seeds(f, status("a"), election.Status{Replica: "a", Role: election.Joining})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if s, ok := fuzzed(t, raw, checkStatus); ok {
			m, r := machine()
			sayable(t, m, r, m.Step(r, election.StatusReceived{Status: s, SentAt: r.Now - 1}))
		}
	})
}

func FuzzClaimRequest(f *testing.F) {
	seeds(f, claimRequest("a"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if req, ok := fuzzed(t, raw, checkClaimRequest); ok {
			m, r := machine()
			sayable(t, m, r, m.Step(r, election.ClaimReceived{Request: req}))
		}
	})
}

func FuzzClaimAnswer(f *testing.F) {
	seeds(f, claimAnswer())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if a, ok := fuzzed(t, raw, checkClaimAnswer); ok {
			m, r := machine()
			for _, out := range m.Step(r, election.Tick{}) {
				if sent, is := out.(election.SendClaim); is {
					a.Claim = sent.Request.Claim // an answer to what it has just claimed
				}
			}
			sayable(t, m, r, m.Step(r, election.AnswerReceived{Answer: a, SentAt: r.Now}))
		}
	})
}

func FuzzEndRequest(f *testing.F) {
	seeds(f, endRequest("a"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if req, ok := fuzzed(t, raw, checkEndRequest); ok {
			m, r := machine()
			sayable(t, m, r, m.Step(r, election.EndReceived{Request: req}))
		}
	})
}

func FuzzLeaveRequest(f *testing.F) {
	going := leaveRequest("a")
	going.Departed = false
	seeds(f, leaveRequest("a"), going)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if req, ok := fuzzed(t, raw, checkLeaveRequest); ok {
			m, r := machine()
			sayable(t, m, r, m.Step(r, election.LeaveReceived{Request: req}))
		}
	})
}

func FuzzLeaveAnswer(f *testing.F) {
	seeds(f, leaveAnswer(), election.LeaveAnswer{From: status("b")})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if a, ok := fuzzed(t, raw, checkLeaveAnswer); ok {
			m, r := machine()
			// It has promised to whatever claim is answered about, and leaves.
			var outs []election.Output
			if !a.Claim.IsZero() {
				outs = m.Step(r, election.ClaimReceived{Request: election.ClaimRequest{From: a.From, Claim: a.Claim}})
			}
			outs = append(outs, m.Step(r, election.Leave{Reason: election.ReasonShutdown})...)
			sayable(t, m, r, append(outs, m.Step(r, election.LeaveAnswerReceived{Answer: a, SentAt: r.Now})...))
		}
	})
}

// What a replica knows of its own health is some other program's error, of any length.
func FuzzHealth(f *testing.F) {
	f.Add("")
	f.Add("Telegram was not reached 12 times: internal execution: http do request: Post \"https://api.telegram.org/bot0:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/getMe\": " +
		"dial tcp: lookup api.telegram.org on 127.0.0.11:53: read udp 172.18.0.15:41234->127.0.0.11:53: i/o timeout")
	f.Add(strings.Repeat("x", maxText-1) + "\u00e4")
	f.Add("\xff")
	f.Fuzz(func(t *testing.T, detail string) {
		m, r := machine()
		sayable(t, m, r, m.Step(r, election.HealthChanged{Health: election.Health{Detail: detail}}))
		if said := m.Status(r.Now).Health.Detail; utf8.ValidString(detail) && !strings.HasPrefix(detail, said) || (len(detail) <= maxText && utf8.ValidString(detail) && said != detail) {
			t.Errorf("%q became %q", detail, said)
		}
	})
}

func FuzzHistory(f *testing.F) {
	seeds(f, history(), election.History{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if h, ok := fuzzed(t, raw, checkHistory); ok {
			m, r := machine()
			sayable(t, m, r, m.Step(r, election.HistoryReceived{History: h}))
		}
	})
}

func FuzzProgress(f *testing.F) {
	seeds(f, progress(), election.Progress{Claim: progress().Claim})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if p, ok := fuzzed(t, raw, checkProgress); ok && len(p.Handled) > maxHandled {
			t.Fatalf("took %d updates", len(p.Handled))
		}
	})
}

func FuzzSwitchover(f *testing.F) {
	seeds(f, switchover{"habot-bot-2"})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if s, ok := fuzzed(t, raw, checkSwitchover); ok && len(s.Successor) > maxText {
			t.Fatalf("took %d bytes", len(s.Successor))
		}
	})
}

// FuzzRefusal is a refusal as the one who asked reads it: an error, bounded, and one the caller can tell from
// others only if it says so exactly.
func FuzzRefusal(f *testing.F) {
	seeds(f, complaint{election.ErrNoSuccessor.Error()}, complaint{election.ErrNotPrimary.Error()}, complaint{"x"})
	c := NewClient(ClientConfig{Identity: identity(f, "ours"), Logger: slog.New(slog.DiscardHandler)})
	f.Fuzz(func(t *testing.T, raw []byte) {
		said, ok := fuzzed(t, raw, checkComplaint)
		err := c.refusal("b:7175", requestSwitchover, &http.Response{StatusCode: http.StatusConflict, Body: io.NopCloser(bytes.NewReader(raw))})
		if err == nil || len(err.Error()) > maxText+64 {
			t.Fatalf("the refusal is %v", err)
		}
		for _, known := range []error{election.ErrNotPrimary, election.ErrNoSuccessor} {
			if errors.Is(err, known) != (ok && said.Error == known.Error()) {
				t.Errorf("%q is read as %v", raw, err)
			}
		}
	})
}

// BenchmarkClaim is one claim and its answer over loopback TLS, on a connection that is kept.
func BenchmarkClaim(b *testing.B) {
	quiet := slog.New(slog.DiscardHandler)
	s := NewServer(ServerConfig{
		Addr: "127.0.0.1:0", Identity: identity(b, "ours"), Replica: granting{}, Logger: quiet, Registerer: prometheus.NewRegistry(),
	})
	if err := s.Listen(); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	c := NewClient(ClientConfig{Identity: identity(b, "ours"), Self: "a", Logger: quiet})
	defer func() {
		c.Close()
		stop()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}()
	addr, req := s.Addr().String(), claimRequest("a")
	b.ReportAllocs()
	for b.Loop() {
		if a, err := c.Claim(ctx, addr, req); err != nil || !a.Granted {
			b.Fatal(a, err)
		}
	}
}

// granting is a replica that grants whatever is claimed.
type granting struct{ Replica }

func (granting) Claim(_ context.Context, req election.ClaimRequest) (election.ClaimAnswer, error) {
	return election.ClaimAnswer{From: status("b"), Claim: req.Claim, Granted: true}, nil
}

package peer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"habot/app/election"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func identity(t testing.TB, secrets ...string) *Identity {
	t.Helper()
	var raw [][]byte
	for _, s := range secrets {
		raw = append(raw, []byte(s))
	}
	i, err := NewIdentity(raw...)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// status is a sound one; so are the messages below.
func status(id election.ReplicaID) election.Status {
	primary := election.Claim{Timestamp: 1_700_000_000_000_000_000, Replica: "p"}
	return election.Status{
		Protocol: election.Protocol, Replica: id, Name: "habot-bot-2", Version: "1.2.3", Role: election.Standby,
		Primary: primary, PrimaryName: "habot-bot-1", Remaining: 700 * time.Millisecond, Floor: primary,
		Health: election.Health{Detail: "503 from Telegram"}, Lease: time.Second, Replicas: 3, Quorum: 2,
		Change: election.Change{Claim: primary, Name: "habot-bot-1", Previous: "habot-bot-3", Reason: election.ReasonCrash, Gap: time.Second},
	}
}

// inVersion is a status as it is in a message of a version of the protocol.
func inVersion(version int, s election.Status) election.Status {
	s.Protocol = version
	return s
}

func claimRequest(id election.ReplicaID) election.ClaimRequest {
	return election.ClaimRequest{From: status(id), Claim: election.Claim{Timestamp: 1_700_000_000_000_000_001, Replica: id}}
}

func endRequest(id election.ReplicaID) election.EndRequest {
	return election.EndRequest{
		From: status(id), Claim: claimRequest(id).Claim, Released: true, Reason: election.ReasonShutdown, Successor: "s",
	}
}

func progress() election.Progress {
	return election.Progress{Claim: claimRequest("p").Claim, Handled: []int64{7, 8, 9}, Notes: []json.RawMessage{json.RawMessage(`{"parts":1}`)}}
}

func claimAnswer() election.ClaimAnswer {
	return election.ClaimAnswer{
		From: status("b"), Claim: claimRequest("a").Claim, Refusal: election.RefusedHeld,
		Holder: status("b").Primary, Remaining: 400 * time.Millisecond,
	}
}

func leaveRequest(id election.ReplicaID) election.LeaveRequest {
	return election.LeaveRequest{From: status(id), Departed: true}
}

func history() election.History {
	change := status("b").Change
	change.Claim = status("b").Primary
	return election.History{Changes: []election.Change{change}}
}

func leaveAnswer() election.LeaveAnswer {
	return election.LeaveAnswer{From: status("b"), Claim: status("b").Primary, Dismissed: true}
}

// replica is a fake that notes what it was called with.
type replica struct {
	calls atomic.Int64
	// err is returned by every call; before runs first.
	err    error
	before func(ctx context.Context)

	mu   sync.Mutex
	took []any
}

func (r *replica) note(ctx context.Context, what any) error {
	r.calls.Add(1)
	if r.before != nil {
		r.before(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.took = append(r.took, what)
	return r.err
}

func (r *replica) Status(ctx context.Context) (election.Status, error) {
	return status("b"), r.note(ctx, "status")
}

func (r *replica) Claim(ctx context.Context, req election.ClaimRequest) (election.ClaimAnswer, error) {
	return claimAnswer(), r.note(ctx, req)
}

func (r *replica) End(ctx context.Context, req election.EndRequest) error { return r.note(ctx, req) }

func (r *replica) Leave(ctx context.Context, req election.LeaveRequest) (election.LeaveAnswer, error) {
	return leaveAnswer(), r.note(ctx, req)
}

func (r *replica) History(ctx context.Context) (election.History, error) {
	return history(), r.note(ctx, "history")
}

func (r *replica) Progress(ctx context.Context, p election.Progress) (election.ProgressAnswer, error) {
	unknown := progress()
	return election.ProgressAnswer{Unknown: &unknown}, r.note(ctx, p)
}

func (r *replica) SwitchoverHere(ctx context.Context, successor string) error {
	return r.note(ctx, successor)
}

// logged is a slog.Handler that keeps records.
type logged struct {
	slog.Handler
	mu      sync.Mutex
	records []slog.Record
}

func (*logged) Enabled(context.Context, slog.Level) bool { return true }

func (l *logged) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r)
	return nil
}

// count is how many records of a level contain text.
func (l *logged) count(level slog.Level, text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, r := range l.records {
		if r.Level == level && strings.Contains(r.Message, text) {
			n++
		}
	}
	return n
}

// pipes is a network in memory, for bubbles. It is a net.Listener.
type pipes struct {
	waiting chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func newPipes() *pipes { return &pipes{waiting: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.waiting:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (*pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7175} }

// dial has the signature of net.Dialer.DialContext.
func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.waiting <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// served is a server under test, on a network in memory.
type served struct {
	t       *testing.T
	server  *Server
	replica *replica
	log     *logged
	net     *pipes
	stop    context.CancelFunc
	ended   chan error
}

// serve starts a server of the cluster "ours". It MUST be called in a bubble.
func serve(t *testing.T) *served {
	t.Helper()
	s := &served{t: t, replica: &replica{}, log: &logged{}, net: newPipes(), ended: make(chan error, 1)}
	s.server = NewServer(ServerConfig{
		Identity: identity(t, "ours"), Replica: s.replica, Logger: slog.New(s.log), Registerer: prometheus.NewRegistry(),
	})
	s.server.listener = s.net
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { s.ended <- s.server.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-s.ended; err != nil {
			t.Errorf("Serve returned %v", err)
		}
		s.ended <- nil
		time.Sleep(farewell)
	})
	return s
}

// farewell is more than crypto/tls waits when both ends say goodbye at once into an unbuffered pipe.
const farewell = 10 * time.Second

// client returns a client that reaches the server under any address.
func (s *served) client(secret string) (*Client, *logged) {
	s.t.Helper()
	return clientOver(s.t, s.net, secret)
}

func clientOver(t *testing.T, p *pipes, secret string) (*Client, *logged) {
	t.Helper()
	log := &logged{}
	c := NewClient(ClientConfig{Identity: identity(t, secret), Self: "a", Port: "7175", Logger: slog.New(log)})
	transport(t, c).DialContext = p.dial
	t.Cleanup(c.Close)
	return c, log
}

func transport(t *testing.T, c *Client) *http.Transport {
	t.Helper()
	tr, ok := c.http.Transport.(*http.Transport)
	if !ok {
		t.Fatal("another transport")
	}
	return tr
}

// refusals are the counters, by reason.
func (s *served) refusals() map[string]float64 {
	counts := map[string]float64{}
	for _, r := range []string{reasonTLS, reasonProtocol, reasonRequest} {
		counts[r] = testutil.ToFloat64(s.server.refusals.WithLabelValues(r))
	}
	return counts
}

// refused fails the test unless exactly n requests were refused for this reason, none for another, and
// none reached the replica.
func (s *served) refused(reason string, n float64) {
	s.t.Helper()
	for r, got := range s.refusals() {
		want := 0.0
		if r == reason {
			want = n
		}
		if got != want {
			s.t.Errorf("%v refusals because of %s, want %v", got, r, want)
		}
	}
	if n := s.replica.calls.Load(); n != 0 {
		s.t.Errorf("the replica was called %d times", n)
	}
}

// open makes a TLS connection to the server as a replica would.
func (s *served) open() *tls.Conn {
	s.t.Helper()
	raw, err := s.net.dial(s.t.Context(), "", "")
	if err != nil {
		s.t.Fatal(err)
	}
	conn := tls.Client(raw, identity(s.t, "ours").config())
	if err := conn.Handshake(); err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// ask makes one request as a replica would, of which edit may change what it likes.
func (s *served) ask(method, path, body string, edit func(*http.Request)) *http.Response {
	s.t.Helper()
	conn := s.open()
	defer func() { _ = conn.Close() }()
	req, err := http.NewRequestWithContext(s.t.Context(), method, "https://b:7175"+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set(protocolHeader, "1")
	req.Header.Set("Content-Type", "application/json")
	if edit != nil {
		edit(req)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_ = req.Write(conn) // a server that refuses need not read all of it
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		s.t.Fatal(err)
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(raw))
	_ = conn.Close()
	<-sent
	return resp
}

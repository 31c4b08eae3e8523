package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"habot/app/queues"
	"habot/app/telegram"
	"habot/app/update"
)

// network is hosts in memory.
type network struct {
	mu    sync.Mutex
	hosts map[string]*host // by address
	names map[string][]string
	lost  map[string]bool          // addresses that no host has: a connection attempt gets no answer
	slow  map[string]time.Duration // to connect
}

func newNetwork() *network {
	return &network{hosts: map[string]*host{}, names: map[string][]string{}, lost: map[string]bool{}, slow: map[string]time.Duration{}}
}

// Dial is a Dial.
func (n *network) Dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	h, lost, slow := n.hosts[addr], n.lost[addr], n.slow[addr]
	n.mu.Unlock()
	if lost {
		slow = dialBound
	}
	if slow > 0 {
		t := time.NewTimer(slow)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	switch {
	case lost:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
	case h == nil:
		return nil, refused
	}
	return h.connect(refused)
}

// LookupNetIP implements Resolver.
func (n *network) LookupNetIP(_ context.Context, _, name string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	list, ok := n.names[name]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	var addrs []netip.Addr
	for _, a := range list {
		addrs = append(addrs, netip.MustParseAddrPort(a).Addr())
	}
	return addrs, nil
}

func (n *network) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

// host is a server at an address of the network; it is its own net.Listener.
type host struct {
	n      *network
	addr   string
	server *http.Server
	conns  chan net.Conn
	gone   chan struct{}

	mu   sync.Mutex
	open []net.Conn // both ends
	dead bool
}

// serve starts a server.
func (n *network) serve(addr string, h http.Handler) *host {
	s := &host{n: n, addr: addr, conns: make(chan net.Conn), gone: make(chan struct{})}
	s.server = &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	n.set(func() { n.hosts[addr] = s })
	go func() { _ = s.server.Serve(s) }()
	return s
}

func (h *host) connect(refused error) (net.Conn, error) {
	client, server := net.Pipe()
	h.mu.Lock()
	if h.dead {
		h.mu.Unlock()
		return nil, refused
	}
	h.open = append(h.open, client, server)
	h.mu.Unlock()
	select {
	case h.conns <- server:
		return client, nil
	case <-h.gone:
		return nil, refused
	}
}

// kill is kill -9: the port is closed, and every connection breaks.
func (h *host) kill() {
	h.n.set(func() {
		if h.n.hosts[h.addr] == h {
			delete(h.n.hosts, h.addr)
		}
	})
	h.mu.Lock()
	if h.dead {
		h.mu.Unlock()
		return
	}
	h.dead = true
	open := h.open
	h.mu.Unlock()
	close(h.gone)
	_ = h.server.Close()
	for _, c := range open {
		_ = c.Close()
	}
}

func (h *host) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.gone:
		return nil, net.ErrClosed
	}
}

func (h *host) Close() error   { return nil }
func (h *host) Addr() net.Addr { return &net.TCPAddr{} }

// got is one update that a backend was sent.
type got struct {
	id   int64
	addr string
	at   time.Time
}

// recorder is the way to Telegram.
type recorder struct {
	mu     sync.Mutex
	calls  []Call
	bodies []string
	script func(n int, c Call) (verdict, time.Duration, error)
}

// verdict is what becomes of a call.
type verdict int

const (
	Done verdict = iota
	Refused
	Again
	Unknown
	Over
)

// failure is the error that says so.
func (v verdict) failure(after time.Duration, err error) error {
	switch {
	case v == Done:
		return nil
	case v == Refused:
		return &telegram.Error{Code: http.StatusBadRequest}
	case v == Over:
		return telegram.ErrLeaseLost
	case v == Unknown:
		return err
	case after > 0:
		return &telegram.Error{Code: http.StatusTooManyRequests, RetryAfter: int(after.Seconds())}
	}
	return fmt.Errorf("%w: %w", telegram.ErrNotSent, err)
}

// free is a term in which all gets through to Telegram.
type free struct{}

func (free) Through() <-chan struct{} { return nil }
func (free) Limited(int64, bool)      {}

// Forward implements Forwarder.
func (r *recorder) Forward(ctx context.Context, c Call) error {
	v, after, err := r.forward(ctx, c)
	return v.failure(after, err)
}

func (r *recorder) forward(ctx context.Context, c Call) (verdict, time.Duration, error) {
	raw, err := io.ReadAll(c.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && c.Size >= 0 && int64(len(raw)) != c.Size {
		err = fmt.Errorf("%d bytes, want %d", len(raw), c.Size)
	}
	r.calls = append(r.calls, c)
	r.bodies = append(r.bodies, string(raw))
	switch {
	case ctx.Err() != nil:
		return Over, 0, ctx.Err()
	case err != nil:
		return Again, 0, err
	case r.script != nil:
		return r.script(len(r.calls), c)
	}
	return Done, 0, nil
}

func (r *recorder) methods() (list []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		list = append(list, c.Method)
	}
	return list
}

// world is a relay, its queues in one term, its backends and Telegram.
type world struct {
	*Relay
	t        *testing.T
	net      *network
	telegram *recorder
	queues   *queues.Queues
	ctx      context.Context
	end      context.CancelFunc
	lost     atomic.Bool // the lease
	registry *prometheus.Registry
	log      *strings.Builder

	mu    sync.Mutex
	got   []got
	done  map[int64]time.Time
	by    map[int64]update.Outcome
	order map[int64][]int64 // by queue
	ready []Readiness
	hosts []*host
	due   map[string]time.Time // promises to the watchdog
	homes int64
	own   map[int64]bool // updates that wait on their own account
}

// Through implements Term.
func (w *world) Through() <-chan struct{} { return nil }

// Limited implements Term.
func (w *world) Limited(id int64, waits bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.own == nil {
		w.own = map[int64]bool{}
	}
	if w.own[id] = waits; !waits {
		delete(w.own, id)
	}
}

// waitsAlone tells whether an update waits on its own account.
func (w *world) waitsAlone(id int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.own[id]
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *strings.Builder
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// newWorld starts a relay for some URLs. Each address in at is a backend that answers 200 OK; of other addresses
// nothing is known. mybot is the name of all of them.
func newWorld(t *testing.T, list string, at ...string) *world {
	t.Helper()
	return newWorldWith(t, list, func(*Config) {}, at...)
}

const testTerm = 1_700_000_000_123_456_789

func newWorldWith(t *testing.T, list string, option func(*Config), at ...string) *world {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	w := &world{
		t: t, net: newNetwork(), telegram: &recorder{}, ctx: ctx, end: end, registry: prometheus.NewRegistry(), log: &strings.Builder{},
		done: map[int64]time.Time{}, by: map[int64]update.Outcome{}, order: map[int64][]int64{}, due: map[string]time.Time{},
	}
	for _, addr := range at {
		w.serve(addr, w.takes(addr))
	}
	w.net.set(func() { w.net.names["mybot"] = slices.Clone(at) })
	cfg := Config{
		Backends: backends(t, list), Parallel: 8, UserAgent: "habot/test", Forwarder: w.telegram, Registerer: w.registry,
		Logger:   slog.New(slog.NewTextHandler(lockedWriter{&w.mu, w.log}, nil)),
		Resolver: w.net, Dial: w.net.Dial,
		OnReady: func(is Readiness) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.ready = append(w.ready, is)
		},
	}
	option(&cfg)
	w.Relay = New(cfg)
	running, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(running) }()
	w.term(testTerm)
	synctest.Wait()
	t.Cleanup(func() {
		end()
		w.drain(0)
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		w.Relay.Close()
		for _, h := range w.hosts {
			h.kill()
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.due) > 0 {
			t.Errorf("promises that nobody keeps: %v", w.due)
		}
		if len(w.own) > 0 {
			t.Errorf("updates that are handled wait on their own account: %v", w.own)
		}
		if w.waiting != 0 {
			t.Errorf("%d count as waiting", w.waiting)
		}
	})
	return w
}

// term starts queues for a term.
func (w *world) term(timestamp int64) {
	w.queues = queues.New(queues.Config{
		Handler: w.Handler(timestamp, w), Slots: 8, Patience: time.Minute, Held: func() bool { return !w.lost.Load() },
		Promise: func(part string, d time.Duration) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if due, ok := w.due[part]; ok && time.Now().After(due) {
				w.t.Errorf("%s broke its promise by %v", part, time.Since(due))
			}
			if d == 0 {
				delete(w.due, part)
			} else {
				w.due[part] = time.Now().Add(d)
			}
		},
		Logger: slog.New(slog.NewTextHandler(lockedWriter{&w.mu, w.log}, nil)),
	})
}

func (w *world) drain(d time.Duration) (took time.Duration, left int) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	began := time.Now()
	left = w.queues.Drain(ctx)
	return time.Since(began), left
}

func (w *world) serve(addr string, h http.Handler) *host {
	s := w.net.serve(addr, h)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts = append(w.hosts, s)
	return s
}

// host is the server at an address now.
func (w *world) host(addr string) *host {
	w.net.mu.Lock()
	defer w.net.mu.Unlock()
	return w.net.hosts[addr]
}

// takes notes the update, and answers 200.
func (w *world) takes(addr string) http.HandlerFunc {
	return w.note(addr, func(rw http.ResponseWriter, _ *http.Request, _ int64) { rw.WriteHeader(http.StatusOK) })
}

// note notes the update, and lets then answer.
func (w *world) note(addr string, then func(rw http.ResponseWriter, req *http.Request, id int64)) http.HandlerFunc {
	return func(rw http.ResponseWriter, req *http.Request) {
		var u struct {
			ID int64 `json:"update_id"`
		}
		raw, err := io.ReadAll(req.Body)
		if err != nil {
			return // it was not sent
		}
		if err := json.Unmarshal(raw, &u); err != nil {
			w.t.Errorf("a body is %q", raw)
		}
		w.mu.Lock()
		w.got = append(w.got, got{u.ID, addr, time.Now()})
		w.mu.Unlock()
		then(rw, req, u.ID)
	}
}

// give has updates come from a chat.
func (w *world) give(chat int64, ids ...int64) {
	for _, id := range ids {
		w.giveRaw(fmt.Sprintf(`{"update_id":%d,"message":{"message_id":%d,"date":%d,"chat":{"id":%d},"text":"x"}}`, id, id, time.Now().Unix(), chat))
	}
}

func (w *world) giveRaw(raw string) {
	batch, err := update.Split([]byte("[" + raw + "]"))
	if err != nil {
		w.t.Fatal(err)
	}
	batch[0].Came = time.Now() // as intake does
	w.queues.Consume(w.ctx, batch, func(id int64, o update.Outcome) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if _, again := w.done[id]; again {
			w.t.Errorf("%d is done twice", id)
		}
		w.done[id], w.by[id] = time.Now(), o
		w.order[batch[0].Queue] = append(w.order[batch[0].Queue], id)
	})
}

// after lets time pass.
func (w *world) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for part, due := range w.due {
		if time.Now().After(due) {
			w.t.Errorf("%s is overdue by %v", part, time.Since(due))
		}
	}
}

// times are when an update was sent to backends.
func (w *world) times(id int64) (times []time.Time) {
	for _, g := range w.sent(id) {
		times = append(times, g.at)
	}
	return times
}

// sent is where and when an update was sent to; all updates if id is 0.
func (w *world) sent(id int64) (list []got) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range w.got {
		if id == 0 || g.id == id {
			list = append(list, g)
		}
	}
	return list
}

func (w *world) outcome(id int64) update.Outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.by[id]
}

func (w *world) expectDone(n int) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.done) != n {
		w.t.Errorf("%d are handled, want %d", len(w.done), n)
	}
	for queue, ids := range w.order {
		if !slices.IsSorted(ids) {
			w.t.Errorf("queue %d was handled in the order %v", queue, ids)
		}
	}
}

func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

// metric is a value of a counter or gauge, or the count of a histogram; labels are name=value.
func (w *world) metric(name string, labels ...string) float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	sum, found := 0.0, false
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if slices.ContainsFunc(labels, func(l string) bool {
				return !slices.ContainsFunc(m.GetLabel(), func(p *dto.LabelPair) bool { return p.GetName()+"="+p.GetValue() == l })
			}) {
				continue
			}
			found = true
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	if !found {
		w.t.Errorf("there is no metric %s with %v", name, labels)
	}
	return sum
}

var errTest = errors.New("for a test")

const (
	one = "10.0.0.1:8000"
	two = "10.0.0.2:8000"
)

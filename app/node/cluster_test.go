package node_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"habot/app/election"
	"habot/app/node"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	lease = time.Second
	// hop is how long a message takes one way; fewTrips is what a hand-over may take at most.
	hop      = time.Millisecond
	fewTrips = 20 * hop
)

// settings are what an election derives from the lease.
var settings = election.Config{Lease: lease}

var errCut = errors.New("no way to that replica")

// cluster is replicas in one bubble, joined by a network in memory. It fails the test when the work of
// two terms overlaps.
type cluster struct {
	t *testing.T
	// brief: what counts is that leases do not overlap; work may outlast its own until the process exits.
	brief bool
	// lag is how much longer progress takes on its way than other messages.
	lag time.Duration
	// halting: replicas are expected to halt.
	halting bool

	mu      sync.Mutex
	members []*member
	cut     map[string]bool
	telling map[string]bool // progress is under way from one to another
	told    map[string]int  // how often progress came to an address
	bare    map[string]bool // replicas of a version that takes no notes
	acting  []*member
	begun   []begun
}

// begun is one term's work.
type begun struct {
	who  *member
	term node.Term
	at   time.Time
}

// member is one replica.
type member struct {
	c      *cluster
	cfg    node.Config
	node   *node.Node
	reg    *prometheus.Registry
	leave  context.CancelCauseFunc
	exited chan struct{} // closed when Run has returned, as a process would end
	err    error         // of Run
	halts  chan string
	clock  skewed
}

// skewed is a clock of its own origin, in the bubble's time.
type skewed struct {
	origin time.Time
	wall   time.Duration
}

func (s skewed) Read() election.Reading {
	now := time.Now()
	return election.Reading{Now: election.Instant(now.Sub(s.origin)), Wall: now.Add(s.wall).UnixNano()}
}

// option changes a replica's configuration before it starts.
type option func(m *member)

func withWork(w node.Work) option { return func(m *member) { m.cfg.Work = w } }

// untilStopped is work that ends when it is asked to, either way.
func untilStopped(ctx context.Context, t node.Term) error {
	select {
	case <-ctx.Done():
	case <-t.Drain:
	}
	return nil
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, cut: map[string]bool{}, telling: map[string]bool{}, told: map[string]int{}}
	t.Cleanup(func() {
		for _, m := range c.all() {
			m.leave(nil)
		}
		for _, m := range c.all() {
			<-m.exited
			if len(m.halts) > 0 && !c.halting {
				t.Errorf("%s halted: %s", m.name(), <-m.halts)
			}
		}
	})
	return c
}

// three starts replicas a, b and c with wall clocks an hour apart, and waits for a primary.
func three(t *testing.T, opts ...option) (c *cluster, primary *member) {
	t.Helper()
	c = newCluster(t)
	for i, name := range []string{"a", "b", "c"} {
		c.start(name, append([]option{func(m *member) { m.clock.wall = time.Duration(i-1) * time.Hour }}, opts...)...)
	}
	c.await(2*lease, "a primary", func() bool { return c.primary() != nil })
	return c, c.primary()
}

func (c *cluster) start(name string, opts ...option) *member {
	m := &member{c: c, reg: prometheus.NewRegistry(), exited: make(chan struct{}), halts: make(chan string, 8)}
	m.clock.origin = time.Now().Add(-time.Duration(len(c.all())+1) * time.Hour)
	m.cfg = node.Config{
		Election:  election.Config{Self: election.ReplicaID("id-" + name), Name: name, Version: "test", Lease: lease, Replicas: 3, LeaveWithin: 5 * lease},
		Transport: link{c, name}, Work: untilStopped, Logger: slog.New(slog.DiscardHandler), Registerer: m.reg,
		Expect: func(time.Duration) {},
		Halt:   func(reason string) { m.halts <- reason },
	}
	for _, o := range opts {
		o(m)
	}
	m.cfg.Clock = m.clock
	work := m.cfg.Work
	m.cfg.Work = func(ctx context.Context, t node.Term) error {
		c.begin(m, t)
		defer c.end(m)
		return work(ctx, t)
	}
	m.node = node.New(m.cfg)
	ctx, leave := context.WithCancelCause(context.Background())
	m.leave = leave
	c.mu.Lock()
	c.members = slices.DeleteFunc(c.members, func(o *member) bool { return o.name() == name })
	c.members = append(c.members, m)
	c.mu.Unlock()
	go func() {
		defer close(m.exited)
		m.err = m.node.Run(ctx)
	}()
	return m
}

func (m *member) name() string { return m.cfg.Election.Name }

func (c *cluster) all() []*member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.members)
}

func (c *cluster) others(than *member) []*member {
	return slices.DeleteFunc(c.all(), func(m *member) bool { return m == than })
}

func (c *cluster) begin(m *member, t node.Term) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, other := range c.acting {
		if c.brief {
			break
		}
		c.t.Errorf("the work of %s began while that of %s ran", m.name(), other.name())
	}
	for _, b := range c.begun {
		if b.term.Held() {
			c.t.Errorf("the work of %s began while %s held its lease", m.name(), b.who.name())
		}
		if b.term.Change.Claim.Timestamp >= t.Change.Claim.Timestamp {
			c.t.Errorf("the timestamp of %s is not above that of %s", m.name(), b.who.name())
		}
	}
	c.acting = append(c.acting, m)
	c.begun = append(c.begun, begun{m, t, time.Now()})
}

func (c *cluster) end(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acting = slices.DeleteFunc(c.acting, func(o *member) bool { return o == m })
}

// primary is the member whose work runs, nil if there is none.
func (c *cluster) primary() *member {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.acting) == 0 {
		return nil
	}
	return c.acting[0]
}

func (c *cluster) terms() []begun {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.begun)
}

func (c *cluster) last() begun {
	all := c.terms()
	return all[len(all)-1]
}

// await lets time pass until cond holds, and returns how much did.
func (c *cluster) await(bound time.Duration, what string, cond func() bool) time.Duration {
	c.t.Helper()
	from := time.Now()
	for {
		synctest.Wait()
		if cond() {
			return time.Since(from)
		}
		if time.Since(from) >= bound {
			c.t.Fatalf("not within %s: %s", bound, what)
		}
		time.Sleep(hop / 2)
	}
}

// successor waits until another member's work has begun after old's.
func (c *cluster) successor(old *member, bound time.Duration) (begun, time.Duration) {
	c.t.Helper()
	before := len(c.terms())
	took := c.await(bound, "a successor", func() bool { return len(c.terms()) > before })
	if c.last().who == old {
		c.t.Fatalf("%s succeeded itself", old.name())
	}
	return c.last(), took
}

// sever keeps a replica from all others, or lets it back.
func (c *cluster) sever(m *member, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut[m.name()] = cut
}

// slow has progress take so much longer on its way from now on.
func (c *cluster) slow(lag time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lag = lag
}

// reach takes a message from one replica to another and an answer back; ask is what the other does.
func reach[A any](ctx context.Context, l link, addr string, ask func(m *member) (A, error)) (answer A, err error) {
	m, err := l.travel(ctx, addr)
	if err != nil {
		return answer, err
	}
	answer, failed := ask(m)
	if _, err := l.travel(ctx, addr); err != nil {
		return answer, err
	}
	return answer, failed
}

// link is one replica's way to the others; addresses are names.
type link struct {
	c    *cluster
	from string
}

func (l link) travel(ctx context.Context, addr string) (*member, error) {
	select {
	case <-time.After(hop):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l.c.mu.Lock()
	lost := l.c.cut[addr] || l.c.cut[l.from]
	i := slices.IndexFunc(l.c.members, func(m *member) bool { return m.name() == addr })
	var m *member
	if i >= 0 {
		m = l.c.members[i]
	}
	l.c.mu.Unlock()
	if lost { // packets are dropped, not refused: TCP gives up before the sender does
		select {
		case <-time.After(settings.QueryTimeout()):
			return nil, errCut
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if m == nil {
		return nil, errCut
	}
	return m, nil
}

func (l link) Complete() bool { return true }

func (l link) Addresses() []string {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	var addrs []string
	for _, m := range l.c.members {
		addrs = append(addrs, m.name()) // itself among them
	}
	return addrs
}

func (link) Refresh() {}

func (l link) Status(ctx context.Context, addr string) (election.Status, error) {
	return reach(ctx, l, addr, func(m *member) (election.Status, error) { return m.node.Status(ctx) })
}

func (l link) Claim(ctx context.Context, addr string, req election.ClaimRequest) (election.ClaimAnswer, error) {
	return reach(ctx, l, addr, func(m *member) (election.ClaimAnswer, error) { return m.node.Claim(ctx, req) })
}

func (l link) End(ctx context.Context, addr string, req election.EndRequest) error {
	_, err := reach(ctx, l, addr, func(m *member) (struct{}, error) { return struct{}{}, m.node.End(ctx, req) })
	return err
}

func (l link) Leave(ctx context.Context, addr string, req election.LeaveRequest) (election.LeaveAnswer, error) {
	return reach(ctx, l, addr, func(m *member) (election.LeaveAnswer, error) { return m.node.Leave(ctx, req) })
}

func (l link) History(ctx context.Context, addr string) (election.History, error) {
	return reach(ctx, l, addr, func(m *member) (election.History, error) { return m.node.History(ctx) })
}

func (l link) Progress(ctx context.Context, addr string, p election.Progress) (election.ProgressAnswer, error) {
	to := l.from + " to " + addr
	l.c.mu.Lock()
	if l.c.telling[to] {
		l.c.t.Errorf("progress from %s while more of it is under way", to)
	}
	l.c.telling[to] = true
	l.c.told[addr]++
	lag, bare := l.c.lag, l.c.bare[addr]
	l.c.mu.Unlock()
	if addr == l.from { // no way at all
		lag = 0
	}
	defer func() {
		l.c.mu.Lock()
		defer l.c.mu.Unlock()
		l.c.telling[to] = false
	}()
	select {
	case <-time.After(lag):
	case <-ctx.Done():
		return election.ProgressAnswer{}, ctx.Err()
	}
	if bare { // as the client of package peer does it
		p.Notes, p.Settled = nil, nil
	}
	return reach(ctx, l, addr, func(m *member) (election.ProgressAnswer, error) {
		a, err := m.node.Progress(ctx, p)
		if bare {
			a = election.ProgressAnswer{WithoutNotes: true}
		}
		return a, err
	})
}

func (l link) Switchover(ctx context.Context, addr, successor string) error {
	_, err := reach(ctx, l, addr, func(m *member) (struct{}, error) { return struct{}{}, m.node.SwitchoverHere(ctx, successor) })
	return err
}

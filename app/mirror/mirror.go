package mirror

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"habot/app/turns"
)

// Transport reaches the other replicas, by address. It MUST be safe for concurrent use and honour contexts.
type Transport interface {
	// Addresses are where other replicas may be now; a copy. This one's own may be among them.
	Addresses() []string
	// Message takes a message there, and its answer back.
	Message(ctx context.Context, addr string, body []byte) ([]byte, error)
}

// Cluster is what the election knows of the replicas.
type Cluster struct {
	// Expected is how many there are to be, this one included; Quorum how many grant a term.
	Expected, Quorum int
	// Reachable are the processes of the others that are reachable.
	Reachable []string
}

// Config is what a mirror is made of.
type Config struct {
	// Self is this replica's process.
	Self      string
	Transport Transport
	// Cluster is asked often; it MUST NOT take longer than a moment.
	Cluster func() Cluster
	// Now reads the local clock.
	Now    func() turns.Instant
	Logger *slog.Logger
}

const (
	// collectFor bounds the wait for what the others know when a term begins.
	collectFor = 2 * time.Second
	// strays is how much longer addresses are waited for at which no replica is known to be.
	strays = 50 * time.Millisecond
	// askFor bounds one question of those.
	askFor = 500 * time.Millisecond
	// askAgain is how soon one that failed is asked once more.
	askAgain = 100 * time.Millisecond
	// patience bounds a message to another replica.
	patience = 3 * time.Second
	// lookEvery is how often a primary looks whether others lack anything, and lookAfter how long after the last contact one
	// is asked though nothing new is there: it may have started again, and have forgotten.
	lookEvery = 250 * time.Millisecond
	lookAfter = time.Second
	// goodbye bounds the wait for others at the end of a term.
	goodbye = 250 * time.Millisecond
	// clusterFor is how long what the election knows is good.
	clusterFor = 50 * time.Millisecond
)

// Mirror is one replica's. Its methods are safe for concurrent use.
type Mirror struct {
	cfg Config

	mu sync.Mutex
	// floor is the latest term that has asked this replica, or begun here: it takes nothing of an earlier one.
	floor   int64
	known   turns.Mirror
	sending *sending // the term that has begun here; nil if none has
	cluster Cluster
	at      turns.Instant // of the cluster
}

// New returns a mirror that knows nothing.
func New(cfg Config) *Mirror { return &Mirror{cfg: cfg} }

// State is what this replica knows of the primary's turns, as of now.
func (m *Mirror) State() turns.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known.State(m.cfg.Now())
}

// Active is the copy that has the turn, as far as this replica knows; empty if none has. It is cheap.
func (m *Mirror) Active() turns.CopyID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known.Active()
}

// Receive takes a message of another replica and returns the answer to it.
func (m *Mirror) Receive(body []byte) ([]byte, error) {
	r, err := decodeRequest(body)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.cfg.Now()
	a := answer{replica: m.cfg.Self, before: m.known.Version()}
	if r.from != m.cfg.Self && r.term >= m.floor {
		m.floor = r.term
		for _, e := range r.entries {
			if e.delta.Term != r.term || !m.known.Apply(now.Add(-e.ago), e.delta) {
				a.missed = true
				break
			}
		}
	}
	a.version, a.floor = m.known.Version(), m.floor
	if r.collect && m.known.Version() != (turns.Version{}) {
		d := m.whole(now)
		a.state = &d
	}
	return a.encode(), nil
}

// whole is all that is known. It MUST be called with mu held.
func (m *Mirror) whole(now turns.Instant) turns.Delta {
	s := m.known.State(now)
	return turns.Delta{Version: m.known.Version(), Full: true, Kept: s.Kept, Roster: &s.Roster}
}

// seen is what the election knows, a moment ago at most.
func (m *Mirror) seen() Cluster {
	now := m.cfg.Now()
	m.mu.Lock()
	c, fresh := m.cluster, m.at != 0 && now.Sub(m.at) < clusterFor
	m.mu.Unlock()
	if fresh {
		return c
	}
	c = m.cfg.Cluster()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cluster, m.at = c, now
	return c
}

// Begin begins a term on this replica, and returns what it begins from: the state of the freshest mirror of all replicas that
// are reached within two seconds, as of now. It MUST be called only after the lease of the term before has ended. ctx is the
// term's: when it ends, so does all sending. term is its claim's timestamp; terms rise. replicated is called once a majority, this
// replica included, has all deltas up to seq; it never blocks for long, and seq may repeat.
func (m *Mirror) Begin(ctx context.Context, term int64, replicated func(seq uint64)) turns.State {
	m.End()
	m.mu.Lock()
	m.floor = max(m.floor, term)
	m.mu.Unlock()
	m.collect(ctx, term)
	s := &sending{m: m, term: term, replicated: replicated, stirred: make(chan struct{}, 1), done: make(chan struct{}), others: map[string]*other{}}
	s.ctx, s.stop = context.WithCancel(ctx)
	m.mu.Lock()
	m.sending, s.from = s, m.known.Version()
	state := m.known.State(m.cfg.Now())
	m.mu.Unlock()
	go s.run()
	return state
}

// Replicate hands a delta of the term that began last to the others, in order. The first one MUST be full. It never blocks.
func (m *Mirror) Replicate(d turns.Delta) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sending
	if s == nil || d.Term != s.term || m.floor > d.Term {
		return
	}
	now := m.cfg.Now()
	if !m.known.Apply(now, d) {
		m.cfg.Logger.Error("a change of turns was not kept: one before it is missing", "term", d.Term, "seq", d.Seq)
		return
	}
	s.add(entry{delta: d}, now)
	signal(s.stirred)
}

// End ends the term: no delta of it follows. While the context of the term lasts it waits until those replicas that answer
// have all there is, a quarter of a second at most.
func (m *Mirror) End() {
	m.mu.Lock()
	s := m.sending
	m.sending = nil
	m.mu.Unlock()
	if s == nil {
		return
	}
	late := time.NewTimer(goodbye)
	defer late.Stop()
	for progress := s.progress(); !s.settled(); progress = s.progress() {
		select {
		case <-progress:
			continue
		case <-late.C:
		case <-s.ctx.Done():
		}
		break
	}
	s.stop()
	<-s.done
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// collected is what an address answered.
type collected struct {
	addr   string
	answer answer
	err    error
}

// collect asks all replicas what they know, and takes in the freshest.
func (m *Mirror) collect(term context.Context, timestamp int64) {
	ctx, cancel := context.WithTimeout(term, collectFor)
	defer cancel()
	addrs := m.cfg.Transport.Addresses()
	answers := make(chan collected)
	body := request{from: m.cfg.Self, term: timestamp, collect: true}.encode()
	for _, addr := range addrs {
		go m.ask(ctx, addr, body, answers)
	}
	knows := map[string]bool{m.cfg.Self: true}
	failed := map[string]error{}
	asked := map[string]bool{} // addresses that answered or failed
	again := time.NewTicker(askAgain / 2)
	defer again.Stop()
	var enough time.Time
	for {
		c := m.seen()
		// So many share a replica with each majority.
		missing := slices.DeleteFunc(slices.Clone(c.Reachable), func(id string) bool { return knows[id] })
		if len(missing) == 0 && len(knows) >= c.Expected-c.Quorum+1 {
			if enough.IsZero() {
				enough = time.Now()
			}
			if len(asked) == len(addrs) || time.Since(enough) >= strays {
				return
			}
		}
		select {
		case got := <-answers:
			asked[got.addr] = true
			if failed[got.addr] = got.err; got.err == nil {
				knows[got.answer.replica] = true
				m.learn(got.answer)
			}
		case <-again.C:
		case <-ctx.Done():
			if term.Err() != nil {
				return
			}
			m.cfg.Logger.Warn("a term begins without what some replicas know of copies", "answered", len(knows), "expected", c.Expected,
				"missing", missing, "failures", failures(failed))
			return
		}
	}
}

// failures are the last ones, by address.
func failures(failed map[string]error) []string {
	var all []string
	for _, addr := range slices.Sorted(maps.Keys(failed)) {
		if failed[addr] != nil {
			all = append(all, failed[addr].Error())
		}
	}
	return all
}

// ask asks an address until it answers.
func (m *Mirror) ask(ctx context.Context, addr string, body []byte, answers chan<- collected) {
	for ctx.Err() == nil {
		got := collected{addr: addr}
		once, cancel := context.WithTimeout(ctx, askFor)
		got.answer, got.err = m.exchange(once, addr, body)
		cancel()
		select {
		case answers <- got:
		case <-ctx.Done():
		}
		if got.err == nil {
			return
		}
		pause(ctx, askAgain)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (m *Mirror) exchange(ctx context.Context, addr string, body []byte) (answer, error) {
	raw, err := m.cfg.Transport.Message(ctx, addr, body)
	if err != nil {
		return answer{}, fmt.Errorf("ask a mirror: %w", err)
	}
	return decodeAnswer(raw)
}

// learn takes in what another replica knows, if that is fresher.
func (m *Mirror) learn(a answer) {
	if a.state == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known.Apply(m.cfg.Now(), *a.state)
	m.floor = max(m.floor, m.known.Version().Term)
}

package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"habot/app/turns"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const hop = time.Millisecond

// network joins mirrors in a bubble. Addresses are names.
type network struct {
	t     *testing.T
	start time.Time
	log   bytes.Buffer

	mu       sync.Mutex
	nodes    map[string]*replica
	expected int
	dead     map[string]bool // connections are refused
	silent   map[string]bool // connections hang
	hidden   map[string]bool // of the election: not reachable
	loss     float64
	rng      *rand.Rand
}

type replica struct {
	*Mirror
	n          *network
	name, id   string
	replicated atomic.Uint64
	stop       context.CancelFunc
	ctx        context.Context
	messages   atomic.Int64
}

func newNetwork(t *testing.T, names ...string) *network {
	n := &network{
		t: t, start: time.Now(), nodes: map[string]*replica{}, expected: len(names), dead: map[string]bool{}, silent: map[string]bool{},
		hidden: map[string]bool{}, rng: rand.New(rand.NewPCG(1, 2)),
	}
	for _, name := range names {
		n.restart(name)
	}
	t.Cleanup(func() {
		for _, r := range n.nodes {
			r.stop()
			r.End()
		}
	})
	return n
}

// restart starts a process that knows nothing.
func (n *network) restart(name string) *replica {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.nodes[name]
	lives := 0
	if old != nil {
		old.stop()
		lives = int(old.id[len(old.id)-1]-'0') + 1
	}
	r := &replica{n: n, name: name, id: fmt.Sprint(name, lives)}
	r.ctx, r.stop = context.WithCancel(context.Background())
	// Each has a clock of its own.
	origin := time.Duration(len(n.nodes)+1) * 1000 * time.Hour
	r.Mirror = New(Config{
		Self: r.id, Transport: r, Cluster: r.seesCluster, Now: func() turns.Instant { return turns.Instant(origin + time.Since(n.start)) },
		Logger: slog.New(slog.NewTextHandler(&lockedWriter{n: n}, nil)),
	})
	n.nodes[name] = r
	delete(n.dead, name)
	return r
}

type lockedWriter struct{ n *network }

func (w *lockedWriter) Write(b []byte) (int, error) {
	w.n.mu.Lock()
	defer w.n.mu.Unlock()
	return w.n.log.Write(b)
}

func (n *network) logged(text string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Contains(n.log.String(), text)
}

func (n *network) set(what map[string]bool, name string, to bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	what[name] = to
}

// kill ends a process.
func (n *network) kill(name string) {
	n.set(n.dead, name, true)
	n.set(n.hidden, name, true)
	n.nodes[name].stop()
}

func (r *replica) seesCluster() Cluster {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	c := Cluster{Expected: r.n.expected, Quorum: r.n.expected/2 + 1}
	for name, other := range r.n.nodes {
		if other != r && !r.n.hidden[name] {
			c.Reachable = append(c.Reachable, other.id)
		}
	}
	return c
}

// Addresses has its own among them, as a scaled service's name resolves.
func (r *replica) Addresses() []string {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	var all []string
	for name := range r.n.nodes {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func (r *replica) Message(ctx context.Context, addr string, body []byte) ([]byte, error) {
	r.messages.Add(1)
	asked, _ := decodeRequest(body)
	trip := func() error {
		r.n.mu.Lock()
		dead, silent, lost := r.n.dead[addr], r.n.silent[addr] || r.n.silent[r.name], !asked.collect && r.n.rng.Float64() < r.n.loss // TCP sends again
		r.n.mu.Unlock()
		if silent || lost {
			<-ctx.Done()
			return ctx.Err()
		}
		pause(ctx, hop)
		if dead {
			return errors.New("connection refused")
		}
		return ctx.Err()
	}
	if err := trip(); err != nil {
		return nil, err
	}
	r.n.mu.Lock()
	to := r.n.nodes[addr]
	r.n.mu.Unlock()
	a, err := to.Receive(body)
	if err != nil {
		r.n.t.Errorf("%s does not take what %s sends: %v", addr, r.name, err)
		return nil, err
	}
	if err := trip(); err != nil {
		return nil, err
	}
	return a, nil
}

func (r *replica) version() turns.Version {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known.Version()
}

// begin begins a term on a replica.
func (r *replica) begin(timestamp int64) turns.State {
	r.replicated.Store(0)
	return r.Begin(r.ctx, timestamp, func(seq uint64) { r.replicated.Store(seq) })
}

// delta is the n-th of a term: the first one is full.
func delta(term int64, seq uint64, kept ...int64) turns.Delta {
	d := turns.Delta{Version: turns.Version{Term: term, Seq: seq}, Full: seq == 1}
	for _, id := range kept {
		d.Kept = append(d.Kept, turns.Kept{Update: turns.Update{ID: id, Raw: fmt.Appendf(nil, `{"update_id":%d}`, id)}})
	}
	if seq == 1 {
		d.Roster = &turns.Roster{Active: "a", Members: []turns.Member{{ID: "a", Address: "10.0.0.1"}}}
	}
	return d
}

func ids(s turns.State) (all []int64) {
	for _, k := range s.Kept {
		all = append(all, k.ID)
	}
	return all
}

// started are three replicas with a as primary, whose first delta all have.
func started(t *testing.T, kept ...int64) (n *network, a *replica) {
	t.Helper()
	n = newNetwork(t, "a", "b", "c")
	a = n.nodes["a"]
	a.begin(1)
	a.Replicate(delta(1, 1, kept...))
	time.Sleep(time.Second)
	return n, a
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

func TestAMajorityHasWhatIsReportedAsReplicated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNetwork(t, "a", "b", "c")
		a := n.nodes["a"]
		a.begin(1)
		n.set(n.silent, "c", true)
		start := time.Now()
		for seq := range uint64(20) {
			a.Replicate(delta(1, seq+1, int64(seq+1)))
		}
		for a.replicated.Load() < 20 {
			time.Sleep(hop / 10)
			if b := n.nodes["b"].version(); b.Seq < a.replicated.Load() {
				t.Fatalf("%d are replicated, b has %v", a.replicated.Load(), b)
			}
		}
		if took := time.Since(start); took > 5*hop {
			t.Errorf("it takes %v", took)
		}
		if got := ids(n.nodes["b"].State()); len(got) != 20 {
			t.Errorf("b has %v", got)
		}
		n.set(n.silent, "b", true)
		a.Replicate(delta(1, 21))
		time.Sleep(10 * time.Second)
		if a.replicated.Load() != 20 {
			t.Error("a replica alone is no majority")
		}
	})
}

func TestAReplicaAloneIsAMajorityOfOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNetwork(t, "a")
		a := n.nodes["a"]
		start := time.Now()
		a.begin(1)
		a.Replicate(delta(1, 1))
		synctest.Wait()
		if a.replicated.Load() != 1 || time.Since(start) > strays {
			t.Errorf("%d replicated after %v", a.replicated.Load(), time.Since(start))
		}
	})
}

// One that starts again has forgotten. It is given all there is before anything new comes.
func TestAReplicaThatStartsAgainIsGivenAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNetwork(t, "a", "b", "c")
		a := n.nodes["a"]
		a.begin(1)
		a.Replicate(delta(1, 1, 1, 2))
		a.Replicate(delta(1, 2, 3))
		time.Sleep(time.Second)
		n.restart("b")
		time.Sleep(2 * lookAfter)
		if got := n.nodes["b"].State(); !slices.Equal(ids(got), []int64{1, 2, 3}) || got.Active != "a" || n.nodes["b"].Active() != "a" {
			t.Errorf("b has %+v", got)
		}
	})
}

// It missed so many that they are not kept any more, and then they are many bytes.
func TestAReplicaThatWasAwayForLongIsGivenAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, a := started(t)
		n.set(n.silent, "b", true)
		var want []int64
		for i := range uint64(2 * maxEntries) {
			d := delta(1, i+2, int64(i+1))
			if i > 0 && i%2 == 0 {
				d.Removed = []int64{int64(i)}
			}
			a.Replicate(d)
			time.Sleep(10 * time.Millisecond)
		}
		for _, k := range a.State().Kept {
			want = append(want, k.ID)
		}
		n.set(n.silent, "b", false)
		time.Sleep(2 * patience)
		if got := ids(n.nodes["b"].State()); !slices.Equal(got, want) {
			t.Errorf("b has %v, a %v", got, want)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.sending.log) > maxEntries {
			t.Errorf("%d deltas are kept", len(a.sending.log))
		}
	})
}

// Ages go on while a delta waits to be sent, and on the replica that has it.
func TestAgesGoOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, a := started(t)
		n.set(n.silent, "b", true)
		d := delta(1, 2, 5)
		d.Roster = &turns.Roster{Active: "a", SinceAgo: time.Minute}
		d.Kept[0].GivenAgo = time.Second
		made := time.Now()
		a.Replicate(d)
		time.Sleep(patience - 100*time.Millisecond)
		n.set(n.silent, "b", false)
		time.Sleep(patience)
		gone := time.Since(made)
		for _, name := range []string{"a", "b", "c"} {
			s := n.nodes[name].State()
			if off := s.SinceAgo - time.Minute - gone; off.Abs() > 3*hop {
				t.Errorf("%s: the turn's age is off by %v", name, off)
			}
			if len(s.Kept) != 1 {
				t.Fatalf("%s has %+v", name, s)
			}
			if off := s.Kept[0].GivenAgo - time.Second - gone; off.Abs() > 3*hop {
				t.Errorf("%s: the update's age is off by %v", name, off)
			}
		}
	})
}

// TURNS.md, assumption 2: a mere majority would be one that has forgotten and one that never knew.
func TestATermBeginsFromTheFreshestOfAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, a := started(t, 1)
		n.set(n.silent, "c", true)
		a.Replicate(delta(1, 2, 2))
		time.Sleep(time.Second)
		if a.replicated.Load() != 2 {
			t.Fatal("not replicated")
		}
		a.stop() // a's term is over, and nothing more is sent
		a.End()
		n.restart("b")
		n.set(n.silent, "c", false)
		start := time.Now()
		if got := ids(n.nodes["c"].begin(2)); !slices.Equal(got, []int64{1, 2}) {
			t.Errorf("it begins from %v", got)
		}
		if took := time.Since(start); took > 3*hop {
			t.Errorf("it takes %v", took)
		}
	})
}

func TestADeadPrimaryIsNotWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, a := started(t, 1)
		n.kill("a")
		n.set(n.silent, "a", true) // not even refused, as where a container was
		a.End()
		start := time.Now()
		if got := ids(n.nodes["b"].begin(2)); !slices.Equal(got, []int64{1}) {
			t.Errorf("it begins from %v", got)
		}
		if took := time.Since(start); took > strays+askAgain {
			t.Errorf("it takes %v", took)
		}
	})
}

// It counts as reachable until the election has missed it for long enough.
func TestAReplicaThatHangsIsWaitedForWithinABound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNetwork(t, "a", "b", "c")
		n.set(n.silent, "b", true)
		start := time.Now()
		n.nodes["a"].begin(1)
		if took := time.Since(start); took != collectFor || !n.logged("a term begins without what some replicas know") {
			t.Errorf("it takes %v: %s", took, &n.log)
		}
		a, c := n.nodes["a"], n.nodes["c"]
		a.Replicate(delta(1, 1))
		time.Sleep(time.Second)
		if a.replicated.Load() != 1 || c.version().Seq != 1 {
			t.Error("the term goes on without it")
		}
		time.AfterFunc(500*time.Millisecond, func() { n.set(n.hidden, "b", true) })
		start = time.Now()
		c.begin(2)
		if took := time.Since(start); took > 600*time.Millisecond {
			t.Errorf("it takes %v though the election knows that b is gone", took)
		}
	})
}

func TestALateDeltaOfAnEarlierTermIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, a := started(t, 1)
		b, c := n.nodes["b"], n.nodes["c"]
		b.begin(2) // asks c, too
		a.Replicate(delta(1, 2, 2))
		time.Sleep(time.Second)
		if a.replicated.Load() != 1 {
			t.Error("a term that is over reports what it sends as replicated")
		}
		for _, r := range []*replica{b, c} {
			if v := r.version(); v != (turns.Version{Term: 1, Seq: 1}) {
				t.Errorf("%s has taken %v", r.name, v)
			}
		}
		b.Replicate(delta(2, 1, 1))
		time.Sleep(time.Second)
		if v := a.version(); b.replicated.Load() != 1 || v.Term != 2 {
			t.Errorf("%d replicated, a has %v", b.replicated.Load(), v)
		}
		before := a.messages.Load()
		a.Replicate(delta(1, 3, 3))
		time.Sleep(10 * time.Second)
		if sent := a.messages.Load() - before; sent > 0 {
			t.Errorf("a term that is over sends %d messages", sent)
		}
	})
}

// So an orderly switchover needs no answer of the former primary.
func TestTheEndOfATermWaitsUntilTheOthersHaveAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, a := started(t, 1)
		a.Replicate(delta(1, 2, 2))
		a.End()
		for _, name := range []string{"b", "c"} {
			if v := n.nodes[name].version(); v.Seq != 2 {
				t.Errorf("%s has %v", name, v)
			}
		}
		a.begin(2)
		n.set(n.silent, "c", true)
		a.Replicate(delta(2, 1))
		start := time.Now()
		a.End()
		if took := time.Since(start); took != goodbye {
			t.Errorf("it waits for %v", took)
		}
		a.begin(3)
		a.Replicate(delta(3, 1))
		start = time.Now()
		a.stop() // the lease is lost
		a.End()
		if took := time.Since(start); took > 0 {
			t.Errorf("it waits for %v though the term was cut off", took)
		}
	})
}

// A primary whose term begins from too little cannot take that back, but it does not pass unnoticed.
func TestAReplicaThatKnewMoreIsNoticed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, a := started(t, 1)
		a.End()
		n.restart("b")
		n.set(n.silent, "a", true)
		n.set(n.silent, "c", true)
		b := n.nodes["b"]
		b.begin(2)
		n.set(n.silent, "a", false)
		b.Replicate(delta(2, 1))
		time.Sleep(time.Second)
		if !n.logged("a replica knew more of copies than the term began from") {
			t.Errorf("the log has %s", &n.log)
		}
	})
}

// Whatever is lost on the way, and whichever replica is primary: in the end all have the same, and what was replicated is
// never lost while all but one are there.
func TestMirrorsAgreeWhateverIsLost(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { agree(t, seed) })
		})
	}
}

func agree(t *testing.T, seed uint64) {
	n := newNetwork(t, "a", "b", "c")
	rng := rand.New(rand.NewPCG(seed, 7))
	n.rng = rand.New(rand.NewPCG(seed, 8))
	n.loss = []float64{0, 0.05, 0.3}[seed%3]
	names := []string{"a", "b", "c"}
	certain := map[int64]bool{} // updates that are kept, and were replicated
	next := int64(1)
	for term := int64(1); term <= 8; term++ {
		p := n.nodes[names[rng.IntN(3)]]
		begun := p.begin(term)
		for id := range certain {
			if !slices.Contains(ids(begun), id) {
				t.Fatalf("term %d on %s begins without %d: %v", term, p.name, id, ids(begun))
			}
		}
		d := delta(term, 1)
		d.Kept = begun.Kept
		kept := map[int64]uint64{} // and with which delta
		for _, k := range begun.Kept {
			kept[k.ID] = 1
		}
		clear(certain)
		for seq := uint64(1); seq <= 1+rng.Uint64N(60); seq++ {
			if seq > 1 {
				d = delta(term, seq)
				for range rng.IntN(3) {
					d.Kept = append(d.Kept, delta(term, 2, next).Kept...)
					kept[next] = seq
					next++
				}
				for id := range kept {
					if rng.IntN(8) == 0 && kept[id] < seq {
						d.Removed = append(d.Removed, id)
						delete(kept, id)
					}
				}
			}
			p.Replicate(d)
			time.Sleep(time.Duration(rng.Int64N(int64(20 * hop))))
		}
		if rng.IntN(2) == 0 {
			time.Sleep(time.Second)
		}
		for id, seq := range kept {
			certain[id] = seq <= p.replicated.Load()
			if !certain[id] {
				delete(certain, id)
			}
		}
		for id := range certain { // removed by a delta that need not be known
			if !slices.Contains(ids(p.State()), id) {
				delete(certain, id)
			}
		}
		switch rng.IntN(3) {
		case 0:
			p.End()
		case 1:
			p.stop()
			p.End()
			p.ctx, p.stop = context.WithCancel(context.Background())
		case 2: // it crashes, and is there again, or not yet
			n.kill(p.name)
			p.End()
			if rng.IntN(2) == 0 {
				n.set(n.hidden, p.name, false)
				n.restart(p.name)
			} else {
				// The next term begins on one of the others; then it comes back.
				q := n.nodes[names[(slices.Index(names, p.name)+1+rng.IntN(2))%3]]
				term++
				begun := q.begin(term)
				for id := range certain {
					if !slices.Contains(ids(begun), id) {
						t.Fatalf("term %d on %s begins without %d: %v", term, q.name, id, ids(begun))
					}
				}
				d := delta(term, 1)
				d.Kept = begun.Kept
				q.Replicate(d)
				n.set(n.hidden, p.name, false)
				n.restart(p.name)
				time.Sleep(4 * patience)
				q.End()
			}
		}
	}
	n.mu.Lock()
	n.loss = 0
	n.mu.Unlock()
	p := n.nodes["b"]
	begun := p.begin(100)
	d := delta(100, 1)
	d.Kept = begun.Kept
	p.Replicate(d)
	time.Sleep(3 * patience)
	want := p.State()
	for _, name := range names {
		got := n.nodes[name].State()
		for _, s := range []*turns.State{&got, &want} {
			s.SinceAgo = 0
			for i := range s.Members {
				s.Members[i].WaitingAgo, s.Members[i].HeardAgo = 0, 0
			}
			s.FormerAgo = 0
			for i := range s.Kept {
				s.Kept[i].GivenAgo = 0
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s has %+v, b %+v", name, got, want)
		}
	}
}

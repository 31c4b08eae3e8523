package election

import (
	"flag"
	"fmt"
	"math/bits"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var scopeFlag = flag.String("scope", "quick", "what to enumerate: quick, large, or the name of one scope")

// behind is a wall clock that is behind every timestamp: then they are as low, and as often equal, as can be.
var behind = []int64{0}

// scopes are sets of small scopes. quick takes seconds and is part of the tests; large is for the checks
// before a change lands.
var scopes = map[string][]scope{
	"quick": {
		{name: "two-from-the-start", replicas: 2, step: 50, claims: 3, restarts: 1, walls: behind, peace: true, limit: 100_000},
		{name: "two-drifting", replicas: 2, step: 25, drift: []int64{4900, -4900}, claims: 2, restarts: 1, walls: behind, limit: 100_000},
		{name: "two-late-frozen", replicas: 2, step: 50, claims: 1, restarts: 1, frozen: 1, late: 1, settled: true, walls: behind, limit: 200_000},
		{name: "two-handover", replicas: 2, step: 50, claims: 1, handovers: 1, leaves: 1, patience: 100, settled: true, walls: behind, peace: true, limit: 100_000},
		{name: "two-asked", replicas: 2, step: 50, claims: 2, handovers: 1, asked: 1, settled: true, walls: behind, limit: 1_000_000},
		{name: "three-restart", replicas: 3, step: 50, claims: 1, restarts: 1, settled: true, walls: behind, limit: 200_000},
		{name: "two-leave", replicas: 2, step: 50, claims: 1, restarts: 1, leaves: 1, patience: 150, settled: true, walls: behind, peace: true, limit: 500_000},
		{name: "three-leave", replicas: 3, step: 50, leaves: 2, patience: 100, settled: true, walls: behind, limit: 200_000},
		{name: "three-scale-in", replicas: 3, configured: 2, step: 50, leaves: 1, patience: 150, late: 1, settled: true, walls: behind, limit: 200_000},
		{name: "four-scale-in", replicas: 4, configured: 3, step: 50, leaves: 1, patience: 100, settled: true, walls: behind, limit: 200_000},
		{name: "two-in-turn", replicas: 2, step: 50, claims: 1, restarts: 1, leaves: 2, patience: 150, turn: 100, settled: true, walls: behind, peace: true, limit: 500_000},
		{name: "three-in-turn", replicas: 3, step: 50, leaves: 2, patience: 150, turn: 100, settled: true, walls: behind, limit: 500_000},
		{name: "two-deaths", replicas: 2, step: 50, claims: 2, restarts: 1, deaths: 1, walls: behind, peace: true, limit: 200_000},
		{name: "witness", replicas: 3, witnesses: 1, step: 50, claims: 1, restarts: 1, settled: true, walls: behind, limit: 1_000_000},
		{name: "witness-leave", replicas: 3, witnesses: 1, step: 50, leaves: 1, patience: 100, settled: true, walls: behind, limit: 1_000_000},
		{name: "witness-deaths", replicas: 3, witnesses: 1, step: 50, deaths: 1, restarts: 1, leaves: 1, patience: 100, settled: true, walls: behind, limit: 10_000_000},
		{name: "witness-one-candidate", replicas: 2, witnesses: 1, step: 50, claims: 2, restarts: 1, handovers: 1, sick: 1, walls: behind, peace: true, limit: 100_000},
		{name: "three-deaths", replicas: 3, step: 50, claims: 1, restarts: 1, deaths: 2, settled: true, walls: behind, limit: 500_000},
	},
	"large": {
		{name: "two-late-asked", replicas: 2, step: 50, claims: 2, restarts: 1, late: 1, asked: 1, settled: true, walls: behind, limit: 5_000_000},
		{name: "two-clocks-jump", replicas: 2, step: 50, claims: 2, restarts: 1, late: 1, walls: []int64{0, 3}, limit: 1_000_000},
		{name: "two-sick", replicas: 2, step: 50, claims: 2, handovers: 1, leaves: 1, sick: 1, settled: true, walls: behind, peace: true, limit: 5_000_000},
		{name: "three-from-the-start", replicas: 3, step: 50, claims: 2, walls: behind, peace: true, limit: 1_000_000},
		{name: "three-drifting", replicas: 3, step: 25, drift: []int64{4900, -4900, 0}, claims: 1, restarts: 1, settled: true, walls: behind, limit: 1_000_000},
		{name: "three-margin", replicas: 3, step: 30, claims: 1, frozen: 1, settled: true, walls: behind, limit: 1_000_000},
		{name: "three-late", replicas: 3, step: 50, claims: 1, restarts: 1, late: 1, settled: true, walls: behind, limit: 5_000_000},
		{name: "three-leave-claim", replicas: 3, step: 50, claims: 1, leaves: 1, patience: 100, settled: true, walls: behind, limit: 10_000_000},
		{name: "four-scale-in-late", replicas: 4, configured: 3, step: 50, leaves: 1, patience: 100, late: 1, settled: true, walls: behind, limit: 5_000_000},
		{name: "four-scale-in-two", replicas: 4, configured: 2, step: 50, leaves: 2, patience: 100, settled: true, walls: behind, limit: 5_000_000},
		{name: "two-deaths-late", replicas: 2, step: 50, claims: 2, restarts: 1, deaths: 1, late: 1, settled: true, walls: behind, limit: 5_000_000},
		{name: "two-deaths-frozen", replicas: 2, step: 50, claims: 2, restarts: 2, deaths: 1, frozen: 1, settled: true, walls: behind, limit: 5_000_000},
		{name: "two-deaths-handover", replicas: 2, step: 50, claims: 2, restarts: 2, deaths: 1, handovers: 1, settled: true, walls: behind, limit: 5_000_000},
		{name: "witness-handover", replicas: 3, witnesses: 1, step: 50, claims: 1, handovers: 1, settled: true, walls: behind, peace: true, limit: 1_000_000},
		{name: "witness-leave-two", replicas: 3, witnesses: 1, step: 50, leaves: 2, patience: 100, settled: true, walls: behind, limit: 5_000_000},
		{name: "three-deaths-leave", replicas: 3, step: 50, restarts: 1, deaths: 1, leaves: 1, patience: 100, settled: true, walls: behind, limit: 10_000_000},
		{name: "two-in-turn-late", replicas: 2, step: 50, claims: 1, restarts: 1, leaves: 2, patience: 150, turn: 100, late: 1, settled: true, walls: behind, limit: 5_000_000},
		{name: "four-restart", replicas: 4, step: 50, claims: 1, restarts: 1, settled: true, walls: behind, limit: 5_000_000},
	},
}

// found is one state, among those of its shard.
type found struct {
	state
	parent ref
	marks  marks
}

// ref names a found state: its shard in the lowest bits, then its place there.
type ref uint32

const (
	shardBits = 6
	nowhere   = ref(1<<32 - 1)
)

// shard holds a part of the states that were found, each once. Its table is open addressing: a map
// would need several times the room.
type shard struct {
	mu     sync.Mutex
	states []found
	slots  []uint32 // place in states, plus 1
}

// explorer visits every reachable state of a scope once, nearest first.
type explorer struct {
	*system
	shards [1 << shardBits]shard

	total, transitions atomic.Int64
	depth              int
	complete           atomic.Bool // one path had all marks
	steps              int         // of the real machine
	covered            coverage
}

func (s state) hash() uint64 {
	h := uint64(s.network)<<32 | uint64(s.account)
	for _, n := range s.hosts {
		h = (h ^ uint64(n)) * 0x9e3779b97f4a7c15
		h = bits.RotateLeft64(h, 29)
	}
	h *= 0xbf58476d1ce4e5b9
	return h ^ h>>31
}

// add adds a state unless it was found before.
func (e *explorer) add(s state, parent ref, m marks) (ref, bool) {
	h := s.hash()
	n := h & (1<<shardBits - 1)
	sh := &e.shards[n]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(sh.states)*2 >= len(sh.slots) {
		sh.grow()
	}
	mask := uint64(len(sh.slots) - 1)
	i := h >> shardBits & mask
	for ; sh.slots[i] != 0; i = (i + 1) & mask {
		if sh.states[sh.slots[i]-1].state == s {
			return 0, false
		}
	}
	sh.states = append(sh.states, found{s, parent, m})
	sh.slots[i] = uint32(len(sh.states))
	e.total.Add(1)
	if m == allMarks {
		e.complete.Store(true)
	}
	return ref(len(sh.states)-1)<<shardBits | ref(n), true
}

func (sh *shard) grow() {
	sh.slots = make([]uint32, max(1024, 2*len(sh.slots)))
	mask := uint64(len(sh.slots) - 1)
	for n, f := range sh.states {
		i := f.hash() >> shardBits & mask
		for sh.slots[i] != 0 {
			i = (i + 1) & mask
		}
		sh.slots[i] = uint32(n + 1)
	}
}

func (e *explorer) at(r ref) found {
	sh := &e.shards[r&(1<<shardBits-1)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.states[r>>shardBits]
}

// broken is a guarantee that does not hold: in a state, or in what happens next there.
type broken struct {
	at ref
	// next is what breaks it; nil if the state itself does, or what follows it in peace.
	next    *next
	inPeace bool
	what    string
}

// explore returns the first broken guarantee it meets; there is none nearer to the start.
func (e *explorer) explore() (*broken, error) {
	workers := make([]*worker, runtime.GOMAXPROCS(0))
	peace := make([]*worker, len(workers)) // apart: it covers nothing of the scope
	for i := range workers {
		workers[i], peace[i] = e.worker(), e.worker()
	}
	begun := marks(0)
	if e.settled {
		begun = firstTerm
	}
	begin, err := workers[0].first()
	if err != nil {
		return nil, err
	}
	first, _ := e.add(begin, nowhere, begun)
	frontier := []ref{first}
	var worst atomic.Pointer[broken]
	for ; len(frontier) > 0 && worst.Load() == nil; e.depth++ {
		if e.total.Load() > int64(e.limit) {
			return nil, fmt.Errorf("more than %d states: the scope is not small", e.limit)
		}
		var taken atomic.Int64
		var wg sync.WaitGroup
		later := make([][]ref, len(workers))
		for i, w := range workers {
			wg.Go(func() {
				const batch = 64
				for worst.Load() == nil {
					from := taken.Add(batch) - batch
					if from >= int64(len(frontier)) {
						return
					}
					for _, r := range frontier[from:min(from+batch, int64(len(frontier)))] {
						if b := e.visit(w, peace[i], r, &later[i]); b != nil {
							worst.Store(b)
							return
						}
					}
				}
			})
		}
		wg.Wait()
		frontier = slices.Concat(later...)
	}
	e.covered = coverage{}
	for _, w := range workers {
		e.steps += w.steps
		for k, n := range w.covered {
			e.covered[k] += n
		}
	}
	return worst.Load(), nil
}

// visit checks a state and finds what can follow it.
func (e *explorer) visit(w, peace *worker, r ref, later *[]ref) *broken {
	f := e.at(r)
	if what := w.check(f.state); what != "" {
		return &broken{at: r, what: what}
	}
	if e.scope.peace {
		if _, what := peace.peace(f.state, nil); what != "" {
			return &broken{at: r, inPeace: true, what: what}
		}
	}
	var b *broken
	transitions := int64(0)
	w.expand(f.state, func(n next) {
		transitions++
		if n.broken != "" && b == nil {
			b = &broken{at: r, next: &n, what: n.broken}
		}
		if to, added := e.add(n.state, r, f.marks.with(n.marks)); added {
			*later = append(*later, to)
		}
	})
	e.transitions.Add(transitions)
	return b
}

// with adds marks while they are of interest: between the first term and the second.
func (m marks) with(n marks) marks {
	if m&secondTerm != 0 {
		return m
	}
	if m&firstTerm == 0 {
		n &= firstTerm
	}
	if m&granterDied == 0 {
		n &^= granterBack
	}
	return m | n
}

// first is the state in which a scope begins.
func (w *worker) first() (state, error) {
	var s state
	for h := range w.replicas {
		s.hosts[h] = w.number(local{host: h})
	}
	s.network = w.carrying(nil)
	a := account{claims: w.claims, restarts: w.restarts, handovers: w.handovers, leaves: w.leaves, sick: w.sick, deaths: w.deaths}
	if w.settled {
		// The first starts a step before the others, so that it is the only candidate.
		s.hosts[0] = w.happens(w.happens(s.hosts[0], start, 0)[0].host, pass, 0)[0].host
		settled, what := w.worker().peace(s, nil)
		if what != "" {
			return s, fmt.Errorf("it does not settle: %s", what)
		}
		s = settled
		for h := range w.replicas {
			f := w.local.at(s.hosts[h])
			a.last, a.grantedLast = f.held, a.grantedLast|1<<h
			a.granted[h] = 1
		}
	}
	s.account = w.accounts.number(a)
	return s, nil
}

// TestEveryReachableStateOfASmallScope explores, with the real machine, all that can happen to a few
// replicas in a small scope, and checks the guarantees in every state. With -v it prints how many states
// there are. "-scope large" explores larger scopes, "-scope NAME" a single one.
func TestEveryReachableStateOfASmallScope(t *testing.T) {
	covered, complete := coverage{}, false
	for _, s := range chosen(t) {
		t.Run(s.name, func(t *testing.T) {
			began := time.Now()
			e := &explorer{system: newSystem(s)}
			b, err := e.explore()
			if err != nil {
				t.Fatal(err)
			}
			if b != nil {
				t.Fatalf("%s\n%s", b.what, strings.Join(e.story(b), "\n"))
			}
			t.Logf("%d states, %d transitions, %d steps deep; %d steps of the machine; %v",
				e.total.Load(), e.transitions.Load(), e.depth, e.steps, time.Since(began).Round(time.Millisecond))
			for k, n := range e.covered {
				covered[k] += n
			}
			complete = complete || e.complete.Load()
		})
	}
	if t.Failed() || scopes[*scopeFlag] == nil {
		return
	}
	if !complete {
		t.Error("COVERAGE: no path has two terms, a restart of one that granted the first, and a late message between")
	}
	for _, k := range mustOccur {
		t.Logf("%-28s %d", k, covered[k])
		if covered[k] == 0 {
			t.Errorf("COVERAGE: %q never occurred", k)
		}
	}
}

// mustOccur are the roles, outputs, answers and results that the scopes together must reach: all but those
// of another configuration.
var mustOccur = []string{
	"role joining", "role looking", "role candidate", "role primary", "role standby", "role leaving",
	"SendClaim", "SendEnd", "Reply", "StartWork", "ExtendLease", "StopWork", "Halt", "Left", "Died", "PrimaryChanged", "SteppedDown",
	"reply granted", "reply granted by a witness", "reply refused, joining", "reply refused, floor", "reply refused, held", "reply refused, ended",
	"election won", "election yielded", "election refused", "election timed_out", "election abandoned",
	"stop bot, lease_lost", "stop bot, switchover", "stop bot, shutdown",
	"SendLeave", "LeaveReply", "Departed", "dismissed", "departed", "left without a word", "counted out",
	"waited in turn",
}

func chosen(t *testing.T) []scope {
	if all, ok := scopes[*scopeFlag]; ok {
		return all
	}
	for _, all := range scopes {
		for _, s := range all {
			if s.name == *scopeFlag {
				return []scope{s}
			}
		}
	}
	t.Fatalf("there is no scope %q", *scopeFlag)
	return nil
}

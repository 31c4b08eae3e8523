package clustertest

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"habot/app/election"
	"habot/app/simulator"
)

const (
	token    = "123456789:AAFabcdefghijklmnopqrstuvwxyz-01234"
	telegram = "telegram" // a party of the network like the hosts
)

// options are what a schedule is drawn to be.
type options struct {
	replicas int // REPLICAS
	hosts    int // how many there are; 0: replicas
	// grown: they count more than REPLICAS. What ends starts again in peace alone: a process that does not know the larger
	// number needs a network that is whole to learn it (SAFETY.md, assumption 3).
	grown    bool
	lease    time.Duration
	patience time.Duration // LEAVE_PATIENCE
	drift    bool
	admins   []int64
	noise    noise
	rate     float64 // messages of users a second
	restarts bool    // crashes and stops, so that memory is lost
	orderly  bool    // nothing but stops, switchovers and wall clocks
	// lifelines: others learn of the end of a process at once.
	lifelines bool
	// witness is the host whose replica votes and never is primary, by its number from 1 on; 0: none.
	witness int
	copies  int // of a bot that polls; 0: the bot that comes along answers
	// early: copies confirm what they are given before they handle it, and handle it side by side, as telego does.
	early bool
	chats int // that users write in; 0: chats
}

// noise is what the network does all the time.
type noise struct {
	loss, double float64
	delay        time.Duration // the longest, one way, between replicas
	latency      time.Duration // the longest, one way, to Telegram
	failing      float64       // of requests to Telegram
}

// world is one schedule: hosts, the network, Telegram, and the judge.
type world struct {
	seed  uint64
	opt   options
	level slog.Level
	rng   *rand.Rand // of the schedule, used by its goroutine alone
	// flooded: a chat was, once; the schedule's goroutine's own.
	flooded bool
	start   time.Time
	sim     *simulator.Simulator
	hosts   []*host
	copies  []*copyBot
	over    context.Context // ends when the schedule does
	end     context.CancelFunc
	wires   sync.WaitGroup // what is on its way
	aside   sync.WaitGroup // what is to happen later

	mu           sync.Mutex
	noise        noise
	answersLate  time.Duration // how much later answers to sendMessage come back, which is taken in at once
	cut          map[[2]string]bool
	numbers      map[string]uint64 // of messages, by their way
	active       string            // the copy whose turn it is, as the primary has it
	processes    []*process        // that have ended
	disturbances []time.Time       // when something was lost, late or refused
	judge        judge

	tellMu   sync.Mutex
	story    []string
	counts   map[string]int
	broken   error
	recovery time.Duration // from the mending of all to a poll
}

func newWorld(seed uint64, opt options, rng *rand.Rand, level slog.Level) *world {
	w := &world{
		seed: seed, opt: opt, level: level, rng: rng, start: time.Now(), noise: opt.noise,
		sim: simulator.New(simulator.Config{Token: token, Chats: cmp.Or(opt.chats, chats), Logger: slog.New(slog.DiscardHandler)}),
		cut: map[[2]string]bool{}, numbers: map[string]uint64{}, counts: map[string]int{},
	}
	w.judge.init()
	w.over, w.end = context.WithCancel(context.Background())
	for i := range max(opt.hosts, opt.replicas) {
		h := &host{w: w, name: string(rune('a' + i)), origin: w.start.Add(-time.Duration(rng.Int64N(int64(1000 * time.Hour)))), rate: 1}
		if opt.drift {
			h.rate = 1 + (rng.Float64()*2-1)*0.49/election.DriftBound
			if i < 2 { // two at the bound
				h.rate = 1 + float64(2*i-1)*0.499/election.DriftBound
			}
		}
		h.witness = i+1 == opt.witness
		h.wall = time.Duration(rng.Int64N(int64(6*time.Hour))) - 3*time.Hour
		w.hosts = append(w.hosts, h)
	}
	return w
}

// tell adds a line to the story.
func (w *world) tell(format string, args ...any) {
	w.tellMu.Lock()
	defer w.tellMu.Unlock()
	w.story = append(w.story, fmt.Sprintf("%10.4f  ", time.Since(w.start).Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) count(what string) {
	w.tellMu.Lock()
	defer w.tellMu.Unlock()
	w.counts[what]++
}

// breaks keeps the first broken guarantee.
func (w *world) breaks(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	w.tell("BROKEN: %v", err)
	w.tellMu.Lock()
	defer w.tellMu.Unlock()
	if w.broken == nil {
		w.broken = fmt.Errorf("at %v: %w", time.Since(w.start), err)
	}
}

func (w *world) verdict() error {
	w.tellMu.Lock()
	defer w.tellMu.Unlock()
	return w.broken
}

// pause waits; false if the schedule ended first.
func (w *world) pause(d time.Duration) bool { return wait(w.over, d) }

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func hash(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s)) // never fails
	return h.Sum64()
}

// draw is the randomness of one message: of its way and its number there, so that the fate of one does not hang on the
// order in which goroutines send others.
func (w *world) draw(way string) *rand.Rand {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.numbers[way]++
	return rand.New(rand.NewPCG(w.seed^hash(way), w.numbers[way]))
}

func (w *world) isCut(from, to string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut[[2]string{from, to}]
}

// disturbs takes note that something did not go its way, and why.
func (w *world) disturbs(what string) {
	w.mu.Lock()
	w.disturbances = append(w.disturbances, time.Now())
	w.mu.Unlock()
	w.count(what)
}

// at is the process that runs on a host, nil if none does.
func (w *world) at(h *host) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return h.process
}

func (w *world) byName(name string) *host { return w.hosts[name[0]-'a'] }

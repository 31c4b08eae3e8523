package clustertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/bot"
	"habot/app/election"
	"habot/app/node"
	"habot/app/supervise"
)

// errGone is what a process that has ended gets of the world.
var errGone = errors.New("this process has ended")

// host is a machine: it keeps its clocks and its address while processes come and go.
type host struct {
	w    *world
	name string // and address
	// witness: its replica votes and never is primary. Like the service's, it has no bot.
	witness bool
	// The local clock.
	origin time.Time
	rate   float64

	// Guarded by w.mu.
	wall     time.Duration // how far off the wall clock is
	process  *process      // nil while none runs
	starting bool
	gone     bool // for good
	births   int
}

// local is the host's local clock, whatever its process sees of it.
func (h *host) local() election.Instant {
	return election.Instant(float64(time.Since(h.origin)) * h.rate)
}

// process is one replica from its start to its end.
type process struct {
	w     *world
	host  *host
	id    election.ReplicaID
	born  time.Time
	node  *node.Node
	bot   *bot.Bot
	fleet *fleet // nil without copies
	reg   *prometheus.Registry
	// life ends with the process; taking, with which it takes part, when it is asked to stop; ended is closed when all its
	// goroutines are.
	life   context.Context
	kill   context.CancelFunc
	taking context.Context
	leave  context.CancelFunc
	ended  chan struct{}

	mu       sync.Mutex
	frozen   chan struct{} // closed on waking; nil while awake
	stopped  election.Reading
	wokeAt   time.Time
	health   election.Health
	promises map[string]*time.Timer // to the watcher

	// Guarded by w.mu.
	dead bool
	// departed: it has said that it has left.
	departed bool
	diedAt   time.Time
	alone    bool              // with it a majority was gone
	term     *term             // the one whose work runs
	heard    election.Progress // and when
	heardAt  time.Time
}

// term is one role as primary, as the world sees it.
type term struct {
	p     *process
	claim election.Claim
	node  node.Term
	// cut: the lease was lost, or the process, before the work had drained.
	cut  bool
	over time.Time // zero while it lasts
}

// begin starts a process on a host that has none.
func (w *world) begin(h *host) {
	w.mu.Lock()
	if h.process != nil || h.starting || h.gone {
		w.mu.Unlock()
		return
	}
	h.starting = true
	h.births++
	// Ids are random, and so in no order.
	id := fmt.Sprintf("%08x-%s%d", rand.New(rand.NewPCG(w.seed, hash(h.name)+uint64(h.births))).Uint32(), h.name, h.births)
	p := &process{
		w: w, host: h, id: election.ReplicaID(id), born: time.Now(), reg: prometheus.NewRegistry(), ended: make(chan struct{}),
		health: election.Health{OK: true}, promises: map[string]*time.Timer{},
	}
	w.mu.Unlock()
	p.life, p.kill = context.WithCancel(context.Background())
	p.taking, p.leave = context.WithCancel(p.life)

	logger := slog.New(slog.NewTextHandler(p, &slog.HandlerOptions{Level: w.level, ReplaceAttr: bare}))
	p.node = node.New(node.Config{
		Election:  election.Config{Self: p.id, Name: h.name, Version: "test", Lease: w.opt.lease, Replicas: w.opt.replicas, Witness: h.witness, HealthSettles: bot.HealthSettles, LeavePatience: w.opt.patience, StopWithin: supervise.StopWithin, LeaveWithin: supervise.LeaveWithin(w.opt.patience > 0)},
		Clock:     clock{p},
		Transport: link{p},
		Work:      p.work,
		Logger:    logger, Registerer: p.reg,
		Expect: func(d time.Duration) { p.within("election", max(d, 300*time.Millisecond)) }, // as the service does
		Halt:   func(reason string) { p.die("halt", reason) },
		Gone: func(id election.ReplicaID) {
			if p.fleet != nil {
				p.fleet.others.Gone(id)
			}
		},
	})
	if w.opt.copies > 0 {
		p.fleet = p.newFleet()
	}
	if h.witness {
		w.count("start of a witness")
	} else {
		cfg := bot.Config{
			Token: token, APIURL: "http://telegram", Name: h.name, Version: "test", AdminChatIDs: w.opt.admins, Cluster: p.node,
			Logger: logger, Registerer: p.reg, OnHealth: p.setHealth, Transport: wire{p},
		}
		if p.fleet != nil {
			cfg.Gateway = p.fleet.config()
		}
		p.bot = bot.New(cfg)
		if p.fleet != nil {
			p.fleet.serve(p.bot.Gateway().Passer())
		}
	}
	w.count("start")
	w.tell("%s starts as %s", h.name, p.id)
	w.mu.Lock()
	h.process, h.starting = p, false
	w.mu.Unlock()
	p.run()
}

// run starts the process's goroutines. Like the service, it stops the election first, and exits when that ends.
func (p *process) run() {
	probing, stop := context.WithCancel(p.life)
	var parts, serving sync.WaitGroup
	if p.fleet.serves() {
		p.fleet.run(probing, &serving)
	}
	parts.Go(func() {
		if p.bot == nil {
			return
		}
		if err := p.bot.RunProbe(probing); err != nil {
			p.w.breaks("%s: the probe failed: %v", p.host.name, err)
		}
	})
	parts.Go(func() {
		err := p.node.Run(p.taking)
		switch {
		case errors.Is(err, node.ErrHalted):
			p.die("halt", err.Error())
		case err != nil && !p.isDead():
			p.w.breaks("%s failed: %v", p.host.name, err)
		}
		stop()
		serving.Wait() // for what copies have under way
		p.die("exit", "in order")
	})
	go func() {
		parts.Wait()
		p.excuse("election")
		close(p.ended)
	}()
}

// stop tells the process to end in order, as SIGTERM does.
func (p *process) stop() {
	p.w.tell("%s is asked to stop", p.host.name)
	p.leave()
	shutdownBound := supervise.ShutdownBound(p.w.opt.patience > 0)
	late := time.AfterFunc(shutdownBound, func() {
		if !p.disturbed(shutdownBound) {
			p.w.breaks("SHUTDOWN: %s has not stopped within %v", p.host.name, shutdownBound)
		}
		p.die("halt", "the shutdown takes too long")
	})
	context.AfterFunc(p.life, func() { late.Stop() })
}

func (p *process) isDead() bool {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.dead
}

// die ends the process at once: nothing of it leaves any more. What is left of its goroutines ends unheard.
func (p *process) die(how, why string) {
	w := p.w
	w.mu.Lock()
	if p.dead {
		w.mu.Unlock()
		return
	}
	p.dead, p.diedAt = true, time.Now()
	p.host.process = nil
	gone := 0
	for _, h := range w.hosts {
		if h.process == nil || time.Since(h.process.born) < w.settled() {
			gone++
		}
	}
	p.alone = gone > w.opt.replicas/2
	if p.term != nil {
		p.term.cut, p.term.over = true, time.Now()
		p.term = nil
	}
	w.processes = append(w.processes, p)
	w.mu.Unlock()
	w.count(how)
	w.tell("%s ends: %s (%s)", p.host.name, how, why)
	p.kill()
	if p.fleet != nil {
		p.fleet.ends()
	}
	p.wake()
	w.mourn(p)
	if how == "halt" && !p.disturbed(2*w.opt.lease) {
		w.breaks("%s halted though nothing held it up: %s", p.host.name, why)
	}
	if how == "halt" && !w.opt.grown { // started again, as Docker would
		w.restart(p, time.Second)
	}
}

// mourn has other processes learn that one has ended, within moments, as over lifelines.
func (w *world) mourn(p *process) {
	if !w.opt.lifelines {
		return
	}
	var all []*process
	var ids []election.ReplicaID
	for _, h := range w.hosts {
		if o := w.at(h); o != nil {
			all, ids = append(all, o), append(ids, o.id)
		}
	}
	for _, o := range all {
		others := slices.DeleteFunc(slices.Clone(ids), func(id election.ReplicaID) bool { return id == o.id })
		after := time.Duration(w.draw("death " + string(p.id) + string(o.id)).Int64N(int64(3 * time.Millisecond)))
		w.aside.Go(func() {
			if w.pause(after) && !o.isDead() {
				w.count("death witnessed")
				o.node.ProcessDied(p.id, others)
			}
		})
	}
}

// freeze stops the process for d, as SIGSTOP or a paused machine would.
func (p *process) freeze(d time.Duration) {
	p.mu.Lock()
	if p.frozen != nil {
		p.mu.Unlock()
		return
	}
	p.stopped = p.reading()
	p.frozen = make(chan struct{})
	p.mu.Unlock()
	p.w.count("freeze")
	p.w.tell("%s freezes for %v", p.host.name, d)
	p.w.aside.Go(func() {
		p.w.pause(d)
		p.wake()
	})
}

func (p *process) wake() {
	p.mu.Lock()
	woken := p.frozen != nil
	if woken {
		close(p.frozen)
		p.frozen, p.wokeAt = nil, time.Now()
	}
	h := p.health
	p.mu.Unlock()
	if woken && !p.isDead() {
		p.w.tell("%s wakes", p.host.name)
		p.node.SetHealth(h) // for the loop's timers that ran out meanwhile
	}
}

// disturbed reports whether the process was frozen within d.
func (p *process) disturbed(d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frozen != nil || time.Since(p.wokeAt) < d
}

// door is where everything passes that comes in or goes out: it is shut while the process is frozen, and for good when it
// has ended.
func (p *process) door() error {
	for {
		p.mu.Lock()
		frozen := p.frozen
		p.mu.Unlock()
		if p.life.Err() != nil {
			return errGone
		}
		if frozen == nil {
			return nil
		}
		select {
		case <-frozen:
		case <-p.life.Done():
		}
	}
}

// reading is what the clocks of the process show while it is awake.
func (p *process) reading() election.Reading {
	p.w.mu.Lock()
	wall := p.host.wall
	p.w.mu.Unlock()
	return election.Reading{Now: p.host.local(), Wall: time.Now().Add(wall).UnixNano()}
}

// clock stands still while its process is frozen.
type clock struct{ p *process }

func (c clock) Read() election.Reading {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if c.p.frozen != nil {
		return c.p.stopped
	}
	return c.p.reading()
}

func (p *process) setHealth(h election.Health) {
	p.mu.Lock()
	p.health = h
	p.mu.Unlock()
	if h.OK {
		p.w.count("health: well again")
	} else {
		p.w.count("health: ill")
	}
	p.node.SetHealth(h)
}

// work is what the service makes of a term, with an end to it when the process ends.
func (p *process) work(ctx context.Context, t node.Term) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(p.life, stop)()
	if p.host.witness {
		p.w.breaks("WITNESS: %s, a witness, is primary", p.host.name)
		return nil
	}
	t0 := p.w.termBegins(p, t)
	p.w.learns(p, election.Progress{Claim: t.Change.Claim, Handled: t.Handled}) // it tells so, and knows it itself
	defer p.excuse("poller")
	report, late, note := t.Report, t.Late, t.Note
	t.Report = func(handled []int64) {
		report(handled)
		p.w.learns(p, election.Progress{Claim: t.Change.Claim, Handled: handled})
	}
	t.Late = func(ctx context.Context) ([]json.RawMessage, func(), bool) {
		notes, settle, ok := late(ctx)
		if ok && ctx.Err() == nil { // not while it gathers
			p.w.learnsLate(notes)
		}
		return notes, settle, ok
	}
	t.Note = func(notes []json.RawMessage) {
		note(notes)
		p.w.remembers(p, notes)
	}
	t.Expect = p.within
	err := p.bot.RunAsPrimary(ctx, t)
	p.w.termEnds(t0, ctx.Err() != nil)
	return err
}

// within is the watch: a part that breaks its promise though its process ran would end it.
func (p *process) within(part string, d time.Duration) {
	if d == 0 {
		p.excuse(part)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.promises[part]; t != nil {
		t.Stop()
	}
	p.promises[part] = time.AfterFunc(d, func() {
		if p.taking.Err() == nil && !p.disturbed(d+time.Second) {
			p.w.breaks("STALL: %s's %s shows no sign of life for %v", p.host.name, part, d)
		}
	})
}

func (p *process) excuse(part string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.promises[part]; t != nil {
		t.Stop()
		delete(p.promises, part)
	}
}

// Write makes lines of the log lines of the story.
func (p *process) Write(line []byte) (int, error) {
	p.w.tell("%s  %s", p.host.name, strings.TrimSpace(string(line)))
	p.w.turn(line)
	if strings.Contains(string(line), token[len(token)-35:]) {
		p.w.breaks("the token is in the log: %s", line)
	}
	return len(line), nil
}

// bare leaves out what the story says itself.
func bare(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
		return slog.Attr{}
	}
	return a
}

// outcomes adds up what became of updates in a process.
func (p *process) outcomes(total map[string]int) error {
	families, err := p.reg.Gather()
	if err != nil {
		return fmt.Errorf("gather metrics: %w", err)
	}
	for _, f := range families {
		if f.GetName() != "habot_updates_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() { // outcome alone
				total["update "+l.GetValue()] += int(m.GetCounter().GetValue())
			}
		}
	}
	return nil
}

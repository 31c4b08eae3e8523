package clustertest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"habot/app/simulator"
)

// bound is how long after all is mended a poll is answered again at the latest: the replica started last has joined and won
// (three leases), a poll that waits for updates, or for a Telegram that hung, is over (8 s), and so is the wait after a
// refusal (5 s).
func bound(lease time.Duration) time.Duration { return 3*lease + 13*time.Second }

// answeredWithin bounds the time in which all that waits is answered from then on: what has failed again and again, and may have
// been taken, is tried a last time when ten minutes are over.
const answeredWithin = 11 * time.Minute

// schedule runs one random schedule in a bubble: a time of trouble, then peace. The first broken guarantee is the world's.
func schedule(seed uint64, level slog.Level) *world {
	rng := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(seed, drawn(seed, rng), rng, level)
	w.tell("%+v", w.opt)
	for _, h := range w.hosts {
		w.aside.Go(func() {
			if w.pause(time.Duration(w.draw("start " + h.name).Int64N(int64(w.opt.lease)))) {
				w.begin(h)
			}
		})
	}
	writing, stopWriting := context.WithCancel(context.Background())
	w.aside.Go(func() { w.users(writing) })
	trouble := 40 * time.Second
	for w.verdict() == nil && time.Since(w.start) < trouble {
		time.Sleep(time.Duration(rng.Int64N(int64(3 * time.Second))))
		w.misfortune()
	}
	w.peace()
	stopWriting()
	w.quiet()
	w.finish()
	return w
}

// drawn draws a world from a seed.
func drawn(seed uint64, rng *rand.Rand) options {
	pick := func(d ...time.Duration) time.Duration { return d[rng.IntN(len(d))] }
	opt := options{
		replicas:  []int{3, 3, 3, 5, 3, 2, 3, 1}[seed%8],
		lease:     pick(time.Second, time.Second, 400*time.Millisecond, 3*time.Second),
		drift:     rng.IntN(2) == 0,
		restarts:  rng.IntN(4) > 0,
		rate:      []float64{0.5, 3, 10}[rng.IntN(3)],
		lifelines: seed/8%2 == 0,
		noise: noise{
			loss:    []float64{0, 0, 0.02, 0.2}[rng.IntN(4)],
			double:  []float64{0, 0.1}[rng.IntN(2)],
			delay:   pick(time.Millisecond, time.Millisecond, 30*time.Millisecond, 400*time.Millisecond, 3*time.Second),
			latency: pick(time.Millisecond, 50*time.Millisecond, 500*time.Millisecond),
			failing: []float64{0, 0, 0.02, 0.15}[rng.IntN(4)],
		},
	}
	if rng.IntN(8) == 0 {
		// Slow, but not as slow as what a primary that hands over no longer waits for.
		opt.orderly, opt.noise = true, noise{delay: pick(time.Millisecond, opt.lease/40), latency: pick(time.Millisecond, 10*time.Millisecond)}
	}
	if opt.replicas >= 3 && seed/16%3 == 0 { // for each number of replicas, with lifelines and without
		opt.witness = 1 + int(seed/48%uint64(opt.replicas))
	}
	if seed%3 > 0 {
		opt.patience = []time.Duration{300 * time.Millisecond, 5 * time.Second}[seed%2]
	}
	if rng.IntN(2) == 0 {
		opt.admins = []int64{simulator.FirstChat}
	}
	return opt
}

// users write until ctx ends: what is to be sent back, and now and then a command.
func (w *world) users(ctx context.Context) {
	r := w.draw("users")
	for n := 1; wait(ctx, time.Duration(r.ExpFloat64()/w.opt.rate*float64(time.Second))); n++ {
		chat := simulator.FirstChat + int64(r.IntN(chats))
		switch r.IntN(12) {
		case 0:
			w.sim.Write(chat, []string{"/status", "/ping", "/whoami"}[r.IntN(3)])
		default:
			w.writes(chat, fmt.Sprintf("message %d", n))
		}
	}
}

// anyHost is a host drawn at random, the primary's half of the time.
func (w *world) anyHost() *host {
	h := w.hosts[w.rng.IntN(len(w.hosts))]
	if w.rng.IntN(2) == 0 {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, o := range w.hosts {
			if o.process != nil && o.process.term != nil {
				return o
			}
		}
	}
	return h
}

// The misfortunes that cost nothing: no user may notice them.
const (
	stopping  = 4
	switching = 5
	jumping   = 13
)

// misfortune does one random thing.
func (w *world) misfortune() {
	h := w.anyHost()
	p := w.at(h)
	lasting := time.Duration(w.rng.Int64N(int64(6 * time.Second)))
	what := w.rng.IntN(16)
	if w.opt.orderly {
		what = []int{stopping, switching, jumping}[what%3]
	}
	switch what {
	case 0, 1:
		if p != nil && w.opt.restarts {
			p.die("crash", "kill -9")
			w.restart(p, lasting/2)
		}
	case 2, 3:
		if p != nil {
			p.freeze(lasting / 2)
		}
	case stopping:
		if p != nil && w.opt.restarts && (!w.opt.orderly || w.complete()) {
			w.count("stop")
			p.stop()
			w.restart(p, lasting)
		}
	case switching, switching + 1:
		w.switchover(h, p)
	case 7:
		w.isolate("partition", lasting, func(from, to string) bool {
			return (from == h.name) != (to == h.name) && from != telegram && to != telegram
		})
	case 8:
		other := w.hosts[w.rng.IntN(len(w.hosts))]
		w.isolate("one-way cut", lasting, func(from, to string) bool { return from == h.name && to == other.name })
	case 9:
		w.isolate("cut off from Telegram", 3*lasting, func(from, to string) bool {
			return from == h.name && to == telegram || from == telegram && to == h.name
		})
	case 10:
		w.isolate("Telegram's answers cut off", lasting, func(from, to string) bool { return from == telegram && to == h.name })
	case 11, 12:
		w.outage(h, lasting)
	case jumping:
		w.count("wall clock jump")
		w.mu.Lock()
		h.wall = time.Duration(w.rng.Int64N(int64(20*time.Hour))) - 10*time.Hour
		w.mu.Unlock()
		w.tell("the wall clock of %s jumps", h.name)
	case 15:
		w.flood(simulator.FirstChat+w.rng.Int64N(chats), lasting)
	case 14:
		w.count("webhook set")
		w.tell("a webhook is set from outside")
		w.ask("setWebhook", "url", "https://example.org/")
	}
}

// flood has a user write more than Telegram shows at once, once in a schedule, while Telegram limits that chat.
func (w *world) flood(chat int64, lasting time.Duration) {
	if w.flooded {
		return
	}
	w.flooded = true
	w.count("flood of a limited chat")
	w.sim.Apply(simulator.Control{Faults: []simulator.Fault{{
		Kind: simulator.FaultLimit, Methods: []string{"sendMessage"}, Chats: []int64{chat}, Seconds: 1 + lasting.Seconds(), RetryAfterSeconds: 1 + w.rng.IntN(3),
	}}})
	for i := range 110 {
		w.writes(chat, fmt.Sprintf("flood %d", i))
	}
}

// complete reports whether all processes run and have joined: one may go without taking the majority away.
func (w *world) complete() bool {
	for _, h := range w.hosts {
		if p := w.at(h); p == nil || p.taking.Err() != nil || time.Since(p.born) < 3*w.opt.lease {
			return false
		}
	}
	return len(w.hosts) > 2
}

// restart begins a process anew, d after it has ended.
func (w *world) restart(p *process, d time.Duration) {
	w.aside.Go(func() {
		<-p.life.Done()
		if w.pause(d) {
			w.begin(p.host)
		}
	})
}

// switchover asks a replica to move the role, as an operator does.
func (w *world) switchover(h *host, p *process) {
	if p == nil {
		return
	}
	to := ""
	if w.rng.IntN(2) == 0 {
		to = w.hosts[w.rng.IntN(len(w.hosts))].name
	}
	w.aside.Go(func() {
		ctx, cancel := context.WithTimeout(w.over, 5*time.Second)
		defer cancel()
		if err := p.node.Switchover(ctx, to); err != nil {
			w.count("switchover refused")
			w.tell("%s does not switch over to %q: %v", h.name, to, err)
			return
		}
		w.count("switchover")
		w.tell("%s switches over to %q", h.name, to)
	})
}

// isolate cuts ways for a time.
func (w *world) isolate(what string, d time.Duration, hit func(from, to string) bool) {
	w.count(what)
	parties := []string{telegram}
	for _, h := range w.hosts {
		parties = append(parties, h.name)
	}
	var ways [][2]string
	for _, from := range parties {
		for _, to := range parties {
			if from != to && hit(from, to) {
				ways = append(ways, [2]string{from, to})
			}
		}
	}
	w.tell("%s for %v: %v", what, d, ways)
	set := func(cut bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, way := range ways {
			w.cut[way] = cut
		}
	}
	set(true)
	w.aside.Go(func() {
		w.pause(d)
		set(false)
	})
}

func outages() []string {
	return []string{
		simulator.FaultError500, simulator.FaultHTML502, simulator.FaultHang, simulator.FaultDrop, simulator.FaultLimit,
		simulator.FaultConflict, simulator.FaultLatency,
	}
}

// outage is trouble at Telegram itself, for all or for one.
func (w *world) outage(h *host, d time.Duration) {
	kinds := outages()
	f := simulator.Fault{Kind: kinds[w.rng.IntN(len(kinds))], Seconds: d.Seconds() + 0.01, RetryAfterSeconds: 1 + w.rng.IntN(3), LatencySeconds: w.rng.Float64()}
	if w.rng.IntN(3) == 0 {
		f.Replica = h.name
	}
	if w.rng.IntN(3) == 0 {
		f.Methods = []string{"sendMessage"}
	}
	w.count("outage: " + f.Kind)
	w.tell("Telegram: %+v", f)
	w.sim.Apply(simulator.Control{Faults: []simulator.Fault{f}})
}

// peace mends everything and sees that the work goes on.
func (w *world) peace() {
	w.mu.Lock()
	clear(w.cut)
	w.noise = noise{delay: time.Millisecond, latency: 10 * time.Millisecond}
	w.mu.Unlock()
	w.sim.Apply(simulator.Control{ClearFaults: true})
	w.ask("deleteWebhook") // a term removes one, once
	w.tell("peace")
	for _, h := range w.hosts {
		p := w.at(h)
		if p != nil {
			p.wake()
		}
		if p != nil && p.taking.Err() != nil { // on its way out
			<-p.life.Done()
		}
		w.begin(h)
	}
	mended := time.Now()
	w.tell("all is mended")
	for !w.polling(mended) {
		if time.Since(mended) > bound(w.opt.lease)+w.numberDecay() {
			w.breaks("LIVENESS: no replica polls %v after all was mended", time.Since(mended))
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.recovery = time.Since(mended)
	w.tell("a replica polls again, %v after all was mended", w.recovery)
}

// numberDecay is how long a larger number than REPLICAS stays in force after the last of those has gone without a word.
func (w *world) numberDecay() time.Duration {
	if w.opt.grown {
		return time.Minute
	}
	return 0
}

// quiet waits until all is answered. Then, in every other schedule, ids start again lower, as they may after a week in which
// no user wrote; what is written then is to be answered too.
func (w *world) quiet() {
	w.answered()
	w.forgets()
	if w.rng.IntN(2) == 0 {
		time.Sleep(30 * time.Second) // polls that confirm are over
		w.count("update ids start again lower")
		w.tell("update ids start again lower")
		w.sim.Apply(simulator.Control{LowerIDs: true})
	}
	for chat := range int64(chats) {
		w.writes(simulator.FirstChat+chat, fmt.Sprintf("last words %d", chat))
	}
	time.Sleep(10 * time.Second)
	w.answered() // a chat's next waits for its answers before it, commands' too
}

// answered waits until all is answered, within bounds.
func (w *world) answered() {
	from := time.Now()
	for w.verdict() == nil && w.sim.Report().Unanswered > 0 && time.Since(from) < answeredWithin {
		time.Sleep(time.Second)
	}
}

// polling reports whether a poll that left since then was answered.
func (w *world) polling(since time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.judge.sent {
		if r.method == "getUpdates" && r.left.After(since) && r.heard {
			return true
		}
	}
	return false
}

// finish stops all replicas in order and judges.
func (w *world) finish() {
	for _, h := range w.hosts { // also one that is on its way back
		for p := w.at(h); p != nil; p = w.at(h) {
			p.stop()
			<-p.ended
		}
	}
	w.end()
	w.aside.Wait()
	for _, h := range w.hosts {
		if p := w.at(h); p != nil {
			p.die("exit", "at the end")
		}
	}
	w.wires.Wait()
	for _, p := range w.processes {
		<-p.ended
		if err := p.outcomes(w.counts); err != nil {
			w.breaks("%v", err)
		}
	}
	switch {
	case w.verdict() != nil:
	case w.opt.copies > 0:
		w.settleCopies()
	default:
		w.settle()
	}
}

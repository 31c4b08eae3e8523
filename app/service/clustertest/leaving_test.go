package clustertest

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/simulator"
	"habot/app/supervise"
)

// Replicas that are too many leave in order: Telegram is polled without a break, and those that stay need no
// quorum of the larger number any more.
func TestScalingInCostsNoGap(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, most, to int }{{3, 6, 3}, {3, 5, 3}, {7, 7, 3}} {
		t.Run(fmt.Sprintf("%d-%d-%d", c.from, c.most, c.to), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(10) {
				synctest.Test(t, func(t *testing.T) {
					w := grown(seed, c.from, c.most)
					leaving := w.rng.Perm(c.most)[:c.most-c.to]
					for _, i := range leaving {
						w.at(w.hosts[i]).stop()
					}
					time.Sleep(30 * time.Second)
					for i, h := range w.hosts {
						p := w.at(h)
						if slices.Contains(leaving, i) {
							if p != nil {
								w.breaks("%s has not left", h.name)
							}
							continue
						}
						if v := p.node.View(); v.Expected != c.to || v.Reachable != c.to || !v.Known() {
							w.breaks("%s reaches %d of %d, and knows a primary: %t", h.name, v.Reachable, v.Expected, v.Known())
						}
					}
					w.expectNoGap(t, 50*time.Millisecond)
				})
			}
		})
	}
}

// All replicas stopped at once: those that stand by go on granting until the primary has finished what it has in
// hand, so that nothing is answered twice when all start again.
func TestAllStoppedAtOnceAnswerNothingTwice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		rate   float64
		late   time.Duration
		within time.Duration
	}{
		{"one message, answered after a second", 0, time.Second, 3 * time.Second},
		{"six a second, half a second", 6, 500 * time.Millisecond, 4 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(10) {
				synctest.Test(t, func(t *testing.T) {
					w := calm(seed)
					w.mu.Lock()
					w.answersLate = c.late
					w.mu.Unlock()
					if c.rate == 0 {
						w.writes(simulator.FirstChat, "once")
						time.Sleep(300 * time.Millisecond)
					} else {
						for n := range int(10 * c.rate) {
							w.writes(simulator.FirstChat+int64(w.rng.IntN(chats)), fmt.Sprintf("message %d", n))
							time.Sleep(time.Duration(float64(time.Second) / c.rate))
						}
					}
					began := time.Now()
					for _, i := range w.rng.Perm(len(w.hosts)) {
						p := w.at(w.hosts[i])
						p.stop()
						w.restart(p, 100*time.Millisecond)
						time.Sleep(time.Duration(w.rng.Int64N(int64(30 * time.Millisecond))))
					}
					for _, h := range w.hosts {
						for p := w.at(h); p != nil && p.born.Before(began); p = w.at(h) {
							<-p.life.Done()
						}
					}
					if took := time.Since(began); took > c.within {
						w.breaks("SHUTDOWN: all took %v to stop", took)
					}
					time.Sleep(20 * time.Second)
					w.expectNothingTwice(t)
				})
			}
		})
	}
}

// Replicas that are stopped at once, each of which starts again some time after it has stopped, as with "docker compose
// restart", leave in turn: Telegram is polled without a break, nothing is lost, and nothing answered twice.
func TestAllStoppedAtOnceLeaveInTurn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		hosts int
		again time.Duration // from the end of a process to the next
	}{{3, 300 * time.Millisecond}, {3, 2 * time.Second}, {5, time.Second}, {7, time.Second}} {
		t.Run(fmt.Sprintf("%d, again after %v", c.hosts, c.again), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(8) {
				synctest.Test(t, func(t *testing.T) {
					w := growing(seed, options{
						replicas: c.hosts, hosts: c.hosts, lease: 550 * time.Millisecond, patience: 5 * time.Second, restarts: true,
						noise: noise{delay: time.Millisecond, latency: 2 * time.Millisecond},
					}, c.hosts, rand.New(rand.NewPCG(seed, 7)))
					writing, stopWriting := context.WithCancel(context.Background())
					w.opt.rate = 20
					w.aside.Go(func() { w.users(writing) })
					time.Sleep(2 * time.Second)
					told := time.Now()
					for _, i := range w.rng.Perm(c.hosts) {
						p := w.at(w.hosts[i])
						p.stop()
						w.restart(p, c.again)
						time.Sleep(time.Duration(w.rng.Int64N(int64(30 * time.Millisecond))))
					}
					time.Sleep(supervise.ShutdownBound(true))
					for _, h := range w.hosts {
						if p := w.at(h); p == nil || p.born.Before(told) || !p.node.View().Known() {
							w.breaks("%s has not left and come back", h.name)
						} else if known := p.node.View().History; len(known) != w.terms() {
							w.breaks("%s knows %d changes of primary of %d", h.name, len(known), w.terms())
						}
					}
					stopWriting()
					time.Sleep(10 * time.Second)
					if r := w.sim.Report(); r.AnsweredTwice != 0 || r.Unanswered != 0 || r.Answered == 0 {
						w.breaks("%d answered, %d twice, %d not", r.Answered, r.AnsweredTwice, r.Unanswered)
					}
					w.expectNoGap(t, 50*time.Millisecond)
				})
			}
		})
	}
}

// With a Telegram that is slow to answer, a primary that handles a batch does not poll meanwhile, and more so the slower. What is due
// to leaving is the time at the change of primary, however far apart the replicas are asked to stop.
func TestLeavingInTurnCostsFewRoundTrips(t *testing.T) {
	t.Parallel()
	const latency = 20 * time.Millisecond // one way, at most
	var longest, atChanges []time.Duration
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			w := growing(seed, options{
				replicas: 3, hosts: 3, lease: 550 * time.Millisecond, patience: 5 * time.Second, restarts: true,
				noise: noise{delay: time.Millisecond, latency: latency},
			}, 3, rand.New(rand.NewPCG(seed, 9)))
			writing, stopWriting := context.WithCancel(context.Background())
			w.opt.rate = 20
			w.aside.Go(func() { w.users(writing) })
			time.Sleep(2 * time.Second)
			for _, i := range w.rng.Perm(len(w.hosts)) {
				p := w.at(w.hosts[i])
				p.stop()
				w.restart(p, time.Second)
				time.Sleep(time.Duration(w.rng.Int64N(int64(600 * time.Millisecond))))
			}
			time.Sleep(supervise.ShutdownBound(true))
			stopWriting()
			time.Sleep(10 * time.Second)
			r := w.sim.Report()
			if len(r.Handovers) == 0 || r.AnsweredTwice != 0 || r.Unanswered != 0 {
				w.breaks("%d changes of primary, %d answered twice, %d not", len(r.Handovers), r.AnsweredTwice, r.Unanswered)
			}
			for _, h := range r.Handovers {
				gap := time.Duration(h.GapSeconds * float64(time.Second))
				if atChanges = append(atChanges, gap); gap > 4*2*latency { // an answer that is under way, the confirmation, and the first poll
					w.breaks("Telegram was unpolled for %v from %s to %s", gap, h.From, h.To)
				}
			}
			longest = append(longest, time.Duration(r.LongestUnpolledSeconds*float64(time.Second)))
			w.finish()
			w.expectUnbroken(t)
		})
	}
	t.Logf("unpolled at changes of primary %v, and for at most %v", atChanges, longest)
}

// Where no newcomer comes, all have stopped soon after their patience: "docker compose down".
func TestAllStoppedAtOnceWaitInVainNoLongerThanTheirPatience(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			w := growing(seed, options{
				replicas: 3, hosts: 3, lease: 550 * time.Millisecond, patience: 5 * time.Second, restarts: true,
				noise: noise{delay: time.Millisecond, latency: 2 * time.Millisecond},
			}, 3, rand.New(rand.NewPCG(seed, 8)))
			told := time.Now()
			all := make([]*process, 0, len(w.hosts))
			for _, h := range w.hosts {
				all = append(all, w.at(h))
				w.at(h).stop()
			}
			for _, p := range all {
				<-p.ended
			}
			if took := time.Since(told); took < 5*time.Second || took > 6*time.Second {
				w.breaks("all took %v to stop", took)
			}
			for _, h := range w.hosts {
				w.begin(h)
			}
			time.Sleep(20 * time.Second)
			w.expectNothingTwice(t)
		})
	}
}

// A standby that the primary needs, since the third is cut off, goes on granting for as long as it may, and then ends in order.
func TestNeededStandbyEndsWithinTheBoundOfAShutdown(t *testing.T) {
	t.Parallel()
	for _, lease := range []time.Duration{550 * time.Millisecond, 3 * time.Second} {
		t.Run(lease.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := growing(1, options{replicas: 3, hosts: 3, lease: lease, restarts: true, noise: noise{delay: time.Millisecond, latency: 2 * time.Millisecond}},
					3, rand.New(rand.NewPCG(1, 4)))
				var standbys []*host
				for _, h := range w.hosts {
					if !w.at(h).node.View().IsPrimary() {
						standbys = append(standbys, h)
					}
				}
				w.isolate("cut off", time.Minute, func(from, to string) bool { return from == standbys[0].name || to == standbys[0].name })
				time.Sleep(2 * lease) // the grants of the third have run out
				p := w.at(standbys[1])
				p.stop()
				time.Sleep(supervise.StopWithin - time.Millisecond)
				if v := p.node.View(); p.isDead() || !v.Known() {
					w.breaks("it has left: %t, and knows a primary: %t", p.isDead(), v.Known())
				}
				<-p.ended
				w.begin(p.host)
				time.Sleep(time.Minute)
				w.finish()
				w.expectUnbroken(t)
			})
		})
	}
}

// Replicas that are too many leave in order while others crash, freeze or are cut off: no process counts fewer than there are,
// and every guarantee holds. TestWholeReplicasKeepTheirPromises says more of such schedules.
func TestScalingInAmidTrouble(t *testing.T) {
	t.Parallel()
	counts := map[string]int{}
	first := max(*seed, 1)
	n := *schedules
	if *seed != 0 && !given("schedules") {
		n = 1
	}
	for seed := first; seed < first+n && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			w := scalesInAmidTrouble(seed)
			w.expectUnbroken(t)
			for k, n := range w.counts {
				counts[k] += n
			}
			if w.recovery > bound(w.opt.lease) {
				counts["polled only when the larger number was forgotten"]++
			}
		})
	}
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%-50s %d", k, counts[k])
	}
	for _, k := range []string{"said that it has left", "crash", "freeze", "partition", "one-way cut", "message lost"} {
		if counts[k] == 0 && n >= 300 && !t.Failed() {
			t.Errorf("%q never occurred", k)
		}
	}
}

// scalesInAmidTrouble runs one schedule: replicas leave at a random time, one after the other or at once, then peace.
func scalesInAmidTrouble(seed uint64) *world {
	rng := rand.New(rand.NewPCG(seed, 3))
	scales := []struct{ from, most, to int }{{3, 6, 3}, {3, 5, 3}, {7, 7, 3}, {3, 4, 3}, {7, 7, 5}}
	c := scales[rng.IntN(len(scales))]
	w := growing(seed, options{
		replicas: min(c.from, c.to), hosts: c.most, lease: []time.Duration{550 * time.Millisecond, time.Second}[rng.IntN(2)],
		patience: []time.Duration{0, 5 * time.Second}[seed%2],
		drift:    rng.IntN(2) == 0, grown: true, rate: []float64{1, 5}[rng.IntN(2)],
		noise: noise{delay: time.Millisecond, latency: 2 * time.Millisecond},
	}, c.from, rng)
	w.mu.Lock()
	w.noise.loss = []float64{0, 0, 0.02, 0.2}[rng.IntN(4)]
	w.noise.delay = []time.Duration{time.Millisecond, 30 * time.Millisecond, 400 * time.Millisecond}[rng.IntN(3)]
	w.mu.Unlock()
	writing, stopWriting := context.WithCancel(context.Background())
	w.aside.Go(func() { w.users(writing) })
	troubled := time.Now()
	w.aside.Go(func() { // they are asked to stop within some time of each other
		r := w.draw("leaving")
		spread := []time.Duration{10 * time.Millisecond, time.Second, 10 * time.Second}[r.IntN(3)]
		w.pause(time.Duration(r.Int64N(int64(4 * time.Second))))
		for _, i := range r.Perm(c.most)[:c.most-c.to] {
			h := w.hosts[i]
			w.mu.Lock()
			h.gone = true
			p := h.process
			w.mu.Unlock()
			if p != nil {
				p.stop()
			}
			w.pause(time.Duration(r.Int64N(int64(spread))))
		}
	})
	w.aside.Go(func() { // no more than one crash, or no majority is left and nothing is learnt
		r := w.draw("crash")
		if r.IntN(2) == 0 && w.pause(time.Duration(r.Int64N(int64(8*time.Second)))) {
			if p := w.at(w.hosts[r.IntN(len(w.hosts))]); p != nil {
				p.die("crash", "kill -9")
			}
		}
	})
	next := time.Now()
	for w.verdict() == nil && time.Since(troubled) < 20*time.Second {
		w.number()
		time.Sleep(10 * time.Millisecond)
		if time.Now().After(next) {
			next = time.Now().Add(time.Duration(w.rng.Int64N(int64(3 * time.Second))))
			w.misfortune()
		}
	}
	w.peace()
	stopWriting()
	w.quiet()
	w.finish()
	return w
}

// grown is a cluster with REPLICAS=from that runs well and has more replicas than that, all of which know of each other.
func grown(seed uint64, from, most int) *world {
	return growing(seed, options{
		replicas: min(from, 3), hosts: most, lease: 550 * time.Millisecond, restarts: true, patience: []time.Duration{0, 5 * time.Second}[seed%2],
		noise: noise{delay: time.Millisecond, latency: 2 * time.Millisecond},
	}, from, rand.New(rand.NewPCG(seed, 2)))
}

// growing is a cluster that has grown in calm, and knows it.
func growing(seed uint64, opt options, from int, rng *rand.Rand) *world {
	w := newWorld(seed, opt, rng, slog.LevelInfo)
	for i, h := range w.hosts {
		if i == from {
			time.Sleep(10 * time.Second)
		}
		w.begin(h)
		time.Sleep(time.Duration(rng.Int64N(int64(time.Second))))
	}
	time.Sleep(20 * time.Second)
	for _, h := range w.hosts {
		if v := w.at(h).node.View(); v.Expected != opt.hosts {
			w.breaks("%s counts %d replicas, want %d", h.name, v.Expected, opt.hosts)
		}
	}
	return w
}

// expectNoGap ends the world, in which Telegram is expected to have been polled without a break since it was first.
func (w *world) expectNoGap(t *testing.T, most time.Duration) {
	t.Helper()
	if gap := time.Duration(w.sim.Report().LongestUnpolledSeconds * float64(time.Second)); gap > most {
		w.breaks("Telegram was unpolled for %v", gap)
	}
	w.finish()
	w.expectUnbroken(t)
}

func (w *world) expectNothingTwice(t *testing.T) {
	t.Helper()
	w.finish()
	if r := w.sim.Report(); r.AnsweredTwice != 0 {
		w.breaks("%d answered twice", r.AnsweredTwice)
	}
	w.expectUnbroken(t)
}

func (w *world) expectUnbroken(t *testing.T) {
	t.Helper()
	if err := w.verdict(); err != nil {
		t.Fatalf("%s\nseed %d: %v", strings.Join(w.story[max(0, len(w.story)-storyLines):], "\n"), w.seed, err)
	}
}

// terms is how many there were.
func (w *world) terms() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.judge.terms)
}

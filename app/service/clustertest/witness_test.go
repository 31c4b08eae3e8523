package clustertest

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/simulator"
)

// Two replicas and a witness: whatever becomes of the primary, the other takes over within a lease and a few round trips, no
// update is lost, and the witness takes no part in that but by its vote.
func TestTwoReplicasAndAWitnessSurviveTheLossOfAPrimary(t *testing.T) {
	t.Parallel()
	for name, strike := range map[string]func(w *world, p *process){
		"it dies":    func(w *world, p *process) { p.die("crash", "kill -9"); w.restart(p, 10*time.Second) },
		"it freezes": func(_ *world, p *process) { p.freeze(10 * time.Second) },
		"it is cut off": func(w *world, p *process) {
			w.isolate("cut off", 10*time.Second, func(from, to string) bool { return from == p.host.name || to == p.host.name })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(6) {
				synctest.Test(t, func(t *testing.T) {
					w := twoAndAWitness(seed)
					for n := range 3 {
						old := w.primary()
						if old == nil || old.host.witness {
							w.breaks("there is no primary, or a witness is: %v", old)
							break
						}
						from := time.Now()
						strike(w, old)
						for w.primary(old) == nil {
							w.writes(simulator.FirstChat+int64(n), fmt.Sprintf("message at %v", time.Since(w.start)))
							time.Sleep(5 * time.Millisecond)
							if time.Since(from) > 5*w.opt.lease {
								w.breaks("TAKEOVER: there is no other primary after %v", time.Since(from))
								break
							}
						}
						if took := time.Since(from); took > 6*w.opt.lease/5 {
							w.breaks("TAKEOVER: it took %v", took)
						}
						time.Sleep(30 * time.Second)
					}
					w.finish()
					w.expectUnbroken(t)
				})
			}
		})
	}
}

// The only replica that is no witness stays primary: there is none to hand over to.
func TestAReplicaAndTwoWitnesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := twoAndAWitness(1)
		p := w.primary()
		for _, h := range w.hosts {
			if other := w.at(h); other != p && !h.witness {
				other.stop()
				<-other.ended
				h.witness = true
				w.begin(h)
			}
		}
		time.Sleep(10 * time.Second)
		if err := p.node.Switchover(t.Context(), ""); err == nil {
			w.breaks("the only one that can be primary hands over")
		}
		w.isolate("cut off from Telegram", 20*time.Second, func(from, to string) bool { return from == telegram || to == telegram })
		time.Sleep(30 * time.Second)
		if w.primary() != p {
			w.breaks("another is primary")
		}
		p.die("crash", "kill -9")
		time.Sleep(20 * time.Second)
		if next := w.primary(); next != nil {
			w.breaks("%s, a witness, is primary", next.host.name)
		}
		w.begin(p.host)
		time.Sleep(20 * time.Second)
		w.finish()
		w.expectUnbroken(t)
	})
}

// twoAndAWitness is a cluster that runs well.
func twoAndAWitness(seed uint64) *world {
	rng := rand.New(rand.NewPCG(seed, 5))
	w := newWorld(seed, options{
		replicas: 3, lease: 550 * time.Millisecond, restarts: true, witness: 1 + int(seed%3),
		noise: noise{delay: time.Millisecond, latency: 10 * time.Millisecond},
	}, rng, slog.LevelInfo)
	for _, h := range w.hosts {
		w.begin(h)
	}
	time.Sleep(20 * time.Second)
	return w
}

// primary is a process whose work runs now, other than those given; nil if there is none.
func (w *world) primary(but ...*process) *process {
	for _, h := range w.hosts {
		p := w.at(h)
		if p == nil || slices.Contains(but, p) {
			continue
		}
		w.mu.Lock()
		acts := p.term != nil
		w.mu.Unlock()
		if acts {
			return p
		}
	}
	return nil
}

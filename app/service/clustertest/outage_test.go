package clustertest

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/simulator"
)

// While Telegram itself is down no replica would do better, whichever are started again or freeze meanwhile: the role
// stays. It does when Telegram is back, too, and when an operator has moved it right then.
func TestNothingMovesWhileTelegramIsDown(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{
		simulator.FaultError500, simulator.FaultHang, simulator.FaultDrop, simulator.FaultToken, simulator.FaultLoggedOut, simulator.FaultNotFound,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(20) {
				synctest.Test(t, func(t *testing.T) {
					w := calm(seed, 0)
					one := w.standby() // the other and the primary are a majority
					const lasting = time.Minute
					down := time.Now().Add(lasting)
					w.sim.Apply(simulator.Control{Faults: []simulator.Fault{{Kind: kind, Seconds: lasting.Seconds()}}})
					for time.Until(down) > -10*time.Second {
						time.Sleep(time.Duration(w.rng.Int64N(int64(4 * time.Second))))
						p := w.at(one)
						switch {
						case p == nil:
						case w.rng.IntN(2) == 0:
							p.die("crash", "kill -9")
							w.restart(p, time.Duration(w.rng.Int64N(int64(time.Second))))
						default:
							p.freeze(time.Duration(w.rng.Int64N(int64(2 * time.Second))))
						}
					}
					time.Sleep(time.Minute)
					w.expectTerms(t, 1)
				})
			}
		})
	}
}

func TestASwitchoverStaysWhateverProbesStillSay(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			w := calm(seed, 0)
			const lasting = time.Minute
			w.sim.Apply(simulator.Control{Faults: []simulator.Fault{{Kind: simulator.FaultError500, Seconds: lasting.Seconds()}}})
			time.Sleep(lasting + 3*time.Second)
			if err := w.judge.terms[0].p.node.Switchover(w.over, ""); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			w.expectTerms(t, 2)
		})
	}
}

// calm is three replicas that run well, one of them as primary for some time.
func calm(seed uint64, patience time.Duration) *world {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(seed, options{
		replicas: 3, lease: 550 * time.Millisecond, restarts: true, patience: patience, noise: noise{delay: time.Millisecond, latency: 10 * time.Millisecond},
	}, rng, slog.LevelInfo)
	for _, h := range w.hosts {
		w.begin(h)
		time.Sleep(time.Duration(rng.Int64N(int64(5 * time.Second))))
	}
	time.Sleep(20 * time.Second)
	return w
}

// standby is a host of one that runs.
func (w *world) standby() *host {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range w.rng.Perm(len(w.hosts)) {
		if h := w.hosts[i]; h.process != nil && h.process.term == nil {
			return h
		}
	}
	panic("there is no standby")
}

// expectTerms ends the world, of which it expects that so many replicas acted as primary, one after the other.
func (w *world) expectTerms(t *testing.T, want int) {
	t.Helper()
	got := w.terms()
	w.finish()
	if err := w.verdict(); err != nil || got != want {
		t.Fatalf("%s\nseed %d: %d terms, want %d; %v", strings.Join(w.story[max(0, len(w.story)-storyLines):], "\n"), w.seed, got, want, err)
	}
}

// One chat that Telegram limits delays no other, and nothing of it is lost, whatever becomes of the primary, or of all replicas one
// by one or in turn, while its updates wait.
func TestAChatThatIsLimitedDelaysNoOther(t *testing.T) {
	t.Parallel()
	const limited, other = simulator.FirstChat, simulator.FirstChat + 1
	for name, happens := range map[string]func(w *world, p *process){
		"nothing": func(*world, *process) {},
		"kill": func(w *world, p *process) {
			w.restart(p, time.Second)
			p.die("crash", "kill -9")
		},
		"freeze": func(_ *world, p *process) { p.freeze(5 * time.Second) },
		"partition": func(w *world, p *process) {
			w.isolate("partition", 10*time.Second, func(from, to string) bool { return (from == p.host.name) != (to == p.host.name) })
		},
		"stop": func(w *world, p *process) {
			w.restart(p, time.Second)
			p.stop()
		},
		"each is stopped": func(w *world, _ *process) { w.eachInTurn(func(p *process) { p.stop() }) },
		"each is killed":  func(w *world, _ *process) { w.eachInTurn(func(p *process) { p.die("crash", "kill -9") }) },
		"all are restarted": func(w *world, _ *process) { // as by "docker compose restart"
			for _, i := range w.rng.Perm(len(w.hosts)) {
				p := w.at(w.hosts[i])
				w.restart(p, time.Duration(w.rng.Int64N(int64(2*time.Second))))
				p.stop()
				time.Sleep(time.Duration(w.rng.Int64N(int64(30 * time.Millisecond))))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(4) {
				synctest.Test(t, func(t *testing.T) {
					w := calm(seed, 5*time.Second)
					w.sim.Apply(simulator.Control{Faults: []simulator.Fault{{
						Kind: simulator.FaultLimit, Methods: []string{"sendMessage"}, Chats: []int64{limited}, Seconds: 50, RetryAfterSeconds: 5,
					}}})
					for i := range 150 {
						w.writes(limited, fmt.Sprintf("flood %d", i))
					}
					w.writes(other, "me, too")
					w.expectAnswered(t, "me, too", 2*time.Second)
					happens(w, w.judge.terms[0].p)
					w.writes(other, "and again")
					w.expectAnswered(t, "and again", 10*time.Second)
					time.Sleep(2 * time.Minute)
					w.forgets()
					if rep := w.sim.Report(); rep.Answered != rep.Sent || rep.Lost != 0 {
						t.Errorf("seed %d: the account is %+v", seed, rep)
					}
					w.finish()
					if err := w.verdict(); err != nil || len(w.judge.forgotten) > 0 {
						t.Fatalf("%s\nseed %d: %v", strings.Join(w.story[max(0, len(w.story)-storyLines):], "\n"), seed, err)
					}
				})
			}
		})
	}
}

// eachInTurn ends all processes, one by one, and starts them again.
func (w *world) eachInTurn(ends func(p *process)) {
	for _, h := range w.hosts {
		p := w.at(h)
		w.restart(p, time.Second)
		ends(p)
		time.Sleep(w.settled() + 5*time.Second)
	}
}

// expectAnswered expects an answer to what a user has just written.
func (w *world) expectAnswered(t *testing.T, text string, within time.Duration) {
	t.Helper()
	time.Sleep(within)
	records, err := w.records()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if r.Text == text && len(r.Answered) > 0 {
			return
		}
	}
	t.Errorf("seed %d: %q is not answered within %v", w.seed, text, within)
}

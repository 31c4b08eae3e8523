package supervise

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errFailed = errors.New("a component failed")
	errHalted = errors.New("halted")
)

// election leaves when its context ends, unless it is stuck.
type election struct {
	stuck chan struct{} // if not nil, it leaves only once this is closed
	fails error
	left  chan error // the cause with which it was asked to leave
}

func (e *election) run(ctx context.Context) error {
	if e.fails != nil {
		return e.fails
	}
	<-ctx.Done()
	e.left <- context.Cause(ctx)
	if e.stuck != nil {
		<-e.stuck
	}
	return nil
}

func orderly() *election { return &election{left: make(chan error, 1)} }

func newSupervisor(lease time.Duration, exit func(int)) *Supervisor {
	return New(Config{Lease: lease, Logger: slog.New(slog.DiscardHandler), Exit: exit, ErrFailed: errFailed, ErrHalted: errHalted})
}

// noExit is the Exit of a replica that leaves in time.
func noExit(t *testing.T) func(int) {
	return func(int) { t.Error("fail-stop of a replica that left in time") }
}

func forever(ctx context.Context) error { <-ctx.Done(); return nil }

func TestAFailedComponentMakesTheReplicaStepDownAndFail(t *testing.T) {
	broken := errors.New("broken")
	for name, f := range map[string]func(context.Context) error{
		"error": func(context.Context) error { return broken },
		"end":   func(context.Context) error { return nil },
		"panic": func(context.Context) error { panic("oh") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, s := orderly(), newSupervisor(time.Second, noExit(t))
				err := s.Run(t.Context(), e.run, []Component{{"good", forever}, {"bad", f}}, nil)
				if !errors.Is(err, ErrComponent) {
					t.Errorf("Run returned %v", err)
				}
				if cause := <-e.left; !errors.Is(cause, errFailed) {
					t.Errorf("the election was asked to leave because of %v", cause)
				}
				if got := s.Failing(); len(got) != 1 || got[0] != "bad" {
					t.Errorf("failing: %v", got)
				}
			})
		})
	}
}

func TestAReplicaThatCannotLeaveIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		e := orderly()
		e.stuck = release
		exited := make(chan time.Duration, 1)
		start := time.Now()
		s := newSupervisor(time.Second, func(code int) {
			if code == 0 {
				t.Error("exited with 0")
			}
			exited <- time.Since(start)
			close(release)
		})
		err := s.Run(t.Context(), e.run, []Component{{"bad", func(context.Context) error { return nil }}}, nil)
		if !errors.Is(err, ErrComponent) {
			t.Errorf("Run returned %v", err)
		}
		if took := <-exited; took > 350*time.Millisecond {
			t.Errorf("exited after %v", took)
		}
	})
}

func TestAnElectionThatHaltedEndsTheProcessAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		code := 0
		s := newSupervisor(time.Second, func(c int) { code = c })
		err := s.Run(t.Context(), (&election{fails: errHalted}).run, []Component{{"good", forever}}, nil)
		if !errors.Is(err, errHalted) || code != 1 {
			t.Errorf("Run returned %v, exit code %d", err, code)
		}
	})
}

// The worst that can happen: a server hangs, and the election then hangs too.
func TestAStalledServerEndsTheProcessWithinALeaseOr462Milliseconds(t *testing.T) {
	for _, lease := range []time.Duration{
		200 * time.Millisecond, 299 * time.Millisecond, 300 * time.Millisecond, 461 * time.Millisecond, 462 * time.Millisecond, 550 * time.Millisecond, time.Second, time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			release := make(chan struct{})
			e := orderly()
			e.stuck = release
			exited := time.Duration(0)
			s := newSupervisor(lease, func(int) {
				exited = time.Since(start) - 10*lease
				close(release)
			})
			answers := func(ctx context.Context) error {
				if time.Since(start) < 10*lease {
					return nil
				}
				<-ctx.Done() // it hangs
				return ctx.Err()
			}
			err := s.Run(t.Context(), e.run, nil, []Server{{"peer server", answers}})
			if !errors.Is(err, ErrStalled) {
				t.Errorf("lease %v: Run returned %v", lease, err)
			}
			if most := max(lease, 461*time.Millisecond) + time.Millisecond; exited <= 0 || exited > most {
				t.Errorf("lease %v: exited %v after the server stalled, want %v at most", lease, exited, most)
			}
		})
	}
}

// On a starved machine an answer takes longer than patience. A probe that gave up then would never get one.
func TestAProbeWaitsForAsLongAsThereMayBeGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSupervisor(time.Second, noExit(t))
		starved := func(ctx context.Context) error {
			select {
			case <-time.After(1500 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if !s.ask(t.Context(), Server{"peer server", starved}) {
			t.Error("given up")
		}
		start := time.Now()
		if s.ask(t.Context(), Server{"peer server", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}) {
			t.Error("a server that hangs has answered")
		}
		if took := time.Since(start); took != Patience(time.Second)+time.Second {
			t.Errorf("given up after %v", took)
		}
	})
}

// Requests of others come at any time between two checks; a server that answers each is never at fault.
func TestAServerThatAnswersIsNeverAtFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for gap := 10 * time.Millisecond; gap < 1500*time.Millisecond; gap += 7 * time.Millisecond {
			e, s := orderly(), newSupervisor(time.Second, noExit(t))
			slow := func(context.Context) error { time.Sleep(200 * time.Millisecond); return nil }
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			others := func(ctx context.Context) error {
				for pause := time.NewTicker(gap); ; {
					select {
					case <-ctx.Done():
						return nil
					case <-pause.C:
						s.Served("peer server")
					}
				}
			}
			if err := s.Run(ctx, e.run, []Component{{"others", others}}, []Server{{"peer server", slow}}); err != nil {
				t.Errorf("asked by others every %v: %v", gap, err)
			}
			<-e.left
			cancel()
		}
	})
}

// What an idle replica costs is how often it wakes: servers are asked at once, and when a loop has woken the process anyway.
func TestIdleServersAreAskedTogether(t *testing.T) {
	const lease = time.Second
	for name, tc := range map[string]struct{ wakes, want time.Duration }{
		"nothing wakes it":           {time.Hour, 2 * Patience(lease) / 3},
		"a loop wakes it":            {300 * time.Millisecond, 300 * time.Millisecond},
		"a loop wakes it more often": {100 * time.Millisecond, 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSupervisor(lease, noExit(t))
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				loop := func(ctx context.Context) error {
					for wake := time.NewTicker(tc.wakes); ; {
						select {
						case <-ctx.Done():
							return nil
						case <-wake.C:
							s.Alive("loop", time.Hour)
						}
					}
				}
				start := time.Now()
				asked := map[string][]time.Duration{}
				var mu sync.Mutex
				server := func(name string) Server {
					return Server{name, func(context.Context) error {
						mu.Lock()
						defer mu.Unlock()
						asked[name] = append(asked[name], time.Since(start))
						return nil
					}}
				}
				if err := s.Run(ctx, orderly().run, []Component{{"loop", loop}}, []Server{server("a"), server("b")}); err != nil {
					t.Fatal(err)
				}
				if len(asked["a"]) < 5 || !slices.Equal(asked["a"], asked["b"]) {
					t.Fatalf("a was asked at %v, b at %v", asked["a"], asked["b"])
				}
				for i := range asked["a"][1:] {
					if every := asked["a"][i+1] - asked["a"][i]; every != tc.want {
						t.Errorf("asked at %v, want every %v", asked["a"], tc.want)
						break
					}
				}
			})
		})
	}
}

func TestAnOrderlyShutdownIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, s := orderly(), newSupervisor(time.Second, noExit(t))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Run(ctx, e.run, []Component{{"good", forever}}, nil); err != nil {
			t.Errorf("Run returned %v", err)
		}
		if cause := <-e.left; errors.Is(cause, errFailed) {
			t.Errorf("the election was asked to leave because of %v", cause)
		}
	})
}

func TestAShutdownThatHangsIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		e := orderly()
		e.stuck = release
		ctx, cancel := context.WithCancel(t.Context())
		start, exited := time.Now(), time.Duration(0)
		s := newSupervisor(time.Second, func(int) { exited = time.Since(start); close(release) })
		cancel()
		if err := s.Run(ctx, e.run, nil, nil); err != nil {
			t.Errorf("Run returned %v", err)
		}
		if exited != ShutdownBound(false) {
			t.Errorf("exited after %v", exited)
		}
	})
}

func TestAReplicaThatMayWaitForNewcomersHasLongerToStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		e := orderly()
		e.stuck = release
		ctx, cancel := context.WithCancel(t.Context())
		start, exited := time.Now(), time.Duration(0)
		s := newSupervisor(time.Second, func(int) { exited = time.Since(start); close(release) })
		s.cfg.Turns = true
		cancel()
		if err := s.Run(ctx, e.run, nil, nil); err != nil {
			t.Errorf("Run returned %v", err)
		}
		if exited != 28*time.Second {
			t.Errorf("exited after %v", exited)
		}
	})
}

// A replica that leaves acts on for a while, and is watched as before.
func TestAComponentThatFailsWhileTheReplicaLeavesEndsItInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		e := orderly()
		e.stuck = release
		ctx, cancel := context.WithCancel(t.Context())
		start, exited := time.Now(), time.Duration(0)
		s := newSupervisor(time.Second, func(int) { exited = time.Since(start); close(release) })
		s.cfg.Turns = true
		cancel()
		err := s.Run(ctx, e.run, []Component{{"bad", func(context.Context) error { time.Sleep(3 * time.Second); return errors.New("broken") }}}, nil)
		if !errors.Is(err, ErrComponent) {
			t.Errorf("Run returned %v", err)
		}
		if exited != 3*time.Second+leaveBound(time.Second) {
			t.Errorf("exited after %v", exited)
		}
	})
}

func TestAComponentThatDoesNotStopIsNotWaitedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		e, s := orderly(), newSupervisor(time.Second, noExit(t))
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		cancel()
		if err := s.Run(ctx, e.run, []Component{{"stuck", func(context.Context) error { <-release; return nil }}}, nil); err != nil {
			t.Errorf("Run returned %v", err)
		}
		if took := time.Since(start); took != stopBound {
			t.Errorf("ended after %v", took)
		}
	})
}

// The container runtime kills a replica that takes longer.
func TestWhateverHangsAShutdownEndsInTime(t *testing.T) {
	for name, fails := range map[string]bool{"a component hangs": false, "a component hangs and another fails": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				left, release := make(chan struct{}), make(chan struct{})
				defer close(release)
				e, s := orderly(), newSupervisor(time.Minute, noExit(t))
				e.stuck, s.cfg.Turns = left, true
				ctx, cancel := context.WithCancel(t.Context())
				start, late := time.Now(), ShutdownBound(true)-time.Second
				cancel()
				time.AfterFunc(late, func() { close(left) })
				err := s.Run(ctx, e.run, []Component{
					{"stuck", func(context.Context) error { <-release; return nil }},
					{"bad", func(ctx context.Context) error {
						if !fails {
							return forever(ctx)
						}
						time.Sleep(late - time.Second)
						return errors.New("broken")
					}},
				}, nil)
				if (err != nil) != fails {
					t.Errorf("Run returned %v", err)
				}
				if took := time.Since(start); took != ShutdownBound(true) {
					t.Errorf("ended after %v, want %v", took, ShutdownBound(true))
				}
			})
		})
	}
}

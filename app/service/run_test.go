package service

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/config"
	"habot/app/election"
	"habot/app/logging"
	"habot/app/node"
)

// fakeReplica leaves when told, unless it is stuck.
type fakeReplica struct {
	stuck chan struct{} // if not nil, it leaves only once this is closed
	fails error
	left  chan error // the cause with which it was told to leave
}

func (f *fakeReplica) Run(ctx context.Context) error {
	if f.fails != nil {
		return f.fails
	}
	<-ctx.Done()
	f.left <- context.Cause(ctx)
	if f.stuck != nil {
		<-f.stuck
	}
	return nil
}
func (*fakeReplica) View() election.View                      { return election.View{} }
func (*fakeReplica) Switchover(context.Context, string) error { return nil }
func (*fakeReplica) SetHealth(election.Health)                {}

func TestTheLogTellsThatAnOperatorAskedForASwitchover(t *testing.T) {
	logs := &record{}
	if err := (operated{&fakeReplica{}, logging.New(logs, slog.LevelInfo, false)}).Switchover(t.Context(), "r2"); err != nil {
		t.Fatal(err)
	}
	if got := logs.String(); !strings.Contains(got, `msg="switchover requested" by=operator`) {
		t.Errorf("logged %q", got)
	}
}

// The demo's token is public, and a stack's ports are open to all.
func TestADemoThatIsDeployedAsAStackIsAnError(t *testing.T) {
	t.Parallel()
	for environ, want := range map[string]bool{
		"SWARM_TASK=habot_bot.1":                                                      true,
		"SWARM_TASK={{.Service.Name}}.{{.Task.Slot}}":                                 false,
		"SWARM_TASK=habot_bot.1 BOT_TOKEN=123456:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghi": false,
	} {
		var logs record
		s := &service{cfg: load(t, strings.Fields(environ)...), log: slog.New(slog.NewTextHandler(&logs, nil))}
		s.warn()
		if got := strings.Contains(logs.String(), "level=ERROR") && strings.Contains(logs.String(), "this stack runs the demo"); got != want {
			t.Errorf("%s: an error %t, want %t:\n%s", environ, got, want, logs.String())
		}
	}
}

func newService(r *fakeReplica, exit func(int), parts ...part) *service {
	lease := time.Second
	return &service{
		opts: Options{Exit: exit}, cfg: config.Config{Lease: lease}, log: slog.New(slog.DiscardHandler),
		watch: newWatch(lookEvery(lease)), replica: r, parts: parts,
	}
}

func forever(ctx context.Context) error { <-ctx.Done(); return nil }

func TestAFailedPartMakesTheReplicaStepDownAndFail(t *testing.T) {
	broken := errors.New("broken")
	for name, p := range map[string]func(context.Context) error{
		"error": func(context.Context) error { return broken },
		"end":   func(context.Context) error { return nil },
		"panic": func(context.Context) error { panic("oh") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &fakeReplica{left: make(chan error, 1)}
				s := newService(r, func(int) { t.Error("halted a replica that left in time") }, part{"good", forever}, part{"bad", p})
				err := s.run(t.Context())
				if !errors.Is(err, ErrPart) {
					t.Errorf("run returned %v", err)
				}
				if cause := <-r.left; !errors.Is(cause, node.ErrPartFailed) {
					t.Errorf("the replica was told to leave because of %v", cause)
				}
				if got := s.watch.failing(); len(got) != 1 || got[0] != "bad" {
					t.Errorf("failing: %v", got)
				}
			})
		})
	}
}

func TestAReplicaThatCannotLeaveIsEndedWithinTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := &fakeReplica{stuck: release, left: make(chan error, 1)}
		exited := make(chan time.Duration, 1)
		start := time.Now()
		s := newService(r, func(code int) {
			if code == 0 {
				t.Error("exited with 0")
			}
			exited <- time.Since(start)
			close(release)
		}, part{"bad", func(context.Context) error { return nil }})
		if err := s.run(t.Context()); !errors.Is(err, ErrPart) {
			t.Errorf("run returned %v", err)
		}
		if took := <-exited; took > s.cfg.Lease {
			t.Errorf("exited after %v", took)
		}
	})
}

func TestAServerThatStopsAnsweringIsAStalledPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *service
		start := time.Now()
		answers := func(ctx context.Context) error {
			if time.Since(start) < 5*time.Second {
				return nil
			}
			<-ctx.Done() // it hangs
			return ctx.Err()
		}
		r := &fakeReplica{left: make(chan error, 1)}
		s = newService(r, func(int) { t.Error("halted a replica that left in time") })
		s.servers = []ownServer{{"peer server", answers}}
		s.parts = append(s.probes(), part{"watch", s.watch.run})
		err := s.run(t.Context())
		if !errors.Is(err, errStalled) {
			t.Errorf("run returned %v", err)
		}
		if took := time.Since(start) - 5*time.Second; took < 0 || took > s.cfg.Lease {
			t.Errorf("noticed %v after the server stalled", took)
		}
	})
}

// Requests of others come at any time between two looks; a server that answers each is never at fault.
func TestAServerThatAnswersIsNeverAtFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for gap := 10 * time.Millisecond; gap < 1500*time.Millisecond; gap += 7 * time.Millisecond {
			r := &fakeReplica{left: make(chan error, 1)}
			s := newService(r, func(int) { t.Error("halted") })
			slow := func(context.Context) error { time.Sleep(200 * time.Millisecond); return nil }
			s.servers = []ownServer{{"peer server", slow}}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			others := func(ctx context.Context) error {
				for pause := time.NewTicker(gap); ; {
					select {
					case <-ctx.Done():
						return nil
					case <-pause.C:
						s.served("peer server")()
					}
				}
			}
			s.parts = append(s.probes(), part{"others", others}, part{"watch", s.watch.run})
			if err := s.run(ctx); err != nil {
				t.Errorf("asked by others every %v: %v", gap, err)
			}
			<-r.left
			cancel()
		}
	})
}

func TestAnOrderlyShutdownIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &fakeReplica{left: make(chan error, 1)}
		s := newService(r, func(int) { t.Error("halted") }, part{"good", forever})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.run(ctx); err != nil {
			t.Errorf("run returned %v", err)
		}
		if cause := <-r.left; errors.Is(cause, node.ErrPartFailed) {
			t.Errorf("the replica was told to leave because of %v", cause)
		}
	})
}

func TestAReplicaThatFailsFailsTheService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(&fakeReplica{fails: node.ErrHalted}, func(int) {}, part{"good", forever})
		if err := s.run(t.Context()); !errors.Is(err, node.ErrHalted) {
			t.Errorf("run returned %v", err)
		}
	})
}

package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// ErrComponent reports that a component of the replica died or stalled. The process is to exit non-zero, so that it
// is started afresh.
var ErrComponent = errors.New("a component of this replica failed")

const (
	// shutdownBound bounds a shutdown: what the bot has in flight, its confirmation, the release.
	shutdownBound = 12 * time.Second
	// TurnsBound bounds how much longer it may take where replicas that stop at once leave in turn. Both together are
	// below Compose's stop_grace_period, by more than writing the last lines of the log takes.
	TurnsBound = 16 * time.Second
	// StopWithin bounds how long a replica that stops goes on granting because a primary that stops with it needs it for a
	// quorum: longer than that one takes, and so much less than shutdownBound that what it sent last, for
	// which the election waits up to a second, does not make the shutdown a fail-stop.
	StopWithin = shutdownBound - 1500*time.Millisecond
	// stopBound bounds the wait for the components once the replica has left; the bound of the whole shutdown does, too.
	stopBound = 2 * time.Second
	// leastPatience keeps a busy machine from passing for a broken one, however short the lease.
	leastPatience = 300 * time.Millisecond
)

// ShutdownBound bounds a shutdown, all of it, of a replica that may wait for newcomers, if turns.
func ShutdownBound(turns bool) time.Duration {
	if turns {
		return shutdownBound + TurnsBound
	}
	return shutdownBound
}

// LeaveWithin bounds how long a replica that stops goes on granting, one that may wait for newcomers if turns.
func LeaveWithin(turns bool) time.Duration {
	if turns {
		return StopWithin + TurnsBound
	}
	return StopWithin
}

// Patience is how long a component that is asked for signs of life may give none: so much less than a lease that
// leaveBound is left of it; 300 ms at least.
func Patience(lease time.Duration) time.Duration { return max(13*lease/20, leastPatience) }

// leaveBound is how long a replica with a failed component has to leave.
func leaveBound(lease time.Duration) time.Duration { return 7 * lease / 20 }

// Component is one thing that runs as long as the replica does. Run returns nil once its context has ended.
type Component struct {
	Name string
	Run  func(ctx context.Context) error
}

// Server is a server of the replica's own, and how to ask it for a sign of life.
type Server struct {
	Name string
	Ask  func(ctx context.Context) error
}

// Config is what a supervisor is made of.
type Config struct {
	Lease time.Duration
	// Turns: a replica that stops may wait for newcomers.
	Turns  bool
	Logger *slog.Logger
	// Exit ends the process at once (os.Exit): the fail-stop of a replica that cannot stop otherwise.
	Exit func(code int)
	// ErrFailed is the cause with which the election's context ends when a component failed.
	ErrFailed error
	// ErrHalted is what the election returns if the process MUST end at once.
	ErrHalted error
}

// Supervisor runs one replica. Run MUST be called once at most; its other methods are safe for concurrent use.
type Supervisor struct {
	*Watchdog
	cfg Config
	// awake tells the probe that the process has just woken for something else.
	awake  chan struct{}
	awoke  atomic.Pointer[time.Time] // when it last was
	alongs alongs
}

// New returns a supervisor of nothing yet.
func New(cfg Config) *Supervisor {
	return &Supervisor{Watchdog: NewWatchdog(cfg.Lease), cfg: cfg, awake: make(chan struct{}, 1)}
}

// Alive is the sign of life of a loop that comes round again within d.
func (s *Supervisor) Alive(loop string, d time.Duration) {
	s.Expect(loop, max(d, leastPatience))
	now := time.Now()
	if last := s.awoke.Load(); last != nil && now.Sub(*last) < s.lease/50 {
		return // a loop may come round several times for one renewal
	}
	s.awoke.Store(&now)
	signal(s.awake)
	s.alongs.awake()
}

// Served is a server's sign of life: it has answered a request.
func (s *Supervisor) Served(server string) { s.Expect(server, Patience(s.cfg.Lease)) }

// Halt is the fail-stop.
func (s *Supervisor) Halt(reason string) {
	s.cfg.Logger.Error("fail-stop: exiting now", "reason", reason)
	s.cfg.Exit(1)
}

// Run starts the components, the servers' self-checks and the watchdog, the election last, and stops them, the
// election first. It ends when ctx does, when the election returns, or when a component fails; nil is an orderly
// shutdown.
func (s *Supervisor) Run(ctx context.Context, election func(context.Context) error, components []Component, servers []Server) error {
	components = append(components, Component{"probe of the own servers", func(ctx context.Context) error { return s.probe(ctx, servers) }})
	components = append(components, Component{"watchdog", s.Watchdog.Run})

	living, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, len(components))
	var all sync.WaitGroup
	for _, c := range components {
		all.Go(func() {
			if err := s.run(living, c); living.Err() == nil {
				failed <- err
			}
		})
	}
	electing, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	left := make(chan error, 1)
	go func() { left <- election(electing) }()

	by, failure := s.untilOver(ctx, left, failed, leave)
	if s.cfg.ErrHalted != nil && errors.Is(failure, s.cfg.ErrHalted) {
		s.Halt(failure.Error()) // the work may still be at it
	}
	stop()
	s.awaitComponents(&all, failure != nil, by)
	return failure
}

// run makes a component's panic its failure.
func (s *Supervisor) run(ctx context.Context, c Component) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %s: panic: %v", ErrComponent, c.Name, r)
		}
		if ctx.Err() == nil {
			s.Died(c.Name)
		}
	}()
	if err = c.Run(ctx); err == nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %s ended", ErrComponent, c.Name)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrComponent, c.Name, err)
	}
	return nil
}

// untilOver waits until the replica has left: because ctx ended, because it failed itself, or because a component
// failed. Either way it has to be gone in time. by is when the process has to have ended; zero if it was not asked to stop.
func (s *Supervisor) untilOver(ctx context.Context, left, failed <-chan error, leave context.CancelCauseFunc) (by time.Time, failure error) {
	select {
	case err := <-left:
		return by, err
	case <-ctx.Done():
		by = time.Now().Add(ShutdownBound(s.cfg.Turns))
		late := time.AfterFunc(ShutdownBound(s.cfg.Turns), func() { s.Halt("the shutdown takes too long") })
		defer late.Stop()
		select {
		case err := <-left:
			return by, err
		case failure = <-failed: // a primary acts on while it leaves
		}
	case failure = <-failed:
	}
	late := time.AfterFunc(leaveBound(s.cfg.Lease), func() { s.Halt("a failed replica could not leave in time") })
	defer late.Stop()
	leave(s.cfg.ErrFailed)
	s.cfg.Logger.Error("stepping down and exiting", "error", failure)
	return by, cmp.Or(failure, <-left)
}

// awaitComponents waits until all components have ended, but not for long, and not beyond by, if it is not zero: the process
// exits either way.
func (s *Supervisor) awaitComponents(all *sync.WaitGroup, failed bool, by time.Time) {
	bound := stopBound
	if failed {
		bound = min(bound, s.cfg.Lease/10)
	}
	if !by.IsZero() {
		bound = min(bound, time.Until(by))
	}
	ended := make(chan struct{})
	go func() {
		all.Wait()
		close(ended)
	}()
	t := time.NewTimer(bound)
	defer t.Stop()
	select {
	case <-ended:
	case <-t.C:
		s.cfg.Logger.Warn("components did not stop in time, exiting")
	}
}

// probed is a server that the probe asks.
type probed struct {
	Server
	ask    chan struct{} // to its goroutine, whose stack has grown to what a request needs
	asking bool
	again  time.Time // not to be asked before: it has just failed to answer
}

// probe asks the servers for a sign of life until ctx ends: one that has answered no request for two thirds of its
// patience, which leaves it a third to answer. What an idle replica costs is how often it wakes; so when it is awake anyway, all
// are asked that have answered none for a third.
func (s *Supervisor) probe(ctx context.Context, servers []Server) error {
	patience := Patience(s.cfg.Lease)
	all := make([]*probed, len(servers))
	for i, server := range servers {
		s.Served(server.Name)
		defer s.Clear(server.Name)
		all[i] = &probed{Server: server, ask: make(chan struct{}, 1)}
	}
	asked := make(chan *probed, len(all))
	var asking sync.WaitGroup
	defer asking.Wait()
	for _, p := range all {
		defer close(p.ask)
		asking.Go(func() {
			for range p.ask {
				if !s.ask(ctx, p.Server) {
					p.again = time.Now().Add(patience / 8)
				}
				asked <- p
			}
		})
	}
	var next time.Duration
	for {
		t := time.NewTimer(next) // a new one: for one that is reset the runtime wakes at its former time, too
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case p := <-asked:
			p.asking = false
		case <-s.awake:
			runtime.Gosched() // what woke the process may be a request, and its answer is a sign of life
		case <-t.C:
		}
		t.Stop()
		now := time.Now()
		next = patience
		for _, p := range all {
			idle := s.idle(p.Name)
			switch {
			case p.asking:
			case now.Before(p.again):
				next = min(next, p.again.Sub(now))
			case idle < patience/3:
				next = min(next, 2*patience/3-idle)
			default:
				p.asking = true
				p.ask <- struct{}{}
			}
		}
	}
}

// ask reports whether the server has answered. It is for the watchdog to say that an answer takes too long.
func (s *Supervisor) ask(ctx context.Context, server Server) bool {
	ctx, cancel := context.WithTimeout(ctx, Patience(s.cfg.Lease)+s.cfg.Lease)
	defer cancel()
	if err := server.Ask(ctx); err != nil {
		return false
	}
	s.Served(server.Name)
	return true
}

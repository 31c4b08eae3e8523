package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/election"
	"habot/app/term"
)

// ErrWorkFailed says that the primary's work ended by itself. The lease was released.
var ErrWorkFailed = errors.New("the primary's work failed")

// errEndedEarly is work that returned without being asked to.
var errEndedEarly = errors.New("it ended without being asked to")

// ErrPartFailed is the cause with which the context of Run is to end when another part of the process
// died or stalled: it becomes the reason of stepping down.
var ErrPartFailed = errors.New("a part of the process failed")

// ErrHalted says that the work did not stop before its lease ended. The process MUST exit at once.
var ErrHalted = errors.New("the primary's work did not stop before its lease ended")

// ErrBusy says that the election loop did not answer in time.
var ErrBusy = errors.New("the election loop did not answer in time")

// errLeft is ErrBusy for good.
var errLeft = fmt.Errorf("the replica has left: %w", ErrBusy)

// Clock reads the local clock and the wall clock. It MUST be safe for concurrent use, and its local
// clock MUST NOT go back.
type Clock interface{ Read() election.Reading }

// Transport reaches the other replicas, by address. It MUST be safe for concurrent use and honour
// contexts.
type Transport interface {
	// Addresses are where other replicas may be now; a copy.
	Addresses() []string
	// Complete reports whether every instance has been looked up, be it in vain.
	Complete() bool
	// Refresh asks for the addresses to be looked up again soon.
	Refresh()
	Status(ctx context.Context, addr string) (election.Status, error)
	Claim(ctx context.Context, addr string, req election.ClaimRequest) (election.ClaimAnswer, error)
	End(ctx context.Context, addr string, req election.EndRequest) error
	Leave(ctx context.Context, addr string, req election.LeaveRequest) (election.LeaveAnswer, error)
	History(ctx context.Context, addr string) (election.History, error)
	Progress(ctx context.Context, addr string, p election.Progress) (election.ProgressAnswer, error)
	Switchover(ctx context.Context, addr, successor string) error
}

// Term is what the work is given.
type Term = term.Term

// Work is what the primary does. When ctx ends it MUST be silent at once; it MUST return only after
// its last request has ended. It returns an error if it could not go on.
type Work func(ctx context.Context, t Term) error

// Config is what a node is made of.
type Config struct {
	Election  election.Config
	Clock     Clock
	Transport Transport
	Work      Work
	Logger    *slog.Logger
	// Registerer takes the node's metrics.
	Registerer prometheus.Registerer
	// Gone, if not nil, is called when the process of another replica is known to have ended, or has left. It is called in the
	// loop, and MUST NOT block.
	Gone func(id election.ReplicaID)
	// Expect promises the watcher that the loop comes round again within d; it is called often.
	Expect func(d time.Duration)
	// Halt ends the process at once. It is called when the loop itself cannot see that the work
	// outlived its lease.
	Halt func(reason string)
}

// Node is one replica. Its methods are safe for concurrent use.
type Node struct {
	cfg     Config
	events  chan event
	done    chan struct{}
	health  atomic.Pointer[election.Health] // the latest brought by SetHealth
	changed chan struct{}                   // tells the loop of it
	metrics *metrics
	sender  *sender
	// followed is set by the loop.
	followed atomic.Pointer[followed]

	// workUntil is the local clock's instant at which the lease of the running work ends for it; 0
	// without work.
	workUntil atomic.Int64
	working   atomic.Int64 // number of the term whose work runs, 0 if none

	// Owned by the loop.
	machine *election.Machine
	born    election.Instant
	term    *runningTerm
	terms   int64
	left    bool
	failure error
	lease   election.ExtendLease // of the running work, or of that which is about to start
	logged  logged
	noticed election.Instant // when the last death was

	mu       sync.Mutex
	progress [2]election.Progress // of the last two terms known, the newer first
	notes    notebook
	reporter *reporter // of the running work
	lastView election.View
}

// event is one call into the loop: with a reading taken there, f uses the machine.
type event struct {
	f func(r election.Reading)
}

// New returns a node that has not started.
func New(cfg Config) *Node {
	n := &Node{
		cfg:     cfg,
		events:  make(chan event, 256),
		done:    make(chan struct{}),
		changed: make(chan struct{}, 1),
	}
	n.logged.roles = roleStory{patience: cfg.Election.Lease, role: election.Joining}
	n.logged.roster, n.logged.quota = roster{}, newQuota()
	began := cfg.Clock.Read()
	n.machine, n.born = election.New(cfg.Election, began), began.Now
	n.sender = newSender(n)
	n.followed.Store(&followed{changed: make(chan struct{})})
	n.metrics = newMetrics(n, cfg.Registerer)
	return n
}

// Run takes part in the election until ctx ends; then it hands over and leaves, and returns nil. It
// returns ErrWorkFailed or ErrHalted, wrapped, if it had to end before.
func (n *Node) Run(ctx context.Context) error {
	defer close(n.done)
	sending, stopSending := context.WithCancel(context.WithoutCancel(ctx))
	defer n.sender.wait()
	defer stopSending()
	n.sender.ctx = sending
	var wait time.Duration
	ending := ctx.Done()
	for !n.over() {
		n.cfg.Expect(13 * n.cfg.Election.Lease / 20)
		timer := time.NewTimer(wait) // a new one: for one that is reset the runtime wakes at its former time, too
		select {
		case <-timer.C:
			n.step(election.Tick{})
		case e := <-n.events:
			e.f(n.cfg.Clock.Read())
		case <-n.changed:
			n.step(election.HealthChanged{Health: *n.health.Load()})
		case <-ending:
			ending = nil
			reason := election.ReasonShutdown
			if errors.Is(context.Cause(ctx), ErrPartFailed) {
				reason = election.ReasonPartFailed
			}
			n.cfg.Logger.Info("leaving", "role", n.machine.Status(n.cfg.Clock.Read().Now).Role, "reason", reason)
			n.step(election.Leave{Reason: reason})
		}
		timer.Stop()
		n.logMembership(n.cfg.Clock.Read().Now)
		// Often enough for the promise above, and not before a primary's next renewal, with which the loop comes round anyway.
		wait = min(max(n.machine.Next().Sub(n.cfg.Clock.Read().Now), 0), 9*n.cfg.Election.Lease/20)
	}
	if !errors.Is(n.failure, ErrHalted) {
		// What was sent last, a release perhaps, is worth a moment.
		n.sender.settle(max(min(n.cfg.Election.HoldBack(), time.Second), lastWord))
	}
	return n.failure
}

// over reports whether the loop has nothing left to do: it has left, or it is a fail-stop.
func (n *Node) over() bool { return n.left || errors.Is(n.failure, ErrHalted) }

// step gives the machine one input and does what it wants done. It MUST be called in the loop.
func (n *Node) step(in election.Input) {
	r := n.cfg.Clock.Read()
	n.carryOut(n.machine.Step(r, in))
	n.stepped(r.Now)
}

// stepped takes note of what a step has changed: the primary that this replica follows, and its role.
func (n *Node) stepped(now election.Instant) {
	st := n.machine.Status(now)
	n.follow(st)
	n.logRoles(now, n.logged.roles.see(now, st))
}

func (n *Node) gone(id election.ReplicaID) {
	if n.cfg.Gone != nil {
		n.cfg.Gone(id)
	}
}

// carryOut does what the machine wants done, in order.
func (n *Node) carryOut(outs []election.Output) {
	for _, out := range outs {
		switch out := out.(type) {
		case election.Reply, election.LeaveReply: // taken by the caller that asked
		case election.SendQuery:
			n.sender.query(out)
		case election.SendClaim:
			n.sender.claim(out)
		case election.SendEnd:
			n.sender.end(out.Request)
		case election.SendLeave:
			n.sender.leave(out.Request)
		case election.ExtendLease:
			n.extend(out)
		case election.StartWork:
			n.startWork(out.Change)
		case election.StopWork:
			n.stopWork(out)
		case election.Halt:
			n.failure = fmt.Errorf("step down (%s): %w", out.Reason, ErrHalted)
			return
		case election.Left:
			n.left = true
		case election.Died:
			n.gone(out.Replica)
			n.logOutput(out)
		case election.Departed:
			n.sender.hasLeft(out.Replica)
			n.gone(out.Replica)
			n.logOutput(out)
		default:
			n.logOutput(out)
		}
	}
}

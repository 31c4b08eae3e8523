package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/election"
)

// ErrWorkFailed says that the primary's work ended by itself. The lease was released.
var ErrWorkFailed = errors.New("the primary's work failed")

// errEndedEarly is work that returned without being told to.
var errEndedEarly = errors.New("it ended without being told to")

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
	// Complete tells whether every instance has been looked up, be it in vain.
	Complete() bool
	// Refresh asks for the addresses to be looked up again soon.
	Refresh()
	Status(ctx context.Context, addr string) (election.Status, error)
	Claim(ctx context.Context, addr string, req election.ClaimRequest) (election.ClaimAnswer, error)
	End(ctx context.Context, addr string, req election.EndRequest) error
	Leave(ctx context.Context, addr string, req election.LeaveRequest) (election.LeaveAnswer, error)
	Progress(ctx context.Context, addr string, p election.Progress) (election.ProgressAnswer, error)
	Switchover(ctx context.Context, addr, successor string) error
}

// Term is one role as primary, as the work sees it.
type Term struct {
	// Change says how the role came here.
	Change election.Change
	// Held tells whether the lease still allows a request to leave, or an answer to be handled.
	// It is cheap and safe for concurrent use.
	Held func() bool
	// Drain is closed when the work is to finish what it has in hand and return.
	Drain <-chan struct{}
	// Handled are updates that the predecessor finished and may not have confirmed.
	Handled []int64
	// Report tells the standbys what has been handled since the last confirmation. It never blocks.
	Report func(handled []int64)
	// Notes are what earlier terms' work noted last, as far as this replica knows. Gather waits, for a moment at most, until so
	// many others have been asked that all is known. Late returns what another knows beyond that, and waits for it; false if
	// there is none when ctx ends. settle MUST be called once that is among what is noted, and not before.
	Notes  []json.RawMessage
	Gather func(ctx context.Context)
	Late   func(ctx context.Context) (notes []json.RawMessage, settle func(), ok bool)
	// Note tells the standbys, from now on with each report, what else the successor is to know; it replaces what was noted
	// before. It never blocks. Noted tells whether so many know the latest that the successor will: every replica that is
	// reachable, and with this one a majority of all there are to be. It asks the loop, and so takes a moment.
	Note  func(notes []json.RawMessage)
	Noted func() bool
}

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

	// workUntil is the local clock's instant at which the lease of the running work ends for it; 0
	// without work.
	workUntil atomic.Int64
	working   atomic.Int64 // number of the term whose work runs, 0 if none

	// Owned by the loop.
	machine *election.Machine
	term    *runningTerm
	terms   int64
	left    bool
	failure error
	lease   election.ExtendLease // of the running work, or of that which is about to start
	logged  logged
	noticed election.Instant // when the last death was

	mu       sync.Mutex
	progress [2]election.Progress // of the last two terms heard of, the newer first
	notes    notebook
	telling  *teller // of the running work
	lastView election.View
}

type runningTerm struct {
	number int64
	cancel context.CancelFunc
	drain  chan struct{}
	// drains and asked: it was told to finish, or to stop at all. cut: its lease ended before the loop
	// said so.
	drains, asked bool
	cut           atomic.Bool
	cutOff, guard *time.Timer
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
	n.logged.role, n.logged.roster, n.logged.roles = election.Joining, roster{}, newQuota()
	n.machine = election.New(cfg.Election, cfg.Clock.Read())
	n.sender = newSender(n)
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
	timer := time.NewTimer(0)
	defer timer.Stop()
	ending := ctx.Done()
	for !n.over() {
		n.cfg.Expect(n.cfg.Election.Lease / 2)
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
		n.logMembership(n.cfg.Clock.Read().Now)
		wait := n.machine.Next().Sub(n.cfg.Clock.Read().Now)
		timer.Reset(min(max(wait, 0), n.cfg.Election.Lease/4)) // often enough for the promise above
	}
	if !errors.Is(n.failure, ErrHalted) {
		// What was sent last, a release perhaps, is worth a moment.
		n.sender.settle(max(min(n.cfg.Election.HoldBack(), time.Second), lastWord))
	}
	return n.failure
}

// over tells whether the loop has nothing left to do: it has left, or it is a fail-stop.
func (n *Node) over() bool { return n.left || errors.Is(n.failure, ErrHalted) }

// step gives the machine one input and does what it wants done. It MUST be called in the loop.
func (n *Node) step(in election.Input) {
	r := n.cfg.Clock.Read()
	n.carryOut(n.machine.Step(r, in))
	n.logRole(r.Now)
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
		default:
			n.logOutput(out)
		}
	}
}

// --- the work -----------------------------------------------------------------------------------

func (n *Node) extend(out election.ExtendLease) {
	n.workUntil.Store(int64(out.WorkUntil))
	n.lease = out
	if n.term != nil {
		n.arm(n.term)
	}
}

// disarm stops the timers of work that has ended, or got a longer lease.
func (t *runningTerm) disarm() {
	for _, timer := range []*time.Timer{t.cutOff, t.guard} {
		if timer != nil {
			timer.Stop()
		}
	}
}

// arm has the work cut off when the lease ends for it, and the process end with the lease, should the
// loop not see to it.
func (n *Node) arm(t *runningTerm) {
	now := n.cfg.Clock.Read().Now
	t.disarm()
	t.cutOff = time.AfterFunc(n.lease.WorkUntil.Sub(now), func() { n.cutTerm(t) })
	end := n.lease.LeaseEnd
	if end <= now { // a larger quorum has just ended it: the election allows a stop margin
		t.guard = time.AfterFunc(n.cfg.Election.StopMargin(), func() { n.haltTerm(t, end) })
		return
	}
	t.guard = time.AfterFunc(end.Sub(now), func() { n.guardTerm(t, end) })
}

// cutTerm silences work whose lease has ended for it.
func (n *Node) cutTerm(t *runningTerm) {
	if n.working.Load() == t.number && !n.held(t.number) {
		t.cut.Store(true)
		t.cancel()
	}
}

// guardTerm is the fail-stop that does not need the loop. A process that was frozen, and so comes late,
// gets one stop margin after it woke: every request checks the lease itself.
func (n *Node) guardTerm(t *runningTerm, end election.Instant) {
	if late := n.cfg.Clock.Read().Now.Sub(end); late > n.cfg.Election.StopMargin()/2 {
		time.AfterFunc(n.cfg.Election.StopMargin(), func() { n.haltTerm(t, end) })
		return
	}
	n.haltTerm(t, end)
}

func (n *Node) haltTerm(t *runningTerm, end election.Instant) {
	now := n.cfg.Clock.Read().Now
	if n.working.Load() == t.number && now >= end && now >= election.Instant(n.workUntil.Load()) {
		n.cfg.Halt("the work outlived its lease, and the election loop did not stop it")
	}
}

func (n *Node) startWork(ch election.Change) {
	if ch.Witnessed {
		n.cfg.Logger.Debug("took over after a death", "seconds", n.cfg.Clock.Read().Now.Sub(n.noticed).Seconds())
	}
	n.terms++
	ctx, cancel := context.WithCancel(context.Background())
	t := &runningTerm{number: n.terms, cancel: cancel, drain: make(chan struct{})}
	n.term = t
	n.working.Store(t.number)
	n.arm(t)
	from := n.inherited(ch.Claim)
	told := &teller{n: n, claim: ch.Claim, latest: from, stirred: make(chan struct{}, 1)}
	n.mu.Lock()
	n.telling = told
	n.mu.Unlock()
	told.begin()
	work := Term{
		Change: ch, Held: func() bool { return n.held(t.number) }, Drain: t.drain,
		Handled: from.Handled, Report: told.report, Notes: from.Notes, Late: told.wait, Gather: told.gather, Note: told.note, Noted: n.noted,
	}
	go func() {
		err := runWork(ctx, n.cfg.Work, work)
		n.working.CompareAndSwap(t.number, 0)
		n.sender.retellAll() // who takes over now may have come lately
		n.mu.Lock()
		n.telling = nil
		n.mu.Unlock()
		n.sender.allTold(ctx) // the successor is to know before the lease is released
		n.post(func(election.Reading) { n.workEnded(t, err) })
	}()
}

// runWork makes a panic of the work an error, so that the lease is released rather than run out.
func runWork(ctx context.Context, work Work, t Term) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return work(ctx, t)
}

func (n *Node) held(number int64) bool {
	return n.working.Load() == number && n.cfg.Clock.Read().Now < election.Instant(n.workUntil.Load())
}

func (n *Node) stopWork(out election.StopWork) {
	t := n.term
	if t == nil {
		return
	}
	t.asked = true
	n.cfg.Logger.Info("stepping down", "reason", out.Reason, "drain", out.Drain)
	if out.Drain {
		if !t.drains {
			t.drains = true
			close(t.drain)
		}
		return
	}
	t.cancel()
}

// workEnded runs in the loop when the work's last request has ended. A replica whose work failed leaves,
// and until then still grants its successor.
func (n *Node) workEnded(t *runningTerm, err error) {
	t.cancel()
	t.disarm()
	n.term = nil
	switch {
	case !t.asked && !t.cut.Load():
		n.failure = cmp.Or(n.failure, fmt.Errorf("%w: %w", ErrWorkFailed, cmp.Or(err, errEndedEarly)))
		n.step(election.Leave{Reason: election.ReasonPartFailed})
	case err != nil:
		n.cfg.Logger.Warn("primary work returned an error", "error", err)
	}
	n.step(election.WorkStopped{})
}

// --- into the loop ------------------------------------------------------------------------------

// post hands f to the loop; it waits while the queue is full, but not once the loop has ended.
func (n *Node) post(f func(election.Reading)) {
	select {
	case n.events <- event{f}:
	case <-n.done:
	}
}

// ask has f run in the loop and returns what f does.
func ask[A any](ctx context.Context, n *Node, f func(election.Reading) A) (answer A, err error) {
	ran := make(chan A, 1) // f may run after nobody waits any more
	select {
	case n.events <- event{func(r election.Reading) { ran <- f(r) }}:
	case <-ctx.Done():
		return answer, fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	case <-n.done:
		return answer, errLeft
	}
	select {
	case answer = <-ran:
		return answer, nil
	case <-ctx.Done():
		return answer, fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	case <-n.done:
	}
	select {
	case answer = <-ran: // the last thing the loop did: a grant perhaps, on which a successor waits
		return answer, nil
	default:
		return answer, errLeft
	}
}

// Status is what this replica says of itself.
func (n *Node) Status(ctx context.Context) (election.Status, error) {
	return ask(ctx, n, func(r election.Reading) election.Status { return n.machine.Status(r.Now) })
}

// Claim answers another replica's claim.
func (n *Node) Claim(ctx context.Context, req election.ClaimRequest) (election.ClaimAnswer, error) {
	reply, err := stepFor[election.Reply](ctx, n, election.ClaimReceived{Request: req})
	return reply.Answer, err
}

// stepFor has the machine take one input and returns the one output of a kind, once the others are carried out. One that
// has left answers nothing: to another it is gone, and not one that refuses.
func stepFor[O election.Output](ctx context.Context, n *Node, in election.Input) (reply O, err error) {
	type result struct {
		reply O
		left  bool
	}
	r, err := ask(ctx, n, func(r election.Reading) (a result) {
		if a.left = n.left; a.left {
			return a
		}
		outs := n.machine.Step(r, in)
		n.carryOut(outs)
		n.logRole(r.Now)
		for _, out := range outs {
			if reply, ok := out.(O); ok {
				a.reply = reply
			}
		}
		return a
	})
	if err == nil && r.left {
		err = errLeft
	}
	return r.reply, err
}

// Leave takes in that another replica leaves, or has left.
func (n *Node) Leave(ctx context.Context, req election.LeaveRequest) (election.LeaveAnswer, error) {
	reply, err := stepFor[election.LeaveReply](ctx, n, election.LeaveReceived{Request: req})
	return reply.Answer, err
}

// End takes in that another replica withdrew a claim or released its lease.
func (n *Node) End(ctx context.Context, req election.EndRequest) error {
	_, err := ask(ctx, n, func(election.Reading) struct{} {
		n.step(election.EndReceived{Request: req})
		return struct{}{}
	})
	return err
}

// ProcessDied takes in that the process of another replica has ended, of which the witnesses learn as well: see
// election.ProcessDied for what MUST be certain. It does not wait for what follows.
func (n *Node) ProcessDied(id election.ReplicaID, witnesses []election.ReplicaID) {
	noticed := n.cfg.Clock.Read().Now
	n.post(func(election.Reading) {
		n.noticed = noticed
		n.step(election.ProcessDied{Replica: id, Witnesses: witnesses})
	})
}

// SetHealth brings this replica's own health. It never blocks: of several the last counts.
func (n *Node) SetHealth(h election.Health) {
	n.health.Store(&h)
	signal(n.changed)
}

// SwitchoverHere moves the role from this replica to the standby named, any if successor is empty.
// It returns once the move is under way; election.ErrNotPrimary or election.ErrNoSuccessor if it cannot be.
func (n *Node) SwitchoverHere(ctx context.Context, successor string) error {
	refused, err := ask(ctx, n, func(r election.Reading) error {
		id, err := n.machine.Successor(r.Now, successor)
		if err == nil {
			n.cfg.Logger.Info("switchover begins", "successor", cmp.Or(successor, string(id)))
			n.step(election.Resign{Reason: election.ReasonSwitchover, Successor: id})
		}
		return err
	})
	return cmp.Or(err, refused)
}

// Switchover is SwitchoverHere wherever the primary is.
func (n *Node) Switchover(ctx context.Context, successor string) error {
	err := n.SwitchoverHere(ctx, successor)
	if !errors.Is(err, election.ErrNotPrimary) {
		return err
	}
	s, err := n.Status(ctx)
	if err != nil {
		return err
	}
	addr := n.sender.addressOf(s.Primary.Replica)
	if addr == "" {
		return fmt.Errorf("find the primary: %w", election.ErrNotPrimary)
	}
	if err := n.cfg.Transport.Switchover(ctx, addr, successor); err != nil {
		return fmt.Errorf("ask the primary %s: %w", s.PrimaryName, err)
	}
	return nil
}

// View is what this replica knows; the last one known if the loop does not answer within a lease, a second at
// most.
func (n *Node) View() election.View {
	ctx, cancel := context.WithTimeout(context.Background(), min(n.cfg.Election.Lease, time.Second))
	defer cancel()
	look := func(r election.Reading) election.View {
		v := n.machine.View(r.Now)
		v.Mode = "primary-backup"
		return v
	}
	seen, err := ask(ctx, n, look)
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case err == nil:
		n.lastView = seen
	case errors.Is(err, errLeft): // nobody else uses the machine any more
		n.lastView = look(n.cfg.Clock.Read())
	}
	return n.lastView
}

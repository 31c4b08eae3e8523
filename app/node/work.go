package node

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"habot/app/election"
)

type runningTerm struct {
	number int64
	cancel context.CancelFunc
	drain  chan struct{}
	// drains and asked: it was asked to finish, or to stop at all. cut: its lease ended before the loop
	// stopped it.
	drains, asked bool
	cut           atomic.Bool
	cutOff, guard *time.Timer
}

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
		n.cfg.Logger.Debug("took over after a death", "microseconds", n.cfg.Clock.Read().Now.Sub(n.noticed).Microseconds())
	}
	n.terms++
	ctx, cancel := context.WithCancel(context.Background())
	t := &runningTerm{number: n.terms, cancel: cancel, drain: make(chan struct{})}
	n.term = t
	n.working.Store(t.number)
	n.arm(t)
	from := n.inherited(ch.Claim)
	reporting := &reporter{n: n, claim: ch.Claim, latest: from, stirred: make(chan struct{}, 1)}
	n.mu.Lock()
	n.reporter = reporting
	n.mu.Unlock()
	reporting.begin()
	work := Term{
		Change: ch, Held: func() bool { return n.held(t.number) }, Drain: t.drain,
		Handled: from.Handled, Report: reporting.report, Notes: from.Notes, Late: reporting.wait, Gather: reporting.gather, Note: reporting.note, Noted: n.noted,
	}
	go func() {
		err := runWork(ctx, n.cfg.Work, work)
		n.working.CompareAndSwap(t.number, 0)
		n.sender.resendAll() // who takes over now may have come lately
		n.mu.Lock()
		n.reporter = nil
		n.mu.Unlock()
		n.sender.allAcked(ctx) // the successor is to know before the lease is released
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
	n.cfg.Logger.Info("stepping down", "reason", out.Reason, "drain", out.Drain)
	t := n.term
	if t == nil { // it was cut off by its lease before the loop got to that, and has ended
		return
	}
	t.asked = true
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

package clustertest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"habot/app/election"
)

// errRefused is a port without a listener.
var errRefused = errors.New("connection refused")

// hop is the least a message takes, one way.
const hop = 200 * time.Microsecond

// link is one process's way to the others; addresses are the names of hosts.
type link struct{ from *process }

func (l link) Addresses() []string {
	var all []string
	for _, h := range l.from.w.hosts {
		all = append(all, h.name) // its own among them, as a scaled service's name resolves
	}
	return all
}

func (link) Complete() bool { return true }

func (link) Refresh() {}

// trip is one copy of a message and of its answer.
type trip struct {
	lost, lostBack bool
	there, back    time.Duration
}

// trips draws what becomes of a message.
func (w *world) trips(way string) []trip {
	r := w.draw(way)
	w.mu.Lock()
	n := w.noise
	w.mu.Unlock()
	delay := func() time.Duration { return hop + time.Duration(r.Int64N(int64(max(n.delay, 1)))) }
	one := func() trip {
		return trip{lost: r.Float64() < n.loss, lostBack: r.Float64() < n.loss, there: delay(), back: delay()}
	}
	all := []trip{one()}
	if r.Float64() < n.double {
		w.count("message doubled")
		all = append(all, one())
	}
	return all
}

// travel takes a message one way; false if it does not arrive.
func (w *world) travel(from, to string, d time.Duration, lost bool) bool {
	if lost {
		w.disturbs("message lost")
		return false
	}
	if d > w.opt.lease/2 {
		w.disturbs("message later than a time-out")
	}
	if !w.pause(d) {
		return false
	}
	if w.isCut(from, to) {
		w.disturbs("message cut off")
		return false
	}
	return true
}

type result[A any] struct {
	answer A
	err    error
}

// errUnacknowledged is a connection that TCP has given up.
var errUnacknowledged = errors.New("connection timed out")

// exchange takes a request to another replica and its answer back, over a connection to the process that is there when
// it leaves: no other reads it. What has left arrives, or does not, whatever becomes of the sender; the sender waits
// until ctx ends, or TCP gives up because nothing arrives.
func exchange[A any](ctx context.Context, l link, addr, kind string, ask func(context.Context, *process) (A, error)) (A, error) {
	var none A
	p, w := l.from, l.from.w
	if err := p.door(); err != nil {
		return none, err
	}
	from, to := p.host.name, w.at(w.byName(addr))
	trips := w.trips(from + " to " + addr + " " + kind)
	answers := make(chan result[A], len(trips)+1)
	var lost atomic.Int64
	for _, t := range trips {
		w.wires.Go(func() {
			if !w.travel(from, addr, t.there, t.lost) {
				if int(lost.Add(1)) == len(trips) && w.pause(w.opt.lease/2) {
					answers <- result[A]{err: errUnacknowledged}
				}
				return
			}
			r := result[A]{err: errRefused}
			if to != nil && to.door() == nil {
				serving, done := context.WithTimeout(to.life, 5*time.Second)
				defer done()
				r.answer, r.err = ask(serving, to)
				if to.door() != nil {
					r.err = errReset
				}
			}
			if w.travel(addr, from, t.back, t.lostBack) {
				answers <- r
			}
		})
	}
	select {
	case r := <-answers:
		if err := p.door(); err != nil {
			return none, err
		}
		return r.answer, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	case <-p.life.Done():
		return none, errGone
	}
}

func (l link) Status(ctx context.Context, addr string) (election.Status, error) {
	return exchange(ctx, l, addr, "status", func(ctx context.Context, to *process) (election.Status, error) {
		return to.node.Status(ctx)
	})
}

func (l link) Claim(ctx context.Context, addr string, req election.ClaimRequest) (election.ClaimAnswer, error) {
	return exchange(ctx, l, addr, "claim", func(ctx context.Context, to *process) (election.ClaimAnswer, error) {
		a, err := to.node.Claim(ctx, req)
		if err == nil && a.Granted && to.id != req.Claim.Replica {
			l.from.w.granted(to, req.Claim)
		}
		return a, err
	})
}

func (l link) End(ctx context.Context, addr string, req election.EndRequest) error {
	_, err := exchange(ctx, l, addr, "end", func(ctx context.Context, to *process) (struct{}, error) {
		return struct{}{}, to.node.End(ctx, req)
	})
	return err
}

func (l link) Leave(ctx context.Context, addr string, req election.LeaveRequest) (election.LeaveAnswer, error) {
	if req.Departed {
		l.from.w.departs(l.from)
	}
	return exchange(ctx, l, addr, "leave", func(ctx context.Context, to *process) (election.LeaveAnswer, error) {
		return to.node.Leave(ctx, req)
	})
}

func (l link) History(ctx context.Context, addr string) (election.History, error) {
	return exchange(ctx, l, addr, "history", func(ctx context.Context, to *process) (election.History, error) {
		return to.node.History(ctx)
	})
}

func (l link) Progress(ctx context.Context, addr string, p election.Progress) (election.ProgressAnswer, error) {
	return exchange(ctx, l, addr, "progress", func(ctx context.Context, to *process) (election.ProgressAnswer, error) {
		a, err := to.node.Progress(ctx, p)
		if to.id != p.Claim.Replica { // it knows better itself
			to.w.learns(to, p)
		}
		to.w.remembers(to, p.Notes)
		if a.Unknown != nil {
			to.w.remembers(l.from, a.Unknown.Notes) // or it may, if the answer arrives
		}
		return a, err
	})
}

func (l link) Switchover(ctx context.Context, addr, successor string) error {
	_, err := exchange(ctx, l, addr, "switchover", func(ctx context.Context, to *process) (struct{}, error) {
		return struct{}{}, to.node.SwitchoverHere(ctx, successor)
	})
	return err
}

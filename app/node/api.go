package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"habot/app/election"
)

// post hands f to the loop; it waits while the queue is full, but not once the loop has ended.
func (n *Node) post(f func(election.Reading)) {
	select {
	case n.events <- event{f}:
	case <-n.done:
	}
}

// ask has f run in the loop and returns what f does.
func ask[A any](ctx context.Context, n *Node, f func(election.Reading) A) (answer A, err error) {
	ran := make(chan A, 1) // f may run after the caller has given up
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
		n.stepped(r.Now)
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

// History is the changes of primary that this replica knows.
func (n *Node) History(ctx context.Context) (election.History, error) {
	return ask(ctx, n, func(r election.Reading) election.History {
		all := n.machine.View(r.Now).History
		for i := range all {
			all[i].Witnessed, all[i].WonAt = false, time.Time{} // for this replica's own people
		}
		return election.History{Changes: all}
	})
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
	case errors.Is(err, errLeft): // the loop no longer uses the machine
		n.lastView = look(n.cfg.Clock.Read())
	}
	return n.lastView
}

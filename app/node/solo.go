package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/election"
)

// Solo is bot-only mode: the primary's work without an election. Its methods are safe for concurrent
// use.
type Solo struct {
	work   Work
	mu     sync.Mutex
	status election.Status
}

// NewSolo returns a replica that always works. cfg.Lease, Replicas and Quorum are not looked at.
func NewSolo(cfg election.Config, clock Clock, work Work, reg prometheus.Registerer) *Solo {
	claim := election.Claim{Timestamp: clock.Read().Wall, Replica: cfg.Self}
	s := &Solo{work: work, status: election.Status{
		Protocol: election.Protocol, Replica: cfg.Self, Name: cfg.Name, Version: cfg.Version,
		Role: election.Primary, Primary: claim, PrimaryName: cfg.Name, Health: election.Health{OK: true},
		Replicas: 1, Quorum: 1,
		Change: election.Change{Claim: claim, Name: cfg.Name, Reason: election.ReasonStart},
	}}
	reg.MustRegister(newGauges(s.View))
	return s
}

// Run works until ctx ends; then what is in hand is finished, and nil returned unless
// that failed. It returns ErrWorkFailed, wrapped, if the work ended by itself.
func (s *Solo) Run(ctx context.Context) error {
	err := runWork(context.WithoutCancel(ctx), s.work, Term{
		Change: s.status.Change,
		Held:   func() bool { return true },
		Drain:  ctx.Done(),
		Report: func([]int64) {},
		Note:   func([]json.RawMessage) {},
		Gather: func(context.Context) {},
		Late: func(ctx context.Context) ([]json.RawMessage, func(), bool) {
			<-ctx.Done()
			return nil, nil, false
		},
		Noted: func() bool { return false }, // there is no other replica to know
	})
	if ctx.Err() == nil {
		return fmt.Errorf("%w: %w", ErrWorkFailed, cmp.Or(err, errEndedEarly))
	}
	if err != nil {
		return fmt.Errorf("finish what is in hand: %w", err)
	}
	return nil
}

// SetHealth brings this replica's own health.
func (s *Solo) SetHealth(h election.Health) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Health = h
}

// View is what there is to know.
func (s *Solo) View() election.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return election.View{
		Mode: "bot-only", Self: s.status, Expected: 1, Reachable: 1, Quorum: 1,
		History: []election.Change{s.status.Change},
	}
}

// Switchover always returns election.ErrNoSuccessor: there is no other replica.
func (s *Solo) Switchover(context.Context, string) error { return election.ErrNoSuccessor }

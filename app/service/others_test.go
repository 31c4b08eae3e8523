package service

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/gateway"
	"habot/app/mirror"
	"habot/app/peer"
	"habot/app/turns"
)

// beside is the way of a primary's mirror to that of Others.
type beside struct{ to *Others }

// Addresses implements mirror.Transport.
func (beside) Addresses() []string { return []string{"standby:7175"} }

// Message implements mirror.Transport.
func (b beside) Message(ctx context.Context, _ string, body []byte) ([]byte, error) {
	return b.to.Served().Message(ctx, messageTurns, body)
}

// A standby knows from the primary which copy is the active one: that one's polls wait for no others.
func TestAStandbyKnowsTheActiveCopy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		now := func() turns.Instant { return turns.Instant(time.Hour + time.Since(began)) }
		o := NewOthers(OthersConfig{Self: "standby", Peers: &peer.Passer{}, Now: now, Logger: slog.New(slog.DiscardHandler)})
		var cfg gateway.Config
		o.Join(&cfg)
		if active := cfg.Pass.Active(); active != "" {
			t.Errorf("at first it is %q", active)
		}
		primary := mirror.New(mirror.Config{
			Self: "primary", Transport: beside{o}, Now: now, Logger: slog.New(slog.DiscardHandler),
			Cluster: func() mirror.Cluster { return mirror.Cluster{Expected: 2, Quorum: 2, Reachable: []string{"standby"}} },
		})
		primary.Begin(t.Context(), 1, func(uint64) {})
		primary.Replicate(turns.Delta{
			Version: turns.Version{Term: 1, Seq: 1}, Full: true, Roster: &turns.Roster{Active: "10.0.0.5", Members: []turns.Member{{ID: "10.0.0.5", Address: "10.0.0.5"}}},
		})
		time.Sleep(time.Second)
		if active := cfg.Pass.Active(); active != "10.0.0.5" {
			t.Errorf("it is %q", active)
		}
		primary.End()
	})
}

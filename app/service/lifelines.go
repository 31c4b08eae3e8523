package service

import (
	"context"
	"log/slog"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/election"
	"habot/app/lifeline"
	"habot/app/node"
	"habot/app/supervise"
)

// buildLifelines opens the lifelines to the other replicas of this machine. Where that fails there are none, and the lease
// decides: it is no reason not to start.
func (s *service) buildLifelines(self election.ReplicaID, n *node.Node, registry *prometheus.Registry) {
	var lines *lifeline.Lifelines
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "habot_lifelines", Help: "Replicas on this machine of whose death the kernel tells this one at once.",
	}, func() float64 {
		if lines == nil {
			return 0
		}
		return float64(len(lines.Connected()))
	}))
	if s.cfg.LifelineDir == "" {
		return
	}
	opened, err := lifeline.Open(lifeline.Config{
		Dir: s.cfg.LifelineDir, Self: self, Secret: s.cfg.ClusterSecrets[0], Logger: s.log,
		Died: func(id election.ReplicaID) { n.ProcessDied(id, lines.Connected()) },
	})
	if err != nil {
		s.log.Warn("no lifelines: after a crash the lease decides", "error", err)
		return
	}
	lines = opened
	s.replica = watched{s.replica, lines}
	s.components = append(s.components, supervise.Component{Name: "lifelines", Run: func(ctx context.Context) error {
		return keepLifelines(ctx, lines.Run, s.log)
	}})
}

// keepLifelines runs lifelines until ctx ends, whatever becomes of them: a replica is no worse without them than it was before
// there were any. ctx ends after the replica has left, as they need.
func keepLifelines(ctx context.Context, run func(context.Context) error, log *slog.Logger) error {
	if err := run(ctx); err != nil {
		log.Warn("no new lifelines: after a crash the lease decides", "error", err)
		<-ctx.Done()
	}
	return nil
}

// watched is a replica that has lifelines, and shows to which peers.
type watched struct {
	replica
	lines interface{ Connected() []election.ReplicaID }
}

// View implements web.Replica.
func (w watched) View() election.View {
	v := w.replica.View()
	connected := w.lines.Connected()
	v.Peers = slices.Clone(v.Peers)
	for i, p := range v.Peers {
		v.Peers[i].Lifeline = slices.Contains(connected, p.Status.Replica)
	}
	return v
}

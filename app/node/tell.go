package node

import (
	"habot/app/election"
)

// tell logs and counts what the election has to say, in the words of metrics and history.
func (n *Node) tell(out election.Output) {
	log := n.cfg.Logger
	switch out := out.(type) {
	case election.PrimaryChanged:
		c := out.Change
		log.Info("primary changed", "primary", c.Name, "previous", c.Previous, "reason", c.Reason,
			"nobody_for_seconds", c.Gap.Seconds(), "timestamp_ns", c.Claim.Timestamp, "self", c.Claim.Replica == n.cfg.Election.Self)
		n.metrics.changes.Inc()
		if c.Claim.Replica == n.cfg.Election.Self {
			n.metrics.takeovers.WithLabelValues(string(c.Reason)).Inc()
			if c.Reason != election.ReasonStart {
				n.metrics.takeoverSeconds.Observe(c.Gap.Seconds())
			}
		}
	case election.SteppedDown:
		log.Info("stepped down", "reason", out.Reason, "timestamp_ns", out.Claim.Timestamp)
		n.metrics.stepdowns.WithLabelValues(string(out.Reason)).Inc()
	case election.ElectionEnded:
		log.Debug("candidacy ended", "result", out.Result, "timestamp_ns", out.Claim.Timestamp, "took_seconds", out.Took.Seconds())
		n.metrics.elections.WithLabelValues(string(out.Result)).Inc()
	case election.Mismatch:
		log.Warn("a replica cannot take part: its configuration differs", "replica", out.Peer, "reason", out.Refusal,
			"theirs", out.Theirs, "ours", n.cfg.Election.Lease)
		n.metrics.mismatches.WithLabelValues(string(out.Refusal)).Inc()
	case election.SizeChanged:
		if out.Expected > out.Configured {
			log.Warn("more replicas answer than REPLICAS says: the larger number counts", "heard", out.Expected, "configured", out.Configured)
		} else {
			log.Info("the configured number of replicas counts again", "configured", out.Configured)
		}
	}
}

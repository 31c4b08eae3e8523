package node

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"habot/app/election"
	"habot/app/logging"
)

// logged is what the log has already, so that it gets changes alone.
type logged struct {
	roles   roleStory
	quota   *logging.Quota // of lines about roles
	roster  roster
	peersAt election.Instant // when the roster was looked at last
}

// logRoles logs changes of this replica's role.
func (n *Node) logRoles(now election.Instant, changes []roleChange) {
	for _, c := range changes {
		level, omitted, ok := slog.LevelDebug, 0, true
		if !c.debug {
			level = slog.LevelInfo
			omitted, ok = n.logged.quota.Take(clock(now))
		}
		if ok {
			n.cfg.Logger.Log(context.Background(), level, "role changed", "role", c.st.Role, "was", c.was, "primary", c.st.PrimaryName,
				"timestamp_ns", c.st.Primary.Timestamp, "omitted", omitted)
		}
	}
}

// logMembership logs which replicas were lost and found since it last did. To look twice a lease is enough.
func (n *Node) logMembership(now election.Instant) {
	if now.Sub(n.logged.peersAt) < n.cfg.Election.Lease/2 {
		return
	}
	n.logged.peersAt = now
	for _, c := range n.logged.roster.look(now, n.machine.View(now).Peers) {
		if c.found {
			n.cfg.Logger.Info("replica found", "peer", c.name, "id", c.id, "role", c.role, "away_seconds", c.away.Seconds(), "omitted", c.omitted)
		} else {
			n.cfg.Logger.Warn("replica lost", "peer", c.name, "id", c.id, "role", c.role, "not_heard_seconds", c.away.Seconds(), "omitted", c.omitted)
		}
	}
}

// newQuota bounds lines of the log under flapping: ten at once, then one every six seconds.
func newQuota() *logging.Quota { return logging.NewQuota(10, 6*time.Second) }

// clock is an instant as quotas take it.
func clock(now election.Instant) time.Time { return time.Unix(0, int64(now)) }

// rosterLength bounds the names remembered.
const rosterLength = 256

// logChange logs a new primary, and the time without one if that was measured.
func (n *Node) logChange(c election.Change) {
	self := c.Claim.Replica == n.cfg.Election.Self
	now := n.cfg.Clock.Read().Now
	n.logRoles(now, n.logged.roles.takeHeld())
	if !c.GapMeasured() {
		n.cfg.Logger.Info("primary changed", "primary", c.Name, "previous", c.Previous, "reason", c.Reason, "timestamp_ns", c.Claim.Timestamp, "self", self)
		return
	}
	n.cfg.Logger.Info("primary changed", "primary", c.Name, "previous", c.Previous, "reason", c.Reason,
		"nobody_for_seconds", c.Gap.Seconds(), "timestamp_ns", c.Claim.Timestamp, "self", self, "witnessed", c.Witnessed)
}

// logOutput logs and counts what the election has to say, in the words of metrics and history.
func (n *Node) logOutput(out election.Output) {
	log := n.cfg.Logger
	switch out := out.(type) {
	case election.PrimaryChanged:
		c := out.Change
		n.logChange(c)
		n.metrics.changes.Inc()
		if c.Claim.Replica == n.cfg.Election.Self {
			n.metrics.takeovers.WithLabelValues(string(c.Reason), strconv.FormatBool(c.Witnessed)).Inc()
			if c.GapMeasured() {
				n.metrics.takeoverSeconds.Observe(c.Gap.Seconds())
			}
		}
	case election.Died:
		log.Warn("the process of a replica has ended", "peer", out.Name, "id", out.Replica)
	case election.SteppedDown:
		log.Info("stepped down", "reason", out.Reason, "timestamp_ns", out.Claim.Timestamp)
		n.metrics.stepdowns.WithLabelValues(string(out.Reason)).Inc()
	case election.ElectionEnded:
		log.Debug("candidacy ended", "result", out.Result, "timestamp_ns", out.Claim.Timestamp, "took_seconds", out.Took.Seconds())
		n.metrics.elections.WithLabelValues(string(out.Result)).Inc()
	case election.Mismatch:
		log.Warn("a replica cannot take part: its configuration differs", "peer", out.Peer, "reason", out.Refusal,
			"theirs", out.Theirs, "our_lease", n.cfg.Election.Lease.String())
		n.metrics.mismatches.WithLabelValues(string(out.Refusal)).Inc()
	case election.Departed:
		log.Info("replica has left", "peer", out.Name, "id", out.Replica)
	case election.SizeChanged:
		if out.Expected > out.Configured {
			log.Warn("more replicas answer than REPLICAS says: the larger number counts", "heard", out.Expected, "configured", out.Configured)
		} else {
			log.Info("the configured number of replicas counts again", "configured", out.Configured)
		}
	}
}

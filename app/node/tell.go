package node

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"habot/app/election"
	"habot/app/logging"
)

// logged is what the log has been told, so that it is told of changes alone.
type logged struct {
	role    election.Role
	roles   *logging.Quota
	roster  roster
	peersAt election.Instant // when the roster was looked at last
}

// logRole logs a change of this replica's role. Candidacies are for debugging: without a quorum there is one
// after the other.
func (n *Node) logRole(now election.Instant) {
	st := n.machine.Status(now)
	was := n.logged.role
	if st.Role == was {
		return
	}
	n.logged.role = st.Role
	level, omitted, ok := slog.LevelInfo, 0, true
	if st.Role == election.Candidate && was == election.Looking || st.Role == election.Looking && was == election.Candidate {
		level = slog.LevelDebug
	} else {
		omitted, ok = n.logged.roles.Take(clock(now))
	}
	if ok {
		n.cfg.Logger.Log(context.Background(), level, "role changed", "role", st.Role, "was", was, "primary", st.PrimaryName,
			"timestamp_ns", st.Primary.Timestamp, "omitted", omitted)
	}
}

// logMembership logs which replicas were lost and found since it last did. Replicas are asked once per lease: to
// look twice as often is enough.
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

// roster keeps, by name, which replicas are there: one that starts again has another id. It is pure.
type roster map[string]*seenState

// rosterLength bounds the names remembered.
const rosterLength = 256

type seenState struct {
	id    election.ReplicaID
	heard election.Instant
	there bool
	lines *logging.Quota
}

// membershipChange is a replica that was found, or lost.
type membershipChange struct {
	name  string
	id    election.ReplicaID
	role  election.Role
	found bool
	// away is how long it had not been heard; 0 if it never was before.
	away    time.Duration
	omitted int
}

// look returns who came and went since the last look.
func (r roster) look(now election.Instant, peers []election.Peer) []membershipChange {
	var all []membershipChange
	tell := func(p *seenState, st election.Status, away time.Duration) {
		if omitted, ok := p.lines.Take(clock(now)); ok {
			all = append(all, membershipChange{st.Name, p.id, st.Role, p.there, away, omitted})
		}
	}
	for _, peer := range peers {
		st, heard := peer.Status, now.Add(-peer.Age)
		p := r[st.Name]
		if p == nil {
			if len(r) >= rosterLength {
				clear(r)
			}
			p = &seenState{heard: heard, lines: newQuota()}
			r[st.Name] = p
		}
		switch restarted := p.id != st.Replica; {
		case peer.Reachable && (restarted || !p.there):
			away := heard.Sub(p.heard)
			p.id, p.there = st.Replica, true
			tell(p, st, away)
		case !peer.Reachable && p.there && !restarted:
			p.there = false
			tell(p, st, peer.Age)
		}
		if p.id == st.Replica {
			p.heard = max(p.heard, heard)
		}
	}
	return all
}

// logChange logs a new primary, and the time without one if that was measured.
func (n *Node) logChange(c election.Change) {
	self := c.Claim.Replica == n.cfg.Election.Self
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
		n.sender.hasLeft(out.Replica)
		log.Info("replica has left", "peer", out.Name, "id", out.Replica)
	case election.SizeChanged:
		if out.Expected > out.Configured {
			log.Warn("more replicas answer than REPLICAS says: the larger number counts", "heard", out.Expected, "configured", out.Configured)
		} else {
			log.Info("the configured number of replicas counts again", "configured", out.Configured)
		}
	}
}

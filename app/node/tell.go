package node

import (
	"context"
	"log/slog"
	"time"

	"habot/app/election"
	"habot/app/logging"
)

// said is what the log has been told, so that it is told of changes alone.
type said struct {
	roles   roleStory
	quota   *logging.Quota // of lines about roles
	roster  roster
	peersAt election.Instant // when the roster was looked at last
}

// roleStory decides which changes of this replica's role are worth a line for operators: those that something comes of.
// It is pure.
type roleStory struct {
	// patience is how long a standby may look for a primary before that is worth a line of its own.
	patience time.Duration
	role     election.Role
	settled  bool // whether a role came of the start
	// held is a standby's that lost its primary: if it finds the same one again, that was nothing.
	held *roleChange
}

// roleChange is one line.
type roleChange struct {
	was   election.Role
	st    election.Status
	at    election.Instant
	debug bool
}

// see takes in the status at now and returns what is to be logged, in order. On the way to the first role after a start,
// and from one candidacy to the next, changes are for debugging.
func (s *roleStory) see(now election.Instant, st election.Status) []roleChange {
	was := s.role
	if st.Role == was {
		if s.held != nil && now.Sub(s.held.at) >= s.patience {
			return s.tellHeld()
		}
		return nil
	}
	s.role = st.Role
	c := roleChange{was: was, st: st, at: now}
	inElection := func(r election.Role) bool { return r == election.Candidate || r == election.Looking }
	switch {
	case inElection(st.Role) && (!s.settled || inElection(was)):
		c.debug = true
		return []roleChange{c}
	case inElection(st.Role) && was == election.Standby:
		s.held = &c
		return nil
	case !s.settled:
		s.settled, c.was = true, election.Joining
	case st.Role == election.Standby && s.held != nil:
		s.held = nil
		return nil
	}
	return append(s.tellHeld(), c)
}

// tellHeld returns what was held back. It MUST be called when the primary has changed.
func (s *roleStory) tellHeld() []roleChange {
	if s.held == nil {
		return nil
	}
	c := *s.held
	s.held = nil
	return []roleChange{c}
}

// tellRole logs changes of this replica's role.
func (n *Node) tellRole(now election.Instant) {
	n.tellRoles(now, n.said.roles.see(now, n.machine.Status(now)))
}

func (n *Node) tellRoles(now election.Instant, changes []roleChange) {
	for _, c := range changes {
		level, omitted, ok := slog.LevelDebug, 0, true
		if !c.debug {
			level = slog.LevelInfo
			omitted, ok = n.said.quota.Take(clock(now))
		}
		if ok {
			n.cfg.Logger.Log(context.Background(), level, "role changed", "role", c.st.Role, "was", c.was, "primary", c.st.PrimaryName,
				"timestamp_ns", c.st.Primary.Timestamp, "omitted", omitted)
		}
	}
}

// tellPeers logs which replicas were lost and found since it last did. Replicas are asked once per lease: to
// look twice as often is enough.
func (n *Node) tellPeers(now election.Instant) {
	if now.Sub(n.said.peersAt) < n.cfg.Election.Lease/2 {
		return
	}
	n.said.peersAt = now
	for _, c := range n.said.roster.look(now, n.machine.View(now).Peers) {
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
type roster map[string]*presence

// rosterLength bounds the names remembered.
const rosterLength = 256

type presence struct {
	id    election.ReplicaID
	heard election.Instant
	there bool
	lines *logging.Quota
}

// coming is a replica that was found, or lost.
type coming struct {
	name  string
	id    election.ReplicaID
	role  election.Role
	found bool
	// away is how long it had not been heard; 0 if it never was before.
	away    time.Duration
	omitted int
}

// look returns who came and went since the last look.
func (r roster) look(now election.Instant, peers []election.Peer) []coming {
	var all []coming
	tell := func(p *presence, st election.Status, away time.Duration) {
		if omitted, ok := p.lines.Take(clock(now)); ok {
			all = append(all, coming{st.Name, p.id, st.Role, p.there, away, omitted})
		}
	}
	for _, peer := range peers {
		st, heard := peer.Status, now.Add(-peer.Age)
		p := r[st.Name]
		if p == nil {
			if len(r) >= rosterLength {
				clear(r)
			}
			p = &presence{heard: heard, lines: newQuota()}
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

// tellChange logs a new primary, and the time without one if that was measured.
func (n *Node) tellChange(c election.Change) {
	self := c.Claim.Replica == n.cfg.Election.Self
	now := n.cfg.Clock.Read().Now
	n.tellRoles(now, n.said.roles.tellHeld())
	if !c.GapMeasured() {
		n.cfg.Logger.Info("primary changed", "primary", c.Name, "previous", c.Previous, "reason", c.Reason, "timestamp_ns", c.Claim.Timestamp, "self", self)
		return
	}
	n.cfg.Logger.Info("primary changed", "primary", c.Name, "previous", c.Previous, "reason", c.Reason,
		"nobody_for_seconds", c.Gap.Seconds(), "timestamp_ns", c.Claim.Timestamp, "self", self)
}

// tell logs and counts what the election has to say, in the words of metrics and history.
func (n *Node) tell(out election.Output) {
	log := n.cfg.Logger
	switch out := out.(type) {
	case election.PrimaryChanged:
		c := out.Change
		n.tellChange(c)
		n.metrics.changes.Inc()
		if c.Claim.Replica == n.cfg.Election.Self {
			n.metrics.takeovers.WithLabelValues(string(c.Reason)).Inc()
			if c.GapMeasured() {
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
		log.Warn("a replica cannot take part: its configuration differs", "peer", out.Peer, "reason", out.Refusal,
			"theirs", out.Theirs, "our_lease", n.cfg.Election.Lease.String())
		n.metrics.mismatches.WithLabelValues(string(out.Refusal)).Inc()
	case election.SizeChanged:
		if out.Expected > out.Configured {
			log.Warn("more replicas answer than REPLICAS says: the larger number counts", "heard", out.Expected, "configured", out.Configured)
		} else {
			log.Info("the configured number of replicas counts again", "configured", out.Configured)
		}
	}
}

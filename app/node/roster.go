package node

import (
	"time"

	"habot/app/election"
	"habot/app/logging"
)

// roster keeps, by name, which replicas are there: one that starts again has another id. It is pure.
type roster map[string]*seenState

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
	// away is how long it had been out of contact; 0 if it is new.
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

package telling

import (
	"slices"
	"time"

	"habot/app/election"
)

// Trouble is why Telegram refuses a bot, whichever replica asks; empty if it does not. Its values are labels of
// metrics: the set is closed.
type Trouble string

// The kinds of trouble.
const (
	TroubleToken    Trouble = "token"
	TroubleConflict Trouble = "conflict"
	TroubleWebhook  Trouble = "webhook"
)

// Troubles are all kinds there are.
func Troubles() []Trouble { return []Trouble{TroubleToken, TroubleConflict, TroubleWebhook} }

// Sight is one look at all that admins may be told of.
type Sight struct {
	View    election.View
	Trouble Trouble
	// Strangers are instances that cannot even be asked who they are; a line each, for people.
	Strangers []string
	// Reaches: a message could leave now.
	Reaches bool
}

// condition is something that is wrong for a while.
type condition int

// The conditions.
const (
	noPrimary condition = iota
	foreignPoller
	webhookStays
	tokenRejected
	mismatch
	conditions // how many there are
)

// timing says when a condition is worth telling.
type timing struct {
	// onset is how long it must have been there.
	onset time.Duration
	// bridge is how long it may be away meanwhile.
	bridge time.Duration
	// calm is how long it must be away to be over.
	calm time.Duration
}

func (k condition) timing(lease time.Duration) timing {
	switch k {
	case noPrimary:
		// A takeover takes little more than a lease, and a restart of all replicas two. Any primary, however
		// brief, begins a new absence.
		return timing{onset: max(15*time.Second, 3*lease), calm: 5 * time.Second}
	case foreignPoller, webhookStays:
		// Two pollers cut off each other in turns: polls succeed in between, and some programs wait for half
		// a minute after a conflict. A program that is being replaced overlaps for a moment.
		return timing{onset: 15 * time.Second, bridge: time.Minute, calm: time.Minute}
	case tokenRejected:
		// A probe every five seconds tells. A single 401 may be a proxy's.
		return timing{onset: 15 * time.Second, bridge: 10 * time.Second, calm: 10 * time.Second}
	default:
		// Versions differ while replicas are replaced one after the other. Each is heard at least once a
		// second, or with its primary's renewals, and counts as there for longer.
		return timing{onset: max(30*time.Second, 4*lease), bridge: max(10*time.Second, 3*lease), calm: max(30*time.Second, 3*lease)}
	}
}

func (s Sight) sees(k condition) bool {
	switch k {
	case noPrimary:
		return !s.View.Known()
	case foreignPoller:
		return s.Trouble == TroubleConflict
	case webhookStays:
		return s.Trouble == TroubleWebhook
	case tokenRejected:
		return s.Trouble == TroubleToken
	default:
		return len(s.View.Mismatched)+len(s.Strangers) > 0
	}
}

// blind: this replica cannot tell whether a condition is there. Only the primary polls, and so only it meets
// other pollers; one that joins or leaves asks nobody who is primary.
func (s Sight) blind(k condition) bool {
	role := s.View.Self.Role
	switch k {
	case noPrimary:
		return role == election.Joining || role == election.Leaving
	case foreignPoller, webhookStays:
		return role != election.Primary
	default:
		return false
	}
}

// present are the replicas heard now, this one first.
func (s Sight) present() []election.Status {
	all := []election.Status{s.View.Self}
	for _, p := range s.View.Peers {
		if p.Reachable {
			all = append(all, p.Status)
		}
	}
	return all
}

func (s Sight) gone(id election.ReplicaID) bool {
	return !slices.ContainsFunc(s.present(), func(r election.Status) bool { return r.Replica == id })
}

// author is who tells what all can see: the primary; without one, the first by name, then id, of those that
// hear each other, stay, and reach Telegram. Empty if there is none. Each side of a partition has its own.
func (s Sight) author() election.ReplicaID {
	if s.View.Known() {
		return s.View.Self.Primary.Replica
	}
	var best *election.Status
	for _, r := range s.present() {
		if !r.Health.OK || r.Role == election.Joining || r.Role == election.Leaving {
			continue
		}
		if best == nil || r.Name < best.Name || r.Name == best.Name && r.Replica < best.Replica {
			best = &r
		}
	}
	if best == nil {
		return ""
	}
	return best.Replica
}

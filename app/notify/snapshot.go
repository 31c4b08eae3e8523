package notify

import (
	"slices"
	"time"

	"habot/app/diagnosis"
	"habot/app/election"
)

// Snapshot is all that admins may be notified of, as one replica sees it at one moment.
type Snapshot struct {
	View    election.View
	Trouble diagnosis.Trouble
	// Incompatible are instances that cannot even be asked who they are; a line each, for people.
	Incompatible []string
	// NoBackend is why no webhook backend takes updates; empty if one does, or none is configured.
	NoBackend string
	// CanSend: a message could leave now.
	CanSend bool
}

// condition is something that is wrong for a while.
type condition int

// The conditions.
const (
	noPrimary condition = iota
	foreignPoller
	webhookStays
	tokenRejected
	noBackend
	mismatch
	conditions // how many there are
)

// timing is when a condition is worth a notification.
type timing struct {
	// onset is how long it must have been there.
	onset time.Duration
	// gapTolerance is how long it may be away meanwhile.
	gapTolerance time.Duration
	// clearDelay is how long it must be away to be over.
	clearDelay time.Duration
}

func (k condition) timing(lease time.Duration) timing {
	switch k {
	case noPrimary:
		// A takeover takes little more than a lease, and a restart of all replicas two. Any primary, however
		// brief, begins a new absence.
		return timing{onset: max(15*time.Second, 3*lease), clearDelay: 5 * time.Second}
	case foreignPoller, webhookStays:
		// Two pollers cut off each other in turns: polls succeed in between, and some programs wait for half
		// a minute after a conflict. A program that is being replaced overlaps for a moment.
		return timing{onset: 15 * time.Second, gapTolerance: time.Minute, clearDelay: time.Minute}
	case noBackend:
		// A backend that is replaced by another is away for some seconds.
		return timing{onset: 15 * time.Second, gapTolerance: 5 * time.Second, clearDelay: 10 * time.Second}
	case tokenRejected:
		// A probe every five seconds shows it. A single 401 may be a proxy's.
		return timing{onset: 15 * time.Second, gapTolerance: 10 * time.Second, clearDelay: 10 * time.Second}
	default:
		// Versions differ while replicas are replaced one after the other. Each answers at least once a
		// second, or with its primary's renewals, and counts as there for longer.
		return timing{onset: max(30*time.Second, 4*lease), gapTolerance: max(10*time.Second, 3*lease), clearDelay: max(30*time.Second, 3*lease)}
	}
}

// shows reports whether a condition is there.
func (s Snapshot) shows(k condition) bool {
	switch k {
	case noPrimary:
		return !s.View.Known()
	case foreignPoller:
		return s.Trouble == diagnosis.TroubleConflict
	case webhookStays:
		return s.Trouble == diagnosis.TroubleWebhook
	case tokenRejected:
		return s.Trouble == diagnosis.TroubleToken
	case noBackend:
		return s.NoBackend != ""
	default:
		return len(s.View.Mismatched)+len(s.Incompatible) > 0
	}
}

// cannotObserve reports whether a condition is out of this replica's sight. Only the primary polls, and so only it meets
// other pollers, and only it has updates that wait for a backend; one that joins or leaves asks for no primary.
func (s Snapshot) cannotObserve(k condition) bool {
	role := s.View.Self.Role
	switch k {
	case noPrimary:
		return role == election.Joining || role == election.Leaving
	case foreignPoller, webhookStays, noBackend:
		return role != election.Primary
	default:
		return false
	}
}

// present are the replicas in contact now, this one first.
func (s Snapshot) present() []election.Status {
	all := []election.Status{s.View.Self}
	for _, p := range s.View.Peers {
		if p.Reachable {
			all = append(all, p.Status)
		}
	}
	return all
}

func (s Snapshot) gone(id election.ReplicaID) bool {
	return !slices.ContainsFunc(s.present(), func(r election.Status) bool { return r.Replica == id })
}

// sender is the designated one for what all can see: the primary; without one, the first by name, then id, of those that
// are in contact, stay, and reach Telegram. Empty if there is none. Each side of a partition has its own.
func (s Snapshot) sender() election.ReplicaID {
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

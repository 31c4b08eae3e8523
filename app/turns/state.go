package turns

import (
	"cmp"
	"slices"
	"time"
)

// State is what a primary has to know of its predecessor's term. The zero State is that of no predecessor.
type State struct {
	Roster
	// Kept are in Telegram's order.
	Kept []Kept
}

// Roster says who polls, and whose turn it is.
type Roster struct {
	// Active is empty if no copy is; then Former was the last one, known to live until FormerAgo ago.
	Active, Former CopyID
	FormerAgo      time.Duration
	// Reason is why the turn began, or ended, SinceAgo ago.
	Reason   Reason
	SinceAgo time.Duration
	Members  []Member
}

// Member is a copy.
type Member struct {
	ID      CopyID
	Address string
	// Polled: it has polled since it started. Dead: it is gone. Ended: its process has ended, as its connections show.
	// Kept: it keeps its connections. Waits: its polls wait.
	Polled, Dead, Ended, Kept, Waits bool
	// Waiting: it stands by, since WaitingAgo.
	Waiting    bool
	WaitingAgo time.Duration
	// HeardAgo is how long ago the process that polled was last known to live, or longer.
	HeardAgo time.Duration
	Allowed  string
}

// Addresses are those of the copies that are not known to be dead, each once: that of the active one first, then those of the others
// in the order in which they would be the next.
func (r Roster) Addresses() []string {
	rank := func(m Member) int {
		switch {
		case m.ID == r.Active:
			return 0
		case m.Waiting:
			return 1
		}
		return 2
	}
	members := slices.SortedStableFunc(slices.Values(r.Members), func(a, b Member) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.WaitingAgo, a.WaitingAgo))
	})
	var addresses []string
	for _, m := range members {
		if !m.Dead && m.Address != "" && !slices.Contains(addresses, m.Address) {
			addresses = append(addresses, m.Address)
		}
	}
	return addresses
}

// Kept is an update that may have to be given again.
type Kept struct {
	// Update has no Expires: ExpiresIn says how long it lasts, 0 if long.
	Update
	ExpiresIn time.Duration
	GivenAgo  time.Duration
	Again     int
	// Pending: it is to be given again, and the copy that has the turn has not confirmed it.
	Pending bool
}

// Version tells how fresh what is known of turns is: the term that it comes from, and how many deltas of that term are
// in it. The zero Version is that of nothing.
type Version struct {
	Term int64
	Seq  uint64
}

// Compare orders versions: negative if v is older than o.
func (v Version) Compare(o Version) int {
	if d := cmp.Compare(v.Term, o.Term); d != 0 {
		return d
	}
	return cmp.Compare(v.Seq, o.Seq)
}

// Delta is what has changed since the delta before it. Its times are relative to when it was made.
type Delta struct {
	// Version's Seq counts the deltas of a term, from 1.
	Version
	// Full: it has all there is, whatever came before.
	Full bool
	// Kept are new, or known and changed: then they have no Raw.
	Kept    []Kept
	Removed []int64
	// Roster is nil if it has not changed.
	Roster *Roster
}

// Mirror is what another replica knows of the primary's turns. The zero Mirror knows nothing. It is not safe for
// concurrent use.
type Mirror struct {
	version Version
	at      Instant // of the roster
	roster  Roster
	kept    []mirrored
}

// Version tells how fresh it is.
func (r *Mirror) Version() Version { return r.version }

// Active is the copy that has the turn; empty if none has, or nothing is known.
func (r *Mirror) Active() CopyID { return r.roster.Active }

type mirrored struct {
	Kept
	at Instant
}

// Apply takes a delta in. False asks for a full one: a delta before it was missed. What is older than what is known
// changes nothing.
func (r *Mirror) Apply(now Instant, d Delta) bool {
	switch next := (Version{r.version.Term, r.version.Seq + 1}); {
	case d.Compare(r.version) <= 0:
		return true
	case d.Full:
		*r = Mirror{}
	case d.Version != next || r.version.Seq == 0:
		return false
	}
	r.version = d.Version
	if d.Roster != nil {
		r.roster, r.at = *d.Roster, now
	}
	// First: what comes takes the place of what goes.
	r.kept = slices.DeleteFunc(r.kept, func(o mirrored) bool { return slices.Contains(d.Removed, o.ID) })
	for _, k := range d.Kept {
		i := slices.IndexFunc(r.kept, func(o mirrored) bool { return o.ID == k.ID })
		switch {
		case i >= 0:
			if k.Raw == nil {
				k.Raw = r.kept[i].Raw
			}
			r.kept[i] = mirrored{k, now}
		case len(r.kept) < MaxReplay:
			r.kept = append(r.kept, mirrored{k, now})
		}
	}
	return true
}

// State is what a term begins from that begins now on this replica.
func (r *Mirror) State(now Instant) State {
	s := State{Roster: r.roster}
	gone := now.Sub(r.at)
	s.SinceAgo += gone
	s.FormerAgo += gone
	s.Members = slices.Clone(s.Members)
	for i := range s.Members {
		s.Members[i].WaitingAgo += gone
		s.Members[i].HeardAgo += gone
	}
	for _, k := range r.kept {
		k.GivenAgo += now.Sub(k.at)
		if k.ExpiresIn != 0 {
			k.ExpiresIn = max(k.ExpiresIn-now.Sub(k.at), 1)
		}
		s.Kept = append(s.Kept, k.Kept)
	}
	return s
}

func (m *Machine) theRoster() Roster {
	r := Roster{Reason: m.why, SinceAgo: m.now.Sub(m.since)}
	if m.active != nil {
		r.Active = m.active.id
	} else {
		r.Former, r.FormerAgo = m.former, m.now.Sub(m.alive)
	}
	for _, c := range m.members {
		r.Members = append(r.Members, Member{
			ID: c.id, Address: c.address, Polled: c.polled, Dead: c.dead, Ended: c.hasEnded(), Kept: c.kept, Waits: c.waits,
			Waiting: c.waiting, WaitingAgo: m.now.Sub(c.waitingSince), HeardAgo: m.now.Sub(c.lastAlive()), Allowed: c.allowed,
		})
	}
	return r
}

package node

import (
	"time"

	"habot/app/election"
)

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
			return s.takeHeld()
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
	return append(s.takeHeld(), c)
}

// takeHeld returns what was held back. It MUST be called when the primary has changed.
func (s *roleStory) takeHeld() []roleChange {
	if s.held == nil {
		return nil
	}
	c := *s.held
	s.held = nil
	return []roleChange{c}
}

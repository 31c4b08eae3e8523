package node

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"habot/app/election"
)

// What operators read of a replica's roles: what came of a start and of an election, and that a primary is missed; not that
// a standby missed it for a moment.
func TestWhichChangesOfRoleAreWorthALine(t *testing.T) {
	t.Parallel()
	const changed = "the primary changed" // an event, not a role
	for _, c := range []struct {
		what string
		// seen is a role every 100 ms.
		seen []election.Role
		want []string
	}{
		{"a start", []election.Role{election.Joining, election.Looking, election.Candidate, election.Looking, election.Standby, election.Standby},
			[]string{"joining to standby"}},
		{"a start as primary", []election.Role{election.Candidate, election.Primary}, []string{"joining to primary"}},
		{"a start that is broken off", []election.Role{election.Candidate, election.Leaving}, []string{"joining to leaving"}},
		{"a standby that is not yet known to the primary", []election.Role{election.Standby, election.Candidate, election.Standby, election.Looking, election.Standby},
			[]string{"joining to standby"}},
		{"a successor", []election.Role{election.Standby, election.Candidate, changed, election.Primary},
			[]string{"joining to standby", "standby to candidate", "candidate to primary"}},
		{"another standby", []election.Role{election.Standby, election.Looking, election.Candidate, election.Looking, changed, election.Standby},
			[]string{"joining to standby", "standby to looking", "looking to standby"}},
		{"no quorum", []election.Role{election.Standby, election.Candidate, election.Candidate, election.Candidate, election.Candidate, election.Candidate,
			election.Candidate, election.Candidate, election.Standby}, []string{"joining to standby", "standby to candidate", "candidate to standby"}},
		{"a lost lease", []election.Role{election.Primary, election.Looking, election.Candidate, election.Primary},
			[]string{"joining to primary", "primary to looking", "candidate to primary"}},
		{"an end", []election.Role{election.Standby, election.Candidate, election.Leaving},
			[]string{"joining to standby", "standby to candidate", "candidate to leaving"}},
	} {
		s := roleStory{patience: 500 * time.Millisecond, role: election.Joining}
		var got []string
		var now election.Instant
		for _, role := range c.seen {
			changes := s.takeHeldOr(role == changed, now, role)
			now = now.Add(100 * time.Millisecond)
			for _, r := range changes {
				if !r.debug {
					got = append(got, fmt.Sprintf("%s to %s", r.was, r.st.Role))
				}
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s is reported as %q, want %q", c.what, got, c.want)
		}
	}
}

func (s *roleStory) takeHeldOr(changed bool, now election.Instant, role election.Role) []roleChange {
	if changed {
		return s.takeHeld()
	}
	return s.see(now, election.Status{Role: role})
}

package node

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"habot/app/election"
)

func seen(name, id string, age time.Duration, reachable bool) election.Peer {
	return election.Peer{Status: election.Status{Replica: election.ReplicaID(id), Name: name, Role: election.Standby}, Age: age, Reachable: reachable}
}

func second(n int) election.Instant { return election.Instant(time.Duration(n) * time.Second) }

func TestRosterTellsOfComingsAndGoings(t *testing.T) {
	t.Parallel()
	r := roster{}
	for i, tt := range []struct {
		at    int
		peers []election.Peer
		want  []membershipChange
	}{
		{100, []election.Peer{seen("a", "1", 0, true), seen("b", "2", 9*time.Second, false)}, []membershipChange{{name: "a", id: "1", role: election.Standby, found: true}}},
		{101, []election.Peer{seen("a", "1", time.Second, true)}, nil},
		{103, []election.Peer{seen("a", "1", 3*time.Second, false)}, []membershipChange{{name: "a", id: "1", role: election.Standby, away: 3 * time.Second}}},
		{104, []election.Peer{seen("a", "1", 4*time.Second, false)}, nil},
		{500, nil, nil}, // the election has forgotten it
		{600, []election.Peer{seen("a", "1", 0, true)}, []membershipChange{{name: "a", id: "1", role: election.Standby, found: true, away: 500 * time.Second}}},
		// It starts again before it is missed; what is left of the old one says nothing.
		{601, []election.Peer{seen("a", "1", time.Second, true), seen("a", "9", 0, true)}, nil},
	} {
		got := r.look(second(tt.at), tt.peers)
		if i == 6 {
			if len(got) != 1 || got[0].id != "9" || !got[0].found || got[0].away != time.Second {
				t.Errorf("after a restart: %+v", got)
			}
			continue
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("at %d s: %+v, want %+v", tt.at, got, tt.want)
		}
	}
	for i := range 10 * rosterLength {
		r.look(second(1000), []election.Peer{seen(fmt.Sprint(i), "x", 0, true)})
	}
	if len(r) > rosterLength {
		t.Errorf("%d names are remembered", len(r))
	}
}

package turns

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func aMachine() *Machine {
	return New(Config{Patience: 90 * time.Second, Replay: 30 * time.Second}, 1, 0, State{})
}

// stepKnown takes a step, of which a majority knows at once.
func stepKnown(m *Machine, now Instant, in Input) {
	for _, out := range m.Step(now, in) {
		if r, ok := out.(Replicate); ok {
			m.Step(now, Replicated{r.Delta.Seq})
		}
	}
}

func aPoll(id int, copyID string, offset int64) Polled {
	return Polled{
		Poll: PollID(id), Client: Client{Copy: CopyID(copyID), Address: copyID, Connection: Connection{"r", 1}},
		Offset: offset, Limit: 100, Timeout: 50 * time.Second,
	}
}

// The copy to forget is a dead one, or else the one whose last request is the oldest; never the active one.
func TestCopiesAreBounded(t *testing.T) {
	t.Parallel()
	m := aMachine()
	name := func(n int) string { return fmt.Sprintf("copy %d", n) }
	knows := func(n int) bool { return m.find(CopyID(name(n))) != nil }
	for n := range MaxCopies {
		stepKnown(m, Instant(n)*1000, aPoll(n+1, name(n), 0))
	}
	const now = Instant(time.Second)
	stepKnown(m, now, AddressGone{Replica: "r", Address: name(7), Asked: now})
	for n, forgotten := range []int{7, 1} {
		if !knows(forgotten) {
			t.Fatalf("%s is forgotten before there are too many", name(forgotten))
		}
		stepKnown(m, now, aPoll(MaxCopies+n+1, name(MaxCopies+n), 0))
		if knows(forgotten) || len(m.members) != MaxCopies {
			t.Errorf("%d copies are remembered, want %d without %s", len(m.members), MaxCopies, name(forgotten))
		}
	}
	if got := m.View().Active; got != CopyID(name(0)) {
		t.Errorf("%q is active, want %s", got, name(0))
	}
}

func TestConnectionsOfACopyAreBounded(t *testing.T) {
	t.Parallel()
	m := aMachine()
	stepKnown(m, 0, aPoll(1, "a", 0))
	client := func(n int) Client {
		return Client{Copy: "a", Address: "a", Connection: Connection{"r", uint64(n)}}
	}
	for n := range 3 * maxConnections {
		stepKnown(m, 1, Called{client(n + 2), KindWrite})
	}
	if got := len(m.find("a").connections); got != maxConnections {
		t.Errorf("%d connections are remembered, want %d", got, maxConnections)
	}
	for n := range 3 * maxConnections {
		stepKnown(m, 2, ConnectionEnded{Client: client(n + 2), Closed: true, Idle: time.Minute})
	}
	if got := len(m.find("a").gone); got != maxConnections {
		t.Errorf("%d connections that have ended are remembered, want %d", got, maxConnections)
	}
}

func TestUpdatesThatAreKeptAreBounded(t *testing.T) {
	t.Parallel()
	m := aMachine()
	for n := range 2 * MaxReplay / 100 {
		var b Batch
		for i := range 100 {
			b.Updates = append(b.Updates, Update{ID: int64(100*n + i + 1), Raw: []byte{1}})
		}
		stepKnown(m, Instant(n), b)
		stepKnown(m, Instant(n), aPoll(n+1, "a", int64(100*n+1)))
	}
	if v := m.View(); v.Kept != MaxReplay || m.window[0].ID != MaxReplay-99 {
		t.Errorf("%d updates from %d on are kept, want %d from %d on", v.Kept, m.window[0].ID, MaxReplay, MaxReplay-99)
	}
}

func TestAMirrorKnowsWhatTheDeltasSay(t *testing.T) {
	t.Parallel()
	raw := []byte("raw")
	kept := func(ids ...int64) (all []Kept) {
		for _, id := range ids {
			all = append(all, Kept{Update: Update{ID: id, Raw: raw}})
		}
		return all
	}
	delta := func(term int64, seq uint64, full bool, kept []Kept) Delta {
		return Delta{Version: Version{term, seq}, Full: full, Kept: kept}
	}
	var m Mirror
	says := func(want Version, ids ...int64) {
		t.Helper()
		var got []int64
		for _, k := range m.State(0).Kept {
			got = append(got, k.ID)
			if string(k.Raw) != string(raw) {
				t.Errorf("of %d its bytes are %q, want %q", k.ID, k.Raw, raw)
			}
		}
		if m.Version() != want || !slices.Equal(got, ids) {
			t.Errorf("it knows %v of %v, want %v of %v", got, m.Version(), ids, want)
		}
	}
	apply := func(d Delta, want bool) {
		t.Helper()
		if got := m.Apply(0, d); got != want {
			t.Errorf("delta %v is taken: %v, want %v", d.Version, got, want)
		}
	}
	apply(delta(2, 4, false, kept(1)), false) // what was before it is missing
	apply(delta(2, 5, true, kept(1, 2)), true)
	says(Version{2, 5}, 1, 2)
	apply(delta(2, 7, false, kept(3)), false)
	says(Version{2, 5}, 1, 2)
	// An older one changes nothing, and asks for nothing.
	apply(delta(2, 4, false, kept(8)), true)
	apply(delta(1, 9, true, kept(9)), true)
	says(Version{2, 5}, 1, 2)
	// A change comes without the bytes.
	apply(delta(2, 6, false, []Kept{{Update: Update{ID: 2}, Pending: true}}), true)
	says(Version{2, 6}, 1, 2)
	apply(delta(2, 8, true, kept(3)), true)
	says(Version{2, 8}, 3)
	// There are never more than a primary keeps.
	var many []int64
	for id := range int64(MaxReplay + 1) {
		many = append(many, id+1)
	}
	apply(delta(3, 1, true, kept(many...)), true)
	says(Version{3, 1}, many[:MaxReplay]...)
	// What comes takes the place of what the same delta lets go of.
	next := delta(3, 2, false, kept(MaxReplay+1, MaxReplay+2))
	next.Removed = []int64{1, 2}
	apply(next, true)
	says(Version{3, 2}, append(many[2:MaxReplay:MaxReplay], MaxReplay+1, MaxReplay+2)...)
}

// Where copies are: the active one first, which matters most, and then as they would be the next.
func TestAddressesAreInTheOrderOfTurns(t *testing.T) {
	t.Parallel()
	r := Roster{Active: "d", Members: []Member{
		{ID: "a", Address: "1"}, {ID: "b", Address: "2", Waiting: true, WaitingAgo: time.Second}, {ID: "c", Address: "3", Waiting: true, WaitingAgo: time.Minute},
		{ID: "dead", Address: "4", Dead: true}, {ID: "d", Address: "5"}, {ID: "e", Address: "3"}, {ID: "f"},
	}}
	if got := r.Addresses(); !slices.Equal(got, []string{"5", "3", "2", "1"}) {
		t.Errorf("%v", got)
	}
}

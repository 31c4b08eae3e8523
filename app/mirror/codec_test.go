package mirror

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"habot/app/turns"
)

func full() turns.Delta {
	return turns.Delta{
		Version: turns.Version{Term: 1_700_000_000_000_000_000, Seq: 3}, Full: true, Removed: []int64{4, -1},
		Kept: []turns.Kept{
			{Update: turns.Update{ID: 7, Chat: -100, Query: "q", Raw: []byte(`{"update_id": 7}`)}, ExpiresIn: time.Hour, GivenAgo: time.Second, Again: 2, Pending: true},
			{Update: turns.Update{ID: 8, Raw: []byte{}}},
			{Update: turns.Update{ID: 9}},
		},
		Roster: &turns.Roster{Active: "a", Former: "b", FormerAgo: 1, Reason: turns.ReasonEnded, SinceAgo: 2, Members: []turns.Member{
			{ID: "a", Address: "10.0.0.1", Polled: true, Dead: true, Ended: true, Kept: true, Waits: true, Waiting: true, WaitingAgo: 3, HeardAgo: 4, Allowed: `["message"]`},
			{ID: "b"},
		}},
	}
}

func messages() (request, answer) {
	d := full()
	return request{from: "p", term: 5, collect: true, entries: []entry{{time.Second, d}, {0, turns.Delta{Version: turns.Version{Term: 5, Seq: 1}}}}},
		answer{replica: "b", before: turns.Version{Term: 4, Seq: 9}, version: turns.Version{Term: 5, Seq: 1}, floor: 5, missed: true, state: &d}
}

func TestMessagesArriveAsTheyWere(t *testing.T) {
	t.Parallel()
	r, a := messages()
	if got, err := decodeRequest(r.encode()); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%v\n%+v\n%+v", err, got, r)
	}
	if got, err := decodeAnswer(a.encode()); err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("%v\n%+v\n%+v", err, got, a)
	}
}

// A field that is added to what turns hands over is to be sent as well.
func TestEachFieldIsSent(t *testing.T) {
	t.Parallel()
	d := full()
	d.Kept = d.Kept[:1]
	d.Roster.Members = d.Roster.Members[:1]
	var check func(v reflect.Value, path string)
	check = func(v reflect.Value, path string) {
		switch {
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				check(v.Field(i), path+"."+v.Type().Field(i).Name)
			}
		case v.Kind() == reflect.Pointer:
			check(v.Elem(), path)
		case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
			check(v.Index(0), path)
		case v.IsZero() && path != ".Kept.Update.Expires": // an instant of another clock
			t.Errorf("the test's delta has no %s: is it encoded?", path)
		}
	}
	check(reflect.ValueOf(d), "")
}

func TestMessagesThatAreNone(t *testing.T) {
	t.Parallel()
	r, a := messages()
	for n := range len(r.encode()) {
		if _, err := decodeRequest(r.encode()[:n]); !errors.Is(err, ErrMessage) {
			t.Errorf("%d bytes of a request: %v", n, err)
		}
	}
	for n := range len(a.encode()) {
		if _, err := decodeAnswer(a.encode()[:n]); !errors.Is(err, ErrMessage) {
			t.Errorf("%d bytes of an answer: %v", n, err)
		}
	}
	if _, err := decodeRequest(append(r.encode(), 0)); !errors.Is(err, ErrMessage) {
		t.Errorf("a request with something behind it: %v", err)
	}
	other := r.encode()
	other[0]++
	if _, err := decodeRequest(other); !errors.Is(err, ErrMessage) {
		t.Errorf("another format: %v", err)
	}
	many := turns.Delta{Kept: make([]turns.Kept, turns.MaxReplay+1)}
	if _, err := decodeRequest(request{entries: []entry{{0, many}}}.encode()); !errors.Is(err, ErrMessage) {
		t.Errorf("too many updates: %v", err)
	}
	large := turns.Delta{Kept: []turns.Kept{{Update: turns.Update{Raw: make([]byte, turns.MaxReplayBytes+1)}}}}
	if _, err := decodeRequest(request{entries: []entry{{0, large}}}.encode()); !errors.Is(err, ErrMessage) {
		t.Errorf("too large an update: %v", err)
	}
	late := turns.Delta{Roster: &turns.Roster{SinceAgo: maxSpan + 1}}
	if _, err := decodeRequest(request{entries: []entry{{0, late}}}.encode()); !errors.Is(err, ErrMessage) {
		t.Errorf("an impossible duration: %v", err)
	}
}

// What a client can make long must not keep the others from having the rest.
func TestTextsThatAreTooLongAreLeftOut(t *testing.T) {
	t.Parallel()
	d := turns.Delta{Roster: &turns.Roster{Members: []turns.Member{{ID: "a", Allowed: strings.Repeat("x", maxAllowed+1)}}}}
	got, err := decodeRequest(request{from: "p", entries: []entry{{0, d}}}.encode())
	if err != nil || got.entries[0].delta.Roster.Members[0].ID != "a" || got.entries[0].delta.Roster.Members[0].Allowed != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

// The largest whole there can be fits into a message between replicas.
func TestTheLargestWholeIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxID)
	d := turns.Delta{Full: true, Roster: &turns.Roster{}}
	for range turns.MaxCopies {
		d.Roster.Members = append(d.Roster.Members, turns.Member{ID: turns.CopyID(long), Address: long, Allowed: strings.Repeat("x", maxAllowed), HeardAgo: maxSpan, WaitingAgo: maxSpan})
	}
	for range turns.MaxReplay {
		d.Kept = append(d.Kept, turns.Kept{Update: turns.Update{ID: 1 << 62, Chat: -1 << 62, Query: long, Raw: make([]byte, turns.MaxReplayBytes/turns.MaxReplay)}})
	}
	if n := len(answer{state: &d}.encode()); n > 3<<20 { // peer.MaxMessage is 4 MiB
		t.Errorf("%d bytes", n)
	}
}

func FuzzRequest(f *testing.F) {
	r, _ := messages()
	f.Add(r.encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := decodeRequest(raw)
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Errorf("another error: %v", err)
			}
			return
		}
		again, err := decodeRequest(r.encode())
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%v\n%+v\n%+v", err, r, again)
		}
		var m turns.Mirror
		for _, e := range r.entries {
			m.Apply(turns.Instant(time.Hour), e.delta)
		}
		s := m.State(turns.Instant(2 * time.Hour))
		turns.New(turns.Config{Patience: time.Minute, Replay: time.Minute}, 1, turns.Instant(2*time.Hour), s).Step(turns.Instant(3*time.Hour), turns.Tick{})
	})
}

func FuzzAnswer(f *testing.F) {
	_, a := messages()
	f.Add(a.encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := decodeAnswer(raw)
		if err != nil {
			return
		}
		if again, err := decodeAnswer(a.encode()); err != nil || !reflect.DeepEqual(a, again) {
			t.Errorf("%v\n%+v\n%+v", err, a, again)
		}
	})
}

// What is sent at once has the bound of a message, however long names and kinds of copies are, and however much goes at a time.
func TestDeltasThatAreSentAtOnceAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", maxID)
	roster := turns.Delta{Roster: &turns.Roster{}}
	for range turns.MaxCopies {
		roster.Roster.Members = append(roster.Roster.Members, turns.Member{ID: turns.CopyID(long), Address: long, Allowed: strings.Repeat("x", maxAllowed)})
	}
	var kept, removed turns.Delta
	for i := range turns.MaxReplay {
		kept.Kept = append(kept.Kept, turns.Kept{Update: turns.Update{ID: 1, Query: long}})
		removed.Removed = append(removed.Removed, 1<<60+int64(i))
	}
	for name, c := range map[string]struct {
		delta turns.Delta
		times int
	}{"rosters": {roster, 10}, "what is kept": {kept, 20}, "what is removed": {removed, maxEntries + 1}} {
		var s sending
		for range c.times {
			s.add(entry{delta: c.delta}, 0)
		}
		r := request{from: long}
		for _, l := range s.log {
			r.entries = append(r.entries, l.entry)
		}
		if n := len(r.encode()); n > 2<<20 || len(r.entries) == 0 {
			t.Errorf("%s: %d bytes in %d entries", name, n, len(r.entries))
		}
	}
}

package election_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"habot/app/election"
)

func at(ms int) election.Instant { return election.Instant(time.Duration(ms) * time.Millisecond) }

func machine() *election.Machine {
	return election.New(election.Config{Self: "m", Name: "m", Lease: lease, Replicas: 3}, election.Reading{Wall: 1000})
}

func heard(id election.ReplicaID, name string) election.Status {
	return election.Status{Protocol: election.Protocol, Replica: id, Name: name, Role: election.Standby, Lease: lease}
}

func TestViewTellsOfPeersByNameAndOfTheirAge(t *testing.T) {
	t.Parallel()
	m := machine()
	m.Step(election.Reading{Now: at(100)}, election.StatusReceived{Status: heard("1", "z"), SentAt: at(90)})
	m.Step(election.Reading{Now: at(2000)}, election.StatusReceived{Status: heard("2", "a"), SentAt: at(1990)})
	v := m.View(at(2601))
	if len(v.Peers) != 2 || v.Peers[0].Status.Name != "a" || v.Peers[1].Status.Name != "z" {
		t.Fatalf("peers %+v, want a and z", v.Peers)
	}
	if a, z := v.Peers[0], v.Peers[1]; a.Age != 601*time.Millisecond || !a.Reachable || z.Age != 2501*time.Millisecond || z.Reachable {
		t.Errorf("a %v reachable %v, z %v reachable %v", a.Age, a.Reachable, z.Age, z.Reachable)
	}
	if v.Reachable != 2 || v.Expected != 3 || v.Quorum != 2 {
		t.Errorf("reachable %d, expected %d, quorum %d", v.Reachable, v.Expected, v.Quorum)
	}
	if v.Known() || v.IsPrimary() {
		t.Error("there is no primary yet")
	}
}

func TestPrimaryThatCrashedIsNotShownBesideItsSuccessor(t *testing.T) {
	t.Parallel()
	m := machine()
	p := heard("p", "p")
	p.Role, p.Primary, p.Remaining = election.Primary, election.Claim{Timestamp: 5000, Replica: "p"}, lease
	m.Step(election.Reading{Now: at(0)}, election.StatusReceived{Status: p})
	if v := m.View(at(0)); !v.Peers[0].Reachable {
		t.Error("the primary is not reachable")
	}
	b := heard("b", "b")
	b.Role, b.Primary, b.Remaining = election.Primary, election.Claim{Timestamp: 6000, Replica: "b"}, lease
	m.Step(election.Reading{Now: at(1000)}, election.StatusReceived{Status: b, SentAt: at(1000)})
	v := m.View(at(1000))
	if v.Self.Primary != b.Primary || !v.Peers[0].Reachable || v.Peers[1].Reachable || v.Reachable != 2 {
		t.Errorf("primary %v, peers %+v, %d reachable", v.Self.Primary, v.Peers, v.Reachable)
	}
}

// A primary is in contact with standbys when they answer its renewals, and asks nothing besides.
func TestNobodyIsForgottenBetweenTwoRenewalsOfALongLease(t *testing.T) {
	t.Parallel()
	for _, lease := range []time.Duration{200 * time.Millisecond, time.Second, 10 * time.Second, time.Minute} {
		cfg := election.Config{Self: "m", Name: "m", Lease: lease, Replicas: 3}
		m := election.New(cfg, election.Reading{Wall: 1000})
		b := heard("b", "b")
		b.Lease = lease
		m.Step(election.Reading{}, election.StatusReceived{Status: b})
		next := election.Instant(0).Add(cfg.Heartbeat() + lease/20)
		m.Step(election.Reading{Now: next}, election.Tick{})
		if v := m.View(next); v.Reachable != 2 {
			t.Errorf("lease %v: %d replicas reachable, want 2", lease, v.Reachable)
		}
	}
}

// The view has a mismatch for as long as it is there: its report, sent once, does not show when it ends.
func TestViewTellsWhoCannotTakePartForAsLongAsItIsHeard(t *testing.T) {
	t.Parallel()
	m := machine()
	other := func(id election.ReplicaID, l time.Duration) election.StatusReceived {
		s := heard(id, string(id))
		s.Lease = l
		return election.StatusReceived{Status: s}
	}
	m.Step(election.Reading{Now: at(100)}, other("z", 2*time.Second))
	m.Step(election.Reading{Now: at(200)}, other("b", 3*time.Second))
	want := []election.Mismatched{{Name: "b", Reason: election.RefusedLease, Theirs: "3s"}, {Name: "z", Reason: election.RefusedLease, Theirs: "2s"}}
	if v := m.View(at(200)); !slices.Equal(v.Mismatched, want) || len(v.Peers) != 0 {
		t.Errorf("mismatched %+v, want %+v; peers %+v", v.Mismatched, want, v.Peers)
	}
	if v := m.View(at(2601)); !slices.Equal(v.Mismatched, want[:1]) {
		t.Errorf("mismatched %+v, want those in contact within 2.5 leases: %+v", v.Mismatched, want[:1])
	}
	m.Step(election.Reading{Now: at(2602)}, other("b", lease))
	if v := m.View(at(2602)); len(v.Mismatched) != 0 || len(v.Peers) != 1 {
		t.Errorf("mismatched %+v, want none: it takes part now", v.Mismatched)
	}
	const later = 2603 + 60_000 // z is forgotten
	for i := range 1000 {
		m.Step(election.Reading{Now: at(later)}, other(election.ReplicaID(fmt.Sprint(i)), time.Minute))
	}
	if v := m.View(at(later)); len(v.Mismatched) != 256 {
		t.Errorf("%d mismatched are remembered, want 256", len(v.Mismatched))
	}
}

func TestHistoryIsBoundedAndOldestFirst(t *testing.T) {
	t.Parallel()
	m := machine()
	for i := range 150 {
		s := heard("b", "b")
		s.Primary, s.Remaining = election.Claim{Timestamp: int64(i + 1), Replica: "p"}, lease
		m.Step(election.Reading{Now: at(i)}, election.StatusReceived{Status: s, SentAt: at(i)})
	}
	h := m.View(at(200)).History
	if len(h) != 100 || h[0].Claim.Timestamp != 51 || h[99].Claim.Timestamp != 150 {
		t.Errorf("%d changes, from %d to %d", len(h), h[0].Claim.Timestamp, h[len(h)-1].Claim.Timestamp)
	}
}

// What is remembered of ended claims is bounded; the lowest goes first, for it is the least likely to
// be under way still.
func TestEndedClaimsOfManyReplicasAreForgottenLowestFirst(t *testing.T) {
	t.Parallel()
	m := machine()
	m.Step(election.Reading{}, election.HealthChanged{})
	now := election.Reading{Now: at(1010)}
	for i := range 300 {
		id := election.ReplicaID(fmt.Sprintf("r%03d", i))
		m.Step(now, election.EndReceived{Request: election.EndRequest{
			From: heard(id, string(id)), Claim: election.Claim{Timestamp: int64(1000 + i), Replica: id},
		}})
	}
	refusal := func(i int) election.Refusal {
		id := election.ReplicaID(fmt.Sprintf("r%03d", i))
		out := m.Step(now, election.ClaimReceived{Request: election.ClaimRequest{
			From: heard(id, string(id)), Claim: election.Claim{Timestamp: int64(1000 + i), Replica: id},
		}})
		for _, o := range out {
			if r, ok := o.(election.Reply); ok {
				return r.Answer.Refusal
			}
		}
		t.Fatalf("no reply among %v", out)
		return ""
	}
	for _, i := range []int{299, 44} {
		if got := refusal(i); got != election.RefusedEnded {
			t.Errorf("claim %d: %q, want it remembered as ended", i, got)
		}
	}
	if got := refusal(43); got == election.RefusedEnded {
		t.Error("300 ended claims are remembered, want 256")
	}
}

// A clock that seems to go back must not make a promise longer.
func TestReadingThatGoesBackIsTakenAsTheLastOne(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1010 claim b/900
		  > grant b/900
		1500 tick
		1200 claim c/950
		  > refuse c/950 held holder=b/900 remaining=510 floor=b/900
	`)
}

// A clock far ahead that won once puts all later timestamps ahead: they order terms, and are no times for people.
func TestAClockFarAheadIsNoTimeForPeople(t *testing.T) {
	t.Parallel()
	today := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	ahead := time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC)
	cfg := election.Config{Self: "m", Name: "m", Lease: lease, Replicas: 3}
	m := election.New(cfg, election.Reading{Wall: today.UnixNano()})
	p := heard("p", "p")
	p.Role, p.Primary, p.Remaining = election.Primary, election.Claim{Timestamp: ahead.UnixNano(), Replica: "p"}, lease
	p.Change = election.Change{Claim: p.Primary, Name: "p", Reason: election.ReasonStart}
	m.Step(election.Reading{Now: at(0), Wall: today.UnixNano()}, election.StatusReceived{Status: p})
	v := m.View(at(0))
	if since := v.Since(v.Self.Primary); !since.Equal(today) || !v.Self.Change.Since().Equal(today) {
		t.Errorf("p is primary since %v, by its last change since %v; want %v", since, v.Self.Change.Since(), today)
	}
	// m succeeds it, above its timestamp.
	wall := today.Add(time.Minute)
	now := at(3 * 60_000)
	var claim election.Claim
	for _, out := range m.Step(election.Reading{Now: now, Wall: wall.UnixNano()}, election.Tick{}) {
		if c, ok := out.(election.SendClaim); ok {
			claim = c.Request.Claim
		}
	}
	if claim.Timestamp <= ahead.UnixNano() {
		t.Fatalf("it claims %v, which is not above %v", claim.Time(), ahead)
	}
	m.Step(election.Reading{Now: now, Wall: wall.UnixNano()}, election.AnswerReceived{
		Answer: election.ClaimAnswer{From: heard("b", "b"), Claim: claim, Granted: true}, SentAt: now,
	})
	v = m.View(now)
	if !v.IsPrimary() || !v.Since(claim).Equal(wall) {
		t.Errorf("role %s, since %v, want %v", v.Self.Role, v.Since(claim), wall)
	}
	if s := m.Status(now); !s.Change.WonAt.IsZero() {
		t.Error("what is sent to others has a field that version 1.0.0 refuses")
	}
}

// A clock that runs behind when a replica learns of a term does not put it before its timestamp's time.
func TestATermIsAsOldAsItsTimestamp(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	m := election.New(election.Config{Self: "m", Name: "m", Lease: lease, Replicas: 3}, election.Reading{Wall: now.UnixNano()})
	p := heard("p", "p")
	p.Role, p.Primary, p.Remaining = election.Primary, election.Claim{Timestamp: now.Add(-time.Hour).UnixNano(), Replica: "p"}, lease
	m.Step(election.Reading{Wall: now.UnixNano()}, election.StatusReceived{Status: p})
	if v := m.View(at(0)); !v.Since(p.Primary).Equal(now.Add(-time.Hour)) {
		t.Errorf("it is primary since %v", v.Since(p.Primary))
	}
}

// One that has just started learns what was before its time, and that is no news.
func TestHistoryOfOthersIsTakenInSilently(t *testing.T) {
	t.Parallel()
	m := election.New(election.Config{Self: "m", Name: "m", Lease: lease, Replicas: 3}, election.Reading{})
	change := func(n int64) election.Change {
		return election.Change{Claim: election.Claim{Timestamp: n, Replica: "p"}, Name: "p", Reason: election.ReasonShutdown}
	}
	m.Step(election.Reading{Now: 1, Wall: 9000}, election.StatusReceived{SentAt: 1, Status: election.Status{
		Protocol: election.Protocol, Replica: "p", Name: "p", Role: election.Primary, Lease: lease,
		Primary: election.Claim{Timestamp: 5000, Replica: "p"}, PrimaryName: "p", Remaining: lease, Change: change(5000),
	}})
	// Twice, and with one that comes with a status.
	for range 2 {
		outs := m.Step(election.Reading{Now: 2, Wall: 9000}, election.HistoryReceived{History: election.History{
			Changes: []election.Change{change(3000), change(4000), change(5000), change(6000)},
		}})
		for _, out := range outs {
			if _, told := out.(election.PrimaryChanged); told {
				t.Errorf("it is told: %+v", out)
			}
		}
	}
	var got []int64
	for _, c := range m.View(3).History {
		got = append(got, c.Claim.Timestamp)
		if c.WonAt.UnixNano() != c.Claim.Timestamp {
			t.Errorf("%d was won at %v", c.Claim.Timestamp, c.WonAt)
		}
	}
	if want := []int64{3000, 4000, 5000}; !slices.Equal(got, want) {
		t.Errorf("it knows %v, want %v", got, want)
	}
	var many election.History
	for n := range int64(200) {
		many.Changes = append(many.Changes, change(1000+n))
	}
	m.Step(election.Reading{Now: 4, Wall: 9000}, election.HistoryReceived{History: many})
	if all := m.View(5).History; len(all) != 100 || all[99].Claim.Timestamp != 5000 {
		t.Errorf("it knows %d changes, the last %v", len(all), all[len(all)-1].Claim)
	}
}

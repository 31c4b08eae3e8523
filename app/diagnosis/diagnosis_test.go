package diagnosis

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"habot/app/election"
)

// status is a healthy replica's.
func status(name string, role election.Role) election.Status {
	return election.Status{Replica: election.ReplicaID("id-" + name), Name: name, Role: role, Lease: 550 * time.Millisecond, Health: election.Health{OK: true}}
}

// view is what r1 knows: r2 is primary, r3 stands by. change says what is otherwise.
func view(change func(v *election.View)) election.View {
	v := election.View{Mode: "primary-backup", Self: status("r1", election.Standby), Expected: 3, Reachable: 3, Quorum: 2}
	v.Self.Primary, v.Self.PrimaryName = election.Claim{Timestamp: 5, Replica: "id-r2"}, "r2"
	v.Peers = []election.Peer{
		{Status: status("r2", election.Primary), Reachable: true}, {Status: status("r3", election.Standby), Reachable: true},
	}
	if change != nil {
		change(&v)
	}
	return v
}

// alone has r1 in contact with no other replica, and following none.
func alone(v *election.View) {
	v.Self.Role, v.Self.Primary, v.Self.PrimaryName, v.Reachable = election.Looking, election.Claim{}, "", 1
	for i := range v.Peers {
		v.Peers[i].Reachable, v.Peers[i].Age = false, 12*time.Second
	}
}

// leads makes r1 primary.
func leads(v *election.View) {
	v.Self.Role, v.Self.Primary, v.Self.PrimaryName = election.Primary, election.Claim{Timestamp: 6, Replica: "id-r1"}, "r1"
	v.Peers[0].Status.Role = election.Standby
}

func both(f, g func(*election.View)) func(*election.View) {
	return func(v *election.View) { f(v); g(v) }
}

func TestOfAndUnready(t *testing.T) {
	t.Parallel()
	ill := election.Health{Detail: "polling Telegram fails: dial tcp:\n\n i/o timeout"}
	lost := func(v *election.View) { v.Reachable = 2; v.Peers[1].Reachable, v.Peers[1].Age = false, 90*time.Second }
	for _, c := range []struct {
		what     string
		facts    Facts
		state    State
		text     string
		unready  string
		problems []string
	}{
		{"all is well", Facts{View: view(nil)}, Answers, "the bot answers: r2 is primary", "", nil},
		{"all is well, seen by the primary", Facts{View: view(leads)}, Answers, "the bot answers: r1 is primary", "", nil},
		{"one is lost", Facts{View: view(lost)}, Answers, "the bot answers: r2 is primary", "",
			[]string{"r3 is not reachable, last contact 90 s ago", "the next failure stops the bot: 2 of 3 replicas reachable, 2 needed"}},
		{"one never came", Facts{View: view(func(v *election.View) { v.Reachable, v.Peers = 2, v.Peers[:1] })}, Answers, "the bot answers: r2 is primary", "",
			[]string{"1 of 3 replicas missing, no contact for a minute or ever", "the next failure stops the bot: 2 of 3 replicas reachable, 2 needed"}},
		{"no quorum", Facts{View: view(alone)}, NoPrimary, "no primary: 1 of 3 replicas reachable, 2 needed", "no primary: 1 of 3 replicas reachable, 2 needed",
			[]string{"r2 is not reachable, last contact 12 s ago", "r3 is not reachable, last contact 12 s ago"}},
		{"an election", Facts{View: view(func(v *election.View) { v.Self.Primary, v.Self.Role = election.Claim{}, election.Candidate })}, NoPrimary,
			"no primary: an election is under way, 3 of 3 replicas reachable, 2 needed", "no primary: an election is under way, 3 of 3 replicas reachable, 2 needed", nil},
		{"a start", Facts{View: view(func(v *election.View) { v.Self.Primary, v.Self.Role = election.Claim{}, election.Joining })}, NoPrimary,
			"no primary yet: this replica has just started", "no primary yet: this replica has just started", nil},
		{"an end", Facts{View: view(func(v *election.View) { v.Self.Primary, v.Self.Role = election.Claim{}, election.Leaving })}, NoPrimary,
			"no primary known: this replica is shutting down", "no primary known: this replica is shutting down", nil},
		{"an end beside a primary", Facts{View: view(func(v *election.View) { v.Self.Role = election.Leaving })}, Answers, "the bot answers: r2 is primary", "this replica is leaving", nil},
		{"the token, seen by a probe", Facts{View: view(nil), Trouble: TroubleToken}, Refused, TroubleToken.Text(), TroubleToken.Text(), nil},
		{"another poller, seen by the primary", Facts{View: view(leads), Trouble: TroubleConflict}, Refused, TroubleConflict.Text(), TroubleConflict.Text(), nil},
		{"another poller, seen by a standby", Facts{View: view(func(v *election.View) { v.Peers[0].Status.Health.Detail = TroubleConflict.Text() })},
			Refused, TroubleConflict.Text(), TroubleConflict.Text(), nil},
		{"a webhook, reported by another standby", Facts{View: view(func(v *election.View) { v.Peers[1].Status.Health.Detail = TroubleWebhook.Text() })},
			Answers, "the bot answers: r2 is primary", "", nil},
		{"the primary is cut off from Telegram", Facts{View: view(func(v *election.View) { v.Peers[0].Status.Health = ill })}, Unreachable,
			"the primary r2 does not reach Telegram: polling Telegram fails: dial tcp: i/o timeout", "",
			[]string{"r2 does not reach Telegram: polling Telegram fails: dial tcp: i/o timeout"}},
		{"a new primary has no answer yet", Facts{View: view(func(v *election.View) { v.Peers[0].Status.Health.Detail = Unanswered })}, Unreachable,
			"the primary r2 does not reach Telegram: " + Unanswered, "", nil},
		{"a new standby has no answer yet", Facts{View: view(func(v *election.View) { v.Peers[1].Status.Health.Detail = Unanswered })}, Answers,
			"the bot answers: r2 is primary", "", nil},
		{"this primary is cut off from Telegram", Facts{View: view(both(leads, func(v *election.View) { v.Self.Health = ill }))}, Unreachable,
			"the primary r1 does not reach Telegram: polling Telegram fails: dial tcp: i/o timeout", "polling Telegram fails: dial tcp: i/o timeout",
			[]string{"r1 does not reach Telegram: polling Telegram fails: dial tcp: i/o timeout"}},
		{"a standby is cut off from Telegram", Facts{View: view(func(v *election.View) { v.Self.Health = ill })}, Answers, "the bot answers: r2 is primary",
			"polling Telegram fails: dial tcp: i/o timeout", []string{"r1 does not reach Telegram: polling Telegram fails: dial tcp: i/o timeout"}},
		{"the primary's poller stalls", Facts{View: view(leads), Failing: []string{"poller"}}, Failing, "components of this replica fail: poller", "components of this replica fail: poller",
			[]string{"components of this replica fail: poller"}},
		{"a standby's server stalls", Facts{View: view(nil), Failing: []string{"peer server", "watchdog"}}, Answers, "the bot answers: r2 is primary",
			"components of this replica fail: peer server, watchdog", []string{"components of this replica fail: peer server, watchdog"}},
		{"others differ", Facts{View: view(func(v *election.View) {
			v.Reachable, v.Peers = 2, v.Peers[:1]
			v.Mismatched = []election.Mismatched{{Name: "r3", Reason: election.RefusedLease, Theirs: "2s"}}
		}), Incompatible: []string{"10.0.0.7:7175: another bot"}}, Answers, "the bot answers: r2 is primary", "",
			[]string{"incompatible replica r3: it has LEASE=2s, here it is 550ms", "incompatible instance 10.0.0.7:7175: another bot",
				"the next failure stops the bot: 2 of 3 replicas reachable, 2 needed"}},
		{"two protocols", Facts{View: view(both(alone, func(v *election.View) {
			v.Peers, v.Mismatched = nil, []election.Mismatched{{Name: "r2", Reason: election.RefusedProtocol, Theirs: "another version of the protocol"}}
		}))}, NoPrimary, "no primary: 1 of 3 replicas reachable, 2 needed", "no primary: 1 of 3 replicas reachable, 2 needed",
			[]string{"incompatible replica r2: it has another version of the protocol", "1 of 3 replicas missing, no contact for a minute or ever"}},
		{"two of two", Facts{View: view(func(v *election.View) { v.Expected, v.Reachable, v.Peers = 2, 2, v.Peers[:1] })}, Answers, "the bot answers: r2 is primary", "", nil},
	} {
		v := Of(c.facts)
		if v.State != c.state || v.Text != c.text || !slices.Equal(v.Problems, c.problems) || v.OK() != (c.state == Answers) {
			t.Errorf("%s: %q %q\n\t%q\nwant %q %q\n\t%q", c.what, v.State, v.Text, v.Problems, c.state, c.text, c.problems)
		}
		if got := Unready(c.facts); got != c.unready {
			t.Errorf("%s: unready because of %q, want %q", c.what, got, c.unready)
		}
		for _, l := range append(v.Problems, v.Text, Unready(c.facts)) {
			if strings.ContainsAny(l, "\n\t") {
				t.Errorf("%s: not one line: %q", c.what, l)
			}
		}
	}
}

// A replica that starts again has another id: what is left of its earlier life is no replica that is missing.
func TestAnEarlierLifeIsNoReplica(t *testing.T) {
	t.Parallel()
	v := view(func(v *election.View) {
		for _, name := range []string{"r1", "r3", "r4", "r4"} {
			earlier := status(name, election.Primary)
			earlier.Replica += "-earlier"
			v.Peers = append(v.Peers, election.Peer{Status: earlier, Age: 10 * time.Second})
		}
	})
	var got []string
	for _, p := range Replicas(v) {
		got = append(got, fmt.Sprint(p.Status.Name, " ", p.Reachable))
	}
	if want := []string{"r1 true", "r2 true", "r3 true", "r4 false"}; !slices.Equal(got, want) {
		t.Errorf("replicas: %q, want %q", got, want)
	}
	if got, want := Of(Facts{View: v}).Problems, []string{"r4 is not reachable, last contact 10 s ago"}; !slices.Equal(got, want) {
		t.Errorf("problems: %q, want %q", got, want)
	}
	v.Peers, v.Reachable = v.Peers[2:], 1
	if got := Missing(v); got != 0 {
		t.Errorf("%d missing: r3 and r4 are known", got)
	}
	v.Peers = v.Peers[:1] // r1's own earlier life
	if got := Missing(v); got != 2 {
		t.Errorf("%d missing, want r2 and r3", got)
	}
	if got := objection(v, "r1"); got != "" && !strings.Contains(got, "r1") {
		t.Errorf("to r1: %q", got)
	}
}

func TestATextFromElsewhereIsPartOfOneLine(t *testing.T) {
	t.Parallel()
	got := line(strings.Repeat("ä\n\t ", 200))
	if strings.ContainsAny(got, "\n\t") || len(got) > longest+3 || !strings.HasSuffix(got, "...") || strings.ContainsRune(got, '\uFFFD') {
		t.Errorf("%q", got)
	}
}

func TestObjectionsAreOneClearSentence(t *testing.T) {
	t.Parallel()
	unfit := view(func(v *election.View) {
		v.Peers[1].Status.Role = election.Joining
		v.Peers = append(v.Peers, election.Peer{Status: status("r4", election.Standby), Age: 12 * time.Second})
	})
	for _, c := range []struct {
		view       election.View
		name, want string
	}{
		{view(nil), "", ""}, {view(nil), "r3", ""}, {view(nil), "id-r3", ""}, {view(nil), "r1", ""}, {view(leads), "r2", ""},
		{view(nil), "r2", "r2 is primary already"}, {view(nil), "id-r2", "id-r2 is primary already"}, {view(leads), "r1", "r1 is primary already"},
		{view(nil), "r9", "there is no replica r9; there are r1, r2, r3"},
		{unfit, "r3", "r3 cannot take over now: it is joining"},
		{unfit, "r4", "r4 is not reachable, last contact 12 s ago"},
		{view(alone), "r3", "no primary: 1 of 3 replicas reachable, 2 needed"},
		{view(both(leads, func(v *election.View) { v.Peers[0].Reachable, v.Peers[1].Reachable, v.Reachable = false, false, 1 })), "",
			"no standby can take over: 1 of 3 replicas reachable, 2 needed"},
		{election.View{Mode: "bot-only", Self: status("r1", election.Primary)}, "", "there is no standby: MODE=bot-only"},
	} {
		if got := objection(c.view, c.name); got != c.want {
			t.Errorf("to %q: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestARefusalExplainsWhatTheAttemptMet(t *testing.T) {
	t.Parallel()
	chain := func(err error) error {
		return fmt.Errorf("ask the primary r2: ask 10.0.0.7:7175 for a switchover: %w", err)
	}
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"r9", chain(election.ErrNoSuccessor), "there is no replica r9; there are r1, r2, r3"},
		{"r3", chain(election.ErrNoSuccessor), "r3 cannot take over just now: it has not granted the primary's lease lately"},
		{"", chain(election.ErrNoSuccessor), "no standby can take over just now: none has granted the primary's lease lately"},
		{"r3", chain(election.ErrNotPrimary), "the primary is changing just now; try again"},
		{"r3", errors.Join(election.ErrNotPrimary), "the primary is changing just now; try again"},
	} {
		if got := Refusal(view(nil), c.name, c.err); got != c.want {
			t.Errorf("to %q, %v: %q, want %q", c.name, c.err, got, c.want)
		}
	}
}

func TestEveryReasonHasACause(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range election.Reasons() {
		for _, previous := range []string{"r1", ""} {
			got := Cause(election.Change{Previous: previous, Reason: r})
			if got == string(r) || strings.Contains(got, "  ") || previous != "" && seen[got] {
				t.Errorf("%s after %q: %q", r, previous, got)
			}
			seen[got] = true
		}
	}
	if got := Cause(election.Change{Previous: "r1", Reason: election.ReasonCrash, Witnessed: true}); got != "the process of r1 ended" {
		t.Errorf("witnessed: %q", got)
	}
	if got := Cause(election.Change{Previous: "r1", Reason: election.ReasonCrash}); got != "r1 stopped responding (crash, freeze or partition)" {
		t.Errorf("%q", got)
	}
}

func TestDurationsAreReadable(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0 ms", 0: "0 ms", 2300 * time.Microsecond: "2 ms", 434 * time.Millisecond: "0.43 s", 9990 * time.Millisecond: "9.99 s", 12400 * time.Millisecond: "12 s",
		99 * time.Second: "99 s", 100 * time.Second: "2 minutes", 80 * time.Minute: "80 minutes", 5 * time.Hour: "5 hours", 49 * time.Hour: "2 days",
	} {
		if got := Span(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
	if got := Downtime(election.Change{Reason: election.ReasonStart}); got != "unknown" {
		t.Errorf("a start: %s", got)
	}
	if got := Downtime(election.Change{Reason: election.ReasonShutdown}); got != "0 ms" {
		t.Errorf("a handover: %s", got)
	}
}

func TestTroublesAreFoundByTheirText(t *testing.T) {
	t.Parallel()
	for _, tr := range Troubles() {
		if tr.Text() == "" || TroubleOf(election.Health{OK: true, Detail: tr.Text()}) != tr || TroubleOf(election.Health{Detail: tr.Text()}) != "" {
			t.Errorf("%s: %q", tr, tr.Text())
		}
	}
	if TroubleOf(election.Health{OK: true}) != "" || TroubleOf(election.Health{OK: true, Detail: "else"}) != "" || Trouble("").Text() != "" {
		t.Error("there is trouble without a text")
	}
}

// A replica that reaches Telegram and no backend is not said to miss Telegram, and what Telegram refuses comes first.
func TestWithoutABackendUpdatesWait(t *testing.T) {
	t.Parallel()
	const why = "no backend takes updates: http://mybot:8000: connection refused"
	claim := election.Claim{Timestamp: 1, Replica: "a"}
	self := election.Status{Replica: "a", Name: "a", Role: election.Primary, Primary: claim, PrimaryName: "a", Health: election.Health{OK: true}}
	v := election.View{Self: self, Expected: 1, Reachable: 1, Quorum: 1}
	if got := Of(Facts{View: v, NoBackend: why}); got.State != Backendless || got.Text != "updates wait at Telegram: "+why+" (as seen by a)" {
		t.Errorf("seen by itself: %+v", got)
	}
	if got := Of(Facts{View: v, NoBackend: why, Trouble: TroubleToken}); got.State != Refused {
		t.Errorf("with a rejected token: %+v", got)
	}
	v.Self.Health = election.Health{Detail: why}
	if got := Of(Facts{View: v}); got.State != Backendless || len(got.Problems) != 1 || got.Problems[0] != "a reaches Telegram, but "+why {
		t.Errorf("by its health: %+v", got)
	}
	if got := Unready(Facts{View: v}); got != why {
		t.Errorf("not ready: %q", got)
	}
}

package diagnosis

import (
	"errors"
	"slices"
	"testing"

	"habot/app/election"
)

// witnesses makes replicas of a view witnesses, by name.
func witnesses(names ...string) func(*election.View) {
	return func(v *election.View) {
		if slices.Contains(names, v.Self.Name) {
			v.Self.Health = election.WitnessHealth()
		}
		for i := range v.Peers {
			if slices.Contains(names, v.Peers[i].Status.Name) {
				v.Peers[i].Status.Health = election.WitnessHealth()
			}
		}
	}
}

func TestAWitnessIsNoTroubleAndNoSpare(t *testing.T) {
	t.Parallel()
	leaderless := func(v *election.View) { v.Self.Role, v.Self.Primary = election.Looking, election.Claim{} }
	for _, c := range []struct {
		what     string
		view     election.View
		text     string
		unready  string
		problems []string
	}{
		{"two and this witness", view(witnesses("r1")), "the bot answers: r2 is primary", "", nil},
		{"two and another witness", view(witnesses("r3")), "the bot answers: r2 is primary", "", nil},
		{"one and two witnesses", view(witnesses("r1", "r3")), "the bot answers: r2 is primary", "",
			[]string{"the failure of r2 stops the bot: the others in contact are witnesses, which never are primary"}},
		{"one of two is lost", view(both(witnesses("r1"), func(v *election.View) { v.Reachable, v.Peers[1].Reachable = 2, false })), "the bot answers: r2 is primary", "",
			[]string{"r3 is not reachable, last contact 0 ms ago", "the next failure stops the bot: 2 of 3 replicas reachable, 2 needed"}},
		{"all witnesses", view(both(witnesses("r1", "r2", "r3"), leaderless)),
			"no primary: all replicas in contact are witnesses, which never are primary; one without WITNESS=true is needed, 3 of 3 replicas reachable, 2 needed",
			"no primary: all replicas in contact are witnesses, which never are primary; one without WITNESS=true is needed, 3 of 3 replicas reachable, 2 needed", nil},
		{"a witness alone", view(both(witnesses("r1"), alone)), "no primary: 1 of 3 replicas reachable, 2 needed", "no primary: 1 of 3 replicas reachable, 2 needed",
			[]string{"r2 is not reachable, last contact 12 s ago", "r3 is not reachable, last contact 12 s ago"}},
	} {
		f := Facts{View: c.view}
		if v := Of(f); v.Text != c.text || !slices.Equal(v.Problems, c.problems) {
			t.Errorf("%s: %q\n\t%q\nwant %q\n\t%q", c.what, v.Text, v.Problems, c.text, c.problems)
		}
		if got := Unready(f); got != c.unready {
			t.Errorf("%s: unready because of %q, want %q", c.what, got, c.unready)
		}
	}
}

func TestAWitnessIsCalledOne(t *testing.T) {
	t.Parallel()
	for role, want := range map[election.Role]string{election.Standby: "witness", election.Looking: "witness, looking", election.Joining: "witness, joining"} {
		s := status("r1", role)
		if got := Role(s); got != string(role) {
			t.Errorf("%s is called %s", role, got)
		}
		s.Health = election.WitnessHealth()
		if got := Role(s); got != want {
			t.Errorf("a witness that is %s is called %s, want %s", role, got, want)
		}
	}
	v := view(witnesses("r1", "r3"))
	v.Peers[1].Reachable = false
	if got := Witnesses(v); !slices.Equal(got, []string{"r1"}) {
		t.Errorf("witnesses in contact: %v", got)
	}
}

func TestARefusalNamesAWitness(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		view       election.View
		name, want string
	}{
		{view(witnesses("r3")), "r3", "r3 cannot take over: it is a witness, which votes and never is primary"},
		{view(witnesses("r1", "r3")), "id-r1", "id-r1 cannot take over: it is a witness, which votes and never is primary"},
		{view(both(witnesses("r2", "r3"), func(v *election.View) { leads(v); v.Peers[0].Status.Health = election.WitnessHealth() })), "",
			"no standby can take over: the others in contact are witnesses, which never are primary"},
		{view(both(witnesses("r3"), func(v *election.View) { leads(v); v.Reachable, v.Peers[0].Reachable = 2, false })), "",
			"no standby can take over: the others in contact are witnesses, which never are primary"},
		{view(witnesses("r3")), "r1", "r1 cannot take over just now: it has not granted the primary's lease lately"},
	} {
		if got := Refusal(c.view, c.name, errors.Join(election.ErrNoSuccessor)); got != c.want {
			t.Errorf("to %q: %q, want %q", c.name, got, c.want)
		}
	}
}

package simulator

import (
	"slices"
	"testing"
	"time"
)

func TestPollParametersAreClamped(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ limit, timeout, wantLimit, wantTimeout int }{
		{100, 0, 100, 0}, {1, 50, 1, 50}, {0, 51, 1, 50}, {-5, -1, 1, 0}, {101, 3600, 100, 50},
	} {
		var b bot
		got := b.begin(epoch(), pollRequest{limit: c.limit, timeout: c.timeout})
		if got.limit != c.wantLimit || got.timeout != c.wantTimeout {
			t.Errorf("limit %d, timeout %d became %d, %d; want %d, %d", c.limit, c.timeout, got.limit, got.timeout, c.wantLimit, c.wantTimeout)
		}
	}
}

func TestSameOffsetAgainSoonWaitsAndGetsLittle(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after                  time.Duration
		offset, timeout        int
		wantLimit, wantTimeout int
	}{
		"at once":                     {0, 7, 0, 1, 3},
		"just within half a second":   {500*time.Millisecond - 1, 7, 0, 1, 3},
		"half a second later":         {500 * time.Millisecond, 7, 0, 100, 3},
		"just within three seconds":   {3*time.Second - 1, 7, 2, 100, 3},
		"three seconds later":         {3 * time.Second, 7, 0, 100, 0},
		"a timeout of three is kept":  {time.Second, 7, 3, 100, 3},
		"a longer timeout is kept":    {time.Second, 7, 30, 100, 30},
		"hasty with a longer timeout": {100 * time.Millisecond, 7, 30, 1, 30},
		"another offset":              {0, 8, 0, 100, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bot
			b.begin(epoch(), pollRequest{offset: 7, limit: 100})
			got := b.begin(epoch().Add(c.after), pollRequest{offset: c.offset, limit: 100, timeout: c.timeout})
			if got.limit != c.wantLimit || got.timeout != c.wantTimeout {
				t.Errorf("limit %d, timeout %d; want %d, %d", got.limit, got.timeout, c.wantLimit, c.wantTimeout)
			}
		})
	}
}

func TestFirstPollOfAllIsNotTakenForARepetition(t *testing.T) {
	t.Parallel()
	var b bot
	if got := b.begin(epoch(), pollRequest{offset: 0, limit: 100}); got.limit != 100 || got.timeout != 0 {
		t.Errorf("limit %d, timeout %d; want 100, 0", got.limit, got.timeout)
	}
}

func TestFurtherConflictsWithinThreeSecondsAreLate(t *testing.T) {
	t.Parallel()
	var b bot
	for _, c := range []struct {
		at   time.Duration
		want time.Duration
	}{
		{0, 0}, {time.Second, 3 * time.Second}, {3*time.Second - 1, 3 * time.Second},
		{3 * time.Second, 0}, // a late one does not put off the next immediate one
		{5 * time.Second, 3 * time.Second}, {6 * time.Second, 0},
	} {
		if got := b.conflictDelay(epoch().Add(c.at)); got != c.want {
			t.Errorf("a conflict at %s is late by %s, want %s", c.at, got, c.want)
		}
	}
}

func TestAllowedUpdatesAreRemembered(t *testing.T) {
	t.Parallel()
	var b bot
	expect := func(when string, want map[string]bool) {
		t.Helper()
		for kind, taken := range want {
			if b.takes(kind) != taken {
				t.Errorf("%s: takes %s is %t", when, kind, !taken)
			}
		}
	}
	standard := map[string]bool{"message": true, "callback_query": true, "my_chat_member": true, "chat_member": false, "message_reaction": false, "message_reaction_count": false}
	expect("by default", standard)
	b.begin(epoch(), pollRequest{limit: 1, allowed: []string{"chat_member", "Callback_Query", "no_such_kind"}})
	named := map[string]bool{"message": false, "callback_query": true, "chat_member": true, "no_such_kind": false}
	expect("once named", named)
	b.begin(epoch(), pollRequest{limit: 1})
	expect("absent", named)
	b.begin(epoch(), pollRequest{limit: 1, allowed: []string{}})
	expect("empty", standard)
	b.begin(epoch(), pollRequest{limit: 1, allowed: []string{"message"}})
	b.begin(epoch(), pollRequest{limit: 1, allowed: []string{"no_such_kind"}})
	expect("none known", standard)
}

func TestEveryOptInKindIsAKind(t *testing.T) {
	t.Parallel()
	for _, k := range optIn() {
		if !slices.Contains(allowedKinds(), k) {
			t.Errorf("%s is none of the kinds", k)
		}
	}
}

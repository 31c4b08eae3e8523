package diagnosis

import (
	"slices"
	"testing"
	"time"
)

// reports are the seconds at which a verdict is reported that changes at the seconds given, in turn.
func reports(end int, lease time.Duration, states ...any) (at []int) {
	var r Report
	state := State("")
	start := time.Unix(1_800_000_000, 0)
	for s := range end {
		for i := 0; i < len(states); i += 2 {
			if states[i] == s {
				state = states[i+1].(State)
			}
		}
		if r.Observe(start.Add(time.Duration(s)*time.Second), Verdict{State: state}, lease) {
			at = append(at, s)
		}
	}
	return at
}

func TestAVerdictThatStaysIsReportedOnce(t *testing.T) {
	t.Parallel()
	const lease = time.Second
	for _, c := range []struct {
		what   string
		states []any
		want   []int
	}{
		{"a start", []any{0, NoPrimary, 2, Answers}, []int{2}},
		{"a start without a quorum", []any{0, NoPrimary}, []int{6}},
		{"a takeover", []any{0, Answers, 20, NoPrimary, 22, Answers}, []int{0}},
		{"an absence", []any{0, Answers, 20, NoPrimary, 50, Answers}, []int{0, 26, 56}},
		{"an absence that becomes a refusal", []any{0, Answers, 20, NoPrimary, 30, Refused, 50, Answers}, []int{0, 26, 36, 56}},
		{"flapping", []any{0, Answers, 10, NoPrimary, 13, Answers, 16, NoPrimary, 19, Answers, 22, NoPrimary, 25, Answers}, []int{0}},
		{"flapping while it is bad", []any{0, Answers, 10, NoPrimary, 20, Answers, 22, NoPrimary, 24, Answers, 26, NoPrimary}, []int{0, 16}},
	} {
		if got := reports(100, lease, c.states...); !slices.Equal(got, c.want) {
			t.Errorf("%s: reported after %v s, want %v", c.what, got, c.want)
		}
	}
	if got := reports(300, time.Minute, 0, Answers, 10, NoPrimary); !slices.Equal(got, []int{0, 193}) {
		t.Errorf("with a lease of a minute reported after %v s", got)
	}
}

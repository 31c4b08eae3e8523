package reach

import (
	"testing"
	"time"
)

// step is what becomes known of backends, and whether health is bad then.
type step struct {
	at   time.Duration
	gone bool // what is known from then on
	look time.Duration
	bad  bool
}

func TestHealthForWantOfBackends(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for name, tt := range map[string]struct {
		polling bool
		steps   []step
	}{
		"a standby says so at once, and is well after a while": {false, []step{
			{0, true, 0, true}, {20 * s, false, 20 * s, true}, {20 * s, false, 20*s + wellFor - 1, true}, {20 * s, false, 20*s + wellFor, false},
		}},
		"a primary says so after a while, and is well at once": {true, []step{
			{0, true, failingFor - 1, false}, {0, true, failingFor, true}, {20 * s, false, 20 * s, false},
		}},
		"a standby whose backends come and go stays bad": {false, []step{
			{0, true, 0, true}, {5 * s, false, 6 * s, true}, {8 * s, true, 9 * s, true}, {10 * s, false, 16 * s, true}, {10 * s, false, 17 * s, false},
		}},
		"a primary whose backends come and go stays well": {true, []step{
			{0, true, 5 * s, false}, {6 * s, false, 6 * s, false}, {7 * s, true, 13 * s, false}, {7 * s, true, 7*s + failingFor, true},
		}},
		"a new absence is counted anew": {false, []step{
			{0, true, 0, true}, {1 * s, false, 30 * s, false}, {60 * s, true, 60 * s, true},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			tr := tracker{polling: tt.polling}
			for _, s := range tt.steps {
				why := ""
				if s.gone {
					why = "no backend takes updates: x"
				}
				tr.backends.seen(start.Add(s.at), tr.polling, why)
				now := start.Add(s.look)
				if h := tr.health(now); h.OK == s.bad || h.Detail != "" && h.Detail != "no backend takes updates: x" {
					t.Errorf("after %v: %+v, want bad: %t", s.look, h, s.bad)
				}
				if next := tr.changes(now); !next.IsZero() && tr.health(next).OK == tr.health(now).OK {
					t.Errorf("after %v: health is said to change at %v, and does not", s.look, next.Sub(start))
				}
				tr.reached() // a poll that succeeds says nothing of backends
			}
		})
	}
}

// When all backends go, or come back, each standby knows before the primary would look for a healthy one.
func TestStandbysKnowOfBackendsBeforeThePrimaryActs(t *testing.T) {
	t.Parallel()
	const (
		noticed = 6 * time.Second // a probe every five seconds that is given one
		told    = 2 * 4500 * time.Millisecond / 5
		back    = 3 * time.Second // a probe every two seconds, given one
	)
	if noticed+told >= failingFor {
		t.Error("a primary may look for a healthy standby before all have said that they reach no backend")
	}
	if back >= wellFor {
		t.Error("a standby may say that it reaches a backend before the primary knows that it does")
	}
}

package reach

import (
	"testing"
	"time"
)

// A poll that Telegram takes in but delays is not one that failed before its answer was due.
func TestTrackerCountsFromWhenAnAnswerWasDue(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, tt := range []struct{ due, since time.Duration }{{-3 * time.Second, -3 * time.Second}, {0, 0}, {2 * time.Second, 0}} {
		var tr tracker
		tr.pollFailed(now, now.Add(tt.due), "x")
		tr.pollFailed(now.Add(time.Second), now, "y")
		turns := now.Add(tt.since + failingFor)
		if !tr.turnsBad().Equal(turns) || !tr.health(turns.Add(-1)).OK || tr.health(turns).OK {
			t.Errorf("due %v from the first failure: health turns bad at %v, want %v", tt.due, tr.turnsBad(), turns)
		}
	}
}

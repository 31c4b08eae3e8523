package telegram

import (
	"testing"
	"time"
)

func TestLagFollowsTheSlowestAndFades(t *testing.T) {
	t.Parallel()
	var l Lag
	if got := l.Bound(time.Second, time.Minute); got != time.Second {
		t.Errorf("knowing nothing the bound is %v", got)
	}
	for _, step := range []struct{ saw, bound time.Duration }{
		{100 * time.Millisecond, time.Second}, {4 * time.Second, 8 * time.Second}, {100 * time.Millisecond, 4 * time.Second}, {time.Second, 2 * time.Second},
		{time.Hour, time.Minute},
	} {
		l.Saw(step.saw)
		if got := l.Bound(time.Second, time.Minute); got != step.bound {
			t.Errorf("after an answer of %v the bound is %v, want %v", step.saw, got, step.bound)
		}
	}
}

package service

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAPartThatKeepsItsPromisesIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(100 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var poller sync.WaitGroup
		poller.Go(func() {
			for ctx.Err() == nil {
				w.within("poller", time.Second)
				time.Sleep(900 * time.Millisecond)
			}
		})
		if err := w.run(ctx); err != nil {
			t.Errorf("the watch complains: %v", err)
		}
		poller.Wait()
	})
}

func TestAPartThatStallsIsNoticedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(100 * time.Millisecond)
		w.within("election", 750*time.Millisecond)
		w.within("poller", time.Hour)
		start := time.Now()
		err := w.run(t.Context())
		if !errors.Is(err, errStalled) || !strings.Contains(err.Error(), "election") || strings.Contains(err.Error(), "poller") {
			t.Errorf("the watch says %v", err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("noticed after %v", took)
		}
		if failing := w.failing(); !slices.Equal(failing, []string{"election"}) {
			t.Errorf("failing: %v", failing)
		}
	})
}

func TestAPartThatIsExcusedOwesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(100 * time.Millisecond)
		w.within("poller", time.Second)
		w.excuse("poller")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := w.run(ctx); err != nil {
			t.Errorf("the watch complains: %v", err)
		}
	})
}

func TestAPromiseOfNothingEndsAPartsPromiseAndIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWatch(time.Second)
	w.promise("chat 1", time.Millisecond)
	w.promise("chat 2", time.Hour)
	w.promise("chat 1", 0)
	if late := w.look(time.Now().Add(time.Minute), 0); len(late) > 0 {
		t.Errorf("overdue: %v", late)
	}
	if len(w.heard) != 1 || len(w.due) != 1 {
		t.Errorf("remembered: %v, %v", w.heard, w.due)
	}
}

// A process that was frozen, or starved, wakes up with every promise broken: that is nobody's fault.
func TestTimeInWhichTheWatchSleptCountsForNobody(t *testing.T) {
	t.Parallel()
	w := newWatch(100 * time.Millisecond)
	w.within("election", 750*time.Millisecond)
	later := time.Now().Add(time.Minute)
	if late := w.look(later, time.Minute-100*time.Millisecond); len(late) > 0 {
		t.Errorf("after a freeze: %v", late)
	}
	if late := w.look(later.Add(2*time.Second), 0); !slices.Equal(late, []string{"election"}) {
		t.Errorf("after a freeze and two seconds of silence: %v", late)
	}
}

func TestADeadPartIsFailingForGood(t *testing.T) {
	t.Parallel()
	w := newWatch(time.Second)
	w.within("peer server", time.Hour)
	w.died("peer server")
	if got := w.failing(); !slices.Equal(got, []string{"peer server"}) {
		t.Errorf("failing: %v", got)
	}
}

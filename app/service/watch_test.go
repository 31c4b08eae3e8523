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

// reported is when a watch that is late by late(i) at its i-th look reports a part that promised to show a sign of
// life within d, and then stalled; counted from the promise. It gives up after a minute.
func reported(t *testing.T, w *watch, d time.Duration, late func(look int) time.Duration) time.Duration {
	t.Helper()
	start := time.Unix(1_800_000_000, 0)
	w.due["stalled"], w.heard["stalled"] = start.Add(d), start
	now := start
	for i := 0; now.Sub(start) < time.Minute; i++ {
		planned := w.next(now)
		now = planned.Add(late(i))
		if parts := w.look(now, now.Sub(planned)); len(parts) > 0 {
			return now.Sub(start)
		}
	}
	t.Errorf("a part that stalls was not reported in %v", now.Sub(start))
	return now.Sub(start)
}

// A watch that is itself late gives a promise grace, once: never more than a lease.
func TestAStalledPartIsReportedHoweverLateTheWatchIs(t *testing.T) {
	t.Parallel()
	const lease = 550 * time.Millisecond
	const patience = 13 * lease / 20
	for _, late := range []time.Duration{
		0, 50 * time.Microsecond, 110 * time.Microsecond, 120 * time.Microsecond, time.Millisecond, 10 * time.Millisecond, 11 * time.Millisecond,
		20 * time.Millisecond, 90 * time.Millisecond, 300 * time.Millisecond, lease,
	} {
		constant := func(int) time.Duration { return late }
		jitter := func(i int) time.Duration { return late * time.Duration(i*7919%101) / 100 }
		rarely := func(i int) time.Duration { return late * time.Duration(i%2) }
		for name, f := range map[string]func(int) time.Duration{"constant": constant, "jitter": jitter, "every other": rarely} {
			w := newWatch(lookEvery(lease))
			took := reported(t, w, patience, f)
			if most := patience + lease + late + 2*time.Millisecond; took < patience || took > most {
				t.Errorf("late by %v, %s: reported after %v, want %v to %v", late, name, took, patience, most)
			}
			if most := patience + late + 2*time.Millisecond; late < lookEvery(lease)/10 && took > most {
				t.Errorf("late by %v, %s: reported after %v, want %v at most", late, name, took, most)
			}
		}
	}
}

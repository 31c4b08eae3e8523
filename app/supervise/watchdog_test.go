package supervise

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const lease = 500 * time.Millisecond

func TestAComponentThatKeepsItsPromisesIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWatchdog(lease)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var poller sync.WaitGroup
		poller.Go(func() {
			for ctx.Err() == nil {
				w.Expect("poller", time.Second)
				time.Sleep(900 * time.Millisecond)
			}
		})
		if err := w.Run(ctx); err != nil {
			t.Errorf("the watchdog complains: %v", err)
		}
		poller.Wait()
	})
}

func TestAComponentThatStallsIsNoticedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWatchdog(lease)
		w.Expect("election", 750*time.Millisecond)
		w.Expect("poller", time.Hour)
		start := time.Now()
		err := w.Run(t.Context())
		if !errors.Is(err, ErrStalled) || !strings.Contains(err.Error(), "election") || strings.Contains(err.Error(), "poller") {
			t.Errorf("the watchdog reports %v", err)
		}
		if took := time.Since(start); took > 752*time.Millisecond {
			t.Errorf("noticed after %v", took)
		}
		if failing := w.Failing(); !slices.Equal(failing, []string{"election"}) {
			t.Errorf("failing: %v", failing)
		}
	})
}

func TestAComponentThatIsClearedOwesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWatchdog(lease)
		w.Expect("poller", time.Second)
		w.Clear("poller")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := w.Run(ctx); err != nil {
			t.Errorf("the watchdog complains: %v", err)
		}
	})
}

func TestAPromiseOfNothingEndsAComponentsPromiseAndIsForgotten(t *testing.T) {
	t.Parallel()
	w := NewWatchdog(lease)
	w.Expect("chat 1", time.Millisecond)
	w.Expect("chat 2", time.Hour)
	w.Expect("chat 1", 0)
	if late := w.check(time.Now().Add(time.Minute), 0); len(late) > 0 {
		t.Errorf("overdue: %v", late)
	}
	if len(w.expected) != 1 {
		t.Errorf("remembered: %v", w.expected)
	}
}

func TestADeadComponentIsFailingForGood(t *testing.T) {
	t.Parallel()
	w := NewWatchdog(lease)
	w.Expect("peer server", time.Hour)
	w.Died("peer server")
	if got := w.Failing(); !slices.Equal(got, []string{"peer server"}) {
		t.Errorf("failing: %v", got)
	}
}

// run is a watchdog in time of its own: it looks whether a component that is silent keeps its promise.
type run struct {
	*Watchdog
	start, now time.Time
}

// silent begins a run in which a component promises a sign of life within d and gives none.
func silent(lease, d time.Duration) *run {
	start := time.Unix(1_800_000_000, 0)
	r := &run{NewWatchdog(lease), start, start}
	r.expected["silent"] = &promise{made: start, due: start.Add(d)}
	return r
}

// check lets the watchdog check once, late; true if it reports the component.
func (r *run) check(late time.Duration) bool {
	planned := r.next(r.now)
	r.now = planned.Add(late)
	return len(r.Watchdog.check(r.now, late)) > 0
}

// reported is how long after its promise the component is reported if the watchdog is late by late(i) at its i-th
// check. It gives up after a minute.
func reported(t *testing.T, lease, d time.Duration, late func(check int) time.Duration) time.Duration {
	t.Helper()
	r := silent(lease, d)
	for i := 0; !r.check(late(i)); i++ {
		if r.now.Sub(r.start) > time.Minute {
			t.Errorf("a component that stalls was not reported in %v", r.now.Sub(r.start))
			break
		}
	}
	return r.now.Sub(r.start)
}

// lateness is how late a watchdog is, check by check.
type lateness struct {
	name string
	at   func(check int) time.Duration
}

// latenesses are ways of being late by at most d.
func latenesses(d time.Duration) []lateness {
	return []lateness{
		{fmt.Sprintf("always %v", d), func(int) time.Duration { return d }},
		{fmt.Sprintf("jitter up to %v", d), func(i int) time.Duration { return d * time.Duration((i*7919+37)%101) / 100 }},
		{fmt.Sprintf("%v at every other check", d), func(i int) time.Duration { return d * time.Duration(i%2) }},
		{fmt.Sprintf("%v more and more often", d), func(i int) time.Duration { return d * time.Duration(min(1, i/3)) }},
	}
}

// A watchdog that is itself late gives a promise grace once: a lease at most for all its checks together.
func TestAStalledComponentIsReportedHoweverLateTheWatchdogIs(t *testing.T) {
	t.Parallel()
	for _, lease := range []time.Duration{200 * time.Millisecond, 550 * time.Millisecond, 4 * time.Second} {
		patience, jitter := Patience(lease), lease/50
		for _, d := range []time.Duration{
			0, 50 * time.Microsecond, 110 * time.Microsecond, 120 * time.Microsecond, time.Millisecond, jitter - 1, jitter, 2 * jitter, lease / 6, lease / 2, lease,
		} {
			for _, late := range latenesses(d) {
				took := reported(t, lease, patience, late.at)
				most := patience + time.Millisecond + d
				if d >= jitter {
					most += min(wakeUps*d, lease)
				}
				if took < patience || took > most {
					t.Errorf("lease %v, late %s: reported after %v, want %v to %v", lease, late.name, took, patience, most)
				}
			}
		}
	}
}

// A process that is frozen again and again gets on only while it runs: that time is bounded.
func TestAStalledComponentIsReportedInAProcessThatIsFrozenAgainAndAgain(t *testing.T) {
	t.Parallel()
	const lease = 550 * time.Millisecond
	for _, freeze := range []time.Duration{lease + 1, 2 * time.Second, time.Hour} {
		for _, late := range latenesses(freeze) {
			r := silent(lease, Patience(lease))
			awake := time.Duration(0)
			for i := 0; ; i++ {
				d, before := late.at(i), r.now
				over := r.check(d)
				awake += r.now.Sub(before) - d
				if over {
					break
				}
			}
			if most := Patience(lease) + 2*lease + time.Millisecond; awake > most {
				t.Errorf("frozen %s: reported after the process had run for %v, want %v at most", late.name, awake, most)
			}
		}
	}
}

// A process that was frozen, or starved, wakes up with every promise broken: no component is at fault.
func TestTimeInWhichTheProcessSleptCountsForNoComponent(t *testing.T) {
	t.Parallel()
	r := silent(lease, 750*time.Millisecond)
	for range 5 { // it never gets to run for long between two freezes
		if r.check(time.Minute) {
			t.Fatalf("reported after %v, of which the process was frozen for all but 100 ms at a time", r.now.Sub(r.start))
		}
	}
	for r.now = r.now.Add(0); !r.check(0); {
		if r.now.Sub(r.start) > 5*time.Minute+3*time.Second {
			t.Fatal("not reported after the freezes")
		}
	}
}

// On a starved machine each step of a component is as late as the watchdog.
func TestAComponentOnAStarvedMachineIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, late := range []time.Duration{0, lease / 50, lease / 20, lease / 10} {
		r := silent(lease, 300*time.Millisecond)
		answers := r.start.Add(290*time.Millisecond + wakeUps*late)
		for r.now.Before(answers) {
			if r.check(late) && r.now.Before(answers) {
				t.Errorf("late by %v: reported after %v, although it would have answered after %v", late, r.now.Sub(r.start), answers.Sub(r.start))
				break
			}
		}
	}
}

// The watchdog wakes up from a freeze after a component that has already given a sign of life since.
func TestAFreezeBeforeAPromiseDoesNotPutItOff(t *testing.T) {
	t.Parallel()
	w := NewWatchdog(lease)
	woke := time.Unix(1_800_000_000, 0)
	w.expected["election"] = &promise{made: woke, due: woke.Add(time.Second)}
	if failing := w.check(woke.Add(time.Millisecond), time.Hour); len(failing) > 0 {
		t.Errorf("failing: %v", failing)
	}
	if failing := w.check(woke.Add(1100*time.Millisecond), 0); !slices.Equal(failing, []string{"election"}) {
		t.Errorf("failing: %v, 1.1 s after a promise of one second", failing)
	}
}

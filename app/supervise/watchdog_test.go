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

// What an idle replica costs is how often it wakes: components that renew their promises when something else has woken it are not
// checked.
func TestPromisesThatAreRenewedInTimeWakeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWatchdog(lease)
		w.Expect("poller", time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			for ctx.Err() == nil {
				w.Expect("election", Patience(lease))
				w.Expect("peer server", Patience(lease))
				time.Sleep(2 * Patience(lease) / 3)
			}
		})
		if err := w.Run(ctx); err != nil {
			t.Errorf("the watchdog complains: %v", err)
		}
		all.Wait()
		if checked := w.expected["poller"].checked; !checked.IsZero() {
			t.Errorf("it checked, the last time %v before the end", time.Since(checked))
		}
	})
}

// A promise that is made while the watchdog waits for a later check is watched from its start.
func TestAPromiseThatIsMadeLaterIsNoticedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWatchdog(lease)
		w.Expect("poller", time.Hour)
		start := time.Now()
		time.AfterFunc(10*time.Millisecond, func() { w.Expect("election", 100*time.Millisecond) })
		if err := w.Run(t.Context()); !errors.Is(err, ErrStalled) {
			t.Errorf("the watchdog reports %v", err)
		}
		if took := time.Since(start); took > 112*time.Millisecond {
			t.Errorf("noticed after %v", took)
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
	// awake is the time that has passed without that by which checks came late.
	awake time.Duration
}

// silent begins a run in which a component promises a sign of life within d and gives none.
func silent(lease, d time.Duration) *run {
	start := time.Unix(1_800_000_000, 0)
	r := &run{NewWatchdog(lease), start, start, 0}
	r.expected["silent"] = &promise{made: start, due: start.Add(d)}
	return r
}

// check lets the watchdog check once, late; true if it reports the component.
func (r *run) check(late time.Duration) bool {
	planned, _ := r.next(r.now)
	r.awake += planned.Sub(r.now)
	r.now = planned.Add(late)
	return len(r.Watchdog.check(r.now, late)) > 0
}

// freeze lets the process run for a while and then freezes it for d; true if the watchdog, which wakes with it, reports the
// component. A check that falls into the time in which the process runs must not.
func (r *run) freeze(ran, d time.Duration) bool {
	frozen := r.now.Add(ran)
	for {
		planned, _ := r.next(r.now)
		late := max(0, frozen.Add(d).Sub(planned))
		if planned.Before(frozen) {
			late = 0
		}
		r.now = planned.Add(late)
		if len(r.Watchdog.check(r.now, late)) > 0 {
			return true
		}
		if !r.now.Before(frozen) {
			return false
		}
	}
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
		{fmt.Sprintf("%v from the fourth check on", d), func(i int) time.Duration { return d * time.Duration(min(1, i/3)) }},
	}
}

// However late a watchdog is, it gives a promise a lease of grace at most, for all its checks together, and counts all
// time in which it ran. Lateness that every scheduler has gives none.
func TestAStalledComponentIsReportedHoweverLateTheWatchdogIs(t *testing.T) {
	t.Parallel()
	for _, lease := range []time.Duration{200 * time.Millisecond, 550 * time.Millisecond, 4 * time.Second} {
		patience, jitter := Patience(lease), lease/50
		for _, d := range []time.Duration{
			0, 50 * time.Microsecond, 110 * time.Microsecond, 120 * time.Microsecond, time.Millisecond, jitter - 1, jitter, 2 * jitter,
			lease / 6, lease / 2, lease, 2 * lease, time.Hour,
		} {
			for _, late := range latenesses(d) {
				r, checks := silent(lease, patience), 0
				for !r.check(late.at(checks)) && checks < 1000 {
					checks++
				}
				most := patience + time.Millisecond
				if d >= jitter {
					// Lateness below jitter counts as time in which it ran.
					most += min((wakeUps-1)*d, lease)
				}
				if r.now.Sub(r.start) < patience || r.awake > most || checks > 15 {
					t.Errorf("lease %v, late %s: reported after %v, of which it ran for %v, want %v at most; %d checks", lease, late.name, r.now.Sub(r.start), r.awake, most, checks+1)
				}
			}
		}
	}
}

// A process that was frozen, or starved, wakes up with every promise broken: no component is at fault.
func TestTimeInWhichTheProcessSleptCountsForNoComponent(t *testing.T) {
	t.Parallel()
	r := silent(lease, 750*time.Millisecond)
	for range 5 { // it never gets to run for long between two freezes
		if r.freeze(100*time.Millisecond, time.Minute) {
			t.Fatalf("reported after %v, of which the process was frozen for all but 100 ms at a time", r.now.Sub(r.start))
		}
	}
	for !r.check(0) {
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

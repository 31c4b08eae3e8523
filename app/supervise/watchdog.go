package supervise

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrStalled reports a component that gave no sign of life within the time it had promised.
var ErrStalled = errors.New("a component stalls")

// Watchdog keeps what each component has promised: a sign of life within some time. It is safe for concurrent use.
type Watchdog struct {
	lease time.Duration

	// stirred tells Run that the check which it waits for is not the next any more.
	stirred chan struct{}

	mu       sync.Mutex
	expected map[string]*promise
	dead     map[string]bool
	planned  time.Time // of the next check
	whose    string    // the component for which it is planned then; empty if for none
}

// NewWatchdog returns a watchdog that expects nothing yet.
func NewWatchdog(lease time.Duration) *Watchdog {
	return &Watchdog{lease: lease, stirred: make(chan struct{}, 1), expected: map[string]*promise{}, dead: map[string]bool{}}
}

// Expect is a component's sign of life, and its promise of the next within d; 0 is Clear.
func (w *Watchdog) Expect(component string, d time.Duration) {
	if d == 0 {
		w.Clear(component)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	p, before := &promise{made: now, due: now.Add(d)}, w.expected[component]
	w.expected[component] = p
	renewed := component == w.whose && (before == nil || now.Sub(before.made) >= w.lease/50) // a loop may come round several times at once
	if renewed || p.next(w.lease).Before(w.planned) {
		signal(w.stirred)
	}
}

// signal wakes the goroutine that waits on ch, or the next that will.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Clear ends a component's promise: it has nothing to do now.
func (w *Watchdog) Clear(component string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.expected, component)
}

// Died records a component that has ended.
func (w *Watchdog) Died(component string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead[component] = true
}

// Failing names the components that are dead or overdue, sorted.
func (w *Watchdog) Failing() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.overdue(time.Now())
}

// Run checks the promises until ctx ends, and returns nil then; ErrStalled if one was broken.
//
// In a replica that is idle, components renew their promises when something else has woken the process, and a check is put
// off then: it wakes the process only if they do not.
func (w *Watchdog) Run(ctx context.Context) error {
	for {
		planned := w.plan()
		t := time.NewTimer(time.Until(planned))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-w.stirred:
			t.Stop()
		case <-t.C:
		}
		now := time.Now()
		if now.Before(planned) {
			continue // another check is the next
		}
		if failing := w.check(now, now.Sub(planned)); len(failing) > 0 {
			return fmt.Errorf("%w: %s", ErrStalled, strings.Join(failing, ", "))
		}
	}
}

// idle is how long ago a component gave its last sign of life. Without a promise there is none to measure from.
func (w *Watchdog) idle(component string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.expected[component]; p != nil {
		return time.Since(p.made)
	}
	return time.Since(time.Time{})
}

// plan is next for Run, of whose answer Expect is to know.
func (w *Watchdog) plan() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.planned, w.whose = w.next(time.Now())
	return w.planned
}

// next is when to check next, and for which component. Of a promise whose time has mostly passed, checks are frequent: by how
// late they come the watchdog knows what a starved or frozen process has lost. Before that there are none, since an idle process
// is to wake seldom; a component that was frozen for all of it still has the rest. w.mu MUST be held.
func (w *Watchdog) next(now time.Time) (at time.Time, whose string) {
	at = now.Add(w.lease)
	for component, p := range w.expected {
		if check := p.next(w.lease); check.Before(at) {
			at, whose = check, component
		}
	}
	return at, whose
}

// check returns what is failing at now. The check itself comes late by late.
func (w *Watchdog) check(now time.Time, late time.Duration) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if late >= w.lease/50 { // less is every scheduler's jitter
		for _, p := range w.expected {
			p.excuse(now, late, w.lease)
		}
	}
	for _, p := range w.expected {
		p.checked = now
	}
	return w.overdue(now)
}

func (w *Watchdog) overdue(now time.Time) []string {
	var failing []string
	for component := range w.dead {
		failing = append(failing, component)
	}
	for component, p := range w.expected {
		if now.After(p.deadline()) && !w.dead[component] {
			failing = append(failing, component)
		}
	}
	slices.Sort(failing)
	return failing
}

// promise is one component's promise of a sign of life. It reads no clock.
type promise struct {
	made, due time.Time
	// grace is added to due on a starved machine, once: the most that one late check has earned, not the sum.
	grace time.Duration
	// checked is when it was checked last; zero if it was not.
	checked time.Time
}

func (p *promise) deadline() time.Time { return p.due.Add(p.grace) }

// next is when to check it next: when most of its time has passed, often from then on, and when it is broken.
func (p *promise) next(lease time.Duration) time.Time {
	due := p.deadline()
	check := p.made.Add(7 * due.Sub(p.made) / 10)
	if !check.After(p.checked) {
		check = p.checked.Add(lease / 8)
	}
	if due = due.Add(time.Millisecond); due.Before(check) {
		check = due
	}
	return check
}

// wakeUps is how many goroutines, here and in the kernel, take turns to keep a promise such as a request's round
// trip. On a starved machine each of them is as late as the watchdog itself.
const wakeUps = 10

// excuse takes into account that a check at now comes late by late. A process that was frozen, or is starved, is slow,
// not broken: the time in which the watchdog did not get to run does not count. The component's other wake-ups may each
// be as late; for them there is grace, a lease at most for all late checks together.
func (p *promise) excuse(now time.Time, late, lease time.Duration) {
	late = min(late, now.Sub(p.made)) // what was lost before the promise was made did not delay it
	p.due = p.due.Add(late)
	p.grace = max(p.grace, min((wakeUps-1)*late, lease))
}

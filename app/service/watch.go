package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// errStalled says that a part did not come back in the time it had promised.
var errStalled = errors.New("a part of this replica stalls")

// watch keeps what each part has promised: to show a sign of life within some time. It is safe for
// concurrent use.
type watch struct {
	every time.Duration
	mu    sync.Mutex
	due   map[string]time.Time
	heard map[string]time.Time // when a part last promised something
	dead  map[string]bool
}

func newWatch(every time.Duration) *watch {
	return &watch{every: every, due: map[string]time.Time{}, heard: map[string]time.Time{}, dead: map[string]bool{}}
}

// within is a part's promise of its next sign of life.
func (w *watch) within(part string, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard[part] = time.Now()
	w.due[part] = w.heard[part].Add(d)
}

// promise is within, or excuse if d is 0.
func (w *watch) promise(part string, d time.Duration) {
	if d == 0 {
		w.excuse(part)
		return
	}
	w.within(part, d)
}

// idle is how long ago a part, or whoever promises for it, has promised something.
func (w *watch) idle(part string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(w.heard[part])
}

// excuse ends a part's promise: it has nothing to do now.
func (w *watch) excuse(part string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.due, part)
	delete(w.heard, part)
}

// died takes note of a part that has ended.
func (w *watch) died(part string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead[part] = true
}

// failing names the parts that are dead or overdue.
func (w *watch) failing() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.overdue(time.Now())
}

func (w *watch) overdue(now time.Time) []string {
	var parts []string
	for part := range w.dead {
		parts = append(parts, part)
	}
	for part, due := range w.due {
		if now.After(due) && !w.dead[part] {
			parts = append(parts, part)
		}
	}
	slices.Sort(parts)
	return parts
}

// wakeUps is how many goroutines, here and in the kernel, take turns to keep a promise such as a
// request's round trip. On a starved machine each of them is as late as the watch itself.
const wakeUps = 10

// run looks at the promises until ctx ends, and then returns nil; errStalled if one was broken. A process
// that was frozen, or is starved, is slow, not broken: by as much as the watch itself is late every
// promise is put off, and for each of its other wake-ups again, a lease at most.
func (w *watch) run(ctx context.Context) error {
	for {
		planned := w.next(time.Now())
		t := time.NewTimer(time.Until(planned))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		now := time.Now()
		if parts := w.look(now, now.Sub(planned)); len(parts) > 0 {
			return fmt.Errorf("%w: %s", errStalled, strings.Join(parts, ", "))
		}
	}
}

// next is when to look next: when the first promise falls due, but after every at the latest.
func (w *watch) next(now time.Time) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := now.Add(w.every)
	for _, due := range w.due {
		if due.Before(at) {
			at = due.Add(time.Millisecond)
		}
	}
	return at
}

// look returns who is overdue, after it has put off every promise, the watch itself being late.
func (w *watch) look(now time.Time, late time.Duration) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if late > 0 {
		for part, due := range w.due {
			w.due[part] = due.Add(late + min((wakeUps-1)*late, 5*w.every))
		}
	}
	return w.overdue(now)
}

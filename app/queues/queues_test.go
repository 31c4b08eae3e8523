package queues

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/update"
)

const testSlots = 4

// fixture is the queues of one term, its lease and its watchdog.
type fixture struct {
	*Queues
	t      *testing.T
	ctx    context.Context
	end    context.CancelFunc
	lost   atomic.Bool
	active atomic.Int32 // updates being handled
	most   atomic.Int32

	mu    sync.Mutex
	due   map[string]time.Time
	began []began
	done  []int64
	by    map[int64]update.Outcome
	took  map[int64]time.Duration
}

type began struct {
	id int64
	at time.Time
}

type handler func(ctx context.Context, u update.Update, t Turn) (update.Outcome, bool)

func (h handler) Handle(ctx context.Context, u update.Update, t Turn) (update.Outcome, bool) {
	return h(ctx, u, t)
}

func newFixture(t *testing.T, h handler) *fixture {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	f := &fixture{t: t, ctx: ctx, end: end, due: map[string]time.Time{}, by: map[int64]update.Outcome{}, took: map[int64]time.Duration{}}
	f.Queues = New(Config{
		Handler: handler(func(ctx context.Context, u update.Update, turn Turn) (update.Outcome, bool) {
			f.mu.Lock()
			f.began = append(f.began, began{u.ID, time.Now()})
			f.mu.Unlock()
			return h(ctx, u, turn)
		}),
		Slots: testSlots, Patience: 10 * time.Second, Logger: slog.New(slog.DiscardHandler),
		Held: func() bool { return !f.lost.Load() },
		Promise: func(part string, d time.Duration) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if due, ok := f.due[part]; ok && time.Now().After(due) {
				t.Errorf("%s broke its promise by %v", part, time.Since(due))
			}
			if d == 0 {
				delete(f.due, part)
			} else {
				f.due[part] = time.Now().Add(d)
			}
		},
		Handled: func(u update.Update, _ update.Outcome, took time.Duration) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.took[u.ID] = took
		},
	})
	t.Cleanup(func() {
		end()
		f.working.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.due) > 0 {
			t.Errorf("promises outlive their queues: %v", f.due)
		}
	})
	return f
}

// busy counts what is being handled.
func (f *fixture) busy(d time.Duration) {
	n := f.active.Add(1)
	for {
		most := f.most.Load()
		if n <= most || f.most.CompareAndSwap(most, n) {
			break
		}
	}
	time.Sleep(d)
	f.active.Add(-1)
}

// give hands one update to a queue.
func (f *fixture) give(queue int64, ids ...int64) {
	batch := make([]update.Update, 0, len(ids))
	for _, id := range ids {
		batch = append(batch, update.Update{ID: id, Queue: queue})
	}
	f.Consume(f.ctx, batch, func(id int64, o update.Outcome) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.done = append(f.done, id)
		if _, again := f.by[id]; again {
			f.t.Errorf("%d is done twice", id)
		}
		f.by[id] = o
	})
}

func (f *fixture) handled() []int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.done)
}

func (f *fixture) beganAt(id int64) (times []time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.began {
		if b.id == id {
			times = append(times, b.at)
		}
	}
	return times
}

func (f *fixture) expectHandled(want ...int64) {
	f.t.Helper()
	if got := f.handled(); !slices.Equal(got, want) {
		f.t.Errorf("handled %v, want %v", got, want)
	}
}

// after lets time pass, and looks at the promises as a watchdog does.
func (f *fixture) after(d time.Duration) {
	f.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for part, due := range f.due {
		if time.Now().After(due) {
			f.t.Errorf("%s is overdue by %v", part, time.Since(due))
		}
	}
}

// drain drains with a bound, and tells what it took and left.
func (f *fixture) drain(bound time.Duration) (took time.Duration, left int) {
	ctx, cancel := context.WithTimeout(f.ctx, bound)
	defer cancel()
	start := time.Now()
	left = f.Drain(ctx)
	return time.Since(start), left
}

func TestOneQueueIsHandledInOrderAndQueuesSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f *fixture
		f = newFixture(t, func(context.Context, update.Update, Turn) (update.Outcome, bool) {
			f.busy(time.Second)
			return update.Answered, true
		})
		start := time.Now()
		f.give(1, 10, 11, 12)
		f.give(2, 20)
		f.after(500 * time.Millisecond)
		f.give(1, 13) // joins the end
		f.give(3, 30)
		f.after(10 * time.Second)
		for id, want := range map[int64]time.Duration{10: 0, 11: time.Second, 12: 2 * time.Second, 13: 3 * time.Second, 20: 0, 30: 500 * time.Millisecond} {
			if at := f.beganAt(id); len(at) != 1 || at[0].Sub(start) != want {
				t.Errorf("%d began at %v, want once after %v", id, at, want)
			}
		}
		if len(f.handled()) != 6 {
			t.Errorf("handled %v", f.handled())
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.queues) != 0 {
			t.Errorf("%d queues are kept that hold nothing", len(f.queues))
		}
		if f.took[11] != time.Second {
			t.Errorf("11 took %v", f.took[11])
		}
	})
}

func TestUpdatesOfNoQueueWaitForNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(_ context.Context, u update.Update, _ Turn) (update.Outcome, bool) {
			time.Sleep(time.Duration(10-u.ID) * time.Second)
			return update.Ignored, true
		})
		f.give(0, 7, 8, 9)
		f.after(5 * time.Second)
		f.expectHandled(9, 8, 7)
	})
}

func TestNoMoreAreHandledAtATimeThanThereAreSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f *fixture
		f = newFixture(t, func(context.Context, update.Update, Turn) (update.Outcome, bool) {
			f.busy(time.Second)
			return update.Answered, true
		})
		for id := range int64(3 * testSlots) {
			f.give(1+id, id)
		}
		f.after(2500 * time.Millisecond)
		if n := len(f.handled()); n != 2*testSlots {
			t.Errorf("%d are handled, want %d", n, 2*testSlots)
		}
		f.after(time.Second)
		if most := f.most.Load(); most != testSlots || len(f.handled()) != 3*testSlots {
			t.Errorf("%d at a time, want %d; %d are handled", most, testSlots, len(f.handled()))
		}
	})
}

func TestQueuesThatPauseHoldNoSlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(ctx context.Context, u update.Update, turn Turn) (update.Outcome, bool) {
			if u.ID < 3*testSlots && !turn.Pause(ctx, time.Minute, nil) {
				return "", false
			}
			return update.Answered, true
		})
		for id := range int64(3 * testSlots) {
			f.give(1+id, id)
		}
		f.give(99, 99)
		f.after(0)
		f.expectHandled(99)
		f.give(1, 100) // behind one that pauses
		f.after(59 * time.Second)
		f.expectHandled(99)
		f.after(2 * time.Second)
		if n := len(f.handled()); n != 3*testSlots+2 {
			t.Errorf("%d are handled, want all", n)
		}
		if took := f.took[0]; took < time.Minute || took > time.Minute+time.Second {
			t.Errorf("an update took %v, its pause included", took)
		}
	})
}

func TestAfterAPauseTheSlotIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f *fixture
		f = newFixture(t, func(ctx context.Context, u update.Update, turn Turn) (update.Outcome, bool) {
			if u.ID == 1 && !turn.Pause(ctx, time.Second, nil) {
				return "", false
			}
			f.busy(3 * time.Second)
			return update.Answered, true
		})
		f.give(1, 1)
		f.after(0)
		for id := range int64(testSlots) {
			f.give(10+id, 10+id)
		}
		f.after(20 * time.Second)
		if most := f.most.Load(); most != testSlots {
			t.Errorf("%d at a time, want %d", most, testSlots)
		}
		if n := len(f.handled()); n != testSlots+1 {
			t.Errorf("%d are handled", n)
		}
	})
}

func TestAPauseEndsEarlyWhenToldTo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		early := make(chan struct{})
		f := newFixture(t, func(ctx context.Context, _ update.Update, turn Turn) (update.Outcome, bool) {
			return update.Answered, turn.Pause(ctx, time.Hour, early)
		})
		f.give(1, 1)
		f.give(2, 2)
		f.after(5 * time.Second)
		f.expectHandled()
		close(early)
		f.after(0)
		if n := len(f.handled()); n != 2 {
			t.Errorf("%d are handled, want both", n)
		}
	})
}

// While all slots are taken, those that hold them promise; the fixture's watchdog does the looking.
func TestWaitingForASlotBreaksNoPromise(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(_ context.Context, _ update.Update, turn Turn) (update.Outcome, bool) {
			for range 3 {
				turn.Expect(10 * time.Second)
				time.Sleep(10 * time.Second)
			}
			return update.Answered, true
		})
		for id := range int64(testSlots + 1) {
			f.give(1+id, id)
		}
		for range 70 {
			f.after(time.Second)
		}
		if n := len(f.handled()); n != testSlots+1 {
			t.Errorf("%d are handled, want all", n)
		}
	})
}

// A handler that stalls is seen: by its patience at first, later by what it said last.
func TestAHandlerThatStallsIsOverdue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stall := make(chan struct{})
		f := newFixture(t, func(_ context.Context, u update.Update, turn Turn) (update.Outcome, bool) {
			if u.ID == 2 {
				turn.Expect(20 * time.Second)
			}
			<-stall
			return update.Answered, true
		})
		f.give(1, 1)
		f.give(2, 2)
		f.after(0)
		f.mu.Lock()
		for part, want := range map[string]time.Duration{"queue 1": 10*time.Second + slack, "queue 2": 20*time.Second + slack} {
			if d := time.Until(f.due[part]); d != want {
				t.Errorf("the watchdog would wait %v for %s, want %v", d, part, want)
			}
		}
		f.mu.Unlock()
		close(stall)
	})
}

func TestAPanicCountsAsHandledAndHoldsUpNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(ctx context.Context, u update.Update, turn Turn) (update.Outcome, bool) {
			switch {
			case u.ID%3 == 0:
				panic("no")
			case u.ID%3 == 1:
				turn.Pause(ctx, time.Second, nil)
				panic("later")
			}
			return update.Answered, true
		})
		for id := range int64(9 * testSlots) {
			f.give(1+id%(2*testSlots), id)
		}
		f.after(time.Minute)
		if n := len(f.handled()); n != 9*testSlots {
			t.Errorf("%d are handled, want all: slots leak", n)
		}
		for id, o := range f.by {
			want := update.Panicked
			if id%3 == 2 {
				want = update.Answered
			}
			if o != want {
				t.Errorf("%d: %s, want %s", id, o, want)
			}
		}
		if len(f.slots) != 0 {
			t.Errorf("%d slots are taken after all is handled", len(f.slots))
		}
	})
}

// Without the lease nothing is handled; what waits keeps its order until the lease is back or the term is over.
func TestWithoutTheLeaseNothingIsHandled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(_ context.Context, _ update.Update, turn Turn) (update.Outcome, bool) {
			if !turn.Held() {
				return "", false
			}
			time.Sleep(100 * time.Millisecond)
			if !turn.Held() {
				return "", false // it was lost meanwhile
			}
			return update.Answered, true
		})
		f.give(1, 1, 2, 3)
		f.after(50 * time.Millisecond)
		f.lost.Store(true)
		f.after(time.Second)
		f.expectHandled()
		if n := len(f.beganAt(1)); n != 1 {
			t.Errorf("the handler was given an update %d times, the lease being lost", n)
		}
		f.lost.Store(false)
		f.after(time.Second)
		f.expectHandled(1, 2, 3)
		f.lost.Store(true)
		f.give(1, 4, 5)
		f.after(time.Second)
		f.end()
		f.after(0)
		f.expectHandled(1, 2, 3)
		if n := len(f.beganAt(4)); n != 0 {
			t.Errorf("an update was given to the handler %d times without the lease", n)
		}
	})
}

func TestWhenTheTermEndsTheRestIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(ctx context.Context, u update.Update, turn Turn) (update.Outcome, bool) {
			switch {
			case u.ID == 1: // in the middle of a request
				return update.Answered, sleep(ctx, time.Hour)
			case u.ID == 2: // paused
				return update.Answered, turn.Pause(ctx, time.Hour, nil)
			}
			return update.Answered, true
		})
		f.give(1, 1, 11)
		f.give(2, 2, 12)
		f.after(time.Second)
		f.end()
		f.after(0)
		f.expectHandled()
		f.give(3, 3) // the term is over
		f.after(0)
		f.expectHandled()
		if left := f.Drain(f.ctx); left != 5 {
			t.Errorf("%d are left, want 5", left)
		}
	})
}

func TestDrainFinishesWhatIsInHand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(context.Context, update.Update, Turn) (update.Outcome, bool) {
			time.Sleep(time.Second)
			return update.Answered, true
		})
		f.give(1, 1, 2, 3)
		f.give(2, 4)
		f.after(500 * time.Millisecond)
		took, left := f.drain(5 * time.Second)
		if took != 2500*time.Millisecond || left != 0 {
			t.Errorf("drained in %v, %d left", took, left)
		}
		if n := len(f.handled()); n != 4 {
			t.Errorf("%d are handled, want all", n)
		}
		f.give(1, 5)
		f.after(10 * time.Second)
		if n := len(f.beganAt(5)); n != 0 {
			t.Error("an update was handled that came after the drain")
		}
		if _, left = f.drain(time.Second); left != 1 {
			t.Errorf("%d are left, want the one that came late", left)
		}
	})
}

func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(ctx context.Context, u update.Update, _ Turn) (update.Outcome, bool) {
			if u.Queue == 2 {
				return update.Answered, true
			}
			return update.Answered, sleep(ctx, 2*time.Second)
		})
		f.give(1, 1, 2, 3, 4)
		f.give(2, 10)
		f.after(0)
		took, left := f.drain(5 * time.Second)
		if took != 5*time.Second || left != 2 {
			t.Errorf("drained in %v, %d left; want 5s, 2", took, left)
		}
		f.expectHandled(10, 1, 2)
	})
}

// A pause that would outlast the drain is over at once: the successor is to have the update soon.
func TestDrainLeavesWhatWaitsTooLongAtOnce(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		before, pause time.Duration
		took          time.Duration
		handled       []int64
	}{
		"waits long":                {time.Second, 15 * time.Second, 0, []int64{2}},
		"waits too long":            {time.Second, 6 * time.Second, 0, []int64{2}},
		"waits as long as may be":   {time.Second, 5 * time.Second, 4 * time.Second, []int64{2, 1, 3}},
		"begins to wait in the end": {0, 15 * time.Second, time.Second, []int64{2}},
		"begins a short wait":       {0, 2 * time.Second, 3 * time.Second, []int64{2, 1, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, func(ctx context.Context, u update.Update, turn Turn) (update.Outcome, bool) {
					if u.ID != 1 {
						return update.Answered, true
					}
					if tt.before == 0 && !sleep(ctx, time.Second) {
						return "", false
					}
					return update.Answered, turn.Pause(ctx, tt.pause, nil)
				})
				f.give(1, 1, 3)
				f.give(2, 2)
				f.after(tt.before)
				took, left := f.drain(5 * time.Second)
				if took != tt.took || left != 3-len(tt.handled) {
					t.Errorf("drained in %v, %d left; want %v", took, left, tt.took)
				}
				f.expectHandled(tt.handled...)
			})
		})
	}
}

// When nothing in hand can be finished there is nothing to wait for.
func TestDrainWithAnEndedContextIsOverAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(ctx context.Context, _ update.Update, _ Turn) (update.Outcome, bool) {
			return update.Answered, sleep(ctx, time.Hour)
		})
		for id := range int64(2 * testSlots) {
			f.give(1+id, id)
		}
		f.after(time.Second)
		if took, left := f.drain(0); took != 0 || left != 2*testSlots {
			t.Errorf("drained in %v, %d left", took, left)
		}
		f.expectHandled()
	})
}

// Handlers fail, pause and lag at random, the lease goes and comes, and the term ends, planned or not: each queue is
// handled in order, nothing is lost or done twice, no more than the slots are at work, and no promise is broken.
func TestQueuesAtRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { queuesAtRandom(t, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func queuesAtRandom(t *testing.T, random *rand.Rand) {
	var mu sync.Mutex
	roll := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
	var f *fixture
	wake := make(chan struct{}, 1)
	f = newFixture(t, func(ctx context.Context, _ update.Update, turn Turn) (update.Outcome, bool) {
		for {
			turn.Expect(3 * time.Second)
			f.busy(time.Duration(roll(300)) * time.Millisecond)
			if ctx.Err() != nil || !turn.Held() {
				return "", false
			}
			switch roll(8) {
			case 0:
				turn.Expect(3 * time.Second)
				if !turn.Pause(ctx, time.Duration(roll(3000))*time.Millisecond, nil) {
					return "", false
				}
			case 1:
				if !turn.Pause(ctx, time.Duration(roll(20000))*time.Millisecond, wake) {
					return "", false
				}
			case 2:
				panic("at random")
			default:
				return update.Answered, true
			}
		}
	})
	given := map[int64][]int64{}
	next := int64(0)
	for range 100 + roll(200) {
		queue := int64(1 + roll(8))
		for range roll(3) {
			next++
			given[queue] = append(given[queue], next)
			f.give(queue, next)
		}
		f.after(time.Duration(roll(200)) * time.Millisecond)
		if roll(20) == 0 {
			f.lost.Store(!f.lost.Load())
		}
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	planned := roll(2) == 0
	left := -1
	if planned {
		var took time.Duration
		f.lost.Store(false)
		if took, left = f.drain(5 * time.Second); took > 5*time.Second+300*time.Millisecond {
			t.Errorf("the drain took %v", took)
		}
	} else {
		f.end()
		f.working.Wait()
	}
	handled := f.handled()
	byQueue := map[int64][]int64{}
	for _, id := range handled {
		for queue, ids := range given {
			if slices.Contains(ids, id) {
				byQueue[queue] = append(byQueue[queue], id)
			}
		}
	}
	for queue, ids := range given {
		if got := byQueue[queue]; !slices.Equal(got, ids[:len(got)]) {
			t.Errorf("queue %d was handled as %v of %v", queue, got, ids)
		}
	}
	if planned && left != int(next)-len(handled) {
		t.Errorf("%d are left of %d, %d handled", left, next, len(handled))
	}
	if most := f.most.Load(); most > testSlots {
		t.Errorf("%d were handled at a time", most)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queues) != 0 {
		t.Errorf("queues are left: %v", slices.Collect(maps.Keys(f.queues)))
	}
}

// One slow queue among many is the watchdog's by its name.
func TestPartsAreNamedByTheirQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var parts []string
		q := New(Config{
			Handler: handler(func(context.Context, update.Update, Turn) (update.Outcome, bool) { return update.Ignored, true }),
			Slots:   1, Held: func() bool { return true }, Promise: func(part string, _ time.Duration) { parts = append(parts, part) },
			Logger: slog.New(slog.DiscardHandler),
		})
		q.Consume(t.Context(), []update.Update{{ID: 1, Queue: -5}}, func(int64, update.Outcome) {})
		synctest.Wait()
		q.Consume(t.Context(), []update.Update{{ID: 2}}, func(int64, update.Outcome) {})
		synctest.Wait()
		if got := strings.Join(slices.Compact(parts), ", "); got != "queue -5, queue of its own 1" {
			t.Errorf("the parts are %s", got)
		}
	})
}

func BenchmarkQueues(b *testing.B) {
	handled := make(chan struct{}, 1000)
	q := New(Config{
		Handler: handler(func(context.Context, update.Update, Turn) (update.Outcome, bool) { return update.Ignored, true }),
		Slots:   16, Held: func() bool { return true }, Promise: func(string, time.Duration) {}, Logger: slog.New(slog.DiscardHandler),
	})
	b.ReportAllocs()
	for b.Loop() {
		batch := make([]update.Update, 0, 100)
		for i := range int64(100) {
			batch = append(batch, update.Update{ID: i, Queue: 1 + i%8})
		}
		q.Consume(b.Context(), batch, func(int64, update.Outcome) { handled <- struct{}{} })
		for range 100 {
			<-handled
		}
	}
}

package queues

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"habot/app/update"
)

// slack is what a promise to the watchdog leaves for a loaded machine.
const slack = time.Second

// leaseWait is between looks at a lease that has ended, until the term does.
const leaseWait = 50 * time.Millisecond

// Handler handles one update at a time for each queue. It MUST be safe for concurrent use.
type Handler interface {
	// Handle handles one update. It returns false if the update is not handled: ctx has ended, the lease has, or
	// Pause has returned false. It MUST return soon after ctx ends, and send nothing then.
	Handle(ctx context.Context, u update.Update, t Turn) (update.Outcome, bool)
}

// Turn is an update's turn: it holds one of the slots, except during Pause. It is the handler's until it returns, and
// MUST be used by one goroutine at a time.
type Turn interface {
	// Held reports whether a request may leave now.
	Held() bool
	// Expect promises the watchdog that the handler returns, pauses or expects again within d.
	Expect(d time.Duration)
	// Pause waits for d, or until early is closed or can be received from, without a slot; early may be nil. It
	// returns false, at once, when the update has to be left to the successor: ctx has ended, or the term will before
	// d has passed.
	Pause(ctx context.Context, d time.Duration, early <-chan struct{}) bool
}

// Config is what Queues are made of.
type Config struct {
	Handler Handler
	// Slots is how many updates are handled at a time, 1 or more; those that pause do not count.
	Slots int
	// Patience is how long a handler may take until it calls Expect or Pause for the first time.
	Patience time.Duration
	// Held reports whether the lease still allows a request to leave, or an update to be handled.
	Held func() bool
	// Promise promises the watchdog that a part, here a queue, calls it again within d; 0 ends the part's promise.
	// It is called concurrently.
	Promise func(part string, d time.Duration)
	// Handled, if set, is called for each handled update with the time since it got a slot, pauses included. It is
	// called concurrently, right before done.
	Handled func(u update.Update, o update.Outcome, took time.Duration)
	Logger  *slog.Logger
}

// Queues handle the updates of one term. Their methods are safe for concurrent use.
type Queues struct {
	cfg      Config
	slots    chan struct{} // those taken
	draining chan struct{} // closed by Drain; drainEnd is set before
	drainEnd time.Time
	working  sync.WaitGroup // a goroutine for each queue

	mu     sync.Mutex
	queues map[key]*queue
	singly uint64 // updates so far that have a queue of their own
	left   int
}

// key tells queues apart: by their number, those of number 0 by a count.
type key struct {
	number int64
	singly uint64
}

// queue is what is in hand of one queue, in order. Its first update is being handled.
type queue struct {
	items  []item
	part   string // what the watchdog knows it as
	cancel context.CancelFunc
}

type item struct {
	update update.Update
	done   func(id int64, o update.Outcome)
}

// New returns queues that hold nothing yet.
func New(cfg Config) *Queues {
	return &Queues{cfg: cfg, slots: make(chan struct{}, cfg.Slots), draining: make(chan struct{}), queues: map[key]*queue{}}
}

// Consume appends updates, in Telegram's order, to their queues and does not block. done is called once for each that
// is handled, from any goroutine; of one queue in order. What is not done when ctx ends is left to the successor, and
// so is all that comes after Drain was called.
func (q *Queues) Consume(ctx context.Context, batch []update.Update, done func(id int64, o update.Outcome)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopping() {
		q.left += len(batch)
		return
	}
	for _, u := range batch {
		k := key{number: u.Queue}
		if u.Queue == 0 {
			q.singly++
			k.singly = q.singly
		}
		if known := q.queues[k]; known != nil {
			known.items = append(known.items, item{u, done})
			continue
		}
		working, cancel := context.WithCancel(ctx)
		added := &queue{items: []item{{u, done}}, part: k.part(), cancel: cancel}
		q.queues[k] = added
		q.working.Go(func() {
			defer cancel()
			q.work(working, k, added)
		})
	}
}

// part is what the watchdog knows a queue as.
func (k key) part() string {
	if k.singly != 0 {
		return fmt.Sprintf("queue of its own %d", k.singly)
	}
	return fmt.Sprintf("queue %d", k.number)
}

// Drain returns when all that is in hand is handled. What cannot be by ctx's deadline is left at once; the handlers'
// contexts end with ctx. It returns how many updates are left, and only after every handler has returned.
func (q *Queues) Drain(ctx context.Context) (left int) {
	q.mu.Lock()
	if !q.stopping() {
		var bounded bool
		if q.drainEnd, bounded = ctx.Deadline(); !bounded {
			q.drainEnd = time.Now().Add(100 * 365 * 24 * time.Hour)
		}
		close(q.draining)
	}
	q.mu.Unlock()
	release := context.AfterFunc(ctx, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		for _, each := range q.queues {
			each.cancel()
		}
	})
	defer release()
	q.working.Wait()
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.left
}

// stopping reports whether Drain was called.
func (q *Queues) stopping() bool {
	select {
	case <-q.draining:
		return true
	default:
		return false
	}
}

// work handles a queue to its end, or until the term ends: then the rest is left.
func (q *Queues) work(ctx context.Context, k key, own *queue) {
	defer q.cfg.Promise(own.part, 0)
	for {
		first, ok := q.first(k, own)
		if !ok {
			return
		}
		if q.handle(ctx, own, first) {
			continue
		}
		// The queue's next must not overtake it. The owner of the term ends it.
		if q.stopping() || !sleep(ctx, leaseWait) {
			q.leave(k, own)
			return
		}
	}
}

// first is the update to handle next; false if there is none, and so no queue any more.
func (q *Queues) first(k key, own *queue) (item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(own.items) == 0 {
		delete(q.queues, k)
		return item{}, false
	}
	return own.items[0], true
}

// leave leaves a queue to the successor.
func (q *Queues) leave(k key, own *queue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.left += len(own.items)
	delete(q.queues, k)
}

// handle handles the first update of a queue; false if the term ended first.
func (q *Queues) handle(ctx context.Context, own *queue, first item) bool {
	t := &turn{q: q, part: own.part}
	defer t.release()
	if !t.acquire(ctx) || ctx.Err() != nil || !q.cfg.Held() {
		return false
	}
	start := time.Now()
	outcome, ok := q.call(ctx, first.update, t)
	if !ok {
		return false
	}
	if q.cfg.Handled != nil {
		q.cfg.Handled(first.update, outcome, time.Since(start))
	}
	first.done(first.update.ID, outcome)
	q.mu.Lock()
	defer q.mu.Unlock()
	own.items[0] = item{} // nothing of it is kept
	own.items = own.items[1:]
	return true
}

// call has an update handled. One that makes the handler panic would do so again: it counts as handled.
func (q *Queues) call(ctx context.Context, u update.Update, t *turn) (outcome update.Outcome, ok bool) {
	defer func() {
		if p := recover(); p != nil {
			q.cfg.Logger.Error("handling an update panicked; it counts as handled", "update_id", u.ID, "panic", p, "stack", string(debug.Stack()))
			outcome, ok = update.Panicked, true
		}
	}()
	return q.cfg.Handler.Handle(ctx, u, t)
}

// turn is one update's.
type turn struct {
	q    *Queues
	part string
	slot bool // held
}

// acquire waits for a slot; false if ctx ends first.
func (t *turn) acquire(ctx context.Context) bool {
	t.q.cfg.Promise(t.part, 0) // those that hold the slots have promised
	select {
	case t.q.slots <- struct{}{}:
		t.slot = true
		t.Expect(t.q.cfg.Patience)
		return true
	case <-ctx.Done():
		return false
	}
}

func (t *turn) release() {
	if t.slot {
		t.slot = false
		<-t.q.slots
	}
}

// Held implements Turn.
func (t *turn) Held() bool { return t.q.cfg.Held() }

// Expect implements Turn.
func (t *turn) Expect(d time.Duration) { t.q.cfg.Promise(t.part, d+slack) }

// Pause implements Turn.
func (t *turn) Pause(ctx context.Context, d time.Duration, early <-chan struct{}) bool {
	t.release()
	t.Expect(d)
	end := time.Now().Add(d)
	timer := time.NewTimer(d)
	defer timer.Stop()
	draining := t.q.draining
	for {
		select {
		case <-timer.C:
			return t.acquire(ctx)
		case <-early:
			return t.acquire(ctx)
		case <-ctx.Done():
			return false
		case <-draining:
			if !end.Before(t.q.drainEnd) {
				return false
			}
			draining = nil // it ends in time
		}
	}
}

// sleep waits; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

package intake

import (
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/diagnosis"
	"habot/app/reach"
	"habot/app/telegram"
	"habot/app/term"
	"habot/app/update"
)

// Bounds of a term's work.
const (
	maxBatch = update.MaxBatch
	// askBound bounds a request that removes a webhook.
	askBound = 10 * time.Second
	// measureBound is how long an answer is waited for that is to show how slow Telegram is.
	measureBound = 10 * time.Second
	drainBound   = 5 * time.Second
	confirmBound = time.Second
	// slack is what a promise to the watcher leaves for a loaded machine.
	slack = time.Second
	// leaseWait is between looks at a lease that has ended, until the term is.
	leaseWait = 50 * time.Millisecond
)

// Times between polls while updates are in hand. Such a poll returns at once, with all that is in hand, and so is
// seldom worth it.
const (
	// pollAgain is for when there is something to confirm: it makes room for new updates. Where a poll has brought as many as one
	// can, and half of them can be confirmed, the next does not wait at all.
	pollAgain = 100 * time.Millisecond
	// pollStuck is for when the oldest update in hand is still the same. Telegram gives a poll that repeats another's
	// offset within half a second one update only.
	pollStuck = time.Second
)

// pollLoop is what the watcher knows the poll loop as.
const pollLoop = "poller"

// Caller calls methods of the Bot API; *telegram.Client is one.
type Caller interface {
	Call(ctx context.Context, method string, params, result any) error
}

// Consumer is who updates are given to, for one term.
type Consumer interface {
	// Consume takes new updates in Telegram's order and does not block. done is to be called once for each that is handled,
	// from any goroutine; what is not done when ctx ends is left to the successor.
	Consume(ctx context.Context, batch []update.Update, done func(id int64, o update.Outcome))
	// Drain returns when nothing is in hand any more; what cannot be handled by ctx's deadline is left at once. It returns how
	// many updates are left, and only after everything that was begun has ended.
	Drain(ctx context.Context) (left int)
}

// Config is what an intake is made of.
type Config struct {
	Caller Caller
	Reach  *reach.Reach
	// Allowed are the kinds of updates that are asked for until Task.Allow names others; empty for Telegram's default set, nil
	// for those that were asked for last.
	Allowed []string
	// Consumer makes the consumer of a term's updates. ctx is the term's: nothing leaves once it has ended, or without the lease.
	Consumer func(ctx context.Context, t *Task) Consumer
	// Greet is called once in a term, when a poll has succeeded, beside the polls. It may be nil.
	Greet      func(ctx context.Context)
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Intake polls, one term at a time. Its methods are safe for concurrent use.
type Intake struct {
	cfg     Config
	metrics *metrics
}

// New returns an intake that does nothing yet.
func New(cfg Config) *Intake {
	return &Intake{cfg: cfg, metrics: newMetrics(cfg.Registerer)}
}

// Task is a term's work as its consumer sees it. Its methods are safe for concurrent use.
type Task struct {
	term.Term
	r *run
}

// Through returns a channel that is closed when a poll succeeds again; nil while polls do.
func (t *Task) Through() <-chan struct{} {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	return t.r.mended
}

// Parts is how many parts of the answer to an update have been sent, by a predecessor perhaps.
func (t *Task) Parts(id int64) int { return t.r.sent(int(id)) }

// PartSent takes note, for a successor too, that one more part was sent, and it was not the last.
func (t *Task) PartSent(id int64) { t.r.partSent(int(id)) }

// Allow has the next poll, and those after it, ask for these kinds of updates; none for Telegram's default set.
func (t *Task) Allow(kinds []string) {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	t.r.allowed = append([]string{}, kinds...)
}

// Limited takes note whether an update in hand waits because Telegram limits its chat.
func (t *Task) Limited(id int64, waits bool) { t.r.limits(id, waits) }

// Took measures how long an update that is handled has taken.
func (t *Task) Took(u update.Update, _ update.Outcome, took time.Duration) {
	m := t.r.in.metrics
	m.updateSeconds.Observe(took.Seconds())
	if !u.Date.IsZero() {
		m.updateAge.Observe(max(0, time.Since(u.Date).Seconds()))
	}
}

// run is the work of one term: a loop that polls, and a consumer.
type run struct {
	in       *Intake
	reach    *reach.Reach
	term     term.Term
	consumer Consumer

	// The poll loop's own.
	failures     int // polls failed in a row
	refusals     int // 401 and 409 in a row
	webhookTaken bool

	besides   sync.WaitGroup // what goes on beside polls
	measuring atomic.Bool

	stirred chan struct{} // told when an update is handled, or waits

	mu       sync.Mutex
	offsets  *offsets
	measured time.Time             // when Telegram answered a question beside polls last
	inHand   map[int]update.Update // given to the consumer and not done
	limited  map[queue]bool        // whose first update waits because Telegram limits its chat
	allowed  []string              // the kinds to ask for; nil for those that were asked for last
	kept     backlog
	parts    map[int]int // of the answers to updates in hand, those that have been sent, but for 0
	// mended is closed when a poll succeeds again; nil while they do.
	mended chan struct{}
}

// Run polls and has updates handled until Drain is closed or ctx ends. When ctx ends nothing leaves any
// more. It returns only after its last request has ended: then the replica is silent.
func (in *Intake) Run(ctx context.Context, t term.Term) {
	r := &run{in: in, reach: in.cfg.Reach, term: t, offsets: newOffsets(t.Handled), stirred: make(chan struct{}, 1), parts: map[int]int{},
		inHand: map[int]update.Update{}, limited: map[queue]bool{}, allowed: in.cfg.Allowed}
	if r.reach.TermBegan() {
		r.failures = 1 // the first poll is to tell soon
	}
	defer r.reach.TermEnded()
	ctx = telegram.WithLease(ctx, t.Held)
	r.consumer = in.cfg.Consumer(ctx, &Task{Term: t, r: r})
	defer r.besides.Wait()
	polling, stopPolling := context.WithCancel(ctx)
	defer stopPolling()
	go func() {
		select {
		case <-t.Drain:
			stopPolling()
		case <-polling.Done():
		}
	}()

	gathered, first := false, traced(polling, in.cfg.Logger)
	for polling.Err() == nil {
		updates, ok := r.poll(first)
		if !ok {
			continue
		}
		if !gathered {
			gathered, first = true, polling
			if in.cfg.Greet != nil {
				r.besides.Go(func() { in.cfg.Greet(polling) })
			}
			r.gather(polling, ctx)
		}
		r.take(ctx, updates) // each looks at the lease itself before it is handled
		r.await(polling, len(updates) >= maxBatch)
	}
	r.finish(ctx)
}

// gatherBound is for what Gather waits.
const gatherBound = 2 * time.Second

// gather takes in what earlier terms have left to do, before anything newer is handled: so each queue is handled in order. What
// turns up later is taken in then.
func (r *run) gather(polling, working context.Context) {
	r.term.Expect(pollLoop, gatherBound+slack)
	r.term.Gather(polling)
	r.inherit(working, r.term.Notes)
	now, cancel := context.WithCancel(polling)
	cancel()
	for r.takeLate(now, working) { // a replica that has handed in one term's may know another's
		r.term.Expect(pollLoop, gatherBound+slack)
		r.term.Gather(polling)
	}
	r.besides.Go(func() {
		for r.takeLate(polling, working) {
		}
	})
}

// take gives what is new of a poll's answer to the consumer.
func (r *run) take(ctx context.Context, updates []update.Update) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	var fresh []update.Update
	for _, u := range updates {
		switch id := int(u.ID); {
		case r.offsets.seen(id):
		case r.offsets.accept(id, now):
			if r.offsets.isHandled(id) {
				r.in.metrics.updates.WithLabelValues(string(update.Skipped)).Inc()
			}
		default:
			fresh = append(fresh, u)
		}
	}
	r.enqueue(ctx, fresh...)
}

// enqueue gives updates to the consumer, at once: what a copy of a bot has confirmed of them it may have been given by a
// predecessor. r.mu MUST be held: the order is that in which updates are taken in.
func (r *run) enqueue(ctx context.Context, updates ...update.Update) {
	now := time.Now()
	for i := range updates {
		updates[i].Came = now
		r.inHand[int(updates[i].ID)] = updates[i]
	}
	if len(updates) > 0 {
		r.consumer.Consume(ctx, updates, r.done)
	}
}

// done takes note that an update is handled.
func (r *run) done(id int64, o update.Outcome) {
	r.mu.Lock()
	r.offsets.done(int(id), time.Now())
	r.term.Report(r.offsets.ids()) // under the lock: an older report must not overtake a newer one
	if kept := r.kept.remove(int(id)); kept || r.parts[int(id)] > 0 {
		delete(r.parts, int(id))
		r.note()
	}
	delete(r.inHand, int(id))
	r.mu.Unlock()
	r.stir()
	r.in.metrics.updates.WithLabelValues(string(o)).Inc()
}

// stir has the poll loop look again at what is in hand.
func (r *run) stir() {
	select {
	case r.stirred <- struct{}{}:
	default:
	}
}

// polled takes note of whether the last poll shows that requests get through.
func (r *run) polled(through bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case through && r.mended != nil:
		close(r.mended)
		r.mended = nil
	case !through && r.mended == nil:
		r.mended = make(chan struct{})
	}
}

func idsOf(updates []update.Update) []int {
	ids := make([]int, 0, len(updates))
	for _, u := range updates {
		ids = append(ids, int(u.ID))
	}
	return ids
}

// await returns when another poll is worth it: when nothing is in hand any more, so that the poll confirms it all
// and waits for more; otherwise after a while, so that those chats whose updates take long do not delay others. If the last poll
// was full, more wait, most likely: then it is worth it as soon as half of what it brought can be confirmed.
func (r *run) await(ctx context.Context, full bool) {
	r.term.Expect(pollLoop, pollStuck+slack)
	start := time.Now()
	for {
		again := r.secure()
		r.mu.Lock()
		worth, d := r.offsets.idle() || full && len(r.offsets.fetched) <= maxBatch/2, pollStuck
		if r.offsets.offset != 0 {
			d = pollAgain
		}
		r.mu.Unlock()
		if d -= time.Since(start); worth || d <= 0 {
			return
		}
		if again > 0 {
			d = min(d, again)
		}
		t := time.NewTimer(d)
		select {
		case <-r.stirred:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// finish has the consumer end and confirms what it did; what cannot be handled in time is left to the
// successor. When the way to Telegram is known not to work there is nothing to wait for.
func (r *run) finish(ctx context.Context) {
	r.term.Expect(pollLoop, drainBound+slack)
	working, stop := context.WithTimeout(ctx, drainBound)
	defer stop()
	works := r.reach.Works()
	if !works {
		stop()
	}
	r.consumer.Drain(working)
	if works {
		r.confirm(ctx)
	}
}

// poll asks for updates once and deals with what went wrong; ok if there was an answer.
func (r *run) poll(ctx context.Context) (updates []update.Update, ok bool) {
	began := time.Now()
	r.mu.Lock()
	p := r.offsets.next(r.failures, began).slower(r.reach.AnswerBound)
	atOnce := p.timeout == 0 && !p.askFirst || !r.offsets.idle()
	r.mu.Unlock()
	if r.failures > 0 {
		r.measure(ctx)
	}
	updates, took, err := r.getUpdates(ctx, p)
	switch v := telegram.Judge(ctx, err); {
	case v == telegram.Fine:
		if wait := time.Duration(p.timeout) * time.Second; atOnce && len(updates) > 0 {
			r.reach.Answered(took)
		} else if len(updates) == 0 && took > wait && !p.askFirst {
			r.reach.Answered(took - wait)
		}
		r.failures, r.refusals = 0, 0
		r.polled(true)
		r.reach.SetTrouble("", nil)
		r.reach.Polled()
		r.mu.Lock()
		r.offsets.acked(p.offset, idsOf(updates))
		if len(updates) == 0 {
			r.settle()
		}
		r.mu.Unlock()
		return updates, true
	case v != telegram.Over:
		r.wait(ctx, r.failed(ctx, v, err, p.dueAt(began)))
	case ctx.Err() != nil:
		r.mu.Lock()
		r.offsets.aborted(p.offset)
		r.mu.Unlock()
	default:
		// The lease has ended; the caller that started the term ends it. Work that ends by itself counts as failed.
		r.wait(ctx, leaseWait)
	}
	return nil, false
}

// measure has Telegram asked, beside polls that fail, how long an answer takes now: a poll that is given up too soon never
// shows it.
func (r *run) measure(ctx context.Context) {
	if !r.measuring.CompareAndSwap(false, true) {
		return
	}
	r.besides.Go(func() {
		defer r.measuring.Store(false)
		if r.reach.GetMe(ctx, measureBound) == nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.measured = time.Now()
		}
	})
}

// askedLately tells whether Telegram has answered such a question just now.
func (r *run) askedLately() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.measured) < pollBackOff+slack
}

// getUpdates polls, and tells how long that took.
func (r *run) getUpdates(ctx context.Context, p poll) ([]update.Update, time.Duration, error) {
	if p.askFirst && !r.askedLately() {
		bound := r.reach.AnswerBound(reach.ProbeBound)
		r.term.Expect(pollLoop, bound+slack)
		if err := r.reach.GetMe(ctx, bound); err != nil {
			return nil, 0, err //nolint:wrapcheck // it names the method
		}
	}
	r.term.Expect(pollLoop, p.bound+slack)
	ctx, cancel := context.WithTimeout(ctx, p.bound)
	defer cancel()
	start := time.Now()
	r.mu.Lock()
	allowed := r.allowed
	r.mu.Unlock()
	var raw json.RawMessage
	err := r.in.cfg.Caller.Call(ctx, "getUpdates", pollParams{Offset: p.offset, Limit: p.limit, Timeout: p.timeout, Allowed: allowed}, &raw)
	if err != nil {
		return nil, time.Since(start), err
	}
	updates, err := update.Split(raw)
	return updates, time.Since(start), err
}

// pollParams are getUpdates' parameters. Telegram remembers what a former program asked for: the kinds are named if they are known.
type pollParams struct {
	Offset  int      `json:"offset,omitempty"`
	Limit   int      `json:"limit,omitempty"`
	Timeout int      `json:"timeout,omitempty"`
	Allowed []string `json:"allowed_updates,omitzero"`
}

// failed takes note of a poll that failed, whose answer was due by then, and returns how long to wait before the
// next.
func (r *run) failed(ctx context.Context, v telegram.Verdict, err error, due time.Time) time.Duration {
	random := rand.Float64() //nolint:gosec // jitter
	// Telegram that limits polls, or has another poller, takes messages.
	r.polled(v == telegram.Limited || v == telegram.Conflict || v == telegram.Webhook)
	if v != telegram.Transient && v != telegram.Permanent {
		r.reach.Reached()
	}
	switch v {
	case telegram.Limited:
		d := telegram.RetryAfter(err)
		r.in.cfg.Logger.Warn("Telegram limits polling", "retry_after_seconds", d.Seconds())
		return d
	case telegram.Unauthorized:
		r.reach.SetTrouble(diagnosis.TroubleToken, err)
		r.refusals++
		return telegram.BackOff(r.refusals-1, 5*time.Second, time.Minute, random)
	case telegram.Webhook:
		r.in.metrics.conflicts.Inc()
		if !r.webhookTaken {
			r.in.cfg.Logger.Warn("a webhook is set for this token: removing it, what waits is kept")
			if r.webhookTaken = r.deleteWebhook(ctx); r.webhookTaken {
				r.reach.WebhookGone()
				return 0
			}
		}
		r.reach.SetTrouble(diagnosis.TroubleWebhook, err)
		r.refusals++
		return telegram.BackOff(r.refusals-1, time.Second, 5*time.Second, random)
	case telegram.Conflict:
		r.in.metrics.conflicts.Inc()
		r.reach.SetTrouble(diagnosis.TroubleConflict, err)
		r.refusals++
		return telegram.BackOff(r.refusals-1, time.Second, 5*time.Second, random)
	default:
		r.reach.PollFailed(due, err.Error())
		if r.failures == 0 {
			r.in.cfg.Logger.Warn("a poll failed", "error", err)
		}
		r.failures++
		return telegram.BackOff(r.failures-1, 50*time.Millisecond, pollBackOff, random)
	}
}

// deleteWebhook tells whether Telegram has dealt with it; otherwise it is worth another try.
func (r *run) deleteWebhook(ctx context.Context) bool {
	r.term.Expect(pollLoop, askBound+slack)
	asking, cancel := context.WithTimeout(ctx, askBound)
	defer cancel()
	err := r.in.cfg.Caller.Call(asking, "deleteWebhook", nil, nil)
	v := telegram.Judge(ctx, err)
	if v != telegram.Fine && v != telegram.Over {
		r.in.cfg.Logger.Error("the webhook could not be removed", "error", err)
	}
	return v == telegram.Fine || v == telegram.Permanent
}

// wait waits, and tells the watcher that it does.
func (r *run) wait(ctx context.Context, d time.Duration) {
	r.term.Expect(pollLoop, d+slack)
	sleep(ctx, d)
}

// confirm tells Telegram, on stopping, what was handled since the last poll. Without anything new it
// asks nothing: Telegram would keep a poll that repeats itself waiting for three seconds.
func (r *run) confirm(ctx context.Context) {
	if !r.offsets.unconfirmed() || ctx.Err() != nil || !r.term.Held() {
		return
	}
	r.term.Expect(pollLoop, confirmBound+slack)
	ctx, cancel := context.WithTimeout(ctx, confirmBound)
	defer cancel()
	err := r.in.cfg.Caller.Call(ctx, "getUpdates", pollParams{Offset: r.offsets.offset, Limit: 1}, nil)
	if err != nil {
		r.in.cfg.Logger.Warn("could not confirm the last updates; the next primary will skip them", "error", err)
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

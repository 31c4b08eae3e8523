package bot

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mymmrac/telego"

	"habot/app/diagnosis"
)

// Bounds of a term's work.
const (
	maxBatch = 100
	// maxParallel is how many updates are being answered at once, and so how many a crash may have answered twice.
	maxParallel  = 16
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
	// pollAgain is for when there is something to confirm: it makes room for new updates.
	pollAgain = 100 * time.Millisecond
	// pollStuck is for when the oldest update in hand is still the same. Telegram gives a poll that repeats another's
	// offset within half a second one update only.
	pollStuck = time.Second
)

// pollLoop is what the watcher knows the poll loop as.
const pollLoop = "poller"

// run is the work of one term: a loop that polls, and a line of updates for each chat that has some in hand.
type run struct {
	b    *Bot
	term Term

	// The poll loop's own.
	failures     int // polls failed in a row
	refusals     int // 401 and 409 in a row
	webhookTaken bool

	besides   sync.WaitGroup // what goes on beside polls
	measuring atomic.Bool
	measured  atomic.Int64 // when Telegram answered such a question last, in ns

	handling sync.WaitGroup // the lines
	places   chan struct{}  // of maxParallel, those taken
	stirred  chan struct{}  // told when an update is handled, or waits
	draining chan struct{}  // closed when the poll loop has ended; drainEnd is set before
	drainEnd time.Time

	mu    sync.Mutex
	book  *ledger
	lines map[int64]*line // by chat; none is empty
	kept  backlog
	parts map[int]int // of the answers to updates in hand, those that have been sent, but for 0
	// mended is closed when a poll succeeds again; nil while they do.
	mended chan struct{}
}

// RunAsPrimary polls and handles until Drain is closed or ctx ends. When ctx ends nothing leaves any
// more. It returns only after its last request has ended: then the bot is silent.
func (b *Bot) RunAsPrimary(ctx context.Context, t Term) error {
	b.running.Store(true)
	defer func() {
		b.running.Store(false)
		b.note(func(tr *tracker, now time.Time) { tr.roleEnded(now) })
	}()
	b.tookOver()
	r := &run{
		b: b, term: t, book: newLedger(t.Handled), lines: map[int64]*line{},
		places: make(chan struct{}, maxParallel), stirred: make(chan struct{}, 1), draining: make(chan struct{}), parts: map[int]int{},
	}
	b.note(func(tr *tracker, now time.Time) {
		if tr.doubted(now) {
			r.failures = 1 // the first poll is to tell soon
		}
		tr.roleBegan()
	})
	ctx = withHeld(ctx, t.Held)
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
	working, stopWorking := context.WithCancel(ctx)
	defer stopWorking()

	greeted, first := false, b.traced(polling)
	for polling.Err() == nil {
		updates, ok := r.poll(first)
		if !ok {
			continue
		}
		if !greeted {
			greeted, first = true, polling
			r.besides.Go(func() { b.setCommands(polling) })
			r.gather(polling, working)
		}
		r.take(working, updates) // each looks at the lease itself before it is handled
		r.await(polling)
	}
	r.finish(ctx, stopWorking)
	return nil
}

// traced has the debug log tell how long it took until the first poll of a term was on the wire.
func (b *Bot) traced(ctx context.Context) context.Context {
	if !b.cfg.Logger.Enabled(ctx, slog.LevelDebug) {
		return ctx
	}
	began := time.Now()
	var reused atomic.Bool
	var once sync.Once
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(c httptrace.GotConnInfo) { reused.Store(c.Reused) },
		WroteRequest: func(w httptrace.WroteRequestInfo) {
			once.Do(func() {
				b.cfg.Logger.Debug("first poll sent", "connection_reused", reused.Load(), "seconds", time.Since(began).Seconds(), "failed", w.Err != nil)
			})
		},
	})
}

// gatherBound is for what Gather waits.
const gatherBound = 2 * time.Second

// gather takes in what earlier terms have left to do, before anything newer is handled: so each chat is answered in order. What
// turns up later is taken in then.
func (r *run) gather(polling, working context.Context) {
	r.term.Within(pollLoop, gatherBound+slack)
	r.term.Gather(polling)
	r.inherit(working, r.term.Notes)
	now, cancel := context.WithCancel(polling)
	cancel()
	for r.takeLate(now, working) { // who has handed in one term's may know another's
		r.term.Within(pollLoop, gatherBound+slack)
		r.term.Gather(polling)
	}
	r.besides.Go(func() {
		for r.takeLate(polling, working) {
		}
	})
}

// await returns when another poll is worth it: when nothing is in hand any more, so that the poll confirms it all
// and waits for more; otherwise after a while, so that those chats whose updates take long hold up no other.
func (r *run) await(ctx context.Context) {
	r.term.Within(pollLoop, pollStuck+slack)
	start := time.Now()
	for {
		again := r.secure()
		r.mu.Lock()
		idle, d := r.book.idle(), pollStuck
		if r.book.offset != 0 {
			d = pollAgain
		}
		r.mu.Unlock()
		if d -= time.Since(start); idle || d <= 0 {
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

// finish has the lines end and confirms what they did; a chat that cannot be answered in time is left to the
// successor. When the way to Telegram is known not to work there is nothing to wait for.
func (r *run) finish(ctx context.Context, stopWorking func()) {
	r.term.Within(pollLoop, drainBound+slack)
	r.drainEnd = time.Now().Add(drainBound)
	close(r.draining)
	if !r.b.reachesTelegram() {
		stopWorking()
		r.handling.Wait()
		return
	}
	t := time.AfterFunc(drainBound, stopWorking)
	defer t.Stop()
	r.handling.Wait()
	r.confirm(ctx)
}

// poll asks for updates once and deals with what went wrong; ok if there was an answer.
func (r *run) poll(ctx context.Context) (updates []telego.Update, ok bool) {
	began := time.Now()
	r.mu.Lock()
	p := r.book.next(r.failures, began).slower(r.b.answerBound)
	atOnce := p.timeout == 0 && !p.askFirst || !r.book.idle()
	r.mu.Unlock()
	if r.failures > 0 {
		r.measure(ctx)
	}
	updates, took, err := r.getUpdates(ctx, p)
	switch v := judge(ctx, err); {
	case v == fine:
		if wait := time.Duration(p.timeout) * time.Second; atOnce && len(updates) > 0 {
			r.b.answered(took)
		} else if len(updates) == 0 && took > wait && !p.askFirst {
			r.b.answered(took - wait)
		}
		r.failures, r.refusals = 0, 0
		r.polled(true)
		r.b.setTrouble("", nil)
		r.b.note(func(t *tracker, now time.Time) {
			t.reached()
			r.b.polledAt = now
		})
		r.mu.Lock()
		r.book.polled(p.offset, idsOf(updates))
		if len(updates) == 0 {
			r.settle()
		}
		r.mu.Unlock()
		return updates, true
	case v != over:
		r.wait(ctx, r.failed(ctx, v, err, p.dueAt(began)))
	case ctx.Err() != nil:
		r.mu.Lock()
		r.book.cutOff(p.offset)
		r.mu.Unlock()
	default:
		// The lease has ended; whoever started the term ends it. Work that ends by itself counts as failed.
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
		if r.b.getMe(ctx, slowProbe) == nil {
			r.measured.Store(time.Now().UnixNano())
		}
	})
}

// askedLately tells whether Telegram has answered such a question just now.
func (r *run) askedLately() bool {
	return time.Since(time.Unix(0, r.measured.Load())) < pollBackOff+slack
}

// getUpdates polls, and tells how long that took.
func (r *run) getUpdates(ctx context.Context, p poll) ([]telego.Update, time.Duration, error) {
	if p.askFirst && !r.askedLately() {
		bound := r.b.answerBound(probeBound)
		r.term.Within(pollLoop, bound+slack)
		if err := r.b.getMe(ctx, bound); err != nil {
			return nil, 0, err
		}
	}
	r.term.Within(pollLoop, p.bound+slack)
	ctx, cancel := context.WithTimeout(ctx, p.bound)
	defer cancel()
	start := time.Now()
	updates, err := r.b.api.GetUpdates(ctx, &telego.GetUpdatesParams{
		Offset:  p.offset,
		Limit:   p.limit,
		Timeout: p.timeout,
		// Only what is handled: Telegram remembers what a former program asked for.
		AllowedUpdates: []string{telego.MessageUpdates},
	})
	return updates, time.Since(start), err
}

// failed takes note of a poll that failed, whose answer was due by then, and returns how long to wait before the
// next.
func (r *run) failed(ctx context.Context, v verdict, err error, due time.Time) time.Duration {
	b := r.b
	random := rand.Float64() //nolint:gosec // jitter
	// Telegram that limits polls, or has another poller, takes messages.
	r.polled(v == limited || v == conflict || v == webhook)
	if v != transient && v != permanent {
		b.note(func(t *tracker, _ time.Time) { t.reached() })
	}
	switch v {
	case limited:
		d := retryAfter(err)
		b.cfg.Logger.Warn("Telegram limits polling", "retry_after_seconds", d.Seconds())
		return d
	case unauthorized:
		b.setTrouble(diagnosis.TroubleToken, err)
		r.refusals++
		return backOff(r.refusals-1, 5*time.Second, time.Minute, random)
	case webhook:
		b.metrics.conflicts.Inc()
		if !r.webhookTaken {
			b.cfg.Logger.Warn("a webhook is set for this token: removing it, what waits is kept")
			if r.webhookTaken = r.deleteWebhook(ctx); r.webhookTaken {
				b.webhookGone()
				return 0
			}
		}
		b.setTrouble(diagnosis.TroubleWebhook, err)
		r.refusals++
		return backOff(r.refusals-1, time.Second, 5*time.Second, random)
	case conflict:
		b.metrics.conflicts.Inc()
		b.setTrouble(diagnosis.TroubleConflict, err)
		r.refusals++
		return backOff(r.refusals-1, time.Second, 5*time.Second, random)
	default:
		b.note(func(t *tracker, now time.Time) { t.pollFailed(now, due, err.Error()) })
		if r.failures == 0 {
			b.cfg.Logger.Warn("a poll failed", "error", err)
		}
		r.failures++
		return backOff(r.failures-1, 50*time.Millisecond, pollBackOff, random)
	}
}

// deleteWebhook tells whether Telegram has dealt with it; otherwise it is worth another try.
func (r *run) deleteWebhook(ctx context.Context) bool {
	r.term.Within(pollLoop, sendBound+slack)
	asking, cancel := context.WithTimeout(ctx, sendBound)
	defer cancel()
	err := r.b.api.DeleteWebhook(asking, &telego.DeleteWebhookParams{})
	v := judge(ctx, err)
	if v != fine && v != over {
		r.b.cfg.Logger.Error("the webhook could not be removed", "error", err)
	}
	return v == fine || v == permanent
}

// wait waits, and tells the watcher that it does.
func (r *run) wait(ctx context.Context, d time.Duration) {
	r.term.Within(pollLoop, d+slack)
	sleep(ctx, d)
}

// confirm tells Telegram, on stopping, what was handled since the last poll. Without anything new it
// asks nothing: Telegram would keep a poll that repeats itself waiting for three seconds.
func (r *run) confirm(ctx context.Context) {
	if !r.book.unconfirmed() || ctx.Err() != nil || !r.term.Held() {
		return
	}
	r.term.Within(pollLoop, confirmBound+slack)
	ctx, cancel := context.WithTimeout(ctx, confirmBound)
	defer cancel()
	_, err := r.b.api.GetUpdates(ctx, &telego.GetUpdatesParams{Offset: r.book.offset, Limit: 1})
	if err != nil {
		r.b.cfg.Logger.Warn("could not confirm the last updates; the next primary will skip them", "error", err)
	}
}

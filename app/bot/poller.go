package bot

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/mymmrac/telego"
)

// Bounds of a term's work.
const (
	maxBatch     = 100
	maxParallel  = 16
	drainBound   = 5 * time.Second
	confirmBound = time.Second
	// slack is what a promise to the watcher leaves for a loaded machine.
	slack = time.Second
	// leaseWait is between looks at a lease that has ended, until the term is.
	leaseWait = 50 * time.Millisecond
)

// run is the work of one term.
type run struct {
	b    *Bot
	term Term
	book *ledger
	mu   sync.Mutex // guards book and due while a batch is in hand
	due  time.Time  // when the watcher hears of this run at the latest

	failures     int // polls failed in a row
	refusals     int // 401 and 409 in a row
	webhookTaken bool
}

// RunAsPrimary polls and handles until Drain is closed or ctx ends. When ctx ends nothing leaves any
// more. It returns only after its last request has ended: then the bot is silent.
func (b *Bot) RunAsPrimary(ctx context.Context, t Term) error {
	b.running.Store(true)
	defer func() {
		b.running.Store(false)
		b.note(func(tr *tracker, _ time.Time) { tr.roleEnded() })
	}()
	b.tookOver()
	r := &run{b: b, term: t, book: newLedger(t.Handled)}
	ctx = withHeld(ctx, t.Held)

	polling, stopPolling := context.WithCancel(ctx)
	defer stopPolling()
	stopWatching := context.AfterFunc(ctx, stopPolling)
	defer stopWatching()
	drained := make(chan struct{})
	defer close(drained)
	go func() {
		select {
		case <-t.Drain:
			stopPolling()
		case <-drained:
		}
	}()

	aside, stopAside := context.WithCancel(polling)
	var besides sync.WaitGroup
	defer besides.Wait()
	defer stopAside()

	greeted := false
	for polling.Err() == nil {
		updates, ok := r.poll(polling)
		if !ok {
			continue
		}
		if !greeted {
			greeted = true
			besides.Go(func() { b.setCommands(aside) })
		}
		if !t.Held() {
			continue // what came back may be another primary's by now
		}
		r.handleAll(ctx, polling, updates)
	}
	r.confirm(ctx)
	return nil
}

// poll asks for updates once and deals with what went wrong; ok if there was an answer.
func (r *run) poll(ctx context.Context) (updates []telego.Update, ok bool) {
	p := r.book.next(r.failures, time.Now())
	r.promise(p.bound + probeBound + slack)
	updates, err := r.getUpdates(ctx, p)
	switch v := judge(ctx, err); {
	case v == fine:
		r.succeeded()
		r.book.polled(p.offset)
		return updates, true
	case v != over:
		r.wait(ctx, r.failed(ctx, v, err))
	case ctx.Err() != nil:
		r.book.cutOff(p.offset)
	default:
		// The lease has ended; whoever started the term ends it. Work that ends by itself counts as failed.
		r.wait(ctx, leaseWait)
	}
	return nil, false
}

func (r *run) succeeded() {
	r.failures, r.refusals = 0, 0
	r.b.setTrouble("")
	r.b.note(func(t *tracker, _ time.Time) { t.pollSucceeded() })
}

func (r *run) getUpdates(ctx context.Context, p poll) ([]telego.Update, error) {
	if p.askFirst {
		if err := r.b.getMe(ctx, probeBound); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, p.bound)
	defer cancel()
	return r.b.api.GetUpdates(ctx, &telego.GetUpdatesParams{ //nolint:wrapcheck // judged and logged by the caller
		Offset:  p.offset,
		Limit:   p.limit,
		Timeout: p.timeout,
		// Only what is handled: Telegram remembers what a former program asked for.
		AllowedUpdates: []string{telego.MessageUpdates},
	})
}

// failed takes note of a failed poll and returns how long to wait before the next.
func (r *run) failed(ctx context.Context, v verdict, err error) time.Duration {
	b := r.b
	random := rand.Float64() //nolint:gosec // jitter
	if v != transient && v != permanent {
		b.note(func(t *tracker, _ time.Time) { t.pollRefused() })
	}
	switch v {
	case limited:
		d := retryAfter(err)
		b.cfg.Logger.Warn("Telegram limits polling", "retry_after_seconds", d.Seconds())
		return d
	case unauthorized:
		b.setTrouble(troubleToken)
		r.refusals++
		return backOff(r.refusals-1, 5*time.Second, time.Minute, random)
	case webhook:
		b.metrics.conflicts.Inc()
		if !r.webhookTaken {
			b.cfg.Logger.Warn("a webhook is set for this token: removing it, what waits is kept")
			if r.webhookTaken = r.deleteWebhook(ctx); r.webhookTaken {
				return 0
			}
		}
		b.setTrouble(troubleWebhook)
		r.refusals++
		return backOff(r.refusals-1, time.Second, 5*time.Second, random)
	case conflict:
		b.metrics.conflicts.Inc()
		b.setTrouble(troubleConflict)
		r.refusals++
		return backOff(r.refusals-1, time.Second, 5*time.Second, random)
	default:
		b.note(func(t *tracker, now time.Time) { t.pollFailed(now, err.Error()) })
		if r.failures == 0 {
			b.cfg.Logger.Warn("a poll failed", "error", err)
		}
		r.failures++
		return backOff(r.failures-1, 50*time.Millisecond, pollBackOff, random)
	}
}

// deleteWebhook tells whether Telegram has dealt with it; otherwise it is worth another try.
func (r *run) deleteWebhook(ctx context.Context) bool {
	r.within(sendBound + slack)
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
	r.promise(d + slack)
	sleep(ctx, d)
}

// promise replaces what the watcher was promised before.
func (r *run) promise(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due = time.Now().Add(d)
	r.term.Within(d)
}

// within is a promise among others: of those of chats side by side the latest holds, for one chat's
// short wait must not call in another's long one.
func (r *run) within(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if due := now.Add(d); due.After(r.due) {
		r.due = due
	}
	r.term.Within(r.due.Sub(now))
}

// handleAll handles a batch: each chat's updates in order, chats side by side. Whatever of it could not
// be handled before the term ended is left unconfirmed. polling ends when polls must.
func (r *run) handleAll(ctx, polling context.Context, updates []telego.Update) {
	if len(updates) == 0 {
		return
	}
	r.promise(sendBound + slack)
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	inHand, release := context.WithCancel(polling)
	var tests sync.WaitGroup
	tests.Go(func() { r.testPolls(inHand) })
	defer tests.Wait()
	defer release()
	done := make([]bool, len(updates))
	slots := make(chan struct{}, maxParallel)
	var all sync.WaitGroup
	for _, line := range byChat(updates) {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			for _, i := range line {
				if done[i] = r.handleOne(ctx, updates[i]); !done[i] {
					return // the chat's next must not overtake it
				}
			}
		})
	}
	all.Wait()
	r.book.through(confirmable(updates, done), time.Now())
}

// testPolls polls now and then while a batch takes long, and confirms nothing: what cannot be answered
// for want of a way to Telegram must not keep health from seeing that there is none.
func (r *run) testPolls(ctx context.Context) {
	d := probeEvery
	for sleep(ctx, d) {
		_, err := r.getUpdates(ctx, poll{limit: 1, bound: probeTimeout})
		d = probeEvery
		switch v := judge(ctx, err); v {
		case fine:
			r.succeeded()
		case over:
		default:
			d = max(d, r.failed(ctx, v, err))
		}
	}
}

// bounded ends what is in hand some time after Drain was closed.
func (r *run) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-r.term.Drain:
			sleep(ctx, drainBound)
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// byChat groups a batch by chat, each group in order, as indices.
func byChat(updates []telego.Update) [][]int {
	var lines [][]int
	line := map[int64]int{}
	for i, u := range updates {
		chat := chatOf(u)
		n, known := line[chat]
		if !known {
			n = len(lines)
			line[chat] = n
			lines = append(lines, nil)
		}
		lines[n] = append(lines[n], i)
	}
	return lines
}

func chatOf(u telego.Update) int64 {
	if u.Message != nil {
		return u.Message.Chat.ID
	}
	return 0
}

// confirmable is the offset that confirms everything before the first update that was not handled; 0
// if there is no such thing.
func confirmable(updates []telego.Update, done []bool) int {
	offset := 0
	for i, u := range updates {
		if !done[i] {
			break
		}
		offset = u.UpdateID + 1
	}
	return offset
}

// confirm tells Telegram, on stopping, what was handled since the last poll. Without anything new it
// asks nothing: Telegram would keep a poll that repeats itself waiting for three seconds.
func (r *run) confirm(ctx context.Context) {
	if !r.book.unconfirmed() || ctx.Err() != nil || !r.term.Held() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, confirmBound)
	defer cancel()
	r.promise(confirmBound + slack)
	_, err := r.b.api.GetUpdates(ctx, &telego.GetUpdatesParams{Offset: r.book.offset, Limit: 1})
	if err != nil {
		r.b.cfg.Logger.Warn("what was handled last could not be confirmed: the next primary is told to skip it", "error", err)
	}
}

// handleOne handles one update; false if the term ended first.
func (r *run) handleOne(ctx context.Context, u telego.Update) bool {
	m := r.b.metrics
	r.mu.Lock()
	seen := r.book.seen(u.UpdateID)
	r.mu.Unlock()
	if seen {
		m.updates.WithLabelValues(outcomeSkipped).Inc()
		return true
	}
	if ctx.Err() != nil || !r.term.Held() {
		return false
	}
	start := time.Now()
	outcome, ok := r.respond(ctx, u)
	if !ok {
		return false
	}
	r.mu.Lock()
	r.book.done(u.UpdateID)
	r.term.Report(r.book.ids()) // under the lock: an older report must not overtake a newer one
	r.mu.Unlock()
	m.updates.WithLabelValues(outcome).Inc()
	m.updateSeconds.Observe(time.Since(start).Seconds())
	if u.Message != nil {
		m.updateAge.Observe(max(0, time.Since(time.Unix(u.Message.Date, 0)).Seconds()))
	}
	return true
}

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
	slack = 5 * time.Second
)

// run is the work of one term.
type run struct {
	b    *Bot
	term Term
	book *ledger
	mu   sync.Mutex // guards book while a batch is in hand

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
	besides.Go(func() { b.announce(aside, t.Change) })
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
			break // what came back may be another primary's by now
		}
		r.handleAll(ctx, updates)
	}
	r.confirm(ctx)
	return nil
}

// poll asks for updates once and deals with what went wrong; ok if there was an answer.
func (r *run) poll(ctx context.Context) (updates []telego.Update, ok bool) {
	p := r.book.next(r.failures)
	r.term.Within(p.bound + slack)
	updates, err := r.getUpdates(ctx, p)
	v := judge(ctx, err)
	if v == fine {
		r.failures, r.refusals = 0, 0
		r.book.polled(p.offset)
		r.b.setTrouble("")
		r.b.note(func(t *tracker, _ time.Time) { t.pollSucceeded() })
		return updates, true
	}
	if v != over {
		r.wait(ctx, r.failed(ctx, v, err))
	}
	return nil, false
}

func (r *run) getUpdates(ctx context.Context, p poll) ([]telego.Update, error) {
	ctx, cancel := context.WithTimeout(ctx, p.bound)
	defer cancel()
	return r.b.api.GetUpdates(ctx, &telego.GetUpdatesParams{ //nolint:wrapcheck // judged and logged by the caller
		Offset:  p.offset,
		Limit:   maxBatch,
		Timeout: p.timeout,
		// Only what is handled: Telegram remembers what a former program asked for.
		AllowedUpdates: []string{telego.MessageUpdates},
	})
}

// failed takes note of a failed poll and returns how long to wait before the next.
func (r *run) failed(ctx context.Context, v verdict, err error) time.Duration {
	b := r.b
	random := rand.Float64() //nolint:gosec // jitter
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
			r.webhookTaken = true
			b.cfg.Logger.Warn("a webhook is set for this token: removing it, what waits is kept")
			r.deleteWebhook(ctx)
			return 0
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

func (r *run) deleteWebhook(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sendBound)
	defer cancel()
	if err := r.b.api.DeleteWebhook(ctx, &telego.DeleteWebhookParams{}); err != nil {
		r.b.cfg.Logger.Error("the webhook could not be removed", "error", err)
	}
}

// wait waits, and tells the watcher that it does.
func (r *run) wait(ctx context.Context, d time.Duration) {
	r.term.Within(d + slack)
	sleep(ctx, d)
}

// handleAll handles a batch: each chat's updates in order, chats side by side. Whatever of it could not
// be handled before the term ended is left unconfirmed.
func (r *run) handleAll(ctx context.Context, updates []telego.Update) {
	if len(updates) == 0 {
		return
	}
	ctx, cancel := r.bounded(ctx)
	defer cancel()
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
	r.book.through(confirmable(updates, done))
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
	if r.book.offset == 0 || ctx.Err() != nil || !r.term.Held() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, confirmBound)
	defer cancel()
	r.term.Within(confirmBound + slack)
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
	ids := r.book.ids()
	r.mu.Unlock()
	r.term.Report(ids)
	m.updates.WithLabelValues(outcome).Inc()
	m.updateSeconds.Observe(time.Since(start).Seconds())
	if u.Message != nil {
		m.updateAge.Observe(max(0, time.Since(time.Unix(u.Message.Date, 0)).Seconds()))
	}
	return true
}

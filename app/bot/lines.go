package bot

import (
	"context"
	"fmt"
	"time"

	"github.com/mymmrac/telego"
)

// line is what is in hand of one chat, in order. Its first update is being handled.
type line struct {
	updates []telego.Update
	part    string // what the watcher knows it as
	placed  bool   // holds one of the places; its own goroutine's
	waits   bool   // since Telegram limits its chat; guarded by run.mu
}

// take puts what is new of a poll's answer at the ends of the chats' lines.
func (r *run) take(ctx context.Context, updates []telego.Update) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for _, u := range updates {
		switch {
		case r.book.knows(u.UpdateID):
		case r.book.take(u.UpdateID, now):
			if r.book.handled[u.UpdateID] {
				r.b.metrics.updates.WithLabelValues(outcomeSkipped).Inc()
			}
		default:
			r.enqueue(ctx, u)
		}
	}
}

// enqueue puts an update at the end of its chat's line. r.mu MUST be held.
func (r *run) enqueue(ctx context.Context, u telego.Update) {
	chat := chatOf(u)
	if l := r.lines[chat]; l != nil {
		l.updates = append(l.updates, u)
		return
	}
	l := &line{updates: []telego.Update{u}, part: fmt.Sprintf("chat %d", chat)}
	r.lines[chat] = l
	r.handling.Go(func() { r.work(ctx, chat, l) })
}

func idsOf(updates []telego.Update) []int {
	ids := make([]int, 0, len(updates))
	for _, u := range updates {
		ids = append(ids, u.UpdateID)
	}
	return ids
}

func chatOf(u telego.Update) int64 {
	if u.Message != nil {
		return u.Message.Chat.ID
	}
	return 0
}

// work handles a chat's line to its end, or until the term ends: then the rest is left unconfirmed.
func (r *run) work(ctx context.Context, chat int64, l *line) {
	defer r.term.Within(l.part, 0)
	for {
		r.mu.Lock()
		if len(l.updates) == 0 {
			r.drop(chat)
			r.mu.Unlock()
			return
		}
		u := l.updates[0]
		r.mu.Unlock()
		if r.handleOne(ctx, l, u) {
			continue
		}
		// The chat's next must not overtake it. Whoever started the term ends it.
		if r.stopping() || !sleep(ctx, leaseWait) {
			r.mu.Lock()
			r.drop(chat)
			r.mu.Unlock()
			return
		}
	}
}

// drop ends a line. r.mu MUST be held.
func (r *run) drop(chat int64) { delete(r.lines, chat) }

// handleOne handles the first update of a line; false if the term ended first.
func (r *run) handleOne(ctx context.Context, l *line, u telego.Update) bool {
	defer r.leave(l)
	if !r.enter(ctx, l) || ctx.Err() != nil || !r.term.Held() {
		return false
	}
	start := time.Now()
	outcome, ok := r.respond(ctx, l, u)
	if !ok {
		return false
	}
	r.mu.Lock()
	l.updates = l.updates[1:]
	r.book.done(u.UpdateID, time.Now())
	r.term.Report(r.book.ids()) // under the lock: an older report must not overtake a newer one
	if kept := r.kept.remove(u.UpdateID); kept || r.parts[u.UpdateID] > 0 {
		delete(r.parts, u.UpdateID)
		r.note()
	}
	r.mu.Unlock()
	r.stir()
	m := r.b.metrics
	m.updates.WithLabelValues(outcome).Inc()
	m.updateSeconds.Observe(time.Since(start).Seconds())
	if u.Message != nil {
		m.updateAge.Observe(max(0, time.Since(time.Unix(u.Message.Date, 0)).Seconds()))
	}
	return true
}

// enter waits for one of the places; false if ctx ends first.
func (r *run) enter(ctx context.Context, l *line) bool {
	r.term.Within(l.part, 0) // those that hold the places have promised
	select {
	case r.places <- struct{}{}:
		l.placed = true
		r.term.Within(l.part, sendBound+slack)
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *run) leave(l *line) {
	if l.placed {
		l.placed = false
		<-r.places
	}
}

// pause is the wait between two attempts. It holds no place. It returns false, at once, when the term ends before
// d has passed, or will: the update is left to the successor.
func (r *run) pause(ctx context.Context, l *line, d time.Duration, limited bool) bool {
	r.leave(l)
	if limited {
		r.waits(l, true)
		defer r.waits(l, false)
	}
	r.term.Within(l.part, d+slack)
	end := time.Now().Add(d)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return false
	case <-r.draining:
		if !end.Before(r.drainEnd) || !sleep(ctx, time.Until(end)) {
			return false
		}
	}
	return r.getThrough(ctx, l) && r.enter(ctx, l)
}

// waits takes note whether Telegram limits a line's chat.
func (r *run) waits(l *line, waits bool) {
	r.mu.Lock()
	l.waits = waits
	r.mu.Unlock()
	r.stir()
}

// stir has the poll loop look again at what is in hand.
func (r *run) stir() {
	select {
	case r.stirred <- struct{}{}:
	default:
	}
}

// getThrough waits while polls fail, until one succeeds: a message that is sent meanwhile would most likely fail, too, or be
// taken and come twice. What is in hand outlasts any outage. It returns false when the term ends first.
func (r *run) getThrough(ctx context.Context, l *line) bool {
	r.mu.Lock()
	mended := r.mended
	r.mu.Unlock()
	if mended == nil {
		return true
	}
	r.term.Within(l.part, 0) // the poll loop has promised
	select {
	case <-mended:
		return true
	case <-ctx.Done():
	case <-r.draining:
	}
	return false
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

// stopping tells whether the poll loop has ended.
func (r *run) stopping() bool {
	select {
	case <-r.draining:
		return true
	default:
		return false
	}
}

package admins

import (
	"context"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"habot/app/diagnosis"
	"habot/app/message"
	"habot/app/notify"
	"habot/app/telegram"
)

// notifyBackOff is the longest wait between two attempts to notify an admin: nothing waits for it, and a Telegram
// that rejects the token is not to be asked again and again.
const notifyBackOff = 30 * time.Second

// Run notifies the admins of changes of primary and of what is wrong, until ctx ends; then it returns
// nil. It needs no lease: sending conflicts with no other replica. One message is under way at a time, and what
// happens meanwhile goes into the next.
func (a *Admins) Run(ctx context.Context) error {
	if len(a.cfg.Chats) == 0 {
		<-ctx.Done()
		return nil
	}
	var (
		news     []string
		limit    = rate.NewLimiter(rate.Every(newsEvery), newsBurst)
		notifier = notify.New()
		sent     = make(chan struct{}, 1)
		busy     bool
		under    sync.WaitGroup
	)
	defer under.Wait()
	next := time.NewTicker(notify.Interval)
	defer next.Stop()
	for {
		s := a.snapshot(busy)
		text := notifier.Observe(time.Now(), s)
		if text == "" && s.CanSend && len(news) > 0 && limit.Allow() {
			text, news = strings.Join(news, "\n"), nil
		}
		if text != "" {
			busy = true
			under.Go(func() {
				a.notifyAdmins(ctx, text)
				sent <- struct{}{}
			})
		}
		select {
		case <-next.C:
		case <-a.took:
		case one := <-a.news:
			news = append(news, one)
			if len(news) > maxNews {
				news = append(news[:0], "...", one) // the last counts
			}
		case <-sent:
			busy = false
		case <-ctx.Done():
			return nil
		}
	}
}

// Bounds of news: so many messages at once, then one in a while, each of so many lines.
const (
	newsBurst = 5
	newsEvery = 5 * time.Minute
	maxNews   = 10
)

// News has the admins told of something, as HTML, with what else there is to tell; nothing if it is empty. It does not block: of
// very much at once some is left out.
func (a *Admins) News(text string) {
	if text == "" || len(a.cfg.Chats) == 0 {
		return
	}
	select {
	case a.news <- text:
	default:
	}
}

// TookOver has the admins notified at once that this replica has become primary.
func (a *Admins) TookOver() {
	select {
	case a.took <- struct{}{}:
	default:
	}
}

// snapshot is all that can be seen from here now.
func (a *Admins) snapshot(busy bool) notify.Snapshot {
	f := a.cfg.Facts()
	return notify.Snapshot{
		View: f.View, Incompatible: f.Incompatible, Trouble: f.Trouble, NoBackend: f.NoBackend,
		CanSend: !busy && a.cfg.Reaches() && f.Trouble != diagnosis.TroubleToken,
	}
}

// notifyAdmins sends a message to every admin's chat, side by side: a rate-limited chat does not delay others.
func (a *Admins) notifyAdmins(ctx context.Context, text string) {
	a.cfg.Logger.Info("notifying admins", "text", text)
	var all sync.WaitGroup
	for _, chat := range a.All() {
		all.Go(func() { a.notifyAdmin(ctx, chat, text) })
	}
	all.Wait()
}

// notifyAdmin sends a message to one chat. A chat that is gone, or refuses messages, is tried once for each message, and
// reported once until it takes one.
func (a *Admins) notifyAdmin(ctx context.Context, chat int64, text string) {
	for _, part := range message.HTML(message.Place{Chat: chat}, text) {
		v, err := a.cfg.Sender.Send(ctx, part, notifyPace())
		if v == telegram.Over {
			return // this replica shuts down
		}
		outcome := notifyOutcome(v)
		a.messages.WithLabelValues(outcome).Inc()
		a.mu.Lock()
		known := a.muted[chat]
		a.muted[chat] = v == telegram.Permanent
		a.mu.Unlock()
		if v == telegram.Fine {
			continue
		}
		if v != telegram.Permanent || !known {
			a.cfg.Logger.Warn("an admin could not be notified", "chat_id", chat, "outcome", outcome, "error", err)
		}
		return
	}
}

// notifyPace is that of messages to admins, for which no update waits.
func notifyPace() message.Pace {
	return message.Pace{Longest: notifyBackOff, Begin: func(time.Duration) {}, Pause: func(ctx context.Context, d time.Duration, _ bool) bool { return sleep(ctx, d) }}
}

func notifyOutcome(v telegram.Verdict) string {
	switch v {
	case telegram.Fine:
		return outcomeSent
	case telegram.Permanent:
		return outcomeRefused
	default:
		return outcomeFailed
	}
}

// Outcomes of messages to admins. The set is closed: they are values of a metric's label.
const (
	outcomeSent    = "sent"
	outcomeRefused = "refused"
	// outcomeFailed: Telegram failed until it was given up.
	outcomeFailed = "failed"
)

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

package bot

import (
	"context"
	"sync"
	"time"

	"habot/app/diagnosis"
	"habot/app/notify"
)

// notifyBackOff is the longest wait between two attempts to notify an admin: nothing waits for it, and a Telegram
// that rejects the token is not to be asked again and again.
const notifyBackOff = 30 * time.Second

// RunNotifier notifies the admins of changes of primary and of what is wrong, until ctx ends; then it returns
// nil. It needs no lease: sending conflicts with no other replica. One message is under way at a time, and what
// happens meanwhile goes into the next.
func (b *Bot) RunNotifier(ctx context.Context) error {
	if len(b.cfg.AdminChatIDs) == 0 {
		<-ctx.Done()
		return nil
	}
	var (
		notifier = notify.New()
		sent     = make(chan struct{}, 1)
		busy     bool
		under    sync.WaitGroup
	)
	defer under.Wait()
	next := time.NewTicker(notify.Interval)
	defer next.Stop()
	for {
		if text := notifier.Observe(time.Now(), b.snapshot(busy)); text != "" {
			busy = true
			under.Go(func() {
				b.notifyAdmins(ctx, text)
				sent <- struct{}{}
			})
		}
		select {
		case <-next.C:
		case <-b.took:
		case <-sent:
			busy = false
		case <-ctx.Done():
			return nil
		}
	}
}

// tookOver has the admins notified at once that this replica has become primary.
func (b *Bot) tookOver() {
	select {
	case b.took <- struct{}{}:
	default:
	}
}

// snapshot is all that can be seen from here now.
func (b *Bot) snapshot(busy bool) notify.Snapshot {
	s := notify.Snapshot{View: b.cfg.Cluster.View()}
	if b.cfg.IncompatiblePeers != nil {
		s.Incompatible = b.cfg.IncompatiblePeers()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Trouble = b.trouble
	s.CanSend = !busy && !b.lost && b.trouble != diagnosis.TroubleToken
	return s
}

// notifyAdmins sends a message to every admin's chat, side by side: a rate-limited chat does not delay others.
func (b *Bot) notifyAdmins(ctx context.Context, text string) {
	b.cfg.Logger.Info("notifying admins", "text", text)
	var all sync.WaitGroup
	for _, chat := range b.adminChats() {
		all.Go(func() { b.notifyAdmin(ctx, chat, text) })
	}
	all.Wait()
}

// notifyAdmin sends a message to one chat. A chat that is gone, or refuses messages, is tried once for each message, and
// reported once until it takes one.
func (b *Bot) notifyAdmin(ctx context.Context, chat int64, text string) {
	for _, part := range b.html(place{chat: chat}, text) {
		v, err := b.send(ctx, part, notifyPace())
		if v == over {
			return // this replica shuts down
		}
		outcome := notifyOutcome(v)
		b.metrics.adminMessages.WithLabelValues(outcome).Inc()
		b.mu.Lock()
		known := b.muted[chat]
		b.muted[chat] = v == permanent
		b.mu.Unlock()
		if v == fine {
			continue
		}
		if v != permanent || !known {
			b.cfg.Logger.Warn("an admin could not be notified", "chat_id", chat, "outcome", outcome, "error", err)
		}
		return
	}
}

// notifyPace is that of messages to admins, for which no update waits.
func notifyPace() pace {
	return pace{longest: notifyBackOff, begin: func(time.Duration) {}, pause: func(ctx context.Context, d time.Duration, _ bool) bool { return sleep(ctx, d) }}
}

func notifyOutcome(v verdict) string {
	switch v {
	case fine:
		return outcomeSent
	case permanent:
		return outcomeRefused
	default:
		return outcomeFailed
	}
}

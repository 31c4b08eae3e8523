package bot

import (
	"context"
	"sync"
	"time"

	"habot/app/telling"
)

// tellBackOff is the longest wait between two attempts to tell an admin: nobody waits for it, and a Telegram
// that rejects the token is not to be asked again and again.
const tellBackOff = 30 * time.Second

// RunTelling tells the admins of changes of primary and of what is wrong, until ctx ends; then it returns
// nil. It needs no lease: sending conflicts with nobody. One message is under way at a time, and what
// happens meanwhile goes into the next.
func (b *Bot) RunTelling(ctx context.Context) error {
	if len(b.cfg.AdminChatIDs) == 0 {
		<-ctx.Done()
		return nil
	}
	var (
		decides telling.Teller
		told    = make(chan struct{}, 1)
		busy    bool
		under   sync.WaitGroup
	)
	defer under.Wait()
	look := time.NewTicker(telling.LookEvery)
	defer look.Stop()
	for {
		if text := decides.Look(time.Now(), b.sight(busy)); text != "" {
			busy = true
			under.Go(func() {
				b.tellAdmins(ctx, text)
				told <- struct{}{}
			})
		}
		select {
		case <-look.C:
		case <-b.took:
		case <-told:
			busy = false
		case <-ctx.Done():
			return nil
		}
	}
}

// tookOver has the admins told at once that this replica has become primary.
func (b *Bot) tookOver() {
	select {
	case b.took <- struct{}{}:
	default:
	}
}

// sight is all that can be seen from here now.
func (b *Bot) sight(busy bool) telling.Sight {
	s := telling.Sight{View: b.cfg.Cluster.View()}
	if b.cfg.Strangers != nil {
		s.Strangers = b.cfg.Strangers()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Trouble = b.trouble
	s.Reaches = !busy && !b.lost && b.trouble != telling.TroubleToken
	return s
}

// tellAdmins sends a message to every admin's chat, side by side: one that Telegram limits holds up no other.
func (b *Bot) tellAdmins(ctx context.Context, text string) {
	b.cfg.Logger.Info("telling the admins", "text", text)
	var all sync.WaitGroup
	for _, chat := range b.adminChats() {
		all.Go(func() { b.tellAdmin(ctx, chat, text) })
	}
	all.Wait()
}

// tellAdmin sends a message to one chat. A chat that is gone, or does not want to hear, is tried once for each
// message, and reported once until it takes one.
func (b *Bot) tellAdmin(ctx context.Context, chat int64, text string) {
	for _, part := range b.html(place{chat: chat}, text) {
		v, err := b.send(ctx, part, tellPace())
		if v == over {
			return // this replica shuts down
		}
		outcome := tellOutcome(v)
		b.metrics.adminMessages.WithLabelValues(outcome).Inc()
		b.mu.Lock()
		known := b.deaf[chat]
		b.deaf[chat] = v == permanent
		b.mu.Unlock()
		if v == fine {
			continue
		}
		if v != permanent || !known {
			b.cfg.Logger.Warn("an admin could not be told", "chat_id", chat, "outcome", outcome, "error", err)
		}
		return
	}
}

// tellPace is that of messages to admins, for which nobody waits.
func tellPace() pace {
	return pace{longest: tellBackOff, begin: func(time.Duration) {}, pause: sleep}
}

func tellOutcome(v verdict) string {
	switch v {
	case fine:
		return outcomeSent
	case permanent:
		return outcomeRefused
	default:
		return outcomeFailed
	}
}

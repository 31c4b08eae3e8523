package bot

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/mymmrac/telego"
	"github.com/mymmrac/telego/telegoutil"
)

const (
	// sendBound bounds one request that sends.
	sendBound = 10 * time.Second
	// giveUpAfter bounds the attempts to answer one update while Telegram fails.
	giveUpAfter = 10 * time.Minute
	sendBackOff = 2 * time.Second
	// maxMoves is how often one message follows a chat to another id. Telegram moves a group once.
	maxMoves = 2
)

// respond answers one update; ok is false if the term ended before it was handled.
func (r *run) respond(ctx context.Context, l *line, u telego.Update) (outcome string, ok bool) {
	defer func() {
		if p := recover(); p != nil {
			r.b.cfg.Logger.Error("handling an update panicked; it counts as handled", "update_id", u.UpdateID,
				"panic", p, "stack", string(debug.Stack()))
			outcome, ok = outcomePanic, true
		}
	}()
	replies := r.b.replies(ctx, u)
	if len(replies) == 0 {
		return outcomeIgnored, true
	}
	for _, reply := range replies {
		r.term.Within(l.part, sendBound+slack)
		switch v, err := r.b.send(ctx, reply, sendBackOff, func(ctx context.Context, d time.Duration) bool { return r.pause(ctx, l, d) }); v {
		case fine:
		case over:
			// What was done is not done again for want of an answer.
			return outcomeFailed, reply.done
		default:
			r.b.cfg.Logger.Error("an update could not be answered", "update_id", u.UpdateID, "error", err)
			return outcomeFailed, true
		}
	}
	return outcomeAnswered, true
}

// place is where a message goes.
type place struct {
	chat   int64
	thread int   // the forum's topic; 0 for none, and for General, which has none
	direct int64 // the topic of a channel's direct messages; 0 for none
}

// placeOf is where a message was written. Only a topic's message_thread_id is one to answer with: a thread of replies in a
// group without topics has one, too, and it is that group which is answered.
func placeOf(m *telego.Message) place {
	p := place{chat: m.Chat.ID}
	if m.IsTopicMessage {
		p.thread = m.MessageThreadID
	}
	if m.DirectMessagesTopic != nil {
		p.direct = m.DirectMessagesTopic.TopicID
	}
	return p
}

// reply is one message to send.
type reply struct {
	to   place
	text string
	html bool
	done bool // it tells of something that has been done
}

// send sends one message, and again while Telegram fails or rejects the token, until pause says no or
// giveUpAfter has passed, with longest between two attempts. The verdict explains the error.
func (b *Bot) send(ctx context.Context, m reply, longest time.Duration, pause func(context.Context, time.Duration) bool) (verdict, error) {
	params := telegoutil.Message(telegoutil.ID(m.to.chat), m.text)
	params.MessageThreadID, params.DirectMessagesTopicID = m.to.thread, m.to.direct
	if m.html {
		params = params.WithParseMode(telego.ModeHTML)
	}
	start := time.Now()
	moves := 0
	for n := 0; ; n++ {
		err := b.sendOnce(ctx, params)
		v := judge(ctx, err)
		if to := movedTo(err); to != 0 && moves < maxMoves {
			moves++
			b.chatMoved(params.ChatID.ID, to)
			params.ChatID = telegoutil.ID(to)
			continue
		}
		if v != transient && v != limited && v != unauthorized {
			return v, err
		}
		d := backOff(n, 100*time.Millisecond, longest, rand.Float64()) //nolint:gosec // jitter
		if v == limited {
			d = retryAfter(err)
		}
		if time.Since(start)+d > giveUpAfter {
			return v, fmt.Errorf("give up after %v: %w", giveUpAfter, err)
		}
		if !pause(ctx, d) {
			return over, err
		}
	}
}

func (b *Bot) sendOnce(ctx context.Context, params *telego.SendMessageParams) error {
	ctx, cancel := context.WithTimeout(ctx, sendBound)
	defer cancel()
	_, err := b.api.SendMessage(ctx, params)
	return err //nolint:wrapcheck // judged and wrapped by the caller
}

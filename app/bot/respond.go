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

// maxMoves is how often one message follows a chat to another id. Telegram moves a group once.
const maxMoves = 2

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
	for i := r.sent(u.UpdateID); i < len(replies); i++ {
		reply := replies[i]
		switch v, err := r.b.send(ctx, reply, r.pace(l)); v {
		case fine:
			if i+1 < len(replies) {
				r.partSent(u.UpdateID)
			}
		case over:
			// What was done is not done again for want of an answer.
			return outcomeFailed, reply.done
		default:
			if omitted, ok := r.b.unanswered.Take(time.Now()); ok {
				r.b.cfg.Logger.Error("an update could not be answered", "update_id", u.UpdateID, "error", err, "omitted", omitted)
			}
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

// pace is what the attempts to send a message wait for.
type pace struct {
	// longest is between two attempts that did not reach Telegram.
	longest time.Duration
	// begin is called before each attempt with what bounds it.
	begin func(bound time.Duration)
	// pause is the wait between two attempts, which Telegram may have asked for; false if there is to be none.
	pause func(ctx context.Context, d time.Duration, asked bool) bool
}

// pace is that of a chat's line.
func (r *run) pace(l *line) pace {
	return pace{
		longest: sendBackOff,
		begin:   func(bound time.Duration) { r.term.Within(l.part, bound+slack) },
		pause:   func(ctx context.Context, d time.Duration, asked bool) bool { return r.pause(ctx, l, d, asked) },
	}
}

// send sends one message, and again while it does not get through: at will if it surely did not leave, a few times with growing
// waits if Telegram may have taken it. It ends when the pace says so, or when Telegram has worked for giveUpAfter
// meanwhile. The verdict explains the error.
func (b *Bot) send(ctx context.Context, m reply, p pace) (verdict, error) {
	params := telegoutil.Message(telegoutil.ID(m.to.chat), m.text)
	params.MessageThreadID, params.DirectMessagesTopicID = m.to.thread, m.to.direct
	if m.html {
		params = params.WithParseMode(telego.ModeHTML)
	}
	var tried attempts
	moves := 0
	for {
		bound := max(b.sendBound(), tried.bound)
		p.begin(bound)
		start := time.Now()
		err := b.sendOnce(ctx, params, bound)
		v := judge(ctx, err)
		if to := movedTo(err); to != 0 && moves < maxMoves {
			moves++
			b.chatMoved(params.ChatID.ID, to)
			params.ChatID = telegoutil.ID(to)
			continue
		}
		if v == fine || v == permanent || v == over {
			return v, err
		}
		d, again := tried.failed(v, err, time.Since(start), p.longest, rand.Float64()) //nolint:gosec // jitter
		if !again {
			return v, fmt.Errorf("give up after %v: %w", giveUpAfter, err)
		}
		if !p.pause(ctx, d, v == limited) {
			return over, err
		}
	}
}

// sendBound bounds one request that sends.
func (b *Bot) sendBound() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sendLag.bound(sendBound, longestSend)
}

func (b *Bot) sendOnce(ctx context.Context, params *telego.SendMessageParams, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	start := time.Now()
	_, err := b.api.SendMessage(ctx, params)
	if err == nil {
		b.mu.Lock()
		b.sendLag.saw(time.Since(start))
		b.mu.Unlock()
	}
	return err //nolint:wrapcheck // judged and wrapped by the caller
}

package builtin

import (
	"context"
	"log/slog"
	"time"

	"github.com/mymmrac/telego"

	"habot/app/admins"
	"habot/app/diagnosis"
	"habot/app/logging"
	"habot/app/message"
	"habot/app/queues"
	"habot/app/telegram"
	"habot/app/update"
)

// Slots is how many updates are answered at once, and so how many a crash may have answered twice.
const Slots = 16

// Patience is how long an update may take before its first attempt.
const Patience = message.Bound

// Caller calls methods of the Bot API; *telegram.Client is one.
type Caller interface {
	Call(ctx context.Context, method string, params, result any) error
}

// Config is what a bot is made of.
type Config struct {
	ID     int64  // the bot's own; 0 if it is not known
	Name   string // of this replica, for people
	Admins *admins.Admins
	Sender *message.Sender
	Caller Caller
	// Username is the bot's own name, which Telegram is asked for if it is not known yet; empty if it does not answer.
	Username func(ctx context.Context) string
	// Redact takes the token out of a text.
	Redact func(string) string
	// Facts are what this replica knows now.
	Facts  func() diagnosis.Facts
	Logger *slog.Logger
}

// Bot answers updates. Its methods are safe for concurrent use.
type Bot struct {
	cfg Config
	// unanswered bounds the lines about updates that could not be answered: a chat that has blocked the bot may go on writing.
	unanswered *logging.Quota
}

// New returns a bot.
func New(cfg Config) *Bot {
	return &Bot{cfg: cfg, unanswered: logging.NewQuota(10, time.Minute)}
}

// Allowed are the kinds of updates that the bot answers.
func Allowed() []string { return []string{telego.MessageUpdates} }

// Term is what the bot needs of a term; a task of intake is one.
type Term interface {
	message.Term
	// Parts is how many parts of the answer to an update have been sent. PartSent takes note of one more that was not the last.
	Parts(id int64) int
	PartSent(id int64)
}

// Handler answers the updates of one term.
func (b *Bot) Handler(t Term) queues.Handler { return handler{b, t} }

// handler is a bot for one term.
type handler struct {
	*Bot
	term Term
}

// Handle implements queues.Handler.
func (h handler) Handle(ctx context.Context, u update.Update, t queues.Turn) (update.Outcome, bool) {
	decoded, ok := h.read(u)
	if !ok {
		return update.Ignored, true
	}
	replies, done := h.replies(ctx, decoded)
	if len(replies) == 0 {
		return update.Ignored, true
	}
	pace := message.InTurn(t, h.term, u.ID)
	for i := h.term.Parts(u.ID); i < len(replies); i++ {
		switch v, err := h.cfg.Sender.Send(ctx, replies[i], pace); v {
		case telegram.Fine:
			if i+1 < len(replies) {
				h.term.PartSent(u.ID)
			}
		case telegram.Over:
			// What was done is not done again for want of an answer.
			return update.Failed, done
		default:
			if omitted, ok := h.unanswered.Take(time.Now()); ok {
				h.cfg.Logger.Error("an update could not be answered", "update_id", u.ID, "error", err, "omitted", omitted)
			}
			return update.Failed, true
		}
	}
	return update.Answered, true
}

package bot

import (
	"context"
	"fmt"
	"html"
	"sync"

	"habot/app/gateway"
	"habot/app/intake"
	"habot/app/queues"
	"habot/app/relay"
	"habot/app/telegram"
	"habot/app/update"
)

// newRelay makes a relay that is given the bot's ways.
func (b *Bot) newRelay(cfg relay.Config) *relay.Relay {
	cfg.UserAgent = telegram.UserAgent(b.cfg.Version, b.cfg.Name)
	cfg.Forwarder = forwarder{b.client}
	cfg.Logger, cfg.Registerer = b.cfg.Logger, b.cfg.Registerer
	cfg.OnReady = func(r relay.Readiness) {
		why := ""
		if r.Reachable != nil {
			why = r.Reachable.Error()
		}
		b.reach.Backends(why)
	}
	return relay.New(cfg)
}

// newGateway makes a gateway that is given the bot's ways.
func (b *Bot) newGateway(cfg gateway.Config) *gateway.Gateway {
	cfg.BotToken, cfg.Telegram = b.cfg.Token, b.client
	cfg.Logger, cfg.Registerer = b.cfg.Logger, b.cfg.Registerer
	theirs := cfg.OnChange
	cfg.OnChange = func(from, to, why string, again int) {
		b.admins.News(copyNews(from, to, why, again))
		if theirs != nil {
			theirs(from, to, why, again)
		}
	}
	return gateway.New(cfg)
}

// copyNews is the message to admins about a change of the active copy, as HTML; empty if it is nothing new.
func copyNews(from, to, why string, again int) string {
	from, to = "<b>"+html.EscapeString(from)+"</b>", "<b>"+html.EscapeString(to)+"</b>"
	var text string
	switch {
	case from == "<b></b>": // the first one
		return ""
	case to == "<b></b>":
		return "No copy of the bot is active: " + from + " " + why + ", and no other stands by. Updates wait at Telegram."
	case from == to:
		text = "The active copy of the bot " + to + " " + why + "."
	default:
		text = "The copy of the bot " + to + " is active, replacing " + from + ", which " + why + "."
	}
	if again > 0 {
		text += fmt.Sprintf(" It is given %d updates again that had been confirmed without a sign of having been handled.", again)
	}
	return text
}

// ownFirst gives habot's own commands in admin chats to one consumer, and all else to another.
type ownFirst struct {
	own, others intake.Consumer
	isOwn       func(u update.Update) bool
}

// Consume implements intake.Consumer.
func (o ownFirst) Consume(ctx context.Context, batch []update.Update, done func(id int64, o update.Outcome)) {
	var own, others []update.Update
	for _, u := range batch {
		if o.isOwn(u) {
			own = append(own, u)
		} else {
			others = append(others, u)
		}
	}
	if len(own) > 0 {
		o.own.Consume(ctx, own, done)
	}
	if len(others) > 0 { // at once: a copy may have been given all of them by a predecessor
		o.others.Consume(ctx, others, done)
	}
}

// Drain implements intake.Consumer.
func (o ownFirst) Drain(ctx context.Context) int {
	left := 0
	var all sync.WaitGroup
	all.Go(func() { left = o.own.Drain(ctx) })
	others := o.others.Drain(ctx)
	all.Wait()
	return left + others
}

// isOwn tells whether an update is a command for habot, by what is known at once.
func (b *Bot) isOwn(u update.Update) bool { return b.admins.IsCommand(u, b.reach.Username()) }

// notOwn handles what has turned out not to be for habot, though it was addressed to it.
type notOwn struct{}

// Handle implements queues.Handler.
func (notOwn) Handle(context.Context, update.Update, queues.Turn) (update.Outcome, bool) {
	return update.Ignored, true
}

// forwarder carries out the calls that backends answer with, on the one way to Telegram.
type forwarder struct{ client *telegram.Client }

// Forward implements relay.Forwarder. The context is a term's: nothing leaves without its lease.
func (f forwarder) Forward(ctx context.Context, c relay.Call) error {
	return f.client.Forward(ctx, c.Method, c.ContentType, c.Body, c.Size) //nolint:wrapcheck // the relay judges and logs it
}

// locate looks for an admin chat that may have moved, until ctx ends. A user's bot sets its own commands, so there
// another request shows it, one that leaves no message in the chat.
func (b *Bot) locate(ctx context.Context, chat int64) {
	if b.relay == nil && b.gateway == nil {
		b.builtin.SetAdminCommands(ctx, chat)
		return
	}
	params := map[string]any{"chat_id": chat, "action": "typing"}
	err := b.client.Call(ctx, "sendChatAction", params, nil)
	switch to := telegram.MovedTo(err); {
	case to != 0:
		b.admins.Moved(chat, to)
	case err == nil:
		b.admins.Stays(chat)
	}
}

// backendLines are the webhook backends' addresses, or the copies of a polling bot, for people, a line each.
func (b *Bot) backendLines() []string {
	switch {
	case b.gateway != nil:
		if s := b.gateway.Snapshot(context.Background()); s != nil {
			return s.Lines()
		}
		return nil
	case b.relay == nil:
		return nil
	}
	return b.relay.Snapshot().Lines()
}

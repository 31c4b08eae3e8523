package bot

import (
	"context"

	"habot/app/gateway"
	"habot/app/relay"
	"habot/app/telegram"
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
	return gateway.New(cfg)
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

// backendLines are the webhook backends' addresses for people, a line each.
func (b *Bot) backendLines() []string {
	if b.relay == nil {
		return nil
	}
	return b.relay.Snapshot().Lines()
}

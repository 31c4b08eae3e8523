package admins

import (
	"context"
	"encoding/json"
	"html"
	"strings"

	"habot/app/message"
	"habot/app/queues"
	"habot/app/telegram"
	"habot/app/update"
)

// ownCommand begins each message that is habot's own, with any backend. All else goes to the backend.
const ownCommand = "/habot"

// Handler answers the operating commands of admin chats in a term, and gives all other updates to next.
func (a *Admins) Handler(next queues.Handler, t message.Term) queues.Handler {
	return handler{a, next, t}
}

type handler struct {
	*Admins
	next queues.Handler
	term message.Term
}

// written is what the commands need of a message.
type written struct {
	Text   string `json:"text"`
	Thread int    `json:"message_thread_id"`
	Topic  bool   `json:"is_topic_message"`
	Direct struct {
		ID int64 `json:"topic_id"`
	} `json:"direct_messages_topic"`
	From struct {
		IsBot bool `json:"is_bot"`
	} `json:"from"`
	// SenderChat is set where Telegram shows an anonymous admin, or a channel that writes in the group, as a bot of its own.
	SenderChat  *struct{} `json:"sender_chat"`
	Forwarded   bool      `json:"is_automatic_forward"`
	MigrateTo   int64     `json:"migrate_to_chat_id"`
	MigrateFrom int64     `json:"migrate_from_chat_id"`
}

// Handle implements queues.Handler.
func (h handler) Handle(ctx context.Context, u update.Update, t queues.Turn) (update.Outcome, bool) {
	if u.Kind != "message" || len(h.cfg.Chats) == 0 {
		return h.next.Handle(ctx, u, t)
	}
	m := h.read(u)
	own := func() string { return h.cfg.Username(ctx) }
	if !m.isCommand(own) || !h.mayCommand(ctx, u.Chat) {
		return h.next.Handle(ctx, u, t)
	}
	to := message.Place{Chat: u.Chat, Direct: m.Direct.ID}
	if m.Topic {
		to.Thread = m.Thread
	}
	text, done := h.operate(ctx, u.Chat, strings.Fields(m.Text)[1:])
	for _, part := range message.HTML(to, text) {
		switch v, err := h.cfg.Sender.Send(ctx, part, message.InTurn(t, h.term, u.ID)); v {
		case telegram.Fine:
		case telegram.Over:
			return update.Failed, done // what was done is not done again for want of an answer
		default:
			h.cfg.Logger.Error("an update could not be answered", "update_id", u.ID, "error", err, "omitted", 0)
			return update.Failed, true
		}
	}
	return update.Answered, true
}

// IsCommand tells whether an update is an operating command, by what is known at once: the chat is one of ADMIN_CHAT_IDS, and
// the text begins with habot's command. username is the bot's own, empty if it is not known. That a group has moved is taken in.
func (a *Admins) IsCommand(u update.Update, username string) bool {
	if u.Kind != "message" || len(a.cfg.Chats) == 0 {
		return false
	}
	return a.read(u).isCommand(func() string { return username }) && a.Is(u.Chat)
}

// read is what the commands need of a message, which may say that a group has moved.
func (a *Admins) read(u update.Update) written {
	var w struct {
		Message written `json:"message"`
	}
	_ = json.Unmarshal(u.Raw, &w) // a field of another type stays unset
	if to := w.Message.MigrateTo; to != 0 {
		a.Moved(u.Chat, to)
	}
	if from := w.Message.MigrateFrom; from != 0 {
		a.Moved(from, u.Chat)
	}
	return w.Message
}

// isCommand tells whether a person has written habot's command: alone, or addressed to this bot. While the bot's own name is not known,
// each is its own.
func (w written) isCommand(username func() string) bool {
	words := strings.Fields(w.Text)
	if len(words) == 0 || w.Forwarded || w.From.IsBot && w.SenderChat == nil {
		return false
	}
	name, to, addressed := strings.Cut(words[0], "@")
	if !strings.EqualFold(name, ownCommand) || !addressed {
		return strings.EqualFold(name, ownCommand)
	}
	own := username()
	return own == "" || strings.EqualFold(to, own)
}

// operate does what was asked for. It returns what to answer, as HTML, and whether something has been done.
func (a *Admins) operate(ctx context.Context, chat int64, words []string) (string, bool) {
	switch {
	case len(words) == 1 && words[0] == "status":
		text := StatusText(a.cfg.Facts())
		if a.cfg.Backends != nil {
			if all := a.cfg.Backends(); len(all) > 0 {
				text += "\n" + html.EscapeString(strings.Join(all, "\n"))
			}
		}
		return text, false
	case (len(words) == 1 || len(words) == 2) && words[0] == "switchover":
		to := ""
		if len(words) == 2 {
			to = words[1]
		}
		return a.Switchover(ctx, chat, to)
	default:
		return "/habot status - all replicas, the last change of primary and the backends or copies\n/habot switchover [replica] - move the primary role", false
	}
}

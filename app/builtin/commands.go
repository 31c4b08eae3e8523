package builtin

import (
	"cmp"
	"context"
	"fmt"
	"html"
	"strings"

	"habot/app/admins"
	"habot/app/message"
	"habot/app/telegram"

	"github.com/mymmrac/telego"
	"github.com/mymmrac/telego/telegoutil"
)

// command is one word the bot knows.
type command struct {
	name, about string
	admin       bool
}

func commands() []command {
	return []command{
		{"start", "say hello", false},
		{"help", "what this bot can do", false},
		{"ping", "see which replica answers", false},
		{"whoami", "your user id and this chat's id", false},
		{"status", "all replicas and the last change of primary", false},
		{"switchover", "move the primary role: /switchover [replica]", true},
	}
}

// parse takes a command and its argument out of a text; ok if the text is a command for this bot. A
// bot whose own name is not known yet takes every command for its own.
func parse(text, username string) (name, argument string, ok bool) {
	if !strings.HasPrefix(text, "/") {
		return "", "", false
	}
	word, argument, _ := strings.Cut(text[1:], " ")
	if i := strings.IndexAny(word, "\n\t"); i >= 0 {
		word, argument = word[:i], word[i:]+" "+argument
	}
	name, to, addressed := strings.Cut(word, "@")
	if addressed && username != "" && !strings.EqualFold(to, username) {
		return "", "", false
	}
	return strings.ToLower(name), strings.TrimSpace(argument), true
}

// replies is what an update is answered with; nothing if it is none of the bot's business. done: the answer tells of something
// that has been done, and is not to be done again.
func (b *Bot) replies(ctx context.Context, u telego.Update) (all []message.Message, done bool) {
	m := u.Message
	if m == nil || fromABot(m) {
		return nil, false
	}
	text := cmp.Or(m.Text, m.Caption) // of a photo or a file
	if text == "" {
		return nil, false
	}
	to, group := placeOf(m), inGroup(m)
	username := b.ownUsername(ctx, text, group)
	name, argument, ok := parse(text, username)
	if ok && group && !isKnown(name) && (username == "" || !strings.Contains(strings.Fields(text)[0], "@")) {
		return nil, false // another bot's command, or none
	}
	if !ok {
		if strings.HasPrefix(text, "/") || group && !b.isMeant(m, text, username) {
			return nil, false // another bot's command, or talk
		}
		return b.echo(to, text), false
	}
	switch name {
	case "start":
		return message.HTML(to, "Hello! I am a bot that does not stop: several replicas of me stand by, and one answers.\n"+b.help(m.Chat.ID)), false
	case "help":
		return message.HTML(to, b.help(m.Chat.ID)), false
	case "ping":
		return message.Plain(to, b.cfg.Name+": pong"), false
	case "whoami":
		return message.HTML(to, whoami(m)), false
	case "status":
		return message.HTML(to, admins.StatusText(b.cfg.Facts())), false
	case "switchover":
		text, done := b.cfg.Admins.Switchover(ctx, m.Chat.ID, argument)
		return message.HTML(to, text), done
	default:
		return message.HTML(to, "I do not know /"+html.EscapeString(name)+".\n"+b.help(m.Chat.ID)), false
	}
}

// ownUsername is the bot's own name where a text may name a bot: anywhere in a group, in a command elsewhere.
func (b *Bot) ownUsername(ctx context.Context, text string, group bool) string {
	if (group || strings.HasPrefix(text, "/")) && strings.Contains(text, "@") {
		return b.cfg.Username(ctx)
	}
	return ""
}

// placeOf is where a message was written. Only a topic's message_thread_id is one to answer with: a thread of replies in a
// group without topics has one, too, and it is that group which is answered.
func placeOf(m *telego.Message) message.Place {
	p := message.Place{Chat: m.Chat.ID}
	if m.IsTopicMessage {
		p.Thread = m.MessageThreadID
	}
	if m.DirectMessagesTopic != nil {
		p.Direct = m.DirectMessagesTopic.TopicID
	}
	return p
}

// shownName bounds the name before an echo, in units.
const shownName = 64

// echo sends a text back with the name of the replica. Where it is cut does not depend on the name: the successor, which has
// another, may have to send the rest.
func (b *Bot) echo(to message.Place, text string) []message.Message {
	name := b.cfg.Name[:message.Prefix(b.cfg.Name, shownName)] + ": "
	parts := message.Split(text, message.MaxText-shownName-len(": "))
	var all []message.Message
	for i, part := range parts {
		if i == 0 {
			part = name + part
		}
		all = append(all, message.Message{To: to, Text: part})
	}
	return all
}

func (b *Bot) help(chat int64) string {
	var s strings.Builder
	for _, c := range commands() {
		if !c.admin || b.cfg.Admins.Is(chat) {
			fmt.Fprintf(&s, "/%s - %s\n", c.name, html.EscapeString(c.about))
		}
	}
	s.WriteString("Any other text I send back with the name of the replica that answers.")
	return s.String()
}

func whoami(m *telego.Message) string {
	user := "unknown"
	if m.From != nil {
		user = fmt.Sprint(m.From.ID)
	}
	return fmt.Sprintf("user id: <code>%s</code>\nchat id: <code>%d</code>", user, m.Chat.ID)
}

// SetCommands has Telegram show the commands, the admins' to the admins alone.
func (b *Bot) SetCommands(ctx context.Context) {
	_ = b.setCommandsFor(ctx, commandList(false), telegoutil.ScopeDefault())
	for _, chat := range b.cfg.Admins.All() {
		b.SetAdminCommands(ctx, chat)
	}
}

// SetAdminCommands has Telegram show all commands in an admin chat, wherever that has moved.
func (b *Bot) SetAdminCommands(ctx context.Context, chat int64) {
	err := b.setCommandsFor(ctx, commandList(true), telegoutil.ScopeChat(telegoutil.ID(chat)))
	if to := telegram.MovedTo(err); to != 0 {
		b.cfg.Admins.Moved(chat, to)
		err = b.setCommandsFor(ctx, commandList(true), telegoutil.ScopeChat(telegoutil.ID(to)))
	}
	if err == nil {
		b.cfg.Admins.Stays(chat)
	}
}

func commandList(admin bool) []telego.BotCommand {
	var list []telego.BotCommand
	for _, c := range commands() {
		if admin || !c.admin {
			list = append(list, telego.BotCommand{Command: c.name, Description: c.about})
		}
	}
	return list
}

func (b *Bot) setCommandsFor(ctx context.Context, list []telego.BotCommand, scope telego.BotCommandScope) error {
	asking, cancel := context.WithTimeout(ctx, message.Bound)
	defer cancel()
	err := b.cfg.Caller.Call(asking, "setMyCommands", &telego.SetMyCommandsParams{Commands: list, Scope: scope}, nil)
	if err != nil && ctx.Err() == nil && telegram.MovedTo(err) == 0 {
		b.cfg.Logger.Warn("the commands could not be set", "error", err)
	}
	return err //nolint:wrapcheck // logged here; the caller looks for one kind
}

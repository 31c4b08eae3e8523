package bot

import (
	"context"
	"errors"
	"fmt"
	"html"
	"strings"

	"github.com/mymmrac/telego"
	"github.com/mymmrac/telego/telegoutil"

	"habot/app/diagnosis"
	"habot/app/election"
	"habot/app/notify"
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

// replies is what an update is answered with; nothing if it is none of the bot's business.
func (b *Bot) replies(ctx context.Context, u telego.Update) []reply {
	m := u.Message
	if m == nil {
		return nil
	}
	if m.MigrateToChatID != 0 {
		b.chatMoved(m.Chat.ID, m.MigrateToChatID)
	}
	if m.MigrateFromChatID != 0 {
		b.chatMoved(m.MigrateFromChatID, m.Chat.ID)
	}
	if m.Text == "" || fromABot(m) {
		return nil
	}
	to, group := placeOf(m), inGroup(m)
	username := b.ownUsername(ctx, m.Text, group)
	name, argument, ok := parse(m.Text, username)
	if ok && group && !isKnown(name) && (username == "" || !strings.Contains(strings.Fields(m.Text)[0], "@")) {
		return nil // another bot's command, or none
	}
	if !ok {
		if strings.HasPrefix(m.Text, "/") || group && !b.isMeant(m, username) {
			return nil // another bot's command, or talk
		}
		return b.echo(to, m.Text)
	}
	switch name {
	case "start":
		return b.html(to, "Hello! I am a bot that does not stop: several replicas of me stand by, and one answers.\n"+b.help(m.Chat.ID))
	case "help":
		return b.html(to, b.help(m.Chat.ID))
	case "ping":
		return b.plain(to, b.cfg.Name+": pong")
	case "whoami":
		return b.html(to, whoami(m))
	case "status":
		return b.html(to, statusText(diagnosis.Facts{View: b.cfg.Cluster.View(), Trouble: b.Trouble()}))
	case "switchover":
		text, done := b.switchover(ctx, m.Chat.ID, argument)
		all := b.html(to, text)
		for i := range all {
			all[i].done = done
		}
		return all
	default:
		return b.html(to, "I do not know /"+html.EscapeString(name)+".\n"+b.help(m.Chat.ID))
	}
}

// ownUsername is the bot's own name. A replica that is primary from the start has not probed yet, and asks
// when a text names a bot: anywhere in a group, in a command elsewhere.
func (b *Bot) ownUsername(ctx context.Context, text string, group bool) string {
	known := func() string {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.username
	}
	if known() == "" && (group || strings.HasPrefix(text, "/")) && strings.Contains(text, "@") {
		_ = b.getMe(ctx, probeTimeout) // without an answer every command is its own
	}
	return known()
}

func (b *Bot) plain(to place, text string) []reply {
	var all []reply
	for _, part := range split(text, maxText) {
		all = append(all, reply{to: to, text: part})
	}
	return all
}

// shownName bounds the name before an echo, in units.
const shownName = 64

// echo sends a text back with the name of the replica. Where it is cut does not depend on the name: the successor, which has
// another, may have to send the rest.
func (b *Bot) echo(to place, text string) []reply {
	name := b.cfg.Name[:prefix(b.cfg.Name, shownName)] + ": "
	parts := split(text, maxText-shownName-len(": "))
	var all []reply
	for i, part := range parts {
		if i == 0 {
			part = name + part
		}
		all = append(all, reply{to: to, text: part})
	}
	return all
}

func (b *Bot) html(to place, text string) []reply {
	var all []reply
	for _, part := range split(text, maxText) {
		all = append(all, reply{to: to, text: part, html: true})
	}
	return all
}

func (b *Bot) help(chat int64) string {
	var s strings.Builder
	for _, c := range commands() {
		if !c.admin || b.isAdmin(chat) {
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

// switchover returns what to say, and whether the role moves.
func (b *Bot) switchover(ctx context.Context, chat int64, to string) (string, bool) {
	if !b.mayCommand(ctx, chat) {
		return "Only chats in ADMIN_CHAT_IDS may do that.", false
	}
	b.cfg.Logger.Info("switchover requested", "by", "admin chat", "chat_id", chat)
	err := b.cfg.Cluster.Switchover(ctx, to)
	switch {
	case errors.Is(err, election.ErrNoSuccessor), errors.Is(err, election.ErrNotPrimary):
		return "Not done: " + html.EscapeString(diagnosis.Refusal(b.cfg.Cluster.View(), to, err)) + ".", false
	case err != nil:
		return "Not done: " + html.EscapeString(err.Error()), false
	case to == "":
		return b.name() + " hands over.", true
	default:
		return b.name() + " hands over to <b>" + html.EscapeString(to) + "</b>.", true
	}
}

func (b *Bot) name() string { return "<b>" + html.EscapeString(b.cfg.Name) + "</b>" }

// statusText is the verdict, every replica in a line, and the last change.
func statusText(f diagnosis.Facts) string {
	v := f.View
	var s strings.Builder
	s.WriteString(html.EscapeString(diagnosis.Of(f).Text) + "\n")
	for _, p := range diagnosis.Replicas(v) {
		health := "healthy"
		switch {
		case !p.Reachable:
			health = "not reachable"
		case !p.Status.Health.OK:
			health = "unhealthy: " + p.Status.Health.Detail
		}
		fmt.Fprintf(&s, "<b>%s</b> %s, %s", html.EscapeString(p.Status.Name), html.EscapeString(string(p.Status.Role)), html.EscapeString(health))
		if p.Reachable && p.Status.Role == election.Primary {
			fmt.Fprintf(&s, ", since %s", diagnosis.Clock(v.Since(p.Status.Primary)))
		}
		s.WriteByte('\n')
	}
	s.WriteString(diagnosis.Count(v) + "\n")
	if n := len(v.History); n > 0 {
		s.WriteString("Last change: " + notify.ChangeText(v.History[n-1]))
	}
	return s.String()
}

// setCommands has Telegram show the commands, the admins' to the admins alone.
func (b *Bot) setCommands(ctx context.Context) {
	_ = b.setCommandsFor(ctx, commandList(false), telegoutil.ScopeDefault())
	for _, chat := range b.adminChats() {
		b.setAdminCommands(ctx, chat)
	}
}

// setAdminCommands has Telegram show all commands in an admin chat, wherever that has moved.
func (b *Bot) setAdminCommands(ctx context.Context, chat int64) {
	err := b.setCommandsFor(ctx, commandList(true), telegoutil.ScopeChat(telegoutil.ID(chat)))
	if to := movedTo(err); to != 0 {
		b.chatMoved(chat, to)
		err = b.setCommandsFor(ctx, commandList(true), telegoutil.ScopeChat(telegoutil.ID(to)))
	}
	if err == nil {
		b.mu.Lock()
		b.placed[chat] = true
		b.mu.Unlock()
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
	asking, cancel := context.WithTimeout(ctx, sendBound)
	defer cancel()
	err := b.api.SetMyCommands(asking, &telego.SetMyCommandsParams{Commands: list, Scope: scope})
	if err != nil && ctx.Err() == nil && movedTo(err) == 0 {
		b.cfg.Logger.Warn("the commands could not be set", "error", err)
	}
	return err //nolint:wrapcheck // logged here; the caller looks for one kind
}

package builtin

import (
	"slices"
	"strings"

	"github.com/mymmrac/telego"
)

// fromABot tells whether a bot wrote a message, or no person did: what a linked channel posts is forwarded to its group by Telegram.
// Anonymous admins, and channels that write in a group, are shown as bots of Telegram's own, and as the chat they write for.
func fromABot(m *telego.Message) bool {
	return m.IsAutomaticForward || m.From != nil && m.From.IsBot && m.SenderChat == nil
}

// inGroup tells whether others than the bot and one user read what is written. A channel's direct messages are with one.
func inGroup(m *telego.Message) bool {
	return (m.Chat.Type == telego.ChatTypeGroup || m.Chat.Type == telego.ChatTypeSupergroup) && !m.Chat.IsDirectMessages
}

// isMeant tells whether a message in a group whose text is no command is meant for this bot: it names it, or answers it. Each message in
// a topic is a reply to the one that opened it, in form only.
func (b *Bot) isMeant(m *telego.Message, text, username string) bool {
	if mentions(text, username) {
		return true
	}
	r := m.ReplyToMessage
	return r != nil && r.From != nil && r.From.ID == b.cfg.ID && (!m.IsTopicMessage || r.MessageID != m.MessageThreadID)
}

// mentions tells whether a text names a user as Telegram does: @username, whichever the case, and no part of a longer word.
func mentions(text, username string) bool {
	if username == "" {
		return false
	}
	text, name := strings.ToLower(text), "@"+strings.ToLower(username)
	for {
		i := strings.Index(text, name)
		if i < 0 {
			return false
		}
		before, after := i == 0 || !inName(text[i-1]), i+len(name) == len(text) || !inName(text[i+len(name)])
		if before && after {
			return true
		}
		text = text[i+1:]
	}
}

// inName tells whether a byte may be part of a username.
func inName(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// isKnown tells whether there is a command.
func isKnown(name string) bool {
	return slices.ContainsFunc(commands(), func(c command) bool { return c.name == name })
}

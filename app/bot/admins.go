package bot

import (
	"context"
	"slices"
)

// adminChats are the chats of ADMIN_CHAT_IDS where they are now, each once.
func (b *Bot) adminChats() []int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []int64
	for _, chat := range b.cfg.AdminChatIDs {
		if to, moved := b.moved[chat]; moved {
			chat = to
		}
		if !slices.Contains(all, chat) {
			all = append(all, chat)
		}
	}
	return all
}

// isAdmin tells whether a chat is one of ADMIN_CHAT_IDS, or what one has become.
func (b *Bot) isAdmin(chat int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Contains(b.cfg.AdminChatIDs, chat) {
		return true
	}
	for _, to := range b.moved {
		if to == chat {
			return true
		}
	}
	return false
}

// chatMoved takes in that a group has become a supergroup, which has another id. Only admins' chats are remembered: what
// users write comes from the new chat already.
func (b *Bot) chatMoved(from, to int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.moved[from]; known || !slices.Contains(b.cfg.AdminChatIDs, from) {
		return
	}
	b.moved[from] = to
	b.cfg.Logger.Warn("an admin chat has become a supergroup: write its new id into ADMIN_CHAT_IDS", "chat_id", from, "new_chat_id", to)
}

// supergroups have ids below this one, which begin with -100; those of basic groups, which may become supergroups, lie above.
const supergroups = -1_000_000_000_000

// mayCommand tells whether the operating commands are for a chat. A process that has just started does not know which groups
// have moved: before it refuses a supergroup it asks about those that it has not asked about.
func (b *Bot) mayCommand(ctx context.Context, chat int64) bool {
	if b.isAdmin(chat) || chat > supergroups {
		return b.isAdmin(chat)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	for _, admin := range b.cfg.AdminChatIDs {
		if admin < 0 && admin > supergroups && !b.placeKnown(admin) {
			b.setAdminCommands(ctx, admin)
		}
	}
	return b.isAdmin(chat)
}

// placeKnown tells whether Telegram has said since this process started where an admin chat is.
func (b *Bot) placeKnown(chat int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, moved := b.moved[chat]
	return moved || b.placed[chat]
}

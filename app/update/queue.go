package update

import "time"

// The kinds that the rules below name.
const (
	callbackQuery    = "callback_query"
	inlineQuery      = "inline_query"
	chosenResult     = "chosen_inline_result"
	shippingQuery    = "shipping_query"
	preCheckoutQuery = "pre_checkout_query"
	guestMessage     = "guest_message"
)

// Groups of kinds whose updates share queues. The numbers are the real server's, but for groupUnknown: it delivers
// to webhooks in queues of chat or user + group<<33, at most one update of a queue at a time (telegram-bot-api 10.0,
// Client.cpp, the callers of add_update).
const (
	groupChat = iota
	groupInlineQuery
	groupChosenResult
	groupCallbackQuery
	groupPayment
	groupMyMember
	groupMember
	groupBoost
	groupReaction
	groupReactionCount
	groupConnection
	groupBusiness
	groupPaidMediaAndGuest
	groupManagedBot
	groupUnknown
)

// queue is the queue of an update of a kind. Without the id that it goes by, an update has a queue of its own.
func (f fields) queue(kind string) int64 {
	chat, user := f.Chat.ID, f.From.ID
	if user == 0 {
		user = f.User.ID
	}
	switch kind {
	case "message", "edited_message", "channel_post", "edited_channel_post":
		return in(groupChat, chat)
	case inlineQuery:
		return in(groupInlineQuery, user)
	case chosenResult:
		return in(groupChosenResult, user)
	case callbackQuery:
		return in(groupCallbackQuery, user)
	case shippingQuery, preCheckoutQuery:
		return in(groupPayment, user)
	case "my_chat_member":
		return in(groupMyMember, chat)
	case "chat_member":
		return in(groupMember, f.NewMember.User.ID)
	case "chat_join_request":
		return in(groupMember, user)
	case "chat_boost", "removed_chat_boost":
		return in(groupBoost, chat)
	case "message_reaction":
		return in(groupReaction, chat)
	case "message_reaction_count":
		return in(groupReactionCount, chat)
	case "business_connection":
		return in(groupConnection, user)
	case "business_message", "edited_business_message", "deleted_business_messages":
		return in(groupBusiness, chat)
	case "purchased_paid_media":
		return in(groupPaidMediaAndGuest, user)
	case guestMessage:
		return in(groupPaidMediaAndGuest, chat)
	case "managed_bot":
		return in(groupManagedBot, user)
	case "poll":
		return number(f.ID)
	case "poll_answer":
		return number(f.PollID)
	}
	// All kinds that are not known yet share one queue of their chat or user: to keep order among them is never wrong.
	if chat != 0 {
		return in(groupUnknown, chat)
	}
	return in(groupUnknown, user)
}

// in is the queue of a chat or user in a group of kinds; 0 if there is none.
func in(group, id int64) int64 {
	if id == 0 {
		return 0
	}
	return id + group<<33
}

// Retention is how long Telegram keeps an update of a kind that is not confirmed (telegram-bot-api 10.0, Client.cpp).
// Messages are kept that long from their date, the others from when they came.
func Retention(kind string) time.Duration {
	switch kind {
	case callbackQuery, shippingQuery, preCheckoutQuery:
		return 150 * time.Second
	case inlineQuery:
		return 30 * time.Second
	case chosenResult:
		return 600 * time.Second
	default:
		return 24 * time.Hour
	}
}

package simulator

import (
	"slices"
	"strings"
	"time"
)

// The texts of the real server's conflicts.
const (
	conflictPoll    = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
	conflictSetHook = "Conflict: terminated by setWebhook request"
	conflictWebhook = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
)

// Bounds of getUpdates.
const (
	maxLimit   = 100
	maxTimeout = 50 // seconds
	// samePoll: the same offset again within it waits at least that long.
	samePoll = 3 * time.Second
	// hastyPoll: the same offset again within it gets one update.
	hastyPoll = 500 * time.Millisecond
	// conflictEvery: the first 409 is immediate, further ones within it are late by it.
	conflictEvery = 3 * time.Second
	// webhookEvery is the least time between two settings of a webhook.
	webhookEvery = time.Second
)

// allowedKinds is every kind of update there is; the default leaves out what optIn names.
func allowedKinds() []string {
	return []string{
		"message", "edited_message", "channel_post", "edited_channel_post", "business_connection", "business_message",
		"edited_business_message", "deleted_business_messages", "message_reaction", "message_reaction_count",
		"inline_query", "chosen_inline_result", "callback_query", "shipping_query", "pre_checkout_query",
		"purchased_paid_media", "poll", "poll_answer", "my_chat_member", "chat_member", "chat_join_request",
		"chat_boost", "removed_chat_boost", "managed_bot", "guest_message", "custom_event", "custom_query",
	}
}

func optIn() []string { return []string{"chat_member", "message_reaction", "message_reaction_count"} }

// pollRequest is getUpdates as asked.
type pollRequest struct {
	offset, limit, timeout int
	// allowed is nil if absent: the server keeps the last value.
	allowed []string
}

// webhookSettings are what setWebhook set; an empty url is none.
type webhookSettings struct {
	url            string
	secret         string
	maxConnections int
	ipAddress      string
}

// bot is what the server knows of the one bot it serves. It is pure.
type bot struct {
	queue        queue
	allowed      []string // nil stands for the default
	webhook      webhookSettings
	lastOffset   int
	lastStart    time.Time
	nextConflict time.Time
	nextWebhook  time.Time // when one may be set again
}

// takes tells whether updates of a kind are kept for the bot.
func (b *bot) takes(kind string) bool {
	if b.allowed == nil {
		return !slices.Contains(optIn(), kind)
	}
	return slices.Contains(b.allowed, kind)
}

// allow takes in allowed_updates: unknown kinds are left out, none known stands for the default.
func (b *bot) allow(kinds []string) {
	if kinds == nil {
		return
	}
	var known []string
	for _, k := range kinds {
		if k = strings.ToLower(k); slices.Contains(allowedKinds(), k) && !slices.Contains(known, k) {
			known = append(known, k)
		}
	}
	b.allowed = known
}

// begin applies what the server does to a poll before it looks at the queue.
func (b *bot) begin(now time.Time, p pollRequest) pollRequest {
	b.allow(p.allowed)
	p.timeout = min(max(p.timeout, 0), maxTimeout)
	p.limit = min(max(p.limit, 1), maxLimit)
	again := !b.lastStart.IsZero() && p.offset == b.lastOffset
	if again && now.Before(b.lastStart.Add(hastyPoll)) {
		p.limit = 1
	}
	if again && p.timeout < 3 && now.Before(b.lastStart.Add(samePoll)) {
		p.timeout = 3
	}
	b.lastOffset, b.lastStart = p.offset, now
	return p
}

// conflictDelay is how long the next 409 is held back.
func (b *bot) conflictDelay(now time.Time) time.Duration {
	if now.Before(b.nextConflict) {
		return conflictEvery
	}
	b.nextConflict = now.Add(conflictEvery)
	return 0
}

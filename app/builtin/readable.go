package builtin

import (
	"encoding/json"

	"habot/app/update"

	"github.com/mymmrac/telego"
)

// read reads an update. Of one that telego cannot read it leaves out the parts that telego does not know; false if those are
// what the bot goes by.
func (b *Bot) read(u update.Update) (decoded telego.Update, ok bool) {
	err := json.Unmarshal(u.Raw, &decoded)
	if err == nil {
		return decoded, true
	}
	if pruned, ok := pruneUpdate(u.Raw); ok && json.Unmarshal(pruned, &decoded) == nil {
		b.cfg.Logger.Warn("a part of an update cannot be read; the rest is handled", "update_id", u.ID, "error", b.cfg.Redact(err.Error()))
		return decoded, true
	}
	b.cfg.Logger.Error("an update cannot be read; it is ignored", "update_id", u.ID, "error", b.cfg.Redact(err.Error()))
	return telego.Update{}, false
}

// pruneUpdate leaves out of an update's message what cannot be read; false if then it is none.
func pruneUpdate(update json.RawMessage) (json.RawMessage, bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(update, &fields) != nil || fields["message"] == nil {
		return nil, false
	}
	message, ok := pruneMessage(fields["message"])
	if !ok {
		return nil, false
	}
	pruned, err := json.Marshal(map[string]json.RawMessage{"update_id": fields["update_id"], "message": message})
	return pruned, err == nil && json.Unmarshal(pruned, new(telego.Update)) == nil
}

// goesBy tells whether the bot judges a message by a field: without it another message would be answered than was written.
func goesBy(field string) bool {
	switch field {
	case "chat", "from", "sender_chat", "text", "caption", "message_thread_id", "is_topic_message", "is_automatic_forward", "direct_messages_topic":
		return true
	default:
		return false
	}
}

// pruneMessage leaves out of a message the fields that cannot be read, and does so in the message that it answers; false if the
// bot goes by one of them.
func pruneMessage(message json.RawMessage) (json.RawMessage, bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(message, &fields) != nil {
		return nil, false
	}
	for name, value := range fields {
		alone, err := json.Marshal(map[string]json.RawMessage{name: value})
		if err == nil && json.Unmarshal(alone, new(telego.Message)) == nil {
			continue
		}
		if goesBy(name) {
			return nil, false
		}
		delete(fields, name)
		if name != "reply_to_message" {
			continue
		}
		if answered, ok := pruneMessage(value); ok {
			fields[name] = answered
		}
	}
	pruned, err := json.Marshal(fields)
	return pruned, err == nil && fields["chat"] != nil
}

package bot

import (
	"encoding/json"
	"fmt"

	"github.com/mymmrac/telego"
)

// readable makes of updates what telego can take. Of one that it cannot read it leaves out the parts that it does not know; if
// those are what the bot goes by, its id alone is left: it is ignored, and confirmed. One unreadable update would otherwise
// keep all others from being read. It MUST NOT be called concurrently.
func (c *caller) readable(list json.RawMessage) json.RawMessage {
	var raw []json.RawMessage
	if json.Unmarshal(list, new([]telego.Update)) == nil || json.Unmarshal(list, &raw) != nil {
		c.unreadable = nil
		return list
	}
	unreadable := map[int]bool{}
	for i, update := range raw {
		err := json.Unmarshal(update, new(telego.Update))
		if err == nil {
			continue
		}
		var bare struct {
			UpdateID int `json:"update_id"`
		}
		if json.Unmarshal(update, &bare) != nil {
			return list
		}
		unreadable[bare.UpdateID] = true
		known := c.unreadable[bare.UpdateID] // it comes with every poll until it is confirmed
		if pruned, ok := pruneUpdate(update); ok {
			raw[i] = pruned
			if !known {
				c.logger.Warn("a part of an update cannot be read; the rest is handled", "update_id", bare.UpdateID, "error", c.redact(err.Error()))
			}
			continue
		}
		raw[i] = fmt.Appendf(nil, `{"update_id":%d}`, bare.UpdateID)
		if !known {
			c.logger.Error("an update cannot be read; it is ignored", "update_id", bare.UpdateID, "error", c.redact(err.Error()))
		}
	}
	c.unreadable = unreadable
	mended, err := json.Marshal(raw)
	if err != nil {
		return list
	}
	return mended
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
	case "chat", "from", "sender_chat", "text", "message_thread_id", "is_topic_message", "is_automatic_forward", "direct_messages_topic":
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

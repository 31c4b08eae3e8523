package simulator

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// Kinds of chats.
const (
	chatPrivate    = "private"
	chatGroup      = "group"
	chatSupergroup = "supergroup"
)

// Ids tell kinds apart: those of supergroups lie below this one, those of basic groups above, below 0.
const supergroups = -1_000_000_000_000

// general is a forum's topic without a number of its own: the server leaves it out of messages, and refuses it in requests.
const general = 1

// maxKnownChats bounds the chats that the bot is in.
const maxKnownChats = 10_000

// chat is one that the bot is in.
type chat struct {
	id   int64
	kind string
	// topics are a forum's, or those of a private chat; General is none of them. nil: the chat is no forum.
	topics  map[int]bool
	movedTo int64       // the supergroup that this group has become; 0 for none
	sent    []time.Time // when the bot wrote, as far as the limit looks back
}

func kindOf(id int64) string {
	switch {
	case id > 0:
		return chatPrivate
	case id > supergroups:
		return chatGroup
	default:
		return chatSupergroup
	}
}

// object is the chat as messages show it.
func (c *chat) object() map[string]any {
	o := map[string]any{"id": c.id, "type": c.kind}
	if c.kind == chatPrivate {
		o["first_name"] = firstName(c.id)
	} else {
		o["title"] = fmt.Sprintf("Group %d", -c.id)
	}
	if c.kind == chatSupergroup && c.topics != nil {
		o["is_forum"] = true
	}
	return o
}

// open returns a chat, which it makes if it is new; nil if there are too many.
func (s *Simulator) open(id int64) *chat {
	c := s.chats[id]
	if c == nil {
		if len(s.chats) >= maxKnownChats {
			s.cfg.Logger.Warn("there are too many chats: one more is not made", "chat_id", id)
			return nil
		}
		c = &chat{id: id, kind: kindOf(id)}
		s.chats[id] = c
	}
	return c
}

// migrate makes a supergroup of a group, as its owner does: messages in both chats say so, and the old one takes none.
func (s *Simulator) migrate(now time.Time, from, to int64) {
	old, target := s.open(from), s.open(to)
	if old == nil || target == nil {
		return
	}
	old.movedTo = to
	s.account.moves(from, to)
	for _, m := range []struct {
		at  *chat
		key string
		id  int64
	}{{old, "migrate_to_chat_id", to}, {target, "migrate_from_chat_id", from}} {
		s.messageID++
		s.push(now, "message", map[string]any{
			"message_id": s.messageID, "from": s.user(m.at.id), "chat": m.at.object(), "date": now.Unix(), m.key: m.id,
		}, m.at.id, 0, "")
	}
}

// find looks up the chat that a request names, or returns the real server's complaint.
func (s *Simulator) find(raw string) (*chat, *answer) {
	if raw == "" {
		return nil, refuse(badRequest("chat_id is empty"))
	}
	id, err := strconv.ParseInt(raw, 10, 64)
	c := s.chats[id]
	if err != nil || c == nil {
		return nil, refuse(badRequest("chat not found"))
	}
	if c.movedTo != 0 {
		a := badRequest("group chat was upgraded to a supergroup chat")
		a.Parameters = &parameters{MigrateToChatID: c.movedTo}
		return nil, &a
	}
	return c, nil
}

func refuse(a answer) *answer { return &a }

// topic is where in a chat a message goes, or the complaint: only forums and private chats have topics. What is no number
// is 0, and elsewhere a number is not looked at.
func (c *chat) topic(p params) (int, *answer) {
	thread := p.number("message_thread_id", 0)
	if c.kind == chatGroup || c.kind == chatSupergroup && c.topics == nil || thread == 0 {
		return 0, nil
	}
	if thread == general || !c.topics[thread] {
		return 0, refuse(badRequest("message thread not found"))
	}
	return thread, nil
}

// ChatLimit is how many messages the bot may send to one chat within a time. The real limits are not published; what is
// known is one a second, bursts aside, and 20 a minute in a group.
type ChatLimit struct {
	Messages int `json:"messages"` // 0 for no limit
	Seconds  int `json:"seconds"`
}

// takes tells whether a chat may be written to now; otherwise it returns the refusal. It is pure.
func (l ChatLimit) takes(c *chat, now time.Time) *answer {
	if l.Messages == 0 {
		return nil
	}
	within := time.Duration(l.Seconds) * time.Second
	for len(c.sent) > 0 && now.Sub(c.sent[0]) >= within {
		c.sent = c.sent[1:]
	}
	if len(c.sent) >= l.Messages {
		return refuse(tooMany(int(math.Ceil(within.Seconds() - now.Sub(c.sent[0]).Seconds()))))
	}
	c.sent = append(c.sent, now)
	return nil
}

func tooMany(after int) answer {
	after = max(1, after)
	a := fail(http.StatusTooManyRequests, fmt.Sprintf("Too Many Requests: retry after %d", after))
	a.Parameters = &parameters{RetryAfter: after}
	return a
}

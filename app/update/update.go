package update

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// MaxBatch is how many updates one answer of getUpdates holds at most.
const MaxBatch = 100

// ErrMalformed says that an answer is not what getUpdates answers.
var ErrMalformed = errors.New("malformed updates")

// Update is one update as Telegram sent it.
type Update struct {
	// ID is Telegram's, above 0. Ids rise within a batch, but may start again lower after a quiet week.
	ID int64
	// Kind is the name of the field that holds the update's content, such as message; empty if there is none. A kind
	// that this version does not know is as good as any other.
	Kind string
	// Queue names what MUST be handled in order: updates of one queue one after the other, different queues side by
	// side. 0 is a queue of its own for each update.
	Queue int64
	// Chat is the chat that the update belongs to; 0 if it belongs to none.
	Chat int64
	// Query is the id that an answer to the update has to name, of a callback query for example; empty if there is none.
	Query string
	// Date is when the content was sent or edited, in whole seconds; zero if Telegram does not say.
	Date time.Time
	// Came is when it was received; zero if that is not known. Split leaves it so.
	Came time.Time
	// Raw is the whole update, byte for byte as received. It MUST NOT be changed.
	Raw json.RawMessage
}

// Split takes a getUpdates result, a JSON array, apart. It returns the updates in Telegram's order; an error, an
// ErrMalformed, if it is no array of at most MaxBatch objects with an id each. What else is odd about an update is not
// an error: it gets a queue of its own.
func Split(result []byte) ([]Update, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(result, &list); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if list == nil {
		return nil, fmt.Errorf("%w: no array", ErrMalformed)
	}
	if len(list) > MaxBatch {
		return nil, fmt.Errorf("%w: %d updates at once", ErrMalformed, len(list))
	}
	updates := make([]Update, 0, len(list))
	for i, raw := range list {
		u, err := parse(raw)
		if err != nil {
			return nil, fmt.Errorf("%w: update %d: %w", ErrMalformed, i, err)
		}
		updates = append(updates, u)
	}
	return updates, nil
}

var (
	errNoObject = errors.New("no JSON object")
	errNoID     = errors.New("no update_id above 0")
)

// parse reads one update, which is valid JSON.
func parse(raw json.RawMessage) (Update, error) {
	u := Update{Raw: raw}
	d := json.NewDecoder(bytes.NewReader(raw))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return u, errNoObject
	}
	var content json.RawMessage
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return u, errNoObject
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return u, errNoObject
		}
		switch {
		case name == "update_id":
			if u.ID, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return u, errNoID
			}
		case u.Kind == "" && value[0] == '{': // further fields beside the content would be new, and come after it
			u.Kind, _ = name.(string)
			content = value
		}
	}
	if u.ID <= 0 {
		return u, errNoID
	}
	if content != nil {
		var c fields
		_ = json.Unmarshal(content, &c) // what has another type than it should stays unset
		c.into(&u)
	}
	return u, nil
}

// fields are those of an update's content that decide where it goes, of whichever kind it is.
type fields struct {
	ID         json.RawMessage `json:"id"`
	Date       int64           `json:"date"`
	EditDate   int64           `json:"edit_date"`
	Chat       identified      `json:"chat"`
	From       identified      `json:"from"`
	User       identified      `json:"user"`
	PollID     json.RawMessage `json:"poll_id"`
	GuestQuery json.RawMessage `json:"guest_query_id"`
	NewMember  struct {
		User identified `json:"user"`
	} `json:"new_chat_member"`
	Message struct {
		Chat identified `json:"chat"`
	} `json:"message"`
}

type identified struct {
	ID int64 `json:"id"`
}

// into sets what the content says of u, whose kind is known.
func (f fields) into(u *Update) {
	switch u.Kind {
	case callbackQuery:
		u.Chat = f.Message.Chat.ID
	default:
		u.Chat = f.Chat.ID
	}
	switch u.Kind {
	case inlineQuery, callbackQuery, shippingQuery, preCheckoutQuery:
		u.Query = text(f.ID)
	case guestMessage:
		u.Query = text(f.GuestQuery)
	}
	if date := max(f.Date, f.EditDate); date > 0 {
		u.Date = time.Unix(date, 0)
	}
	u.Queue = f.queue(u.Kind)
}

// text is a JSON string's, or a number as it is written; empty for anything else.
func text(raw json.RawMessage) string {
	var s string
	var n json.Number
	switch {
	case json.Unmarshal(raw, &s) == nil:
		return s
	case json.Unmarshal(raw, &n) == nil:
		return n.String()
	}
	return ""
}

// number is an id that stands in a string; 0 if it is none.
func number(raw json.RawMessage) int64 {
	n, err := strconv.ParseInt(text(raw), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

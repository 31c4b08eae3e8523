package botapi

import "strings"

// Class says what a gateway does with the calls of a method.
type Class int

// The classes.
const (
	// Write passes on what a bot does to others. It is the class of each method that is not known.
	Write Class = iota
	// Progress is a write that shows a user that something is being done. It proves nothing about an update.
	Progress
	// Read changes nothing.
	Read
	// SetUp changes what the bot itself shows, the same in each copy.
	SetUp
	// Poll is getUpdates.
	Poll
	// Local is answered by the gateway: passed on it would throw updates away, end polling, or log the bot out.
	Local
)

// ClassOf is the class of a method, whose name is in lower case.
func ClassOf(method string) Class {
	switch method {
	case "getupdates":
		return Poll
	case "getme", "getwebhookinfo", "setwebhook", "deletewebhook", "logout", "close":
		return Local
	case "sendchataction", "sendmessagedraft":
		return Progress
	case "setchatmenubutton":
		return SetUp
	}
	for _, prefix := range []string{"setmy", "deletemy", "removemy"} {
		if strings.HasPrefix(method, prefix) {
			return SetUp
		}
	}
	if strings.HasPrefix(method, "get") {
		return Read
	}
	return Write
}

// StartsUp reports whether frameworks begin with this method, and rarely call it later.
func StartsUp(method string) bool { return method == "getme" || method == "deletewebhook" }

// Wanted are the parameters that a gateway has to know of a method's call.
func Wanted(method string) []string {
	switch ClassOf(method) {
	case Poll:
		return []string{"offset", "limit", "timeout", "allowed_updates"}
	case Local:
		if method == "deletewebhook" {
			return []string{"drop_pending_updates"}
		}
	case Write:
		return []string{
			"chat_id", "from_chat_id", "callback_query_id", "inline_query_id", "shipping_query_id", "pre_checkout_query_id", "guest_query_id",
		}
	case Read, SetUp, Progress:
	}
	return nil
}

// Names are what a call names.
type Names struct {
	// Chats are ids of chats: the one that it is sent to, and the one that a message is forwarded or copied from. A
	// chat that is named by its @username is not among them.
	Chats []int64
	// Query is the query that it answers; empty if none.
	Query string
}

// IsZero reports whether nothing is named.
func (n Names) IsZero() bool { return len(n.Chats) == 0 && n.Query == "" }

// NamesIn reads what the call of a method names. Only a write names something.
func NamesIn(method string, p Params) (n Names) {
	for _, name := range Wanted(method) {
		switch value := p[name]; {
		case value == "":
		case name == "chat_id" || name == "from_chat_id":
			if id := p.Int(name, 0); id != 0 {
				n.Chats = append(n.Chats, id)
			}
		case strings.HasSuffix(name, "_query_id"):
			n.Query = value
		}
	}
	return n
}

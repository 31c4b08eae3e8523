package diagnosis

import "habot/app/election"

// Trouble is why Telegram refuses a bot, whichever replica asks; empty if it does not. Its values are labels of
// metrics: the set is closed.
type Trouble string

// The kinds of trouble.
const (
	TroubleToken    Trouble = "token"
	TroubleConflict Trouble = "conflict"
	TroubleWebhook  Trouble = "webhook"
)

// Troubles are all kinds there are.
func Troubles() []Trouble { return []Trouble{TroubleToken, TroubleConflict, TroubleWebhook} }

// Text is what is wrong, for people; empty if nothing is.
func (t Trouble) Text() string {
	switch t {
	case TroubleToken:
		return "Telegram rejects the token (401, 404, Logged out): it was revoked, is wrong, or is logged out of this Bot API server"
	case TroubleConflict:
		return "another program polls with this token (409)"
	case TroubleWebhook:
		return "a webhook is set for this token (409)"
	default:
		return ""
	}
}

// Unanswered is the detail of a primary's health that counts as good because it is new, while Telegram has answered no
// request of its process and one has failed. It moves no role.
const Unanswered = "Telegram has answered no request since this replica started"

// TroubleOf finds the trouble that a replica reports of itself: a healthy one, whose detail is its text; empty if it
// reports none.
func TroubleOf(h election.Health) Trouble {
	if !h.OK {
		return ""
	}
	for _, t := range Troubles() {
		if t.Text() == h.Detail {
			return t
		}
	}
	return ""
}

package admins

import (
	"context"
	"errors"
	"fmt"
	"html"
	"strings"

	"habot/app/diagnosis"
	"habot/app/election"
	"habot/app/notify"
)

// Switchover moves the role on behalf of a chat. It returns what to answer, as HTML, and whether the role moves.
func (a *Admins) Switchover(ctx context.Context, chat int64, to string) (string, bool) {
	if !a.mayCommand(ctx, chat) {
		return "Only chats in ADMIN_CHAT_IDS may do that.", false
	}
	a.cfg.Logger.Info("switchover requested", "by", "admin chat", "chat_id", chat)
	err := a.cfg.Cluster.Switchover(ctx, to)
	switch {
	case errors.Is(err, election.ErrNoSuccessor), errors.Is(err, election.ErrNotPrimary):
		return "Not done: " + html.EscapeString(diagnosis.Refusal(a.cfg.Cluster.View(), to, err)) + ".", false
	case err != nil:
		return "Not done: " + html.EscapeString(err.Error()), false
	case to == "":
		return a.name() + " hands over.", true
	default:
		return a.name() + " hands over to <b>" + html.EscapeString(to) + "</b>.", true
	}
}

func (a *Admins) name() string { return "<b>" + html.EscapeString(a.cfg.Name) + "</b>" }

// StatusText is the verdict, every replica in a line, and the last change.
func StatusText(f diagnosis.Facts) string {
	v := f.View
	var s strings.Builder
	s.WriteString(html.EscapeString(diagnosis.Of(f).Text) + "\n")
	for _, p := range diagnosis.Replicas(v) {
		health := "healthy"
		switch {
		case !p.Reachable:
			health = "not reachable"
		case p.Status.IsWitness():
			health = "in contact"
		case !p.Status.Health.OK:
			health = "unhealthy: " + p.Status.Health.Detail
		}
		fmt.Fprintf(&s, "<b>%s</b> %s, %s", html.EscapeString(p.Status.Name), html.EscapeString(diagnosis.Role(p.Status)), html.EscapeString(health))
		if p.Reachable && p.Status.Role == election.Primary {
			fmt.Fprintf(&s, ", since %s", diagnosis.Clock(v.Since(p.Status.Primary)))
		}
		s.WriteByte('\n')
	}
	s.WriteString(diagnosis.Count(v) + "\n")
	if n := len(v.History); n > 0 {
		s.WriteString("Last change: " + notify.ChangeText(v.History[n-1]))
	}
	return s.String()
}

package notify

import (
	"fmt"
	"html"
	"strings"
	"time"

	"habot/app/diagnosis"
	"habot/app/election"
)

// ChangeText is which replica became primary, replacing which, why, and how long there was none, as HTML.
func ChangeText(c election.Change) string {
	s := fmt.Sprintf("%s became primary at %s", bold(c.Name), diagnosis.Clock(c.Since()))
	if c.Previous != "" {
		s += ", replacing " + bold(c.Previous)
	}
	return s + fmt.Sprintf(". Reason: %s. Downtime: %s.", html.EscapeString(diagnosis.Cause(c)), diagnosis.Downtime(c))
}

// text is one change, or many in a line.
func (b batch) text(now time.Time) string {
	if b.n == 1 {
		return ChangeText(b.last)
	}
	return fmt.Sprintf("%d changes of primary in %s. The last: %s", b.n, diagnosis.Span(now.Sub(b.since)), ChangeText(b.last))
}

func bold(name string) string { return "<b>" + html.EscapeString(name) + "</b>" }

// text is that a condition is there. It names the replica that sees it: on the other side of a partition another
// replica may see, and report, something else.
func (s Snapshot) text(k condition, i incident) string {
	seen := fmt.Sprintf("since %s (as seen by %s)", diagnosis.Clock(i.since), bold(s.View.Self.Name))
	switch k {
	case noPrimary:
		return fmt.Sprintf("No primary %s; the bot is not answering. %s. If the others can reach each other they may have elected one.\n%s",
			seen, diagnosis.Count(s.View), s.replicas())
	case foreignPoller:
		return "Another program polls with this token (409) " + seen + ". It takes updates away. Stop it, or get a new token from BotFather."
	case webhookStays:
		return "A webhook is set for this token (409) " + seen + ", and was set again after it was removed. It takes all updates away. Find out who sets it."
	case noBackend:
		return "No backend takes updates " + seen + "; they wait at Telegram. " + html.EscapeString(s.NoBackend)
	default:
		return "Incompatible replicas " + seen + ":\n" + s.differences()
	}
}

// overText is that a condition is over.
func (s Snapshot) overText(k condition, i incident) string {
	seen := "(as seen by " + bold(s.View.Self.Name) + ")"
	last := diagnosis.Clock(i.last)
	switch k {
	case noPrimary:
		return fmt.Sprintf("There is a primary again %s: %s. There was none since %s.", seen, bold(s.View.Self.PrimaryName), diagnosis.Clock(i.since))
	case foreignPoller:
		return fmt.Sprintf("No other program polls with this token any more since %s %s.", last, seen)
	case webhookStays:
		return fmt.Sprintf("No webhook is set for this token any more since %s %s.", last, seen)
	case tokenRejected:
		return fmt.Sprintf("Telegram rejected the token (401) from %s to %s %s. It accepts it again.", diagnosis.Clock(i.since), last, seen)
	case noBackend:
		return fmt.Sprintf("A backend takes updates again %s. There was none from %s to %s.", seen, diagnosis.Clock(i.since), last)
	default:
		return fmt.Sprintf("No replica is incompatible any more since %s %s.", last, seen)
	}
}

// replicas shows which are there and which are missing, one in a line.
func (s Snapshot) replicas() string {
	var b strings.Builder
	for _, r := range s.present() {
		fmt.Fprintf(&b, "%s reachable, %s\n", bold(r.Name), html.EscapeString(string(r.Role)))
	}
	for _, p := range diagnosis.Replicas(s.View) {
		if !p.Reachable {
			fmt.Fprintf(&b, "%s missing, no contact for %s\n", bold(p.Status.Name), diagnosis.Span(p.Age))
		}
	}
	for _, m := range s.View.Mismatched {
		fmt.Fprintln(&b, s.difference(m))
	}
	if unknown := diagnosis.Missing(s.View); unknown > 0 {
		fmt.Fprintf(&b, "%d more missing, no contact for a minute or ever\n", unknown)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// differences shows which replicas cannot take part, one in a line.
func (s Snapshot) differences() string {
	var lines []string
	for _, m := range s.View.Mismatched {
		lines = append(lines, s.difference(m))
	}
	for _, i := range s.Incompatible {
		lines = append(lines, html.EscapeString(i))
	}
	return strings.Join(lines, "\n")
}

func (s Snapshot) difference(m election.Mismatched) string {
	return bold(m.Name) + " cannot take part: " + html.EscapeString(diagnosis.Difference(m, s.View.Self))
}

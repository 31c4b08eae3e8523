package telling

import (
	"fmt"
	"html"
	"strings"
	"time"

	"habot/app/election"
)

// ChangeText says who took over from whom, why, and how long nobody was primary, as HTML.
func ChangeText(c election.Change) string {
	s := fmt.Sprintf("%s is primary since %s", bold(c.Name), clock(c.Claim.Time()))
	if c.Previous != "" {
		s += ", after " + bold(c.Previous)
	}
	s += ": " + words(c.Reason)
	if c.Gap > 0 {
		s += fmt.Sprintf(" Nobody was primary for %.2f s.", c.Gap.Seconds())
	}
	return s
}

// words tells a reason as people say it.
func words(r election.Reason) string {
	switch r {
	case election.ReasonStart:
		return "the first primary."
	case election.ReasonCrash:
		return "crash - it was not heard any more."
	case election.ReasonLeaseLost:
		return "lease lost - it could not renew in time."
	case election.ReasonShutdown:
		return "handover - it was shut down."
	case election.ReasonSwitchover:
		return "handover - an operator asked for it."
	case election.ReasonUnhealthy:
		return "handover - it could not poll Telegram."
	case election.ReasonLowerPrimary:
		return "it met a primary with a lower timestamp."
	case election.ReasonPartFailed:
		return "handover - a part of it failed."
	default:
		return html.EscapeString(string(r))
	}
}

// Text says for people what is wrong; empty if nothing is.
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

// text tells of one change, or of many in a line.
func (t tally) text(now time.Time) string {
	if t.n == 1 {
		return ChangeText(t.last)
	}
	return fmt.Sprintf("%d changes of primary in %s, the last: %s", t.n, span(now.Sub(t.since)), ChangeText(t.last))
}

// span is a duration as people say it.
func span(d time.Duration) string {
	if d < 100*time.Second {
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f minutes", d.Minutes())
}

func clock(t time.Time) string { return t.UTC().Format(time.DateTime + " MST") }

func bold(name string) string { return "<b>" + html.EscapeString(name) + "</b>" }

// text tells that a condition is there. It says who sees it: on the other side of a partition another
// replica may see, and tell, something else.
func (s Sight) text(k condition, e episode) string {
	seen := fmt.Sprintf("since %s, as %s sees it", clock(e.since), bold(s.View.Self.Name))
	switch k {
	case noPrimary:
		return fmt.Sprintf("No primary %s: nobody answers users. %d of %d replicas reachable, %d are needed. Should others hear each other, they may have one.\n%s",
			seen, s.View.Reachable, s.View.Expected, s.View.Quorum, s.replicas())
	case foreignPoller:
		return "Another program polls with this token (409) " + seen + ". It takes updates away: stop it, or have BotFather make a new token."
	case webhookStays:
		return "A webhook is set for this token (409) " + seen + ", and was set again after it was removed. It takes all updates away: find out who sets it."
	default:
		return "A configuration differs " + seen + ":\n" + s.differences()
	}
}

// overText tells that a condition is over.
func (s Sight) overText(k condition, e episode) string {
	as := "as " + bold(s.View.Self.Name) + " sees it"
	switch k {
	case noPrimary:
		return fmt.Sprintf("There is a primary again, %s: %s. It had seen none since %s.", as, bold(s.View.Self.PrimaryName), clock(e.since))
	case foreignPoller:
		return fmt.Sprintf("No other program polls with this token any more, %s, since %s.", as, clock(e.last))
	case webhookStays:
		return fmt.Sprintf("No webhook is set for this token any more, %s, since %s.", as, clock(e.last))
	case tokenRejected:
		return fmt.Sprintf("Telegram rejected the token (401) from %s to %s, %s. It accepts it again.", clock(e.since), clock(e.last), as)
	default:
		return fmt.Sprintf("No configuration differs any more, %s, since %s.", as, clock(e.last))
	}
}

// replicas shows who is there and who is missing, one in a line.
func (s Sight) replicas() string {
	var b strings.Builder
	for _, r := range s.present() {
		fmt.Fprintf(&b, "%s reachable, %s\n", bold(r.Name), html.EscapeString(string(r.Role)))
	}
	for _, p := range s.View.Peers {
		if !p.Reachable {
			fmt.Fprintf(&b, "%s missing, not heard for %s\n", bold(p.Status.Name), span(p.Age))
		}
	}
	for _, m := range s.View.Mismatched {
		fmt.Fprintln(&b, s.difference(m))
	}
	if unknown := s.View.Expected - 1 - len(s.View.Peers) - len(s.View.Mismatched); unknown > 0 {
		fmt.Fprintf(&b, "%d more missing, not heard for a minute or ever\n", unknown)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// differences shows who cannot take part, one in a line.
func (s Sight) differences() string {
	var lines []string
	for _, m := range s.View.Mismatched {
		lines = append(lines, s.difference(m))
	}
	for _, stranger := range s.Strangers {
		lines = append(lines, html.EscapeString(stranger))
	}
	return strings.Join(lines, "\n")
}

func (s Sight) difference(m election.Mismatched) string {
	if m.Reason == election.RefusedLease {
		return fmt.Sprintf("%s cannot take part: it has LEASE=%s, here it is %s", bold(m.Name), html.EscapeString(m.Theirs), s.View.Self.Lease)
	}
	return bold(m.Name) + " cannot take part: it has " + html.EscapeString(m.Theirs)
}

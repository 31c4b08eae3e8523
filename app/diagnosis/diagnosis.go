package diagnosis

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"habot/app/election"
)

// Facts are what a replica knows, at one moment.
type Facts struct {
	View election.View
	// Trouble is why Telegram refuses this replica's requests.
	Trouble Trouble
	// NoBackend is why no webhook backend takes updates, as this replica sees it; empty if one does, or none is configured.
	NoBackend string
	// Failing names the components of this process that are dead or overdue.
	Failing []string
	// Incompatible are instances that cannot even be asked who they are, a line each, for people.
	Incompatible []string
}

// State is whether the bot answers, and what keeps it from it. The set is closed.
type State string

// The states.
const (
	Answers     State = "answers"
	NoPrimary   State = "no_primary"
	Refused     State = "refused"     // by Telegram
	Unreachable State = "unreachable" // Telegram, for the primary
	Backendless State = "no_backend"  // no webhook backend takes updates
	Failing     State = "failing"     // a component of the primary
)

// Verdict is what a replica's facts mean for the bot as a whole.
type Verdict struct {
	State State `json:"state"`
	// Text is the verdict in one line.
	Text string `json:"text"`
	// Problems are what else is wrong, a line each; there may be some although the bot answers.
	Problems []string `json:"problems,omitempty"`
}

// OK reports whether the bot answers.
func (v Verdict) OK() bool { return v.State == Answers }

// Of judges the bot as a whole, as far as one replica can see it.
func Of(f Facts) Verdict {
	v := Verdict{State: Answers, Problems: f.problems()}
	primary, seen := f.primary()
	switch trouble := f.trouble(); {
	case !f.View.Known():
		v.State, v.Text = NoPrimary, noPrimary(f.View)
	case trouble != "":
		v.State, v.Text = Refused, trouble.Text()
	case f.View.IsPrimary() && len(f.Failing) > 0:
		v.State, v.Text = Failing, failing(f.Failing)
	case seen && (primary.Health.Detail == Unanswered || !ReachesTelegram(primary.Health)):
		v.State, v.Text = Unreachable, fmt.Sprintf("the primary %s does not reach Telegram: %s", primary.Name, line(primary.Health.Detail))
	case seen && !primary.Health.OK:
		v.State, v.Text = Backendless, fmt.Sprintf("updates wait at Telegram: %s (as seen by %s)", line(primary.Health.Detail), primary.Name)
	case f.NoBackend != "":
		v.State, v.Text = Backendless, fmt.Sprintf("updates wait at Telegram: %s (as seen by %s)", line(f.NoBackend), f.View.Self.Name)
	default:
		v.Text = fmt.Sprintf("the bot answers: %s is primary", cmp.Or(f.View.Self.PrimaryName, string(f.View.Self.Primary.Replica)))
	}
	return v
}

// Unready is why this replica is neither a standby nor a primary in order; empty if it is.
func Unready(f Facts) string {
	self, trouble := f.View.Self, f.trouble()
	switch {
	case len(f.Failing) > 0:
		return failing(f.Failing)
	case !f.View.Known():
		return noPrimary(f.View)
	case trouble != "":
		return trouble.Text()
	case self.Role != election.Primary && self.Role != election.Standby:
		return "this replica is " + string(self.Role)
	case !self.Health.OK && !self.IsWitness():
		return line(self.Health.Detail)
	default:
		return ""
	}
}

// noBackend begins the health of a replica that reaches Telegram and no webhook backend, as the relay's error does.
const noBackend = "no backend takes updates"

// ReachesTelegram tells whether a replica of a health that is not OK reaches Telegram after all: then what it does not reach
// are webhook backends.
func ReachesTelegram(h election.Health) bool { return h.OK || strings.HasPrefix(h.Detail, noBackend) }

// Unwell is what is wrong with a replica that is not healthy.
func Unwell(s election.Status) string {
	if ReachesTelegram(s.Health) {
		return fmt.Sprintf("%s reaches Telegram, but %s", s.Name, line(s.Health.Detail))
	}
	return fmt.Sprintf("%s does not reach Telegram: %s", s.Name, line(s.Health.Detail))
}

// primary is the primary's status; false if this replica is not in contact with it.
func (f Facts) primary() (election.Status, bool) {
	if f.View.IsPrimary() {
		return f.View.Self, true
	}
	for _, p := range f.View.Peers {
		if p.Reachable && p.Status.Replica == f.View.Self.Primary.Replica {
			return p.Status, true
		}
	}
	return election.Status{}, false
}

// trouble is why Telegram refuses the bot: a rejected token is seen by each replica, the rest by the primary alone, which
// reports it in its health.
func (f Facts) trouble() Trouble {
	if primary, seen := f.primary(); f.Trouble == "" && seen {
		return TroubleOf(primary.Health)
	}
	return f.Trouble
}

// noPrimary is why no primary is known.
func noPrimary(v election.View) string {
	switch count := Count(v); {
	case v.Self.Role == election.Joining:
		return "no primary yet: this replica has just started"
	case v.Self.Role == election.Leaving:
		return "no primary known: this replica is shutting down"
	case v.Reachable < v.Quorum:
		return "no primary: " + count
	case len(candidates(v)) == 0:
		return "no primary: all replicas in contact are witnesses, which never are primary; one without WITNESS=true is needed, " + count
	default:
		return "no primary: an election is under way, " + count
	}
}

// Count is how many replicas are in contact.
func Count(v election.View) string {
	return fmt.Sprintf("%d of %d replicas reachable, %d needed", v.Reachable, v.Expected, v.Quorum)
}

func failing(components []string) string {
	return "components of this replica fail: " + strings.Join(components, ", ")
}

// problems are what is wrong with this and other replicas, whether the bot answers or not.
func (f Facts) problems() []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	v := f.View
	if len(f.Failing) > 0 {
		add("%s", failing(f.Failing))
	}
	if !v.Self.Health.OK && !v.Self.IsWitness() {
		add("%s", Unwell(v.Self))
	}
	for _, p := range Replicas(v) {
		switch {
		case p.Status.Replica == v.Self.Replica:
		case !p.Reachable:
			add("%s is not reachable, last contact %s ago", p.Status.Name, Span(p.Age))
		case !p.Status.Health.OK && !p.Status.IsWitness():
			add("%s", Unwell(p.Status))
		}
	}
	for _, m := range v.Mismatched {
		add("incompatible replica %s: %s", m.Name, Difference(m, v.Self))
	}
	for _, i := range f.Incompatible {
		add("incompatible instance %s", line(i))
	}
	if n := Missing(v); n > 0 {
		add("%d of %d replicas missing, no contact for a minute or ever", n, v.Expected)
	}
	switch last := candidates(v); {
	case !v.Known():
	case v.Reachable <= v.Quorum && v.Quorum < v.Expected:
		add("the next failure stops the bot: %s", Count(v))
	case len(last) == 1 && v.Reachable > 1:
		add("the failure of %s stops the bot: the others in contact are witnesses, which never are primary", last[0].Name)
	}
	return all
}

// Missing is the number of replicas that are expected and of which nothing is known.
func Missing(v election.View) int {
	return max(0, v.Expected-len(Replicas(v))-len(v.Mismatched))
}

// Replicas are all that are known, this one included, by name. A replica that starts again has another id: what is left
// of its earlier life is left out.
func Replicas(v election.View) []election.Peer {
	all := append([]election.Peer{{Status: v.Self, Reachable: true}}, v.Peers...)
	silence := func(p election.Peer) time.Duration {
		if p.Reachable {
			return -1
		}
		return p.Age
	}
	slices.SortStableFunc(all, func(a, b election.Peer) int {
		return cmp.Or(strings.Compare(a.Status.Name, b.Status.Name), cmp.Compare(silence(a), silence(b)))
	})
	kept := all[:0]
	for _, p := range all {
		if n := len(kept); n > 0 && !p.Reachable && kept[n-1].Status.Name == p.Status.Name {
			continue
		}
		kept = append(kept, p)
	}
	return kept
}

// Difference is what an incompatible replica has that this one has not.
func Difference(m election.Mismatched, self election.Status) string {
	if m.Reason == election.RefusedLease {
		return fmt.Sprintf("it has LEASE=%s, here it is %s", line(m.Theirs), self.Lease)
	}
	return "it has " + line(m.Theirs)
}

// longest is how much of a text made elsewhere is shown in a line, in bytes.
const longest = 160

// line is a text made elsewhere, as a part of one line.
func line(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "..."
	}
	return s
}

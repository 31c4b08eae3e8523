package web

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"habot/app/diagnosis"
	"habot/app/election"
	"habot/app/gateway"
	"habot/app/relay"
)

// Status is what GET /cluster answers: all that a replica knows, and what it means.
type Status struct {
	election.View
	Verdict diagnosis.Verdict `json:"verdict"`
	// Demo: the bot talks to the simulator.
	Demo bool `json:"demo"`
	// LastPoll is how long ago Telegram answered a poll of this replica; 0 if it has not.
	LastPoll time.Duration `json:"last_poll_ns,omitempty"`
	// Backends is what this replica knows of webhook backends; nil if none is configured.
	Backends *relay.Snapshot `json:"backends,omitempty"`
	// Copies is what the primary knows of copies of a polling bot; nil if none handle updates, or it cannot be asked.
	Copies *gateway.Snapshot `json:"copies,omitempty"`
	// At is when the replica answered, by its wall clock.
	At time.Time `json:"at"`
}

// WriteStatus writes a status for people: the verdict, a line per replica, the last change, what is wrong.
func WriteStatus(w io.Writer, s Status) {
	demo := ""
	if s.Demo {
		demo = " (demo: BOT_TOKEN is not set, Telegram is simulated)"
	}
	fmt.Fprintf(w, "%s%s\n\n", s.Verdict.Text, demo)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "REPLICA\tROLE\tTELEGRAM\tPRIMARY SINCE\tVERSION")
	for _, r := range s.replicas() {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.Name, r.Role, r.Telegram, cmp.Or(r.Since, "-"), r.Version)
	}
	_ = t.Flush() // w's errors are its owner's to notice

	fmt.Fprintf(w, "\nas %s sees it: %s\n", s.Self.Name, strings.Join(s.facts(), "; "))
	if n := len(s.History); n > 0 {
		c := s.History[n-1]
		fmt.Fprintf(w, "last change: %s. Reason: %s. Downtime: %s\n", s.change(c), diagnosis.Cause(c), diagnosis.Downtime(c))
	}
	if s.Backends != nil {
		for _, line := range s.Backends.Lines() {
			fmt.Fprintln(w, line)
		}
	}
	if s.Copies != nil {
		for _, line := range s.Copies.Lines() {
			fmt.Fprintln(w, line)
		}
	}
	for _, p := range s.Verdict.Problems {
		fmt.Fprintf(w, "problem: %s\n", p)
	}
}

// replicaRow is a replica as people read of it.
type replicaRow struct {
	Name     string `json:"name"`
	Role     string `json:"role"`
	Telegram string `json:"telegram"`
	// Since is when it became primary, if it is.
	Since   string `json:"since,omitempty"`
	Version string `json:"version"`
	Self    bool   `json:"self,omitempty"`
}

// replicas are all that are known, by name.
func (s Status) replicas() []replicaRow {
	all := []replicaRow{}
	for _, p := range diagnosis.Replicas(s.View) {
		r := replicaRow{
			Name: p.Status.Name, Role: string(p.Status.Role), Telegram: "reachable", Version: p.Status.Version, Self: p.Status.Replica == s.Self.Replica,
		}
		switch {
		case !p.Reachable:
			r.Role, r.Telegram = "not reachable", "unknown"
		case !diagnosis.ReachesTelegram(p.Status.Health):
			r.Telegram = "not reachable"
		}
		if p.Reachable && p.Status.Role == election.Primary {
			r.Since = diagnosis.Clock(s.Since(p.Status.Primary))
		}
		all = append(all, r)
	}
	return all
}

// facts are those that fit into one line.
func (s Status) facts() []string {
	all := []string{diagnosis.Count(s.View)}
	if s.Mode == "bot-only" {
		all = []string{"mode bot-only, no election"}
	} else {
		all = append(all, "lease "+s.Self.Lease.String())
	}
	telegram := "real Telegram"
	if s.Demo {
		telegram = "simulated Telegram"
	}
	all = append(all, telegram)
	switch {
	case !s.IsPrimary(): // the primary alone polls, and this is not it
	case s.LastPoll > 0:
		all = append(all, "last poll answered "+diagnosis.Span(s.LastPoll)+" ago")
	default:
		all = append(all, "no poll answered yet")
	}
	if to := s.lifelines(); to != "" {
		all = append(all, "lifelines to "+to)
	}
	return all
}

// lifelines are the replicas of whose death the kernel tells this one at once.
func (s Status) lifelines() string {
	var names []string
	for _, p := range s.Peers {
		if p.Lifeline {
			names = append(names, p.Status.Name)
		}
	}
	return strings.Join(names, ", ")
}

func (s Status) change(c election.Change) string {
	text := fmt.Sprintf("%s became primary at %s", c.Name, diagnosis.Clock(c.Since()))
	if !s.At.IsZero() {
		text += ", " + diagnosis.Span(s.At.Sub(c.Since())) + " ago"
	}
	if c.Previous != "" {
		text += ", replacing " + c.Previous
	}
	return text
}

// WriteHistory writes changes of primary for people, the oldest first.
func WriteHistory(w io.Writer, changes []election.Change) {
	if len(changes) == 0 {
		fmt.Fprintln(w, "no change of primary is known to this replica")
		return
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "TIME\tNEW PRIMARY\tPREVIOUS\tDOWNTIME\tREASON")
	for _, c := range changes {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", diagnosis.Clock(c.Since()), c.Name, cmp.Or(c.Previous, "-"), diagnosis.Downtime(c), diagnosis.Cause(c))
	}
	_ = t.Flush() // w's errors are its owner's to notice
}

package diagnosis

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"habot/app/election"
)

// objection is why the role cannot move to a replica, by name or id, or to any standby if name is empty; "" if nothing that
// this replica knows speaks against it.
func objection(v election.View, name string) string {
	switch {
	case v.Mode == "bot-only":
		return "there is no standby: MODE=bot-only"
	case !v.Known():
		return noPrimary(v)
	case name == "":
		if !slices.ContainsFunc(Replicas(v), fit) {
			if n := len(Witnesses(v)); n > 0 && n == v.Reachable-1 {
				return "no standby can take over: the others in contact are witnesses, which never are primary"
			}
			return "no standby can take over: " + Count(v)
		}
		return ""
	case name == v.Self.PrimaryName || name == string(v.Self.Primary.Replica):
		return name + " is primary already"
	}
	var named []election.Peer
	for _, p := range Replicas(v) {
		if p.Status.Name == name || string(p.Status.Replica) == name {
			named = append(named, p)
		}
	}
	switch {
	case len(named) == 0:
		return fmt.Sprintf("there is no replica %s; there are %s", line(name), strings.Join(names(v), ", "))
	case slices.ContainsFunc(named, fit):
		return ""
	case named[0].Status.IsWitness():
		return name + " cannot take over: it is a witness, which votes and never is primary"
	case !named[0].Reachable:
		return fmt.Sprintf("%s is not reachable, last contact %s ago", name, Span(named[0].Age))
	default:
		return fmt.Sprintf("%s cannot take over now: it is %s", name, named[0].Status.Role)
	}
}

// Refusal is why a switchover to a replica, by name or id, or to any standby if name is empty, was refused: in one
// sentence, from what this replica knows and from the error of the attempt.
func Refusal(v election.View, name string, err error) string {
	switch why := objection(v, name); {
	case why != "":
		return why
	case errors.Is(err, election.ErrNotPrimary):
		return "the primary is changing just now; try again"
	case errors.Is(err, election.ErrNoSuccessor) && name != "":
		return name + " cannot take over just now: it has not granted the primary's lease lately"
	default:
		return "no standby can take over just now: none has granted the primary's lease lately"
	}
}

func fit(p election.Peer) bool {
	return p.Reachable && p.Status.Role == election.Standby && !p.Status.IsWitness()
}

func names(v election.View) []string {
	var all []string
	for _, p := range Replicas(v) {
		all = append(all, p.Status.Name)
	}
	return slices.Compact(all)
}

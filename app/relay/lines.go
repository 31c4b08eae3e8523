package relay

import (
	"fmt"
	"maps"
	"slices"
)

// Lines is a snapshot for people, a line for each address and each name without one.
func (s Snapshot) Lines() []string {
	var all []string
	for _, a := range s.Addresses {
		line := fmt.Sprintf("backend %s at %s: %s", a.Backend, a.Address, a.State)
		if a.InFlight > 0 {
			line += fmt.Sprintf(", %d in flight", a.InFlight)
		}
		if a.Detail != "" && a.State != Up {
			line += ", " + a.Detail
		}
		all = append(all, line)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Unresolved)) {
		all = append(all, fmt.Sprintf("backend %s: %s", name, s.Unresolved[name]))
	}
	if s.Waiting > 0 {
		all = append(all, fmt.Sprintf("updates that wait for a backend: %d", s.Waiting))
	}
	return all
}

package turnstest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Coverage counts what simulations reached. What never occurred was not tested. It is not safe for concurrent use.
type Coverage struct{ Counts map[string]int }

// NewCoverage returns an empty one.
func NewCoverage() *Coverage { return &Coverage{map[string]int{}} }

// Add adds what another one has counted.
func (v *Coverage) Add(o *Coverage) {
	for k, n := range o.Counts {
		v.Counts[k] += n
	}
}

// Report says what was reached, line by line.
func (v *Coverage) Report() (lines []string) {
	for _, k := range slices.Sorted(maps.Keys(v.Counts)) {
		lines = append(lines, fmt.Sprintf("%-44s %d", k, v.Counts[k]))
	}
	return lines
}

// Missing is what a test of many schedules has to reach and did not, and what it reached though it is not listed. Three
// excuses of last resort need not occur.
func (v *Coverage) Missing() (missing []string) {
	for _, k := range Kinds() {
		if v.Counts[k] == 0 {
			missing = append(missing, fmt.Sprintf("%q never occurred", k))
		}
	}
	rare := []string{"end: there were too many", "end: two replicas crashed", "end: a greeting passed for a sign"}
	for _, k := range slices.Sorted(maps.Keys(v.Counts)) {
		if !slices.Contains(Kinds(), k) && !slices.Contains(rare, k) {
			missing = append(missing, fmt.Sprintf("%q occurred %d times and is not among the kinds", k, v.Counts[k]))
		}
	}
	return missing
}

// Kinds are what is counted: over many schedules every one must occur.
func Kinds() []string {
	all := strings.Split(kinds, "\n")
	for _, f := range faultKinds() {
		all = append(all, "fault: "+string(f))
	}
	for _, m := range moments() {
		if m != AtOnce {
			all = append(all, "moment: "+string(m))
		}
	}
	return all
}

const kinds = `active: ended
active: first
active: gone
active: operator
active: restarted
active: silent
active: stopped
address gone
answer refused
call whose answer was lost
client gives up waiting
confirmation that Telegram never got
connection that the network lost
connection's end, told late
delta that is missed
died: ended
died: gone
died: silent
died: stopped
done: confirmed
done: expired
end: expired
end: handled
end: it showed a sign
end: it was given too long before
end: it was given too often
end: its answer failed
end: nothing is given again
farewell
full delta
given: again, confirmed before
given: again, not confirmed
given: new
given: nothing
no spare
primary
primary that has missed deltas
primary that learns from another
primary without a majority
process that ends as it cannot greet
process that ends as its job is refused
process that ends of an update
request of a process that has ended
request that waits for a primary
update answered twice
write: active copy
write: copy that has closed its poll's connection
write: copy whose turn is about to begin
write: former copy that keeps no connection
write: refused
write: starting copy
write: unknown copy`

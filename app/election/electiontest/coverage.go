package electiontest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"habot/app/election"
)

// Coverage counts what simulations reached: every kind of fault and output, every change of role, and
// states. What never occurred was not tested. It is not safe for concurrent use; see Add.
type Coverage struct {
	// Counts is by kind, see Kinds.
	Counts map[string]int
	// Moves counts changes of role within one step, from and to.
	Moves map[[2]election.Role]int
	// Recovery and Takeover are the longest seen, in true time; see the constants of these names.
	Recovery, Takeover time.Duration

	states [states]int
}

// NewCoverage returns an empty one.
func NewCoverage() *Coverage {
	return &Coverage{Counts: map[string]int{}, Moves: map[[2]election.Role]int{}}
}

// Add adds what another one has counted.
func (v *Coverage) Add(o *Coverage) {
	for k, n := range o.Counts {
		v.Counts[k] += n
	}
	for k, n := range o.Moves {
		v.Moves[k] += n
	}
	for i, n := range o.states {
		v.states[i] += n
	}
	v.Recovery, v.Takeover = max(v.Recovery, o.Recovery), max(v.Takeover, o.Takeover)
}

// The dimensions of an abstract state, as they are seen from outside the machine after a step.
var (
	promises = []string{"none", "own", "another's", "run out"}
	knows    = []string{"nobody", "itself", "another"}
	bots     = []string{"off", "runs", "told to stop"}
	contexts = []string{"calm", "cut off", "noise", "noise and cut off", "just woken"}
)

const (
	roles  = 6
	states = roles * 4 * 3 * 3 * 2 * 5
)

// state numbers the abstract state of a host after a step.
func (c *Cluster) state(h *host, s *election.Status) int {
	a := &h.account
	promise := 0
	switch {
	case a.promised.IsZero():
	case h.local(c.now) >= a.until:
		promise = 3
	case a.promised.Replica == h.id:
		promise = 1
	default:
		promise = 2
	}
	known := 0
	switch s.Primary.Replica {
	case "":
	case h.id:
		known = 1
	default:
		known = 2
	}
	bot := 0
	if h.botRunning {
		bot = 1
		if a.told {
			bot = 2
		}
	}
	well := 0
	if h.health.OK {
		well = 1
	}
	context := 0
	if c.cuts > 0 {
		context |= 1
	}
	if n := c.opt.Noise; n.Loss > 0 || n.Duplicate > 0 || n.MaxDelay > 10*time.Millisecond {
		context |= 2
	}
	if h.late {
		context = 4
	}
	i := slices.Index(election.Roles(), s.Role)
	i = i*len(promises) + promise
	i = i*len(knows) + known
	i = i*len(bots) + bot
	i = i*2 + well
	return i*len(contexts) + context
}

// reached counts the state of a host after a step, and judges the change of its role.
func (c *Cluster) reached(h *host) {
	s := h.machine.Status(h.local(c.now))
	before := h.account.role
	if before == "" {
		before = election.Joining
	}
	if before != s.Role {
		c.Coverage.Moves[[2]election.Role{before, s.Role}]++
		if !slices.Contains(moves(), [2]election.Role{before, s.Role}) {
			c.breaks(Roles, "%s was %s and is %s", h.name, before, s.Role)
		}
	}
	h.account.role = s.Role
	c.Coverage.states[c.state(h, &s)]++
	h.late = h.late && c.now < h.frozenUntil
}

// moves are the changes of role that one step may bring: a step may pass through several roles. A replica
// that has promised nothing has left as soon as it is asked to.
func moves() [][2]election.Role {
	const (
		joining, looking, candidate = election.Joining, election.Looking, election.Candidate
		primary, standby, leaving   = election.Primary, election.Standby, election.Leaving
	)
	return [][2]election.Role{
		{joining, looking}, {joining, candidate}, {joining, standby},
		{looking, candidate}, {looking, standby},
		{candidate, looking}, {candidate, standby}, {candidate, primary},
		{standby, looking}, {standby, candidate},
		{looking, leaving}, {standby, leaving},
		{primary, looking}, {primary, leaving},
	}
}

// Report says what was reached, line by line.
func (v *Coverage) Report() []string {
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(v.Counts)) {
		lines = append(lines, fmt.Sprintf("%-36s %d", k, v.Counts[k]))
	}
	for _, m := range moves() {
		lines = append(lines, fmt.Sprintf("%-36s %d", fmt.Sprintf("role %s -> %s", m[0], m[1]), v.Moves[m]))
	}
	seen := 0
	for _, n := range v.states {
		if n > 0 {
			seen++
		}
	}
	combined := v.combined()
	for _, k := range slices.Sorted(maps.Keys(combined)) {
		if combined[k] > 0 {
			lines = append(lines, fmt.Sprintf("%-60s %d", k, combined[k]))
		}
	}
	return append(lines,
		fmt.Sprintf("%d distinct abstract states", seen),
		fmt.Sprintf("slowest recovery %v, slowest takeover %v", v.Recovery, v.Takeover))
}

// combined is how often each role was reached with each promise in each context.
func (v *Coverage) combined() map[string]int {
	reached := map[string]int{}
	for i, n := range v.states {
		context := i % len(contexts)
		rest := i / len(contexts) / 2 / len(bots) / len(knows)
		promise, role := rest%len(promises), rest/len(promises)
		reached[stateName(election.Roles()[role], promises[promise], contexts[context])] += n
	}
	return reached
}

func stateName(role election.Role, promise, context string) string {
	return fmt.Sprintf("state %s, promise %s, %s", role, promise, context)
}

// Missing is what a test of many schedules has to reach and did not, and what it reached though no list
// here has it.
func (v *Coverage) Missing() []string {
	var missing []string
	for _, k := range Kinds() {
		if v.Counts[k] == 0 {
			missing = append(missing, fmt.Sprintf("%q never occurred", k))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(v.Counts)) {
		if !slices.Contains(Kinds(), k) {
			missing = append(missing, fmt.Sprintf("%q occurred %d times and is not among the kinds", k, v.Counts[k]))
		}
	}
	for _, m := range moves() {
		if v.Moves[m] == 0 {
			missing = append(missing, fmt.Sprintf("\"role %s -> %s\" never occurred", m[0], m[1]))
		}
	}
	combined := v.combined()
	for _, role := range election.Roles() {
		for _, promise := range promises {
			for _, context := range contexts {
				if k := stateName(role, promise, context); combined[k] == 0 && reachable(role, promise) {
					missing = append(missing, fmt.Sprintf("%q never occurred", k))
				}
			}
		}
	}
	return missing
}

// reachable reports whether a role can be had with a promise at all.
func reachable(role election.Role, promise string) bool {
	switch role {
	case election.Joining:
		// It is silent until whatever it promised before has expired.
		return promise == "none"
	case election.Leaving:
		// It has released its own claim, and leaves when its promise has run out.
		return promise == "none" || promise == "another's"
	case election.Candidate, election.Primary:
		return promise == "own" || (role == election.Primary && promise == "run out")
	case election.Looking, election.Standby:
		return promise != "own"
	}
	return false
}

// Kinds are the faults and outputs that are counted: over many schedules every one must occur.
func Kinds() []string {
	return strings.Split(kinds, "\n")
}

const kinds = `fault bot died
fault configuration differs
fault crash
fault cut
fault drift
fault freeze
fault heal
fault health
fault leave
fault message cut off
fault message duplicated
fault message lost
fault partition
fault resign
fault resize
fault start
fault incompatible, lease
fault incompatible, protocol
fault wall clock jump
fault wall clock off
death witnessed
death of one with a promise witnessed
died
moment claim
moment grant
moment release
moment leaving
moment departed
moment stop
moment win
moment withdrawal
peace crash
peace crash witnessed
peace hand-over
peace newcomer
peace shutdown
peace all stop
peace in turn
peace scale-in
peace with one candidate
query
query of a missed primary
claim
withdrawal
release
release to a successor
reply granted
reply granted by a witness
reply refused, joining
reply refused, floor
reply refused, held
reply refused, ended
reply refused, lease_mismatch
reply refused, protocol_mismatch
start bot
start bot by a witness's grant
extend lease
stop bot, drain
stop bot, now
halt
leaving
leaving, departed
reply needed
reply dismissed
left in order
left without a word
departed
counted out
election won
election yielded
election refused
election timed_out
election abandoned
primary changed, start
primary changed, crash
primary changed, death witnessed
primary changed, lease_lost
primary changed, shutdown
primary changed, switchover
primary changed, unhealthy
primary changed, lower_primary
primary changed, part_failed
stepped down, lease_lost
stepped down, shutdown
stepped down, switchover
stepped down, unhealthy
stepped down, lower_primary
stepped down, part_failed
mismatch, lease_mismatch
mismatch, protocol_mismatch
size changed`

//go:build e2e

package e2e

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"habot/app/election"
)

var (
	leases = flag.String("leases", "", "compare these LEASEs, separated by commas; empty for none")
	span   = flag.Duration("span", 2*time.Minute, "how long each way of starving replicas lasts, comparing LEASEs")
)

// row is what was measured of one LEASE.
type row struct {
	lease time.Duration
	s     *stack
	took  figures // from kill -9 to the next poll
	idle  []usage // the primary's first
	// changes of primary, by reason, in each way of starving.
	changes map[string][]election.Reason
}

// quiet is how many updates a second each stack gets while all run side by side: enough to be at work.
const quiet = 5

// starving is one way of giving replicas too little of the processors.
type starving struct {
	name string
	// every moment has it done again: the role may have moved.
	every func(t *testing.T, r *row)
	busy  int // processes that do nothing else
}

// TestLease compares LEASEs and prints a table: one stack after the other where the machine is to be calm, all
// at once where it is not to be. There are no lifelines: with them no LEASE matters after kill -9.
func TestLease(t *testing.T) {
	if *leases == "" {
		t.Skip("no -leases")
	}
	var rows []*row
	for value := range strings.SplitSeq(*leases, ",") {
		d, err := time.ParseDuration(value)
		if err != nil {
			t.Fatal(err)
		}
		r := &row{lease: d, changes: map[string][]election.Reason{}}
		r.s = newStack(t, "habote2e-lease-"+value, "LEASE="+value, "LIFELINE_DIR=")
		r.measureAlone(t)
		r.s.down()
		rows = append(rows, r)
	}
	for _, r := range rows {
		r.s.up(t)
	}
	var limited = map[*row]replica{} // the replica that each stack's limit binds now
	limit := func(t *testing.T, r *row, to replica) {
		if was, ok := limited[r]; ok {
			if was.container == to.container {
				return
			}
			if err := limitCPU(t.Context(), was, float64(runtime.NumCPU())); err != nil {
				t.Log(err) // a container that restarts is limited a moment longer
			}
		}
		if err := limitCPU(t.Context(), to, 0.1); err != nil {
			t.Log(err)
			return
		}
		limited[r] = to
	}
	ways := []starving{
		{name: "calm"},
		{name: "busy", busy: runtime.NumCPU()},
		{name: "standby", every: func(t *testing.T, r *row) {
			if _, others := r.byPoller(t); len(others) > 0 {
				if was, ok := limited[r]; !ok || !slices.Contains(others, was) {
					limit(t, r, others[0])
				}
			}
		}},
		{name: "primary", every: func(t *testing.T, r *row) {
			if primary, _ := r.byPoller(t); primary.container != "" {
				limit(t, r, primary)
			}
		}},
	}
	for _, w := range ways {
		measureTogether(t, rows, w)
		for r, bound := range limited {
			if err := limitCPU(t.Context(), bound, float64(runtime.NumCPU())); err != nil {
				t.Fatal(err)
			}
			delete(limited, r)
		}
	}
	load, _ := os.ReadFile("/proc/loadavg")
	t.Logf("on %d cores, with all stacks still running, a load average of %s", runtime.NumCPU(), load)
	t.Log("\n" + table(rows, ways))
}

// measureAlone measures takeovers and the cost of being idle.
func (r *row) measureAlone(t *testing.T) {
	t.Helper()
	for range *repetitions {
		primary, _ := r.s.settled(t, size)
		before := r.s.report(t)
		start := time.Now()
		if err := syscall.Kill(primary.pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r.took = append(r.took, r.s.takeover(t, primary.name, before.Polls, start).Start.Sub(start))
	}
	r.took.tell(t, fmt.Sprintf("LEASE %v, kill -9 to the next poll", r.lease), time.Hour, time.Hour)
	r.s.settled(t, size)
	if out, err := r.s.compose(t.Context(), "up", "--detach", "prometheus"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.s.setRate(t, 0)
	primary, others := r.s.settled(t, size)
	for _, u := range idle(t, append([]replica{primary}, others...)) {
		r.idle = append(r.idle, u)
		if u.afresh {
			t.Errorf("LEASE %v, idle: %s did not live through a time in which nothing happened\n%s", r.lease, u.name, r.s.logs())
			continue
		}
		t.Logf("FIGURE LEASE %v, idle, %s: %.2f %% of a core, %.1f MiB resident", r.lease, u.name, u.percent, u.mib)
	}
}

// byPoller is who is primary by what the simulator sees, and the others.
func (r *row) byPoller(t *testing.T) (primary replica, others []replica) {
	t.Helper()
	poller := r.s.report(t).Poller
	for _, one := range r.s.replicas(t) {
		if one.name == poller {
			primary = one
		} else {
			others = append(others, one)
		}
	}
	return primary, others
}

// measureTogether starves replicas of all stacks at once and counts the changes of primary. None has a cause.
func measureTogether(t *testing.T, rows []*row, w starving) {
	t.Helper()
	for _, r := range rows {
		r.s.setRate(t, quiet)
		r.s.settled(t, size)
	}
	end, err := keepBusy(t.Context(), w.busy, *span+time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	known := map[*row]map[election.Claim]bool{}
	for _, r := range rows {
		known[r] = r.claims(t, nil)
	}
	for start := time.Now(); time.Since(start) < *span; time.Sleep(2 * time.Second) {
		for _, r := range rows {
			if w.every != nil {
				w.every(t, r)
			}
			r.claims(t, func(c election.Change) { // often, for what a replica knows of the past ends with it
				if !known[r][c.Claim] {
					known[r][c.Claim] = true
					r.changes[w.name] = append(r.changes[w.name], c.Reason)
					t.Logf("LEASE %v, %s: %s is primary after %s: %s, no primary for %.0f ms", r.lease, w.name, c.Name, c.Previous, c.Reason, ms(c.Gap))
				}
			})
		}
	}
}

// claims are the changes of primary that any replica knows of.
func (r *row) claims(t *testing.T, each func(election.Change)) map[election.Claim]bool {
	t.Helper()
	all := map[election.Claim]bool{}
	for _, one := range r.s.replicas(t) {
		v, err := view(t, one)
		if err != nil {
			continue // it restarts; the others know
		}
		for _, c := range v.History {
			all[c.Claim] = true
			if each != nil {
				each(c)
			}
		}
	}
	return all
}

// table is what was measured, in Markdown.
func table(rows []*row, ways []starving) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| LEASE | kill -9 to next poll: median, max (n) |")
	for _, w := range ways {
		fmt.Fprintf(&b, " %s |", w.heading())
	}
	b.WriteString(" idle, of a core: primary, standbys | resident, at most |\n|---|---|" + strings.Repeat("---|", len(ways)) + "---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %v | %.0f ms, %.0f ms (%d) |", r.lease, ms(r.took.median()), ms(slices.Max(r.took)), len(r.took))
		for _, w := range ways {
			n := len(r.changes[w.name])
			fmt.Fprintf(&b, " %.0f (%d%s) |", float64(n)/span.Hours(), n, reasons(r.changes[w.name]))
		}
		var cost []string
		resident := 0.0
		for _, u := range r.idle {
			if u.afresh {
				cost = append(cost, "restarted")
				continue
			}
			cost = append(cost, fmt.Sprintf("%.2f %%", u.percent))
			resident = max(resident, u.mib)
		}
		fmt.Fprintf(&b, " %s | %.1f MiB |\n", strings.Join(cost, ", "), resident)
	}
	fmt.Fprintf(&b, "\nChanges of primary without a cause are per hour, as counted in %v (in brackets: the count, and the reasons). %d stacks of %d replicas, "+
		"with a simulator and %d updates a second each, ran side by side on %d cores for that, and add to the load themselves; \"busy\" is %d "+
		"processes more that do nothing else, at niceness 0. Takeover and idle cost were measured on one stack at a time, idle with Prometheus, which asks "+
		"once a second, and health checks.\n", *span, len(rows), size, quiet, runtime.NumCPU(), runtime.NumCPU())
	return b.String()
}

func (w starving) heading() string {
	switch {
	case w.busy > 0:
		return "all cores busy"
	case w.every != nil:
		return w.name + " has 0.1 CPU"
	default:
		return w.name
	}
}

func reasons(all []election.Reason) string {
	if len(all) == 0 {
		return ""
	}
	var names []string
	for _, r := range all {
		names = append(names, string(r))
	}
	slices.Sort(names)
	return ": " + strings.Join(slices.Compact(names), ", ")
}

package node_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
)

// journal is what replicas log, as machines read it.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

// into has a replica log into a journal, as a process does.
func into(j *journal) option {
	return func(m *member) { m.cfg.Logger = slog.New(slog.NewJSONHandler(j, nil)).With("replica", m.name()) }
}

// entry is one line.
type entry map[string]any

// entries decodes the journal line by line. No line may have a key twice: machines would keep one of them.
func (j *journal) entries(t *testing.T) []entry {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []entry
	for line := range strings.Lines(j.b.String()) {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		keys := map[any]bool{}
		d := json.NewDecoder(strings.NewReader(line))
		_, _ = d.Token()
		for d.More() {
			key, _ := d.Token()
			if keys[key] {
				t.Errorf("%v is there twice in %s", key, line)
			}
			keys[key] = true
			var value json.RawMessage
			if err := d.Decode(&value); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, e)
	}
	return all
}

func (j *journal) count(msg string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.b.String(), `"msg":"`+msg+`"`)
}

// retold is what one replica's lines say, with those keys that do not depend on time.
func retold(all []entry, replica string) []string {
	keys := map[string][]string{
		"primary changed":   {"primary", "previous", "reason", "self"},
		"role changed":      {"was", "role"},
		"replica lost":      {"peer"},
		"replica found":     {"peer"},
		"replica has left":  {"peer"},
		"stepping down":     {"reason", "drain"},
		"stepped down":      {"reason"},
		"leaving":           {"role", "reason"},
		"switchover begins": {"successor"},
	}
	var lines []string
	for _, e := range all {
		if e["replica"] != replica {
			continue
		}
		line := fmt.Sprint(e["msg"])
		for _, k := range keys[line] {
			line += fmt.Sprintf(" %s=%v", k, e[k])
		}
		lines = append(lines, line)
	}
	return lines
}

// expectStory fails unless a replica's lines contain those wanted, in this order, by how
// they begin.
func expectStory(t *testing.T, all []entry, replica string, want ...string) {
	t.Helper()
	lines, left := retold(all, replica), want
	for _, line := range lines {
		if len(left) > 0 && strings.HasPrefix(line, left[0]) {
			left = left[1:]
		}
	}
	if len(left) > 0 {
		t.Errorf("%s does not tell %q, but:\n\t%s", replica, left[0], strings.Join(lines, "\n\t"))
	}
}

// threeTelling is three replicas that log into one journal and have found each other.
func threeTelling(t *testing.T) (c *cluster, primary *member, j *journal) {
	t.Helper()
	j = &journal{}
	c, primary = three(t, into(j))
	c.await(10*lease, "all members know each other", func() bool { return j.count("replica found") == 6 && j.count("primary changed") == 3 })
	for _, m := range c.all() {
		expectStory(t, j.entries(t), m.name(), fmt.Sprintf("primary changed primary=%s previous= reason=start self=%v", primary.name(), m == primary))
		// A start is one line: which role came of it. Candidacies on the way there are for debugging.
		role := "standby"
		if m == primary {
			role = "primary"
		}
		var roles []string
		for _, line := range retold(j.entries(t), m.name()) {
			if strings.HasPrefix(line, "role changed") {
				roles = append(roles, line)
			}
		}
		if want := []string{"role changed was=joining role=" + role}; !slices.Equal(roles, want) {
			t.Errorf("%s tells at its start %q, want %q", m.name(), roles, want)
		}
	}
	return c, primary, j
}

// The primary's cable is pulled. The survivors log which replica took over, from which, why, how long there was no
// primary, and under which timestamp; and for how long the old one was away.
func TestAFailoverCanBeRetoldFromTheSurvivorsLogsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, old, j := threeTelling(t)
		before := len(j.entries(t))
		pulled := time.Now()
		c.sever(old, true)
		next, _ := c.successor(old, 2*lease)
		c.await(10*lease, "the old primary is missed", func() bool { return j.count("replica lost") == 4 }) // it misses two, too
		const away = 20 * time.Second
		time.Sleep(away - time.Since(pulled))
		c.sever(old, false)
		c.await(10*lease, "the old primary is found", func() bool { return j.count("replica found") == 10 })
		all := j.entries(t)[before:]
		for _, m := range c.others(old) {
			expectStory(t, all, m.name(), "role changed was=standby role=",
				fmt.Sprintf("primary changed primary=%s previous=%s reason=crash self=%v", next.who.name(), old.name(), m == next.who),
				"replica lost peer="+old.name(), "replica found peer="+old.name())
		}
		for _, e := range all {
			if e["replica"] == old.name() {
				continue
			}
			for key, bounds := range map[string][2]float64{
				"nobody_for_seconds": {0.5, 1.3}, "not_heard_seconds": {0.9, 1.6}, "away_seconds": {away.Seconds() - 1.2, away.Seconds() + 1.2},
			} {
				if v, ok := e[key].(float64); ok && (v < bounds[0] || v > bounds[1]) {
					t.Errorf("%s=%v in %v, want between %v", key, v, e, bounds)
				}
			}
			if e["msg"] == "primary changed" && (e["timestamp_ns"] != float64(next.term.Change.Claim.Timestamp) || e["nobody_for_seconds"] == nil) {
				t.Errorf("%v, want timestamp_ns=%d and nobody_for_seconds", e, next.term.Change.Claim.Timestamp)
			}
		}
		// Its own log, where it can still be read; its candidacies in vain leave out nothing.
		expectStory(t, all, old.name(), "stepping down reason=lease_lost drain=false", "stepped down reason=lease_lost", "role changed was=primary role=looking",
			"replica found", "replica found")
		last := retold(all, old.name())
		for _, e := range all {
			if n, _ := e["omitted"].(float64); n != 0 {
				t.Errorf("lines were left out before %v", e)
			}
		}
		if !slices.ContainsFunc(last, func(s string) bool {
			return strings.HasPrefix(s, "role changed") && strings.HasSuffix(s, "role=standby")
		}) {
			t.Errorf("%s does not tell that it stands by, but:\n\t%s", old.name(), strings.Join(last, "\n\t"))
		}
	})
}

func TestAHandoverCanBeRetoldWithItsReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, first, j := threeTelling(t)
		heir := c.others(first)[0]
		time.Sleep(lease) // both have granted
		if err := first.node.Switchover(t.Context(), heir.name()); err != nil {
			t.Fatal(err)
		}
		second, _ := c.successor(first, lease)
		second.who.leave(nil)
		third, _ := c.successor(second.who, lease)
		all := j.entries(t)
		expectStory(t, all, first.name(), "switchover begins successor="+heir.name(), "stepping down reason=switchover drain=true", "stepped down reason=switchover")
		expectStory(t, all, heir.name(), "primary changed primary="+heir.name()+" previous="+first.name()+" reason=switchover self=true",
			"leaving role=primary reason=shutdown", "stepping down reason=shutdown drain=true", "stepped down reason=shutdown", "role changed was=primary role=leaving")
		expectStory(t, all, third.who.name(), "primary changed primary="+third.who.name()+" previous="+heir.name()+" reason=shutdown self=true")
	})
}

// One that stops in order has left; it is not lost.
func TestAReplicaThatLeavesInOrderIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, primary, j := threeTelling(t)
		time.Sleep(lease) // all have granted
		gone := c.others(primary)[0]
		gone.leave(nil)
		<-gone.exited
		time.Sleep(5 * lease)
		for _, m := range c.others(gone) {
			expectStory(t, j.entries(t), m.name(), "replica has left peer="+gone.name())
		}
		if n := j.count("replica lost"); n != 0 {
			t.Errorf("%d replicas are called lost", n)
		}
	})
}

// A replica whose cable comes and goes every few seconds for an hour, in the log of the others.
func TestFlappingMakesFewLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, primary, j := threeTelling(t)
		flapping := c.others(primary)[0]
		before := len(j.entries(t))
		const minutes = 20
		for range minutes * 6 {
			c.sever(flapping, true)
			time.Sleep(5 * lease)
			c.sever(flapping, false)
			time.Sleep(5 * lease)
		}
		time.Sleep(time.Minute)
		perReplica := map[any]int{}
		omitted := 0.0
		for _, e := range j.entries(t)[before:] {
			if e["replica"] != flapping.name() {
				perReplica[e["replica"]]++
				n, _ := e["omitted"].(float64)
				omitted += n
			}
		}
		for who, n := range perReplica {
			if n > 11*(minutes+1) || n < minutes {
				t.Errorf("%v logged %d lines in %d minutes", who, n, minutes)
			}
		}
		if omitted == 0 {
			t.Error("no line says that others were left out")
		}
	})
}

// A configuration that differs has keys of its own: the line's replica is who writes it.
func TestAMismatchNamesBothSides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		c := newCluster(t)
		c.start("a", into(&j))
		c.start("b", into(&j), func(m *member) { m.cfg.Election.Lease = 2 * lease })
		c.await(5*lease, "both have reported the other", func() bool { return j.count("a replica cannot take part: its configuration differs") == 2 })
		for _, e := range j.entries(t) {
			if strings.HasPrefix(fmt.Sprint(e["msg"]), "a replica cannot") {
				want := map[any][3]any{"a": {"b", "2s", "1s"}, "b": {"a", "1s", "2s"}}[e["replica"]]
				if got := [3]any{e["peer"], e["theirs"], e["our_lease"]}; got != want || e["reason"] != string(election.RefusedLease) {
					t.Errorf("%v, want %v", e, want)
				}
			}
		}
	})
}

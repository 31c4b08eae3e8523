//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	idleSpan   = flag.Duration("idle-span", time.Minute, "TestIdleCost: for how long idle replicas are measured")
	idleBeside = flag.String("idle-beside", "", "TestIdleCost: a commit, or the path of a binary, whose replicas are measured at the same time")
)

// cost is what a process has used since it was started, all its threads together.
type cost struct {
	user, system time.Duration // ticks of 10 ms
	running      time.Duration // on a processor, by the scheduler's own count
	wakeUps      int           // voluntary switches: each is a thread that slept and was woken
}

func (c cost) since(before cost) cost {
	return cost{c.user - before.user, c.system - before.system, c.running - before.running, c.wakeUps - before.wakeUps}
}

func (c cost) add(other cost) cost {
	return cost{c.user + other.user, c.system + other.system, c.running + other.running, c.wakeUps + other.wakeUps}
}

// costOf reads proc(5). A thread that has ended counts no more; Go's do not end.
func costOf(t *testing.T, pid int) (c cost) {
	t.Helper()
	c.user, c.system = processorTimes(t, pid)
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("process %d has no threads: %v", pid, err)
	}
	for _, thread := range threads {
		raw, err := os.ReadFile(filepath.Join(thread, "schedstat"))
		if err != nil {
			t.Fatal(err)
		}
		var nanoseconds int64
		if _, err := fmt.Sscan(string(raw), &nanoseconds); err != nil {
			t.Fatal(err)
		}
		c.running += time.Duration(nanoseconds)
		if raw, err = os.ReadFile(filepath.Join(thread, "status")); err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(raw) {
			var n int
			if got, _ := fmt.Sscanf(string(line), "voluntary_ctxt_switches: %d", &n); got == 1 {
				c.wakeUps += n
			}
		}
	}
	return c
}

// besideBinary is the binary to compare with; built from the commit, if it is one.
func besideBinary(t *testing.T, named string) string {
	t.Helper()
	if info, err := os.Stat(named); err == nil && !info.IsDir() {
		return named
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "habot")
	build := exec.Command("sh", "-ec", `git -C "$1" archive "$2" | tar -x -C "$3"; cd "$3"; go build -trimpath -tags nomsgpack,stdjson -ldflags "-s -w" -o habot ./app`,
		"sh", root(), named, dir)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", named, err, out)
	}
	return path
}

// roles waits until one replica is primary and the others stand by, and returns which is which. It uses only what
// version 1.0.0 has.
func (p *pack) roles() (primary *packed) {
	p.t.Helper()
	eventually(p.t, 30*time.Second, func() error {
		primary = nil
		standbys := 0
		for _, m := range p.members {
			resp, err := http.Get("http://" + m.http + "/cluster")
			if err != nil {
				return err
			}
			var v struct{ Self struct{ Role string } }
			err = json.NewDecoder(resp.Body).Decode(&v)
			resp.Body.Close()
			switch {
			case err != nil:
				return err
			case v.Self.Role == "primary":
				primary = m
			case v.Self.Role == "standby":
				standbys++
			}
		}
		if primary == nil || standbys != len(p.members)-1 {
			return fmt.Errorf("%d standbys, a primary: %v", standbys, primary != nil)
		}
		return nil
	})
	http.DefaultClient.CloseIdleConnections()
	return primary
}

// TestIdleCost measures what three replicas cost in which nothing happens: no chat writes, nothing is scraped, and no health
// check runs. With -idle-beside those of another version run at the same time, so that whatever else the machine does
// disturbs both alike.
func TestIdleCost(t *testing.T) {
	type version struct {
		name  string
		pack  *pack
		start map[*packed]cost
		first *packed // the primary
		sum   cost
	}
	start := func(name, replica string) *version {
		p := newPack(t, size)
		if replica != "" {
			p.replica = replica
		}
		dir, err := os.MkdirTemp("", "life") //nolint:usetesting // t.TempDir is too long for a socket
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		p.lifeline = dir
		(&stack{telegram: p.telegram}).setRate(t, 0)
		p.start()
		p.roles()
		return &version{name: name, pack: p, start: map[*packed]cost{}}
	}
	all := []*version{start("this", "")}
	if *idleBeside != "" {
		all = append(all, start(*idleBeside, besideBinary(t, *idleBeside)))
	}
	time.Sleep(8 * time.Second)
	for _, v := range all {
		v.first = v.pack.roles()
	}
	time.Sleep(2 * time.Second)
	began := time.Now()
	for _, v := range all {
		for _, m := range v.pack.members {
			v.start[m] = costOf(t, m.process().Pid)
		}
	}
	time.Sleep(*idleSpan)
	for _, v := range all {
		for _, m := range v.pack.members {
			c := costOf(t, m.process().Pid).since(v.start[m])
			v.sum = v.sum.add(c)
			role := "standby"
			if m == v.first {
				role = "primary"
			}
			t.Logf("FIGURE %s, %s: %s, %.1f MiB resident", v.name, role, rates(c, time.Since(began)), residentMiB(t, replica{pid: m.process().Pid}))
		}
		if n := v.pack.ended(); n > 0 {
			t.Errorf("%s: %d processes ended by themselves", v.name, n)
		}
	}
	for _, v := range all {
		t.Logf("FIGURE %s, all %d: %s", v.name, size, rates(v.sum, time.Since(began)))
	}
	if len(all) > 1 {
		t.Logf("FIGURE this takes %.2f of the processor time of %s, and %.2f of its wake-ups",
			float64(all[0].sum.running)/float64(all[1].sum.running), all[1].name, float64(all[0].sum.wakeUps)/float64(all[1].sum.wakeUps))
	}
	for _, v := range all {
		if again := v.pack.roles(); again != v.first { // a starved machine may cost it the lease
			t.Logf("%s: the primary changed while it was measured", v.name)
		}
	}
}

// rates are a cost per time.
func rates(c cost, span time.Duration) string {
	percent := func(d time.Duration) float64 { return 100 * float64(d) / float64(span) }
	var b strings.Builder
	fmt.Fprintf(&b, "%.2f %% of a core (user %.2f, system %.2f by ticks), %.1f wake-ups/s, %.0f us each",
		percent(c.running), percent(c.user), percent(c.system), float64(c.wakeUps)/span.Seconds(), float64(c.running.Microseconds())/float64(max(1, c.wakeUps)))
	return b.String()
}

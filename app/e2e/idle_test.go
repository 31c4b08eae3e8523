//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// cpuSeconds is what a container's control group has used, health checks included.
func cpuSeconds(t *testing.T, r replica) float64 {
	t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup/cpuacct/docker/%s/cpuacct.usage", "/sys/fs/cgroup/*/docker/%s/cpuacct.usage"} {
		if found, _ := filepath.Glob(fmt.Sprintf(pattern, r.container)); len(found) > 0 {
			raw, err := os.ReadFile(found[0])
			if err != nil {
				t.Fatal(err)
			}
			ns, err := strconv.ParseFloat(string(bytes.TrimSpace(raw)), 64)
			if err != nil {
				t.Fatal(err)
			}
			return ns / 1e9
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup/system.slice/docker-%s.scope/cpu.stat", "/sys/fs/cgroup/docker/%s/cpu.stat"} {
		raw, err := os.ReadFile(fmt.Sprintf(pattern, r.container))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(raw)) {
			var us float64
			if n, _ := fmt.Sscanf(line, "usage_usec %f", &us); n == 1 {
				return us / 1e6
			}
		}
	}
	t.Fatal("no control group of the container was found")
	return 0
}

// residentMiB is the process' resident memory.
func residentMiB(t *testing.T, r replica) float64 {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kib); n == 1 {
			return kib / 1024
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// usage is what a replica used while no chat wrote.
type usage struct {
	name    string
	percent float64 // of a core
	mib     float64 // resident
	// afresh: its process ended meanwhile, which it ought not to, and so nothing was measured.
	afresh bool
}

// idle measures what replicas use for a while.
func idle(t *testing.T, all []replica) (uses []usage) {
	t.Helper()
	time.Sleep(3 * time.Second)
	const span = 30 * time.Second
	before := map[string]float64{}
	for _, r := range all {
		before[r.name] = cpuSeconds(t, r)
	}
	start := time.Now()
	time.Sleep(span)
	for _, r := range all {
		if pid, err := pidOf(t.Context(), r.container); err != nil || pid != r.pid {
			uses = append(uses, usage{name: r.name, afresh: true})
			continue
		}
		uses = append(uses, usage{
			name: r.name, percent: 100 * (cpuSeconds(t, r) - before[r.name]) / time.Since(start).Seconds(), mib: residentMiB(t, r),
		})
	}
	return uses
}

// TestIdle measures what a replica costs while no chat writes, Prometheus and health checks included.
func TestIdle(t *testing.T) {
	settled(t, size)
	setRate(t, 0)
	defer setRate(t, load)
	for _, u := range idle(t, replicas(t)) {
		t.Logf("FIGURE idle %s: %.2f %% of a core, %.1f MiB resident", u.name, u.percent, u.mib)
		if u.afresh {
			t.Errorf("%s did not live through a time in which nothing happened", u.name)
			continue
		}
		if *strict && (u.percent > 1 || u.mib > 30) {
			t.Errorf("%s is not as cheap as promised", u.name)
		}
	}
}

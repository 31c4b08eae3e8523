//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"habot/app/election"
)

// crash is one way in which a process ends without a word.
type crash struct {
	name  string
	cause func(t *testing.T, r replica)
	heal  func(*testing.T, replica)
}

func crashes() []crash {
	return []crash{
		{"kill -9", signal(syscall.SIGKILL), nothing},
		{"docker kill", command("kill"), command("start")},
		{"out of memory", outOfMemory, nothing},
		{"panic", signal(syscall.SIGABRT), nothing}, // Go's runtime prints all stacks and exits, as on a panic
	}
}

// TestCrash ends the primary's process in every way, with lifelines and without, in one run: from the death of the process to
// the next poll, under load. Deaths are witnessed with lifelines alone. On a machine without time for its processes the lease may end first,
// so not each has to be.
func TestCrash(t *testing.T) {
	for _, way := range []struct {
		name, dir    string
		median, most time.Duration
	}{
		{"lifelines", "LIFELINE_DIR=/run/habot", 20 * time.Millisecond, 60 * time.Millisecond},
		{"no lifelines", "LIFELINE_DIR=", time.Second, 2 * time.Second},
	} {
		s := newStack(t, "habote2e-crash", way.dir)
		for _, c := range crashes() {
			t.Run(way.name+"/"+c.name, func(t *testing.T) {
				var took figures
				witnessed := 0
				for range *repetitions {
					gap, seen := s.measureCrash(t, c, way.name == "lifelines")
					if seen {
						witnessed++
					}
					if took = append(took, gap); gap > way.most {
						t.Logf("%v, because of:\n%s", gap, s.logs())
					}
				}
				t.Logf("%d of %d deaths were witnessed", witnessed, *repetitions)
				if (witnessed > 0) != (way.name == "lifelines") {
					t.Errorf("with %s %d of %d deaths were witnessed", way.name, witnessed, *repetitions)
				}
				took.tell(t, c.name+", "+way.name+", from the death of the process to the next poll", way.median, way.most)
			})
		}
		load, _ := os.ReadFile("/proc/loadavg")
		t.Logf("%s: a load average of %s", way.name, load)
		s.down()
	}
}

// measureCrash ends the primary's process and returns how long after its death another polls, and whether that one has witnessed the death.
func (s *stack) measureCrash(t *testing.T, c crash, lifelines bool) (gap time.Duration, witnessed bool) {
	t.Helper()
	var primary replica
	eventually(t, 60*time.Second, func() error {
		var others []replica
		primary, others = s.settled(t, size)
		// The engine starts what ended within 10 s of its start later each time, up to a minute.
		started, err := time.Parse(time.RFC3339Nano, docker(t, "inspect", "-f", "{{.State.StartedAt}}", primary.container))
		if err != nil {
			return err
		}
		if age := time.Since(started); age < 10*time.Second {
			return fmt.Errorf("%s started %v ago", primary.name, age)
		}
		for _, r := range append(others, primary) {
			v, err := view(t, r)
			if err != nil {
				return err
			}
			n := 0
			for _, p := range v.Peers {
				if p.Reachable && p.Lifeline {
					n++
				}
			}
			if lifelines && n != size-1 || !lifelines && n != 0 {
				return fmt.Errorf("%s has %d lifelines", r.name, n)
			}
		}
		return nil
	})
	before := s.report(t)
	died := watchDeath(t, primary.pid)
	start := time.Now()
	c.cause(t, primary)
	var death time.Time
	select {
	case death = <-died:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: the process does not end", c.name)
	}
	if c.name == "kill -9" {
		death = start // it dies at once
	}
	first := s.takeover(t, primary.name, before.Polls, start)
	c.heal(t, primary)
	successor, _ := s.settled(t, size)
	v, err := view(t, successor)
	if err != nil {
		t.Fatal(err)
	}
	last := v.History[len(v.History)-1]
	if last.Previous != primary.name || last.Reason != election.ReasonCrash {
		t.Errorf("the last change is %+v, not the crash of %s", last, primary.name)
	}
	after := s.answered(t, 30*time.Second, load)
	if n := after.AnsweredTwice - before.AnsweredTwice; n > 3 {
		t.Errorf("%d updates were answered twice", n)
	}
	if n := after.OutOfOrder - before.OutOfOrder; n > 0 {
		t.Errorf("%d updates were answered out of order", n)
	}
	return max(0, first.Start.Sub(death)), last.Witnessed // on a busy machine the replicas may see the death before this test does
}

// watchDeath tells when a process has ended.
func watchDeath(t *testing.T, pid int) <-chan time.Time {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	died := make(chan time.Time, 1)
	go func() {
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		died <- time.Now()
		_ = unix.Close(fd)
	}()
	return died
}

// outOfMemory has the kernel kill a replica for its container's memory limit: another process in its group takes all there is, and
// the replica is the one to kill.
func outOfMemory(t *testing.T, r replica) {
	t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(r.pid) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	group := ""
	for line := range strings.Lines(string(raw)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case parts[1] == "memory":
			group = filepath.Join("/sys/fs/cgroup/memory", parts[2])
		case parts[0] == "0" && group == "":
			group = filepath.Join("/sys/fs/cgroup", parts[2])
		}
	}
	if err := os.WriteFile("/proc/"+strconv.Itoa(r.pid)+"/oom_score_adj", []byte("1000"), 0); err != nil {
		t.Fatal(err)
	}
	died := watchDeath(t, r.pid)
	hog := exec.CommandContext(t.Context(), "sh", "-c", "echo $$ >"+group+"/cgroup.procs && exec tail /dev/zero")
	if err := hog.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-died:
	case <-time.After(20 * time.Second):
		t.Error("the kernel has not killed the replica")
	}
	_ = hog.Process.Kill()
	_ = hog.Wait() // killed
}

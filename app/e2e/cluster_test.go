//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"habot/app/election"
	"habot/app/simulator"
)

var (
	repetitions = flag.Int("repetitions", 2, "how often each fault is caused")
	strict      = flag.Bool("strict", false, "fail if a figure of the README is missed")
)

const (
	project   = "habote2e"
	simulated = "http://127.0.0.1:8081"
	load      = 50 // updates a second
)

// TestMain starts the stack once, for all tests, and removes it.
func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		down := func() { _, _ = compose(context.Background(), "down", "--volumes", "--timeout", "15") }
		down()
		defer down()
		if out, err := compose(context.Background(), "up", "--detach", "--build", "telegram", "bot", "prometheus"); err != nil {
			fmt.Fprintln(os.Stderr, out, err)
			return 1
		}
		return m.Run()
	}())
}

func root() string {
	dir, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return dir
}

// compose runs Docker Compose on the stack as it is in the repository.
func compose(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", append([]string{"compose", "-p", project}, args...)...)
	cmd.Dir = root()
	cmd.Env = append(os.Environ(), "SIMULATOR_RATE="+strconv.Itoa(load), "ADMIN_CHAT_IDS=1001")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// docker runs one docker command and returns what it prints.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// inNetwork runs a command in a container's network, from outside: what a cable does.
func inNetwork(t *testing.T, pid int, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "nsenter", append([]string{"-t", strconv.Itoa(pid), "-n"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// replica is one container of the service bot.
type replica struct {
	container string // its id
	name      string // habote2e-bot-2: what people read, and what the simulator keeps account by
	pid       int
}

func replicas(t *testing.T) []replica {
	t.Helper()
	ids := strings.Fields(docker(t, "ps", "--no-trunc", "-q", "--filter", "label=com.docker.compose.project="+project,
		"--filter", "label=com.docker.compose.service=bot"))
	var all []replica
	for _, id := range ids {
		fields := strings.Fields(docker(t, "inspect", "-f", "{{.Name}} {{.State.Pid}}", id))
		pid, err := strconv.Atoi(fields[1])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, replica{id, strings.TrimPrefix(fields[0], "/"), pid})
	}
	slices.SortFunc(all, func(a, b replica) int { return strings.Compare(a.name, b.name) })
	return all
}

// ask gets JSON from the simulator.
func ask[T any](t *testing.T, path string) T {
	t.Helper()
	v, err := get[T](t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func get[T any](ctx context.Context, path string) (v T, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, simulated+path, nil)
	if err != nil {
		return v, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return v, err
	}
	raw, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return v, err
	}
	return v, json.Unmarshal(raw, &v)
}

func control(t *testing.T, c simulator.Control) {
	t.Helper()
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(simulated+"/control", "application/json", bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("control: %s", resp.Status)
	}
}

func setRate(t *testing.T, perSecond float64) { control(t, simulator.Control{Rate: &perSecond}) }

// eventually waits until f is content; what it is not content with is the failure.
func eventually(t *testing.T, within time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", within, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// view is what a replica knows of the cluster, over its own command line.
func view(t *testing.T, r replica) (election.View, error) {
	t.Helper()
	var v election.View
	out, err := exec.CommandContext(t.Context(), "nsenter", "-t", strconv.Itoa(r.pid), "-n",
		"curl", "-sS", "--max-time", "2", "http://127.0.0.1:8080/cluster").Output()
	if err != nil {
		return v, fmt.Errorf("ask %s: %w", r.name, err)
	}
	return v, json.Unmarshal(out, &v)
}

// settled waits until all replicas see each other, one of them is primary and polls, and returns it.
func settled(t *testing.T, n int) (primary replica, others []replica) {
	t.Helper()
	eventually(t, 60*time.Second, func() error {
		all := replicas(t)
		if len(all) != n {
			return fmt.Errorf("%d of %d replicas run", len(all), n)
		}
		primary, others = replica{}, nil
		for _, r := range all {
			v, err := view(t, r)
			switch {
			case err != nil:
				return err
			case v.Reachable < n:
				return fmt.Errorf("%s reaches %d of %d", r.name, v.Reachable, n)
			case v.Self.Role == election.Primary:
				primary = r
			case v.Self.Role == election.Standby:
				others = append(others, r)
			default:
				return fmt.Errorf("%s is %s", r.name, v.Self.Role)
			}
		}
		if len(others) != n-1 {
			return fmt.Errorf("%d standbys", len(others))
		}
		if poller := ask[simulator.Report](t, "/report").Poller; poller != primary.name {
			return fmt.Errorf("%s polls, %s is primary", poller, primary.name)
		}
		return nil
	})
	return primary, others
}

// lastPoll is the number of the newest poll.
func lastPoll(t *testing.T) int64 { return ask[simulator.Report](t, "/report").Polls }

// takeover waits for the first poll, begun since a moment, of anyone but old.
func takeover(t *testing.T, old string, from int64, since time.Time) simulator.PollRecord {
	t.Helper()
	var first simulator.PollRecord
	eventually(t, 60*time.Second, func() error {
		polls, err := get[[]simulator.PollRecord](t.Context(), fmt.Sprintf("/report/polls?from=%d", from))
		if err != nil {
			return err
		}
		for _, p := range polls {
			if p.Poller != old && p.Start.After(since) {
				first = p
				return nil
			}
		}
		return errors.New("nobody else polls")
	})
	return first
}

// nothingFrom fails if old began a poll, or answered anyone, after the new primary's first poll.
func nothingFrom(t *testing.T, old string, first simulator.PollRecord) {
	t.Helper()
	for _, p := range ask[[]simulator.PollRecord](t, fmt.Sprintf("/report/polls?from=%d", first.Number)) {
		if p.Poller == old && p.Start.After(first.Start) {
			t.Errorf("%s began a poll %v after its successor's first", old, p.Start.Sub(first.Start))
		}
	}
	from := max(1, ask[simulator.Report](t, "/report").Sent-2000)
	for _, u := range ask[[]simulator.Record](t, fmt.Sprintf("/report/updates?from=%d", from)) {
		for _, a := range u.Answered {
			if a.Poller == old && a.At.After(first.Start) {
				t.Errorf("%s answered %q %v after its successor's first poll", old, u.Text, a.At.Sub(first.Start))
			}
		}
	}
}

// nothingLost waits, without load, until everything has been answered.
func nothingLost(t *testing.T) simulator.Report {
	t.Helper()
	setRate(t, 0)
	defer setRate(t, load)
	var r simulator.Report
	eventually(t, 30*time.Second, func() error {
		r = ask[simulator.Report](t, "/report")
		if r.Unanswered > 0 {
			return fmt.Errorf("%d updates are not answered", r.Unanswered)
		}
		return nil
	})
	if r.Lost != 0 || r.Dropped != 0 || r.Confirmed < r.Answered-200 {
		t.Errorf("lost %d, dropped %d, confirmed %d of %d answered", r.Lost, r.Dropped, r.Confirmed, r.Answered)
	}
	return r
}

// figures are measured durations.
type figures []time.Duration

// tell prints them; with -strict it fails if a bound is missed.
func (f figures) tell(t *testing.T, what string, median, most time.Duration) {
	t.Helper()
	slices.Sort(f)
	mid, worst := f[len(f)/2], f[len(f)-1]
	t.Logf("FIGURE %s: median %.0f ms, max %.0f ms, min %.0f ms, n=%d", what,
		ms(mid), ms(worst), ms(f[0]), len(f))
	if *strict && (mid > median || worst > most) {
		t.Errorf("%s: median %v (at most %v), max %v (at most %v)", what, mid, median, worst, most)
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

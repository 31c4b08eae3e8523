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
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"habot/app/election"
	"habot/app/simulator"
)

// stack is one Compose project: replicas, and the simulator that judges them. Several run side by side.
type stack struct {
	project string
	// files change the repository's docker-compose.yml; none: as its users run it.
	files []string
	env   []string
	// telegram is where the simulator answers.
	telegram string
}

var imageName = flag.String("image", "habot:e2e", "what the image of stacks that publish no ports is called")

// besides has a stack publish no ports.
const besides = "app/e2e/testdata/besides.yml"

// buildBesides makes the image of stacks that publish no ports.
var buildBesides = sync.OnceValues(func() (string, error) {
	return (&stack{project: "habote2e-build", files: []string{besides}}).compose(context.Background(), "build", "bot")
})

// newStack starts replicas and a simulator that publish no ports, so that stacks can run side by side, and
// has them removed when the test ends.
func newStack(t *testing.T, project string, env ...string) *stack {
	t.Helper()
	s := plannedStack(t, project, env...)
	s.up(t)
	return s
}

// plannedStack is one that publishes no ports, is not started yet, and is removed when the test ends.
func plannedStack(t *testing.T, project string, env ...string) *stack {
	t.Helper()
	if out, err := buildBesides(); err != nil {
		t.Fatalf("build the image: %v\n%s", err, out)
	}
	_ = t.TempDir() // it is removed after the stack, whose files may be in it
	s := &stack{project: project, files: []string{besides}, env: env}
	s.down()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what the replicas of %s logged:\n%s", s.project, s.logs())
		}
		s.down()
	})
	return s
}

// up starts replicas and simulator, and finds the simulator.
func (s *stack) up(t *testing.T) {
	t.Helper()
	s.carryOut(t, "up", "--detach", "telegram", "bot")
	s.telegram = "http://" + s.address(t, "telegram") + ":8081"
	eventually(t, 20*time.Second, func() error {
		_, err := get[simulator.Report](t.Context(), s.telegram+"/report")
		return err
	})
}

// carryOut runs Docker Compose on the stack; it must succeed.
func (s *stack) carryOut(t *testing.T, args ...string) {
	t.Helper()
	if out, err := s.compose(t.Context(), args...); err != nil {
		t.Fatalf("docker compose %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// container is the id of a service's only container.
func (s *stack) container(t *testing.T, service string) string {
	t.Helper()
	return docker(t, "ps", "-q", "--filter", "label=com.docker.compose.project="+s.project, "--filter", "label=com.docker.compose.service="+service)
}

// address is where a service's only container is reached from this machine.
func (s *stack) address(t *testing.T, service string) string {
	t.Helper()
	return docker(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", s.container(t, service))
}

// logs are the last things that the replicas logged.
func (s *stack) logs() string {
	out, err := s.compose(context.Background(), "logs", "--timestamps", "--no-color", "--tail", "200", "bot")
	if err != nil {
		return err.Error()
	}
	return out
}

func (s *stack) down() {
	_, _ = s.compose(context.Background(), "down", "--volumes", "--timeout", "15")
}

// compose runs Docker Compose on the stack.
func (s *stack) compose(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	whole := []string{"compose", "-p", s.project, "-f", "docker-compose.yml"}
	for _, file := range s.files {
		whole = append(whole, "-f", file)
	}
	cmd := exec.CommandContext(ctx, "docker", append(whole, args...)...)
	cmd.Dir = root()
	cmd.Env = append(append(os.Environ(), "SIMULATOR_RATE="+strconv.Itoa(load), "ADMIN_CHAT_IDS=1001", "E2E_IMAGE="+*imageName), s.env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func root() string {
	dir, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return dir
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

// inside is an HTTP client in a process' network: the loopback is its own, whatever becomes of its cables.
func inside(pid int) *http.Client {
	return &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			dialled := make(chan struct{})
			go func() {
				defer close(dialled)
				runtime.LockOSThread() // and never unlock it: a thread in another network ends with its goroutine
				if err = enterNetwork(pid); err == nil {
					conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
				}
			}()
			<-dialled
			return conn, err
		},
	}}
}

// enterNetwork moves the calling thread into a process' network.
func enterNetwork(pid int) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
}

// replica is one container of the service bot.
type replica struct {
	container string // its id
	name      string // habote2e-bot-2: what people read, and what the simulator keeps account by
	pid       int
}

func (s *stack) replicas(t *testing.T) []replica {
	t.Helper()
	ids := strings.Fields(docker(t, "ps", "--no-trunc", "-q", "--filter", "label=com.docker.compose.project="+s.project,
		"--filter", "label=com.docker.compose.service=bot"))
	if len(ids) == 0 {
		return nil
	}
	var all []replica
	for line := range strings.Lines(docker(t, append([]string{"inspect", "-f", "{{.Id}} {{.Name}} {{.State.Pid}}"}, ids...)...)) {
		fields := strings.Fields(line)
		pid, err := strconv.Atoi(fields[2])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, replica{fields[0], strings.TrimPrefix(fields[1], "/"), pid})
	}
	slices.SortFunc(all, func(a, b replica) int { return strings.Compare(a.name, b.name) })
	return all
}

// get gets JSON.
func get[T any](ctx context.Context, url string) (v T, err error) {
	return getBy[T](ctx, http.DefaultClient, url)
}

func getBy[T any](ctx context.Context, client *http.Client, url string) (v T, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return v, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return v, err
	}
	raw, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return v, err
	}
	return v, json.Unmarshal(raw, &v)
}

// askAt gets JSON from a stack's simulator.
func askAt[T any](t *testing.T, s *stack, path string) T {
	t.Helper()
	v, err := get[T](t.Context(), s.telegram+path)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (s *stack) report(t *testing.T) simulator.Report {
	t.Helper()
	return askAt[simulator.Report](t, s, "/report")
}

func (s *stack) control(t *testing.T, c simulator.Control) {
	t.Helper()
	if err := s.tellSimulator(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func (s *stack) tellSimulator(ctx context.Context, c simulator.Control) error {
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.telegram+"/control", bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("control: %s", resp.Status)
	}
	return nil
}

func (s *stack) setRate(t *testing.T, perSecond float64) {
	t.Helper()
	s.control(t, simulator.Control{Rate: &perSecond})
}

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

// view is what a replica knows of the cluster.
func view(t *testing.T, r replica) (election.View, error) {
	t.Helper()
	client := inside(r.pid)
	defer client.CloseIdleConnections()
	v, err := getBy[election.View](t.Context(), client, "http://127.0.0.1:8080/cluster")
	if err != nil {
		return v, fmt.Errorf("ask %s: %w", r.name, err)
	}
	return v, nil
}

// settled waits until all replicas see each other, one of them is primary and polls, and returns it.
func (s *stack) settled(t *testing.T, n int) (primary replica, others []replica) {
	t.Helper()
	eventually(t, 60*time.Second, func() (err error) {
		primary, others, err = s.roles(t, n)
		return err
	})
	return primary, others
}

// roles is who is primary and who stands by; an error if not all are the one or the other, or the primary does not
// know yet, as it does from its next renewal on.
func (s *stack) roles(t *testing.T, n int) (primary replica, others []replica, err error) {
	t.Helper()
	all := s.replicas(t)
	if len(all) != n {
		return primary, nil, fmt.Errorf("%d of %d replicas run", len(all), n)
	}
	for _, r := range all {
		v, err := view(t, r)
		switch {
		case err != nil:
			return primary, nil, err
		case v.Reachable < n:
			return primary, nil, fmt.Errorf("%s reaches %d of %d", r.name, v.Reachable, n)
		case v.Self.Role == election.Primary && slices.ContainsFunc(v.Peers, notStandby):
			return primary, nil, fmt.Errorf("%s does not know all standbys", r.name)
		case v.Self.Role == election.Primary:
			primary = r
		case v.Self.Role == election.Standby:
			others = append(others, r)
		default:
			return primary, nil, fmt.Errorf("%s is %s", r.name, v.Self.Role)
		}
	}
	if len(others) != n-1 {
		return primary, nil, fmt.Errorf("%d standbys", len(others))
	}
	if poller := s.report(t).Poller; poller != primary.name {
		return primary, nil, fmt.Errorf("%s polls, %s is primary", poller, primary.name)
	}
	return primary, others, nil
}

func notStandby(p election.Peer) bool { return p.Reachable && p.Status.Role != election.Standby }

// takeover waits for the first poll, begun since a moment, of anyone but old.
func (s *stack) takeover(t *testing.T, old string, from int64, since time.Time) simulator.PollRecord {
	t.Helper()
	var first simulator.PollRecord
	eventually(t, 60*time.Second, func() error {
		polls, err := get[[]simulator.PollRecord](t.Context(), fmt.Sprintf("%s/report/polls?from=%d", s.telegram, from))
		if err != nil {
			return err
		}
		for _, p := range polls {
			if p.Poller != old && p.Start.After(since) {
				first = p
				return nil
			}
		}
		return errors.New("no other replica polls")
	})
	return first
}

// nothingFrom fails if old began a poll, or answered anyone, after the new primary's first poll.
func (s *stack) nothingFrom(t *testing.T, old string, first simulator.PollRecord) {
	t.Helper()
	for _, p := range askAt[[]simulator.PollRecord](t, s, fmt.Sprintf("/report/polls?from=%d", first.Number)) {
		if p.Poller == old && p.Start.After(first.Start) {
			t.Errorf("%s began a poll %v after its successor's first", old, p.Start.Sub(first.Start))
		}
	}
	from := max(1, s.report(t).Sent-2000)
	for _, u := range askAt[[]simulator.Record](t, s, fmt.Sprintf("/report/updates?from=%d", from)) {
		for _, a := range u.Answered {
			if a.Poller == old && a.At.After(first.Start) {
				t.Errorf("%s answered %q %v after its successor's first poll", old, u.Text, a.At.Sub(first.Start))
			}
		}
	}
}

// answered waits, without load, until everything has been answered; nothing may be lost. The load is
// whatever perSecond says afterwards.
func (s *stack) answered(t *testing.T, within time.Duration, perSecond float64) simulator.Report {
	t.Helper()
	s.setRate(t, 0)
	defer s.setRate(t, perSecond)
	var r simulator.Report
	eventually(t, within, func() error {
		r = s.report(t)
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

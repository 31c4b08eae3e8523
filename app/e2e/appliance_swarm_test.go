//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"habot/app/election"
)

const swarmStack = "habote2e-swarm"

// swarmFile is docker-compose.yml without what a kernel that has no IPVS cannot do: a virtual address for the
// simulator, and published ports. Without ports nothing of it meets other stacks.
func swarmFile(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root(), "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(raw), "\n  prometheus:\n")
	text = regexp.MustCompile(`(?m)^ +ports: .*\n`).ReplaceAllString(text, "")
	text = regexp.MustCompile(`image: habot:\S+`).ReplaceAllString(text, "image: "+*imageName)
	before, telegram, _ := strings.Cut(text, "\n  telegram:\n")
	telegram = strings.Replace(telegram, "    deploy:\n", "    deploy:\n      endpoint_mode: dnsrr\n", 1)
	file := filepath.Join(t.TempDir(), "stack.yml")
	if err := os.WriteFile(file, []byte(before+"\n  telegram:\n"+telegram+"\nvolumes:\n  lifelines:\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// inSwarm makes this machine a swarm of its own, unless it is in one, until the test ends.
func inSwarm(t *testing.T) {
	t.Helper()
	if docker(t, "info", "-f", "{{.Swarm.LocalNodeState}}") == "active" {
		return
	}
	docker(t, "swarm", "init", "--advertise-addr", "127.0.0.1")
	t.Cleanup(func() {
		if out, err := exec.CommandContext(context.Background(), "docker", "swarm", "leave", "--force").CombinedOutput(); err != nil {
			t.Errorf("leave the swarm: %v\n%s", err, out)
		}
	})
}

// task is one replica of the stack.
type task struct {
	replica
	started time.Time
	view    election.View
}

// tasks are the replicas that run and answer.
func tasks(t *testing.T) []task {
	t.Helper()
	ids := strings.Fields(docker(t, "ps", "--no-trunc", "-q", "--filter", "label=com.docker.swarm.service.name="+swarmStack+"_bot"))
	var all []task
	for _, id := range ids {
		out, err := exec.CommandContext(t.Context(), "docker", "inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", id).Output()
		if err != nil {
			continue // it has gone meanwhile
		}
		var one task
		var started string
		if _, err := fmt.Sscan(string(out), &one.pid, &started); err != nil {
			t.Fatal(err)
		}
		one.container = id
		if one.started, err = time.Parse(time.RFC3339Nano, started); err != nil {
			t.Fatal(err)
		}
		if one.view, err = view(t, one.replica); err == nil {
			all = append(all, one)
		}
	}
	return all
}

// knownToOthers tells whether another task receives this one's messages.
func knownToOthers(all []task, one task) bool {
	return slices.ContainsFunc(all, func(other task) bool {
		return slices.ContainsFunc(other.view.Peers, func(p election.Peer) bool { return p.Reachable && p.Status.Replica == one.view.Self.Replica })
	})
}

// Swarm finds a task by its service's name once it is healthy: engines that look at health at once (25 and newer) make
// that a second, others the ten seconds of the image.
//
// This test MUST run before the common stack is up, and so stands in a file that comes before the others': when a machine
// leaves a swarm, engine 20.10 forgets the names of all running containers, and theirs are not found any more.
func TestAStackFormsAndUpdatesInSeconds(t *testing.T) {
	if out, err := buildBesides(); err != nil {
		t.Fatalf("build the image: %v\n%s", err, out)
	}
	inSwarm(t)
	file := swarmFile(t)
	t.Cleanup(func() {
		_ = exec.CommandContext(context.Background(), "docker", "stack", "rm", swarmStack).Run()
		for range 300 { // its network is in use until the last task has ended, and its volume for a moment longer
			if exec.CommandContext(context.Background(), "docker", "network", "inspect", swarmStack+"_default").Run() != nil &&
				exec.CommandContext(context.Background(), "docker", "volume", "rm", "--force", swarmStack+"_lifelines").Run() == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	found := 12 * time.Second
	if api := docker(t, "version", "-f", "{{.Server.APIVersion}}"); minor(t, api) >= 44 {
		found = 3 * time.Second
	}

	start := time.Now()
	docker(t, "stack", "deploy", "--detach=true", "-c", file, swarmStack)
	var all []task
	eventually(t, time.Minute, func() error {
		all = tasks(t)
		if slices.ContainsFunc(all, func(one task) bool { return one.view.Self.Role == election.Primary }) {
			return nil
		}
		return errors.New("no primary")
	})
	formed := time.Since(start)
	begun := slices.MinFunc(all, func(a, b task) int { return a.started.Compare(b.started) }).started
	t.Logf("FIGURE a stack: a primary %.1f s after deploy, %.1f s after the first task started", formed.Seconds(), time.Since(begun).Seconds())
	if since := time.Since(begun); since > found+5*time.Second {
		t.Errorf("the first primary %v after the first task", since)
	}
	eventually(t, time.Minute, func() error {
		all = tasks(t)
		for _, one := range all {
			if one.view.Reachable < 3 {
				return fmt.Errorf("%s reaches %d", one.view.Self.Name, one.view.Reachable)
			}
			for _, p := range one.view.Peers {
				if !p.Lifeline {
					return fmt.Errorf("%s has no lifeline to %s", one.view.Self.Name, p.Status.Name)
				}
			}
		}
		if len(all) != 3 {
			return fmt.Errorf("%d tasks", len(all))
		}
		return nil
	})
	var names []string
	for _, one := range all {
		names = append(names, one.view.Self.Name)
	}
	slices.Sort(names)
	if want := []string{swarmStack + "_bot.1", swarmStack + "_bot.2", swarmStack + "_bot.3"}; !slices.Equal(names, want) {
		t.Errorf("the replicas are called %v, want %v", names, want)
	}

	killed := all[slices.IndexFunc(all, func(one task) bool { return one.view.Self.Role == election.Primary })]
	if err := syscall.Kill(killed.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() error {
		all = tasks(t)
		if len(all) != 3 || slices.ContainsFunc(all, func(one task) bool { return one.view.Reachable < 3 }) {
			return fmt.Errorf("%d tasks", len(all))
		}
		return nil
	})
	witnessed := false
	for _, one := range all { // at least the new primary, which was there, has it in its history
		for _, c := range one.view.History {
			witnessed = witnessed || c.Previous == killed.view.Self.Name && c.Reason == election.ReasonCrash && c.Witnessed
		}
	}
	if !witnessed {
		t.Errorf("no replica has witnessed the end of %s's process: %+v", killed.view.Self.Name, all[0].view.History)
	}

	old := map[string]bool{}
	for _, one := range all {
		old[one.container] = true
	}
	docker(t, "service", "update", "--detach=true", "--force", swarmStack+"_bot")
	eventually(t, time.Minute, func() error {
		all := tasks(t)
		for _, one := range all {
			if !old[one.container] && knownToOthers(all, one) {
				since := time.Since(one.started)
				t.Logf("FIGURE a stack: an updated task is found by the others %.1f s after it started", since.Seconds())
				if since > found+5*time.Second {
					t.Errorf("an updated task was found after %v", since)
				}
				return nil
			}
		}
		return errors.New("no task is updated and known to others")
	})
}

// minor is the second number of a version such as 1.44.
func minor(t *testing.T, version string) int {
	t.Helper()
	_, text, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

//go:build e2e

package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"habot/app/simulator"
)

// What the README calls the image of a user's own bot.
const (
	webhookBot = "my-webhook-bot"
	pollingBot = "my-polling-bot"
)

// overrideOfReadme is the docker-compose.override.yml that the README shows for an image, written to a file.
func overrideOfReadme(t *testing.T, image string) string {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(root(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var m [][]byte
	for _, block := range regexp.MustCompile("(?s)```yaml\n(services:.*?)```").FindAllSubmatch(readme, -1) {
		if strings.Contains(string(block[1]), image) {
			m = block
		}
	}
	if m == nil {
		t.Fatal("the README shows no bot behind habot")
	}
	if n := strings.Count(string(m[1]), "\n"); n > 15 {
		t.Errorf("the README's override has %d lines", n)
	}
	name := filepath.Join(t.TempDir(), "docker-compose.override.yml")
	if err := os.WriteFile(name, m[1], 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// buildBot makes the image of a bot as its owner would: an echo bot with telego.
func buildBot(t *testing.T, image, source, settings string) {
	t.Helper()
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "bot"), "./"+source)
	build.Dir = filepath.Join(root(), "app/e2e/backends/go")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	file := "FROM scratch\nCOPY bot /bot\nENV NAME=mybot " + settings +
		" DEMO_TOKEN=1000000001:habot-demo-token-for-the-simulator0\nENTRYPOINT [\"/bot\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	docker(t, "build", "--quiet", "--tag", image, dir)
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", image).Run() })
}

// relayed is a stack whose updates two copies of a webhook bot handle: the README's very text.
func relayed(t *testing.T, project string) *stack {
	t.Helper()
	buildBot(t, webhookBot, "telego", "PORT=8000 API_ROOT=http://telegram:8081")
	return withTwoCopies(t, project, overrideOfReadme(t, webhookBot), 20)
}

// withTwoCopies is a stack, changed by a file, behind which two copies of a user's bot answer so many chats.
func withTwoCopies(t *testing.T, project, override string, chats int) *stack {
	t.Helper()
	s := plannedStack(t, project, fmt.Sprint("SIMULATOR_CHATS=", chats))
	s.files = append(s.files, override)
	s.carryOut(t, "up", "--detach", "telegram", "bot", "mybot")
	s.telegram = "http://" + s.address(t, "telegram") + ":8081"
	eventually(t, 60*time.Second, func() error {
		r, err := get[simulator.Report](t.Context(), s.telegram+"/report")
		if err == nil && r.Answered < 100 {
			err = fmt.Errorf("%d are answered", r.Answered)
		}
		return err
	})
	return s
}

// copies are the containers of the user's bot that run.
func (s *stack) copies(t *testing.T) []string {
	t.Helper()
	return strings.Fields(docker(t, "ps", "-q", "--filter", "label=com.docker.compose.project="+s.project, "--filter", "label=com.docker.compose.service=mybot"))
}

var errFew = errors.New("not all copies of the bot run")

// longestWait is how long the update waited for its answer that waited longest after a fault, of those sent from shortly before it
// until soon after.
func (s *stack) longestWait(t *testing.T, from int64, fault time.Time) (longest time.Duration) {
	t.Helper()
	for _, u := range askAt[[]simulator.Record](t, s, fmt.Sprintf("/report/updates?from=%d", from)) {
		if len(u.Answered) == 0 || u.Answered[0].At.Before(fault) || u.Sent.After(fault.Add(2*time.Second)) {
			continue
		}
		began := u.Sent
		if began.Before(fault) {
			began = fault
		}
		longest = max(longest, u.Answered[0].At.Sub(began))
	}
	return longest
}

// TestBackends puts two copies of a webhook bot behind habot, and takes away a copy, the primary, both at once, and all copies,
// at fifty updates a second over twenty chats. Nothing is lost, and each chat is answered in order. What it measures is how long the
// update waits that waits longest:
//
//	go test -tags e2e,nomsgpack,stdjson -count=1 -v ./app/e2e -run 'TestBackends$' -repetitions 20
func TestBackends(t *testing.T) {
	s := relayed(t, "habote2e-backends")
	kill := func(containers ...string) { killProcesses(t, containers...) }
	for _, f := range []struct {
		what string
		do   func(primary replica, copies []string)
		wait time.Duration
		// Bounds with -strict.
		median, most time.Duration
	}{
		{"a copy", func(_ replica, copies []string) { kill(copies[0]) }, 5 * time.Second, 100 * time.Millisecond, time.Second},
		{"the primary", func(p replica, _ []string) { kill(p.container) }, 5 * time.Second, time.Second, 2 * time.Second},
		{"a copy and the primary", func(p replica, copies []string) { kill(copies[1], p.container) }, 5 * time.Second, time.Second, 2 * time.Second},
		{"all copies", func(_ replica, copies []string) { docker(t, append([]string{"kill"}, copies...)...) }, *backendsGone, *backendsGone + 15*time.Second, *backendsGone + 20*time.Second},
	} {
		t.Run(f.what, func(t *testing.T) {
			var waits figures
			for range *repetitions {
				primary, _ := s.settled(t, size)
				var copies []string
				eventually(t, 30*time.Second, func() error {
					if copies = s.copies(t); len(copies) != 2 {
						return errFew
					}
					return nil
				})
				time.Sleep(8 * time.Second) // a copy that came back is known by its name
				before := s.report(t)
				fault := time.Now()
				f.do(primary, copies)
				time.Sleep(f.wait)
				s.carryOut(t, "up", "--detach", "--no-recreate", "bot", "mybot") // Docker leaves what docker kill has ended
				s.settled(t, size)
				after := s.answered(t, 2*time.Minute, load)
				waits = append(waits, s.longestWait(t, max(0, before.Sent-2*load), fault))
				if n := after.OutOfOrder - before.OutOfOrder; n > 0 {
					t.Errorf("%d updates were answered out of order", n)
				}
				if n := after.AnsweredTwice - before.AnsweredTwice; n > 40 {
					t.Errorf("%d updates were answered twice", n)
				}
				if after.Answered-before.Answered < 100 {
					t.Errorf("only %d updates were answered meanwhile", after.Answered-before.Answered)
				}
				t.Logf("%d updates answered, %d twice", after.Answered-before.Answered, after.AnsweredTwice-before.AnsweredTwice)
			}
			waits.tell(t, "kill -9 of "+f.what+" to the answer that came last", f.median, f.most)
		})
	}
	if out, err := s.compose(t.Context(), "exec", "bot", "/habot", "status"); err != nil || strings.Count(out, "backend http://mybot:8000 at ") != 2 {
		t.Errorf("status: %v\n%s", err, out)
	}
}

// killProcesses ends what runs in containers; Docker starts it again.
func killProcesses(t *testing.T, containers ...string) {
	t.Helper()
	for _, c := range containers {
		pid, err := pidOf(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		signal(syscall.SIGKILL)(t, replica{pid: pid})
	}
}

// backendsGone is how long all backends are away.
var backendsGone = flag.Duration("backends-gone", 20*time.Second, "how long all webhook backends are away")

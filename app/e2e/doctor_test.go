//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"habot/app/simulator"
)

// doctor runs the command in the container of a stack, and checks its exit code and that lines begin as they are to.
func (s *stack) doctor(t *testing.T, how []string, code int, lines ...string) {
	t.Helper()
	out, err := s.compose(t.Context(), how...)
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if got != code {
		t.Errorf("docker compose %s: exit code %d, not %d\n%s", strings.Join(how, " "), got, code, out)
	}
	for _, line := range lines {
		if !regexp.MustCompile(`(?m)^` + line).MatchString(out) {
			t.Errorf("docker compose %s: no line is %q in\n%s", strings.Join(how, " "), line, out)
		}
	}
	if strings.Contains(out, otherToken[7:]) {
		t.Errorf("the token is shown:\n%s", out)
	}
}

var (
	// beforehand is the command of OPERATING.md that needs nothing to run.
	beforehand = []string{"run", "--rm", "--no-TTY", "bot", "doctor"}
	// inReplica is the one in the container of a replica.
	inReplica = []string{"exec", "--no-TTY", "bot", "/habot", "doctor"}
)

// The settings of OPERATING.md, Rehearsal, without its ports: a real token against the simulator, examined before
// anything runs, while all run, and while too few do.
func TestDoctorBeforeAndWhileReplicasRun(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root(), "app/service/OPERATING.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	if !strings.Contains(text, "\n    docker compose run --rm bot doctor ") || !strings.Contains(text, "`docker compose exec bot /habot doctor`") {
		t.Fatal("OPERATING.md has other commands")
	}
	rehearsal := regexp.MustCompile(`(?m)^    (SIMULATOR_REHEARSAL=.*) \\$`).FindStringSubmatch(text)
	if rehearsal == nil {
		t.Fatal("OPERATING.md has no rehearsal")
	}
	s := plannedStack(t, "habote2e-doctor", append(strings.Fields(rehearsal[1]), "BOT_TOKEN="+otherToken)...)
	ok := []string{
		`OK    configuration: accepted`, `OK    lifelines: LIFELINE_DIR can be used`, `OK    backends: none configured`,
		`OK    open files: limit \d+`, `OK    memory: limit 128 MiB`, `OK    processor: `,
	}
	s.doctor(t, beforehand, 2, append(ok,
		`WARN  instance bot: .*no replica of it runs yet`, `WARN  quorum: no replica answers, so none runs yet`, `-     other pollers: `,
		`ERROR Telegram's address telegram:8081: `, `-     token: `, `1 error, 2 warnings$`)...)

	s.carryOut(t, "up", "--detach", "telegram")
	s.doctor(t, beforehand, 1, append(ok,
		`WARN  quorum: no replica answers, so none runs yet`, `OK    Telegram's address telegram:8081: IPv4 connects in `,
		`OK    token: accepted, the bot is @`, `OK    webhook: none is set`, `2 warnings$`)...)

	s.up(t)
	s.settled(t, size)
	before := s.report(t)
	well := append(ok, `OK    instance bot: resolves to [0-9.]+:7175, [0-9.]+:7175, [0-9.]+:7175$`, `OK    quorum: 3 of 3 replicas answer, 2 needed`,
		`OK    other pollers: no replica reports one`, `OK    token: accepted`, `nothing is wrong$`)
	for i := range size {
		well = append(well, fmt.Sprintf(`OK    replica [0-9.]+:7175: %s-bot-%d, (primary|standby), version \d+\.\d+\.\d+, round trip `, s.project, i+1))
	}
	s.doctor(t, inReplica, 0, well...)
	s.doctor(t, beforehand, 0, well...)
	if after := s.report(t); after.Conflicts != 0 || after.Overlaps != 0 || after.PollerChanges != before.PollerChanges {
		t.Errorf("the examinations were noticed: %+v", after)
	}

	_, others := s.settled(t, size)
	docker(t, "kill", others[0].container)
	s.doctor(t, beforehand, 1, `WARN  quorum: 2 of 3 replicas answer, 2 needed: the next failure stops the bot`)
	docker(t, "kill", others[1].container)
	s.doctor(t, beforehand, 2, `ERROR quorum: 1 of 3 replicas answers?, 2 needed: there can be no primary`)
	docker(t, "start", others[0].container, others[1].container)
	s.settled(t, size)

	// Webhooks and other programs that poll, as replicas report them.
	s.control(t, simulator.Control{Faults: []simulator.Fault{{Kind: simulator.FaultConflict, Methods: []string{"getUpdates"}, Seconds: 60}}})
	eventually(t, 30*time.Second, func() error {
		out, _ := s.compose(t.Context(), beforehand...)
		if !strings.Contains(out, "ERROR other pollers: ") {
			return errors.New(out)
		}
		return nil
	})
}

// The demo needs nothing that does not start with it. So that nothing runs yet is no error.
func TestDoctorBeforeTheDemo(t *testing.T) {
	s := plannedStack(t, "habote2e-doctor")
	s.doctor(t, beforehand, 1, `OK    configuration: BOT_TOKEN is not set: this is the demo`, `WARN  instance bot: `, `WARN  quorum: no replica answers`,
		`WARN  Telegram's address telegram:8081: .*start the simulator`, `3 warnings$`)
}

// Without a network the examination ends, and shows what is missing.
func TestDoctorWithoutANetwork(t *testing.T) {
	if out, err := buildBesides(); err != nil {
		t.Fatalf("build the image: %v\n%s", err, out)
	}
	start := time.Now()
	out, err := exec.CommandContext(t.Context(), "docker", "run", "--rm", "--network", "none", "--env", "BOT_TOKEN="+otherToken,
		"--env", "INSTANCES=203.0.113.11,203.0.113.12,203.0.113.13", *imageName, "doctor").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || strings.Count(string(out), "ERROR replica 203.0.113.") != 3 ||
		!strings.Contains(string(out), "ERROR quorum: 0 of 3 replicas answer") || !strings.Contains(string(out), "ERROR Telegram's address api.telegram.org:443: ") {
		t.Errorf("it ends with %v:\n%s", err, out)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"habot/app/config"
	"habot/app/simulator"
)

// What RUNBOOK.md and DEPLOY.md have people do, and what they may expect of it.

const otherToken = "123456:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghi"

// override writes a Compose file that changes the stack.
func (s *stack) override(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "override.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.files = append(s.files, file)
}

// replace writes a file as editors do: a new one under the old name.
func replace(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// The first minute: "docker compose up" where nothing is built yet.
func TestUpBuildsOnceAndAsksNoRegistry(t *testing.T) {
	const image = "habot:e2e-first"
	s := plannedStack(t, "habote2e-first", "E2E_IMAGE="+image)
	t.Cleanup(func() {
		s.down()
		_ = exec.CommandContext(context.Background(), "docker", "rmi", image).Run()
	})
	_ = exec.CommandContext(t.Context(), "docker", "rmi", "--force", image).Run() // of a run that was ended
	out, err := s.compose(t.Context(), "up", "--detach", "telegram", "bot")
	if err != nil {
		t.Fatalf("docker compose up: %v\n%s", err, out)
	}
	if n := strings.Count(out, "Image "+image+" Built"); n != 1 {
		t.Errorf("it is built %d times", n)
	}
	if found := regexp.MustCompile(`(?i).*(pull|warn|denied|error|not found).*`).FindAllString(out, -1); found != nil {
		t.Errorf("a newcomer reads:\n%s", strings.Join(found, "\n"))
	}
	// Keys that only a stack reads would be warned of at each command.
	for _, args := range [][]string{{"config", "--quiet"}, {"ps"}, {"restart", "telegram"}, {"down", "--volumes"}} {
		out, err := s.compose(t.Context(), args...)
		if found := regexp.MustCompile(`(?i).*warn.*`).FindAllString(out, -1); err != nil || found != nil {
			t.Errorf("docker compose %s: %v\n%s", strings.Join(args, " "), err, strings.Join(found, "\n"))
		}
	}
}

// A misspelt BOT_TOKEN must not run the demo: Compose hands replicas all of .env.
func TestAMisspeltTokenInEnvIsRefused(t *testing.T) {
	s := plannedStack(t, "habote2e-misspelt")
	project := t.TempDir()
	replace(t, filepath.Join(project, ".env"), "BOT_TOEKN="+otherToken+"\n")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a demo goes on
	defer cancel()
	t.Cleanup(func() { _, _ = s.compose(context.Background(), "down", "--remove-orphans") })
	out, err := s.compose(ctx, "--project-directory", project, "run", "--rm", "--no-TTY", "--no-deps", "bot")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(out, "BOT_TOEKN is, which has no effect; rename it to BOT_TOKEN") {
		t.Errorf("a replica ends with %v and says:\n%s", err, out)
	}
	if strings.Contains(out, otherToken) {
		t.Error("the token is shown")
	}
}

// DEPLOY.md: Prometheus is another user, which can read nothing of a clone that was made under umask 077.
func TestACloneThatOthersCannotReadIsMended(t *testing.T) {
	s := plannedStack(t, "habote2e-umask")
	project := t.TempDir()
	clone := exec.CommandContext(t.Context(), "sh", "-c", `umask 077 && cp -R --no-preserve=mode prometheus grafana "$1"`, "sh", project)
	clone.Dir = root()
	if out, err := clone.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.carryOut(t, "--project-directory", project, "up", "--detach", "prometheus")
	eventually(t, 30*time.Second, func() error {
		if out, _ := s.compose(t.Context(), "logs", "prometheus"); !strings.Contains(out, "permission denied") {
			return fmt.Errorf("it reads its files all the same, or does not say that it cannot:\n%s", out)
		}
		return nil
	})
	raw, err := os.ReadFile(filepath.Join(root(), "app", "DEPLOY.md"))
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`(?m)^    (chmod .*)$`).FindSubmatch(raw)
	if command == nil {
		t.Fatal("DEPLOY.md has no such command")
	}
	mend := exec.CommandContext(t.Context(), "sh", "-c", string(command[1]))
	mend.Dir = project
	if out, err := mend.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command[1], err, out)
	}
	eventually(t, 60*time.Second, func() error {
		answer, err := http.Get("http://" + s.address(t, "prometheus") + ":9090/-/ready")
		if err != nil {
			return err
		}
		if err := answer.Body.Close(); err != nil || answer.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers %s (%v)", answer.Status, err)
		}
		return nil
	})
}

// With a token the simulator has nothing to do: one that ended would fail the command, and one that went on
// writing to a bot that does not come would fill its queue.
func TestUpWaitsForHealthWithAToken(t *testing.T) {
	s := plannedStack(t, "habote2e-wait", "BOT_TOKEN="+otherToken, "TELEGRAM_API_URL=http://192.0.2.1")
	start := time.Now()
	s.carryOut(t, "up", "--detach", "--wait", "--wait-timeout", "60", "telegram", "bot")
	took := time.Since(start)
	t.Logf("FIGURE up --wait: %.1f s", took.Seconds())
	if took > 25*time.Second {
		t.Errorf("healthy after %v only", took)
	}
	telegram := s.container(t, "telegram")
	if env := docker(t, "inspect", "-f", "{{json .Config.Env}}", telegram); strings.Contains(env, otherToken) {
		t.Error("the simulator was given the token")
	}
	if policy := docker(t, "inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", telegram); policy != "unless-stopped" {
		t.Errorf("after the engine's restart the simulator is started: %s", policy)
	}
	r, err := get[simulator.Report](t.Context(), "http://"+s.address(t, "telegram")+":8081/report")
	if err != nil || r.Sent != 0 {
		t.Errorf("%d messages were written to a bot that is elsewhere (%v)", r.Sent, err)
	}
}

// The image's health check has no address: it asks what the container runs.
func TestTheSimulatorRunByHandIsHealthy(t *testing.T) {
	if out, err := buildBesides(); err != nil {
		t.Fatalf("build the image: %v\n%s", err, out)
	}
	id := docker(t, "run", "--detach", "--health-interval", "1s", *imageName, "simulator")
	t.Cleanup(func() { _ = exec.CommandContext(context.Background(), "docker", "rm", "--force", id).Run() })
	eventually(t, 20*time.Second, func() error {
		if is := docker(t, "inspect", "-f", "{{.State.Health.Status}}", id); is != "healthy" {
			return fmt.Errorf("it is %s: %s", is, docker(t, "inspect", "-f", "{{json .State.Health.Log}}", id))
		}
		return nil
	})
}

// RUNBOOK.md, TokenRejected: Compose does not see that a file has changed, and a container goes on with the old one.
func TestANewTokenInAFileIsReadAtARestart(t *testing.T) {
	s := plannedStack(t, "habote2e-token", "BOT_TOKEN_FILE=/run/secrets/bot_token", "TELEGRAM_API_URL=http://telegram:8081")
	file := filepath.Join(t.TempDir(), "bot_token")
	replace(t, file, otherToken+"\n")
	s.override(t, "services: {bot: {secrets: [bot_token]}}\nsecrets: {bot_token: {file: "+file+"}}\n")
	s.up(t)
	const rejected = "Telegram refuses this bot"
	eventually(t, 30*time.Second, func() error {
		if !strings.Contains(s.logs(), rejected) {
			return errors.New("no replica says that its token is rejected")
		}
		return nil
	})
	replace(t, file, config.DemoToken+"\n")
	s.carryOut(t, "restart", "bot")
	eventually(t, 30*time.Second, func() error {
		if s.report(t).Poller == "" {
			return errors.New("no bot polls")
		}
		return nil
	})
}

// RUNBOOK.md, Notifications.
func TestAChangedRuleIsSeenAfterARestart(t *testing.T) {
	s := plannedStack(t, "habote2e-rules")
	raw, err := os.ReadFile(filepath.Join(root(), "prometheus", "rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	rules := string(raw)
	file := filepath.Join(t.TempDir(), "rules.yml")
	replace(t, file, rules)
	s.override(t, "configs: {prometheus_rules: {file: "+file+"}}\n")
	s.carryOut(t, "up", "--detach", "prometheus")
	alerts := func() ([]string, error) {
		// A restart may give it another address.
		answer, err := get[struct {
			Data struct {
				Groups []struct{ Rules []struct{ Name string } }
			}
		}](t.Context(), "http://"+s.address(t, "prometheus")+":9090/api/v1/rules")
		var names []string
		for _, g := range answer.Data.Groups {
			for _, r := range g.Rules {
				names = append(names, r.Name)
			}
		}
		return names, err
	}
	shows := func(want string) {
		t.Helper()
		eventually(t, 30*time.Second, func() error {
			names, err := alerts()
			if err == nil && !slices.Contains(names, want) {
				err = fmt.Errorf("there is no %s among %d rules", want, len(names))
			}
			return err
		})
	}
	shows("NoPrimary")
	replace(t, file, strings.Replace(rules, "alert: NoPrimary", "alert: NoPrimaryAtAll", 1))
	s.carryOut(t, "restart", "prometheus")
	shows("NoPrimaryAtAll")
}

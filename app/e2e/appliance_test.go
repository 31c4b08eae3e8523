//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

// RUNBOOK.md, Being told.
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

//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"habot/app/simulator"
)

// TestTwoServersAndAWitness runs two replicas, and a witness by the line of OPERATING.md: without a token, and, since it has
// no lifelines to the others, as if on another machine. The primary's process is killed and frozen in turn. Then it measures what the
// witness costs, under load and without, health checks included.
func TestTwoServersAndAWitness(t *testing.T) {
	const secret = "UtCsjPNmx+wChid/KTCcAHs+J4ADYG7o83V7GE+/dfc="
	s := plannedStack(t, "habote2e-voter", "REPLICAS=3", "INSTANCES=bot,witness", "CLUSTER_SECRET="+secret)
	s.carryOut(t, "up", "--detach", "--scale", "bot=2", "telegram", "bot")
	s.telegram = "http://" + s.address(t, "telegram") + ":8081"
	name := s.project + "-witness"
	_ = exec.CommandContext(t.Context(), "docker", "rm", "-f", name).Run() // of a run that was cut off
	t.Cleanup(func() {
		if out, err := exec.Command("docker", "logs", name).CombinedOutput(); t.Failed() {
			t.Logf("what the witness logged: %v\n%s", err, out)
		}
		_ = exec.Command("docker", "rm", "-f", name).Run()
	})
	settings := []string{
		"--network", s.project + "_default", "--read-only", "--cap-drop", "ALL", "-e", "WITNESS=true", "-e", "CLUSTER_SECRET=" + secret,
		"-e", "REPLICAS=3", "-e", "INSTANCES=bot,witness", "-e", "LIFELINE_DIR=",
	}
	run := append([]string{"run", "-d", "--name", name, "--restart", "unless-stopped", "--stop-timeout", "30", "--network-alias", "witness"}, settings...)
	docker(t, append(run, "-e", "REPLICA_NAME="+name, *imageName)...)
	fields := strings.Fields(docker(t, "inspect", "-f", "{{.Id}} {{.State.Pid}}", name))
	pid, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	witness := replica{fields[0], name, pid}

	ready := func() (primary replica, other replica) {
		t.Helper()
		eventually(t, time.Minute, func() error {
			p, others, err := s.roles(t, 2)
			if err != nil {
				return err
			}
			v, err := view(t, p)
			if err != nil {
				return err
			}
			if v.Reachable != 3 {
				return fmt.Errorf("%d replicas are reachable", v.Reachable)
			}
			primary, other = p, others[0]
			return nil
		})
		return primary, other
	}
	primary, _ := ready()
	if out := docker(t, "exec", name, "/habot", "status"); !strings.Contains(out, name+"  witness") || !strings.HasPrefix(out, "the bot answers") {
		t.Errorf("the witness shows\n%s", out)
	}
	if out, err := exec.CommandContext(t.Context(), "docker", "exec", primary.container, "/habot", "switchover", name).CombinedOutput(); err == nil ||
		!strings.Contains(string(out), name+" cannot take over: it is a witness, which votes and never is primary") {
		t.Errorf("a switchover to the witness: %v\n%s", err, out)
	}
	doctor := append(append([]string{"run", "--rm"}, settings...), *imageName, "doctor")
	if out, err := exec.CommandContext(t.Context(), "docker", doctor...).CombinedOutput(); strings.Contains(string(out), "ERROR") ||
		!strings.Contains(string(out), "OK    quorum: 3 of 3 replicas answer, 2 needed") || !strings.Contains(string(out), "-     Telegram: a witness has no way there") {
		t.Errorf("doctor: %v\n%s", err, out)
	}

	for _, f := range []struct {
		name        string
		cause, heal func(*testing.T, replica)
	}{
		{"kill -9", signal(syscall.SIGKILL), nothing},
		{"docker pause", command("pause"), command("unpause")},
	} {
		var took figures
		for range *repetitions {
			primary, _ = ready()
			from := s.report(t).Polls
			since := time.Now()
			f.cause(t, primary)
			first := s.takeover(t, primary.name, from, since)
			took = append(took, first.Start.Sub(since))
			f.heal(t, primary)
			s.nothingFrom(t, primary.name, first)
		}
		took.tell(t, "two servers and a witness, "+f.name+", to the next poll", time.Second, 2*time.Second)
	}

	ready()
	rates := []float64{0}
	if *repetitions > 2 { // for figures
		rates = []float64{load, 0}
	}
	for _, rate := range rates {
		s.setRate(t, rate)
		for _, u := range idle(t, append(s.replicas(t), witness)) {
			t.Logf("FIGURE two servers and a witness, %g updates a second, %s: %.2f %% of a core, %.1f MiB resident", rate, u.name, u.percent, u.mib)
			if u.afresh {
				t.Errorf("%s ended meanwhile", u.name)
			}
		}
	}
	client := inside(witness.pid)
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://127.0.0.1:8080/readyz")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the witness is not ready: %s", resp.Status)
	}
	for _, p := range askAt[[]simulator.PollRecord](t, s, "/report/polls?from=1") {
		if p.Poller == name {
			t.Error("the witness polled")
		}
	}
	s.answered(t, 30*time.Second, 0)

	if out, err := exec.CommandContext(t.Context(), "docker", "run", "--rm", "-e", "WITNESS=true", "-e", "BOT_TOKEN=123456:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghi",
		"-e", "CLUSTER_SECRET="+secret, *imageName).CombinedOutput(); err == nil || !strings.Contains(string(out), "BOT_TOKEN is not accepted: WITNESS=true is set too") {
		t.Errorf("a witness with a token: %v\n%s", err, out)
	}
}

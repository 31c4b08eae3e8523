package main

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"habot/app/config"
)

func TestCommandsThatAreWrongExitWith2(t *testing.T) {
	for _, args := range [][]string{{"nonsense"}, {"status", "now"}, {"switchover", "a", "b"}, {"serve", "x"}, {"version", "x"}} {
		var out, errs bytes.Buffer
		if code := run(args, &out, &errs); code != exitUsage || !strings.Contains(errs.String(), "usage:") {
			t.Errorf("%v: exit code %d, said %q", args, code, errs.String())
		}
	}
}

func TestVersionAndHelpNeedNoConfiguration(t *testing.T) {
	t.Setenv("LEASE", "nonsense")
	for _, arg := range []string{"version", "help", "--help"} {
		var out, errs bytes.Buffer
		if code := run([]string{arg}, &out, &errs); code != 0 || out.Len() == 0 || errs.Len() > 0 {
			t.Errorf("%s: exit code %d, said %q and %q", arg, code, out.String(), errs.String())
		}
	}
}

func TestAWrongConfigurationIsOneLinePerProblemAndExitCode2(t *testing.T) {
	t.Setenv("LEASE", "5")
	t.Setenv("REPLICAS", "0")
	t.Setenv("BOT_TOKEN", "secret-without-colon")
	var out, errs bytes.Buffer
	code := run(nil, &out, &errs)
	lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
	if code != exitUsage || len(lines) != 3 {
		t.Fatalf("exit code %d, said\n%s", code, errs.String())
	}
	for _, name := range []string{"LEASE", "REPLICAS", "BOT_TOKEN"} {
		if strings.Count(errs.String(), "habot: "+name) != 1 {
			t.Errorf("%s is not in one line of its own:\n%s", name, errs.String())
		}
	}
	if strings.Contains(errs.String(), "secret-without-colon") || strings.Contains(errs.String(), "goroutine") {
		t.Errorf("said too much:\n%s", errs.String())
	}
}

func TestTheSimulatorIsNotNeededWithAToken(t *testing.T) {
	// The file may be there for the replicas alone.
	for name, value := range map[string]string{
		"BOT_TOKEN": "123456:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghi", "BOT_TOKEN_FILE": "/run/secrets/bot_token",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			var out, errs bytes.Buffer
			if code := run([]string{"simulator"}, &out, &errs); code != 0 || !strings.Contains(errs.String(), "the simulator is not needed") {
				t.Errorf("exit code %d, said %q", code, errs.String())
			}
		})
	}
}

func TestAHealthcheckWithoutAReplicaFails(t *testing.T) {
	t.Setenv("HTTP_ADDR", "127.0.0.1:1")
	var out, errs bytes.Buffer
	if code := run([]string{"healthcheck"}, &out, &errs); code != exitFailed || errs.Len() == 0 {
		t.Errorf("exit code %d, said %q", code, errs.String())
	}
}

func TestAHealthcheckAsksWhatTheContainerRuns(t *testing.T) {
	cfg := config.Config{HTTPAddr: ":8080", SimulatorAddr: ":8081"}
	for command, want := range map[string]string{
		"/habot\x00":              ":8080",
		"/habot\x00serve\x00":     ":8080",
		"/habot\x00simulator\x00": ":8081",
		"/sbin/docker-init\x00--\x00/habot\x00simulator\x00": ":8081",
		"/sbin/init\x00":                  ":8080",
		"/usr/bin/other\x00simulator\x00": ":8080",
		"simulator\x00":                   ":8080",
		"":                                ":8080",
	} {
		if got := healthAddr(cfg, command); got != want {
			t.Errorf("%q: asks %s, want %s", command, got, want)
		}
	}
}

// Logs of all replicas end up in one place: each line says whose it is, from the first to the last.
func TestEveryLineOfAReplicaCarriesItsName(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, value := range map[string]string{
		"REPLICA_NAME": "r7", "QUORUM": "1", "INSTANCES": "127.0.0.1:1", "PEER_ADDR": taken.Addr().String(), "HTTP_ADDR": "127.0.0.1:1",
	} {
		t.Setenv(name, value)
	}
	var out, errs bytes.Buffer
	if code := run(nil, &out, &errs); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
	for _, line := range lines {
		if !strings.Contains(line, " replica=r7") {
			t.Errorf("a line without its replica: %s", line)
		}
	}
	if !strings.Contains(errs.String(), "QUORUM=1 is below a majority") || !strings.Contains(errs.String(), "msg=exiting") {
		t.Errorf("logged\n%s", &errs)
	}
}

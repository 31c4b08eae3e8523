package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"habot/app/config"
	"habot/app/diagnosis"
	"habot/app/election"
	"habot/app/supervise"
	"habot/app/web"
)

func TestCommandsThatAreWrongExitWith2(t *testing.T) {
	for _, args := range [][]string{{"nonsense"}, {"status", "now"}, {"status", "--watch", "x"}, {"history", "x"}, {"doctor", "x"}, {"next", "x"}, {"switchover", "a", "b"}, {"serve", "x"}, {"version", "x"}} {
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

// Each command is among those of OPERATING.md, but for the two that containers run by themselves; and so is each address that changes
// something.
func TestCommandsAreDocumented(t *testing.T) {
	raw, err := os.ReadFile("service/OPERATING.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile(`(?m)^  ([a-z]+)`).FindAllStringSubmatch(usage, -1)
	if len(commands) < 9 {
		t.Fatalf("only %d commands were found", len(commands))
	}
	for _, c := range commands {
		if c[1] == "serve" || c[1] == "simulator" {
			continue
		}
		if !regexp.MustCompile("(?m)^\\| `" + c[1] + "( [^`]+)?` \\|").Match(raw) {
			t.Errorf("OPERATING.md has no row for the command %s", c[1])
		}
	}
	server, err := os.ReadFile("web/server.go")
	if err != nil {
		t.Fatal(err)
	}
	posts := regexp.MustCompile(`r\.POST\("([^"]+)"`).FindAllStringSubmatch(string(server), -1)
	if len(posts) < 2 {
		t.Fatalf("only %d addresses were found", len(posts))
	}
	for _, p := range posts {
		if !bytes.Contains(raw, []byte("\n| `POST "+p[1]+"` |")) {
			t.Errorf("OPERATING.md has no row for POST %s", p[1])
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

func TestTheSimulatorIsNotNeededWithATokenOrOnAWitness(t *testing.T) {
	// The file may be there for the replicas alone.
	for name, value := range map[string]string{
		"BOT_TOKEN": "123456:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghi", "BOT_TOKEN_FILE": "/run/secrets/bot_token", "WITNESS": "true",
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

func TestASimulatorOfARehearsalStartsWithAToken(t *testing.T) {
	t.Setenv("BOT_TOKEN_FILE", "/not/there") // for the replicas alone
	t.Setenv("SIMULATOR_REHEARSAL", "true")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	t.Setenv("SIMULATOR_ADDR", taken.Addr().String()) // it ends at once
	var out, errs bytes.Buffer
	if code := run([]string{"simulator"}, &out, &errs); code != exitFailed || !strings.Contains(errs.String(), "start the simulator") {
		t.Errorf("exit code %d, said %q", code, errs.String())
	}
}

func TestAHealthcheckWithoutAReplicaFails(t *testing.T) {
	t.Setenv("HTTP_ADDR", "127.0.0.1:1")
	var out, errs bytes.Buffer
	if code := run([]string{"healthcheck"}, &out, &errs); code != exitFailed || errs.Len() == 0 {
		t.Errorf("exit code %d, said %q", code, errs.String())
	}
}

// Standard output has all lines of an examination, whatever it finds, and the exit code is that of the worst.
func TestADoctorsExitCodeIsThatOfItsWorstLine(t *testing.T) {
	nothing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = nothing.Close()
	for name, c := range map[string]struct {
		set  map[string]string
		code int
		want string
	}{
		"nothing runs": {map[string]string{"INSTANCES": nothing.Addr().String(), "TELEGRAM_API_URL": "http://" + nothing.Addr().String()}, 1, "WARN  quorum: no replica answers"},
		"no Telegram": {map[string]string{
			"INSTANCES": nothing.Addr().String(), "TELEGRAM_API_URL": "http://" + nothing.Addr().String(), "BOT_TOKEN": "123456:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghi",
		}, 2, "ERROR Telegram's address 127.0.0.1:"},
		"a wrong configuration":  {map[string]string{"LEASE": "5", "REPLICAS": "0"}, 2, "ERROR configuration: LEASE="},
		"a file that is missing": {map[string]string{"BOT_TOKEN_FILE": "/not/there"}, 2, "ERROR BOT_TOKEN_FILE: there is no such file here"},
	} {
		t.Run(name, func(t *testing.T) {
			for name, value := range c.set {
				t.Setenv(name, value)
			}
			var out, errs bytes.Buffer
			if code := run([]string{"doctor"}, &out, &errs); code != c.code || !strings.Contains(out.String(), "\n"+c.want) || errs.Len() > 0 {
				t.Errorf("exit code %d\n%s\n%s", code, &out, &errs)
			}
			if strings.Contains(out.String(), "ABCDEFGH") || strings.Contains(out.String(), "/not/there") {
				t.Errorf("a secret is shown:\n%s", &out)
			}
		})
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
	if !strings.Contains(errs.String(), "QUORUM=1 is below a majority") || !strings.Contains(errs.String(), " ERROR exiting ") {
		t.Errorf("logged\n%s", &errs)
	}
}

// lines is a log that is read as it is written.
type lines chan string

func (l lines) Write(p []byte) (int, error) { l <- string(p); return len(p), nil }

// A backend that sends a body beside its answer makes net/http quote it, in the log of the standard library.
func TestWhatLibrariesLogIsALineOfOurs(t *testing.T) {
	output, flags := log.Writer(), log.Flags()
	t.Cleanup(func() { log.SetOutput(output); log.SetFlags(flags) })
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, value := range map[string]string{"SIMULATOR_ADDR": taken.Addr().String(), "LOG_FORMAT": "json", "LOG_LEVEL": "debug"} {
		t.Setenv(name, value)
	}
	logged := make(lines, 100)
	run([]string{"simulator"}, os.Stdout, logged) // it ends at once
	log.Printf("Unsolicited response received on idle HTTP channel starting with %q; err=<nil>", "hunter2")
	for line := ""; !strings.Contains(line, "Unsolicited"); {
		select {
		case line = <-logged:
		case <-time.After(10 * time.Second):
			t.Fatal("it is not logged")
		}
		var l struct{ Level, Msg string }
		if err := json.Unmarshal([]byte(line), &l); err != nil || strings.Contains(line, "hunter2") {
			t.Errorf("%v: %s", err, line)
		}
		if strings.Contains(line, "Unsolicited") && (l.Level != "DEBUG" || l.Msg != "a library reports") {
			t.Errorf("logged %s", line)
		}
	}
}

// replica is what the command line asks: the status, the history, and a switchover that happens.
func replica(t *testing.T, s web.Status) {
	t.Helper()
	answer := func(w http.ResponseWriter, v any) {
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /cluster", func(w http.ResponseWriter, _ *http.Request) { answer(w, s) })
	mux.HandleFunc("GET /history", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.History) })
	mux.HandleFunc("POST /switchover", func(w http.ResponseWriter, req *http.Request) {
		if !strings.HasPrefix(req.Header.Get("Authorization"), "Bearer ") {
			t.Error("a switchover without a key")
		}
		s.Self.Change = election.Change{
			Claim: election.Claim{Timestamp: 2e18, Replica: "b"}, Name: "habot-bot-2", Previous: "habot-bot-1", Reason: election.ReasonSwitchover, Gap: 2 * time.Millisecond,
		}
		s.Self.Primary = s.Self.Change.Claim
		w.WriteHeader(http.StatusAccepted)
		answer(w, map[string]bool{"ok": true})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Setenv("HTTP_ADDR", server.Listener.Addr().String())
}

func TestAStatusExitsNonZeroIfTheBotDoesNotAnswer(t *testing.T) {
	for _, c := range []struct {
		state diagnosis.State
		code  int
	}{
		{diagnosis.Answers, 0}, {diagnosis.NoPrimary, exitFailed}, {diagnosis.Refused, exitFailed}, {diagnosis.Unreachable, exitFailed}, {diagnosis.Failing, exitFailed},
	} {
		replica(t, web.Status{View: election.View{Self: election.Status{Name: "habot-bot-1"}}, Verdict: diagnosis.Verdict{State: c.state, Text: "the verdict"}})
		var out, errs bytes.Buffer
		if code := run([]string{"status"}, &out, &errs); code != c.code || !strings.HasPrefix(out.String(), "the verdict\n\n") || errs.Len() > 0 {
			t.Errorf("%s: exit code %d\n%s\n%s", c.state, code, &out, &errs)
		}
	}
}

func TestASwitchoverSaysWhoTookOver(t *testing.T) {
	replica(t, web.Status{})
	var out, errs bytes.Buffer
	code := run([]string{"switchover"}, &out, &errs)
	if code != 0 || !regexp.MustCompile(`^habot-bot-2 is primary now, replacing habot-bot-1; it took [0-9.]+ m?s, of which there was no primary for 2 ms\n$`).MatchString(out.String()) {
		t.Errorf("exit code %d\n%s\n%s", code, &out, &errs)
	}
}

func TestTheHistoryIsATable(t *testing.T) {
	replica(t, web.Status{View: election.View{History: []election.Change{{Name: "habot-bot-1", Reason: election.ReasonStart}}}})
	var out, errs bytes.Buffer
	if code := run([]string{"history"}, &out, &errs); code != 0 || !strings.Contains(out.String(), "no previous primary was known") {
		t.Errorf("exit code %d\n%s\n%s", code, &out, &errs)
	}
}

// ends is a terminal that its user leaves once it has shown something.
type ends struct {
	bytes.Buffer
	leave context.CancelFunc
}

func (e *ends) Write(p []byte) (int, error) { e.leave(); return e.Buffer.Write(p) }

func TestAStatusIsWatchedUntilItsEndAlsoWhileTheReplicaIsAway(t *testing.T) {
	replica(t, web.Status{Verdict: diagnosis.Verdict{State: diagnosis.NoPrimary, Text: "the verdict"}})
	for addr, want := range map[string]string{os.Getenv("HTTP_ADDR"): "the verdict\n", "127.0.0.1:1": "the status cannot be shown: "} {
		ctx, leave := context.WithCancel(t.Context())
		out := &ends{leave: leave}
		if err := (process{stdout: out}).watchStatus(ctx, web.NewClient(addr, "")); err != nil || !strings.HasPrefix(out.String(), clearScreen+want) {
			t.Errorf("%v, shown %q", err, out)
		}
	}
}

// The longest shutdown, and the last lines of the log, come before the container runtime kills a replica. The documents say how
// long it takes.
func TestTheGracePeriodHasRoomForTheLongestShutdown(t *testing.T) {
	t.Parallel()
	longest := supervise.ShutdownBound(true)
	// A fail-stop writes the last lines while those of an orderly end may be about to be written.
	if least := longest + 2*flushBound; least >= config.GracePeriod {
		t.Errorf("a shutdown takes up to %v of %v", least, config.GracePeriod)
	}
	for file, text := range map[string]string{"service/OPERATING.md": "It takes %.0f s at most", "../docker-compose.yml": "own shutdown (%.0f s)"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(text, longest.Seconds()); !strings.Contains(string(raw), want) {
			t.Errorf("%s does not have %q", file, want)
		}
	}
}

// A primary that is asked to stop waits for a newcomer; asked again it waits for nothing.
func TestASecondSIGTERMEndsAReplicaAtOnce(t *testing.T) {
	if os.Getenv("HABOT_TEST_SERVES") != "" {
		os.Exit(run(nil, os.Stdout, os.Stderr))
	}
	if runtime.GOOS != "linux" {
		t.Skip("a replica runs on Linux only")
	}
	var free [2]string
	for i := range free {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		free[i] = strings.Replace(l.Addr().String(), "127.0.0.1", "127.0.0.2", 1) // of another address of this machine
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestASecondSIGTERMEndsAReplicaAtOnce$")
	cmd.Env = []string{"HABOT_TEST_SERVES=1", "REPLICAS=2", "QUORUM=1", "LEASE=200ms", "LEAVE_PATIENCE=16s", "INSTANCES=127.0.0.1:1", "LIFELINE_DIR=",
		"PEER_ADDR=" + free[0], "HTTP_ADDR=" + free[1], "TELEGRAM_API_URL=http://127.0.0.1:1"}
	logs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	again := time.NewTicker(10 * time.Millisecond) // the process may not have got so far yet
	defer again.Stop()
	asked, ended := 0, make(chan struct{})
	var said strings.Builder
	var asking sync.WaitGroup
	for lines := bufio.NewScanner(logs); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		switch {
		case asked == 0 && strings.Contains(lines.Text(), "role=primary"):
			asked++
			_ = cmd.Process.Signal(syscall.SIGTERM)
		case asked == 1 && strings.Contains(lines.Text(), " leaving "):
			asked++
			asking.Go(func() {
				for {
					_ = cmd.Process.Signal(syscall.SIGTERM)
					select {
					case <-again.C:
					case <-ended:
						return
					}
				}
			})
		}
	}
	close(ended)
	asking.Wait()
	// One that has left in order exits with 0.
	if err := cmd.Wait(); err == nil || asked != 2 || strings.Contains(said.String(), "stepped down") {
		t.Errorf("asked %d times it ended with %v:\n%s", asked, err, &said)
	}
}

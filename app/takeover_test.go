package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"habot/app/web"
)

// serving is the process of a replica, with what it has traced of takeovers.
type serving struct {
	env  []string
	http string
	cmd  *exec.Cmd

	mu     sync.Mutex
	traces map[string]float64 // by line, the last time in microseconds
}

// begin starts the process, which runs TestASecondSIGTERMEndsAReplicaAtOnce as a replica.
func (s *serving) begin(b *testing.B) {
	b.Helper()
	s.cmd = exec.Command(os.Args[0], "-test.run=^TestASecondSIGTERMEndsAReplicaAtOnce$")
	s.cmd.Env = s.env
	logs, err := s.cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(logs); lines.Scan(); {
			var l struct {
				Msg          string
				Microseconds float64
			}
			if json.Unmarshal(lines.Bytes(), &l) != nil || l.Microseconds == 0 {
				continue
			}
			s.mu.Lock()
			s.traces[l.Msg] = l.Microseconds
			s.mu.Unlock()
		}
	}()
}

func (s *serving) end() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// traced takes what a line has told of the last takeover.
func (s *serving) traced(msg string) (microseconds float64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	microseconds, ok = s.traces[msg]
	delete(s.traces, msg)
	return microseconds, ok
}

// settle waits until a replica reaches all others, and has so many lifelines.
func (s *serving) settle(ctx context.Context, lifelines int) {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		status, err := web.NewClient(s.http, "").Status(ctx)
		linked := 0
		for _, p := range status.Peers {
			if p.Lifeline {
				linked++
			}
		}
		if err == nil && status.Reachable == 3 && linked == lifelines {
			return
		}
		<-again.C
	}
}

// BenchmarkTakeover is from kill -9 of the primary's process to the next poll on the wire, with three processes on one machine, with lifelines and
// without. Beside it stands what the traces at level debug tell: from the report of the death to the new term, and from there to the poll.
func BenchmarkTakeover(b *testing.B) {
	if runtime.GOOS != "linux" {
		b.Skip("a replica runs on Linux only")
	}
	b.Run("lifelines", func(b *testing.B) {
		dir, err := os.MkdirTemp("", "life") //nolint:usetesting // b.TempDir is too long for a socket
		if err != nil {
			b.Fatal(err)
		}
		defer os.RemoveAll(dir)
		benchmarkTakeover(b, dir, 2)
	})
	b.Run("lease", func(b *testing.B) { benchmarkTakeover(b, "", 0) })
}

// pollers is a Telegram without updates, which passes on who polls.
func pollers(b *testing.B) (apiURL string, polls chan string) {
	b.Helper()
	polls = make(chan string, 1000)
	telegram := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch filepath.Base(req.URL.Path) {
		case "getUpdates":
			agent := req.UserAgent() // ends with the replica's name in parentheses
			polls <- strings.TrimSuffix(agent[strings.LastIndex(agent, "(")+1:], ")")
			select {
			case <-req.Context().Done():
			case <-time.After(5 * time.Second):
			}
			_, _ = w.Write([]byte(`{"ok":true,"result":[]}`))
		case "getMe":
			_, _ = w.Write([]byte(`{"ok":true,"result":{"id":123456,"is_bot":true,"first_name":"x","username":"x_bot"}}`))
		default:
			_, _ = w.Write([]byte(`{"ok":true,"result":true}`))
		}
	}))
	b.Cleanup(telegram.Close)
	return telegram.URL, polls
}

func benchmarkTakeover(b *testing.B, dir string, lifelines int) {
	apiURL, polls := pollers(b)
	var ports []string
	for range 6 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, strings.Replace(l.Addr().String(), "127.0.0.1", "127.0.0.2", 1)) // of another address of this machine
	}
	all := map[string]*serving{}
	for i := range 3 {
		name := fmt.Sprintf("r%d", i)
		s := &serving{http: ports[3+i], traces: map[string]float64{}, env: []string{"HABOT_TEST_SERVES=1", "REPLICA_NAME=" + name, "LIFELINE_DIR=" + dir,
			"INSTANCES=" + strings.Join(ports[:3], ","), "PEER_ADDR=" + ports[i], "HTTP_ADDR=" + ports[3+i], "TELEGRAM_API_URL=" + apiURL, "LOG_LEVEL=debug", "LOG_FORMAT=json"}}
		s.begin(b)
		b.Cleanup(s.end)
		all[name] = s
	}
	// next is who polls next, and not the one that is dead.
	next := func(dead string) string {
		for {
			select {
			case name := <-polls:
				if name != dead {
					return name
				}
			case <-time.After(20 * time.Second):
				b.Fatal("there is no poll")
			}
		}
	}
	primary := next("")
	spans := map[string][]float64{}
	for b.Loop() {
		b.StopTimer()
		for _, s := range all {
			s.settle(b.Context(), lifelines)
			s.traced("first poll sent")
		}
		for len(polls) > 0 {
			<-polls
		}
		b.StartTimer()
		if err := all[primary].cmd.Process.Kill(); err != nil {
			b.Fatal(err)
		}
		successor := next(primary)
		b.StopTimer()
		_ = all[primary].cmd.Wait()
		all[primary].begin(b)
		primary = successor
		all[primary].settle(b.Context(), lifelines) // its lines have come by then
		for _, msg := range []string{"took over after a death", "first poll sent"} {
			if took, ok := all[primary].traced(msg); ok {
				spans[msg] = append(spans[msg], took)
			}
		}
		b.StartTimer()
	}
	for msg, unit := range map[string]string{"took over after a death": "µs-report-to-term", "first poll sent": "µs-term-to-poll"} {
		if len(spans[msg]) > 0 {
			slices.Sort(spans[msg])
			b.ReportMetric(spans[msg][len(spans[msg])/2], unit)
		}
	}
}

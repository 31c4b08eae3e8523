package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"habot/app/config"
	"habot/app/logging"
	"habot/app/simulator"
)

func TestMain(m *testing.M) {
	// telego's own HTTP client, which a benchmark runs, closes its connections after a while only.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*Client).mCleaner"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*TCPDialer).tcpAddrsClean"))
}

// record is a log that can be read while it is written.
type record struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

// freePort is a port that no process listens on at the moment.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// load makes a configuration as a process would.
func load(t testing.TB, environ ...string) config.Config {
	t.Helper()
	cfg, err := config.Load(environ, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// eventually waits until f is content.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// telegram is a simulator on loopback.
func telegram(t *testing.T, ctx context.Context, rate float64) *simulator.Simulator {
	t.Helper()
	sim := simulator.New(simulator.Config{
		Addr: "127.0.0.1:0", Token: config.DemoToken, Rate: rate, Chats: 3, Logger: slog.New(slog.DiscardHandler),
	})
	if err := sim.Listen(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- sim.Run(ctx) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return sim
}

// Three whole replicas and a simulated Telegram in one process: one polls, and when it is stopped
// another does, with nothing lost and nothing twice.
func TestThreeReplicasHandOverWithoutALoss(t *testing.T) {
	telegramCtx, stopTelegram := context.WithCancel(context.Background())
	sim := telegram(t, telegramCtx, 40)
	defer stopTelegram()
	peers := []string{freePort(t), freePort(t), freePort(t)}
	logs := &record{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(logs.String())
		}
	})
	stop := map[string]context.CancelFunc{}
	ended := map[string]chan error{}
	for i, peer := range peers {
		name := fmt.Sprintf("r%d", i)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		stop[name], ended[name] = cancel, done
		cfg := load(t, "INSTANCES="+strings.Join(peers, ","), "PEER_ADDR="+peer, "HTTP_ADDR="+freePort(t), "LEASE=4s", // long, for a busy machine is not what is tested here
			"REPLICA_NAME="+name, "TELEGRAM_API_URL=http://"+sim.Addr().String(), "ADMIN_CHAT_IDS=1001", "LOG_LEVEL=debug")
		go func() {
			done <- Run(ctx, Options{Config: cfg, Name: name, Version: "test", Logger: logging.New(logs, slog.LevelDebug, true).With("replica", name),
				Exit: func(int) { t.Error("a replica halted") }})
		}()
	}
	eventually(t, "a replica answers", func() bool { return sim.Report().Answered > 20 })
	first := sim.Report().Poller
	stop[first]()
	if err := <-ended[first]; err != nil {
		t.Errorf("%s ended with %v", first, err)
	}
	before := sim.Report().Answered
	eventually(t, "a successor answers", func() bool { return sim.Report().Answered > before+20 })
	sim.SetRate(0)
	eventually(t, "everything is answered", func() bool { return sim.Report().Unanswered == 0 })
	second := sim.Report().Poller
	delete(ended, first)
	for name, done := range ended {
		stop[name]()
		if err := <-done; err != nil {
			t.Errorf("%s ended with %v", name, err)
		}
	}
	r := sim.Report()
	if r.Poller == first || r.Lost != 0 || r.AnsweredTwice != 0 || r.Conflicts != 0 || r.OutOfOrder != 0 || r.Overlaps != 0 {
		t.Errorf("%+v", r)
	}
	if strings.Contains(logs.String(), config.DemoToken) {
		t.Error("the token is in the log")
	}
	told := map[string]string{}
	for line := range strings.Lines(logs.String()) {
		var entry struct{ Msg, Replica, Text, Previous, Reason string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("a line that is no JSON: %q", line)
		}
		if entry.Msg == "notifying admins" {
			told[entry.Replica] += entry.Text
		}
	}
	if !strings.Contains(told[first], "no previous primary was known") || !strings.Contains(told[second], "replacing <b>"+first+"</b>. Reason: "+first+" was shut down") {
		t.Errorf("the admins were told of %s, then of %s: %v", first, second, told)
	}
}

func TestBotOnlyPollsWithoutAnElection(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	telegramCtx, stopTelegram := context.WithCancel(context.Background())
	sim := telegram(t, telegramCtx, 40)
	defer stopTelegram()
	cfg := load(t, "MODE=bot-only", "REPLICAS=1", "HTTP_ADDR="+freePort(t), "TELEGRAM_API_URL=http://"+sim.Addr().String())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{Config: cfg, Name: "r", Version: "test", Logger: slog.New(slog.DiscardHandler), Exit: func(int) { t.Error("halted") }})
	}()
	eventually(t, "it answers", func() bool { return sim.Report().Answered > 20 })
	sim.SetRate(0)
	eventually(t, "everything is answered", func() bool { return sim.Report().Unanswered == 0 })
	cancel()
	if err := <-done; err != nil {
		t.Errorf("ended with %v", err)
	}
	if r := sim.Report(); r.AnsweredTwice != 0 || r.Conflicts != 0 {
		t.Errorf("%+v", r)
	}
}

func TestAPortInUseIsNamedByItsVariable(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, variable := range []string{"PEER_ADDR", "HTTP_ADDR"} {
		environ := map[string]string{"PEER_ADDR": freePort(t), "HTTP_ADDR": freePort(t)}
		environ[variable] = taken.Addr().String()
		cfg := load(t, "INSTANCES=127.0.0.1:1", "REPLICA_NAME=r", "PEER_ADDR="+environ["PEER_ADDR"], "HTTP_ADDR="+environ["HTTP_ADDR"])
		err := Run(t.Context(), Options{Config: cfg, Name: "r", Version: "test", Logger: slog.New(slog.DiscardHandler), Exit: func(int) {}})
		var opErr *net.OpError
		if err == nil || !strings.Contains(err.Error(), variable) || !errors.As(err, &opErr) {
			t.Errorf("%s in use: %v", variable, err)
		}
	}
}

package service

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"habot/app/logging"
	"habot/app/simulator"
)

// A proxy is for the way to Telegram alone: whatever replicas ask each other, or themselves, goes past it. The log names
// it, and not its password.
func TestOnlyTelegramIsReachedThroughTheProxy(t *testing.T) {
	sim := simulator.New(simulator.Config{Token: load(t).Token, Rate: 40, Chats: 3, Logger: slog.New(slog.DiscardHandler)})
	var mu sync.Mutex
	asked := map[string]int{}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked[r.Method+" "+r.URL.Host]++
		mu.Unlock()
		sim.Handler().ServeHTTP(w, r)
	}))
	defer proxy.Close()
	users, stopUsers := context.WithCancel(context.Background())
	defer stopUsers()
	go sim.RunUsers(users)
	logs := &record{}
	ctx, stop := context.WithCancel(context.Background())
	peers := []string{freePort(t), freePort(t)}
	ended := make(chan error, len(peers))
	for i, peer := range peers {
		cfg := load(t, "REPLICAS=2", "INSTANCES="+strings.Join(peers, ","), "PEER_ADDR="+peer, "HTTP_ADDR="+freePort(t), "LEASE=4s", "REPLICA_NAME=r"+string(rune('0'+i)),
			"TELEGRAM_API_URL=http://telegram.test", "http_proxy=http://proxy-user:hunter2@"+proxy.Listener.Addr().String(), "LOG_LEVEL=debug")
		go func() {
			ended <- Run(ctx, Options{Config: cfg, Version: "test", Logger: logging.New(logs, slog.LevelDebug, false), Exit: func(int) { t.Error("a replica halted") }})
		}()
	}
	eventually(t, "a replica answers", func() bool { return sim.Report().Answered > 20 })
	stopUsers()
	stop()
	for range peers {
		if err := <-ended; err != nil {
			t.Errorf("a replica ended with %v", err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != 1 || asked["POST telegram.test"] == 0 {
		t.Errorf("the proxy was asked for %v", asked)
	}
	if said := logs.String(); strings.Count(said, " proxy=http://"+proxy.Listener.Addr().String()+" ") != 2 || strings.Contains(said, "hunter2") || strings.Contains(said, "proxy-user") {
		t.Errorf("the log does not name the proxy, or says too much:\n%s", said)
	}
}

package monitoring_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"habot/app/config"
	"habot/app/service"
	"habot/app/simulator"
)

// exported is what a whole replica and the simulator show to Prometheus, once the replica has answered
// a user: all metrics there are have a value then.
func exported(t *testing.T) (replica, simulated []byte) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	ctx, stop := context.WithCancel(t.Context())
	sim := simulator.New(simulator.Config{Addr: "127.0.0.1:0", Token: config.DemoToken, Rate: 20, Chats: 2, Logger: log})
	if err := sim.Listen(); err != nil {
		t.Fatal(err)
	}
	web := freeAddress(t)
	// A webhook backend, so that its metrics are shown, too.
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var u struct {
			Message struct {
				Chat struct {
					ID int64 `json:"id"`
				} `json:"chat"`
				Text string `json:"text"`
			} `json:"message"`
		}
		if err := json.NewDecoder(req.Body).Decode(&u); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"method":"sendMessage","chat_id":%d,"text":%q}`, u.Message.Chat.ID, "backend: "+u.Message.Text)
	}))
	t.Cleanup(backend.Close)
	cfg, err := config.Load([]string{
		"BACKEND=" + backend.URL + "/hook",
		"REPLICAS=1", "INSTANCES=127.0.0.1", "PEER_ADDR=" + freeAddress(t), "HTTP_ADDR=" + web, "REPLICA_NAME=alpha",
		"TELEGRAM_API_URL=http://" + sim.Addr().String(),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 3)
	go func() { ended <- sim.Run(ctx) }()
	gateway, copies := freeAddress(t), freeAddress(t)
	polled, err := config.Load([]string{
		"BACKEND=gateway", "MODE=bot-only", "REPLICAS=1", "PEER_ADDR=" + freeAddress(t), "HTTP_ADDR=" + gateway, "GATEWAY_ADDR=" + copies,
		"REPLICA_NAME=beta", "TELEGRAM_API_URL=http://" + freeAddress(t), // which does not answer
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	replicaCtx, stopReplica := context.WithCancel(ctx)
	go func() {
		ended <- service.Run(replicaCtx, service.Options{Config: cfg, Version: "test", Logger: log, Exit: func(int) { t.Error("the replica halted") }})
	}()
	go func() {
		ended <- service.Run(replicaCtx, service.Options{Config: polled, Name: "beta", Version: "test", Logger: log, Exit: func(int) { t.Error("the replica halted") }})
	}()
	go func() { // a copy that polls
		for replicaCtx.Err() == nil {
			if resp, err := http.Get("http://" + copies + "/bot" + config.DemoToken + "/getUpdates"); err == nil {
				_ = resp.Body.Close()
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	defer func() {
		stopReplica()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	answered := regexp.MustCompile(`(?m)^habot_updates_total{outcome="answered"} [1-9]`)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		replica = scrape(t, web)
		shown := regexp.MustCompile(`(?m)^(# (HELP|TYPE) )?habot_gateway_.*\n`).FindAll(scrape(t, gateway), -1)
		if answered.Match(replica) && bytes.Contains(bytes.Join(shown, nil), []byte("habot_gateway_active{")) {
			replica = append(replica, bytes.Join(shown, nil)...)
			// A first primary measured no time without one. Package node's tests see this metric after a takeover.
			replica = append(replica, "# HELP habot_last_change_gap_seconds Shown after a takeover.\n# TYPE habot_last_change_gap_seconds gauge\n"...)
			return replica, scrape(t, sim.Addr().String())
		}
		if time.Now().After(deadline) {
			t.Fatalf("no user was answered:\n%s", replica)
		}
	}
}

// freeAddress is one without a listener just now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// scrape is what an address shows to Prometheus; nothing while there is no listener.
func scrape(t *testing.T, address string) []byte {
	t.Helper()
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// families are the names of the metrics, sorted.
func families(exposition []byte) []string {
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllSubmatch(exposition, -1) {
		names = append(names, string(m[1]))
	}
	slices.Sort(names)
	return names
}

func TestMetricsKeepTheRulesForTheirNames(t *testing.T) {
	replica, simulated := exported(t)
	for of, exposition := range map[string][]byte{"replica": replica, "simulator": simulated} {
		problems, err := promlint.New(bytes.NewReader(exposition)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", of, p.Metric, p.Text)
		}
		if n := len(families(exposition)); n < 5 {
			t.Errorf("the %s shows only %d metrics", of, n)
		}
	}
	// Values of labels that grow with what people write, or with time, would fill Prometheus.
	for line := range strings.Lines(string(replica) + string(simulated)) {
		if regexp.MustCompile(`^habot_.*\b(chat|user|update|text|token)[a-z_]*="`).MatchString(line) {
			t.Errorf("a label without bounds: %s", line)
		}
	}
}

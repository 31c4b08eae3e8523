package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"habot/app/logging"
)

// Three witnesses elect none of them, and say why. None has a component that would talk to Telegram.
func TestWitnessesAloneSayWhyThereIsNoPrimary(t *testing.T) {
	peers := []string{freePort(t), freePort(t), freePort(t)}
	logs := &record{}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, len(peers))
	var addrs []string
	for i, peer := range peers {
		name, addr := fmt.Sprintf("w%d", i), freePort(t)
		addrs = append(addrs, addr)
		cfg := load(t, "WITNESS=true", "CLUSTER_SECRET=UtCsjPNmx+wChid/KTCcAHs+J4ADYG7o83V7GE+/dfc=", "INSTANCES="+strings.Join(peers, ","),
			"PEER_ADDR="+peer, "HTTP_ADDR="+addr, "REPLICA_NAME="+name, "LIFELINE_DIR=", "ADMIN_CHAT_IDS=5", "BACKEND=http://127.0.0.1:1/hook")
		go func() {
			ended <- Run(ctx, Options{Config: cfg, Name: name, Version: "test", Logger: logging.New(logs, slog.LevelInfo, true).With("replica", name),
				Exit: func(int) { t.Error("a witness halted") }})
		}()
	}
	get := func(addr, path string) (int, string) {
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			return 0, err.Error()
		}
		raw, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			return 0, err.Error()
		}
		return resp.StatusCode, string(raw)
	}
	const why = "no primary: all replicas in contact are witnesses, which never are primary; one without WITNESS=true is needed, 3 of 3 replicas reachable, 2 needed"
	for _, addr := range addrs {
		eventually(t, "a witness says why there is no primary", func() bool {
			code, text := get(addr, "/readyz")
			return code == http.StatusServiceUnavailable && text == "not ready: "+why+"\n"
		})
		if code, text := get(addr, "/livez"); code != http.StatusOK {
			t.Errorf("not alive: %s", text)
		}
		if _, text := get(addr, "/cluster"); !strings.Contains(text, `"witnesses": [`) || strings.Contains(text, `"demo": true`) {
			t.Errorf("/cluster: %s", text)
		}
		_, metrics := get(addr, "/metrics")
		for _, none := range []string{"habot_telegram", "habot_healthy", "habot_backend", "habot_updates"} {
			if strings.Contains(metrics, "\n"+none) {
				t.Errorf("a witness has metrics %s", none)
			}
		}
		if !strings.Contains(metrics, "\nhabot_witness 1\n") || !strings.Contains(metrics, "\nhabot_primary_known 0\n") {
			t.Errorf("metrics: %s", metrics)
		}
	}
	eventually(t, "the log says why", func() bool { return strings.Contains(logs.String(), why) })
	cancel()
	for range peers {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if got := logs.String(); !strings.Contains(got, `"witness":true`) || strings.Contains(got, `"level":"WARN"`) {
		t.Errorf("logged %s", got)
	}
}

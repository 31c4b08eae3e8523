package service

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"habot/app/config"
	"habot/app/gateway"
	"habot/app/logging"
	"habot/app/peer"
)

// copyOf is a copy of a small polling bot: it takes one update at a time, and confirms what it has answered.
type copyOf struct {
	name   string
	roots  []string // of gateways, one of which it asks until that fails
	client *http.Client
}

func newCopy(name string, roots []string) *copyOf {
	return &copyOf{name: name, roots: roots, client: &http.Client{Transport: &http.Transport{}}}
}

func (c *copyOf) call(ctx context.Context, method string, params url.Values, result any) (int, error) {
	root := c.roots[0]
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, root+"/copy/"+c.name+"/bot"+config.DemoToken+"/"+method, strings.NewReader(params.Encode()))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.client.Do(req)
	if err != nil {
		c.roots = append(c.roots[1:], root)
		return 0, err
	}
	defer resp.Body.Close()
	var answer struct {
		OK          bool
		Description string
		Result      json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return 0, err
	}
	if !answer.OK {
		return resp.StatusCode, fmt.Errorf("%s: %d %s", method, resp.StatusCode, answer.Description)
	}
	return resp.StatusCode, json.Unmarshal(answer.Result, result)
}

// run polls until ctx ends.
func (c *copyOf) run(ctx context.Context, t *testing.T) {
	defer c.client.CloseIdleConnections()
	offset := 0
	for ctx.Err() == nil {
		var updates []struct {
			ID      int `json:"update_id"`
			Message struct {
				Chat struct{ ID int64 }
				Text string
			}
		}
		_, err := c.call(ctx, "getUpdates", url.Values{"offset": {fmt.Sprint(offset)}, "timeout": {"10"}, "limit": {"1"}}, &updates)
		if err != nil {
			if ctx.Err() == nil {
				t.Logf("%s: %v", c.name, err)
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		for _, u := range updates {
			var sent json.RawMessage
			for ctx.Err() == nil {
				if _, err := c.call(ctx, "sendMessage", url.Values{"chat_id": {fmt.Sprint(u.Message.Chat.ID)}, "text": {c.name + ": " + u.Message.Text}}, &sent); err == nil {
					break
				} else if ctx.Err() == nil {
					t.Logf("%s: %v", c.name, err)
				}
			}
			offset = u.ID + 1
		}
	}
}

// Three whole replicas, two copies of a bot that polls, and a simulated Telegram in one process. The primary is stopped, and
// the copy stays; the copy ends, and the other takes over.
func TestTwoCopiesBehindThreeReplicas(t *testing.T) {
	telegramCtx, stopTelegram := context.WithCancel(context.Background())
	sim := telegram(t, telegramCtx, 20)
	defer stopTelegram()
	peers := []string{freePort(t), freePort(t), freePort(t)}
	gateways := []string{freePort(t), freePort(t), freePort(t)}
	logs := &record{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(logs.String())
		}
	})
	stop := map[string]context.CancelFunc{}
	ended := map[string]chan error{}
	var roots []string
	for i, peer := range peers {
		name := fmt.Sprintf("r%d", i)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		stop[name], ended[name] = cancel, done
		_, port, err := net.SplitHostPort(gateways[i])
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, "http://127.0.0.1:"+port)
		cfg := load(t, "INSTANCES="+strings.Join(peers, ","), "PEER_ADDR="+peer, "HTTP_ADDR="+freePort(t), "LEASE=2s", "BACKEND=gateway", "GATEWAY_ADDR="+gateways[i],
			"REPLICA_NAME="+name, "TELEGRAM_API_URL=http://"+sim.Addr().String(), "LOG_LEVEL=debug")
		go func() {
			done <- Run(ctx, Options{Config: cfg, Name: name, Version: "test", Logger: logging.New(logs, slog.LevelDebug, true).With("replica", name),
				Exit: func(int) { t.Error("a replica halted") }})
		}()
	}
	eventually(t, "a replica polls", func() bool { return sim.Report().Poller != "" })
	var copies sync.WaitGroup
	end := map[string]context.CancelFunc{}
	// Each begins at another replica, so that at least one of them is served through a standby.
	for i, name := range []string{"one", "two"} {
		ctx, cancel := context.WithCancel(context.Background())
		end[name] = cancel
		c := newCopy(name, append(append([]string{}, roots[i:]...), roots[:i]...))
		copies.Go(func() { c.run(ctx, t) })
		before := sim.Report().Answered
		if i == 0 {
			eventually(t, "the first copy answers", func() bool { return sim.Report().Answered > before+20 })
		}
	}
	// Each replica knows the copies from the primary, and answers over the replicas' port what the doctor asks.
	identity, err := peer.NewIdentity(load(t).ClusterSecrets...)
	if err != nil {
		t.Fatal(err)
	}
	asking := peer.NewPasser(peer.ClientConfig{Identity: identity, Timeout: time.Second})
	defer asking.Close()
	for _, addr := range peers {
		eventually(t, addr+" knows the copies", func() bool {
			var s gateway.Snapshot
			raw, err := asking.Message(t.Context(), addr, gateway.MessageCopies, nil)
			return err == nil && json.Unmarshal(raw, &s) == nil && s.Active == "one" && s.Standby() == 1
		})
	}
	changes := func(text string) int { return strings.Count(logs.String(), text) }
	first := sim.Report().Poller
	stop[first]()
	if err := <-ended[first]; err != nil {
		t.Errorf("%s ended with %v", first, err)
	}
	before := sim.Report().Answered
	eventually(t, "the copy is served by the next primary", func() bool { return sim.Report().Answered > before+20 })
	if n := changes("the active copy has changed"); n != 1 {
		t.Errorf("%d turns have begun: the copy does not stay when the primary changes", n)
	}
	end["one"]()
	before = sim.Report().Answered
	eventually(t, "the other copy takes over", func() bool { return sim.Report().Answered > before+20 })
	if n := changes(`"to":"two"`); n != 1 {
		t.Errorf("the other copy became active %d times", n)
	}
	sim.SetRate(0)
	eventually(t, "everything is answered", func() bool { return sim.Report().Unanswered == 0 })
	end["two"]()
	copies.Wait()
	delete(ended, first)
	for name := range ended {
		stop[name]()
	}
	for name, done := range ended {
		if err := <-done; err != nil {
			t.Errorf("%s ended with %v", name, err)
		}
	}
	if r := sim.Report(); r.Lost != 0 || r.Conflicts != 0 || r.Overlaps != 0 || r.AnsweredTwice > 1 { // the copy may have answered what it had no time to confirm
		t.Errorf("%+v", r)
	}
	// Telegram is simulated, so that it is given the copy's name with each call: the one that its answer begins with.
	var records []struct{ Answered []struct{ Copy, By string } }
	w := httptest.NewRecorder()
	sim.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/report/updates", nil))
	if err := json.Unmarshal(w.Body.Bytes(), &records); err != nil {
		t.Fatal(err)
	}
	named := map[string]int{}
	for _, r := range records {
		for _, a := range r.Answered {
			if named[a.Copy]++; a.Copy != a.By {
				t.Errorf("an answer of %s is shown as one of %q", a.By, a.Copy)
			}
		}
	}
	if named["one"] < 20 || named["two"] < 20 {
		t.Errorf("answers of copies: %v", named)
	}
	if strings.Contains(logs.String(), config.DemoToken) {
		t.Error("the token is in the log")
	}
}

//go:build e2e

package backends

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/queues"
	"habot/app/relay"
	"habot/app/simulator"
	"habot/app/update"
)

var only = flag.String("framework", "", "the only framework to run; all without")

// little is as much of a replica as it takes to hand a bot its updates: one poll loop, queues and a relay, without an
// election.
type little struct {
	t        *testing.T
	telegram string // Bot API server
	queues   *queues.Queues
	relay    *relay.Relay
	outcomes map[update.Outcome]int

	mu     sync.Mutex
	inHand []int64 // in Telegram's order
	done   map[int64]bool
	known  map[int64]bool
	calls  []string
}

// newLittle starts it, and has it stopped when the test ends.
func newLittle(t *testing.T, telegram string, urls ...string) *little {
	t.Helper()
	list := ""
	for _, u := range urls {
		list += u + ","
	}
	backends, err := relay.ParseBackends(list)
	if err != nil {
		t.Fatal(err)
	}
	l := &little{t: t, telegram: telegram, outcomes: map[update.Outcome]int{}, done: map[int64]bool{}, known: map[int64]bool{}}
	l.relay = relay.New(relay.Config{
		Backends: backends, Secret: secret, Parallel: 40, UserAgent: "habot/test", Forwarder: l, Registerer: prometheus.NewRegistry(),
		Logger: slog.New(slog.DiscardHandler),
	})
	l.queues = queues.New(queues.Config{
		Handler: l.relay.Handler(1), Slots: 40, Patience: time.Minute, Held: func() bool { return true },
		Promise: func(string, time.Duration) {}, Logger: slog.New(slog.DiscardHandler),
	})
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = l.relay.Run(ctx) })
	all.Go(func() { l.poll(ctx) })
	t.Cleanup(func() {
		stop()
		l.queues.Drain(ctx)
		all.Wait()
		l.relay.Close()
	})
	return l
}

// poll asks for updates until ctx ends, and confirms those that are handled.
func (l *little) poll(ctx context.Context) {
	for ctx.Err() == nil {
		l.mu.Lock()
		offset := int64(0)
		for len(l.inHand) > 0 && l.done[l.inHand[0]] {
			offset, l.inHand = l.inHand[0]+1, l.inHand[1:]
		}
		timeout := 1
		if len(l.inHand) > 0 {
			timeout = 0
		}
		l.mu.Unlock()
		raw, err := l.ask(ctx, "getUpdates", "application/json", fmt.Appendf(nil, `{"offset":%d,"timeout":%d}`, offset, timeout))
		if err == nil {
			l.take(ctx, raw)
		}
		if timeout == 0 || err != nil {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

func (l *little) take(ctx context.Context, raw []byte) {
	var answer struct {
		Result json.RawMessage `json:"result"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		l.t.Errorf("an answer of the simulator's is %q", raw)
		return
	}
	batch, err := update.Split(answer.Result)
	if err != nil {
		return // refused, as after a fault
	}
	l.mu.Lock()
	batch = slices.DeleteFunc(batch, func(u update.Update) bool { return l.known[u.ID] })
	for _, u := range batch {
		l.known[u.ID] = true
		l.inHand = append(l.inHand, u.ID)
	}
	l.mu.Unlock()
	l.queues.Consume(ctx, batch, func(id int64, o update.Outcome) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.done[id] = true
		l.outcomes[o]++
	})
}

func (l *little) ask(ctx context.Context, method, contentType string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.telegram+"/bot"+token+"/"+method, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, raw)
	}
	return raw, err
}

// Forward implements relay.Forwarder.
func (l *little) Forward(ctx context.Context, c relay.Call) (relay.Verdict, time.Duration, error) {
	body, err := io.ReadAll(c.Body)
	if err != nil {
		return relay.Again, 0, err
	}
	l.mu.Lock()
	l.calls = append(l.calls, c.Method+" "+c.ContentType)
	l.mu.Unlock()
	switch _, err = l.ask(ctx, c.Method, c.ContentType, body); {
	case err == nil:
		return relay.Done, 0, nil
	case ctx.Err() != nil:
		return relay.Over, 0, err
	}
	return relay.Again, 0, err
}

// newSimulator is a Telegram whose users write nothing by themselves.
func newSimulator(t *testing.T) (*simulator.Simulator, string) {
	t.Helper()
	sim := simulator.New(simulator.Config{Token: token, Chats: 10, Logger: slog.New(slog.DiscardHandler)})
	server := httptest.NewServer(sim.Handler())
	t.Cleanup(server.CloseClientConnections)
	t.Cleanup(server.Close)
	return sim, server.URL
}

// settled waits until everything that was written is answered, and confirmed or dropped.
func settled(t *testing.T, sim *simulator.Simulator, within time.Duration) simulator.Report {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		r := sim.Report()
		if r.Unanswered == 0 && r.Confirmed+r.Dropped == r.Sent || time.Now().After(deadline) {
			return r
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Each framework's bot answers as a webhook backend. One of two copies is killed, and comes back: nothing is lost, and
// each chat is answered in order.
func TestFrameworks(t *testing.T) {
	for _, f := range frameworks() {
		if *only != "" && *only != f.name {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			sim, telegram := newSimulator(t)
			a, b := newCopy(t, f, f.name+"-a", telegram), newCopy(t, f, f.name+"-b", telegram)
			l := newLittle(t, telegram, a.url(), b.url())
			write := func(n int) {
				for i := range n {
					sim.Write(simulator.FirstChat+int64(i%10), fmt.Sprintf("message %d at %d", i, time.Now().UnixNano()))
					time.Sleep(20 * time.Millisecond)
				}
			}
			write(50)
			if r := settled(t, sim, 10*time.Second); r.Answered != 50 || r.AnsweredTwice != 0 {
				t.Fatalf("at first: %+v", r)
			}
			a.kill()
			write(50)
			a.start(t)
			write(50)
			b.kill()
			write(50)
			r := settled(t, sim, 10*time.Second)
			if r.Answered != 200 || r.Lost != 0 || r.OutOfOrder != 0 || r.Dropped != 0 || r.StrayMessages != 0 {
				t.Errorf("after both were killed in turn: %+v", r)
			}
			if l.outcomes[update.Answered] != 200 {
				t.Errorf("outcomes: %v", l.outcomes)
			}
			t.Logf("200 answered, %d twice; calls in answers: %d (%s)", r.AnsweredTwice, len(l.calls), first(l.calls))
		})
	}
}

func first(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return list[0]
}

// An update whose handler fails, here because Telegram does, is sent again; one with a wrong secret is refused.
func TestFrameworksWhenTheirHandlerFails(t *testing.T) {
	for _, f := range frameworks() {
		if *only != "" && *only != f.name {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			sim, telegram := newSimulator(t)
			c := newCopy(t, f, f.name, telegram)
			for wrong, secretSent := range map[string]string{"none": "", "another": "wrong"} {
				if status := post(t, c.url(), secretSent); status >= 200 && status <= 299 {
					t.Errorf("secret %s: answers %d", wrong, status)
				}
			}
			newLittle(t, telegram, c.url())
			sim.Write(simulator.FirstChat, "before")
			settled(t, sim, 10*time.Second)
			fault(t, telegram, `{"faults":[{"kind":"error500","methods":["sendMessage"],"seconds":3600}]}`)
			sim.Write(simulator.FirstChat, "during")
			time.Sleep(2 * time.Second)
			fault(t, telegram, `{"clear_faults":true}`)
			select {
			case <-c.ended:
				t.Error("the bot has ended")
			default:
			}
			sim.Write(simulator.FirstChat, "after")
			r := settled(t, sim, 20*time.Second)
			if r.Answered != 3 || r.OutOfOrder != 0 {
				t.Errorf("%d of 3 are answered: %+v", r.Answered, r)
			}
		})
	}
}

func post(t *testing.T, url, secretSent string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader([]byte(`{"update_id":1}`)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if secretSent != "" {
		req.Header.Set("X-Telegram-Bot-Api-Secret-Token", secretSent)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func fault(t *testing.T, telegram, control string) {
	t.Helper()
	resp, err := http.Post(telegram+"/control", "application/json", bytes.NewReader([]byte(control)))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("control: %d", resp.StatusCode)
	}
}

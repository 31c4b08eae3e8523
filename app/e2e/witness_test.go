//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"habot/app/election"
)

// witness observes, all the time, which replicas of a stack report that they hold the lease. Its methods are safe
// for concurrent use.
type witness struct {
	lease time.Duration
	say   func(format string, args ...any)

	mu    sync.Mutex
	terms []term
}

// listenEvery is how often each replica is asked.
const listenEvery = 100 * time.Millisecond

// witness begins to listen, until the test ends. What is new it says.
func (s *stack) witness(t *testing.T, lease time.Duration, say func(format string, args ...any)) *witness {
	t.Helper()
	w := &witness{lease: lease, say: say}
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, r := range s.replicas(t) {
		all.Go(func() { w.listen(ctx, r) })
	}
	t.Cleanup(func() {
		stop()
		all.Wait()
	})
	return w
}

// listen asks one replica, whatever becomes of its process.
func (w *witness) listen(ctx context.Context, r replica) {
	client := inside(r.pid)
	defer func() { client.CloseIdleConnections() }()
	for ctx.Err() == nil {
		next := time.After(listenEvery)
		if err := w.ask(ctx, client, r.name); err != nil {
			next = time.After(3 * listenEvery) // to look for another process is not cheap
			if pid, err := pidOf(ctx, r.container); err == nil && pid != 0 && pid != r.pid {
				client.CloseIdleConnections()
				r.pid, client = pid, inside(pid)
			}
		}
		select {
		case <-ctx.Done():
		case <-next:
		}
	}
}

func (w *witness) ask(ctx context.Context, client *http.Client, name string) error {
	asked := time.Now()
	says, err := getBy[struct {
		Primary   bool  `json:"primary"`
		Timestamp int64 `json:"timestamp_ns"`
	}](ctx, client, "http://127.0.0.1:8080/primary")
	if err != nil {
		return err
	}
	// A replica that is busy answers, after a lease or a second, with what it knew before.
	word := testimony{asked, time.Now()}
	if !says.Primary || says.Timestamp == 0 || word.told.Sub(asked) > min(w.lease, time.Second)/2 {
		return nil
	}
	if w.note(says.Timestamp, name, word) {
		w.introduce(ctx, client, name, says.Timestamp)
	}
	return nil
}

// note keeps a testimony; true if it is the first of its term.
func (w *witness) note(claim int64, name string, word testimony) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range slices.Backward(w.terms) {
		if w.terms[i].claim == claim {
			w.terms[i].words = append(w.terms[i].words, word)
			return false
		}
	}
	w.terms = append(w.terms, term{claim: claim, name: name, words: []testimony{word}})
	return true
}

// introduce keeps and says how a replica says that it came to be primary.
func (w *witness) introduce(ctx context.Context, client *http.Client, name string, claim int64) {
	v, err := getBy[election.View](ctx, client, "http://127.0.0.1:8080/cluster")
	i := slices.IndexFunc(v.History, func(c election.Change) bool { return c.Claim.Timestamp == claim })
	if err != nil || i < 0 {
		w.say("%s is primary", name)
		return
	}
	c := v.History[i]
	w.say("%s is primary after %s: %s, no primary for %.0f ms", name, c.Previous, c.Reason, ms(c.Gap))
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.terms {
		if w.terms[i].claim == claim {
			w.terms[i].reason = c.Reason
		}
	}
}

// The terms so far, in the order in which they were first reported.
func (w *witness) heard() []term {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := slices.Clone(w.terms)
	slices.SortFunc(all, func(a, b term) int { return a.first().asked.Compare(b.first().asked) })
	return all
}

// primary is the replica that reported last that it holds the lease.
func (w *witness) primary() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var newest term
	for _, t := range w.terms {
		if newest.words == nil || t.last().asked.After(newest.last().asked) {
			newest = t
		}
	}
	return newest.name
}

// pidOf is the process of a container; 0 if it does not run.
func pidOf(ctx context.Context, container string) (int, error) {
	out, err := exec.CommandContext(ctx, "docker", "inspect", "-f", "{{.State.Pid}}", container).Output()
	if err != nil {
		return 0, fmt.Errorf("inspect: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}

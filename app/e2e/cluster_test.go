//go:build e2e

package e2e

import (
	"context"
	"flag"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"habot/app/simulator"
)

var (
	repetitions = flag.Int("repetitions", 2, "how often each fault is caused")
	strict      = flag.Bool("strict", false, "fail if a figure of FIGURES.md is missed")
)

const (
	project = "habote2e"
	load    = 50 // updates a second
)

// common is the stack that most tests share, started as its users start it, ports and all, by the first test
// that needs it.
var common = stack{project: project, telegram: "http://127.0.0.1:8081"}

var commonStarted bool

var startCommon = sync.OnceValues(func() (string, error) {
	commonStarted = true
	common.down()
	return compose(context.Background(), "up", "--detach", "--build", "telegram", "bot", "prometheus")
})

// commonStack is the common stack, running.
func commonStack(t *testing.T) *stack {
	t.Helper()
	if out, err := startCommon(); err != nil {
		t.Fatalf("start the stack: %v\n%s", err, out)
	}
	return &common
}

// TestMain removes the common stack, if this process has started it.
func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if commonStarted {
		common.down()
	}
	os.Exit(code)
}

// What follows is what tests of the common stack say.

func compose(ctx context.Context, args ...string) (string, error) {
	return common.compose(ctx, args...)
}

func replicas(t *testing.T) []replica {
	t.Helper()
	return commonStack(t).replicas(t)
}

func ask[T any](t *testing.T, path string) T {
	t.Helper()
	return askAt[T](t, commonStack(t), path)
}

func control(t *testing.T, c simulator.Control) {
	t.Helper()
	commonStack(t).control(t, c)
}

func setRate(t *testing.T, perSecond float64) {
	t.Helper()
	commonStack(t).setRate(t, perSecond)
}

func settled(t *testing.T, n int) (primary replica, others []replica) {
	t.Helper()
	return commonStack(t).settled(t, n)
}

func takeover(t *testing.T, old string, from int64, since time.Time) simulator.PollRecord {
	t.Helper()
	return commonStack(t).takeover(t, old, from, since)
}

func nothingFrom(t *testing.T, old string, first simulator.PollRecord) {
	t.Helper()
	commonStack(t).nothingFrom(t, old, first)
}

// nothingLost waits, without load, until everything has been answered.
func nothingLost(t *testing.T) simulator.Report {
	t.Helper()
	return commonStack(t).answered(t, 30*time.Second, load)
}

// lastPoll is the number of the newest poll.
func lastPoll(t *testing.T) int64 {
	t.Helper()
	return commonStack(t).report(t).Polls
}

// figures are measured durations.
type figures []time.Duration

// median of figures; 0 of none. They get sorted.
func (f figures) median() time.Duration {
	if len(f) == 0 {
		return 0
	}
	slices.Sort(f)
	return f[len(f)/2]
}

// tell prints them; with -strict it fails if a bound is missed.
func (f figures) tell(t *testing.T, what string, median, most time.Duration) {
	t.Helper()
	mid, worst := f.median(), slices.Max(f)
	t.Logf("FIGURE %s: median %.0f ms, max %.0f ms, min %.0f ms, n=%d", what,
		ms(mid), ms(worst), ms(f[0]), len(f))
	if *strict && (mid > median || worst > most) {
		t.Errorf("%s: median %v (at most %v), max %v (at most %v)", what, mid, median, worst, most)
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

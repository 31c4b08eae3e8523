package clustertest

import (
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

var (
	schedules = flag.Uint64("schedules", 16, "how many random schedules to run, from -seed on or from 1")
	seed      = flag.Uint64("seed", 0, "run this one seed and tell its story; with -schedules, begin there")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestWholeReplicasKeepTheirPromises runs schedules on all processors. A failure names its seed and tells its story.
func TestWholeReplicasKeepTheirPromises(t *testing.T) {
	explore(t, schedule, kinds())
}

// explore runs schedules of one sort, and reports whether everything has occurred of which kinds there are.
func explore(t *testing.T, schedule func(uint64, slog.Level) *world, kinds []string) {
	t.Helper()
	if *seed != 0 && !given("schedules") {
		w := run(t, schedule, *seed, slog.LevelDebug)
		fmt.Println(strings.Join(w.story, "\n"))
		if w.broken != nil {
			t.Fatal(w.broken)
		}
		return
	}
	var (
		next  atomic.Uint64
		stop  atomic.Bool
		mu    sync.Mutex
		total = map[string]int{}
		worst time.Duration
	)
	first, name := max(*seed, 1), t.Name()
	t.Run("schedules", func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint("worker ", i), func(t *testing.T) {
				t.Parallel()
				for n := next.Add(1) - 1; n < *schedules && !stop.Load(); n = next.Add(1) - 1 {
					w := run(t, schedule, first+n, slog.LevelInfo)
					if w.broken != nil {
						stop.Store(true)
						t.Errorf("%s\nseed %d: %v\nits story again: go test ./app/service/clustertest -run %[4]s -seed %[2]d",
							strings.Join(w.story[max(0, len(w.story)-storyLines):], "\n"), w.seed, w.broken, name)
					}
					mu.Lock()
					for k, n := range w.counts {
						total[k] += n
					}
					worst = max(worst, w.recovery)
					mu.Unlock()
				}
			})
		}
	})
	t.Logf("the longest wait for a poll after all was mended: %v", worst)
	cover(t, total, kinds)
}

// storyLines bounds the end of a story that a failure shows.
const storyLines = 400

// run runs a schedule in a bubble of its own, and says which one it was should that not end well.
func run(t *testing.T, schedule func(uint64, slog.Level) *world, seed uint64, level slog.Level) (w *world) {
	t.Helper()
	over := false
	defer func() {
		if !over {
			fmt.Printf("seed %d did not end: go test ./app/service/clustertest -seed %[1]d\n", seed)
		}
	}()
	synctest.Test(t, func(*testing.T) { w = schedule(seed, level) })
	over = true
	return w
}

func given(name string) bool {
	found := false
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// cover reports how often every fault and event occurred. One that never did is a failure: nothing was learnt about it. A
// handful of schedules cannot have all.
func cover(t *testing.T, total map[string]int, kinds []string) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%-50s %d", k, total[k])
	}
	for _, k := range kinds {
		if total[k] == 0 && *schedules >= 300 && !t.Failed() {
			t.Errorf("%q never occurred", k)
		}
	}
}

func kinds() []string {
	all := []string{
		"start", "start of a witness", "crash", "death witnessed", "freeze", "stop", "exit", "switchover", "switchover refused", "wall clock jump",
		"partition", "one-way cut", "cut off from Telegram", "Telegram's answers cut off", "webhook set", "update ids start again lower",
		"message lost", "message doubled", "message cut off", "message later than a time-out",
		"request held back: the lease had ended", "health: ill", "health: well again",
		"term after start", "term after crash", "term after lease_lost", "term after shutdown", "term after switchover", "term after unhealthy",
		"term drained", "term cut off",
		"twice: its first answer's fate was not known", "twice: in hand at a crash or a lost lease", "twice: handed over in trouble",
		"update answered", "update skipped", "flood of a limited chat", "said that it has left",
	}
	for _, f := range fates()[1:] {
		all = append(all, "request "+f)
	}
	for _, k := range outages() {
		all = append(all, "outage: "+k)
	}
	return all
}

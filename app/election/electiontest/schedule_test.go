package electiontest_test

import (
	"flag"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"habot/app/election/electiontest"
)

var (
	schedules = flag.Uint64("schedules", 250, "how many random schedules to run, from -seed on or from 1")
	seed      = flag.Uint64("seed", 0, "run this one seed and tell its story; with -schedules, begin there")
)

// TestGuaranteesHoldInRandomSchedules runs schedules on all processors. It names the lowest seed that
// breaks a guarantee, so that a failure is the same on every machine.
func TestGuaranteesHoldInRandomSchedules(t *testing.T) {
	if *seed != 0 && !given("schedules") {
		if _, err := electiontest.Schedule(*seed, func(line string) { fmt.Println(line) }); err != nil {
			t.Fatal(err)
		}
		return
	}
	var (
		next    atomic.Uint64
		stop    atomic.Bool
		workers sync.WaitGroup
		mu      sync.Mutex
		total   = map[string]int{}
		broken  = map[uint64]error{}
	)
	first := max(*seed, 1)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			counts := map[string]int{}
			for !stop.Load() {
				n := next.Add(1) - 1
				if n >= *schedules {
					break
				}
				c, err := electiontest.Schedule(first+n, nil)
				if err != nil {
					stop.Store(true)
					mu.Lock()
					broken[first+n] = err
					mu.Unlock()
				}
				for k, n := range c.Counts {
					counts[k] += n
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for k, n := range counts {
				total[k] += n
			}
		})
	}
	workers.Wait()
	if len(broken) > 0 {
		s := slices.Min(slices.Collect(maps.Keys(broken)))
		t.Fatalf("seed %d: %v\nits story: go test ./app/election/electiontest -run Random -seed %d", s, broken[s], s)
	}
	cover(t, total)
}

// rare is counted, not demanded: a primary that gives way to a lower one leaves the role to that one, and
// hardly ever to the next claim.
const rare = "primary changed, lower_primary"

// cover reports how often every fault and every output occurred. One that never did is a failure:
// nothing was learnt about it. A handful of schedules cannot have all.
func cover(t *testing.T, total map[string]int) {
	kinds := electiontest.Kinds()
	for _, k := range kinds {
		t.Logf("%-32s %d", k, total[k])
		if total[k] == 0 && k != rare && *schedules >= 200 {
			t.Errorf("%q never occurred", k)
		}
	}
	for k := range total {
		if !slices.Contains(kinds, k) {
			t.Errorf("%q occurred %d times and is not among the kinds", k, total[k])
		}
	}
}

func given(name string) bool {
	found := false
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

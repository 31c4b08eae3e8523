package electiontest_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"habot/app/election/electiontest"
)

var (
	schedules = flag.Uint64("schedules", 250, "how many random schedules to run, from -seed on or from 1")
	seed      = flag.Uint64("seed", 0, "run this one seed and tell its story; with -schedules, begin there")
	shrink    = flag.Bool("shrink", true, "shrink the schedule that failed")
	keep      = flag.Bool("keep", false, "with -seed: shrink that seed's failure and keep it in testdata/kept")
)

// demanding is how many schedules must reach everything there is to reach.
const demanding = 5000

// TestGuaranteesHoldInRandomSchedules runs schedules on all processors. It names the lowest seed that
// breaks a guarantee, so that a failure is the same on every machine, and its shortest form.
func TestGuaranteesHoldInRandomSchedules(t *testing.T) {
	if *seed != 0 && !given("schedules") {
		one(t, *seed)
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // schedules live briefly and leave little
	var (
		next    atomic.Uint64
		lowest  atomic.Uint64 // seed that failed so far
		workers sync.WaitGroup
		mu      sync.Mutex
		total   = electiontest.NewCoverage()
	)
	first := max(*seed, 1)
	lowest.Store(first + *schedules)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			coverage := electiontest.NewCoverage()
			for {
				s := first + next.Add(1) - 1
				if s >= lowest.Load() {
					break
				}
				p := electiontest.Draw(s)
				if _, err := p.Run(nil, coverage); err != nil {
					for l := lowest.Load(); s < l && !lowest.CompareAndSwap(l, s); l = lowest.Load() {
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			total.Add(coverage)
		})
	}
	workers.Wait()
	if s := lowest.Load(); s < first+*schedules {
		failed(t, s)
		return
	}
	for _, line := range total.Report() {
		t.Log(line)
	}
	if *schedules >= demanding {
		for _, line := range total.Missing() {
			t.Error(line)
		}
	}
}

// failed tells of a seed that breaks a guarantee, shrunk.
func failed(t *testing.T, seed uint64) {
	t.Helper()
	p := electiontest.Draw(seed)
	_, err := p.Run(nil, nil)
	if !*shrink {
		t.Errorf("seed %d: %v", seed, err)
		return
	}
	small, smallErr := electiontest.Shrink(p)
	t.Errorf("seed %d: %v\n\nIts story:\n\tgo test ./app/election/electiontest -run Random -seed %d\n"+
		"To keep it as a test, shrunk as below:\n\tgo test ./app/election/electiontest -run Random -seed %d -keep\n\n"+
		"Shrunk from %d faults to %d, it is %v\n%s",
		seed, err, seed, seed, len(p.Faults), len(small.Faults), smallErr, &small)
}

// one tells the story of one seed, and keeps it if it is to be kept.
func one(t *testing.T, seed uint64) {
	t.Helper()
	p := electiontest.Draw(seed)
	fmt.Print(&p)
	_, err := p.Run(func(line string) { fmt.Println(line) }, nil)
	if err == nil {
		return
	}
	t.Error(err)
	if !*keep {
		return
	}
	small, smallErr := electiontest.Shrink(p)
	var broken *electiontest.BrokenError
	if !errors.As(smallErr, &broken) {
		t.Fatalf("it does not fail again: %v", smallErr)
	}
	name := fmt.Sprintf("%s-%d.txt", strings.ToLower(strings.ReplaceAll(string(broken.Guarantee), " ", "-")), seed)
	text := fmt.Sprintf("# Broke %v\n# when: SAY WHAT WAS WRONG\n%s", broken, &small)
	if err := os.WriteFile(filepath.Join(kept, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Logf("kept as %s", filepath.Join(kept, name))
}

func given(name string) bool {
	found := false
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

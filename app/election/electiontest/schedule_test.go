package electiontest_test

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"

	"habot/app/election/electiontest"
)

var (
	schedules = flag.Uint64("schedules", 3000, "how many random schedules to run")
	seed      = flag.Uint64("seed", 0, "run this one seed and tell its story")
)

func TestGuaranteesHoldInRandomSchedules(t *testing.T) {
	if *seed != 0 {
		_, err := electiontest.Schedule(*seed, func(line string) { fmt.Println(line) })
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	total := map[string]int{}
	for s := range *schedules {
		c, err := electiontest.Schedule(s+1, nil)
		if err != nil {
			t.Fatalf("seed %d: %v\nits story: go test ./app/election/electiontest -run Random -seed %d", s+1, err, s+1)
		}
		for k, n := range c.Counts {
			total[k] += n
		}
	}
	for _, k := range []string{"start", "crash", "freeze", "cut", "partition", "resign", "stop", "health", "wall_jump", "cut_message", "lost", "duplicated", "term"} {
		if total[k] == 0 {
			t.Errorf("%s never happened", k)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%-16s %d", k, total[k])
	}
}

package electiontest_test

import (
	"os"
	"path/filepath"
	"testing"

	"habot/app/election/electiontest"
)

// kept is where schedules are kept that once broke a guarantee.
const kept = "testdata/kept"

// TestKeptSchedulesBreakNothing replays every schedule that was kept; with -v it tells their stories.
func TestKeptSchedulesBreakNothing(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(kept, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files in %s, %v", len(files), kept, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p, err := electiontest.ParsePlan(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Run(func(line string) { t.Log(line) }, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The watchdog in a process that may use a tenth of a processor and wants all of it. Only the real scheduler is late
// in the way that counts.
func TestStarvedWatchdogReportsAStallAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "supervise.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", binary, "./app/supervise")
	build.Dir = root()
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := buildBesides(); err != nil {
		t.Fatalf("build the image: %v\n%s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the image's user is another
		t.Fatal(err)
	}
	for _, processors := range []string{"1", "2"} {
		t.Run("GOMAXPROCS="+processors, func(t *testing.T) {
			t.Log(docker(t, "run", "--rm", "--name", "habote2e-starved", "--network", "none", "--cpus", "0.1", "-e", "GOMAXPROCS="+processors,
				"-v", dir+":/test:ro", "--entrypoint", "/test/supervise.test", *imageName, "-test.run", "^TestStarved$", "-test.v", "-test.timeout", "5m", "-starved"))
		})
	}
}

//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"habot/app/simulator"
)

// oneCommit is version 1.0.0.
const oneCommit = "71384b719fc51b291aa4180664a5df50ea0306a9"

// oneImage makes the image of version 1.0.0, or finds that of an earlier run, and returns its name. It has that version's source and
// this one's Dockerfile, so that modules and build cache are shared.
func oneImage(t *testing.T) string {
	t.Helper()
	image := "habot:e2e-" + oneCommit[:12]
	if exec.CommandContext(t.Context(), "docker", "image", "inspect", image).Run() == nil {
		return image
	}
	git := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = root()
		return cmd
	}
	if out, err := git("cat-file", "-e", oneCommit+"^{commit}").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: this checkout does not have the commit of version 1.0.0, %s. Of a shallow clone \"git fetch --unshallow\" gets it: %v %s", oneCommit, err, out)
	}
	dir := t.TempDir()
	archive := filepath.Join(dir, "source.tar")
	if out, err := git("archive", "--output", archive, oneCommit).CombinedOutput(); err != nil {
		t.Fatalf("git archive: %v %s", err, out)
	}
	source := filepath.Join(dir, "source")
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", `mkdir "$2" && tar -xf "$1" -C "$2"`, "sh", archive, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	docker(t, "build", "--tag", image, "--file", filepath.Join(root(), "Dockerfile"), "--build-arg", "COMMIT="+oneCommit, source)
	return image
}

// image is what a replica's container was made of.
func image(t *testing.T, r replica) string {
	t.Helper()
	return docker(t, "inspect", "-f", "{{.Config.Image}}", r.container)
}

// exchange replaces a replica by one of another image, as an upgrade does, replica by replica.
func (s *stack) exchange(t *testing.T, r replica, by string) {
	t.Helper()
	docker(t, "stop", r.container)
	docker(t, "rm", r.container)
	s.set("BOT_IMAGE", by)
	s.scale(t, size)
}

// complete waits until all replicas are there and none counts more than there are, and returns them.
func (s *stack) complete(t *testing.T) (primary replica, others []replica) {
	t.Helper()
	eventually(t, 100*time.Second, func() (err error) {
		if primary, others, err = s.roles(t, size); err != nil {
			return err
		}
		for _, r := range append(others, primary) {
			if v, err := view(t, r); err != nil || v.Expected != size || v.Reachable != size {
				return fmt.Errorf("%s counts %d replicas and reaches %d: %w", r.name, v.Expected, v.Reachable, err)
			}
		}
		return nil
	})
	return primary, others
}

// TestReplicasOfTwoVersions upgrades a cluster of version 1.0.0 to this one and goes back, replica by replica, under load. On the way the
// role moves between the versions, in both directions, by a crash, a switchover and a stop. Nothing is lost, and one replica polls.
func TestReplicasOfTwoVersions(t *testing.T) {
	one := oneImage(t)
	s := plannedStack(t, "habote2e-mixed", "SIMULATOR_CHATS=50", "BOT_IMAGE="+one)
	s.files = append(s.files, "app/e2e/testdata/mixed.yml")
	now := *imageName
	s.up(t)
	began := time.Now()
	primary, others := s.complete(t)

	// moves does something that moves the role to a replica of an image, and returns it.
	moves := func(what, to string, twice int64, do func(primary replica, others []replica)) {
		t.Helper()
		old, from := primary, image(t, primary)
		if from == to {
			t.Fatalf("%s: the primary, %s, is of %s already", what, old.name, from)
		}
		before := s.answered(t, 30*time.Second, load)
		time.Sleep(time.Second) // under load again
		start := time.Now()
		do(old, others)
		first := s.takeover(t, old.name, before.Polls, start)
		successor := first.Poller
		primary, others = s.complete(t)
		after := s.answered(t, 30*time.Second, load)
		if primary.name != successor || image(t, primary) != to {
			t.Fatalf("%s: %s took over, and %s of %s is primary", what, successor, primary.name, image(t, primary))
		}
		if n := after.AnsweredTwice - before.AnsweredTwice; n > twice {
			t.Errorf("%s: %d updates were answered twice, at most %d may be", what, n, twice)
		}
		if n := after.OutOfOrder - before.OutOfOrder; n > 0 {
			t.Errorf("%s: %d updates were answered out of order", what, n)
		}
		if n := after.Conflicts - before.Conflicts; n > 0 {
			t.Errorf("%s: %d conflicts", what, n)
		}
		s.nothingFrom(t, old.name, first)
		i := slices.IndexFunc(after.Handovers, func(h simulator.Handover) bool { return h.From == old.name && h.To == successor && h.At.After(start) })
		if i < 0 {
			t.Errorf("%s: the simulator knows of no change from %s to %s", what, old.name, successor)
			return
		}
		t.Logf("%s, from %s to %s: Telegram unpolled for %.0f ms, after %v in all", what, from, to, 1000*after.Handovers[i].GapSeconds, time.Since(began).Round(time.Second))
	}
	exchangeOthers := func(by string) {
		t.Helper()
		stays := primary
		for range size - 1 {
			_, standbys := s.complete(t)
			i := slices.IndexFunc(standbys, func(r replica) bool { return image(t, r) != by })
			s.exchange(t, standbys[i], by)
		}
		if primary, others = s.complete(t); primary != stays {
			t.Fatalf("the role moved from %s to %s, though standbys were replaced", stays.name, primary.name)
		}
	}
	crash := func(old replica, _ []replica) {
		docker(t, "kill", old.container)
		time.Sleep(3 * time.Second) // the takeover, before it is back
		docker(t, "start", old.container)
	}
	moveTo := func(to string) func(replica, []replica) {
		return func(old replica, others []replica) {
			i := slices.IndexFunc(others, func(r replica) bool { return image(t, r) == to })
			docker(t, "exec", old.container, "/habot", "switchover", others[i].name)
		}
	}

	exchangeOthers(now)
	moves("the primary is killed", now, 3, crash)
	moves("a switchover", one, 0, moveTo(one))
	moves("the last one is replaced", now, 0, func(old replica, _ []replica) { s.exchange(t, old, now) })
	exchangeOthers(one)
	moves("the primary is killed", one, 3, crash)
	moves("a switchover", now, 0, moveTo(now))
	moves("the last one is replaced", one, 0, func(old replica, _ []replica) { s.exchange(t, old, one) })
	t.Logf("all of it took %v", time.Since(began).Round(time.Second))
}

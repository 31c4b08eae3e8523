//go:build e2e

package backends

import (
	"flag"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"habot/app/simulator"
)

var takeovers = flag.Int("takeovers", 0, "how often the active copy, or the primary, is ended in each way, to measure how long that takes; 0: not at all")

// takeover causes a fault at a moment at which no update is in hand, so that the active copy has a poll open, and has users write fifty texts
// a second from then on. It returns the longest of: from the fault to the first answer, and from any text to its own. The copy given MUST
// be the one that answers afterwards.
func (s *site) takeover(what string, answers *copyOf, fault func()) time.Duration {
	s.t.Helper()
	s.settle("before "+what, 30*time.Second)
	time.Sleep(200 * time.Millisecond) // an answer that Telegram has may be on its way back
	from := s.sim.Report().Sent + 1
	start := time.Now()
	fault()
	s.users(50)
	s.answeredBy(answers, 30*time.Second)
	time.Sleep(2 * time.Second)
	s.quiet()
	s.settle(what, 30*time.Second)
	first, longest := time.Hour, time.Duration(0)
	for _, u := range list[simulator.Record](s, fmt.Sprint("/report/updates?from=", from)) {
		if len(u.Answered) > 0 { // but what settle lets pass
			first = min(first, u.Answered[0].At.Sub(start))
			longest = max(longest, u.Answered[0].At.Sub(u.Sent))
		}
	}
	return max(first, longest)
}

// How long people wait when the active copy of a bot ends, or the primary: two copies of each framework's bot behind three replicas, with
// LEASE and GATEWAY_PATIENCE at their defaults. A machine that is gone with both is TestGateway's, and TestPollingCopies's.
func TestGatewayTakeovers(t *testing.T) {
	if *takeovers == 0 {
		t.Skip("-takeovers N measures")
	}
	oneByOne(t, func(t *testing.T, f framework) {
		s := newSite(t, 3, "LEASE=550ms", "GATEWAY_PATIENCE=90s")
		job := fmt.Sprint("JOB_CHAT=", simulator.FirstChat+chats-1)
		active, other := s.copyOf(f, "a", 0, job), s.copyOf(f, "b", 1, job)
		active.start(t)
		s.sim.Write(simulator.FirstChat, "before the other copy")
		s.settle("what waited before the bot", time.Minute)
		s.starts(other)
		replaced := func() {
			s.starts(active)
			active, other = other, active
		}
		last := s.replicas[2] // which no copy is connected to
		for _, way := range []struct {
			what string
			// fault returns the copy that is to answer.
			fault func() (answers *copyOf, end func())
			// prepare is done first; mend makes all as it was.
			prepare, mend func()
			once          bool // no update may be answered twice
		}{
			{"kill -9 of the copy", func() (*copyOf, func()) { return other, active.kill }, func() {}, replaced, false},
			{"SIGTERM of the copy", func() (*copyOf, func()) { return other, func() { _ = active.cmd.Process.Signal(syscall.SIGTERM) } }, func() {},
				func() { active.ends(t); replaced() }, true},
			{"kill -9 of the primary", func() (*copyOf, func()) { return active, last.kill }, func() { s.switchover(last) },
				func() { last.start(t); s.primary() }, true},
		} {
			var waits []time.Duration
			before := s.sim.Report()
			for range *takeovers {
				way.prepare()
				answers, end := way.fault()
				waits = append(waits, s.takeover(way.what, answers, end))
				way.mend()
			}
			after := s.sim.Report()
			twice := after.AnsweredTwice - before.AnsweredTwice
			t.Logf("FIGURE %s, %s: the longest wait for an answer has a median of %.0f ms, at most %.0f ms; n=%d; %d of %d answered twice, %d lost",
				f.name, way.what, ms(median(waits)), ms(slices.Max(waits)), *takeovers, twice, after.Answered-before.Answered, after.Lost)
			if way.once && twice != 0 {
				t.Errorf("%s: %d answered twice", way.what, twice)
			}
		}
	})
}

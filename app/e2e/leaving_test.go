//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"habot/app/simulator"
)

// unpolled is the longest time without a poll under way, of those that began since a poll, until now.
func (s *stack) unpolled(t *testing.T, from int64) time.Duration {
	t.Helper()
	polls := askAt[[]simulator.PollRecord](t, s, fmt.Sprintf("/report/polls?from=%d", from))
	slices.SortFunc(polls, func(a, b simulator.PollRecord) int { return a.Start.Compare(b.Start) })
	var worst time.Duration
	var covered time.Time
	for _, p := range polls {
		if gap := p.Start.Sub(covered); !covered.IsZero() {
			worst = max(worst, gap)
		}
		if p.End.IsZero() { // it waits still
			return worst
		}
		if p.End.After(covered) {
			covered = p.End
		}
	}
	return max(worst, time.Since(covered))
}

// scale sets how many replicas run.
func (s *stack) scale(t *testing.T, n int) {
	t.Helper()
	s.carryOut(t, "up", "--detach", "--no-recreate", "--scale", "bot="+strconv.Itoa(n), "bot")
}

// TestScalingIn takes replicas away that are more than REPLICAS: those that stay need no larger quorum any more, and
// Telegram is polled throughout.
func TestScalingIn(t *testing.T) {
	for _, c := range []struct{ from, most, to int }{{3, 6, 3}, {3, 5, 3}, {7, 7, 3}} {
		t.Run(fmt.Sprintf("%d-%d-%d", c.from, c.most, c.to), func(t *testing.T) {
			s := newStack(t, "habote2e-scale")
			s.scale(t, c.from)
			var gaps, stops figures
			for n := range *repetitions {
				s.scale(t, c.most)
				primary, _ := s.settled(t, c.most)
				if last := s.replicas(t)[c.most-1]; n%2 == 0 && last != primary { // Compose stops the last ones
					docker(t, "exec", primary.container, "/habot", "switchover", last.name)
					primary, _ = s.settled(t, c.most)
				}
				s.setRate(t, 0) // polls that wait: what is measured is then a real gap
				eventually(t, 30*time.Second, func() error {
					for _, r := range s.replicas(t) {
						if v, err := view(t, r); err != nil || v.Expected != c.most {
							return fmt.Errorf("%s counts %d replicas: %w", r.name, v.Expected, err)
						}
					}
					if n := s.report(t).Unanswered; n > 0 {
						return fmt.Errorf("%d are not answered", n)
					}
					return nil
				})
				before := s.report(t)
				began := time.Now()
				s.scale(t, c.to)
				stops = append(stops, time.Since(began))
				time.Sleep(5 * time.Second)
				gaps = append(gaps, s.unpolled(t, before.Polls))
				if next, _ := s.settled(t, c.to); next != primary {
					t.Logf("the primary, %s, was stopped with the others, and %s took over", primary.name, next.name)
				}
				for _, r := range s.replicas(t) {
					if v, err := view(t, r); err != nil || v.Expected != c.to {
						t.Errorf("%s counts %d replicas, %v", r.name, v.Expected, err)
					}
				}
				s.setRate(t, load)
				time.Sleep(2 * time.Second)
				if after := s.answered(t, 30*time.Second, load); after.AnsweredTwice != before.AnsweredTwice {
					t.Errorf("%d updates were answered twice", after.AnsweredTwice-before.AnsweredTwice)
				}
			}
			gaps.tell(t, t.Name()+", Telegram unpolled", 50*time.Millisecond, 50*time.Millisecond)
			stops.tell(t, t.Name()+", the command", 5*time.Second, 5*time.Second)
		})
	}
}

// slowly has Telegram take messages at once and answer late.
func (s *stack) slowly(t *testing.T, late time.Duration) {
	t.Helper()
	s.control(t, simulator.Control{ClearFaults: true, Faults: []simulator.Fault{{
		Kind: simulator.FaultTakenLate, Methods: []string{"sendMessage"}, Seconds: 600, LatencySeconds: late.Seconds(),
	}}})
}

// TestAllStoppedAtOnce stops all replicas at once while answers are under way, and starts them again: nothing is answered
// twice.
func TestAllStoppedAtOnce(t *testing.T) {
	t.Run("one message", func(t *testing.T) {
		s := newStack(t, "habote2e-stop", "SIMULATOR_CHATS=50")
		for range *repetitions {
			s.settled(t, size)
			s.answered(t, 30*time.Second, 0)
			s.slowly(t, time.Second)
			before := s.report(t)
			s.control(t, simulator.Control{Messages: []simulator.Message{{Chat: simulator.FirstChat, Text: "once"}}})
			eventually(t, 5*time.Second, func() error { // taken, and not answered yet
				if r := s.report(t); r.Answered == before.Answered {
					return fmt.Errorf("%d answered", r.Answered-before.Answered)
				}
				return nil
			})
			time.Sleep(300 * time.Millisecond)
			var ids []string
			for _, r := range s.replicas(t) {
				ids = append(ids, r.container)
			}
			began := time.Now()
			docker(t, append([]string{"kill", "--signal", "TERM"}, ids...)...)
			eventually(t, 12*time.Second, func() error {
				if n := len(s.replicas(t)); n > 0 {
					return fmt.Errorf("%d still run", n)
				}
				return nil
			})
			t.Logf("all had stopped after %v", time.Since(began))
			docker(t, append([]string{"start"}, ids...)...)
			s.settled(t, size)
			time.Sleep(2 * time.Second)
			if after := s.answered(t, 30*time.Second, 0); after.AnsweredTwice != before.AnsweredTwice {
				t.Errorf("%d updates were answered twice", after.AnsweredTwice-before.AnsweredTwice)
			}
		}
	})
	for _, c := range []struct {
		name string
		do   func(t *testing.T, s *stack)
	}{
		{"docker compose restart", func(t *testing.T, s *stack) { s.carryOut(t, "restart", "bot") }},
		{"a changed variable", func(t *testing.T, s *stack) {
			level := "LOG_LEVEL=debug"
			if slices.Contains(s.env, level) {
				s.env = slices.DeleteFunc(s.env, func(v string) bool { return v == level })
			} else {
				s.env = append(s.env, level)
			}
			s.carryOut(t, "up", "--detach", "--no-deps", "bot")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStack(t, "habote2e-stop", "SIMULATOR_CHATS=50")
			var took, gaps figures
			for range *repetitions {
				s.settled(t, size)
				s.slowly(t, 500*time.Millisecond)
				s.setRate(t, 20)
				time.Sleep(5 * time.Second)
				before := s.report(t)
				began := time.Now()
				c.do(t, s)
				took = append(took, time.Since(began))
				s.settled(t, size)
				time.Sleep(2 * time.Second)
				after := s.answered(t, 60*time.Second, 20)
				if n := after.AnsweredTwice - before.AnsweredTwice; n != 0 {
					t.Errorf("%d updates were answered twice", n)
				}
				gaps = append(gaps, s.unpolled(t, before.Polls))
			}
			took.tell(t, c.name, 15*time.Second, 15*time.Second)
			gaps.tell(t, c.name+", Telegram unpolled", 15*time.Second, 15*time.Second)
		})
	}
}

// set gives the stack another value of a variable from its next command on.
func (s *stack) set(name, value string) {
	s.env = append(slices.DeleteFunc(s.env, func(v string) bool { return strings.HasPrefix(v, name+"=") }), name+"="+value)
}

// roll replaces all replicas by n with the settings of now: first the new ones start beside the old, then the old ones leave.
func (s *stack) roll(t *testing.T, n int) {
	t.Helper()
	s.carryOut(t, "up", "--detach", "--no-deps", "--no-recreate", "--scale", "bot="+strconv.Itoa(len(s.replicas(t))+n), "bot")
	s.carryOut(t, "up", "--detach", "--no-deps", "bot")
}

// longestChange is the longest time without a poll at a change of poller since a moment. Under load one poller has such times too, while
// it handles what a poll brought: a command costs what is at the changes.
func longestChange(r simulator.Report, since time.Time) (longest time.Duration) {
	for _, h := range r.Handovers {
		if h.At.After(since) {
			longest = max(longest, time.Duration(h.GapSeconds*float64(time.Second)))
		}
	}
	return longest
}

// explain logs the changes of poller since a moment, and what replicas logged about the longest of them.
func (s *stack) explain(t *testing.T, r simulator.Report, since time.Time) {
	t.Helper()
	var worst simulator.Handover
	for _, h := range r.Handovers {
		if h.At.After(since) {
			t.Logf("%s: from %s to %s, %.0f ms", h.At.Format(time.RFC3339Nano), h.From, h.To, 1000*h.GapSeconds)
			if h.GapSeconds >= worst.GapSeconds {
				worst = h
			}
		}
	}
	from := worst.At.Add(-time.Duration(worst.GapSeconds*float64(time.Second)) - 2*time.Second)
	out, err := s.compose(t.Context(), "logs", "--timestamps", "--no-color", "--since", from.Format(time.RFC3339Nano),
		"--until", worst.At.Add(time.Second).Format(time.RFC3339Nano), "bot")
	t.Logf("about the longest, %v\n%s", err, out)
}

// TestLeavingInTurn has all replicas stop and start under load, as operators do: where the new ones start before the last of the
// old ones has gone, Telegram is polled throughout. Nothing is lost, and nothing answered twice, in any case.
func TestLeavingInTurn(t *testing.T) {
	const seamless, whatever = 50 * time.Millisecond, time.Minute
	level := func(s *stack, n int) { s.set("LOG_LEVEL", []string{"debug", "info"}[n%2]) }
	for _, c := range []struct {
		name     string
		most     time.Duration // unpolled
		replaces bool          // all containers
		do       func(t *testing.T, s *stack, repetition int)
	}{
		{"docker compose restart", seamless, false, func(t *testing.T, s *stack, _ int) { s.carryOut(t, "restart", "--no-deps", "bot") }},
		{"another setting, the new beside the old", seamless, true, func(t *testing.T, s *stack, n int) {
			level(s, n)
			s.roll(t, size)
		}},
		{"REPLICAS 3 to 5 and back", seamless, true, func(t *testing.T, s *stack, _ int) {
			for _, n := range []int{5, size} {
				s.set("REPLICAS", strconv.Itoa(n))
				s.roll(t, n)
				s.settled(t, n)
				s.answered(t, 30*time.Second, load)
			}
		}},
		{"another LEASE, the new beside the old", whatever, true, func(t *testing.T, s *stack, n int) {
			s.set("LEASE", fmt.Sprintf("%dms", 600+10*n)) // so it may only be raised
			s.roll(t, size)
		}},
		{"another setting, docker compose up alone", whatever, true, func(t *testing.T, s *stack, n int) {
			level(s, n)
			s.carryOut(t, "up", "--detach", "--no-deps", "bot")
		}},
		{"docker compose up --force-recreate", whatever, true, func(t *testing.T, s *stack, _ int) {
			s.carryOut(t, "up", "--detach", "--no-deps", "--force-recreate", "bot")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStack(t, "habote2e-turn", "SIMULATOR_CHATS=50")
			var took, gaps, calm, atChanges figures
			for n := range *repetitions {
				s.settled(t, size)
				old := s.replicas(t)
				s.setRate(t, load)
				before := s.answered(t, 30*time.Second, load)
				time.Sleep(5 * time.Second) // as long as the command takes, for comparison
				calm = append(calm, s.unpolled(t, before.Polls))
				before = s.answered(t, 30*time.Second, load)
				began := time.Now()
				c.do(t, s, n)
				took = append(took, time.Since(began))
				s.settled(t, size)
				for _, r := range s.replicas(t) {
					if c.replaces && slices.ContainsFunc(old, func(o replica) bool { return o.container == r.container }) {
						t.Fatalf("%s was not replaced", r.name)
					}
				}
				time.Sleep(2 * time.Second)
				after := s.answered(t, 60*time.Second, load)
				if n := after.AnsweredTwice - before.AnsweredTwice; n != 0 {
					t.Errorf("%d updates were answered twice", n)
				}
				gaps = append(gaps, s.unpolled(t, before.Polls))
				atChanges = append(atChanges, longestChange(after, began))
				if atChanges[len(atChanges)-1] > c.most {
					s.explain(t, after, began)
				}
			}
			took.tell(t, c.name+", the command", whatever, whatever)
			calm.tell(t, c.name+", Telegram unpolled in 5 s before it", whatever, whatever)
			atChanges.tell(t, c.name+", Telegram unpolled at changes of primary", c.most, c.most)
			gaps.tell(t, c.name+", Telegram unpolled", c.most, c.most)
		})
	}
}

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"habot/app/gateway"
	"habot/app/simulator"
)

var errNotReady = errors.New("not one copy is active and one waits")

// activeCopy is the container of the active copy, once the other one waits.
func (s *stack) activeCopy(t *testing.T) (active, other string) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		primary, _, err := s.roles(t, size)
		if err != nil {
			return err
		}
		client := inside(primary.pid)
		defer client.CloseIdleConnections()
		v, err := getBy[struct{ Copies *gateway.Snapshot }](t.Context(), client, "http://127.0.0.1:8080/cluster")
		if err != nil || v.Copies == nil {
			return errors.Join(err, errNotReady)
		}
		containers := s.copies(t)
		if len(containers) != 2 {
			return errFew
		}
		active, other = "", ""
		for _, container := range containers {
			address := docker(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container)
			i := slices.IndexFunc(v.Copies.Copies, func(c gateway.Copy) bool { return c.Address == address && c.Polling })
			switch {
			case i < 0:
				return fmt.Errorf("%w: %s does not poll: %+v", errNotReady, address, v.Copies)
			case v.Copies.Copies[i].Name == v.Copies.Active:
				active = container
			default:
				other = container
			}
		}
		if active == "" || other == "" {
			return fmt.Errorf("%w: %+v", errNotReady, v.Copies)
		}
		return nil
	})
	return active, other
}

// failed are the updates that telego reports that its handler failed for, by their ids.
var failed = regexp.MustCompile(`Error processing update (\d+)`)

// handled waits, without load, until every update has been answered, or has been given up by the copy that was given it, which says so
// in its log: on a busy machine telego's client gives up a call whose connection takes three seconds. No other may be
// without an answer. The load is whatever perSecond says afterwards.
func (s *stack) handled(t *testing.T, within time.Duration, perSecond float64) simulator.Report {
	t.Helper()
	s.setRate(t, 0)
	defer s.setRate(t, perSecond)
	var r simulator.Report
	var givenUp int64
	eventually(t, within, func() error {
		open := askAt[[]simulator.Record](t, s, "/report/updates?only=unanswered")
		out, err := s.compose(t.Context(), "logs", "--no-color", "mybot")
		if err != nil {
			return fmt.Errorf("the copies' logs: %w", err)
		}
		ids := map[string]bool{}
		for _, match := range failed.FindAllStringSubmatch(out, -1) {
			ids[match[1]] = true
		}
		for _, u := range open {
			if !ids[strconv.Itoa(u.ID)] {
				return fmt.Errorf("%w: %d, one of %d, %d are known to have failed", errUnanswered, u.ID, len(open), len(ids))
			}
		}
		r, givenUp = s.report(t), int64(len(open))
		return nil
	})
	if givenUp > 0 {
		t.Logf("%d updates were given up by a copy of the bot, as its log has it", givenUp)
	}
	if r.Lost > givenUp || r.Dropped != 0 {
		t.Errorf("lost %d, of which %d were given up by the bot; dropped %d", r.Lost, givenUp, r.Dropped)
	}
	return r
}

var errUnanswered = errors.New("an update is not answered")

// bothGone has the active copy and the primary killed at once.
var bothGone = flag.Bool("both-gone", false, "TestPollingCopies: kill the active copy and the primary at once, too; it may take GATEWAY_PATIENCE")

// TestPollingCopies puts two copies of a polling bot behind habot, as the README has it, and takes away the active copy,
// at fifty updates a second over two hundred chats: so many that no two updates of one are in hand at a time, for an answer to the
// one would be taken for a sign of the other (TURNS.md). Nothing is lost but what the bot itself gives up. The copy that takes over has handled no update yet, or was
// active before: telego compiles the encoder of an update in each of the handlers that need it first, which takes seconds of the
// processor when a standby is given all at once (FRAMEWORKS.md). What becomes of a copy whose replica ends TestGateway tests with
// thirteen other frameworks. It leaves telego out, whose client loses what it sends on a connection that has ended. What this test
// measures is how long the update waits that waits longest:
//
//	go test -tags e2e,nomsgpack,stdjson -count=1 -v ./app/e2e -run 'TestPollingCopies$' -repetitions 20
func TestPollingCopies(t *testing.T) {
	buildBot(t, pollingBot, "polltelego", "API_ROOT=http://bot:8082")
	s := withTwoCopies(t, "habote2e-copies", overrideOfReadme(t, pollingBot), 200)
	t.Cleanup(func() {
		if t.Failed() {
			out, err := s.compose(context.Background(), "logs", "--no-color", "--tail", "50", "mybot")
			t.Logf("what the copies logged: %v\n%s", err, out)
		}
	})
	for _, f := range []struct {
		what string
		// warm: the copy that takes over was active before. both: the primary is killed in the same command.
		warm, both bool
		// Bounds with -strict.
		median, most time.Duration
	}{
		{"the active copy, whose successor has handled no update", false, false, 5 * time.Second, 10 * time.Second},
		{"the active copy, whose successor was active before", true, false, 1300 * time.Millisecond, 2 * time.Second},
		{"the active copy and the primary", true, true, 2 * time.Second, 95 * time.Second},
	} {
		t.Run(f.what, func(t *testing.T) {
			if f.both && !*bothGone {
				t.Skip("without -both-gone")
			}
			var waits figures
			for range *repetitions {
				active, other := s.activeCopy(t)
				if f.warm {
					s.handled(t, time.Minute, 0) // an answer that is refused is none
					s.carryOut(t, "exec", "bot", "/habot", "next")
					s.setRate(t, load)
					time.Sleep(3 * time.Second) // for the reason above
					if active, _ = s.activeCopy(t); active != other {
						t.Fatalf("habot next has not made the other copy active")
					}
				}
				kills := []string{"kill", active}
				if f.both {
					primary, _ := s.settled(t, size)
					kills = append(kills, primary.container)
				}
				before := s.report(t)
				fault := time.Now()
				docker(t, kills...)
				time.Sleep(5 * time.Second)
				s.carryOut(t, "up", "--detach", "--no-recreate", "bot", "mybot") // Docker leaves what docker kill has ended
				s.settled(t, size)
				after := s.handled(t, 2*time.Minute, load)
				waits = append(waits, s.longestWait(t, max(0, before.Sent-2*load), fault))
				if n := after.AnsweredTwice - before.AnsweredTwice; n > 100 { // what a copy has in hand, at most
					t.Errorf("%d updates were answered twice", n)
				}
				if n := after.Answered - before.Answered; n < 100 {
					t.Errorf("only %d updates were answered meanwhile", n)
				}
				t.Logf("%d updates answered, %d twice, %d out of order", after.Answered-before.Answered, after.AnsweredTwice-before.AnsweredTwice, after.OutOfOrder-before.OutOfOrder)
			}
			waits.tell(t, "kill -9 of "+f.what+" to the answer that came last, copies", f.median, f.most)
		})
	}
	if out, err := s.compose(t.Context(), "exec", "bot", "/habot", "status"); err != nil || strings.Count(out, "\ncopy ") != 2 || strings.Count(out, ": active since ") != 1 {
		t.Errorf("status: %v\n%s", err, out)
	}
}

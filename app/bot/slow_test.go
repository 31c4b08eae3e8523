package bot

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
)

// slowly has every answer come late, from now on, and a number of polls fail at once before that.
func (tg *fakeTelegram) slowly(late time.Duration, failing int64) {
	start := time.Now()
	var failed atomic.Int64
	tg.answerWith(func(c call) (*http.Response, error) {
		if c.at.Before(start) {
			return nil, nil
		}
		if c.method == "getUpdates" && failed.Add(1) <= failing {
			return nil, errDropped
		}
		if !sleep(c.ctx, late) {
			return nil, c.ctx.Err()
		}
		return nil, nil
	})
}

// A Telegram whose answers take long works: it is polled, whether it is slow from the start, turns slow, or a poll fails
// meanwhile. Bounds follow what answers are seen to take.
func TestASlowTelegramIsPolled(t *testing.T) {
	t.Parallel()
	for _, late := range []time.Duration{1400 * time.Millisecond, 2 * time.Second, 3200 * time.Millisecond, 5 * time.Second, 8 * time.Second} {
		for _, when := range []string{"from the start", "later", "later, and a poll fails", "later, with updates in hand"} {
			t.Run(fmt.Sprintf("%v %s", late, when), func(t *testing.T) {
				t.Parallel()
				for seed := range uint64(5) {
					synctest.Test(t, func(t *testing.T) {
						random := rand.New(rand.NewPCG(seed, 7))
						f := newFixture(t)
						if when == "from the start" {
							f.tg.slowly(late, 0)
						}
						f.start(election.Change{})
						after(20*time.Second + time.Duration(random.Int64N(int64(6*time.Second))))
						if when == "later, with updates in hand" {
							f.tg.send(9, "in hand")
						}
						switch when {
						case "from the start":
						case "later, and a poll fails":
							f.tg.slowly(late, 1)
						default:
							f.tg.slowly(late, 0)
						}
						after(40 * time.Second)
						for i := range 5 {
							start := time.Now()
							f.tg.send(int64(20+i), "hello")
							after(30 * time.Second)
							// The poll that waits ends, or another begins, and brings it; then it is answered.
							if d := f.answeredAfter(start, int64(20+i)); d > 3*late+longTimeout*time.Second {
								t.Errorf("seed %d: answered after %v", seed, d)
							}
						}
						if h := f.healthChanges(); late <= 3200*time.Millisecond && len(h) > 0 {
							t.Errorf("seed %d: health changed: %v", seed, h)
						}
						if h := f.healthChanges(); len(h)%2 != 0 {
							t.Errorf("seed %d: a replica that polls counts as ill: %v", seed, h)
						}
						if n := len(f.tg.queue); n > 1 {
							t.Errorf("seed %d: %d updates are not confirmed", seed, n)
						}
						f.expectOutcome(outcomeFailed, 0)
					})
				}
			})
		}
	}
}

// Slow answers to probes count when they come: a standby is well, and still finds out in time that there are none.
func TestASlowTelegramLeavesAStandbyWell(t *testing.T) {
	t.Parallel()
	for _, late := range []time.Duration{1900 * time.Millisecond, 2100 * time.Millisecond, 3 * time.Second, 4500 * time.Millisecond} {
		t.Run(late.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				ended := make(chan error, 1)
				f.tg.slowly(late, 0)
				go func() { ended <- f.bot.RunProbe(ctx) }()
				after(5 * time.Minute)
				if h := f.healthChanges(); len(h) > 0 {
					t.Errorf("health changed: %v", h)
				}
				if n := len(f.tg.all("getMe")); n > 5*60 {
					t.Errorf("%d probes in five minutes", n)
				}
				start := time.Now()
				f.tg.answerWith(hang)
				after(time.Minute)
				h := f.healthChanges()
				if len(h) != 1 || h[0].OK {
					t.Fatalf("health: %v", h)
				}
				// The answer to the last probe that Telegram took may come that much later.
				if d, worst := h[0].at.Sub(start), probeEvery+probeAgain+2*probeTimeout+late; d > worst {
					t.Errorf("a standby noticed after %v, want within %v", d, worst)
				}
				stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// What a standby has seen of Telegram it knows when it becomes primary.
func TestAPrimaryKnowsFromItsProbesHowSlowTelegramIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.slowly(4*time.Second, 0)
		f.probing()
		after(time.Minute)
		f.start(election.Change{})
		after(time.Minute)
		f.expectLogged("a poll failed", 0)
	})
}

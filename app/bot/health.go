package bot

import (
	"fmt"
	"time"

	"habot/app/election"
)

// Times of health.
const (
	// failingFor is how long a primary's polls fail before it counts as unhealthy: longer than a
	// standby needs to find out that Telegram itself is down, so that nothing moves then.
	failingFor = 15 * time.Second
	// coolDown is how long a replica that was unhealthy as primary stays so, whatever getMe says:
	// getMe works where polling does not, and the role must not go round in circles.
	coolDown = time.Minute
	// probeFailures in a row make a standby unhealthy.
	probeFailures = 2
)

// tracker judges the way to Telegram from what was seen of it. It is pure.
type tracker struct {
	failingSince time.Time // of polls; zero while they succeed
	detail       string
	coolUntil    time.Time
	probesFailed int
}

func (t *tracker) pollSucceeded() { *t = tracker{} }

func (t *tracker) pollFailed(now time.Time, why string) {
	if t.failingSince.IsZero() {
		t.failingSince = now
	}
	t.detail = why
	if now.Sub(t.failingSince) >= failingFor {
		t.coolUntil = now.Add(coolDown)
	}
}

// pollRefused says that Telegram was reached and does not want to be polled now: polls that failed before
// and those that fail later are not one failure.
func (t *tracker) pollRefused() { t.failingSince = time.Time{} }

// roleEnded forgets polls that fail no longer because there are none.
func (t *tracker) roleEnded() { t.failingSince = time.Time{} }

func (t *tracker) probed(ok bool, why string) {
	if ok {
		t.probesFailed = 0
		return
	}
	t.probesFailed++
	t.detail = why
}

func (t *tracker) health(now time.Time) election.Health {
	switch {
	case now.Before(t.coolUntil):
		return election.Health{Detail: "polling Telegram fails: " + t.detail}
	case t.probesFailed >= probeFailures:
		return election.Health{Detail: fmt.Sprintf("Telegram was not reached %d times: %s", t.probesFailed, t.detail)}
	default:
		return election.Health{OK: true}
	}
}

package bot

import (
	"context"
	"net/http"
	"time"

	"habot/app/builtin"
	"habot/app/message"
	"habot/app/reach"
	"habot/app/telegram"
	"habot/app/update"
)

// What the rooms promise, as far as tests of all of them together look at it. The times are repeated here on purpose: to
// change one in a room shows here.
const (
	outcomeAnswered = string(update.Answered)
	outcomeIgnored  = string(update.Ignored)
	outcomeFailed   = string(update.Failed)
	outcomePanic    = string(update.Panicked)
	outcomeSkipped  = string(update.Skipped)
	outcomeSent     = "sent"
	outcomeRefused  = "refused"

	maxParallel = builtin.Slots
	maxBatch    = update.MaxBatch
	sendBound   = message.Bound
	sendBackOff = 2 * time.Second
	giveUpAfter = 10 * time.Minute
	probeBound  = reach.ProbeBound

	pollLoop     = "poller"
	slack        = time.Second
	drainBound   = 5 * time.Second
	confirmBound = time.Second
	pollStuck    = time.Second
	longTimeout  = 5
	longBound    = 8 * time.Second
	waitBound    = 4 * time.Second

	maxKept      = 200
	maxKeptBytes = 48 << 10

	failingFor   = 12 * time.Second
	coolDown     = time.Minute
	probeEvery   = 5 * time.Second
	probeAgain   = time.Second
	probeTimeout = 2 * time.Second
	wellFor      = 7 * time.Second
	detailEvery  = 5 * time.Second
)

// ErrLeaseLost is the way's.
var ErrLeaseLost = telegram.ErrLeaseLost

// base is a way to Telegram made of a function.
type base func(req *http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f base) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// sleep waits; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

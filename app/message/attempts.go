package message

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"habot/app/telegram"
)

const (
	// Bound bounds one request that sends, unless answers are seen to take longer.
	Bound = 10 * time.Second
	// longestSend bounds it then.
	longestSend = time.Minute
	// giveUpAfter bounds the attempts to answer one update while Telegram works: what cannot be sent then is wrong in itself.
	giveUpAfter = 10 * time.Minute
	// resendAfter is before the first attempt after one whose fate is unknown; each further wait is resendFactor times as
	// long, less a random part. So ten minutes have seven attempts at most, the last when they end.
	resendAfter  = time.Second
	resendFactor = 5
)

// Try makes attempts at one call that sends, once each, until Telegram has taken or refused it: at will if a call surely did not
// leave, a few times with growing waits if Telegram may have taken it. It ends when the pace says so, or when Telegram has worked for
// ten minutes meanwhile. bound bounds one attempt unless those before took longer, and once MUST keep to what it is given. The verdict
// explains the error.
func Try(ctx context.Context, p Pace, bound func() time.Duration, once func(bound time.Duration) error) (telegram.Verdict, error) {
	var tried attempts
	for {
		bound := max(bound(), tried.bound)
		p.Begin(bound)
		start := time.Now()
		err := once(bound)
		v := telegram.Judge(ctx, err)
		if v == telegram.Fine || v == telegram.Permanent || v == telegram.Over {
			return v, err
		}
		d, again := tried.failed(v, err, time.Since(start), p.Longest, rand.Float64()) //nolint:gosec // jitter
		if !again {
			return v, fmt.Errorf("give up after %v: %w", giveUpAfter, err)
		}
		if !p.Pause(ctx, d, v == telegram.Limited) {
			return telegram.Over, err
		}
	}
}

// attempts keeps account of the attempts at one call. Its zero value is none. It is pure.
type attempts struct {
	n       int           // in a row, without one whose fate is unknown
	unknown int           // whose fate is unknown: Telegram may have taken the message
	spent   time.Duration // of giveUpAfter
	bound   time.Duration // of the next; 0 for what answers take otherwise
}

// failed takes in an attempt that took so long, and returns how long to wait before the next; false to give up. random is in
// [0, 1).
func (a *attempts) failed(v telegram.Verdict, err error, took, longest time.Duration, random float64) (time.Duration, bool) {
	a.spent += took
	var d time.Duration
	switch {
	case v == telegram.Limited:
		d = telegram.RetryAfter(err)
	case v == telegram.Transient && !errors.Is(err, telegram.ErrNotSent):
		d = resendWait(a.unknown, random)
		a.unknown++
		if left := giveUpAfter - a.spent; d > left && left > 0 {
			d = left
		}
		if errors.Is(err, context.DeadlineExceeded) {
			a.bound = min(2*max(took, Bound), longestSend)
		}
	default:
		d = telegram.BackOff(a.n, 100*time.Millisecond, longest, random)
		a.n++
	}
	a.spent += d
	return d, a.spent <= giveUpAfter
}

// resendWait is the wait after n+1 attempts whose fate is unknown.
func resendWait(n int, random float64) time.Duration {
	d := resendAfter
	for range min(n, 5) {
		d *= resendFactor
	}
	return d - time.Duration(random*float64(d)/2)
}

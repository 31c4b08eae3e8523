package message

import (
	"errors"
	"testing"
	"time"

	"habot/app/telegram"
)

func TestWaitsBetweenAttemptsOfUnknownFateGrow(t *testing.T) {
	t.Parallel()
	for _, random := range []float64{0, 0.5, 0.999} {
		var a attempts
		var waits []time.Duration
		for {
			d, again := a.failed(telegram.Transient, errors.New("connection reset by peer"), 0, longestBackOff, random)
			if !again {
				break
			}
			waits = append(waits, d)
		}
		var sum time.Duration
		for i, d := range waits {
			sum += d
			if i > 0 && i < len(waits)-1 && d < 2*waits[i-1] {
				t.Errorf("random %v: the waits are %v", random, waits)
			}
		}
		if len(waits) < 4 || len(waits) > 6 || sum != giveUpAfter || waits[0] > resendAfter {
			t.Errorf("random %v: the waits are %v, together %v", random, waits, sum)
		}
	}
}

package message

import (
	"context"
	"time"
)

// LongestBackOff is the longest wait between two attempts to answer an update that did not reach Telegram.
const LongestBackOff = 2 * time.Second

// forGood is a wait that ends with what is waited for.
const forGood = 24 * time.Hour

// Turn is what an update's turn is to the attempts to answer it; a turn of queues is one.
type Turn interface {
	Expect(d time.Duration)
	Pause(ctx context.Context, d time.Duration, early <-chan struct{}) bool
}

// InTurn is the pace of an answer to an update. through returns a channel that is closed when requests get through to
// Telegram again, nil while they do: a message that is sent meanwhile would most likely fail, too, or be taken and come twice.
// What is in hand outlasts any outage.
func InTurn(t Turn, through func() <-chan struct{}) Pace {
	return Pace{
		Longest: LongestBackOff,
		Begin:   t.Expect,
		Pause: func(ctx context.Context, d time.Duration) bool {
			if !t.Pause(ctx, d, nil) {
				return false
			}
			for mended := through(); mended != nil; mended = through() {
				if !t.Pause(ctx, forGood, mended) {
					return false
				}
			}
			return true
		},
	}
}

package message

import (
	"context"
	"time"
)

// longestBackOff is the longest wait between two attempts to answer an update that did not reach Telegram.
const longestBackOff = 2 * time.Second

// forGood is a wait that ends with what is waited for.
const forGood = 24 * time.Hour

// Turn is what an update's turn is to the attempts to answer it; a turn of queues is one.
type Turn interface {
	Expect(d time.Duration)
	Pause(ctx context.Context, d time.Duration, early <-chan struct{}) bool
}

// Term is what the attempts to answer an update need of a term; a task of intake is one.
type Term interface {
	// Through returns a channel that is closed when requests get through to Telegram again; nil while they do.
	Through() <-chan struct{}
	// Limited takes note whether an update waits because Telegram limits its chat.
	Limited(id int64, waits bool)
}

// InTurn is the pace of an answer to an update. While requests do not get through to Telegram it waits: a message that is sent
// meanwhile would most likely fail, too, or be taken and come twice. What is in hand outlasts any outage.
func InTurn(t Turn, term Term, id int64) Pace {
	return Pace{
		Longest: longestBackOff,
		Begin:   t.Expect,
		Pause: func(ctx context.Context, d time.Duration, asked bool) bool {
			if asked {
				term.Limited(id, true)
				defer term.Limited(id, false)
			}
			if !t.Pause(ctx, d, nil) {
				return false
			}
			for mended := term.Through(); mended != nil; mended = term.Through() {
				if !t.Pause(ctx, forGood, mended) {
					return false
				}
			}
			return true
		},
	}
}

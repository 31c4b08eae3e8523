package telegram

import "time"

// Lag is how long Telegram's answers have taken lately, the longest of them, which fades as faster ones come. Its zero
// value knows nothing. It is pure.
type Lag struct{ seen time.Duration }

// Saw takes in how long an answer took.
func (l *Lag) Saw(d time.Duration) { l.seen = max(d, l.seen/2) }

// Bound is how long to wait for an answer: twice as long as answers take, least and most.
func (l Lag) Bound(least, most time.Duration) time.Duration { return min(max(least, 2*l.seen), most) }

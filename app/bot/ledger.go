package bot

import (
	"maps"
	"slices"
	"time"
)

// ledger keeps, for one term, which updates are handled and what the next poll confirms. It is pure.
type ledger struct {
	// offset confirms everything handled so far; 0 if there is nothing to confirm.
	offset int
	// known is the last offset used: a poll with it confirms nothing new.
	known int
	// handled since the last confirmation, the predecessor's included.
	handled map[int]bool
}

func newLedger(inherited []int64) *ledger {
	l := &ledger{handled: map[int]bool{}}
	for _, id := range inherited {
		l.handled[int(id)] = true
	}
	return l
}

// seen tells whether an update was handled before and only waits to be confirmed.
func (l *ledger) seen(id int) bool { return l.handled[id] }

// done takes note that an update is handled.
func (l *ledger) done(id int) { l.handled[id] = true }

// through says that the next poll may confirm everything before offset.
func (l *ledger) through(offset int) { l.offset, l.known = offset, offset }

// polled says that a poll with this offset was answered: what it confirmed is over. From then on polls
// carry no offset until there is something to confirm again, for a server whose ids have started again
// lower takes an old offset for the end of its queue and would drop what waits.
func (l *ledger) polled(offset int) {
	if offset == 0 || offset != l.offset {
		return
	}
	l.offset = 0
	clear(l.handled)
}

// ids are the updates handled since the last confirmation, in order.
func (l *ledger) ids() []int64 {
	ids := make([]int64, 0, len(l.handled))
	for _, id := range slices.Sorted(maps.Keys(l.handled)) {
		ids = append(ids, int64(id))
	}
	return ids
}

// poll is one request for updates.
type poll struct {
	offset  int
	timeout int           // seconds, asked of Telegram
	bound   time.Duration // for the whole request
}

// Times of polls. A waiting poll looks just like a Telegram that hangs, so the wait is short: a hang is
// seen after longBound at the latest. After a failure polls ask for an immediate answer and are given
// probeBound: once Telegram is back, the next one reaches it after probeBound and a back-off of at
// most pollBackOff, within three seconds.
const (
	longTimeout = 5
	longBound   = 8 * time.Second
	probeBound  = 1500 * time.Millisecond
	// waitBound is for a probe that Telegram may keep waiting for three seconds.
	waitBound   = 4 * time.Second
	pollBackOff = 750 * time.Millisecond
)

// next is the poll to make after so many failed ones in a row. Telegram keeps a poll that repeats the
// offset of one less than three seconds ago waiting for three: probes alternate between two offsets
// that confirm the same.
func (l *ledger) next(failures int) poll {
	p := poll{offset: l.offset, timeout: longTimeout, bound: longBound}
	switch {
	case failures == 0:
	case l.known == 0:
		p.timeout, p.bound = 0, waitBound
	default:
		p.timeout, p.bound = 0, probeBound
		if failures%2 == 0 {
			p.offset = 0
		} else {
			p.offset = l.known
		}
	}
	return p
}

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
	// knownSince is when known was learned.
	knownSince time.Time
	// told is the offset of a poll that was cut off by our own stopping while it waited for updates:
	// Telegram takes in what a poll confirms when it arrives.
	told int
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

// through says, at now, that the next poll may confirm everything before offset.
func (l *ledger) through(offset int, now time.Time) {
	l.offset, l.known, l.knownSince = offset, offset, now
}

// polled says that a poll with this offset was answered: what it confirmed is over. What was handled
// beyond it still waits; but only as far as a batch reaches, for ids may start again lower. From then on polls
// carry no offset until there is something to confirm again, for a server whose ids have started again
// lower takes an old offset for the end of its queue and would drop what waits.
func (l *ledger) polled(offset int) {
	if offset == 0 || offset != l.offset {
		return
	}
	l.offset = 0
	maps.DeleteFunc(l.handled, func(id int, _ bool) bool { return id < offset || id >= offset+maxBatch })
}

// cutOff says that a poll with this offset was cut off by our own stopping.
func (l *ledger) cutOff(offset int) { l.told = offset }

// unconfirmed tells whether stopping leaves something to confirm. To repeat what a poll that was cut off
// has just said would make Telegram keep us waiting for three seconds, and the successor with us; should
// that poll not have arrived, the successor is told what to skip.
func (l *ledger) unconfirmed() bool { return l.offset != 0 && l.offset != l.told }

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
	offset   int
	limit    int
	timeout  int           // seconds, asked of Telegram
	bound    time.Duration // for the whole request
	askFirst bool          // whether there is a way to Telegram at all
}

// Times of polls. A waiting poll looks just like a Telegram that hangs, so the wait is short: a hang is
// seen after longBound at the latest. After a failure polls ask for an immediate answer and are given
// probeBound: once Telegram is back, the next one reaches it after probeBound and a back-off of at
// most pollBackOff, within three seconds.
const (
	longTimeout = 5
	longBound   = 8 * time.Second
	probeBound  = 1500 * time.Millisecond
	// waitBound is for a probe that Telegram may keep waiting for three seconds. It would sleep through
	// the return of a Telegram that hangs, so it leaves only when getMe has been answered.
	waitBound   = 4 * time.Second
	pollBackOff = 750 * time.Millisecond
	// knownFor is how long an offset that was confirmed may be used again: after a week without updates
	// ids may start again lower, and an old offset would drop what waits.
	knownFor = 24 * time.Hour
)

// next is the poll to make after so many failed ones in a row. Telegram keeps a poll that repeats the
// offset of one less than three seconds ago waiting for three: probes alternate between two offsets
// that confirm the same.
func (l *ledger) next(failures int, now time.Time) poll {
	p := poll{offset: l.offset, limit: maxBatch, timeout: longTimeout, bound: longBound}
	switch {
	case failures == 0:
	case l.known == 0 || now.Sub(l.knownSince) > knownFor:
		p.timeout, p.bound, p.askFirst = 0, waitBound, true
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

package intake

import (
	"slices"
	"time"

	"habot/app/reach"
)

// offsets tracks, for one term, which updates are handled and what the next poll confirms. It is pure.
type offsets struct {
	// offset confirms everything handled so far; 0 if there is nothing to confirm.
	offset int
	// known is the last offset used: a poll with it confirms nothing new.
	known int
	// knownSince is when known was learned.
	knownSince time.Time
	// abortedAt is the offset of a poll that was cut off by our own stopping while it waited for updates:
	// Telegram takes in what a poll confirms when it arrives.
	abortedAt int
	// handled since the last confirmation, the predecessor's included, in order.
	handled []int64
	// kept are updates in hand whose contents are noted, and whether so many others know them that they may be confirmed before
	// they are handled.
	kept map[int]bool
	// recent are the last updates that were handled, the predecessor's included, whether they are confirmed or not.
	recent []int
	// fetched are, in Telegram's order, the oldest update in hand and all that came after it, in hand or handled.
	fetched []int
}

func newOffsets(inherited []int64) *offsets {
	t := &offsets{handled: []int64{}, kept: map[int]bool{}}
	for _, id := range inherited {
		t.handle(int(id))
		t.recent = append(t.recent, int(id))
	}
	return t
}

// handle takes note that an update is handled.
func (t *offsets) handle(id int) {
	if at, there := slices.BinarySearch(t.handled, int64(id)); !there {
		t.handled = slices.Insert(t.handled, at, int64(id))
	}
}

// isHandled tells whether an update has been handled since the last confirmation.
func (t *offsets) isHandled(id int) bool {
	_, there := slices.BinarySearch(t.handled, int64(id))
	return there
}

// seen reports whether an update came before in this term, and is in hand or handled: polls bring it again until
// it is confirmed.
func (t *offsets) seen(id int) bool { return id < t.offset || slices.Contains(t.fetched, id) }

// accept takes in, at now, an update that is not known, the next in Telegram's order. It tells whether a
// predecessor has handled it, or has kept it and so has it in hand.
func (t *offsets) accept(id int, now time.Time) (over bool) {
	t.fetched = append(t.fetched, id)
	t.advance(now)
	return t.isHandled(id) || t.holds(id)
}

// done takes note, at now, that an update in hand is handled.
func (t *offsets) done(id int, now time.Time) {
	t.handle(id)
	delete(t.kept, id)
	t.recent = append(t.recent, id)
	t.recent = t.recent[max(0, len(t.recent)-maxRecent):]
	t.advance(now)
}

// maxRecent bounds the handled updates remembered: more than may wait to be confirmed, or be kept.
const maxRecent = 1000

// has tells whether an update is in hand, or was handled: not by its place among the others, for one that another replica kept
// may lie below all that are confirmed.
func (t *offsets) has(id int) bool {
	return t.isHandled(id) || t.holds(id) || slices.Contains(t.fetched, id) || slices.Contains(t.recent, id)
}

// holds tells whether the contents of an update in hand are noted.
func (t *offsets) holds(id int) bool {
	_, ok := t.kept[id]
	return ok
}

// hold takes note that an update is in hand because an earlier term noted it. It is not confirmed before keep.
func (t *offsets) hold(id int) { t.kept[id] = false }

// keep takes note, at now, that the contents of updates in hand are known to others: they need not be had from Telegram again.
// It MUST be called only once a majority has them.
func (t *offsets) keep(ids []int, now time.Time) {
	for _, id := range ids {
		t.kept[id] = true
	}
	t.advance(now)
}

// advance moves the offset to the oldest update in hand that is not kept: nothing else is confirmed before it is handled.
func (t *offsets) advance(now time.Time) {
	for len(t.fetched) > 0 && (t.isHandled(t.fetched[0]) || t.kept[t.fetched[0]]) {
		t.offset = t.fetched[0] + 1
		t.known, t.knownSince = t.offset, now
		t.fetched = t.fetched[1:]
	}
}

// idle tells whether nothing is in hand.
func (t *offsets) idle() bool { return len(t.fetched) == 0 }

// acked says that a poll with this offset was answered, with these ids: what it confirmed is over. Of what was handled
// beyond it, by the predecessor perhaps, the answer shows what waits no longer, as far as it reaches: that is forgotten, for
// ids may start again lower and come again. From then on polls carry no offset until there is something to confirm again,
// for a server whose ids have started again just below an old offset would take it for a confirmation and drop what waits.
func (t *offsets) acked(offset int, got []int) {
	if offset != 0 && offset == t.offset {
		t.offset = 0
	}
	t.handled = slices.DeleteFunc(t.handled, func(handled int64) bool {
		id := int(handled)
		reached := len(got) == 0 || id < got[len(got)-1]
		return id < offset || reached && !slices.Contains(got, id) && !t.seen(id)
	})
}

// aborted says that a poll with this offset was cut off by our own stopping.
func (t *offsets) aborted(offset int) { t.abortedAt = offset }

// unconfirmed tells whether stopping leaves something to confirm. To repeat what a poll that was cut off
// has just said would make Telegram keep us waiting for three seconds, and the successor with us; should
// that poll not have arrived, the successor receives what to skip.
func (t *offsets) unconfirmed() bool { return t.offset != 0 && t.offset != t.abortedAt }

// ids are the updates handled since the last confirmation, in order. They are the caller's.
func (t *offsets) ids() []int64 { return slices.Clone(t.handled) }

// poll is one request for updates.
type poll struct {
	offset   int
	limit    int
	timeout  int           // seconds, asked of Telegram
	bound    time.Duration // for the whole request
	wait     time.Duration // of it, what Telegram may wait on purpose
	askFirst bool          // whether there is a way to Telegram at all
}

// slower is the poll where an answer, but for the wait, is given as long as bound says, which is at least what it is given.
func (p poll) slower(bound func(least time.Duration) time.Duration) poll {
	p.bound = p.wait + bound(p.bound-p.wait)
	return p
}

// dueAt is when the answer to a poll that began then was due: a waiting poll's when its wait is over, whenever it is
// given up. Any other is given up soon, and may be kept waiting by Telegram until then.
func (p poll) dueAt(began time.Time) time.Time {
	if p.timeout == 0 {
		return began.Add(p.bound)
	}
	return began.Add(time.Duration(p.timeout) * time.Second)
}

// Times of polls, where answers are not slow: each is given twice as long as answers are seen to take. A waiting poll looks just like a Telegram that hangs, so the wait is short: a hang is
// seen after longBound at the latest. After a failure polls ask for an immediate answer and are given
// probeBound: once Telegram is back, the next one reaches it after probeBound and a back-off of at
// most pollBackOff, within three seconds.
const (
	longTimeout = 5
	longBound   = 8 * time.Second
	probeBound  = reach.ProbeBound
	// waitBound is for a probe that Telegram may keep waiting for three seconds. It would sleep through
	// the return of a Telegram that hangs, so it leaves only when getMe has been answered.
	waitBound  = 4 * time.Second
	repeatWait = 3 * time.Second
	// pollBackOff and probeBound together are no more than failingFor is above ten seconds: an outage that short never
	// makes a primary unhealthy.
	pollBackOff = 500 * time.Millisecond
	// knownFor is how long an offset that was confirmed may be used again: after a week without updates
	// ids may start again lower, and an old offset would drop what waits.
	knownFor = 24 * time.Hour
)

// next is the poll to make after so many failed ones in a row. Telegram keeps a poll that repeats the
// offset of one less than three seconds ago waiting for three: probes alternate between two offsets
// that confirm the same.
func (t *offsets) next(failures int, now time.Time) poll {
	p := poll{offset: t.offset, limit: maxBatch, timeout: longTimeout, bound: longBound, wait: longTimeout * time.Second}
	switch {
	case failures == 0:
	case t.known == 0 || now.Sub(t.knownSince) > knownFor:
		p.timeout, p.bound, p.wait, p.askFirst = 0, waitBound, repeatWait, true
	default:
		p.timeout, p.bound, p.wait = 0, probeBound, 0
		if failures%2 == 0 {
			p.offset = 0
		} else {
			p.offset = t.known
		}
	}
	return p
}

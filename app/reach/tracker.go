package reach

import (
	"slices"
	"time"

	"habot/app/election"
)

// Times of health. When Telegram itself is down nothing may move: a standby must have said so before a primary
// looks for a healthy one. A standby notices after probeEvery + probeTimeout + probeAgain + probeTimeout = 10 s at
// the latest: its last good answer came just before, and the next probes hang. A primary says nothing before
// failingFor = 12 s: its failing counts from an answer that came, or was due, when Telegram was down, or from the
// first of its own probes that failed before its term. The difference is for the standby's word, which comes with
// its next grant: two fifths of a lease, so leases of up to 4.5 s are surely safe. A longer one may see the role move
// once. When Telegram is back, the primary is to know first.
//
// A primary that alone is cut off is replaced when the poll that waited then was due, longTimeout later at the
// most, and failingFor has passed: 12 s to 17 s, and a takeover by agreement.
const (
	// failingFor is how long a primary's polls fail before it counts as unhealthy.
	failingFor = 12 * time.Second
	// coolDown is how long a replica that was unhealthy as primary stays so, whatever getMe says:
	// getMe works where polling does not, and the role must not go round in circles.
	coolDown = time.Minute
	// probeFailures in a row make a standby unhealthy.
	probeFailures = 2
	// probeEvery is between probes, probeAgain after a failed one while it is in doubt what that means.
	// A probe that is not answered within probeTimeout has failed; an answer that comes later, within slowProbe, counts
	// when it comes, and shows how slow Telegram is.
	probeEvery   = 5 * time.Second
	probeAgain   = time.Second
	probeTimeout = 2 * time.Second
	slowProbe    = 10 * time.Second
	// wellFor is how long probes must succeed before a standby that did not reach Telegram says that it does:
	// longer than a primary takes to poll again (probeBound + waitBound + pollBackOff), or it would hand over the
	// role just when all is well. Where answers are slow each of these is longer, and so is this.
	wellFor = 7 * time.Second
	// HealthSettles is how long a replica must have been in contact before its report that it reaches Telegram moves a role.
	// A process that starts, or wakes, says so until it knows better, after probeTimeout + probeAgain + probeTimeout at
	// the latest; and when Telegram is back the primary is to know first, as above.
	HealthSettles = wellFor
	// detailEvery is the time between changes of nothing but the error that is shown: those name ports, and differ each time.
	detailEvery = 5 * time.Second
)

// tracker judges the way to Telegram from what was seen of it. It is pure.
type tracker struct {
	slow         time.Duration // how much longer a request is given than probeBound, since answers are slow
	polling      bool          // a term runs: its polls tell, whatever was seen before it
	failingSince time.Time     // of polls; zero while they succeed
	detail       string
	coolUntil    time.Time
	probesFailed int
	probesSince  time.Time // when the first of these failed
	wellSince    time.Time // since when probes succeed again; zero if they do not, or it is no matter
	backends     backends
}

// backends is what is known of webhook backends: whether one takes connections. Replicas know equally much of that, whether
// they are primary or not, so a takeover mends only what is wrong between this replica and all backends. When all backends
// are gone nothing may move, for which the times are as above: a standby's probe notices within six seconds, and it says so
// at once; a primary says so after failingFor. Once a backend is back a primary says so at once, a standby after wellFor.
type backends struct {
	goneSince time.Time // zero while one takes connections
	backSince time.Time // since when one does again; zero if none does, or it is no matter
	detail    string
}

// seen takes in, at now, whether a backend takes connections; why is empty if one does.
func (b *backends) seen(now time.Time, polling bool, why string) {
	switch {
	case why != "":
		if b.goneSince.IsZero() || !b.backSince.IsZero() && !b.missing(now, polling) { // otherwise the same absence goes on
			b.goneSince = now
		}
		b.backSince, b.detail = time.Time{}, why
	case !b.goneSince.IsZero() && b.backSince.IsZero():
		b.backSince = now
	}
}

// bad is from when to when health is bad for want of backends; zero times if it is not, or without an end yet.
func (b *backends) bad(polling bool) (from, until time.Time) {
	if b.goneSince.IsZero() {
		return from, until
	}
	from = b.goneSince
	if polling {
		from = from.Add(failingFor)
	}
	if !b.backSince.IsZero() {
		if until = b.backSince; !polling {
			until = until.Add(wellFor)
		}
	}
	return from, until
}

// missing tells whether health is bad for want of backends.
func (b *backends) missing(now time.Time, polling bool) bool {
	from, until := b.bad(polling)
	return !from.IsZero() && !now.Before(from) && (until.IsZero() || now.Before(until))
}

// roleBegan puts what was seen before aside until a poll tells: it may be old, and a role that is given back unused
// mends nothing.
func (t *tracker) roleBegan() { t.polling = true }

// reached takes in that Telegram answered a poll, if only that it does not want to be polled now: polls that failed
// before and those that fail later are not one failure.
func (t *tracker) reached() { *t = tracker{polling: t.polling, slow: t.slow, backends: t.backends} }

// patience is failingFor, or longer where answers are slow: an outage that short is over before the next poll can tell.
func (t *tracker) patience() time.Duration { return failingFor + t.slow }

// pollFailed takes in, at now, a poll that failed. One whose answer was due earlier had failed by then, and one
// that confirms what was seen before the term, then.
func (t *tracker) pollFailed(now, due time.Time, why string) {
	if t.failingSince.IsZero() {
		since := []time.Time{now, due}
		if t.probesFailed > 0 && t.wellSince.IsZero() {
			since = append(since, t.probesSince)
		}
		if now.Before(t.coolUntil) {
			since = append(since, now.Add(-t.patience()))
		}
		t.failingSince = slices.MinFunc(since, time.Time.Compare)
	}
	t.detail = why
}

// roleEnded forgets polls that fail no longer because there are none; but not at once that they did.
func (t *tracker) roleEnded(now time.Time) {
	if t.failing(now) {
		t.coolUntil = now.Add(coolDown)
	}
	t.polling, t.failingSince = false, time.Time{}
}

func (t *tracker) probed(now time.Time, ok bool, why string) {
	switch {
	case !ok:
		if t.probesFailed++; t.probesFailed == 1 {
			t.probesSince = now
		}
		t.detail, t.wellSince = why, time.Time{}
	case t.probesFailed >= probeFailures && t.wellSince.IsZero():
		t.wellSince = now
	case t.probesFailed < probeFailures, now.Sub(t.wellSince) >= wellFor+3*t.slow:
		t.probesFailed, t.wellSince = 0, time.Time{}
	}
}

// nextProbe is how long after a probe to make the next.
func (t *tracker) nextProbe() time.Duration {
	if t.probesFailed > 0 && t.probesFailed < probeFailures {
		return probeAgain
	}
	return probeEvery
}

// failing tells whether polls fail for so long that it matters.
func (t *tracker) failing(now time.Time) bool {
	return !t.failingSince.IsZero() && now.Sub(t.failingSince) >= t.patience()
}

// turnsBad is when health turns bad unless a poll succeeds; zero if polls do not fail.
func (t *tracker) turnsBad() time.Time {
	if t.failingSince.IsZero() {
		return time.Time{}
	}
	return t.failingSince.Add(t.patience())
}

// changes is when health changes next by itself; zero if it does not.
func (t *tracker) changes(now time.Time) (next time.Time) {
	from, until := t.backends.bad(t.polling)
	if !until.IsZero() && until.Before(from) {
		from, until = time.Time{}, time.Time{} // one was back before it mattered
	}
	for _, at := range []time.Time{t.turnsBad(), from, until} {
		if at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// health is that of the way to Telegram, and of the ways to the backends.
func (t *tracker) health(now time.Time) election.Health {
	if h := t.telegram(now); !h.OK || !t.backends.missing(now, t.polling) {
		return h
	}
	return election.Health{Detail: t.backends.detail}
}

// telegram is the health of the way to Telegram alone.
func (t *tracker) telegram(now time.Time) election.Health {
	switch {
	case t.failing(now), !t.polling && now.Before(t.coolUntil):
		return election.Health{Detail: "polling Telegram fails: " + t.detail}
	case !t.polling && t.probesFailed >= probeFailures:
		return election.Health{Detail: "Telegram is not reached: " + t.detail}
	default:
		return election.Health{OK: true}
	}
}

// doubted tells whether something speaks against the way to Telegram, if not enough, or put aside.
func (t *tracker) doubted(now time.Time) bool {
	return !t.failingSince.IsZero() || now.Before(t.coolUntil) || t.probesFailed > 0
}

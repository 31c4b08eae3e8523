package relay

import (
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Times between attempts, as Telegram's.
const (
	// longestDelay is doubled at random: many updates that wait are not to come all at once.
	longestDelay = time.Minute
	// maxRetryAfter bounds what a backend may ask to wait.
	maxRetryAfter = time.Hour
	// poisonAfter is how long an update is answered with errors, while others are answered well, until it is given up.
	poisonAfter = 10 * time.Minute
)

// attempts are those to have one update handled. They are pure.
type attempts struct {
	// failures are the attempts that reached a backend, or may have.
	failures int
	// notBefore is when the next attempt may be made.
	notBefore time.Time
	// avoid are the members that the next attempt goes to last.
	avoid map[member]bool
	// resting are members that asked not to be sent this update until then (Retry-After).
	resting map[member]time.Time
	// lastFailure is when the last of failures was noticed, suffered how long others were handled well meanwhile.
	lastFailure time.Time
	suffered    time.Duration
}

func newAttempts() *attempts {
	return &attempts{avoid: map[member]bool{}, resting: map[member]time.Time{}}
}

// missed takes in an attempt that did not leave for a member: another is tried at once.
func (a *attempts) missed(m member) { a.avoid[m] = true }

// failed takes in, at now, an attempt that a member has answered with an error, not answered in time, or broken off;
// retryAfter is what it asked for, 0 for nothing. random is in [0, 1).
func (a *attempts) failed(now time.Time, m member, retryAfter time.Duration, random float64) {
	a.failures++
	clear(a.avoid)
	a.avoid[m] = true
	maps.DeleteFunc(a.resting, func(_ member, until time.Time) bool { return !until.After(now) })
	if retryAfter > 0 {
		a.resting[m] = now.Add(min(retryAfter, maxRetryAfter))
		a.notBefore = now // another may be asked; without one the rest is waited for
		return
	}
	a.notBefore = now.Add(delay(a.failures, random))
}

// spoiled takes in the time of a failure, and when another update was last handled well. It tells whether the update
// is to be given up: only the time between failures counts in which others were handled well.
func (a *attempts) spoiled(now, othersWell time.Time) bool {
	if !a.lastFailure.IsZero() && othersWell.After(a.lastFailure) {
		a.suffered += now.Sub(a.lastFailure)
	}
	a.lastFailure = now
	return a.suffered >= poisonAfter
}

// delay is the wait after so many failures: none after the first, then 1, 2, 4 ... seconds, in the end one to two
// minutes. random is in [0, 1).
func delay(failures int, random float64) time.Duration {
	if failures <= 1 {
		return 0
	}
	longest := longestDelay + time.Duration(random*float64(longestDelay))
	if failures > 9 {
		return longest
	}
	return min(time.Second<<(failures-2), longest)
}

// retryAfter reads a Retry-After header, in seconds or as a date; 0 if there is none that can be read.
func retryAfter(header string, now time.Time) time.Duration {
	header = strings.TrimSpace(header)
	if seconds, err := strconv.ParseUint(header, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

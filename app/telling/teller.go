package telling

import (
	"slices"
	"strings"
	"time"

	"habot/app/election"
)

// How often is looked, and how much is told.
const (
	// LookEvery is between two looks: often enough for a delay of fifteen seconds, seldom enough to cost
	// nothing. A takeover is looked at at once.
	LookEvery = 2 * time.Second
	// missedLooks: a process that looked later than that was frozen, and knows nothing of the time between.
	missedLooks = 3 * LookEvery
	// burst is how many messages may follow each other at once: a few takeovers, each with its own message,
	// while somebody tries out what happens. Then there is one in refillEvery, with all that happened
	// meanwhile: 17 in the worst hour.
	burst       = 5
	refillEvery = 5 * time.Minute
	// surelyTold is how long whoever was to tell must have stayed for others to take it for told.
	surelyTold = 10 * time.Second
)

// episode is one condition's stay.
type episode struct {
	// since and last are when it was first and last seen; since is zero if it is not there.
	since, last time.Time
	// by is who told of it, at at; empty if nobody has.
	by election.ReplicaID
	at time.Time
	// over: it has ended, which is yet to be told.
	over bool
}

// tally is changes of primary that are told together.
type tally struct {
	n     int
	since time.Time
	last  election.Change
}

func (t *tally) add(c election.Change, now time.Time) {
	if t.n == 0 {
		t.since = now
	}
	t.n++
	t.last = c
}

func (t *tally) merge(o tally) {
	if t.n == 0 || o.n > 0 && o.since.Before(t.since) {
		t.since = o.since
	}
	if t.n == 0 || o.n > 0 && o.last.Claim.Compare(t.last.Claim) > 0 {
		t.last = o.last
	}
	t.n += o.n
}

// allowance bounds messages: burst at once, then one in refillEvery.
type allowance struct {
	full time.Time // when all of it is there again
}

func (a *allowance) has(now time.Time) bool { return a.full.Sub(now) <= (burst-1)*refillEvery }

func (a *allowance) take(now time.Time) {
	if a.full.Before(now) {
		a.full = now
	}
	a.full = a.full.Add(refillEvery)
}

// Teller decides what this replica tells the admins, and when. Its zero value has told nothing yet. It is not
// safe for concurrent use. Every replica runs one and
// counts what the others tell as if it had told it, so that the bound holds for all that hear each other
// together, and whoever takes over the telling repeats nothing that it knows to be told. It cannot know
// what was told before its process started: the bound is per life.
type Teller struct {
	lookedAt  time.Time
	newest    election.Claim // of the changes that were looked at
	episodes  [conditions]episode
	allowance allowance
	// own are takeovers of this replica that it has yet to tell. held are changes beyond the allowance:
	// whoever tells next tells them.
	own, held tally
}

// Look takes one look at now and returns what to tell the admins, as HTML that is yet to be split to Telegram's
// bound; empty if there is nothing. What it returns counts as told. Times MUST NOT go back.
func (t *Teller) Look(now time.Time, s Sight) string {
	if s.View.Self.Replica == "" {
		return "" // not even this replica is known yet
	}
	frozen := !t.lookedAt.IsZero() && now.Sub(t.lookedAt) > missedLooks
	t.lookedAt = now
	changed := t.takeInChanges(now, s)
	for k := range conditions {
		e := &t.episodes[k]
		if e.by == "" && (frozen || changed && k == noPrimary) {
			*e = episode{}
		}
		t.takeIn(now, k, s)
	}
	return t.tell(now, s)
}

// takeInChanges counts the changes of primary since the last look; false if there are none.
func (t *Teller) takeInChanges(now time.Time, s Sight) bool {
	fresh := s.View.History
	if i := slices.IndexFunc(fresh, func(c election.Change) bool { return c.Claim == t.newest }); i >= 0 {
		fresh = fresh[i+1:]
	}
	for _, c := range fresh {
		t.newest = c.Claim
		switch {
		case t.held.n > 0 || !t.allowance.has(now):
			t.held.add(c, now)
		case c.Claim.Replica == s.View.Self.Replica:
			t.allowance.take(now)
			t.own.add(c, now)
		default:
			t.allowance.take(now) // the new primary tells it
		}
	}
	return len(fresh) > 0
}

// takeIn keeps a condition's episode.
func (t *Teller) takeIn(now time.Time, k condition, s Sight) {
	e, timing := &t.episodes[k], k.timing(s.View.Self.Lease)
	switch {
	case s.blind(k):
		*e = episode{}
	case s.sees(k):
		if e.since.IsZero() {
			e.since = now
		}
		e.last, e.over = now, false
		if e.by != "" && e.by != s.View.Self.Replica && now.Sub(e.at) < surelyTold && s.gone(e.by) {
			e.by = "" // it may have gone before it told
		}
	case e.since.IsZero():
	case e.by == "":
		if now.Sub(e.last) > timing.bridge {
			*e = episode{}
		}
	default:
		e.over = e.over || now.Sub(e.last) >= timing.calm
	}
}

// due tells whether a condition is to be told of now.
func (t *Teller) due(now time.Time, k condition, lease time.Duration) bool {
	e := t.episodes[k]
	return e.by == "" && !e.since.IsZero() && e.last.Equal(now) && now.Sub(e.since) >= k.timing(lease).onset
}

// tell puts into one message all that is this replica's to tell, if it may and can.
func (t *Teller) tell(now time.Time, s Sight) string {
	self, author := s.View.Self.Replica, s.author()
	may := t.allowance.has(now)
	var lines []string
	changes, takes := t.takeOut(author, may, s)
	if changes.n > 0 {
		lines = append(lines, changes.text(now))
	}
	for k := range conditions {
		e := &t.episodes[k]
		switch {
		case e.over && !t.tellsEnd(k, s):
			*e = episode{}
		case e.over && may && s.Reaches:
			lines = append(lines, s.overText(k, *e))
			*e, takes = episode{}, true
		case !t.due(now, k, s.View.Self.Lease) || author == "":
		case k == tokenRejected: // nobody can tell of it before it is over
			e.by, e.at = author, now
		case author != self:
			e.by, e.at, takes = author, now, may
		case may && s.Reaches:
			e.by, e.at, takes = self, now, true
			lines = append(lines, s.text(k, *e))
		}
	}
	if takes {
		t.allowance.take(now)
	}
	return strings.Join(lines, "\n")
}

// takeOut returns the changes of primary that this replica tells now, and whether they take of the allowance
// what they have not taken yet.
func (t *Teller) takeOut(author election.ReplicaID, may bool, s Sight) (out tally, takes bool) {
	self := s.View.Self.Replica
	if s.Reaches {
		out, t.own = t.own, tally{}
	}
	if t.held.n == 0 || !may || author == "" || author == self && !s.Reaches {
		return out, false
	}
	if author == self {
		out.merge(t.held)
	}
	t.held = tally{}
	return out, true
}

// tellsEnd tells whether this replica is to say that a condition is over: the one that told of it is, or, if
// it is gone, the author. Of an absence of primaries the new one's own message says as much, if it was this
// replica or knows how long there was none.
func (t *Teller) tellsEnd(k condition, s Sight) bool {
	self, by := s.View.Self, t.episodes[k].by
	if k != noPrimary {
		return by == self.Replica || s.gone(by) && s.author() == self.Replica
	}
	told := self.Change.Claim == self.Primary && (self.Primary.Replica == self.Replica || self.Change.Gap >= k.timing(self.Lease).onset)
	return by == self.Replica && !told
}

package bot

import (
	"slices"
	"strings"
	"time"

	"habot/app/election"
)

// How often is looked, and how much is told.
const (
	// lookEvery is between two looks: often enough for a delay of fifteen seconds, seldom enough to cost
	// nothing. A takeover is looked at at once.
	lookEvery = 2 * time.Second
	// missedLooks: a process that looked later than that was frozen, and knows nothing of the time between.
	missedLooks = 3 * lookEvery
	// burst is how many messages may follow each other at once: a few takeovers, each with its own message,
	// while somebody tries out what happens. Then there is one in refillEvery, with all that happened
	// meanwhile: 17 in the worst hour.
	burst       = 5
	refillEvery = 5 * time.Minute
	// surelyTold is how long whoever was to tell must have stayed for others to take it for told.
	surelyTold = 10 * time.Second
)

// condition is something that is wrong for a while.
type condition int

// The conditions.
const (
	noPrimary condition = iota
	foreignPoller
	webhookStays
	tokenRejected
	mismatch
	conditions // how many there are
)

// timing says when a condition is worth telling.
type timing struct {
	// onset is how long it must have been there.
	onset time.Duration
	// bridge is how long it may be away meanwhile.
	bridge time.Duration
	// calm is how long it must be away to be over.
	calm time.Duration
}

func (k condition) timing(lease time.Duration) timing {
	switch k {
	case noPrimary:
		// A takeover takes little more than a lease, and a restart of all replicas two. Any primary, however
		// brief, begins a new absence.
		return timing{onset: max(15*time.Second, 3*lease), calm: 5 * time.Second}
	case foreignPoller, webhookStays:
		// Two pollers cut off each other in turns: polls succeed in between, and some programs wait for half
		// a minute after a conflict. A program that is being replaced overlaps for a moment.
		return timing{onset: 15 * time.Second, bridge: time.Minute, calm: time.Minute}
	case tokenRejected:
		// A probe every five seconds tells. A single 401 may be a proxy's.
		return timing{onset: 15 * time.Second, bridge: 10 * time.Second, calm: 10 * time.Second}
	default:
		// Versions differ while replicas are replaced one after the other. Each is heard at least once a
		// second, or with its primary's renewals, and counts as there for longer.
		return timing{onset: max(30*time.Second, 4*lease), bridge: max(10*time.Second, 3*lease), calm: max(30*time.Second, 3*lease)}
	}
}

// sight is one look at all that admins may be told of.
type sight struct {
	view    election.View
	trouble string // the kind
	// strangers are instances that cannot even be asked; a line each, for people.
	strangers []string
	// reaches: a message could leave now.
	reaches bool
}

func (s sight) sees(k condition) bool {
	switch k {
	case noPrimary:
		return !s.view.Known()
	case foreignPoller:
		return s.trouble == troubleConflict
	case webhookStays:
		return s.trouble == troubleWebhook
	case tokenRejected:
		return s.trouble == troubleToken
	default:
		return len(s.view.Mismatched)+len(s.strangers) > 0
	}
}

// blind: this replica cannot tell whether a condition is there. Only the primary polls, and so only it meets
// other pollers; one that joins or leaves asks nobody who is primary.
func (s sight) blind(k condition) bool {
	role := s.view.Self.Role
	switch k {
	case noPrimary:
		return role == election.Joining || role == election.Leaving
	case foreignPoller, webhookStays:
		return role != election.Primary
	default:
		return false
	}
}

// present are the replicas heard now, this one first.
func (s sight) present() []election.Status {
	all := []election.Status{s.view.Self}
	for _, p := range s.view.Peers {
		if p.Reachable {
			all = append(all, p.Status)
		}
	}
	return all
}

func (s sight) gone(id election.ReplicaID) bool {
	return !slices.ContainsFunc(s.present(), func(r election.Status) bool { return r.Replica == id })
}

// author is who tells what all can see: the primary; without one, the first by name, then id, of those that
// hear each other, stay, and reach Telegram. Empty if there is none. Each side of a partition has its own.
func (s sight) author() election.ReplicaID {
	if s.view.Known() {
		return s.view.Self.Primary.Replica
	}
	var best *election.Status
	for _, r := range s.present() {
		if !r.Health.OK || r.Role == election.Joining || r.Role == election.Leaving {
			continue
		}
		if best == nil || r.Name < best.Name || r.Name == best.Name && r.Replica < best.Replica {
			best = &r
		}
	}
	if best == nil {
		return ""
	}
	return best.Replica
}

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

// teller decides what this replica tells the admins, and when. It is pure. Every replica runs one and
// counts what the others tell as if it had told it, so that the bound holds for all that hear each other
// together, and whoever takes over the telling repeats nothing that it knows to be told. It cannot know
// what was told before its process started: the bound is per life.
type teller struct {
	lookedAt  time.Time
	newest    election.Claim // of the changes that were looked at
	episodes  [conditions]episode
	allowance allowance
	// own are takeovers of this replica that it has yet to tell. held are changes beyond the allowance:
	// whoever tells next tells them.
	own, held tally
}

// look takes one look at now and returns what to tell the admins, as HTML; empty if there is nothing.
func (t *teller) look(now time.Time, s sight) string {
	if s.view.Self.Replica == "" {
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
func (t *teller) takeInChanges(now time.Time, s sight) bool {
	fresh := s.view.History
	if i := slices.IndexFunc(fresh, func(c election.Change) bool { return c.Claim == t.newest }); i >= 0 {
		fresh = fresh[i+1:]
	}
	for _, c := range fresh {
		t.newest = c.Claim
		switch {
		case t.held.n > 0 || !t.allowance.has(now):
			t.held.add(c, now)
		case c.Claim.Replica == s.view.Self.Replica:
			t.allowance.take(now)
			t.own.add(c, now)
		default:
			t.allowance.take(now) // the new primary tells it
		}
	}
	return len(fresh) > 0
}

// takeIn keeps a condition's episode.
func (t *teller) takeIn(now time.Time, k condition, s sight) {
	e, timing := &t.episodes[k], k.timing(s.view.Self.Lease)
	switch {
	case s.blind(k):
		*e = episode{}
	case s.sees(k):
		if e.since.IsZero() {
			e.since = now
		}
		e.last, e.over = now, false
		if e.by != "" && e.by != s.view.Self.Replica && now.Sub(e.at) < surelyTold && s.gone(e.by) {
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
func (t *teller) due(now time.Time, k condition, lease time.Duration) bool {
	e := t.episodes[k]
	return e.by == "" && !e.since.IsZero() && e.last.Equal(now) && now.Sub(e.since) >= k.timing(lease).onset
}

// tell puts into one message all that is this replica's to tell, if it may and can.
func (t *teller) tell(now time.Time, s sight) string {
	self, author := s.view.Self.Replica, s.author()
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
		case e.over && may && s.reaches:
			lines = append(lines, s.overText(k, *e))
			*e, takes = episode{}, true
		case !t.due(now, k, s.view.Self.Lease) || author == "":
		case k == tokenRejected: // nobody can tell of it before it is over
			e.by, e.at = author, now
		case author != self:
			e.by, e.at, takes = author, now, may
		case may && s.reaches:
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
func (t *teller) takeOut(author election.ReplicaID, may bool, s sight) (out tally, takes bool) {
	self := s.view.Self.Replica
	if s.reaches {
		out, t.own = t.own, tally{}
	}
	if t.held.n == 0 || !may || author == "" || author == self && !s.reaches {
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
func (t *teller) tellsEnd(k condition, s sight) bool {
	self, by := s.view.Self, t.episodes[k].by
	if k != noPrimary {
		return by == self.Replica || s.gone(by) && s.author() == self.Replica
	}
	told := self.Change.Claim == self.Primary && (self.Primary.Replica == self.Replica || self.Change.Gap >= k.timing(self.Lease).onset)
	return by == self.Replica && !told
}

package notify

import (
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"habot/app/election"
)

const (
	// Interval is between two snapshots: short enough for a delay of fifteen seconds, long enough to cost nothing. A
	// takeover is observed at once.
	Interval = 2 * time.Second
	// frozenAfter: a process whose next snapshot comes later was frozen, and knows nothing of the time between.
	frozenAfter = 3 * Interval
	// burst is how many messages may follow each other at once: a few takeovers, each with its own message, while
	// a user tries out what happens. Then there is one per refillEvery, with all that happened meanwhile: 17 in the
	// worst hour.
	burst       = 5
	refillEvery = 5 * time.Minute
	// assumeSent: if the designated sender stays in contact this long, the others assume that the message was sent.
	assumeSent = 10 * time.Second
)

// incident is one condition's stay.
type incident struct {
	// since and last are when it was first and last there; since is zero if it is not.
	since, last time.Time
	// by is the replica that notified of it, at at; empty if none has.
	by election.ReplicaID
	at time.Time
	// over: it has ended, and no notification says so yet.
	over bool
}

// batch is changes of primary that share a message.
type batch struct {
	n     int
	since time.Time
	last  election.Change
}

func (b *batch) add(c election.Change, now time.Time) {
	if b.n == 0 {
		b.since = now
	}
	b.n++
	b.last = c
}

func (b *batch) merge(o batch) {
	if b.n == 0 || o.n > 0 && o.since.Before(b.since) {
		b.since = o.since
	}
	if b.n == 0 || o.n > 0 && o.last.Claim.Compare(b.last.Claim) > 0 {
		b.last = o.last
	}
	b.n += o.n
}

// Notifier decides of what this replica notifies the admins, and when. It is not safe for concurrent use. Every replica
// runs one and counts what the others send as if it had sent it. So the bound holds for all that are in contact together,
// and a new designated sender repeats nothing that it knows to be sent. Of what was sent before its process started it knows the
// changes of primary, by their history; those count from when they were.
type Notifier struct {
	observedAt time.Time
	// oldest and newest are those of the changes that were observed.
	oldest, newest election.Claim
	incidents      [conditions]incident
	limit          *rate.Limiter
	// own are takeovers of this replica that it has yet to send. held are changes beyond the limit: the next sender
	// sends them.
	own, held batch
}

// New returns a notifier that has sent nothing yet.
func New() *Notifier { return &Notifier{limit: rate.NewLimiter(rate.Every(refillEvery), burst)} }

// Observe takes in a snapshot made at now and returns the message to send, as HTML that is yet to be split to Telegram's
// bound; empty if there is none. What it returns counts as sent. Times MUST NOT go back.
func (n *Notifier) Observe(now time.Time, s Snapshot) string {
	if s.View.Self.Replica == "" {
		return "" // not even this replica is known yet
	}
	frozen := !n.observedAt.IsZero() && now.Sub(n.observedAt) > frozenAfter
	n.observedAt = now
	changed := n.takeInChanges(now, s)
	for k := range conditions {
		i := &n.incidents[k]
		if i.by == "" && (frozen || changed && k == noPrimary) {
			*i = incident{}
		}
		n.takeIn(now, k, s)
	}
	return n.message(now, s)
}

// may reports whether the limit allows a message.
func (n *Notifier) may(now time.Time) bool { return n.limit.TokensAt(now) >= 1 }

// takeInChanges counts the changes of primary since the last snapshot; false if there are none.
func (n *Notifier) takeInChanges(now time.Time, s Snapshot) bool {
	fresh := s.View.History
	if n.newest.IsZero() {
		own := slices.IndexFunc(fresh, func(c election.Change) bool { return c.Claim.Replica == s.View.Self.Replica })
		if own < 0 {
			own = len(fresh)
		}
		n.inherit(now, fresh[:own])
		fresh = fresh[own:]
	} else if i := slices.IndexFunc(fresh, func(c election.Change) bool { return c.Claim == n.newest }); i >= 0 {
		n.inherit(now, fresh[:i])
		fresh = fresh[i+1:]
	}
	for _, c := range fresh {
		n.newest = c.Claim
		if n.oldest.IsZero() {
			n.oldest = c.Claim
		}
		switch {
		case n.held.n > 0 || !n.limit.AllowN(now, 1):
			n.held.add(c, now)
		case c.Claim.Replica == s.View.Self.Replica:
			n.own.add(c, now)
		default: // the new primary sends it
		}
	}
	return len(fresh) > 0
}

// inherit counts changes that were before this process's time: others sent their messages.
func (n *Notifier) inherit(now time.Time, before []election.Change) {
	for _, c := range before {
		if n.oldest.IsZero() || c.Claim.Compare(n.oldest) < 0 {
			at := c.Since()
			if at.After(now) {
				at = now
			}
			n.limit.AllowN(at, 1)
		}
	}
	if len(before) > 0 {
		n.oldest = before[0].Claim
		if last := before[len(before)-1].Claim; last.Compare(n.newest) > 0 {
			n.newest = last
		}
	}
}

// takeIn keeps a condition's incident.
func (n *Notifier) takeIn(now time.Time, k condition, s Snapshot) {
	i, timing := &n.incidents[k], k.timing(s.View.Self.Lease)
	switch {
	case s.cannotObserve(k):
		*i = incident{}
	case s.shows(k):
		if i.since.IsZero() {
			i.since = now
		}
		i.last, i.over = now, false
		if i.by != "" && i.by != s.View.Self.Replica && now.Sub(i.at) < assumeSent && s.gone(i.by) {
			i.by = "" // it may have gone before it sent the message
		}
	case i.since.IsZero():
	case i.by == "":
		if now.Sub(i.last) > timing.gapTolerance {
			*i = incident{}
		}
	default:
		i.over = i.over || now.Sub(i.last) >= timing.clearDelay
	}
}

// due reports whether a condition is worth a notification now.
func (n *Notifier) due(now time.Time, k condition, lease time.Duration) bool {
	i := n.incidents[k]
	return i.by == "" && !i.since.IsZero() && i.last.Equal(now) && now.Sub(i.since) >= k.timing(lease).onset
}

// message puts into one message all that is this replica's to send, if it may and can.
func (n *Notifier) message(now time.Time, s Snapshot) string {
	self, sender := s.View.Self.Replica, s.sender()
	may := n.may(now)
	var lines []string
	changes, takes := n.takeOut(sender, may, s)
	if changes.n > 0 {
		lines = append(lines, changes.text(now))
	}
	for k := range conditions {
		i := &n.incidents[k]
		switch {
		case i.over && !n.sendsEnd(k, s):
			*i = incident{}
		case i.over && may && s.CanSend:
			lines = append(lines, s.overText(k, *i))
			*i, takes = incident{}, true
		case !n.due(now, k, s.View.Self.Lease) || sender == "":
		case k == tokenRejected: // nothing can be sent before it is over
			i.by, i.at = sender, now
		case sender != self:
			i.by, i.at, takes = sender, now, may
		case may && s.CanSend:
			i.by, i.at, takes = self, now, true
			lines = append(lines, s.text(k, *i))
		}
	}
	if takes {
		n.limit.AllowN(now, 1)
	}
	return strings.Join(lines, "\n")
}

// takeOut returns the changes of primary that this replica sends now, and whether they take a message of the limit that
// they have not taken yet.
func (n *Notifier) takeOut(sender election.ReplicaID, may bool, s Snapshot) (out batch, takes bool) {
	self := s.View.Self.Replica
	if s.CanSend {
		out, n.own = n.own, batch{}
	}
	if n.held.n == 0 || !may || sender == "" || sender == self && !s.CanSend {
		return out, false
	}
	if sender == self {
		out.merge(n.held)
	}
	n.held = batch{}
	return out, true
}

// sendsEnd reports whether this replica is to notify of a condition's end: the one that notified of it is, or, if
// it is gone, the designated sender. Of an absence of primaries the new one's own message says as much, if it was this
// replica or knows how long there was none.
func (n *Notifier) sendsEnd(k condition, s Snapshot) bool {
	self, by := s.View.Self, n.incidents[k].by
	if k != noPrimary {
		return by == self.Replica || s.gone(by) && s.sender() == self.Replica
	}
	sent := self.Change.Claim == self.Primary && (self.Primary.Replica == self.Replica || self.Change.Gap >= k.timing(self.Lease).onset)
	return by == self.Replica && !sent
}

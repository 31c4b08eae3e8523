package node

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"habot/app/election"
)

// Bounds of what is remembered of terms' notes.
const (
	maxPages   = 8
	maxSettled = 16
	// A term takes over several terms' notes at once only if they have room together, where each takes perNote beside its bytes.
	maxInherited      = 48 << 10
	maxInheritedNotes = 200
	perNote           = 64
	// notesFor is how long notes are good: as long as Telegram keeps what is not confirmed.
	notesFor = 24 * time.Hour
)

// page is what one term noted last.
type page struct {
	progress election.Progress
	heard    election.Instant
	over     bool // a later term has taken its notes over
}

// notebook keeps the notes of the last terms that no later one is known to have taken over. What a majority knows is so handed
// down from term to term, as long as a later primary is in contact with one that knows it. It is pure.
type notebook struct {
	pages []*page // the newest term first
}

func (b *notebook) page(c election.Claim) *page {
	for _, p := range b.pages {
		if p.progress.Claim == c {
			return p
		}
	}
	return nil
}

// learn takes in what a term reported, received at now. Of one term the latest counts.
func (b *notebook) learn(now election.Instant, told election.Progress) {
	p := b.page(told.Claim)
	switch {
	case p == nil:
		p = &page{}
		b.pages = append(b.pages, p)
	case told.Sequence < p.progress.Sequence:
		return
	}
	p.progress, p.heard, p.over = told, now, false
	slices.SortFunc(b.pages, func(x, y *page) int { return y.progress.Claim.Compare(x.progress.Claim) })
	for _, older := range b.pages {
		for _, newer := range b.pages {
			older.over = older.over || takenOver(newer.progress, older.progress)
		}
		older.over = older.over || now.Sub(older.heard) > notesFor
	}
	var shut int // pages that are needed no more; the newest say which terms are settled
	b.pages = slices.DeleteFunc(b.pages, func(p *page) bool {
		if !p.open() {
			shut++
		}
		return !p.open() && shut > maxPages
	})
}

// open reports whether a page has notes that no later term has taken over.
func (p *page) open() bool { return !p.over && len(p.progress.Notes) > 0 }

// full reports whether there is no room for what a term sent: it MUST NOT be learnt then, for what others noted comes first, and not
// be acknowledged.
func (b *notebook) full(told election.Progress) bool {
	open := 0
	for _, p := range b.pages {
		if p.open() && p.progress.Claim != told.Claim {
			open++
		}
	}
	return len(told.Notes) > 0 && open >= maxPages
}

// takenOver reports whether a term has taken over what another noted.
func takenOver(by, p election.Progress) bool {
	return slices.ContainsFunc(by.Settled, func(s election.Settled) bool { return s.Claim == p.Claim && s.Sequence >= p.Sequence })
}

// open are the pages with notes, of terms below a claim, that no later term has taken over, the oldest term first.
func (b *notebook) open(below election.Claim) []*page {
	var all []*page
	for _, p := range slices.Backward(b.pages) {
		if p.open() && p.progress.Claim.Compare(below) < 0 {
			all = append(all, p)
		}
	}
	return all
}

// settle takes note that what a term told is taken over, however many terms there are to be named.
func (b *notebook) settle(p election.Progress) {
	if page := b.page(p.Claim); page != nil && page.progress.Sequence <= p.Sequence {
		page.over = true
	}
}

// inherit is what the term of a claim takes over at once: the notes of the oldest terms, as many as have room in one message, and
// the terms that are settled so, the newest first. The others' it takes over one by one, as if they came late.
func (b *notebook) inherit(c election.Claim) (notes []json.RawMessage, settled []election.Settled) {
	size := 0
	taken := map[*page]bool{}
	for _, p := range b.open(c) {
		add := slices.DeleteFunc(slices.Clone(p.progress.Notes), func(n json.RawMessage) bool {
			return slices.ContainsFunc(notes, func(other json.RawMessage) bool { return bytes.Equal(n, other) })
		})
		for _, n := range add {
			size += len(n) + perNote
		}
		if len(taken) > 0 && (size > maxInherited || len(notes)+len(add) > maxInheritedNotes) {
			break
		}
		notes = append(notes, add...)
		taken[p] = true
	}
	for _, p := range b.pages {
		if !p.open() || taken[p] {
			settled = append(settled, settles(p.progress))
		}
		settled = append(settled, p.progress.Settled...)
	}
	return notes, newest(settled)
}

// settles names what a term told.
func settles(p election.Progress) election.Settled {
	return election.Settled{Claim: p.Claim, Sequence: p.Sequence}
}

// newest are the newest terms, each with what it told last.
func newest(all []election.Settled) []election.Settled {
	slices.SortFunc(all, func(x, y election.Settled) int {
		return cmp.Or(y.Claim.Compare(x.Claim), cmp.Compare(y.Sequence, x.Sequence))
	})
	all = slices.CompactFunc(all, func(x, y election.Settled) bool { return x.Claim == y.Claim })
	return all[:min(len(all), maxSettled)]
}

// reporter sends the standbys what one term's work reports, all of it each time.
type reporter struct {
	n       *Node
	claim   election.Claim
	stirred chan struct{} // signalled when notes of an earlier term have turned up

	mu     sync.Mutex
	latest election.Progress
}

func (r *reporter) report(handled []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latest.Handled = handled
	r.send(false)
}

func (r *reporter) note(notes []json.RawMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latest.Notes = notes
	r.send(true)
}

// begin announces the term, so that each replica that knows notes that it has not taken over hands them in.
func (r *reporter) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.send(true)
}

// settle announces that the notes of another term are among these.
func (r *reporter) settle(p election.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latest.Settled = newest(append(slices.Clone(r.latest.Settled), settles(p)))
	r.send(true)
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	r.n.notes.settle(p)
}

// send sends the latest. This node learns it too: the next term may be its own again.
func (r *reporter) send(notes bool) {
	_ = r.n.learn(r.n.sender.progress(r.latest, notes)) // for its own there is room
}

// gatherFor bounds the wait for what other replicas know: an answer that comes after it counts later.
const gatherFor = 2 * time.Second

// gather is Term.Gather. A majority knows what was confirmed before it was handled, and with this one so many are asked as granted
// this term: one of them knows.
func (r *reporter) gather(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, gatherFor)
	defer cancel()
	again := time.NewTicker(r.n.cfg.Election.Lease / 4)
	defer again.Stop()
	for ctx.Err() == nil && len(r.n.sender.answered()) < r.n.View().Quorum-1 {
		select {
		case <-r.n.sender.acked:
		case <-again.C:
			r.mu.Lock()
			r.send(false) // it may have got lost
			r.mu.Unlock()
		case <-ctx.Done():
		}
	}
}

// wait is Term.Late.
func (r *reporter) wait(ctx context.Context) (notes []json.RawMessage, settle func(), ok bool) {
	for {
		r.n.mu.Lock()
		open := r.n.notes.open(r.claim)
		var p election.Progress
		if len(open) > 0 {
			p = open[0].progress
		}
		r.n.mu.Unlock()
		if len(open) > 0 {
			return p.Notes, func() { r.settle(p) }, true
		}
		select {
		case <-r.stirred:
		case <-ctx.Done():
			return nil, nil, false
		}
	}
}

// handIn takes in notes of an earlier term that another replica knows. If there is no room they come again.
func (n *Node) handIn(p election.Progress) {
	if n.learn(p) != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.reporter != nil {
		signal(n.reporter.stirred)
	}
}

// errNoRoom is of a replica that keeps so many terms' notes, which no later term has taken over, that it takes no other's.
var errNoRoom = errors.New("no room for another term's notes")

// learn takes in what a term's work has reported, wherever it came from.
func (n *Node) learn(p election.Progress) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.cfg.Clock.Read().Now
	switch newest, before := &n.progress[0], &n.progress[1]; {
	case p.Claim == newest.Claim:
		if p.Sequence >= newest.Sequence {
			*newest = p
		}
	case p.Claim.Compare(newest.Claim) > 0:
		*before, *newest = *newest, p
	case before.Claim.IsZero() || p.Claim.Compare(before.Claim) < 0:
	case p.Claim != before.Claim || p.Sequence >= before.Sequence: // late, but not too late
		*before = p
	}
	if p.Claim.Replica != n.cfg.Election.Self && n.notes.full(p) {
		return errNoRoom
	}
	n.notes.learn(now, p)
	return nil
}

// inherited is what predecessors are known to have handled and noted, and whose notes these are.
func (n *Node) inherited(c election.Claim) election.Progress {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := election.Progress{Claim: c}
	for _, id := range append(slices.Clone(n.progress[0].Handled), n.progress[1].Handled...) {
		if !slices.Contains(p.Handled, id) {
			p.Handled = append(p.Handled, id)
		}
	}
	p.Notes, p.Settled = n.notes.inherit(c)
	return p
}

// Progress takes in what the primary has handled and noted, and answers with what it does not know.
func (n *Node) Progress(_ context.Context, p election.Progress) (election.ProgressAnswer, error) {
	if err := n.learn(p); err != nil {
		return election.ProgressAnswer{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if open := n.notes.open(p.Claim); len(open) > 0 {
		unknown := open[0].progress
		return election.ProgressAnswer{Unknown: &unknown}, nil
	}
	return election.ProgressAnswer{}, nil
}

// noted reports whether so many replicas know the latest notes that the successor will: a majority grants its claim, and
// so one that knows them.
func (n *Node) noted() bool {
	v := n.View()
	knows := n.sender.knowing()
	here := 1
	for _, p := range v.Peers {
		switch {
		case knows[p.Status.Replica]:
			here++
		case p.Reachable:
			return false
		}
	}
	return here >= max(v.Expected/2+1, 2)
}

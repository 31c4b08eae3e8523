package bot

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/mymmrac/telego"
)

// Telegram gives the first hundred updates that are not confirmed, so those of one chat that it limits would keep all others out
// of sight. While a hundred are in hand and the oldest wait, their contents are noted to the standbys, and once so many know them
// that any successor will, they are confirmed and kept in memory: see app/decisions/0007-backlog-of-a-limited-chat.md.
const (
	// maxKept and maxKeptBytes bound what is kept: it goes with every report to the standbys, which take 64 KiB.
	maxKept      = 200
	maxKeptBytes = 48 << 10
	// perNote is what a note has beside the update.
	perNote = 64
	// makeRoom is how many of the hundred are kept at a time.
	makeRoom = maxBatch / 2
	// secureFirst is before the first look whether the standbys know, secureLast between looks when it takes long.
	secureFirst = 20 * time.Millisecond
	secureLast  = 500 * time.Millisecond
	// noteEvery is how often they are told again: one that has come back may not know.
	noteEvery = longTimeout * time.Second
	// floodLogEvery is the least time between two lines about a flood.
	floodLogEvery = time.Minute
)

// backlog is what is kept, or offered to be: what waits while its chat does. Its zero value is empty.
type backlog struct {
	contents map[int]json.RawMessage
	bytes    int
	offered  []int // those that the standbys may not know yet; they are not confirmed
	looks    int   // how often it was looked since
	notedAt  time.Time
	// Answers given up since the log said so last.
	givenUp int
	saidAt  time.Time
}

func (b *backlog) add(id int, content json.RawMessage) {
	if b.contents == nil {
		b.contents = map[int]json.RawMessage{}
	}
	b.contents[id] = content
	b.bytes += perNote + len(content)
}

// remove tells whether an update was among them.
func (b *backlog) remove(id int) bool {
	content, ok := b.contents[id]
	if ok {
		delete(b.contents, id)
		b.bytes -= perNote + len(content)
		b.offered = slices.DeleteFunc(b.offered, func(other int) bool { return other == id })
	}
	return ok
}

func (b *backlog) takes(size int) bool {
	return len(b.contents) < maxKept && b.bytes+perNote+size <= maxKeptBytes
}

// takeLate takes in what an earlier term noted and this replica did not know; false if there is none when ctx ends.
func (r *run) takeLate(ctx, working context.Context) bool {
	notes, settle, ok := r.term.Late(ctx)
	if ok {
		r.inherit(working, notes)
		settle()
	}
	return ok
}

// offer notes to the standbys what waits at the head of a full window, if it does. r.mu MUST be held.
func (r *run) offer() {
	if len(r.book.fetched) < maxBatch || len(r.kept.offered) > 0 { // there is room, or there will be
		return
	}
	type waiting struct {
		u telego.Update
		l *line
	}
	inHand := map[int]waiting{}
	for _, l := range r.lines {
		for _, u := range l.updates {
			inHand[u.UpdateID] = waiting{u, l}
		}
	}
	full := false
	for _, id := range r.book.fetched[:makeRoom] {
		if r.book.handled[id] {
			continue
		}
		w, ok := inHand[id]
		if !ok || !w.l.waits {
			break // it is being answered
		}
		content, err := json.Marshal(w.u)
		if err != nil {
			break
		}
		if !r.kept.takes(len(content)) {
			// What has found room comes first: nothing is given up that need not be.
			if len(r.kept.offered) > 0 && !full || !r.fit(len(content)) {
				break
			}
			full = true
		}
		r.kept.add(id, content)
		r.kept.offered = append(r.kept.offered, id)
	}
	if len(r.kept.offered) > 0 {
		r.kept.looks = 0
		r.note()
	}
}

// fit makes room among what is kept, by giving up the oldest answers of the chat that has most there; false if there is none to
// be had. A chat that has no more than its share of the hundred waiting loses nothing, and the answer that is being tried is
// not given up. r.mu MUST be held.
func (r *run) fit(size int) bool {
	for perNote+size <= maxKeptBytes && !r.kept.takes(size) {
		var most *line
		var all []int
		for _, l := range r.lines {
			if len(l.updates) <= makeRoom {
				continue
			}
			var kept []int
			for _, u := range l.updates[1:] {
				if _, ok := r.kept.contents[u.UpdateID]; ok && !slices.Contains(r.kept.offered, u.UpdateID) {
					kept = append(kept, u.UpdateID)
				}
			}
			if len(kept) > len(all) {
				most, all = l, kept
			}
		}
		if most == nil {
			return false
		}
		r.giveUp(most, all[0])
	}
	return r.kept.takes(size)
}

// giveUp leaves an update of a line without an answer. r.mu MUST be held.
func (r *run) giveUp(l *line, id int) {
	l.updates = slices.DeleteFunc(l.updates, func(u telego.Update) bool { return u.UpdateID == id })
	now := time.Now()
	r.book.done(id, now)
	r.kept.remove(id)
	r.b.metrics.updates.WithLabelValues(outcomeFailed).Inc()
	if r.kept.givenUp++; now.Sub(r.kept.saidAt) >= floodLogEvery {
		r.b.cfg.Logger.Warn("a chat that Telegram limits has more waiting than is kept: the oldest are given up", "part", l.part, "omitted", r.kept.givenUp)
		r.kept.givenUp, r.kept.saidAt = 0, now
	}
}

// secure confirms what was offered, once the standbys know it. It returns when to look again; 0 if there is no need.
func (r *run) secure() time.Duration {
	r.mu.Lock()
	r.offer()
	pending := len(r.kept.offered) > 0
	again := backOff(r.kept.looks, secureFirst, secureLast, 0)
	r.kept.looks++
	if len(r.kept.contents) > 0 && time.Since(r.kept.notedAt) >= noteEvery {
		r.note()
	}
	r.mu.Unlock()
	switch {
	case !pending:
		return 0
	case !r.term.Noted():
		return again
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.book.keep(r.kept.offered, time.Now())
	r.kept.offered = nil
	return 0
}

package intake

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"habot/app/telegram"
	"habot/app/update"
)

// Telegram gives the first hundred updates that are not confirmed, so those of one chat that it limits, or that a webhook backend
// refuses, would keep all others out of sight. While a hundred are in hand and the oldest wait, their contents are noted to the standbys, and once so many know them
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
	// fullLogEvery is the least time between two lines about what there is no room for.
	fullLogEvery = time.Minute
	// roomAgain is between looks whether there is room for what earlier terms noted.
	roomAgain = time.Second
)

// backlog is what is kept, or offered to be: what waits while its chat does. Its zero value is empty.
type backlog struct {
	contents map[int]json.RawMessage
	bytes    int
	offered  []int     // those that the standbys may not know yet; they are not confirmed
	looks    int       // how often it was looked since
	fullAt   time.Time // when the log said last that there is no more room
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

// takeLate takes in what an earlier term noted and this replica did not know; false if there is none, or no room for it, when ctx
// ends: then others go on keeping it.
func (r *run) takeLate(ctx, working context.Context) bool {
	notes, settle, ok := r.term.Late(ctx)
	if !ok {
		return false
	}
	for !r.inherit(working, notes) {
		if !sleep(ctx, roomAgain) {
			return false
		}
	}
	settle()
	return true
}

// offer notes to the standbys what waits at the head of a full window, if it does. r.mu MUST be held.
func (r *run) offer() {
	if len(r.offsets.fetched) < maxBatch || len(r.kept.offered) > 0 { // there is room, or there will be
		return
	}
	for _, id := range r.offsets.fetched[:makeRoom] {
		if r.offsets.isHandled(id) {
			continue
		}
		u, ok := r.inHand[id]
		if !ok || !r.limited[queueOf(u)] {
			break // it is being answered
		}
		content := u.Raw
		if !r.kept.takes(len(content)) {
			// Telegram keeps the rest, and whatever comes after it.
			r.full()
			break
		}
		r.kept.add(id, content)
		r.kept.offered = append(r.kept.offered, id)
	}
	if len(r.kept.offered) > 0 {
		r.kept.looks = 0
		r.note()
	}
}

// full logs, now and then, that there is no more room. r.mu MUST be held.
func (r *run) full() {
	if now := time.Now(); now.Sub(r.kept.fullAt) >= fullLogEvery {
		r.kept.fullAt = now
		r.in.cfg.Logger.Warn("more waits for limited or refused chats than replicas keep: other chats wait, too")
	}
}

// secure confirms what was offered, once the standbys know it. It returns when to look again; 0 if there is no need.
func (r *run) secure() time.Duration {
	r.mu.Lock()
	r.offer()
	asked := slices.Clone(r.kept.offered)
	again := telegram.BackOff(r.kept.looks, secureFirst, secureLast, 0)
	r.kept.looks++
	r.mu.Unlock()
	switch {
	case len(asked) == 0:
		return 0
	case !r.term.Noted():
		return again
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// What has turned up while the standbys were asked is not known to them; what has been handled meanwhile is not kept any more.
	known := slices.DeleteFunc(asked, func(id int) bool { return !slices.Contains(r.kept.offered, id) })
	r.offsets.keep(known, time.Now())
	r.kept.offered = slices.DeleteFunc(r.kept.offered, func(id int) bool { return slices.Contains(known, id) })
	if len(r.kept.offered) > 0 {
		return secureFirst
	}
	return 0
}

// queue tells the queues of a term apart: by number, those that an update has for itself by its id.
type queue struct{ number, alone int64 }

func queueOf(u update.Update) queue {
	if u.Queue == 0 {
		return queue{alone: u.ID}
	}
	return queue{number: u.Queue}
}

// limits takes note whether an update in hand waits because Telegram limits its chat: so does all of its queue.
func (r *run) limits(id int64, waits bool) {
	r.mu.Lock()
	if u, ok := r.inHand[int(id)]; ok && waits {
		r.limited[queueOf(u)] = true
	} else if ok {
		delete(r.limited, queueOf(u))
	}
	r.mu.Unlock()
	r.stir()
}

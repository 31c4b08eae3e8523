package simulator

import (
	"sort"
	"time"
)

// Rules of the real server's queue of updates.
const (
	queueCapacity = 100_000
	// pastEnd and beforeHead: an offset further out than these is refused by the queue, and the server then
	// gives what there is and forgets nothing (telegram-bot-api, Client.cpp, do_get_updates). grammY, which
	// begins with offset 1, lives on that.
	pastEnd    = 10
	beforeHead = queueCapacity
)

// Bounds of sizes, in bytes: of the updates in one answer (JsonUpdates; each counts for perUpdate more), and of one
// update, which the server drops if it is larger (add_update_impl).
const (
	maxAnswer = 4 << 20
	perUpdate = 50
	maxUpdate = 64 << 10
)

// queued is one update that waits to be confirmed.
type queued struct {
	id      int
	kind    string // message, callback_query, ...
	body    []byte // the whole update as JSON
	expires time.Time
	serial  int64 // in the account; ids may come again
}

// retention is how long an update of a kind is kept unconfirmed.
func retention(kind string) time.Duration {
	switch kind {
	case "callback_query", "shipping_query", "pre_checkout_query":
		return 150 * time.Second
	case "inline_query":
		return 30 * time.Second
	case "chosen_inline_result", "custom_event":
		return 600 * time.Second
	default:
		return 24 * time.Hour
	}
}

// queue keeps updates until they are confirmed or expire. It is pure.
type queue struct {
	waiting []queued // in the order of their ids
	tail    int      // the id of the next update
	restart int      // where ids are to start again once nothing waits; 0 for nowhere
	// nextExpiry is no later than the first expiry of what waits, so that few calls look at all of it.
	nextExpiry time.Time
}

// head is the id of the oldest update that waits, the tail if none does.
func (q *queue) head() int {
	if len(q.waiting) == 0 {
		return q.tail
	}
	return q.waiting[0].id
}

// next is the id that the next update gets.
func (q *queue) next() int {
	if q.restart != 0 && len(q.waiting) == 0 {
		q.tail, q.restart = q.restart, 0
	}
	return q.tail
}

// push appends an update that got its id from next; false if the queue is full.
func (q *queue) push(u queued) bool {
	if len(q.waiting) >= queueCapacity {
		return false
	}
	if len(q.waiting) == 0 || u.expires.Before(q.nextExpiry) {
		q.nextExpiry = u.expires
	}
	q.waiting = append(q.waiting, u)
	q.tail = u.id + 1
	return true
}

// expire drops what was kept for too long and returns it.
func (q *queue) expire(now time.Time) (dropped []queued) {
	if len(q.waiting) == 0 || !now.After(q.nextExpiry) {
		return nil
	}
	kept := q.waiting[:0]
	for _, u := range q.waiting {
		if now.After(u.expires) {
			dropped = append(dropped, u)
		} else {
			if len(kept) == 0 || u.expires.Before(q.nextExpiry) {
				q.nextExpiry = u.expires
			}
			kept = append(kept, u)
		}
	}
	q.waiting = kept
	return dropped
}

// start is where an offset begins: -n stands for the last n, 0 and anything far out for the head.
func (q *queue) start(offset int) int {
	switch {
	case offset < 0:
		return q.waitingFrom(max(0, len(q.waiting)+offset))
	case offset == 0, offset > q.tail+pastEnd, offset < q.head()-beforeHead:
		return q.head()
	default:
		return offset
	}
}

func (q *queue) waitingFrom(i int) int {
	if i >= len(q.waiting) {
		return q.tail
	}
	return q.waiting[i].id
}

// get forgets what the offset confirms and returns at most limit of what is left, the oldest first, as far as one answer
// may be long.
func (q *queue) get(offset, limit int) (updates, confirmed []queued) {
	from := q.start(offset)
	n := sort.Search(len(q.waiting), func(i int) bool { return q.waiting[i].id >= from })
	confirmed = append(confirmed, q.waiting[:n]...)
	q.waiting = q.waiting[n:]
	left := maxAnswer
	for _, u := range q.waiting[:min(limit, len(q.waiting))] {
		if left -= perUpdate + len(u.body); left <= 0 {
			break
		}
		updates = append(updates, u)
	}
	return updates, confirmed
}

// clear drops everything that waits and returns it.
func (q *queue) clear() []queued {
	dropped := q.waiting
	q.waiting = nil
	return dropped
}

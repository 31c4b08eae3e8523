package electiontest

import "time"

// queue is what is to happen, by true time and then by the order in which it was put in. It is a binary
// heap of entries without pointers beside the things themselves: the simulator spends most of its time
// here, and container/heap takes twice as long.
type queue struct {
	heap []entry
	seq  uint32
	// things are what the entries stand for; free are the places that nothing stands in.
	things []thing
	free   []uint32
}

type entry struct {
	at    time.Duration
	seq   uint32
	place uint32
}

func (a entry) before(b entry) bool { return a.at < b.at || (a.at == b.at && a.seq < b.seq) }

type happening uint8

const (
	aCall happening = iota
	aTimer
	anArrival
	aRoundsEnd
	aSilence // the work has stopped
	aDeath   // of another's process is learned of
)

// thing is one thing that is to happen.
type thing struct {
	what happening
	// host, if set, is where it happens: it waits while the host is frozen and dies with its process.
	host  *host
	epoch int
	msg   message
	round *round
	death *death
	do    func()
}

func (q *queue) len() int { return len(q.heap) }

func (q *queue) push(at time.Duration, t thing) {
	var place uint32
	if n := len(q.free); n > 0 {
		place = q.free[n-1]
		q.free = q.free[:n-1]
		q.things[place] = t
	} else {
		place = uint32(len(q.things))
		q.things = append(q.things, t)
	}
	q.put(at, place)
}

// put queues a place that is already taken.
func (q *queue) put(at time.Duration, place uint32) {
	q.seq++
	e := entry{at, q.seq, place}
	q.heap = append(q.heap, e)
	i := len(q.heap) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !e.before(q.heap[up]) {
			break
		}
		q.heap[i] = q.heap[up]
		i = up
	}
	q.heap[i] = e
}

// pop takes the first entry out; its thing stays until release or put.
func (q *queue) pop() entry {
	first, last := q.heap[0], q.heap[len(q.heap)-1]
	q.heap = q.heap[:len(q.heap)-1]
	n := len(q.heap)
	if n == 0 {
		return first
	}
	i := 0
	for {
		down := 2*i + 1
		if down >= n {
			break
		}
		if down+1 < n && q.heap[down+1].before(q.heap[down]) {
			down++
		}
		if !q.heap[down].before(last) {
			break
		}
		q.heap[i] = q.heap[down]
		i = down
	}
	q.heap[i] = last
	return first
}

// release gives a place back and returns what stood there.
func (q *queue) release(place uint32) thing {
	t := q.things[place]
	q.things[place] = thing{}
	q.free = append(q.free, place)
	return t
}

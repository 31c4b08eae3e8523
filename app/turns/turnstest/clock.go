package turnstest

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// event is something that happens at a time; events of one time happen in the order in which they were made.
type event struct {
	at  time.Duration
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }

// Push implements heap.Interface.
func (e *events) Push(x any) { *e = append(*e, x.(event)) }

// Pop implements heap.Interface.
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	*e = old[:len(old)-1]
	return last
}

// clock is virtual time.
type clock struct {
	now  time.Duration
	seq  int
	heap events
}

func (c *clock) after(d time.Duration, do func()) {
	c.seq++
	heap.Push(&c.heap, event{c.now + max(0, d), c.seq, do})
}

// run lets everything happen until the time, or until stop says so.
func (c *clock) run(until time.Duration, stop func() bool) {
	for len(c.heap) > 0 && c.heap[0].at <= until && !stop() {
		e := heap.Pop(&c.heap).(event)
		c.now = e.at
		e.do()
	}
	c.now = max(c.now, until)
}

// dice are a stream of random numbers. Each copy and each purpose has its own, so that leaving out one fault changes
// little elsewhere: that is what makes a schedule shrink.
type dice struct{ *rand.Rand }

func newDice(seed, stream uint64) dice { return dice{rand.New(rand.NewPCG(seed, stream))} }

// within is in [from, to).
func (d dice) within(from, to time.Duration) time.Duration {
	if to <= from {
		return from
	}
	return from + time.Duration(d.Int64N(int64(to-from)))
}

func (d dice) chance(p float64) bool { return d.Float64() < p }

// pick is one of them.
func pick[T any](d dice, of ...T) T { return of[d.IntN(len(of))] }

package turnstest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"habot/app/turns"
)

// Framework is how a copy behaves.
type Framework struct {
	// Before: it confirms updates before it handles them.
	Before bool
	// Keeps: it keeps its connections.
	Keeps bool
	// First is the offset that it begins with; -1 asks to skip what waits, after which it begins with 1.
	First int64
	// Timeout is how long its polls wait; Pause is between an answer and the next poll.
	Timeout, Pause time.Duration
	// StartsUp: it calls getMe first. Greets: it sends something when it starts, even before that.
	StartsUp, Greets bool
	// Farewell: it confirms for the last time when it is to stop. Drains: it finishes what it has in hand.
	Farewell, Drains bool
	// Job: it sends something each second. Fragile: its process ends when that is refused.
	Job, Fragile bool
	// Think is how long it takes to handle an update, at most; Ignores is which share it does not answer.
	Think   time.Duration
	Ignores float64
	// Backoff is how long it waits after an error.
	Backoff time.Duration
	Limit   int
}

// FaultKind is what is done.
type FaultKind string

// The kinds of faults.
const (
	Kill      FaultKind = "kill a copy"
	Terminate FaultKind = "terminate a copy"
	Freeze    FaultKind = "freeze a copy"
	Cut       FaultKind = "cut a copy off"
	Crash     FaultKind = "crash a replica"
	Both      FaultKind = "crash the primary, kill the active copy"
	Doze      FaultKind = "the primary does not run"
	Deaf      FaultKind = "a replica misses deltas"
	Switch    FaultKind = "planned change of primary"
	Next      FaultKind = "operator moves on"
	Slow      FaultKind = "requests are late"
)

func faultKinds() []FaultKind {
	return []FaultKind{Kill, Terminate, Freeze, Cut, Crash, Both, Doze, Deaf, Switch, Next, Slow}
}

// Moment is when a fault strikes.
type Moment string

// The moments.
const (
	AtOnce    Moment = "at once"
	OnAnswer  Moment = "when updates are given"
	OnConfirm Moment = "when updates are confirmed"
	OnActive  Moment = "when a turn begins"
	OnPrimary Moment = "when a primary takes over"
	OnDied    Moment = "when a copy is declared dead"
)

func moments() []Moment {
	return []Moment{AtOnce, OnAnswer, OnConfirm, OnActive, OnPrimary, OnDied}
}

// Fault is one thing done.
type Fault struct {
	// At is when it strikes, or from when on it waits for its moment; After is how long after that.
	At    time.Duration
	On    Moment
	After time.Duration
	Kind  FaultKind
	// Who is the copy, or the replica; -1 is the active one, or the primary.
	Who int
	// For is how long it lasts, or until the process starts again.
	For time.Duration
}

// String implements fmt.Stringer.
func (f Fault) String() string {
	return fmt.Sprintf("%8.3f s %s (+%v): %s %d for %v", f.At.Seconds(), f.On, f.After.Round(time.Millisecond), f.Kind, f.Who, f.For.Round(time.Millisecond))
}

// Plan is one schedule. All that is random in it is drawn from the seed.
type Plan struct {
	Seed   uint64
	Config turns.Config
	Copies []Framework
	// Rate is how many updates come in a second, of Chats chats; Queries is the share that expires after 30 s.
	Rate    float64
	Chats   int
	Queries float64
	// Poison is the share of updates that end each process that confirms before it handles and gets them.
	Poison float64
	// Trouble is when the faults end and peace begins.
	Trouble time.Duration
	Faults  []Fault
}

// String implements fmt.Stringer.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, patience %v, replay %v, %.2f updates/s of %d chats, trouble until %v\n",
		p.Seed, p.Config.Patience, p.Config.Replay, p.Rate, p.Chats, p.Trouble)
	for i, f := range p.Copies {
		fmt.Fprintf(&b, "  copy %d: %+v\n", i, f)
	}
	for _, f := range p.Faults {
		fmt.Fprintf(&b, "  %v\n", f)
	}
	return b.String()
}

// Draw draws a plan.
func Draw(seed uint64) *Plan {
	d := newDice(seed, 1)
	p := &Plan{
		Seed: seed,
		Config: turns.Config{
			Patience: pick(d, 20*time.Second, 40*time.Second, 90*time.Second),
			Replay:   pick(d, 0, 5*time.Second, 30*time.Second, 30*time.Second),
		},
		Rate:    pick(d, 0.05, 0.5, 2, 2, 10),
		Chats:   pick(d, 1, 3, 20),
		Queries: pick(d, 0, 0, 0.3),
		Poison:  pick(d, 0, 0, 0, 0.05),
		Trouble: d.within(20*time.Second, 150*time.Second),
	}
	for range 1 + d.IntN(4) {
		f := Framework{
			Before: d.chance(0.6), Keeps: d.chance(0.8), First: pick[int64](d, 0, 0, 1, 1, -1),
			Timeout: pick(d, 0, time.Second, 10*time.Second, 10*time.Second, 30*time.Second, 50*time.Second, 59*time.Second),
			Pause:   pick(d, 0, 0, 0, 300*time.Millisecond), StartsUp: d.chance(0.7), Greets: d.chance(0.3),
			Farewell: d.chance(0.4), Drains: d.chance(0.5), Job: d.chance(0.3), Fragile: d.chance(0.5),
			Think:   pick(d, 10*time.Millisecond, 100*time.Millisecond, 2*time.Second, p.Config.Patience*8/9),
			Ignores: pick(d, 0, 0, 0.3, 1), Backoff: pick(d, 100*time.Millisecond, time.Second, 3*time.Second, 8*time.Second),
			Limit: pick(d, 100, 100, 100, 1, 7),
		}
		p.Copies = append(p.Copies, f)
	}
	for range d.IntN(8) {
		f := Fault{
			At: d.within(0, p.Trouble), On: pick(d, append(moments(), AtOnce, OnAnswer)...), Kind: pick(d, faultKinds()...),
			Who: pick(d, -1, -1, d.IntN(4)),
		}
		f.After = pick(d, 0, 0, d.within(0, 50*time.Millisecond), d.within(0, 2*time.Second))
		switch f.Kind {
		case Freeze, Cut:
			f.For = pick(d, d.within(0, 5*time.Second), d.within(0, 2*p.Config.Patience))
		case Doze:
			f.For = d.within(0, 1500*time.Millisecond)
		case Slow, Deaf:
			f.For = d.within(0, 10*time.Second)
		case Kill, Terminate, Crash, Both, Switch, Next:
			f.For = pick(d, d.within(50*time.Millisecond, time.Second), d.within(time.Second, 10*time.Second), d.within(10*time.Second, time.Minute))
		}
		p.Faults = append(p.Faults, f)
	}
	slices.SortFunc(p.Faults, func(a, b Fault) int { return int(a.At - b.At) })
	return p
}

// Shrink returns the plan with as few faults and copies as it still breaks the same guarantee with, and its failure.
func Shrink(p *Plan) (*Plan, error) {
	_, err := p.Run(nil, nil)
	var first *BrokenError
	if !errors.As(err, &first) {
		return p, err
	}
	try := func(q Plan) bool {
		_, e := q.Run(nil, nil)
		var b *BrokenError
		if errors.As(e, &b) && b.Guarantee == first.Guarantee {
			p, err = &q, e
			return true
		}
		return false
	}
	for again := true; again; {
		again = false
		for i := range p.Faults {
			q := *p
			q.Faults = slices.Delete(slices.Clone(p.Faults), i, i+1)
			if again = try(q); again {
				break
			}
		}
		if n := len(p.Copies); !again && n > 1 {
			q := *p
			q.Copies = p.Copies[:n-1]
			again = try(q)
		}
	}
	return p, err
}

package election

import (
	"math"
)

// promise is the one grant a replica may have given, and the floor beneath it.
type promise struct {
	// held is the claim last granted and not withdrawn; it is a promise until the instant until.
	held  Claim
	until Instant
	// base is the floor without held, so that a withdrawal can restore it.
	base Claim
	// ended has, per replica, the highest timestamp of its withdrawn and released claims: a late
	// message of such a claim must not bind any replica.
	ended map[ReplicaID]int64
}

// floor is the highest claim granted or received that was not withdrawn.
func (p *promise) floor() Claim {
	if p.held.Compare(p.base) > 0 {
		return p.held
	}
	return p.base
}

func (p *promise) raise(c Claim) {
	if c.Compare(p.base) > 0 {
		p.base = c
	}
}

// give replaces what was held: what it held is the floor beneath.
func (p *promise) give(c Claim, until Instant) {
	if p.held != c {
		p.raise(p.held)
		p.held = c
	}
	p.until = until
}

// end drops a claim for good. A withdrawn one leaves no floor behind, a released one does.
func (p *promise) end(c Claim, released bool) {
	if p.ended[c.Replica] < c.Timestamp {
		p.ended[c.Replica] = c.Timestamp
	}
	if len(p.ended) > endedLength {
		p.forgetLowest()
	}
	if p.held == c {
		p.held, p.until = Claim{}, 0
	}
	if released {
		p.raise(c)
	}
}

func (p *promise) forgetLowest() {
	lowest := Claim{Timestamp: math.MaxInt64}
	for id, ts := range p.ended {
		if c := (Claim{ts, id}); c.Compare(lowest) < 0 {
			lowest = c
		}
	}
	delete(p.ended, lowest.Replica)
}

func (p *promise) hasEnded(c Claim) bool { return c.Timestamp <= p.ended[c.Replica] }

// above reports whether c may be granted over the floor f: it is higher, or it is f itself, renewed.
func above(c, f Claim) bool { return c.Timestamp > f.Timestamp || c == f }

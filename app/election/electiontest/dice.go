package electiontest

import "time"

// dice are a stream of random numbers. Every link and every host has its own, made from the seed, so
// that leaving out one fault does not change what the network does elsewhere: that is what makes a
// schedule shrink.
//
// The generator is SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
type dice uint64

// newDice returns the stream that belongs to these numbers, the same each time.
func newDice(parts ...uint64) dice {
	var d dice
	for _, p := range parts {
		d = dice(d.next() ^ p)
	}
	return d
}

func (d *dice) next() uint64 {
	*d += 0x9e3779b97f4a7c15
	z := uint64(*d)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// float is in [0, 1).
func (d *dice) float() float64 { return float64(d.next()>>11) / (1 << 53) }

// below is in [0, n); n MUST be positive.
func (d *dice) below(n int) int { return int(d.next() % uint64(n)) }

// within is in [0, max), and 0 if max is.
func (d *dice) within(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	return time.Duration(d.next() % uint64(limit))
}

// around is within a share of d to either side of it.
func (d *dice) around(middle, spread time.Duration) time.Duration {
	return max(0, middle-spread+d.within(2*spread))
}

func (d *dice) chance(p float64) bool { return d.float() < p }

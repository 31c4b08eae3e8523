package election

import (
	"hash/fnv"
	"time"
)

// Among many replicas a replica must not cost more, or those that share few processors are busy with each other alone: it
// asks a few others at a time, and the candidates come one after the other. Up to few replicas none of this shows.

// few is how many replicas may claim at once, and all ask each other: their messages meet within a round trip.
const few = 5

// rounds is in how many rounds of questions a replica asks every other once.
func (m *Machine) rounds() int {
	const atOnce = few - 1
	return max(1, (m.expected()-1+atOnce-1)/atOnce)
}

// pollInterval is how often a replica that knows no primary, or is out of contact with it, asks. Of many it asks less
// often: any of them can answer, and all of them may be asking.
func (m *Machine) pollInterval() time.Duration {
	return time.Duration(max(2, m.rounds())) * m.cfg.pollInterval() / 2
}

// livenessWindow is how long a replica counts as reachable after a message: one question to it may be lost, and a
// renewal arrives that often even under a long lease. Every replica answers a primary's renewals.
func (m *Machine) livenessWindow() time.Duration {
	rounds := m.rounds()
	if m.role == Primary {
		rounds = 1
	}
	return max(time.Duration(5*rounds)*m.cfg.seekInterval()/2, 2*m.cfg.Heartbeat())
}

// growthDelay is how long more replicas than N must be in contact together before the larger number is used:
// longer than livenessWindow, so that a replica that restarts is never counted twice.
func (m *Machine) growthDelay() time.Duration { return 8 * m.livenessWindow() / 5 }

// retention is how long a replica that is out of contact is remembered, and a larger number than N
// with it.
func (m *Machine) retention() time.Duration { return max(time.Minute, 2*m.livenessWindow()) }

// hearSeldom is for a replica that is primary no longer: those it reaches answer no renewals from now on.
func (m *Machine) hearSeldom() {
	for _, p := range m.peers {
		if m.now.Sub(p.heard) <= p.within {
			p.within = m.livenessWindow()
		}
	}
}

// spread is how long a replica of many leaves those before it alone, so that the claim of the first has arrived before others
// begin. It says when to claim, never who wins. Replicas of one health are in the order of their places; of those that were
// not met yet as many as there should be are before this one, by its own place. While a majority is there no more than a
// minority before it can be gone: it waits for no more.
func (m *Machine) spread() time.Duration {
	if m.expected() <= few {
		return 0
	}
	own := place(m.cfg.Self)
	before, unheard := 0, m.expected()-1
	for id, p := range m.peers {
		unheard--
		healthy := p.status.Health.OK
		first := healthy && !m.health.OK || healthy == m.health.OK && place(id) < own
		if first && id != m.last.claim.Replica && p.status.Role != Leaving && !p.status.IsWitness() && m.reachable(p) {
			before++
		}
	}
	before += int(float64(max(0, unheard)) * own)
	return time.Duration(min(before, m.expected()-m.quorum())) * m.cfg.Retry() * time.Duration(max(4, m.rounds())) / 4
}

// place is where a replica stands in an order of all, in [0, 1). Ids are random: their hashes lie evenly.
func place(id ReplicaID) float64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	return float64(h.Sum32()) / (1 << 32)
}

package electiontest

import (
	"slices"
	"time"

	"habot/app/election"
)

// Lifelines says which replicas learn of the death of another's process, and when. No host learns of a death that did not
// happen: that is the assumption under test elsewhere.
type Lifelines string

// Lifelines.
const (
	// NoLifelines: the lease alone decides.
	NoLifelines Lifelines = ""
	// LifelinesAll: every replica that is up learns of every death within moments.
	LifelinesAll Lifelines = "all"
	// LifelinesSome: each learns of it or does not, as if some were on other machines.
	LifelinesSome Lifelines = "some"
	// LifelinesLate: some learn of it up to three leases late, when others may have moved on.
	LifelinesLate Lifelines = "late"
)

func allLifelines() []Lifelines {
	return []Lifelines{NoLifelines, LifelinesAll, LifelinesSome, LifelinesLate}
}

// witnessed is within how long of a death those that have a lifeline learn of it.
const witnessed = 2 * time.Millisecond

// death is the end of a process as another replica learns of it.
type death struct {
	of        election.ReplicaID
	witnesses []election.ReplicaID
}

// mourn has others learn of the end of a host's process. Those that start later never do.
func (c *Cluster) mourn(h *host) {
	if c.opt.Lifelines == NoLifelines {
		return
	}
	all := []election.ReplicaID{}
	var told []*host
	for _, to := range c.hosts {
		if to == h || to.machine == nil || c.opt.Lifelines == LifelinesSome && h.deaths.chance(0.4) {
			continue
		}
		all, told = append(all, to.id), append(told, to)
	}
	for _, to := range told {
		after := h.deaths.within(witnessed)
		if c.opt.Lifelines == LifelinesLate && h.deaths.chance(0.7) {
			after = h.deaths.within(3 * c.opt.Lease)
		}
		d := death{of: h.id, witnesses: slices.DeleteFunc(slices.Clone(all), func(id election.ReplicaID) bool { return id == to.id })}
		c.queue.push(c.now+after, thing{what: aDeath, host: to, epoch: to.epoch, death: &d})
	}
}

// witnesses has a host learn of a death. What it promised to the dead binds it no longer: the lease of a process that has
// ended counts for no claimant.
func (c *Cluster) witnesses(h *host, d *death) {
	c.Coverage.Counts["death witnessed"]++
	c.trace("%s learns that %s has died", h.name, d.of)
	if a := &h.account; a.promised.Replica == d.of {
		c.Coverage.Counts["death of one with a promise witnessed"]++
		a.promised, a.until = election.Claim{}, 0
	}
	c.step(h, election.ProcessDied{Replica: d.of, Witnesses: d.witnesses})
}

package electiontest

import "time"

// lease is that of all plans: nothing in the election depends on its length.
const lease = time.Second

// scope is the sizes and quorums that are drawn; below a majority as well.
var scope = []struct{ replicas, quorum int }{
	{3, 0}, {3, 0}, {3, 0}, {3, 0}, {5, 0}, {5, 0}, {2, 0}, {4, 0}, {7, 0}, {6, 0}, {9, 0}, {1, 0},
	{2, 1}, {3, 1}, {4, 2}, {5, 1},
}

// drawer draws a plan.
type drawer struct {
	dice
	plan *Plan
	// members are hosts that trouble may come to; restarts says whether processes may end.
	members  int
	restarts bool
	// forGood: who stops does not start again.
	forGood bool
}

// Draw draws the plan of a seed. Random faults are too tame to find what breaks at one point of the
// protocol only, so they come at the primary half of the time, at moments (while a claim is under way, say), last
// about as long as something that matters, and in sequences that are known to be hard.
func Draw(seed uint64) Plan {
	d := &drawer{dice: newDice(seed), plan: &Plan{Seed: seed}}
	s := scope[d.below(len(scope))]
	p := d.plan
	p.Replicas, p.Quorum, p.Hosts = s.replicas, s.quorum, s.replicas
	p.Drift = d.chance(0.5)
	p.Wall = []WallClocks{WallRight, WallApart, WallApart, WallCoarse}[d.below(4)]
	p.Noise = Noise{
		Loss:      []float64{0, 0.02, 0.2, 0.4}[d.below(4)],
		Duplicate: []float64{0, 0.1, 0.3}[d.below(3)],
		MaxDelay:  []time.Duration{time.Millisecond, 50 * time.Millisecond, 400 * time.Millisecond, 3 * lease}[d.below(4)],
	}
	lifelines := newDice(seed, forLifelines)
	p.Lifelines = allLifelines()[lifelines.below(len(allLifelines()))]
	patience := newDice(seed, forPatience)
	p.Patience = []time.Duration{0, lease / 4, 3 * lease}[patience.below(3)]
	d.members, d.restarts = p.Hosts, d.chance(0.7) // without restarts ORDER must hold throughout
	begin := d.begin()
	p.NoiseFrom = min(p.NoiseFrom, begin)
	length := 6*lease + d.within(18*lease)
	p.Trouble = begin + length
	p.NoiseUntil = p.Trouble
	if p.Replicas > 1 && p.Quorum == 0 && p.Hosts == p.Replicas && d.chance(0.12) { // below a majority it would be a primary too
		p.Hosts++
		p.Incompatible = []Incompatible{OtherLease, OtherProtocol}[d.below(2)]
		d.add(Fault{At: d.within(begin + lease), Kind: DoStart, Who: Target(p.Hosts - 1)})
	}
	p.Witnesses = d.witnesses()
	for at := begin; at < p.Trouble; at += d.within(2 * lease) {
		d.trouble(at)
	}
	return *p
}

// witnesses are those of the plan: of two replicas in five, one at a time and more, but never all of those that stay.
func (d *drawer) witnesses() []int {
	w := newDice(d.plan.Seed, forWitnesses)
	if d.plan.Replicas < 2 || !w.chance(0.4) {
		return nil
	}
	stays := min(d.plan.Replicas, d.members)
	candidate, share := w.below(stays), []float64{0.3, 0.5, 1}[w.below(3)]
	var all []int
	for i := range max(d.plan.Replicas, d.members) {
		if i != candidate && w.chance(share) {
			all = append(all, i)
		}
	}
	return all
}

// begin has the cluster started in one of the ways clusters are, and returns when trouble may begin.
func (d *drawer) begin() time.Duration {
	p := d.plan
	switch {
	case p.Replicas == 3 && p.Quorum == 0 && d.restarts && d.chance(0.15):
		d.forGood = true // one that takes its place is growth, which needs a network that is whole
		return d.grow(5)
	case p.Replicas == 3 && p.Quorum == 0 && d.chance(0.2):
		d.forGood, d.restarts = true, false
		return d.scale(5 + d.below(3))
	case p.Replicas == 5 && p.Quorum == 0 && d.restarts && d.chance(0.2):
		return d.shrink(3)
	case p.Replicas > 1 && p.Quorum == 0 && d.chance(0.08):
		d.misconfigure()
	}
	together := d.chance(0.5) // all claim at once, and with a coarse clock under one timestamp
	for i := range p.Replicas {
		at := time.Duration(0)
		if !together {
			at = d.within(lease)
		}
		d.add(Fault{At: at, Kind: DoStart, Who: Target(i)})
	}
	return 2 * lease
}

// grow has a cluster grow in calm, as resizing is meant to be done: trouble begins when the replicas that
// have not been restarted have been in contact with the others for long enough to use the larger number.
func (d *drawer) grow(n int) time.Duration {
	d.plan.Hosts, d.members = n, n
	d.plan.NoiseFrom = 12 * lease
	for i := range n {
		at := time.Duration(0)
		if i >= d.plan.Replicas {
			at = 3*lease + d.within(lease)
		}
		d.add(Fault{At: at, Kind: DoStart, Who: Target(i)})
	}
	d.add(Fault{At: 3*lease - 1, Kind: DoResize, N: n})
	return 12 * lease
}

// scale has a cluster grow in calm beyond its REPLICAS, as "docker compose up --scale" does.
func (d *drawer) scale(n int) time.Duration {
	d.plan.Hosts, d.members = n, n
	d.plan.NoiseFrom = 12 * lease
	for i := range n {
		at := time.Duration(0)
		if i >= d.plan.Replicas {
			at = 3*lease + d.within(lease)
		}
		d.add(Fault{At: at, Kind: DoStart, Who: Target(i)})
	}
	return 12 * lease
}

// shrink has a cluster shrink in calm. Once the replicas that are too many have left and the promises they
// gave have run out, those of the smaller number share one in any two quorums with those of the larger.
func (d *drawer) shrink(n int) time.Duration {
	d.plan.NoiseFrom = 8 * lease
	d.members = n
	for i := range d.plan.Replicas {
		d.add(Fault{Kind: DoStart, Who: Target(i)})
	}
	d.add(Fault{At: 4 * lease, Kind: DoResize, N: n})
	for i := n; i < d.plan.Replicas; i++ {
		d.add(Fault{At: 4*lease + d.within(lease), Kind: DoStop, Who: Target(i)})
	}
	return 8 * lease
}

// misconfigure gives some hosts another REPLICAS or QUORUM, but such that any two quorums share a replica:
// no election can be safe without.
func (d *drawer) misconfigure() {
	p := d.plan
	for i := range p.Replicas {
		if d.chance(0.5) {
			continue
		}
		f := Fault{Kind: DoConfigure, Who: Target(i), N: p.Replicas}
		least := p.Replicas/2 + 1
		if d.chance(0.5) {
			f.N += d.below(p.Replicas)
		} else {
			f.Q = least + d.below(p.Replicas-least+1)
		}
		d.add(f)
	}
}

func (d *drawer) add(f Fault) { d.plan.Faults = append(d.plan.Faults, f) }

// span is how long something lasts: often about as long as something that matters.
func (d *drawer) span() time.Duration {
	const near = lease / 30
	switch d.below(8) {
	case 0, 1, 2:
		return d.within(4 * lease)
	case 3:
		return d.around(lease, near) // promises, and the silence of those that join
	case 4:
		return d.around(9*lease/10, near) // the bot's end
	case 5:
		return d.around(lease/4, near) // holding back, and about a heartbeat
	case 6:
		return d.around(2*lease, 2*near)
	}
	return d.within(lease / 20)
}

// one is a host: the primary half of the time.
func (d *drawer) one() Target {
	switch d.below(8) {
	case 0, 1, 2, 3:
		return ThePrimary
	case 4:
		return TheStandby
	}
	return d.any()
}

func (d *drawer) any() Target { return Target(d.below(d.members)) }

// two are different hosts if there are two.
func (d *drawer) two() (a, b Target) {
	i := d.below(d.members)
	return Target(i), Target((i + 1 + d.below(max(1, d.members-1))) % d.members)
}

// at has a fault come at once or, often, at the next moment of the kinds given.
func (d *drawer) at(at time.Duration, f Fault, on ...Moment) {
	f.At = at
	if len(on) > 0 && d.chance(0.7) {
		f.On, f.Who = on[d.below(len(on))], TheOne
		if d.chance(0.3) {
			f.After = d.within(lease / 10)
		}
	}
	d.add(f)
}

// trouble adds one sequence of faults.
func (d *drawer) trouble(at time.Duration) {
	switch d.below(24) {
	case 0, 1:
		d.crash(at, d.one())
	case 2: // a replica forgets what it has just promised
		if d.restarts {
			who := d.any()
			d.add(Fault{At: at, On: OnGrant, Kind: DoCrash, Who: TheOne})
			for i := range d.members {
				d.add(Fault{At: at + lease/2 + d.within(lease), Kind: DoStart, Who: Target(i)})
			}
			d.at(at+lease/4, Fault{Kind: DoPartition, Who: who, Whom: who})
		}
	case 3: // all forget everything, but messages that are under way
		if d.restarts {
			for i := range d.members {
				d.add(Fault{At: at, Kind: DoCrash, Who: Target(i)})
				d.add(Fault{At: at + d.within(lease/10), Kind: DoStart, Who: Target(i)})
			}
		}
	case 4: // a rolling restart
		if d.restarts {
			for i := range d.members {
				d.crash(at, Target(i))
				at += d.span()
			}
		}
	case 5, 6:
		d.at(at, Fault{Kind: DoFreeze, Who: d.one(), For: d.span()}, OnClaim, OnGrant, OnWin, OnStop, OnRelease, OnWithdrawal)
	case 7: // every replica sleeps, and wakes at a time of its own
		for i := range d.members {
			d.add(Fault{At: at, Kind: DoFreeze, Who: Target(i), For: d.span()})
		}
	case 8, 9:
		who := d.one()
		d.at(at, Fault{Kind: DoPartition, Who: who, Whom: d.any()}, OnWin, OnClaim, OnRelease, OnGrant)
		d.add(Fault{At: at + d.span(), Kind: DoHeal})
	case 10: // two that know of each other through others only
		a, b := d.two()
		d.add(Fault{At: at, Kind: DoCut, Who: a, Whom: b})
		d.add(Fault{At: at, Kind: DoCut, Who: b, Whom: a})
	case 11:
		a, b := d.one(), d.any()
		if d.chance(0.5) {
			a, b = b, a
		}
		d.add(Fault{At: at, Kind: DoCut, Who: a, Whom: b})
	case 12: // it sends, and receives nothing
		for i := range d.members {
			d.add(Fault{At: at, On: OnWin, Kind: DoCut, Who: Target(i), Whom: TheOne})
		}
	case 13, 14:
		d.add(Fault{At: at, Kind: DoHeal})
	case 15:
		d.add(Fault{At: at, Kind: DoWall, Who: d.one(), For: d.around(10*time.Hour, 10*time.Hour) - 10*time.Hour})
	case 16:
		d.add(Fault{At: at, Kind: DoDrift, Who: d.any()})
	case 17:
		who := d.one()
		d.add(Fault{At: at, Kind: DoAil, Who: who})
		if d.chance(0.5) {
			d.add(Fault{At: at + d.span(), Kind: DoRecover, Who: d.any()})
		}
	case 18:
		d.add(Fault{At: at, Kind: DoResign, Who: ThePrimary})
		if d.chance(0.5) {
			d.at(at, Fault{Kind: DoFreeze, Who: ThePrimary, For: d.span()}, OnStop, OnRelease, OnClaim)
		}
	case 19:
		who := d.one()
		switch {
		case d.forGood:
			d.leave(at, 1)
		case d.restarts:
			d.add(Fault{At: at, Kind: DoStop, Who: who})
			d.restart(at+d.span(), who)
		}
	case 22:
		if d.forGood {
			d.leave(at, 1+d.below(d.members-1))
		}
	case 23: // all are asked to stop, and start again
		if d.restarts && !d.forGood {
			for i := range d.members {
				d.add(Fault{At: at + d.within(lease/20), Kind: DoStop, Who: Target(i)})
				d.add(Fault{At: at + d.span() + 2*lease, Kind: DoStart, Who: Target(i)})
				if d.plan.Patience > 0 { // newcomers come while the others wait for them
					d.add(Fault{At: at, On: OnDeparted, After: d.within(lease / 2), Kind: DoStart, Who: TheOne})
				}
			}
		}
	case 20:
		d.add(Fault{At: at, Kind: DoDie, Who: ThePrimary})
	case 21:
		d.meet(at)
	}
}

// crash ends a process and starts the next, often as soon as what it had promised may have run out.
func (d *drawer) crash(at time.Duration, who Target) {
	if !d.restarts {
		return
	}
	d.at(at, Fault{Kind: DoCrash, Who: who}, OnClaim, OnGrant, OnWin, OnStop, OnRelease)
	d.restart(at+d.span(), who)
}

// leave has so many leave for good, and often something strike while they do.
func (d *drawer) leave(at time.Duration, n int) {
	for range n {
		d.add(Fault{At: at + d.within(lease/10), Kind: DoLeave, Who: d.one()})
	}
	f := Fault{Kind: DoFreeze, For: d.span()}
	switch d.below(5) {
	case 0:
		f.Kind = DoCrash
	case 1:
		f.Kind = DoPartition
		d.add(Fault{At: at + d.span(), Kind: DoHeal})
	case 2:
		return
	}
	f.Who = d.one()
	f.Whom = f.Who
	d.at(at, f, OnLeaving, OnDeparted, OnGrant, OnRelease)
}

// restart starts every replica that is down: which those are was not known when the plan was made.
func (d *drawer) restart(at time.Duration, who Target) {
	if who >= 0 {
		d.add(Fault{At: at, Kind: DoStart, Who: who})
		return
	}
	for i := range d.members {
		d.add(Fault{At: at, Kind: DoStart, Who: Target(i)})
	}
}

// meet parts all replicas and has two of them meet again, while the others are in contact with neither. Then one
// that has released its lease may be gone before it has reported which replica it follows.
func (d *drawer) meet(at time.Duration) {
	a, b := d.two()
	for i := range d.members {
		d.add(Fault{At: at, Kind: DoPartition, Who: Target(i), Whom: Target(i)})
	}
	at += 2*lease + d.span()
	d.add(Fault{At: at, Kind: DoHeal})
	for i := range d.members {
		if who := Target(i); who != a && who != b {
			d.add(Fault{At: at, Kind: DoCut, Who: a, Whom: who})
			d.add(Fault{At: at, Kind: DoCut, Who: who, Whom: a})
		}
	}
	if d.restarts {
		d.at(at, Fault{Kind: DoCrash, Who: b}, OnRelease)
		d.restart(at+d.span(), ThePrimary)
	}
}

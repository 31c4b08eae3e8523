package electiontest

import (
	"errors"
	"slices"
	"time"
)

// shrinkRuns bounds how often Shrink runs a plan.
const shrinkRuns = 3000

// Shrink makes a plan that breaks a guarantee as short and as calm as it can while it still breaks the
// same guarantee. It is deterministic and takes a few seconds at most. A plan that breaks nothing comes
// back as it is, with a nil error.
func Shrink(p Plan) (Plan, error) {
	s := &shrinker{left: shrinkRuns}
	err := s.run(p)
	if err == nil {
		return p, nil
	}
	s.best, s.err, s.want = p, err, err.Guarantee
	// What lies behind the failure did not bring it about.
	s.try(func(p *Plan) {
		p.Trouble = min(p.Trouble, s.err.At+1)
		p.NoiseUntil = min(p.NoiseUntil, p.Trouble)
	})
	for before := -1; before != s.left && s.left > 0; {
		before = s.left
		progress := s.dropFaults()
		progress = s.calm() || progress
		progress = s.round() || progress
		if !progress {
			break
		}
	}
	return s.best, s.err
}

type shrinker struct {
	left int
	want Guarantee
	best Plan
	err  *BrokenError
}

func (s *shrinker) run(p Plan) *BrokenError {
	s.left--
	var broken *BrokenError
	if _, err := p.Run(nil, nil); errors.As(err, &broken) {
		return broken
	}
	return nil
}

// try keeps a change of the plan if it changes anything and the plan still fails in the same way.
func (s *shrinker) try(change func(*Plan)) bool {
	if s.left <= 0 {
		return false
	}
	p := s.best
	p.Faults = slices.Clone(p.Faults)
	change(&p)
	if p.String() == s.best.String() {
		return false
	}
	err := s.run(p)
	if err == nil || err.Guarantee != s.want {
		return false
	}
	s.best, s.err = p, err
	return true
}

// dropFaults leaves out faults, many at once as long as that works (Zeller and Hildebrandt's ddmin,
// complements only).
func (s *shrinker) dropFaults() (progress bool) {
	for size := max(1, len(s.best.Faults)/2); ; size /= 2 {
		for i := 0; i < len(s.best.Faults); {
			if s.try(func(p *Plan) { p.Faults = slices.Delete(p.Faults, i, min(i+size, len(p.Faults))) }) {
				progress = true
			} else {
				i += size
			}
		}
		if size == 1 {
			return progress
		}
	}
}

// calm takes away what the network and the clocks do.
func (s *shrinker) calm() (progress bool) {
	for _, change := range []func(*Plan){
		func(p *Plan) { p.Noise = Noise{}; p.NoiseFrom, p.NoiseUntil = 0, 0 },
		func(p *Plan) { p.Noise.Loss = 0 },
		func(p *Plan) { p.Noise.Duplicate = 0 },
		func(p *Plan) { p.Noise.MaxDelay = 0 },
		func(p *Plan) { p.Noise.MaxDelay = min(p.Noise.MaxDelay, 50*time.Millisecond) },
		func(p *Plan) { p.Noise.MaxDelay = min(p.Noise.MaxDelay, 400*time.Millisecond) },
		func(p *Plan) { p.Drift = false },
		func(p *Plan) { p.Wall = WallRight },
		func(p *Plan) { p.Patience = 0 },
		func(p *Plan) { p.Lifelines = NoLifelines },
		func(p *Plan) { p.Lifelines = LifelinesAll },
		func(p *Plan) { p.Witnesses = nil },
		func(p *Plan) { p.NoiseUntil = p.NoiseFrom + (p.NoiseUntil-p.NoiseFrom)/2 },
		func(p *Plan) { p.NoiseFrom += (p.NoiseUntil - p.NoiseFrom) / 2 },
		func(p *Plan) {
			if p.Incompatible != Compatible && !p.touches(p.Hosts-1) {
				p.Incompatible, p.Hosts = Compatible, p.Hosts-1
			}
		},
	} {
		progress = s.try(change) || progress
	}
	return progress
}

// touches reports whether a fault names a host.
func (p *Plan) touches(i int) bool {
	return slices.ContainsFunc(p.Faults, func(f Fault) bool { return f.Who == Target(i) || f.Whom == Target(i) })
}

// round makes times and lengths easier to read.
func (s *shrinker) round() (progress bool) {
	for i := range s.best.Faults {
		for _, to := range []time.Duration{lease, lease / 2, lease / 10, lease / 100, lease / 1000} {
			if s.try(func(p *Plan) { p.Faults[i].At = p.Faults[i].At.Round(to) }) {
				progress = true
				break
			}
		}
		for _, to := range []time.Duration{time.Hour, lease, lease / 2, lease / 10, lease / 100, lease / 1000} {
			if s.try(func(p *Plan) { p.Faults[i].For = p.Faults[i].For.Round(to) }) {
				progress = true
				break
			}
		}
		progress = s.try(func(p *Plan) { p.Faults[i].After = 0 }) || progress
	}
	return progress
}

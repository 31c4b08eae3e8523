package supervise

import (
	"testing"
	"testing/synctest"
	"time"
)

// What an idle replica costs is how often it wakes: what need not be punctual happens when a loop has woken it.
func TestWhatNeedNotBePunctualWaitsForALoop(t *testing.T) {
	for name, tc := range map[string]struct{ alive, want time.Duration }{
		"no loop wakes the process": {0, 8 * time.Second},
		"too early":                 {7*time.Second - 1, 8 * time.Second},
		"early enough":              {7 * time.Second, 7 * time.Second},
		"late":                      {9 * time.Second, 8 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSupervisor(lease, noExit(t))
				start := time.Now()
				other := s.After(time.Hour)
				ready := s.After(8 * time.Second)
				if tc.alive > 0 {
					time.AfterFunc(tc.alive, func() { s.Alive("loop", time.Minute) })
				}
				<-ready
				if took := time.Since(start); took != tc.want {
					t.Errorf("waited %v, want %v", took, tc.want)
				}
				select {
				case <-ready:
					t.Error("ready twice")
				case <-other:
					t.Error("another is ready, too")
				case <-time.After(time.Minute):
				}
				s.alongs.mu.Lock()
				if n := len(s.alongs.waiting); n != 1 {
					t.Errorf("%d wait", n)
				}
				s.alongs.mu.Unlock()
				<-other
			})
		})
	}
}

// A loop that comes round several times for one renewal wakes the others once; each time is a sign of life of its own.
func TestALoopThatComesRoundSeveralTimesAtOnceWakesTheOthersOnce(t *testing.T) {
	for name, tc := range map[string]struct{ before, want time.Duration }{
		"at once": {lease/50 - 1, 8 * time.Second},
		"later":   {lease / 50, 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSupervisor(lease, noExit(t))
				start := time.Now()
				ready := s.After(8 * time.Second)
				for _, at := range []time.Duration{7*time.Second - tc.before, 7 * time.Second} {
					time.AfterFunc(at, func() { s.Alive("loop", time.Minute) })
				}
				<-ready
				if took := time.Since(start); took != tc.want {
					t.Errorf("waited %v, want %v", took, tc.want)
				}
				if idle := s.idle("loop"); idle != time.Since(start)-7*time.Second {
					t.Errorf("the last sign of life was %v ago", idle)
				}
			})
		})
	}
}

package supervise

import (
	"slices"
	"sync"
	"time"
)

// alongs are components that wait for a time that does not matter much. What an idle replica costs is how often it wakes; so they
// go on when it is awake for something else, up to an eighth of their time early.
type alongs struct {
	mu      sync.Mutex
	waiting []*along
}

type along struct {
	from  time.Time // it may go on
	until *time.Timer
	ready chan time.Time
}

// After is time.After for what need not be punctual: the channel is ready after d at the latest, and up to an eighth of d sooner
// if a loop gives a sign of life then.
func (s *Supervisor) After(d time.Duration) <-chan time.Time {
	a := &along{from: time.Now().Add(d - d/8), ready: make(chan time.Time, 1)}
	s.alongs.mu.Lock()
	defer s.alongs.mu.Unlock()
	a.until = time.AfterFunc(d, func() { s.alongs.release(a) })
	s.alongs.waiting = append(s.alongs.waiting, a)
	return a.ready
}

// release lets one go on that has waited long enough.
func (w *alongs) release(a *along) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.waiting, a); i >= 0 {
		w.waiting = slices.Delete(w.waiting, i, i+1)
		a.ready <- time.Now()
	}
}

// awake lets those go on that may.
func (w *alongs) awake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		return
	}
	now := time.Now()
	w.waiting = slices.DeleteFunc(w.waiting, func(a *along) bool {
		if now.Before(a.from) {
			return false
		}
		a.until.Stop()
		a.ready <- now
		return true
	})
}

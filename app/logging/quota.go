package logging

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Quota bounds the lines of one kind: some at once, then one at a time. It reads no clock. It is safe for concurrent
// use.
type Quota struct {
	mu      sync.Mutex
	limit   *rate.Limiter
	omitted int
}

// NewQuota returns a quota of burst lines at once, then one per every.
func NewQuota(burst int, every time.Duration) *Quota {
	return &Quota{limit: rate.NewLimiter(rate.Every(every), burst)}
}

// Take reports whether a line may be logged at now, and how many were left out before it.
func (q *Quota) Take(now time.Time) (omitted int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.limit.AllowN(now, 1) {
		q.omitted++
		return 0, false
	}
	omitted, q.omitted = q.omitted, 0
	return omitted, true
}

// maxKeys bounds the keys of Quotas that are remembered: beyond, all are forgotten.
const maxKeys = 256

// Quotas is a Quota for each key, for keys that strangers may choose. It reads no clock. It is safe for concurrent use.
type Quotas struct {
	burst int
	every time.Duration

	mu  sync.Mutex
	all map[string]*Quota
}

// NewQuotas returns quotas of burst lines at once, then one per every, for each key.
func NewQuotas(burst int, every time.Duration) *Quotas {
	return &Quotas{burst: burst, every: every, all: map[string]*Quota{}}
}

// Take is Quota.Take of a key's quota.
func (q *Quotas) Take(now time.Time, key string) (omitted int, ok bool) {
	q.mu.Lock()
	one := q.all[key]
	if one == nil {
		if len(q.all) >= maxKeys {
			clear(q.all)
		}
		one = NewQuota(q.burst, q.every)
		q.all[key] = one
	}
	q.mu.Unlock()
	return one.Take(now)
}

package peer

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxStrangers bounds the addresses remembered.
const maxStrangers = 256

// onceAMinute bounds lines of the log: one a minute for each address. Its zero value is ready; it is safe for concurrent use.
type onceAMinute struct {
	mu    sync.Mutex
	limit map[string]*rate.Limiter
}

// allow tells whether a line about an address may be written now.
func (o *onceAMinute) allow(addr string, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.limit[addr]
	if l == nil {
		if o.limit == nil || len(o.limit) >= maxStrangers {
			o.limit = map[string]*rate.Limiter{}
		}
		l = rate.NewLimiter(rate.Every(time.Minute), 1)
		o.limit[addr] = l
	}
	return l.AllowN(now, 1)
}

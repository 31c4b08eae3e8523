package intake

import (
	"context"
	"log/slog"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

// traced has the debug log tell how long it took until the first poll of a term was on the wire, and whether a connection was
// there for it: a takeover waits for that.
func traced(ctx context.Context, log *slog.Logger) context.Context {
	if !log.Enabled(ctx, slog.LevelDebug) {
		return ctx
	}
	began := time.Now()
	var reused atomic.Bool
	var once sync.Once
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(c httptrace.GotConnInfo) { reused.Store(c.Reused) },
		WroteRequest: func(w httptrace.WroteRequestInfo) {
			once.Do(func() {
				log.Debug("first poll sent", "connection_reused", reused.Load(), "microseconds", time.Since(began).Microseconds(), "failed", w.Err != nil)
			})
		},
	})
}

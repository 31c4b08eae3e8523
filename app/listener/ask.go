package listener

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// ErrRefused says that a handler has answered with a status other than 2xx.
var ErrRefused = errors.New("the request was refused")

// Ask has a handler of this process answer a request without a connection, and returns its status. The body of the answer is
// dropped. It returns ErrRefused if the status is not 2xx. A handler that hangs keeps it as long.
func Ask(ctx context.Context, h http.Handler, method, path string, header http.Header) error {
	req, err := http.NewRequestWithContext(ctx, method, path, http.NoBody)
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	if header != nil {
		req.Header = header
	}
	a := answer{header: http.Header{}}
	h.ServeHTTP(&a, req)
	if a.code/100 != 2 {
		return fmt.Errorf("%w: %d", ErrRefused, a.code)
	}
	return nil
}

// answer keeps the status of an answer.
type answer struct {
	header http.Header
	code   int
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(code int) {
	if a.code == 0 {
		a.code = code
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return len(p), nil
}

// connectEvery is how often a server is asked over its port.
const connectEvery = 5 * time.Second

// Asking asks a server of this process for a sign of life: over its port every five seconds, by its handler in between. A handler
// can hang; that the kernel's part or net/http's does, for a connection that is there, was never seen, and is noticed later.
// Asked over its port each time, a server cost an idle replica as much as the election. What Asking returns MUST be called by one
// goroutine at a time.
func Asking(overPort, byHandler func(ctx context.Context) error) func(ctx context.Context) error {
	var connected time.Time
	return func(ctx context.Context) error {
		if now := time.Now(); now.Sub(connected) >= connectEvery {
			err := overPort(ctx)
			if err == nil {
				connected = now
			}
			return err
		}
		return byHandler(ctx)
	}
}

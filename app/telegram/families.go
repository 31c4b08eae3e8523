package telegram

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
)

// The networks of one address family each. Their names are net's.
const (
	ipv4 = "tcp4"
	ipv6 = "tcp6"
)

// awayFailures in a row have the other family tried where connections were good last; one is enough where they were not.
const awayFailures = 2

// families chooses the address family of new connections. net tries both, and takes the first that connects; but a path may
// connect and then carry nothing: a tunnel that loses large packets, or a middlebox that resets. Only requests show that.
type families struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu       sync.Mutex
	only     string // the family to try; empty for what net takes
	good     string // that a request was answered over last
	failures int    // in a row, over the family in use
}

// route is where a request went; it is in the request's context.
type route struct{ family atomic.Pointer[string] }

type routeKey struct{}

// dialContext makes a connection of the family to be tried, or of any if there is none of it.
func (f *families) dialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	f.mu.Lock()
	only := f.only
	f.mu.Unlock()
	if only != "" {
		conn, err := f.dial(ctx, only, addr)
		if err == nil {
			taken(ctx, conn)
		}
		if err == nil || ctx.Err() != nil { // given up: that says nothing of the family
			return conn, err
		}
		f.mu.Lock()
		f.only = "" // it does not even connect
		f.mu.Unlock()
	}
	conn, err := f.dial(ctx, network, addr)
	if err == nil {
		taken(ctx, conn)
	}
	return conn, err
}

// taken takes note in a request's context of the connection made, or taken, for it.
func taken(ctx context.Context, conn net.Conn) {
	if p, ok := ctx.Value(routeKey{}).(*route); ok {
		family := familyOf(conn)
		p.family.Store(&family)
	}
}

func familyOf(conn net.Conn) string {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	switch {
	case !ok:
		return ""
	case tcp.IP.To4() != nil:
		return ipv4
	default:
		return ipv6
	}
}

// answered takes in that a request was answered over a family.
func (f *families) answered(family string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.good, f.failures = family, 0
}

// failed takes in that a request over a family got no answer. What was under way over the other says nothing any more.
func (f *families) failed(family string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if family == "" || f.only != "" && f.only != family {
		return
	}
	if f.failures++; family == f.good && f.failures < awayFailures {
		return
	}
	f.only, f.failures = ipv4, 0
	if family == ipv4 {
		f.only = ipv6
	}
}

// way is the way to Telegram: connections as newBase makes them, of the family that works.
type way struct {
	*http.Transport
	families *families
}

// RoundTrip implements http.RoundTripper.
func (w *way) RoundTrip(req *http.Request) (*http.Response, error) {
	p := &route{}
	ctx := context.WithValue(req.Context(), routeKey{}, p)
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { taken(ctx, info.Conn) }}
	out := req.WithContext(httptrace.WithClientTrace(ctx, trace))
	short := shortened(out)
	if short != nil {
		trace.WroteHeaders = short.leave
	}
	resp, err := w.Transport.RoundTrip(out)
	if err != nil && short.stopped() {
		err = ErrLeaseLost
	}
	family := p.family.Load()
	switch {
	case family == nil: // no connection was made
	case err == nil:
		w.families.answered(*family)
	case !errors.Is(err, ErrLeaseLost) && !errors.Is(req.Context().Err(), context.Canceled):
		w.families.failed(*family)
	}
	return resp, err
}

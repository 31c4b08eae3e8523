// Package listener opens ports whose capacity unknown clients cannot exhaust: the connections open at once are bounded,
// in all, per remote address, and per IPv6 network of 64 bits. One that is too many is closed at once, so that no other waits behind it.
// The machine's own loopback is not bounded: health checks and probes always get through. It also knows how
// a server behind such a port is asked for a sign of life, and stopped.
//
// It may import the standard library alone.
package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Bounds are how many connections may be open at once.
type Bounds struct {
	Total, PerAddress int
}

// Listener is a net.Listener that is bounded.
type Listener struct {
	net.Listener
	bounds Bounds

	mu    sync.Mutex
	total int
	open  map[netip.Prefix]int // by address, and by network
}

// Listen opens a TCP port.
func Listen(addr string, bounds Bounds) (*Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return New(l, bounds), nil
}

// stopBound bounds the wait for requests under way when a server stops.
const stopBound = time.Second

// Serve runs serve, which is to answer by server until that is shut down. When ctx ends, requests under way
// are given stopBound and the rest is cut off; it returns nil then.
func Serve(ctx context.Context, server *http.Server, serve func() error) error {
	served := make(chan error, 1)
	go func() { served <- serve() }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopBound)
	defer cancel()
	if err := server.Shutdown(stopping); err != nil {
		err = server.Close()
		_ = err // what is still open is cut off; nothing is left to do about it
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Local is where what listens at addr (host:port or :port) is reached from the same machine.
func Local(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// New bounds a listener.
func New(l net.Listener, bounds Bounds) *Listener {
	return &Listener{Listener: l, bounds: bounds, open: map[netip.Prefix]int{}}
}

// Accept returns the next connection that is within the bounds.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err //nolint:wrapcheck // net/http looks at it
		}
		from, known := remote(conn)
		if known && from.IsLoopback() {
			return conn, nil
		}
		if l.take(from) {
			return &bounded{Conn: conn, release: sync.OnceFunc(func() { l.give(from) })}, nil
		}
		_ = conn.Close() // it was never used
	}
}

func remote(conn net.Conn) (netip.Addr, bool) {
	at, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	return at.Addr().Unmap(), err == nil
}

func (l *Listener) take(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	address, network := counted(from)
	if l.total >= l.bounds.Total || l.open[address] >= l.bounds.PerAddress || network.IsValid() && l.open[network] >= l.bounds.Total/2 {
		return false
	}
	l.total++
	l.open[address]++
	if network.IsValid() {
		l.open[network]++
	}
	return true
}

func (l *Listener) give(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	address, network := counted(from)
	l.lower(address)
	if network.IsValid() {
		l.lower(network)
	}
}

func (l *Listener) lower(p netip.Prefix) {
	if l.open[p]--; l.open[p] == 0 {
		delete(l.open, p)
	}
}

// counted is what an address counts for: itself, and with IPv6 its network of 64 bits, all of which one host may have.
// The network's bound is wide: all replicas may be in it.
func counted(from netip.Addr) (address, network netip.Prefix) {
	address = netip.PrefixFrom(from, from.BitLen())
	if from.Is6() {
		network = netip.PrefixFrom(from.WithZone(""), 64).Masked()
	}
	return address, network
}

// bounded gives its place back when it is closed.
type bounded struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (b *bounded) Close() error {
	b.release()
	return b.Conn.Close() //nolint:wrapcheck // net/http looks at it
}

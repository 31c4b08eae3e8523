package gateway

import (
	"context"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"habot/app/turns"
)

// A machine is gone that was there and that a router or the kernel does not find any more. A network of this replica's own that is down
// shows nothing of it, nor does an attempt that takes too long.
func TestAnAddressIsGoneOnceItWasThere(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var attempt error
		g := newRing(t, "a")
		g.acts("a", says("a"))
		primary := false
		others := []string{"10.0.0.8"}
		p := &prober{
			passer: g.nodes["a"].Passer, replica: "a", now: g.nodes["a"].cfg.Now, known: map[string]*probed{},
			elsewhere: func() []string { return others }, primary: func() bool { return primary },
			dial: func(context.Context, string, string) (net.Conn, error) { return nil, attempt },
		}
		look := func(errno error) (gone []string) {
			attempt = &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}
			before := len(g.sawAt("a"))
			for _, address := range p.due() {
				p.probe(t.Context(), address)
			}
			for _, in := range g.sawAt("a")[before:] {
				one, _ := in.(turns.AddressGone)
				if one.Replica != "a" {
					t.Errorf("%+v", in)
				}
				gone = append(gone, one.Address)
			}
			return gone
		}
		expect := func(what string, got []string, want ...string) {
			t.Helper()
			if !slices.Equal(got, want) {
				t.Errorf("%s: gone are %v, want %v", what, got, want)
			}
		}
		p.polled("10.0.0.9")
		expect("never reached", look(syscall.EHOSTUNREACH))
		expect("there", look(syscall.ECONNREFUSED))
		expect("no network here", look(syscall.ENETUNREACH))
		expect("late", look(syscall.ETIMEDOUT))
		expect("gone", look(syscall.EHOSTUNREACH), "10.0.0.9")
		primary = true
		expect("the primary looks after those of others", look(syscall.EHOSTUNREACH), "10.0.0.8", "10.0.0.9")
		time.Sleep(probedFor + time.Second)
		others = nil
		expect("not polled for long", look(syscall.EHOSTUNREACH))
	})
}

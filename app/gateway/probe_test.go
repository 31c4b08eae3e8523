package gateway

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"habot/app/turns"
)

// Of many addresses those are looked at each time that matter most, however late they came, and the others one after the other.
func TestOfManyAddressesThoseThatMatterAreAlwaysLookedAt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		address := func(i int) string { return fmt.Sprintf("10.0.%d.%d", i/200, 1+i%200) }
		var elsewhere []string
		p := &prober{known: map[string]*probed{}, elsewhere: func() []string { return elsewhere }}
		for i := range 2 * maxKnown {
			p.polled(address(i))
		}
		if len(p.known) != maxKnown {
			t.Errorf("%d are remembered", len(p.known))
		}
		for i := range maxProbed { // of which this replica knew nothing
			elsewhere = append(elsewhere, address(5000+i))
		}
		seen := map[string]int{}
		rounds := (maxKnown+maxProbed)/(maxProbed-maxFirst) + 1
		for range rounds {
			due := p.due()
			if len(due) != maxProbed {
				t.Fatalf("%d are looked at", len(due))
			}
			for i, a := range due {
				if seen[a]++; slices.Contains(due[:i], a) {
					t.Errorf("%s twice", a)
				}
			}
			time.Sleep(probeEvery)
		}
		for i := range maxFirst {
			if n := seen[elsewhere[i]]; n != rounds {
				t.Errorf("that of the active copy, or of one that is soon, is looked at %d times of %d", n, rounds)
			}
		}
		for a := range p.known {
			if seen[a] == 0 {
				t.Errorf("%s never was", a)
			}
		}
		time.Sleep(probedFor + time.Second)
		p.due()
		if len(p.known) != len(elsewhere) {
			t.Errorf("%d are remembered for ever", len(p.known))
		}
	})
}

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

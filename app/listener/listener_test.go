package listener

import (
	"net"
	"net/netip"
	"testing"
)

// queue is a listener over connections that are given.
type queue struct{ conns chan net.Conn }

func (q queue) Accept() (net.Conn, error) {
	c, ok := <-q.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (queue) Close() error   { return nil }
func (queue) Addr() net.Addr { return nil }

// from is a connection that comes from an address.
type from struct {
	net.Conn
	addr   string
	closed *bool
}

func (f from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.addr)) }
func (f from) Close() error         { *f.closed = true; return nil }

// accept has a listener take these connections and returns those that were let in.
func accept(t *testing.T, l *Listener, q queue, addrs ...string) (in []net.Conn, refused int) {
	t.Helper()
	var all []from
	for _, a := range addrs {
		f := from{addr: a, closed: new(bool)}
		all = append(all, f)
		q.conns <- f
	}
	last := from{addr: "127.0.0.1:1", closed: new(bool)} // always let in: the end
	q.conns <- last
	for {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if c == net.Conn(last) {
			break
		}
		in = append(in, c)
	}
	for _, f := range all {
		if *f.closed {
			refused++
		}
	}
	return in, refused
}

func TestOneAddressCannotTakeEveryPlace(t *testing.T) {
	t.Parallel()
	q := queue{make(chan net.Conn, 100)}
	l := New(q, Bounds{Total: 5, PerAddress: 2})
	in, refused := accept(t, l, q, "10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3", "[::ffff:10.0.0.1]:4", "10.0.0.2:1")
	if len(in) != 3 || refused != 2 {
		t.Fatalf("%d let in, %d refused", len(in), refused)
	}
	// A place that is given back, twice even, is one place.
	for range 2 {
		if err := in[0].Close(); err != nil {
			t.Fatal(err)
		}
	}
	if again, _ := accept(t, l, q, "10.0.0.1:5", "10.0.0.1:6"); len(again) != 1 {
		t.Errorf("%d let in for one place", len(again))
	}
}

// A host with IPv6 has a /64 of addresses to come from, but so have all replicas of one network.
func TestANetworkOfIPv6AddressesTakesHalfOfThePlacesAtMost(t *testing.T) {
	t.Parallel()
	q := queue{make(chan net.Conn, 100)}
	l := New(q, Bounds{Total: 8, PerAddress: 2})
	in, refused := accept(t, l, q, "[2001:db8::1]:1", "[2001:db8::2:3:4:5]:1", "[2001:db8::3]:1", "[2001:db8::ffff]:1", "[2001:db8::4]:1",
		"[2001:db8:0:1::1]:1", "10.0.0.1:1", "10.0.0.2:1")
	if len(in) != 7 || refused != 1 {
		t.Fatalf("%d let in, %d refused", len(in), refused)
	}
	if err := in[0].Close(); err != nil {
		t.Fatal(err)
	}
	if again, _ := accept(t, l, q, "[2001:db8::77]:1", "[2001:db8::78]:1"); len(again) != 1 {
		t.Errorf("%d let in for one place", len(again))
	}
	for _, c := range in {
		_ = c.Close()
	}
	if l.total != 1 || len(l.open) != 2 { // an address and its network
		t.Errorf("%d open, %v", l.total, l.open)
	}
}

func TestAllTogetherAreBoundedButForTheLoopback(t *testing.T) {
	t.Parallel()
	q := queue{make(chan net.Conn, 100)}
	l := New(q, Bounds{Total: 3, PerAddress: 2})
	in, refused := accept(t, l, q, "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4", "[::1]:5")
	if len(in) != 7 || refused != 1 {
		t.Errorf("%d let in, %d refused", len(in), refused)
	}
}

func TestAPortThatIsTakenIsAnError(t *testing.T) {
	t.Parallel()
	l, err := Listen("127.0.0.1:0", Bounds{Total: 1, PerAddress: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Listen(l.Addr().String(), Bounds{}); err == nil {
		t.Error("opened a port twice")
	}
}

package gateway

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"habot/app/turns"
)

// A machine that is gone without a word leaves no end of a connection behind, for minutes. A connection attempt to its address
// shows more: a host that lives refuses it, one that is gone is reported unreachable by the kernel, or by a router.
const (
	// probeEvery is between two looks, probeBound bounds one: the kernel gives an address up after three seconds.
	probeEvery = 5 * time.Second
	probeBound = 4 * time.Second
	// When a term begins the active copy may have ended together with the primary that had its connections: then its address alone
	// shows that. For closeFor, as long as the kernel may take, a new primary looks again every closeEvery. An attempt that is not
	// answered ends after closeBound, and the next one begins at once: one is under way when the kernel gives the address up.
	closeFor   = time.Minute
	closeEvery = 500 * time.Millisecond
	closeBound = time.Second
	// probePort is one that no bot listens on.
	probePort = "9"
	// maxProbed is how many addresses are looked at at a time, and maxFirst how many of them each time: those of the active copy, and of
	// those that are next. The others take turns: of 500 each is looked at within two minutes. maxKnown are remembered.
	maxProbed = 32
	maxFirst  = 8
	maxKnown  = 2 * turns.MaxCopies
	// probedFor is how long after its last poll an address is looked at.
	probedFor = 10 * time.Minute
)

// Dial makes a connection, as net.Dialer does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// prober looks whether the machines are there from which copies have polled this replica.
type prober struct {
	passer *Passer
	dial   Dial
	// replica is this one's process.
	replica string
	now     func() turns.Instant
	// elsewhere are addresses that have polled any replica, those that matter most first. A replica that takes over together with the end of the one that such
	// a copy polled is the only one that can notice its end.
	elsewhere func() []string
	// primary tells whether this replica is.
	primary func() bool
	soon    chan struct{} // told when a term begins

	mu    sync.Mutex
	known map[string]*probed
}

// probed is an address that has polled.
type probed struct {
	polled time.Time // this replica
	looked time.Time // at it, last
	// reached: an attempt has shown that the host is there. Otherwise none shows that it is gone.
	reached bool
}

// polled takes note of where a poll came from.
func (p *prober) polled(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, ok := p.known[address]
	if !ok {
		if _, err := netip.ParseAddr(address); err != nil || len(p.known) >= maxKnown {
			return // a name is not looked up
		}
		a = &probed{}
		p.known[address] = a
	}
	a.polled = time.Now()
}

// look has it look at once.
func (p *prober) look() {
	select {
	case p.soon <- struct{}{}:
	default:
	}
}

// run looks until ctx ends.
func (p *prober) run(ctx context.Context) {
	next := time.NewTimer(probeEvery)
	defer next.Stop()
	var closely time.Time // until then, as primary
	for {
		select {
		case <-next.C:
		case <-p.soon:
			closely = time.Now().Add(closeFor)
		case <-ctx.Done():
			return
		}
		began, every, bound := time.Now(), probeEvery, probeBound
		if began.Before(closely) && p.primary() {
			every, bound = closeEvery, closeBound
		}
		var all sync.WaitGroup
		for _, address := range p.due() {
			all.Go(func() { p.probe(ctx, address, bound) })
		}
		all.Wait()
		next.Reset(every - time.Since(began))
	}
}

// due are the addresses to be looked at now, maxProbed at most.
func (p *prober) due() []string {
	elsewhere := slices.DeleteFunc(p.elsewhere(), func(address string) bool {
		_, err := netip.ParseAddr(address)
		return err != nil // a name is not looked up
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, a := range p.known {
		if time.Since(a.polled) > probedFor && !slices.Contains(elsewhere, address) {
			delete(p.known, address)
		}
	}
	for i, address := range elsewhere {
		if p.known[address] == nil && (i < maxFirst || len(p.known) < maxKnown) {
			p.known[address] = &probed{}
		}
	}
	due := slices.Clone(elsewhere[:min(len(elsewhere), maxFirst)])
	others := slices.SortedFunc(maps.Keys(p.known), func(a, b string) int {
		return cmp.Or(p.known[a].looked.Compare(p.known[b].looked), strings.Compare(a, b))
	})
	for _, address := range others {
		if len(due) < maxProbed && !slices.Contains(due, address) {
			due = append(due, address)
		}
	}
	for _, address := range due {
		p.known[address].looked = time.Now()
	}
	slices.Sort(due)
	return due
}

// probe looks at one address, for as long as bound says.
func (p *prober) probe(ctx context.Context, address string, bound time.Duration) {
	asked := p.now()
	dialing, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	conn, err := p.dial(dialing, "tcp", net.JoinHostPort(address, probePort))
	if err == nil {
		_ = conn.Close() // nothing was sent
	}
	p.mu.Lock()
	a := p.known[address]
	gone := a != nil && a.reached && errors.Is(err, syscall.EHOSTUNREACH) // ENETUNREACH is about this replica's own network
	if a != nil && (err == nil || errors.Is(err, syscall.ECONNREFUSED)) {
		a.reached = true
	}
	here := a != nil && time.Since(a.polled) <= probedFor
	p.mu.Unlock()
	if gone && (here || p.primary()) { // turns sees whether another replica has a poll from there open
		p.passer.Saw(turns.AddressGone{Address: address, Replica: p.replica, Asked: asked})
	}
}

package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	lookupEvery   = 2 * time.Second
	lookupTimeout = 1500 * time.Millisecond
	probeTimeout  = time.Second
	// tellAfter is how long after the start it is said that no backend is up.
	tellAfter = 5 * time.Second
)

// ErrNoBackend says that no backend takes updates: they wait at Telegram.
var ErrNoBackend = errors.New("no backend takes updates")

// Resolver looks names up; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Run finds the backends' addresses and probes them, until ctx ends; then it returns nil. It runs on every replica, so
// that a standby knows before it takes over whether backends are up.
func (r *Relay) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for i := range r.cfg.Backends {
		all.Go(func() { r.resolve(ctx, i) })
	}
	for {
		now := time.Now()
		r.mu.Lock()
		due, next := r.fleet.dueProbes(now)
		r.tell(now)
		r.mu.Unlock()
		for _, m := range due {
			all.Go(func() { r.probe(ctx, m) })
		}
		t := time.NewTimer(next.Sub(now))
		select {
		case <-t.C:
		case <-r.poke:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}

// look has Run look for probes that are due.
func (r *Relay) look() {
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

// resolve looks a backend's name up again and again.
func (r *Relay) resolve(ctx context.Context, backend int) {
	t := time.NewTicker(lookupEvery)
	defer t.Stop()
	for {
		r.lookUp(ctx, backend)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// lookUp looks a backend's name up once. An error keeps what was known.
func (r *Relay) lookUp(ctx context.Context, backend int) {
	b := r.cfg.Backends[backend]
	addrs, err := r.addresses(ctx, b)
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if r.unresolved[backend] != err.Error() {
			r.cfg.Logger.Warn("a backend's name cannot be resolved; it will be looked up again", "backend", b.Name(), "error", err)
		}
		r.unresolved[backend] = err.Error()
		return
	}
	r.unresolved[backend] = ""
	r.changed(now, r.fleet.resolved(now, backend, addrs))
}

func (r *Relay) addresses(ctx context.Context, b Backend) ([]netip.AddrPort, error) {
	port, err := strconv.ParseUint(b.port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("read the port: %w", err)
	}
	ips := []netip.Addr{}
	if ip, err := netip.ParseAddr(b.host); err == nil {
		ips = append(ips, ip)
	} else {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		if ips, err = r.cfg.Resolver.LookupNetIP(ctx, "ip", b.host); err != nil {
			return nil, fmt.Errorf("look the name up: %s", reason(err))
		}
	}
	addrs := make([]netip.AddrPort, 0, len(ips))
	for _, ip := range ips {
		addrs = append(addrs, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
	}
	slices.SortFunc(addrs, netip.AddrPort.Compare)
	return slices.Compact(addrs), nil
}

// reason is why a name was not resolved.
func reason(err error) string {
	if failed, ok := errors.AsType[*net.DNSError](err); ok {
		return failed.Err
	}
	return textOf(err)
}

// probe tries a connection to a member.
func (r *Relay) probe(ctx context.Context, m member) {
	dialing, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	began := time.Now()
	conn, err := r.cfg.Dial(dialing, "tcp", m.addr.String())
	now := time.Now()
	failure := ""
	if err != nil {
		failure = textOf(err)
	} else {
		_ = conn.Close() // nothing was sent
	}
	r.mu.Lock()
	if ctx.Err() == nil {
		r.changed(now, r.fleet.probed(now, m, now.Sub(began), failure))
	}
	r.mu.Unlock()
	r.look()
}

// changed wakes the callers that wait for a change, and reports it. r.mu MUST be held.
func (r *Relay) changed(now time.Time, c change) {
	if c.came {
		close(r.came)
		r.came = make(chan struct{})
	}
	if c.recovered {
		close(r.recovered)
		r.recovered = make(chan struct{})
	}
	if c.moved {
		s := r.fleet.members[c.turned]
		name := r.cfg.Backends[c.turned.backend].Name()
		if s.state == Up {
			r.cfg.Logger.Info("a backend is up again", "backend", name, "address", c.turned.addr)
		} else {
			r.cfg.Logger.Warn("a backend is down or failing", "backend", name, "address", c.turned.addr, "state", s.state, "detail", s.detail)
		}
	}
	if c.came || c.moved {
		r.tell(now)
		r.look()
	}
}

// tell reports a change of readiness. r.mu MUST be held.
func (r *Relay) tell(now time.Time) {
	is := r.readiness()
	if r.told == nil && is.Reachable != nil && now.Sub(r.started) < tellAfter {
		return // not known yet
	}
	if r.told != nil && (is.Ready == nil) == (r.told.Ready == nil) && (is.Reachable == nil) == (r.told.Reachable == nil) {
		return
	}
	switch {
	case is.Ready == nil && (r.told == nil || r.told.Ready != nil):
		r.cfg.Logger.Info("a backend takes updates")
	case is.Ready != nil && (r.told == nil || r.told.Ready == nil):
		r.cfg.Logger.Error("no backend takes updates; they wait at Telegram", "detail", r.detail())
	}
	r.told = &is
	if r.cfg.OnReady != nil {
		r.cfg.OnReady(is)
	}
}

// Readiness is what is known now.
func (r *Relay) Readiness() Readiness {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.readiness()
}

// readiness is what is known now. r.mu MUST be held.
func (r *Relay) readiness() (is Readiness) {
	reachable, ready := r.fleet.ready()
	if reachable && ready {
		return is
	}
	none := fmt.Errorf("%w: %s", ErrNoBackend, r.detail())
	if !reachable {
		is.Reachable = none
	}
	is.Ready = none
	return is
}

// detail says of each backend what is wrong. r.mu MUST be held.
func (r *Relay) detail() string {
	var all []string
	for i, b := range r.cfg.Backends {
		text := r.unresolved[i]
		for _, s := range r.statuses() {
			if s.Backend == b.Name() && s.State != Up {
				text = s.Detail
				break
			}
		}
		if text != "" {
			all = append(all, b.Name()+": "+text)
		}
	}
	return strings.Join(all, "; ")
}

// Status is one address of a backend, for people.
type Status struct {
	Backend string `json:"backend"` // scheme, host and port
	Address string `json:"address"`
	State   State  `json:"state"`
	// Since is when the state was entered, LastAnswer when it last answered an update, with whichever status; zero for
	// never.
	Since      time.Time `json:"since"`
	LastAnswer time.Time `json:"last_answer,omitzero"`
	// Detail says what is wrong; empty if nothing is.
	Detail   string `json:"detail,omitempty"`
	InFlight int    `json:"in_flight"`
}

// Snapshot is all that is known of the backends.
type Snapshot struct {
	Addresses []Status `json:"addresses"`
	// Unresolved are the backends whose name was not resolved the last time, and why.
	Unresolved map[string]string `json:"unresolved,omitempty"`
	// Waiting is how many updates wait for a backend, or for their next attempt.
	Waiting int `json:"waiting"`
}

// Snapshot is for operators. The addresses are in the order of the backends.
func (r *Relay) Snapshot() Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Snapshot{Addresses: r.statuses(), Waiting: r.waiting, Unresolved: map[string]string{}}
	for i, why := range r.unresolved {
		if why != "" {
			s.Unresolved[r.cfg.Backends[i].Name()] = why
		}
	}
	return s
}

// statuses are the members', in order. r.mu MUST be held.
func (r *Relay) statuses() []Status {
	list := make([]member, 0, len(r.fleet.members))
	for m := range r.fleet.members {
		list = append(list, m)
	}
	slices.SortFunc(list, func(x, y member) int {
		if x.backend != y.backend {
			return x.backend - y.backend
		}
		return x.addr.Compare(y.addr)
	})
	all := make([]Status, 0, len(list))
	for _, m := range list {
		s := r.fleet.members[m]
		all = append(all, Status{
			Backend: r.cfg.Backends[m.backend].Name(), Address: m.addr.String(), State: s.state, Since: s.since,
			LastAnswer: s.lastAnswer, Detail: s.detail, InFlight: s.inFlight,
		})
	}
	return all
}

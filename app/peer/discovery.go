package peer

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"habot/app/logging"
)

// Resolver looks names and addresses up; *net.Resolver is one.
type Resolver interface {
	LookupHost(ctx context.Context, host string) ([]string, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

const (
	lookupEvery = 2 * time.Second
	lookupSoon  = 500 * time.Millisecond
	// lookupTimeout is how long a round of look-ups is waited for before the next may begin. Answers that come later
	// count too: where the first name server is dead the system asks the second after five seconds, each time
	// (golang/go issue 57694).
	lookupTimeout = 1500 * time.Millisecond
	// lookupBound bounds a look-up: two name servers that are dead, and a third that answers.
	lookupBound = 12 * time.Second
	// maxLookups bounds the look-ups of one name that are under way at once.
	maxLookups = 4
	// silentFor is how long a name may go without being resolved before that is reported, once a minute.
	silentFor = 8 * time.Second
	// maxAddresses bounds how many instances are asked.
	maxAddresses = 64
	// lingers is how long an address is asked that its name resolves to no more: an answer may be
	// partial, as Swarm's while a task is not healthy.
	lingers = 5 * time.Second
	// ownFor is how long an address counts as this replica's own before it is asked again: it may be
	// another's by then.
	ownFor = 10 * time.Second
)

// discovery keeps the addresses behind the instances' names. Docker's DNS answers with all running
// replicas, for a long TTL that is not to be trusted: names are looked up again and again.
type discovery struct {
	instances []string
	port      string
	resolver  Resolver
	log       *slog.Logger
	reports   *logging.Quotas
	soon      chan struct{}
	after     func(d time.Duration) <-chan time.Time
	wires     sync.WaitGroup // look-ups under way

	mu sync.Mutex
	// found has, of each instance, when an address was last among those it resolved to. An error keeps
	// what was known.
	found map[string]map[string]time.Time
	// looked are the instances that were looked up, be it in vain, or for lookupTimeout.
	looked map[string]bool
	names  map[string]*lookups // of the instances that are names
	// self has the addresses that were recognised as this replica's own, and when.
	self map[string]time.Time
}

// lookups is how an instance's name fares.
type lookups struct {
	underway int
	resolved time.Time // when it last was, or was first looked up
	failure  error     // of the last look-up, nil if it succeeded
	reported bool      // that it is not resolved
}

func newDiscovery(cfg ClientConfig) *discovery {
	return &discovery{
		instances: cfg.Instances, port: cfg.Port, resolver: cfg.Resolver, log: cfg.Logger, reports: logging.NewQuotas(1, time.Minute),
		soon: make(chan struct{}, 1), after: cfg.After, found: map[string]map[string]time.Time{},
		looked: map[string]bool{}, names: map[string]*lookups{}, self: map[string]time.Time{},
	}
}

func (d *discovery) run(ctx context.Context) error {
	defer d.wires.Wait()
	for {
		d.look(ctx)
		if !d.rest(ctx) {
			return nil
		}
	}
}

// rest waits until names are to be looked up again; false if ctx ended.
func (d *discovery) rest(ctx context.Context) bool {
	began := time.Now()
	select {
	case <-d.after(lookupEvery):
		return true
	case <-d.soon:
		return pause(ctx, lookupSoon-time.Since(began))
	case <-ctx.Done():
		return false
	}
}

// pause waits for d; false if ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return false
	}
	return true
}

func (d *discovery) refresh() {
	select {
	case d.soon <- struct{}{}:
	default:
	}
}

// look looks every name up at once, and returns when all are or lookupTimeout is over.
func (d *discovery) look(ctx context.Context) {
	done := make(chan struct{}, len(d.instances))
	begun := 0
	for _, instance := range d.instances {
		host, port := Split(instance, d.port)
		if _, err := netip.ParseAddr(host); err == nil {
			d.resolved(instance, port, []string{host})
		} else if d.begin(instance) {
			begun++
			d.wires.Go(func() {
				d.lookOne(ctx, instance, host, port)
				done <- struct{}{}
			})
		}
	}
	late := time.NewTimer(lookupTimeout)
	defer late.Stop()
	for ; begun > 0; begun-- {
		select {
		case <-done:
			continue
		case <-late.C:
		case <-ctx.Done():
		}
		break
	}
	d.report()
}

// begin takes room for another look-up of a name.
func (d *discovery) begin(instance string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.names[instance]
	if n == nil {
		n = &lookups{resolved: time.Now()}
		d.names[instance] = n
	}
	if n.underway == maxLookups {
		return false
	}
	n.underway++
	return true
}

func (d *discovery) lookOne(ctx context.Context, instance, host, port string) {
	ctx, cancel := context.WithTimeout(ctx, lookupBound)
	defer cancel()
	hosts, err := d.resolver.LookupHost(ctx, host)
	if err == nil && len(hosts) == 0 {
		err = errNoAddress
	}
	d.mu.Lock()
	n := d.names[instance]
	n.underway--
	n.failure = err
	again := err == nil && n.reported
	if err == nil {
		n.resolved, n.reported = time.Now(), false
	}
	d.looked[instance] = true
	d.mu.Unlock()
	if err != nil {
		d.log.Debug("an instance's name was not resolved: its last addresses stay", "instance", instance, "error", err)
		return
	}
	d.resolved(instance, port, hosts)
	if again {
		d.log.Info("instance name is resolved again", "instance", instance)
	}
}

var errNoAddress = errors.New("it has no address")

// resolved takes in what an instance resolves to.
func (d *discovery) resolved(instance, port string, hosts []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.looked[instance] = true
	now := time.Now()
	found := d.found[instance]
	if found == nil {
		found = map[string]time.Time{}
		d.found[instance] = found
	}
	for _, h := range hosts[:min(len(hosts), maxAddresses)] {
		found[net.JoinHostPort(h, port)] = now
	}
	maps.DeleteFunc(found, func(_ string, last time.Time) bool { return now.Sub(last) > lingers })
	maps.DeleteFunc(d.self, func(_ string, since time.Time) bool { return now.Sub(since) > ownFor })
}

// report warns of names that have not been resolved for long, be it that no name server answers.
func (d *discovery) report() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for instance, n := range d.names {
		d.looked[instance] = true
		since := now.Sub(n.resolved)
		if since < silentFor {
			continue
		}
		if _, ok := d.reports.Take(now, instance); !ok {
			continue
		}
		n.reported = true
		failure := n.failure
		if failure == nil {
			failure = errNoAnswer
		}
		d.log.Warn("instance name is not resolved: its last known addresses stay in use", "instance", instance,
			"seconds", since.Seconds(), "error", failure)
	}
}

var errNoAnswer = errors.New("no name server has answered")

// complete reports whether every instance was looked up, be it in vain.
func (d *discovery) complete() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.looked) == len(d.instances)
}

// Split takes host[:port] apart; IPv6 addresses with a port stand in brackets. A zone may be written as in a URL.
func Split(instance, port string) (string, string) {
	host := strings.Trim(instance, "[]")
	if h, p, err := net.SplitHostPort(instance); err == nil {
		host, port = h, p
	}
	return strings.Replace(host, "%25", "%", 1), port
}

func (d *discovery) union() []string {
	var all []string
	for _, found := range d.found {
		all = slices.AppendSeq(all, maps.Keys(found))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (d *discovery) addresses() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	others := slices.DeleteFunc(d.union(), func(addr string) bool { return !d.self[addr].IsZero() })
	return others[:min(len(others), maxAddresses)]
}

func (d *discovery) own(addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.self[addr] = time.Now()
}

// A name may lag behind its container: it is asked for again and again, for a while.
const (
	nameEvery   = 100 * time.Millisecond
	nameTimeout = time.Second
)

// OwnName finds out what people should call this replica: the name that the network gives to its own
// address (Docker: habot-bot-2), or fallback. It takes a second at most, and no time at all if no
// instance is a name, or one is this replica's own address.
func OwnName(ctx context.Context, resolver Resolver, instances []string, fallback string) string {
	if resolver == nil {
		resolver = newSystemResolver()
	}
	return ownName(ctx, resolver, instances, interfaceAddresses(), fallback)
}

func ownName(ctx context.Context, resolver Resolver, instances, own []string, fallback string) string {
	hosts := hostNames(instances)
	listed := func(instance string) bool {
		host, _ := Split(instance, "")
		return slices.Contains(own, host)
	}
	if len(hosts) == 0 || slices.ContainsFunc(instances, listed) {
		return fallback // this replica was given no name
	}
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	for {
		for _, ip := range ownAmong(ctx, resolver, hosts, own) {
			names, err := resolver.LookupAddr(ctx, ip)
			if err != nil {
				continue
			}
			for _, n := range names {
				if name := readable(n); name != "" {
					return name
				}
			}
		}
		if !pause(ctx, nameEvery) {
			return fallback
		}
	}
}

// hostNames are the instances' names; a bare address has no better name than the host's own.
func hostNames(instances []string) []string {
	var names []string
	for _, instance := range instances {
		host, _ := Split(instance, "")
		if _, err := netip.ParseAddr(host); err != nil {
			names = append(names, host)
		}
	}
	return names
}

// ownAmong is the replica's own addresses that the names resolve to.
func ownAmong(ctx context.Context, resolver Resolver, hosts, own []string) []string {
	var found []string
	for _, host := range hosts {
		ips, err := resolver.LookupHost(ctx, host)
		if err != nil {
			continue
		}
		for _, ip := range ips {
			if slices.Contains(own, ip) {
				found = append(found, ip)
			}
		}
	}
	return found
}

func interfaceAddresses() []string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var own []string
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() {
			own = append(own, n.IP.String())
		}
	}
	return own
}

// readable makes a name for people of one from a reverse look-up: "habot-bot-2.habot_default." is
// habot-bot-2; of Swarm's "habot_bot.2.<task>.<network>." the service and number stay. A name that
// is only an address's is none.
func readable(ptr string) string {
	whole := strings.TrimSuffix(ptr, ".")
	if _, err := netip.ParseAddr(whole); err == nil {
		return ""
	}
	labels := strings.Split(whole, ".")
	name := labels[0]
	if len(labels) >= 3 && isNumber(labels[1]) && !isNumber(name) {
		name += "." + labels[1]
	}
	if isNumber(name) || strings.HasSuffix(whole, ".arpa") || name == "localhost" {
		return ""
	}
	name = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r < unicode.MaxASCII {
			return r
		}
		return -1
	}, name)
	return name[:min(len(name), 64)]
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

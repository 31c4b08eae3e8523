package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"habot/app/config"
	"habot/app/diagnosis"
	"habot/app/peer"
)

// maxAddresses bounds the addresses that are asked, as the discovery of replicas does.
const maxAddresses = 64

// maxClock is how far wall clocks may be apart without a warning.
const maxClock = time.Second

// met is what came of asking one address.
type met struct {
	addr    string
	replica Replica
	err     error
	lines   []Line
}

// cluster examines the names of INSTANCES, each replica behind them, and what they are together.
func (e examination) cluster(ctx context.Context) []Line {
	if e.Config.Mode == config.ModeBotOnly {
		return []Line{skipped("replicas", "MODE=%s has no others", config.ModeBotOnly)}
	}
	lines, addrs := e.resolved()
	all := inParallel(len(addrs), func(i int) met {
		r, err := e.Replica(ctx, addrs[i])
		return met{addr: addrs[i], replica: r, err: err}
	})
	for i := range all {
		all[i].lines = e.replica(all[i])
		lines = append(lines, all[i].lines...)
	}
	resolved := !slices.ContainsFunc(lines[:len(e.Config.Instances)], func(l Line) bool { return l.Level == Error })
	lines = append(lines, e.quorum(all, resolved)...)
	return append(lines, pollers(all))
}

// instances resolves INSTANCES and returns a line for each, and the addresses, sorted.
func (e examination) instances(ctx context.Context) (lines []Line, addrs []string) {
	_, ownPort, err := net.SplitHostPort(e.Config.PeerAddr)
	if err != nil {
		ownPort = "" // config has refused it
	}
	type found struct {
		line  Line
		addrs []string
	}
	all := inParallel(len(e.Config.Instances), func(i int) found {
		instance := e.Config.Instances[i]
		subject := "instance " + instance
		host, port := peer.Split(instance, ownPort)
		ips, err := e.Resolve(ctx, host)
		switch {
		case err != nil && unknownYet(host, err):
			return found{line: warning(subject, "%s: no replica of it runs yet, or INSTANCES is wrong", reason(err))}
		case err != nil:
			return found{line: failure(subject, "it is not resolved (%s): repair the name servers of this machine or container", reason(err))}
		}
		var f found
		for _, ip := range ips {
			f.addrs = append(f.addrs, net.JoinHostPort(ip.String(), port))
		}
		slices.Sort(f.addrs)
		f.line = ok(subject, "resolves to %s", strings.Join(f.addrs, ", "))
		if _, err := netip.ParseAddr(host); err == nil {
			f.line = ok(subject, "an address")
		}
		return f
	})
	for _, f := range all {
		lines = append(lines, f.line)
		addrs = append(addrs, f.addrs...)
	}
	slices.Sort(addrs)
	addrs = slices.Compact(addrs)
	return lines, addrs[:min(len(addrs), maxAddresses)]
}

// replica examines one address: connection, TLS identity, version, configuration, round trip, clock, health.
func (e examination) replica(m met) []Line {
	subject := "replica " + m.addr
	if m.err != nil {
		return []Line{unanswered(subject, m)}
	}
	s := m.replica.Status
	var lines []Line
	wrong := func(l Line) { l.Text = s.Name + " " + l.Text; lines = append(lines, l) }
	if s.Version != e.Version {
		wrong(warning(subject, "runs version %s, this is %s: upgrade all to one version", s.Version, e.Version))
	}
	if s.Lease != e.Config.Lease {
		wrong(failure(subject, "has LEASE=%s, here it is %s, so the two take no part in one election: set the same in all replicas", s.Lease, e.Config.Lease))
	}
	if s.Replicas != e.Config.Replicas {
		wrong(warning(subject, "counts %s, here REPLICAS=%d: set the same in all replicas", plural(s.Replicas, "replica"), e.Config.Replicas))
	}
	if expected := quorumOf(e.Config.Quorum, s.Replicas); s.Quorum != expected {
		wrong(failure(subject, "needs %s, by the configuration here it would be %d, so two could be primary: set the same QUORUM in all replicas", plural(s.Quorum, "grant"), expected))
	}
	switch took := m.replica.RoundTrip; {
	case took > e.Config.Lease/2:
		wrong(failure(subject, "answers after %s, which is more than half of LEASE=%s, so its grants come too late: set LEASE to at least %s", diagnosis.Span(took), e.Config.Lease, atLeast(took)))
	case took > e.Config.Lease/10:
		wrong(warning(subject, "answers after %s, which is more than a tenth of LEASE=%s, so each renewal is sent twice: set LEASE to at least %s", diagnosis.Span(took), e.Config.Lease, atLeast(took)))
	}
	if ahead, known := clock(m.replica); known && ahead > maxClock {
		wrong(warning(subject, "has a wall clock that is at least %s ahead of the one here: times in logs and history mislead; synchronize both (NTP)", ahead.Round(time.Second)))
	} else if known && -ahead > maxClock {
		wrong(warning(subject, "has a wall clock that is at least %s behind the one here: times in logs and history mislead; synchronize both (NTP)", (-ahead).Round(time.Second)))
	}
	if trouble := diagnosis.TroubleOf(s.Health); trouble == diagnosis.TroubleToken {
		wrong(failure(subject, "reports: %s; give all replicas the same token", trouble.Text()))
	}
	if !s.Health.OK && !s.IsWitness() {
		lines = append(lines, warning(subject, "%s", diagnosis.Unwell(s)))
	}
	if len(lines) == 0 {
		lines = append(lines, ok(subject, "%s, %s, version %s, round trip %s", s.Name, diagnosis.Role(s), s.Version, span(m.replica.RoundTrip)))
	}
	return lines
}

// span is a duration for people.
func span(d time.Duration) string {
	if d < time.Millisecond {
		return "under 1 ms"
	}
	return diagnosis.Span(d)
}

// unanswered is the line of a replica that did not answer.
func unanswered(subject string, m met) Line {
	_, port, _ := net.SplitHostPort(m.addr)
	switch {
	case errors.Is(m.err, peer.ErrIdentity):
		return failure(subject, "it belongs to another bot: its CLUSTER_SECRET, or without one its token, differs; set the same in all replicas")
	case errors.Is(m.err, peer.ErrProtocol):
		return failure(subject, "it speaks another version of the protocol: upgrade all to one version")
	case absent(m.err):
		return warning(subject, "no replica listens there (%s): start it, or correct INSTANCES", reason(m.err))
	case undialled(m.err):
		return failure(subject, "no connection (%s): its machine is down, or a firewall drops TCP port %s between the machines of the replicas", reason(m.err), port)
	case alien(m.err):
		return failure(subject, "what listens there is no replica: correct INSTANCES or PEER_ADDR")
	default:
		return failure(subject, "it accepts the connection and does not answer as a replica (%s): it may be frozen or starved, or another program", reason(m.err))
	}
}

// atLeast is a LEASE of which a round trip is no more than a tenth.
func atLeast(took time.Duration) time.Duration {
	const step = 50 * time.Millisecond
	return (10*took + step - 1) / step * step
}

// clock is how far a replica's wall clock is ahead at least; less than 0 if it is behind. A date has no fractions of a
// second, and it was read at some time between the request and its answer.
func clock(r Replica) (ahead time.Duration, known bool) {
	if r.Date.IsZero() {
		return 0, false
	}
	return max(r.Date.Sub(r.Answered), 0) - max(r.Asked.Sub(r.Date.Add(time.Second)), 0), true
}

func quorumOf(configured, replicas int) int {
	if configured != 0 {
		return configured
	}
	return replicas/2 + 1
}

// quorum examines whether those that answer are enough, and whether their names tell them apart. resolved is false if the
// name servers failed, and replicas may run that could not be asked.
func (e examination) quorum(all []met, resolved bool) []Line {
	const subject = "quorum"
	names, gone := map[string]int{}, resolved
	byID, candidates := map[string]string{}, map[string]string{}
	for _, m := range all {
		if m.err == nil {
			byID[string(m.replica.Status.Replica)] = m.replica.Status.Name // one that has several addresses counts once
			if !m.replica.Status.IsWitness() {
				candidates[string(m.replica.Status.Replica)] = m.replica.Status.Name
			}
		}
		gone = gone && m.err != nil && absent(m.err)
	}
	for _, name := range byID {
		names[name]++
	}
	n, needed := len(byID), quorumOf(e.Config.Quorum, e.Config.Replicas)
	count := fmt.Sprintf("%d of %s answer, %d needed", n, plural(e.Config.Replicas, "replica"), needed)
	var lines []Line
	switch {
	case n == 0 && gone:
		lines = append(lines, warning(subject, "no replica answers, so none runs yet, or INSTANCES is wrong: start them (docker compose up -d)"))
	case n < needed:
		lines = append(lines, failure(subject, "%s: there can be no primary; start the others, or repair the network to them", count))
	case len(candidates) == 0:
		lines = append(lines, failure(subject, "%s, and all that answer are witnesses: there can be no primary; start replicas without WITNESS=true", count))
	case len(candidates) == 1 && n > needed:
		lines = append(lines, warning(subject, "%s, and all but %s are witnesses, which never are primary: its failure stops the bot; start another replica without WITNESS=true", count, slices.Collect(maps.Values(candidates))[0]))
	case n < e.Config.Replicas && n == needed:
		lines = append(lines, warning(subject, "%s: the next failure stops the bot; start the others", count))
	case n < e.Config.Replicas:
		lines = append(lines, warning(subject, "%s: start the others", count))
	case n > e.Config.Replicas:
		lines = append(lines, warning(subject, "%d replicas answer, more than REPLICAS=%d: set REPLICAS to their number in all of them", n, e.Config.Replicas))
	default:
		lines = append(lines, ok(subject, "%s", count))
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if names[name] > 1 {
			lines = append(lines, warning("names", "%d replicas are called %s: leave REPLICA_NAME empty, or give each a name of its own", names[name], name))
		}
	}
	return lines
}

// pollers passes on what the replicas report of other programs that use the token. Only a poll would show it, and this
// examination does not poll.
func pollers(all []met) Line {
	const subject = "other pollers"
	asked := false
	for _, m := range all {
		if m.err != nil {
			continue
		}
		asked = true
		s := m.replica.Status
		switch trouble := diagnosis.TroubleOf(s.Health); trouble {
		case diagnosis.TroubleConflict:
			return failure(subject, "%s reports: %s; stop that program, or revoke the token at @BotFather", s.Name, trouble.Text())
		case diagnosis.TroubleWebhook:
			return failure(subject, "%s reports: %s; stop the program that sets it", s.Name, trouble.Text())
		case diagnosis.TroubleToken: // stands in the replica's line
		}
	}
	if !asked {
		return skipped(subject, "only a poll shows them, and no replica answers that could report one")
	}
	return ok(subject, "no replica reports one")
}

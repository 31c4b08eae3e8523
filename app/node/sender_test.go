package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/election"
)

// stoppedClock shows what it is set to.
type stoppedClock struct{ now election.Instant }

func (c *stoppedClock) Read() election.Reading { return election.Reading{Now: c.now} }

// listed is a transport that knows addresses and reaches none.
type listed struct{ addrs []string }

var errUnreachable = errors.New("unreachable")

func (l *listed) Addresses() []string { return slices.Clone(l.addrs) }
func (*listed) Complete() bool        { return true }
func (*listed) Refresh()              {}
func (*listed) Status(context.Context, string) (election.Status, error) {
	return election.Status{}, errUnreachable
}

func (*listed) Claim(context.Context, string, election.ClaimRequest) (election.ClaimAnswer, error) {
	return election.ClaimAnswer{}, errUnreachable
}
func (*listed) End(context.Context, string, election.EndRequest) error { return errUnreachable }
func (*listed) Leave(context.Context, string, election.LeaveRequest) (election.LeaveAnswer, error) {
	return election.LeaveAnswer{}, errUnreachable
}
func (*listed) History(context.Context, string) (election.History, error) {
	return election.History{}, errUnreachable
}
func (*listed) Progress(context.Context, string, election.Progress) (election.ProgressAnswer, error) {
	return election.ProgressAnswer{}, errUnreachable
}
func (*listed) Switchover(context.Context, string, string) error { return errUnreachable }

func senderOf(addrs ...string) (*sender, *stoppedClock, *listed) {
	clock, transport := &stoppedClock{}, &listed{addrs}
	n := New(Config{
		Election: election.Config{Self: "me", Name: "me", Lease: time.Second, Replicas: 3}, Clock: clock, Transport: transport,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	return n.sender, clock, transport
}

func TestRequestsToAnAddressAreBoundedAndApart(t *testing.T) {
	t.Parallel()
	s, clock, _ := senderOf()
	at := slot{"a", 'c'}
	m := message{limit: 3, apart: 100 * time.Millisecond}
	for _, step := range []struct {
		at            time.Duration
		room, overdue bool
	}{
		{0, true, false}, {99, false, false}, {100, true, false}, {299, false, false}, {300, true, false},
		{499, false, false}, {500, false, true},
	} {
		clock.now = election.Instant(step.at * time.Millisecond)
		if room, overdue := s.begin(at, clock.now, m); room != step.room || overdue != step.overdue {
			t.Errorf("at %d ms: room %v, overdue %v", step.at, room, overdue)
		}
	}
	s.finish(at, 0) // what is left is younger
	if room, overdue := s.begin(at, clock.now, m); !room || overdue {
		t.Errorf("room %v, overdue %v after one was answered", room, overdue)
	}
	for _, since := range []election.Instant{clock.now, election.Instant(100 * time.Millisecond), election.Instant(300 * time.Millisecond)} {
		s.finish(at, since)
	}
	if len(s.underway) != 0 {
		t.Errorf("%v is left", s.underway)
	}
}

// In so many rounds each address is asked once, whatever comes and goes meanwhile.
func TestAddressesAreAskedInTurn(t *testing.T) {
	t.Parallel()
	var addrs []string
	for i := range 10 {
		addrs = append(addrs, fmt.Sprint("a", i))
	}
	s, _, transport := senderOf(addrs...)
	asked := map[string]int{}
	for range 3 {
		for _, addr := range s.share(3) {
			asked[addr]++
		}
	}
	if len(asked) != 10 {
		t.Errorf("asked %v", asked)
	}
	transport.addrs = slices.Delete(addrs, 2, 5)
	clear(asked)
	for range 2 {
		share := s.share(2)
		for _, addr := range share {
			asked[addr]++
		}
		if len(share) != 4 {
			t.Errorf("asked %v at once", share)
		}
	}
	if len(asked) != 7 {
		t.Errorf("asked %v", asked)
	}
	if share := s.share(1); len(share) != 7 {
		t.Errorf("asked %v of all", share)
	}
	transport.addrs = nil
	if share := s.share(3); len(share) != 0 {
		t.Errorf("asked %v of none", share)
	}
}

// Replicas begin at different addresses.
func TestReplicasDoNotAllAskTheSameFirst(t *testing.T) {
	t.Parallel()
	first := map[string]bool{}
	for i := range 20 {
		s, _, _ := senderOf("a", "b", "c", "d", "e", "f", "g", "h")
		s.n.cfg.Election.Self = election.ReplicaID(fmt.Sprintf("%016x", i))
		first[s.share(8)[0]] = true
	}
	if len(first) < 4 {
		t.Errorf("20 replicas begin at %v", first)
	}
}

// A replica that starts again somewhere else leaves nothing behind: neither where it was, nor what was granted there.
func TestAddressesThatAreGoneAreForgotten(t *testing.T) {
	t.Parallel()
	s, _, transport := senderOf()
	for i := range 1000 {
		addr := fmt.Sprint("10.0.0.", i)
		transport.addrs = []string{"steady", addr}
		s.met("steady", "steady")
		s.grants("steady", election.Claim{Timestamp: 1, Replica: "p"})
		s.met(election.ReplicaID(fmt.Sprint("r", i)), addr)
		s.grants(addr, election.Claim{Timestamp: int64(i + 1), Replica: "p"})
	}
	if n := max(len(s.address), len(s.granted)); n > maxRemembered+2 {
		t.Errorf("%d are remembered", n)
	}
	if s.addressOf("steady") != "steady" || s.addressOf("r999") != "10.0.0.999" || s.grantedAt("steady").IsZero() {
		t.Errorf("what is there was forgotten: %v", s.address)
	}
}

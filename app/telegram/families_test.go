package telegram

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/dns/dnsmessage"

	"habot/app/simulator"
)

// dualStack is a Telegram with an address of each family, found under one name: over one of them it works, over the other it
// misbehaves. It returns a client that has the name alone, and how many connections were made to each family.
func dualStack(t *testing.T, broken string, misbehave func(conn net.Conn)) (*Client, *way, func() map[string]int) {
	t.Helper()
	sim := simulator.New(simulator.Config{Token: testToken, Logger: slog.New(slog.DiscardHandler)})
	four, six, port := bothFamilies(t)
	bad, good := six, four
	if broken == ipv4 {
		bad, good = four, six
	}
	var mu sync.Mutex
	made := map[string]int{}
	server := httptest.NewUnstartedServer(sim.Handler())
	server.Listener = good
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			mu.Lock()
			defer mu.Unlock()
			made["good"]++
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := bad.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			made["bad"]++
			mu.Unlock()
			misbehave(conn)
		}
	})
	t.Cleanup(func() {
		_ = bad.Close()
		serving.Wait()
	})
	rt := newBase(nil)
	t.Cleanup(rt.CloseIdleConnections)
	resolver := &net.Resolver{PreferGo: true, Dial: nameServer(t)}
	rt.families.dial = (&net.Dialer{Timeout: 2 * time.Second, Resolver: resolver}).DialContext
	b := New(Config{
		Token: testToken, APIURL: fmt.Sprintf("http://telegram.test:%d", port), Name: "habot-bot-1", Version: "1.2.3",
		Registerer: prometheus.NewRegistry(), Transport: rt,
	})
	return b, rt, func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		return map[string]int{"good": made["good"], "bad": made["bad"]}
	}
}

// bothFamilies listens on one port of both loopback addresses.
func bothFamilies(t *testing.T) (four, six net.Listener, port int) {
	t.Helper()
	for range 20 {
		four, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := four.Addr().(*net.TCPAddr).Port
		six, err := net.Listen("tcp6", fmt.Sprintf("[::1]:%d", port))
		if err == nil {
			return four, six, port
		}
		_ = four.Close()
		var unavailable *net.OpError
		if probe, failed := net.Listen("tcp6", "[::1]:0"); failed != nil && errors.As(failed, &unavailable) {
			t.Skip("this machine has no IPv6, not even to itself")
		} else if failed == nil {
			_ = probe.Close()
		}
	}
	t.Fatal("no port is free in both families")
	return nil, nil, 0
}

// nameServer answers, in memory, that any name has both loopback addresses.
func nameServer(t *testing.T) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer func() { _ = far.Close() }()
			buf := make([]byte, 2+4096) // a pipe is a stream: each message follows its length
			for {
				n, err := far.Read(buf)
				if err != nil {
					return
				}
				raw, err := dnsAnswer(buf[2:n])
				if err != nil {
					t.Errorf("a question that cannot be answered: %v", err)
					return
				}
				if _, err := far.Write(append([]byte{byte(len(raw) >> 8), byte(len(raw))}, raw...)); err != nil {
					return
				}
			}
		}()
		return near, nil
	}
}

func dnsAnswer(question []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return nil, err
	}
	m.Response, m.Additionals = true, nil
	for _, q := range m.Questions {
		header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
		switch q.Type {
		case dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}})
		case dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: [16]byte{15: 1}}})
		}
	}
	return m.Pack()
}

// Telegram has both families, and a host's IPv6 may connect and then carry nothing. IPv4 is tried soon, and kept.
func TestAFamilyThatConnectsAndCarriesNothingIsLeft(t *testing.T) {
	t.Parallel()
	for _, broken := range []string{ipv6, ipv4} {
		for how, misbehave := range map[string]func(net.Conn){
			"resets": func(conn net.Conn) {
				_ = conn.(*net.TCPConn).SetLinger(0)
				_ = conn.Close()
			},
			"says nothing": func(net.Conn) {},
		} {
			t.Run(broken+" "+how, func(t *testing.T) {
				t.Parallel()
				b, rt, made := dualStack(t, broken, misbehave)
				failed := 0
				for range 20 {
					if err := soon(t, b, 500*time.Millisecond); err != nil {
						failed++
					}
					rt.CloseIdleConnections()
				}
				if failed > awayFailures || made()["bad"] > awayFailures {
					t.Errorf("%d of 20 requests failed, over connections %v", failed, made())
				}
			})
		}
	}
}

func TestFamiliesAreChosenByWhatRequestsShow(t *testing.T) {
	t.Parallel()
	f := &families{}
	expect := func(when, only string) {
		t.Helper()
		if f.only != only {
			t.Errorf("%s: %q is tried, want %q", when, f.only, only)
		}
	}
	expect("at first", "")
	f.failed(ipv6)
	expect("nothing is known to work, and IPv6 does not", ipv4)
	f.failed(ipv6)
	expect("what was under way fails, too", ipv4)
	f.failed(ipv4)
	expect("nor does IPv4", ipv6)
	f.answered(ipv6)
	f.failed(ipv6)
	expect("IPv6 worked, and failed once", ipv6)
	f.answered(ipv6)
	f.failed(ipv6)
	expect("once again", ipv6)
	f.failed(ipv6)
	expect("twice in a row", ipv4)
	f.failed(ipv4)
	expect("IPv4 is no better: Telegram itself is down", ipv6)
	f.failed("")
	expect("no family", ipv6)
}

// A name without an address of the family to be tried is reached over the one that it has.
func TestAFamilyWithoutAnAddressIsNoDeadEnd(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(simulator.New(simulator.Config{Token: testToken, Logger: slog.New(slog.DiscardHandler)}).Handler())
	defer server.Close()
	rt := newBase(nil)
	defer rt.CloseIdleConnections()
	rt.families.only = ipv6
	b := New(Config{Token: testToken, APIURL: server.URL, Name: "habot-bot-1", Version: "1.2.3", Registerer: prometheus.NewRegistry(), Transport: rt})
	if err := soon(t, b, 5*time.Second); err != nil {
		t.Error(err)
	}
	if rt.families.only != "" {
		t.Errorf("%q is tried again each time", rt.families.only)
	}
}

// soon asks for a name, and waits for at most bound.
func soon(t *testing.T, c *Client, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	return getMe(ctx, c)
}

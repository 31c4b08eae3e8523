package telegram

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// writing is a connection that counts its writes.
type writing struct {
	net.Conn
	writes *atomic.Int32
}

// Write implements net.Conn.
func (w writing) Write(p []byte) (int, error) {
	w.writes.Add(1)
	return w.Conn.Write(p)
}

// counting is a client of a Telegram that answers everything with true, and how many writes it has made.
func counting(t *testing.T) (c *Client, base *way, writes *atomic.Int32, served *atomic.Int32) {
	t.Helper()
	writes, served = &atomic.Int32{}, &atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var body bytes.Buffer
		if n, err := body.ReadFrom(req.Body); err == nil && n == req.ContentLength {
			served.Add(1)
		}
		_, _ = w.Write([]byte(`{"ok":true,"result":true}`))
	}))
	t.Cleanup(server.Close)
	base = newBase(nil)
	t.Cleanup(base.CloseIdleConnections)
	base.families.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
		return writing{conn, writes}, err
	}
	return newTestClient(testToken, base), base, writes, served
}

// A short request is one packet. One that is longer than net/http's buffer, or not in memory, takes more.
func TestAShortRequestLeavesInOneWrite(t *testing.T) {
	t.Parallel()
	c, _, writes, served := counting(t)
	for _, tt := range []struct {
		name  string
		query string
		text  string
		one   bool
	}{
		{"short", "", "x", true},
		{"as long as may be", "", strings.Repeat("x", oneWrite-200), true},
		{"long", "", strings.Repeat("x", 5000), false},
		{"a long query", "a=" + strings.Repeat("x", 5000), "x", false},
	} {
		before := writes.Load()
		resp, err := c.Pass(inTerm(t), Passed{Method: "sendMessage", Query: tt.query, Body: strings.NewReader(tt.text), Size: int64(len(tt.text))})
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		_ = resp.Body.Close()
		if n := writes.Load() - before; (n == 1) != tt.one {
			t.Errorf("%s: %d writes", tt.name, n)
		}
	}
	if n := served.Load(); n != 4 {
		t.Errorf("%d of 4 requests arrived whole", n)
	}
}

// Nothing of a short request leaves if the lease has ended when it is about to, over a new connection or one that was used before.
func TestOfAShortRequestNothingLeavesWithoutTheLease(t *testing.T) {
	t.Parallel()
	var after atomic.Int32 // so many more looks at the lease find it held
	held := func() bool { return after.Add(-1) >= 0 }
	c, base, writes, served := counting(t)
	after.Store(1000)
	if err := c.Call(WithLease(t.Context(), held), "sendMessage", nil, nil); err != nil {
		t.Fatal(err)
	}
	for _, reused := range []bool{true, false} {
		if !reused {
			base.CloseIdleConnections()
		}
		before := writes.Load()
		after.Store(1) // right at the beginning, and not when it leaves
		if err := c.Call(WithLease(t.Context(), held), "sendMessage", nil, nil); !errors.Is(err, ErrLeaseLost) {
			t.Errorf("reused %t: %v", reused, err)
		}
		if n := writes.Load() - before; n != 0 {
			t.Errorf("reused %t: %d writes without the lease", reused, n)
		}
	}
	after.Store(1000)
	if err := c.Call(WithLease(t.Context(), held), "sendMessage", nil, nil); err != nil || served.Load() != 2 {
		t.Errorf("%v, and %d requests arrived: what was held back spoils the way for others", err, served.Load())
	}
}

// net/http sends a request again over a new connection if an idle one turns out to be closed. It is whole then, or is held back.
func TestAShortRequestThatIsSentAgainIsHeldToTheLeaseToo(t *testing.T) {
	t.Parallel()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://telegram.test/", strings.NewReader("whole"))
	if err != nil {
		t.Fatal(err)
	}
	var lost, written atomic.Bool
	watch(req, func() bool { return !lost.Load() }, &written)
	s := shortened(req)
	for range 2 {
		body, err := req.GetBody()
		if err != nil {
			t.Fatal(err)
		}
		s.leave()
		var got bytes.Buffer
		if _, err := got.ReadFrom(body); err != nil || got.String() != "whole" || !written.Load() || s.stopped() {
			t.Errorf("%q, %v", got.String(), err)
		}
	}
	body, err := req.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	lost.Store(true)
	s.leave()
	if n, _ := body.Read(make([]byte, 10)); n != 0 || !s.stopped() {
		t.Errorf("%d bytes could be read without the lease", n)
	}
	if _, err := req.GetBody(); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("a body for one more attempt: %v", err)
	}
}

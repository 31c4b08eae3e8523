package peer

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A replica that is too busy to shake hands within Timeout is waited for: a handshake that is given up has to be made again.
func TestSlowHandshakeIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		cfg := identity(t, "ours").config()
		cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			time.Sleep(1500 * time.Millisecond)
			return nil, nil
		}
		server := &http.Server{TLSConfig: cfg, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(protocolHeader, "1")
			_, _ = w.Write([]byte(encode(t, status("b"))))
		})}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = server.ServeTLS(p, "", "")
		}()
		c := NewClient(ClientConfig{
			Identity: identity(t, "ours"), Self: "a", Port: "7175", Timeout: 275 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		})
		transport(t, c).DialContext = p.dial
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := c.Status(ctx, "b:7175"); err != nil {
			t.Error(err)
		}
		c.Close()
		_ = server.Close()
		<-ended
		time.Sleep(farewell)
	})
}

// Requests one after the other use one connection, however long the answers take; only one whose request is given up is
// made again.
func TestConnectionsLiveOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		c, _ := s.client("ours")
		var made atomic.Int64
		dial := transport(t, c).DialContext
		transport(t, c).DialContext = func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			made.Add(1)
			return dial(ctx, network, addr)
		}
		s.replica.before = func(context.Context) { time.Sleep(2 * time.Second) }
		for range 5 {
			if _, err := c.Claim(t.Context(), "b:7175", claimRequest("a")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Second) // longer than many replicas take to come round
		}
		if n := made.Load(); n != 1 {
			t.Errorf("%d connections were made", n)
		}
	})
}

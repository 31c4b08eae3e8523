package peer

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// BenchmarkRenewal is what a renewal of the lease costs, both ends together, over real TLS: what an idle
// cluster does all the time.
func BenchmarkRenewal(b *testing.B) {
	log := slog.New(slog.DiscardHandler)
	server := NewServer(ServerConfig{
		Addr: "127.0.0.1:0", Identity: identity(b, "ours"), Replica: &replica{}, Logger: log, Registerer: prometheus.NewRegistry(),
	})
	if err := server.Listen(); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	client := NewClient(ClientConfig{Identity: identity(b, "ours"), Self: "a", Logger: log, Timeout: time.Second})
	request := claimRequest("a")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Claim(ctx, server.Addr().String(), request); err != nil {
			b.Fatal(err)
		}
	}
	client.Close()
	stop()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

// BenchmarkHandshake is what a connection costs, both ends together: many times a renewal, which is why connections live on.
// hybrid is with Go's default key exchange; resumed is what session tickets would save where the same two processes have to
// connect again, which they hardly ever have to.
func BenchmarkHandshake(b *testing.B) {
	for name, change := range map[string]func(*tls.Config){
		"full":   func(*tls.Config) {},
		"hybrid": func(c *tls.Config) { c.CurvePreferences = nil },
		"resumed": func(c *tls.Config) {
			c.SessionTicketsDisabled, c.ServerName, c.ClientSessionCache = false, "habot", tls.NewLRUClientSessionCache(1)
		},
	} {
		b.Run(name, func(b *testing.B) {
			ours, theirs := identity(b, "ours").config(), identity(b, "ours").config()
			change(ours)
			change(theirs)
			l, err := tls.Listen("tcp", "127.0.0.1:0", theirs)
			if err != nil {
				b.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = conn.Write([]byte{1}) // with it come tickets
					_, _ = io.Copy(io.Discard, conn)
					_ = conn.Close()
				}
			}()
			b.ReportAllocs()
			for b.Loop() {
				conn, err := tls.Dial("tcp", l.Addr().String(), ours)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := conn.Read(make([]byte, 1)); err != nil {
					b.Fatal(err)
				}
				_ = conn.Close()
			}
			_ = l.Close()
			<-ended
		})
	}
}

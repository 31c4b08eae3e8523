package peer

import (
	"context"
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

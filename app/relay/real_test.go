package relay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/queues"
	"habot/app/update"
)

// realRelay is a relay on real sockets.
func realRelay(t testing.TB, cfg Config) *Relay {
	t.Helper()
	cfg.Forwarder, cfg.Registerer = &recorder{}, prometheus.NewRegistry()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Parallel = 40
	r := New(cfg)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		r.Close()
	})
	return r
}

// stirring is a log that signals each of its lines.
type stirring chan struct{}

func (s stirring) Write(line []byte) (int, error) {
	select {
	case s <- struct{}{}:
	default:
	}
	return len(line), nil
}

// deliver hands updates to a relay, and returns when all are handled or ctx ends.
func deliver(ctx context.Context, r *Relay, batch []update.Update) (done int) {
	q := queues.New(queues.Config{
		Handler: r.Handler(testTerm, free{}), Slots: 40, Patience: time.Minute, Held: func() bool { return true },
		Promise: func(string, time.Duration) {}, Logger: slog.New(slog.DiscardHandler),
	})
	one := make(chan struct{}, len(batch))
	q.Consume(ctx, batch, func(int64, update.Outcome) { one <- struct{}{} })
	for done < len(batch) && ctx.Err() == nil {
		select {
		case <-one:
			done++
		case <-ctx.Done():
		}
	}
	q.Drain(ctx)
	return done
}

func someUpdates(t testing.TB, n int) []update.Update {
	t.Helper()
	list := make([]string, 0, n)
	for i := range n {
		list = append(list, fmt.Sprintf(`{"update_id":%d,"message":{"message_id":%d,"date":1,"chat":{"id":%d},"text":"message"}}`, 1+i, i, 1+i%20))
	}
	batch, err := update.Split([]byte("[" + strings.Join(list, ",") + "]"))
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func TestHTTPSIsVerified(t *testing.T) {
	t.Parallel()
	taken := make(chan string, 10)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { taken <- req.Host + " " + req.Proto }))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	for name, tt := range map[string]struct {
		url   string
		roots *x509.CertPool
		takes bool
	}{
		"known":      {"https://127.0.0.1:" + port + "/x", roots, true},
		"unknown":    {"https://127.0.0.1:" + port + "/x", x509.NewCertPool(), false},
		"other name": {"https://localhost:" + port + "/x", roots, false},
	} {
		logged := make(stirring, 1)
		r := realRelay(t, Config{
			Backends: backends(t, tt.url), TLS: &tls.Config{RootCAs: tt.roots, MinVersion: tls.VersionTLS12}, Logger: slog.New(slog.NewTextHandler(logged, nil)),
		})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // on a machine that is busy a handshake takes long
		blamed := func() bool { return strings.Contains(fmt.Sprint(r.Snapshot().Addresses), "certificate") }
		saysWhy := make(chan bool, 1) // a probe that connects takes the blame away again
		if !tt.takes {
			go func() {
				defer cancel()
				for !blamed() {
					select {
					case <-logged:
					case <-ctx.Done():
						saysWhy <- false
						return
					}
				}
				saysWhy <- true
			}()
		}
		done := deliver(ctx, r, someUpdates(t, 1))
		cancel()
		if (done == 1) != tt.takes {
			t.Errorf("%s: %d are handled", name, done)
		}
		if tt.takes && done == 1 {
			if got := <-taken; got != "127.0.0.1:"+port+" HTTP/1.1" {
				t.Errorf("%s: sent as %s", name, got)
			}
		}
		if tt.takes {
			continue
		}
		if !<-saysWhy {
			t.Errorf("%s: the status does not say why: %+v", name, r.Snapshot())
		}
		if len(taken) > 0 {
			t.Errorf("%s: an update was sent", name)
		}
	}
}

// BenchmarkRelay is one update among many of twenty chats, over real sockets, to a backend that answers at once.
func BenchmarkRelay(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	r := realRelay(b, Config{Backends: backends(b, server.URL)})
	batch := someUpdates(b, 100)
	b.ReportAllocs()
	for b.Loop() {
		if done := deliver(b.Context(), r, batch); done != len(batch) {
			b.Fatalf("%d are handled", done)
		}
	}
	b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "updates/s")
}

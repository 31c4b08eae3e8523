package supervise

import (
	"context"
	"errors"
	"flag"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"
)

var starved = flag.Bool("starved", false, "this process runs under a CPU quota: use it up, and watch in real time (app/e2e does this)")

// Under a quota that other work of the process uses up, a server that answers is left alone, and one that stalls is
// reported. The times are real: app/e2e runs this in a container with a tenth of a processor.
func TestStarved(t *testing.T) {
	if !*starved {
		t.Skip("needs a CPU quota: go test -tags e2e,nomsgpack,stdjson ./app/e2e -run Starved")
	}
	const lease = 550 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	burning := make(chan struct{})
	go func() {
		defer close(burning)
		for ctx.Err() == nil { // it does nothing for as long as it may
		}
	}()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	go func() { _ = server.Serve(l) }()
	ask := func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://"+l.Addr().String(), nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	serving, stop := context.WithTimeout(ctx, 10*time.Second)
	s := newSupervisor(lease, func(int) { t.Error("fail-stop") })
	if err := s.Run(serving, orderly().run, nil, []Server{{"server", ask}}); err != nil {
		t.Errorf("a server that answers is reported: %v", err)
	}
	stop()
	_ = server.Close()
	http.DefaultClient.CloseIdleConnections()

	var took []time.Duration
	for range 5 {
		w := NewWatchdog(lease)
		start := time.Now()
		w.Expect("stalled", Patience(lease))
		w.Expect("fine", time.Hour)
		trying, stop := context.WithTimeout(ctx, 8*time.Second)
		if err := w.Run(trying); !errors.Is(err, ErrStalled) {
			t.Errorf("a component that stalls was not reported in 8 s: %v", err)
		}
		stop()
		took = append(took, time.Since(start).Round(time.Millisecond))
	}
	cancel()
	<-burning
	slices.Sort(took)
	t.Logf("a component that stalls was reported after %v", took)
	if worst := took[len(took)-1]; worst > 8*time.Second { // 1.0.0 never reported it
		t.Errorf("a component that stalls was reported after %v", worst)
	}
}

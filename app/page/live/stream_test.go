package live

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// counter is a source whose frames are numbered.
type counter struct {
	mu    sync.Mutex
	asked int
}

func (c *counter) Frame(since uint64) ([]byte, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	now := since + 1
	if since == 0 {
		now = uint64(time.Now().UnixMilli())
	}
	return fmt.Appendf(nil, `{"since":%d}`, min(since, 1)), now
}

func (c *counter) calls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

// reader is a client: what it got, and whether it reads.
type reader struct {
	mu      sync.Mutex
	header  http.Header
	got     strings.Builder
	blocked chan struct{} // if not nil, writes wait until it is closed, from the first frame on
}

func newReader() *reader { return &reader{header: http.Header{}} }

func (r *reader) Header() http.Header { return r.header }
func (r *reader) WriteHeader(int)     {}
func (r *reader) Flush()              {}

func (r *reader) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.blocked != nil && strings.Contains(r.got.String(), "data:") {
		r.mu.Unlock()
		<-r.blocked
		r.mu.Lock()
	}
	return r.got.Write(p)
}

func (r *reader) frames() (whole, changes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Count(r.got.String(), `data: {"since":0}`), strings.Count(r.got.String(), `data: {"since":1}`)
}

func watch(ctx context.Context, s *Stream, r http.ResponseWriter) <-chan struct{} {
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.ServeHTTP(r, httptest.NewRequestWithContext(ctx, http.MethodGet, "/events", nil))
	}()
	return over
}

const (
	every  = 100 * time.Millisecond
	behind = 50
)

func TestWatcherGetsAllThereIsAndThenWhatChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &counter{}
		s := NewStream(Config{Source: source, Every: every, Most: 10, Behind: behind})
		ctx, stop := context.WithCancel(t.Context())
		first, late := newReader(), newReader()
		over := watch(ctx, s, first)
		synctest.Wait()
		if whole, changes := first.frames(); whole != 1 || changes != 0 {
			t.Errorf("at once: %d whole, %d changes", whole, changes)
		}
		time.Sleep(10*every + 1)
		lateOver := watch(ctx, s, late)
		time.Sleep(5 * every)
		synctest.Wait()
		if whole, changes := first.frames(); whole != 1 || changes != 15 {
			t.Errorf("after 15 ticks: %d whole, %d changes", whole, changes)
		}
		if whole, changes := late.frames(); whole != 1 || changes != 4 {
			t.Errorf("one that came late: %d whole, %d changes", whole, changes)
		}
		stop()
		<-over
		<-lateOver
		time.Sleep(2 * every)
		asked := source.calls()
		time.Sleep(10 * every)
		if again := source.calls(); again != asked {
			t.Errorf("the source is asked %d times more while nobody watches", again-asked)
		}
		// Who comes back is served again, by an asking that starts anew.
		ctx, stop = context.WithCancel(t.Context())
		again := newReader()
		over = watch(ctx, s, again)
		time.Sleep(3*every + 1)
		synctest.Wait()
		if whole, changes := again.frames(); whole != 1 || changes != 3 {
			t.Errorf("back again: %d whole, %d changes", whole, changes)
		}
		stop()
		<-over
		time.Sleep(2 * every) // the asking ends
	})
}

// What a thousand watchers cost the source is what one costs it, whether they read or not; more than fit are sent away.
func TestTheSourceIsAskedNoMoreForAThousandWatchers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &counter{}
		s := NewStream(Config{Source: source, Every: every, Most: 50, Behind: behind})
		ctx, stop := context.WithCancel(t.Context())
		blocked := make(chan struct{})
		var ends []<-chan struct{}
		var sent []*reader
		for n := range 1000 {
			r := newReader()
			if n%2 == 0 && n < 50 {
				r.blocked = blocked
			}
			ends, sent = append(ends, watch(ctx, s, r)), append(sent, r)
			if n == 49 {
				synctest.Wait() // these have come in
			}
		}
		time.Sleep(10*every + 1)
		synctest.Wait()
		if asked := source.calls(); asked > 2*11 {
			t.Errorf("the source was asked %d times in ten ticks", asked)
		}
		served, full := 0, 0
		for _, r := range sent {
			if r.blocked != nil {
				continue
			}
			if whole, changes := r.frames(); whole == 1 && changes >= 9 {
				served++
			}
			if strings.Contains(r.got.String(), "event: full") {
				full++
			}
		}
		if served != 25 || full != 950 {
			t.Errorf("%d that read are served, %d were sent away; want 25 and 950", served, full)
		}
		stop()
		close(blocked)
		for _, end := range ends {
			<-end
		}
		time.Sleep(2 * every) // the asking ends
	})
}

func TestOneThatIsTooFarBehindSkipsAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := NewStream(Config{Source: &counter{}, Every: every, Most: 10, Behind: behind})
		ctx, stop := context.WithCancel(t.Context())
		slow := newReader()
		slow.blocked = make(chan struct{})
		over := watch(ctx, s, slow)
		time.Sleep(3 * behind * every)
		s.mu.Lock()
		if n := len(s.frames); n > behind {
			t.Errorf("%d frames are kept", n)
		}
		s.mu.Unlock()
		close(slow.blocked)
		time.Sleep(3*every + 1)
		synctest.Wait()
		if whole, changes := slow.frames(); whole != 2 || changes > 10 {
			t.Errorf("%d whole, %d changes: it was given what it had missed", whole, changes)
		}
		stop()
		<-over
		time.Sleep(2 * every) // the asking ends
	})
}

func TestAStreamThatIsClosedLetsAllGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := NewStream(Config{Source: &counter{}, Every: every, Most: 10, Behind: behind})
		over := watch(t.Context(), s, newReader())
		time.Sleep(every / 2)
		began := time.Now()
		s.Close()
		s.Close()
		<-over
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAnotherPageMayNotWatch(t *testing.T) {
	t.Parallel()
	source := &counter{}
	s := NewStream(Config{Source: source, Every: every, Most: 10, Behind: behind})
	req := httptest.NewRequest(http.MethodGet, "http://localhost:8081/events", nil)
	req.Header.Set("Origin", "http://evil.example")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, req)
	if w.Code != http.StatusForbidden || source.calls() != 0 {
		t.Errorf("%d, asked %d times", w.Code, source.calls())
	}
}

// A server's timeouts do not end the watching of one that reads.
func TestOverARealConnection(t *testing.T) {
	t.Parallel()
	s := NewStream(Config{Source: &counter{}, Every: 5 * time.Millisecond, Most: 10, Behind: behind})
	server := httptest.NewUnstartedServer(s)
	server.Config.ReadTimeout = 500 * time.Millisecond
	server.Config.WriteTimeout = 500 * time.Millisecond
	server.Start()
	defer server.Close()
	defer s.Close()
	res, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw := make([]byte, 20_000) // of frames of some 20 bytes: longer than both timeouts
	for n := 0; n < 6_000; {
		got, err := res.Body.Read(raw)
		if err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		n += got
	}
}

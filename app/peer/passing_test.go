package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/election"
)

// gateway is a fake.
type gateway struct {
	calls   atomic.Int64
	forward func(w http.ResponseWriter, r *http.Request, origin string) error
	message func(kind string, body []byte) ([]byte, error)
}

func (g *gateway) Forwarded(w http.ResponseWriter, r *http.Request, origin string) error {
	g.calls.Add(1)
	return g.forward(w, r, origin)
}

func (g *gateway) Message(_ context.Context, kind string, body []byte) ([]byte, error) {
	return g.message(kind, body)
}

// passing starts a server with a gateway, and returns a Passer that reaches it. It MUST be called in a bubble.
func passing(t *testing.T, g Gateway) (*Passer, *served) {
	t.Helper()
	s := &served{t: t, replica: &replica{}, log: &logged{}, net: newPipes(), ended: make(chan error, 1)}
	s.server = NewServer(ServerConfig{
		Identity: identity(t, "ours"), Replica: s.replica, Logger: slog.New(s.log), Registerer: prometheus.NewRegistry(), Gateway: g,
	})
	s.server.listener = s.net
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { s.ended <- s.server.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-s.ended; err != nil {
			t.Errorf("Serve returned %v", err)
		}
		s.ended <- nil
		time.Sleep(farewell)
	})
	return passer(t, "ours", s.net.dial), s
}

func passer(t *testing.T, secret string, dial dial) *Passer {
	t.Helper()
	p := newPasser(ClientConfig{Identity: identity(t, secret), Timeout: time.Second}, dial)
	t.Cleanup(p.Close)
	return p
}

func request(t *testing.T, method, target, body string) *http.Request {
	t.Helper()
	var b io.Reader
	if body != "" {
		b = strings.NewReader(body)
	}
	r, err := http.NewRequest(method, "http://bot:8082"+target, b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const target = "/bot123:SECRET/sendMessage?text=%D1%84+%26&chat_id=7"

func TestARequestArrivesAsItCameIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{forward: func(w http.ResponseWriter, r *http.Request, origin string) error {
			body, err := io.ReadAll(r.Body)
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(w, r.Method, " ", r.RequestURI, " ", r.URL.Query().Get("text"), " ", r.Header.Get("Content-Type"), " ", string(body), " ", origin, err)
			for _, name := range []string{"Habot-Origin", "Habot-Target", "Idempotency-Key", "X-Hop", "Connection"} {
				if r.Header.Get(name) != "" {
					t.Errorf("%s arrives: %q", name, r.Header.Get(name))
				}
			}
			if r.UserAgent() != "" {
				t.Errorf("a user agent that was not given: %q", r.UserAgent())
			}
			return nil
		}}
		p, _ := passing(t, g)
		r := request(t, http.MethodGet, target, "a=b")
		r.Header.Set("Content-Type", "text/x")
		r.Header.Set("Habot-Origin", "forged")
		r.Header.Set("Idempotency-Key", "1")
		r.Header.Set("Connection", "X-Hop")
		r.Header.Set("X-Hop", "1")
		resp, err := p.Forward(t.Context(), "b:7175", r, "where")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		want := "GET " + target + " ф & text/x a=b where<nil>"
		if err != nil || string(body) != want || resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "3" {
			t.Errorf("%d %v %v: %q, want %q", resp.StatusCode, resp.Header, err, body, want)
		}
		if resp.Header.Get(protocolHeader) != "" {
			t.Error("a header of replicas goes further")
		}
	})
}

// Neither way is held in memory, and both go on at once.
func TestBodiesStreamBothWays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{forward: func(w http.ResponseWriter, r *http.Request, _ string) error {
			if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
				t.Error(err)
			}
			for buf := make([]byte, 8); ; {
				n, err := r.Body.Read(buf)
				if n > 0 {
					fmt.Fprint(w, "got ", string(buf[:n]))
					_ = http.NewResponseController(w).Flush()
				}
				if err != nil {
					return nil //nolint:nilerr // the end of the body
				}
			}
		}}
		p, _ := passing(t, g)
		body, parts := io.Pipe()
		r := request(t, http.MethodPost, target, "")
		r.Body, r.ContentLength = body, -1
		go func() { _, _ = parts.Write([]byte("one")) }()
		resp, err := p.Forward(t.Context(), "b:7175", r, "")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for _, part := range []string{"one", "two"} {
			if part == "two" {
				_, _ = parts.Write([]byte(part))
			}
			got := make([]byte, len("got one"))
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != "got "+part {
				t.Fatalf("%q, %v", got, err)
			}
		}
		_ = parts.Close()
		if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
	})
}

func TestWhatBecameOfARequestThatFails(t *testing.T) {
	t.Parallel()
	refused := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") }
	broken := func(w http.ResponseWriter, r *http.Request, _ string) error {
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	}
	for _, test := range []struct {
		name    string
		secret  string
		dial    dial
		gateway Gateway
		want    error
	}{
		{"no port", "ours", refused, &gateway{}, ErrNotSent},
		{"another bot", "theirs", nil, &gateway{}, ErrNotSent},
		{"a version without a gateway", "ours", nil, nil, ErrNotSent},
		{"not primary", "ours", nil, &gateway{forward: func(http.ResponseWriter, *http.Request, string) error { return election.ErrNotPrimary }}, ErrNotTaken},
		{"broken", "ours", nil, &gateway{forward: broken}, ErrMayBeSent},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, s := passing(t, test.gateway)
				if test.dial == nil {
					test.dial = s.net.dial
				}
				p := passer(t, test.secret, test.dial)
				resp, err := p.Forward(t.Context(), "b:7175", request(t, http.MethodGet, target, "text=x"), "")
				if err == nil {
					resp.Body.Close()
				}
				for _, e := range []error{ErrNotSent, ErrNotTaken, ErrMayBeSent} {
					if errors.Is(err, e) != (e == test.want) {
						t.Errorf("%v is %v", err, e)
					}
				}
				if strings.Contains(fmt.Sprint(err), "SECRET") {
					t.Errorf("the token is in %v", err)
				}
			})
		})
	}
}

// net/http sends a GET again whose connection breaks before an answer. A GET may send a message.
func TestAGetIsNotSentTwiceWhenAConnectionInUseBreaks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{}
		g.forward = func(w http.ResponseWriter, r *http.Request, _ string) error {
			if g.calls.Load() > 1 {
				panic(http.ErrAbortHandler)
			}
			return nil
		}
		p, _ := passing(t, g)
		r := request(t, http.MethodGet, target, "")
		r.Header.Set("Idempotency-Key", "1")
		resp, err := p.Forward(t.Context(), "b:7175", r, "")
		if err != nil {
			t.Fatal(err)
		}
		drain(resp.Body)
		synctest.Wait()
		if _, err := p.Forward(t.Context(), "b:7175", r, ""); !errors.Is(err, ErrMayBeSent) {
			t.Errorf("%v", err)
		}
		if n := g.calls.Load(); n != 2 {
			t.Errorf("two requests arrive as %d", n)
		}
	})
}

// unread is a body that counts what is read of it.
type unread struct {
	io.Reader
	read atomic.Int64
}

func (u *unread) Read(b []byte) (int, error) {
	n, err := u.Reader.Read(b)
	u.read.Add(int64(n))
	return n, err
}

// So it can go to the next primary.
func TestALargeBodyStaysUnreadWhenTheRequestIsNotTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		taken := true
		g := &gateway{forward: func(_ http.ResponseWriter, r *http.Request, _ string) error {
			time.Sleep(4 * time.Second) // as long as a request waits
			if !taken {
				return election.ErrNotPrimary
			}
			n, err := io.Copy(io.Discard, r.Body)
			if n != 1<<20 || err != nil {
				t.Errorf("%d bytes arrive, %v", n, err)
			}
			return nil
		}}
		p, _ := passing(t, g)
		for _, taken = range []bool{false, true} {
			body := &unread{Reader: bytes.NewReader(make([]byte, 1<<20))}
			r := request(t, http.MethodPost, target, "")
			r.Body, r.ContentLength = io.NopCloser(body), 1<<20
			resp, err := p.Forward(t.Context(), "b:7175", r, "")
			if err == nil {
				drain(resp.Body)
			}
			if n := body.read.Load(); (n == 1<<20) != taken || errors.Is(err, ErrNotTaken) == taken {
				t.Errorf("taken %v: %d bytes read, %v", taken, n, err)
			}
		}
	})
}

// Polls hold connections for up to 50 s. The election has its own.
func TestPassingAtItsBoundDelaysNeitherElectionNorMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		g := &gateway{
			forward: func(http.ResponseWriter, *http.Request, string) error { <-over; return nil },
			message: func(kind string, body []byte) ([]byte, error) { return append([]byte(kind+" "), body...), nil },
		}
		p, s := passing(t, g)
		var all sync.WaitGroup
		for range MaxPassing + 20 {
			all.Go(func() {
				resp, err := p.Forward(t.Context(), "b:7175", request(t, http.MethodPost, target, ""), "")
				if err != nil {
					t.Error(err)
					return
				}
				drain(resp.Body)
			})
		}
		synctest.Wait()
		if n := g.calls.Load(); n != MaxPassing {
			t.Errorf("%d are passed on at once", n)
		}
		start := time.Now()
		c, _ := s.client("ours")
		if _, err := c.Status(t.Context(), "b:7175"); err != nil {
			t.Error(err)
		}
		if a, err := p.Message(t.Context(), "b:7175", "turns", []byte("x")); err != nil || string(a) != "turns x" {
			t.Errorf("%q, %v", a, err)
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("they waited for %v", took)
		}
		close(over)
		all.Wait()
	})
}

func TestAPollThatIsGivenUpEndsAtThePrimary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan time.Time, 1)
		g := &gateway{forward: func(_ http.ResponseWriter, r *http.Request, _ string) error {
			<-r.Context().Done()
			ended <- time.Now()
			return nil
		}}
		p, _ := passing(t, g)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		if _, err := p.Forward(ctx, "b:7175", request(t, http.MethodPost, target, ""), ""); !errors.Is(err, ErrMayBeSent) {
			t.Error(err)
		}
		if took := (<-ended).Sub(start); took != 2*time.Second {
			t.Errorf("it ends after %v", took)
		}
	})
}

func TestMessagesAreBoundedAndTheirFailuresSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{message: func(kind string, body []byte) ([]byte, error) {
			if kind == "fail" {
				return nil, errors.New("no")
			}
			return make([]byte, len(body)), nil
		}}
		p, s := passing(t, g)
		for _, test := range []struct {
			kind string
			size int
			ok   bool
		}{{"turns", 0, true}, {"turns", MaxMessage, true}, {"turns", MaxMessage + 1, false}, {"fail", 1, false}} {
			a, err := p.Message(t.Context(), "b:7175", test.kind, make([]byte, test.size))
			if (err == nil) != test.ok || test.ok && len(a) != test.size {
				t.Errorf("%s of %d bytes: %d bytes, %v", test.kind, test.size, len(a), err)
			}
		}
		s.refused(reasonRequest, 1)
	})
}

// A replica that stops in the middle of a message, or does not read the answer to one, keeps no connection.
func TestAMessageHasADeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, s := passing(t, &gateway{message: func(string, []byte) ([]byte, error) { return make([]byte, MaxMessage), nil }})
		for name, body := range map[string]string{"its body stops": "half", "its answer is not read": "as long as it says"} {
			conn, err := dialPassing(t.Context(), ClientConfig{Identity: identity(t, "ours"), Timeout: time.Second}, s.net.dial, make(chan struct{}, 1), "tcp", "b:7175")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(conn, "POST %sturns HTTP/1.1\r\nHost: b\r\n%s: %s\r\nContent-Length: 18\r\n\r\n%s", pathMessages, protocolHeader, passVersion, body); err != nil {
				t.Fatal(err)
			}
			time.Sleep(messageBound + time.Second)
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			got, err := io.Copy(io.Discard, conn)
			if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() || got >= MaxMessage {
				t.Errorf("%s: after %d bytes %v", name, got, err)
			}
			_ = conn.Close()
			time.Sleep(farewell)
		}
	})
}

// What is held when a replica stops, another one is asked for.
func TestAServerStopsThoughPollsAreHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{forward: func(_ http.ResponseWriter, r *http.Request, _ string) error { <-r.Context().Done(); return nil }}
		p, s := passing(t, g)
		held := make(chan error, 1)
		go func() {
			_, err := p.Forward(context.WithoutCancel(t.Context()), "b:7175", request(t, http.MethodPost, target, ""), "")
			held <- err
		}()
		synctest.Wait()
		start := time.Now()
		s.stop()
		err := <-s.ended
		s.ended <- err
		if took := time.Since(start); err != nil || took > 1500*time.Millisecond {
			t.Errorf("it stops after %v with %v", took, err)
		}
		if err := <-held; !errors.Is(err, ErrMayBeSent) {
			t.Errorf("the poll ends with %v", err)
		}
	})
}

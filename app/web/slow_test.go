package web

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener in memory: in a bubble, its connections' deadlines are virtual too.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes {
	return &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(t *testing.T) net.Conn {
	t.Helper()
	here, there := net.Pipe()
	t.Cleanup(func() { _ = here.Close() })
	p.accept <- there
	return here
}

// bubble runs a test with a server whose time is virtual. stop ends it and returns how long that took.
func bubble(t *testing.T, cfg Config, test func(t *testing.T, p *pipes, stop func() time.Duration)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, p := NewServer(cfg), newPipes()
		s.listener = p
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx) }()
		stop := sync.OnceValue(func() time.Duration {
			began := time.Now()
			cancel()
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
			return time.Since(began)
		})
		defer stop()
		test(t, p, stop)
	})
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, r *bufio.Reader) (int, string) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// until returns how long it takes until the server hangs up.
func until(r io.Reader) time.Duration {
	began := time.Now()
	_, _ = io.Copy(io.Discard, r)
	return time.Since(began)
}

func TestASlowHeaderIsCutOff(t *testing.T) {
	t.Parallel()
	bubble(t, configure(nil), func(t *testing.T, p *pipes, _ func() time.Duration) {
		c := p.dial(t)
		send(t, c, "GET /livez HTTP/1.1\r\nHost: x\r\n")
		if d := until(c); d != 2*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

func TestAHugeHeaderIsRefused(t *testing.T) {
	t.Parallel()
	bubble(t, configure(nil), func(t *testing.T, p *pipes, _ func() time.Duration) {
		c := p.dial(t)
		go func() { _, _ = io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 64<<10)) }()
		if code, _ := receive(t, bufio.NewReader(c)); code != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%d", code)
		}
	})
}

func TestASlowBodyIsCutOff(t *testing.T) {
	t.Parallel()
	moved := func(context.Context, string) error { t.Error("moved"); return nil }
	bubble(t, configure(func(cfg *Config) {
		cfg.AdminToken, cfg.Replica = adminToken, replica{move: moved}
	}), func(t *testing.T, p *pipes, _ func() time.Duration) {
		c := p.dial(t)
		began := time.Now()
		send(t, c, "POST /switchover HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+adminToken+"\r\nContent-Length: 50\r\n\r\n{")
		code, body := receive(t, bufio.NewReader(c))
		expect(t, "slow", code, body, 400, `{"error":"the body is too large or cannot be read"}`)
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

func TestASlowReaderIsCutOff(t *testing.T) {
	t.Parallel()
	bubble(t, configure(viewing(cluster())), func(t *testing.T, p *pipes, _ func() time.Duration) {
		c := p.dial(t)
		send(t, c, "GET /cluster HTTP/1.1\r\nHost: x\r\n\r\n")
		time.Sleep(15*time.Second + time.Millisecond) // reads nothing
		if n, err := c.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
			t.Errorf("read %d, %v", n, err)
		}
	})
}

// SECURITY.md: one that watches and does not read is let go after 5 s, not after the server's 15.
func TestAWatcherThatDoesNotReadIsLetGo(t *testing.T) {
	t.Parallel()
	bubble(t, configure(viewing(cluster())), func(t *testing.T, p *pipes, _ func() time.Duration) {
		c := p.dial(t)
		send(t, c, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
		time.Sleep(5*time.Second + time.Millisecond)
		if n, err := c.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
			t.Errorf("read %d, %v", n, err)
		}
	})
}

func TestAnIdleConnectionIsClosed(t *testing.T) {
	t.Parallel()
	bubble(t, configure(nil), func(t *testing.T, p *pipes, _ func() time.Duration) {
		c := p.dial(t)
		r := bufio.NewReader(c)
		for range 2 { // it is kept for the next request
			send(t, c, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
			code, body := receive(t, r)
			expect(t, "/livez", code, body, 200, "ok\n")
		}
		if d := until(r); d != 15*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

// hanging is a replica whose switchover takes as long as it may.
func hanging(cfg *Config) {
	cfg.AdminToken = adminToken
	cfg.Replica = replica{move: func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	}}
}

const switchoverRequest = "POST /switchover HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + adminToken + "\r\nContent-Length: 2\r\n\r\n{}"

func TestAHangingSwitchoverIsGivenUpWithAnAnswer(t *testing.T) {
	t.Parallel()
	bubble(t, configure(hanging), func(t *testing.T, p *pipes, _ func() time.Duration) {
		c := p.dial(t)
		began := time.Now()
		send(t, c, switchoverRequest)
		code, body := receive(t, bufio.NewReader(c))
		expect(t, "hanging", code, body, 503, `{"error":"the switchover could not be started; the log of this replica says why"}`)
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

func TestServeEndsWithinASecondWhateverHangs(t *testing.T) {
	t.Parallel()
	bubble(t, configure(hanging), func(t *testing.T, p *pipes, stop func() time.Duration) {
		c := p.dial(t)
		send(t, c, switchoverRequest)
		synctest.Wait() // until the replica has it
		if d := stop(); d != time.Second {
			t.Errorf("Serve ended after %v", d)
		}
		if d := until(c); d != 0 {
			t.Errorf("the connection was open for another %v", d)
		}
	})
}

func TestServeFinishesWhatItIsAnswering(t *testing.T) {
	t.Parallel()
	bubble(t, configure(func(cfg *Config) {
		cfg.AdminToken = adminToken
		cfg.Replica = replica{move: func(context.Context, string) error {
			time.Sleep(400 * time.Millisecond)
			return nil
		}}
	}), func(t *testing.T, p *pipes, stop func() time.Duration) {
		c := p.dial(t)
		send(t, c, switchoverRequest)
		synctest.Wait()
		stopped := make(chan time.Duration)
		go func() { stopped <- stop() }()
		code, body := receive(t, bufio.NewReader(c))
		expect(t, "while it stops", code, body, 202, `{"ok":true}`)
		if d := <-stopped; d < 400*time.Millisecond || d >= time.Second {
			t.Errorf("Serve ended after %v", d)
		}
	})
}

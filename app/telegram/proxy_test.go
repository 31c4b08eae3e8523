package telegram

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/simulator"
)

const (
	proxyUser     = "proxy-user"
	proxyPassword = "hunter2/ä:@"
)

// standIn is a proxy in this process: it takes every connection to one server, whatever host is asked for.
type standIn struct {
	t        *testing.T
	server   string // host:port behind it
	asked    func() // told when a way to the server is asked for, before it is there
	password string // that it wants; empty for none

	mu   sync.Mutex
	seen []string // hosts asked for
}

func (p *standIn) note(host string) {
	p.mu.Lock()
	p.seen = append(p.seen, host)
	p.mu.Unlock()
	if p.asked != nil {
		p.asked()
	}
}

func (p *standIn) hosts() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.seen...)
}

func (p *standIn) refuses(req *http.Request) bool {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(proxyUser+":"+p.password))
	return p.password != "" && req.Header.Get("Proxy-Authorization") != want
}

// ServeHTTP implements http.Handler: what is asked for with CONNECT is a tunnel, anything else a request to pass on.
func (p *standIn) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if p.refuses(req) {
		w.Header().Set("Proxy-Authenticate", "Basic")
		http.Error(w, "not with "+req.Header.Get("Proxy-Authorization")+" of "+proxyUser+":"+proxyPassword, http.StatusProxyAuthRequired)
		return
	}
	p.note(req.Host)
	if req.Method == http.MethodConnect {
		near, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			p.t.Error(err)
			return
		}
		_, _ = near.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n"))
		p.tunnel(near, buffered)
		return
	}
	if !req.URL.IsAbs() {
		p.t.Errorf("a proxy was asked for %q", req.URL)
	}
	out := req.Clone(req.Context())
	out.RequestURI, out.URL.Host = "", p.server
	out.Header.Del("Proxy-Authorization")
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

func (p *standIn) tunnel(near net.Conn, from io.Reader) {
	defer func() { _ = near.Close() }()
	far, err := net.Dial("tcp", p.server)
	if err != nil {
		p.t.Error(err)
		return
	}
	defer func() { _ = far.Close() }()
	go func() {
		_, _ = io.Copy(far, from)
		_ = far.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(near, far)
}

// serveSOCKS is RFC 1928 with the user and password of RFC 1929, as far as a client of ours goes.
func (p *standIn) serveSOCKS(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	read := func(n int) []byte {
		b := make([]byte, n)
		_, _ = io.ReadFull(r, b)
		return b
	}
	if read(1)[0] != 5 {
		p.t.Error("a SOCKS proxy was asked for something else")
		return
	}
	methods := read(int(read(1)[0]))
	if p.password == "" {
		_, _ = conn.Write([]byte{5, 0})
	} else {
		if !bytes.Contains(methods, []byte{2}) {
			_, _ = conn.Write([]byte{5, 0xff})
			return
		}
		_, _ = conn.Write([]byte{5, 2})
		read(1)
		user, password := read(int(read(1)[0])), read(int(read(1)[0]))
		if string(user) != proxyUser || string(password) != p.password {
			_, _ = conn.Write([]byte{1, 1})
			return
		}
		_, _ = conn.Write([]byte{1, 0})
	}
	if request := read(4); request[1] != 1 || request[3] != 3 {
		p.t.Errorf("a SOCKS proxy was asked %v, want a connection to a name", request)
		return
	}
	host := string(read(int(read(1)[0])))
	p.note(fmt.Sprintf("%s:%d", host, binary.BigEndian.Uint16(read(2))))
	_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	p.tunnel(conn, r)
}

// listen has a stand-in of a kind listen, and returns its URL with user and password.
func (p *standIn) listen(kind string) *url.URL {
	p.t.Helper()
	u := &url.URL{Scheme: kind, User: url.UserPassword(proxyUser, proxyPassword)}
	switch kind {
	case "http", "https":
		s := httptest.NewUnstartedServer(p)
		s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
		if kind == "https" {
			s.StartTLS()
		} else {
			s.Start()
		}
		p.t.Cleanup(s.Close)
		u.Host = s.Listener.Addr().String()
	default:
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			p.t.Fatal(err)
		}
		var all sync.WaitGroup
		all.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				all.Go(func() { p.serveSOCKS(conn) })
			}
		})
		p.t.Cleanup(func() {
			_ = l.Close()
			all.Wait()
		})
		u.Host = l.Addr().String()
	}
	return u
}

// proxied is a client behind a proxy: a way made by newBase, with the certificates of the test's servers.
type proxied struct {
	client *Client
	proxy  *standIn
	sim    *simulator.Simulator
	conns  chan *net.TCPConn // made by the way to Telegram
}

// proxiedClient makes one for a Bot API server of a scheme behind a proxy of a kind.
func proxiedClient(t *testing.T, kind, scheme, password string) *proxied {
	t.Helper()
	sim := simulator.New(simulator.Config{Token: testToken, Chats: 1, Logger: slog.New(slog.DiscardHandler)})
	server := httptest.NewUnstartedServer(sim.Handler())
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	if scheme == "https" {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	x := &proxied{
		sim: sim, conns: make(chan *net.TCPConn, 100),
		proxy: &standIn{t: t, server: server.Listener.Addr().String(), password: password},
	}
	way := x.proxy.listen(kind)
	rt := newBase(way)
	t.Cleanup(rt.CloseIdleConnections)
	// The test's servers share one certificate, which is also good for example.com.
	trusting := httptest.NewTLSServer(nil) // no request asks it
	rt.TLSClientConfig = &tls.Config{RootCAs: trusting.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	trusting.Close()
	dial := rt.DialContext
	rt.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != way.Host {
			t.Errorf("a connection is made to %s, past the proxy", addr)
		}
		conn, err := dial(ctx, network, addr)
		if tcp, ok := conn.(*net.TCPConn); ok {
			x.conns <- tcp
		}
		return conn, err
	}
	x.client = New(Config{
		Token: testToken, APIURL: scheme + "://example.com", Proxy: way, Name: "habot-bot-1", Version: "1.2.3", Registerer: prometheus.NewRegistry(), Transport: rt,
	})
	return x
}

// eachProxy runs a test with every kind of proxy before every kind of server.
func eachProxy(t *testing.T, test func(t *testing.T, kind, scheme string)) {
	t.Helper()
	for _, kind := range []string{"http", "https", "socks5", "socks5h"} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(kind+" before "+scheme, func(t *testing.T) {
				t.Parallel()
				test(t, kind, scheme)
			})
		}
	}
}

func TestTelegramIsReachedThroughEveryKindOfProxy(t *testing.T) {
	t.Parallel()
	eachProxy(t, func(t *testing.T, kind, scheme string) {
		x := proxiedClient(t, kind, scheme, proxyPassword)
		x.sim.Write(simulator.FirstChat, "hello")
		ctx := WithLease(t.Context(), func() bool { return true })
		var updates []json.RawMessage
		err := x.client.Call(ctx, "getUpdates", nil, &updates)
		if err != nil || len(updates) != 1 {
			t.Fatalf("updates %v: %v", updates, err)
		}
		if err := x.client.Call(ctx, "sendMessage", map[string]any{"chat_id": simulator.FirstChat, "text": "x"}, nil); err != nil {
			t.Fatal(err)
		}
		hosts := x.proxy.hosts()
		if len(hosts) == 0 || !strings.HasPrefix(hosts[0], "example.com") {
			t.Errorf("the proxy was asked for %q", hosts)
		}
	})
}

// The way through a proxy takes several round trips: the lease may end meanwhile.
func TestLeaseThatEndsWhileAProxyMakesTheWaySendsNothing(t *testing.T) {
	t.Parallel()
	eachProxy(t, func(t *testing.T, kind, scheme string) {
		if scheme == "http" && (kind == "http" || kind == "https") {
			t.Skip("such a proxy is asked with the request itself: there is nothing in between")
		}
		x := proxiedClient(t, kind, scheme, proxyPassword)
		x.sim.Write(simulator.FirstChat, "hello")
		var held atomic.Bool
		held.Store(true)
		x.proxy.asked = func() { held.Store(false) }
		err := getUpdates(WithLease(t.Context(), held.Load), x.client)
		if !errors.Is(err, ErrLeaseLost) || len(x.proxy.hosts()) == 0 {
			t.Errorf("error: %v, after the proxy was asked for %q", err, x.proxy.hosts())
		}
		if polls := x.sim.Report().Polls; polls != 0 {
			t.Errorf("%d polls arrived without the lease", polls)
		}
	})
}

func TestAProxyThatRefusesIsNamedAndItsPasswordIsNot(t *testing.T) {
	t.Parallel()
	eachProxy(t, func(t *testing.T, kind, scheme string) {
		x := proxiedClient(t, kind, scheme, "another")
		err := getMe(t.Context(), x.client)
		if err == nil || Judge(t.Context(), err) != Transient {
			t.Fatalf("a proxy that refuses: %v", err)
		}
		want := map[string]string{"http": "407", "https": "407", "socks5": "authentication failed", "socks5h": "authentication failed"}[kind]
		if scheme == "https" && want == "407" {
			want = "Proxy Authentication Required"
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
		secrets := []string{proxyPassword, url.QueryEscape(proxyPassword), base64.StdEncoding.EncodeToString([]byte(proxyUser + ":" + proxyPassword))}
		said := err.Error()
		for _, secret := range secrets {
			if strings.Contains(said, secret) {
				t.Errorf("the proxy's password is in %q", said)
			}
		}
	})
}

// A proxy may repeat in a page what it was given, and that page's text may end up in an error.
func TestProxyPasswordIsRedacted(t *testing.T) {
	t.Parallel()
	proxy := &url.URL{Scheme: "http", Host: "proxy:1", User: url.UserPassword(proxyUser, proxyPassword)}
	both := proxyUser + ":" + proxyPassword
	for _, text := range []string{proxy.String(), "Basic " + base64.StdEncoding.EncodeToString([]byte(both)), both, proxyPassword, url.QueryEscape(proxyPassword)} {
		if got := redaction(testToken, proxy)("x " + text + " y"); strings.Contains(got, "hunter2") || strings.Contains(got, "aHVudGVyM") || got == text {
			t.Errorf("%q is %q", text, got)
		}
	}
	if got := redaction("", &url.URL{Host: "proxy:1", User: url.UserPassword("a", "b")})("a bare text"); got != "a bare text" {
		t.Errorf("a short password garbles %q", got)
	}
}

package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"habot/app/election"
)

// Gateway is what the server asks of this replica's gateway. Its methods are called concurrently.
type Gateway interface {
	// Forwarded answers a request that another replica passes on, as it came in there; origin is what that replica has to
	// say of it. An error says that nothing was done and nothing written: the request may be passed on elsewhere.
	Forwarded(w http.ResponseWriter, r *http.Request, origin string) error
	// Message takes a message of another replica and returns the answer. An error goes no further than its own log.
	Message(ctx context.Context, kind string, body []byte) ([]byte, error)
}

// What became of a request that was to be passed on.
var (
	// ErrNotSent says that nothing of a request has left.
	ErrNotSent = errors.New("the request was not sent")
	// ErrNotTaken says that the other replica did nothing with a request, as it is not primary.
	ErrNotTaken = errors.New("the other replica is not primary")
	// ErrMayBeSent says that a request may have arrived, and may be carried out.
	ErrMayBeSent = errors.New("the request may have arrived")
)

// Passing has connections of its own, so that neither waits nor large bodies delay the election. The protocol that TLS agrees
// on (ALPN, RFC 7301) shows which ones are for it: a replica of a version that has no gateway refuses them.
const (
	passProtocol = "habot-gateway/1"
	passVersion  = "1" // in the header of each message
	pathPass     = "/v1/gateway/pass"
	pathMessages = "/v1/gateway/messages/"

	methodHeader = "Habot-Method"
	targetHeader = "Habot-Target"
	originHeader = "Habot-Origin"
	headerPrefix = "Habot-"
)

// Bounds of passing.
const (
	// MaxPassing connections are open to another replica at once. A poll that is held has one for up to 50 s, and an upload for as
	// long as it waits for its turn there, so that callers MUST bound both: with MaxPolls, MaxActivePolls and MaxUploads other
	// requests have 28 connections left.
	MaxPassing = 144
	// MaxPolls is how many polls at once are to be passed on to a replica at most, beside MaxActivePolls of the copy that is given
	// updates.
	MaxPolls       = 96
	MaxActivePolls = 4
	// MaxUploads is how many requests at once whose body is not in memory are to be passed on to a replica at most.
	MaxUploads = 16
	// maxMessaging connections are open for messages to another replica.
	maxMessaging = 2
	// maxPassHeader bounds headers, of which one is the target with all parameters of a GET; it is above the gateway's bound.
	maxPassHeader = 320 << 10
	// MaxMessage bounds a message, and the answer to one.
	MaxMessage = 4 << 20
	// messageBound is how long a message, and the answer to one, may take to arrive. Those who send them wait for less.
	messageBound = 10 * time.Second
	// maxHandshakes are under way at once: after a change of primary all polls need connections.
	maxHandshakes = 4
	// silence is how long a connection may have something unacknowledged, or a closed window: an upload waits as long as
	// Telegram does. A primary that is gone is noticed by the election.
	silence = 30 * time.Second
	// goAhead is how long a body waits for the primary to read it. It is longer than a request waits for a primary.
	goAhead = 15 * time.Second
	// passIdle is how long a connection that is not used is kept; the other end keeps it longer, so that it does not close
	// one that is just being used.
	passIdle = 45 * time.Second
)

// Passer passes requests and messages on to other replicas. It is safe for concurrent use.
type Passer struct {
	passing, messages *http.Transport
}

// NewPasser returns a Passer. Of the configuration Identity and Timeout count.
func NewPasser(cfg ClientConfig) *Passer {
	dialer := &net.Dialer{
		Timeout: cfg.Timeout, Control: acknowledged(silence),
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 3},
	}
	return newPasser(cfg, dialer.DialContext)
}

// dial makes a connection, as net.Dialer does.
type dial func(ctx context.Context, network, addr string) (net.Conn, error)

func newPasser(cfg ClientConfig, dial dial) *Passer {
	handshakes := make(chan struct{}, maxHandshakes)
	transport := func(conns int) *http.Transport {
		return &http.Transport{
			DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return dialPassing(ctx, cfg, dial, handshakes, network, addr)
			},
			MaxIdleConns:           maxAddresses * maxIdle,
			MaxIdleConnsPerHost:    conns, // a bot that answers a hundred updates side by side would have most of its calls shake hands
			MaxConnsPerHost:        conns,
			IdleConnTimeout:        passIdle,
			ExpectContinueTimeout:  goAhead,
			MaxResponseHeaderBytes: maxPassHeader,
			DisableCompression:     true,
		}
	}
	return &Passer{passing: transport(MaxPassing), messages: transport(maxMessaging)}
}

// Close drops idle connections.
func (p *Passer) Close() {
	p.passing.CloseIdleConnections()
	p.messages.CloseIdleConnections()
}

// dialPassing makes a connection for passing.
func dialPassing(ctx context.Context, cfg ClientConfig, dial dial, handshakes chan struct{}, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout+handshakeBound)
	defer cancel()
	select {
	case handshakes <- struct{}{}:
		defer func() { <-handshakes }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for other handshakes: %w", ctx.Err())
	}
	raw, err := dial(ctx, network, addr)
	if err != nil {
		return nil, err // it names the act
	}
	config := cfg.Identity.config()
	config.NextProtos = []string{passProtocol}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // it was never used
		return nil, fmt.Errorf("shake hands: %w", err)
	}
	return &counted{Conn: conn}, nil
}

// counted knows whether anything was written.
type counted struct {
	net.Conn
	written atomic.Int64
}

// Write implements net.Conn.
func (c *counted) Write(b []byte) (int, error) {
	c.written.Add(int64(len(b))) // before: what fails may have left all the same
	return c.Conn.Write(b)       //nolint:wrapcheck // net/http looks at it
}

// sent tells whether anything of one request has left.
type sent struct {
	mu   sync.Mutex
	conn *counted
	from int64
}

func (s *sent) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if c, ok := info.Conn.(*counted); ok {
			s.conn, s.from = c, c.written.Load()
		}
	}}
}

func (s *sent) anything() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn != nil && s.conn.written.Load() > s.from
}

// Forward passes a request on to the replica at addr, streaming, and returns its answer, whose body MUST be closed. The
// error is ErrNotSent, ErrNotTaken or ErrMayBeSent; it does not name the request. A body of unknown
// or large size leaves only once the other side reads it. It takes as long as ctx lasts.
func (p *Passer) Forward(ctx context.Context, addr string, r *http.Request, origin string) (*http.Response, error) {
	var s sent
	ctx = httptrace.WithClientTrace(ctx, s.trace())
	at := url.URL{Scheme: "https", Host: addr, Path: pathPass}
	// It is a POST whatever it was: net/http sends a GET again whose connection breaks, and a GET may send a message.
	out, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", errors.Join(ErrNotSent, err))
	}
	out.Header = passed(r.Header)
	out.Header.Set(protocolHeader, passVersion)
	out.Header.Set(methodHeader, r.Method)
	out.Header.Set(targetHeader, r.URL.RequestURI())
	out.Header.Set(originHeader, origin)
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		out.Body, out.ContentLength = io.NopCloser(r.Body), r.ContentLength // closed by the server that it came to
		if r.ContentLength < 0 || r.ContentLength > maxBody {
			out.Header.Set("Expect", "100-continue")
		}
	}
	resp, err := p.passing.RoundTrip(out)
	if err != nil {
		if s.anything() {
			return nil, fmt.Errorf("pass a request on to %s: %w", addr, errors.Join(ErrMayBeSent, err))
		}
		return nil, fmt.Errorf("pass a request on to %s: %w", addr, errors.Join(ErrNotSent, err))
	}
	if resp.Header.Get(refusalHeader) != "" || resp.Header.Get(protocolHeader) != passVersion {
		drain(resp.Body)
		return nil, fmt.Errorf("pass a request on to %s: %w", addr, ErrNotTaken)
	}
	dropOwn(resp.Header)
	return resp, nil
}

// passed are the headers that are passed on. Those with which a client could have a request sent twice are not, nor is what
// only a replica sets.
func passed(h http.Header) http.Header {
	out := h.Clone()
	if out == nil {
		out = http.Header{}
	}
	for name := range strings.SplitSeq(strings.Join(h.Values("Connection"), ","), ",") {
		out.Del(strings.TrimSpace(name))
	}
	for _, name := range []string{
		"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade", "Expect", "Http2-Settings", "Idempotency-Key", "X-Idempotency-Key",
	} {
		out.Del(name)
	}
	dropOwn(out)
	if out.Get("User-Agent") == "" {
		out.Set("User-Agent", "") // so that none is added
	}
	return out
}

// dropOwn removes the headers that are the replicas' own.
func dropOwn(h http.Header) {
	for name := range h {
		if strings.HasPrefix(name, headerPrefix) {
			delete(h, name)
		}
	}
}

// Message takes a message to the replica at addr and returns its answer.
func (p *Passer) Message(ctx context.Context, addr, kind string, body []byte) ([]byte, error) {
	at := url.URL{Scheme: "https", Host: addr, Path: pathMessages + kind}
	out, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make a message: %w", err)
	}
	out.Header.Set(protocolHeader, passVersion)
	resp, err := p.messages.RoundTrip(out) //nolint:bodyclose // drain closes it
	if err != nil {
		return nil, fmt.Errorf("take a message to %s: %w", addr, err)
	}
	defer drain(resp.Body)
	if resp.StatusCode != http.StatusOK || resp.Header.Get(protocolHeader) != passVersion {
		return nil, fmt.Errorf("take a message to %s: refused with %d", addr, resp.StatusCode)
	}
	answer, err := readMessage(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", addr, err)
	}
	return answer, nil
}

func readMessage(body io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(body, MaxMessage+1))
	if err != nil {
		return nil, fmt.Errorf("read a message: %w", err)
	}
	if len(raw) > MaxMessage {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrMessage, MaxMessage)
	}
	return raw, nil
}

// passServer serves the connections for passing, which the server of the port hands to it.
type passServer struct {
	s     *Server
	http  *http.Server
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPassServer(s *Server) *passServer {
	ps := &passServer{s: s, conns: make(chan net.Conn), done: make(chan struct{})}
	ps.http = &http.Server{
		Handler:           http.HandlerFunc(ps.serve),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * passIdle,
		MaxHeaderBytes:    maxPassHeader,
		ErrorLog:          s.http.ErrorLog,
	}
	return ps
}

// take serves a connection until it is closed.
func (ps *passServer) take(_ *http.Server, conn *tls.Conn, _ http.Handler) {
	closed := make(chan struct{})
	c := &handed{Conn: conn, closed: sync.OnceFunc(func() { close(closed) })}
	select {
	case ps.conns <- c:
		<-closed
	case <-ps.done:
	}
}

// run serves until ctx ends.
func (ps *passServer) run(ctx context.Context) {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if err := ps.http.Shutdown(stopping); err != nil {
			err = ps.http.Close()
			_ = err // what is still open is cut off; nothing is left to do about it
		}
	}()
	_ = ps.http.Serve(ps) // it ends with Shutdown
	<-stopped
}

// Accept implements net.Listener.
func (ps *passServer) Accept() (net.Conn, error) {
	select {
	case c := <-ps.conns:
		return c, nil
	case <-ps.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (ps *passServer) Close() error {
	ps.once.Do(func() { close(ps.done) })
	return nil
}

// Addr implements net.Listener.
func (ps *passServer) Addr() net.Addr { return ps.s.Addr() }

// handed is a connection whose end is noticed.
type handed struct {
	net.Conn
	closed func()
}

// Close implements net.Conn.
func (c *handed) Close() error {
	defer c.closed()
	return c.Conn.Close() //nolint:wrapcheck // net/http looks at it
}

func (ps *passServer) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(protocolHeader, passVersion)
	kind, isMessage := strings.CutPrefix(r.URL.Path, pathMessages)
	switch {
	case r.Header.Get(protocolHeader) != passVersion:
		ps.refuse(w, http.StatusConflict, reasonProtocol)
	case r.Method != http.MethodPost:
		ps.refuse(w, http.StatusMethodNotAllowed, reasonRequest)
	case isMessage:
		ps.message(w, r, kind)
	case r.URL.Path == pathPass:
		ps.forwarded(w, r)
	default:
		ps.refuse(w, http.StatusNotFound, reasonRequest)
	}
	if ps.s.cfg.Served != nil {
		ps.s.cfg.Served()
	}
}

func (ps *passServer) refuse(w http.ResponseWriter, code int, reason string) {
	ps.s.refusals.WithLabelValues(reason).Inc()
	w.Header().Set("Connection", "close")
	w.WriteHeader(code)
}

func (ps *passServer) message(w http.ResponseWriter, r *http.Request, kind string) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(messageBound)) // net/http ends it with the request
	body, err := readMessage(r.Body)
	if err != nil {
		ps.refuse(w, http.StatusBadRequest, reasonRequest)
		return
	}
	answer, err := ps.s.cfg.Gateway.Message(r.Context(), kind, body)
	if err != nil {
		ps.s.cfg.Logger.Debug("a message of a replica was not taken", "kind", kind, "error", err)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	_ = control.SetWriteDeadline(time.Now().Add(messageBound))
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(answer) //nolint:gosec // no browser reads it; a connection that is lost is the other side's to notice
}

// forwarded makes of a request what it was where it came in.
func (ps *passServer) forwarded(w http.ResponseWriter, r *http.Request) {
	at, err := url.ParseRequestURI(r.Header.Get(targetHeader))
	origin, method := r.Header.Get(originHeader), r.Header.Get(methodHeader)
	if err != nil || method == "" {
		ps.refuse(w, http.StatusBadRequest, reasonRequest)
		return
	}
	in := r.Clone(r.Context())
	in.Method, in.URL, in.RequestURI = method, at, r.Header.Get(targetHeader)
	dropOwn(in.Header)
	if err := ps.s.cfg.Gateway.Forwarded(w, in, origin); err != nil {
		w.Header().Set(refusalHeader, refusalCode(election.ErrNotPrimary))
		w.WriteHeader(http.StatusMisdirectedRequest)
	}
}

func refusalCode(err error) string {
	for _, r := range refusals() {
		if errors.Is(err, r.err) {
			return r.code
		}
	}
	return ""
}

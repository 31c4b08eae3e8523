package relay

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
	"strconv"
	"strings"
	"sync"
	"time"
)

// TermHeader carries the timestamp of the term, in nanoseconds, in which an update is sent: a fencing token. Those of
// successive primaries rise, so that a backend can refuse what a former primary sends late.
const TermHeader = "X-Habot-Term"

const secretHeader = "X-Telegram-Bot-Api-Secret-Token"

const (
	dialBound      = 2 * time.Second
	handshakeBound = 5 * time.Second
	// idleBound is how long a connection is kept that is not used: frameworks close theirs after five seconds or more,
	// and an update that is just being written then is lost with it.
	idleBound = 4 * time.Second
	// maxAnswerHeader bounds an answer's headers, in bytes.
	maxAnswerHeader = 64 << 10
	// drainBytes and drainFor bound what is read of an answer that does not matter, so that its connection can be used
	// again.
	drainBytes = 64 << 10
	drainFor   = 250 * time.Millisecond
	// replyFor is how long the answer may take that brings files to send on.
	replyFor = 5 * time.Minute
	// maxDetail bounds what is quoted of an error, in bytes: a malformed answer is part of it.
	maxDetail = 200
)

// Causes of an attempt's end by ourselves.
var (
	errTimeout   = errors.New("no whole answer in time")
	errTooSlow   = errors.New("no connection soon enough")
	errLeaseLost = errors.New("the lease has ended")
)

// Dial makes a connection, as net.Dialer.DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// systemDial is the real one.
func systemDial() Dial {
	return (&net.Dialer{
		Timeout:         dialBound,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
	}).DialContext
}

// newTransport is the way to one backend. It has no proxy: a backend is reached as its address says. It speaks no
// HTTP/2: updates are not to share a connection.
func newTransport(b Backend, cfg Config) *http.Transport {
	secured := cfg.TLS.Clone()
	if secured == nil {
		secured = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	secured.ServerName = b.TLSName()
	return &http.Transport{
		DialContext:            cfg.Dial,
		TLSClientConfig:        secured,
		TLSHandshakeTimeout:    handshakeBound,
		MaxIdleConnsPerHost:    max(cfg.Parallel, 1),
		IdleConnTimeout:        idleBound,
		MaxResponseHeaderBytes: maxAnswerHeader,
		DisableCompression:     true,
	}
}

// attempt is one POST of an update to a member.
type attempt struct {
	backend   Backend
	addr      string
	transport http.RoundTripper
	raw       []byte
	secret    string
	userAgent string
	term      int64
	timeout   time.Duration
	// connectBound is how long the connection may take; 0 for as long as there is.
	connectBound time.Duration
	held         func() bool
}

// outcome is what became of an attempt.
type outcome struct {
	result     result
	status     int
	detail     string // for people; no URL, no body
	retryAfter time.Duration
	reply      reply
	size       int64 // of the answer's body, in bytes; -1 if it is not known
	// replyErr says why an answer was not read as a call although it was taken: errTooLarge or errMalformed.
	replyErr error
	// connect is how long the connection took; 0 if one was used again, or there was none.
	connect time.Duration
	// extend gives the rest of reply more time; close MUST be called when it is read, or not wanted.
	extend, close func()
}

// gate lets an update leave over a connection that came in time, while the lease lasts.
type gate struct {
	held func() bool

	mu        sync.Mutex
	connected bool
	reused    bool
	abandoned bool
	leaseLost bool
}

// abandon gives up waiting for a connection; false if there is one.
func (g *gate) abandon() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.connected {
		g.abandoned = true
	}
	return g.abandoned
}

func (g *gate) connect(reused bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.connected, g.reused = true, reused
}

// open returns nil if the update may leave now.
func (g *gate) open() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.abandoned {
		return errTooSlow
	}
	if g.leaseLost = g.leaseLost || !g.held(); g.leaseLost {
		return errLeaseLost
	}
	return nil
}

// stopped tells why an update did not leave: what closed the gate.
func (g *gate) stopped() (abandoned, leaseLost bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.abandoned, g.leaseLost
}

func (g *gate) connection() (connected, reused bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.connected, g.reused
}

// oneWrite is up to how many bytes an update leaves in one write with the headers: net/http's buffer holds both.
const oneWrite = 3 << 10

// body is what is written of an update, and what has to be called right before, when the headers are about to be. Without the
// gate's leave a short update's bytes are taken away then: net/http finds less than it announced, and writes nothing. A longer
// one takes more than one write, and the gate is asked before each.
func (g *gate) body(raw []byte) (body io.ReadCloser, before func()) {
	r := bytes.NewReader(raw)
	if len(raw) > oneWrite {
		return gatedBody{r, g}, nil
	}
	return io.NopCloser(r), func() {
		if g.open() != nil {
			r.Reset(nil)
		}
	}
}

// gatedBody is an update's bytes. Without the gate's leave they cannot be read to be written: headers may leave then,
// but without its body a request is none.
type gatedBody struct {
	raw  *bytes.Reader
	gate *gate
}

// Read implements io.Reader.
func (b gatedBody) Read(p []byte) (int, error) {
	if err := b.gate.open(); err != nil {
		return 0, err
	}
	return b.raw.Read(p) //nolint:wrapcheck // io.EOF must stay what it is
}

// Close implements io.Closer.
func (gatedBody) Close() error { return nil }

// request makes the POST of a body.
func (a attempt) request(ctx context.Context, body io.ReadCloser) *http.Request {
	target := a.backend.url
	target.Host = a.addr
	req := &http.Request{
		Method: http.MethodPost, URL: &target, Host: a.backend.url.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: body, ContentLength: int64(len(a.raw)), // without GetBody: net/http is to try nothing again by itself
		Header: http.Header{
			"Content-Type": {"application/json"}, // exactly: some frameworks refuse anything else
			"User-Agent":   {a.userAgent},
			TermHeader:     {strconv.FormatInt(a.term, 10)},
		},
	}
	if a.secret != "" {
		req.Header.Set(secretHeader, a.secret)
	}
	return req.WithContext(ctx)
}

// run makes the attempt. The outcome's close MUST be called.
func (a attempt) run(parent context.Context) outcome {
	ctx, cancel := context.WithCancelCause(parent)
	late := time.AfterFunc(a.timeout, func() { cancel(errTimeout) })
	end := func() {
		late.Stop()
		cancel(nil)
	}
	o := a.send(ctx, cancel)
	if o.result == answeredWell && o.reply.rest != nil {
		o.extend = func() { late.Reset(replyFor) }
		closeBody := o.close
		o.close = func() {
			closeBody()
			end()
		}
		return o
	}
	end()
	o.extend, o.close = func() {}, func() {}
	return o
}

// send sends the update and reads the answer. If the outcome is a reply with a rest, close ends it.
func (a attempt) send(ctx context.Context, cancel context.CancelCauseFunc) outcome {
	g := &gate{held: a.held}
	var asked time.Time
	var connect time.Duration
	body, before := g.body(a.raw)
	req := a.request(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { asked = time.Now() },
		GotConn: func(info httptrace.GotConnInfo) {
			if g.connect(info.Reused); !info.Reused {
				connect = time.Since(asked)
			}
		},
		WroteHeaders: before,
	}), body)
	if a.connectBound > 0 {
		slow := time.AfterFunc(a.connectBound, func() {
			if g.abandon() {
				cancel(errTooSlow)
			}
		})
		defer slow.Stop()
	}
	resp, err := a.transport.RoundTrip(req) //nolint:bodyclose // read closes it, or the outcome's close
	if err != nil {
		return a.failure(ctx, g, err)
	}
	o := a.read(ctx, cancel, g, resp)
	o.connect = connect
	return o
}

// failure tells what an attempt without a whole answer means.
func (a attempt) failure(ctx context.Context, g *gate, err error) outcome {
	connected, reused := g.connection()
	abandoned, leaseLost := g.stopped()
	cause := context.Cause(ctx)
	switch {
	case leaseLost, cause != nil && !errors.Is(cause, errTimeout) && !errors.Is(cause, errTooSlow):
		return outcome{result: aborted}
	case abandoned:
		return outcome{result: tooSlow, detail: errTooSlow.Error()}
	case errors.Is(cause, errTimeout) && connected:
		return outcome{result: timedOut, detail: fmt.Sprintf("no whole answer within %v", a.timeout)}
	case reused:
		return outcome{result: stale, detail: textOf(err)}
	case connected:
		return outcome{result: brokenOff, detail: textOf(err)}
	default:
		return outcome{result: unreachable, detail: textOf(err)}
	}
}

// read reads an answer.
func (a attempt) read(ctx context.Context, cancel context.CancelCauseFunc, g *gate, resp *http.Response) outcome {
	closeBody := func() { _ = resp.Body.Close() }
	o := outcome{result: answeredWell, status: resp.StatusCode, size: resp.ContentLength, close: closeBody}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		o.result = answeredError
		o.detail = fmt.Sprintf("answers %d", resp.StatusCode)
		o.retryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
		if resp.StatusCode == http.StatusSwitchingProtocols {
			closeBody() // it has no end
			return o
		}
		drain(resp.Body, cancel)
		return o
	}
	contentType := resp.Header.Get("Content-Type")
	if !mayBeReply(contentType) {
		drain(resp.Body, cancel)
		return o
	}
	if resp.ContentLength > maxReply {
		closeBody()
		o.replyErr = errTooLarge
		return o
	}
	o.reply, o.replyErr = readReply(contentType, resp.Body)
	if errors.Is(o.replyErr, errIncomplete) {
		closeBody()
		return a.failure(ctx, g, o.replyErr)
	}
	if o.reply.rest == nil {
		closeBody()
	}
	return o
}

// drain reads what does not matter of an answer, within bounds, and closes it.
func drain(body io.ReadCloser, cancel context.CancelCauseFunc) {
	t := time.AfterFunc(drainFor, func() { cancel(errTimeout) })
	_, _ = io.CopyN(io.Discard, body, drainBytes)
	t.Stop()
	_ = body.Close()
}

// textOf is an error's text without the URL, which may hold a secret.
func textOf(err error) string {
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err
	}
	text := err.Error()
	return strings.ToValidUTF8(text[:min(len(text), maxDetail)], "")
}

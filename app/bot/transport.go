package bot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ErrLeaseLost says that the lease ended before the request could leave. Nothing was sent.
var ErrLeaseLost = errors.New("the lease has ended")

// maxResponse bounds an answer of Telegram: a hundred updates of the largest kind stay far below.
const maxResponse = 16 << 20

// placeholder stands for the token everywhere but on the wire: whatever telego or net/http put into
// an error or a log line, the token is not in it.
const placeholder = "0:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

type heldKey struct{}

// withHeld marks every request under ctx as one of a term: it leaves only while held says so.
func withHeld(ctx context.Context, held func() bool) context.Context {
	return context.WithValue(ctx, heldKey{}, held)
}

// transport is the one way to Telegram. It puts the token in, checks the lease right before a
// request leaves, bounds the answer, and measures.
type transport struct {
	base      http.RoundTripper
	token     string
	userAgent string
	metrics   *metrics
}

// newBase is a transport that keeps a connection warm, so that a takeover needs no handshake.
func newBase() http.RoundTripper {
	dialer := &net.Dialer{
		Timeout:         2 * time.Second,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3},
	}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSHandshakeTimeout:   3 * time.Second,
		MaxIdleConns:          64,
		MaxIdleConnsPerHost:   32,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	method := path.Base(req.URL.Path)
	out := req.Clone(req.Context())
	out.URL.Path = strings.Replace(req.URL.Path, placeholder, t.token, 1)
	out.Header.Set("User-Agent", t.userAgent)
	if held, ok := req.Context().Value(heldKey{}).(func() bool); ok && !held() {
		if req.Body != nil {
			_ = req.Body.Close() // a request that does not leave; there is nothing to lose
		}
		return nil, ErrLeaseLost
	}
	start := time.Now()
	resp, err := t.base.RoundTrip(out)
	t.metrics.requestSeconds.With(prometheus.Labels{"method": method}).Observe(time.Since(start).Seconds())
	if err != nil {
		t.metrics.requests.WithLabelValues(method, "error").Inc()
		return nil, errors.New(strings.ReplaceAll(err.Error(), t.token, "<token>"))
	}
	t.metrics.requests.WithLabelValues(method, strconv.Itoa(resp.StatusCode)).Inc()
	resp.Body = &bounded{ReadCloser: resp.Body, left: maxResponse}
	return resp, nil
}

// bounded fails, rather than cuts short, what is too long.
type bounded struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("an answer of more than %d bytes", maxResponse)
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err //nolint:wrapcheck // io.EOF must stay what it is
}

// userAgent names the replica to whoever keeps account on the other side.
func userAgent(version, name string) string {
	ascii := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '(' || r == ')' {
			return -1
		}
		return r
	}, name)
	return fmt.Sprintf("habot/%s (%s)", version, ascii)
}

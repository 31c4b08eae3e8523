package telegram

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrLeaseLost says that the lease ended before the request could leave. Nothing was sent.
var ErrLeaseLost = errors.New("the lease has ended")

// ErrNotSent says that a request surely did not leave: no connection was made, or it broke before the body was written.
var ErrNotSent = errors.New("the request did not leave")

// maxResponse bounds an answer of Telegram: a hundred updates of the largest kind stay far below.
const maxResponse = 16 << 20

// errNeedsLease says that a request may leave only in a term. It is an ErrLeaseLost.
var errNeedsLease = fmt.Errorf("%w: this request needs one", ErrLeaseLost)

// errProxyAuth is what a proxy in front of an http:// server answers; that of an https:// one is net/http's to report.
var errProxyAuth = errors.New("the proxy asks for a user and a password (407): those in the proxy's URL are missing or wrong")

// placeholder stands for the token everywhere but on the wire: whatever telego or net/http put into
// an error or a log line, the token is not in it.
const placeholder = "0:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

type heldKey struct{}

// WithLease marks every request under ctx as one of a term: it leaves only while held says so. held MUST be cheap and safe
// for concurrent use.
func WithLease(ctx context.Context, held func() bool) context.Context {
	return context.WithValue(ctx, heldKey{}, held)
}

// Headers that the simulator and its clients have in common: its answers have the one, and then requests may have the other.
const (
	headerSimulator = "Habot-Simulator"
	headerCopy      = "Habot-Copy"
)

type copyKey struct{}

// WithCopy names the copy of a bot that requests under ctx are made for. Only a server whose last answer said that it is the
// simulator is given the name: its page shows which copy answered. Telegram is not.
func WithCopy(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, copyKey{}, name)
}

// transport is the one way to Telegram. It puts the token in, checks the lease right before a
// request leaves, bounds the answer, and measures. Outside a term only those requests leave that conflict
// with no primary: getMe, getWebhookInfo, the download of a file, and sendMessage to an admin.
type transport struct {
	base      http.RoundTripper
	token     string
	redact    func(string) string
	userAgent string
	metrics   *metrics
	isAdmin   func(chat int64) bool
	// simulated: the server's last answer said that it is the simulator.
	simulated atomic.Bool
}

// unacknowledgedFor is how long the kernel sends again what Telegram does not acknowledge, where it would take a
// quarter of an hour: what a process sent that is frozen while its way out is cut may arrive that late, not later.
// It is also how long a connection may be silent for keep-alive (2 s, then three probes), which this option governs
// too: a shorter one would end a waiting poll for one lost probe.
const unacknowledgedFor = 5 * time.Second

// maxIdle connections are kept, as many as a bot may use at once that answers all updates of an answer side by side: with fewer
// it would make a new one for most of its calls.
const maxIdle = 100

// newBase is a transport that keeps a connection warm, so that a takeover needs no handshake. With a proxy the
// connections are those to the proxy, and all that is said here of connections holds for them. A nil proxy stands for
// none: net/http's own look into the environment is left out.
func newBase(proxy *url.URL) *way {
	dialer := &net.Dialer{
		Timeout:         2 * time.Second,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3},
		Control:         func(_, _ string, conn syscall.RawConn) error { return abortOnClose(conn) },
	}
	f := &families{dial: dialer.DialContext}
	rt := &http.Transport{
		DialContext:           f.dialContext,
		TLSHandshakeTimeout:   3 * time.Second,
		MaxIdleConns:          maxIdle,
		MaxIdleConnsPerHost:   maxIdle,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
	if proxy != nil {
		rt.Proxy = http.ProxyURL(proxy)
	}
	return &way{rt, f}
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	method := path.Base(req.URL.Path)
	label := method
	_, isFile := req.Context().Value(fileKey{}).(bool)
	switch _, forwarded := req.Context().Value(forwardedKey{}).(bool); {
	case forwarded:
		label = labelForwarded
	case isFile:
		label = labelFile
	}
	out := req.Clone(req.Context())
	out.URL.Path = strings.Replace(req.URL.Path, placeholder, t.token, 1)
	out.Header.Set("User-Agent", t.userAgent)
	if name, ok := req.Context().Value(copyKey{}).(string); ok && t.simulated.Load() {
		out.Header.Set(headerCopy, plain(name))
	}
	hold := func() bool { return true }
	if held, ok := req.Context().Value(heldKey{}).(func() bool); ok {
		if !held() {
			return drop(req, ErrLeaseLost)
		}
		hold = held
	} else if !isFile && !t.allowedWithoutLease(method, req) {
		return drop(req, errNeedsLease)
	}
	var written atomic.Bool
	watch(out, hold, &written)
	start := time.Now()
	resp, err := t.base.RoundTrip(out)
	t.metrics.requestSeconds.WithLabelValues(label).Observe(time.Since(start).Seconds())
	if err != nil {
		t.metrics.requests.WithLabelValues(label, "error").Inc()
		if errors.Is(err, ErrLeaseLost) {
			return nil, ErrLeaseLost
		}
		err = redacted{err, t.redact(err.Error())}
		if !written.Load() {
			return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		return nil, err
	}
	t.metrics.requests.WithLabelValues(label, strconv.Itoa(resp.StatusCode)).Inc()
	t.simulated.Store(resp.Header.Get(headerSimulator) != "")
	if resp.StatusCode == http.StatusProxyAuthRequired {
		_ = resp.Body.Close() // a page for people
		return nil, errProxyAuth
	}
	// The Bot API never redirects. A server that does would get the token, and net/http would put it into errors.
	resp.Header.Del("Location")
	if !isFile {
		resp.Body = &bounded{ReadCloser: resp.Body, left: maxResponse + 1}
	}
	return resp, nil
}

// drop ends a request that does not leave.
func drop(req *http.Request, why error) (*http.Response, error) {
	if req.Body != nil {
		_ = req.Body.Close() // there is nothing to lose
	}
	return nil, why
}

// allowedWithoutLease tells whether a request may leave without a lease. It judges what is sent, not who sends it.
func (t *transport) allowedWithoutLease(method string, req *http.Request) bool {
	switch method {
	case "getMe", "getWebhookInfo":
		return true
	case "sendMessage":
		var message struct {
			Chat int64 `json:"chat_id"`
		}
		if req.GetBody == nil {
			return false
		}
		body, err := req.GetBody()
		if err != nil {
			return false
		}
		err = json.NewDecoder(body).Decode(&message)
		return errors.Join(err, body.Close()) == nil && t.isAdmin(message.Chat)
	default:
		return false
	}
}

// watch has the lease checked once more when the body is read to be written: between RoundTrip and that
// moment a connection may have to be made, and the process may have been frozen. Headers may leave then,
// but without its body a request is none. That it was read is noted in written: from then on it may have left.
func watch(req *http.Request, held func() bool, written *atomic.Bool) {
	if req.Body == nil {
		written.Store(true) // the headers are all there is
		return
	}
	req.Body = &heldBody{ReadCloser: req.Body, held: held, written: written}
	if again := req.GetBody; again != nil {
		req.GetBody = func() (io.ReadCloser, error) {
			body, err := again()
			return &heldBody{ReadCloser: body, held: held, written: written}, err
		}
	}
}

// heldBody cannot be read without the lease.
type heldBody struct {
	io.ReadCloser
	held    func() bool
	written *atomic.Bool
}

// Read implements io.Reader.
func (b *heldBody) Read(p []byte) (int, error) {
	if !b.held() {
		return 0, ErrLeaseLost
	}
	b.written.Store(true)
	n, err := b.ReadCloser.Read(p)
	if !b.held() { // it may have waited long for a client that uploads
		return 0, ErrLeaseLost
	}
	return n, err //nolint:wrapcheck // io.EOF must stay what it is
}

// redaction returns what takes the token out of a text, also if its colon was escaped there, and the
// placeholder, which looks like a wrong token; and the proxy's user and password, in each form in which they leave.
func redaction(token string, proxy *url.URL) func(string) string {
	hidden := []string{placeholder, "<token>"}
	if token != "" {
		_, secret, _ := strings.Cut(token, ":")
		hidden = append(hidden, token, "<token>", cmp.Or(secret, token), "<token>")
	}
	if proxy != nil && proxy.User != nil {
		password, _ := proxy.User.Password()
		both := proxy.User.Username() + ":" + password
		all := []string{proxy.User.String(), both, base64.StdEncoding.EncodeToString([]byte(both))}
		if len(password) >= 4 { // one that is shorter would be found in any text
			all = append(all, url.QueryEscape(password), password)
		}
		for _, secret := range all {
			hidden = append(hidden, secret, "<proxy password>")
		}
	}
	return strings.NewReplacer(hidden...).Replace
}

// redacted is an error without the token, and still the same error.
type redacted struct {
	error
	text string
}

// Error implements error.
func (r redacted) Error() string { return r.text }

// Unwrap gives what the error is, for errors.Is.
func (r redacted) Unwrap() error { return r.error }

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

// UserAgent names the replica to the one who reads the log on the other side.
func UserAgent(version, name string) string {
	return fmt.Sprintf("habot/%s (%s)", version, plain(name))
}

// plain is what of a name can stand in a header.
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '(' || r == ')' {
			return -1
		}
		return r
	}, name)
}

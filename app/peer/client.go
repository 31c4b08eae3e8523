package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/election"
	"habot/app/logging"
)

// ClientConfig is what a client is made of.
type ClientConfig struct {
	Identity *Identity
	// Self is this replica: an address that answers with it is its own.
	Self election.ReplicaID
	// Instances are host or host:port; a name may resolve to many addresses.
	Instances []string
	// Timeout bounds reaching a machine: making a TCP connection, and waiting for it to acknowledge what was sent. Both are
	// the kernel's doing there, however busy the replica is; what takes longer is a path that is broken, and its
	// connection is closed.
	Timeout time.Duration
	// Port is for instances that name none.
	Port   string
	Logger *slog.Logger
	// Resolver looks names up; nil stands for the system's servers.
	Resolver Resolver
	// Registerer, if not nil, takes the client's metrics.
	Registerer prometheus.Registerer
	// After is time.After, be it not punctual; nil stands for that.
	After func(d time.Duration) <-chan time.Time
}

const (
	// handshakeBound bounds a handshake, a little above the bound of the other end. A replica that is slow to answer is slow
	// at handshakes, too, and one that is given up has to be made again.
	handshakeBound = 3 * time.Second
	// maxIdle connections to an address are kept: one that was used last, and others should packets of it be lost.
	maxIdle = 3
)

// Client asks other replicas. It is safe for concurrent use.
type Client struct {
	cfg       ClientConfig
	speaks    versions
	http      *http.Client
	discovery *discovery

	refused *prometheus.CounterVec

	mu           sync.Mutex
	reports      *logging.Quotas             // of addresses that do not fit: one a minute
	incompatible map[string]incompatiblePeer // by address
	common       map[string]int              // by address, the version of the protocol to write in
}

// incompatiblePeer is an instance that cannot take part with this replica.
type incompatiblePeer struct {
	what string
	met  time.Time
}

// NewClient returns a client that knows no addresses before RunDiscovery.
func NewClient(cfg ClientConfig) *Client {
	if cfg.Resolver == nil {
		cfg.Resolver = &net.Resolver{PreferGo: true}
	}
	if cfg.After == nil {
		cfg.After = time.After
	}
	dialer := &net.Dialer{
		Timeout: cfg.Timeout, Control: acknowledged(cfg.Timeout),
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 3},
	}
	c := &Client{
		cfg:          cfg,
		speaks:       ownVersions(),
		common:       map[string]int{},
		reports:      logging.NewQuotas(1, time.Minute),
		incompatible: map[string]incompatiblePeer{},
		http: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				DialContext:            dialer.DialContext,
				TLSClientConfig:        cfg.Identity.config(),
				TLSHandshakeTimeout:    handshakeBound,
				MaxIdleConns:           256,
				MaxIdleConnsPerHost:    maxIdle,
				MaxConnsPerHost:        12,
				IdleConnTimeout:        45 * time.Second,
				MaxResponseHeaderBytes: 8 << 10,
				DisableCompression:     true,
			},
		},
		discovery: newDiscovery(cfg),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "habot_peer_refused_total", Help: "Requests of this replica that another one refused as not valid, by what they were.",
		}, []string{"request"}),
	}
	for _, r := range requests() {
		c.refused.WithLabelValues(r)
	}
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(c.refused)
	}
	return c
}

// What a client asks for.
const (
	requestStatus     = "status"
	requestClaim      = "claim"
	requestEnd        = "end"
	requestLeave      = "leave"
	requestHistory    = "history"
	requestProgress   = "progress"
	requestSwitchover = "switchover"
)

func requests() []string {
	return []string{requestStatus, requestClaim, requestEnd, requestLeave, requestHistory, requestProgress, requestSwitchover}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// RunDiscovery keeps the addresses up to date until ctx ends, and returns nil then.
func (c *Client) RunDiscovery(ctx context.Context) error { return c.discovery.run(ctx) }

// Refresh asks for the names to be looked up again soon.
func (c *Client) Refresh() { c.discovery.refresh() }

// Addresses are where other replicas may be now, sorted, this one's own left out once it is known.
func (c *Client) Addresses() []string { return c.discovery.addresses() }

// Complete reports whether every instance has been looked up, be it in vain: until then Addresses may
// leave replicas out.
func (c *Client) Complete() bool { return c.discovery.complete() }

// Status asks a replica for its identity and for the primary that it follows.
func (c *Client) Status(ctx context.Context, addr string) (election.Status, error) {
	s, err := call(ctx, c, requestStatus, http.MethodGet, addr, pathPrimary, nil, checkStatus)
	if err != nil {
		return s, fmt.Errorf("ask %s for its status: %w", addr, err)
	}
	c.recognise(addr, s.Replica)
	return s, nil
}

// Examine asks a replica for its status, as Status does, and returns the date of its answer: its wall clock, without
// fractions of a second; zero if there is none. It does not look whether the replica is this one.
func (c *Client) Examine(ctx context.Context, addr string) (election.Status, time.Time, error) {
	s, header, err := exchange(ctx, c, requestStatus, http.MethodGet, addr, pathPrimary, nil, checkStatus)
	if err != nil {
		return s, time.Time{}, fmt.Errorf("ask %s for its status: %w", addr, err)
	}
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return s, time.Time{}, nil //nolint:nilerr // documented
	}
	return s, date, nil
}

// Claim asks a replica for its grant.
func (c *Client) Claim(ctx context.Context, addr string, req election.ClaimRequest) (election.ClaimAnswer, error) {
	a, err := call(ctx, c, requestClaim, http.MethodPost, addr, pathClaims, req, checkClaimAnswer)
	if err != nil {
		return a, fmt.Errorf("claim at %s: %w", addr, err)
	}
	c.recognise(addr, a.From.Replica)
	return a, nil
}

// End tells a replica that a claim was withdrawn or released.
func (c *Client) End(ctx context.Context, addr string, req election.EndRequest) error {
	if _, err := call[none](ctx, c, requestEnd, http.MethodDelete, addr, pathClaims, req, nil); err != nil {
		return fmt.Errorf("end a claim at %s: %w", addr, err)
	}
	return nil
}

// Leave tells a replica that this one leaves, or has left. A replica of version 1.0.0 knows no such request and
// refuses it.
func (c *Client) Leave(ctx context.Context, addr string, req election.LeaveRequest) (election.LeaveAnswer, error) {
	a, err := call(ctx, c, requestLeave, http.MethodPost, addr, pathLeave, req, checkLeaveAnswer)
	if err != nil {
		return a, fmt.Errorf("leave %s: %w", addr, err)
	}
	c.recognise(addr, a.From.Replica)
	return a, nil
}

// History asks a replica for the changes of primary that it knows.
func (c *Client) History(ctx context.Context, addr string) (election.History, error) {
	h, err := call(ctx, c, requestHistory, http.MethodGet, addr, pathHistory, nil, checkHistory)
	if err != nil {
		return h, fmt.Errorf("ask %s for its history: %w", addr, err)
	}
	return h, nil
}

// Progress tells a replica what has been handled, and returns what it knows beyond that. One of version 1.0.0 is sent
// no notes.
func (c *Client) Progress(ctx context.Context, addr string, p election.Progress) (election.ProgressAnswer, error) {
	for {
		a, header, err := exchange(ctx, c, requestProgress, http.MethodPost, addr, pathProgress, p, checkProgressAnswer)
		if err != nil {
			return a, fmt.Errorf("tell %s the progress: %w", addr, err)
		}
		a.WithoutNotes = versionOf(header) < notesSince
		if !a.WithoutNotes || c.version(addr) < notesSince {
			return a, nil
		} // it takes notes, as its answer shows: this was the first request to it
	}
}

// Switchover asks the primary at addr to hand over.
func (c *Client) Switchover(ctx context.Context, addr, successor string) error {
	if _, err := call[none](ctx, c, requestSwitchover, http.MethodPost, addr, pathSwitchover, switchover{successor}, nil); err != nil {
		return fmt.Errorf("ask %s for a switchover: %w", addr, err)
	}
	return nil
}

func (c *Client) recognise(addr string, id election.ReplicaID) {
	if id == c.cfg.Self {
		c.discovery.own(addr)
	}
}

// none is the answer that has no body.
type none struct{}

// call makes one request. Its time is bounded by ctx alone.
func call[A any](ctx context.Context, c *Client, request, method, addr, path string, body any, check func(A) error) (A, error) {
	answer, _, err := exchange(ctx, c, request, method, addr, path, body, check)
	return answer, err
}

// exchange is call, with the answer's header.
func exchange[A any](ctx context.Context, c *Client, request, method, addr, path string, body any, check func(A) error) (answer A, header http.Header, err error) {
	version := c.version(addr)
	resp, err := c.send(ctx, method, addr, path, body, version) //nolint:bodyclose // drain closes it
	if err != nil {
		return answer, nil, err
	}
	if common := c.version(addr); resp.StatusCode == http.StatusConflict && versionOf(resp.Header) != version && common != version {
		drain(resp.Body) // refused unread: a replica of another version is there than before, or it is met for the first time
		version = common
		resp, err = c.send(ctx, method, addr, path, body, version) //nolint:bodyclose // drain closes it
		if err != nil {
			return answer, nil, err
		}
	}
	defer drain(resp.Body)
	if versionOf(resp.Header) != version {
		c.report(addr, "a replica speaks another version of the protocol")
		return answer, nil, fmt.Errorf("%w: %.16q, and this one %s", ErrProtocol, resp.Header.Get(protocolHeader), c.speaks)
	}
	if resp.StatusCode/100 != 2 {
		return answer, nil, c.refusal(addr, request, resp)
	}
	if check == nil || request == requestProgress && resp.StatusCode == http.StatusNoContent { // version 1.0.0 knows nothing more
		return answer, resp.Header, nil
	}
	answer, err = decode(resp.Body, check)
	return answer, resp.Header, err
}

// send makes one request in a version of the protocol, and learns from the answer in which to make the next. The body of
// the answer MUST be closed.
func (c *Client) send(ctx context.Context, method, addr, path string, body any, version int) (*http.Response, error) {
	var payload io.Reader
	if body != nil {
		raw, err := json.Marshal(written(body, version))
		if err != nil {
			return nil, fmt.Errorf("encode: %w", err)
		}
		payload = bytes.NewReader(raw)
	}
	at := url.URL{Scheme: "https", Host: addr, Path: path} // it escapes the zone of an IPv6 address
	req, err := http.NewRequestWithContext(ctx, method, at.String(), payload)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set(protocolHeader, strconv.Itoa(version))
	req.Header.Set(versionsHeader, c.speaks.String())
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.failed(addr, err)
	}
	c.learn(addr, versionsOf(resp.Header))
	return resp, nil
}

// version is the version of the protocol in which the replica at an address is written to: the oldest until it has answered.
func (c *Client) version(addr string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, known := c.common[addr]; known {
		return v
	}
	return c.speaks.oldest
}

// learn keeps what the replica at an address speaks. Of one that speaks nothing known nothing is kept.
func (c *Client) learn(addr string, theirs versions) {
	c.mu.Lock()
	defer c.mu.Unlock()
	common := c.speaks.common(theirs)
	if common == 0 {
		delete(c.common, addr)
		return
	}
	if len(c.common) >= maxRemembered {
		clear(c.common)
	}
	c.common[addr] = common
}

// drain reads what little is left, so that the connection can be used again, and closes.
func drain(body io.ReadCloser) {
	_, err := io.Copy(io.Discard, io.LimitReader(body, 4<<10))
	_ = errors.Join(err, body.Close()) // the answer is in hand; the connection looks after itself
}

// refusal makes an error of a refusal; what the primary refuses keeps its meaning. A request that is not valid to the
// other replica is counted and reported: the two are of different minds about the messages.
func (c *Client) refusal(addr, request string, resp *http.Response) error {
	said, err := decode(resp.Body, checkComplaint)
	code := resp.Header.Get(refusalHeader)
	for _, known := range refusals() {
		if code == known.code || (code == "" && said.Error == known.text) {
			return known.err
		}
	}
	failed := fmt.Errorf("refused with %d: %s", resp.StatusCode, said.Error)
	if err != nil {
		failed = fmt.Errorf("refused with %d", resp.StatusCode)
	}
	if resp.StatusCode == http.StatusBadRequest {
		c.refused.WithLabelValues(request).Inc()
		if _, ok := c.reports.Take(time.Now(), addr); ok {
			c.cfg.Logger.Warn("another replica refuses what this one sends", "addr", addr, "request", request, "error", failed)
		}
	}
	return failed
}

// failed says why a request failed, and reports an instance of another bot.
func (c *Client) failed(addr string, err error) error {
	alien := errors.Is(err, ErrIdentity) || strings.Contains(err.Error(), "remote error: tls: bad certificate")
	if !alien {
		return err
	}
	c.report(addr, "an instance belongs to another bot: its cluster secret differs")
	return fmt.Errorf("%w (%s)", ErrIdentity, addr)
}

// report warns of an address once a minute.
func (c *Client) report(addr, what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if len(c.incompatible) >= maxRemembered {
		clear(c.incompatible)
	}
	c.incompatible[addr] = incompatiblePeer{what, now}
	if _, ok := c.reports.Take(now, addr); !ok {
		return
	}
	c.cfg.Logger.Warn(what, "addr", addr)
}

// IncompatiblePeers are the instances met within the last time that do not fit, a line each for people, by address:
// of another bot, or of another version of the protocol.
func (c *Client) IncompatiblePeers(within time.Duration) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var lines []string
	for addr, s := range c.incompatible {
		if time.Since(s.met) <= within {
			lines = append(lines, addr+": "+s.what)
		}
	}
	slices.Sort(lines)
	return lines
}

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
	"slices"
	"strings"
	"sync"
	"time"

	"habot/app/election"
)

// ClientConfig is what a client is made of.
type ClientConfig struct {
	Identity *Identity
	// Self is this replica: an address that answers with it is its own.
	Self election.ReplicaID
	// Instances are host or host:port; a name may resolve to many addresses.
	Instances []string
	// Timeout bounds making a connection. A request's own end does not stop the making of its
	// connection, and what is under way keeps others from being made: it MUST be about as short.
	Timeout time.Duration
	// Port is for instances that name none.
	Port   string
	Logger *slog.Logger
	// Resolver looks names up; nil stands for the system's servers.
	Resolver Resolver
}

// Client asks other replicas. It is safe for concurrent use.
type Client struct {
	cfg       ClientConfig
	http      *http.Client
	discovery *discovery

	mu        sync.Mutex
	told      map[string]time.Time // when an address was last reported not to fit
	strangers map[string]stranger  // by address
}

// stranger is an instance that does not fit.
type stranger struct {
	what string
	met  time.Time
}

// NewClient returns a client that knows no addresses before RunDiscovery.
func NewClient(cfg ClientConfig) *Client {
	if cfg.Resolver == nil {
		cfg.Resolver = &net.Resolver{PreferGo: true}
	}
	dialer := &net.Dialer{Timeout: cfg.Timeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 3}}
	return &Client{
		cfg:       cfg,
		told:      map[string]time.Time{},
		strangers: map[string]stranger{},
		http: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				DialContext:            dialer.DialContext,
				TLSClientConfig:        cfg.Identity.config(),
				TLSHandshakeTimeout:    cfg.Timeout,
				MaxIdleConns:           256,
				MaxIdleConnsPerHost:    8,
				MaxConnsPerHost:        12,
				IdleConnTimeout:        45 * time.Second,
				MaxResponseHeaderBytes: 8 << 10,
				DisableCompression:     true,
			},
		},
		discovery: newDiscovery(cfg),
	}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// RunDiscovery keeps the addresses up to date until ctx ends, and returns nil then.
func (c *Client) RunDiscovery(ctx context.Context) error { return c.discovery.run(ctx) }

// Refresh asks for the names to be looked up again soon.
func (c *Client) Refresh() { c.discovery.refresh() }

// Addresses are where other replicas may be now, sorted, this one's own left out once it is known.
func (c *Client) Addresses() []string { return c.discovery.addresses() }

// Complete tells whether every instance has been looked up, be it in vain: until then Addresses may
// leave replicas out.
func (c *Client) Complete() bool { return c.discovery.complete() }

// Status asks a replica who it is and whom it follows.
func (c *Client) Status(ctx context.Context, addr string) (election.Status, error) {
	s, err := call(ctx, c, http.MethodGet, addr, pathPrimary, nil, checkStatus)
	if err != nil {
		return s, fmt.Errorf("ask %s for its status: %w", addr, err)
	}
	c.recognise(addr, s.Replica)
	return s, nil
}

// Claim asks a replica for its grant.
func (c *Client) Claim(ctx context.Context, addr string, req election.ClaimRequest) (election.ClaimAnswer, error) {
	a, err := call(ctx, c, http.MethodPost, addr, pathClaims, req, checkClaimAnswer)
	if err != nil {
		return a, fmt.Errorf("claim at %s: %w", addr, err)
	}
	c.recognise(addr, a.From.Replica)
	return a, nil
}

// End tells a replica that a claim was withdrawn or released.
func (c *Client) End(ctx context.Context, addr string, req election.EndRequest) error {
	if _, err := call[none](ctx, c, http.MethodDelete, addr, pathClaims, req, nil); err != nil {
		return fmt.Errorf("end a claim at %s: %w", addr, err)
	}
	return nil
}

// Leave tells a replica that this one leaves, or has left. A replica of version 1.0.0 knows no such request and
// refuses it.
func (c *Client) Leave(ctx context.Context, addr string, req election.LeaveRequest) (election.LeaveAnswer, error) {
	a, err := call(ctx, c, http.MethodPost, addr, pathLeave, req, checkLeaveAnswer)
	if err != nil {
		return a, fmt.Errorf("leave %s: %w", addr, err)
	}
	c.recognise(addr, a.From.Replica)
	return a, nil
}

// Progress tells a replica what has been handled.
func (c *Client) Progress(ctx context.Context, addr string, p election.Progress) error {
	if _, err := call[none](ctx, c, http.MethodPost, addr, pathProgress, p, nil); err != nil {
		return fmt.Errorf("tell %s the progress: %w", addr, err)
	}
	return nil
}

// Switchover asks the primary at addr to hand over.
func (c *Client) Switchover(ctx context.Context, addr, successor string) error {
	if _, err := call[none](ctx, c, http.MethodPost, addr, pathSwitchover, switchover{successor}, nil); err != nil {
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
func call[A any](ctx context.Context, c *Client, method, addr, path string, body any, check func(A) error) (answer A, err error) {
	var payload io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return answer, fmt.Errorf("encode: %w", err)
		}
		payload = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+addr+path, payload)
	if err != nil {
		return answer, fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set(protocolHeader, protocolText())
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req) //nolint:bodyclose // drain closes it
	if err != nil {
		return answer, c.failed(addr, err)
	}
	defer drain(resp.Body)
	if theirs := resp.Header.Get(protocolHeader); theirs != protocolText() {
		c.report(addr, "a replica speaks another version of the protocol")
		return answer, fmt.Errorf("%w: %.16q", ErrProtocol, theirs)
	}
	if resp.StatusCode/100 != 2 {
		return answer, refused(resp)
	}
	if check == nil {
		return answer, nil
	}
	return decode(resp.Body, check)
}

// drain reads what little is left, so that the connection can be used again, and closes.
func drain(body io.ReadCloser) {
	_, err := io.Copy(io.Discard, io.LimitReader(body, 4<<10))
	_ = errors.Join(err, body.Close()) // the answer is in hand; the connection looks after itself
}

// refused makes an error of a refusal; what the primary refuses keeps its meaning.
func refused(resp *http.Response) error {
	said, err := decode(resp.Body, checkComplaint)
	if err != nil {
		return fmt.Errorf("refused with %d", resp.StatusCode)
	}
	for _, known := range []error{election.ErrNotPrimary, election.ErrNoSuccessor} {
		if said.Error == known.Error() {
			return known
		}
	}
	return fmt.Errorf("refused with %d: %s", resp.StatusCode, said.Error)
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
	if len(c.strangers) >= maxStrangers {
		clear(c.strangers)
	}
	c.strangers[addr] = stranger{what, now}
	if now.Sub(c.told[addr]) < time.Minute {
		return
	}
	if len(c.told) >= maxStrangers {
		clear(c.told)
	}
	c.told[addr] = now
	c.cfg.Logger.Warn(what, "addr", addr)
}

// Strangers are the instances met within the last time that do not fit, a line each for people, by address:
// of another bot, or of another version of the protocol.
func (c *Client) Strangers(within time.Duration) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var lines []string
	for addr, s := range c.strangers {
		if time.Since(s.met) <= within {
			lines = append(lines, addr+": "+s.what)
		}
	}
	slices.Sort(lines)
	return lines
}

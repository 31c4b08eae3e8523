package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"habot/app/election"
	"habot/app/listener"
)

// Client asks the replica that runs beside it, for the command line.
type Client struct {
	base       string
	adminToken string
	http       *http.Client
}

// NewClient returns a client for the server that listens at addr (host:port or :port).
func NewClient(addr, adminToken string) *Client {
	return &Client{
		base:       "http://" + listener.Local(addr),
		adminToken: adminToken,
		http:       &http.Client{Timeout: switchTimeout + time.Second, Transport: &http.Transport{MaxIdleConns: 1}},
	}
}

// Healthcheck returns nil if the replica's parts are alive.
func (c *Client) Healthcheck(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := c.do(ctx, http.MethodGet, "/livez", "")
	return err
}

// Answers returns nil if the server answers at all.
func (c *Client) Answers(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, c.base+"/livez", nil)
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the replica: %w", err)
	}
	if err := resp.Body.Close(); err != nil {
		return fmt.Errorf("read the replica's answer: %w", err)
	}
	return nil
}

// refusal is a sentence alone where the replica has made one for the operator.
func refusal(code int, text string) error {
	switch code {
	case http.StatusForbidden, http.StatusConflict:
		return errors.New(text)
	default:
		return fmt.Errorf("the replica refuses (%d %s): %s", code, http.StatusText(code), text)
	}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status returns what the replica knows.
func (c *Client) Status(ctx context.Context) (Status, error) { return read[Status](ctx, c, "/cluster") }

// History returns the changes of primary that the replica knows, the oldest first.
func (c *Client) History(ctx context.Context) ([]election.Change, error) {
	return read[[]election.Change](ctx, c, "/history")
}

// read gets JSON.
func read[A any](ctx context.Context, c *Client, path string) (answer A, err error) {
	raw, err := c.do(ctx, http.MethodGet, path, "")
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return *new(A), fmt.Errorf("read the replica's answer: %w", err)
	}
	return answer, nil
}

// How long a switchover is waited for: what the bot has in flight is finished first. It is looked for often enough to
// say how long it took.
const (
	switchedWithin = 20 * time.Second
	switchedEvery  = 50 * time.Millisecond
)

// ErrNotSwitched reports a switchover that was started and whose end was not seen.
var ErrNotSwitched = errors.New("the primary got the request to hand over, but there is no new primary yet: see habot status")

// Switchover moves the role to a standby, by name; to any if it is empty. It returns the change and how long it took from
// the request on, or ErrNotSwitched.
func (c *Client) Switchover(ctx context.Context, successor string) (election.Change, time.Duration, error) {
	before, err := c.Status(ctx)
	if err != nil {
		return election.Change{}, 0, err
	}
	body, err := json.Marshal(map[string]string{"to": successor})
	if err != nil {
		return election.Change{}, 0, fmt.Errorf("encode: %w", err)
	}
	began := time.Now()
	if _, err = c.do(ctx, http.MethodPost, "/switchover", string(body)); err != nil {
		return election.Change{}, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, switchedWithin)
	defer cancel()
	again := time.NewTicker(switchedEvery)
	defer again.Stop()
	for {
		// A replica that cannot be asked just now may be asked again.
		if now, err := c.Status(ctx); err == nil && now.Self.Change.Claim.Compare(before.Self.Change.Claim) > 0 && now.Known() {
			return now.Self.Change, time.Since(began), nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return election.Change{}, 0, ErrNotSwitched
		}
	}
}

// Next moves the turn on to another copy of a polling bot.
func (c *Client) Next(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodPost, "/backend/next", "")
	return err
}

func (c *Client) do(ctx context.Context, method, path, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	if c.adminToken != "" {
		req.Header.Set("Authorization", "Bearer "+c.adminToken)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the replica: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("read the replica's answer: %w", err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		var said struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(raw, &said) != nil || said.Error == "" {
			said.Error = strings.TrimSpace(string(raw))
		}
		return nil, refusal(resp.StatusCode, said.Error)
	}
	return raw, nil
}

package telegram

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a client is made of.
type Config struct {
	Token     string
	APIURL    string   // without a slash at its end
	Proxy     *url.URL // on the way to APIURL; nil for none
	Version   string
	Name      string // of this replica
	IsAdmin   func(chat int64) bool
	Transport http.RoundTripper // nil stands for the real one
	// Registerer takes the client's metrics.
	Registerer prometheus.Registerer
}

// Client calls methods of the Bot API. It is safe for concurrent use.
type Client struct {
	http    *http.Client
	api     string
	redact  func(string) string
	metrics *metrics
}

// New returns a client that has made no connection yet.
func New(cfg Config) *Client {
	if cfg.Transport == nil {
		cfg.Transport = newBase(cfg.Proxy)
	}
	c := &Client{api: cfg.APIURL, redact: redaction(cfg.Token, cfg.Proxy), metrics: newMetrics(cfg.Registerer)}
	c.http = &http.Client{Transport: &transport{
		base: cfg.Transport, token: cfg.Token, redact: c.redact, userAgent: UserAgent(cfg.Version, cfg.Name), metrics: c.metrics,
		isAdmin: cfg.IsAdmin,
	}}
	return c
}

// Error is an answer of Telegram that refuses a request.
type Error struct {
	Code        int
	Description string // without the token
	RetryAfter  int    // seconds as sent; 0 for none. RetryAfter bounds it.
	MigrateTo   int64  // the supergroup that a group has become; 0 for none
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%d %q", e.Code, e.Description) }

// envelope is the form of each answer.
type envelope struct {
	OK          bool            `json:"ok"`
	Result      json.RawMessage `json:"result"`
	Description string          `json:"description"`
	ErrorCode   int             `json:"error_code"`
	Parameters  struct {
		MigrateToChatID int64 `json:"migrate_to_chat_id"`
		RetryAfter      int   `json:"retry_after"`
	} `json:"parameters"`
}

// Call calls a method with parameters that are encoded as JSON, nil for none, and decodes its result into result, nil for
// none. An answer without a result leaves result as it is. Errors are an *Error if Telegram refuses, ErrLeaseLost if the request did not leave because
// the lease had ended, and have no token in them; Judge says what they mean.
func (c *Client) Call(ctx context.Context, method string, params, result any) error {
	body := []byte("{}")
	if params != nil {
		var err error
		if body, err = json.Marshal(params); err != nil {
			return fmt.Errorf("encode the parameters of %s: %w", method, err)
		}
	}
	raw, err := c.do(ctx, method, "application/json", bytes.NewReader(body), int64(len(body)))
	if err != nil || result == nil || raw == nil {
		return err
	}
	if all, ok := result.(*json.RawMessage); ok {
		*all = raw // it is valid: it was part of the answer
		return nil
	}
	if err := json.Unmarshal(raw, result); err != nil {
		return redacted{err, "decode the result of " + method + ": " + c.redact(err.Error())}
	}
	return nil
}

// forwardedKey marks a request whose method a backend has chosen: any name, so it is no label of a metric.
type forwardedKey struct{}

const labelForwarded = "forwarded"

// Forward sends a request as it is: its body is read once, as it is sent. size is the body's length in bytes, -1 if it is not
// known. The result is thrown away; errors are as Call's, or those of the body.
func (c *Client) Forward(ctx context.Context, method, contentType string, body io.Reader, size int64) error {
	_, err := c.do(context.WithValue(ctx, forwardedKey{}, true), method, contentType, body, size)
	return err
}

// do sends one request.
func (c *Client) do(ctx context.Context, method, contentType string, body io.Reader, size int64) (json.RawMessage, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.api+"/bot"+placeholder+"/"+method, body)
	if err != nil {
		return nil, redacted{err, c.redact(err.Error())}
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", contentType)
	raw, err := c.answer(req)
	if err != nil {
		return nil, redacted{err, c.redact(err.Error())}
	}
	var e envelope
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, redacted{err, "decode the answer to " + method + ": " + c.redact(err.Error())}
	}
	if e.OK {
		return e.Result, nil
	}
	refusal := &Error{Code: e.ErrorCode, Description: c.redact(e.Description), RetryAfter: e.Parameters.RetryAfter, MigrateTo: e.Parameters.MigrateToChatID}
	if refusal.Code == http.StatusTooManyRequests {
		c.metrics.retryAfter.Observe(RetryAfter(refusal).Seconds())
	}
	return nil, refusal
}

// errServer is an answer of a server, or of a proxy before it, that has failed.
var errServer = errors.New("internal server error")

func (c *Client) answer(req *http.Request) ([]byte, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the method
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	if resp.StatusCode >= http.StatusInternalServerError {
		drain(resp.Body)
		return nil, fmt.Errorf("%w: %d", errServer, resp.StatusCode)
	}
	raw := bytes.NewBuffer(make([]byte, 0, room(resp.ContentLength)))
	if _, err := raw.ReadFrom(resp.Body); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return raw.Bytes(), nil
}

// room is how much to keep ready for an answer that is so long, -1 if that is not known.
func room(length int64) int64 { return max(0, min(length, maxRoom)) + bytes.MinRead }

// maxRoom bounds what is kept ready for an answer before it is there: a hundred updates of the usual kind.
const maxRoom = 64 << 10

// Bounds of what is read of an answer that does not matter, so that its connection can be used again.
const (
	drainBytes = 16 << 10
	drainFor   = 100 * time.Millisecond
)

// drain reads what does not matter, within bounds. A body that is longer or slower costs its connection.
func drain(body io.ReadCloser) {
	late := time.AfterFunc(drainFor, func() { _ = body.Close() })
	defer late.Stop()
	_, _ = io.CopyN(io.Discard, body, drainBytes)
}

// Redact takes the token, and the proxy's password, out of a text.
func (c *Client) Redact(text string) string { return c.redact(text) }

// CloseIdle closes connections that are not used.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

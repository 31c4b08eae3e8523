package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
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

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status returns what the replica knows.
func (c *Client) Status(ctx context.Context) (election.View, error) {
	var v election.View
	raw, err := c.do(ctx, http.MethodGet, "/cluster", "")
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, fmt.Errorf("read the replica's answer: %w", err)
	}
	return v, nil
}

// Switchover moves the role to a standby, by name; to any if it is empty.
func (c *Client) Switchover(ctx context.Context, successor string) error {
	body, err := json.Marshal(map[string]string{"to": successor})
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	_, err = c.do(ctx, http.MethodPost, "/switchover", string(body))
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
		return nil, fmt.Errorf("the replica refuses (%d %s): %s", resp.StatusCode, http.StatusText(resp.StatusCode), said.Error)
	}
	return raw, nil
}

// WriteStatus writes a view for people: a line per replica, then the last change.
func WriteStatus(w io.Writer, v election.View) {
	all := append([]election.Peer{{Status: v.Self, Reachable: true}}, v.Peers...)
	slices.SortStableFunc(all, func(a, b election.Peer) int { return strings.Compare(a.Status.Name, b.Status.Name) })
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "REPLICA\tROLE\tHEALTH\tPRIMARY SINCE\tVERSION")
	for _, p := range all {
		role, health, since := string(p.Status.Role), "healthy", ""
		switch {
		case !p.Reachable:
			role, health = "not reachable", fmt.Sprintf("last heard %.0f s ago", p.Age.Seconds())
		case !p.Status.Health.OK:
			health = p.Status.Health.Detail
		}
		if p.Reachable && p.Status.Role == election.Primary {
			since = p.Status.Primary.Time().UTC().Format(time.DateTime + " MST")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", p.Status.Name, role, health, since, p.Status.Version)
	}
	_ = t.Flush() // w's errors are its owner's to notice
	fmt.Fprintf(w, "%d of %d replicas reachable, %d are needed; mode %s\n", v.Reachable, v.Expected, v.Quorum, v.Mode)
	if n := len(v.History); n > 0 {
		c := v.History[n-1]
		previous := ""
		if c.Previous != "" {
			previous = " after " + c.Previous
		}
		fmt.Fprintf(w, "last change: %s%s at %s (%s), nobody was primary for %.3f s\n", c.Name, previous,
			c.Claim.Time().UTC().Format(time.DateTime+" MST"), c.Reason, c.Gap.Seconds())
	}
}

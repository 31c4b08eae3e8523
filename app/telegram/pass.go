package telegram

import (
	"context"
	"io"
	"net/http"
)

// Passed is a call of another program that is passed on as it is.
type Passed struct {
	// Test: the call is for Telegram's test servers.
	Test   bool
	Method string
	// Query is as it was sent, without its question mark.
	Query           string
	ContentType     string
	ContentEncoding string
	// Body is read once, as it is sent; nil for none. If it is a *bytes.Reader the call can be sent again on another
	// connection should the first turn out to be closed. Size is its length in bytes, -1 if it is not known.
	Body io.Reader
	Size int64
}

// Pass sends a call and returns Telegram's answer, whatever it is. The answer's body is bounded as that of any call, and MUST be
// closed. The context is a term's (WithLease). Errors are as Call's, or those of the body.
func (c *Client) Pass(ctx context.Context, p Passed) (*http.Response, error) {
	path := "/bot" + placeholder
	if p.Test {
		path += "/test"
	}
	if p.Size == 0 {
		p.Body = nil
	}
	req, err := http.NewRequestWithContext(context.WithValue(ctx, forwardedKey{}, true), http.MethodPost, c.api+path+"/"+p.Method, p.Body)
	if err != nil {
		return nil, redacted{err, c.redact(err.Error())}
	}
	req.URL.RawQuery = p.Query
	if p.Body != nil {
		req.ContentLength = p.Size
	}
	for name, value := range map[string]string{"Content-Type": p.ContentType, "Content-Encoding": p.ContentEncoding} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	return c.send(req)
}

// fileKey marks the download of a file: it conflicts with no primary, and is as long as the file.
type fileKey struct{}

const labelFile = "file"

// File asks for a file that a bot may download. ranges is the request's Range header, empty for none. The answer's body is not
// bounded and MUST be closed. It may be asked for without a lease. Errors have no token in them.
func (c *Client) File(ctx context.Context, test bool, file, ranges string) (*http.Response, error) {
	path := "/file/bot" + placeholder + "/"
	if test {
		path += "test/"
	}
	req, err := http.NewRequestWithContext(context.WithValue(ctx, fileKey{}, true), http.MethodGet, c.api, nil)
	if err != nil {
		return nil, redacted{err, c.redact(err.Error())}
	}
	req.URL.Path += path + file
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	return c.send(req)
}

func (c *Client) send(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, redacted{err, c.redact(err.Error())}
	}
	return resp, nil
}

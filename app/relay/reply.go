package relay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
)

// Bounds of what a backend answers.
const (
	// maxParameters bounds an answer without files, and what stands before the method's name in one with files:
	// Telegram's bound on the parameters of a call.
	maxParameters = 1 << 20
	// maxReply bounds an answer with files: Telegram's bound on an upload, and the parameters.
	maxReply = 50<<20 + maxParameters
)

var (
	// errTooLarge says that an answer is larger than any call that Telegram takes.
	errTooLarge = errors.New("the answer is too large for a call of the Bot API")
	// errIncomplete says that an answer ended before it was whole.
	errIncomplete = errors.New("the answer is incomplete")
	// errMalformed says that an answer is whole, but not what its type says.
	errMalformed = errors.New("the answer is not what its content type says")
)

// reply is the call of the Bot API that a backend has answered with.
type reply struct {
	method      string
	contentType string
	// start is the call's body, or its beginning; rest is nil if that is all of it.
	start []byte
	rest  *capped
}

// body is what to send of the call.
func (r reply) body() io.Reader {
	if r.rest == nil {
		return bytes.NewReader(r.start)
	}
	return io.MultiReader(bytes.NewReader(r.start), r.rest)
}

// readReply reads the answer of a backend that has taken an update. It returns a reply without a method if there is no
// call in the answer. The error is errTooLarge, errIncomplete or errMalformed. What it reads into memory is bounded by
// maxParameters; the rest of a longer reply with files is left in body.
func readReply(contentType string, body io.Reader) (r reply, err error) {
	kind, parameters := mediaType(contentType)
	source := &source{r: body}
	r.contentType = contentType
	if kind == "multipart/form-data" {
		r, err = readMultipart(r, parameters["boundary"], source)
	} else if r.start, err = source.all(); err == nil && len(r.start) > 0 {
		r.method, err = methodIn(kind, r.start)
	}
	switch {
	case source.failed != nil:
		return reply{}, fmt.Errorf("%w: %w", errIncomplete, source.failed)
	case err != nil, r.method == "":
		return reply{}, err
	}
	return r, nil
}

// mayBeReply tells whether an answer of this kind may name a method, and so has to be read.
func mayBeReply(contentType string) bool {
	switch kind, _ := mediaType(contentType); kind {
	case "application/json", "application/x-www-form-urlencoded", "multipart/form-data":
		return true
	}
	return false
}

func mediaType(contentType string) (string, map[string]string) {
	kind, parameters, err := mime.ParseMediaType(contentType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return "", nil
	}
	return kind, parameters
}

// source is an answer's body. It remembers why it ended, if not by its end.
type source struct {
	r      io.Reader
	failed error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		s.failed = err
	}
	return n, err //nolint:wrapcheck // io.EOF must stay what it is
}

// all is the whole of a body that is no longer than maxParameters.
func (s *source) all() ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(s, maxParameters+1))
	if err == nil && len(raw) > maxParameters {
		return nil, errTooLarge
	}
	return raw, err //nolint:wrapcheck // readReply says what it was
}

// methodIn is the method that a body without files names; empty if it names none.
func methodIn(kind string, raw []byte) (method string, err error) {
	if kind == "application/x-www-form-urlencoded" {
		v, err := url.ParseQuery(string(raw))
		if err != nil {
			return "", fmt.Errorf("%w: %w", errMalformed, err)
		}
		return v.Get("method"), nil
	}
	var fields map[string]json.RawMessage
	if !json.Valid(raw) {
		return "", errMalformed
	}
	_ = json.Unmarshal(raw, &fields)              // true, a list, and the like have none
	_ = json.Unmarshal(fields["method"], &method) // nor has what is no text
	return method, nil
}

// readMultipart reads up to the part that names the method. If all of the body is no longer than maxParameters it is
// read to its end.
func readMultipart(r reply, boundary string, body *source) (reply, error) {
	var read bytes.Buffer
	limited := &io.LimitedReader{R: body, N: maxParameters}
	parts := multipart.NewReader(io.TeeReader(limited, &read), boundary)
	found := false
	for !found {
		part, err := parts.NextRawPart()
		if err == nil {
			if found = part.FormName() == "method"; !found {
				continue
			}
			var value []byte
			value, err = io.ReadAll(part)
			r.method = string(value)
		}
		if err == nil {
			continue
		}
		_, _ = io.Copy(io.Discard, limited) // to know whether it is whole: body remembers
		switch {
		case limited.N <= 0:
			return reply{}, errTooLarge
		case errors.Is(err, io.EOF):
			return reply{}, nil // no part names it
		default:
			return reply{}, fmt.Errorf("%w: %w", errMalformed, err)
		}
	}
	_, _ = io.Copy(&read, limited) // body remembers
	r.start = read.Bytes()
	if limited.N <= 0 {
		r.rest = &capped{r: body, left: maxReply - maxParameters}
	}
	return r, nil
}

// capped fails, rather than cuts short, what is too long.
type capped struct {
	r    io.Reader
	left int
	// over tells that it was.
	over atomic.Bool
}

// Read implements io.Reader.
func (c *capped) Read(p []byte) (int, error) {
	if c.left <= 0 {
		// One more byte tells whether it is too long.
		if n, err := io.ReadFull(c.r, make([]byte, 1)); n == 0 {
			return 0, err //nolint:wrapcheck // io.EOF must stay what it is
		}
		c.over.Store(true)
		return 0, errTooLarge
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err //nolint:wrapcheck // io.EOF must stay what it is
}

var methodShape = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,63}$`)

// forbidden says why a method is not carried out for a backend; empty if it is. As the real server's rules, in any
// case of letters: what would take the bot away from habot, and what asks for something, as no backend gets the answer.
// A method that this version does not know is Telegram's to judge.
func forbidden(method string) string {
	lower := strings.ToLower(method)
	switch {
	case !methodShape.MatchString(method):
		return "no name of a method"
	case lower == "setwebhook", lower == "deletewebhook", lower == "close", lower == "logout":
		return "it would take the bot away from habot"
	case strings.HasPrefix(lower, "get"):
		return "its result would go nowhere"
	}
	return ""
}

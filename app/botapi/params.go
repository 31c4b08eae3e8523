package botapi

import (
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// MaxParameters bounds all parameters of a request together, in bytes, files aside. It is the real server's.
const MaxParameters = 1 << 20

// maxOverhead is what a body without files may have beside its parameters: delimiters and headers of parts.
const maxOverhead = 256 << 10

var (
	// ErrTooLarge says that the parameters exceed MaxParameters. Its answer is 413.
	ErrTooLarge = errors.New("too much parameters")
	// ErrTooLong is an ErrTooLarge of a body that is longer than parameters within MaxParameters take, though those that were read
	// of it are within that. The rest may be files.
	ErrTooLong = fmt.Errorf("%w: the body is too long", ErrTooLarge)
	// ErrEncoding says that a body is compressed in a way that the real server does not read either. Its answer is 415.
	ErrEncoding = errors.New("unsupported content-encoding")
)

// Params are the parameters that were wanted and given. Of several of one name the first counts, and the query comes
// before the body. What is no string in JSON stays as JSON writes it.
type Params map[string]string

// Int reads a number as the real server does: the digits at the start count, a minus sign before them too, anything else
// is 0. An absent or empty parameter is otherwise. What exceeds 64 bits is the bound.
func (p Params) Int(name string, otherwise int64) int64 {
	s := p[name]
	if s == "" {
		return otherwise
	}
	digits, negative := strings.CutPrefix(s, "-")
	n := int64(0)
	for i := 0; i < len(digits) && '0' <= digits[i] && digits[i] <= '9'; i++ {
		d := int64(digits[i] - '0')
		if n > (math.MaxInt64-d)/10 {
			n = math.MaxInt64
			break
		}
		n = n*10 + d
	}
	if negative {
		return -n
	}
	return n
}

// Bool reads a boolean as the real server does: true, yes and 1 in any case are true, all else is false.
func (p Params) Bool(name string) bool {
	switch strings.ToLower(strings.TrimSpace(p[name])) {
	case "true", "yes", "1":
		return true
	}
	return false
}

// The bounds of getUpdates, in the real server.
const (
	MaxUpdates     = 100
	MaxPollTimeout = 50 * time.Second
	// MaxAllowed bounds a list of kinds, in bytes. All kinds that there are take a quarter of it.
	MaxAllowed = 2 << 10
)

// Updates are the parameters of getUpdates.
type Updates struct {
	// Offset is from -2^31 to 2^31-1.
	Offset int64
	// Limit is from 1 to MaxUpdates.
	Limit int
	// Timeout is from 0 to MaxPollTimeout.
	Timeout time.Duration
	// Allowed is a JSON array of kinds, in lower case, of MaxAllowed bytes at most, "[]" for the default ones; empty if the kinds
	// are to stay as they are.
	Allowed string
}

// UpdatesIn reads the parameters of getUpdates.
func UpdatesIn(p Params) Updates {
	return Updates{
		Offset:  min(max(p.Int("offset", 0), math.MinInt32), math.MaxInt32),
		Limit:   int(min(max(p.Int("limit", MaxUpdates), 1), MaxUpdates)),
		Timeout: time.Duration(min(max(p.Int("timeout", 0), 0), int64(MaxPollTimeout/time.Second))) * time.Second,
		Allowed: allowed(p["allowed_updates"]),
	}
}

// allowed is a list of kinds in one form. Anything but a list of strings, and one that is too long, leaves the kinds as they are.
func allowed(value string) string {
	var kinds []*string
	if json.Unmarshal([]byte(value), &kinds) != nil || kinds == nil || slices.Contains(kinds, nil) {
		return ""
	}
	list := make([]string, 0, len(kinds))
	for _, kind := range kinds {
		list = append(list, strings.ToLower(*kind))
	}
	text, err := json.Marshal(list)
	if err != nil || len(text) > MaxAllowed {
		return ""
	}
	return string(text)
}

// Scanner reads the wanted parameters of a request while its body streams through Write. It holds a few KiB at most.
// It is not safe for concurrent use.
type Scanner struct {
	wanted []string
	query  Params
	// body is what was found so far; it counts once the body has ended well.
	body   Params
	parser parser
	size   int
	err    error
}

// parser reads one encoding. Its error says that the body is malformed.
type parser interface {
	// write takes in the next bytes, and returns how many of them belong to parameters.
	write(p []byte) (parameters int, err error)
	// end is called once, after the last byte.
	end() error
}

// NewScanner returns a scanner that knows the parameters in the query, not decoded and without its question mark. The
// body is read if its content type is one of JSON, urlencoded form and multipart form, whichever the HTTP method.
func NewScanner(query, contentType string, wanted ...string) *Scanner {
	s := &Scanner{wanted: wanted, query: Params{}, body: Params{}}
	f := form{wants: s.wants, found: s.query.first}
	_, _ = f.write([]byte(query)) // no form is malformed
	_ = f.end()
	s.grow(len(query))
	switch kind := strings.ToLower(contentType); {
	case strings.Contains(kind, "multipart/form-data"):
		s.parser = newMultipart(contentType, s.wants, s.body.first)
	case strings.Contains(kind, "application/x-www-form-urlencoded"):
		s.parser = &form{wants: s.wants, found: s.body.first}
	case strings.Contains(kind, "application/json"):
		s.parser = &object{wants: s.wants, found: s.body.first}
	}
	return s
}

func (s *Scanner) wants(name string) bool { return slices.Contains(s.wanted, name) }

// first sets a parameter that is not set yet.
func (p Params) first(name, value string) {
	if _, set := p[name]; !set {
		p[name] = value
	}
}

func (s *Scanner) grow(n int) {
	if s.size += n; s.size > MaxParameters {
		s.err = ErrTooLarge
	}
}

// Write implements io.Writer. Its only error is ErrTooLarge. A malformed body is none: the real server goes on without
// its parameters.
func (s *Scanner) Write(p []byte) (int, error) {
	if s.err == nil && s.parser != nil {
		n, err := s.parser.write(p)
		s.grow(n)
		if err != nil {
			s.parser = nil
			clear(s.body)
		}
	}
	if s.err != nil {
		return 0, s.err
	}
	return len(p), nil
}

// Params are the wanted parameters. It MUST be called once the body has ended, and not before: a body that has not
// ended counts as malformed, and only the query is read. The error is ErrTooLarge.
func (s *Scanner) Params() (Params, error) {
	if s.err != nil {
		return nil, s.err
	}
	if s.parser != nil {
		if s.parser.end() != nil {
			clear(s.body)
		}
		s.parser = nil
	}
	for name, value := range s.body {
		s.query.first(name, value)
	}
	clear(s.body)
	return s.query, nil
}

// ReadParams reads the parameters of a call, to the end of its body. The error is ErrTooLarge, ErrTooLong,
// ErrEncoding, or that of the body, wrapped.
func ReadParams(query, contentType, contentEncoding string, body io.Reader, wanted ...string) (Params, error) {
	body, err := expand(contentEncoding, body)
	if err != nil {
		return nil, err
	}
	s := NewScanner(query, contentType, wanted...)
	n, err := io.Copy(s, io.LimitReader(body, MaxParameters+maxOverhead+1))
	switch {
	case errors.Is(err, ErrTooLarge):
		return nil, ErrTooLarge
	case n > MaxParameters+maxOverhead:
		return nil, ErrTooLong
	case err != nil:
		return nil, fmt.Errorf("reading the parameters: %w", err)
	}
	return s.Params()
}

// expand undoes the compressions that the real server undoes.
func expand(encoding string, body io.Reader) (expanded io.Reader, err error) {
	switch strings.ToLower(encoding) {
	case "":
		return body, nil
	case "gzip":
		expanded, err = gzip.NewReader(body)
	case "deflate":
		expanded, err = zlib.NewReader(body)
	default:
		return nil, ErrEncoding
	}
	if err != nil {
		return nil, fmt.Errorf("reading the compressed parameters: %w", err)
	}
	return expanded, nil
}

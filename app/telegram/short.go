package telegram

import (
	"bytes"
	"io"
	"net/http"
	"sync"
)

// oneWrite is up to how many bytes a body leaves in one write with its headers: net/http's buffer holds both, and what net/http adds.
const oneWrite = 3 << 10

// short is a body that leaves in one write with its headers. net/http writes the headers of any other body first, in a write and a packet
// of their own, unless it knows the body's type: so here that is bytes.Reader. The lease is checked when the headers are about to
// leave. Without it the body's bytes are taken away: net/http finds less than it announced, and writes nothing.
type short struct {
	raw  []byte
	held *heldBody

	mu     sync.Mutex
	reader *bytes.Reader // of the attempt under way
	lost   bool
}

// shortened makes a request's body short, and its further attempts; nil if it stays as it is: it is long, or is not in memory.
func shortened(req *http.Request) *short {
	body, ok := req.Body.(*heldBody)
	if !ok || req.GetBody == nil || req.ContentLength <= 0 || size(req)+req.ContentLength > oneWrite {
		return nil
	}
	raw, err := io.ReadAll(body.ReadCloser)
	if err != nil {
		return nil // it never fails
	}
	s := &short{raw: raw, held: body, reader: bytes.NewReader(raw)}
	req.Body = io.NopCloser(s.reader)
	req.GetBody = s.again
	return s
}

// size is about how many bytes the headers of a request take, without what net/http adds.
func size(req *http.Request) int64 {
	n := len(req.URL.Path) + len(req.URL.RawQuery) + len(req.URL.Host)
	for name, values := range req.Header {
		for _, v := range values {
			n += len(name) + len(v)
		}
	}
	return int64(n)
}

// again is the body for one more attempt.
func (s *short) again() (io.ReadCloser, error) {
	if !s.held.held() {
		return nil, ErrLeaseLost
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reader = bytes.NewReader(s.raw)
	return io.NopCloser(s.reader), nil
}

// leave is called when the headers are about to be written, and the body with them.
func (s *short) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held.held() {
		s.held.written.Store(true) // from now on it may have left
		return
	}
	s.lost = true
	s.reader.Reset(nil)
}

// stopped tells whether the lease had ended when the request was about to leave.
func (s *short) stopped() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

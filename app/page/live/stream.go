package live

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Source is what a page shows.
type Source interface {
	// Frame is what has changed since a version, as JSON of one line, and the version that it leads to; since 0 it is all
	// there is. It is called by one goroutine at a time.
	Frame(since uint64) (frame []byte, version uint64)
}

// Config is what a stream is made of.
type Config struct {
	Source Source
	// Every is how often the source is asked while a client watches.
	Every time.Duration
	// Most is how many may watch at once. A further one gets the event "full", and is to come again.
	Most int
	// Behind is how many frames a watcher may be behind, and how many are kept for that; at least 1. One that is further
	// behind gets all there is, and what lies between is skipped.
	Behind int
}

// writeBound is how long a write to a watcher may take before it is given up.
const writeBound = 5 * time.Second

// Stream sends frames to watchers. Its source is asked at most twice in Every, however many watch and however slowly they
// read. It is safe for concurrent use.
type Stream struct {
	cfg    Config
	closed chan struct{}
	close  func()

	mu       sync.Mutex
	watchers int
	asking   bool
	// frames are the last ones, at most Behind; the first has the number first.
	frames [][]byte
	first  uint64
	// whole is all there is; the frames from the number wholeAt on continue it. nil if none is fresh.
	whole   []byte
	wholeAt uint64
	newcome int           // how many wait for a whole one
	changed chan struct{} // closed at the next frame
}

// NewStream returns a stream without watchers.
func NewStream(cfg Config) *Stream {
	s := &Stream{cfg: cfg, closed: make(chan struct{}), changed: make(chan struct{})}
	s.close = sync.OnceFunc(func() { close(s.closed) })
	return s
}

// Close ends all watching, for good.
func (s *Stream) Close() { s.close() }

// ServeHTTP sends frames until the client goes away, does not read, or the stream is closed.
func (s *Stream) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if !SameSite(req) {
		http.Error(w, "another page may not watch", http.StatusForbidden)
		return
	}
	headers(w.Header())
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	if !s.enter() {
		// A browser would give up for good on a status that is none of success.
		_ = send(w, []byte("retry: 10000\nevent: full\ndata: {}\n\n"))
		return
	}
	defer s.leave()
	if send(w, []byte("retry: 1000\n\n")) != nil {
		return
	}
	for next, out := s.all(req.Context()); out != nil; next, out = s.after(req.Context(), next) {
		for _, frame := range out {
			if send(w, frame) != nil {
				return
			}
		}
	}
}

// send writes to a client that reads; to another it fails.
func send(w http.ResponseWriter, frame []byte) error {
	rc := http.NewResponseController(w)
	// A server's WriteTimeout is over before the watching is.
	_ = rc.SetWriteDeadline(time.Now().Add(writeBound)) // a writer without deadlines is a test's
	if _, err := w.Write(frame); err != nil {
		return err //nolint:wrapcheck // the watcher is gone
	}
	return rc.Flush() //nolint:wrapcheck // as above
}

// enter takes a place, if there is one.
func (s *Stream) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchers >= s.cfg.Most {
		return false
	}
	s.watchers++
	if !s.asking {
		s.asking = true
		go s.ask()
	}
	return true
}

func (s *Stream) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers--
}

// all waits for all there is; nil if the watching is over. It returns the number of the frame that follows.
func (s *Stream) all(ctx context.Context) (next uint64, out [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newcome++
	defer func() { s.newcome-- }()
	for s.whole == nil {
		changed := s.changed
		s.mu.Unlock()
		goes := s.wait(ctx, changed)
		s.mu.Lock()
		if !goes {
			return 0, nil
		}
	}
	return s.wholeAt, [][]byte{s.whole}
}

// after waits for the frames from a number on. One that is too far behind gets all there is.
func (s *Stream) after(ctx context.Context, next uint64) (uint64, [][]byte) {
	for {
		s.mu.Lock()
		end, changed := s.first+uint64(len(s.frames)), s.changed
		if next < s.first {
			s.mu.Unlock()
			return s.all(ctx)
		}
		if next < end {
			out := slices.Clone(s.frames[next-s.first:])
			s.mu.Unlock()
			return end, out
		}
		s.mu.Unlock()
		if !s.wait(ctx, changed) {
			return 0, nil
		}
	}
}

// wait returns false if the watching is over.
func (s *Stream) wait(ctx context.Context, changed <-chan struct{}) bool {
	select {
	case <-changed:
		return true
	case <-ctx.Done():
	case <-s.closed:
	}
	return false
}

// ask asks the source again and again, for as long as a client watches.
func (s *Stream) ask() {
	tick := time.NewTicker(s.cfg.Every)
	defer tick.Stop()
	for version := uint64(0); s.publish(&version); {
		select {
		case <-tick.C:
		case <-s.closed:
			return
		}
	}
}

// publish asks the source and hands on what it has; false if no client watches. A client that watches gets what has changed since
// version, newcomers all there is.
func (s *Stream) publish(version *uint64) bool {
	s.mu.Lock()
	if s.watchers == 0 {
		s.asking = false
		s.first, s.frames, s.whole = s.first+uint64(len(s.frames)), nil, nil
		s.mu.Unlock()
		return false
	}
	newcomers, begins := s.newcome > 0, *version == 0
	s.mu.Unlock()

	var change, whole []byte
	if !begins {
		change, *version = s.cfg.Source.Frame(*version)
	}
	if newcomers || begins {
		var reached uint64
		whole, reached = s.cfg.Source.Frame(0) // later than the change: those that follow miss nothing
		if begins {
			*version = max(1, reached)
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if change != nil {
		if s.frames = append(s.frames, event(change)); len(s.frames) > s.cfg.Behind {
			s.frames, s.first = s.frames[1:], s.first+1
		}
	}
	s.whole = nil
	if whole != nil {
		s.whole, s.wholeAt = event(whole), s.first+uint64(len(s.frames))
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return true
}

// event is a frame as server-sent events have it.
func event(frame []byte) []byte {
	return slices.Concat([]byte("data: "), frame, []byte("\n\n"))
}

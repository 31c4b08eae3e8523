package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"habot/app/turns"
)

// Bounds of what one replica takes from another.
const (
	// maxID bounds names, addresses and ids of queries, maxAllowed a list of kinds. What is longer is left out: a copy states
	// its kinds again with each poll, and no real query has such an id.
	maxID      = 256
	maxAllowed = 2 << 10
	// maxEntries bounds the deltas in a message, maxEntry their bytes: more than that is sent as a whole.
	maxEntries = 256
	maxEntry   = 1 << 20
	maxRemoved = 4 * turns.MaxReplay
)

// ErrMessage says that a message is none of a mirror: malformed, or out of bounds.
var ErrMessage = errors.New("not a valid message of a mirror")

// format is the version of the encoding; a message begins with it.
const format = 1

// request is what a primary sends.
type request struct {
	// from is the sender's process, term its claim's timestamp.
	from string
	term int64
	// collect asks for what the replica knows. Otherwise entries are deltas, in order.
	collect bool
	entries []entry
}

// entry is a delta that was made ago.
type entry struct {
	ago   time.Duration
	delta turns.Delta
}

// answer is what a replica knows after a request.
type answer struct {
	replica string
	// before is what it knew before the request; version what it knows now.
	before, version turns.Version
	// floor is the latest term that it has been asked by: it takes nothing of an earlier one.
	floor int64
	// missed asks for all there is.
	missed bool
	// state is all that it knows, if it was asked for and it knows anything.
	state *turns.Delta
}

func (r request) encode() []byte {
	var w writer
	w.byte(format)
	w.text(r.from, maxID)
	w.int(r.term)
	w.bool(r.collect)
	w.uint(uint64(len(r.entries)))
	for _, e := range r.entries {
		w.span(e.ago)
		w.delta(e.delta)
	}
	return w.b
}

func decodeRequest(b []byte) (r request, err error) {
	p := reader{b: b}
	p.format()
	r.from, r.term, r.collect = p.text(maxID), p.int(), p.bool()
	for range p.count(maxEntries) {
		r.entries = append(r.entries, entry{p.span(), p.delta()})
		if p.err != nil {
			break
		}
	}
	return r, p.end()
}

func (a answer) encode() []byte {
	var w writer
	w.byte(format)
	w.text(a.replica, maxID)
	w.version(a.before)
	w.version(a.version)
	w.int(a.floor)
	w.bool(a.missed)
	w.bool(a.state != nil)
	if a.state != nil {
		w.delta(*a.state)
	}
	return w.b
}

func decodeAnswer(b []byte) (a answer, err error) {
	p := reader{b: b}
	p.format()
	a.replica, a.before, a.version, a.floor, a.missed = p.text(maxID), p.version(), p.version(), p.int(), p.bool()
	if p.bool() {
		d := p.delta()
		a.state = &d
	}
	return a, p.end()
}

// writer appends to a message.
type writer struct{ b []byte }

func (w *writer) byte(c byte)   { w.b = append(w.b, c) }
func (w *writer) uint(n uint64) { w.b = binary.AppendUvarint(w.b, n) }
func (w *writer) int(n int64)   { w.b = binary.AppendVarint(w.b, n) }

func (w *writer) span(d time.Duration) { w.int(int64(d)) }

func (w *writer) bool(b bool) {
	if b {
		w.byte(1)
	} else {
		w.byte(0)
	}
}

func (w *writer) bytes(b []byte) {
	w.uint(uint64(len(b)))
	w.b = append(w.b, b...)
}

// text is empty if it is longer than bound.
func (w *writer) text(s string, bound int) {
	if len(s) > bound {
		s = ""
	}
	w.bytes([]byte(s))
}

func (w *writer) version(v turns.Version) {
	w.int(v.Term)
	w.uint(v.Seq)
}

func (w *writer) delta(d turns.Delta) {
	w.version(d.Version)
	w.bool(d.Full)
	w.uint(uint64(len(d.Kept)))
	for _, k := range d.Kept {
		w.kept(k)
	}
	w.uint(uint64(len(d.Removed)))
	for _, id := range d.Removed {
		w.int(id)
	}
	w.bool(d.Roster != nil)
	if d.Roster != nil {
		w.roster(*d.Roster)
	}
}

func (w *writer) kept(k turns.Kept) {
	w.int(k.ID)
	w.int(k.Chat)
	w.text(k.Query, maxID)
	w.span(k.ExpiresIn)
	w.span(k.GivenAgo)
	w.int(int64(k.Again))
	w.bool(k.Pending)
	w.bool(k.Raw != nil)
	if k.Raw != nil {
		w.bytes(k.Raw)
	}
}

func (w *writer) roster(r turns.Roster) {
	w.text(string(r.Active), maxID)
	w.text(string(r.Former), maxID)
	w.span(r.FormerAgo)
	w.text(string(r.Reason), maxID)
	w.span(r.SinceAgo)
	w.uint(uint64(len(r.Members)))
	for _, m := range r.Members {
		w.text(string(m.ID), maxID)
		w.text(m.Address, maxID)
		for _, b := range []bool{m.Polled, m.Dead, m.Ended, m.Kept, m.Waits, m.Waiting} {
			w.bool(b)
		}
		w.span(m.WaitingAgo)
		w.span(m.HeardAgo)
		w.text(m.Allowed, maxAllowed)
	}
}

// reader takes from a message. After an error it returns zeroes.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrMessage, what)
	}
	r.b = nil
}

// end is the error of the whole message.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("something follows")
	}
	return r.err
}

func (r *reader) format() {
	if r.byte() != format {
		r.fail("another format")
	}
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail("it is cut short")
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uint() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.fail("no number")
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) int() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.fail("no number")
		return 0
	}
	r.b = r.b[size:]
	return n
}

// maxSpan bounds durations, so that none leads beyond the range of instants.
const maxSpan = 100 * 365 * 24 * time.Hour

func (r *reader) span() time.Duration {
	d := time.Duration(r.int())
	if d < -maxSpan || d > maxSpan {
		r.fail("a duration is out of bounds")
		return 0
	}
	return d
}

func (r *reader) bool() bool {
	switch r.byte() {
	case 0:
		return false
	case 1:
		return true
	}
	r.fail("no truth value")
	return false
}

// count is how many of something follow, each of a byte at least.
func (r *reader) count(bound int) int {
	n := r.uint()
	if n > uint64(min(bound, len(r.b))) { //nolint:gosec // not negative
		r.fail("too many")
		return 0
	}
	return int(n) //nolint:gosec // bounded
}

func (r *reader) bytes(bound int) []byte {
	n := r.count(bound)
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) text(bound int) string { return string(r.bytes(bound)) }

func (r *reader) id() turns.CopyID { return turns.CopyID(r.text(maxID)) }

func (r *reader) version() turns.Version { return turns.Version{Term: r.int(), Seq: r.uint()} }

func (r *reader) delta() turns.Delta {
	d := turns.Delta{Version: r.version(), Full: r.bool()}
	for range r.count(turns.MaxReplay) {
		d.Kept = append(d.Kept, r.kept())
	}
	for range r.count(maxRemoved) {
		d.Removed = append(d.Removed, r.int())
	}
	if r.bool() {
		roster := r.roster()
		d.Roster = &roster
	}
	return d
}

func (r *reader) kept() turns.Kept {
	k := turns.Kept{Update: turns.Update{ID: r.int(), Chat: r.int(), Query: r.text(maxID)}}
	k.ExpiresIn, k.GivenAgo, k.Again, k.Pending = r.span(), r.span(), int(r.int()), r.bool()
	if r.bool() {
		// A copy: it outlives the message, of which there may be much more.
		k.Raw = append([]byte{}, r.bytes(turns.MaxReplayBytes)...)
	}
	return k
}

func (r *reader) roster() turns.Roster {
	s := turns.Roster{Active: r.id(), Former: r.id(), FormerAgo: r.span(), Reason: turns.Reason(r.text(maxID)), SinceAgo: r.span()}
	for range r.count(turns.MaxCopies) {
		m := turns.Member{ID: r.id(), Address: r.text(maxID)}
		for _, b := range []*bool{&m.Polled, &m.Dead, &m.Ended, &m.Kept, &m.Waits, &m.Waiting} {
			*b = r.bool()
		}
		m.WaitingAgo, m.HeardAgo, m.Allowed = r.span(), r.span(), r.text(maxAllowed)
		s.Members = append(s.Members, m)
	}
	return s
}

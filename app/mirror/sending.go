package mirror

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"habot/app/turns"
)

// sending hands one term's deltas to the other replicas.
type sending struct {
	m          *Mirror
	term       int64
	replicated func(seq uint64)
	from       turns.Version   // what the term began from
	ctx        context.Context //nolint:containedctx // the term's
	stop       context.CancelFunc
	stirred    chan struct{} // there is something to send, or to look at
	done       chan struct{}
	flying     sync.WaitGroup

	// Guarded by the mirror's mu.
	log    []logged // the last deltas, in order; others get all there is
	size   int      // of the log, in bytes of a message
	seq    uint64   // of the last delta
	others map[string]*other
	looked uint64        // the last seq with which the others were looked at
	told   uint64        // the last seq that was reported as replicated
	moved  chan struct{} // closed when another replica has got something, or failed
}

// logged is a delta that was made at an instant.
type logged struct {
	entry
	at   turns.Instant
	size int
}

// other is another replica, by address.
type other struct {
	busy    bool
	replica string
	// seq is what it has; whole: it has to be given all there is.
	seq       uint64
	whole     bool
	sentWhole bool
	tried     turns.Instant // when it was sent something last
	failing   bool
}

// add keeps a delta to be sent. It MUST be called with mu held.
func (s *sending) add(e entry, now turns.Instant) {
	var w writer
	w.delta(e.delta)
	size := len(w.b) + binary.MaxVarintLen64 // its age
	s.log = append(s.log, logged{e, now, size})
	s.size += size
	s.seq = e.delta.Seq
	for len(s.log) > maxEntries || s.size > maxEntry && len(s.log) > 1 {
		s.size -= s.log[0].size
		s.log = s.log[1:]
	}
}

// run sends until the term ends.
func (s *sending) run() {
	defer close(s.done)
	defer s.flying.Wait()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	s.count() // alone it is a majority
	for {
		s.send()
		select {
		case <-s.stirred:
			s.count()
		case <-look.C:
		case <-s.ctx.Done():
			return
		}
	}
}

// send begins to send to those that lack something, or were not asked for a while.
func (s *sending) send() {
	addrs := s.m.cfg.Transport.Addresses()
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	now := s.m.cfg.Now()
	s.looked = s.seq
	defer s.moves()
	for addr, o := range s.others {
		if !o.busy && !slices.Contains(addrs, addr) {
			delete(s.others, addr)
		}
	}
	for _, addr := range addrs {
		o := s.others[addr]
		if o == nil {
			o = &other{whole: true, tried: now.Add(-lookAfter)}
			s.others[addr] = o
		}
		waits := lookAfter
		switch {
		case o.failing:
			waits = lookEvery / 2
		case o.replica == s.m.cfg.Self:
			waits = 10 * lookAfter
		case o.seq < s.seq:
			waits = 0
		}
		if o.busy || s.seq == 0 || now.Sub(o.tried) < waits {
			continue
		}
		o.busy = true
		s.flying.Go(func() { s.keepSending(addr, o) })
	}
}

// keepSending sends to an address until it has all there is, or fails.
func (s *sending) keepSending(addr string, o *other) {
	for more := true; more; {
		s.m.mu.Lock()
		body := s.next(o)
		s.m.mu.Unlock()
		if body == nil {
			more = false
		} else {
			ctx, cancel := context.WithTimeout(s.ctx, patience)
			a, err := s.m.exchange(ctx, addr, body)
			cancel()
			more = s.took(addr, o, a, err)
		}
	}
	s.m.mu.Lock()
	o.busy = false
	s.moves()
	s.m.mu.Unlock()
	signal(s.stirred)
}

// next is what an address is to be sent; nil if the term is over. It MUST be called with mu held.
func (s *sending) next(o *other) []byte {
	now := s.m.cfg.Now()
	o.tried = now
	if s.m.known.Version().Term != s.term || s.ctx.Err() != nil {
		return nil // another term's came in meanwhile
	}
	r := request{from: s.m.cfg.Self, term: s.term}
	first := slices.IndexFunc(s.log, func(l logged) bool { return l.delta.Seq > o.seq })
	o.sentWhole = o.whole || first == 0 && s.log[0].delta.Seq != o.seq+1
	switch {
	case o.sentWhole:
		r.entries = []entry{{delta: s.m.whole(now)}}
	case first >= 0:
		for _, l := range s.log[first:] {
			r.entries = append(r.entries, entry{now.Sub(l.at), l.delta})
		}
	}
	return r.encode()
}

// took takes in an answer. True: there is more to send to that address.
func (s *sending) took(addr string, o *other, a answer, err error) (more bool) {
	s.m.mu.Lock()
	defer func() {
		s.moves()
		s.m.mu.Unlock()
		s.count()
	}()
	log := s.m.cfg.Logger
	o.failing = err != nil
	switch {
	case err != nil:
		log.Debug("a replica did not take what changed in turns", "addr", addr, "error", err)
		return false
	case a.replica == s.m.cfg.Self:
		o.replica = a.replica
		return false
	case a.floor > s.term:
		log.Debug("a replica knows a later term", "addr", addr, "term", s.term, "later", a.floor)
		o.failing = true
		return false
	}
	if a.before.Term < s.term && a.before.Compare(s.from) > 0 {
		log.Warn("a replica knew more of copies than the term began from", "addr", addr, "knew_term", a.before.Term, "knew_seq", a.before.Seq)
	}
	hadWhole := o.sentWhole
	o.replica, o.seq, o.whole = a.replica, 0, true
	if a.version.Term == s.term {
		o.seq, o.whole = a.version.Seq, a.missed
	}
	o.failing = hadWhole && o.whole // it is of another mind: not at once again
	return !o.failing && (o.whole || o.seq < s.seq)
}

// moves wakes those that wait for others. It MUST be called with mu held.
func (s *sending) moves() {
	if s.moved != nil {
		close(s.moved)
		s.moved = nil
	}
}

// progress is closed when another replica has got something, or failed.
func (s *sending) progress() <-chan struct{} {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.moved == nil {
		s.moved = make(chan struct{})
	}
	return s.moved
}

// count reports what a majority has.
func (s *sending) count() {
	c := s.m.seen()
	s.m.mu.Lock()
	has := map[string]uint64{s.m.cfg.Self: s.seq}
	for _, o := range s.others {
		if o.replica != "" && o.replica != s.m.cfg.Self {
			has[o.replica] = max(has[o.replica], o.seq)
		}
	}
	seqs := make([]uint64, 0, len(has))
	for _, seq := range has {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	var all uint64
	if quorum := max(c.Quorum, 1); len(seqs) >= quorum {
		all = seqs[len(seqs)-quorum]
	}
	more := all > s.told
	s.told = max(s.told, all)
	s.m.mu.Unlock()
	if more {
		s.replicated(all)
	}
}

// settled reports whether all replicas that answer have all there is.
func (s *sending) settled() bool {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.looked < s.seq {
		return false
	}
	for _, o := range s.others {
		if !o.failing && o.replica != s.m.cfg.Self && o.seq < s.seq {
			return false
		}
	}
	return true
}

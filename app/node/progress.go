package node

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"habot/app/election"
)

// progress tells every standby the latest, one message at a time per address: what came meanwhile
// is told by the next. It returns what is told, with its place in the sequence. notes says that there are new ones. Of more
// updates than others take in one message the lowest are told, which Telegram gives a successor first: it answers the
// others again.
func (s *sender) progress(p election.Progress, notes bool) election.Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	if notes {
		s.noted = s.version
		clear(s.knows)
	}
	p.Sequence = s.version
	p.Handled = p.Handled[:min(len(p.Handled), election.MaxHandled)]
	s.latest = p
	addrs := s.n.cfg.Transport.Addresses()
	maps.DeleteFunc(s.knows, func(addr string, _ uint64) bool { return !slices.Contains(addrs, addr) })
	for _, addr := range addrs {
		if _, busy := s.telling[addr]; busy || s.ctx.Err() != nil {
			continue
		}
		s.beginTelling(addr)
	}
	return p
}

// beginTelling tells the latest to an address to which nothing is under way. It MUST be called with mu held.
func (s *sender) beginTelling(addr string) {
	s.telling[addr] = s.n.cfg.Clock.Read().Now
	s.running++
	go func() {
		defer s.ended()
		s.keepTelling(addr)
	}()
}

// retellAll is retell for all there are.
func (s *sender) retellAll() {
	for _, addr := range s.n.cfg.Transport.Addresses() {
		s.retell(addr)
	}
}

// retell tells the latest to a replica that was just heard and may not know it: it has been started anew, or was away.
func (s *sender) retell(addr string) {
	s.n.mu.Lock()
	acting := s.n.telling != nil
	s.n.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	_, busy := s.telling[addr]
	if version, told := s.knows[addr]; acting && !busy && s.ctx.Err() == nil && (!told || version < s.noted) {
		s.beginTelling(addr)
	}
}

func (s *sender) keepTelling(addr string) {
	var told uint64
	for {
		s.mu.Lock()
		if told == s.version || s.ctx.Err() != nil {
			delete(s.telling, addr)
			s.mu.Unlock()
			signal(s.told)
			return
		}
		s.telling[addr] = s.n.cfg.Clock.Read().Now
		p := s.latest
		told = s.version
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(s.ctx, s.bound())
		a, err := s.n.cfg.Transport.Progress(ctx, addr, p)
		switch {
		case err != nil:
			s.n.cfg.Logger.Debug("progress was not told", slog.String("addr", addr), slog.Any("error", err))
		default:
			if a.Unknown != nil {
				s.n.handIn(*a.Unknown)
			}
			s.mu.Lock()
			s.knows[addr] = told
			s.mu.Unlock()
		}
		cancel()
	}
}

// allTold waits until every standby knows the latest progress, but not for one that is slow, not for
// longer than a successor may be kept waiting, and not once ctx ends.
func (s *sender) allTold(ctx context.Context) {
	slow := s.n.cfg.Election.StopMargin()
	latest := s.n.cfg.Clock.Read().Now.Add(s.n.cfg.Election.HoldBack())
	look := time.NewTicker(slow / 4)
	defer look.Stop()
	for ctx.Err() == nil {
		now := s.n.cfg.Clock.Read().Now
		if now >= latest || !s.tellingSince(now.Add(-slow)) {
			return
		}
		select {
		case <-s.told:
		case <-look.C:
		case <-ctx.Done():
		}
	}
}

// tellingSince tells whether a message is under way that left after from.
func (s *sender) tellingSince(from election.Instant) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, since := range s.telling {
		if since > from {
			return true
		}
	}
	return false
}

// knowing are the other replicas that know the latest notes.
func (s *sender) knowing() map[election.ReplicaID]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[election.ReplicaID]bool{}
	for id, addr := range s.address {
		if version, told := s.knows[addr]; told && version >= s.noted && id != s.n.cfg.Election.Self {
			all[id] = true
		}
	}
	return all
}

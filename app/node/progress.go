package node

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"habot/app/election"
)

// progress sends every standby the latest, one message at a time per address: what came meanwhile
// is in the next. It returns what is sent, with its place in the sequence. notes says that there are new ones. Of more
// updates than others take in one message the lowest are sent, which Telegram gives a successor first: it answers the
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
	maps.DeleteFunc(s.without, func(addr string, _ bool) bool { return !slices.Contains(addrs, addr) })
	for _, addr := range addrs {
		if _, busy := s.sending[addr]; busy || s.ctx.Err() != nil || !s.wants(addr) {
			continue
		}
		s.beginSending(addr)
	}
	return p
}

// wants reports whether the latest goes to an address. A witness keeps notes, which a majority is to know and hands down. What was
// handled it does not need: only a successor's own memory of that is used, and it never is one. It MUST be called with mu held.
func (s *sender) wants(addr string) bool { return !s.votes[addr] || s.knows[addr] < s.noted }

// beginSending sends the latest to an address to which nothing is under way. It MUST be called with mu held.
func (s *sender) beginSending(addr string) {
	s.sending[addr] = s.n.cfg.Clock.Read().Now
	s.running++
	go func() {
		defer s.ended()
		s.keepSending(addr)
	}()
}

// resendAll is resend for all there are.
func (s *sender) resendAll() {
	for _, addr := range s.n.cfg.Transport.Addresses() {
		s.resend(addr)
	}
}

// resend sends the latest to a replica that has just answered and may not know it: it was restarted, or was away.
func (s *sender) resend(addr string) {
	s.n.mu.Lock()
	acting := s.n.reporter != nil
	s.n.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	_, busy := s.sending[addr]
	if version, known := s.knows[addr]; acting && !busy && s.ctx.Err() == nil && (!known || version < s.noted) {
		s.beginSending(addr)
	}
}

func (s *sender) keepSending(addr string) {
	var sent uint64
	for {
		s.mu.Lock()
		if sent == s.version || sent > 0 && !s.wants(addr) || s.ctx.Err() != nil {
			delete(s.sending, addr)
			s.mu.Unlock()
			signal(s.acked)
			return
		}
		s.sending[addr] = s.n.cfg.Clock.Read().Now
		p := s.latest
		sent = s.version
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(s.ctx, s.bound())
		a, err := s.n.cfg.Transport.Progress(ctx, addr, p)
		switch {
		case err != nil:
			s.n.cfg.Logger.Debug("progress was not acknowledged", slog.String("addr", addr), slog.Any("error", err))
		default:
			if a.Unknown != nil {
				s.n.handIn(*a.Unknown)
			}
			s.mu.Lock()
			s.knows[addr] = sent
			if a.WithoutNotes {
				s.without[addr] = true
			} else {
				delete(s.without, addr)
			}
			s.mu.Unlock()
		}
		cancel()
	}
}

// allAcked waits until every standby knows the latest progress, but not for one that is slow, not for
// longer than a successor may be kept waiting, and not once ctx ends.
func (s *sender) allAcked(ctx context.Context) {
	slow := s.n.cfg.Election.StopMargin()
	latest := s.n.cfg.Clock.Read().Now.Add(s.n.cfg.Election.HoldBack())
	look := time.NewTicker(slow / 4)
	defer look.Stop()
	for ctx.Err() == nil {
		now := s.n.cfg.Clock.Read().Now
		if now >= latest || !s.sendingSince(now.Add(-slow)) {
			return
		}
		select {
		case <-s.acked:
		case <-look.C:
		case <-ctx.Done():
		}
	}
}

// sendingSince reports whether a message is under way that left after from.
func (s *sender) sendingSince(from election.Instant) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, since := range s.sending {
		if since > from {
			return true
		}
	}
	return false
}

// answered are the other replicas that have taken the latest notes and handed in theirs, as far as they take and have any.
func (s *sender) answered() map[election.ReplicaID]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[election.ReplicaID]bool{}
	for id, addr := range s.address {
		if version, known := s.knows[addr]; known && version >= s.noted && id != s.n.cfg.Election.Self {
			all[id] = true
		}
	}
	return all
}

// knowing are the other replicas that know the latest notes.
func (s *sender) knowing() map[election.ReplicaID]bool {
	all := s.answered()
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(all, func(id election.ReplicaID, _ bool) bool { return s.without[s.address[id]] })
	return all
}

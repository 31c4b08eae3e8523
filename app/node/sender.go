package node

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"habot/app/election"
)

// What may be under way to one address at once: more would pile up before a peer that hangs.
const (
	maxClaims  = 4
	maxQueries = 1
	maxEnds    = 4
	maxLeaves  = 2
)

// lastWord bounds saying that this replica has left: it is worth more than an answer that is late for an election.
const lastWord = 500 * time.Millisecond

// sender takes messages to all addresses, each on a goroutine of its own so that one that hangs
// holds up no other, and brings the answers back to the loop.
type sender struct {
	n    *Node
	ctx  context.Context //nolint:containedctx // set once by Run: the life of what is sent
	idle chan struct{}   // told when nothing is under way any more
	told chan struct{}   // told when a standby knows the latest progress

	mu       sync.Mutex
	running  int
	underway map[slot]int
	address  map[election.ReplicaID]string // where each replica answered last
	left     map[string]bool               // addresses whose replica has left: nobody answers there
	latest   election.Progress
	version  uint64
	telling  map[string]election.Instant // addresses to which progress is under way, and since when
}

type slot struct {
	addr string
	kind byte
}

func newSender(n *Node) *sender {
	return &sender{
		n:        n,
		ctx:      context.Background(),
		idle:     make(chan struct{}, 1),
		told:     make(chan struct{}, 1),
		underway: map[slot]int{},
		address:  map[election.ReplicaID]string{},
		left:     map[string]bool{},
		telling:  map[string]election.Instant{},
	}
}

// each calls f for every address at once, at most limit of a kind per address, and then done, if no
// address was left out: below a majority a candidate wins by what everybody says.
func (s *sender) each(kind byte, limit int, f func(ctx context.Context, addr string) error, done func()) {
	var round sync.WaitGroup
	everybody := s.n.cfg.Transport.Complete()
	within := s.n.cfg.Election.QueryTimeout()
	if kind == 'd' {
		within = max(within, lastWord)
	}
	for _, addr := range s.n.cfg.Transport.Addresses() {
		at := slot{addr, kind}
		s.mu.Lock()
		full := s.underway[at] >= limit || kind == 'd' && s.left[addr]
		if !full {
			s.underway[at]++
		}
		s.mu.Unlock()
		if full {
			everybody = false
			continue
		}
		round.Add(1)
		s.spawn(func() {
			defer round.Done()
			ctx, cancel := context.WithTimeout(s.ctx, within)
			defer cancel()
			err := f(ctx, addr)
			s.mu.Lock()
			if s.underway[at]--; s.underway[at] == 0 {
				delete(s.underway, at)
			}
			s.mu.Unlock()
			if err != nil {
				s.n.cfg.Logger.Debug("a replica did not answer", "addr", addr, "error", err)
				s.n.cfg.Transport.Refresh()
			}
		})
	}
	if done != nil && everybody {
		s.spawn(func() {
			round.Wait()
			done()
		})
	}
}

// spawn runs f on a goroutine that settle waits for.
func (s *sender) spawn(f func()) {
	s.mu.Lock()
	s.running++
	s.mu.Unlock()
	go func() {
		defer s.ended()
		f()
	}()
}

func (s *sender) ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running--; s.running == 0 {
		signal(s.idle)
	}
}

func (s *sender) quiet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running == 0
}

func (s *sender) query() {
	s.each('q', maxQueries, func(ctx context.Context, addr string) error {
		sentAt := s.n.cfg.Clock.Read().Now
		st, err := s.n.cfg.Transport.Status(ctx, addr)
		if err != nil {
			return err
		}
		s.met(st.Replica, addr)
		s.n.post(func(election.Reading) {
			s.n.step(election.StatusReceived{Status: st, SentAt: sentAt})
		})
		return nil
	}, nil)
}

func (s *sender) claim(out election.SendClaim) {
	s.each('c', maxClaims, func(ctx context.Context, addr string) error {
		sentAt := s.n.cfg.Clock.Read().Now
		a, err := s.n.cfg.Transport.Claim(ctx, addr, out.Request)
		if err != nil {
			return err
		}
		s.n.metrics.claimSeconds.Observe(s.n.cfg.Clock.Read().Now.Sub(sentAt).Seconds())
		s.met(a.From.Replica, addr)
		s.n.post(func(election.Reading) {
			s.n.step(election.AnswerReceived{Answer: a, SentAt: sentAt})
		})
		return nil
	}, func() {
		s.n.post(func(election.Reading) { s.n.step(election.RoundDone{Round: out.Round}) })
	})
}

func (s *sender) end(req election.EndRequest) {
	s.each('e', maxEnds, func(ctx context.Context, addr string) error {
		return s.n.cfg.Transport.End(ctx, addr, req)
	}, nil)
}

func (s *sender) leave(req election.LeaveRequest) {
	kind := byte('l')
	if req.Departed {
		kind = 'd'
	}
	s.each(kind, maxLeaves, func(ctx context.Context, addr string) error {
		sentAt := s.n.cfg.Clock.Read().Now
		a, err := s.n.cfg.Transport.Leave(ctx, addr, req)
		if err != nil {
			return err
		}
		s.n.post(func(election.Reading) {
			s.n.step(election.LeaveAnswerReceived{Answer: a, SentAt: sentAt})
		})
		return nil
	}, nil)
}

// progress tells every standby the latest, one message at a time per address: what came meanwhile
// is told by the next. It returns what is told, with its place in the sequence.
func (s *sender) progress(p election.Progress) election.Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	p.Sequence = s.version
	s.latest = p
	for _, addr := range s.n.cfg.Transport.Addresses() {
		if _, busy := s.telling[addr]; busy || s.ctx.Err() != nil {
			continue
		}
		s.telling[addr] = s.n.cfg.Clock.Read().Now
		s.running++
		go func() {
			defer s.ended()
			s.keepTelling(addr)
		}()
	}
	return p
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
		ctx, cancel := context.WithTimeout(s.ctx, s.n.cfg.Election.QueryTimeout())
		if err := s.n.cfg.Transport.Progress(ctx, addr, p); err != nil {
			s.n.cfg.Logger.Debug("progress was not told", slog.String("addr", addr), slog.Any("error", err))
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

// signal tells whoever waits, or will wait next.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func (s *sender) met(id election.ReplicaID, addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other, at := range s.address {
		if at == addr && other != id {
			delete(s.address, other)
		}
	}
	s.address[id] = addr
	delete(s.left, addr)
}

// hasLeft notes that nobody answers where a replica did.
func (s *sender) hasLeft(id election.ReplicaID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if addr, known := s.address[id]; known {
		delete(s.address, id)
		s.left[addr] = true
	}
}

func (s *sender) addressOf(id election.ReplicaID) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address[id]
}

// settle waits until everything sent has been answered, at most for d.
func (s *sender) settle(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	for !s.quiet() {
		select {
		case <-s.idle:
		case e := <-s.n.events: // answers under way need room
			e.f(s.n.cfg.Clock.Read())
		case <-t.C:
			return
		}
	}
}

// wait waits for the goroutines of a sender whose context has ended.
func (s *sender) wait() { s.settle(time.Second) }

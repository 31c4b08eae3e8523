package node

import (
	"context"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
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

// lastWord bounds the wait for answers to saying that this replica has left: it is worth more than an answer that is late for an election.
const lastWord = 500 * time.Millisecond

// patience bounds a request to another replica, or the election's QueryTimeout if that is longer. It is much longer
// than most answers are of use, because a request that is given up takes its connection with it: where many replicas
// share few processors, each answer that comes too late would cost a handshake, and so make the next come later still.
// A path that is broken is found by TCP instead, which ends the connection.
const patience = 3 * time.Second

// maxResting goroutines rest: as many as a renewal of the usual three replicas takes, and questions beside it.
const maxResting = 4

// sender takes messages to all addresses, each on a goroutine of its own so that one that hangs does not delay the
// others. It brings the answers back to the loop.
type sender struct {
	n     *Node
	ctx   context.Context //nolint:containedctx // set once by Run: the life of what is sent
	idle  chan struct{}   // signalled when nothing is under way any more
	acked chan struct{}   // signalled when a standby knows the latest progress

	// Owned by the loop: the address that was asked last for its status.
	asked string

	tasks   chan func() // to a goroutine that rests
	resting atomic.Int32

	mu       sync.Mutex
	running  int
	underway map[slot][]election.Instant   // since when, the oldest first
	granted  map[string]election.Claim     // by address: what was granted there last
	address  map[election.ReplicaID]string // where each replica answered last
	caughtUp map[election.ReplicaID]bool   // replicas that were asked for their history, while this process was new
	left     map[string]bool               // addresses whose replica has left: none answers there
	votes    map[string]bool               // addresses of witnesses
	latest   election.Progress
	version  uint64
	noted    uint64                      // the version with which the notes came that are the latest
	knows    map[string]uint64           // by address, the version that was taken last
	without  map[string]bool             // addresses of replicas that take no notes, and have none to hand in
	sending  map[string]election.Instant // addresses to which progress is under way, and since when
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
		acked:    make(chan struct{}, 1),
		tasks:    make(chan func()),
		underway: map[slot][]election.Instant{},
		granted:  map[string]election.Claim{},
		address:  map[election.ReplicaID]string{},
		caughtUp: map[election.ReplicaID]bool{},
		left:     map[string]bool{},
		votes:    map[string]bool{},
		sending:  map[string]election.Instant{},
		knows:    map[string]uint64{},
		without:  map[string]bool{},
	}
}

// bound is how long a request is waited for.
func (s *sender) bound() time.Duration { return max(patience, s.n.cfg.Election.QueryTimeout()) }

// begin takes room for another request to an address, if fewer than limit are under way and the last left at least
// apart ago, longer the more there are. Otherwise overdue says that one should have been answered by now, so that the
// address counts as asked.
func (s *sender) begin(at slot, now election.Instant, m message) (room, overdue bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	since := s.underway[at]
	apart := m.apart + time.Duration(len(since)-1)*s.n.cfg.Election.Resend()
	if len(since) == 0 || (len(since) < m.limit && now.Sub(since[len(since)-1]) >= apart) {
		s.underway[at] = append(since, now)
		return true, false
	}
	return false, now.Sub(since[0]) >= s.n.cfg.Election.QueryTimeout()
}

// finish gives the room of a request back that began at since.
func (s *sender) finish(at slot, since election.Instant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.underway[at]
	i := slices.Index(left, since)
	if s.underway[at] = slices.Delete(left, i, i+1); len(left) == 1 {
		delete(s.underway, at)
	}
}

// message is what goes to several addresses.
type message struct {
	kind byte
	// limit bounds how many of the kind are under way to an address at once; the next leaves apart after the last.
	limit int
	apart time.Duration
	send  func(ctx context.Context, addr string) error
	// done, if set, is called when all that were asked have answered or failed, after QueryTimeout at the latest, if
	// no address was left out: below a majority a candidate needs the answer of every replica.
	done func()
}

// each sends a message to all addresses at once. complete: they are all there are.
func (s *sender) each(addrs []string, complete bool, m message) {
	var round sync.WaitGroup
	now := s.n.cfg.Clock.Read().Now
	for _, addr := range addrs {
		at := slot{addr, m.kind}
		room, overdue := s.begin(at, now, m)
		if !room {
			complete = complete && overdue
			continue
		}
		round.Add(1)
		s.spawn(func() {
			defer round.Done()
			ctx, cancel := context.WithTimeout(s.ctx, s.bound())
			defer cancel()
			err := m.send(ctx, addr)
			s.finish(at, now)
			if err != nil {
				s.n.cfg.Logger.Debug("a replica did not answer", "addr", addr, "error", err)
				s.n.cfg.Transport.Refresh()
			}
		})
	}
	if m.done == nil || !complete {
		return
	}
	done := sync.OnceFunc(m.done)
	late := time.AfterFunc(s.n.cfg.Election.QueryTimeout(), done)
	s.spawn(func() {
		round.Wait()
		late.Stop()
		done()
	})
}

// spawn runs f on a goroutine that settle waits for, on one that rests if there is one: its stack has grown to what a request
// needs, which for one that is new takes longer than much of the request.
func (s *sender) spawn(f func()) {
	s.mu.Lock()
	s.running++
	s.mu.Unlock()
	select {
	case s.tasks <- f:
	default:
		go s.work(f)
	}
}

// work runs f, and then rests for other tasks until what is sent ends, if few rest.
func (s *sender) work(f func()) {
	for {
		f()
		s.ended()
		if s.resting.Add(1) > maxResting {
			s.resting.Add(-1)
			return
		}
		select {
		case f = <-s.tasks:
			s.resting.Add(-1)
		case <-s.ctx.Done():
			return
		}
	}
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

// query asks a share of the addresses for their status, and the primary that is missed.
func (s *sender) query(out election.SendQuery) {
	addrs := s.share(out.Rounds)
	if missed := s.addressOf(out.Missed); missed != "" && !slices.Contains(addrs, missed) {
		addrs = append(addrs, missed)
	}
	if known := s.addressOf(out.Known); known != "" {
		addrs = slices.DeleteFunc(addrs, func(addr string) bool { return addr == known })
	}
	s.each(addrs, false, message{kind: 'q', limit: maxQueries, send: func(ctx context.Context, addr string) error {
		sentAt := s.n.cfg.Clock.Read().Now
		st, err := s.n.cfg.Transport.Status(ctx, addr)
		if err != nil {
			return err
		}
		s.met(st.Replica, addr)
		s.meets(st, addr)
		s.resend(addr)
		s.n.post(func(election.Reading) {
			s.n.step(election.StatusReceived{Status: st, SentAt: sentAt})
		})
		s.catchUp(st.Replica, addr)
		return nil
	}})
}

// newFor is how long a process is new, and asks each replica that it meets what was before its time.
const newFor = 10 * time.Second

// catchUp asks a replica, once, for the changes of primary that were before this process's time. Whether it answers is of no
// consequence.
func (s *sender) catchUp(id election.ReplicaID, addr string) {
	s.mu.Lock()
	known := s.caughtUp[id] || s.n.cfg.Clock.Read().Now.Sub(s.n.born) > newFor
	if !known {
		s.caughtUp[id] = true
	}
	s.mu.Unlock()
	if known {
		return
	}
	s.spawn(func() {
		ctx, cancel := context.WithTimeout(s.ctx, s.bound())
		defer cancel()
		h, err := s.n.cfg.Transport.History(ctx, addr)
		if err != nil {
			s.n.cfg.Logger.Debug("a replica did not answer", "addr", addr, "error", err)
			return
		}
		s.n.post(func(election.Reading) { s.n.step(election.HistoryReceived{History: h}) })
	})
}

// share is the next of the addresses, in turn. Where a replica begins depends on its id, so that they do not all ask the
// same one at once.
func (s *sender) share(rounds int) []string {
	addrs := s.n.cfg.Transport.Addresses()
	if rounds <= 1 || len(addrs) == 0 {
		return addrs
	}
	var from int
	if s.asked == "" {
		h := fnv.New32a()
		_, _ = h.Write([]byte(s.n.cfg.Election.Self)) // never fails
		from = int(h.Sum32() % uint32(len(addrs)))    //nolint:gosec // a few addresses
	} else if i, found := slices.BinarySearch(addrs, s.asked); found {
		from = i + 1
	} else {
		from = i
	}
	n := (len(addrs) + rounds - 1) / rounds
	turn := append(addrs[from:len(addrs):len(addrs)], addrs[:from]...)[:n]
	s.asked = turn[n-1]
	return turn
}

// apart is how much later than a claim that was not answered the next leaves to the same address. One of two
// replicas is asked at once, since its answer decides; of many a quorum needs few, and those that do not answer may
// be too busy to.
func (s *sender) apart(addrs int) time.Duration {
	return time.Duration(addrs/4) * s.n.cfg.Election.Retry()
}

// claim sends a claim to all addresses. A candidate's goes to those alone that have not granted it.
func (s *sender) claim(out election.SendClaim) {
	addrs, complete := s.n.cfg.Transport.Addresses(), s.n.cfg.Transport.Complete()
	if out.Request.From.Role == election.Candidate {
		addrs = slices.DeleteFunc(addrs, func(addr string) bool { return s.grantedAt(addr) == out.Request.Claim })
	}
	s.each(addrs, complete, message{kind: 'c', limit: maxClaims, apart: s.apart(len(addrs)), send: func(ctx context.Context, addr string) error {
		sentAt := s.n.cfg.Clock.Read().Now
		a, err := s.n.cfg.Transport.Claim(ctx, addr, out.Request)
		if err != nil {
			return err
		}
		s.n.metrics.claimSeconds.Observe(s.n.cfg.Clock.Read().Now.Sub(sentAt).Seconds())
		s.met(a.From.Replica, addr)
		s.meets(a.From, addr)
		s.resend(addr)
		if a.Granted {
			s.grants(addr, a.Claim)
		}
		s.n.post(func(election.Reading) {
			s.n.step(election.AnswerReceived{Answer: a, SentAt: sentAt})
		})
		return nil
	}, done: func() {
		s.n.post(func(election.Reading) { s.n.step(election.RoundDone{Round: out.Round}) })
	}})
}

func (s *sender) grantedAt(addr string) election.Claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.granted[addr]
}

func (s *sender) grants(addr string, c election.Claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.granted[addr] = c
	s.forget()
}

func (s *sender) end(req election.EndRequest) {
	s.each(s.n.cfg.Transport.Addresses(), false, message{kind: 'e', limit: maxEnds, send: func(ctx context.Context, addr string) error {
		return s.n.cfg.Transport.End(ctx, addr, req)
	}})
}

// leave announces that this replica leaves, or has left. The latter goes to no address whose replica has left: none
// answers there.
func (s *sender) leave(req election.LeaveRequest) {
	addrs, kind := s.n.cfg.Transport.Addresses(), byte('l')
	if req.Departed {
		kind = 'd'
		s.mu.Lock()
		addrs = slices.DeleteFunc(addrs, func(addr string) bool { return s.left[addr] })
		s.mu.Unlock()
	}
	s.each(addrs, false, message{kind: kind, limit: maxLeaves, send: func(ctx context.Context, addr string) error {
		sentAt := s.n.cfg.Clock.Read().Now
		a, err := s.n.cfg.Transport.Leave(ctx, addr, req)
		if err != nil {
			return err
		}
		s.n.post(func(election.Reading) {
			s.n.step(election.LeaveAnswerReceived{Answer: a, SentAt: sentAt})
		})
		return nil
	}})
}

// signal wakes the goroutine that waits on ch, or the next that will.
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
			delete(s.knows, addr) // another process is there now
		}
	}
	s.address[id] = addr
	delete(s.left, addr)
	s.forget()
}

// meets notes whether a witness answers at an address.
func (s *sender) meets(st election.Status, addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.IsWitness() {
		s.votes[addr] = true
	} else {
		delete(s.votes, addr)
	}
}

// maxRemembered is about how many addresses are remembered: as many as are asked at most.
const maxRemembered = 64

// hasLeft notes that no replica answers any more where one did.
func (s *sender) hasLeft(id election.ReplicaID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if addr, known := s.address[id]; known {
		delete(s.address, id)
		s.left[addr] = true
		s.forget()
	}
}

// forget forgets addresses that are not there any more, once there are many: a replica that starts again may have another
// each time. It MUST be called with mu held.
func (s *sender) forget() {
	if max(len(s.address), len(s.granted), len(s.left), len(s.votes)) <= maxRemembered {
		return
	}
	addrs := s.n.cfg.Transport.Addresses()
	maps.DeleteFunc(s.address, func(_ election.ReplicaID, addr string) bool { return !slices.Contains(addrs, addr) })
	maps.DeleteFunc(s.left, func(addr string, _ bool) bool { return !slices.Contains(addrs, addr) })
	maps.DeleteFunc(s.votes, func(addr string, _ bool) bool { return !slices.Contains(addrs, addr) })
	maps.DeleteFunc(s.granted, func(addr string, _ election.Claim) bool { return !slices.Contains(addrs, addr) })
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

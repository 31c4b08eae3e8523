package gateway

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"habot/app/intake"
	"habot/app/turns"
	"habot/app/update"
)

// Times of a term.
const (
	// leaseWait is between looks at a lease that has ended, until the term is.
	leaseWait = 50 * time.Millisecond
	// lookBound is how long the loop sleeps at most, and loopBound what is promised to the watchdog.
	lookBound = 5 * time.Second
	loopBound = 10 * time.Second
	// tellBound is how long the end of a term waits until the others know the last of it.
	tellBound = 300 * time.Millisecond
	// viewBound is how long one who wants to see waits for the loop.
	viewBound = time.Second
	// answersBound is how long the end of a term waits for clients to read their answers, which Telegram has given.
	answersBound = time.Second
)

// loopPart is what the watchdog knows the loop as.
const loopPart = "gateway"

// session is the gateway's work for one term: a loop that owns a turns.Machine and takes one input after the other.
type session struct {
	g      *Gateway
	began  time.Time
	task   *intake.Task
	ctx    context.Context //nolint:containedctx // the term's: calls under way end with it
	cancel context.CancelFunc
	wake   chan struct{} // told when the inbox is not empty
	over   chan struct{} // closed when polls are to go to another primary
	stop   chan struct{} // closed when the loop is to end
	ended  chan struct{} // closed when it has
	left   bool          // no request goes to it any more; g.mu guards it

	mu     sync.Mutex
	inbox  []event
	polls  map[turns.PollID]chan []turns.Update
	lastID turns.PollID
	closed bool
	calls  sync.WaitGroup
	// leaving are those calls that Telegram has not answered yet.
	leaving sync.WaitGroup

	// The loop's own.
	machine *turns.Machine
	inHand  map[int64]held
	seq     uint64    // of the last delta
	known   uint64    // a majority has all up to it
	moved   time.Time // when an update was confirmed last, nothing was in hand, or the turn or the term began
}

// event is an input for the loop, or something to be done by it.
type event struct {
	in      turns.Input
	verdict chan<- turns.Verdict
	do      func()
}

// held is an update that a copy has to confirm.
type held struct {
	update update.Update
	since  time.Time
	done   func(id int64, o update.Outcome)
}

func (g *Gateway) newSession(ctx context.Context, t *intake.Task) *session {
	now := time.Now()
	s := &session{
		g: g, began: now, moved: now, task: t, wake: make(chan struct{}, 1), over: make(chan struct{}), stop: make(chan struct{}), ended: make(chan struct{}),
		polls: map[turns.PollID]chan []turns.Update{}, inHand: map[int64]held{},
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	go s.run()
	return s
}

// post hands an event to the loop, which takes them in order. It does not block.
func (s *session) post(e event) {
	s.mu.Lock()
	s.inbox = append(s.inbox, e)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// tell hands an input to the loop.
func (s *session) tell(in turns.Input) { s.post(event{in: in}) }

// run is the loop.
func (s *session) run() {
	defer close(s.ended)
	defer s.task.Expect(loopPart, 0)
	s.task.Expect(loopPart, loopBound)
	state := s.g.cfg.Replicas.Begin(s.ctx, s.task.Change.Claim.Timestamp, func(seq uint64) { s.tell(turns.Replicated{Seq: seq}) })
	defer s.g.cfg.Replicas.End()
	s.machine = turns.New(s.g.cfg.Turns, s.task.Change.Claim.Timestamp, s.g.now(), state)
	s.step(event{in: turns.Tick{}})
	s.g.become(s)
	s.g.prober.look()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s.task.Expect(loopPart, loopBound)
		timer.Reset(min(max(s.machine.Next().Sub(s.g.now()), 0), lookBound))
		select {
		case <-s.wake:
		case <-timer.C:
			s.step(event{in: turns.Tick{}})
		case <-s.stop:
			return
		}
		s.mu.Lock()
		inbox := s.inbox
		s.inbox = nil
		s.mu.Unlock()
		for _, e := range inbox {
			s.step(e)
		}
	}
}

// step takes one event, and carries out what follows while the lease holds. It returns what followed of an input.
func (s *session) step(e event) []turns.Output {
	if e.do != nil {
		e.do()
		return nil
	}
	if r, ok := e.in.(turns.Replicated); ok {
		s.known = max(s.known, r.Seq)
	}
	outs := s.machine.Step(s.g.now(), e.in)
	for !s.task.Held() {
		select {
		case <-time.After(leaseWait):
			s.task.Expect(loopPart, loopBound)
		case <-s.over:
			return nil // nothing is carried out any more
		}
	}
	for _, out := range outs {
		s.carryOut(out, e.verdict)
	}
	return outs
}

func (s *session) carryOut(out turns.Output, verdict chan<- turns.Verdict) {
	switch out := out.(type) {
	case turns.Answer:
		s.mu.Lock()
		answer := s.polls[out.Poll]
		delete(s.polls, out.Poll)
		s.mu.Unlock()
		if answer != nil {
			answer <- out.Updates // it has room for one
		}
	case turns.Verdict:
		if verdict != nil {
			verdict <- out // it has room for one
		}
	case turns.Done:
		for _, id := range out.IDs {
			s.done(id, out.Outcome)
		}
	case turns.Allow:
		var kinds []string
		if json.Unmarshal([]byte(out.Allowed), &kinds) == nil {
			s.task.Allow(kinds)
		}
	case turns.Replicate:
		s.seq = out.Delta.Seq
		s.g.cfg.Replicas.Replicate(out.Delta)
	case turns.ActiveChanged:
		s.moved = time.Now() // what it is given again may be all that it has
		s.g.observe(out)
	case turns.Joined, turns.Died, turns.NoSpare:
		s.g.observe(out)
	}
}

func (s *session) done(id int64, o turns.Outcome) {
	h, ok := s.inHand[id]
	if !ok {
		return // the predecessor's
	}
	delete(s.inHand, id)
	s.moved = time.Now()
	outcome := update.Answered
	if o == turns.OutcomeExpired {
		outcome = update.Expired
	}
	s.task.Took(h.update, outcome, time.Since(h.since))
	h.done(id, outcome)
}

// far is how long an update lasts at least that is taken to last for ever: a term is looked at again long before.
const far = 12 * time.Hour

// Consume implements intake.Consumer.
func (s *session) Consume(_ context.Context, batch []update.Update, done func(id int64, o update.Outcome)) {
	now := time.Now()
	s.post(event{do: func() {
		if len(s.inHand) == 0 {
			s.moved = now
		}
		in := turns.Batch{Updates: make([]turns.Update, 0, len(batch))}
		for _, u := range batch {
			s.inHand[u.ID] = held{u, now, done}
			one := turns.Update{ID: u.ID, Chat: u.Chat, Query: u.Query, Raw: u.Raw}
			if keeps := update.Retention(u.Kind); keeps < far {
				one.Expires = s.g.now().Add(keeps)
			}
			in.Updates = append(in.Updates, one)
		}
		s.step(event{in: in})
	}})
}

// Drain implements intake.Consumer. What copies have not confirmed is the successor's: it gives it again, or takes their
// confirmation. So only calls under way are waited for.
func (s *session) Drain(ctx context.Context) (left int) {
	s.g.leave(s)
	told := make(chan struct{})
	s.post(event{do: func() {
		s.step(event{in: turns.Stop{}})
		s.awaitKnown(time.Now(), told)
	}})
	select {
	case <-told:
	case <-time.After(tellBound):
	case <-ctx.Done():
	case <-s.ended:
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	close(s.over)
	answered, read := make(chan struct{}), make(chan struct{})
	go func() {
		s.leaving.Wait()
		close(answered)
		s.calls.Wait()
		close(read)
	}()
	select {
	case <-answered:
	case <-ctx.Done():
	}
	select {
	case <-read:
	case <-time.After(answersBound): // for a client that does not read its answer
	case <-ctx.Done():
	}
	s.cancel()
	<-answered
	close(s.stop)
	<-s.ended
	return len(s.inHand)
}

// awaitKnown closes told when a majority has all deltas.
func (s *session) awaitKnown(began time.Time, told chan struct{}) {
	switch {
	case s.known >= s.seq:
		close(told)
	case time.Since(began) < tellBound:
		time.AfterFunc(tellBound/30, func() { s.post(event{do: func() { s.awaitKnown(began, told) }}) })
	}
}

// begin takes note of a call, so that the end of the term waits for it; false if it is over.
func (s *session) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.calls.Add(1)
	s.leaving.Add(1)
	return true
}

// poll asks for updates, and returns when it is answered. The error is ErrNotPrimary, or that of ctx.
func (s *session) poll(ctx context.Context, in turns.Polled) ([]turns.Update, error) {
	answer := make(chan []turns.Update, 1)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrNotPrimary
	}
	s.lastID++
	in.Poll = s.lastID
	s.polls[in.Poll] = answer
	s.mu.Unlock()
	s.tell(in)
	select {
	case updates := <-answer:
		return updates, nil
	case <-s.over:
		select {
		case updates := <-answer: // it was carried out before
			return updates, nil
		default:
			return nil, ErrNotPrimary
		}
	case <-ctx.Done():
		s.mu.Lock()
		delete(s.polls, in.Poll)
		s.mu.Unlock()
		s.tell(turns.PollEnded{Poll: in.Poll})
		return nil, context.Cause(ctx) //nolint:wrapcheck // only that there is one counts
	}
}

// ask judges a call. The error is ErrNotPrimary.
func (s *session) ask(in turns.Called) (turns.Verdict, error) {
	verdict := make(chan turns.Verdict, 1)
	s.post(event{in: in, verdict: verdict})
	select {
	case v := <-verdict:
		return v, nil
	case <-s.over:
	case <-time.After(callWait): // the lease has ended, and the term has not yet
	}
	return turns.Verdict{}, ErrNotPrimary
}

// view is what operators see of this term, and when an update was confirmed last; false if the loop does not answer.
func (s *session) view() (v turns.View, moved time.Time, ok bool) {
	type sight struct {
		view  turns.View
		moved time.Time
	}
	seen := make(chan sight, 1)
	s.post(event{do: func() { seen <- sight{s.machine.View(), s.moved} }})
	select {
	case one := <-seen:
		return one.view, one.moved, true
	case <-s.ended:
	case <-time.After(viewBound):
	}
	return turns.View{}, time.Time{}, false
}

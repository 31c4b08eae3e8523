package gateway

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"habot/app/botapi"
	"habot/app/peer"
	"habot/app/turns"
)

// ErrNotPrimary says that this replica does not act: nothing was done, and nothing of an answer was written.
var ErrNotPrimary = errors.New("this replica is not primary")

// Act answers a request on the primary; OriginOf its context says where it entered. It returns ErrNotPrimary if the term
// ends before anything was done, and nothing was written and nothing of the body read: the request then goes to the next
// primary. A poll that is held when the term ends is such a request. Any other error counts as answered.
type Act func(w http.ResponseWriter, r *http.Request) error

// Ask is what the front has read of a request, as far as its way to the primary depends on it.
type Ask struct {
	// Origin is where it entered, as Connections have it, and Name the name in its path.
	Origin Origin
	Name   string
	// Poll: it is a getUpdates, which is held for Hold.
	Poll bool
	Hold time.Duration
	// Again: it may be carried out twice, as getUpdates and get* may.
	Again bool
	// Body, if not nil, is all of the body. Otherwise the request's own is passed on as it arrives, once the primary reads it.
	Body []byte
}

// PassConfig is what a Passer is made of. Without Primary there are no other replicas.
type PassConfig struct {
	// Self is this replica's process.
	Self string
	// Primary is who this replica takes for primary: its process, itself too, and where another is reached; both are empty if
	// none is known, the address if it is not. changed is closed when it takes another one, or none, for it. It is cheap.
	Primary func() (replica, addr string, changed <-chan struct{})
	// Active is the copy that is given updates, as far as this replica knows; empty if it knows of none. It is cheap. Without it
	// none is known.
	Active func() turns.CopyID
	// Reachable are the processes of the other replicas that are reachable.
	Reachable func() []string
	// Forward passes a request on, as peer.Passer does; its errors are peer's.
	Forward func(ctx context.Context, addr string, r *http.Request, origin string) (*http.Response, error)
	// Message takes a message to the Passer of another replica: its Receive.
	Message func(ctx context.Context, addr string, body []byte) error
	// Report takes what replicas have seen of copies' connections while this replica acts: turns.ConnectionEnded,
	// turns.ReplicaLost, turns.AddressGone and turns.Called. It MUST NOT block for long.
	Report func(in turns.Input)
	// Now reads the clock of what is reported.
	Now func() turns.Instant
}

const (
	// callWait is how long a request waits for a primary at least, and other requests than polls at most: frameworks give a
	// send 5 s.
	callWait = 4 * time.Second
	// uploadWait is how long an upload waits at most until others that are passed on make way. It is shorter than frameworks wait
	// to send the next bytes of a file.
	uploadWait = 15 * time.Second
	// activeLook is how often a poll that waits for room looks whether its copy has become the active one.
	activeLook = 500 * time.Millisecond
	// passAgain is how soon a primary is asked again that took nothing.
	passAgain = 50 * time.Millisecond
	// pollMargin is how much longer than it asks a poll is waited for, when it has been passed on.
	pollMargin = 5 * time.Second
	// lastAnswers is how long the answers of a primary are waited for once another one is known.
	lastAnswers = time.Second
	// maxGiven bounds after how many primaries that held a request and did not answer the next one is waited for anew.
	maxGiven = 3
	// maxHeldBack bounds the beginning of an answer that is held back until it is known to be whole.
	maxHeldBack = 64 << 10
)

// Texts of answers.
const (
	textBusy = "Bad Gateway: too many uploads are passed on to the primary at the moment; nothing was sent"
	textPart = "Bad Gateway: the primary has changed while the body of the request arrived; nothing was sent"
)

// Passer brings requests to the primary: to its Act if that is this replica, through another one otherwise. It is safe for
// concurrent use.
type Passer struct {
	cfg PassConfig
	// Taken by those that are passed on: polls, those of the active copy that find no room among them, and uploads.
	polls, active, uploads chan struct{}
	stop                   chan struct{} // closed by Stop
	reports

	mu      sync.Mutex
	act     Act
	changed chan struct{} // closed when act changes
	// passers are the replicas that have passed something on to this one since it acts.
	passers map[string]*passer
	gone    []string // replicas that have ended or left, and may still pass on what they have under way
}

// NewPasser returns a Passer of a replica that does not act.
func NewPasser(cfg PassConfig) *Passer {
	if cfg.Primary == nil {
		cfg.Primary = func() (string, string, <-chan struct{}) { return "", "", nil }
	}
	if cfg.Active == nil {
		cfg.Active = func() turns.CopyID { return "" }
	}
	return &Passer{
		cfg: cfg, polls: make(chan struct{}, peer.MaxPolls), active: make(chan struct{}, peer.MaxActivePolls), uploads: make(chan struct{}, peer.MaxUploads),
		stop: make(chan struct{}), changed: make(chan struct{}), passers: map[string]*passer{},
		reports: reports{stirred: make(chan struct{}, 1)},
	}
}

// Acts says that this replica acts from now on; nil: that it does not any more. It is to be called when the machine of a term
// runs, and before it ends.
func (p *Passer) Acts(act Act) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.act = act
	clear(p.passers)
	close(p.changed)
	p.changed = make(chan struct{})
	p.stir()
}

// Stop has polls that are held here answered with nothing: this replica ends, and who polls is to ask another one. It is to be
// called once, when it does not act any more.
func (p *Passer) Stop() { close(p.stop) }

func (p *Passer) acts() (act Act, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.act, p.changed
}

// Serve brings a request to the primary, and answers it. While no replica is primary it waits, a poll as long as it asked and
// 4 s at least, others for 4 s.
func (p *Passer) Serve(w http.ResponseWriter, r *http.Request, ask Ask) {
	s := serving{p: p, w: w, r: r, ask: ask, began: time.Now()}
	s.until = s.began.Add(callWait)
	if ask.Poll {
		s.until = s.began.Add(max(ask.Hold, callWait))
	}
	for !s.try() {
	}
}

// serving is one request on its way to a primary.
type serving struct {
	p     *Passer
	w     http.ResponseWriter
	r     *http.Request
	ask   Ask
	began time.Time
	until time.Time // it waits for a primary
	// given counts the primaries that were given it, and did not answer.
	given int
}

// try brings the request to the primary that there is now, or waits for a change. True: it was answered, or needs no answer.
func (s *serving) try() (over bool) {
	act, changed := s.p.acts()
	primary, addr, moved := s.p.cfg.Primary()
	var again <-chan time.Time
	switch {
	case act != nil:
		if err := act(s.w, s.request(s.r.Context(), s.origin())); !errors.Is(err, ErrNotPrimary) {
			return true
		}
		s.waitAnew()
	case primary != "" && primary != s.p.cfg.Self:
		if addr != "" && s.pass(primary, addr, moved) {
			return true
		}
		again = time.After(passAgain)
	}
	late := time.NewTimer(time.Until(s.until))
	defer late.Stop()
	select {
	case <-changed:
	case <-moved:
	case <-again:
	case <-s.stopped():
		s.dismiss()
		return true
	case <-late.C:
		if s.ask.Poll && s.given > 0 {
			s.dismiss() // a primary held it, and had nothing for it
			return true
		}
		write(s.w, botapi.Later(http.StatusBadGateway, textNoPrimary, 1))
		return true
	case <-s.r.Context().Done():
		return true
	}
	return false
}

// stopped is closed when a poll is to be answered with nothing; nil for other requests.
func (s *serving) stopped() <-chan struct{} {
	if s.ask.Poll {
		return s.p.stop
	}
	return nil
}

// dismiss answers a poll with nothing, as Telegram does when nothing has come.
func (s *serving) dismiss() {
	s.w.Header().Set("Connection", "close") // the next poll is not to come on a connection that is about to end
	write(s.w, botapi.List[json.RawMessage](nil))
}

func (s *serving) origin() Origin {
	o := s.ask.Origin
	o.Waited = time.Since(s.began)
	return o
}

// request is the request as a primary is given it.
func (s *serving) request(ctx context.Context, o Origin) *http.Request {
	one := s.r.WithContext(withOrigin(ctx, o))
	if s.ask.Body != nil {
		one.Body, one.ContentLength = io.NopCloser(bytes.NewReader(s.ask.Body)), int64(len(s.ask.Body))
	}
	return one
}

// origin is what a replica has to say of a request that it passes on.
type passedOrigin struct {
	Origin
	Poll bool
}

// pass passes the request on to the primary at an address; moved is closed when another one is. False: nothing was done, or it
// may be done again.
func (s *serving) pass(primary, addr string, moved <-chan struct{}) (over bool) {
	ctx, cancel := context.WithCancel(s.r.Context())
	defer cancel()
	if s.ask.Poll || s.ask.Body == nil {
		release, over := s.room(moved)
		if release == nil {
			return over
		}
		defer release()
	}
	if s.ask.Poll {
		// It is held for as long as it still asks, and for four seconds at least.
		late := time.AfterFunc(max(time.Until(s.began.Add(s.ask.Hold)), callWait)+pollMargin, cancel)
		defer late.Stop()
	}
	watching := s.watch(ctx, primary, cancel)
	defer func() { cancel(); <-watching }()
	o := s.origin()
	origin, err := json.Marshal(passedOrigin{o, s.ask.Poll})
	if err != nil {
		write(s.w, botapi.Later(http.StatusBadGateway, textNoPrimary, 1))
		return true
	}
	one := s.request(ctx, o)
	read := &readCount{r: one.Body}
	if s.ask.Body == nil && one.Body != nil {
		one.Body = read
	}
	resp, err := s.p.cfg.Forward(ctx, addr, one, string(origin))
	if err == nil {
		defer func() { _ = resp.Body.Close() }() // it was read, or is of no use
		return s.answer(resp)
	}
	select {
	case <-s.stopped():
		s.dismiss()
		return true
	default:
	}
	switch {
	case s.r.Context().Err() != nil:
		return true
	case read.n.Load() > 0 && !errors.Is(err, peer.ErrMayBeSent):
		write(s.w, botapi.Later(http.StatusBadGateway, textPart, 1))
		return true
	case errors.Is(err, peer.ErrNotSent):
		return false
	case errors.Is(err, peer.ErrNotTaken):
		s.waitAnew()
		return false
	}
	return s.broke()
}

// waitAnew has a request that a primary may have held wait for the next one, which takes a while to be there.
func (s *serving) waitAnew() {
	if again := time.Now().Add(callWait); s.ask.Again && s.given < maxGiven && again.After(s.until) {
		s.given++
		s.until = again
	}
}

// broke is when the primary's answer does not arrive.
func (s *serving) broke() (over bool) {
	if !s.ask.Again || s.ask.Body == nil {
		write(s.w, botapi.Failure(http.StatusBadGateway, textOver))
		return true
	}
	s.waitAnew()
	return false
}

// room waits for room for one more poll, or upload, that is passed on, and returns what gives it back. It is nil if there is none:
// then over tells whether the request was answered, or there is another primary.
func (s *serving) room(moved <-chan struct{}) (release func(), over bool) {
	places, until := s.p.polls, s.until
	if !s.ask.Poll {
		places, until = s.p.uploads, s.began.Add(uploadWait)
		began := time.Now()
		defer func() { s.until = s.until.Add(time.Since(began)) }() // it has waited for others, and not for a primary
	}
	late := time.NewTimer(max(time.Until(until), passAgain)) // if there is room it does not matter how late it is
	look := time.NewTicker(activeLook)
	defer late.Stop()
	defer look.Stop()
	for {
		var own chan struct{}
		if s.active() {
			own = s.p.active // updates do not wait for polls that are given none
		}
		select {
		case places <- struct{}{}:
			return func() { <-places }, false
		case own <- struct{}{}:
			return func() { <-own }, false
		case <-look.C:
		case <-moved:
			return nil, false
		case <-s.stopped():
			s.dismiss()
			return nil, true
		case <-late.C:
			if s.ask.Poll {
				s.dismiss() // it has been held for as long as it asked
				return nil, true
			}
			_, _ = io.CopyN(io.Discard, s.r.Body, maxUpload) // frameworks do not look at an answer before they have sent all
			write(s.w, botapi.Later(http.StatusBadGateway, textBusy, 1))
			return nil, true
		case <-s.r.Context().Done():
			return nil, true
		}
	}
}

// active tells whether it is a poll of the copy that is given updates.
func (s *serving) active() bool {
	active := s.p.cfg.Active()
	return s.ask.Poll && active != "" && s.ask.Origin.client(s.ask.Name).Copy == active
}

// watch gives a primary up that this replica does not take for primary any more, once it knows another. One that is cut off
// leaves a connection that nothing breaks.
func (s *serving) watch(ctx context.Context, primary string, giveUp func()) <-chan struct{} {
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			replica, _, moved := s.p.cfg.Primary()
			if replica != "" && replica != primary {
				break
			}
			select {
			case <-moved:
			case <-s.stopped():
				giveUp()
				return
			case <-ctx.Done():
				return
			}
		}
		if !s.ask.Again {
			select {
			case <-time.After(lastAnswers):
			case <-ctx.Done():
			}
		}
		giveUp()
	}()
	return over
}

// readCount counts what is read of a body.
type readCount struct {
	r io.ReadCloser
	n atomic.Int64
}

// Read implements io.Reader.
func (c *readCount) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err //nolint:wrapcheck // io.EOF must stay what it is
}

// Close implements io.Closer.
func (c *readCount) Close() error { return c.r.Close() } //nolint:wrapcheck // nothing is made of it

// answer hands the primary's answer on. What may be asked again is held back until it is known to be whole, or too long.
func (s *serving) answer(resp *http.Response) (over bool) {
	body := io.Reader(resp.Body)
	if s.ask.Again {
		start, err := io.ReadAll(io.LimitReader(resp.Body, maxHeldBack))
		if err != nil {
			if s.r.Context().Err() != nil {
				return true
			}
			return s.broke()
		}
		body = io.MultiReader(bytes.NewReader(start), resp.Body)
	}
	h := s.w.Header()
	for _, name := range []string{"Content-Type", "Retry-After", "Content-Disposition", "Content-Range", "Accept-Ranges", "Last-Modified", "Etag"} {
		if values := resp.Header.Values(name); len(values) > 0 {
			h[name] = values
		}
	}
	stream(s.w, resp, body, false)
	return true
}

// passer is another replica that passes requests on to this one.
type passer struct {
	polls map[*context.CancelFunc]bool
	// missed is since when it is not reachable; zero if it is.
	missed time.Time
}

// passerOf is a replica that passes something on; nil if this one does not act.
func (p *Passer) passerOf(replica string) *passer {
	if p.act == nil {
		return nil
	}
	o := p.passers[replica]
	if o == nil {
		o = &passer{polls: map[*context.CancelFunc]bool{}}
		p.passers[replica] = o
	}
	return o
}

// Forwarded answers a request that another replica passes on; an error says that nothing was done. It is peer.Gateway's.
func (p *Passer) Forwarded(w http.ResponseWriter, r *http.Request, origin string) error {
	var o passedOrigin
	if err := json.Unmarshal([]byte(origin), &o); err != nil || o.Replica == "" {
		return fmt.Errorf("read where a request entered: %w", cmp.Or(err, errOrigin))
	}
	until := time.Now().Add(callWait)
	for {
		act, changed := p.acts()
		primary, _, moved := p.cfg.Primary()
		switch {
		case act != nil:
			ctx, cancel := context.WithCancel(withOrigin(r.Context(), o.Origin))
			defer p.notes(o, &cancel)()
			err := act(w, r.WithContext(ctx))
			if ctx.Err() != nil && r.Context().Err() == nil {
				panic(http.ErrAbortHandler) // the replica was lost, and no answer was written
			}
			return err
		case primary != p.cfg.Self:
			return ErrNotPrimary
		}
		// It is about to act.
		late := time.NewTimer(time.Until(until))
		select {
		case <-changed:
		case <-moved:
		case <-late.C:
			return ErrNotPrimary
		case <-r.Context().Done():
			return ErrNotPrimary
		}
		late.Stop()
	}
}

var errOrigin = errors.New("no replica is named")

// notes keeps a request that another replica passes on, until the function is called.
func (p *Passer) notes(o passedOrigin, cancel *context.CancelFunc) (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	from := p.passerOf(o.Replica)
	if from != nil && o.Poll {
		from.polls[cancel] = true
	}
	return func() {
		(*cancel)()
		p.mu.Lock()
		defer p.mu.Unlock()
		if from != nil {
			delete(from.polls, cancel)
		}
	}
}

// Run reports what this replica has seen to the primary, and looks for replicas that are lost, until ctx ends; then it
// returns nil.
func (p *Passer) Run(ctx context.Context) error {
	var all sync.WaitGroup
	all.Go(func() { p.report(ctx) })
	if p.cfg.Reachable != nil {
		all.Go(func() { p.lookForLost(ctx) })
	}
	all.Wait()
	return nil
}

const (
	// lostEvery is between two looks for replicas that are lost, and lostAfter how long one is not reachable before it is.
	lostEvery = 500 * time.Millisecond
	lostAfter = 2 * time.Second
	// maxGone is how many are remembered that have ended or left.
	maxGone = 64
)

func (p *Passer) lookForLost(ctx context.Context) {
	look := time.NewTicker(lostEvery)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		p.mu.Lock()
		none := len(p.passers) == 0
		p.mu.Unlock()
		if none {
			continue
		}
		for _, replica := range p.lost(p.cfg.Reachable()) {
			p.cfg.Report(turns.ReplicaLost{Replica: replica})
		}
	}
}

// Gone takes note that the process of a replica has ended, or that it has left. It does not block.
func (p *Passer) Gone(replica string) {
	p.mu.Lock()
	p.gone = append(p.gone, replica)
	p.gone = p.gone[max(0, len(p.gone)-maxGone):]
	o := p.passers[replica]
	if o != nil {
		p.loses(replica, o)
	}
	p.mu.Unlock()
	if o != nil {
		p.cfg.Report(turns.ReplicaLost{Replica: replica})
	}
}

// loses forgets a replica. Its polls are answered no more: who lives asks again. It MUST be called with mu held.
func (p *Passer) loses(replica string, o *passer) {
	for cancel := range o.polls {
		(*cancel)()
	}
	delete(p.passers, replica)
}

// lost are the replicas that have been away for too long.
func (p *Passer) lost(reachable []string) (lost []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for replica, o := range p.passers {
		switch {
		case slices.Contains(p.gone, replica), !o.missed.IsZero() && !slices.Contains(reachable, replica) && now.Sub(o.missed) >= lostAfter:
			p.loses(replica, o)
			lost = append(lost, replica)
		case slices.Contains(reachable, replica):
			o.missed = time.Time{}
		case o.missed.IsZero():
			o.missed = now
		}
	}
	slices.Sort(lost)
	return lost
}

type originKey struct{}

func withOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// OriginOf is where the request of a context entered.
func OriginOf(ctx context.Context) Origin {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o
}

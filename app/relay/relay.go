package relay

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/logging"
	"habot/app/message"
	"habot/app/queues"
	"habot/app/telegram"
	"habot/app/update"
)

// DefaultTimeout is how long a backend has to answer an update, as Telegram's own server gives it.
const DefaultTimeout = time.Minute

// noBackendWait is how long an update waits for a backend at most until it looks again; changes wake it.
const noBackendWait = time.Minute

// lineEvery is between two log lines of one kind.
const lineEvery = 10 * time.Second

// lostBurst is how many lines about calls that were not carried out are written at once, before it is one a minute: a bot may name a method
// that Telegram refuses for each update.
const lostBurst = 10

// callBound bounds one attempt to carry out a call without large files.
const callBound = 30 * time.Second

// refusals is how many times an update is refused until it may be its chat's own matter. The third comes a second after the first: meanwhile
// a backend that has failed refuses other chats, too.
const refusals = 3

// leastWait is how long an update waits for a backend at least, however old it is by its date: the clock here may be wrong.
const leastWait = time.Minute

// Call is a call of the Bot API that a backend has answered with.
type Call struct {
	// Method is a name of letters, digits and underscores, in whichever case the backend wrote it.
	Method string
	// ContentType is the body's: JSON, urlencoded or multipart, with its boundary.
	ContentType string
	// Body is sent as it is. It fails if the backend does not deliver the rest of it.
	Body io.Reader
	// Size is the body's length in bytes; -1 if it is not known.
	Size int64
}

// Forwarder is the fenced way to Telegram.
type Forwarder interface {
	// Forward sends a call and waits for Telegram's answer until ctx ends; telegram.Judge says what an error means. It MUST send
	// nothing without the lease.
	Forward(ctx context.Context, c Call) error
}

// Term is what the relay needs of a term; a task of intake is one. What waits because Telegram limits its chat, and what waits because
// a backend refuses its chat alone, is the same to it: neither is to delay other chats.
type Term = message.Term

// Config is what a relay is made of.
type Config struct {
	Backends []Backend
	// Secret is sent with each update; empty for none.
	Secret string
	// Timeout is how long a backend has to answer; DefaultTimeout if 0.
	Timeout time.Duration
	// Parallel is how many updates are sent at a time at most; it sizes the pools of connections.
	Parallel  int
	UserAgent string
	Forwarder Forwarder
	Logger    *slog.Logger
	// Registerer takes the relay's metrics.
	Registerer prometheus.Registerer
	// Resolver looks names up, Dial makes connections; nil stands for the system's.
	Resolver Resolver
	Dial     Dial
	// OnReady is called on each change of readiness, the first time when it is known, never concurrently. It MUST NOT
	// call the relay. It may be nil.
	OnReady func(Readiness)
	// TLS is used for https; nil for the system's roots. It is cloned.
	TLS *tls.Config
}

// Relay hands updates to webhook backends. Its methods are safe for concurrent use. It lives as long as the process:
// what is known of the backends outlives a term.
type Relay struct {
	cfg        Config
	transports []*http.Transport
	metrics    *metrics
	poke       chan struct{} // told when a probe may be due
	started    time.Time
	failures   *logging.Quota // lines about failed attempts
	oddities   *logging.Quota // and about answers that are odd
	lost       *logging.Quota // and about calls that were not carried out

	mu         sync.Mutex
	fleet      *fleet
	unresolved []string // by backend, why its name was not resolved the last time; empty if it was
	came       chan struct{}
	recovered  chan struct{}
	waiting    int
	told       *Readiness // nil until it is known
}

// Readiness tells whether updates can be handed to backends. Each error is an ErrNoBackend that says why.
type Readiness struct {
	// Reachable is nil if a backend takes connections, whatever it answers. A standby knows as much as the primary, so
	// it is what a change of primary can mend.
	Reachable error
	// Ready is nil if a backend takes connections, and does not answer with errors only or not in time. Without
	// updates, on a standby, it is as Reachable.
	Ready error
}

// New returns a relay that knows no addresses yet; Run finds them.
func New(cfg Config) *Relay {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	if cfg.Dial == nil {
		cfg.Dial = systemDial()
	}
	r := &Relay{
		cfg: cfg, poke: make(chan struct{}, 1), started: time.Now(), fleet: newFleet(cfg.Backends),
		unresolved: make([]string, len(cfg.Backends)), came: make(chan struct{}), recovered: make(chan struct{}),
		failures: logging.NewQuota(1, lineEvery), oddities: logging.NewQuota(1, lineEvery),
		lost: logging.NewQuota(lostBurst, time.Minute),
	}
	for i, b := range cfg.Backends {
		r.transports = append(r.transports, newTransport(b, cfg))
		r.unresolved[i] = "not looked up yet"
	}
	r.metrics = newMetrics(r)
	return r
}

// Handler handles updates in the term with this timestamp, in nanoseconds.
func (r *Relay) Handler(timestamp int64, term Term) queues.Handler {
	return handler{r, timestamp, term}
}

// handler is a relay for one term.
type handler struct {
	*Relay
	timestamp int64
	term      Term
}

// Handle implements queues.Handler: an update is handled when a backend has taken it, or it is given up.
func (h handler) Handle(ctx context.Context, u update.Update, t queues.Turn) (update.Outcome, bool) {
	a := newAttempts()
	expires := expiry(u, time.Now())
	last := "no backend has been up"
	own := false // whether it waits on its own account, and not for a backend
	waits := func(is bool) {
		if own != is {
			own = is
			h.term.Limited(u.ID, is)
		}
	}
	defer waits(false)
	for {
		now := time.Now()
		next := h.next(now, u.Queue, a)
		if next.wait > 0 {
			rest := expires.Sub(now)
			if rest <= 0 {
				return h.giveUp(u, update.Expired, a, last), true
			}
			if !h.pause(ctx, t, min(next.wait, rest), next.wake) {
				return "", false
			}
			a.notBefore = time.Time{} // it is over, or need not be waited for any longer
			continue
		}
		if ctx.Err() != nil || !t.Held() {
			return "", false
		}
		t.Expect(h.cfg.Timeout)
		o := h.post(ctx, u, next.choice, t.Held)
		switch o.result {
		case answeredWell:
			waits(false)
			switch h.carryOut(ctx, u, t, h.cfg.Backends[next.to.backend], o) {
			case carried:
				return update.Answered, true
			case left:
				return "", false
			case again:
				o.detail = "the answer broke off while it was sent on"
			}
		case aborted:
			return "", false
		case unreachable, tooSlow:
			a.missed(next.to)
			continue
		case answeredError, timedOut, brokenOff, stale:
		}
		last = o.detail
		if h.failed(u, next.to, a, o) {
			return h.giveUp(u, update.Poison, a, last), true
		}
		putOff := o.status == http.StatusTooManyRequests && o.retryAfter > 0
		known := a.failures >= refusals || o.result == timedOut // a backend that refuses all has done so by then
		waits(putOff || known && h.refusedAlone(u.Queue))
	}
}

// expiry is when Telegram keeps an update no longer: counted from its date, from when it came if it has none, and from now on for
// leastWait at least.
func expiry(u update.Update, now time.Time) time.Time {
	keeps := update.Retention(u.Kind)
	switch {
	case !u.Date.IsZero():
		return later(u.Date.Add(keeps), now.Add(min(leastWait, keeps)))
	case !u.Came.IsZero():
		return u.Came.Add(keeps)
	default:
		return now.Add(keeps)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// refusedAlone tells whether a backend refuses a queue's updates, and no other's.
func (r *Relay) refusedAlone(queue int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fleet.refusedAlone(queue)
}

// step is what to do next with an update: to wait, at most so long, or to send it.
type step struct {
	choice
	wait time.Duration
	wake <-chan struct{}
}

func (r *Relay) next(now time.Time, queue int64, a *attempts) step {
	r.mu.Lock()
	defer r.mu.Unlock()
	if wait := a.notBefore.Sub(now); wait > 0 {
		return step{wait: wait, wake: r.recovered}
	}
	c, until, ok := r.fleet.choose(now, queue, a)
	switch {
	case ok:
		return step{choice: c}
	case until.IsZero():
		return step{wait: noBackendWait, wake: r.came}
	default:
		return step{wait: until.Sub(now), wake: r.came}
	}
}

// pause waits without a slot; false if the update is to be left to the successor.
func (r *Relay) pause(ctx context.Context, t queues.Turn, d time.Duration, wake <-chan struct{}) bool {
	count := func(n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.waiting += n
	}
	count(1)
	defer count(-1)
	return t.Pause(ctx, d, wake)
}

// post makes one attempt.
func (h handler) post(ctx context.Context, u update.Update, c choice, held func() bool) outcome {
	began := time.Now()
	h.mu.Lock()
	h.fleet.began(c.to)
	h.mu.Unlock()
	backend := h.cfg.Backends[c.to.backend]
	o := attempt{
		backend: backend, addr: c.to.addr.String(), transport: h.transports[c.to.backend], raw: u.Raw, secret: h.cfg.Secret,
		userAgent: h.cfg.UserAgent, term: h.timestamp, timeout: h.cfg.Timeout, connectBound: c.bound, held: held,
	}.run(ctx)
	now := time.Now()
	h.mu.Lock()
	if o.connect > 0 {
		h.fleet.connected(c.to, o.connect)
	}
	h.changed(now, h.fleet.ended(now, began, c.to, u.Queue, o.result, o.detail))
	h.mu.Unlock()
	if o.result == tooSlow || o.result == stale {
		h.look()
	}
	h.metrics.attempt(backend.Name(), o, now.Sub(began))
	if o.replyErr != nil {
		h.malformed(u, backend, o.replyErr)
	}
	return o
}

// malformed reports an answer that was not read as a call although its update was taken.
func (h handler) malformed(u update.Update, backend Backend, err error) {
	h.metrics.replies.WithLabelValues(replyMalformed).Inc()
	if omitted, ok := h.oddities.Take(time.Now()); ok {
		h.cfg.Logger.Warn("a webhook reply cannot be read; its update counts as handled", "update_id", u.ID, "backend", backend.Name(),
			"error", err, "omitted", omitted)
	}
}

// failed takes in a failed attempt, and tells whether the update is to be given up.
func (r *Relay) failed(u update.Update, m member, a *attempts, o outcome) bool {
	now := time.Now()
	a.failed(now, m, o.retryAfter, rand.Float64()) //nolint:gosec // jitter
	if omitted, ok := r.failures.Take(now); ok {
		r.cfg.Logger.Warn("a backend did not take an update; it will be sent again", "update_id", u.ID, "backend", r.cfg.Backends[m.backend].Name(),
			"address", m.addr, "detail", o.detail, "failures", a.failures, "omitted", omitted)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return a.spoiled(now, r.fleet.lastWell)
}

// giveUp gives an update up.
func (r *Relay) giveUp(u update.Update, o update.Outcome, a *attempts, detail string) update.Outcome {
	r.cfg.Logger.Error("an update is given up", "update_id", u.ID, "kind", u.Kind, "chat_id", u.Chat, "outcome", o, "failures", a.failures, "detail", detail)
	r.metrics.givenUp.WithLabelValues(string(o)).Inc()
	return o
}

// carrying is how the carrying out of a call ended.
type carrying int

const (
	// carried: there is nothing more to do.
	carried carrying = iota
	// left: the term has ended, or will too soon. The successor is to send the update again.
	left
	// again: the backend has to be asked again.
	again
)

// carryOut carries out the call that a backend has answered with, if it has.
func (h handler) carryOut(ctx context.Context, u update.Update, t queues.Turn, backend Backend, o outcome) carrying {
	defer o.close()
	r := o.reply
	if r.method == "" {
		return carried
	}
	if why := forbidden(r.method); why != "" {
		h.metrics.replies.WithLabelValues(replyForbidden).Inc()
		if omitted, ok := h.oddities.Take(time.Now()); ok {
			h.cfg.Logger.Warn("a webhook reply names a method that is not allowed", "update_id", u.ID,
				"method", r.method[:min(len(r.method), 64)], "detail", why, "omitted", omitted)
		}
		return carried
	}
	v, err := h.carry(ctx, u, t, o)
	outcome := replyRefused
	switch {
	case v == telegram.Fine:
		h.metrics.replies.WithLabelValues(replyCarriedOut).Inc()
		return carried
	case v == telegram.Over:
		return left
	case r.rest != nil && r.rest.over.Load(): // and it would be the next time
		h.malformed(u, backend, errTooLarge)
		return carried
	case v != telegram.Permanent && r.rest != nil:
		return again // it cannot be read twice
	case v != telegram.Permanent:
		outcome = replyFailed
	}
	h.metrics.replies.WithLabelValues(outcome).Inc()
	if omitted, ok := h.lost.Take(time.Now()); ok {
		h.cfg.Logger.Error("a webhook reply was not carried out", "update_id", u.ID, "method", r.method, "error", err, "omitted", omitted)
	}
	return carried
}

// carry sends a call to Telegram, at the pace of all that is sent in an update's turn.
func (h handler) carry(ctx context.Context, u update.Update, t queues.Turn, o outcome) (telegram.Verdict, error) {
	r := o.reply
	call := Call{Method: r.method, ContentType: r.contentType, Size: o.size}
	once := func(bound time.Duration) error {
		ctx, cancel := context.WithTimeout(ctx, bound)
		defer cancel()
		call.Body = r.body()
		return h.cfg.Forwarder.Forward(ctx, call)
	}
	if r.rest != nil {
		o.extend()
		t.Expect(replyFor)
		err := once(replyFor)
		return telegram.Judge(ctx, err), err
	}
	call.Size = int64(len(r.start))
	return message.Try(ctx, message.InTurn(counted{t, h.Relay}, h.term, u.ID), func() time.Duration { return callBound }, once) //nolint:wrapcheck // it is logged
}

// counted is a turn whose pauses count as waiting.
type counted struct {
	queues.Turn
	relay *Relay
}

// Pause implements queues.Turn.
func (c counted) Pause(ctx context.Context, d time.Duration, early <-chan struct{}) bool {
	return c.relay.pause(ctx, c.Turn, d, early)
}

// Close closes connections that are not used. Run MUST have returned, and no update be handled any more.
func (r *Relay) Close() {
	for _, t := range r.transports {
		t.CloseIdleConnections()
	}
}

package reach

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/diagnosis"
	"habot/app/election"
	"habot/app/telegram"
)

var (
	// errNoResult is an answer that says ok and nothing else.
	errNoResult = errors.New("an answer without a result")
	// errNoAnswer is what a probe shows that is not answered soon.
	errNoAnswer = errors.New("no answer in time")
)

// ProbeBound is how long a request to Telegram is given that is to tell soon, where answers are not slow.
const ProbeBound = 1500 * time.Millisecond

// Caller calls methods of the Bot API; *telegram.Client is one.
type Caller interface {
	Call(ctx context.Context, method string, params, result any) error
}

// Config is what a Reach is made of.
type Config struct {
	Caller     Caller
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// OnHealth is called on each change of health, never concurrently: of its detail alone once in detailEvery.
	OnHealth func(election.Health)
	// After is time.After, be it not punctual, but not late.
	After func(d time.Duration) <-chan time.Time
}

// Reach is what is known of the way to Telegram. Its methods are safe for concurrent use.
type Reach struct {
	cfg     Config
	trouble *prometheus.GaugeVec

	mu       sync.Mutex
	polling  bool // a term runs
	answered bool // Telegram has answered a request of this process
	tracker  tracker
	health   election.Health // as it was reported last
	healthAt time.Time
	lost     bool        // the way to Telegram does not work, by all that is known: a new term alone does not mend it
	later    *time.Timer // looks at health when it changes by itself
	lag      telegram.Lag
	why      diagnosis.Trouble
	polledAt time.Time // when Telegram last answered a poll
	refused  time.Time // when Telegram refused last because of another program
	username string
}

// New returns a Reach that has seen nothing yet: the way counts as good.
func New(cfg Config) *Reach {
	r := &Reach{cfg: cfg, health: election.Health{OK: true}, trouble: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "habot_telegram_trouble", Help: "1 while Telegram refuses this bot for a reason that no other replica could mend.",
	}, []string{"kind"})}
	for _, k := range diagnosis.Troubles() {
		r.trouble.WithLabelValues(string(k))
	}
	cfg.Registerer.MustRegister(r.trouble)
	return r
}

// TermBegan takes in that this replica polls from now on: probes tell nothing any more. It tells whether something speaks
// against the way, so that the first poll is to tell soon.
func (r *Reach) TermBegan() (doubted bool) {
	r.note(func(t *tracker, now time.Time) {
		r.polling = true
		doubted = t.doubted(now)
		t.roleBegan()
	})
	return doubted
}

// TermEnded takes in that this replica does not poll any more.
func (r *Reach) TermEnded() {
	r.note(func(t *tracker, now time.Time) {
		r.polling = false
		t.roleEnded(now)
	})
}

// inTerm tells whether this replica polls.
func (r *Reach) inTerm() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.polling
}

// Backends takes in whether a webhook backend takes connections; why is empty if one does.
func (r *Reach) Backends(why string) {
	r.note(func(t *tracker, now time.Time) { t.backends.seen(now, t.polling, why) })
}

// Polled takes in that Telegram has answered a poll well.
func (r *Reach) Polled() {
	r.note(func(t *tracker, now time.Time) {
		t.reached()
		r.polledAt, r.answered = now, true
	})
}

// Reached takes in that Telegram has answered a poll, if only that it refuses it now.
func (r *Reach) Reached() {
	r.note(func(t *tracker, _ time.Time) {
		t.reached()
		r.answered = true
	})
}

// PollFailed takes in a poll whose answer was due by then.
func (r *Reach) PollFailed(due time.Time, why string) {
	r.note(func(t *tracker, now time.Time) { t.pollFailed(now, due, why) })
}

// RunProbe watches the way to Telegram while this replica is not primary, with getMe: a standby must
// never poll. It also keeps the connection warm. It returns nil when ctx ends.
func (r *Reach) RunProbe(ctx context.Context) error {
	var late sync.WaitGroup
	defer late.Wait()
	for {
		if !r.inTerm() {
			r.probe(ctx, &late)
		}
		r.mu.Lock()
		d := r.tracker.nextProbe()
		r.mu.Unlock()
		select {
		case <-r.cfg.After(telegram.BackOff(0, d, d, rand.Float64())): //nolint:gosec // jitter
		case <-ctx.Done():
			return nil
		}
	}
}

// probe asks once and waits for the answer, but not for long: one that comes late is taken in then.
func (r *Reach) probe(ctx context.Context, late *sync.WaitGroup) {
	answered := make(chan struct{})
	var inTime sync.Once // takes in what the probe shows so far
	late.Go(func() {
		defer close(answered)
		err := r.GetMe(ctx, slowProbe)
		first := false
		inTime.Do(func() { first = true })
		if first || err == nil || telegram.Judge(ctx, err) != telegram.Transient {
			r.probed(ctx, err)
		}
	})
	t := time.NewTimer(probeTimeout)
	defer t.Stop()
	select {
	case <-answered:
	case <-t.C:
		inTime.Do(func() { r.probed(ctx, errNoAnswer) })
	}
}

// probed takes in what a probe has shown.
func (r *Reach) probed(ctx context.Context, err error) {
	if ctx.Err() != nil || r.inTerm() {
		return
	}
	v := telegram.Judge(ctx, err)
	r.note(func(t *tracker, now time.Time) {
		t.probed(now, v != telegram.Transient && v != telegram.Permanent, message(err))
	})
	switch v {
	case telegram.Unauthorized:
		r.SetTrouble(diagnosis.TroubleToken, err)
	case telegram.Fine:
		r.SetTrouble("", nil)
	default: // what a probe cannot tell, polls will
	}
}

// GetMe asks Telegram for the bot's own name, and so whether it is there.
func (r *Reach) GetMe(ctx context.Context, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	start := time.Now()
	var me *struct {
		Username string `json:"username"`
	}
	if err := r.cfg.Caller.Call(ctx, "getMe", nil, &me); err != nil {
		return err //nolint:wrapcheck // judged by the caller
	}
	if me == nil {
		return errNoResult // judged transient: whatever answers there, it is not Telegram
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.username, r.answered = me.Username, true
	r.lag.Saw(time.Since(start))
	return nil
}

// Answered takes in how long Telegram took to answer, but for what it waited on purpose.
func (r *Reach) Answered(took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lag.Saw(took)
}

// AnswerBound is how long to wait for an answer: least, or longer if answers are seen to take long.
func (r *Reach) AnswerBound(least time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lag.Bound(least, longestAnswer)
}

// longestAnswer bounds a request but one that sends, however slow answers are; what Telegram waits on purpose comes on top.
const longestAnswer = 20 * time.Second

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Works tells whether the way to Telegram works, as far as is known.
func (r *Reach) Works() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.lost
}

// note lets f take note in the tracker and tells of a change of health, also of one that is due later.
func (r *Reach) note(f func(*tracker, time.Time)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.tracker.slow = r.lag.Bound(ProbeBound, longestAnswer) - ProbeBound
	f(&r.tracker, now)
	if r.later != nil {
		r.later.Stop()
	}
	if at := r.tracker.changes(now); !at.IsZero() {
		r.later = time.AfterFunc(at.Sub(now), func() { r.note(func(*tracker, time.Time) {}) })
	}
	switch h := r.tracker.telegram(now); {
	case !h.OK && !r.lost:
		r.lost = true
		r.cfg.Logger.Warn("Telegram unreachable", "detail", h.Detail)
	case r.lost && !r.tracker.doubted(now):
		r.lost = false
		r.cfg.Logger.Info("Telegram reachable again")
	}
	r.tell(now, r.tracker.health(now))
}

// tell passes on a health that has changed. One that is good names the trouble in its detail, or that it is good for want of
// any answer: standbys do not poll, and know it by that alone. r.mu MUST be held.
func (r *Reach) tell(now time.Time, h election.Health) {
	if h.OK {
		if h.Detail = r.why.Text(); h.Detail == "" && !r.answered && !r.tracker.failingSince.IsZero() {
			h.Detail = diagnosis.Unanswered
		}
	}
	if h.OK != r.health.OK || h != r.health && (h.OK || now.Sub(r.healthAt) >= detailEvery) {
		r.health, r.healthAt = h, now
		r.cfg.OnHealth(h)
	}
}

// Trouble is why Telegram refuses this bot; empty if it does not.
func (r *Reach) Trouble() diagnosis.Trouble {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.why
}

// LastPoll is when Telegram last answered a poll of this replica; zero if it has not.
func (r *Reach) LastPoll() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.polledAt
}

// troubleBridge is how long another program's trouble lasts beyond a refusal: two that poll cut each other off in turn, and
// some wait for half a minute before they come again. Polls that succeed in between end nothing.
const troubleBridge = time.Minute

// SetTrouble changes the trouble and says so once; an empty one is that Telegram has accepted a request.
func (r *Reach) SetTrouble(kind diagnosis.Trouble, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if kind == diagnosis.TroubleConflict || kind == diagnosis.TroubleWebhook {
		r.refused = time.Now()
	}
	if r.why == kind || kind == "" && r.why != diagnosis.TroubleToken && time.Since(r.refused) < troubleBridge {
		return
	}
	r.why = kind
	r.tell(time.Now(), r.tracker.health(time.Now()))
	for _, k := range diagnosis.Troubles() {
		value := 0.0
		if k == kind {
			value = 1
		}
		r.trouble.WithLabelValues(string(k)).Set(value)
	}
	if kind == "" {
		r.cfg.Logger.Info("Telegram accepts this bot again")
		return
	}
	r.cfg.Logger.Error("Telegram refuses this bot; failover would not help", "kind", kind, "detail", kind.Text(), "error", why)
}

// WebhookGone takes in that the webhook was removed: the next poll that succeeds shows that there is no trouble.
func (r *Reach) WebhookGone() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = time.Time{}
}

// Username is the bot's own name; empty while it is not known.
func (r *Reach) Username() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.username
}

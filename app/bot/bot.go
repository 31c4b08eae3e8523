package bot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mymmrac/telego"
	"github.com/mymmrac/telego/telegoapi"
	"github.com/prometheus/client_golang/prometheus"

	"habot/app/diagnosis"
	"habot/app/election"
	"habot/app/logging"
)

// Cluster is what the commands show and move.
type Cluster interface {
	View() election.View
	// Switchover moves the role to a replica, by name; any if successor is empty. It returns once
	// the move is under way.
	Switchover(ctx context.Context, successor string) error
}

// Config is what a bot is made of.
type Config struct {
	Token        string
	APIURL       string   // without a slash at its end
	Proxy        *url.URL // on the way to APIURL; nil for none
	Name         string   // of this replica, for people
	Version      string
	AdminChatIDs []int64
	Cluster      Cluster
	Logger       *slog.Logger
	Registerer   prometheus.Registerer
	// IncompatiblePeers are instances met lately that cannot even be asked who they are, a line each, for people;
	// nil for none.
	IncompatiblePeers func() []string
	// OnHealth is called on each change of health, never concurrently: of its detail alone once in detailEvery.
	OnHealth func(election.Health)
	// Transport is the way to Telegram; nil stands for the real one.
	Transport http.RoundTripper
}

// Term is one role as primary.
type Term struct {
	Change election.Change
	// Held tells whether a request may leave now, and whether what came back may be handled.
	Held func() bool
	// Drain is closed when the bot is to finish what it has in hand and return.
	Drain <-chan struct{}
	// Handled are updates that a predecessor finished and may not have confirmed.
	Handled []int64
	// Report tells the standbys the updates handled since the last confirmation. It never blocks.
	Report func(handled []int64)
	// Notes are what earlier terms' work noted last for its successor, as far as this replica knows. Gather waits, two seconds at
	// most, until so many others have been asked that all is known. Late returns what another knows beyond that, and waits for
	// it; false if there is none when ctx ends. settle MUST be called once that is among what is noted, and not before.
	Notes  []json.RawMessage
	Gather func(ctx context.Context)
	Late   func(ctx context.Context) (notes []json.RawMessage, settle func(), ok bool)
	// Note has the standbys know something else, from now on with each report, in place of what was noted before. It never
	// blocks. Noted tells whether so many know the latest that any successor will.
	Note  func(notes []json.RawMessage)
	Noted func() bool
	// Within promises the watcher that a part of the bot's work, the poll loop or a chat, calls it again
	// within d; 0 ends the part's promise. It may be called concurrently.
	Within func(part string, d time.Duration)
}

// errNoResult is an answer that says ok and nothing else.
var errNoResult = errors.New("an answer without a result")

// errNoAnswer is what a probe shows that is not answered soon.
var errNoAnswer = errors.New("no answer in time")

// Bot is one replica's side towards Telegram. Its methods are safe for concurrent use, but
// RunAsPrimary runs once at a time.
type Bot struct {
	cfg     Config
	api     *telego.Bot
	metrics *metrics
	running atomic.Bool
	took    chan struct{} // this replica has become primary
	// unanswered bounds the lines about updates that could not be answered: a chat that has blocked the bot may go on writing.
	unanswered *logging.Quota

	mu       sync.Mutex
	tracker  tracker
	health   election.Health // as it was told last
	healthAt time.Time
	lost     bool        // the way to Telegram does not work, by all that is known: a new term alone does not mend it
	later    *time.Timer // looks at health when it turns bad by itself
	pollLag  lag         // of getMe and of polls, but for what these wait
	sendLag  lag         // of sendMessage
	trouble  diagnosis.Trouble
	polledAt time.Time // when Telegram last answered a poll
	refused  time.Time // when Telegram refused last because of another program
	username string
	muted    map[int64]bool  // admins' chats that refused the last message
	moved    map[int64]int64 // those that became supergroups, and which
	placed   map[int64]bool  // those that were there when their commands were set
}

// New returns a bot that does nothing yet.
func New(cfg Config) (*Bot, error) {
	if cfg.Transport == nil {
		cfg.Transport = newBase(cfg.Proxy)
	}
	b := &Bot{
		cfg: cfg, metrics: newMetrics(cfg.Registerer), took: make(chan struct{}, 1), unanswered: logging.NewQuota(10, time.Minute),
		health: election.Health{OK: true}, muted: map[int64]bool{}, moved: map[int64]int64{}, placed: map[int64]bool{},
	}
	redact := redaction(cfg.Token, cfg.Proxy)
	client := &http.Client{Transport: &transport{
		base: cfg.Transport, token: cfg.Token, redact: redact, userAgent: userAgent(cfg.Version, cfg.Name), metrics: b.metrics,
		isAdmin: b.isAdmin,
	}}
	caller := &caller{Caller: telegoapi.HTTPCaller{Client: client}, redact: redact, logger: cfg.Logger, metrics: b.metrics}
	api, err := telego.NewBot(placeholder, telego.WithAPICaller(caller), telego.WithAPIServer(cfg.APIURL), telego.WithDiscardLogger())
	if err != nil {
		return nil, fmt.Errorf("make a Telegram client: %w", err)
	}
	b.api = api
	return b, nil
}

// RunProbe watches the way to Telegram while this replica is not primary, with getMe: a standby must
// never poll. It also keeps the connection warm. It returns nil when ctx ends.
func (b *Bot) RunProbe(ctx context.Context) error {
	var late sync.WaitGroup
	defer late.Wait()
	for {
		if !b.running.Load() {
			b.probe(ctx, &late)
		}
		b.mu.Lock()
		d := b.tracker.nextProbe()
		b.mu.Unlock()
		if !sleep(ctx, backOff(0, d, d, rand.Float64())) { //nolint:gosec // jitter
			return nil
		}
	}
}

// probe asks once and waits for the answer, but not for long: one that comes late is taken in then.
func (b *Bot) probe(ctx context.Context, late *sync.WaitGroup) {
	answered := make(chan struct{})
	var inTime sync.Once // takes in what the probe shows so far
	late.Go(func() {
		defer close(answered)
		err := b.getMe(ctx, slowProbe)
		first := false
		inTime.Do(func() { first = true })
		if first || err == nil || judge(ctx, err) != transient {
			b.probed(ctx, err)
		}
	})
	t := time.NewTimer(probeTimeout)
	defer t.Stop()
	select {
	case <-answered:
	case <-t.C:
		inTime.Do(func() { b.probed(ctx, errNoAnswer) })
	}
}

// probed takes in what a probe has shown.
func (b *Bot) probed(ctx context.Context, err error) {
	if ctx.Err() != nil || b.running.Load() {
		return
	}
	v := judge(ctx, err)
	b.note(func(t *tracker, now time.Time) { t.probed(now, v != transient && v != permanent, message(err)) })
	switch v {
	case unauthorized:
		b.setTrouble(diagnosis.TroubleToken, err)
	case fine:
		b.setTrouble("", nil)
	default: // what a probe cannot tell, polls will
	}
}

// getMe asks Telegram for the bot's own name, and so whether it is there.
func (b *Bot) getMe(ctx context.Context, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	start := time.Now()
	me, err := b.api.GetMe(ctx)
	if err != nil {
		return err //nolint:wrapcheck // judged by the caller
	}
	if me == nil {
		return errNoResult // judged transient: whatever answers there, it is not Telegram
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.username = me.Username
	b.pollLag.saw(time.Since(start))
	return nil
}

// answered takes in how long Telegram took to answer, but for what it waited on purpose.
func (b *Bot) answered(took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pollLag.saw(took)
}

// answerBound is how long to wait for an answer: least, or longer if answers are seen to take long.
func (b *Bot) answerBound(least time.Duration) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pollLag.bound(least, longestAnswer)
}

// longestAnswer bounds a request but one that sends, however slow answers are; what Telegram waits on purpose comes on top.
const longestAnswer = 20 * time.Second

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// reachesTelegram tells whether the way to Telegram works, as far as is known.
func (b *Bot) reachesTelegram() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.lost
}

// note lets f take note in the tracker and tells of a change of health, also of one that is due later.
func (b *Bot) note(f func(*tracker, time.Time)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.tracker.slow = b.pollLag.bound(probeBound, longestAnswer) - probeBound
	f(&b.tracker, now)
	if b.later != nil {
		b.later.Stop()
	}
	if at := b.tracker.turnsBad(); at.After(now) {
		b.later = time.AfterFunc(at.Sub(now), func() { b.note(func(*tracker, time.Time) {}) })
	}
	h := b.tracker.health(now)
	switch {
	case !h.OK && !b.lost:
		b.lost = true
		b.cfg.Logger.Warn("Telegram unreachable", "detail", h.Detail)
	case b.lost && !b.tracker.doubted(now):
		b.lost = false
		b.cfg.Logger.Info("Telegram reachable again")
	}
	b.tell(now, h)
}

// tell passes on a health that has changed. One that is good names the trouble in its detail: standbys do not poll, and
// know it by that alone. b.mu MUST be held.
func (b *Bot) tell(now time.Time, h election.Health) {
	if h.OK {
		h.Detail = b.trouble.Text()
	}
	if h.OK != b.health.OK || h != b.health && (h.OK || now.Sub(b.healthAt) >= detailEvery) {
		b.health, b.healthAt = h, now
		b.cfg.OnHealth(h)
	}
}

// Trouble is why Telegram refuses this bot; empty if it does not.
func (b *Bot) Trouble() diagnosis.Trouble {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.trouble
}

// LastPoll is when Telegram last answered a poll of this replica; zero if it has not.
func (b *Bot) LastPoll() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.polledAt
}

// troubleBridge is how long another program's trouble lasts beyond a refusal: two that poll cut each other off in turn, and
// some wait for half a minute before they come again. Polls that succeed in between end nothing.
const troubleBridge = time.Minute

// setTrouble changes the trouble and says so once; an empty one is that Telegram has accepted a request.
func (b *Bot) setTrouble(kind diagnosis.Trouble, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if kind == diagnosis.TroubleConflict || kind == diagnosis.TroubleWebhook {
		b.refused = time.Now()
	}
	if b.trouble == kind || kind == "" && b.trouble != diagnosis.TroubleToken && time.Since(b.refused) < troubleBridge {
		return
	}
	b.trouble = kind
	b.tell(time.Now(), b.tracker.health(time.Now()))
	for _, k := range diagnosis.Troubles() {
		value := 0.0
		if k == kind {
			value = 1
		}
		b.metrics.trouble.WithLabelValues(string(k)).Set(value)
	}
	if kind == "" {
		b.cfg.Logger.Info("Telegram accepts this bot again")
		return
	}
	b.cfg.Logger.Error("Telegram refuses this bot; failover would not help", "kind", kind, "detail", kind.Text(), "error", why)
}

// webhookGone takes in that the webhook was removed: the next poll that succeeds shows that there is no trouble.
func (b *Bot) webhookGone() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused = time.Time{}
}

// sleep waits; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/intake"
	"habot/app/listener"
	"habot/app/logging"
	"habot/app/telegram"
	"habot/app/turns"
)

// Telegram is the way to Telegram; *telegram.Client is one.
type Telegram interface {
	Call(ctx context.Context, method string, params, result any) error
	Pass(ctx context.Context, p telegram.Passed) (*http.Response, error)
	File(ctx context.Context, test bool, file, ranges string) (*http.Response, error)
}

// Config is what a gateway is made of.
type Config struct {
	// Addr is where copies reach it, host:port or :port.
	Addr string
	// Replica is this replica's process: one that starts again is another.
	Replica string
	// BotToken is the real token. Token is what copies use: the same, or another with the same number before its colon.
	BotToken, Token string
	Turns           turns.Config
	Telegram        Telegram
	// Replicas are the others; nil if there are none.
	Replicas Replicas
	// Pass is how requests reach the primary if that is another replica. What belongs to the gateway is filled in.
	Pass   PassConfig
	Logger *slog.Logger
	// Registerer takes the gateway's metrics.
	Registerer prometheus.Registerer
	// Dial looks whether copies' machines are there; nil stands for the system's.
	Dial Dial
	// Elsewhere are the addresses of copies that any replica has seen, as this one knows them, in the order of turns.Roster's
	// Addresses. Without Replicas it is not used.
	Elsewhere func() []string
	// OnChange, if not nil, is called when the active copy changes, on the primary: from is empty for the first one, to if none
	// is active now; why continues a sentence about from; again is how many updates are given again. It MUST NOT block.
	OnChange func(from, to, why string, again int)
	// Served, if not nil, is called after each request that was answered; concurrently.
	Served func()
}

// Gateway is one replica's Bot API server. It lives as long as the process, and acts in a term. Its methods are safe for
// concurrent use.
type Gateway struct {
	cfg                Config
	base               time.Time
	http               *http.Server
	listener           net.Listener
	conns              *Connections
	passer             *Passer
	front              *front
	uploads, downloads *transfers
	refusals           *logging.Quota // lines about calls that are refused
	metrics            *metrics
	agents             agents
	prober             *prober

	mu      sync.Mutex
	current *session // nil while this replica does not act
	me      json.RawMessage
	changes []Change
}

// New returns a gateway that does not listen yet.
func New(cfg Config) *Gateway {
	if cfg.Replicas == nil {
		alone := &Alone{}
		cfg.Replicas, cfg.Elsewhere = alone, alone.copies
	}
	g := &Gateway{cfg: cfg, base: time.Now(), uploads: newTransfers(), downloads: newTransfers(),
		refusals: logging.NewQuota(1, lineEvery)}
	cfg.Pass.Self, cfg.Pass.Report, cfg.Pass.Now = cfg.Replica, g.tell, g.now
	g.passer = NewPasser(cfg.Pass)
	g.conns = NewConnections(g.passer)
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	if cfg.Elsewhere == nil {
		cfg.Elsewhere = func() []string { return nil }
	}
	g.prober = &prober{
		passer: g.passer, dial: cfg.Dial, replica: cfg.Replica, now: g.now, elsewhere: cfg.Elsewhere, primary: func() bool { return g.session() != nil }, soon: make(chan struct{}, 1), known: map[string]*probed{},
	}
	g.front = newFront(g)
	g.metrics = newMetrics(g)
	g.http = g.newServer()
	return g
}

// now is the instant now.
func (g *Gateway) now() turns.Instant { return turns.Instant(time.Since(g.base)) }

// Passer brings requests to the primary, those of other replicas too.
func (g *Gateway) Passer() *Passer { return g.passer }

// Consumer makes the consumer of a term's updates: copies of a bot, one at a time.
func (g *Gateway) Consumer(ctx context.Context, t *intake.Task) intake.Consumer {
	return g.newSession(ctx, t)
}

// become has requests go to a session whose machine runs.
func (g *Gateway) become(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !s.left {
		g.current = s
		g.passer.Acts(g.act)
	}
}

// leave has requests go to a session no longer.
func (g *Gateway) leave(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s.left = true
	if g.current == s {
		g.current = nil
		g.passer.Acts(nil)
	}
}

// session is the term's; nil if this replica does not act.
func (g *Gateway) session() *session {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.current
}

// tell hands an input to the machine of the term, if there is one here.
func (g *Gateway) tell(in turns.Input) {
	if s := g.session(); s != nil {
		s.tell(in)
	}
}

// why continues a sentence about the former copy.
func why(r turns.Reason) string {
	switch r {
	case turns.ReasonEnded:
		return "has ended, as its connections show"
	case turns.ReasonStopped:
		return "has stopped in order"
	case turns.ReasonGone:
		return "is gone: its machine is not reachable"
	case turns.ReasonSilent:
		return "has not polled for too long"
	case turns.ReasonRestarted:
		return "has started over"
	case turns.ReasonOperator:
		return "an operator has replaced"
	case turns.ReasonFirst:
	}
	return "is the first"
}

// observe takes note of what happened to copies.
func (g *Gateway) observe(out turns.Output) {
	switch out := out.(type) {
	case turns.ActiveChanged:
		g.metrics.turns.WithLabelValues(string(out.Reason)).Inc()
		g.metrics.again.Add(float64(out.Again))
		g.remember(out)
		if g.cfg.OnChange != nil {
			g.cfg.OnChange(string(out.From), string(out.To), why(out.Reason), out.Again)
		}
		g.cfg.Logger.Info("the active copy has changed", "from", out.From, "to", out.To, "reason", out.Reason, "again", out.Again)
	case turns.Joined:
		g.cfg.Logger.Info("a copy polls", "copy", out.Copy)
	case turns.Died:
		g.cfg.Logger.Warn("a copy is gone", "copy", out.Copy, "reason", out.Reason)
	}
}

// remember keeps a change for people.
func (g *Gateway) remember(c turns.ActiveChanged) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.changes = append(g.changes, Change{time.Now(), string(c.From), string(c.To), string(c.Reason), c.Again})
	g.changes = g.changes[max(0, len(g.changes)-maxChanges):]
}

func (g *Gateway) changed() []Change {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.changes)
}

// Listen opens the port.
func (g *Gateway) Listen() error {
	l, err := (&net.ListenConfig{KeepAliveConfig: keepAlive()}).Listen(context.Background(), "tcp", g.cfg.Addr)
	if err != nil {
		return fmt.Errorf("listen for copies: %w", err)
	}
	g.ListenOn(l)
	return nil
}

// ListenOn has the gateway serve what a listener accepts.
func (g *Gateway) ListenOn(l net.Listener) {
	g.listener = g.conns.Listener(listener.New(l, listener.Bounds{Total: maxConnections, PerAddress: maxPerAddress}))
}

// Addr is where the gateway listens, after Listen.
func (g *Gateway) Addr() net.Addr { return g.listener.Addr() }

// Times of the end. A client may send on a connection in the moment in which this side closes it, and does not learn whether
// the call arrived. So each connection is closed with an answer, if one is asked for in time, and no new one is taken.
const (
	lingers     = 750 * time.Millisecond
	lingerLooks = 50 * time.Millisecond
)

// Serve answers until ctx ends, and for a moment longer as long as copies have connections open. It returns nil then; Listen MUST have
// succeeded before.
func (g *Gateway) Serve(ctx context.Context) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		defer stop()
		g.conns.ending.Store(true)
		g.passer.Stop()
		for end := time.Now().Add(lingers); g.conns.Open() > 0 && time.Now().Before(end); {
			time.Sleep(lingerLooks)
		}
	})()
	err := listener.Serve(serving, g.http, func() error { return g.http.Serve(g.listener) })
	if err != nil {
		return fmt.Errorf("serve copies: %w", err)
	}
	return nil
}

// Times of getMe.
const (
	meBound = 5 * time.Second
	meEvery = 10 * time.Minute
	meRetry = 2 * time.Second
)

// Run keeps what getMe answers and looks whether copies' machines are there, until ctx ends; then it returns nil. It runs on every replica, primary or not.
func (g *Gateway) Run(ctx context.Context) error {
	var probing sync.WaitGroup
	defer probing.Wait()
	probing.Go(func() { g.prober.run(ctx) })
	for {
		next := meEvery
		if g.askMe(ctx) == nil {
			next = meRetry
		}
		select {
		case <-time.After(next):
		case <-ctx.Done():
			return nil
		}
	}
}

// askMe asks Telegram for the bot; nil if there is no answer.
func (g *Gateway) askMe(ctx context.Context) json.RawMessage {
	ctx, cancel := context.WithTimeout(ctx, meBound)
	defer cancel()
	var me json.RawMessage
	if g.cfg.Telegram.Call(ctx, "getMe", nil, &me) != nil || !json.Valid(me) {
		return nil // the probe of the way to Telegram logs why
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.me = me
	return me
}

// bot is what getMe answers; nil if it is not known, which takes a while to find out.
func (g *Gateway) bot(ctx context.Context) json.RawMessage {
	g.mu.Lock()
	me := g.me
	g.mu.Unlock()
	if me != nil {
		return me
	}
	return g.askMe(ctx)
}

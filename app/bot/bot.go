// Package bot puts a replica's side towards Telegram together: the way out, its health, the intake of updates, who handles
// them, and what is sent to admins.
//
// It owns no rule of its own: which room is given what stands here, so that the product and the tests of whole replicas
// have the same. It never decides who is primary: its caller starts it and stops it.
//
// It may import admins, builtin, diagnosis, election, gateway, intake, message, queues, reach, relay, telegram, term and client_golang.
package bot

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/admins"
	"habot/app/builtin"
	"habot/app/diagnosis"
	"habot/app/election"
	"habot/app/gateway"
	"habot/app/intake"
	"habot/app/message"
	"habot/app/queues"
	"habot/app/reach"
	"habot/app/relay"
	"habot/app/telegram"
	"habot/app/term"
)

// HealthSettles is how long a replica must have been in contact before its report that it reaches Telegram moves a role.
const HealthSettles = reach.HealthSettles

// Cluster is what the commands show and move.
type Cluster = admins.Cluster

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
	// Backend or Gateway is who handles updates; both nil for the bot that comes along.
	Backend *Backend
	// After is time.After, be it not punctual, but not late; nil stands for that.
	After func(d time.Duration) <-chan time.Time
	// Gateway is what the gateway for copies of a polling bot is made of. What belongs to the bot is filled in; OnChange, if it is set, is
	// called after admins were notified.
	Gateway *gateway.Config
}

// Backend is webhook backends that handle updates.
type Backend struct {
	// Relay is what the relay is made of: backends, secret, bounds. What belongs to the bot is filled in.
	Relay relay.Config
	// Updates are the kinds of updates that are asked for; nil for Telegram's default set.
	Updates []string
}

// Bot is one replica's side towards Telegram. Its methods are safe for concurrent use, but
// RunAsPrimary runs once at a time.
type Bot struct {
	cfg     Config
	client  *telegram.Client
	reach   *reach.Reach
	sender  *message.Sender
	admins  *admins.Admins
	builtin *builtin.Bot
	relay   *relay.Relay     // nil if no webhook backends handle updates
	gateway *gateway.Gateway // nil if no copies of a polling bot do
	intake  *intake.Intake
}

// New returns a bot that does nothing yet.
func New(cfg Config) *Bot {
	if cfg.After == nil {
		cfg.After = time.After
	}
	b := &Bot{cfg: cfg}
	b.client = telegram.New(telegram.Config{
		Token: cfg.Token, APIURL: cfg.APIURL, Proxy: cfg.Proxy, Version: cfg.Version, Name: cfg.Name, Transport: cfg.Transport,
		IsAdmin: func(chat int64) bool { return b.admins.Is(chat) }, Registerer: cfg.Registerer,
	})
	b.reach = reach.New(reach.Config{Caller: b.client, Logger: cfg.Logger, Registerer: cfg.Registerer, OnHealth: cfg.OnHealth, After: cfg.After})
	b.sender = message.New(b.client, func(from, to int64) { b.admins.Moved(from, to) })
	b.admins = admins.New(admins.Config{
		Chats: cfg.AdminChatIDs, Name: cfg.Name, Cluster: cfg.Cluster, Facts: b.facts, Reaches: b.reach.Works,
		Locate: b.locate, Username: b.username, Backends: b.backendLines,
		Sender: b.sender, Logger: cfg.Logger, Registerer: cfg.Registerer, After: cfg.After,
	})
	b.builtin = builtin.New(builtin.Config{
		ID: ownID(cfg.Token), Name: cfg.Name, Admins: b.admins, Sender: b.sender, Caller: b.client, Username: b.username,
		Redact: b.client.Redact, Facts: b.facts, Logger: cfg.Logger,
	})
	handled := intake.Config{Caller: b.client, Reach: b.reach, Logger: cfg.Logger, Registerer: cfg.Registerer}
	switch {
	case cfg.Gateway != nil:
		b.gateway = b.newGateway(*cfg.Gateway)
		handled.Consumer = func(ctx context.Context, t *intake.Task) intake.Consumer {
			own := b.queues(t, b.admins.Handler(notOwn{}, t), builtin.Slots, builtin.Patience)
			return ownFirst{own: own, others: b.gateway.Consumer(ctx, t), isOwn: b.isOwn}
		}
	case cfg.Backend == nil:
		handled.Allowed, handled.Greet = builtin.Allowed(), b.builtin.SetCommands
		handled.Consumer = func(_ context.Context, t *intake.Task) intake.Consumer {
			return b.queues(t, b.admins.Handler(b.builtin.Handler(t), t), builtin.Slots, builtin.Patience)
		}
	default:
		b.relay = b.newRelay(cfg.Backend.Relay)
		handled.Allowed = append([]string{}, cfg.Backend.Updates...)
		handled.Consumer = func(_ context.Context, t *intake.Task) intake.Consumer {
			r := cfg.Backend.Relay
			return b.queues(t, b.admins.Handler(b.relay.Handler(t.Change.Claim.Timestamp, t), t), r.Parallel, r.Timeout)
		}
	}
	b.intake = intake.New(handled)
	return b
}

// queues make a consumer of a handler.
func (b *Bot) queues(t *intake.Task, h queues.Handler, slots int, patience time.Duration) intake.Consumer {
	return queues.New(queues.Config{
		Handler: h, Slots: slots, Patience: patience, Held: t.Held, Promise: t.Expect, Handled: t.Took, Logger: b.cfg.Logger,
	})
}

// facts are what this replica knows now.
func (b *Bot) facts() diagnosis.Facts {
	f := diagnosis.Facts{View: b.cfg.Cluster.View(), Trouble: b.reach.Trouble(), NoBackend: b.NoBackend()}
	if b.cfg.IncompatiblePeers != nil {
		f.Incompatible = b.cfg.IncompatiblePeers()
	}
	return f
}

// askBound bounds asking for the own name.
const askBound = 2 * time.Second

// username is the bot's own name. A replica that is primary from the start has not probed yet, and asks. Empty if there is no answer.
func (b *Bot) username(ctx context.Context) string {
	if b.reach.Username() == "" {
		_ = b.reach.GetMe(ctx, askBound) // it is not known then
	}
	return b.reach.Username()
}

// ownID is a bot's own id, which its token begins with; 0 if that is no token.
func ownID(token string) int64 {
	digits, _, _ := strings.Cut(token, ":")
	id, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0
	}
	return id
}

// RunAsPrimary polls and handles until the term's Drain is closed or ctx ends. When ctx ends nothing leaves any
// more. It returns only after its last request has ended: then the bot is silent.
func (b *Bot) RunAsPrimary(ctx context.Context, t term.Term) error {
	b.admins.TookOver()
	b.intake.Run(ctx, t)
	return nil
}

// NoBackend is why no webhook backend or copy of a polling bot takes updates; empty if one does, or if the bot that comes along
// handles them.
func (b *Bot) NoBackend() string {
	switch {
	case b.gateway != nil:
		return b.gateway.NoCopy()
	case b.relay == nil:
		return ""
	}
	if err := b.relay.Readiness().Ready; err != nil {
		return err.Error()
	}
	return ""
}

// Backends is what is known of webhook backends; nil if none is configured.
func (b *Bot) Backends() *relay.Snapshot {
	if b.relay == nil {
		return nil
	}
	s := b.relay.Snapshot()
	return &s
}

// Copies is what is known of copies of a polling bot; nil if none handle updates, or the primary cannot be asked.
func (b *Bot) Copies(ctx context.Context) *gateway.Snapshot {
	if b.gateway == nil {
		return nil
	}
	return b.gateway.Snapshot(ctx)
}

// ErrNoGateway says that no copies of a polling bot handle updates.
var ErrNoGateway = errors.New("BACKEND is not gateway: there are no copies of a bot")

// NextCopy moves the turn on to another copy. The error is ErrNoGateway, or one of gateway's.
func (b *Bot) NextCopy(ctx context.Context) error {
	if b.gateway == nil {
		return ErrNoGateway
	}
	return b.gateway.Next(ctx) //nolint:wrapcheck // the server tells them apart
}

// RunBackends watches webhook backends until ctx ends; then it returns nil. It runs on every replica, primary or not.
func (b *Bot) RunBackends(ctx context.Context) error {
	if b.relay == nil {
		<-ctx.Done()
		return nil
	}
	defer b.relay.Close()
	return b.relay.Run(ctx) //nolint:wrapcheck // it has none
}

// Gateway is the server for copies of a polling bot; nil if none is configured.
func (b *Bot) Gateway() *gateway.Gateway { return b.gateway }

// RunProbe watches the way to Telegram while this replica is not primary, until ctx ends; then it returns nil.
func (b *Bot) RunProbe(ctx context.Context) error { return b.reach.RunProbe(ctx) } //nolint:wrapcheck // it has none

// RunNotifier notifies the admins of changes of primary and of what is wrong, until ctx ends; then it returns nil.
func (b *Bot) RunNotifier(ctx context.Context) error { return b.admins.Run(ctx) } //nolint:wrapcheck // it has none

// Trouble is why Telegram refuses this bot; empty if it does not.
func (b *Bot) Trouble() diagnosis.Trouble { return b.reach.Trouble() }

// LastPoll is when Telegram last answered a poll of this replica; zero if it has not.
func (b *Bot) LastPoll() time.Time { return b.reach.LastPoll() }

package service

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"habot/app/bot"
	"habot/app/config"
	"habot/app/diagnosis"
	"habot/app/election"
	"habot/app/gateway"
	"habot/app/listener"
	"habot/app/node"
	"habot/app/peer"
	"habot/app/relay"
	"habot/app/supervise"
	"habot/app/turns"
	"habot/app/web"
)

// processEvery is how often the use of memory, processor and files is read.
const processEvery = 5 * time.Second

// dialBound bounds making a connection to another replica, however long the lease.
const dialBound = time.Second

// incompatibleFor is how long an incompatible instance counts as there at least; each is asked once a lease and may miss a
// question. Of many replicas each is asked less often: a second is added for each.
const incompatibleFor = 10 * time.Second

// Options are what a replica is made of.
type Options struct {
	Config config.Config
	// Name is what people call this replica: Name's answer.
	Name    string
	Version string
	// Logger puts the name into every line.
	Logger *slog.Logger
	// Exit ends the process at once (os.Exit): the fail-stop of a replica that cannot stop otherwise.
	Exit func(code int)
}

// replica is what takes part in an election or, in bot-only mode, in none.
type replica interface {
	Run(ctx context.Context) error
	View() election.View
	Switchover(ctx context.Context, successor string) error
	SetHealth(h election.Health)
}

// audited is a replica that operators move, and whose log says so.
type audited struct {
	replica
	log *slog.Logger
}

// Switchover implements web.Replica.
func (o audited) Switchover(ctx context.Context, successor string) error {
	o.log.Info("switchover requested", "by", "operator")
	return o.replica.Switchover(ctx, successor) //nolint:wrapcheck // the server tells known errors apart
}

// The names of the servers among the components.
const (
	peerServer    = "peer server"
	webServer     = "operators' server"
	gatewayServer = "gateway's server"
)

// service is one replica, made and not yet started.
type service struct {
	opts       Options
	cfg        config.Config
	log        *slog.Logger
	supervisor *supervise.Supervisor
	replica    replica
	bot        *bot.Bot // nil for a witness
	// others is what gateways share; nil without one, or without an election.
	others *Others
	// incompatible are instances met lately that cannot take part; nil if others are not asked.
	incompatible func() []string
	components   []supervise.Component
	servers      []supervise.Server
	close        []func()
}

// Run makes a replica and runs it until ctx ends. It returns nil after an orderly shutdown.
func Run(ctx context.Context, opts Options) error {
	s := &service{opts: opts, cfg: opts.Config, log: opts.Logger}
	s.warn()
	if err := s.build(); err != nil {
		return err
	}
	failure := s.supervisor.Run(ctx, s.replica.Run, s.components, s.servers)
	for _, f := range s.close {
		f()
	}
	s.log.Info("stopped", "failed", failure != nil)
	return failure //nolint:wrapcheck // it names the component
}

// warn says what is worth a line before anything starts.
func (s *service) warn() {
	for _, w := range s.cfg.Warnings {
		s.log.Warn(w)
	}
	switch {
	case !s.cfg.Demo:
	case !s.cfg.Stack:
		s.log.Warn("BOT_TOKEN is not set: this is the demo, not the real Telegram")
	default:
		s.log.Error("this stack runs the demo: it was given no token. docker stack deploy does not read .env; app/DEPLOY.md says how to hand it over")
	}
}

// newReplicaID is random: a process that starts again is another replica.
func newReplicaID() election.ReplicaID {
	var raw [8]byte
	_, _ = rand.Read(raw[:]) // never fails: crypto/rand ends the process rather than return an error
	return election.ReplicaID(hex.EncodeToString(raw[:]))
}

// Name finds out what people call the replica of a configuration. It may look names up, and takes as long.
func Name(ctx context.Context, cfg config.Config) string {
	if cfg.ReplicaName != "" {
		return cfg.ReplicaName
	}
	host, err := os.Hostname()
	if err != nil {
		host = "replica"
	}
	return peer.OwnName(ctx, nil, cfg.Instances, host)
}

// build makes all components and opens the ports.
func (s *service) build() error {
	id, name := newReplicaID(), s.opts.Name
	s.supervisor = supervise.New(supervise.Config{
		Lease: s.cfg.Lease, Turns: s.cfg.LeavePatience > 0 && s.cfg.Mode != config.ModeBotOnly, Logger: s.log, Exit: s.opts.Exit, ErrFailed: node.ErrPartFailed, ErrHalted: node.ErrHalted,
	})
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), &cachedCollector{Collector: collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), every: processEvery},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "habot_replica_info", Help: "Who this replica is; always 1.",
			ConstLabels: prometheus.Labels{"replica": name, "id": string(id), "version": s.opts.Version, "mode": s.cfg.Mode},
		}, func() float64 { return 1 }))
	voter := s.voter(id)
	if s.cfg.Mode == config.ModeBotOnly {
		s.replica = node.NewSolo(voter, node.BootClock{}, s.work, registry)
	} else if err := s.buildElection(voter, registry); err != nil {
		return err
	}
	if !s.cfg.Witness {
		s.buildBot(id, name, registry)
		if err := s.buildGateway(); err != nil {
			return err
		}
	}
	if err := s.buildWeb(registry); err != nil {
		return err
	}
	s.log.Info("starting", "version", s.opts.Version, "id", id, "mode", s.cfg.Mode, "witness", s.cfg.Witness, "lease_seconds", s.cfg.Lease.Seconds(),
		"replicas", s.cfg.Replicas, "quorum", cmp.Or(s.cfg.Quorum, s.cfg.Replicas/2+1), "instances", s.cfg.Instances,
		"telegram", s.cfg.APIURL, "proxy", shownProxy(s.cfg.Proxy), "demo", s.cfg.Demo)
	return nil
}

// voter is this replica in the election.
func (s *service) voter(id election.ReplicaID) election.Config {
	return election.Config{
		Self: id, Name: s.opts.Name, Version: s.opts.Version, Lease: s.cfg.Lease, Replicas: s.cfg.Replicas, Quorum: s.cfg.Quorum,
		HealthSettles: bot.HealthSettles, LeavePatience: s.cfg.LeavePatience, StopWithin: supervise.StopWithin, LeaveWithin: supervise.LeaveWithin(s.cfg.LeavePatience > 0), Witness: s.cfg.Witness,
	}
}

// shownProxy is a proxy as the log names it: without its user and password. Some proxies take a secret for the user.
func shownProxy(proxy *url.URL) string {
	if proxy == nil {
		return ""
	}
	return (&url.URL{Scheme: proxy.Scheme, Host: proxy.Host}).String()
}

// buildElection makes the election and the way to the other replicas.
func (s *service) buildElection(voter election.Config, registry *prometheus.Registry) error {
	identity, err := peer.NewIdentity(s.cfg.ClusterSecrets...)
	if err != nil {
		return fmt.Errorf("make the identity for other replicas: %w", err)
	}
	_, port, err := net.SplitHostPort(s.cfg.PeerAddr)
	if err != nil {
		return fmt.Errorf("read PEER_ADDR: %w", err)
	}
	client := peer.NewClient(peer.ClientConfig{
		Identity: identity, Self: voter.Self, Instances: s.cfg.Instances, Port: port, Logger: s.log,
		Timeout: min(voter.QueryTimeout(), dialBound), Registerer: registry, After: s.supervisor.After,
	})
	n := node.New(node.Config{
		Election: voter, Clock: node.BootClock{}, Transport: client, Work: s.work, Logger: s.log, Registerer: registry,
		Expect: func(d time.Duration) { s.supervisor.Alive("election", d) },
		Halt:   s.supervisor.Halt,
		Gone: func(id election.ReplicaID) {
			if s.others != nil {
				s.others.Gone(id)
			}
		},
	})
	serving := peer.ServerConfig{
		Addr: s.cfg.PeerAddr, Identity: identity, Replica: n, Logger: s.log, Registerer: registry,
		Served: func() { s.supervisor.Served(peerServer) },
	}
	if s.cfg.Gateway || s.cfg.Witness { // a majority knows of turns, and a witness is part of it
		passer := peer.NewPasser(peer.ClientConfig{Identity: identity, Timeout: dialBound})
		s.close = append(s.close, passer.Close)
		s.others = NewOthers(OthersConfig{
			Self: voter.Self, Node: n, Addresses: client.Addresses, Peers: passer, Logger: s.log,
			Now: func() turns.Instant { return turns.Instant(node.BootClock{}.Read().Now) },
		})
		serving.Gateway = s.others.Served()
	}
	server := peer.NewServer(serving)
	if err := server.Listen(); err != nil {
		return fmt.Errorf("open PEER_ADDR: %w", err)
	}
	s.replica = n
	s.buildLifelines(voter.Self, n, registry)
	lately := max(incompatibleFor+time.Duration(voter.Replicas)*time.Second, 3*voter.Lease)
	s.incompatible = func() []string { return client.IncompatiblePeers(lately) }
	s.close = append(s.close, client.Close)
	s.components = append(s.components, supervise.Component{Name: peerServer, Run: server.Serve}, supervise.Component{Name: "discovery", Run: client.RunDiscovery})
	s.servers = append(s.servers, supervise.Server{Name: peerServer, Ask: listener.Asking(func(ctx context.Context) error {
		_, err := client.Status(ctx, listener.Local(s.cfg.PeerAddr))
		return err //nolint:wrapcheck // only whether there is one counts
	}, server.Answers)})
	return nil
}

func (s *service) buildBot(id election.ReplicaID, name string, registry *prometheus.Registry) {
	s.bot = bot.New(bot.Config{
		Token: s.cfg.Token, APIURL: s.cfg.APIURL, Proxy: s.cfg.Proxy, Name: name, Version: s.opts.Version, AdminChatIDs: s.cfg.AdminChatIDs,
		Cluster: s.replica, IncompatiblePeers: s.incompatible, Logger: s.log, Registerer: registry, OnHealth: s.replica.SetHealth,
		Backend: s.backend(), Gateway: s.gateway(id), After: s.supervisor.After,
	})
	s.components = append(s.components, supervise.Component{Name: "telegram probe", Run: s.bot.RunProbe}, supervise.Component{Name: "notifier", Run: s.bot.RunNotifier})
	if len(s.cfg.Backends) > 0 {
		s.components = append(s.components, supervise.Component{Name: "backends", Run: s.bot.RunBackends})
	}
}

// backend is who handles updates; nil for the bot that comes along.
func (s *service) backend() *bot.Backend {
	if len(s.cfg.Backends) == 0 {
		return nil
	}
	return &bot.Backend{
		Relay: relay.Config{
			Backends: s.cfg.Backends, Secret: s.cfg.BackendSecret, Timeout: s.cfg.BackendTimeout, Parallel: s.cfg.BackendParallel,
		},
		Updates: s.cfg.BackendUpdates,
	}
}

// gateway is what the gateway for copies of a polling bot is made of; nil if none handle updates.
func (s *service) gateway(id election.ReplicaID) *gateway.Config {
	if !s.cfg.Gateway {
		return nil
	}
	cfg := gateway.Config{
		Addr: s.cfg.GatewayAddr, Replica: string(id), Token: s.cfg.GatewayToken,
		Turns:  turns.Config{Patience: s.cfg.GatewayPatience, Replay: s.cfg.GatewayReplay},
		Served: func() { s.supervisor.Served(gatewayServer) },
	}
	if s.others != nil {
		s.others.Join(&cfg)
	}
	return &cfg
}

// buildGateway opens the gateway's port.
func (s *service) buildGateway() error {
	g := s.bot.Gateway()
	if g == nil {
		return nil
	}
	if s.others != nil {
		s.others.Serve(g.Passer())
	}
	if err := g.Listen(); err != nil {
		return fmt.Errorf("open GATEWAY_ADDR: %w", err)
	}
	client := web.NewClient(s.cfg.GatewayAddr, "")
	s.close = append(s.close, client.Close)
	s.components = append(s.components, supervise.Component{Name: gatewayServer, Run: g.Serve}, supervise.Component{Name: "gateway", Run: g.Run},
		supervise.Component{Name: "gateway's reports", Run: g.Passer().Run})
	s.servers = append(s.servers, supervise.Server{Name: gatewayServer, Ask: listener.Asking(client.Answers, g.Answers)})
	return nil
}

func (s *service) buildWeb(registry *prometheus.Registry) error {
	lastPoll, backends := func() (never time.Time) { return never }, func() *relay.Snapshot { return nil }
	if s.bot != nil {
		lastPoll, backends = s.bot.LastPoll, s.bot.Backends
	}
	cfg := web.Config{
		Addr: s.cfg.HTTPAddr, Replica: audited{s.replica, s.log}, Failing: s.supervisor.Failing, Facts: s.facts, LastPoll: lastPoll, Backends: backends,
		Demo: s.cfg.Demo, AdminToken: s.cfg.AdminToken, OperatorKey: s.cfg.OperatorKey, Gatherer: registry, Logger: s.log,
		Served: func() { s.supervisor.Served(webServer) },
	}
	if s.bot != nil && s.bot.Gateway() != nil { // a witness has no bot
		cfg.Copies, cfg.Next = s.bot.Copies, s.bot.NextCopy
	}
	server := web.NewServer(cfg)
	if err := server.Listen(); err != nil {
		return fmt.Errorf("open HTTP_ADDR: %w", err)
	}
	client := web.NewClient(s.cfg.HTTPAddr, "")
	s.close = append(s.close, client.Close)
	s.components = append(s.components, supervise.Component{Name: webServer, Run: server.Serve}, supervise.Component{Name: "verdict", Run: s.logVerdicts})
	s.servers = append(s.servers, supervise.Server{Name: webServer, Ask: listener.Asking(client.Answers, server.Answers)})
	return nil
}

// facts are what this replica knows now.
func (s *service) facts() diagnosis.Facts {
	f := diagnosis.Facts{View: s.replica.View(), Failing: s.supervisor.Failing()}
	if s.bot != nil {
		f.Trouble, f.NoBackend = s.bot.Trouble(), s.bot.NoBackend()
	}
	if s.incompatible != nil {
		f.Incompatible = s.incompatible()
	}
	return f
}

// work is what only the primary does, which a witness never is.
func (s *service) work(ctx context.Context, t node.Term) error {
	defer s.supervisor.Clear("poller")
	t.Expect = s.supervisor.Expect
	return s.bot.RunAsPrimary(ctx, t) //nolint:wrapcheck // the node says what it was
}

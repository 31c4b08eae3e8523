package service

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"habot/app/bot"
	"habot/app/config"
	"habot/app/election"
	"habot/app/listener"
	"habot/app/node"
	"habot/app/peer"
	"habot/app/web"
)

// ErrPart says that a part of the replica died or stalled. The process is to exit non-zero, so that it
// is started afresh.
var ErrPart = errors.New("a part of this replica failed")

// shutdownBound bounds a shutdown: what the bot has in hand, its confirmation, the release. It is below
// Compose's stop_grace_period.
const shutdownBound = 12 * time.Second

// leaveWithin bounds how long a replica that stops goes on granting because the primary needs it for a quorum: longer than
// a primary that stops with it takes, and short enough for the shutdown's bound.
const leaveWithin = shutdownBound - 500*time.Millisecond

// processEvery is how often the use of memory, processor and files is read.
const processEvery = 5 * time.Second

// dialBound bounds making a connection to another replica, however long the lease.
const dialBound = time.Second

// strangersFor is how long an instance that does not fit counts as there at least; each is asked once a lease
// and may miss a question.
const strangersFor = 10 * time.Second

// partsBound bounds the wait for the parts once the replica has left.
const partsBound = 2 * time.Second

// Options are what a replica is made of.
type Options struct {
	Config  config.Config
	Version string
	Logger  *slog.Logger
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

// operated is a replica that operators move, and whose log says so.
type operated struct {
	replica
	log *slog.Logger
}

// Switchover implements web.Replica.
func (o operated) Switchover(ctx context.Context, successor string) error {
	o.log.Info("switchover requested", "by", "operator")
	return o.replica.Switchover(ctx, successor) //nolint:wrapcheck // the server tells known errors apart
}

// The names of the servers among the parts.
const (
	peerServer = "peer server"
	webServer  = "operators' server"
)

// part is one thing that runs as long as the replica does.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// service is one replica, made and not yet started.
type service struct {
	opts    Options
	cfg     config.Config
	log     *slog.Logger
	watch   *watch
	replica replica
	bot     *bot.Bot
	// strangers are instances met lately that do not fit; nil if others are not asked.
	strangers func() []string
	parts     []part
	servers   []ownServer
	close     []func()
}

// Run makes a replica and runs it until ctx ends. It returns nil after an orderly shutdown.
func Run(ctx context.Context, opts Options) error {
	s := &service{opts: opts, cfg: opts.Config, log: opts.Logger, watch: newWatch(lookEvery(opts.Config.Lease))}
	for _, w := range s.cfg.Warnings {
		s.log.Warn(w)
	}
	if err := s.build(ctx); err != nil {
		return err
	}
	return s.run(ctx)
}

// newReplicaID is random: a process that starts again is another replica.
func newReplicaID() election.ReplicaID {
	var raw [8]byte
	_, _ = rand.Read(raw[:]) // never fails: crypto/rand ends the process rather than return an error
	return election.ReplicaID(hex.EncodeToString(raw[:]))
}

// name is what people call this replica.
func (s *service) name(ctx context.Context) string {
	if s.cfg.ReplicaName != "" {
		return s.cfg.ReplicaName
	}
	host, err := os.Hostname()
	if err != nil {
		host = "replica"
	}
	if s.cfg.Mode == config.ModeBotOnly {
		return host
	}
	return peer.OwnName(ctx, nil, s.cfg.Instances, host)
}

// build makes all parts and opens the ports.
func (s *service) build(ctx context.Context) error {
	id, name := newReplicaID(), s.name(ctx)
	s.log = s.log.With("replica", name)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), &slowly{Collector: collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), every: processEvery},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "habot_replica_info", Help: "Who this replica is; always 1.",
			ConstLabels: prometheus.Labels{"replica": name, "id": string(id), "version": s.opts.Version, "mode": s.cfg.Mode},
		}, func() float64 { return 1 }))
	voter := election.Config{
		Self: id, Name: name, Version: s.opts.Version, Lease: s.cfg.Lease, Replicas: s.cfg.Replicas, Quorum: s.cfg.Quorum,
		HealthSettles: bot.HealthSettles, LeaveWithin: leaveWithin,
	}
	if s.cfg.Mode == config.ModeBotOnly {
		s.replica = node.NewSolo(voter, node.BootClock{}, s.work, registry)
	} else if err := s.buildElection(voter, registry); err != nil {
		return err
	}
	if err := s.buildBot(name, registry); err != nil {
		return err
	}
	if err := s.buildWeb(registry); err != nil {
		return err
	}
	s.parts = append(s.parts, s.probes()...)
	s.parts = append(s.parts, part{"watch", s.watch.run})
	s.log.Info("starting", "version", s.opts.Version, "id", id, "mode", s.cfg.Mode, "lease_seconds", s.cfg.Lease.Seconds(),
		"replicas", s.cfg.Replicas, "quorum", cmp.Or(s.cfg.Quorum, s.cfg.Replicas/2+1), "instances", s.cfg.Instances,
		"telegram", s.cfg.APIURL, "demo", s.cfg.Demo)
	return nil
}

// buildElection makes the election and the way to the other replicas.
func (s *service) buildElection(voter election.Config, registry *prometheus.Registry) error {
	identity, err := peer.NewIdentity(s.cfg.ClusterSecret)
	if err != nil {
		return fmt.Errorf("make the identity for other replicas: %w", err)
	}
	_, port, err := net.SplitHostPort(s.cfg.PeerAddr)
	if err != nil {
		return fmt.Errorf("read PEER_ADDR: %w", err)
	}
	client := peer.NewClient(peer.ClientConfig{
		Identity: identity, Self: voter.Self, Instances: s.cfg.Instances, Port: port, Logger: s.log,
		Timeout: min(voter.QueryTimeout(), dialBound),
	})
	n := node.New(node.Config{
		Election: voter, Clock: node.BootClock{}, Transport: client, Work: s.work, Logger: s.log, Registerer: registry,
		Within: func(d time.Duration) { s.watch.within("election", max(d, leastPatience)) },
		Halt:   s.halt,
	})
	server := peer.NewServer(peer.ServerConfig{
		Addr: s.cfg.PeerAddr, Identity: identity, Replica: n, Logger: s.log, Registerer: registry, Served: s.served(peerServer),
	})
	if err := server.Listen(); err != nil {
		return fmt.Errorf("open PEER_ADDR: %w", err)
	}
	s.replica = n
	s.strangers = func() []string { return client.Strangers(max(strangersFor, 3*voter.Lease)) }
	s.close = append(s.close, client.Close)
	s.parts = append(s.parts, part{peerServer, server.Serve}, part{"discovery", client.RunDiscovery})
	s.servers = append(s.servers, ownServer{peerServer, func(ctx context.Context) error {
		_, err := client.Status(ctx, listener.Local(s.cfg.PeerAddr))
		return err //nolint:wrapcheck // only whether there is one counts
	}})
	return nil
}

func (s *service) buildBot(name string, registry *prometheus.Registry) (err error) {
	s.bot, err = bot.New(bot.Config{
		Token: s.cfg.Token, APIURL: s.cfg.APIURL, Name: name, Version: s.opts.Version, AdminChatIDs: s.cfg.AdminChatIDs,
		Cluster: s.replica, Strangers: s.strangers, Logger: s.log, Registerer: registry, OnHealth: s.replica.SetHealth,
	})
	if err != nil {
		return fmt.Errorf("make the bot: %w", err)
	}
	s.parts = append(s.parts, part{"telegram probe", s.bot.RunProbe}, part{"telling", s.bot.RunTelling})
	return nil
}

func (s *service) buildWeb(registry *prometheus.Registry) error {
	server := web.NewServer(web.Config{
		Addr: s.cfg.HTTPAddr, Replica: operated{s.replica, s.log}, Failing: s.watch.failing, Trouble: s.bot.Trouble,
		AdminToken: s.cfg.AdminToken, Gatherer: registry, Logger: s.log, Served: s.served(webServer),
	})
	if err := server.Listen(); err != nil {
		return fmt.Errorf("open HTTP_ADDR: %w", err)
	}
	client := web.NewClient(s.cfg.HTTPAddr, "")
	s.close = append(s.close, client.Close)
	s.parts = append(s.parts, part{webServer, server.Serve})
	s.servers = append(s.servers, ownServer{webServer, client.Answers})
	return nil
}

// work is what only the primary does.
func (s *service) work(ctx context.Context, t node.Term) error {
	defer s.watch.excuse("poller")
	return s.bot.RunAsPrimary(ctx, bot.Term{ //nolint:wrapcheck // the node says what it was
		Change: t.Change, Held: t.Held, Drain: t.Drain, Handled: t.Handled, Report: t.Report,
		Within: s.watch.promise,
	})
}

// patience is how long a part may show no sign of life: so much less than a lease that a replica with a
// stalled part has left before its lease ends; but never so short that a busy machine passes for a broken one.
func (s *service) patience() time.Duration { return max(13*s.cfg.Lease/20, leastPatience) }

const leastPatience = 300 * time.Millisecond

// lookEvery is how often the watch looks at the promises.
func lookEvery(lease time.Duration) time.Duration { return lease / 5 }

// ownServer is a server of ours, and how to ask it for a sign of life.
type ownServer struct {
	name string
	ask  func(context.Context) error
}

// probes are the parts that ask our servers.
func (s *service) probes() []part {
	var all []part
	for _, server := range s.servers {
		all = append(all, part{"probe of the " + server.name, func(ctx context.Context) error { return s.probe(ctx, server) }})
	}
	return all
}

// served is a server's sign of life: it has answered a request.
func (s *service) served(name string) func() {
	return func() { s.watch.within(name, s.patience()) }
}

// probe asks one server of ours for a sign of life when nobody else has for half of its patience, until
// ctx ends: that leaves it the other half to answer.
func (s *service) probe(ctx context.Context, server ownServer) error {
	s.served(server.name)()
	defer s.watch.excuse(server.name)
	every := s.patience() / 2
	t := time.NewTimer(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if idle := s.watch.idle(server.name); idle < every {
			t.Reset(every - idle)
			continue
		}
		if s.askServer(ctx, server) {
			t.Reset(every)
		} else {
			t.Reset(every / 4)
		}
	}
}

// askServer tells whether the server has answered.
func (s *service) askServer(ctx context.Context, server ownServer) bool {
	ctx, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	if err := server.ask(ctx); err != nil {
		return false
	}
	s.served(server.name)()
	return true
}

// halt is the fail-stop.
func (s *service) halt(reason string) {
	s.log.Error("the process ends at once", "reason", reason)
	s.opts.Exit(1)
}

// run starts the parts, the election last, and stops them, the election first.
func (s *service) run(ctx context.Context) error {
	living, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, len(s.parts))
	var all sync.WaitGroup
	for _, p := range s.parts {
		all.Go(func() {
			if err := s.runPart(living, p); living.Err() == nil {
				failed <- err
			}
		})
	}
	taking, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	left := make(chan error, 1)
	go func() { left <- s.replica.Run(taking) }()

	failure := s.untilOver(ctx, left, failed, leave)
	if errors.Is(failure, node.ErrHalted) {
		s.halt(failure.Error()) // the work may still be at it
	}
	stop()
	s.awaitParts(&all, failure != nil)
	for _, f := range s.close {
		f()
	}
	s.log.Info("stopped", "failed", failure != nil)
	return failure
}

// awaitParts waits until all parts have ended, but not for long: the process exits, one way or the other.
func (s *service) awaitParts(all *sync.WaitGroup, failed bool) {
	patience := partsBound
	if failed {
		patience = s.cfg.Lease / 10
	}
	ended := make(chan struct{})
	go func() {
		all.Wait()
		close(ended)
	}()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-ended:
	case <-t.C:
		s.log.Warn("some parts have not ended: exiting without them")
	}
}

// runPart makes a panic of a part its failure.
func (s *service) runPart(ctx context.Context, p part) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %s: panic: %v", ErrPart, p.name, r)
		}
		if ctx.Err() == nil {
			s.watch.died(p.name)
		}
	}()
	if err = p.run(ctx); err == nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %s ended", ErrPart, p.name)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrPart, p.name, err)
	}
	return nil
}

// untilOver waits until the replica has left: because ctx ended, because it failed itself, or because
// a part failed. Either way it has to be gone in time.
func (s *service) untilOver(ctx context.Context, left, failed <-chan error, leave context.CancelCauseFunc) error {
	var failure error
	select {
	case err := <-left:
		return err
	case <-ctx.Done():
		late := time.AfterFunc(shutdownBound, func() { s.halt("the shutdown takes too long") })
		defer late.Stop()
	case failure = <-failed:
		late := time.AfterFunc(7*s.cfg.Lease/20, func() { s.halt("a failed replica could not leave in time") })
		defer late.Stop()
		leave(node.ErrPartFailed)
		s.log.Error("stepping down and exiting", "error", failure)
	}
	return cmp.Or(failure, <-left)
}

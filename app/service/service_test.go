package service

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/bot"
	"habot/app/config"
	"habot/app/election"
	"habot/app/logging"
	"habot/app/supervise"
)

// blind is a replica without a quorum, until set gives it another view.
type blind struct {
	willing
	mu   sync.Mutex
	view election.View
}

func (b *blind) View() election.View {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.view
}

func (b *blind) set(v election.View) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.view = v
}

func TestTheLogTellsWhetherTheBotAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := &record{}
		b := &blind{view: election.View{Self: election.Status{Name: "r1", Role: election.Looking, Health: election.Health{OK: true}}, Expected: 3, Reachable: 1, Quorum: 2}}
		log := logging.New(logs, slog.LevelInfo, false)
		s := &service{cfg: config.Config{Lease: time.Second}, log: log, replica: b, supervisor: supervise.New(supervise.Config{Lease: time.Second, Logger: log})}
		s.bot = bot.New(bot.Config{
			Token: config.DemoToken, APIURL: "http://127.0.0.1:1", Cluster: b, Logger: log, Registerer: prometheus.NewRegistry(), OnHealth: func(election.Health) {},
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.logVerdicts(ctx) }()
		time.Sleep(time.Hour)
		const absent = `ERROR the bot does not answer cause=no_primary verdict="no primary: 1 of 3 replicas reachable, 2 needed" problems="2 of 3 replicas missing, no contact for a minute or ever"`
		if got := logs.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, absent) {
			t.Errorf("logged %q", got)
		}
		v := b.View()
		v.Reachable, v.Self.Role, v.Self.PrimaryName, v.Self.Primary = 2, election.Primary, "r1", election.Claim{Timestamp: 1, Replica: "id"}
		b.set(v)
		time.Sleep(time.Hour)
		if got := logs.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, `INFO  the bot answers verdict="the bot answers: r1 is primary"`) {
			t.Errorf("logged %q", got)
		}
		good, bad := v, v
		bad.Self.Primary = election.Claim{}
		for range 100 { // for more than half an hour
			b.set(bad)
			time.Sleep(10 * time.Second)
			b.set(good)
			time.Sleep(10 * time.Second)
		}
		if n := strings.Count(logs.String(), "\n"); n < 30 || n > 2+verdictLines+34 {
			t.Errorf("%d lines for 200 verdicts in 2000 seconds", n)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// willing is a replica that accepts every call.
type willing struct{}

func (willing) Run(context.Context) error                { return nil }
func (willing) View() election.View                      { return election.View{} }
func (willing) Switchover(context.Context, string) error { return nil }
func (willing) SetHealth(election.Health)                {}

func TestTheLogTellsThatAnOperatorAskedForASwitchover(t *testing.T) {
	logs := &record{}
	if err := (audited{willing{}, logging.New(logs, slog.LevelInfo, false)}).Switchover(t.Context(), "r2"); err != nil {
		t.Fatal(err)
	}
	if got := logs.String(); !strings.Contains(got, "INFO  switchover requested by=operator\n") {
		t.Errorf("logged %q", got)
	}
}

func TestADemoSaysThatItIsOne(t *testing.T) {
	t.Parallel()
	for environ, want := range map[string]bool{"": true, "BOT_TOKEN=123456:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghi": false, "SWARM_TASK=habot_bot.1": false} {
		var logs record
		s := &service{cfg: load(t, strings.Fields(environ)...), log: slog.New(slog.NewTextHandler(&logs, nil))}
		s.warn()
		if got := strings.Contains(logs.String(), `level=WARN msg="BOT_TOKEN is not set: this is the demo, not the real Telegram"`); got != want {
			t.Errorf("%q: %t, want %t:\n%s", environ, got, want, logs.String())
		}
	}
}

// The demo's token is public, and a stack's ports are open to all.
func TestADemoThatIsDeployedAsAStackIsAnError(t *testing.T) {
	t.Parallel()
	for environ, want := range map[string]bool{
		"SWARM_TASK=habot_bot.1":                                                      true,
		"SWARM_TASK={{.Service.Name}}.{{.Task.Slot}}":                                 false,
		"SWARM_TASK=habot_bot.1 BOT_TOKEN=123456:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghi": false,
	} {
		var logs record
		s := &service{cfg: load(t, strings.Fields(environ)...), log: slog.New(slog.NewTextHandler(&logs, nil))}
		s.warn()
		if got := strings.Contains(logs.String(), "level=ERROR") && strings.Contains(logs.String(), "this stack runs the demo"); got != want {
			t.Errorf("%s: an error %t, want %t:\n%s", environ, got, want, logs.String())
		}
	}
}

// The settings that the election has to know reach it, and it has as long for leaving as the supervisor gives it.
func TestTheElectionIsGivenTheSettings(t *testing.T) {
	t.Parallel()
	s := &service{cfg: load(t, "LEASE=700ms", "REPLICAS=5", "QUORUM=2"), opts: Options{Name: "r1", Version: "test"}}
	want := election.Config{
		Self: id(1), Name: "r1", Version: "test", Lease: 700 * time.Millisecond, Replicas: 5, Quorum: 2, HealthSettles: bot.HealthSettles,
		LeavePatience: 5 * time.Second, StopWithin: supervise.StopWithin, LeaveWithin: supervise.StopWithin + supervise.TurnsBound,
	}
	if got := s.voter(id(1)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	s.cfg = load(t, "LEASE=700ms", "REPLICAS=5", "QUORUM=2", "LEAVE_PATIENCE=0", "WITNESS=true", "CLUSTER_SECRET=UtCsjPNmx+wChid/KTCcAHs+J4ADYG7o83V7GE+/dfc=")
	want.LeavePatience, want.LeaveWithin, want.Witness = 0, supervise.StopWithin, true
	if got := s.voter(id(1)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// Over its port each server is asked once in a while: that costs more than all else that an idle replica does.
func TestServersAreAskedByTheirHandlersInBetween(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := &service{log: slog.New(slog.DiscardHandler), cfg: load(t, "BACKEND=gateway", "INSTANCES=127.0.0.1:1", "LIFELINE_DIR=", "LEAVE_PATIENCE=0", "TELEGRAM_API_URL=http://127.0.0.1:1",
		"PEER_ADDR="+freePort(t), "HTTP_ADDR="+freePort(t), "GATEWAY_ADDR="+freePort(t))}
	s.opts = Options{Config: s.cfg, Name: "r1", Version: "test", Logger: s.log, Exit: func(int) { t.Error("the replica halted") }}
	if err := s.build(); err != nil {
		t.Fatal(err)
	}
	left := make(chan error, 1)
	go func() { left <- s.replica.Run(ctx) }()
	if len(s.servers) != 3 {
		t.Errorf("%d servers are asked", len(s.servers))
	}
	for _, server := range s.servers {
		i := slices.IndexFunc(s.components, func(c supervise.Component) bool { return c.Name == server.Name })
		serving, stop := context.WithCancel(ctx)
		stopped := make(chan error, 1)
		go func() { stopped <- s.components[i].Run(serving) }()
		if err := server.Ask(ctx); err != nil {
			t.Errorf("%s, over its port: %v", server.Name, err)
		}
		stop()
		if err := <-stopped; err != nil {
			t.Errorf("%s: %v", server.Name, err)
		}
		if err := server.Ask(ctx); err != nil {
			t.Errorf("%s is asked over its port each time: %v", server.Name, err)
		}
	}
	cancel()
	if err := <-left; err != nil {
		t.Error(err)
	}
	for _, f := range s.close {
		f()
	}
}

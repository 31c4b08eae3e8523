//go:build e2e

package backends

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"habot/app/simulator"
)

var (
	replicaCount = flag.Int("replicas", 3, "how many replicas serve the copies")
	keepLogs     = flag.Bool("logs", false, "write the logs of replicas and copies of tests that pass, too")
)

// buildHabot is the program of the replicas.
var buildHabot = sync.OnceValues(func() (string, error) {
	dir, err := cache()
	if err != nil {
		return "", err
	}
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	// A name of its own for each checkout: two may be tested at a time.
	program := filepath.Join(dir, fmt.Sprintf("habot-%.4x", sha256.Sum256([]byte(here))))
	cmd := exec.Command("go", "build", "-tags", "nomsgpack,stdjson", "-o", program, "habot/app")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build habot: %w\n%s", err, out)
	}
	return program, nil
})

// site is everything at once: Telegram, replicas and copies of a bot, each on a machine of its own.
type site struct {
	t        *testing.T
	network  *network
	sim      *simulator.Simulator
	telegram string
	replicas []*replica
	copies   []*copyOf
	stop     context.CancelFunc
	load     sync.WaitGroup
	written  int64
	// mayCutOff: replicas have ended to which copies are connected. A call that was on its way on such a connection has failed, and a bot that
	// confirms before it handles, and does not repeat the call, leaves its update unanswered, as with any server. cutOff is how many are.
	mayCutOff bool
	cutOff    int64
}

// mostCutOff is how many updates may be left unanswered so: two replicas end in good order, and one is killed.
const mostCutOff = 3

// chats is how many users write: so many that no two updates of one are in hand at a time, for a sign of the one would be
// taken for one of the other.
const chats = 200

// termBound is within which a copy that was ended by SIGTERM is replaced: far below the patience of the test's replicas, and far above
// the time that a process takes to end.
const termBound = 8 * time.Second

// newSite starts Telegram and the replicas.
func newSite(t *testing.T, replicas int, env ...string) *site {
	t.Helper()
	s := &site{t: t, network: newNetwork(t)}
	s.sim = simulator.New(simulator.Config{Token: token, Chats: chats, Logger: slog.New(slog.DiscardHandler)})
	l, err := net.Listen("tcp", s.network.net+".1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s.sim.Handler()}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	s.telegram = "http://" + l.Addr().String()
	lifelines := t.TempDir()
	var instances []string
	for i := range replicas {
		instances = append(instances, fmt.Sprintf("%s.%d", s.network.net, 11+i))
	}
	for i := range replicas {
		h := s.network.host(t, fmt.Sprintf("r%d", i+1), 11+i, "")
		all := append(append(os.Environ(),
			"BOT_TOKEN="+token, "TELEGRAM_API_URL="+s.telegram, "BACKEND=gateway", fmt.Sprint("REPLICAS=", replicas),
			"INSTANCES="+strings.Join(instances, ","), "REPLICA_NAME="+h.name, "LIFELINE_DIR="+lifelines, "GOMAXPROCS=1", "GOMEMLIMIT=20MiB",
			"GATEWAY_PATIENCE=15s", "LEASE=2s", // what is tested are copies; leases have tests of their own, on a machine that is not busy
		), env...)
		if replicas == 1 {
			all = append(all, "MODE=bot-only")
		}
		s.replicas = append(s.replicas, newReplica(t, h, all...))
	}
	if replicas > 0 {
		s.primary()
	}
	t.Cleanup(s.quiet)
	return s
}

// ends waits for a process that was asked to end.
func ends(t *testing.T, name string, ended <-chan struct{}, kill func()) {
	t.Helper()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Errorf("%s does not end by SIGTERM", name)
		kill()
	}
}

func (c *copyOf) ends(t *testing.T) {
	t.Helper()
	ends(t, c.name, c.ended, c.kill)
}

// primary is the replica that says that it is, once all that run agree.
func (s *site) primary() *replica {
	s.t.Helper()
	var found *replica
	eventually(s.t, 30*time.Second, "one primary, and all others its standbys", func() bool {
		found = nil
		for _, r := range s.replicas {
			select {
			case <-r.ended: // on a machine that is short of processor time it fails to stop in time, and ends; Docker starts it again
				s.t.Logf("%s has ended by itself, and is started again", r.name)
				r.start(s.t)
			default:
			}
			switch s.role(r) {
			case "primary":
				if found != nil {
					return false
				}
				found = r
			case "standby":
			default:
				return false
			}
		}
		return found != nil
	})
	return found
}

func (s *site) role(r *replica) string {
	client := &http.Client{Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://" + r.address + ":8080/cluster")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	var view struct {
		Self struct {
			Role string `json:"role"`
		} `json:"self"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&view); err != nil {
		return err.Error()
	}
	return view.Self.Role
}

// copyOf adds a copy of a bot on a machine of its own. It knows the replicas but the last of three under one name, in an order of its
// own: those that come first are asked first, by most frameworks.
func (s *site) copyOf(f framework, name string, first int, env ...string) *copyOf {
	s.t.Helper()
	names, known := "", s.replicas[:min(len(s.replicas), 2)]
	for i := range known {
		names += known[(first+i)%len(known)].address + " bot\n"
	}
	return s.copyAt(f, name, "http://bot:8082", names, env...)
}

// copyAt adds a copy with an API root, and with names that it knows.
func (s *site) copyAt(f framework, name, root, names string, env ...string) *copyOf {
	s.t.Helper()
	h := s.network.host(s.t, name, 101+len(s.copies), names)
	c := plannedCopy(s.t, f, name, root, env...)
	c.machine = h
	s.copies = append(s.copies, c)
	if *keepLogs {
		s.t.Cleanup(func() { s.t.Logf("%s wrote:\n%s", c.name, c.log) })
	}
	return c
}

// users begin to write, so many texts a second, until they are stopped.
func (s *site) users(perSecond int) {
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.load.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				s.written++
				s.sim.Write(simulator.FirstChat+s.written%(chats-1), fmt.Sprintf("message %d", s.written))
			}
		}
	})
}

// quiet stops the users.
func (s *site) quiet() {
	if s.stop != nil {
		s.stop()
	}
	s.load.Wait()
}

// list asks the simulator for a list of its account.
func list[T any](s *site, path string) (all []T) {
	s.t.Helper()
	resp, err := http.Get(s.telegram + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		s.t.Fatal(err)
	}
	return all
}

// answeredBy waits until a copy has answered something that was written from now on, and returns how long that took.
func (s *site) answeredBy(c *copyOf, within time.Duration) time.Duration {
	s.t.Helper()
	start := time.Now()
	from := s.sim.Report().Sent
	answered := func(r simulator.Record) bool {
		return slices.ContainsFunc(r.Answered, func(d simulator.Delivery) bool { return d.By == c.name && d.At.After(start) })
	}
	defer func() {
		if s.t.Failed() {
			r := s.sim.Report()
			s.t.Logf("%d sent, %d delivered, %d confirmed, %d answered, polls %d", r.Sent, r.Delivered, r.Confirmed, r.Answered, r.Polls)
			unanswered := list[simulator.Record](s, "/report/updates?only=unanswered")
			s.t.Logf("unanswered: %+v", unanswered[:min(10, len(unanswered))])
		}
	}()
	eventually(s.t, within, c.name+" answers", func() bool {
		return slices.ContainsFunc(list[simulator.Record](s, fmt.Sprint("/report/updates?from=", max(1, from))), answered)
	})
	return time.Since(start)
}

// settle waits until all that was written is answered, and fails the test if anything is lost.
func (s *site) settle(step string, within time.Duration) {
	s.t.Helper()
	if s.cutOff > 0 {
		within = min(within, 10*time.Second) // those stay unanswered
	}
	r := settled(s.t, s.sim, within)
	if s.mayCutOff && r.Dropped == 0 && max(r.Unanswered, r.Lost) <= mostCutOff {
		if s.cutOff = r.Unanswered; s.cutOff > 0 {
			s.t.Logf("%s: %d updates are unanswered: the call was cut off with a replica, and the bot gave it up", step, s.cutOff)
		}
		return
	}
	if r.Unanswered != 0 || r.Lost != 0 || r.Dropped != 0 {
		s.t.Errorf("%s: %d unanswered, %d lost, %d dropped of %d", step, r.Unanswered, r.Lost, r.Dropped, r.Sent)
		for _, u := range list[simulator.Record](s, "/report/updates?only=unanswered") {
			s.t.Logf("unanswered: %+v", u)
		}
		s.t.FailNow()
	}
}

// standsBy waits until a job of the copy's has been refused, which happens only to a copy that polls and is not active.
func (s *site) standsBy(c *copyOf, within time.Duration) {
	s.t.Helper()
	n := strings.Count(c.log.String(), "job: ")
	eventually(s.t, within, c.name+" stands by", func() bool { return strings.Count(c.log.String(), "job: ") > n })
}

// standsByOrEnds waits for a copy that was frozen. What it has in hand is refused, which ends some frameworks; the copy is started
// again then, as Docker would.
func (s *site) standsByOrEnds(c *copyOf) {
	s.t.Helper()
	n := strings.Count(c.log.String(), "job: ")
	eventually(s.t, 60*time.Second, c.name+" stands by", func() bool {
		select {
		case <-c.ended:
			s.t.Logf("%s was frozen, and ends when what it sends is refused", c.name)
			c.start(s.t)
		default:
		}
		return strings.Count(c.log.String(), "job: ") > n+3 // those that were due at once, and one more
	})
}

// starts starts a copy beside one that is active, and waits until it stands by.
func (s *site) starts(c *copyOf) {
	s.t.Helper()
	c.start(s.t)
	s.standsBy(c, 60*time.Second)
}

// switchover makes a replica primary.
func (s *site) switchover(to *replica) {
	s.t.Helper()
	program, err := buildHabot()
	if err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, 30*time.Second, to.name+" becomes primary", func() bool {
		if s.primary() == to {
			return true
		}
		cmd := exec.Command("ip", "netns", "exec", to.name, program, "switchover", to.name)
		cmd.Env = to.env
		out, err := cmd.CombinedOutput()
		if err != nil {
			s.t.Logf("switchover: %v: %s", err, out)
		}
		return false
	})
}

// hit causes a fault at a moment when no update is in hand, while users begin to write again, and waits until a copy answers.
func (s *site) hit(what string, c *copyOf, fault func()) {
	s.t.Helper()
	s.quiet()
	s.settle("before "+what, 30*time.Second)
	time.Sleep(200 * time.Millisecond) // an answer that Telegram has may be on its way back
	fault()
	s.users(20)
	s.t.Logf("%s: %v", what, s.answeredBy(c, 30*time.Second))
}

// onlyJobs fails the test if another than the copy runs jobs, or if it misses some. Jobs run each second.
func (s *site) onlyJobs(c *copyOf, during time.Duration) {
	s.t.Helper()
	from := s.sim.Report().StrayMessages + 1
	time.Sleep(during)
	jobs := list[simulator.Stray](s, fmt.Sprint("/report/strays?from=", from))
	for _, j := range jobs {
		if j.Text != c.name+": job" {
			s.t.Errorf("%s is active, and %q is sent", c.name, j.Text)
		}
	}
	if n := time.Duration(len(jobs)) * time.Second; n < during-2*time.Second || n > during+2*time.Second {
		s.t.Errorf("%d jobs in %v", len(jobs), during)
	}
}

// Two copies of each framework's bot, unmodified but for the API root, behind habot's replicas: they start without an error,
// drop nothing, one of them answers and runs jobs, and nothing is lost, whichever copy or replica is killed, ended, frozen or cut
// off. At a change of primary neither copy complains.
func TestGateway(t *testing.T) {
	if _, err := buildHabot(); err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, f framework) {
		s := newSite(t, *replicaCount)
		job := fmt.Sprint("JOB_CHAT=", simulator.FirstChat+chats-1)
		for i := range 3 {
			s.sim.Write(simulator.FirstChat+int64(i), "before the bot")
		}
		a, b := s.copyOf(f, "a", 0, "DROP=1", job), s.copyOf(f, "b", 1, "DROP=1", job)
		a.start(t)
		s.settle("what waited before the bot", 60*time.Second)
		s.starts(b)
		s.onlyJobs(a, 4*time.Second)
		s.sim.WriteFile(simulator.FirstChat, "document", 20<<20)
		s.settle("a file of 20 MiB", 30*time.Second)
		if r := s.sim.Report(); r.AnsweredTwice != 0 {
			t.Errorf("%d answered twice", r.AnsweredTwice)
		}
		s.users(20)
		a.noComplaints(t)
		b.noComplaints(t)

		s.answeredBy(a, 30*time.Second)
		a.kill()
		t.Logf("kill -9 of the copy: %v", s.answeredBy(b, 30*time.Second))
		s.starts(a)
		_ = b.cmd.Process.Signal(syscall.SIGTERM)
		took := s.answeredBy(a, 30*time.Second)
		t.Logf("SIGTERM of the copy: %v", took)
		// That it has been silent for GATEWAY_PATIENCE would show it too, and to users that takes 90 s.
		if took > termBound {
			t.Errorf("SIGTERM of the copy was noticed after %v", took)
		}
		b.ends(t)
		b.forgive() // calls that its own end has cancelled
		s.starts(b)
		a.noComplaints(t)
		b.noComplaints(t)

		if *replicaCount > 1 {
			// The last replica is one that no copy is connected to: what becomes of it costs no connection.
			// No call is on its way when a primary is killed: the answer to such a one is an error, for it may have been carried out.
			last := s.replicas[*replicaCount-1]
			s.switchover(last)
			t.Logf("switchover: %v", s.answeredBy(a, 30*time.Second))
			s.hit("kill -9 of the primary", a, last.kill)
			last.start(t)
			s.switchover(last)
			s.hit("SIGTERM of the primary", a, func() { _ = last.cmd.Process.Signal(syscall.SIGTERM) })
			last.ends(t)
			last.start(t)
			s.switchover(last)
			s.hit("cable of the primary", a, func() { last.cut(t) })
			last.mend(t)
			s.primary()
			a.noComplaints(t)
			b.noComplaints(t)
			// Copies are connected to these. A poll that comes on a connection at the very moment at which it ends is an error to a
			// framework, with any server.
			s.mayCutOff = true
			for _, r := range s.replicas[:2] {
				if f.name == "telego" {
					break // its HTTP client sends on connections that have been closed meanwhile, and what it sends is lost
				}
				s.switchover(r)
				s.hit("SIGTERM of a primary that a copy is connected to", a, func() { _ = r.cmd.Process.Signal(syscall.SIGTERM) })
				r.ends(t)
				r.start(t)
				s.primary()
			}
			a.forgive()
			b.forgive()
			p := s.replicas[0]
			s.switchover(p)
			s.onlyJobs(a, 6*time.Second) // in which each replica has seen that the copy's host is there
			// A machine with both: no replica is left that sees the copy's connections end, and no host answers for its address.
			s.hit("primary and copy gone at once", b, func() {
				a.machine.cut(t)
				p.kill()
				a.kill()
			})
			a.machine.mend(t)
			p.start(t)
			s.primary()
			s.starts(a)
			b.forgive() // it may have been connected to that replica
		}

		frozen := b
		if *replicaCount == 1 {
			frozen = a
		}
		_ = frozen.cmd.Process.Signal(syscall.SIGSTOP)
		other := map[*copyOf]*copyOf{a: b, b: a}[frozen]
		t.Logf("SIGSTOP of the copy: %v", s.answeredBy(other, 60*time.Second))
		thawed := time.Now()
		_ = frozen.cmd.Process.Signal(syscall.SIGCONT)
		s.standsByOrEnds(frozen)
		s.onlyJobs(other, 4*time.Second)
		s.quiet()
		s.settle("in the end", 45*time.Second)
		for _, u := range list[simulator.Record](s, "/report/updates") {
			for _, d := range u.Answered {
				if d.By == frozen.name && d.At.After(thawed) {
					t.Errorf("%s was frozen, and answers after another took over: %+v", frozen.name, u)
				}
			}
		}
		r := s.sim.Report()
		t.Logf("%d answered, %d of them twice, %d out of order, %d lost", r.Answered, r.AnsweredTwice, r.OutOfOrder, r.Lost)
	})
}

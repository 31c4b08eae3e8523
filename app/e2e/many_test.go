//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"habot/app/election"
	"habot/app/simulator"
)

var (
	manySizes = flag.String("many", "3,25", "TestMany: the numbers of replicas, the first being what the others are compared with")
	manyKills = flag.Int("kills", 3, "TestMany: how often the primary is killed at each number")
)

// manyLoad is how many messages people send a second, except at rest.
const manyLoad = 20

// buildBinary builds the product as the image has it.
var buildBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "habot-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "habot")
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "nomsgpack,stdjson", "-ldflags", "-s -w", "-o", path, "./app")
	cmd.Dir = root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// pack is many replicas as processes of this machine, on the loopback. No container is needed, and so the figures
// are the product's own. Like Docker it starts a process again that ends by itself.
type pack struct {
	t        *testing.T
	binary   string
	replica  string // the replicas' binary
	dir      string // of the logs
	lifeline string // LIFELINE_DIR; empty as if each replica were on a machine of its own
	telegram string
	env      []string // of the replicas, beside what each has of its own
	// simulator is the process behind telegram.
	simulator *packed
	members   []*packed
	life      context.Context
	all       sync.WaitGroup

	mu       sync.Mutex
	restarts int // of processes that ended by themselves
}

// packed is one replica of a pack.
type packed struct {
	name, peer, http string
	own              []string // of its environment
	mu               sync.Mutex
	cmd              *exec.Cmd
}

func (m *packed) process() *os.Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cmd.Process
}

// freePorts are ports that nothing listens at just now.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var all []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		all = append(all, l.Addr().String())
	}
	return all
}

// newPack makes a pack of n, with a simulator that runs, and has it ended with the test. Its replicas do not run yet.
func newPack(t *testing.T, n int) *pack {
	t.Helper()
	binary, err := buildBinary()
	if err != nil {
		t.Fatal(err)
	}
	life, end := context.WithCancel(context.Background())
	p := &pack{t: t, binary: binary, replica: binary, dir: t.TempDir(), life: life}
	t.Cleanup(func() {
		end()
		p.all.Wait()
		if t.Failed() {
			p.showLogs()
		}
	})
	ports := freePorts(t, 2*n+1)
	for i := range n {
		p.members = append(p.members, &packed{name: fmt.Sprintf("r%02d", i+1), peer: ports[2*i], http: ports[2*i+1]})
	}
	p.telegram = "http://" + ports[2*n]
	p.simulator = &packed{name: "telegram"}
	p.keep(p.simulator, p.binary, []string{"simulator"}, []string{"SIMULATOR_ADDR=" + ports[2*n], "SIMULATOR_RATE=" + strconv.Itoa(manyLoad), "SIMULATOR_PROJECT=habot"})
	eventually(t, 20*time.Second, func() error {
		_, err := get[simulator.Report](t.Context(), p.telegram+"/report")
		return err
	})
	return p
}

// start starts all replicas at once.
func (p *pack) start() {
	var peers []string
	for _, m := range p.members {
		peers = append(peers, m.peer)
	}
	for _, m := range p.members {
		p.keep(m, p.replica, nil, append([]string{
			"REPLICA_NAME=" + m.name, "PEER_ADDR=" + m.peer, "HTTP_ADDR=" + m.http, "REPLICAS=" + strconv.Itoa(len(p.members)),
			"INSTANCES=" + strings.Join(peers, ","), "TELEGRAM_API_URL=" + p.telegram, "ADMIN_CHAT_IDS=1001", "LIFELINE_DIR=" + p.lifeline,
		}, slices.Concat(p.env, m.own)...))
	}
}

// keep runs a process until the test ends, whatever ends it meanwhile, as the image runs it.
func (p *pack) keep(m *packed, binary string, args, env []string) {
	p.t.Helper()
	begin := func() error {
		log, err := os.OpenFile(filepath.Join(p.dir, m.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer log.Close()
		cmd := exec.CommandContext(p.life, binary, args...)
		cmd.Cancel = func() error { return cmd.Process.Kill() }
		cmd.Env = append(env, "GOMAXPROCS=1", "GOMEMLIMIT=20MiB")
		cmd.Stdout, cmd.Stderr = log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.cmd = cmd
		return cmd.Start()
	}
	if err := begin(); err != nil {
		p.t.Fatal(err)
	}
	p.all.Go(func() {
		for backOff := 100 * time.Millisecond; ; backOff = min(2*backOff, time.Minute) {
			m.mu.Lock()
			cmd := m.cmd
			m.mu.Unlock()
			err := cmd.Wait()
			if p.life.Err() != nil {
				return
			}
			var ended *exec.ExitError
			if errors.As(err, &ended) && ended.ExitCode() >= 0 { // no signal ended it
				p.mu.Lock()
				p.restarts++
				p.mu.Unlock()
			}
			select {
			case <-time.After(backOff):
			case <-p.life.Done():
				return
			}
			if begin() != nil {
				return
			}
		}
	})
}

func (p *pack) showLogs() {
	for _, m := range p.members {
		raw, _ := os.ReadFile(filepath.Join(p.dir, m.name+".log"))
		lines := bytes.Split(raw, []byte("\n"))
		p.t.Logf("%s:\n%s", m.name, bytes.Join(lines[max(0, len(lines)-12):], []byte("\n")))
	}
}

// ended is how many processes have ended by themselves.
func (p *pack) ended() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.restarts
}

// polled waits for the first poll of anyone but old that begins after since.
func (p *pack) polled(old string, since time.Time, within time.Duration) (first simulator.PollRecord) {
	p.t.Helper()
	s := stack{telegram: p.telegram}
	from := max(1, s.report(p.t).Polls-1)
	eventually(p.t, within, func() error {
		polls, err := get[[]simulator.PollRecord](p.t.Context(), fmt.Sprintf("%s/report/polls?from=%d", p.telegram, from))
		if err != nil {
			return err
		}
		for _, poll := range polls {
			if poll.Poller != old && poll.Start.After(since) {
				first = poll
				return nil
			}
		}
		return errors.New("no other replica polls")
	})
	return first
}

// settled waits until the primary knows every other replica as a standby, and returns it and them.
func (p *pack) settled() (primary *packed, standbys []*packed) {
	p.t.Helper()
	eventually(p.t, 90*time.Second, func() error {
		poller := (&stack{telegram: p.telegram}).report(p.t).Poller
		i := slices.IndexFunc(p.members, func(m *packed) bool { return m.name == poller })
		if i < 0 {
			return errors.New("no replica polls")
		}
		v, err := get[election.View](p.t.Context(), "http://"+p.members[i].http+"/cluster")
		if err != nil {
			return err
		}
		there := 0
		for _, peer := range v.Peers {
			if peer.Reachable && peer.Status.Role == election.Standby && peer.Status.Primary == v.Self.Primary {
				there++
			}
		}
		if v.Self.Role != election.Primary || there != len(p.members)-1 {
			return fmt.Errorf("%s is %s and knows %d standbys", poller, v.Self.Role, there)
		}
		primary, standbys = p.members[i], slices.Delete(slices.Clone(p.members), i, i+1)
		return nil
	})
	return primary, standbys
}

// processorTime is what a process has used.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	user, system := processorTimes(t, pid)
	return user + system
}

func processorTimes(t *testing.T, pid int) (user, system time.Duration) {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	const utime, stime = 11, 12 // proc(5), from the state on
	for field, d := range map[int]*time.Duration{utime: &user, stime: &system} {
		n, err := strconv.Atoi(fields[field])
		if err != nil {
			t.Fatal(err)
		}
		*d = time.Duration(n) * 10 * time.Millisecond // USER_HZ is 100 on Linux
	}
	return user, system
}

// manyFigures is what is measured at one number of replicas.
type manyFigures struct {
	together time.Duration
	kill     figures
	standby  float64 // of a core, the median
	primary  float64
	restarts int
}

// measureMany starts n replicas together, measures what they use while no chat writes, and kills the primary.
func measureMany(t *testing.T, n int) (f manyFigures) {
	t.Helper()
	p := newPack(t, n)
	began := time.Now()
	p.start()
	f.together = p.polled("", began, 60*time.Second).Start.Sub(began)
	primary, standbys := p.settled()
	t.Logf("%d replicas: polled after %v, settled after %v, %d ended by themselves", n, f.together, time.Since(began), p.ended())

	judge := stack{telegram: p.telegram}
	judge.setRate(t, 0)
	const span = 20 * time.Second
	time.Sleep(5 * time.Second)
	used := func() map[int]time.Duration {
		all := map[int]time.Duration{}
		for _, m := range p.members {
			all[m.process().Pid] = processorTime(t, m.process().Pid)
		}
		return all
	}
	before := used()
	time.Sleep(span)
	after := used()
	percent := func(m *packed) float64 {
		pid := m.process().Pid
		return 100 * float64(after[pid]-before[pid]) / float64(span)
	}
	var shares []float64
	for _, m := range standbys {
		shares = append(shares, percent(m))
	}
	slices.Sort(shares)
	f.standby, f.primary = shares[len(shares)/2], percent(primary)
	judge.setRate(t, manyLoad)

	for range *manyKills {
		primary, _ = p.settled()
		time.Sleep(time.Second)
		killed := time.Now()
		if err := primary.process().Kill(); err != nil {
			t.Fatal(err)
		}
		f.kill = append(f.kill, p.polled(primary.name, killed, 60*time.Second).Start.Sub(killed))
	}
	p.settled()
	f.restarts = p.ended()
	return f
}

// TestMany measures how replicas do in numbers: started together, at rest, and when the primary is killed.
func TestMany(t *testing.T) {
	var least manyFigures
	for i, text := range strings.Split(*manySizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(text, func(t *testing.T) {
			f := measureMany(t, n)
			if i == 0 {
				least = f
			}
			t.Logf("FIGURE %d replicas: a primary after %.1f s; kill -9 to the next poll: median %.0f ms, max %.0f ms, n=%d (%.2f of that with %s); "+
				"idle: a standby %.2f %% of a core, the primary %.2f %%; %d processes ended by themselves",
				n, f.together.Seconds(), ms(f.kill.median()), ms(slices.Max(f.kill)), len(f.kill), float64(f.kill.median())/float64(least.kill.median()),
				strings.Split(*manySizes, ",")[0], f.standby, f.primary, f.restarts)
			if *strict && (f.together > 10*time.Second || 2*f.kill.median() > 3*least.kill.median()) {
				t.Errorf("%d replicas are too slow", n)
			}
		})
	}
}

var manyContainers = flag.Int("containers", 0, "TestManyContainers: how many replicas; 0: none")

// TestManyContainers is TestMany with containers: the engine's own work is part of it.
func TestManyContainers(t *testing.T) {
	n := *manyContainers
	if n == 0 {
		t.Skip("-containers says none")
	}
	s := newStack(t, "habote2e-many", "REPLICAS="+strconv.Itoa(n), "SIMULATOR_RATE="+strconv.Itoa(manyLoad))
	s.settled(t, n)
	var ids []string
	for _, r := range s.replicas(t) {
		ids = append(ids, r.container)
	}
	docker(t, append([]string{"kill"}, ids...)...)
	from := s.report(t).Polls + 1
	began := time.Now()
	docker(t, append([]string{"start"}, ids...)...)
	t.Logf("the engine has started %d containers after %.1f s", n, time.Since(began).Seconds())
	first := s.takeover(t, "", from, began)
	t.Logf("FIGURE %d containers started together: first poll after %.1f s", n, first.Start.Sub(began).Seconds())
	var took figures
	for range *manyKills {
		primary, _ := s.settled(t, n)
		time.Sleep(2 * time.Second)
		from, killed := s.report(t).Polls, time.Now()
		signal(syscall.SIGKILL)(t, primary)
		took = append(took, s.takeover(t, primary.name, from, killed).Start.Sub(killed))
	}
	took.tell(t, fmt.Sprintf("kill -9 of the primary of %d containers, to the next poll", n), time.Second, 2*time.Second)
}

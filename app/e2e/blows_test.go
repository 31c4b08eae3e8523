//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"habot/app/simulator"
)

// blow is one thing done to replicas for a while, as the seed has it. Which replicas it hits, and how it went, is known
// when it is struck.
type blow struct {
	kind   kind
	victim victim
	at     time.Duration // since the beginning of the round
	lasts  time.Duration
	// size and choice, in [0,1), are whatever the kind makes of them.
	size, choice float64
}

// victim selects the replicas that a blow hits.
type victim string

const (
	thePrimary victim = "primary"
	aStandby   victim = "standby"
	anyone     victim = "any"
	two        victim = "two"
	everybody  victim = "all"
)

// struck is a blow in force.
type struck struct {
	detail string
	// deposes: it may cost a primary its role.
	deposes bool
	heal    func(ctx context.Context) error
}

// kind is one way to hit a stack.
type kind struct {
	name string
	// victims are those it may be given; none: it hits no replica.
	victims []victim
	// alone: of such blows a replica takes one in a round: two would be in each other's way.
	alone bool
	// again, if not 0, is how often it is struck while it lasts.
	again time.Duration
	// longer multiplies how long it lasts; 0 stands for 1.
	longer float64
	// asks: it is an operator's request.
	asks   bool
	strike func(ctx context.Context, s *stack, b blow, r replica) (struck, error)
}

func healed(context.Context) error { return nil }

func single() []victim { return []victim{thePrimary, thePrimary, aStandby, anyone} }

// kinds are all there are. Their order belongs to what a seed means.
func kinds() []kind {
	several := append(single(), two, everybody)
	return []kind{
		{name: "kill -9", victims: single(), alone: true, strike: kill},
		{name: "restart storm", victims: single(), alone: true, again: 600 * time.Millisecond, longer: 1.5, strike: kill},
		{name: "docker kill", victims: append(single(), two), alone: true, strike: dockerBlow("kill", "start")},
		{name: "docker stop", victims: single(), alone: true, strike: dockerBlow("stop", "start")},
		{name: "docker restart", victims: single(), alone: true, strike: dockerBlow("restart", "")},
		{name: "docker pause", victims: append(single(), two), alone: true, strike: dockerBlow("pause", "unpause")},
		{name: "SIGSTOP", victims: several, alone: true, strike: stop},
		{name: "network disconnect", victims: single(), alone: true, strike: disconnect},
		{name: "pulled cable", victims: append(single(), two), alone: true, strike: pullCable},
		{name: "one-way block", victims: several, strike: oneWay},
		{name: "packet loss", victims: several, strike: lose},
		{name: "latency", victims: several, strike: delay},
		{name: "cut off from Telegram", victims: single(), longer: 3, strike: cutTelegram},
		{name: "no names (DNS)", victims: several, longer: 2, strike: cutNames},
		{name: "a tenth of a processor", victims: several, longer: 2, strike: starve},
		{name: "busy processors", longer: 2, strike: saturate},
		{name: "Telegram fails", longer: 2, strike: failTelegram},
		{name: "switchover", victims: []victim{thePrimary}, asks: true, strike: switchover},
	}
}

// plan draws the blows of a round.
func plan(random *rand.Rand) []blow {
	all := kinds()
	var blows []blow
	for range 1 + random.IntN(4) {
		k := all[random.IntN(len(all))]
		b := blow{
			kind: k, at: time.Duration(random.Float64() * 3 * float64(time.Second)),
			lasts: time.Duration((0.3 + 4.7*random.Float64()) * float64(time.Second)),
			size:  random.Float64(), choice: random.Float64(),
		}
		if k.longer != 0 {
			b.lasts = time.Duration(float64(b.lasts) * k.longer)
		}
		if len(k.victims) > 0 {
			b.victim = k.victims[random.IntN(len(k.victims))]
		}
		blows = append(blows, b)
	}
	slices.SortStableFunc(blows, func(a, b blow) int { return int(a.at - b.at) })
	return blows
}

// choose finds the victims among the replicas that run.
func (b blow) choose(all []replica, primary string) []replica {
	if len(all) == 0 || b.victim == "" {
		return nil
	}
	byRole := slices.Clone(all)
	slices.SortStableFunc(byRole, func(x, y replica) int { // the primary first
		switch {
		case x.name == primary:
			return -1
		case y.name == primary:
			return 1
		default:
			return 0
		}
	})
	last := len(byRole) - 1
	switch b.victim {
	case thePrimary:
		return byRole[:1]
	case aStandby:
		return byRole[last:]
	case two:
		if b.choice < 0.5 {
			return byRole[:min(2, len(byRole))]
		}
		return byRole[max(0, last-1):]
	case everybody:
		return all
	default:
		i := int(b.choice * float64(len(all)))
		return all[i : i+1]
	}
}

// dockerDo runs one docker command.
func dockerDo(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func kill(_ context.Context, _ *stack, _ blow, r replica) (struck, error) {
	return struck{deposes: true, heal: healed}, syscall.Kill(r.pid, syscall.SIGKILL)
}

func dockerBlow(verb, back string) func(context.Context, *stack, blow, replica) (struck, error) {
	return func(ctx context.Context, _ *stack, _ blow, r replica) (struck, error) {
		heal := healed
		if back != "" {
			heal = func(ctx context.Context) error { return dockerDo(ctx, back, r.container) }
		}
		return struck{deposes: true, heal: heal}, dockerDo(ctx, verb, r.container)
	}
}

func stop(_ context.Context, _ *stack, _ blow, r replica) (struck, error) {
	return struck{deposes: true, heal: func(context.Context) error {
		if err := syscall.Kill(r.pid, syscall.SIGCONT); !errors.Is(err, syscall.ESRCH) {
			return err
		}
		return nil
	}}, syscall.Kill(r.pid, syscall.SIGSTOP)
}

func disconnect(ctx context.Context, s *stack, _ blow, r replica) (struck, error) {
	network := s.project + "_default"
	return struck{deposes: true, heal: func(ctx context.Context) error {
		return dockerDo(ctx, "network", "connect", "--alias", "bot", network, r.container)
	}}, dockerDo(ctx, "network", "disconnect", network, r.container)
}

func pullCable(ctx context.Context, _ *stack, _ blow, r replica) (struck, error) {
	return rules(ctx, r, "", func(verb string) [][]string {
		state := "down"
		if verb == "-D" {
			state = "up"
		}
		return [][]string{{"ip", "link", "set", "eth0", state}}
	})
}

// rules has commands run in a replica's network, with -I, and later undone in that same network, with -D. It
// may be gone by then, with its rules, or the cable with the network.
func rules(ctx context.Context, r replica, detail string, commands func(verb string) [][]string) (struck, error) {
	ns, err := namespaceOf(r.pid)
	if err != nil {
		return struck{}, err
	}
	do := func(ctx context.Context, verb string) (err error) {
		for _, c := range commands(verb) {
			err = errors.Join(err, ns.run(ctx, c...))
		}
		return err
	}
	if err := do(ctx, "-I"); err != nil {
		return struck{}, errors.Join(err, do(ctx, "-D"), ns.Close())
	}
	return struck{detail: detail, deposes: true, heal: func(ctx context.Context) error {
		if err := do(ctx, "-D"); err != nil {
			if pid, known := pidOf(ctx, r.container); known != nil || pid == r.pid {
				return err
			}
		}
		return ns.Close()
	}}, nil
}

// oneWay drops what comes in, or what goes out: of the other replicas, or of all hosts.
func oneWay(ctx context.Context, _ *stack, b blow, r replica) (struck, error) {
	chain := []string{"INPUT", "!", "-i", "lo"}
	detail := "nothing comes in"
	if b.choice < 0.5 {
		chain, detail = []string{"OUTPUT", "!", "-o", "lo"}, "nothing goes out"
	}
	matches := [][]string{nil}
	if b.size < 0.5 {
		matches = [][]string{{"-p", "tcp", "--dport", "7175"}, {"-p", "tcp", "--sport", "7175"}}
		detail += ", between replicas"
	}
	return rules(ctx, r, detail, func(verb string) (commands [][]string) {
		for _, m := range matches {
			commands = append(commands, slices.Concat([]string{"iptables", "-w", verb}, chain, m, []string{"-j", "DROP"}))
		}
		return commands
	})
}

func lose(ctx context.Context, _ *stack, b blow, r replica) (struck, error) {
	share := 0.02 + 0.38*b.size
	return rules(ctx, r, fmt.Sprintf("%.0f %% of what comes in", 100*share), func(verb string) [][]string {
		return [][]string{{"iptables", "-w", verb, "INPUT", "!", "-i", "lo", "-m", "statistic", "--mode", "random",
			"--probability", strconv.FormatFloat(share, 'f', 3, 64), "-j", "DROP"}}
	})
}

// delay makes each packet that goes out late, by a time of its own: some overtake others.
func delay(ctx context.Context, _ *stack, b blow, r replica) (struck, error) {
	ns, err := namespaceOf(r.pid)
	if err != nil {
		return struck{}, err
	}
	most := time.Duration((5 + 395*b.size*b.size) * float64(time.Millisecond))
	least := time.Duration(b.choice * float64(most))
	conn, err := holdBack(ns, func() time.Duration { return least + rand.N(most-least+1) })
	if err != nil {
		return struck{}, errors.Join(err, ns.Close())
	}
	s, err := rules(ctx, r, fmt.Sprintf("each packet %v to %v late", least.Round(time.Millisecond), most.Round(time.Millisecond)),
		func(verb string) [][]string { return [][]string{queueRule(verb)} })
	if err != nil {
		return struck{}, errors.Join(err, conn.Close(), ns.Close())
	}
	undo := s.heal
	s.heal = func(ctx context.Context) error {
		if err := undo(ctx); err != nil {
			return err
		}
		return errors.Join(conn.Close(), ns.Close())
	}
	return s, nil
}

// unhealthyAfter is about how long a primary's polls fail before it hands over to a replica that reaches Telegram.
const unhealthyAfter = 10 * time.Second

func cutTelegram(ctx context.Context, s *stack, b blow, r replica) (struck, error) {
	host := strings.TrimSuffix(strings.TrimPrefix(s.telegram, "http://"), ":8081")
	cut, err := rules(ctx, r, "", func(verb string) [][]string {
		return [][]string{{"iptables", "-w", verb, "OUTPUT", "-d", host, "-j", "DROP"}}
	})
	cut.deposes = b.lasts > unhealthyAfter
	return cut, err
}

func cutNames(ctx context.Context, _ *stack, _ blow, r replica) (struck, error) {
	cut, err := rules(ctx, r, "", func(verb string) [][]string {
		return [][]string{{"iptables", "-w", verb, "OUTPUT", "-d", "127.0.0.11", "-j", "DROP"}}
	})
	cut.deposes = false
	return cut, err
}

// limitCPU bounds what a replica may have of the processors; all of them is no bound.
func limitCPU(ctx context.Context, r replica, cpus float64) error {
	return dockerDo(ctx, "update", "--cpus", strconv.FormatFloat(cpus, 'f', -1, 64), r.container)
}

func starve(ctx context.Context, _ *stack, _ blow, r replica) (struck, error) {
	return struck{heal: func(ctx context.Context) error { return limitCPU(ctx, r, float64(runtime.NumCPU())) }}, limitCPU(ctx, r, 0.1)
}

// saturate keeps all processors busy with processes of ordinary niceness.
func saturate(ctx context.Context, _ *stack, b blow, _ replica) (struck, error) {
	n := runtime.NumCPU() * (1 + int(2*b.size))
	end, err := keepBusy(ctx, n, b.lasts+time.Minute)
	return struck{detail: fmt.Sprintf("%d processes", n), heal: func(context.Context) error {
		end()
		return nil
	}}, err
}

// keepBusy runs n processes that do nothing but use a processor, each at niceness 0, until end is called; they
// end by themselves when each has used most of processor time.
func keepBusy(ctx context.Context, n int, most time.Duration) (end func(), err error) {
	var running []*exec.Cmd
	end = func() {
		for _, c := range running {
			_ = c.Process.Kill()
			_ = c.Wait() // killed: there is nothing else to tell
		}
		running = nil
	}
	for range n {
		c := exec.CommandContext(ctx, "sh", "-c", fmt.Sprintf("ulimit -t %d; while :; do :; done", int(most.Seconds())+1))
		if err := c.Start(); err != nil {
			end()
			return nil, err
		}
		running = append(running, c)
		if err := syscall.Setpriority(syscall.PRIO_PROCESS, c.Process.Pid, 0); err != nil { // whatever niceness the test has
			end()
			return nil, err
		}
	}
	return end, nil
}

func failTelegram(ctx context.Context, s *stack, b blow, _ replica) (struck, error) {
	all := []string{
		simulator.FaultError500, simulator.FaultHTML502, simulator.FaultHang, simulator.FaultDrop, simulator.FaultLimit, simulator.FaultLatency,
	}
	f := simulator.Fault{Kind: all[int(b.choice*float64(len(all)))], Seconds: b.lasts.Seconds(), RetryAfterSeconds: 1 + int(2*b.size), LatencySeconds: 0.1 + b.size}
	return struck{detail: f.Kind, heal: healed}, s.tellSimulator(ctx, simulator.Control{Faults: []simulator.Fault{f}})
}

// switchover is an operator's. That there is no successor just now is an answer, too.
func switchover(ctx context.Context, _ *stack, _ blow, r replica) (struck, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	detail := ""
	if err := dockerDo(ctx, "exec", r.container, "/habot", "switchover"); err != nil {
		detail = "refused"
	}
	return struck{detail: detail, deposes: true, heal: healed}, nil
}

package election

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// twins walks through a scope at random and has, beside each machine of it, one that is never written
// down and read back, and messages that nothing was left out of.
type twins struct {
	*worker
	state
	machines [maxHosts]*Machine
	clocks   [maxHosts]Instant
	whole    map[uint32]whole
}

// whole is a message as it was sent.
type whole struct {
	in     Input
	sentAt Instant // of the request, on the clock of the host that asked
}

// TestEnumerationForgetsNothingThatMatters compares them: after each step both must come to the same.
func TestEnumerationForgetsNothingThatMatters(t *testing.T) {
	t.Parallel()
	s := scope{
		replicas: 3, step: 25, drift: []int64{4900, -4900, 0}, claims: 60, restarts: 3, frozen: 1, late: 2, asked: 2,
		handovers: 6, leaves: 2, patience: 150, turn: 100, sick: 8, deaths: 4, walls: behind,
	}
	for seed := range uint64(40) {
		s.witnesses = int(seed % 2)
		w := newSystem(s).worker()
		begin, err := w.first()
		if err != nil {
			t.Fatal(err)
		}
		tw := &twins{worker: w, state: begin, whole: map[uint32]whole{}}
		for h := range tw.clocks {
			tw.clocks[h] = Instant(1000 * (h + 1))
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		for n := range 300 {
			if !tw.walk(t, rng) {
				t.Fatalf("seed %d, step %d", seed, n)
			}
		}
	}
}

func (tw *twins) walk(t *testing.T, rng *rand.Rand) bool {
	all := map[act][]next{}
	tw.expand(tw.state, func(n next) { all[n.act] = append(all[n.act], n) })
	a := pass
	switch r := rng.IntN(20); {
	case r < 12 && len(all[deliver]) > 0:
		a = deliver
	case r < 17:
	default:
		for range 3 {
			if b := act(rng.IntN(int(asks) + 1)); len(all[b]) > 0 {
				a = b
			}
		}
	}
	n := all[a][rng.IntN(len(all[a]))]
	before := tw.under(tw.state.network)
	sent := tw.follow(n)
	for h := range tw.replicas {
		f := tw.worker.local.at(n.hosts[h])
		if up := tw.machines[h] != nil; up != f.up {
			t.Errorf("%s: up is %v", tw.tell(tw.state, n), up)
			return false
		}
		if f.up && tw.codec.encode(tw.machines[h], tw.clocks[h]) != f.machine {
			t.Errorf("%s: %s is another machine than its twin\n%+v\n%+v", tw.tell(tw.state, n), hostName(h),
				tw.codec.decode(f.process, f.machine), tw.machines[h])
			return false
		}
	}
	after := tw.under(n.network)
	for _, id := range sent {
		if !slices.Contains(after, id) {
			t.Errorf("%s: the twin alone sent %s", tw.tell(tw.state, n), tw.tellMessage(id))
			return false
		}
	}
	for _, id := range after {
		if a != pass && !slices.Contains(sent, id) && !slices.Contains(before, id) {
			t.Errorf("%s: the twin did not send %s", tw.tell(tw.state, n), tw.tellMessage(id))
			return false
		}
	}
	tw.state = n.state
	return true
}

// follow does to the twins what happens next, and returns what they sent.
func (tw *twins) follow(n next) (sent []uint32) {
	f := tw.worker.local.at(n.hosts[n.host])
	do := func(h int, in Input, about message, asked Instant) {
		p := tw.worker.local.at(n.hosts[h]).process
		for _, out := range tw.machines[h].Step(Reading{Now: tw.clocks[h], Wall: tw.walls[0]}, in) {
			var m message
			var w whole
			switch out := out.(type) {
			case SendClaim:
				m, w = tw.codec.claimRequest(p, out.Request), whole{ClaimReceived{out.Request}, tw.clocks[h]}
			case SendEnd:
				m, w = tw.codec.endRequest(p, out.Request), whole{in: EndReceived(out)}
			case SendLeave:
				m, w = tw.codec.leaveRequest(p, out.Request), whole{LeaveReceived{out.Request}, tw.clocks[h]}
			case LeaveReply:
				if out.Answer.Claim.IsZero() {
					continue
				}
				id := tw.messages.number(tw.codec.leaveAnswer(p, about, out.Answer))
				tw.whole[id] = whole{LeaveAnswerReceived{out.Answer, asked}, asked}
				sent = append(sent, id)
				continue
			case Reply:
				id := tw.messages.number(tw.codec.claimAnswer(p, about, out.Answer))
				tw.whole[id] = whole{AnswerReceived{out.Answer, asked}, asked}
				sent = append(sent, id)
				continue
			case Halt, Left:
				tw.machines[h] = nil
				continue
			default:
				continue
			}
			for m.host = range tw.replicas {
				if m.host != h {
					id := tw.messages.number(m)
					tw.whole[id] = w
					sent = append(sent, id)
				}
			}
		}
	}
	switch n.act {
	case deliver:
		w := tw.whole[n.msg]
		do(n.host, w.in, tw.message.at(n.msg), w.sentAt)
	case pass:
		older := map[uint32]whole{}
		for _, id := range tw.under(tw.state.network) {
			older[tw.older(id)] = tw.whole[id]
		}
		tw.whole = older
		for h := range tw.replicas {
			tw.clocks[h] = tw.clocks[h].Add(tw.passes(h))
			before, after := tw.worker.local.at(tw.hosts[h]), tw.worker.local.at(n.hosts[h])
			if before.up && !before.frozen && !after.frozen {
				do(h, Tick{}, message{}, 0)
			}
		}
	case crash:
		tw.machines[n.host] = nil
	case start:
		tw.machines[n.host] = New(tw.codec.config(f.process), Reading{Now: tw.clocks[n.host]})
		do(n.host, Tick{}, message{}, 0)
	case freeze:
	case wake:
		do(n.host, Tick{}, message{}, 0)
	case botStops, botDies:
		do(n.host, WorkStopped{}, message{}, 0)
	case resigns:
		do(n.host, Resign{Reason: ReasonSwitchover}, message{}, 0)
	case leaves:
		do(n.host, Leave{ReasonShutdown}, message{}, 0)
	case learns:
		do(n.host, tw.codec.death(n.msg), message{}, 0)
	case healthFlips:
		do(n.host, HealthChanged{Health{OK: !tw.machines[n.host].health.OK}}, message{}, 0)
	case asks:
		from := tw.codec.host(tw.message.at(n.msg).from)
		now := tw.clocks[n.host]
		tw.whole[n.msg] = whole{StatusReceived{tw.machines[from].Status(tw.clocks[from]), now}, now}
	}
	if n.act == asks {
		sent = append(sent, n.msg)
	}
	return sent
}

//go:build e2e

package e2e

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"habot/app/simulator"
)

var (
	torture = flag.Duration("torture", 2*time.Minute, "how long replicas are tortured; 0 for not at all")
	seed    = flag.Uint64("seed", 0, "what the blows are drawn from; 0 draws one")
	lease   = flag.String("lease", "", "LEASE of the tortured stack; empty for Compose's own")
)

// battle is one stack under blows.
type battle struct {
	t       *testing.T
	s       *stack
	lease   time.Duration
	witness *witness

	began  time.Time
	blows  []inForce
	struck map[string]int // by kind
	missed int            // blows that could not be struck

	arrivals  []arrival
	latencies figures
	nextPoll  int64
	nextSent  int64
}

// say adds a line to the story.
func (b *battle) say(format string, args ...any) {
	b.t.Logf("%s %7.2f s  %s", time.Now().Format(clock), time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// TestTorture strikes blow upon blow, several at once, all drawn from a seed, and heals them; the simulator's
// account, and what replicas say of their leases, are the judges. An update lost, two primaries, a request
// without a lease, and a stack that does not recover are failures; all else is reported in figures.
func TestTorture(t *testing.T) {
	if *torture == 0 {
		t.Skip("-torture 0")
	}
	if *seed == 0 {
		*seed = rand.Uint64N(1 << 32)
	}
	t.Logf("repeat these blows with: -run Torture -torture %v -seed %d", *torture, *seed)
	var env []string
	if *lease != "" {
		env = append(env, "LEASE="+*lease)
	}
	s := newStack(t, "habote2e-torture", env...)
	b := &battle{t: t, s: s, struck: map[string]int{}, began: time.Now()}
	primary, _ := s.settled(t, size)
	v, err := view(t, primary)
	if err != nil {
		t.Fatal(err)
	}
	b.lease = v.Self.Lease
	b.witness = s.witness(t, b.lease, b.say)

	random := rand.New(rand.NewPCG(*seed, 0))
	rounds := 0
	for ; time.Since(b.began) < *torture && !t.Failed(); rounds++ {
		b.round(plan(random))
	}
	r := s.answered(t, 2*time.Minute, 0)
	b.collect()
	b.judge(r, rounds)
}

// event is something to do at a moment of a round.
type event struct {
	at time.Time
	do func()
}

// round strikes all blows of a plan, heals them, and waits until the stack is whole.
func (b *battle) round(blows []blow) {
	start := time.Now()
	var due []event
	schedule := func(at time.Time, do func()) {
		i, _ := slices.BinarySearchFunc(due, at, func(e event, at time.Time) int { return e.at.Compare(at) })
		due = slices.Insert(due, i, event{at, do})
	}
	taken := map[string]bool{} // replicas that have a blow that they take alone
	for _, w := range blows {
		schedule(start.Add(w.at), func() { b.strike(w, taken, schedule) })
	}
	for len(due) > 0 && !b.t.Failed() {
		next := due[0]
		due = due[1:]
		time.Sleep(time.Until(next.at))
		next.do()
	}
	// All is healed: there is a quorum again.
	healed := time.Now()
	eventually(b.t, 2*time.Minute, func() error {
		_, _, err := b.s.roles(b.t, size)
		return err
	})
	b.say("whole again, %.1f s after the last blow", time.Since(healed).Seconds())
	b.collect()
	time.Sleep(time.Second)
}

// strike gives one blow to its victims, and schedules what follows from it.
func (b *battle) strike(w blow, taken map[string]bool, schedule func(time.Time, func())) {
	victims := []replica{{}}
	if w.victim != "" {
		running := slices.DeleteFunc(b.s.replicas(b.t), func(r replica) bool { return r.pid == 0 })
		victims = w.choose(running, b.witness.primary())
	}
	var names []string
	for _, r := range victims {
		if w.kind.alone {
			if taken[r.name] {
				continue
			}
			taken[r.name] = true
		}
		from := time.Now()
		hit, err := w.kind.strike(b.t.Context(), b.s, w, r)
		if err != nil {
			b.missed++
			b.say("    could not: %s %s: %v", w.kind.name, r.name, err)
			continue
		}
		b.struck[w.kind.name]++
		names = append(names, r.name)
		i := len(b.blows)
		b.blows = append(b.blows, inForce{what: w.kind.name, deposes: hit.deposes, asks: w.kind.asks, victims: []string{r.name}, from: from})
		b.say("  > %s %s, for %.1f s (%s) %s", w.kind.name, r.name, w.lasts.Seconds(), w.victim, hit.detail)
		end := from.Add(w.lasts)
		schedule(end, func() { b.heal(w, r, hit, i) })
		if w.kind.again > 0 {
			for at := from.Add(w.kind.again); at.Before(end); at = at.Add(w.kind.again) {
				schedule(at, func() { b.strikeAgain(w, r) })
			}
		}
	}
	if len(names) == 0 && len(victims) == 0 {
		b.missed++
		b.say("    no replica is left for: %s", w.kind.name)
	}
}

// strikeAgain hits a replica that is up once more.
func (b *battle) strikeAgain(w blow, r replica) {
	pid, err := pidOf(b.t.Context(), r.container)
	if err != nil || pid == 0 {
		return
	}
	r.pid = pid
	if _, err := w.kind.strike(b.t.Context(), b.s, w, r); err == nil {
		b.say("  > %s %s, again", w.kind.name, r.name)
	}
}

// heal undoes a blow, whatever else goes on: what cannot be undone fails the test.
func (b *battle) heal(w blow, r replica, hit struck, i int) {
	var err error
	for range 20 {
		if err = hit.heal(b.t.Context()); err == nil {
			break
		}
		time.Sleep(250 * time.Millisecond) // a container that restarts, say
	}
	b.blows[i].to = time.Now()
	if err != nil {
		b.t.Fatalf("heal %s of %s: %v", w.kind.name, r.name, err)
	}
	b.say("  < %s %s is over", w.kind.name, r.name)
}

// collect takes in the simulator's account since the last time.
func (b *battle) collect() {
	b.t.Helper()
	for {
		polls := askAt[[]simulator.PollRecord](b.t, b.s, fmt.Sprintf("/report/polls?from=%d", b.nextPoll))
		if len(polls) == 0 {
			break
		}
		for _, p := range polls {
			b.arrivals = append(b.arrivals, arrival{p.Poller, p.Start})
			b.nextPoll = p.Number + 1
		}
	}
	for {
		records := askAt[[]simulator.Record](b.t, b.s, fmt.Sprintf("/report/updates?from=%d", b.nextSent))
		if len(records) == 0 {
			break
		}
		for _, u := range records {
			if u.Text != "" && u.Dropped == "" && len(u.Answered) == 0 {
				return // it is on its way; the rest comes next time
			}
			for i, a := range u.Answered {
				b.arrivals = append(b.arrivals, arrival{a.Poller, a.At})
				if i == 0 {
					b.latencies = append(b.latencies, a.At.Sub(u.Sent))
				}
			}
			b.nextSent = u.Serial + 1
		}
	}
}

// excuse is how long a request may be on the wire after its sender was cut off or frozen: what TCP sends again
// it sends ever more seldom.
const excuse = time.Minute

// longEnough is how long blows are drawn until each kind must have been.
const longEnough = 20 * time.Minute

// judge fails the test for what must not be, and tells the rest.
func (b *battle) judge(r simulator.Report, rounds int) {
	t := b.t
	terms := b.witness.heard()
	lasted := time.Since(b.began)
	count := 0
	for _, n := range b.struck {
		count += n
	}
	t.Logf("FIGURE torture: seed %d, LEASE %v, %.1f min, %d rounds, %d blows (%d more could not be struck)", *seed, b.lease, lasted.Minutes(), rounds, count, b.missed)
	for _, k := range kinds() {
		t.Logf("FIGURE blows: %s %d", k.name, b.struck[k.name])
		if b.struck[k.name] == 0 && lasted > longEnough {
			t.Errorf("no blow was struck of the kind: %s", k.name)
		}
	}
	t.Logf("FIGURE updates: sent %d, answered %d, lost %d, dropped %d, answered twice %d (%.3f %%), out of order %d", r.Sent, r.Answered,
		r.Lost, r.Dropped, r.AnsweredTwice, 100*float64(r.AnsweredTwice)/float64(max(1, r.Answered)), r.OutOfOrder)
	if n := len(b.latencies); n > 0 {
		t.Logf("FIGURE from sent to answered: median %.0f ms, 99 %% below %.1f s, max %.1f s", ms(b.latencies.median()),
			b.latencies[n*99/100].Seconds(), b.latencies[n-1].Seconds())
	}

	proofs := bothAtOnce(terms)
	words := 0
	for _, term := range terms {
		words += len(term.words)
	}
	t.Logf("FIGURE two primaries at one instant: %d, among %d testimonies in %d terms", len(proofs), words, len(terms))
	for _, p := range proofs {
		t.Error("two primaries: ", p)
	}
	for _, p := range outOfOrder(terms) {
		t.Error("timestamps out of order: ", p)
	}
	excused, inexcusable := late(b.arrivals, terms, b.blows, excuse)
	t.Logf("FIGURE requests at Telegram while another replica held the lease: %d on the wire too long, %d without an excuse, of %d",
		excused, len(inexcusable), len(b.arrivals))
	for _, a := range inexcusable {
		t.Errorf("a request of %s arrived at %s while another replica held the lease", a.from, a.at.Format(clock))
	}

	total, longest := nobody(terms)
	t.Logf("FIGURE without a primary: %.1f s in all (%.2f %%), %.1f s at most", total.Seconds(), 100*total.Seconds()/lasted.Seconds(), longest.Seconds())
	t.Logf("FIGURE longest time without a poll under way: %.1f s", r.LongestUnpolledSeconds)
	b.tellChanges(terms)
}

// tellChanges tells how often the primary changed, by cause, and each change without one.
func (b *battle) tellChanges(terms []term) {
	all := changes(terms, b.blows, size/2+1, size, 2*b.lease+time.Second)
	causes := map[string]int{}
	unexplained := 0
	for _, c := range all {
		if c.cause != "" {
			causes[c.cause]++
			continue
		}
		unexplained++
		b.t.Logf("false failover: from %s to %s at %s, during: %s", c.from.name, c.to.name, c.to.first().told.Format(clock),
			strings.Join(c.suspects, ", "))
	}
	b.t.Logf("FIGURE changes of primary: %d, false failovers among them: %d", len(all), unexplained)
	for _, cause := range slices.Sorted(maps.Keys(causes)) {
		b.t.Logf("FIGURE changes of primary after %s: %d", cause, causes[cause])
	}
	if b.missed > max(2, len(b.blows)/5) {
		b.t.Errorf("%d of %d blows could not be struck", b.missed, b.missed+len(b.blows))
	}
}

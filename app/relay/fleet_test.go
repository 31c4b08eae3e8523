package relay

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// some is a fleet of one backend with n addresses, all up.
func some(t *testing.T, n int) (*fleet, []member) {
	t.Helper()
	f := newFleet(backends(t, "http://mybot:8000/hook"))
	var all []member
	var addrs []netip.AddrPort
	for i := range n {
		addr := netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:8000", i+1))
		addrs = append(addrs, addr)
		all = append(all, member{0, addr})
	}
	if c := f.resolved(start, 0, addrs); c.came != (n > 0) {
		t.Errorf("resolved: %+v", c)
	}
	probeAll(f, start)
	return f, all
}

func backends(t testing.TB, list string) []Backend {
	t.Helper()
	all, err := ParseBackends(list)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func isReady(f *fleet) bool {
	_, ready := f.ready()
	return ready
}

func probeAll(f *fleet, now time.Time) {
	due, _ := f.dueProbes(now)
	for _, m := range due {
		f.probed(now, m, time.Millisecond, "")
	}
}

func chosen(t *testing.T, f *fleet, now time.Time, queue int64, a *attempts) member {
	t.Helper()
	c, until, ok := f.choose(now, queue, a)
	if !ok {
		t.Fatalf("queue %d has no choice until %v", queue, until)
	}
	return c.to
}

func TestQueuesSpreadAndStick(t *testing.T) {
	t.Parallel()
	f, all := some(t, 4)
	count, first := map[member]int{}, map[int64]member{}
	for queue := range int64(1000) {
		m := chosen(t, f, start, queue, newAttempts())
		count[m]++
		first[queue] = m
		if again := chosen(t, f, start.Add(time.Hour), queue, newAttempts()); again != m {
			t.Fatalf("queue %d goes to %v, then to %v", queue, m, again)
		}
	}
	for _, m := range all {
		if count[m] < 180 || count[m] > 320 {
			t.Errorf("%v has %d of 1000 queues", m, count[m])
		}
	}
	// Another replica chooses alike, whatever it has seen before.
	other, _ := some(t, 4)
	// Without one member only its queues move.
	other.ended(start, start, all[0], 5, unreachable, "refused")
	for queue, m := range first {
		got := chosen(t, other, start, queue, newAttempts())
		if m != all[0] && got != m || m == all[0] && got == m {
			t.Errorf("queue %d was %v's and is %v's without %v", queue, m, got, all[0])
		}
	}
}

func TestAConversationStaysWhereItIs(t *testing.T) {
	t.Parallel()
	f, _ := some(t, 2)
	home := chosen(t, f, start, 7, newAttempts())
	f.ended(start, start, home, 7, brokenOff, "reset")
	away := chosen(t, f, start, 7, newAttempts())
	if away == home {
		t.Fatal("it stays with one that is down")
	}
	f.ended(start, start, away, 7, answeredWell, "")
	f.probed(start.Add(time.Second), home, time.Millisecond, "")
	if got := chosen(t, f, start.Add(time.Minute), 7, newAttempts()); got != away {
		t.Error("it left one that is well when another came back")
	}
	if got := chosen(t, f, start.Add(stickyFor), 7, newAttempts()); got != home {
		t.Error("it does not go back when the conversation is long over")
	}
	f.ended(start, start, away, 7, brokenOff, "reset")
	if got := chosen(t, f, start.Add(time.Minute), 7, newAttempts()); got != home {
		t.Error("it stays with one that is down")
	}
}

func TestStickinessIsBounded(t *testing.T) {
	t.Parallel()
	f, all := some(t, 2)
	for queue := range int64(3 * maxSticky) {
		f.ended(start, start, all[0], 1+queue, answeredWell, "")
	}
	if n := len(f.sticky); n > maxSticky {
		t.Errorf("%d queues are remembered", n)
	}
	f.ended(start, start, all[0], 0, answeredWell, "")
	if _, ok := f.sticky[0]; ok {
		t.Error("updates without a queue stick")
	}
}

func TestAtMostSoManyAddresses(t *testing.T) {
	t.Parallel()
	f := newFleet(backends(t, "http://a,http://b"))
	for backend := range 2 {
		var addrs []netip.AddrPort
		for i := range 200 {
			addrs = append(addrs, netip.MustParseAddrPort(fmt.Sprintf("10.0.%d.%d:80", backend, i)))
		}
		f.resolved(start, backend, addrs)
	}
	if n := len(f.members); n != maxMembers {
		t.Errorf("%d addresses", n)
	}
}

func TestAnAddressThatIsGoneIsForgottenAfterAWhile(t *testing.T) {
	t.Parallel()
	f, all := some(t, 2)
	one := []netip.AddrPort{all[0].addr}
	f.resolved(start.Add(lingers), 0, one)
	if len(f.members) != 2 {
		t.Error("a partial answer makes it forget at once")
	}
	f.resolved(start.Add(lingers+time.Second), 0, one)
	if len(f.members) != 1 {
		t.Error("it is remembered for ever")
	}
	f.ended(start.Add(time.Minute), start, all[1], 1, brokenOff, "reset") // was in flight
	f.probed(start.Add(time.Minute), all[1], 0, "refused")
}

// One that refuses is asked no more; the next attempt of the update goes elsewhere at once.
func TestWithoutAMemberAnotherIsAskedAtOnce(t *testing.T) {
	t.Parallel()
	f, _ := some(t, 3)
	a, seen := newAttempts(), map[member]bool{}
	for range 3 {
		m := chosen(t, f, start, 1, a)
		if seen[m] {
			t.Errorf("%v is asked twice", m)
		}
		seen[m] = true
		f.ended(start, start, m, 1, unreachable, "refused")
		a.missed(m)
	}
	if _, until, ok := f.choose(start, 1, a); ok || !until.IsZero() {
		t.Error("all are down, and one is chosen")
	}
	if !a.notBefore.IsZero() || a.failures != 0 {
		t.Error("that nothing could be sent counts against the update")
	}
}

// An update that was answered with an error goes elsewhere next, to the same if there is no other.
func TestAfterAnErrorAnotherIsAsked(t *testing.T) {
	t.Parallel()
	f, _ := some(t, 3)
	a := newAttempts()
	last := chosen(t, f, start, 1, a)
	for range 5 {
		a.failed(start, last, 0, 0)
		m := chosen(t, f, start, 1, a)
		if m == last {
			t.Errorf("%v is asked again", m)
		}
		last = m
	}
	f, _ = some(t, 1)
	a = newAttempts()
	only := chosen(t, f, start, 1, a)
	a.failed(start, only, 0, 0)
	if chosen(t, f, start, 1, a) != only || a.notBefore.After(start) {
		t.Error("the only one is not asked again at once")
	}
}

func TestRetryAfterIsObeyed(t *testing.T) {
	t.Parallel()
	f, all := some(t, 2)
	a := newAttempts()
	first := chosen(t, f, start, 1, a)
	a.failed(start, first, 20*time.Second, 0)
	second := chosen(t, f, start, 1, a)
	if second == first {
		t.Fatal("it is asked again although it asked to wait")
	}
	a.failed(start, second, 10*time.Second, 0)
	if _, until, ok := f.choose(start, 1, a); ok || !until.Equal(start.Add(10*time.Second)) {
		t.Errorf("until %v, %v", until, ok)
	}
	if got := chosen(t, f, start.Add(10*time.Second), 1, a); got != second {
		t.Error("not the one whose wait is over")
	}
	if got := chosen(t, f, start, 2, newAttempts()); got != all[0] && got != all[1] {
		t.Error("other updates wait, too")
	}
	a.failed(start, first, 10*time.Hour, 0)
	a.failed(start, second, 10*time.Hour, 0)
	if _, until, _ := f.choose(start, 1, a); !until.Equal(start.Add(maxRetryAfter)) {
		t.Errorf("until %v, want an hour", until)
	}
}

func TestDownIsProbedUntilItIsUp(t *testing.T) {
	t.Parallel()
	f, all := some(t, 1)
	m := all[0]
	if c := f.ended(start, start, m, 1, brokenOff, "reset"); !c.moved || c.turned != m || c.came {
		t.Errorf("%+v", c)
	}
	if isReady(f) {
		t.Error("ready without a backend")
	}
	var at []time.Duration
	now := start
	for range 8 {
		due, next := f.dueProbes(now)
		if len(due) == 0 {
			now = next
			due, _ = f.dueProbes(now)
		}
		if len(due) != 1 {
			t.Fatalf("%d probes are due", len(due))
		}
		if again, _ := f.dueProbes(now); len(again) != 0 {
			t.Error("it is probed twice at a time")
		}
		at = append(at, now.Sub(start))
		f.probed(now, m, 0, "refused")
	}
	want := []time.Duration{0, 100, 300, 700, 1500, 3100, 5100, 7100}
	for i := range want {
		if at[i] != want[i]*time.Millisecond {
			t.Errorf("probe %d is after %v, want %v ms", i, at[i], want[i])
		}
	}
	_, next := f.dueProbes(now)
	f.dueProbes(next)
	if c := f.probed(next, m, time.Millisecond, ""); !c.came || !c.moved || c.recovered || !isReady(f) {
		t.Errorf("it is up again: %+v", c)
	}
}

// What is in flight when a backend dies breaks all at once, and it may be back soon.
func TestAMassOfBrokenConnectionsIsOneFailure(t *testing.T) {
	t.Parallel()
	f, all := some(t, 1)
	for range 40 {
		f.ended(start, start, all[0], 1, brokenOff, "reset")
	}
	f.dueProbes(start)
	if c := f.probed(start.Add(time.Millisecond), all[0], time.Millisecond, ""); !c.came {
		t.Error("it is held down")
	}
}

// A proxy in front of a dead backend takes every connection and breaks it.
func TestOneThatTakesConnectionsOnlyToBreakThemIsHeldDown(t *testing.T) {
	t.Parallel()
	f, all := some(t, 1)
	m, now := all[0], start
	var held []time.Duration
	for range 8 {
		broke := now
		f.ended(now, now, m, 1, brokenOff, "reset")
		for f.members[m].state == Down {
			due, next := f.dueProbes(now)
			if len(due) == 0 {
				now = next
				continue
			}
			f.probed(now, m, time.Millisecond, "")
		}
		held = append(held, now.Sub(broke))
	}
	want := []time.Duration{0, 250, 500, 1000, 2000, 4000, 8000, 10000}
	for i := range want {
		if held[i] != want[i]*time.Millisecond {
			t.Errorf("the %d. time it is down for %v, want %v ms", i+1, held[i], want[i])
		}
	}
	f.ended(now, now, m, 1, answeredError, "answers 500")
	f.ended(now, now, m, 1, brokenOff, "reset")
	f.dueProbes(now)
	if c := f.probed(now, m, time.Millisecond, ""); !c.came {
		t.Error("an answer does not count")
	}
}

// Errors for one queue may be that queue's fault.
func TestOnlyErrorsOfManyQueuesAreTheBackends(t *testing.T) {
	t.Parallel()
	f, all := some(t, 2)
	m := all[0]
	for range 100 {
		f.ended(start, start, m, 1, answeredError, "answers 500")
	}
	if f.members[m].state != Up {
		t.Fatal("one queue's errors make it failing")
	}
	f.ended(start, start, m, 1, answeredWell, "")
	for i := range errorsInARow - 1 {
		f.ended(start, start, m, int64(1+i), answeredError, "answers 500")
	}
	if f.members[m].state != Up {
		t.Fatal("it is failing too early")
	}
	if c := f.ended(start, start, m, 9, answeredError, "answers 500"); !c.moved || f.members[m].state != Failing {
		t.Fatal("it is not failing")
	}
	if !isReady(f) {
		t.Error("the other one is up")
	}
	for queue := range int64(100) {
		if chosen(t, f, start, queue, newAttempts()) == m {
			t.Error("it is chosen although another is well")
		}
	}
	// Later one update is a trial.
	now, trials := start.Add(trialFirst), 0
	for queue := range int64(100) {
		if chosen(t, f, now, queue, newAttempts()) == m {
			trials++
		}
	}
	if trials != 1 {
		t.Errorf("%d trials at once", trials)
	}
	if c := f.ended(now, now, m, 3, answeredWell, ""); !c.recovered || !c.came || f.members[m].state != Up {
		t.Errorf("it is well again: %+v", c)
	}
}

func TestWhenAllFailTheyAreAskedAllTheSame(t *testing.T) {
	t.Parallel()
	f, all := some(t, 2)
	for _, m := range all {
		for queue := range int64(errorsInARow) {
			f.ended(start, start, m, queue, answeredError, "answers 502")
		}
	}
	a := newAttempts()
	first := chosen(t, f, start, 1, a)
	a.failed(start, first, 0, 0)
	if chosen(t, f, start, 1, a) == first {
		t.Error("the same is asked again")
	}
	if isReady(f) {
		t.Error("ready although all fail")
	}
}

// A handler that takes too long is not the backend's death, if it answers others; a backend that hangs is.
func TestATimeOutIsTheBackendsIfItAnswersNobody(t *testing.T) {
	t.Parallel()
	f, all := some(t, 1)
	m := all[0]
	f.ended(start.Add(59*time.Second), start.Add(58*time.Second), m, 2, answeredWell, "")
	f.ended(start.Add(time.Minute), start, m, 1, timedOut, "no answer")
	if f.members[m].state != Up {
		t.Error("it answered another meanwhile")
	}
	f.ended(start.Add(2*time.Minute), start.Add(time.Minute), m, 1, timedOut, "no answer")
	if f.members[m].state != Failing {
		t.Error("it answered nobody")
	}
}

func TestAConnectionIsNotWaitedForWhileThereIsAnother(t *testing.T) {
	t.Parallel()
	f, _ := some(t, 2)
	a := newAttempts()
	c, _, _ := f.choose(start, 1, a)
	if want := connectSlack + connectFactor*time.Millisecond; c.bound != want {
		t.Errorf("the bound is %v, want %v", c.bound, want)
	}
	a.missed(c.to)
	d, _, _ := f.choose(start, 1, a)
	if d.to == c.to || d.bound != 0 {
		t.Errorf("then %v within %v", d.to, d.bound)
	}
	a.missed(d.to)
	if e, _, ok := f.choose(start, 1, a); !ok || e.bound != 0 {
		t.Errorf("when both are slow they are waited for: %v, %v", e.bound, ok)
	}
}

// An answer is as good as a probe.
func TestProbesAreForThoseThatShowNothing(t *testing.T) {
	t.Parallel()
	f, all := some(t, 2)
	now := start
	for range 20 {
		now = now.Add(time.Second)
		f.ended(now, now, all[0], 1, answeredWell, "")
		due, _ := f.dueProbes(now)
		for _, m := range due {
			if m == all[0] {
				t.Fatalf("after %v one is probed that answers", now.Sub(start))
			}
			f.probed(now, m, time.Millisecond, "")
		}
	}
	f.dueProbes(now)
	if c := f.probed(now, all[1], 0, "refused"); !c.moved || f.members[all[1]].state != Down {
		t.Error("a probe that fails changes nothing")
	}
}

// Whatever happens, a choice is never Down or asked to wait, and there is one if a member is neither.
func TestFleetAtRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		f := newFleet(backends(t, "http://a,http://b"))
		now, a := start, newAttempts()
		for range 300 {
			now = now.Add(time.Duration(random.IntN(3000)) * time.Millisecond)
			var addrs []netip.AddrPort
			for i := range random.IntN(4) {
				addrs = append(addrs, netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:80", i)))
			}
			f.resolved(now, random.IntN(2), addrs)
			due, next := f.dueProbes(now)
			if !next.After(now) {
				t.Fatalf("seed %d: the next look is not later", seed)
			}
			for _, m := range due {
				f.probed(now, m, time.Duration(random.IntN(1000)), []string{"", "", "refused"}[random.IntN(3)])
			}
			queue := random.Int64N(5)
			c, until, ok := f.choose(now, queue, a)
			fit := 0
			for m, s := range f.members {
				if s.state != Down && !a.resting[m].After(now) {
					fit++
				}
			}
			switch {
			case ok != (fit > 0):
				t.Fatalf("seed %d: a choice is %v of %d", seed, ok, fit)
			case !ok && !until.IsZero() && !until.After(now):
				t.Fatalf("seed %d: until %v at %v", seed, until, now)
			case ok && (f.members[c.to] == nil || f.members[c.to].state == Down || a.resting[c.to].After(now)):
				t.Fatalf("seed %d: %v was chosen", seed, c.to)
			}
			if !ok {
				continue
			}
			f.began(c.to)
			r := result(random.IntN(int(aborted) + 1))
			f.ended(now, now.Add(-time.Duration(random.IntN(60))*time.Second), c.to, queue, r, "x")
			switch r {
			case answeredWell, aborted:
				a = newAttempts()
			case unreachable, tooSlow:
				a.missed(c.to)
			default:
				a.failed(now, c.to, time.Duration(random.IntN(3))*time.Second, random.Float64())
			}
		}
	}
}

// What speaks against a member that is up is looked into at once, though it has just answered.
func TestASuspectIsProbedAtOnce(t *testing.T) {
	t.Parallel()
	for _, r := range []result{stale, tooSlow} {
		f, all := some(t, 1)
		f.ended(start, start, all[0], 1, answeredWell, "")
		if c := f.ended(start, start, all[0], 1, r, "x"); c != (change{}) || f.members[all[0]].state != Up {
			t.Errorf("%d: it counts as down already", r)
		}
		if due, _ := f.dueProbes(start); len(due) != 1 {
			t.Errorf("%d: no probe is due", r)
		}
		f.probed(start, all[0], time.Millisecond, "")
		if due, _ := f.dueProbes(start); len(due) != 0 {
			t.Errorf("%d: it is probed again and again", r)
		}
	}
}

// An update that is answered with errors is no test of whether a backend is well again.
func TestAnUpdateThatFailsIsNoTrial(t *testing.T) {
	t.Parallel()
	f, all := some(t, 2)
	for queue := range int64(errorsInARow) {
		f.ended(start, start, all[0], queue, answeredError, "answers 500")
	}
	now := start.Add(trialFirst)
	for queue := range int64(20) {
		a := newAttempts()
		a.failed(start, all[1], 0, 0) // it would go elsewhere
		if chosen(t, f, now, queue, a) != all[1] {
			t.Error("it goes to the one that fails")
		}
	}
}

func TestAnAddressIsReadyWhenItWasSeenToBe(t *testing.T) {
	t.Parallel()
	f := newFleet(backends(t, "http://a"))
	f.resolved(start, 0, []netip.AddrPort{netip.MustParseAddrPort(two)})
	if reachable, ready := f.ready(); reachable || ready {
		t.Error("ready before it is probed")
	}
	if _, _, ok := f.choose(start, 1, newAttempts()); !ok {
		t.Error("it cannot be chosen")
	}
	probeAll(f, start)
	if reachable, ready := f.ready(); !reachable || !ready {
		t.Error("not ready")
	}
}

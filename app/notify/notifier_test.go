package notify

import (
	"encoding/xml"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"habot/app/diagnosis"
	"habot/app/election"
)

// nasty is a name that Telegram would take for markup.
const nasty = `<b>&"x"</i>`

// wellFormed reports whether Telegram would take a text: markup is closed, and all else escaped.
func wellFormed(text string) bool {
	return xml.Unmarshal([]byte("<all>"+text+"</all>"), new(struct{})) == nil
}

// council is replicas that each look at a common truth, and what they tell the admins. It needs no clock but
// its own.
type council struct {
	t         *testing.T
	now       time.Time
	names     []string
	notifiers map[string]*Notifier
	truth     truth
	told      []told
}

// truth is what there is to see.
type truth struct {
	primary string          // empty: none
	cut     map[string]bool // partitioned from all others
	dead    map[string]bool
	trouble map[string]diagnosis.Trouble
	deaf    map[string]bool   // who reaches no Telegram
	without map[string]string // who knows of no backend, and why
	history []election.Change
	misfits []election.Mismatched
}

type told struct {
	at time.Time
	by string
	// text is HTML as it is sent.
	text string
}

func newCouncil(t *testing.T, names ...string) *council {
	c := &council{t: t, now: time.Unix(1_800_000_000, 0), names: names, notifiers: map[string]*Notifier{}}
	c.truth = truth{cut: map[string]bool{}, dead: map[string]bool{}, trouble: map[string]diagnosis.Trouble{}, deaf: map[string]bool{}}
	for _, name := range names {
		c.notifiers[name] = New()
	}
	return c
}

func (c *council) status(name string) election.Status {
	s := election.Status{Replica: election.ReplicaID("id-" + name), Name: name, Role: election.Looking, Lease: time.Second, Health: election.Health{OK: !c.truth.deaf[name]}}
	if c.truth.primary == "" || c.truth.cut[name] {
		return s
	}
	last := c.truth.history[len(c.truth.history)-1]
	s.Primary, s.PrimaryName, s.Change, s.Role = last.Claim, last.Name, last, election.Standby
	if c.truth.primary == name {
		s.Role = election.Primary
	}
	return s
}

func (c *council) snapshot(name string) Snapshot {
	v := election.View{Self: c.status(name), Expected: len(c.names), Quorum: len(c.names)/2 + 1, Reachable: 1, Mismatched: c.truth.misfits}
	if !c.truth.cut[name] {
		v.History = c.truth.history
	}
	for _, other := range c.names {
		if other == name {
			continue
		}
		p := election.Peer{Status: c.status(other), Reachable: !c.truth.dead[other] && !c.truth.cut[other] && !c.truth.cut[name]}
		if p.Reachable {
			v.Reachable++
		} else {
			p.Age = 10 * time.Second
		}
		v.Peers = append(v.Peers, p)
	}
	return Snapshot{View: v, Trouble: c.truth.trouble[name], NoBackend: c.truth.without[name], CanSend: !c.truth.deaf[name] && c.truth.trouble[name] != diagnosis.TroubleToken}
}

// look has every notifier look once.
func (c *council) look() {
	for _, name := range c.names {
		if c.truth.dead[name] {
			continue
		}
		if text := c.notifiers[name].Observe(c.now, c.snapshot(name)); text != "" {
			if !wellFormed(text) {
				c.t.Errorf("Telegram cannot parse %q", text)
			}
			c.told = append(c.told, told{c.now, name, text})
		}
	}
}

// pass lets time pass.
func (c *council) pass(d time.Duration) {
	for end := c.now.Add(d); c.now.Before(end); {
		c.look()
		c.now = c.now.Add(Interval)
	}
}

// elect makes a replica primary; there was none for gap. It is looked at at once, as a term's begin is.
func (c *council) elect(name string, gap time.Duration) {
	change := election.Change{
		Claim: election.Claim{Timestamp: c.now.UnixNano(), Replica: election.ReplicaID("id-" + name)},
		Name:  name, Previous: c.truth.primary, Reason: election.ReasonCrash, Gap: gap,
	}
	if c.truth.primary = name; gap == 0 {
		change.Reason = election.ReasonStart
	}
	if len(c.truth.history) == 100 {
		c.truth.history = c.truth.history[1:]
	}
	c.truth.history = append(c.truth.history, change)
	c.look()
}

// expect compares what was sent since the last time: pairs of the sender and a part of the text.
func (c *council) expect(pairs ...string) {
	c.t.Helper()
	var got []string
	ok := len(c.told) == len(pairs)/2
	for i, m := range c.told {
		got = append(got, m.at.Format(time.TimeOnly)+" "+m.by+": "+m.text)
		ok = ok && m.by == pairs[2*i] && strings.Contains(m.text, pairs[2*i+1])
	}
	if !ok {
		c.t.Errorf("told:\n\t%s\nwant (by, with):\n\t%q", strings.Join(got, "\n\t"), pairs)
	}
	c.told = nil
}

// three replicas, of which b is primary; that was reported.
func threeNotifiers(t *testing.T) *council {
	c := newCouncil(t, "a", "b", "c")
	c.pass(4 * time.Second)
	c.elect("b", 0)
	c.pass(time.Hour)
	c.expect("b", "<b>b</b> became primary at")
	return c
}

func TestAnAbsenceOfPrimariesIsToldOnceByOneAndItsEndByTheNextPrimary(t *testing.T) {
	t.Parallel()
	c := threeNotifiers(t)
	start := c.now
	c.truth.dead["b"], c.truth.primary = true, ""
	c.pass(15 * time.Second)
	c.expect()
	c.pass(time.Hour)
	if d := c.told[0].at.Sub(start); d > 17*time.Second {
		t.Errorf("told after %v", d)
	}
	for _, part := range []string{
		"since " + diagnosis.Clock(start), "(as seen by <b>a</b>); the bot is not answering", "2 of 3 replicas reachable, 2 needed",
		"<b>a</b> reachable, looking\n<b>c</b> reachable, looking\n<b>b</b> missing, no contact for 10 s",
	} {
		if !strings.Contains(c.told[0].text, part) {
			t.Errorf("told %q without %q", c.told[0].text, part)
		}
	}
	c.expect("a", "No primary")
	c.elect("c", time.Hour)
	c.pass(time.Hour)
	c.expect("c", "Downtime: 60 minutes")
}

// Of backends that take no updates the primary tells, and that it is over; a standby has no updates that wait.
func TestWithoutABackendThePrimaryTells(t *testing.T) {
	t.Parallel()
	c := threeNotifiers(t)
	start := c.now
	c.truth.without = map[string]string{"a": "x", "b": "no backend takes updates: <http>", "c": "x"}
	c.pass(14 * time.Second)
	c.expect()
	c.pass(time.Hour)
	c.expect("b", "No backend takes updates since "+diagnosis.Clock(start)+" (as seen by <b>b</b>); they wait at Telegram. no backend takes updates: &lt;http&gt;")
	delete(c.truth.without, "b")
	c.pass(time.Minute)
	c.expect("b", "A backend takes updates again (as seen by <b>b</b>). There was none from "+diagnosis.Clock(start))
	// A standby that alone reaches none is no matter, and the end of that none either, though it is primary by then.
	c.truth.without["b"] = ""
	c.pass(time.Minute)
	c.truth.dead["b"] = true
	c.elect("a", time.Second)
	c.truth.without["a"] = ""
	c.pass(time.Minute)
	c.expect("a", "<b>a</b> became primary at")
	c.truth.dead["b"] = false
	c.elect("b", time.Second)
	c.pass(time.Minute)
	c.told = nil
	// A backend that is replaced is away for a moment.
	c.truth.without["b"] = "x"
	c.pass(10 * time.Second)
	delete(c.truth.without, "b")
	c.pass(time.Minute)
	c.expect()
}

// A new primary that has just started does not know how long there was none.
func TestTheEndOfAnAbsenceIsToldByWhoToldItIfTheNextPrimaryDoesNotKnow(t *testing.T) {
	t.Parallel()
	c := threeNotifiers(t)
	c.truth.dead["b"], c.truth.primary = true, ""
	c.pass(time.Minute)
	c.expect("a", "No primary")
	c.truth.dead["b"], c.notifiers["b"] = false, New()
	c.elect("b", 0)
	c.pass(time.Hour)
	c.expect("b", "<b>b</b> became primary at", "a", "There is a primary again (as seen by <b>a</b>): <b>b</b>.")
}

// A replica that reported that there was no primary, and becomes it, reports the takeover and no more.
func TestWhoToldOfAnAbsenceAndEndsItTellsOfItsTakeoverAlone(t *testing.T) {
	t.Parallel()
	c := threeNotifiers(t)
	c.truth.dead["b"], c.truth.primary = true, ""
	c.pass(time.Minute)
	c.elect("a", 0)
	c.pass(time.Hour)
	c.expect("a", "No primary", "a", "<b>a</b> became primary at")
}

func TestATakeoverIsNoAbsence(t *testing.T) {
	t.Parallel()
	c := threeNotifiers(t)
	c.truth.primary = ""
	c.pass(14 * time.Second)
	c.elect("a", 14*time.Second)
	c.pass(time.Hour)
	c.expect("a", "Downtime: 14 s")
}

func TestALongLeaseMakesALongTakeoverNoAbsence(t *testing.T) {
	t.Parallel()
	if d := noPrimary.timing(time.Minute).onset; d != 3*time.Minute {
		t.Errorf("with a lease of a minute an absence is reported after %v", d)
	}
}

// Each side of a partition says what it sees, and that it is its own view.
func TestAReplicaThatIsCutOffTellsWhatItSeesAndThatItIsOver(t *testing.T) {
	t.Parallel()
	c := threeNotifiers(t)
	c.truth.cut["b"] = true
	c.elect("a", time.Second)
	c.pass(time.Minute)
	c.expect("a", "<b>a</b> became primary at", "b", "(as seen by <b>b</b>); the bot is not answering. 1 of 3 replicas reachable")
	c.truth.cut["b"] = false
	c.pass(time.Hour)
	c.expect("b", "There is a primary again (as seen by <b>b</b>): <b>a</b>.")
}

func TestWhoTakesOverTheTellingRepeatsOnlyWhatMayNotHaveBeenTold(t *testing.T) {
	t.Parallel()
	for lives, repeated := range map[time.Duration]bool{4 * time.Second: true, time.Minute: false} {
		c := threeNotifiers(t)
		c.truth.dead["b"], c.truth.primary = true, ""
		for len(c.told) == 0 {
			c.pass(Interval)
		}
		c.pass(lives)
		c.truth.dead["a"] = true
		c.pass(time.Hour)
		if repeated {
			c.expect("a", "No primary", "c", "No primary")
		} else {
			c.expect("a", "No primary")
		}
	}
}

func TestAnAbsenceIsToldByOneThatReachesTelegramAndStays(t *testing.T) {
	t.Parallel()
	c := threeNotifiers(t)
	c.truth.primary, c.truth.deaf["a"] = "", true
	c.pass(time.Minute)
	c.expect("b", "<b>a</b> reachable")
	for _, role := range []election.Role{election.Joining, election.Leaving} {
		s := c.snapshot("b")
		s.View.Peers[0].Status.Role, s.View.Peers[0].Status.Health.OK = role, true
		if by := s.sender(); by != "id-b" {
			t.Errorf("%s tells while a is %s", by, role)
		}
		s.View.Self.Role = role
		if s.shows(noPrimary) && !s.cannotObserve(noPrimary) {
			t.Errorf("one that is %s sees no primary", role)
		}
	}
}

// No replica reaches Telegram. What happens meanwhile is sent in one message once a replica does.
func TestWhatCannotBeSentIsMerged(t *testing.T) {
	t.Parallel()
	c := threeNotifiers(t)
	for _, name := range c.names {
		c.truth.deaf[name] = true
	}
	for range 3 {
		c.elect("b", time.Second)
		c.pass(20 * time.Minute)
	}
	c.truth.misfits = []election.Mismatched{{Name: "z", Reason: election.RefusedLease, Theirs: "2s"}}
	c.pass(20 * time.Minute)
	c.expect()
	c.truth.deaf["b"] = false
	c.pass(time.Hour)
	c.expect("b", "3 changes of primary in 80 minutes. The last: <b>b</b> became primary at")
}

// Twenty changes a minute for an hour: a few messages, and no change is left out of the count.
func TestFlappingPrimariesAreToldInFewMessages(t *testing.T) {
	t.Parallel()
	c := newCouncil(t, "a", "b", "c")
	changes := 0
	for ; changes < 20*60; changes++ {
		c.elect(c.names[changes%3], time.Second)
		c.look()
		c.now = c.now.Add(time.Second)
		c.look()
		c.now = c.now.Add(2 * time.Second)
	}
	if n := len(c.told); n < burst+10 || n > burst+12 {
		t.Errorf("%d messages in an hour, want a burst of %d and one every %v", n, burst, refillEvery)
	}
	c.pass(time.Hour)
	counted := 0
	for _, m := range c.told {
		n := 1
		if strings.Contains(m.text, "changes of primary") {
			if _, err := fmt.Sscanf(m.text, "%d changes of primary in", &n); err != nil {
				t.Errorf("%q: %v", m.text, err)
			}
		}
		counted += n
	}
	if counted != changes {
		t.Errorf("%d of %d changes are reported", counted, changes)
	}
	if all := c.told; !strings.Contains(all[burst].text, "changes of primary in") || len(all) > burst+13 {
		t.Errorf("%d messages, the first after the burst is %q", len(all), all[burst].text)
	}
}

// A quorum that comes and goes for six hours.
func TestAFlappingQuorumIsToldInFewMessages(t *testing.T) {
	t.Parallel()
	c := threeNotifiers(t)
	const day = 6 * 60
	for i := range day {
		c.truth.primary = ""
		c.pass(40 * time.Second)
		c.elect(c.names[i%3], 40*time.Second)
		c.pass(20 * time.Second)
	}
	if n := len(c.told); n > burst+6*12+1 {
		t.Errorf("%d messages in a quarter of a day", n)
	}
}

// Primaries that last for less than two looks do not add up to an absence.
func TestBriefPrimariesEndAnAbsence(t *testing.T) {
	t.Parallel()
	c := threeNotifiers(t)
	for range 20 {
		c.truth.primary = ""
		c.pass(6 * time.Second)
		c.truth.history = append(c.truth.history, election.Change{Claim: election.Claim{Timestamp: c.now.UnixNano(), Replica: "id-c"}, Name: "c"})
		c.pass(6 * time.Second)
	}
	for _, m := range c.told {
		if strings.Contains(m.text, "No primary") {
			t.Errorf("told %q: there was one every twelve seconds", m.text)
		}
	}
}

// Two pollers cut off each other in turns: polls of ours succeed in between.
func TestAForeignPollerIsToldOnceHoweverItsConflictsComeAndGo(t *testing.T) {
	t.Parallel()
	for _, kind := range []diagnosis.Trouble{diagnosis.TroubleConflict, diagnosis.TroubleWebhook} {
		c := threeNotifiers(t)
		for range 60 {
			c.truth.trouble["b"] = kind
			c.pass(4 * time.Second)
			c.truth.trouble["b"] = ""
			c.pass(26 * time.Second)
		}
		c.expect("b", "(409) since")
		c.pass(30 * time.Second)
		c.expect()
		c.pass(time.Hour)
		c.expect("b", "any more since")
		// A program that is being replaced overlaps for a moment.
		c.truth.trouble["b"] = kind
		c.pass(6 * time.Second)
		c.truth.trouble["b"] = ""
		c.pass(time.Hour)
		c.expect()
	}
}

// Only the primary polls. When the role moves, its successor tells what it meets itself.
func TestAForeignPollerIsToldByThePrimary(t *testing.T) {
	t.Parallel()
	c := threeNotifiers(t)
	c.truth.trouble["b"] = diagnosis.TroubleConflict
	c.pass(time.Minute)
	c.expect("b", "Another program polls")
	c.elect("c", time.Second)
	c.truth.trouble["c"] = diagnosis.TroubleConflict
	c.pass(time.Minute)
	c.truth.trouble["c"], c.truth.trouble["b"] = "", ""
	c.pass(time.Hour)
	c.expect("c", "became primary at", "c", "Another program polls", "c", "No other program polls")
}

func TestARejectedTokenIsToldWhenItIsAcceptedAgain(t *testing.T) {
	t.Parallel()
	c := threeNotifiers(t)
	all := func(kind diagnosis.Trouble) {
		for _, name := range c.names {
			c.truth.trouble[name] = kind
		}
	}
	from := c.now
	all(diagnosis.TroubleToken)
	c.pass(time.Hour)
	c.expect()
	to := c.now.Add(-Interval)
	all("")
	c.pass(time.Hour)
	c.expect("b", "rejected the token (401) from "+diagnosis.Clock(from)+" to "+diagnosis.Clock(to)+" (as seen by <b>b</b>). It accepts it again.")
	all(diagnosis.TroubleToken) // a proxy's mistake
	c.pass(6 * time.Second)
	all("")
	c.pass(time.Hour)
	c.expect()
}

func TestAConfigurationThatDiffersIsToldOnceByOne(t *testing.T) {
	t.Parallel()
	c := threeNotifiers(t)
	c.truth.misfits = []election.Mismatched{
		{Name: "y", Reason: election.RefusedLease, Theirs: "2s"}, {Name: nasty, Reason: election.RefusedProtocol, Theirs: "another version of the protocol"},
	}
	c.pass(20 * time.Second)
	c.expect()
	c.pass(time.Hour)
	if text := c.told[0].text; !strings.Contains(text, "<b>y</b> cannot take part: it has LEASE=2s, here it is 1s\n") ||
		!strings.Contains(text, "cannot take part: it has another version of the protocol") {
		t.Errorf("told %q", text)
	}
	c.expect("b", "Incompatible replicas since")
	c.truth.misfits = nil
	c.pass(time.Hour)
	c.expect("b", "No replica is incompatible any more")

	s := c.snapshot("b")
	s.View.Peers, s.View.Expected = nil, 5
	s.View.Mismatched = []election.Mismatched{{Name: "y", Reason: election.RefusedLease, Theirs: "2s"}}
	if got := s.text(noPrimary, incident{}); !strings.HasSuffix(got, "\n<b>y</b> cannot take part: it has LEASE=2s, here it is 1s\n3 more missing, no contact for a minute or ever") {
		t.Errorf("told %q", got)
	}
	s.View.Mismatched = nil
	s.Incompatible = []string{"10.0.0.7:7175: <another> bot"}
	if got := s.text(mismatch, incident{}); !strings.HasSuffix(got, "\n10.0.0.7:7175: &lt;another&gt; bot") {
		t.Errorf("told %q", got)
	}
}

// If the replica that reported it is gone, the present author reports that it is over.
func TestTheEndIsToldBySomebodyElseIfWhoToldIsGone(t *testing.T) {
	t.Parallel()
	c := threeNotifiers(t)
	c.truth.misfits = []election.Mismatched{{Name: "z", Reason: election.RefusedLease, Theirs: "2s"}}
	c.pass(time.Minute)
	c.truth.dead["b"] = true
	c.elect("c", time.Second)
	c.pass(time.Minute)
	c.truth.misfits = nil
	c.pass(time.Hour)
	c.expect("b", "Incompatible replicas", "c", "became primary at", "c", "No replica is incompatible any more")
}

// What ends and begins again before its end could be reported has not ended.
func TestAnEndThatIsNoneIsNotTold(t *testing.T) {
	t.Parallel()
	c := threeNotifiers(t)
	differs := []election.Mismatched{{Name: "z", Reason: election.RefusedLease, Theirs: "2s"}}
	c.truth.misfits = differs
	c.pass(time.Minute)
	c.expect("b", "Incompatible replicas")
	c.truth.deaf["b"], c.truth.misfits = true, nil
	c.pass(5 * time.Minute)
	c.truth.misfits = differs
	c.pass(time.Minute)
	c.truth.deaf["b"] = false
	c.pass(time.Hour)
	c.expect()
}

// An end waits for the allowance like everything else, and so do changes for a way to Telegram.
func TestWhatIsBeyondTheAllowanceWaits(t *testing.T) {
	t.Parallel()
	c := threeNotifiers(t)
	c.truth.misfits = []election.Mismatched{{Name: "z", Reason: election.RefusedLease, Theirs: "2s"}}
	c.pass(time.Minute)
	c.truth.misfits = nil
	start := c.now
	for range burst + 2 {
		c.elect("b", time.Second)
		c.now = c.now.Add(time.Second)
	}
	c.truth.deaf["b"] = true
	c.pass(4 * refillEvery)
	if n := len(c.told); n != burst {
		t.Errorf("%d messages, want one of what differs and %d of changes", n, burst-1)
	}
	c.told = nil
	c.truth.deaf["b"] = false
	c.pass(time.Hour)
	if len(c.told) != 1 || c.told[0].at.Sub(start) < refillEvery {
		t.Errorf("told %v, want one message with all that waited", c.told)
	}
	if text := c.told[0].text; !strings.HasPrefix(text, "3 changes of primary in") || !strings.Contains(text, "No replica is incompatible any more") {
		t.Errorf("told %q", text)
	}
	c.told = nil

	// With a way to Telegram, and nothing but the end to tell.
	c.truth.misfits = []election.Mismatched{{Name: "z", Reason: election.RefusedLease, Theirs: "2s"}}
	c.pass(time.Minute)
	for range burst - 1 {
		c.now = c.now.Add(time.Second)
		c.elect("b", time.Second)
	}
	last := c.now
	c.truth.misfits = nil
	c.pass(time.Hour)
	if end := c.told[len(c.told)-1]; !strings.HasPrefix(end.text, "No replica is incompatible") || end.at.Sub(last) < refillEvery-2*time.Minute {
		t.Errorf("%v after the allowance was used up %q was sent", end.at.Sub(last), end.text)
	}
}

// A process that was frozen knows nothing of the time between.
func TestAFrozenReplicaDoesNotTellOfTheTimeThatItMissed(t *testing.T) {
	t.Parallel()
	c := threeNotifiers(t)
	c.truth.cut["b"] = true
	c.pass(4 * time.Second)
	c.now = c.now.Add(time.Hour)
	c.pass(10 * time.Second)
	c.truth.cut["b"] = false
	c.pass(time.Hour)
	c.expect()
}

func TestNothingIsToldBeforeTheReplicaIsKnown(t *testing.T) {
	t.Parallel()
	d := New()
	for i := range 100 {
		if text := d.Observe(time.Unix(int64(2*i), 0), Snapshot{CanSend: true}); text != "" {
			t.Fatalf("told %q", text)
		}
	}
}

// Whatever is seen, for however long: messages stay few, Telegram can parse them, and what is remembered does
// not grow.
func TestWhateverIsSeenMessagesAreFew(t *testing.T) {
	t.Parallel()
	kinds := append(diagnosis.Troubles(), "", "", "")
	for seed := range uint64(4) {
		random := rand.New(rand.NewPCG(seed, 0))
		c := newCouncil(t, "a", "b", "c", "d", "e")
		start := c.now
		perHour := map[string]int{}
		for c.now.Sub(start) < 4*time.Hour {
			who := c.names[random.IntN(len(c.names))]
			switch random.IntN(8) {
			case 0:
				c.elect(who, time.Duration(random.IntN(40))*time.Second)
			case 1:
				c.truth.primary = ""
			case 2:
				c.truth.cut[who] = !c.truth.cut[who]
			case 3:
				c.truth.dead[who] = !c.truth.dead[who]
			case 4:
				c.truth.trouble[who] = kinds[random.IntN(len(kinds))]
			case 5:
				c.truth.deaf[who] = random.IntN(4) == 0
			case 6:
				c.truth.misfits = nil
			default:
				c.truth.misfits = []election.Mismatched{{Name: who, Reason: election.RefusedLease, Theirs: "2s"}}
			}
			c.pass(time.Duration(random.IntN(60)) * time.Second)
		}
		for _, m := range c.told {
			perHour[fmt.Sprint(m.by, int(m.at.Sub(start).Hours()))]++
		}
		for hour, n := range perHour {
			if n > burst+12 {
				t.Errorf("seed %d: %d messages in the hour %s", seed, n, hour)
			}
		}
		if len(c.told) < 12 {
			t.Errorf("seed %d: only %d messages in four hours: the test shows little", seed, len(c.told))
		}
	}
}

func TestFirstPrimaryIsAnnouncedWithoutAPredecessor(t *testing.T) {
	t.Parallel()
	if got := ChangeText(election.Change{Name: "a", Reason: election.ReasonStart}); got != "<b>a</b> became primary at 1970-01-01 00:00:00 UTC. Reason: no previous primary was known (first start, or all replicas restarted). Downtime: unknown." {
		t.Errorf("announced %q", got)
	}
}

// The changes before a process's time count for it too, so that replicas which replace each other do not send more together.
func TestTheLimitPassesToReplicasThatStartLater(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} { // the history of before comes at once, or a little later
		c := newCouncil(t, "r1", "r2", "r3")
		for _, name := range []string{"r1", "r3", "r1", "r3", "r1"} {
			c.elect(name, 0)
			c.pass(2 * Interval)
		}
		sent := len(c.told)
		if sent != burst {
			t.Fatalf("%d messages, want %d", sent, burst)
		}
		c.notifiers["r2"] = New() // it starts again
		if late {
			whole := c.truth.history
			c.truth.history = whole[len(whole)-1:]
			c.look()
			c.truth.history = whole
		}
		c.pass(2 * Interval)
		c.elect("r2", 0)
		c.pass(time.Minute)
		if n := len(c.told) - sent; n != 0 {
			t.Errorf("%d messages beyond the limit: %+v", n, c.told[sent:])
		}
		c.pass(2 * refillEvery)
		if n := len(c.told) - sent; n != 1 {
			t.Errorf("%d messages once the limit allows one, want 1", n)
		}
	}
}

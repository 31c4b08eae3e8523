package election_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"habot/app/election"
)

// replica is the subject of a story: its id and name are m. The lease is 1000 ms, so it is silent
// for 1010, an acknowledgement counts for 990, it renews every 400 and again after 100 without a quorum's
// grants, asks again after 50, holds back for 250, waits 350 for a successor's claim when it leaves, and its bot stops 100 before the end of the lease.
type replica struct {
	Replicas, Quorum int
	HealthSettles    time.Duration
	// Witness: it votes and never is primary.
	Witness bool
	// Hurried: it goes on granting for no time when it leaves; otherwise for 5000 ms at most.
	Hurried bool
	// Patience is for how long it waits for the next sign of a newcomer when it leaves: of the 5000 ms, 1000 are left for the
	// bot.
	Patience time.Duration
	// Queries shows the questions to all others too; most stories are easier to read without.
	Queries bool
}

// story plays a script on one machine and compares what comes out with what the script says.
//
// Every line is a reading of the local clock in ms and an input; the lines with > after it are the
// outputs, in order. An input of several replicas names them b,c,d. wall= sets the wall clock, in ns, from that line on; it begins at 1000 ns, which
// keeps timestamps readable. A claim is written as replica/timestamp, and - is none.
func story(t *testing.T, r replica, script string) {
	t.Helper()
	if r.Replicas == 0 {
		r.Replicas = 3
	}
	within := 5 * lease
	if r.Hurried {
		within = 0
	}
	p := &player{t: t, show: r.Queries, wall: 1000}
	p.m = election.New(election.Config{
		Self: "m", Name: "m", Lease: lease, Replicas: r.Replicas, Quorum: r.Quorum, HealthSettles: r.HealthSettles,
		Witness: r.Witness, LeaveWithin: within, LeavePatience: r.Patience, StopWithin: lease,
	}, election.Reading{Wall: p.wall})
	var want, got []string
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		want = append(want, line)
		switch line[0] {
		case '#':
			got = append(got, line)
		case '>':
		default:
			got = append(got, line)
			for _, out := range p.play(line) {
				got = append(got, "> "+out)
			}
		}
	}
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || want[i] != got[i] {
			at := min(i, len(got))
			t.Errorf("the story is another one from line %d on:\n\t%s\n--- here it differs\n\t%s", i+1,
				strings.Join(got[:at], "\n\t"), strings.Join(got[at:], "\n\t"))
			return
		}
	}
}

const lease = time.Second

// How stories begin that begin alike.
const (
	// claims: m asks for grants. With that of one at 1020 it wins.
	claims = `
		1010 tick
		  > claim m/1000 as candidate, round 1
	`
	wins = `
		  > election m/1000 won after 10
		  > primary is m/1000, start
		  > bot until 1900, lease ends 2000
		  > start bot m/1000
		  > claim m/1000 as primary, round 2
	`
	// won: m is primary by the grant of b.
	won = claims + "1020 granted b m/1000 sent=1010" + wins
	// wonByBoth: by the grants of b and c.
	wonByBoth = claims + "1020 granted b,c m/1000 sent=1010" + wins
	// standby: m stands by p and has promised to support it until 2010.
	standby = `
		1000 status p role=primary primary=p/5000
		  > primary is p/5000, start
		1010 claim p/5000 role=primary
		  > grant p/5000
	`
	// standbyWithB: b stands by too.
	standbyWithB = `
		1000 status b,p primary=p/5000
		  > primary is p/5000, start
		1010 claim p/5000 role=primary
		  > grant p/5000
	`
	// standbyOfEarlier: until 2100, and p's claim is below m's wall clock: m's next is m/1000.
	standbyOfEarlier = `
		1005 claim p/900 role=primary
		  > primary is p/900, start
		  > refuse p/900 joining remaining=5 floor=p/900
		1100 claim p/900 role=primary
		  > grant p/900
	`
)

// player turns lines into inputs, and outputs into lines.
type player struct {
	t    *testing.T
	m    *election.Machine
	show bool
	wall int64
	now  election.Instant
}

// line is a line of a script in parts: "1200 claim b/900 role=primary".
type line struct {
	t     *testing.T
	text  string
	words []string
	opts  map[string]string
}

func (p *player) play(text string) []string {
	p.t.Helper()
	l := line{t: p.t, text: text, opts: map[string]string{}}
	for _, w := range strings.Fields(text) {
		if k, v, ok := strings.Cut(w, "="); ok {
			l.opts[k] = v
		} else {
			l.words = append(l.words, w)
		}
	}
	p.now = election.Instant(l.ms(l.word(0)))
	if w, ok := l.opts["wall"]; ok {
		p.wall = l.number(w)
	}
	if said, ok := p.look(l); ok {
		return []string{said}
	}
	var lines []string
	for _, l := range l.each() {
		for _, out := range p.m.Step(election.Reading{Now: p.now, Wall: p.wall}, p.input(l)) {
			if _, query := out.(election.SendQuery); !query || p.show {
				lines = append(lines, tell(out))
			}
		}
	}
	return lines
}

// each is one line for every replica of "status b,c,d".
func (l line) each() []line {
	if len(l.words) < 3 || !strings.Contains(l.words[2], ",") {
		return []line{l}
	}
	var all []line
	for id := range strings.SplitSeq(l.words[2], ",") {
		one := l
		one.words = slices.Clone(l.words)
		one.words[2] = id
		all = append(all, one)
	}
	return all
}

// look answers the words that only look at the machine.
func (p *player) look(l line) (string, bool) {
	s := p.m.Status(p.now)
	switch l.word(1) {
	case "state":
		return fmt.Sprintf("%s follows=%s remaining=%s floor=%s", s.Role, show(s.Primary), inMs(s.Remaining), show(s.Floor)), true
	case "size":
		v := p.m.View(p.now)
		return fmt.Sprintf("expected=%d quorum=%d reachable=%d", v.Expected, v.Quorum, v.Reachable), true
	case "next":
		return "next " + inMs(time.Duration(p.m.Next())), true
	case "lease":
		return "lease remaining=" + inMs(p.m.LeaseRemaining(p.now)), true
	case "successor":
		name := ""
		if len(l.words) > 2 {
			name = l.word(2)
		}
		id, err := p.m.Successor(p.now, name)
		switch {
		case errors.Is(err, election.ErrNotPrimary):
			return "not primary", true
		case errors.Is(err, election.ErrNoSuccessor):
			return "no successor", true
		}
		return string(id), true
	}
	return "", false
}

func (p *player) input(l line) election.Input {
	p.t.Helper()
	sent := p.now
	if s, ok := l.opts["sent"]; ok {
		sent = election.Instant(l.ms(s))
	}
	switch verb := l.word(1); verb {
	case "tick":
		return election.Tick{}
	case "claim":
		c := l.claim(l.word(2))
		return election.ClaimReceived{Request: election.ClaimRequest{From: l.from(c.Replica, election.Candidate, c), Claim: c}}
	case "withdraw", "release":
		c := l.claim(l.word(2))
		from := l.from(c.Replica, election.Looking, election.Claim{})
		if by, ok := l.opts["by"]; ok {
			from.Replica = election.ReplicaID(by)
		}
		return election.EndReceived{Request: election.EndRequest{
			From: from, Claim: c, Released: verb == "release",
			Reason: election.Reason(l.opts["reason"]), Successor: election.ReplicaID(l.opts["to"]),
		}}
	case "granted":
		return election.AnswerReceived{SentAt: sent, Answer: election.ClaimAnswer{
			From: l.from(election.ReplicaID(l.word(2)), election.Standby, election.Claim{}), Claim: l.claim(l.word(3)), Granted: true,
		}}
	case "refused":
		from := l.from(election.ReplicaID(l.word(2)), election.Standby, election.Claim{})
		if l.opts["primary"] == "" {
			from.Remaining = 0 // what is given is the promise's
		}
		return election.AnswerReceived{SentAt: sent, Answer: election.ClaimAnswer{
			From: from, Claim: l.claim(l.word(3)), Refusal: election.Refusal(l.word(4)),
			Holder: l.claim(l.opts["holder"]), Remaining: l.ms(l.opts["remaining"]),
		}}
	case "leaving", "departed":
		id := election.ReplicaID(l.word(2))
		return election.LeaveReceived{Request: election.LeaveRequest{From: l.from(id, election.Leaving, election.Claim{}), Departed: verb == "departed"}}
	case "dismissed", "needed":
		id := election.ReplicaID(l.word(2))
		return election.LeaveAnswerReceived{SentAt: sent, Answer: election.LeaveAnswer{
			From: l.from(id, election.Primary, l.claim(l.word(3))), Claim: l.claim(l.word(3)), Dismissed: verb == "dismissed",
		}}
	case "status":
		id := election.ReplicaID(l.word(2))
		return election.StatusReceived{SentAt: sent, Status: l.from(id, election.Standby, election.Claim{})}
	case "done":
		return election.RoundDone{Round: uint64(l.number(l.word(2)))}
	case "died":
		in := election.ProcessDied{}
		if len(l.words) > 2 {
			in.Replica = election.ReplicaID(l.word(2))
		}
		for id := range strings.FieldsFuncSeq(l.opts["seen"], func(r rune) bool { return r == ',' }) {
			in.Witnesses = append(in.Witnesses, election.ReplicaID(id))
		}
		return in
	case "stopped":
		return election.WorkStopped{}
	case "health":
		return election.HealthChanged{Health: election.Health{OK: l.word(2) == "ok"}}
	case "resign":
		return election.Resign{Reason: election.Reason(l.word(2)), Successor: election.ReplicaID(l.opts["to"])}
	case "leave":
		if r, ok := l.opts["reason"]; ok {
			return election.Leave{Reason: election.Reason(r)}
		}
		return election.Leave{Reason: election.ReasonShutdown}
	}
	p.t.Fatalf("%q: no such input", l.text)
	return nil
}

// from is what the other replica says of itself. Of a primary (role=primary) the claim at hand is
// its own, with a whole lease, unless the line says otherwise.
func (l line) from(id election.ReplicaID, role election.Role, claim election.Claim) election.Status {
	l.t.Helper()
	s := election.Status{
		Protocol: election.Protocol, Replica: id, Name: string(id), Role: role, Lease: lease,
		Replicas: 3, Quorum: 2, Health: election.Health{OK: l.opts["health"] != "bad"},
		Floor: l.claim(l.opts["floor"]), Primary: l.claim(l.opts["primary"]),
	}
	if l.opts["health"] == "witness" {
		s.Health = election.WitnessHealth()
	}
	if r, ok := l.opts["role"]; ok {
		s.Role = election.Role(r)
	}
	if s.Role == election.Primary && s.Primary.IsZero() {
		s.Primary = claim
	}
	if n, ok := l.opts["name"]; ok {
		s.Name = n
	}
	if !s.Primary.IsZero() {
		s.PrimaryName, s.Remaining = string(s.Primary.Replica), lease
		if r, ok := l.opts["remaining"]; ok {
			s.Remaining = l.ms(r)
		}
	}
	if r, ok := l.opts["reason"]; ok && s.Role == election.Primary {
		s.Change = election.Change{Claim: s.Primary, Reason: election.Reason(r)}
	}
	if v, ok := l.opts["lease"]; ok {
		s.Lease = l.ms(v)
	}
	if v, ok := l.opts["protocol"]; ok {
		s.Protocol = int(l.number(v))
	}
	return s
}

func (l line) word(i int) string {
	l.t.Helper()
	if i >= len(l.words) {
		l.t.Fatalf("%q: a word is missing", l.text)
	}
	return l.words[i]
}

func (l line) claim(s string) election.Claim {
	l.t.Helper()
	if s == "" || s == "-" {
		return election.Claim{}
	}
	id, ts, ok := strings.Cut(s, "/")
	if !ok {
		l.t.Fatalf("%q: %q is no claim", l.text, s)
	}
	return election.Claim{Timestamp: l.number(ts), Replica: election.ReplicaID(id)}
}

func (l line) number(s string) int64 {
	l.t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		l.t.Fatalf("%q: %v", l.text, err)
	}
	return n
}

func (l line) ms(s string) time.Duration {
	l.t.Helper()
	if s == "" {
		return 0
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		l.t.Fatalf("%q: %v", l.text, err)
	}
	return time.Duration(math.Round(f * float64(time.Millisecond)))
}

func inMs(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', -1, 64)
}

func show(c election.Claim) string {
	if c.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%s/%d", c.Replica, c.Timestamp)
}

// tell puts an output into words.
func tell(out election.Output) string {
	switch out := out.(type) {
	case election.Reply:
		a := out.Answer
		if a.Granted {
			return "grant " + show(a.Claim)
		}
		s := fmt.Sprintf("refuse %s %s", show(a.Claim), a.Refusal)
		if !a.Holder.IsZero() {
			s += " holder=" + show(a.Holder)
		}
		if a.Remaining != 0 {
			s += " remaining=" + inMs(a.Remaining)
		}
		return s + " floor=" + show(a.From.Floor)
	case election.SendQuery:
		if out.Rounds == 1 && out.Known != "" {
			return "ask all but " + string(out.Known)
		}
		if out.Rounds == 1 {
			return "ask all"
		}
		if out.Missed != "" {
			return fmt.Sprintf("ask 1/%d, and %s", out.Rounds, out.Missed)
		}
		return fmt.Sprintf("ask 1/%d", out.Rounds)
	case election.SendClaim:
		return fmt.Sprintf("claim %s as %s, round %d", show(out.Request.Claim), out.Request.From.Role, out.Round)
	case election.SendEnd:
		r := out.Request
		if !r.Released {
			return "withdraw " + show(r.Claim)
		}
		s := fmt.Sprintf("release %s %s", show(r.Claim), r.Reason)
		if r.Successor != "" {
			s += " to " + string(r.Successor)
		}
		return s
	case election.StartWork:
		return "start bot " + show(out.Change.Claim)
	case election.ExtendLease:
		return fmt.Sprintf("bot until %s, lease ends %s", inMs(time.Duration(out.WorkUntil)), inMs(time.Duration(out.LeaseEnd)))
	case election.StopWork:
		if out.Drain {
			return "drain bot, " + string(out.Reason)
		}
		return "stop bot now, " + string(out.Reason)
	case election.Halt:
		return "HALT " + string(out.Reason)
	case election.Left:
		return "left"
	case election.Died:
		return strings.TrimSuffix(fmt.Sprintf("dead %s, %s", out.Replica, out.Name), ", ")
	case election.SendLeave:
		if out.Request.Departed {
			return "say that it has left"
		}
		return "say that it leaves"
	case election.LeaveReply:
		switch a := out.Answer; {
		case a.Dismissed:
			return "dismiss from " + show(a.Claim)
		case a.Claim.IsZero():
			return "no claim"
		default:
			return "needed for " + show(a.Claim)
		}
	case election.Departed:
		return out.Name + " has left"
	case election.PrimaryChanged:
		c := out.Change
		s := fmt.Sprintf("primary is %s, %s", show(c.Claim), c.Reason)
		if c.Witnessed {
			s += " witnessed"
		}
		if c.Previous != "" {
			s += fmt.Sprintf(" of %s, gap %s", c.Previous, inMs(c.Gap))
		}
		return s
	case election.SteppedDown:
		return fmt.Sprintf("stepped down %s, %s", show(out.Claim), out.Reason)
	case election.ElectionEnded:
		return fmt.Sprintf("election %s %s after %s", show(out.Claim), out.Result, inMs(out.Took))
	case election.Mismatch:
		return fmt.Sprintf("mismatch %s %s: %s", out.Peer, out.Refusal, out.Theirs)
	case election.SizeChanged:
		return fmt.Sprintf("size %d, configured %d", out.Expected, out.Configured)
	}
	return fmt.Sprintf("%T", out)
}

package turns

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// story plays a script on one machine and compares what comes out with what the script says.
//
// Every line is a reading of the clock in ms and an input; the lines with > after it are the outputs, in order. What is
// not said has a default: connection 1 of the copy at replica r, offset 0, limit 100, timeout 10 s. An update is
// id/chat, or id?query. Unless slow is set each delta is known to the other replicas at once, and none is shown.
type story struct {
	patience, replay time.Duration
	slow             bool
	// dozes: there is no Tick but those of the script. Otherwise there is one whenever it is due, and the script has those
	// that something comes of.
	dozes bool
	from  State
}

func (s story) play(t *testing.T, script string) *Machine {
	t.Helper()
	if s.patience == 0 {
		s.patience = 90 * time.Second
	}
	if s.replay == 0 {
		s.replay = 30 * time.Second
	}
	p := &player{t: t, slow: s.slow, m: New(Config{Patience: s.patience, Replay: max(0, s.replay)}, 1, 0, s.from)}
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
			if !s.dozes {
				got = append(got, p.ticks(line)...)
			}
			got = append(got, line)
			for _, out := range p.line(line) {
				got = append(got, "> "+out)
			}
		}
	}
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || want[i] != got[i] {
			at := min(i, len(got))
			t.Errorf("the story is another one from line %d on:\n\t%s\n--- here it differs\n\t%s", i+1,
				strings.Join(got[:at], "\n\t"), strings.Join(got[at:], "\n\t"))
			break
		}
	}
	return p.m
}

// How stories begin that begin alike.
const (
	// active: a is the active copy, and a poll of it waits for 10 s.
	active = `
		0 poll a poll=1
		> joined a
		> active - -> a, first
	`
	// activeForLong: its poll waits for 50 s.
	activeForLong = `
		0 poll a poll=1 timeout=50000
		> joined a
		> active - -> a, first
	`
	// activeByR2: its poll came through replica r2.
	activeByR2 = `
		0 poll a poll=1 via=r2
		> joined a
		> active - -> a, first
	`
	// activeSlowly: what the other replicas know is shown.
	activeSlowly = `
		0 poll a poll=1
		> joined a
		> delta 1 full roster
		5 known
		> active - -> a, first
	`
	waits = `
		0 poll b poll=2
		> joined b
	`
	waitsForLong = `
		0 poll b poll=2 timeout=50000
		> joined b
	`
	// spare: b stands by. ForLong and ForShort are about the poll of b.
	spare         = active + waits
	spareForLong  = active + waitsForLong
	bothForLong   = activeForLong + waitsForLong
	spareForShort = activeForLong + waits
	// confirmed: a has confirmed 101, and polls.
	confirmed = active + `
		0 batch 101/1
		> answer 1: 101
		10 poll a poll=2 offset=102
		> confirmed 101
	`
)

type player struct {
	t      *testing.T
	m      *Machine
	slow   bool
	mirror Mirror
	// clock is how far the primary's own clock is ahead of the script's; each has another.
	clock time.Duration
	used  map[Client]bool // connections on which a request came
	words []string
	opts  map[string]string
}

// ticks plays what is due before a line, and returns it if something comes of it.
func (p *player) ticks(line string) (lines []string) {
	p.t.Helper()
	until, _, _ := strings.Cut(line, " ")
	p.words = nil
	for n := 0; p.m.Next() < p.at(until); n++ {
		if n > 1000 {
			p.t.Fatalf("before %q it asks for ticks without end", line)
		}
		at := p.m.Next()
		if outs := p.tell(at, p.m.Step(at, Tick{})); len(outs) > 0 {
			lines = append(lines, fmt.Sprintf("%d tick", (time.Duration(at)-p.clock).Milliseconds()))
			for _, out := range outs {
				lines = append(lines, "> "+out)
			}
		}
	}
	return lines
}

func (p *player) line(text string) []string {
	p.t.Helper()
	p.words, p.opts = nil, map[string]string{}
	for _, w := range strings.Fields(text) {
		if k, v, ok := strings.Cut(w, "="); ok {
			p.opts[k] = v
		} else {
			p.words = append(p.words, w)
		}
	}
	now := p.at(p.words[0])
	switch p.words[1] {
	case "state":
		return []string{p.state()}
	case "copies":
		return p.copies()
	case "due":
		return []string{"due " + strconv.FormatInt((time.Duration(p.m.Next())-p.clock).Milliseconds(), 10)}
	case "primary": // changes: the successor knows what the mirror does
		s := p.mirror.State(p.mirrors(now))
		p.clock += 1000 * time.Hour
		now = p.at(p.words[0])
		p.m = New(p.m.cfg, p.m.term+1, now, s)
		return p.tell(now, p.m.Step(now, Tick{}))
	}
	return p.tell(now, p.m.Step(now, p.input(now)))
}

// at is a time of the script on the primary's clock.
func (p *player) at(s string) Instant { return Instant(p.ms(s) + p.clock) }

// mirrors is what the other replicas' clock says.
func (p *player) mirrors(now Instant) Instant { return now.Add(-p.clock - 77*time.Hour) }

func (p *player) ms(s string) time.Duration {
	p.t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		p.t.Fatalf("%q is no time", s)
	}
	return time.Duration(n) * time.Millisecond
}

func (p *player) number(name string, otherwise int) int {
	p.t.Helper()
	if p.opts[name] == "" {
		return otherwise
	}
	n, err := strconv.Atoi(p.opts[name])
	if err != nil {
		p.t.Fatalf("%s=%s is no number", name, p.opts[name])
	}
	return n
}

func (p *player) after(name string, otherwise time.Duration) time.Duration {
	p.t.Helper()
	return time.Duration(p.number(name, int(otherwise.Milliseconds()))) * time.Millisecond
}

func (p *player) word(i int) string {
	if i < len(p.words) {
		return p.words[i]
	}
	return ""
}

func (p *player) client() Client {
	id := p.word(2)
	c := Client{Copy: CopyID(id), Address: "at " + id, Connection: Connection{"r", uint64(p.number("conn", 1))}}
	c.Age = p.after("age", 0)
	if a := p.opts["at"]; a != "" {
		c.Address = a
	}
	if r := p.opts["via"]; r != "" {
		c.Connection.Replica = r
	}
	if verb := p.word(1); verb == "poll" || verb == "writes" || verb == "reads" || verb == "starts" {
		if p.used == nil {
			p.used = map[Client]bool{}
		}
		key := Client{Copy: c.Copy, Connection: c.Connection}
		c.Reused = p.used[key]
		p.used[key] = true
	}
	return c
}

func (p *player) has(word string) bool { return slices.Contains(p.words, word) }

func (p *player) input(now Instant) Input {
	p.t.Helper()
	switch verb := p.word(1); verb {
	case "tick":
		return Tick{}
	case "poll":
		return Polled{
			Poll: PollID(p.number("poll", 0)), Client: p.client(), Offset: int64(p.number("offset", 0)), Limit: p.number("limit", MaxUpdatesInAStory),
			Timeout: p.after("timeout", 10*time.Second), Allowed: p.opts["allowed"],
		}
	case "hangs-up":
		return PollEnded{PollID(p.number("poll", 0))}
	case "writes":
		return Called{p.client(), KindWrite}
	case "reads":
		return Called{p.client(), KindFree}
	case "starts":
		return Called{p.client(), KindStartUp}
	case "alive":
		return Alive{p.client()}
	case "signs":
		s := Signed{Copy: CopyID(p.word(2)), Began: now, Query: p.opts["query"]}
		if p.opts["began"] != "" {
			s.Began = p.at(p.opts["began"])
		}
		for chat := range strings.SplitSeq(p.opts["chat"], ",") {
			if n, err := strconv.ParseInt(chat, 10, 64); err == nil {
				s.Chats = append(s.Chats, n)
			}
		}
		return s
	case "ends":
		return ConnectionEnded{
			Client: p.client(), Closed: !p.has("lost"), Poll: p.has("polling"), Idle: p.after("idle", time.Minute), Ago: p.after("ago", 0),
		}
	case "replica":
		return ReplicaLost{p.word(2)}
	case "gone":
		return AddressGone{Address: "at " + p.word(2), Replica: cmp.Or(p.opts["via"], "r"), Asked: p.at(p.opts["asked"])}
	case "batch":
		var b Batch
		for _, w := range p.words[2:] {
			b.Updates = append(b.Updates, p.update(w))
		}
		return b
	case "known":
		return Replicated{uint64(p.number("seq", 1<<30))}
	case "next":
		return Next{}
	case "stop":
		return Stop{}
	default:
		p.t.Fatalf("nobody knows what %q is", verb)
		return nil
	}
}

const MaxUpdatesInAStory = 100

// update is written id/chat or id?query, with options expires= and size= of the whole batch.
func (p *player) update(w string) Update {
	p.t.Helper()
	u := Update{Raw: make([]byte, p.number("size", 10))}
	if e := p.opts["expires"]; e != "" {
		u.Expires = p.at(e)
	}
	id, chat, _ := strings.Cut(w, "/")
	id, u.Query, _ = strings.Cut(id, "?")
	u.ID, _ = strconv.ParseInt(id, 10, 64)
	u.Chat, _ = strconv.ParseInt(chat, 10, 64)
	return u
}

// tell writes outputs down.
func (p *player) tell(now Instant, outs []Output) (lines []string) {
	p.t.Helper()
	for _, out := range outs {
		switch out := out.(type) {
		case Answer:
			lines = append(lines, fmt.Sprintf("answer %d: %s", out.Poll, ids(out.Updates)))
		case Verdict:
			switch {
			case out.Pass:
				lines = append(lines, "pass")
			default:
				lines = append(lines, strings.TrimSpace("refuse "+string(out.Active)))
			}
		case Done:
			lines = append(lines, fmt.Sprintf("%s %s", out.Outcome, strings.Trim(fmt.Sprint(out.IDs), "[]")))
		case Allow:
			lines = append(lines, "allow "+out.Allowed)
		case ActiveChanged:
			line := fmt.Sprintf("active %s -> %s, %s", dash(out.From), dash(out.To), out.Reason)
			if out.Again > 0 {
				line += fmt.Sprintf(", %d again", out.Again)
			}
			lines = append(lines, line)
		case Joined:
			lines = append(lines, "joined "+string(out.Copy))
		case Died:
			lines = append(lines, fmt.Sprintf("died %s, %s", out.Copy, out.Reason))
		case NoSpare:
			lines = append(lines, "no spare")
		case Replicate:
			if !p.slow || !p.has("unseen") {
				if !p.mirror.Apply(p.mirrors(now), out.Delta) {
					p.t.Errorf("the mirror missed a delta before %d", out.Delta.Seq)
				}
			}
			if p.slow {
				lines = append(lines, showDelta(out.Delta))
				continue
			}
			lines = append(lines, p.tell(now, p.m.Step(now, Replicated{out.Delta.Seq}))...)
		default:
			p.t.Fatalf("%T is no output that a story knows", out)
		}
	}
	return lines
}

func showDelta(d Delta) string {
	line := fmt.Sprintf("delta %d", d.Seq)
	if d.Full {
		line += " full"
	}
	for _, k := range d.Kept {
		line += fmt.Sprintf(" %d", k.ID)
		if k.Pending {
			line += "!"
		}
	}
	for _, id := range d.Removed {
		line += fmt.Sprintf(" -%d", id)
	}
	if d.Roster != nil {
		line += " roster"
	}
	return line
}

func dash(id CopyID) string {
	if id == "" {
		return "-"
	}
	return string(id)
}

func ids(updates []Update) string {
	if len(updates) == 0 {
		return "-"
	}
	var all []string
	for _, u := range updates {
		all = append(all, strconv.FormatInt(u.ID, 10))
	}
	return strings.Join(all, " ")
}

func (p *player) state() string {
	v := p.m.View()
	return fmt.Sprintf("active=%s pending=%d in-hand=%d kept=%d bytes=%d", dash(v.Active), v.Pending, v.InHand, v.Kept, v.KeptBytes)
}

func (p *player) copies() (lines []string) {
	for _, c := range p.m.View().Copies {
		line := fmt.Sprintf("%s %s", c.ID, c.Role)
		if c.Polling {
			line += ", polling"
		}
		lines = append(lines, line)
	}
	return lines
}

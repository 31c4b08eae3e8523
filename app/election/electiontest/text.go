package electiontest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrPlan says that a text is no plan.
var ErrPlan = errors.New("no such plan")

// String is the plan's text form: settings, one a line, and then the faults, one a line, in their order.
//
//	seed 17
//	replicas 3
//	2.5s crash primary
//	3s on grant +20ms freeze it 1.01s
//
// Empty lines and those that begin with # say nothing. ParsePlan reads it.
func (p *Plan) String() string {
	var b strings.Builder
	line := func(words ...any) { fmt.Fprintln(&b, words...) }
	line("seed", p.Seed)
	line("replicas", p.Replicas)
	if p.Quorum != 0 {
		line("quorum", p.Quorum)
	}
	if p.Hosts != p.Replicas {
		line("hosts", p.Hosts)
	}
	if p.Incompatible != Compatible {
		line("incompatible", p.Incompatible)
	}
	if p.Noise.Loss != 0 {
		line("loss", p.Noise.Loss)
	}
	if p.Noise.Duplicate != 0 {
		line("duplicate", p.Noise.Duplicate)
	}
	if p.Noise.MaxDelay != 0 {
		line("delay", p.Noise.MaxDelay)
	}
	line("noise", p.NoiseFrom, p.NoiseUntil)
	if p.Drift {
		line("drift")
	}
	if p.Wall != WallRight {
		line("wallclocks", p.Wall)
	}
	if p.Lifelines != NoLifelines {
		line("lifelines", p.Lifelines)
	}
	if len(p.Witnesses) > 0 {
		line("witnesses", strings.Trim(fmt.Sprint(p.Witnesses), "[]"))
	}
	if p.Patience != 0 {
		line("patience", p.Patience)
	}
	if p.Hasty {
		line("hasty")
	}
	line("trouble", p.Trouble)
	for _, f := range p.Faults {
		line(f.String())
	}
	return b.String()
}

// String is one line of a plan.
func (f Fault) String() string {
	words := []string{f.At.String()}
	if f.On != "" {
		words = append(words, "on", string(f.On))
		if f.After != 0 {
			words = append(words, "+"+f.After.String())
		}
	}
	words = append(words, string(f.Kind))
	needs := f.Kind.needs()
	if needs.who {
		words = append(words, f.Who.String())
	}
	if needs.whom {
		words = append(words, f.Whom.String())
	}
	if needs.length {
		words = append(words, f.For.String())
	}
	if needs.n {
		words = append(words, strconv.Itoa(f.N))
	}
	if needs.q {
		words = append(words, strconv.Itoa(f.Q))
	}
	return strings.Join(words, " ")
}

// needs is which arguments a kind of fault takes.
type needs struct{ who, whom, length, n, q bool }

func (k FaultKind) needs() needs {
	switch k {
	case DoCut, DoPartition:
		return needs{who: true, whom: true}
	case DoFreeze, DoWall:
		return needs{who: true, length: true}
	case DoHeal:
		return needs{}
	case DoResize:
		return needs{n: true}
	case DoConfigure:
		return needs{who: true, n: true, q: true}
	}
	return needs{who: true}
}

func allFaults() []FaultKind {
	return []FaultKind{
		DoStart, DoCrash, DoStop, DoFreeze, DoCut, DoPartition, DoHeal, DoWall, DoDrift, DoAil, DoRecover,
		DoResign, DoDie, DoResize, DoConfigure, DoLeave,
	}
}

// String names a target as plans do.
func (t Target) String() string {
	switch t {
	case ThePrimary:
		return "primary"
	case TheStandby:
		return "standby"
	case TheOne:
		return "it"
	}
	return "r" + strconv.Itoa(int(t))
}

// ParsePlan reads what String writes. It returns ErrPlan, wrapped, for anything else.
func ParsePlan(text string) (Plan, error) {
	var p Plan
	for line := range strings.Lines(text) {
		words := words(strings.Fields(line))
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if err := p.read(&words); err != nil {
			return Plan{}, fmt.Errorf("%w: %q: %w", ErrPlan, strings.TrimSpace(line), err)
		}
		if len(words) > 0 {
			return Plan{}, fmt.Errorf("%w: %q: %q is too much", ErrPlan, strings.TrimSpace(line), words[0])
		}
	}
	p.Hosts = max(p.Hosts, p.Replicas)
	if p.Replicas < 1 || p.Hosts > maxHosts {
		return Plan{}, fmt.Errorf("%w: %d replicas on %d hosts", ErrPlan, p.Replicas, p.Hosts)
	}
	for _, f := range p.Faults {
		if int(f.Who) >= p.Hosts || int(f.Whom) >= p.Hosts {
			return Plan{}, fmt.Errorf("%w: %q: there are %d hosts", ErrPlan, f, p.Hosts)
		}
	}
	return p, nil
}

// words are what is left of a line.
type words []string

func (w *words) next() string {
	if len(*w) == 0 {
		return ""
	}
	first := (*w)[0]
	*w = (*w)[1:]
	return first
}

func (w *words) number() (int, error) { return strconv.Atoi(w.next()) }

func (w *words) length() (time.Duration, error) { return time.ParseDuration(w.next()) }

func (w *words) target() (Target, error) {
	s := w.next()
	for _, t := range []Target{ThePrimary, TheStandby, TheOne} {
		if s == t.String() {
			return t, nil
		}
	}
	n, err := strconv.Atoi(strings.TrimPrefix(s, "r"))
	if err != nil || n < 0 || !strings.HasPrefix(s, "r") {
		return 0, fmt.Errorf("%q is no host", s)
	}
	return Target(n), nil
}

func (p *Plan) read(w *words) (err error) {
	switch first := w.next(); first {
	case "seed":
		p.Seed, err = strconv.ParseUint(w.next(), 10, 64)
	case "replicas":
		p.Replicas, err = w.number()
	case "quorum":
		p.Quorum, err = w.number()
	case "hosts":
		p.Hosts, err = w.number()
	case "incompatible":
		p.Incompatible = Incompatible(w.next())
		if p.Incompatible != OtherLease && p.Incompatible != OtherProtocol {
			return fmt.Errorf("no such incompatible")
		}
	case "loss":
		p.Noise.Loss, err = strconv.ParseFloat(w.next(), 64)
	case "duplicate":
		p.Noise.Duplicate, err = strconv.ParseFloat(w.next(), 64)
	case "delay":
		p.Noise.MaxDelay, err = w.length()
	case "noise":
		if p.NoiseFrom, err = w.length(); err == nil {
			p.NoiseUntil, err = w.length()
		}
	case "drift":
		p.Drift = true
	case "wallclocks":
		p.Wall = WallClocks(w.next())
		if p.Wall != WallApart && p.Wall != WallCoarse {
			return fmt.Errorf("no such wall clocks")
		}
	case "lifelines":
		p.Lifelines = Lifelines(w.next())
		if p.Lifelines == NoLifelines || !slices.Contains(allLifelines(), p.Lifelines) {
			return fmt.Errorf("no such lifelines")
		}
	case "witnesses":
		for len(*w) > 0 && err == nil {
			var i int
			i, err = w.number()
			p.Witnesses = append(p.Witnesses, i)
		}
	case "patience":
		p.Patience, err = w.length()
	case "hasty":
		p.Hasty = true
	case "trouble":
		p.Trouble, err = w.length()
	default:
		f := Fault{}
		if f.At, err = time.ParseDuration(first); err != nil {
			return fmt.Errorf("neither a setting nor a time: %w", err)
		}
		if err = f.read(w); err == nil {
			p.Faults = append(p.Faults, f)
		}
	}
	return err
}

func (f *Fault) read(w *words) (err error) {
	if len(*w) > 1 && (*w)[0] == "on" {
		w.next()
		if f.On = Moment(w.next()); !slices.Contains(allMoments(), f.On) {
			return fmt.Errorf("%q is no moment", f.On)
		}
		if len(*w) > 0 && strings.HasPrefix((*w)[0], "+") {
			if f.After, err = w.length(); err != nil {
				return err
			}
		}
	}
	if f.Kind = FaultKind(w.next()); !slices.Contains(allFaults(), f.Kind) {
		return fmt.Errorf("%q is no fault", f.Kind)
	}
	needs := f.Kind.needs()
	if needs.who {
		if f.Who, err = w.target(); err != nil {
			return err
		}
	}
	if needs.whom {
		if f.Whom, err = w.target(); err != nil {
			return err
		}
	}
	if needs.length {
		if f.For, err = w.length(); err != nil {
			return err
		}
	}
	if needs.n {
		if f.N, err = w.number(); err != nil {
			return err
		}
	}
	if needs.q {
		f.Q, err = w.number()
	}
	return err
}

package election

import (
	"fmt"
	"slices"
	"strings"
)

// story tells the way to a broken guarantee: what happens, and what every host then is.
func (e *explorer) story(b *broken) []string {
	var way []state
	for r := b.at; r != nowhere; r = e.at(r).parent {
		way = append(way, e.at(r).state)
	}
	slices.Reverse(way)
	w := e.worker()
	var lines []string
	passed := 0
	for i, s := range way[1:] {
		n := w.led(way[i], s)
		if n.act == pass {
			passed++
		}
		lines = append(lines, fmt.Sprintf("%3d  at %.2f L  %s", i+1, float64(passed*e.scope.step)/100, w.tell(way[i], n)), "       "+w.roles(s))
	}
	if b.next != nil {
		lines = append(lines, fmt.Sprintf("%3d  %s", len(way), w.tell(b.at0(e), *b.next)), "       "+w.roles(b.next.state))
	}
	if b.inPeace {
		w.peace(e.at(b.at).state, func(line string) { lines = append(lines, "     "+line) })
	}
	return append(lines, "     "+b.what)
}

func (b *broken) at0(e *explorer) state { return e.at(b.at).state }

// led is what led from one state to another.
func (w *worker) led(from, to state) (n next) {
	n.broken = "?"
	w.expand(from, func(o next) {
		if o.state == to && n.broken == "?" {
			n = o
		}
	})
	return n
}

// tell tells what happens, and what the machines make of it.
func (w *worker) tell(from state, n next) string {
	var text string
	name := hostName(n.host)
	var happens []int
	switch n.act {
	case deliver:
		text = w.tellMessage(n.msg) + " reaches " + name
		happens = []int{n.host}
	case pass:
		text = "time passes"
		for h := range w.replicas {
			happens = append(happens, h)
		}
	case learns:
		text = fmt.Sprintf("%s learns that %s has died", name, w.codec.death(n.msg).Replica)
		happens = []int{n.host}
	case asks:
		text = fmt.Sprintf("%s asks; %s is under way", name, w.tellMessage(n.msg))
	default:
		text = name + map[act]string{
			crash: " crashes", start: " starts", freeze: " freezes", wake: " wakes", botStops: "'s bot stops", botDies: "'s bot dies",
			resigns: " is asked to resign", leaves: " is asked to leave", healthFlips: "'s health changes",
		}[n.act]
		happens = []int{n.host}
	}
	for _, h := range happens {
		f := w.local.at(from.hosts[h])
		if !f.up && n.act != start || f.frozen && n.act != wake {
			continue
		}
		for _, o := range w.consider(f, n.act, n.msg, coverage{}, true) {
			if len(o.story) > 0 && (o.host == n.hosts[h] || len(happens) == 1) {
				text += fmt.Sprintf("; %s %s", hostName(h), strings.Join(o.story, ", "))
				break
			}
		}
	}
	if n.act == pass && len(w.under(n.network)) > 0 {
		var late []string
		for _, id := range w.under(n.network) {
			if w.message.at(id).age > 0 {
				late = append(late, w.tellMessage(id))
			}
		}
		if len(late) > 0 {
			text += "; still under way: " + strings.Join(late, ", ")
		}
	}
	return text
}

func (w *worker) tellMessage(id uint32) string {
	m := w.message.at(id)
	from := string(w.codec.ids[m.from])
	age := ""
	if m.age > 0 {
		age = fmt.Sprintf(", asked %.2f L ago", float64(m.age)/float64(scopeLease))
	}
	switch m.kind {
	case claimRequest:
		return fmt.Sprintf("claim %s (%s%s)", tag(m.claim), m.says.role, age)
	case claimAnswer:
		answer := "grant"
		if !m.granted {
			answer = "refusal (" + string(m.refusal) + ")"
		}
		return fmt.Sprintf("%s's %s of %s (follows %s%s)", from, answer, tag(m.claim), tag(m.says.primary), age)
	case endRequest:
		return fmt.Sprintf("the end of %s (released: %v)", tag(m.claim), m.released)
	case leaveRequest:
		return fmt.Sprintf("%s's leaving (departed: %v)", from, m.departed)
	case leaveAnswer:
		return fmt.Sprintf("%s's answer to a leaving (%s, dismissed: %v%s)", from, tag(m.claim), m.dismissed, age)
	default:
		return fmt.Sprintf("%s's status (%s, follows %s%s)", from, m.says.role, tag(m.says.primary), age)
	}
}

// roles tells what every host is.
func (w *worker) roles(s state) string {
	var all []string
	for h := range w.replicas {
		f := w.local.at(s.hosts[h])
		text := hostName(h) + " "
		switch {
		case !f.up:
			text += "down"
		default:
			text += string(w.codec.ids[f.process]) + " " + string(f.role)
			if !f.own.IsZero() {
				text += " " + tag(f.own)
			}
			if f.held != f.own && f.heldFor > 0 {
				text += " promised " + tag(f.held)
			}
			if f.bot {
				text += fmt.Sprintf(" bot, lease %.2f L", float64(f.leaseEnd)/float64(scopeLease))
			}
			if f.frozen {
				text += " frozen"
			}
		}
		all = append(all, text)
	}
	return strings.Join(all, " | ")
}

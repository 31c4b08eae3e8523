package main

import (
	"cmp"
	"fmt"
	"html"
	"slices"
	"strings"
	"time"
)

// Recording is what was seen of one failover. Times are seconds, from the end of the old primary's last poll.
type Recording struct {
	At       time.Time `json:"at"`
	From     string    `json:"from"`
	To       string    `json:"to"`
	Reason   string    `json:"reason"`
	Lease    float64   `json:"lease_seconds"`
	Unpolled float64   `json:"unpolled_seconds"` // as Telegram saw it
	Gap      float64   `json:"gap_seconds"`      // time without a primary, as the new one measured it
	Start    float64   `json:"start_seconds"`    // of the picture
	End      float64   `json:"end_seconds"`
	Lost     int64     `json:"lost"`
	Twice    int       `json:"answered_twice"`

	Roles   []Span   `json:"roles"`
	Polls   []Span   `json:"polls"`
	Updates []Update `json:"updates"`
}

// Span is what a replica was, or that it polled, for some time.
type Span struct {
	Replica string  `json:"replica"`
	Role    string  `json:"role,omitempty"`
	Start   float64 `json:"start"`
	End     float64 `json:"end"`
}

// Update is one that a user sent, and who answered it.
type Update struct {
	Sent     float64  `json:"sent"`
	Answered []Answer `json:"answered,omitempty"`
}

// Answer is one answer to an update.
type Answer struct {
	Replica string  `json:"replica"`
	At      float64 `json:"at"`
}

// roleColors are those of the dashboard.
func roleColors() [][2]string {
	return [][2]string{{"primary", "#56a64b"}, {"standby", "#8ab8ff"}, {"looking", "#ff9830"}, {"gone", "#c4162a"}}
}

// Measures of the picture, in pixels.
const (
	width     = 960.0
	left      = 130.0
	right     = 20.0
	top       = 64.0
	rowHeight = 46.0
	lane      = 30.0
	bottom    = 66.0
)

// Draw makes an SVG of a recording: the same one of the same recording.
func Draw(r Recording) string {
	var names []string
	for _, s := range append(slices.Clone(r.Roles), r.Polls...) {
		if !slices.Contains(names, s.Replica) {
			names = append(names, s.Replica)
		}
	}
	slices.Sort(names)
	p := picture{r: r, names: names, lanes: top + rowHeight*float64(len(names))}
	height := p.lanes + 2*lane + bottom
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="13" fill="#24292f">`, width, height)
	p.printf(`<rect width="%g" height="%g" fill="#ffffff"/>`, width, height)
	p.text(left, 24, "start", `font-size="17" font-weight="bold"`, fmt.Sprintf("%s: from %s to %s", r.Reason, cmp.Or(r.From, "none"), r.To))
	p.text(left, 46, "start", "", fmt.Sprintf("LEASE %gs. No primary for %.2f s, Telegram unpolled for %.2f s. Updates lost: %d, answered twice: %d.",
		r.Lease, r.Gap, r.Unpolled, r.Lost, r.Twice))
	p.text(width-right, 24, "end", `fill="#57606a"`, r.At.UTC().Format("2006-01-02 15:04:05 UTC"))
	p.rows()
	p.updates()
	p.axis()
	p.legend(height - 14)
	p.printf("</svg>")
	return p.svg.String()
}

type picture struct {
	r     Recording
	names []string
	lanes float64 // where the rows of replicas end and the lanes of updates begin
	svg   strings.Builder
}

func (p *picture) printf(format string, args ...any) { fmt.Fprintf(&p.svg, format+"\n", args...) }

func (p *picture) text(x, y float64, anchor, style, s string) {
	p.printf(`<text x="%.1f" y="%.1f" text-anchor="%s" %s>%s</text>`, x, y, anchor, style, html.EscapeString(s))
}

// x is where a moment is, within the picture.
func (p *picture) x(seconds float64) float64 {
	share := (min(max(seconds, p.r.Start), p.r.End) - p.r.Start) / (p.r.End - p.r.Start)
	return left + share*(width-left-right)
}

func (p *picture) inside(seconds float64) bool { return seconds >= p.r.Start && seconds <= p.r.End }

func (p *picture) bar(from, to, y, height float64, color string) {
	if to > p.r.Start && from < p.r.End {
		p.printf(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`, p.x(from), y, max(1, p.x(to)-p.x(from)), height, color)
	}
}

// rows are the replicas: what they were, as Prometheus saw it, and their polls, as Telegram did.
func (p *picture) rows() {
	colors := map[string]string{}
	for _, c := range roleColors() {
		colors[c[0]] = c[1]
	}
	for i, name := range p.names {
		y := top + rowHeight*float64(i)
		p.text(left-10, y+rowHeight/2+4, "end", "", name)
		for _, s := range p.r.Roles {
			if s.Replica == name {
				p.bar(s.Start, s.End, y+4, rowHeight-20, colors[s.Role])
			}
		}
		for _, s := range p.r.Polls {
			if s.Replica == name {
				p.bar(s.Start, s.End, y+rowHeight-14, 8, "#24292f")
			}
		}
	}
	p.printf(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#c4162a" fill-opacity="0.15"/>`,
		p.x(0), top, p.x(p.r.Unpolled)-p.x(0), p.lanes+2*lane-top)
	p.text((p.x(0)+p.x(p.r.Unpolled))/2, top-4, "middle", `fill="#c4162a"`, fmt.Sprintf("unpolled: %.2f s", p.r.Unpolled))
}

// updates are two lanes: when users wrote, and when they were answered.
func (p *picture) updates() {
	p.text(left-10, p.lanes+lane/2+5, "end", "", "users write")
	p.text(left-10, p.lanes+lane+lane/2+5, "end", "", "are answered")
	tick := func(at, y float64, color string) {
		if p.inside(at) {
			p.printf(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="1.5"/>`, p.x(at), y+6, p.x(at), y+lane-6, color)
		}
	}
	for _, u := range p.r.Updates {
		tick(u.Sent, p.lanes, "#57606a")
		for i, a := range u.Answered {
			color := "#57606a"
			if i > 0 {
				color = "#c4162a" // a second time
			}
			tick(a.At, p.lanes+lane, color)
		}
	}
}

func (p *picture) axis() {
	y := p.lanes + 2*lane
	p.printf(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#57606a"/>`, left, y, width-right, y)
	for s := int(p.r.Start); float64(s) <= p.r.End; s++ {
		p.printf(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#57606a"/>`, p.x(float64(s)), y, p.x(float64(s)), y+4)
		p.text(p.x(float64(s)), y+18, "middle", "", fmt.Sprintf("%d s", s))
	}
}

func (p *picture) legend(y float64) {
	x := left
	entry := func(color, what string, height float64) {
		p.printf(`<rect x="%.1f" y="%.1f" width="22" height="%.1f" fill="%s"/>`, x, y-4-height/2, height, color)
		p.text(x+28, y, "start", `font-size="12"`, what)
		x += 46 + 6.6*float64(len(what))
	}
	for _, c := range roleColors() {
		entry(c[1], c[0], 12)
	}
	entry("#24292f", "polls Telegram", 6)
	p.text(x, y, "start", `font-size="12" fill="#57606a"`, "Roles: Prometheus, once a second. The rest: Telegram.")
}

// Package page is what the simulator's page and each replica's page have in common: lanes that show who did what and when,
// as data, and the scripts and styles that draw them. The package live serves both.
//
// It is pure: no clock, no network. It may import the standard library alone.
package page

import (
	"embed"
	"time"
)

// parts are scripts and styles as browsers get them: there is no build step.
//
//go:embed parts
var parts embed.FS

// Folder is one with files of a page.
type Folder struct {
	Files embed.FS
	// Path is where in Files they are.
	Path string
}

// Parts are the scripts and styles that both pages use.
func Parts() Folder { return Folder{parts, "parts"} }

// Micros is a time as pages take it: microseconds since the Unix epoch; 0 for none.
type Micros int64

// At is a time as pages take it.
func At(t time.Time) Micros {
	if t.IsZero() {
		return 0
	}
	return Micros(t.UnixMicro())
}

// Time is what At was given, to the microsecond.
func (m Micros) Time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(m))
}

// Lane is one row of the drawing.
type Lane struct {
	Name string `json:"name"`
	// Seen is when it last did anything.
	Seen Micros `json:"seen_us"`
	// Count is how often it did what the lanes show; 0 where that is not counted.
	Count int64 `json:"count,omitempty"`
}

// Span is a time in which one did the same without a break: polled, or was primary.
type Span struct {
	ID   int64  `json:"id"`
	Who  string `json:"who"`
	From Micros `json:"from_us"`
	To   Micros `json:"to_us,omitempty"` // 0: it goes on
	// Polls is how many polls it is made of; 0 where none are counted.
	Polls int64 `json:"polls,omitempty"`
}

// Gap is a time in which none did it.
type Gap struct {
	ID   int64  `json:"id"`
	From Micros `json:"from_us"`
	To   Micros `json:"to_us,omitempty"` // 0: it goes on
	// Before did it last, After did it next; empty if not known.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Mark is a moment at which something went wrong for one.
type Mark struct {
	ID   int64  `json:"id"`
	Who  string `json:"who"`
	At   Micros `json:"at_us"`
	Kind string `json:"kind"` // 409, 500, ...
}

// Shade is a time in which something was wrong for all lanes, or for one.
type Shade struct {
	ID   int64  `json:"id"`
	Kind string `json:"kind"`
	Who  string `json:"who,omitempty"` // empty: all
	From Micros `json:"from_us"`
	// To is when it ends, or has ended.
	To Micros `json:"to_us"`
}

// Change is one change from one to another.
type Change struct {
	ID   int64  `json:"id"`
	From string `json:"from,omitempty"`
	To   string `json:"to"`
	At   Micros `json:"at_us"`
	// Gap is how long it took, in microseconds; nil if not known.
	Gap *int64 `json:"gap_us,omitempty"`
	// Reason is why, in words, where it is known.
	Reason string `json:"reason,omitempty"`
}

// Lanes are all rows and what stands in them.
type Lanes struct {
	Lanes   []Lane   `json:"lanes"`
	Spans   []Span   `json:"spans,omitempty"`
	Gaps    []Gap    `json:"gaps,omitempty"`
	Marks   []Mark   `json:"marks,omitempty"`
	Shades  []Shade  `json:"shades,omitempty"`
	Changes []Change `json:"changes,omitempty"`
}

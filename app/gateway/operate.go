package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"habot/app/turns"
	"habot/app/update"
)

// Paths that replicas ask the primary for. No client's path is one of them: the front serves paths of the Bot API alone.
const (
	pathNext   = "/next"
	pathCopies = "/copies"
)

// MessageCopies is the kind of a message that asks a replica for its Passer's Copies. Its body is empty.
const MessageCopies = "copies"

var (
	// ErrNoSpare says that no other copy waits for its turn.
	ErrNoSpare = errors.New("no other copy stands by")
	// ErrUnknown says that the primary could not be asked.
	ErrUnknown = errors.New("no replica is primary at the moment, or it does not answer")
)

// seenBound is how long one who looks waits for the primary.
const seenBound = 500 * time.Millisecond

// Copy is one copy of the bot, for people.
type Copy struct {
	// Name is its address, or the name that it gives itself.
	Name    string `json:"name"`
	Address string `json:"address"`
	// Role is active, standby, starting or dead.
	Role string `json:"role"`
	// Framework is what its requests say of it; empty if nothing.
	Framework string `json:"framework,omitempty"`
	// LastRequest is when its last request came; Waiting since when it stands by.
	LastRequest time.Time `json:"last_request,omitzero"`
	Waiting     time.Time `json:"waiting_since,omitzero"`
	// Polling: a poll of it is open.
	Polling bool `json:"polling,omitempty"`
}

// Change is one of the active copy.
type Change struct {
	At time.Time `json:"at"`
	// From is empty for the first copy of all, and the same as To for one that has started over.
	From   string `json:"from,omitempty"`
	To     string `json:"to"`
	Reason string `json:"reason"`
	// Again is how many updates that From had confirmed were given again.
	Again int `json:"again,omitempty"`
}

// Cause is why, in words.
func (c Change) Cause() string {
	r := turns.Reason(c.Reason)
	switch {
	case c.From == "":
		return c.To + " is the first"
	case r == turns.ReasonOperator:
		return "an operator moved the turn on"
	default:
		return c.From + " " + why(r)
	}
}

// maxChanges bounds the changes that are remembered.
const maxChanges = 100

// Snapshot is all that is known of copies.
type Snapshot struct {
	// Active is empty if no copy is; Since is when its turn began, or the last one ended, and Reason why.
	Active string    `json:"active,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	Reason string    `json:"reason,omitempty"`
	Copies []Copy    `json:"copies"`
	// Pending is how many updates wait to be confirmed by a copy; InHand how many of them the active one was given. If there
	// are some, none was confirmed since LastConfirmed.
	Pending       int       `json:"pending"`
	InHand        int       `json:"in_hand"`
	LastConfirmed time.Time `json:"last_confirmed,omitzero"`
	// Kept is how many updates are kept to be given again.
	Kept int `json:"kept"`
	// Primary is the name of the replica that knows all this. Changes are those while it acted, the oldest first; at most 100.
	Primary string   `json:"primary"`
	Changes []Change `json:"changes,omitempty"`
}

// Lines are the copies, one line each, the last change of the active one, and the updates, for people.
func (s Snapshot) Lines() []string {
	lines := []string{"no copy of the bot has polled yet"}
	if len(s.Copies) > 0 {
		lines = lines[:0]
	}
	for _, c := range s.Copies {
		line := "copy " + c.Name + ": " + c.Role
		if c.Role == "active" {
			line += " since " + s.Since.UTC().Format(time.TimeOnly)
		}
		if !c.LastRequest.IsZero() {
			line += fmt.Sprintf(", last request %s ago", max(time.Since(c.LastRequest), 0).Truncate(time.Second))
		}
		if c.Framework != "" {
			line += ", " + c.Framework
		}
		lines = append(lines, line)
	}
	if last := s.last(); last != "" {
		lines = append(lines, last)
	}
	return append(lines, fmt.Sprintf("updates: %d wait, of which the active copy has %d in hand; %d are kept to be given again", s.Pending, s.InHand, s.Kept))
}

// last is the last change of the active copy, for people; empty if there was none. Of a change under another primary the former copy is
// not known.
func (s Snapshot) last() string {
	if s.Reason == "" {
		return ""
	}
	c := Change{At: s.Since, From: "the copy before it", To: s.Active, Reason: s.Reason}
	switch n := len(s.Changes); {
	// What is remembered may be of an earlier term of this primary.
	case n > 0 && s.Changes[n-1].To == s.Active && !s.Changes[n-1].At.Before(s.Since.Add(-time.Second)):
		c = s.Changes[n-1]
	case s.Reason == string(turns.ReasonFirst):
		c.From = ""
	case s.Reason == string(turns.ReasonRestarted):
		c.From = c.To
	}
	text := c.To + " became active"
	if c.To == "" {
		text = "none is active"
	}
	text += fmt.Sprintf(" at %s, %s ago", c.At.UTC().Format(time.TimeOnly), max(time.Since(c.At), 0).Truncate(time.Second))
	if c.To != "" && c.From != "" && c.From != c.To {
		text += ", replacing " + c.From
	}
	return "last change of the active copy: " + text + ". Reason: " + c.Cause()
}

// Standby is how many copies stand by, and would take over.
func (s Snapshot) Standby() int {
	n := 0
	for _, c := range s.Copies {
		if c.Role == roleStandby {
			n++
		}
	}
	return n
}

// snapshot is what the machine of this term knows; false if it does not answer.
func (s *session) snapshot() (Snapshot, bool) {
	v, moved, ok := s.view()
	if !ok {
		return Snapshot{}, false
	}
	out := Snapshot{
		Primary: s.task.Change.Name, Changes: s.g.changed(),
		Active: string(v.Active), Since: s.g.at(v.Since), Reason: string(v.Reason), Pending: v.Pending, InHand: v.InHand, Kept: v.Kept,
		Copies: make([]Copy, 0, len(v.Copies)),
	}
	if v.InHand > 0 {
		out.LastConfirmed = moved
	}
	for _, c := range v.Copies {
		one := Copy{
			Name: string(c.ID), Address: c.Address, Role: c.Role, Framework: s.g.agents.of(c.ID), LastRequest: s.g.at(c.LastRequest), Polling: c.Polling,
		}
		if c.Role == roleStandby {
			one.Waiting = s.g.at(c.Waiting)
		}
		out.Copies = append(out.Copies, one)
	}
	slices.SortFunc(out.Copies, func(a, b Copy) int { return strings.Compare(a.Name, b.Name) })
	return out, true
}

// Roles of copies, as turns.View has them. The set is closed: they are values of a metric's label.
const (
	roleActive   = "active"
	roleStandby  = "standby"
	roleStarting = "starting"
	roleDead     = "dead"
)

func roles() []string { return []string{roleActive, roleStandby, roleStarting, roleDead} }

// Snapshot is what the primary knows of copies; nil if it could not be asked. It may take half a second.
func (g *Gateway) Snapshot(ctx context.Context) *Snapshot {
	var s Snapshot
	if json.Unmarshal(g.passer.Copies(ctx), &s) != nil {
		return nil
	}
	return &s
}

// Copies is a Snapshot as JSON, as the primary gives it; nil if it could not be asked. It may take half a second.
func (p *Passer) Copies(ctx context.Context) []byte {
	ctx, cancel := context.WithTimeout(ctx, seenBound)
	defer cancel()
	status, body := p.askPrimary(ctx, http.MethodGet, pathCopies)
	if status != http.StatusOK {
		return nil
	}
	return body
}

// Next moves the turn on to another copy. The error is ErrNoSpare or ErrUnknown.
func (g *Gateway) Next(ctx context.Context) error {
	switch status, _ := g.passer.askPrimary(ctx, http.MethodPost, pathNext); status {
	case http.StatusOK:
		return nil
	case http.StatusConflict:
		return ErrNoSpare
	default:
		return ErrUnknown
	}
}

// askPrimary has the primary answer a request of a replica.
func (p *Passer) askPrimary(ctx context.Context, method, path string) (status int, body []byte) {
	r, err := http.NewRequestWithContext(ctx, method, "http://habot"+path, nil)
	if err != nil {
		return 0, nil
	}
	w := &recorder{header: http.Header{}}
	p.Serve(w, r, Ask{Origin: Origin{Replica: p.cfg.Self}, Again: method == http.MethodGet, Body: []byte{}})
	return w.status, w.body
}

// recorder takes the answer to a request of this replica.
type recorder struct {
	header http.Header
	status int
	body   []byte
}

// maxRecorded bounds such an answer: 500 copies stay far below.
const maxRecorded = 1 << 20

// Header implements http.ResponseWriter.
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	if len(r.body)+len(p) > maxRecorded {
		return 0, io.ErrShortBuffer
	}
	r.body = append(r.body, p...)
	return len(p), nil
}

// operate answers a request of a replica as the primary; false if it is none.
func (s *session) operate(w http.ResponseWriter, r *http.Request) bool {
	switch r.URL.Path {
	case pathNext:
		moved := make(chan bool, 1)
		s.post(event{do: func() {
			outs := s.step(event{in: turns.Next{}})
			moved <- !slices.Contains(outs, turns.Output(turns.NoSpare{}))
		}})
		select {
		case ok := <-moved:
			w.WriteHeader(map[bool]int{true: http.StatusOK, false: http.StatusConflict}[ok])
		case <-s.over:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	case pathCopies:
		seen, ok := s.snapshot()
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
			break
		}
		raw, err := json.Marshal(seen)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			break
		}
		_, _ = w.Write(raw) // the one who asked may be gone
	default:
		return false
	}
	return true
}

const (
	// stuckFor is how long a copy may confirm nothing of what it was given, while a hundred updates wait, until that is a problem. How
	// many it was given is up to the limit that it asks for.
	stuckFor = time.Minute
	// missedFor is how long there may be no active copy until that is one.
	missedFor = 5 * time.Second
)

// NoCopy is why no copy takes updates; empty if one does, or this replica does not act.
func (g *Gateway) NoCopy() string {
	s := g.session()
	if s == nil {
		return ""
	}
	v, ok := s.snapshot()
	if !ok {
		return ""
	}
	return v.trouble(s.began)
}

// trouble is why no copy takes updates in a term that began then; empty if one does.
func (s Snapshot) trouble(began time.Time) string {
	switch {
	case s.Active == "" && time.Since(later(s.Since, began)) > missedFor:
		return "no copy of the bot polls"
	case s.InHand > 0 && s.Pending >= update.MaxBatch && time.Since(s.LastConfirmed) > stuckFor:
		return fmt.Sprintf("the copy %s was given %d updates and has confirmed none of them for %s", s.Active, s.InHand, time.Since(s.LastConfirmed).Truncate(time.Second))
	}
	return ""
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// agents are what copies' requests say of their frameworks.
type agents struct {
	mu  sync.Mutex
	all map[turns.CopyID]string
}

// maxAgent bounds what is remembered of one.
const maxAgent = 80

func (a *agents) saw(id turns.CopyID, agent string) {
	agent = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, agent)
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.all[id]; known || len(a.all) < turns.MaxCopies {
		if a.all == nil {
			a.all = map[turns.CopyID]string{}
		}
		a.all[id] = agent[:min(len(agent), maxAgent)]
		return
	}
	clear(a.all) // they come again
}

func (a *agents) of(id turns.CopyID) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all[id]
}

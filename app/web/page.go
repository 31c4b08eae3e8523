package web

import (
	"cmp"
	"embed"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"habot/app/diagnosis"
	"habot/app/election"
	"habot/app/gateway"
	"habot/app/page"
	"habot/app/page/live"
	"habot/app/relay"
)

//go:embed static
var static embed.FS

// Bounds of the page: a replica has better to do.
const (
	frameEvery  = 500 * time.Millisecond
	maxWatchers = 8
	maxBehind   = 4 // frames: each is all there is
)

// frame is what the page gets: always all there is.
type frame struct {
	Run  string      `json:"run"`
	Full bool        `json:"full"`
	Now  page.Micros `json:"now_us"`
	page.Lanes
	Self     string            `json:"self"`
	Role     string            `json:"role"`
	Verdict  diagnosis.Verdict `json:"verdict"`
	Facts    []string          `json:"facts"`
	Replicas []replicaRow      `json:"replicas"`
	// Lease is how long one is, Remaining what is left of the one that this replica holds or supports; in milliseconds.
	Lease     float64 `json:"lease_ms,omitempty"`
	Remaining float64 `json:"remaining_ms"`
	Demo      bool    `json:"demo,omitempty"`
	// Backends are the webhook backends; nil if there are none. Copies are those behind a gateway; nil without one.
	Backends *backendRows `json:"backends,omitempty"`
	Copies   *copyRows    `json:"copies,omitempty"`
}

// backendRows are the webhook backends as this replica sees them.
type backendRows struct {
	Rows []backendRow `json:"rows"`
	// Waiting is how many updates wait for a backend.
	Waiting int `json:"waiting"`
}

type backendRow struct {
	Backend string      `json:"backend"`
	Address string      `json:"address,omitempty"`
	State   string      `json:"state"`
	Good    bool        `json:"good"`
	Since   page.Micros `json:"since_us,omitempty"`
	// Answered is when it last answered an update of this replica's; 0 if it has not.
	Answered page.Micros `json:"answered_us,omitempty"`
	InFlight int         `json:"in_flight"`
	Detail   string      `json:"detail,omitempty"`
}

// copyRows are the copies of a polling bot as the primary knows them.
type copyRows struct {
	// At is when the primary answered last; Stale: it does not at the moment. Without At it never has.
	At      page.Micros `json:"at_us,omitempty"`
	Stale   bool        `json:"stale,omitempty"`
	Primary string      `json:"primary,omitempty"`
	Active  string      `json:"active,omitempty"`
	Since   page.Micros `json:"since_us,omitempty"`
	Rows    []copyRow   `json:"rows"`
	Changes []copyTurn  `json:"changes"`
	Pending int         `json:"pending"`
	InHand  int         `json:"in_hand"`
	Kept    int         `json:"kept"`
}

type copyRow struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Role    string `json:"role"`
	// Since is since when it is active, or stands by.
	Since     page.Micros `json:"since_us,omitempty"`
	Asked     page.Micros `json:"asked_us,omitempty"` // its last request
	Polling   bool        `json:"polling"`
	Framework string      `json:"framework,omitempty"`
}

type copyTurn struct {
	At    page.Micros `json:"at_us"`
	From  string      `json:"from,omitempty"`
	To    string      `json:"to"`
	Cause string      `json:"cause"`
	Again int         `json:"again,omitempty"`
}

func backendsOf(s *relay.Snapshot) *backendRows {
	if s == nil {
		return nil
	}
	out := &backendRows{Rows: []backendRow{}, Waiting: s.Waiting}
	for _, a := range s.Addresses {
		row := backendRow{
			Backend: a.Backend, Address: a.Address, State: string(a.State), Good: a.State == relay.Up, Since: page.At(a.Since), Answered: page.At(a.LastAnswer), InFlight: a.InFlight,
		}
		if !row.Good {
			row.Detail = a.Detail
		}
		out.Rows = append(out.Rows, row)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Unresolved)) {
		out.Rows = append(out.Rows, backendRow{Backend: name, State: "no address", Detail: s.Unresolved[name]})
	}
	return out
}

// copiesOf shows what the primary answered at a time; nil if it never has.
func copiesOf(s *gateway.Snapshot, at time.Time) *copyRows {
	out := &copyRows{At: page.At(at), Rows: []copyRow{}, Changes: []copyTurn{}}
	if s == nil {
		return out
	}
	out.Primary, out.Active, out.Since, out.Pending, out.InHand, out.Kept = s.Primary, s.Active, page.At(s.Since), s.Pending, s.InHand, s.Kept
	for _, c := range s.Copies {
		row := copyRow{
			Name: c.Name, Address: c.Address, Role: c.Role, Since: page.At(c.Waiting), Asked: page.At(c.LastRequest), Polling: c.Polling, Framework: c.Framework,
		}
		if c.Name == s.Active {
			row.Since = out.Since
		}
		out.Rows = append(out.Rows, row)
	}
	for _, c := range s.Changes {
		out.Changes = append(out.Changes, copyTurn{page.At(c.At), c.From, c.To, c.Cause(), c.Again})
	}
	return out
}

// frames are what the page's watchers get. Its method is called by one goroutine at a time.
type frames struct {
	server *Server
	// known is when a primary was known last, as far as any page watched.
	known time.Time
	// copies are what the primary answered last, at copiesAt.
	copies   *gateway.Snapshot
	copiesAt time.Time
}

// seesCopies keeps what the primary has answered, and shows that, with its age, while it does not answer.
func (f *frames) seesCopies(now time.Time, s *gateway.Snapshot) *copyRows {
	if s != nil {
		f.copies, f.copiesAt = s, now
	}
	out := copiesOf(f.copies, f.copiesAt)
	out.Stale = s == nil
	return out
}

// Frame implements live.Source.
func (f *frames) Frame(uint64) ([]byte, uint64) {
	now := time.Now()
	st := f.server.status()
	if st.Known() {
		f.known = now
	}
	out := frame{
		Run: string(st.Self.Replica), Full: true, Now: page.At(now), Lanes: lanesOf(st.View, f.known), Self: st.Self.Name, Role: diagnosis.Role(st.Self),
		Verdict: st.Verdict, Facts: st.facts(), Replicas: st.replicas(), Demo: st.Demo, Remaining: st.Self.Remaining.Seconds() * 1000,
	}
	out.Backends = backendsOf(st.Backends)
	if f.server.cfg.Copies != nil {
		out.Copies = f.seesCopies(now, st.Copies)
	}
	if st.Mode != "bot-only" {
		out.Lease = st.Self.Lease.Seconds() * 1000
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return []byte("{}"), 1 // it cannot fail: its values are plain
	}
	return raw, 1
}

// lanesOf draws who was primary when, from the changes that a replica knows. known is when it last knew a primary; zero if
// that is not known, either. It is pure.
func lanesOf(v election.View, known time.Time) page.Lanes {
	l := page.Lanes{Lanes: []page.Lane{}}
	for i, c := range v.History {
		id, since := c.Claim.Timestamp/1000, c.Since() // in a browser nanoseconds would be too large a number
		change := page.Change{ID: id, From: c.Previous, To: c.Name, At: page.At(since), Reason: diagnosis.Cause(c)}
		if c.GapMeasured() {
			gap := c.Gap.Microseconds()
			change.Gap = &gap
			if gap > 0 {
				l.Gaps = append(l.Gaps, page.Gap{ID: id, From: page.At(since.Add(-c.Gap)), To: page.At(since), Before: c.Previous, After: c.Name})
			}
		}
		l.Changes = append(l.Changes, change)
		span := page.Span{ID: id, Who: c.Name, From: page.At(since)}
		switch {
		case i+1 < len(v.History):
			next := v.History[i+1]
			end := next.Since()
			if next.GapMeasured() {
				end = end.Add(-next.Gap)
			}
			span.To = max(page.At(end), span.From)
		case !v.Known():
			span.To = max(page.At(known), span.From+1)
			l.Gaps = append(l.Gaps, page.Gap{ID: id + 1, From: span.To, Before: c.Name})
		}
		l.Spans = append(l.Spans, span)
		l.Lanes = append(l.Lanes, page.Lane{Name: c.Name, Seen: span.To})
	}
	for _, p := range diagnosis.Replicas(v) {
		l.Lanes = append(l.Lanes, page.Lane{Name: p.Status.Name})
	}
	slices.SortStableFunc(l.Lanes, func(a, b page.Lane) int { return cmp.Compare(a.Name, b.Name) })
	l.Lanes = slices.CompactFunc(l.Lanes, func(a, b page.Lane) bool { return a.Name == b.Name })
	return l
}

// pageRoutes are those of the page, but for its address: that is the text's as well.
func (s *Server) pageRoutes(r gin.IRoutes) {
	r.GET("/page/:file", func(c *gin.Context) { live.ServeFile(c.Writer, c.Param("file"), pageFiles(), page.Parts()) })
	r.GET("/events", func(c *gin.Context) { s.watching.ServeHTTP(c.Writer, c.Request) })
}

// pageFiles are the page's own files.
func pageFiles() page.Folder { return page.Folder{Files: static, Path: "static"} }

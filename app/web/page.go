package web

import (
	"cmp"
	"embed"
	"encoding/json"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"habot/app/diagnosis"
	"habot/app/election"
	"habot/app/page"
	"habot/app/page/live"
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
	// Backends are the webhook backends, a line each.
	Backends []string `json:"backends,omitempty"`
}

// frames are what the page's watchers get. Its method is called by one goroutine at a time.
type frames struct {
	server *Server
	// known is when a primary was known last, as far as any page watched.
	known time.Time
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
	if st.Backends != nil {
		out.Backends = st.Backends.Lines()
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

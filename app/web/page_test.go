package web

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/diagnosis"
	"habot/app/election"
	"habot/app/gateway"
	"habot/app/page"
	"habot/app/relay"
)

func TestBrowsersGetThePageAndOthersTheText(t *testing.T) {
	t.Parallel()
	s := NewServer(configure(nil))
	for accept, isPage := range map[string]bool{"": false, "*/*": false, "text/html,*/*;q=0.8": true} {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, req)
		kind, policy := w.Header().Get("Content-Type"), w.Header().Get("Content-Security-Policy")
		if w.Code != 200 || strings.HasPrefix(kind, "text/html") != isPage || strings.Contains(policy, "default-src 'none'") != isPage {
			t.Errorf("Accept %q: %d %s, policy %q", accept, w.Code, kind, policy)
		}
		if strings.Contains(w.Body.String(), "the bot answers: habot-bot-2 is primary") == isPage {
			t.Errorf("Accept %q: %s", accept, w.Body)
		}
		if w.Header().Get("Vary") != "Accept" {
			t.Errorf("Accept %q: Vary %q", accept, w.Header().Get("Vary"))
		}
	}
}

// The page works offline and under its policy: all that it loads is served beside it, and nothing is within it.
func TestThePageLoadsNothingButItsOwnFiles(t *testing.T) {
	t.Parallel()
	s := NewServer(configure(nil))
	raw, err := static.ReadFile("static/index.html")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{"index.html": string(raw)}
	var load func(text string)
	load = func(text string) {
		for _, m := range regexp.MustCompile(`(?:src="page/|href="page/|from '\./)([a-z.]+)`).FindAllStringSubmatch(text, -1) {
			if texts[m[1]] != "" {
				continue
			}
			code, body := get(s, "/page/"+m[1])
			if code != http.StatusOK {
				t.Errorf("%s is not served: %d", m[1], code)
			}
			texts[m[1]] = body
			load(body)
		}
	}
	load(string(raw))
	if len(texts) < 6 {
		t.Fatalf("only %d files were found", len(texts))
	}
	unsafe := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|https?://|<script>|<style| style=| on[a-z]+="`)
	for name, text := range texts {
		if found := unsafe.FindString(text); found != "" {
			t.Errorf("%s has %q", name, found)
		}
	}
	ids := regexp.MustCompile(`(?:\$|notice|rows)\('([a-z-]+)'`).FindAllStringSubmatch(texts["replica.js"]+texts["bots.js"], -1)
	if len(ids) < 30 {
		t.Errorf("only %d ids were found", len(ids))
	}
	for _, m := range ids {
		if !strings.Contains(texts["index.html"], ` id="`+m[1]+`"`) {
			t.Errorf("a script looks for %s", m[1])
		}
	}
	if code, _ := get(s, "/page/..%2fserver.go"); code != http.StatusNotFound {
		t.Errorf("a file elsewhere: %d", code)
	}
}

// moment is so many milliseconds after some time.
func moment(ms int64) time.Time { return time.UnixMilli(1_800_000_000_000 + ms) }

func turn(name, previous string, reason election.Reason, won, gap int64) election.Change {
	return election.Change{
		Claim: election.Claim{Timestamp: moment(won).UnixNano(), Replica: election.ReplicaID(name)}, Name: name, Previous: previous, Reason: reason,
		Gap: time.Duration(gap) * time.Millisecond, WonAt: moment(won),
	}
}

func TestLanesAreDrawnFromTheHistory(t *testing.T) {
	t.Parallel()
	v := healthy(election.Standby)
	v.History = []election.Change{
		turn("b", "", election.ReasonStart, 0, 77),
		turn("a", "b", election.ReasonCrash, 10_000, 450),
		turn("b", "a", election.ReasonSwitchover, 20_000, 0),
	}
	v.Self.Primary = v.History[2].Claim
	l := lanesOf(v, moment(30_000))
	us := func(ms int64) page.Micros { return page.At(moment(ms)) }
	id := func(ms int64) int64 { return int64(us(ms)) }
	if want := []page.Span{
		{ID: id(0), Who: "b", From: us(0), To: us(9_550)}, {ID: id(10_000), Who: "a", From: us(10_000), To: us(20_000)}, {ID: id(20_000), Who: "b", From: us(20_000)},
	}; !reflect.DeepEqual(l.Spans, want) {
		t.Errorf("spans %+v\nwant  %+v", l.Spans, want)
	}
	if want := []page.Gap{{ID: id(10_000), From: us(9_550), To: us(10_000), Before: "b", After: "a"}}; !reflect.DeepEqual(l.Gaps, want) {
		t.Errorf("gaps %+v", l.Gaps)
	}
	if c := l.Changes; len(c) != 3 || c[0].Gap != nil || *c[1].Gap != 450_000 || *c[2].Gap != 0 || c[1].Reason != diagnosis.Cause(v.History[1]) {
		t.Errorf("changes %+v", c)
	}
	var names []string
	for _, lane := range l.Lanes {
		names = append(names, lane.Name)
	}
	if got := fmt.Sprint(names); got != "[a b habot-bot-1]" {
		t.Errorf("lanes %s", got)
	}

	// Without a primary the last one's bar ends when it was last known, and the gap goes on.
	v.Self.Primary = election.Claim{}
	l = lanesOf(v, moment(25_000))
	last, gap := l.Spans[2], l.Gaps[len(l.Gaps)-1]
	if last.To != us(25_000) || gap.From != us(25_000) || gap.To != 0 || gap.Before != "b" {
		t.Errorf("without a primary: %+v, %+v", last, gap)
	}
	// A replica that has never known one while it was watched draws no bar of unknown length.
	if l = lanesOf(v, time.Time{}); l.Spans[2].To != l.Spans[2].From+1 {
		t.Errorf("never known: %+v", l.Spans[2])
	}
	if l = lanesOf(healthy(election.Joining), time.Time{}); len(l.Spans)+len(l.Gaps)+len(l.Changes) != 0 || len(l.Lanes) != 1 {
		t.Errorf("nothing known: %+v", l)
	}
}

func TestThePageIsToldWhatTheStatusShows(t *testing.T) {
	t.Parallel()
	v := healthy(election.Primary)
	v.Self.Lease, v.Self.Remaining = 550*time.Millisecond, 431*time.Millisecond
	v.Peers = []election.Peer{
		{Status: election.Status{Replica: "bb", Name: "habot-bot-2", Role: election.Standby, Version: "1.0.0", Health: election.Health{Detail: "no route"}}, Reachable: true},
		{Status: election.Status{Replica: "cc", Name: "habot-bot-3", Role: election.Standby}},
	}
	s := NewServer(configure(func(cfg *Config) {
		viewing(v)(cfg)
		cfg.Backends = func() *relay.Snapshot {
			return &relay.Snapshot{Waiting: 3, Unresolved: map[string]string{"other:80": "no such host"}, Addresses: []relay.Status{
				{Backend: "mybot:8000", Address: "10.0.0.7:8000", State: relay.Up, InFlight: 2, Since: moment(0), LastAnswer: moment(5), Detail: "of earlier"},
				{Backend: "mybot:8000", Address: "10.0.0.8:8000", State: relay.Down, Detail: "connection refused"},
			}}
		}
	}))
	raw, version := (&frames{server: s}).Frame(0)
	var f frame
	if err := json.Unmarshal(raw, &f); err != nil || version == 0 || !f.Full {
		t.Fatalf("%s: %v", raw, err)
	}
	if f.Self != "habot-bot-1" || f.Role != "primary" || f.Lease != 550 || f.Remaining != 431 || f.Verdict.Text != "the bot answers: habot-bot-1 is primary" {
		t.Errorf("%+v", f)
	}
	if len(f.Verdict.Problems) == 0 || len(f.Facts) == 0 {
		t.Errorf("problems %v, facts %v", f.Verdict.Problems, f.Facts)
	}
	if want := (&backendRows{Waiting: 3, Rows: []backendRow{
		{Backend: "mybot:8000", Address: "10.0.0.7:8000", State: "up", Good: true, InFlight: 2, Since: page.At(moment(0)), Answered: page.At(moment(5))},
		{Backend: "mybot:8000", Address: "10.0.0.8:8000", State: "down", Detail: "connection refused"},
		{Backend: "other:80", State: "no address", Detail: "no such host"},
	}}); !reflect.DeepEqual(f.Backends, want) {
		t.Errorf("backends %+v\nwant     %+v", f.Backends, want)
	}
	if f.Copies != nil {
		t.Errorf("copies without a gateway: %+v", f.Copies)
	}
	for i, want := range []string{"primary reachable true", "standby not reachable false", "not reachable unknown false"} {
		if r := f.Replicas[i]; fmt.Sprint(r.Role, " ", r.Telegram, " ", r.Self) != want {
			t.Errorf("%+v, want %s", r, want)
		}
	}
}

// Copies are the primary's to know. While it does not answer, the page shows what it did last, and when that was.
func TestThePageShowsCopiesAsThePrimaryKnowsThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var known *gateway.Snapshot
		s := NewServer(configure(func(cfg *Config) { cfg.Copies = func(context.Context) *gateway.Snapshot { return known } }))
		f := &frames{server: s}
		look := func() *copyRows {
			t.Helper()
			raw, _ := f.Frame(0)
			var got frame
			if err := json.Unmarshal(raw, &got); err != nil || got.Copies == nil {
				t.Fatalf("%s: %v", raw, err)
			}
			return got.Copies
		}
		if got := look(); got.At != 0 || !got.Stale || got.Active != "" || len(got.Rows) != 0 {
			t.Errorf("nothing known: %+v", got)
		}
		known = &gateway.Snapshot{
			Primary: "habot-bot-2", Active: "10.0.0.2", Since: moment(2000), Reason: "gone", Pending: 3, InHand: 2, Kept: 1,
			Copies: []gateway.Copy{
				{Name: "10.0.0.1", Address: "10.0.0.1", Role: "dead", LastRequest: moment(1)},
				{Name: "10.0.0.2", Address: "10.0.0.2", Role: "active", LastRequest: moment(3000), Polling: true, Framework: "aiogram"},
				{Name: "three", Address: "10.0.0.3", Role: "standby", LastRequest: moment(2500), Waiting: moment(2600), Polling: true},
			},
			Changes: []gateway.Change{
				{At: moment(0), To: "10.0.0.1", Reason: "first"}, {At: moment(2000), From: "10.0.0.1", To: "10.0.0.2", Reason: "gone", Again: 4},
				{At: moment(3000), From: "10.0.0.2", To: "three", Reason: "operator"},
			},
		}
		answered := time.Now()
		want := &copyRows{
			At: page.At(answered), Primary: "habot-bot-2", Active: "10.0.0.2", Since: page.At(moment(2000)), Pending: 3, InHand: 2, Kept: 1,
			Rows: []copyRow{
				{Name: "10.0.0.1", Address: "10.0.0.1", Role: "dead", Asked: page.At(moment(1))},
				{Name: "10.0.0.2", Address: "10.0.0.2", Role: "active", Since: page.At(moment(2000)), Asked: page.At(moment(3000)), Polling: true, Framework: "aiogram"},
				{Name: "three", Address: "10.0.0.3", Role: "standby", Since: page.At(moment(2600)), Asked: page.At(moment(2500)), Polling: true},
			},
			Changes: []copyTurn{
				{At: page.At(moment(0)), To: "10.0.0.1", Cause: "10.0.0.1 is the first"},
				{At: page.At(moment(2000)), From: "10.0.0.1", To: "10.0.0.2", Cause: "10.0.0.1 is gone: its machine is not reachable", Again: 4},
				{At: page.At(moment(3000)), From: "10.0.0.2", To: "three", Cause: "an operator moved the turn on"},
			},
		}
		if got := look(); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v\nwant %+v", got, want)
		}
		known = nil
		time.Sleep(time.Minute)
		want.Stale = true
		if got := look(); !reflect.DeepEqual(got, want) {
			t.Errorf("while the primary does not answer: %+v\nwant %+v", got, want)
		}
	})
}

// While the page is watched, it is known when the last primary was lost.
func TestThePageShowsSinceWhenThereIsNoPrimary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := healthy(election.Standby)
		v.History = []election.Change{turn("b", "", election.ReasonStart, 0, 0)}
		v.Self.Primary = v.History[0].Claim
		s := NewServer(configure(func(cfg *Config) { cfg.Replica = replica{view: func() election.View { return v }} }))
		f := &frames{server: s}
		f.Frame(0)
		lost := time.Now()
		v.Self.Primary = election.Claim{}
		time.Sleep(3 * time.Second)
		raw, _ := f.Frame(0)
		var got frame
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatal(err)
		}
		// The bubble's clock stands before the claim: the bar has no length, and the gap begins where it ends.
		if len(got.Gaps) != 1 || got.Gaps[0].To != 0 || got.Gaps[0].From != got.Spans[0].To || got.Gaps[0].From < page.At(lost) {
			t.Errorf("gaps %+v, spans %+v; lost at %d", got.Gaps, got.Spans, page.At(lost))
		}
		if f.known != lost {
			t.Errorf("a primary was known until %v, not %v", f.known, lost)
		}
	})
}

// One who watches must not have a replica's stop wait.
func TestWatchingEndsWhenTheReplicaStops(t *testing.T) {
	t.Parallel()
	s := NewServer(configure(nil))
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	res, err := http.Get("http://" + s.Addr().String() + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "data: ") {
	}
	if !strings.Contains(lines.Text(), `"self":"habot-bot-1"`) {
		t.Errorf("the first frame is %q", lines.Text())
	}
	stop()
	for lines.Scan() {
	}
	if err := lines.Err(); err != nil { // what has to be cut off ends amid a chunk
		t.Errorf("the events were cut off, they did not end: %v", err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestOtherPagesCannotWatchAReplica(t *testing.T) {
	t.Parallel()
	req := httptest.NewRequest(http.MethodGet, "http://localhost:8080/events", nil)
	req.Header.Set("Origin", "http://evil.example")
	if code, body := ask(NewServer(configure(nil)).http.Handler, req); code != http.StatusForbidden || strings.Contains(body, "data:") {
		t.Errorf("%d %s", code, body)
	}
}

package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/peer"
	"habot/app/turns"
)

// ring is replicas whose Passers reach one another in a bubble.
type ring struct {
	t *testing.T

	mu      sync.Mutex
	primary string
	active  turns.CopyID // as all of them know
	moved   chan struct{}
	nodes   map[string]*ringNode
}

type ringNode struct {
	*Passer
	ring *ring
	name string

	// Guarded by the ring's mu.
	dead  chan struct{} // closed when its process ends
	hangs bool          // it is cut off: nothing comes back
	away  bool          // the election does not reach it
	saw   []turns.Input
}

func newRing(t *testing.T, names ...string) *ring {
	g := &ring{t: t, moved: make(chan struct{}), nodes: map[string]*ringNode{}}
	for _, name := range names {
		n := &ringNode{ring: g, name: name, dead: make(chan struct{})}
		start := time.Now()
		n.Passer = NewPasser(PassConfig{
			Self: name, Primary: func() (string, string, <-chan struct{}) {
				g.mu.Lock()
				defer g.mu.Unlock()
				return g.primary, g.primary, g.moved
			},
			Active: func() turns.CopyID {
				g.mu.Lock()
				defer g.mu.Unlock()
				return g.active
			},
			Reachable: g.reachable, Forward: n.forward, Message: n.message,
			Report: func(in turns.Input) {
				g.mu.Lock()
				defer g.mu.Unlock()
				n.saw = append(n.saw, in)
			},
			Now: func() turns.Instant { return turns.Instant(time.Hour + time.Since(start)) },
		})
		g.nodes[name] = n
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = n.Run(ctx)
		}()
		t.Cleanup(func() { stop(); <-done })
	}
	return g
}

func (g *ring) reachable() (all []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, n := range g.nodes {
		if !n.away {
			all = append(all, name)
		}
	}
	return all
}

// elect has all replicas know a primary, none if it is empty.
func (g *ring) elect(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.primary = name
	close(g.moved)
	g.moved = make(chan struct{})
}

// acts elects a replica that acts.
func (g *ring) acts(name string, act Act) {
	g.elect(name)
	if name != "" {
		g.nodes[name].Acts(act)
	}
}

// kill ends a replica's process.
func (g *ring) kill(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.nodes[name].dead)
}

func (g *ring) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

func (g *ring) sawAt(name string) []turns.Input {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.nodes[name].saw)
}

func (n *ringNode) forward(ctx context.Context, addr string, r *http.Request, origin string) (*http.Response, error) {
	g := n.ring
	g.mu.Lock()
	to := g.nodes[addr]
	hangs := to.hangs
	g.mu.Unlock()
	select {
	case <-to.dead:
		return nil, peer.ErrNotSent
	default:
	}
	if hangs {
		<-ctx.Done()
		return nil, peer.ErrMayBeSent
	}
	type result struct {
		resp *http.Response
		err  error
	}
	answered := make(chan result, 1)
	serving, end := context.WithCancel(context.Background())
	go func() {
		defer func() {
			if recover() != nil {
				answered <- result{nil, peer.ErrMayBeSent}
			}
		}()
		w := httptest.NewRecorder()
		if err := to.Forwarded(w, r.WithContext(serving), origin); err != nil {
			answered <- result{nil, fmt.Errorf("%w: %w", peer.ErrNotTaken, err)}
			return
		}
		answered <- result{w.Result(), nil}
	}()
	defer end()
	select {
	case a := <-answered:
		return a.resp, a.err
	case <-to.dead:
	case <-ctx.Done():
	}
	return nil, peer.ErrMayBeSent
}

func (n *ringNode) message(_ context.Context, addr string, body []byte) error {
	g := n.ring
	g.mu.Lock()
	to := g.nodes[addr]
	g.mu.Unlock()
	select {
	case <-to.dead:
		return errors.New("connection refused")
	default:
		return to.Receive(body)
	}
}

// asks is one request at a replica; what comes of it arrives on the channel.
func (n *ringNode) asks(ctx context.Context, ask Ask, body string) <-chan *httptest.ResponseRecorder {
	done := make(chan *httptest.ResponseRecorder, 1)
	r := httptest.NewRequest(http.MethodPost, "/bot1:T/method", strings.NewReader(body)).WithContext(ctx)
	if ask.Again {
		ask.Body = []byte(body)
	}
	if ask.Origin.Replica == "" {
		ask.Origin = Origin{Replica: n.name, Address: "10.0.0.9", Connection: 5, Age: time.Second, Reused: true}
	}
	go func() {
		w := httptest.NewRecorder()
		n.Serve(w, r, ask)
		done <- w
	}()
	return done
}

// says is an Act that answers with who it is, where the request entered and its body.
func says(name string) Act {
	return func(w http.ResponseWriter, r *http.Request) error {
		body, _ := io.ReadAll(r.Body)
		o := OriginOf(r.Context())
		fmt.Fprint(w, name, " ", o.Replica, " ", o.Address, " ", o.Connection, " ", o.Waited, " ", string(body))
		return nil
	}
}

// holds is an Act that holds requests until the function ends its term.
func holds() (act Act, end func(), held *atomic.Int64) {
	over := make(chan struct{})
	var n atomic.Int64
	return func(_ http.ResponseWriter, r *http.Request) error {
		n.Add(1)
		select {
		case <-over:
			return ErrNotPrimary
		case <-r.Context().Done():
			return nil
		}
	}, func() { close(over) }, &n
}

var poll = Ask{Poll: true, Again: true, Hold: 30 * time.Second}

func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

func TestAStandbyPassesRequestsOnWithWhereTheyEntered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRing(t, "a", "b")
		g.acts("a", says("a"))
		for name, want := range map[string]string{"a": "a a 10.0.0.9 5 0s x=1", "b": "a b 10.0.0.9 5 0s x=1"} {
			for _, ask := range []Ask{{}, poll, {Again: true}} {
				if w := <-g.nodes[name].asks(t.Context(), ask, "x=1"); w.Body.String() != want {
					t.Errorf("at %s: %d %q", name, w.Code, w.Body)
				}
			}
		}
	})
}

func TestRequestsWaitForAPrimary(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRing(t, "a", "b", "c")
		call, held := g.nodes["b"].asks(t.Context(), Ask{}, "x"), g.nodes["c"].asks(t.Context(), poll, "")
		time.Sleep(2 * time.Second)
		g.elect("a") // which takes a while to begin
		time.Sleep(time.Second)
		g.nodes["a"].Acts(says("a"))
		if w := <-call; w.Body.String() != "a b 10.0.0.9 5 2s x" {
			t.Errorf("%q", w.Body) // it waited at the primary then
		}
		if w := <-held; w.Body.String() != "a c 10.0.0.9 5 2s " {
			t.Errorf("%q", w.Body)
		}
	})
}

func TestNobodyWaitsForEver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRing(t, "a", "b", "c")
		g.elect("b")
		g.kill("b")
		for _, test := range []struct {
			ask  Ask
			wait time.Duration
		}{{Ask{}, 4 * time.Second}, {Ask{Again: true}, 4 * time.Second}, {poll, 30 * time.Second}, {Ask{Poll: true, Again: true}, 4 * time.Second}} {
			start := time.Now()
			w := <-g.nodes["a"].asks(t.Context(), test.ask, "")
			var answer struct {
				OK        bool
				ErrorCode int `json:"error_code"`
			}
			err := json.Unmarshal(w.Body.Bytes(), &answer)
			if took := time.Since(start); w.Code != http.StatusBadGateway || w.Header().Get("Retry-After") == "" || answer.ErrorCode != w.Code || err != nil || took != test.wait {
				t.Errorf("%+v: after %v %d %s %v", test.ask, took, w.Code, w.Body, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		<-g.nodes["a"].asks(ctx, poll, "")
		if took := time.Since(start); took != time.Second {
			t.Errorf("a client that is gone is waited for, %v", took)
		}
	})
}

// The primary's process ends while it has a poll, a look-up and a write.
func TestOnlyWhatMayBeAskedAgainIsWhenThePrimaryIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRing(t, "a", "b", "c")
		act, _, held := holds()
		g.acts("a", act)
		b := g.nodes["b"]
		polls, reads, write := b.asks(t.Context(), poll, "offset=7"), b.asks(t.Context(), Ask{Again: true}, "chat_id=1"), b.asks(t.Context(), Ask{}, "text=x")
		time.Sleep(29 * time.Second)
		if held.Load() != 3 {
			t.Fatalf("%d requests have arrived", held.Load())
		}
		g.kill("a")
		if w := <-write; w.Code != http.StatusBadGateway || !strings.Contains(w.Body.String(), "may have been carried out") || w.Header().Get("Retry-After") != "" || strings.Contains(w.Body.String(), "retry_after") {
			t.Errorf("a write that may have left: %d %s", w.Code, w.Body)
		}
		time.Sleep(1300 * time.Millisecond)
		g.acts("c", says("c"))
		if w := <-polls; !strings.HasPrefix(w.Body.String(), "c b 10.0.0.9 5 30.3") || !strings.HasSuffix(w.Body.String(), "s offset=7") {
			t.Errorf("%q", w.Body)
		}
		if w := <-reads; !strings.HasSuffix(w.Body.String(), "chat_id=1") || w.Code != http.StatusOK {
			t.Errorf("%q", w.Body)
		}
	})
}

func TestAWriteThatNeverLeftGoesToTheNextPrimary(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRing(t, "a", "b", "c")
		g.elect("a")
		g.kill("a")
		write := g.nodes["b"].asks(t.Context(), Ask{}, "text=x")
		time.Sleep(1300 * time.Millisecond)
		g.acts("c", says("c"))
		if w := <-write; !strings.HasSuffix(w.Body.String(), " text=x") || w.Code != http.StatusOK {
			t.Errorf("%d %q", w.Code, w.Body)
		}
	})
}

// Nothing breaks the connection to a primary whose machine is cut off.
func TestAPrimaryThatIsCutOffIsGivenUpOnceAnotherIsKnown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRing(t, "a", "b", "c")
		g.elect("a")
		g.set(func() { g.nodes["a"].hangs = true })
		polls, write := g.nodes["b"].asks(t.Context(), poll, ""), g.nodes["b"].asks(t.Context(), Ask{}, "x")
		time.Sleep(2 * time.Second)
		g.elect("") // it may be back in a moment
		time.Sleep(2 * time.Second)
		g.acts("c", says("c"))
		start := time.Now()
		if w := <-polls; !strings.HasPrefix(w.Body.String(), "c ") || time.Since(start) > passAgain {
			t.Errorf("after %v %q", time.Since(start), w.Body)
		}
		if w := <-write; w.Code != http.StatusBadGateway || time.Since(start) != lastAnswers {
			t.Errorf("after %v %d", time.Since(start), w.Code)
		}
	})
}

func TestWhatIsHeldWhenATermEndsGoesToTheNextPrimary(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRing(t, "a", "b", "c")
		act, end, _ := holds()
		g.acts("a", act)
		var all []<-chan *httptest.ResponseRecorder
		for _, name := range []string{"a", "b", "c"} {
			all = append(all, g.nodes[name].asks(t.Context(), poll, "p"), g.nodes[name].asks(t.Context(), Ask{Again: true}, "p"))
		}
		time.Sleep(10 * time.Second)
		g.nodes["a"].Acts(nil)
		end()
		time.Sleep(500 * time.Millisecond)
		g.elect("c")
		time.Sleep(50 * time.Millisecond)
		g.nodes["c"].Acts(says("c"))
		for _, one := range all {
			if w := <-one; !strings.HasPrefix(w.Body.String(), "c ") || !strings.HasSuffix(w.Body.String(), " p") {
				t.Errorf("%q", w.Body)
			}
		}
	})
}

// It has been held as long as it asked, by primaries that had nothing for it.
func TestAPollThatWasHeldIsNoError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRing(t, "a", "b")
		act, end, _ := holds()
		g.acts("a", act)
		held := g.nodes["b"].asks(t.Context(), poll, "")
		time.Sleep(29 * time.Second)
		g.elect("")
		g.nodes["a"].Acts(nil)
		end()
		start := time.Now()
		if w := <-held; w.Code != http.StatusOK || w.Body.String() != `{"ok":true,"result":[]}` || time.Since(start) != callWait {
			t.Errorf("after %v %d %q", time.Since(start), w.Code, w.Body)
		}
	})
}

// A body that arrives piece by piece is passed on if nothing of it was read, and never in part.
func TestABodyThatStreamsIsNotSentInPart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRing(t, "a", "b", "c")
		n := 0
		refuses := func(_ http.ResponseWriter, r *http.Request) error {
			if n++; n > 3 {
				_, _ = io.CopyN(io.Discard, r.Body, 2)
			}
			return ErrNotPrimary
		}
		g.acts("a", refuses)
		if w := <-g.nodes["b"].asks(t.Context(), Ask{}, "whole"); n != 4 || w.Code != http.StatusBadGateway || !strings.Contains(w.Body.String(), "nothing was sent") {
			t.Errorf("after %d attempts %d %s", n, w.Code, w.Body)
		}
	})
}

func TestPollsThatArePassedOnAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRing(t, "a", "b")
		act, _, held := holds()
		g.acts("a", act)
		ctx, cancel := context.WithCancel(t.Context())
		for range peer.MaxPolls {
			g.nodes["b"].asks(ctx, Ask{Poll: true, Again: true, Hold: 50 * time.Second}, "")
		}
		synctest.Wait()
		more := g.nodes["b"].asks(t.Context(), poll, "")
		start := time.Now()
		if w := <-more; w.Code != http.StatusOK || w.Body.String() != `{"ok":true,"result":[]}` || time.Since(start) != poll.Hold || held.Load() != peer.MaxPolls {
			t.Errorf("after %v %d %q, %d are held", time.Since(start), w.Code, w.Body, held.Load())
		}
		cancel()
		synctest.Wait()
		if len(g.nodes["b"].polls) > 0 {
			t.Error("room is not given back")
		}
	})
}

// pollOf is a poll of a copy that is known by its address.
func pollOf(address string) Ask {
	return Ask{Poll: true, Again: true, Hold: 50 * time.Second, Origin: Origin{Replica: "b", Address: address, Connection: 5, Age: time.Second, Reused: true}}
}

// Updates do not wait for polls that are given none: neither the active copy's poll nor one of a copy that becomes it.
func TestTheActiveCopysPollWaitsForNoOthers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRing(t, "a", "b")
		act, _, held := holds()
		g.acts("a", act)
		g.set(func() { g.active = "10.0.0.1" })
		expect := func(what string, want int64) {
			t.Helper()
			synctest.Wait()
			if n := held.Load(); n != want {
				t.Errorf("%s: the primary has %d polls, want %d", what, n, want)
			}
		}
		b := g.nodes["b"]
		for n := range peer.MaxPolls + 50 {
			b.asks(t.Context(), pollOf(fmt.Sprintf("10.0.1.%d", n)), "")
			synctest.Wait() // so that the last ones wait
		}
		expect("those that stand by", peer.MaxPolls)
		ctx, cancel := context.WithCancel(t.Context())
		b.asks(ctx, pollOf("10.0.0.1"), "")
		expect("the active copy's", peer.MaxPolls+1)
		cancel()
		expect("it has ended", peer.MaxPolls+1)
		if len(b.Passer.active) > 0 {
			t.Error("room is not given back")
		}
		g.set(func() { g.active = turns.CopyID(fmt.Sprintf("10.0.1.%d", peer.MaxPolls+49)) })
		time.Sleep(activeLook)
		expect("one that waits has become active", peer.MaxPolls+2)
		g.set(func() { g.active = "left" })
		for range 3 * peer.MaxActivePolls {
			named := pollOf("10.0.0.7")
			named.Name = "left"
			b.asks(t.Context(), named, "")
		}
		expect("many of one", peer.MaxPolls+1+peer.MaxActivePolls)
	})
}

func TestAReplicaThatStopsAnswersPollsThatWaitForRoom(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRing(t, "a", "b")
		act, _, held := holds()
		g.acts("a", act)
		var all []<-chan *httptest.ResponseRecorder
		for range peer.MaxPolls + 10 {
			all = append(all, g.nodes["b"].asks(t.Context(), poll, ""))
		}
		synctest.Wait()
		g.nodes["b"].Stop()
		start := time.Now()
		for i, one := range all {
			if w := <-one; w.Code != http.StatusOK || w.Body.String() != `{"ok":true,"result":[]}` || w.Header().Get("Connection") != "close" || time.Since(start) > 0 {
				t.Fatalf("%d: after %v %d %q", i, time.Since(start), w.Code, w.Body)
			}
		}
		if n := held.Load(); n != peer.MaxPolls {
			t.Errorf("%d have been passed on", n)
		}
	})
}

// Uploads that are passed on wait for one another, for a while. What they wait counts for no other wait.
func TestUploadsThatArePassedOnAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRing(t, "a", "b")
		var held atomic.Int64
		end := make(chan struct{})
		g.acts("a", func(w http.ResponseWriter, r *http.Request) error {
			held.Add(1)
			select {
			case <-end:
				return says("a")(w, r)
			case <-r.Context().Done():
				return nil
			}
		})
		b := g.nodes["b"]
		done := make(chan *httptest.ResponseRecorder, peer.MaxUploads+1)
		ask := func(body string) {
			one := b.asks(t.Context(), Ask{}, body)
			go func() { done <- <-one }()
		}
		for range peer.MaxUploads {
			ask("first")
		}
		synctest.Wait()
		ask("next")
		time.Sleep(uploadWait - time.Second)
		if n := held.Load(); n != peer.MaxUploads {
			t.Errorf("%d are passed on", n)
		}
		end <- struct{}{}
		if w := <-done; !strings.HasSuffix(w.Body.String(), "first") {
			t.Errorf("the first one: %d %s", w.Code, w.Body)
		}
		synctest.Wait()
		if n := held.Load(); n != peer.MaxUploads+1 {
			t.Errorf("when one has ended %d were passed on", n)
		}
		body := strings.NewReader(strings.Repeat("x", 1<<20))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r := httptest.NewRequest(http.MethodPost, "/bot1:T/method", body).WithContext(ctx)
		w := httptest.NewRecorder()
		start := time.Now()
		b.Serve(w, r, Ask{Origin: Origin{Replica: "b", Address: "10.0.0.9"}})
		if w.Code != http.StatusBadGateway || !strings.Contains(w.Body.String(), "too many uploads") || !strings.Contains(w.Body.String(), "nothing was sent") ||
			w.Header().Get("Retry-After") == "" || time.Since(start) != uploadWait || body.Len() > 0 || held.Load() != peer.MaxUploads+1 {
			t.Errorf("one too many: after %v %d %s, %d bytes are not read", time.Since(start), w.Code, w.Body, body.Len())
		}
		// One that waits when the primary changes goes to the next one, for which it waits as long as any other.
		ask("last")
		time.Sleep(uploadWait - 2*time.Second)
		g.elect("")
		time.Sleep(3 * time.Second)
		g.acts("b", says("b"))
		lasts := 0
		for range peer.MaxUploads + 1 {
			if w := <-done; w.Body.Len() > 0 && strings.HasPrefix(w.Body.String(), "b b ") && strings.HasSuffix(w.Body.String(), "last") {
				lasts++
			} else if w.Code != http.StatusBadGateway || !strings.Contains(w.Body.String(), "may have been carried out") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
		if lasts != 1 {
			t.Errorf("%d reached the next primary", lasts)
		}
		synctest.Wait()
		if len(b.uploads) > 0 {
			t.Error("room is not given back")
		}
	})
}

// A framework logs an error of a connection that breaks, and none of an empty list.
func TestAReplicaThatStopsAnswersThePollsThatItHolds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRing(t, "a", "b", "c")
		act, _, held := holds()
		g.acts("a", act)
		b := g.nodes["b"]
		passed, call := b.asks(t.Context(), poll, ""), b.asks(t.Context(), Ask{Again: true}, "")
		time.Sleep(time.Second)
		if held.Load() != 2 {
			t.Fatalf("%d requests have arrived", held.Load())
		}
		g.elect("")
		waits := b.asks(t.Context(), poll, "")
		synctest.Wait()
		b.Stop()
		for _, one := range []<-chan *httptest.ResponseRecorder{passed, waits} {
			start := time.Now()
			if w := <-one; w.Code != http.StatusOK || w.Body.String() != `{"ok":true,"result":[]}` || w.Header().Get("Connection") != "close" || time.Since(start) > 0 {
				t.Errorf("after %v %d %q", time.Since(start), w.Code, w.Body)
			}
		}
		select {
		case w := <-call:
			t.Errorf("a call ends: %d %q", w.Code, w.Body)
		default:
		}
	})
}

func ended(n uint64) turns.ConnectionEnded {
	return turns.ConnectionEnded{Client: turns.Client{Copy: "x", Connection: turns.Connection{Replica: "b", Number: n}}, Closed: true, Poll: true}
}

func TestWhatAStandbySawReachesThePrimaryInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRing(t, "a", "b", "c")
		b := g.nodes["b"]
		g.acts("a", says("a"))
		for n := range uint64(250) {
			b.Saw(ended(n))
		}
		b.Saw(turns.Called{Client: turns.Client{Copy: "x"}, Kind: turns.KindStartUp})
		asked := g.nodes["a"].cfg.Now() // all clocks are the same here
		b.Saw(turns.AddressGone{Address: "10.0.0.9", Replica: "b", Asked: asked})
		synctest.Wait()
		saw := g.sawAt("a")
		if len(saw) != 252 {
			t.Fatalf("%d have arrived", len(saw))
		}
		for n := range uint64(250) {
			if saw[n] != turns.Input(ended(n)) {
				t.Fatalf("%d is %+v", n, saw[n])
			}
		}
		if saw[250] != turns.Input(turns.Called{Client: turns.Client{Copy: "x"}, Kind: turns.KindStartUp}) ||
			saw[251] != turns.Input(turns.AddressGone{Address: "10.0.0.9", Replica: "b", Asked: asked}) {
			t.Errorf("%+v", saw[250:])
		}
		g.nodes["a"].Saw(ended(1000))
		if saw := g.sawAt("a"); saw[252] != turns.Input(ended(1000)) {
			t.Errorf("what the primary saw itself: %+v", saw[252:])
		}
	})
}

func TestReportsWaitForAPrimaryAndAge(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRing(t, "a", "b", "c")
		g.elect("a")
		g.kill("a")
		b := g.nodes["b"]
		b.Saw(turns.Called{Client: turns.Client{Copy: "x"}})
		b.Saw(ended(1))
		time.Sleep(59 * time.Second)
		b.Saw(ended(2))
		time.Sleep(2 * time.Second)
		b.Saw(turns.AddressGone{Address: "10.0.0.9", Asked: b.cfg.Now()})
		g.elect("c")
		time.Sleep(time.Second)
		g.nodes["c"].Acts(says("c"))
		time.Sleep(time.Second)
		saw := g.sawAt("c")
		if len(saw) != 2 {
			t.Fatalf("%+v", saw)
		}
		e, _ := saw[0].(turns.ConnectionEnded)
		gone, _ := saw[1].(turns.AddressGone)
		if e.Client.Connection.Number != 2 || (e.Ago-3*time.Second).Abs() > reportAgain || gone.Asked != turns.Instant(time.Hour+61*time.Second) {
			t.Errorf("%+v", saw)
		}
		for n := range uint64(3 * maxReports) {
			b.Saw(ended(n))
		}
		b.reports.mu.Lock()
		defer b.reports.mu.Unlock()
		if n := len(b.waiting); n > maxReports {
			t.Errorf("%d reports wait", n)
		}
	})
}

// It takes the connections of copies along, of whose ends there will be no report.
func TestAReplicaThatIsLostIsReportedAndItsPollsEnd(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRing(t, "a", "b", "c")
		hold, _, _ := holds()
		var answers atomic.Bool
		g.acts("a", func(w http.ResponseWriter, r *http.Request) error {
			if answers.Load() {
				return says("a")(w, r)
			}
			return hold(w, r)
		})
		held, other := g.nodes["b"].asks(t.Context(), poll, ""), g.nodes["c"].asks(t.Context(), poll, "")
		time.Sleep(time.Second)
		g.set(func() { g.nodes["b"].away = true })
		time.Sleep(lostAfter - lostEvery)
		g.set(func() { g.nodes["b"].away = false }) // it was away for a moment
		time.Sleep(lostAfter)
		if saw := g.sawAt("a"); len(saw) > 0 {
			t.Errorf("%+v", saw)
		}
		answers.Store(true)
		g.set(func() { g.nodes["b"].away = true })
		time.Sleep(lostAfter + 2*lostEvery)
		if saw := g.sawAt("a"); !slices.Equal(saw, []turns.Input{turns.ReplicaLost{Replica: "b"}}) {
			t.Errorf("%+v", saw)
		}
		// It lives all the same, and asks again.
		if w := <-held; !strings.HasPrefix(w.Body.String(), "a b ") {
			t.Errorf("%d %q", w.Code, w.Body)
		}
		g.nodes["a"].Gone("nobody")
		g.nodes["a"].Gone("b")
		if saw := g.sawAt("a"); !slices.Equal(saw, []turns.Input{turns.ReplicaLost{Replica: "b"}, turns.ReplicaLost{Replica: "b"}}) {
			t.Errorf("its process is known to have ended: %+v", saw)
		}
		select {
		case w := <-other:
			t.Errorf("a poll through another replica ends: %d %q", w.Code, w.Body)
		default:
		}
	})
}

func FuzzReports(f *testing.F) {
	e := ended(1)
	raw, _ := json.Marshal([]report{{Ago: 1, Ended: &e}, {Called: &turns.Called{}}, {Gone: "10.0.0.9"}})
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		all, err := decodeReports(raw)
		if err != nil {
			if !errors.Is(err, ErrReport) {
				t.Errorf("another error: %v", err)
			}
			return
		}
		m := turns.New(turns.Config{Patience: time.Minute}, 1, turns.Instant(time.Hour), turns.State{})
		p := NewPasser(PassConfig{Report: func(in turns.Input) { m.Step(turns.Instant(2*time.Hour), in) }})
		p.Acts(says("a"))
		if err := p.Receive(raw); err != nil && len(all) > 0 {
			t.Errorf("%v", err)
		}
	})
}

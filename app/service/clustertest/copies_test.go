package clustertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/gateway"
	"habot/app/mirror"
	"habot/app/peer"
	"habot/app/turns"
)

// Copies of a bot that polls, behind whole replicas with gateways.

// fleet is a process's side towards copies, and towards the other gateways.
type fleet struct {
	p       *process
	mirror  *mirror.Mirror
	passer  *gateway.Passer
	arrived chan net.Conn

	mu     sync.Mutex
	conns  []net.Conn
	closed chan struct{}
}

// serves reports whether copies are served here; a witness serves none.
func (f *fleet) serves() bool { return f != nil && f.passer != nil }

func (p *process) newFleet() *fleet {
	f := &fleet{p: p, arrived: make(chan net.Conn), closed: make(chan struct{})}
	f.mirror = mirror.New(mirror.Config{
		Self: string(p.id), Transport: f, Cluster: f.cluster, Now: func() turns.Instant { return turns.Instant(p.host.local()) },
		Logger: slog.New(slog.NewTextHandler(p, &slog.HandlerOptions{Level: p.w.level, ReplaceAttr: bare})),
	})
	return f
}

// config is the gateway's.
func (f *fleet) config() *gateway.Config {
	return &gateway.Config{
		Replica: string(f.p.id), Token: token, Turns: turns.Config{Patience: 90 * time.Second, Replay: 30 * time.Second},
		Replicas: f,
		Dial:     func(context.Context, string, string) (net.Conn, error) { return nil, errRefused },
		Pass: gateway.PassConfig{
			Primary: func() (string, string, <-chan struct{}) {
				id, addr, changed := f.p.node.Followed()
				return string(id), addr, changed
			},
			Reachable: func() []string { return f.cluster().Reachable },
			Forward:   f.forward,
			Message: func(ctx context.Context, addr string, body []byte) error {
				_, err := exchange(ctx, link{f.p}, addr, "reports", func(_ context.Context, to *process) (struct{}, error) {
					if !to.fleet.serves() {
						return struct{}{}, errRefused
					}
					return struct{}{}, to.fleet.passer.Receive(body)
				})
				return err
			},
		},
	}
}

func (f *fleet) cluster() mirror.Cluster {
	v := f.p.node.View()
	c := mirror.Cluster{Expected: v.Expected, Quorum: v.Quorum}
	for _, o := range v.Peers {
		if o.Reachable {
			c.Reachable = append(c.Reachable, string(o.Status.Replica))
		}
	}
	return c
}

func (f *fleet) Addresses() []string { return link{f.p}.Addresses() }

func (f *fleet) Message(ctx context.Context, addr string, body []byte) ([]byte, error) {
	return exchange(ctx, link{f.p}, addr, "turns", func(_ context.Context, to *process) ([]byte, error) { return to.fleet.mirror.Receive(body) })
}

func (f *fleet) Begin(ctx context.Context, term int64, replicated func(seq uint64)) turns.State {
	return f.mirror.Begin(ctx, term, replicated)
}

func (f *fleet) Replicate(d turns.Delta) { f.mirror.Replicate(d) }

func (f *fleet) End() { f.mirror.End() }

// forward passes a request on, over a connection that breaks with the other process.
func (f *fleet) forward(ctx context.Context, addr string, r *http.Request, origin string) (*http.Response, error) {
	p, w := f.p, f.p.w
	if p.door() != nil {
		return nil, peer.ErrNotSent
	}
	from, to := p.host.name, w.at(w.byName(addr))
	trip := w.trips(from + " to " + addr + " pass")[0] // TCP loses nothing
	if w.isCut(from, addr) || w.isCut(addr, from) {
		wait(ctx, time.Second) // to connect
		return nil, peer.ErrNotSent
	}
	if to == nil || !to.fleet.serves() {
		return nil, peer.ErrNotSent
	}
	type result struct {
		resp *http.Response
		err  error
	}
	answers := make(chan result, 1)
	serving, hangUp := context.WithCancel(to.life)
	defer hangUp()
	w.wires.Go(func() {
		defer func() {
			if recover() != nil { // the connection was broken on purpose
				answers <- result{nil, peer.ErrMayBeSent}
			}
		}()
		if !w.travel(from, addr, trip.there, false) || to.door() != nil {
			return
		}
		rec := httptest.NewRecorder()
		if err := to.fleet.passer.Forwarded(rec, r.Clone(serving), origin); err != nil {
			answers <- result{nil, fmt.Errorf("%w: %w", peer.ErrNotTaken, err)}
			return
		}
		if to.door() == nil && w.travel(addr, from, trip.back, false) {
			answers <- result{rec.Result(), nil}
		}
	})
	select {
	case a := <-answers:
		if p.door() != nil {
			return nil, peer.ErrMayBeSent
		}
		return a.resp, a.err
	case <-to.life.Done():
	case <-ctx.Done():
	}
	return nil, peer.ErrMayBeSent
}

// Accept implements net.Listener.
func (f *fleet) Accept() (net.Conn, error) {
	select {
	case c := <-f.arrived:
		return c, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (f *fleet) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.closed:
	default:
		close(f.closed)
	}
	return nil
}

func (*fleet) Addr() net.Addr { return &net.TCPAddr{} }

// ends closes all connections, as the kernel does when a process ends.
func (f *fleet) ends() {
	_ = f.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_ = c.Close()
	}
}

// keep keeps a connection's end; false if the process has ended.
func (f *fleet) keep(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.closed:
		return false
	default:
	}
	f.conns = append(f.conns, c)
	return true
}

// gated is a process's end of a connection: nothing passes while it is frozen.
type gated struct {
	net.Conn
	p      *process
	remote net.Addr
}

func (g gated) RemoteAddr() net.Addr { return g.remote }

func (g gated) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	if g.p.door() != nil {
		return 0, net.ErrClosed
	}
	return n, err
}

func (g gated) Write(b []byte) (int, error) {
	if g.p.door() != nil {
		return 0, net.ErrClosed
	}
	return g.Conn.Write(b)
}

// run runs what a replica's gateway consists of, until ctx ends.
func (f *fleet) run(ctx context.Context, parts *sync.WaitGroup) {
	g := f.p.bot.Gateway()
	g.ListenOn(f)
	for _, part := range []func(context.Context) error{g.Serve, g.Run, f.passer.Run} {
		parts.Go(func() {
			if err := part(ctx); err != nil && !f.p.isDead() {
				f.p.w.breaks("%s: a part of the gateway failed: %v", f.p.host.name, err)
			}
		})
	}
}

// copyBot is one copy of a bot: it confirms what it has answered. Its address is its own.
type copyBot struct {
	w     *world
	index int
	name  string

	mu    sync.Mutex
	life  context.Context
	kill  context.CancelFunc
	since time.Time
	conns []net.Conn
	at    string // the host that it connected to last
	ended chan struct{}
}

func newCopyBot(w *world, i int) *copyBot {
	return &copyBot{w: w, index: i, name: fmt.Sprintf("10.0.1.%d", i+1)}
}

// start starts its process, if none runs.
func (c *copyBot) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life != nil && c.life.Err() == nil {
		return
	}
	if c.ended != nil {
		<-c.ended
	}
	c.life, c.kill = context.WithCancel(c.w.over)
	c.since, c.ended, c.conns = time.Now(), make(chan struct{}), nil
	c.w.count("copy starts")
	c.w.tell("copy %s starts", c.name)
	life, ended := c.life, c.ended
	go func() {
		defer close(ended)
		c.run(life)
	}()
}

// die ends its process at once.
func (c *copyBot) die() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life == nil || c.life.Err() != nil {
		return
	}
	c.w.count("copy crashes")
	c.w.tell("copy %s crashes", c.name)
	c.since = time.Now()
	c.kill()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

// lives is since when its process runs; false if none does.
func (c *copyBot) lives() (since time.Time, alive bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since, c.life != nil && c.life.Err() == nil
}

// dial connects to the replica on a host.
func (c *copyBot) dial(_ context.Context, _, addr string) (net.Conn, error) {
	name, _, _ := strings.Cut(addr, ":")
	p := c.w.at(c.w.byName(name))
	if p == nil || !p.fleet.serves() {
		return nil, errRefused
	}
	here, there := net.Pipe()
	c.mu.Lock()
	if c.life.Err() != nil || !p.fleet.keep(there) {
		c.mu.Unlock()
		return nil, errRefused
	}
	c.conns, c.at = append(c.conns, here), name
	port := len(c.conns)
	c.mu.Unlock()
	select {
	case p.fleet.arrived <- gated{there, p, &net.TCPAddr{IP: net.ParseIP(c.name), Port: port}}:
		return here, nil
	case <-p.fleet.closed:
		return nil, errRefused
	case <-c.life.Done():
		return nil, errGone
	}
}

type botUpdate struct {
	ID      int `json:"update_id"`
	Message struct {
		Chat struct{ ID int64 }
		Text string
	}
}

func (c *copyBot) run(life context.Context) {
	transport := &http.Transport{DialContext: c.dial}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	at, offset := c.index%len(c.w.hosts), 0
	// call asks a replica, another one after each failure.
	call := func(method string, params any, result any) (code int, err error) {
		body, err := json.Marshal(params)
		if err != nil {
			return 0, err
		}
		req, err := http.NewRequestWithContext(life, http.MethodPost, "http://"+c.w.hosts[at].name+":8082/bot"+token+"/"+method, strings.NewReader(string(body)))
		if err != nil {
			return 0, err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			at = (at + 1) % len(c.w.hosts)
			return 0, err
		}
		defer func() { _, _ = io.Copy(io.Discard, resp.Body); _ = resp.Body.Close() }()
		var answer struct {
			OK          bool
			Description string
			Result      json.RawMessage
		}
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			if life.Err() == nil && resp.StatusCode != http.StatusOK {
				c.w.breaks("COPY: %s is answered with %d and no JSON: %v", c.name, resp.StatusCode, err)
			}
			return resp.StatusCode, err
		}
		if !answer.OK {
			return resp.StatusCode, errors.New(answer.Description)
		}
		return resp.StatusCode, json.Unmarshal(answer.Result, result)
	}
	fails := func(what string, code int, err error) {
		c.w.count(fmt.Sprintf("copy: %s fails with %d", what, code))
		c.w.tell("copy %s: %s: %d %.200v", c.name, what, code, err)
		if c.w.opt.orderly && code != 0 && life.Err() == nil {
			c.w.breaks("ORDERLY: %s's %s is answered with %d: %v", c.name, what, code, err)
		}
		wait(life, 500*time.Millisecond)
	}
	var me, done json.RawMessage
	for life.Err() == nil {
		if code, err := call("getMe", nil, &me); err == nil {
			break
		} else if life.Err() == nil {
			c.w.tell("copy %s: getMe: %d %v", c.name, code, err)
			wait(life, 500*time.Millisecond)
		}
	}
	for life.Err() == nil {
		var updates []botUpdate
		if code, err := call("getUpdates", map[string]any{"offset": offset, "timeout": 10}, &updates); err != nil {
			fails("getUpdates", code, err)
			continue
		}
		for _, u := range updates {
			answered := false
			for life.Err() == nil && !answered {
				code, err := call("sendMessage", map[string]any{"chat_id": u.Message.Chat.ID, "text": c.name + ": " + u.Message.Text}, &done)
				if answered = err == nil; !answered {
					fails("sendMessage", code, err)
				}
				if code == http.StatusConflict {
					break
				}
			}
			if !answered {
				break // it stands by now: another copy has it
			}
			offset = u.ID + 1
		}
	}
}

// changed is the line of the log about a change of the active copy.
var changed = regexp.MustCompile(`msg="the active copy has changed" from=(\S+) to=(\S+) reason=(\S+)`)

// turn judges a change of the active copy, by a line of the log: one that runs stays.
func (w *world) turn(line []byte) {
	m := changed.FindSubmatch(line)
	if m == nil {
		return
	}
	from, to, why := string(m[1]), string(m[2]), string(m[3])
	w.count("turn: " + why)
	w.mu.Lock()
	w.active = to
	w.mu.Unlock()
	if why == string(turns.ReasonFirst) || why == string(turns.ReasonOperator) || why == string(turns.ReasonRestarted) {
		return
	}
	for _, c := range w.copies {
		since, alive := c.lives()
		if c.name == from && alive && time.Since(since) > 10*time.Second {
			w.breaks("STABLE: copy %s is replaced (%s), and it has run since %v", c.name, why, since.Sub(w.start))
		}
	}
}

// copySchedule runs one schedule with copies: a time of trouble, then peace.
func copySchedule(seed uint64, level slog.Level) *world {
	rng := rand.New(rand.NewPCG(seed, 1))
	opt := options{
		replicas: 3, lease: []time.Duration{550 * time.Millisecond, time.Second}[rng.IntN(2)], drift: rng.IntN(2) == 0, restarts: true,
		rate: []float64{0.5, 3, 10}[rng.IntN(3)], lifelines: rng.IntN(2) == 0, copies: 1 + rng.IntN(3),
		noise:   noise{delay: []time.Duration{time.Millisecond, 10 * time.Millisecond}[rng.IntN(2)], latency: 20 * time.Millisecond},
		orderly: rng.IntN(4) == 0,
	}
	if seed%3 == 0 {
		opt.witness = 1 + int(seed/3%3)
	}
	w := newWorld(seed, opt, rng, level)
	w.tell("%+v", w.opt)
	for i := range opt.copies {
		w.copies = append(w.copies, newCopyBot(w, i))
	}
	for _, h := range w.hosts {
		w.begin(h)
	}
	for _, c := range w.copies {
		w.aside.Go(func() {
			if w.pause(time.Duration(w.draw("start " + c.name).Int64N(int64(3 * time.Second)))) {
				c.start()
			}
		})
	}
	writing, stopWriting := context.WithCancel(context.Background())
	w.aside.Go(func() {
		r := w.draw("users")
		for n := 1; wait(writing, time.Duration(r.ExpFloat64()/w.opt.rate*float64(time.Second))); n++ {
			w.writes(1001+int64(r.IntN(chats)), fmt.Sprintf("message %d", n))
		}
	})
	time.Sleep(8 * time.Second)
	for w.verdict() == nil && time.Since(w.start) < 60*time.Second {
		w.copyMisfortune()
		time.Sleep(time.Duration(rng.Int64N(int64(5 * time.Second))))
	}
	w.peace()
	for _, c := range w.copies {
		c.start()
	}
	stopWriting()
	w.endWithCopies()
	return w
}

// copyMisfortune does one random thing to replicas or copies.
func (w *world) copyMisfortune() {
	h := w.anyHost()
	p := w.at(h)
	c := w.copies[w.rng.IntN(len(w.copies))]
	lasting := time.Duration(w.rng.Int64N(int64(6 * time.Second)))
	what := w.rng.IntN(10)
	if w.opt.orderly {
		what = 8 + what%2
	}
	again := func() {
		w.aside.Go(func() {
			if w.pause(lasting) {
				c.start()
			}
		})
	}
	switch what {
	case 0, 1:
		if p != nil {
			p.die("crash", "kill -9")
			w.restart(p, lasting/2)
		}
	case 2, 3:
		c.die()
		again()
	case 4, 5: // a machine
		w.count("replica and copy crash")
		if p != nil {
			p.die("crash", "kill -9")
			w.restart(p, lasting/2)
		}
		c.die()
		again()
	case 6:
		if p != nil {
			p.freeze(lasting / 2)
		}
	case 7:
		w.isolate("partition", lasting, func(from, to string) bool { return (from == h.name) != (to == h.name) })
	case 8:
		if p != nil && w.complete() {
			w.count("stop")
			p.stop()
			w.restart(p, lasting)
		}
	case 9:
		w.switchover(h, p)
	}
}

// settleCopies judges a schedule with copies, when all is answered. Twice may be what was in hand of a copy that ended, or
// whose answer's fate it did not learn.
func (w *world) settleCopies() {
	r := w.sim.Report()
	if r.Lost != 0 || r.Unanswered != 0 || r.Dropped != 0 {
		w.breaks("the simulator's account: %d lost, %d unanswered, %d dropped", r.Lost, r.Unanswered, r.Dropped)
	}
	if w.opt.orderly && (r.AnsweredTwice != 0 || r.OutOfOrder != 0) {
		w.breaks("ORDERLY: %d answered twice, %d out of order", r.AnsweredTwice, r.OutOfOrder)
	}
	w.tellMu.Lock()
	defer w.tellMu.Unlock()
	w.counts["copies: updates answered"] += int(r.Answered)
	w.counts["copies: updates answered twice"] += int(r.AnsweredTwice)
}

// TestCopiesBehindWholeReplicas runs schedules with copies of a bot that polls.
func TestCopiesBehindWholeReplicas(t *testing.T) {
	explore(t, copySchedule, []string{
		"start", "start of a witness", "crash", "death witnessed", "freeze", "stop", "exit", "switchover", "partition", "term after crash", "term after shutdown", "term after switchover",
		"copy starts", "copy crashes", "replica and copy crash", "turn: first", "turn: ended", "turn: restarted", "copy: sendMessage fails with 0",
		"copy: sendMessage fails with 502", "copies: updates answered", "copies: updates answered twice",
	})
}

// TestTwoCopiesBehindThreeReplicas ends the process of the active copy, that of the primary, and both at once: the other copy takes
// over, or the same one goes on, in time, and nothing is lost.
func TestTwoCopiesBehindThreeReplicas(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		copy, primary bool
		within        time.Duration
	}{
		{"copy", true, false, 1300 * time.Millisecond}, // it is dead after a second of silence
		{"primary", false, true, 1200 * time.Millisecond},
		{"both", true, true, 2300 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var longest time.Duration
			for seed := range uint64(6) {
				synctest.Test(t, func(t *testing.T) {
					w := twoCopies(seed)
					primary, before := w.acting(), w.activeCopy()
					if primary == nil || before == nil {
						t.Fatalf("seed %d: primary %v, copy %v", seed, primary, before)
					}
					within := c.within
					before.mu.Lock()
					if c.copy && c.primary && before.at == primary.host.name {
						within = 92 * time.Second // its replica ends with it, so that no one sees its connections end: it is silent
					}
					before.mu.Unlock()
					from := time.Now()
					if c.primary {
						primary.die("crash", "kill -9")
					}
					if c.copy {
						before.die()
					}
					by := before.name
					for _, o := range w.copies {
						if c.copy && o != before {
							by = o.name
						}
					}
					took := w.answersAfter(from, by)
					if within == c.within {
						longest = max(longest, took)
					}
					if took > within {
						t.Errorf("seed %d: the next answer comes after %v\n%s", seed, took, strings.Join(w.story[max(0, len(w.story)-storyLines):], "\n"))
					}
					if after := w.activeCopy(); (after == before) == c.copy {
						t.Errorf("seed %d: copy %v is active", seed, after)
					}
					time.Sleep(written + time.Second - time.Since(w.start))
					w.endWithCopies()
					if err := w.verdict(); err != nil {
						t.Errorf("seed %d: %v\n%s", seed, err, strings.Join(w.story[max(0, len(w.story)-storyLines):], "\n"))
					}
				})
			}
			t.Logf("the longest time until the next answer: %v", longest)
		})
	}
}

// written is how long users write to two copies.
const written = 20 * time.Second

// twoCopies is a world of three replicas and two copies that answer.
func twoCopies(seed uint64) *world {
	rng := rand.New(rand.NewPCG(seed, 2))
	w := newWorld(seed, options{
		replicas: 3, lease: 550 * time.Millisecond, copies: 2, lifelines: seed%2 == 0, restarts: true, rate: 50,
		noise: noise{delay: time.Millisecond, latency: 5 * time.Millisecond},
	}, rng, slog.LevelInfo)
	for i := range 2 {
		w.copies = append(w.copies, newCopyBot(w, i+int(seed/2)%3))
	}
	for _, h := range w.hosts {
		w.begin(h)
	}
	for _, c := range w.copies {
		c.start()
	}
	w.aside.Go(func() {
		r := w.draw("users")
		for n := 1; w.pause(time.Duration(r.ExpFloat64()/w.opt.rate*float64(time.Second))) && time.Since(w.start) < written; n++ {
			w.writes(1001+int64(r.IntN(chats)), fmt.Sprintf("message %d", n))
		}
	})
	time.Sleep(10*time.Second + time.Duration(rng.Int64N(int64(time.Second))))
	return w
}

// acting is the primary.
func (w *world) acting() *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hosts {
		if h.process != nil && h.process.term != nil {
			return h.process
		}
	}
	return nil
}

func (w *world) activeCopy() *copyBot {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.copies {
		if c.name == w.active {
			return c
		}
	}
	return nil
}

// answersAfter is how long after an instant the next answer of a copy to a user has left and was taken in.
func (w *world) answersAfter(from time.Time, by string) time.Duration {
	for time.Since(from) < 2*time.Minute {
		w.mu.Lock()
		for _, r := range w.judge.sent {
			if r.method == "sendmessage" && r.by == by && r.left.After(from) && !r.arrived.IsZero() {
				defer w.mu.Unlock()
				return r.arrived.Sub(from)
			}
		}
		w.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	return time.Since(from)
}

// endWithCopies waits until all is answered, stops everything and judges.
func (w *world) endWithCopies() {
	w.answered()
	for _, c := range w.copies {
		c.mu.Lock()
		if c.kill != nil {
			c.kill()
		}
		for _, conn := range c.conns {
			_ = conn.Close()
		}
		ended := c.ended
		c.mu.Unlock()
		if ended != nil {
			<-ended
		}
	}
	w.finish()
}

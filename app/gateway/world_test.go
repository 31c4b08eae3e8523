package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/election"
	"habot/app/intake"
	"habot/app/reach"
	"habot/app/telegram"
	"habot/app/term"
	"habot/app/turns"
)

const (
	realToken = "123456789:AAF-a_secret_that_nobody_may_ever_see"
	copyToken = "123456789:token_that_only_habot_knows_1234567"
)

// passed is a call that reached the fake Telegram.
type passed struct {
	path, query, kind string
	body              string
	size              int64
	at                time.Time
}

// fakeTelegram is a small Bot API server in memory, with a queue as the real one has.
type fakeTelegram struct {
	t      *testing.T
	script func(req *http.Request) (*http.Response, error) // answers in its place, unless it returns nil

	mu        sync.Mutex
	queue     []string // raw updates
	ids       []int64
	next      int64
	confirmed []int64
	arrived   chan struct{}
	calls     []passed
	allowed   string // as asked for last; "-" if it never was
	largest   int64  // body that went by
	// refusal answers everything in its place, polls too; nil if it answers itself.
	refusal func() (*http.Response, error)
}

func newFakeTelegram(t *testing.T) *fakeTelegram {
	return &fakeTelegram{t: t, next: 1000, arrived: make(chan struct{}), allowed: "-"}
}

// answerWith has a script answer, unless it returns nil.
func (tg *fakeTelegram) answerWith(script func(req *http.Request) (*http.Response, error)) {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	tg.script = script
}

// refuseAll has everything refused; nil: no more.
func (tg *fakeTelegram) refuseAll(with func() (*http.Response, error)) {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	tg.refusal = with
}

// say has a message arrive in a chat.
func (tg *fakeTelegram) say(chat int64, text string) int64 {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	id := tg.next
	tg.put(fmt.Sprintf(`{"update_id":%d,"message":{"message_id":%d,"date":%d,"chat":{"id":%d,"type":"private"},"text":%q}}`,
		id, id, time.Now().Unix(), chat, text))
	return id
}

// bring has an update arrive as it is; its update_id has to be the next one.
func (tg *fakeTelegram) bring(raw string) {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	tg.put(raw)
}

// put has an update arrive. tg.mu MUST be held.
func (tg *fakeTelegram) put(raw string) {
	tg.queue = append(tg.queue, raw)
	tg.ids = append(tg.ids, tg.next)
	tg.next++
	close(tg.arrived)
	tg.arrived = make(chan struct{})
}

func jsonAnswer(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)),
	}
}

// RoundTrip implements http.RoundTripper.
func (tg *fakeTelegram) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if !strings.Contains(req.URL.Path, "bot"+realToken+"/") {
		tg.t.Errorf("a request without the real token: %s", req.URL.Path)
	}
	path := strings.Replace(req.URL.Path, realToken, "T", 1)
	tg.mu.Lock()
	refusal := tg.refusal
	tg.mu.Unlock()
	if refusal != nil {
		return refusal()
	}
	if path == "/botT/getUpdates" {
		return tg.getUpdates(req)
	}
	tg.mu.Lock()
	script := tg.script
	tg.mu.Unlock()
	if script != nil {
		if resp, err := script(req); resp != nil || err != nil {
			return resp, err
		}
	}
	one := passed{path: path, query: req.URL.RawQuery, kind: req.Header.Get("Content-Type"), size: req.ContentLength, at: time.Now()}
	if req.Body != nil {
		var head bytes.Buffer
		n, err := io.Copy(&headOf{&head}, req.Body)
		if err != nil {
			return nil, err
		}
		one.body = head.String()
		tg.mu.Lock()
		tg.largest = max(tg.largest, n)
		tg.mu.Unlock()
	}
	tg.mu.Lock()
	defer tg.mu.Unlock()
	if path == "/botT/getMe" {
		return jsonAnswer(200, `{"ok":true,"result":{"id":123456789,"is_bot":true,"first_name":"Test","username":"test_bot"}}`), nil
	}
	tg.calls = append(tg.calls, one)
	return jsonAnswer(200, `{"ok":true,"result":{"message_id":7,"date":1,"chat":{"id":1,"type":"private"}}}`), nil
}

// headOf keeps the beginning of what is written.
type headOf struct{ b *bytes.Buffer }

func (h *headOf) Write(p []byte) (int, error) {
	h.b.Write(p[:min(len(p), max(0, 4096-h.b.Len()))])
	return len(p), nil
}

func (tg *fakeTelegram) getUpdates(req *http.Request) (*http.Response, error) {
	var p struct {
		Offset, Limit, Timeout int64
		Allowed                *json.RawMessage `json:"allowed_updates"`
	}
	if err := json.NewDecoder(req.Body).Decode(&p); err != nil {
		tg.t.Errorf("a poll that is no JSON: %v", err)
	}
	tg.mu.Lock()
	if p.Allowed != nil {
		tg.allowed = string(*p.Allowed)
	}
	for len(tg.ids) > 0 && tg.ids[0] < p.Offset {
		tg.confirmed = append(tg.confirmed, tg.ids[0])
		tg.ids, tg.queue = tg.ids[1:], tg.queue[1:]
	}
	tg.mu.Unlock()
	over := time.After(time.Duration(p.Timeout) * time.Second)
	for {
		tg.mu.Lock()
		list, arrived := slices.Clone(tg.queue[:min(len(tg.queue), int(p.Limit))]), tg.arrived
		tg.mu.Unlock()
		if len(list) > 0 {
			return jsonAnswer(200, `{"ok":true,"result":[`+strings.Join(list, ",")+`]}`), nil
		}
		select {
		case <-arrived:
		case <-over:
			return jsonAnswer(200, `{"ok":true,"result":[]}`), nil
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
}

// asked are the kinds of updates that were asked for last.
func (tg *fakeTelegram) asked() string {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	return tg.allowed
}

// got are the calls so far, all methods or one.
func (tg *fakeTelegram) got(method ...string) []passed {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	var list []passed
	for _, c := range tg.calls {
		if len(method) == 0 || strings.HasSuffix(strings.ToLower(c.path), "/"+strings.ToLower(method[0])) {
			list = append(list, c)
		}
	}
	return list
}

func (tg *fakeTelegram) expectConfirmed(want ...int64) {
	tg.t.Helper()
	tg.mu.Lock()
	defer tg.mu.Unlock()
	if !slices.Equal(tg.confirmed, want) {
		tg.t.Errorf("confirmed are %v, want %v", tg.confirmed, want)
	}
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// pipes is a listener in memory.
type pipes struct {
	conns chan net.Conn
	gone  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), gone: make(chan struct{})} }

// Accept implements net.Listener.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.gone:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pipes) Close() error {
	p.once.Do(func() { close(p.gone) })
	return nil
}

// Addr implements net.Listener.
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// from is a connection whose other side has an address.
type from struct {
	net.Conn
	address net.Addr
}

// RemoteAddr implements net.Conn.
func (f from) RemoteAddr() net.Addr { return f.address }

var errGone = errors.New("connection refused")

// dial makes a connection from an address.
func (p *pipes) dial(ctx context.Context, address string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- from{server, &net.TCPAddr{IP: net.ParseIP(address), Port: 40000}}:
		return client, nil
	case <-p.gone:
		return nil, errGone
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// world is one replica with its gateway, and Telegram.
type world struct {
	t       *testing.T
	tg      *fakeTelegram
	logs    *logBuffer
	reg     *prometheus.Registry
	pipes   *pipes
	gateway *Gateway
	intake  *intake.Intake
	term    *running
	terms   int64
	leave   func() // ends the process in good order
	left    func() // waits until it has
}

// newWorld returns a replica that is not primary yet.
func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, tg: newFakeTelegram(t), logs: &logBuffer{}, pipes: newPipes(), reg: prometheus.NewRegistry()}
	log := slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	client := telegram.New(telegram.Config{
		Token: realToken, APIURL: "https://api.telegram.org", Version: "1", Name: "habot-bot-1", Transport: w.tg, Registerer: w.reg,
		IsAdmin: func(int64) bool { return false },
	})
	cfg := Config{
		Replica: "process-1", BotToken: realToken, Token: copyToken, Turns: turns.Config{Patience: 90 * time.Second, Replay: 30 * time.Second},
		Telegram: client, Logger: log, Registerer: w.reg,
	}
	for _, f := range change {
		f(&cfg)
	}
	w.gateway = New(cfg)
	w.gateway.ListenOn(w.pipes)
	w.intake = intake.New(intake.Config{
		Caller: client, Reach: reach.New(reach.Config{Caller: client, Logger: log, Registerer: w.reg, OnHealth: func(election.Health) {}}),
		Consumer: w.gateway.Consumer, Logger: log, Registerer: w.reg,
	})
	ctx, cancel := context.WithCancel(t.Context())
	w.leave = cancel
	var all sync.WaitGroup
	w.left = all.Wait
	for _, run := range []func(context.Context) error{w.gateway.Serve, w.gateway.Run} {
		all.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		if w.term != nil {
			w.term.end()
		}
		cancel()
		all.Wait()
		_ = w.pipes.Close()
		w.expectNoToken(w.logs.String())
		families, err := w.reg.Gather()
		if err != nil {
			t.Error(err)
		}
		w.expectNoToken(fmt.Sprint(families))
	})
	return w
}

func (w *world) expectNoToken(text string) {
	w.t.Helper()
	for _, token := range []string{realToken, copyToken} {
		_, secret, _ := strings.Cut(token, ":")
		if strings.Contains(text, secret) {
			w.t.Errorf("a token is in %.300q", text)
		}
	}
}

// running is a term.
type running struct {
	cancel context.CancelFunc
	drain  chan struct{}
	ended  chan struct{}
	held   atomic.Bool
	once   sync.Once
}

// end ends the term as a switchover does.
func (r *running) end() {
	r.once.Do(func() { close(r.drain) })
	<-r.ended
	r.cancel()
}

// start makes the replica primary.
func (w *world) start() *running {
	w.terms++
	r := &running{drain: make(chan struct{}), ended: make(chan struct{})}
	r.held.Store(true)
	ctx, cancel := context.WithCancel(w.t.Context())
	r.cancel = cancel
	t := term.Term{
		Change: election.Change{Claim: election.Claim{Timestamp: w.terms}, Name: "habot-bot-1"}, Held: r.held.Load, Drain: r.drain,
		Report: func([]int64) {}, Note: func([]json.RawMessage) {}, Noted: func() bool { return true }, Gather: func(context.Context) {},
		Late: func(ctx context.Context) ([]json.RawMessage, func(), bool) {
			<-ctx.Done()
			return nil, nil, false
		},
		Expect: func(string, time.Duration) {},
	}
	go func() {
		defer close(r.ended)
		w.intake.Run(ctx, t)
	}()
	w.term = r
	return r
}

// bot is a copy that polls, as a framework does.
type bot struct {
	w       *world
	address string
	name    string
	http    *http.Client
	conns   []net.Conn
	mu      sync.Mutex
	got     []int64
	errors  []string
	offset  int64
	stop    context.CancelFunc
	ended   chan struct{}
	// Its ways.
	timeout int
	// answers has it answer each update with a message to its chat; before: it confirms before it handles.
	answers, before bool
	takes           time.Duration
}

func (w *world) bot(address string) *bot {
	b := &bot{w: w, address: address, timeout: 30, answers: true, before: true, takes: time.Millisecond}
	b.http = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := w.pipes.dial(ctx, address)
		if err == nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.conns = append(b.conns, conn)
		}
		return conn, err
	}}}
	w.t.Cleanup(b.kill)
	return b
}

// answer is what a call is answered with.
type answer struct {
	status int
	body   string
	header http.Header
	closes bool // the connection
}

// do makes one request, and checks the form of the answer.
func (b *bot) do(ctx context.Context, verb, path string, header map[string]string, body io.Reader) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, verb, "http://bot:8082"+path, body)
	if err != nil {
		return answer{}, err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := b.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	b.w.expectNoTokenIn(string(raw))
	return answer{resp.StatusCode, string(raw), resp.Header, resp.Close}, nil
}

// expectNoTokenIn looks for the real token in an answer. The copies' own may be in paths of files.
func (w *world) expectNoTokenIn(text string) {
	w.t.Helper()
	if _, secret, _ := strings.Cut(realToken, ":"); strings.Contains(text, secret) {
		w.t.Errorf("the real token is in an answer: %.300q", text)
	}
}

func (b *bot) path(method string) string {
	if b.name != "" {
		return "/copy/" + b.name + "/bot" + copyToken + "/" + method
	}
	return "/bot" + copyToken + "/" + method
}

// call calls a method with a form.
func (b *bot) call(method string, params ...string) answer {
	b.w.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		form.Set(params[i], params[i+1])
	}
	a, err := b.do(b.w.t.Context(), http.MethodPost, b.path(method), map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, strings.NewReader(form.Encode()))
	if err != nil {
		b.w.t.Errorf("%s: %v", method, err)
	}
	return a
}

// run has the copy poll until it is killed.
func (b *bot) run() *bot {
	ctx, cancel := context.WithCancel(b.w.t.Context())
	b.stop, b.ended = cancel, make(chan struct{})
	go func() {
		defer close(b.ended)
		for ctx.Err() == nil {
			b.poll(ctx)
		}
	}()
	return b
}

func (b *bot) poll(ctx context.Context) {
	a, err := b.do(ctx, http.MethodGet, b.path("getUpdates")+fmt.Sprintf("?offset=%d&timeout=%d", b.offset, b.timeout), nil, nil)
	if ctx.Err() != nil {
		return
	}
	var list struct {
		OK     bool
		Result []struct {
			ID      int64 `json:"update_id"`
			Message struct{ Chat struct{ ID int64 } }
		}
	}
	if err == nil && (a.status != 200 || json.Unmarshal([]byte(a.body), &list) != nil || !list.OK) {
		err = fmt.Errorf("%d %s", a.status, a.body)
	}
	if err != nil {
		b.mu.Lock()
		b.errors = append(b.errors, err.Error())
		b.mu.Unlock()
		time.Sleep(time.Second)
		return
	}
	handle := func() {
		for _, u := range list.Result {
			time.Sleep(b.takes)
			if ctx.Err() == nil && b.answers {
				b.call("sendMessage", "chat_id", strconv.FormatInt(u.Message.Chat.ID, 10), "text", fmt.Sprintf("%s answers %d", b.address, u.ID))
			}
		}
	}
	for _, u := range list.Result {
		b.mu.Lock()
		b.got = append(b.got, u.ID)
		b.offset = u.ID + 1
		b.mu.Unlock()
	}
	if b.before {
		go handle()
	} else {
		handle()
	}
}

// kill ends the copy as kill -9 does: the kernel closes its connections.
func (b *bot) kill() {
	if b.stop != nil {
		b.stop()
	}
	b.mu.Lock()
	conns := slices.Clone(b.conns)
	b.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
	b.http.CloseIdleConnections()
	if b.ended != nil {
		<-b.ended
	}
}

func (b *bot) expectGot(want ...int64) {
	b.w.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.got, want) {
		b.w.t.Errorf("%s got %v, want %v", b.address, b.got, want)
	}
	if len(b.errors) > 0 {
		b.w.t.Errorf("%s had errors: %q", b.address, b.errors)
	}
}

func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) logged(text string) int { return strings.Count(w.logs.String(), text) }

package bot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/election"
	"habot/app/message/messagetest"
	"habot/app/term"
)

const (
	testSecret = "AAF-a_secret_that_nobody_may_ever_see"
	testToken  = "123456789:" + testSecret
)

// queued is a message that waits in the fake Telegram's queue.
type queued struct {
	id   int
	chat int64
	text string
	at   time.Time
	raw  string // in place of everything else
}

// call is one request that reached the fake Telegram.
type call struct {
	ctx    context.Context
	method string
	at     time.Time
	params params
	header http.Header
	body   []byte
}

// params are those that the tests look at.
type params struct {
	Offset         int             `json:"offset"`
	Limit          int             `json:"limit"`
	Timeout        int             `json:"timeout"`
	AllowedUpdates []string        `json:"allowed_updates"`
	ChatID         int64           `json:"chat_id"`
	Text           string          `json:"text"`
	ParseMode      string          `json:"parse_mode"`
	Thread         int64           `json:"message_thread_id"`
	DirectTopic    int64           `json:"direct_messages_topic_id"`
	Scope          json.RawMessage `json:"scope"`
	Commands       []struct {
		Command     string `json:"command"`
		Description string `json:"description"`
	} `json:"commands"`
	DropPending *bool `json:"drop_pending_updates"`
}

// fakeTelegram is a small Bot API server in memory: an http.RoundTripper. It keeps a queue as the real one
// does, confirmation by offset and the wait of repeated polls included; script, if set, may answer in
// its place by returning a response or an error.
type fakeTelegram struct {
	t      *testing.T
	script func(c call) (*http.Response, error)
	lost   func() bool // whether answers to polls get lost now; nil for never

	mu        sync.Mutex
	calls     []call
	queue     []queued
	confirmed []int
	nextID    int
	arrived   chan struct{} // closed when an update arrives
	hungUp    chan struct{} // closed to cut off the polls that wait
	// The last poll that was not answered by the script.
	lastOffset int
	lastPoll   time.Time
}

func newTelegram(t *testing.T) *fakeTelegram {
	t.Helper()
	return &fakeTelegram{t: t, nextID: 1000, arrived: make(chan struct{}), hungUp: make(chan struct{}), lastOffset: -1}
}

// send puts a message into the queue and returns its id.
func (tg *fakeTelegram) send(chat int64, text string) int {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	id := tg.nextID
	tg.put(queued{id: id, chat: chat, text: text, at: time.Now()})
	return id
}

// inject puts an update into the queue as it is.
func (tg *fakeTelegram) inject(m queued) {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	tg.put(m)
}

// put appends to the queue. tg.mu MUST be held.
func (tg *fakeTelegram) put(m queued) {
	tg.queue = append(tg.queue, m)
	tg.nextID = m.id + 1
	close(tg.arrived)
	tg.arrived = make(chan struct{})
}

func (tg *fakeTelegram) answerWith(script func(c call) (*http.Response, error)) {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	tg.script = script
}

// loseAnswers has answers to polls get lost until the given time.
func (tg *fakeTelegram) loseAnswers(until time.Time) {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	tg.lost = func() bool { return time.Now().Before(until) }
}

// hangUp cuts off the poll that waits, and all that would later.
func (tg *fakeTelegram) hangUp() { close(tg.hungUp) }

// RoundTrip implements http.RoundTripper.
func (tg *fakeTelegram) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err // as net/http does
	}
	c := call{ctx: req.Context(), method: path.Base(req.URL.Path), at: time.Now(), header: req.Header}
	if want := "/bot" + testToken + "/" + c.method; req.URL.Path != want {
		tg.t.Errorf("a request went to %s, want %s", req.URL.Path, want)
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	_ = req.Body.Close()
	c.body = body
	if err := json.Unmarshal(body, &c.params); err != nil {
		tg.t.Errorf("%s with a body that is no JSON: %v", c.method, err)
	}
	tg.mu.Lock()
	tg.calls = append(tg.calls, c)
	script := tg.script
	tg.mu.Unlock()
	if script != nil {
		if resp, err := script(c); resp != nil || err != nil {
			return resp, err
		}
	}
	switch c.method {
	case "getUpdates":
		resp, err := tg.getUpdates(c)
		tg.mu.Lock()
		lost := tg.lost != nil && tg.lost()
		tg.mu.Unlock()
		if lost && err == nil {
			return hang(c)
		}
		return resp, err
	case "getMe":
		return good(`{"id":1,"is_bot":true,"first_name":"habot","username":"Habot_bot"}`), nil
	case "sendMessage":
		if strings.TrimSpace(c.params.Text) == "" || messagetest.Units(c.params.Text) > 4096 {
			return bad(400, "Bad Request: message is empty or too long"), nil
		}
		if c.params.ParseMode == "HTML" && !messagetest.ValidHTML(c.params.Text) {
			tg.t.Errorf("Telegram cannot parse %q", c.params.Text)
			return bad(400, "Bad Request: can't parse entities"), nil
		}
		return good(fmt.Sprintf(`{"message_id":1,"date":%d,"chat":{"id":%d,"type":"private"}}`, time.Now().Unix(), c.params.ChatID)), nil
	default:
		return good(`true`), nil
	}
}

func (tg *fakeTelegram) getUpdates(c call) (*http.Response, error) {
	tg.mu.Lock()
	p := c.params
	if p.Offset == tg.lastOffset {
		if since := c.at.Sub(tg.lastPoll); since < 3*time.Second && p.Timeout < 3 {
			p.Timeout = 3
			if since < time.Second/2 {
				p.Limit = 1
			}
		}
	}
	tg.lastOffset, tg.lastPoll = p.Offset, c.at
	if p.Offset > 0 {
		// Far from the queue it counts as its end: what waits is forgotten.
		end := p.Offset > tg.nextID+10 || len(tg.queue) > 0 && p.Offset < tg.queue[0].id-100_000
		tg.queue = slices.DeleteFunc(tg.queue, func(m queued) bool {
			if m.id < p.Offset || end {
				tg.confirmed = append(tg.confirmed, m.id)
				return true
			}
			return false
		})
	}
	tg.mu.Unlock()
	over := time.After(time.Duration(p.Timeout) * time.Second)
	for {
		tg.mu.Lock()
		if len(tg.queue) > 0 {
			defer tg.mu.Unlock()
			var list []string
			for _, m := range tg.queue[:min(len(tg.queue), p.Limit)] {
				list = append(list, m.json())
			}
			return good("[" + strings.Join(list, ",") + "]"), nil
		}
		arrived := tg.arrived
		tg.mu.Unlock()
		select {
		case <-arrived:
		case <-over:
			return good(`[]`), nil
		case <-tg.hungUp:
			return nil, errDropped
		case <-c.ctx.Done():
			return nil, c.ctx.Err()
		}
	}
}

func (m queued) json() string {
	if m.raw != "" {
		return m.raw
	}
	text, _ := json.Marshal(m.text)
	return fmt.Sprintf(`{"update_id":%d,"message":{"message_id":%d,"date":%d,"from":{"id":%d,"first_name":"x"},"chat":{"id":%d,"type":"private"},"text":%s}}`,
		m.id, m.id, m.at.Unix(), m.chat+5, m.chat, text)
}

// all are the requests so far with one of the methods; every one without.
func (tg *fakeTelegram) all(methods ...string) []call {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	var list []call
	for _, c := range tg.calls {
		if len(methods) == 0 || slices.Contains(methods, c.method) {
			list = append(list, c)
		}
	}
	return list
}

// texts are those sent to a chat.
func (tg *fakeTelegram) texts(chat int64) []string {
	var list []string
	for _, c := range tg.all("sendMessage") {
		if c.params.ChatID == chat {
			list = append(list, c.params.Text)
		}
	}
	return list
}

func (tg *fakeTelegram) confirmedIDs() []int {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	return slices.Clone(tg.confirmed)
}

func answer(status int, contentType, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(strings.NewReader(body)),
	}
}

func good(result string) *http.Response {
	return answer(200, "application/json", `{"ok":true,"result":`+result+`}`)
}

func bad(code int, description string) *http.Response {
	return answer(code, "application/json", fmt.Sprintf(`{"ok":false,"error_code":%d,"description":%q}`, code, description))
}

func tooMany(seconds int) *http.Response {
	return answer(429, "application/json", fmt.Sprintf(
		`{"ok":false,"error_code":429,"description":"Too Many Requests","parameters":{"retry_after":%d}}`, seconds))
}

const (
	otherPoller = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
	webhookSet  = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
)

// hang answers nothing until the request is given up.
func hang(c call) (*http.Response, error) {
	<-c.ctx.Done()
	return nil, c.ctx.Err()
}

// errDropped is what net/http says of a dropped connection, made worse: with the address in it.
var errDropped = errors.New("Post \"https://api.telegram.org/bot" + testToken + "/getUpdates\": read: connection reset by peer")

// cluster is what the commands see.
type cluster struct {
	mu    sync.Mutex
	view  election.View
	err   error
	asked []string
	panic bool
}

func (c *cluster) View() election.View {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.panic {
		panic("the view is broken")
	}
	return c.view
}

func (c *cluster) Switchover(_ context.Context, successor string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, successor)
	return c.err
}

// logBuffer is what was logged, safe for concurrent use.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// fixture is a bot and all that is around it.
type fixture struct {
	t       *testing.T
	bot     *Bot
	tg      *fakeTelegram
	cluster *cluster
	logs    *logBuffer
	reg     *prometheus.Registry
	// copyChanges are what the caller of the bot is informed of; nil without a gateway.
	copyChanges *[]string

	mu     sync.Mutex
	health []healthChange    // when it turned good or bad; it is good at first
	told   []election.Health // all of it
}

type healthChange struct {
	election.Health
	at time.Time
}

func newFixture(t *testing.T, admins ...int64) *fixture {
	t.Helper()
	return newFixtureWith(t, newTelegram(t), admins...)
}

func newFixtureWith(t *testing.T, tg *fakeTelegram, admins ...int64) *fixture {
	t.Helper()
	f := newFixtureOn(t, tg, admins...)
	f.tg = tg
	return f
}

// newFixtureOn is a fixture with another way to Telegram.
func newFixtureOn(t *testing.T, way http.RoundTripper, admins ...int64) *fixture {
	t.Helper()
	return newFixtureNamed(t, "habot-bot-1", way, admins...)
}

func newFixtureNamed(t *testing.T, name string, way http.RoundTripper, admins ...int64) *fixture {
	t.Helper()
	return newFixtureConfigured(t, func(cfg *Config) { cfg.Name, cfg.Transport, cfg.AdminChatIDs = name, way, admins })
}

func newFixtureConfigured(t *testing.T, configure func(*Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, cluster: &cluster{}, logs: &logBuffer{}, reg: prometheus.NewRegistry()}
	cfg := Config{
		Token: testToken, APIURL: "https://api.telegram.org", Name: "habot-bot-1", Version: "1.2.3",
		Cluster: f.cluster, Registerer: f.reg,
		Logger: slog.New(slog.NewTextHandler(f.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnHealth: func(h election.Health) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.told = append(f.told, h)
			if n := len(f.health); n == 0 && !h.OK || n > 0 && f.health[n-1].OK != h.OK {
				f.health = append(f.health, healthChange{h, time.Now()})
			}
		},
	}
	configure(&cfg)
	f.bot = New(cfg)
	t.Cleanup(f.expectNoToken)
	return f
}

// expectNoToken scans everything that leaves the bot for people: logs, metrics, health, trouble.
func (f *fixture) expectNoToken() {
	families, err := f.reg.Gather()
	if err != nil {
		f.t.Error(err)
	}
	said := f.logs.String() + strings.Join(f.sent(), "\n") + fmt.Sprint(families) + fmt.Sprint(f.told) + f.bot.Trouble().Text()
	if i := strings.Index(said, testSecret); i >= 0 {
		f.t.Errorf("the token is in what the bot says: ...%s", said[max(0, i-200):i+len(testSecret)])
	}
}

// lastTold is the health that was reported last; zero if none was.
func (f *fixture) lastTold() election.Health {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.told) == 0 {
		return election.Health{}
	}
	return f.told[len(f.told)-1]
}

func (f *fixture) healthChanges() []healthChange {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.health)
}

// metric is the value of a counter or gauge; labels alternate names and values.
func (f *fixture) metric(name string, labels ...string) float64 {
	f.t.Helper()
	families, err := f.reg.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
	next:
		for _, m := range family.GetMetric() {
			for i := 0; i < len(labels); i += 2 {
				found := false
				for _, l := range m.GetLabel() {
					found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
				}
				if !found {
					continue next
				}
			}
			if m.GetHistogram() != nil {
				return float64(m.GetHistogram().GetSampleCount())
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return 0
}

func (f *fixture) expectOutcome(outcome string, want float64) {
	f.t.Helper()
	if got := f.metric("habot_updates_total", "outcome", outcome); got != want {
		f.t.Errorf("%v updates have the outcome %s, want %v", got, outcome, want)
	}
}

func (f *fixture) expectConfirmed(want ...int) {
	f.t.Helper()
	if got := f.tg.confirmedIDs(); !slices.Equal(got, want) {
		f.t.Errorf("confirmed are %v, want %v", got, want)
	}
}

func (f *fixture) expectTexts(chat int64, want ...string) {
	f.t.Helper()
	if got := f.tg.texts(chat); !slices.Equal(got, want) {
		f.t.Errorf("chat %d got %q, want %q", chat, got, want)
	}
}

func (f *fixture) expectLogged(text string, times int) {
	f.t.Helper()
	if got := strings.Count(f.logs.String(), text); got != times {
		f.t.Errorf("%q is in the log %d times, want %d:\n%s", text, got, times, f.logs.String())
	}
}

// sent is all that was sent, to any chat.
func (f *fixture) sent() []string {
	var all []string
	if f.tg == nil {
		return nil
	}
	for _, c := range f.tg.all("sendMessage") {
		all = append(all, c.params.Text)
	}
	return all
}

// me is the fixture's replica in views.
const me = "replica-1"

// see changes the view that the bot has of its cluster.
func (f *fixture) see(change func(v *election.View)) {
	f.cluster.mu.Lock()
	defer f.cluster.mu.Unlock()
	change(&f.cluster.view)
}

// become makes this replica primary in the view, by a change, and starts the term.
func (f *fixture) become(change election.Change) *role {
	f.t.Helper()
	change.Claim = election.Claim{Timestamp: time.Now().UnixNano(), Replica: me}
	f.see(func(v *election.View) {
		v.Self = election.Status{
			Replica: me, Name: "habot-bot-1", Role: election.Primary, Primary: change.Claim, PrimaryName: "habot-bot-1",
			Health: election.Health{OK: true}, Lease: time.Second, Change: change,
		}
		v.History = append(v.History, change)
	})
	return f.start(change)
}

// probing has the bot probe until the test ends.
func (f *fixture) probing() {
	go func() {
		if err := f.bot.RunProbe(f.t.Context()); err != nil {
			f.t.Errorf("RunProbe: %v", err)
		}
	}()
}

// notifying has the bot notify the admins until the test ends, or the returned function is called.
func (f *fixture) notifying() (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := f.bot.RunNotifier(ctx); err != nil {
			f.t.Errorf("RunNotifier: %v", err)
		}
	}()
	stop = func() {
		cancel()
		<-ended
	}
	f.t.Cleanup(stop)
	return stop
}

// role is a term that runs.
type role struct {
	f      *fixture
	term   term.Term
	cancel context.CancelFunc
	drain  chan struct{}
	ended  chan struct{}
	held   atomic.Bool

	mu       sync.Mutex
	endedAt  time.Time
	reports  [][]int64
	notes    []json.RawMessage // the latest
	noted    bool              // whether the standbys know them
	late     chan []json.RawMessage
	settled  atomic.Int64
	due      map[string]time.Time // what the watcher was promised last, by part
	promises int
	margins  map[string]time.Duration // the least that was left of a part's promise when it came round
}

// start runs the bot as primary until the test ends or stops it.
func (f *fixture) start(change election.Change, handled ...int64) *role {
	f.t.Helper()
	r := f.role(change, handled...)
	r.run()
	return r
}

// role is a term that has yet to run.
func (f *fixture) role(change election.Change, handled ...int64) *role {
	r := &role{f: f, drain: make(chan struct{}), ended: make(chan struct{}), due: map[string]time.Time{}, margins: map[string]time.Duration{}, late: make(chan []json.RawMessage, 1)}
	r.held.Store(true)
	r.term = term.Term{
		Change: change, Held: r.held.Load, Drain: r.drain, Handled: handled,
		Report: func(ids []int64) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.reports = append(r.reports, slices.Clone(ids))
		},
		Note: func(notes []json.RawMessage) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.notes = slices.Clone(notes)
		},
		Gather: func(context.Context) {},
		Late: func(ctx context.Context) ([]json.RawMessage, func(), bool) {
			select {
			case notes := <-r.late: // even if ctx has ended
				return notes, func() { r.settled.Add(1) }, true
			default:
			}
			select {
			case notes := <-r.late:
				return notes, func() { r.settled.Add(1) }, true
			case <-ctx.Done():
				return nil, nil, false
			}
		},
		Noted: func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.noted
		},
		Expect: r.within,
	}
	return r
}

// succeeded is the term that follows this one, on another replica with the same way to Telegram.
func (r *role) succeeded(name string) *role {
	r.f.t.Helper()
	next := newFixtureNamed(r.f.t, name, r.f.tg)
	next.tg = r.f.tg
	reports := r.reported()
	var handled []int64
	if len(reports) > 0 {
		handled = reports[len(reports)-1]
	}
	successor := next.role(election.Change{}, handled...)
	r.mu.Lock()
	successor.term.Notes = slices.Clone(r.notes)
	r.mu.Unlock()
	successor.run()
	return successor
}

func (r *role) run() {
	ctx, cancel := context.WithCancel(r.f.t.Context())
	r.cancel = cancel
	go func() {
		defer close(r.ended)
		if err := r.f.bot.RunAsPrimary(ctx, r.term); err != nil {
			r.f.t.Errorf("RunAsPrimary: %v", err)
		}
		r.keepPromises()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.endedAt = time.Now()
	}()
	r.f.t.Cleanup(func() {
		cancel()
		<-r.ended
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.promises == 0 {
			r.f.t.Error("the watcher was promised nothing")
		}
	})
}

// within is the watcher: a part that breaks a promise would have the process ended.
func (r *role) within(part string, d time.Duration) {
	r.keepPromises()
	r.mu.Lock()
	defer r.mu.Unlock()
	if due, promised := r.due[part]; promised {
		if least, known := r.margins[part]; !known || time.Until(due) < least {
			r.margins[part] = time.Until(due)
		}
	}
	if d == 0 {
		delete(r.due, part)
		return
	}
	r.promises++
	r.due[part] = time.Now().Add(d)
}

func (r *role) keepPromises() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for part, due := range r.due {
		if late := time.Since(due); late > 0 {
			r.f.t.Errorf("%s comes %v later than it had promised the watcher", part, late)
		}
	}
}

func (r *role) reported() [][]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.reports)
}

// after waits and lets everything come to rest.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *role) hasEnded() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// drained closes Drain and returns how long the bot took to return.
func (r *role) drained() time.Duration {
	start := time.Now()
	close(r.drain)
	<-r.ended
	return time.Since(start)
}

// neverLate is Term.Late of a term without other replicas.
func neverLate(ctx context.Context) ([]json.RawMessage, func(), bool) {
	<-ctx.Done()
	return nil, nil, false
}

package simulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/page/live"
)

// Config is what a simulator is made of.
type Config struct {
	Addr string
	// Token is the one bot's; any other is refused.
	Token string
	// AnyToken has it accept every token that has the form of one: for a rehearsal with real settings.
	AnyToken bool
	// Rate is how many messages the users write a second, all together; 0 for none.
	Rate float64
	// Chats is how many users there are, each in a chat of its own.
	Chats int
	// Project is the Compose project that replicas are containers of; empty if none is known.
	Project string
	// AwaitBot has the users write nothing, and the metrics be absent, before a bot has polled.
	AwaitBot bool
	Logger   *slog.Logger
}

// FirstChat is the chat of the first simulated user; the others follow.
const FirstChat = 1001

// Simulator is a Bot API server for one bot, and its users. Its methods are safe for concurrent use.
type Simulator struct {
	cfg      Config
	http     *http.Server
	listener net.Listener
	registry *prometheus.Registry
	rateSet  chan struct{} // told when rate has changed
	// run is another one after each start; watching are the page's watchers.
	run      string
	watching *live.Stream

	mu      sync.Mutex
	bot     bot
	account *account
	waiting *waiter
	faults  []fault
	// faultNumber is that of the fault that began last.
	faultNumber int64
	rate        float64
	load        Load
	loadUntil   time.Time // zero: no load
	chats       map[int64]*chat
	limit       ChatLimit
	commands    map[string]json.RawMessage // by scope
	messageID   int
	written     int64
	files       map[string]file // by id
	fileIDs     []string        // the oldest first
	fileNumber  int64
}

// waiter is the one poll that waits for updates.
type waiter struct {
	request pollRequest
	record  *PollRecord
	answer  chan pollAnswer // takes exactly one
	gone    func() bool     // tells whether its client has hung up
}

// pollAnswer ends a poll: with updates, or with a conflict.
type pollAnswer struct {
	updates  []queued
	conflict string
	delay    time.Duration
}

// New returns a simulator that does not listen yet.
func New(cfg Config) *Simulator {
	s := &Simulator{
		cfg: cfg, account: newAccount(shownChats(cfg.Chats)...), run: strconv.FormatInt(time.Now().UnixNano(), 36), rate: cfg.Rate, rateSet: make(chan struct{}, 1), chats: map[int64]*chat{},
		commands: map[string]json.RawMessage{}, files: map[string]file{},
	}
	s.watching = live.NewStream(live.Config{Source: frames{s}, Every: frameEvery, Most: maxWatchers, Behind: maxBehind})
	s.bot.queue.tail = 100_000_000 + rand.IntN(800_000_000) //nolint:gosec // a start like any other
	for i := range cfg.Chats {
		s.open(FirstChat + int64(i))
	}
	for _, p := range people() {
		s.open(p.Chat)
	}
	s.registry = prometheus.NewRegistry()
	s.registry.MustRegister(accountCollector{s})
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	return s
}

// Handler serves the Bot API, for tests that need no port.
func (s *Simulator) Handler() http.Handler { return s.http.Handler }

// Listen opens the port.
func (s *Simulator) Listen() error {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("listen as Telegram: %w", err)
	}
	s.listener = l
	return nil
}

// Addr is where it listens, after Listen.
func (s *Simulator) Addr() net.Addr { return s.listener.Addr() }

// Run serves and plays the users until ctx ends, and returns nil then; Listen MUST have succeeded before.
func (s *Simulator) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	users, stop := context.WithCancel(ctx)
	var playing sync.WaitGroup
	playing.Go(func() { s.RunUsers(users) })
	defer playing.Wait()
	defer stop()
	select {
	case err := <-served:
		return fmt.Errorf("serve as Telegram: %w", err)
	case <-ctx.Done():
	}
	s.watching.Close()
	err := s.http.Close() // polls that wait are cut off, as by a server that goes away
	if ended := <-served; err == nil && !errors.Is(ended, http.ErrServerClosed) {
		err = ended
	}
	if err != nil {
		return fmt.Errorf("stop serving as Telegram: %w", err)
	}
	return nil
}

// RunUsers writes messages at the rate set, each chat in turn, until ctx ends.
func (s *Simulator) RunUsers(ctx context.Context) {
	start := time.Now()
	due := 0.0 // messages since start, at the rate since then
	last := math.NaN()
	for {
		rate, until := s.pace(time.Now())
		if rate != last {
			start, due, last = time.Now(), 0, rate
		}
		next := math.Inf(1) // seconds until a message is due
		if rate > 0 {
			next = (due+1)/rate - time.Since(start).Seconds()
		}
		// The time of a message at a tiny rate is beyond what a Duration holds: look again every hour, and when a load ends.
		atMost := min(time.Hour, until).Seconds()
		wait := time.Duration(min(max(next, 0), atMost) * float64(time.Second))
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-s.rateSet:
			t.Stop()
			last = math.NaN()
		case <-t.C:
			if next <= atMost {
				due++
				s.writeNext()
			}
		}
	}
}

// pace is how many messages a second are written now, and for how long that holds at most.
func (s *Simulator) pace(now time.Time) (rate float64, holds time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Before(s.loadUntil) {
		return s.load.Rate, s.loadUntil.Sub(now)
	}
	s.loadUntil = time.Time{}
	return s.rate, time.Hour
}

// setLoad has the users write at another rate for a while.
func (s *Simulator) setLoad(l Load) {
	s.mu.Lock()
	s.load, s.loadUntil = l, time.Time{}
	if l.Seconds > 0 {
		s.loadUntil = time.Now().Add(time.Duration(l.Seconds * float64(time.Second)))
	}
	s.mu.Unlock()
	s.wakeUsers()
}

func (s *Simulator) wakeUsers() {
	select {
	case s.rateSet <- struct{}{}:
	default:
	}
}

// writeNext has the next user write something that was never written before.
func (s *Simulator) writeNext() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Chats == 0 || s.cfg.AwaitBot && s.account.report.Polls == 0 {
		return
	}
	s.written++
	s.write(FirstChat+s.written%int64(s.cfg.Chats), 0, fmt.Sprintf("message %d", s.written))
}

// user is the one who writes in a chat; a group has one of its own, too.
func (s *Simulator) user(chat int64) map[string]any {
	id := max(chat, -chat)
	return map[string]any{"id": id, "is_bot": false, "first_name": firstName(id), "language_code": "en"}
}

// write puts a user's text into the queue; commands expect no particular answer.
func (s *Simulator) write(id int64, thread int, text string) {
	content, expected := map[string]any{"text": text}, text
	if strings.HasPrefix(text, "/") {
		expected = ""
		command, _, _ := strings.Cut(text, " ")
		content["entities"] = []map[string]any{{"type": "bot_command", "offset": 0, "length": length(command)}}
	}
	s.writeMessage(id, thread, content, text, expected)
}

// writeMessage puts a user's message into the queue; shown is what the page shows of it, expected its answer. A thread that
// is a topic of the chat is one of the message; any other is a thread of replies, but for General, which is none.
func (s *Simulator) writeMessage(id int64, thread int, content map[string]any, shown, expected string) {
	now := time.Now()
	c := s.open(id)
	if c == nil || c.movedTo != 0 {
		return
	}
	s.messageID++
	message := map[string]any{"message_id": s.messageID, "from": s.user(id), "chat": c.object(), "date": now.Unix()}
	maps.Copy(message, content)
	if thread == general && c.topics != nil {
		thread = 0
	}
	topic := 0
	if thread != 0 {
		message["message_thread_id"] = thread
		if c.topics[thread] {
			message["is_topic_message"] = true
			topic = thread
		}
	}
	if serial := s.push(now, "message", message, id, topic, expected); serial != 0 {
		s.account.model.Wrote(now, serial, id, shown, expected != "")
		if r := s.account.records[serial]; r != nil && r.Dropped != "" {
			s.account.model.Dropped(serial, r.Dropped)
		}
	}
}

// push puts an update into the queue and wakes the poll that waits. It returns the update's number in the account; 0 if
// the bot does not take such.
func (s *Simulator) push(now time.Time, kind string, payload any, chat int64, topic int, expected string) int64 {
	if !s.bot.takes(kind) {
		return 0
	}
	s.account.dropped(s.bot.queue.expire(now), "expired") // first: ids start again lower only once nothing waits
	id := s.bot.queue.next()
	body, err := json.Marshal(map[string]any{"update_id": id, kind: payload})
	if err != nil {
		s.cfg.Logger.Error("an update could not be written", "error", err)
		return 0
	}
	if len(body) > maxUpdate {
		serial := s.account.sent(now, id, chat, topic, expected)
		s.account.dropped([]queued{{serial: serial}}, "too large")
		return serial
	}
	u := queued{id: id, kind: kind, body: body, expires: now.Add(retention(kind)), serial: s.account.sent(now, id, chat, topic, expected)}
	if !s.bot.queue.push(u) {
		s.account.dropped([]queued{u}, "queue full")
		return u.serial
	}
	if w := s.waiting; w != nil {
		if updates := s.take(now, w.request); len(updates) > 0 {
			s.waiting = nil
			w.answer <- pollAnswer{updates: updates}
		}
	}
	return u.serial
}

// take gives a poll what there is for it.
func (s *Simulator) take(now time.Time, p pollRequest) []queued {
	s.account.dropped(s.bot.queue.expire(now), "expired")
	updates, confirmed := s.bot.queue.get(p.offset, p.limit)
	s.account.confirmed(now, confirmed)
	return updates
}

// beginPoll is a poll's arrival; the answer comes on the channel. gone tells whether its client has hung up.
func (s *Simulator) beginPoll(poller string, p pollRequest, gone func() bool) *waiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	w := &waiter{record: s.account.pollBegan(now, poller, p.offset), answer: make(chan pollAnswer, 1), gone: gone}
	if s.bot.webhook.url != "" {
		w.answer <- pollAnswer{conflict: conflictWebhook, delay: s.bot.conflictDelay(now)}
		return w
	}
	w.request = s.bot.begin(now, p)
	updates := s.take(now, w.request)
	if len(updates) > 0 || w.request.timeout == 0 {
		w.answer <- pollAnswer{updates: updates}
		return w
	}
	s.abortWaiting(now, conflictPoll)
	s.waiting = w
	return w
}

// abortWaiting ends the poll that waits with a 409, unless its client has hung up: no poll conflicts with it.
func (s *Simulator) abortWaiting(now time.Time, why string) {
	if s.waiting == nil {
		return
	}
	a := pollAnswer{}
	if !s.waiting.gone() {
		a = pollAnswer{conflict: why, delay: s.bot.conflictDelay(now)}
	}
	s.waiting.answer <- a
	s.waiting = nil
}

// stopWaiting ends a poll whose time is over: with the answer it has got by now, otherwise without updates.
func (s *Simulator) stopWaiting(w *waiter) pollAnswer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == w {
		s.waiting = nil
		return pollAnswer{}
	}
	return <-w.answer // the call that takes a poll out of waiting answers it at once
}

// endPoll takes note of a poll's end. What it brought counts as delivered unless its client went away.
func (s *Simulator) endPoll(w *waiter, a pollAnswer, code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if code == http.StatusOK {
		s.account.delivered(now, w.record.Poller, a.updates)
	}
	s.account.pollEnded(now, w.record, len(a.updates), code)
}

// Report is the account now.
func (s *Simulator) Report() Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.account.sum(time.Now())
}

// SetRate changes how many messages a second the users write.
func (s *Simulator) SetRate(perSecond float64) {
	s.mu.Lock()
	s.rate = perSecond
	s.mu.Unlock()
	s.wakeUsers()
}

// Write has a user write a message; a chat that is new is made.
func (s *Simulator) Write(chat int64, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(chat, 0, text)
}

// botID is the number before the token's colon.
func (s *Simulator) botID() int64 {
	digits, _, _ := strings.Cut(s.cfg.Token, ":")
	id, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 1
	}
	return id
}

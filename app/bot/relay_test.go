package bot

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
	"habot/app/relay"
)

// backend is a webhook bot in memory, under a name that always resolves.
type backend struct {
	t      *testing.T
	server *http.Server
	conns  chan net.Conn
	gone   chan struct{} // closed by close
	close  func()
	answer func(w http.ResponseWriter, raw string)

	mu     sync.Mutex
	up     bool
	open   []net.Conn
	raws   []string
	header http.Header // of the last update
}

func newBackend(t *testing.T) *backend {
	b := &backend{t: t, conns: make(chan net.Conn), gone: make(chan struct{}), up: true}
	b.close = sync.OnceFunc(func() { close(b.gone) })
	b.server = &http.Server{Handler: http.HandlerFunc(b.serve), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = b.server.Serve(b)
	}()
	t.Cleanup(func() {
		b.set(false)
		_ = b.server.Close()
		<-ended
	})
	return b
}

func (b *backend) serve(w http.ResponseWriter, req *http.Request) {
	raw, err := io.ReadAll(req.Body)
	if err != nil {
		b.t.Errorf("an update that breaks off: %v", err)
	}
	b.mu.Lock()
	b.raws, b.header = append(b.raws, string(raw)), req.Header
	answer := b.answer
	b.mu.Unlock()
	if answer != nil {
		answer(w, string(raw))
	}
}

// set has the backend run, or be killed.
func (b *backend) set(up bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.up = up
	if !up {
		for _, c := range b.open {
			_ = c.Close()
		}
		b.open = nil
	}
}

func (b *backend) got() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.raws)
}

// Dial is a relay.Dial.
func (b *backend) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	b.mu.Lock()
	up := b.up
	b.open = append(b.open, client, server)
	b.mu.Unlock()
	if !up {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	select {
	case b.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// LookupNetIP implements relay.Resolver.
func (b *backend) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("10.0.0.7")}, nil
}

// Accept implements net.Listener.
func (b *backend) Accept() (net.Conn, error) {
	select {
	case c := <-b.conns:
		return c, nil
	case <-b.gone:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (b *backend) Close() error {
	b.close()
	return nil
}

// Addr implements net.Listener.
func (b *backend) Addr() net.Addr { return &net.TCPAddr{} }

// newRelayed is a fixture whose updates a backend handles, known to be up.
func newRelayed(t *testing.T, admins ...int64) (*fixture, *backend) {
	t.Helper()
	tg := newTelegram(t)
	f, b := newRelayedOn(t, tg, admins...)
	f.tg = tg
	return f, b
}

// newRelayedOn is such a fixture with another way to Telegram.
func newRelayedOn(t *testing.T, way http.RoundTripper, admins ...int64) (*fixture, *backend) {
	t.Helper()
	b := newBackend(t)
	urls, err := relay.ParseBackends("http://mybot:8000/hook")
	if err != nil {
		t.Fatal(err)
	}
	f := newFixtureConfigured(t, func(cfg *Config) {
		cfg.Transport, cfg.AdminChatIDs = way, admins
		cfg.Backend = &Backend{Relay: relay.Config{
			Backends: urls, Secret: "s-3_cret", Timeout: time.Minute, Parallel: 40, Resolver: b, Dial: b.Dial,
		}, Updates: []string{"message", "of_the_future"}}
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.bot.RunBackends(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	after(time.Second)
	return f, b
}

// What this version does not know reaches a backend as Telegram sent it: a kind to be, fields, numbers beyond 2^53, white
// space, escapes.
func TestABackendGetsUpdatesByteForByte(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, b := newRelayed(t)
		raws := []string{
			`{"update_id":1000,"of_the_future":{"id":12345678901234567890123,"date":1,"chat":{"id":-1001234567890},"ratio":1.10e-5,"text":"\u00e4\/<&>"}}`,
			`{ "update_id" : 1001, "message":{"message_id":9007199254740993,"date":1,"chat":{"id":1,"type":"private"},"text":"x","new":[true,null]},"beside":{}}`,
			`{"update_id":1002,"message":"of the future"}`,
		}
		for i, raw := range raws {
			f.tg.inject(queued{id: 1000 + i, raw: raw})
		}
		r := f.start(election.Change{Claim: election.Claim{Timestamp: 1767323045000000001}})
		after(5 * time.Second)
		got := b.got()
		slices.Sort(got)
		want := slices.Sorted(slices.Values(raws))
		if !slices.Equal(got, want) {
			t.Errorf("the backend got\n%q\nwant\n%q", got, want)
		}
		f.expectConfirmed(1000, 1001, 1002)
		f.expectOutcome(outcomeAnswered, 3)
		if h := b.header; h.Get("X-Telegram-Bot-Api-Secret-Token") != "s-3_cret" || h.Get("X-Habot-Term") != "1767323045000000001" {
			t.Errorf("sent with %v", h)
		}
		if allowed := f.tg.all("getUpdates")[0].params.AllowedUpdates; !slices.Equal(allowed, []string{"message", "of_the_future"}) {
			t.Errorf("asked for %q", allowed)
		}
		if len(f.tg.all("setMyCommands")) != 0 {
			t.Error("the commands of the backend's bot were changed")
		}
		r.drained()
	})
}

// Without BACKEND_UPDATES Telegram is asked for its default set by an empty list. Without any list it would go on as it was asked last: for messages
// alone, if that was the built-in bot.
func TestTheDefaultSetOfUpdatesIsAskedForInSoManyWords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tg, b := newTelegram(t), newBackend(t)
		urls, err := relay.ParseBackends("http://mybot:8000/hook")
		if err != nil {
			t.Fatal(err)
		}
		f := newFixtureConfigured(t, func(cfg *Config) {
			cfg.Transport = tg
			cfg.Backend = &Backend{Relay: relay.Config{Backends: urls, Timeout: time.Minute, Parallel: 40, Resolver: b, Dial: b.Dial}}
		})
		f.start(election.Change{})
		after(time.Second)
		if polls := tg.all("getUpdates"); len(polls) == 0 || !strings.Contains(string(polls[0].body), `"allowed_updates":[]`) {
			t.Errorf("polls: %+v", polls)
		}
	})
}

// An update is confirmed once a backend has answered 2xx, not before; the standbys receive its id; a stop waits and confirms.
func TestABackendsUpdateIsConfirmedOnceItIsHandled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, b := newRelayed(t)
		b.answer = func(w http.ResponseWriter, raw string) {
			if strings.Contains(raw, "slow") {
				time.Sleep(20 * time.Second)
			}
			w.WriteHeader(http.StatusNoContent)
		}
		f.tg.send(1, "slow")
		f.tg.send(2, "quick")
		r := f.start(election.Change{})
		after(19 * time.Second)
		f.expectConfirmed()
		if reports := r.reported(); len(reports) != 1 || !slices.Equal(reports[0], []int64{1001}) {
			t.Errorf("the standbys were told of %v", reports)
		}
		if took := r.drained(); took > 2*time.Second {
			t.Errorf("the stop took %v", took)
		}
		f.expectConfirmed(1000, 1001)
	})
}

// What a backend answers with leaves on the one way, in the term alone.
func TestACallInABackendsAnswerLeavesWithTheLeaseAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, b := newRelayed(t)
		var r *role
		b.answer = func(w http.ResponseWriter, raw string) {
			if strings.Contains(raw, "last") {
				r.held.Store(false)
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"method":"sendMessage","chat_id":1,"text":"from the backend"}`)
		}
		r = f.role(election.Change{})
		r.run()
		f.tg.send(1, "first")
		after(2 * time.Second)
		f.expectTexts(1, "from the backend")
		f.tg.send(1, "last")
		after(2 * time.Second)
		f.expectTexts(1, "from the backend")
		f.expectConfirmed(1000)
		r.cancel()
		<-r.ended
		if n := f.metric("habot_telegram_requests_total", "method", "forwarded", "code", "200"); n != 1 {
			t.Errorf("%v calls are counted", n)
		}
	})
}

// Telegram answers a method that it does not know with 404, as it does a token. That is no matter of the token, and not tried again: the chat's
// next update is handled at once.
func TestACallOfAMethodThatTelegramDoesNotKnowIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, b := newRelayed(t)
		f.tg.script = func(c call) (*http.Response, error) {
			if c.method == "sendTelepathy" {
				return bad(404, "Not Found: method not found"), nil
			}
			return nil, nil
		}
		b.answer = func(w http.ResponseWriter, raw string) {
			w.Header().Set("Content-Type", "application/json")
			if strings.Contains(raw, "odd") {
				_, _ = fmt.Fprint(w, `{"method":"sendTelepathy","chat_id":1,"text":"x"}`)
			}
		}
		f.start(election.Change{})
		f.tg.send(1, "odd")
		f.tg.send(1, "next")
		after(3 * time.Second)
		f.expectConfirmed(1000, 1001)
		if n := len(f.tg.all("sendTelepathy")); n != 1 {
			t.Errorf("called %d times", n)
		}
		f.expectLogged("a webhook reply was not carried out", 1)
		if h := f.healthChanges(); len(h) != 0 {
			t.Errorf("health changed: %+v", h)
		}
	})
}

// Without any backend updates wait at Telegram, and the role may move to a replica that reaches one. All is answered in order
// once a backend is back.
func TestWithoutABackendUpdatesWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, b := newRelayed(t)
		f.start(election.Change{})
		f.tg.send(1, "0")
		after(2 * time.Second)
		b.set(false)
		for i := range 5 {
			f.tg.send(1, fmt.Sprint(1+i))
		}
		after(failingFor - time.Second)
		if h := f.healthChanges(); len(h) != 0 {
			t.Errorf("health changed within %v: %v", failingFor, h)
		}
		after(7 * time.Second)
		if h := f.lastTold(); h.OK || !strings.HasPrefix(h.Detail, "no backend takes updates: http://mybot:8000: ") {
			t.Errorf("health is %+v", h)
		}
		if why := f.bot.NoBackend(); !strings.HasPrefix(why, "no backend takes updates") {
			t.Errorf("no backend: %q", why)
		}
		f.expectLogged("Telegram unreachable", 0)
		f.expectConfirmed(1000)
		b.set(true)
		after(20 * time.Second)
		if h := f.lastTold(); !h.OK {
			t.Errorf("health is %+v", h)
		}
		f.expectConfirmed(1000, 1001, 1002, 1003, 1004, 1005)
		var texts []string
		for _, raw := range b.got() {
			_, rest, _ := strings.Cut(raw, `"text":"`)
			texts = append(texts, strings.TrimRight(rest, `"}`))
		}
		if got := strings.Join(texts, " "); got != "0 1 2 3 4 5" {
			t.Errorf("the backend got %s", got)
		}
	})
}

// A standby says at once that it reaches no backend: it is to know before the primary looks for a successor.
func TestAStandbyWithoutABackendIsUnhealthy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, b := newRelayed(t)
		f.probing()
		after(20 * time.Second)
		gone := time.Now()
		b.set(false)
		after(30 * time.Second)
		if h := f.healthChanges(); len(h) != 1 || h[0].OK || h[0].at.Sub(gone) > 6*time.Second {
			t.Errorf("health: %v, want bad within 6 s of %v", h, gone)
		}
		b.set(true)
		back := time.Now()
		after(30 * time.Second)
		h := f.healthChanges()
		if len(h) != 2 || !h[1].OK || h[1].at.Sub(back) < wellFor || h[1].at.Sub(back) > wellFor+3*time.Second {
			t.Errorf("health: %v, want well %v after %v", h, wellFor, back)
		}
	})
}

// habot's own commands are for admin chats; all else is the backend's, from any chat.
func TestOwnCommandsOfAdmins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, b := newRelayed(t, operator)
		f.cluster.view = testView()
		f.start(election.Change{})
		for _, m := range []struct {
			chat int64
			text string
		}{
			{operator, "/habot status"}, {operator, "/status"}, {anybody, "/habot status"}, {operator, "/habot switchover habot-bot-3"},
			{operator, "/habot"}, {operator, "/HABOT@habot_bot nonsense"}, {operator, "/habots"},
		} {
			f.tg.send(m.chat, m.text)
		}
		after(5 * time.Second)
		texts := f.tg.texts(operator)
		if len(texts) != 4 || !strings.HasPrefix(texts[0], "the bot answers: ") || !strings.Contains(texts[0], "backend http://mybot:8000 at 10.0.0.7:8000: up") ||
			texts[1] != "<b>habot-bot-1</b> hands over to <b>habot-bot-3</b>." || !strings.HasPrefix(texts[2], "/habot status - ") || texts[3] != texts[2] {
			t.Errorf("the admin got %q", texts)
		}
		if !slices.Equal(f.cluster.asked, []string{"habot-bot-3"}) {
			t.Errorf("moved the role to %q", f.cluster.asked)
		}
		all := strings.Join(b.got(), "\n")
		if n := len(b.got()); n != 3 || !strings.Contains(all, `"/status"`) || !strings.Contains(all, `"/habots"`) || !strings.Contains(all, `"id":7,"type"`) {
			t.Errorf("the backend got %s", all)
		}
		f.expectConfirmed(1000, 1001, 1002, 1003, 1004, 1005, 1006)
	})
}

// In a group a bot that is an admin there is sent all messages: other bots' commands, and those of people who write anonymously.
func TestOwnCommandsInAnAdminGroup(t *testing.T) {
	t.Parallel()
	const person, anonymous = `{"id":12,"is_bot":false,"first_name":"x"}`, `{"id":1087968824,"is_bot":true,"username":"GroupAnonymousBot"}`
	for name, tt := range map[string]struct {
		text, from, fields string
		own                bool
	}{
		"addressed":                        {"/habot@Habot_BOT switchover", person, "", true},
		"to another bot":                   {"/habot@other_bot switchover", person, "", false},
		"by an anonymous admin":            {"/habot switchover", anonymous, `,"sender_chat":{"id":-1001234567890,"type":"supergroup"}`, true},
		"by another bot":                   {"/habot switchover", `{"id":77,"is_bot":true,"username":"another_bot"}`, "", false},
		"in a post of the group's channel": {"/habot switchover", person, `,"is_automatic_forward":true,"sender_chat":{"id":-1009,"type":"channel"}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f, b := newRelayed(t, supergroup)
				f.tg.inject(queued{id: 1000, raw: fmt.Sprintf(
					`{"update_id":1000,"message":{"message_id":1,"date":1,"from":%s,"chat":{"id":%d,"type":"supergroup"},"text":%q%s}}`, tt.from, supergroup, tt.text, tt.fields)})
				f.start(election.Change{})
				after(5 * time.Second)
				if moved, relayed := len(f.cluster.asked) == 1, len(b.got()) == 1; moved != tt.own || relayed == tt.own {
					t.Errorf("moved the role: %v, given to the backend: %v", moved, relayed)
				}
				f.expectConfirmed(1000)
			})
		})
	}
}

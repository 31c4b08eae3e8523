package bot

import (
	"context"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
	"habot/app/gateway"
	"habot/app/turns"
	"habot/app/update"
)

// copies are connections of copies of a bot, in memory.
type copies struct {
	conns chan net.Conn
	gone  chan struct{}
	once  sync.Once
}

// Accept implements net.Listener.
func (c *copies) Accept() (net.Conn, error) {
	select {
	case conn := <-c.conns:
		return conn, nil
	case <-c.gone:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (c *copies) Close() error {
	c.once.Do(func() { close(c.gone) })
	return nil
}

// Addr implements net.Listener.
func (c *copies) Addr() net.Addr { return &net.TCPAddr{} }

// newGateway is a fixture whose updates copies of a polling bot handle, and their client.
func newGateway(t *testing.T, admins ...int64) (*fixture, *http.Client) {
	t.Helper()
	tg := newTelegram(t)
	var changes []string
	f := newFixtureConfigured(t, func(cfg *Config) {
		cfg.Transport, cfg.AdminChatIDs = tg, admins
		cfg.Gateway = &gateway.Config{Replica: "process-1", Token: testToken, Turns: turns.Config{Patience: 90 * time.Second, Replay: 30 * time.Second}}
		cfg.Gateway.OnChange = func(from, to, _ string, _ int) { changes = append(changes, from+">"+to) }
	})
	f.tg, f.copyChanges = tg, &changes
	c := &copies{conns: make(chan net.Conn), gone: make(chan struct{})}
	f.bot.Gateway().ListenOn(c)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, run := range []func(context.Context) error{f.bot.Gateway().Serve, f.bot.Gateway().Run} {
		all.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		client, server := net.Pipe()
		select {
		case c.conns <- server:
			return client, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		all.Wait()
		_ = c.Close()
	})
	return f, &http.Client{Transport: transport}
}

// ask makes a request of the copy with this name.
func ask(t *testing.T, client *http.Client, name, method, form string) string {
	t.Helper()
	resp, err := client.Post("http://bot:8082/copy/"+name+"/bot"+testToken+"/"+method, "application/x-www-form-urlencoded", strings.NewReader(form))
	if err != nil {
		t.Errorf("%s: %v", method, err)
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return string(raw)
}

// habot's own commands in admin chats are answered by habot, and never given to a copy; all else is given to the copy.
func TestOwnCommandsAreNotGivenToCopies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, client := newGateway(t, operator)
		f.cluster.view = testView()
		f.start(election.Change{})
		ask(t, client, "one", "getUpdates", "timeout=1")
		f.tg.send(operator, "/habot status")
		f.tg.send(operator, "/habotstatus")
		f.tg.send(5, "/habot status") // no admin
		f.tg.send(operator, "hello")
		after(2 * time.Second)
		got := ask(t, client, "one", "getUpdates", "timeout=9")
		if strings.Count(got, `"update_id"`) != 3 || !strings.Contains(got, "/habotstatus") || !strings.Contains(got, "hello") {
			t.Errorf("the copy got %s", got)
		}
		texts := f.tg.texts(operator)
		if len(texts) != 1 || !strings.Contains(texts[0], "copy one: active since ") {
			t.Errorf("the admin got %q", texts)
		}
		ask(t, client, "one", "getUpdates", "timeout=1&offset=1004")
		after(2 * time.Second)
		f.expectConfirmed(1000, 1001, 1002, 1003)
	})
}

// That an admin chat has become a supergroup is taken in, although the message that says so is the copy's.
func TestAnAdminChatThatMovesHasOwnCommandsBesideCopies(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"in the old group":      `{"update_id":1000,"message":{"message_id":1,"date":1,"chat":{"id":-5,"type":"group"},"migrate_to_chat_id":-1001234567890}}`,
		"in the new supergroup": `{"update_id":1000,"message":{"message_id":1,"date":1,"chat":{"id":-1001234567890,"type":"supergroup"},"migrate_from_chat_id":-5}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f, client := newGateway(t, group)
				f.cluster.view = testView()
				f.start(election.Change{})
				ask(t, client, "one", "getUpdates", "timeout=1")
				f.tg.inject(queued{id: 1000, raw: raw})
				after(2 * time.Second)
				f.tg.inject(groupMessage(1001, supergroup, "/habot status", ""))
				after(2 * time.Second)
				if got := ask(t, client, "one", "getUpdates", "timeout=1"); strings.Count(got, `"update_id"`) != 1 || !strings.Contains(got, "migrate_") {
					t.Errorf("the copy got %s", got)
				}
				if texts := f.tg.texts(supergroup); len(texts) != 1 || !strings.Contains(texts[0], "copy one: active since ") {
					t.Errorf("the admins got %q", texts)
				}
				ask(t, client, "one", "getUpdates", "timeout=1&offset=1001")
				after(2 * time.Second)
			})
		})
	}
}

// Admins are notified of a change of the active copy, and of a copy that takes nothing; the first copy is no news.
func TestAdminsAreNotifiedOfCopies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, client := newGateway(t, operator)
		f.become(election.Change{Name: "habot-bot-1"})
		f.notifying()
		if why := f.bot.NoBackend(); why != "" {
			t.Errorf("at once: %q", why)
		}
		after(20 * time.Second)
		if why := f.bot.NoBackend(); why != "no copy of the bot polls" {
			t.Errorf("without a copy: %q", why)
		}
		after(20 * time.Second)
		ask(t, client, "one", "getUpdates", "timeout=1")
		two := make(chan string, 1)
		go func() { two <- ask(t, client, "two", "getUpdates", "timeout=30") }()
		after(time.Second)
		if err := f.bot.NextCopy(t.Context()); err != nil {
			t.Error(err)
		}
		after(10 * time.Second)
		<-two
		told := strings.Join(f.tg.texts(operator), "\n")
		for _, want := range []string{"no copy of the bot polls", "The copy of the bot <b>two</b> is active, replacing <b>one</b>, which an operator has replaced."} {
			if strings.Count(told, want) != 1 {
				t.Errorf("%q is not there once: %s", want, told)
			}
		}
		if got := strings.Join(*f.copyChanges, " "); got != ">one one>two" {
			t.Errorf("the caller's own OnChange: %s", got)
		}
		if strings.Contains(told, "is the first") {
			t.Errorf("notified of the first: %s", told)
		}
	})
}

// Without a gateway there is no copy to move on to.
func TestWithoutAGatewayThereIsNoNextCopy(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if err := f.bot.NextCopy(t.Context()); err == nil || f.bot.Copies(t.Context()) != nil || f.bot.Gateway() != nil {
		t.Errorf("%v, %v", err, f.bot.Copies(t.Context()))
	}
}

// batches is a consumer that notes what it is given at once.
type batches struct{ ids [][]int64 }

func (b *batches) Consume(_ context.Context, batch []update.Update, _ func(int64, update.Outcome)) {
	var ids []int64
	for _, u := range batch {
		ids = append(ids, u.ID)
	}
	b.ids = append(b.ids, ids)
}

func (*batches) Drain(context.Context) int { return 0 }

// A copy that takes over from a predecessor's term may have been given all that Telegram shows at first, and has confirmed it.
func TestABatchReachesCopiesAtOnce(t *testing.T) {
	t.Parallel()
	own, others := &batches{}, &batches{}
	o := ownFirst{own: own, others: others, isOwn: func(u update.Update) bool { return u.ID == 2 }}
	o.Consume(t.Context(), []update.Update{{ID: 1}, {ID: 2}, {ID: 3}}, nil)
	o.Consume(t.Context(), []update.Update{{ID: 2}}, nil)
	if want := [][]int64{{1, 3}}; !reflect.DeepEqual(others.ids, want) {
		t.Errorf("copies are given %v", others.ids)
	}
	if want := [][]int64{{2}, {2}}; !reflect.DeepEqual(own.ids, want) {
		t.Errorf("habot is given %v", own.ids)
	}
}

package bot

import (
	"errors"
	"fmt"
	"html"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
)

const (
	anybody  = int64(7)
	operator = int64(99)
)

// nasty is a name that would break HTML if it were not escaped.
const nasty = `<b>&"x"</i>`

func testView() election.View {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	primary := election.Claim{Timestamp: at.UnixNano(), Replica: "p"}
	return election.View{
		Self: election.Status{Name: "habot-bot-2", Role: election.Primary, Primary: primary, Health: election.Health{OK: true}},
		Peers: []election.Peer{
			{Status: election.Status{Name: "habot-bot-3", Role: election.Standby, Health: election.Health{Detail: "no way <there> & back"}}, Reachable: true},
			{Status: election.Status{Name: nasty, Role: election.Standby, Health: election.Health{OK: true}}},
		},
		Expected: 3, Reachable: 2, Quorum: 2,
		History: []election.Change{
			{Claim: primary, Name: "older", Reason: election.ReasonStart},
			{Claim: primary, Name: "habot-bot-2", Previous: nasty, Reason: election.ReasonCrash, Gap: 1234 * time.Millisecond},
		},
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	const helpForAll = "/start - say hello\n/help - what this bot can do\n/ping - see which replica answers\n" +
		"/whoami - your user id and this chat&#39;s id\n/status - all replicas and the last change of primary\n"
	const rest = "Any other text I send back with the name of the replica that answers."
	const helpForOperators = helpForAll + "/switchover - move the primary role: /switchover [replica]\n" + rest
	tests := []struct {
		name string
		chat int64
		text string
		err  error // of Switchover
		want string
		none bool
		to   []string // successors asked for
	}{
		{name: "help", chat: anybody, text: "/help", want: helpForAll + rest},
		{name: "help for operators", chat: operator, text: "/help", want: helpForOperators},
		{name: "start", chat: anybody, text: "/start", want: "Hello! I am a bot that does not stop: several replicas of me stand by, and one answers.\n" + helpForAll + rest},
		{name: "start with a payload", chat: anybody, text: "/start ref=1", want: "Hello! I am a bot that does not stop: several replicas of me stand by, and one answers.\n" + helpForAll + rest},
		{name: "ping", chat: anybody, text: "/ping", want: "habot-bot-1: pong"},
		{name: "case", chat: anybody, text: "/PiNg", want: "habot-bot-1: pong"},
		{name: "addressed", chat: anybody, text: "/ping@habot_BOT", want: "habot-bot-1: pong"},
		{name: "another bot's", chat: anybody, text: "/ping@other_bot", none: true},
		{name: "another bot's, with an argument", chat: operator, text: "/switchover@other_bot habot-bot-2", none: true},
		{name: "nobody's", chat: anybody, text: "/ping@", none: true},
		{name: "whoami", chat: anybody, text: "/whoami", want: "user id: <code>12</code>\nchat id: <code>7</code>"},
		{name: "status", chat: anybody, text: "/status", want: "the bot answers: p is primary\n<b>" + html.EscapeString(nasty) + "</b> standby, not reachable\n" +
			"<b>habot-bot-2</b> primary, healthy, since 2026-01-02 03:04:05 UTC\n" +
			"<b>habot-bot-3</b> standby, unhealthy: no way &lt;there&gt; &amp; back\n" +
			"2 of 3 replicas reachable, 2 needed\n" +
			"Last change: <b>habot-bot-2</b> became primary at 2026-01-02 03:04:05 UTC, replacing <b>" + html.EscapeString(nasty) + "</b>. Reason: " +
			html.EscapeString(nasty) + " stopped responding (crash, freeze or partition). Downtime: 1.23 s."},
		{name: "switchover without rights", chat: anybody, text: "/switchover", want: "Only chats in ADMIN_CHAT_IDS may do that."},
		{name: "switchover", chat: operator, text: "/switchover", want: "<b>habot-bot-1</b> hands over.", to: []string{""}},
		{name: "switchover to one", chat: operator, text: "/switchover   habot-bot-3 ", want: "<b>habot-bot-1</b> hands over to <b>habot-bot-3</b>.", to: []string{"habot-bot-3"}},
		{name: "switchover, argument in the next line", chat: operator, text: "/switchover\nhabot-bot-3", want: "<b>habot-bot-1</b> hands over to <b>habot-bot-3</b>.", to: []string{"habot-bot-3"}},
		{
			name: "switchover to nobody", chat: operator, text: "/switchover " + nasty, err: fmt.Errorf("ask: %w", election.ErrNoSuccessor),
			want: "Not done: " + html.EscapeString(nasty) + " is not reachable, last contact 0 ms ago.", to: []string{nasty},
		},
		{name: "switchover fails", chat: operator, text: "/switchover", err: errors.New("a <b> & c"), want: "Not done: a &lt;b&gt; &amp; c", to: []string{""}},
		{name: "unknown", chat: anybody, text: "/" + nasty + " x", want: "I do not know /" + html.EscapeString(nasty) + ".\n" + helpForAll + rest},
		{name: "echo", chat: anybody, text: "a <b> & \"c\"", want: "habot-bot-1: a <b> & \"c\""},
		{name: "echo of many lines", chat: anybody, text: "a\n/ping\n", want: "habot-bot-1: a\n/ping\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, operator)
				f.cluster.view, f.cluster.err = testView(), tt.err
				f.tg.send(tt.chat, tt.text)
				f.start(election.Change{Name: "habot-bot-1", Reason: election.ReasonStart})
				after(time.Second)
				var got []string
				for _, c := range f.tg.all("sendMessage") {
					if !strings.Contains(c.params.Text, "the first primary") { // the announcement
						got = append(got, c.params.Text)
					}
				}
				want := []string{tt.want}
				if tt.none {
					want = nil
				}
				if !slices.Equal(got, want) {
					t.Errorf("answers:\n%q\nwant\n%q", got, want)
				}
				if !slices.Equal(f.cluster.asked, tt.to) {
					t.Errorf("moved the role to %q, want %q", f.cluster.asked, tt.to)
				}
				f.expectConfirmed(1000)
			})
		})
	}
}

// Echoes are sent as they are: with a parse mode Telegram would refuse or change them.
func TestEchoIsPlainTextSplitAtTelegramsBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		long := strings.Repeat("😀", 2048) // 4096 units, as long as Telegram takes it
		f.tg.send(1, long)
		f.start(election.Change{})
		after(time.Second)
		got := f.tg.texts(1)
		if len(got) != 2 || strings.Join(got, "") != "habot-bot-1: "+long {
			t.Errorf("echoed in %d parts", len(got))
		}
		for _, c := range f.tg.all("sendMessage") {
			if c.params.ParseMode != "" {
				t.Errorf("echoed with the parse mode %s", c.params.ParseMode)
			}
		}
		f.expectOutcome(outcomeAnswered, 1)
	})
}

// What an operator asked for happens once, even if Telegram does not accept the answer: handled again by the
// successor it would move the role again, and so on.
func TestSwitchoverIsNotRepeatedForWantOfAnAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, operator)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "sendMessage" {
				return bad(500, "Internal Server Error"), nil
			}
			return nil, nil
		})
		f.tg.send(operator, "/switchover")
		r := f.start(election.Change{})
		after(time.Second)
		r.drained()
		f.expectLogged(`msg="switchover requested" by="admin chat" chat_id=99`, 1)
		if len(f.cluster.asked) != 1 {
			t.Errorf("asked %d times", len(f.cluster.asked))
		}
		f.expectConfirmed(1000)
		if got := r.reported(); len(got) != 1 || !slices.Equal(got[0], []int64{1000}) {
			t.Errorf("reported %v", got)
		}
		f.expectOutcome(outcomeFailed, 1)
	})
}

// A replica that is primary from the start has not probed: it asks who it is.
func TestNameIsAskedForWhenATextNamesABot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.send(1, "/ping")
		f.tg.send(1, "me@example.org")
		f.start(election.Change{})
		after(time.Second)
		if n := len(f.tg.all("getMe")); n != 0 {
			t.Errorf("asked %d times without need", n)
		}
		f.tg.send(1, "/ping@other_bot")
		f.tg.send(1, "/ping@habot_bot")
		after(time.Second)
		f.expectTexts(1, "habot-bot-1: pong", "habot-bot-1: me@example.org", "habot-bot-1: pong")
		if n := len(f.tg.all("getMe")); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
	})
}

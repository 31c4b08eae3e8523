package bot

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
	"habot/app/simulator"
)

const (
	group      = int64(-5)
	supergroup = int64(-1001234567890)
	botID      = 123456789 // of testToken
)

// groupMessage is a message in a group as Telegram writes it; fields are more of it, as JSON.
func groupMessage(id int, chat int64, text, fields string) queued {
	kind := "supergroup"
	if chat == group {
		kind = "group"
	}
	if fields != "" {
		fields = "," + fields
	}
	return queued{id: id, chat: chat, raw: fmt.Sprintf(
		`{"update_id":%d,"message":{"message_id":%d,"date":%d,"from":{"id":12,"first_name":"x"},"chat":{"id":%d,"type":%q,"title":"g"},"text":%q%s}}`,
		id, id, time.Now().Unix(), chat, kind, text, fields)}
}

// A message of a forum's topic is answered there. General has no message_thread_id in either direction, and Telegram refuses
// one; a thread of replies in a group that is no forum has one, and is not to be answered with it.
func TestAnswersGoToTheTopicThatWasWrittenIn(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fields         string
		thread, direct int64
	}{
		"a topic":                       {`"message_thread_id":17,"is_topic_message":true`, 17, 0},
		"a reply in a topic":            {`"message_thread_id":17,"is_topic_message":true,"reply_to_message":{"message_id":3,"date":1,"chat":{"id":-1001234567890,"type":"supergroup"}}`, 17, 0},
		"General":                       {``, 0, 0},
		"a reply in General":            {`"reply_to_message":{"message_id":3,"date":1,"chat":{"id":-1001234567890,"type":"supergroup"}}`, 0, 0},
		"replies in a group":            {`"message_thread_id":3,"reply_to_message":{"message_id":3,"date":1,"chat":{"id":-1001234567890,"type":"supergroup"}}`, 0, 0},
		"a channel's direct messages":   {`"direct_messages_topic":{"topic_id":99}`, 0, 99},
		"a service message of no topic": {`"message_thread_id":1`, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.tg.inject(groupMessage(1000, supergroup, "/ping", tt.fields))
				f.start(election.Change{})
				after(time.Second)
				f.expectTexts(supergroup, "habot-bot-1: pong")
				c := f.tg.all("sendMessage")[0]
				if c.params.Thread != tt.thread || c.params.DirectTopic != tt.direct {
					t.Errorf("answered in topic %d, direct messages topic %d: %s", c.params.Thread, c.params.DirectTopic, c.body)
				}
				if tt.thread == 0 && strings.Contains(string(c.body), "message_thread_id") {
					t.Errorf("a message_thread_id of none is sent: %s", c.body)
				}
			})
		})
	}
}

// A private chat with the bot may have topics, too.
func TestAnswersGoToTheTopicOfAPrivateChat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.inject(queued{id: 1000, raw: `{"update_id":1000,"message":{"message_id":1,"date":1,"from":{"id":7,"first_name":"x"},"chat":{"id":7,"type":"private"},"text":"hello","message_thread_id":5,"is_topic_message":true}}`})
		f.start(election.Change{})
		after(time.Second)
		f.expectTexts(7, "habot-bot-1: hello")
		if c := f.tg.all("sendMessage")[0]; c.params.Thread != 5 {
			t.Errorf("answered in topic %d", c.params.Thread)
		}
	})
}

// migrated answers as Telegram does for a group that became a supergroup.
func migrated(c call) (*http.Response, error) {
	const refused = `{"ok":false,"error_code":400,"description":"Bad Request: group chat was upgraded to a supergroup chat","parameters":{"migrate_to_chat_id":-1001234567890}}`
	if c.method == "sendMessage" && c.params.ChatID == group || c.method == "setMyCommands" && strings.Contains(string(c.params.Scope), `"chat_id":-5}`) {
		return answer(400, "application/json", refused), nil
	}
	return nil, nil
}

func TestAGroupThatBecameASupergroupIsAnsweredThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.answerWith(migrated)
		f.tg.inject(groupMessage(1000, group, "/ping", ""))
		f.tg.inject(groupMessage(1001, group, "/whoami", ""))
		f.start(election.Change{})
		after(time.Second)
		f.expectTexts(supergroup, "habot-bot-1: pong", "user id: <code>12</code>\nchat id: <code>-5</code>")
		f.expectOutcome(outcomeAnswered, 2)
		f.expectOutcome(outcomeFailed, 0)
		f.expectConfirmed(1000, 1001)
		f.expectLogged("has become a supergroup", 0) // nothing is to be configured
	})
}

// Two answers that name each other's chat must not be followed for ever.
func TestMigrationsThatGoRoundAreGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "sendMessage" && c.params.ChatID < 0 {
				to := group + supergroup - c.params.ChatID
				return answer(400, "application/json", fmt.Sprintf(`{"ok":false,"error_code":400,"description":"x","parameters":{"migrate_to_chat_id":%d}}`, to)), nil
			}
			return nil, nil
		})
		f.tg.inject(groupMessage(1000, group, "/ping", ""))
		f.start(election.Change{})
		after(time.Minute)
		f.expectOutcome(outcomeFailed, 1)
		if n := len(f.tg.all("sendMessage")); n > 3 {
			t.Errorf("it was sent %d times", n)
		}
	})
}

// expectMovedLogged expects the log to say once which id belongs into ADMIN_CHAT_IDS.
func (f *fixture) expectMovedLogged() {
	f.t.Helper()
	f.expectLogged(`level=WARN msg="an admin chat has become a supergroup: write its new id into ADMIN_CHAT_IDS" chat_id=-5 new_chat_id=-1001234567890`, 1)
}

func TestAnAdminChatThatMovedIsToldAndMayCommand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, group, operator)
		f.tg.answerWith(migrated)
		f.notifying()
		r := f.become(election.Change{Name: "habot-bot-1", Reason: election.ReasonCrash})
		after(time.Second)
		for _, chat := range []int64{supergroup, operator} {
			if got := f.tg.texts(chat); len(got) != 1 || !strings.Contains(got[0], "became primary at") {
				t.Errorf("chat %d was told %q", chat, got)
			}
		}
		f.tg.inject(groupMessage(1000, supergroup, "/switchover", ""))
		f.tg.inject(groupMessage(1001, supergroup, "/help", ""))
		after(time.Second)
		if !slices.Equal(f.cluster.asked, []string{""}) {
			t.Errorf("the role was moved %q", f.cluster.asked)
		}
		if got := f.tg.texts(supergroup); len(got) != 3 || !strings.Contains(got[2], "/switchover") {
			t.Errorf("the chat that moved was sent %q", got)
		}
		scopes := ""
		for _, c := range f.tg.all("setMyCommands") {
			scopes += string(c.params.Scope)
		}
		if !strings.Contains(scopes, `{"type":"chat","chat_id":-1001234567890}`) {
			t.Errorf("commands were set for %s", scopes)
		}
		r.drained()
		// Known now: nothing is sent to the old id any more, with or without a term.
		before := len(f.tg.texts(group))
		after(refillEvery)
		f.become(election.Change{Name: "habot-bot-1", Reason: election.ReasonCrash})
		after(time.Minute)
		if n := len(f.tg.texts(group)) - before; n != 0 {
			t.Errorf("%d more messages went to the old id", n)
		}
		if got := f.tg.texts(supergroup); len(got) != 4 {
			t.Errorf("the chat that moved was sent %q", got)
		}
		f.expectMovedLogged()
		f.expectMessages(outcomeRefused, 0)
	})
}

// A replica that is not primary writes to admins, too: the new id is an admin's.
func TestAStandbyTellsAnAdminChatThatMoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, group)
		f.tg.answerWith(migrated)
		f.standing()
		f.notifying()
		after(time.Minute)
		if got := f.tg.texts(supergroup); len(got) != 1 || !strings.HasPrefix(got[0], "No primary since") {
			t.Errorf("told %q", got)
		}
		f.expectMovedLogged()
	})
}

// A process that has just started knows of no migration: it finds out before it refuses a command.
func TestTheFirstCommandFromAnAdminChatThatMovedCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, group)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "setMyCommands" && strings.Contains(string(c.params.Scope), "default") {
				return hang(c) // the commands for all chats: those of admins' chats come after
			}
			return migrated(c)
		})
		f.tg.inject(groupMessage(1000, supergroup, "/switchover", ""))
		f.tg.inject(groupMessage(1001, -1009, "/switchover", ""))
		f.start(election.Change{})
		after(time.Second)
		if !slices.Equal(f.cluster.asked, []string{""}) {
			t.Errorf("the role was moved %q", f.cluster.asked)
		}
		f.expectTexts(-1009, "Only chats in ADMIN_CHAT_IDS may do that.")
		f.expectMovedLogged()
	})
}

// Telegram says so in the chat, too.
func TestTheMessageThatAGroupHasMovedIsTakenIn(t *testing.T) {
	t.Parallel()
	for name, message := range map[string]queued{
		"in the old group":      {id: 1000, raw: `{"update_id":1000,"message":{"message_id":1,"date":1,"chat":{"id":-5,"type":"group"},"migrate_to_chat_id":-1001234567890}}`},
		"in the new supergroup": {id: 1000, raw: `{"update_id":1000,"message":{"message_id":1,"date":1,"chat":{"id":-1001234567890,"type":"supergroup"},"migrate_from_chat_id":-5}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, group)
				f.start(election.Change{})
				after(time.Second)
				f.tg.answerWith(migrated)
				f.tg.inject(message)
				after(time.Second)
				f.tg.inject(groupMessage(1001, supergroup, "/switchover", ""))
				after(time.Second)
				if !slices.Equal(f.cluster.asked, []string{""}) {
					t.Errorf("the role was moved %q", f.cluster.asked)
				}
				f.expectMovedLogged()
				f.expectOutcome(outcomeIgnored, 1)
			})
		})
	}
}

// Both ids configured, as in the middle of following the advice: one message, not two.
func TestAnAdminChatThatIsListedTwiceIsToldOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, group, supergroup)
		f.tg.answerWith(migrated)
		f.notifying()
		for range 2 {
			r := f.become(election.Change{Name: "habot-bot-1", Reason: election.ReasonCrash})
			after(time.Second)
			r.drained()
			after(refillEvery)
		}
		// The first time both are tried at once.
		if got := f.tg.texts(supergroup); len(got) > 3 {
			t.Errorf("told %q", got)
		}
		f.expectMovedLogged()
	})
}

// simulated is a way to a simulated Telegram in memory.
func simulated(sim *simulator.Simulator) base {
	return func(req *http.Request) (*http.Response, error) {
		in := req.Clone(req.Context())
		in.RemoteAddr = "192.0.2.1:1234"
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		in.Body = io.NopCloser(bytes.NewReader(body))
		rec := &recorder{ResponseRecorder: httptest.NewRecorder()}
		sim.Handler().ServeHTTP(rec, in)
		if err := req.Context().Err(); err != nil {
			return nil, err
		}
		if rec.hijacked {
			return nil, errors.New("read: connection reset by peer")
		}
		return rec.Result(), nil
	}
}

// recorder records an answer, or that the connection was taken away.
type recorder struct {
	*httptest.ResponseRecorder
	hijacked bool
}

// Hijack implements http.Hijacker.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	r.hijacked = true
	here, there := net.Pipe()
	_ = there.Close()
	return here, nil, nil
}

func newSimulator() *simulator.Simulator {
	return simulator.New(simulator.Config{Token: testToken, Logger: slog.New(slog.DiscardHandler)})
}

// records are a simulator's account of updates.
func records(t *testing.T, sim *simulator.Simulator) []simulator.Record {
	t.Helper()
	rec := httptest.NewRecorder()
	sim.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/report/updates", nil))
	var all []simulator.Record
	if err := json.Unmarshal(rec.Body.Bytes(), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// againstSimulator runs a bot as primary against a simulated Telegram until the test ends.
func againstSimulator(t *testing.T, admins ...int64) *simulator.Simulator {
	t.Helper()
	sim := newSimulator()
	f := newFixtureOn(t, simulated(sim), admins...)
	f.start(election.Change{})
	after(time.Second)
	return sim
}

func TestForumsAndMigrationsAgainstTheSimulator(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := againstSimulator(t)
		sim.Apply(simulator.Control{
			Forums: []simulator.Forum{{Chat: supergroup, Topics: []int{17}}, {Chat: 7, Topics: []int{2}}},
			Messages: []simulator.Message{
				{Chat: supergroup, Text: "/ping", Thread: 17}, {Chat: supergroup, Text: "/ping", Thread: 1}, {Chat: supergroup, Text: "/ping"},
				{Chat: 7, Text: "in a topic", Thread: 2}, {Chat: 7, Text: "in none"}, {Chat: -1009, Text: "/ping", Thread: 3}, {Chat: group, Text: "/ping"},
			},
			Migrations: []simulator.Migration{{From: group, To: -1005}},
		})
		after(5 * time.Second)
		// Commands expect no particular answer, and so count as stray messages.
		if r := sim.Report(); r.Misplaced != 0 || r.Answered != 2 || r.StrayMessages != 5 || r.Confirmed != r.Sent {
			t.Errorf("the account is %+v", r)
		}
	})
}

// In a group the bot says nothing unless it is meant: commands may be other bots', and conversation is not for it.
func TestInGroupsOnlyWhatIsMeantForTheBotIsAnswered(t *testing.T) {
	t.Parallel()
	const byBot = `"reply_to_message":{"message_id":3,"date":1,"chat":{"id":-1001234567890,"type":"supergroup"},"from":{"id":123456789,"is_bot":true,"first_name":"habot"}}`
	const byOther = `"reply_to_message":{"message_id":3,"date":1,"chat":{"id":-1001234567890,"type":"supergroup"},"from":{"id":5,"is_bot":false,"first_name":"y"}}`
	const pong = "habot-bot-1: pong"
	for _, tt := range []struct{ name, text, fields, want string }{
		{"talk", "hello", "", ""},
		{"a command of another bot", "/ban 12345", "", ""},
		{"a path", "/etc/passwd is a file", "", ""},
		{"another bot's", "/ping@other_bot", "", ""},
		{"a known command", "/ping", "", pong},
		{"addressed", "/ping@Habot_BOT", "", pong},
		{"addressed, not known", "/ban@habot_bot 12345", "", "I do not know /ban.\n"},
		{"a mention", "well, @habot_bot, hello", "", "habot-bot-1: well, @habot_bot, hello"},
		{"another's mention", "@habot_botanist hello", "", ""},
		{"an address", "write to me@habot_bot", "", ""},
		{"a reply to the bot", "hello", byBot, "habot-bot-1: hello"},
		{"a reply to somebody", "hello", byOther, ""},
		{"in a topic that the bot opened", "hello", `"message_thread_id":3,"is_topic_message":true,` + byBot, ""},
		{"an anonymous admin", "/ping@habot_bot", `"sender_chat":{"id":-1001234567890,"type":"supergroup"}`, pong},
		{"a linked channel's post", "/ping@habot_bot", `"is_automatic_forward":true,"sender_chat":{"id":-1009,"type":"channel"}`, ""},
	} {
		for _, chat := range []int64{group, supergroup} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					f := newFixture(t)
					m := groupMessage(1000, chat, tt.text, tt.fields)
					if tt.name == "an anonymous admin" {
						m.raw = strings.Replace(m.raw, `"from":{"id":12,`, `"from":{"id":1087968824,"is_bot":true,"username":"GroupAnonymousBot",`, 1)
					}
					f.tg.inject(m)
					f.start(election.Change{})
					after(time.Second)
					got := strings.Join(f.tg.texts(chat), "\n")
					if tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
						t.Errorf("%q is answered with %q, want %q", tt.text, got, tt.want)
					}
					f.expectConfirmed(1000)
				})
			})
		}
	}
}

// A photo or a file may have a text, too: its caption. It is answered as any other text, and in a group if the bot is meant.
func TestCaptionsAreAnsweredAsTexts(t *testing.T) {
	t.Parallel()
	const photo = `"photo":[{"file_id":"a","file_unique_id":"b","width":1,"height":1}]`
	for _, tt := range []struct{ name, fields, want string }{
		{"echoed", `"chat":{"id":7,"type":"private"},"caption":"my cat"`, "habot-bot-1: my cat"},
		{"a command", `"chat":{"id":7,"type":"private"},"caption":"/ping"`, "habot-bot-1: pong"},
		{"without one", `"chat":{"id":7,"type":"private"}`, ""},
		{"talk in a group", `"chat":{"id":7,"type":"supergroup","title":"g"},"caption":"my cat"`, ""},
		{"a mention in a group", `"chat":{"id":7,"type":"supergroup","title":"g"},"caption":"@habot_bot my cat"`, "habot-bot-1: @habot_bot my cat"},
		{"of another shape", `"chat":{"id":7,"type":"private"},"caption":{"of_the":"future"}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.tg.inject(queued{id: 1000, chat: 7, raw: fmt.Sprintf(`{"update_id":1000,"message":{"message_id":1,"date":%d,"from":{"id":12,"first_name":"x"},%s,%s}}`, time.Now().Unix(), photo, tt.fields)})
				f.start(election.Change{})
				after(time.Second)
				if got := strings.Join(f.tg.texts(7), "\n"); got != tt.want {
					t.Errorf("answered with %q, want %q", got, tt.want)
				}
				f.expectConfirmed(1000)
			})
		})
	}
}

// Two bots that answer each other would talk for ever.
func TestABotIsNeverAnswered(t *testing.T) {
	t.Parallel()
	for name, chat := range map[string]string{"private": `{"id":7,"type":"private"}`, "group": `{"id":-5,"type":"group","title":"g"}`} {
		for _, text := range []string{"hello", "/ping", "/ping@habot_bot", "@habot_bot hello"} {
			t.Run(name+" "+text, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					f := newFixture(t, 7, group)
					f.tg.inject(queued{id: 1000, raw: fmt.Sprintf(
						`{"update_id":1000,"message":{"message_id":1,"date":1,"from":{"id":77,"is_bot":true,"first_name":"another","username":"another_bot"},"chat":%s,"text":%q}}`, chat, text)})
					f.start(election.Change{})
					after(time.Second)
					if got := f.sent(); len(got) != 0 {
						t.Errorf("a bot is answered with %q", got)
					}
					f.expectConfirmed(1000)
					f.expectOutcome(outcomeIgnored, 1)
				})
			})
		}
	}
}

// The direct messages of a channel are conversations of its own with each user.
func TestDirectMessagesOfAChannelAreAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.inject(queued{id: 1000, raw: `{"update_id":1000,"message":{"message_id":1,"date":1,"from":{"id":12,"first_name":"x"},"chat":{"id":-1009,"type":"supergroup","is_direct_messages":true},"direct_messages_topic":{"topic_id":12},"text":"hello"}}`})
		f.start(election.Change{})
		after(time.Second)
		f.expectTexts(-1009, "habot-bot-1: hello")
	})
}

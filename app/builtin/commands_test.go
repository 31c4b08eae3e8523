package builtin

import (
	"context"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/mymmrac/telego"
	"github.com/prometheus/client_golang/prometheus"

	"habot/app/admins"
	"habot/app/diagnosis"
	"habot/app/election"
	"habot/app/message/messagetest"
)

// The documents name the one file, and the function in it, that a developer changes for a bot of their own.
func TestTheFileToChangeIsDocumented(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("change `([a-z]+)` in \\[[a-z.]+\\]\\(app/builtin/([a-z.]+)\\)").FindStringSubmatch(strings.Join(strings.Fields(string(readme)), " "))
	if named == nil {
		t.Fatal("README names no function and file to change for a bot of one's own")
	}
	code, err := os.ReadFile(named[2])
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(code), ") "+named[1]+"(") {
		t.Errorf("%s has no function %s", named[2], named[1])
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"/start", "/START@Habot_bot a b", "/switchover\nx y", "/", "/ x", "//", "/@", "/a@b@c d", "text", "", "/a\tb", "/é@"} {
		f.Add(s, "habot_bot")
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, text, username string) {
		name, argument, ok := parse(text, username)
		if !ok {
			if name != "" || argument != "" {
				t.Errorf("no command, but %q %q", name, argument)
			}
			if strings.HasPrefix(text, "/") && (username == "" || !strings.Contains(text, "@")) {
				t.Errorf("%q is a command", text)
			}
			return
		}
		if !strings.HasPrefix(text, "/") {
			t.Errorf("%q is no command", text)
		}
		if strings.ContainsAny(name, " \n\t@") || name != strings.ToLower(name) {
			t.Errorf("the name of %q is %q", text, name)
		}
		if argument != strings.TrimSpace(argument) || !strings.Contains(text, strings.Fields(argument + " /")[0]) {
			t.Errorf("the argument of %q is %q", text, argument)
		}
		again, same, ok := parse("/"+name+" "+argument, username)
		if !ok || again != name || same != argument {
			t.Errorf("%q gives %q %q, and that %q %q", text, name, argument, again, same)
		}
		if username != "" && !strings.ContainsAny(username, " \n\t@") {
			if _, _, ok := parse("/"+name+"@x"+username, username); ok {
				t.Errorf("/%s@x%s is not for %s", name, username, username)
			}
			if _, _, ok := parse("/"+name+"@"+strings.ToUpper(username)+" "+argument, strings.ToUpper(username)); !ok {
				t.Errorf("/%s@%s is for %[2]s", name, username)
			}
		}
	})
}

// nasty is a name that would break HTML if it were not escaped.
const nasty = `<b>&"x"</i>`

// crowd is a cluster that moves no role.
type crowd struct{}

func (crowd) View() election.View {
	primary := election.Claim{Timestamp: 1767323045000000000, Replica: "p"}
	return election.View{
		Self:     election.Status{Name: "habot-bot-2", Role: election.Primary, Primary: primary, Health: election.Health{OK: true}},
		Peers:    []election.Peer{{Status: election.Status{Name: nasty, Role: election.Standby, Health: election.Health{Detail: "<there> &"}}, Reachable: true}},
		Expected: 3, Reachable: 2, Quorum: 2, History: []election.Change{{Claim: primary, Name: "habot-bot-2", Previous: nasty, Reason: election.ReasonCrash}},
	}
}

func (crowd) Switchover(context.Context, string) error { return election.ErrNoSuccessor }

// Whatever people write, what the bot says can be parsed by Telegram.
func FuzzAnswersAreValid(f *testing.F) {
	f.Add("/status", nasty, true)
	f.Add("/"+strings.Repeat("&", 4095), "a", false)
	f.Add("/switchover "+strings.Repeat("<", 4000), "a", true)
	f.Fuzz(func(t *testing.T, text, name string, admin bool) {
		if len(text) > 16_384 || len(name) > 256 {
			return
		}
		log := slog.New(slog.DiscardHandler)
		var chats []int64
		if admin {
			chats = []int64{1}
		}
		facts := func() diagnosis.Facts { return diagnosis.Facts{View: crowd{}.View()} }
		b := New(Config{
			Name: name, Username: func(context.Context) string { return "habot_bot" }, Facts: facts, Logger: log,
			Admins: admins.New(admins.Config{Chats: chats, Name: name, Cluster: crowd{}, Facts: facts, Logger: log, Registerer: prometheus.NewRegistry()}),
		})
		kind := telego.ChatTypePrivate
		if len(name)%2 == 0 {
			kind = telego.ChatTypeSupergroup
		}
		replies, _ := b.replies(t.Context(), telego.Update{Message: &telego.Message{Text: text, Chat: telego.Chat{ID: 1, Type: kind}}})
		for _, r := range replies {
			if r.HTML && !messagetest.ValidHTML(r.Text) {
				t.Errorf("Telegram cannot parse %q", r.Text)
			}
			if n := messagetest.Units(r.Text); n > 4096 || strings.TrimSpace(r.Text) == "" {
				t.Errorf("Telegram does not take a text of %d units: %q", n, r.Text)
			}
		}
	})
}

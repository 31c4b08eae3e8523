package admins

import (
	"html"
	"regexp"
	"strings"
	"testing"
	"time"

	"habot/app/diagnosis"
	"habot/app/election"
	"habot/app/message"
	"habot/app/message/messagetest"
)

// nasty is a name that would break HTML if it were not escaped.
const nasty = `<b>&"x"</i>`

var tags = regexp.MustCompile(`</?(b|code)>`)

// Whatever replicas are called and say of themselves, the status is messages that Telegram takes, with nothing
// lost on the way.
func TestStatusTextNamesAWitness(t *testing.T) {
	t.Parallel()
	primary := election.Claim{Timestamp: 1, Replica: "a"}
	text := StatusText(diagnosis.Facts{View: election.View{
		Mode: "primary-backup", Expected: 2, Reachable: 2, Quorum: 2,
		Self:  election.Status{Replica: "a", Name: "a", Role: election.Primary, Primary: primary, Health: election.Health{OK: true}},
		Peers: []election.Peer{{Status: election.Status{Replica: "w", Name: "w", Role: election.Standby, Primary: primary, Health: election.WitnessHealth()}, Reachable: true}},
	}})
	if !strings.Contains(text, "<b>w</b> witness, in contact\n") || strings.Contains(text, "unhealthy") {
		t.Errorf("%q", text)
	}
}

func FuzzStatusText(f *testing.F) {
	f.Add(nasty, "a & b", "x", uint8(3))
	f.Add("habot-bot-1", strings.Repeat("&", 256), string(election.ReasonCrash), uint8(50))
	f.Add(strings.Repeat("\U0001F600", 64), strings.Repeat("\u00e4 ", 128), "", uint8(50))
	f.Add("a\nb", "c\nd\n\ne", "f\ng", uint8(50))
	f.Fuzz(func(t *testing.T, name, detail, reason string, peers uint8) {
		name, detail, reason = strings.ToValidUTF8(name, "?"), strings.ToValidUTF8(detail, "?"), strings.ToValidUTF8(reason, "?")
		if len(name) > 256 || len(detail) > 256 || len(reason) > 64 {
			return // refused by the decoder
		}
		v := election.View{
			Self:    election.Status{Name: name, Role: election.Primary, Health: election.Health{OK: true}},
			History: []election.Change{{Name: name, Previous: detail, Reason: election.Reason(reason), Gap: time.Second}},
		}
		for i := range int(peers % 64) {
			v.Peers = append(v.Peers, election.Peer{Reachable: i%2 == 0, Status: election.Status{Name: name, Role: election.Standby, Health: election.Health{Detail: detail}}})
		}
		text := StatusText(diagnosis.Facts{View: v})
		var said strings.Builder
		for _, r := range message.HTML(message.Place{Chat: 1}, text) {
			if n := messagetest.Units(r.Text); n > message.MaxText || strings.TrimSpace(r.Text) == "" {
				t.Errorf("Telegram does not take a text of %d units", n)
			}
			if !messagetest.ValidHTML(r.Text) {
				t.Errorf("Telegram cannot parse %q", r.Text)
			}
			said.WriteString(r.Text)
		}
		bare := func(s string) string {
			return strings.Join(strings.Fields(html.UnescapeString(tags.ReplaceAllString(s, ""))), "")
		}
		if got, want := bare(said.String()), bare(text); got != want {
			t.Errorf("people read %q, want %q", got, want)
		}
		if n := strings.Count(bare(text), bare(html.EscapeString(name))); strings.TrimSpace(name) != "" && n < len(diagnosis.Replicas(v))+1 {
			t.Errorf("%q is named %d times among %d replicas", name, n, len(diagnosis.Replicas(v)))
		}
	})
}

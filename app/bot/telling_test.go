package bot

import (
	"html"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
)

func (f *fixture) expectMessages(outcome string, want int) {
	f.t.Helper()
	if got := f.metric("habot_admin_messages_total", "outcome", outcome); got != float64(want) {
		f.t.Errorf("%v messages to admins were %s, want %d", got, outcome, want)
	}
}

// Who took over, from whom, why, and how long nobody was primary.
func TestAdminsHearOfEveryChangeOfPrimary(t *testing.T) {
	t.Parallel()
	reasons := map[election.Reason]string{
		election.ReasonStart:        "the first primary",
		election.ReasonCrash:        "crash",
		election.ReasonLeaseLost:    "lease lost",
		election.ReasonShutdown:     "shut down",
		election.ReasonSwitchover:   "an operator asked for it",
		election.ReasonUnhealthy:    "could not poll Telegram",
		election.ReasonLowerPrimary: "lower timestamp",
		election.ReasonPartFailed:   "a part of it failed",
		"of <the> future":           "of &lt;the&gt; future",
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 41, 42, 43)
		failures := 0
		f.tg.answerWith(func(c call) (*http.Response, error) {
			switch {
			case c.method != "sendMessage":
			case c.params.ChatID == 41:
				return bad(403, "Forbidden: bot was blocked by the user"), nil
			case c.params.ChatID == 42 && failures < 2:
				failures++
				return bad(500, "Internal Server Error"), nil
			}
			return nil, nil
		})
		f.telling()
		for reason, why := range reasons {
			before := len(f.tg.texts(43))
			r := f.become(election.Change{
				Name: "habot-bot-1", Previous: nasty, Reason: reason, Gap: 2340 * time.Millisecond,
			})
			after(refillEvery)
			r.drained()
			got := f.tg.texts(43)[before:]
			if len(got) != 1 {
				t.Fatalf("%s: announced %q", reason, got)
			}
			for _, part := range []string{"<b>habot-bot-1</b> is primary", "after <b>" + html.EscapeString(nasty) + "</b>", why, "2.34 s"} {
				if !strings.Contains(got[0], part) {
					t.Errorf("%s: announced %q without %q", reason, got[0], part)
				}
			}
			if all := f.tg.texts(42); all[len(all)-1] != got[0] {
				t.Errorf("%s: chat 42 got %q", reason, all)
			}
		}
		f.expectLogged("an admin could not be told", 1)
		f.expectMessages(outcomeSent, 2*len(reasons))
		f.expectMessages(outcomeRefused, len(reasons))
		if n := len(f.tg.texts(41)); n != len(reasons) {
			t.Errorf("an admin who blocks the bot was written to %d times for %d changes", n, len(reasons))
		}
	})
}

func TestSlowAnnouncementDelaysNoUpdate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, operator)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.params.ChatID == operator {
				return hang(c)
			}
			return nil, nil
		})
		f.telling()
		f.tg.send(1, "a")
		start := time.Now()
		r := f.become(election.Change{})
		after(time.Minute)
		if d := f.answeredAfter(start, 1); d != 0 {
			t.Errorf("answered after %v", d)
		}
		if took := r.drained(); took != 0 {
			t.Errorf("an announcement under way held Drain up for %v", took)
		}
	})
}

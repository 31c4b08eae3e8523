package bot

import (
	"html"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
)

// refillEvery is how often one more message may be sent.
const refillEvery = 5 * time.Minute

func (f *fixture) expectMessages(outcome string, want int) {
	f.t.Helper()
	if got := f.metric("habot_admin_messages_total", "outcome", outcome); got != float64(want) {
		f.t.Errorf("%v messages to admins were %s, want %d", got, outcome, want)
	}
}

// The new primary, the previous one, the reason, and how long no replica was primary.
func TestAdminsHearOfEveryChangeOfPrimary(t *testing.T) {
	t.Parallel()
	reasons := map[election.Reason]string{
		election.ReasonStart:        "no previous primary was known",
		election.ReasonCrash:        "stopped responding (crash, freeze or partition)",
		election.ReasonLeaseLost:    "could not renew its lease in time",
		election.ReasonShutdown:     "shut down",
		election.ReasonSwitchover:   "an operator requested a switchover",
		election.ReasonUnhealthy:    "could not poll Telegram, or reach a webhook backend",
		election.ReasonLowerPrimary: "lower timestamp",
		election.ReasonPartFailed:   "a component of ",
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
		f.notifying()
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
			gap := "2.34 s"
			if reason == election.ReasonStart {
				gap = "unknown"
			}
			for _, part := range []string{"<b>habot-bot-1</b> became primary", "replacing <b>" + html.EscapeString(nasty) + "</b>", why, gap} {
				if !strings.Contains(got[0], part) {
					t.Errorf("%s: announced %q without %q", reason, got[0], part)
				}
			}
			if all := f.tg.texts(42); all[len(all)-1] != got[0] {
				t.Errorf("%s: chat 42 got %q", reason, all)
			}
		}
		f.expectLogged("an admin could not be notified", 1)
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
		f.notifying()
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

// standing makes this replica one that knows no primary, with others in the view.
func (f *fixture) standing(others ...election.Peer) {
	f.see(func(v *election.View) {
		*v = election.View{
			Self:  election.Status{Replica: me, Name: "habot-bot-1", Role: election.Looking, Health: election.Health{OK: true}, Lease: time.Second},
			Peers: others, Expected: 3, Quorum: 2, Reachable: 1,
		}
	})
}

// A replica that is not primary sends, and does nothing else that only a primary may.
func TestAReplicaTellsOfNoPrimaryWithoutALease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 41, 42)
		f.standing(election.Peer{Status: election.Status{Replica: "2", Name: "habot-bot-2"}, Age: 40 * time.Second})
		f.notifying()
		after(10 * time.Minute)
		f.see(func(v *election.View) {
			c := election.Change{Claim: election.Claim{Timestamp: 1, Replica: "3"}, Name: "habot-bot-3", Reason: election.ReasonStart}
			v.Self.Primary, v.Self.PrimaryName, v.Self.Change, v.Self.Role = c.Claim, c.Name, c, election.Standby
		})
		after(10 * time.Minute)
		for _, chat := range f.bot.cfg.AdminChatIDs {
			got := f.tg.texts(chat)
			if len(got) != 2 || !strings.HasPrefix(got[0], "No primary since") || !strings.Contains(got[0], "1 more missing") ||
				!strings.HasPrefix(got[1], "There is a primary again (as seen by <b>habot-bot-1</b>): <b>habot-bot-3</b>.") {
				t.Errorf("chat %d was told %q", chat, got)
			}
		}
		if all, sent := len(f.tg.all()), len(f.tg.all("sendMessage")); all != sent {
			t.Errorf("of %d requests only %d send", all, sent)
		}
		f.expectMessages(outcomeSent, 4)
	})
}

// conflicts has another program poll, from now on until the time given: now and then a poll of ours is cut off.
func (tg *fakeTelegram) conflicts(until time.Time, text string) {
	var n atomic.Int64
	tg.answerWith(func(c call) (*http.Response, error) {
		if c.method == "getUpdates" && c.at.Before(until) {
			if n.Add(1)%3 != 0 {
				return bad(409, text), nil
			}
		}
		return nil, nil
	})
}

func TestAdminsHearOfAForeignPollerAndThatItHasGone(t *testing.T) {
	t.Parallel()
	for text, part := range map[string]string{otherPoller: "Another program polls", webhookSet: "A webhook is set"} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, 41)
			f.notifying()
			f.become(election.Change{Name: "habot-bot-1", Reason: election.ReasonStart})
			after(time.Minute)
			f.tg.conflicts(time.Now().Add(time.Hour), text)
			after(3 * time.Hour)
			got := f.tg.texts(41)
			if len(got) != 3 || !strings.Contains(got[0], "became primary at") || !strings.HasPrefix(got[1], part) || !strings.Contains(got[2], "any more") {
				t.Errorf("told %q", got)
			}
		})
	}
}

// Nothing can be sent with a token that is rejected. A replica that starts with one has a message of its own
// on its way all the while, and does not ask again and again.
func TestARejectedTokenIsToldOnceItIsAcceptedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 41)
		var accepted atomic.Bool
		var refused atomic.Int64
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if accepted.Load() {
				return nil, nil
			}
			if c.method == "sendMessage" {
				refused.Add(1)
			} else {
				time.Sleep(time.Second) // the message leaves before the first poll is refused
			}
			return bad(401, "Unauthorized"), nil
		})
		f.notifying()
		f.become(election.Change{Name: "habot-bot-1", Reason: election.ReasonStart})
		after(5 * time.Minute)
		if n := refused.Load(); n == 0 || n > 25 {
			t.Errorf("%d messages were tried in five minutes of a rejected token", n)
		}
		before := len(f.tg.texts(41))
		accepted.Store(true)
		after(10 * time.Minute)
		got := f.tg.texts(41)[before:]
		if len(got) != 2 || !strings.Contains(got[0], "became primary at") || !strings.HasPrefix(got[1], "Telegram rejected the token (401) from") {
			t.Errorf("told %q", got)
		}
		f.expectLogged("Telegram refuses this bot", 1)
		f.expectLogged("Telegram accepts this bot again", 1)
	})
}

// takesOver is a term of a second.
func (f *fixture) takesOver(why election.Reason) {
	r := f.become(election.Change{Name: "habot-bot-1", Previous: "habot-bot-2", Reason: why, Gap: time.Second})
	after(time.Second)
	r.drained()
}

// An outage of Telegram in the middle of many changes: what waits is merged, what fails is given up and logged.
func TestAnOutageDelaysAndMergesWhatIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 41)
		f.probing()
		f.standing()
		f.notifying()
		after(time.Second)
		var failing atomic.Bool
		failing.Store(true)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if failing.Load() {
				return nil, errDropped
			}
			return nil, nil
		})
		for range 30 {
			f.takesOver(election.ReasonCrash)
			after(time.Minute)
		}
		before := len(f.tg.texts(41))
		failing.Store(false)
		after(time.Hour)
		got := f.tg.texts(41)[before:]
		if len(got) != 1 || !strings.HasPrefix(got[0], "29 changes of primary in") {
			t.Errorf("told %q", got)
		}
		f.expectLogged("an admin could not be notified", 1)
		f.expectMessages(outcomeFailed, 1)
	})
}

// A chat that blocks the bot, or is not there, is tried once for a message, and reported once until it listens.
func TestAChatThatRefusesIsNeitherRetriedNorReportedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 41)
		var refuses atomic.Bool
		refuses.Store(true)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "sendMessage" && refuses.Load() {
				return bad(400, "Bad Request: chat not found"), nil
			}
			return nil, nil
		})
		f.notifying()
		takeOver := func() {
			f.takesOver(election.ReasonCrash)
			after(refillEvery)
		}
		takeOver()
		takeOver()
		f.expectLogged("an admin could not be notified", 1)
		refuses.Store(false)
		takeOver()
		refuses.Store(true)
		takeOver()
		f.expectLogged("an admin could not be notified", 2)
		if n := len(f.tg.texts(41)); n != 4 {
			t.Errorf("%d attempts for 4 messages", n)
		}
		f.expectMessages(outcomeRefused, 3)
		f.expectMessages(outcomeSent, 1)
	})
}

func TestWithoutAdminsNothingIsLookedAt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.cluster.panic = true
		stop := f.notifying()
		after(time.Hour)
		stop()
	})
}

func TestNotifyingStopsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 41)
		f.tg.answerWith(func(c call) (*http.Response, error) { return hang(c) })
		f.standing()
		stop := f.notifying()
		after(16 * time.Second)
		start := time.Now()
		stop()
		if took := time.Since(start); took != 0 || len(f.tg.all("sendMessage")) != 1 {
			t.Errorf("%d messages under way held the stop up for %v", len(f.tg.all("sendMessage")), took)
		}
		f.expectMessages(outcomeFailed, 0)
	})
}

// Fifty replicas with long names: the message is split, and no part is more than Telegram takes.
func TestALongAccountIsSplit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 41)
		var others []election.Peer
		for range 49 {
			others = append(others, election.Peer{Status: election.Status{Name: strings.Repeat("&", 64), Role: election.Looking}, Reachable: true})
		}
		f.standing(others...)
		f.notifying()
		after(time.Minute)
		if got := f.tg.texts(41); len(got) < 2 || strings.Count(strings.Join(got, ""), "reachable, looking") != 50 {
			t.Errorf("%d messages", len(got))
		}
	})
}

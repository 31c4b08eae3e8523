package bot

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/diagnosis"
	"habot/app/election"
)

// fault is one way in which Telegram fails.
type fault struct {
	name   string
	answer func(c call) (*http.Response, error)
}

func always(resp func() *http.Response) func(call) (*http.Response, error) {
	return func(call) (*http.Response, error) { return resp(), nil }
}

// outages are those that health is about. Each tells the token, as proxies do.
func outages() []fault {
	return []fault{
		{"500", always(func() *http.Response { return bad(500, "Internal Server Error: /bot"+testToken) })},
		{"502 page", always(func() *http.Response {
			return answer(502, "text/html", "<html>no way to /bot"+testToken+"/getUpdates</html>")
		})},
		{"200 page", always(func() *http.Response { return answer(200, "text/html", "<html>/bot"+testToken+"</html>") })},
		{"403", always(func() *http.Response { return bad(403, "Forbidden: /bot"+testToken+"/getUpdates") })},
		{"dropped", func(call) (*http.Response, error) { return nil, errDropped }},
		{"hang", hang},
		{"half a body", always(func() *http.Response { return answer(200, "application/json", `{"ok":true,"result":[{"upd`) })},
		{"no error", always(func() *http.Response { return answer(200, "application/json", `{"ok":false}`) })},
		{"redirect", always(func() *http.Response {
			resp := answer(307, "text/html", "")
			resp.Header.Set("Location", "https://elsewhere.example/bot"+testToken+"/getUpdates")
			return resp
		})},
		{"bad redirect", always(func() *http.Response {
			resp := answer(302, "text/html", "")
			resp.Header.Set("Location", "https://[elsewhere/bot"+strings.Replace(testToken, ":", "%3A", 1)+"/getUpdates")
			return resp
		})},
	}
}

// during has the fault last for d from now on, whatever is asked; then everything works again. It
// returns when that is.
func (tg *fakeTelegram) during(d time.Duration, f fault) time.Time {
	start := time.Now()
	over := start.Add(d)
	in := func(at time.Time) bool { return !at.Before(start) && at.Before(over) }
	tg.answerWith(func(c call) (*http.Response, error) {
		if in(c.at) {
			return f.answer(c)
		}
		return nil, nil
	})
	tg.loseAnswers(over)
	return over
}

// answeredAfter is how long after the given time a message to the bot is answered.
func (f *fixture) answeredAfter(since time.Time, chat int64) time.Duration {
	f.t.Helper()
	for _, c := range f.tg.all("sendMessage") {
		if c.params.ChatID == chat {
			return c.at.Sub(since)
		}
	}
	f.t.Errorf("chat %d was never answered", chat)
	return 0
}

func TestAfterAnOutageOfTenSecondsPollingIsBackWithinThreeAndHealthNeverChanged(t *testing.T) {
	t.Parallel()
	faults := append(outages(), fault{"429", always(func() *http.Response { return tooMany(2) })})
	for _, ft := range faults {
		for _, fresh := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, fresh=%v", ft.name, fresh), func(t *testing.T) {
				t.Parallel()
				// The outage meets the bot at different points of its round.
				for _, start := range []time.Duration{0, 20 * time.Second, 21300 * time.Millisecond, 24900 * time.Millisecond} {
					synctest.Test(t, func(t *testing.T) {
						f := newFixture(t)
						if !fresh {
							f.tg.send(1, "a")
						}
						time.Sleep(time.Second)
						if start > 0 {
							f.start(election.Change{})
							after(start)
						}
						over := f.tg.during(10*time.Second, ft)
						if start == 0 {
							f.start(election.Change{}) // a term that begins in the outage
						}
						after(time.Until(over))
						f.tg.send(2, "are you there?")
						after(20 * time.Second)
						if d := f.answeredAfter(over, 2); d > 3*time.Second {
							t.Errorf("outage after %v: polled again %v after its end", start, d)
						}
						if h := f.healthChanges(); len(h) > 0 {
							t.Errorf("outage after %v: health changed: %v", start, h)
						}
						if len(f.tg.queue) > 0 {
							t.Errorf("%v are not confirmed", f.tg.queue)
						}
					})
				}
			})
		}
	}
}

// The answers get lost, the requests do not: Telegram keeps every repeated poll waiting.
func TestAnswersThatGetLost(t *testing.T) {
	t.Parallel()
	for _, fresh := range []bool{true, false} {
		t.Run(fmt.Sprintf("fresh=%v", fresh), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				if !fresh {
					f.tg.send(1, "a")
				}
				f.start(election.Change{})
				after(20 * time.Second)
				f.tg.loseAnswers(time.Now().Add(10 * time.Second))
				after(10 * time.Second)
				polls := len(f.tg.all("getUpdates"))
				after(5 * time.Minute)
				if h := f.healthChanges(); len(h) > 0 {
					t.Errorf("health changed: %v", h)
				}
				if n := len(f.tg.all("getUpdates")) - polls; n > 5*60/longTimeout+10 {
					t.Errorf("%d polls in five idle minutes: they never succeeded", n)
				}
			})
		})
	}
}

func TestHealthTurnsBadOnceWhenPollsFailForLong(t *testing.T) {
	t.Parallel()
	for _, ft := range outages() {
		t.Run(ft.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.tg.send(1, "a")
				f.start(election.Change{})
				after(20 * time.Second)
				start := time.Now()
				over := f.tg.during(2*time.Minute, ft)
				after(2 * time.Minute)
				h := f.healthChanges()
				if len(h) != 1 || h[0].OK || h[0].Detail == "" {
					t.Fatalf("health changes in two minutes without Telegram: %v, want one", h)
				}
				if d := h[0].at.Sub(start); d < failingFor || d > longTimeout*time.Second+failingFor {
					t.Errorf("health turned bad after %v, want %v after an answer was due", d, failingFor)
				}
				after(10 * time.Second)
				h = f.healthChanges()
				if len(h) != 2 || !h[1].OK || h[1].at.Sub(over) > 3*time.Second {
					t.Errorf("health after polls succeed again: %v", h)
				}
				f.expectLogged("a poll failed", 1)
			})
		})
	}
}

// A primary that has had no answer since it started counts as healthy for a while, and reports why that means little.
func TestAPrimaryThatNeverHadAnAnswerReportsSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		over := f.tg.during(5*time.Second, outages()[0])
		f.start(election.Change{})
		after(3 * time.Second)
		if h := f.lastTold(); !h.OK || h.Detail != diagnosis.Unanswered {
			t.Errorf("health before any answer: %+v", h)
		}
		after(time.Until(over) + 3*time.Second)
		if h := f.lastTold(); !h.OK || h.Detail != "" {
			t.Errorf("health with the first answer: %+v", h)
		}
		f.tg.during(5*time.Second, outages()[0])
		after(4 * time.Second)
		if h := f.lastTold(); !h.OK || h.Detail != "" {
			t.Errorf("health when Telegram fails for a moment: %+v", h)
		}
	})
}

// Health turns bad when it is due, not when some poll ends.
func TestHealthTurnsBadOnTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.start(election.Change{})
		after(7 * time.Second) // the second poll waits since 5s, until 10s
		f.tg.answerWith(hang)
		f.tg.loseAnswers(time.Now().Add(time.Hour))
		due := time.Now().Add(3 * time.Second)
		after(time.Minute)
		h := f.healthChanges()
		if len(h) != 1 || h[0].OK || !h[0].at.Equal(due.Add(failingFor)) {
			t.Errorf("health: %v, want bad %v after the answer was due", h, failingFor)
		}
	})
}

// When Telegram itself fails, every standby must have said so well before the primary looks for a healthy one:
// nothing moves then.
func TestStandbysFindOutFirstWhenTelegramItselfFails(t *testing.T) {
	t.Parallel()
	const told = 2 * 4500 * time.Millisecond / 5 // a standby's health comes with its next grant, under a lease of 4.5 s
	for _, ft := range outages() {
		t.Run(ft.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(100) {
				synctest.Test(t, func(t *testing.T) {
					random := rand.New(rand.NewPCG(seed, 1))
					var replicas []*fixture
					ctx, stop := context.WithCancel(t.Context())
					defer stop()
					for range 3 {
						f := newFixture(t)
						replicas = append(replicas, f)
						go func() { _ = f.bot.RunProbe(ctx) }()
						after(time.Duration(random.Int64N(int64(2 * probeEvery))))
					}
					primary := replicas[0]
					primary.start(election.Change{})
					after(10*time.Second + time.Duration(random.Int64N(int64(2*probeEvery))))
					cut := random.IntN(2) == 0 // whether what waits is cut off, or never answered
					start := time.Now()
					for _, f := range replicas {
						f.tg.answerWith(ft.answer)
						f.tg.loseAnswers(start.Add(time.Hour))
						if cut {
							f.tg.hangUp()
						}
					}
					after(time.Minute)
					bad := make([]time.Duration, len(replicas))
					for i, f := range replicas {
						h := f.healthChanges()
						if len(h) != 1 || h[0].OK {
							t.Fatalf("seed %d: health of replica %d: %v", seed, i, h)
						}
						bad[i] = h[0].at.Sub(start)
					}
					if bad[0] < max(bad[1], bad[2])+told {
						t.Errorf("seed %d: the primary knows after %v, its standbys after %v", seed, bad[0], bad[1:])
					}
					if bad[0] > longTimeout*time.Second+failingFor {
						t.Errorf("seed %d: the primary knows only after %v", seed, bad[0])
					}
				})
			}
		})
	}
}

// Otherwise the primary would hand over its role just when all is well.
func TestPrimaryFindsOutFirstThatTelegramIsBack(t *testing.T) {
	t.Parallel()
	for _, ft := range outages() {
		t.Run(ft.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(30) {
				synctest.Test(t, func(t *testing.T) {
					random := rand.New(rand.NewPCG(seed, 2))
					ctx, stop := context.WithCancel(t.Context())
					defer stop()
					var replicas []*fixture
					for range 2 {
						f := newFixture(t)
						replicas = append(replicas, f)
						go func() { _ = f.bot.RunProbe(ctx) }()
						after(time.Duration(random.Int64N(int64(2 * probeEvery))))
					}
					replicas[0].start(election.Change{})
					after(10*time.Second + time.Duration(random.Int64N(int64(2*probeEvery))))
					lasting := 30*time.Second + time.Duration(random.Int64N(int64(30*time.Second)))
					for _, f := range replicas {
						f.tg.during(lasting, ft)
					}
					after(lasting + time.Minute)
					var well []time.Time
					for i, f := range replicas {
						h := f.healthChanges()
						if len(h) != 2 || h[0].OK || !h[1].OK {
							t.Fatalf("seed %d: health of replica %d: %v", seed, i, h)
						}
						well = append(well, h[1].at)
					}
					if d := well[1].Sub(well[0]); d <= 0 {
						t.Errorf("seed %d: the standby said so %v before the primary", seed, -d)
					}
				})
			}
		})
	}
}

// getMe may work where polling does not: without a cool-down the role would go round in circles.
func TestReplicaThatHandedOverStaysUnhealthyForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			if c.method == "getUpdates" {
				return nil, errDropped
			}
			return nil, nil
		})
		f.probing()
		r := f.start(election.Change{})
		after(20 * time.Second)
		if h := f.healthChanges(); len(h) != 1 || h[0].OK {
			t.Fatalf("health: %v", h)
		}
		r.drained()
		handedOver := time.Now()
		after(3 * time.Minute)
		h := f.healthChanges()
		if len(h) != 2 || !h[1].OK {
			t.Fatalf("health: %v, want bad, then good after the cool-down", h)
		}
		if d := h[1].at.Sub(handedOver); d < coolDown-time.Second || d > coolDown+probeEvery {
			t.Errorf("healthy again %v after handing over", d)
		}
	})
}

// What was seen before a term may be old: a new primary does not lose the role for it before a poll of its own has failed.
func TestANewPrimaryIsJudgedByItsPolls(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"probes", "polls"} {
		for _, works := range []bool{true, false} {
			for _, ft := range []fault{{"dropped", func(call) (*http.Response, error) { return nil, errDropped }}, {"hang", hang}} {
				t.Run(fmt.Sprintf("%s failed, %s, works again: %v", before, ft.name, works), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						f := newFixture(t)
						f.probing()
						after(20 * time.Second)
						f.tg.answerWith(ft.answer)
						if before == "polls" {
							r := f.start(election.Change{})
							after(20 * time.Second)
							r.drained()
						} else {
							after(20 * time.Second)
						}
						if h := f.healthChanges(); len(h) != 1 || h[0].OK {
							t.Fatalf("health without Telegram: %v", h)
						}
						if works {
							f.tg.answerWith(nil)
						}
						r := f.start(election.Change{})
						began := time.Now()
						after(time.Minute)
						h := f.healthChanges()
						switch {
						case len(h) < 2 || !h[1].OK || !h[1].at.Equal(began):
							t.Errorf("health %v, want nothing of the past at the term's begin", h)
						case works && len(h) != 2:
							t.Errorf("health %v, though Telegram is polled", h)
						case !works && (len(h) != 3 || h[2].OK || h[2].at.Sub(began) > probeBound):
							t.Errorf("health %v, want bad again within %v", h, probeBound)
						}
						said := 0
						if works {
							said = 1
						}
						f.expectLogged("Telegram unreachable", 1)
						f.expectLogged("Telegram reachable again", said)
						r.drained()
					})
				})
			}
		}
	}
}

// A role that ends before a poll has told leaves what was known.
func TestARoleThatNeverPolledChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.probing()
		after(20 * time.Second)
		f.tg.answerWith(hang)
		after(20 * time.Second)
		r := f.start(election.Change{})
		after(time.Second)
		r.drained()
		after(time.Millisecond)
		if h := f.healthChanges(); len(h) != 3 || h[2].OK {
			t.Errorf("health %v, want bad, good while it polled, bad", h)
		}
	})
}

// Telegram that answers, even with a refusal, was reached: failures before and after are two.
func TestFailuresFarApartAreNotOneFailure(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]func() *http.Response{
		"limited":  func() *http.Response { return tooMany(20) },
		"conflict": func() *http.Response { return bad(409, otherPoller) },
		"token":    func() *http.Response { return bad(401, "Unauthorized") },
		"webhook":  func() *http.Response { return bad(409, webhookSet) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				start := time.Now()
				failed := 0
				f.tg.answerWith(func(c call) (*http.Response, error) {
					if c.method != "getUpdates" {
						return nil, nil
					}
					switch at := time.Since(start); {
					case failed == 0, failed == 1 && at > 18*time.Second:
						failed++
						return nil, errDropped
					case at < 18*time.Second:
						return refusal(), nil
					}
					return nil, nil
				})
				f.start(election.Change{})
				after(3 * time.Minute)
				if failed != 2 {
					t.Fatalf("%d polls failed, want 2", failed)
				}
				if h := f.healthChanges(); len(h) > 0 {
					t.Errorf("two polls that failed far apart changed health: %v", h)
				}
			})
		})
	}
}

func TestOutageIsSeenWithUpdatesInHand(t *testing.T) {
	t.Parallel()
	for _, ft := range []fault{{"dropped", func(call) (*http.Response, error) { return nil, errDropped }}, {"hang", hang}} {
		t.Run(ft.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.start(election.Change{})
				after(7 * time.Second)
				id := f.tg.send(1, "a")
				start := time.Now()
				f.tg.answerWith(func(c call) (*http.Response, error) {
					if c.method == "sendMessage" || time.Since(start) > time.Millisecond {
						return ft.answer(c)
					}
					return nil, nil
				})
				after(time.Minute)
				h := f.healthChanges()
				if len(h) != 1 || h[0].OK {
					t.Fatalf("a replica cut off with an update in hand reports health %v", h)
				}
				f.tg.answerWith(nil)
				after(time.Minute)
				f.expectConfirmed(id)
				if h := f.healthChanges(); len(h) != 2 || !h[1].OK {
					t.Errorf("health after the return: %v", h)
				}
			})
		})
	}
}

func TestRefusalsAreTroubleSaidOnceAndNoMatterOfHealth(t *testing.T) {
	t.Parallel()
	tests := []struct {
		kind, trouble string
		answer        func() *http.Response
		conflicts     bool
	}{
		{string(diagnosis.TroubleToken), "401", func() *http.Response { return bad(401, "Unauthorized") }, false},
		{string(diagnosis.TroubleToken), "404", func() *http.Response { return bad(404, "Not Found") }, false},
		{string(diagnosis.TroubleToken), "Logged out", func() *http.Response { return bad(400, "Logged out") }, false},
		{string(diagnosis.TroubleToken), "token", func() *http.Response { return bad(421, "Misdirected Request: unallowed token specified") }, false},
		{string(diagnosis.TroubleConflict), "409", func() *http.Response { return bad(409, otherPoller) }, true},
		{string(diagnosis.TroubleConflict), "409", func() *http.Response { return bad(409, "Conflict: terminated by setWebhook request") }, true},
		{string(diagnosis.TroubleWebhook), "409", func() *http.Response { return bad(409, webhookSet) }, true},
	}
	for _, tt := range tests {
		t.Run(tt.kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.start(election.Change{})
				after(20 * time.Second)
				f.tg.answerWith(func(c call) (*http.Response, error) {
					if c.method == "getUpdates" {
						return tt.answer(), nil
					}
					return nil, nil
				})
				before := len(f.tg.all("getUpdates"))
				after(10 * time.Minute)
				if h := f.healthChanges(); len(h) > 0 {
					t.Errorf("health changed: %v", h)
				}
				if !strings.Contains(f.bot.Trouble().Text(), tt.trouble) {
					t.Errorf("trouble is %q", f.bot.Trouble().Text())
				}
				// Standbys do not poll: they know it by the primary's health.
				if last, want := f.lastTold(), (election.Health{OK: true, Detail: diagnosis.Trouble(tt.kind).Text()}); last != want {
					t.Errorf("health was told last as %+v, want %+v", last, want)
				}
				f.expectLogged("level=ERROR", 1)
				f.expectLogged(diagnosis.Trouble(tt.kind).Text(), 1)
				polls := len(f.tg.all("getUpdates")) - before
				if polls < 10 || polls > 600 {
					t.Errorf("%d polls in ten minutes", polls)
				}
				if got := f.metric("habot_telegram_conflicts_total"); (got > 0) != tt.conflicts {
					t.Errorf("%v conflicts counted", got)
				}
				for _, kind := range diagnosis.Troubles() {
					if got := f.metric("habot_telegram_trouble", "kind", string(kind)); (got == 1) != (string(kind) == tt.kind) {
						t.Errorf("habot_telegram_trouble is %v for %s", got, kind)
					}
				}
				f.tg.answerWith(nil)
				over := time.Now()
				f.tg.send(2, "back?")
				after(2 * time.Minute)
				f.expectTexts(2, "habot-bot-1: back?")
				if d := f.answeredAfter(over, 2); d > time.Minute {
					t.Errorf("polled again after %v", d)
				}
				if last := f.lastTold(); last != (election.Health{OK: true}) {
					t.Errorf("health was told last as %+v", last)
				}
				if f.bot.Trouble().Text() != "" || f.metric("habot_telegram_trouble", "kind", tt.kind) != 0 {
					t.Errorf("still in trouble: %q", f.bot.Trouble().Text())
				}
				f.expectLogged("Telegram accepts this bot again", 1)
			})
		})
	}
}

func TestWebhookIsRemovedOnceATermAndWhatWaitsIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var set atomic.Bool
		set.Store(true)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			switch {
			case c.method == "deleteWebhook":
				set.Store(false)
			case c.method == "getUpdates" && set.Load():
				return bad(409, webhookSet), nil
			}
			return nil, nil
		})
		id := f.tg.send(1, "waits")
		r := f.start(election.Change{})
		after(time.Second)
		f.expectConfirmed(id)
		removals := f.tg.all("deleteWebhook")
		if len(removals) != 1 || removals[0].params.DropPending != nil && *removals[0].params.DropPending {
			t.Fatalf("removals of the webhook: %+v", removals)
		}
		if f.bot.Trouble().Text() != "" {
			t.Errorf("a webhook that was removed is trouble: %s", f.bot.Trouble().Text())
		}
		set.Store(true) // another program sets it again
		after(time.Minute)
		if n := len(f.tg.all("deleteWebhook")); n != 1 {
			t.Errorf("the webhook was removed %d times in one term", n)
		}
		if !strings.Contains(f.bot.Trouble().Text(), "webhook") {
			t.Errorf("trouble is %q", f.bot.Trouble().Text())
		}
		r.drained()
		f.start(election.Change{})
		after(2 * longTimeout * time.Second)
		if n := len(f.tg.all("deleteWebhook")); n != 2 || f.bot.Trouble().Text() != "" {
			t.Errorf("after the next takeover: %d removals, trouble %q", n, f.bot.Trouble().Text())
		}
	})
}

func TestWebhookThatCouldNotBeRemovedIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, ft := range []fault{{"dropped", func(call) (*http.Response, error) { return nil, errDropped }}, {"hang", hang}} {
		t.Run(ft.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				set, failing := true, 2
				f.tg.answerWith(func(c call) (*http.Response, error) {
					switch {
					case c.method == "deleteWebhook" && failing > 0:
						failing--
						return ft.answer(c)
					case c.method == "deleteWebhook":
						set = false
					case c.method == "getUpdates" && set:
						time.Sleep(longTimeout * time.Second) // it was set while the poll waited
						return bad(409, webhookSet), nil
					}
					return nil, nil
				})
				id := f.tg.send(1, "waits")
				f.start(election.Change{})
				after(time.Minute)
				f.expectConfirmed(id)
				if n := len(f.tg.all("deleteWebhook")); n != 3 {
					t.Errorf("tried %d times", n)
				}
			})
		})
	}
}

func TestStandbyProbesWithGetMeAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.bot.RunProbe(ctx) }()
		after(5 * time.Minute)
		if n, all := len(f.tg.all("getMe")), len(f.tg.all()); n != all || n < 60 || n > 130 {
			t.Errorf("a standby sent %d requests in five minutes, %d of them getMe", all, n)
		}
		r := f.start(election.Change{})
		after(20 * time.Second)
		probes := len(f.tg.all("getMe"))
		after(time.Minute)
		if n := len(f.tg.all("getMe")) - probes; n > 0 {
			t.Errorf("a primary probed %d times", n)
		}
		r.drained()
		polls := len(f.tg.all("getUpdates"))
		after(time.Minute)
		if n := len(f.tg.all("getUpdates")) - polls; n > 0 {
			t.Errorf("a former primary polled %d times", n)
		}
		if len(f.tg.all("getMe")) == probes {
			t.Error("a former primary does not probe")
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("RunProbe: %v", err)
		}
	})
}

func TestStandbyWithoutAWayToTelegramIsUnhealthy(t *testing.T) {
	t.Parallel()
	for _, ft := range outages() {
		t.Run(ft.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				ctx, stop := context.WithCancel(t.Context())
				go func() { _ = f.bot.RunProbe(ctx) }()
				after(20 * time.Second)
				start := time.Now()
				over := f.tg.during(time.Minute, ft)
				after(2 * time.Minute)
				h := f.healthChanges()
				if len(h) != 2 || h[0].OK || !h[1].OK {
					t.Fatalf("health: %v, want bad, then good", h)
				}
				if d, worst := h[0].at.Sub(start), probeEvery+probeAgain+2*probeTimeout; d > worst {
					t.Errorf("a standby noticed after %v, want within %v", d, worst)
				}
				if n := len(f.tg.all("getMe")); n > 60 {
					t.Errorf("%d probes in less than three minutes", n)
				}
				if d := h[1].at.Sub(over); d < wellFor || d > wellFor+2*(probeEvery+probeTimeout) {
					t.Errorf("a standby was healthy again after %v", d)
				}
				stop()
			})
		})
	}
}

func TestStandbyWithARevokedTokenIsInTroubleAndHealthy(t *testing.T) {
	t.Parallel()
	for _, refusal := range refusedTokens() {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			f.tg.answerWith(func(call) (*http.Response, error) { return refusal.answer(call{}) })
			ctx, stop := context.WithCancel(t.Context())
			go func() { _ = f.bot.RunProbe(ctx) }()
			after(time.Minute)
			if h := f.healthChanges(); len(h) > 0 {
				t.Errorf("%s: health changed: %v", refusal.name, h)
			}
			if !strings.Contains(f.bot.Trouble().Text(), "401") {
				t.Errorf("%s: trouble is %q", refusal.name, f.bot.Trouble().Text())
			}
			f.expectLogged("level=ERROR", 1)
			stop()
		})
	}
}

// refusedTokens are the ways in which a Bot API server says that a token is not good there.
func refusedTokens() []fault {
	return []fault{
		{"401", always(func() *http.Response { return bad(401, "Unauthorized") })},
		{"404", always(func() *http.Response { return bad(404, "Not Found") })},
		{"logged out", always(func() *http.Response { return bad(400, "Logged out") })},
		{"421", always(func() *http.Response { return bad(421, "Misdirected Request: unallowed token specified") })},
	}
}

// However long a token is refused: what is in hand is not given up, and what waits is not confirmed.
func TestARefusedTokenLosesNothing(t *testing.T) {
	t.Parallel()
	for _, refusal := range refusedTokens() {
		t.Run(refusal.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				over := time.Now().Add(time.Hour)
				f.tg.answerWith(func(c call) (*http.Response, error) {
					if c.method == "getUpdates" && len(f.tg.all("getUpdates")) == 1 {
						return nil, nil // the token is refused once the first updates are in hand
					}
					if time.Now().Before(over) {
						return refusal.answer(c)
					}
					return nil, nil
				})
				f.tg.send(1, "in hand")
				f.tg.send(2, "in hand, too")
				f.start(election.Change{})
				after(time.Second)
				f.tg.send(3, "waits")
				after(59 * time.Minute)
				f.expectConfirmed()
				f.expectOutcome(outcomeFailed, 0)
				if n := len(f.tg.all("sendMessage")); n > 100 {
					t.Errorf("%d messages were tried with a token that is refused", n)
				}
				after(5 * time.Minute)
				f.expectConfirmed(1000, 1001, 1002)
				f.expectOutcome(outcomeAnswered, 3)
				f.expectOutcome(outcomeFailed, 0)
				if h := f.healthChanges(); len(h) > 0 {
					t.Errorf("health changed: %v", h)
				}
			})
		})
	}
}

// No replica is a better primary when getMe and getUpdates are refused for a reason that is not known.
func TestRefusalsOfNoKnownKindMakeEverybodyUnhealthy(t *testing.T) {
	t.Parallel()
	for _, code := range []int{400, 403, 418} {
		synctest.Test(t, func(t *testing.T) {
			refused := func(call) (*http.Response, error) { return bad(code, "Something: else"), nil }
			standby, primary := newFixture(t), newFixture(t)
			standby.probing()
			primary.start(election.Change{})
			after(20 * time.Second)
			standby.tg.answerWith(refused)
			primary.tg.answerWith(refused)
			after(time.Minute)
			for _, f := range []*fixture{standby, primary} {
				if h := f.healthChanges(); len(h) != 1 || h[0].OK {
					t.Errorf("%d: health %v", code, h)
				}
			}
		})
	}
}

// Two pollers cut each other off in turn, and polls succeed in between: that is one trouble, and not one after the other.
func TestAPollerThatComesAndGoesIsOneTrouble(t *testing.T) {
	t.Parallel()
	for kind, text := range map[diagnosis.Trouble]string{diagnosis.TroubleConflict: otherPoller, diagnosis.TroubleWebhook: webhookSet} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				var polls atomic.Int64
				over := time.Now().Add(30 * time.Minute)
				f.tg.answerWith(func(c call) (*http.Response, error) {
					switch {
					case c.method == "deleteWebhook":
						return bad(500, "Internal Server Error"), nil // it stays set
					case c.method == "getUpdates" && c.at.Before(over) && polls.Add(1)%3 == 0:
						return bad(409, text), nil
					}
					return nil, nil
				})
				f.start(election.Change{})
				after(20 * time.Second)
				for time.Now().Before(over) {
					if got := f.bot.Trouble().Text(); got != kind.Text() {
						t.Fatalf("%v before its end the trouble is %q", time.Until(over), got)
					}
					if f.metric("habot_telegram_trouble", "kind", string(kind)) != 1 {
						t.Fatal("the metric says that there is no trouble")
					}
					after(time.Second)
				}
				f.expectLogged("Telegram refuses this bot", 1)
				f.expectLogged("Telegram accepts this bot again", 0)
				after(2 * time.Minute)
				if got := f.bot.Trouble().Text(); got != "" {
					t.Errorf("two minutes after the end the trouble is %q", got)
				}
				f.expectLogged("Telegram refuses this bot", 1)
				f.expectLogged("Telegram accepts this bot again", 1)
			})
		})
	}
}

// An outage shows other errors as it goes on, and operators read the latest.
func TestHealthIsToldWhenOnlyItsDetailChanges(t *testing.T) {
	t.Parallel()
	for _, as := range []string{"primary", "standby"} {
		t.Run(as, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.probing()
				after(20 * time.Second)
				if as == "primary" {
					f.start(election.Change{})
				}
				fail := func(text string) {
					f.tg.answerWith(func(call) (*http.Response, error) { return nil, errors.New(text) })
				}
				fail("the first error")
				after(time.Minute)
				fail("another error")
				after(20 * time.Second)
				last := f.lastTold()
				if last.OK || !strings.Contains(last.Detail, "another error") {
					t.Errorf("health was told last as %+v", last)
				}
				if h := f.healthChanges(); len(h) != 1 {
					t.Errorf("health turned %d times", len(h))
				}
			})
		})
	}
}

// Errors name ports and times, and so differ each time: the rate of reports about them is bounded.
func TestDetailsOfHealthAreToldAtTheirOwnPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var n atomic.Int64
		f.tg.answerWith(func(call) (*http.Response, error) { return nil, fmt.Errorf("read from port %d", n.Add(1)) })
		f.start(election.Change{})
		after(10 * time.Minute)
		f.mu.Lock()
		defer f.mu.Unlock()
		if told := len(f.told); told < 30 || told > 10*60/int(detailEvery.Seconds())+2 {
			t.Errorf("of %d errors %d were told in ten minutes, want one in %v", n.Load(), told, detailEvery)
		}
	})
}

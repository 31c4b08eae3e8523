package bot

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"habot/app/election"
)

func TestMetricsKeepTheirNamesAndFormAndClosedLabels(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 1)
		f.tg.answerWith(func(c call) (*http.Response, error) {
			switch c.params.ChatID {
			case 3:
				return bad(403, "Forbidden"), nil
			case 4:
				return nil, errDropped
			}
			return nil, nil
		})
		f.tg.send(1, "/ping")
		f.tg.send(2, "/ping@other")
		f.tg.send(3, "a")
		f.tg.send(5, "b")
		r := f.start(election.Change{}, 1003)
		after(time.Second)
		f.tg.send(4, "c")
		after(5 * time.Second)
		r.drained()
		for outcome, want := range map[string]float64{
			outcomeAnswered: 1, outcomeIgnored: 1, outcomeFailed: 1, outcomeSkipped: 1, outcomePanic: 0,
		} {
			f.expectOutcome(outcome, want)
		}
		if got := f.metric("habot_update_age_seconds"); got != 3 {
			t.Errorf("the age of %v updates was measured, want 3", got)
		}
		if got := f.metric("habot_telegram_requests_total", "method", "sendMessage", "code", "403"); got != 1 {
			t.Errorf("%v requests with 403 counted", got)
		}
		if got := f.metric("habot_telegram_requests_total", "method", "sendMessage", "code", "error"); got == 0 {
			t.Error("requests without an answer are not counted")
		}
		problems, err := testutil.GatherAndLint(f.reg)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
		families, err := f.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, family := range families {
			names = append(names, family.GetName())
		}
		want := []string{
			"habot_admin_messages_total", "habot_telegram_conflicts_total", "habot_telegram_request_seconds", "habot_telegram_requests_total",
			"habot_telegram_retry_after_seconds", "habot_telegram_trouble", "habot_update_age_seconds", "habot_update_seconds", "habot_updates_total",
		}
		if !slices.Equal(names, want) {
			t.Errorf("metrics are %v, want %v", names, want)
		}
	})
}

func TestUserAgentNamesVersionAndReplica(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 1)
		f.tg.send(1, "a")
		f.start(election.Change{})
		after(time.Second)
		for _, c := range f.tg.all() {
			if got := c.header.Get("User-Agent"); got != "habot/1.2.3 (habot-bot-1)" {
				t.Errorf("%s says User-Agent: %s", c.method, got)
			}
		}
	})
}

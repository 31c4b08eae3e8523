package simulator

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// played is a rig in which one update was answered twice, one waits, one was dropped, and two polled.
func played(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.Write(FirstChat, "one")
	r.Write(FirstChat, "two")
	r.control(`{"updates":[{"kind":"inline_query","payload":{}}]}`)
	r.call(alice, "getUpdates")
	r.call(alice, "sendMessage", "chat_id", "1001", "text", "one")
	r.call(bob, "sendMessage", "chat_id", "1001", "text", "one")
	time.Sleep(40 * time.Second)
	r.call(bob, "getUpdates")
	return r
}

func TestReportTellsTheAccount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := played(t)
		code, body := r.get("/report")
		var rep Report
		if err := json.Unmarshal([]byte(body), &rep); err != nil || code != http.StatusOK {
			t.Fatalf("%d %s: %v", code, body, err)
		}
		if len(rep.Handovers) != 1 || rep.Handovers[0].GapSeconds != 40 || rep.Handovers[0].From != alice || rep.Handovers[0].To != bob {
			t.Errorf("handovers %+v", rep.Handovers)
		}
		rep.Handovers = nil
		want := Report{
			Sent: 3, Delivered: 3, Answered: 1, AnsweredTwice: 1, Dropped: 1, Unanswered: 1, Polls: 2, PollerChanges: 1,
			LongestUnpolledSeconds: 40, Poller: bob,
		}
		if got, wanted := asJSON(t, rep), asJSON(t, want); got != wanted {
			t.Errorf("report %s\nwant   %s", got, wanted)
		}
	})
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestUpdatesAreListedByWhatBecameOfThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := played(t)
		r.Write(FirstChat, "dropped, not unanswered")
		r.call(alice, "deleteWebhook", "drop_pending_updates", "true")
		for query, want := range map[string][]int64{
			"": {1, 2, 3, 4}, "?from=3": {3, 4}, "?from=-9": {1, 2, 3, 4}, "?from=x": {1, 2, 3, 4}, "?only=twice": {1}, "?only=unanswered": {},
		} {
			_, body := r.get("/report/updates" + query)
			var list []Record
			if err := json.Unmarshal([]byte(body), &list); err != nil {
				t.Fatal(err)
			}
			got := []int64{}
			for _, rec := range list {
				got = append(got, rec.Serial)
			}
			if asJSON(t, got) != asJSON(t, want) {
				t.Errorf("%q lists %v, want %v", query, got, want)
			}
		}
		r.Write(FirstChat, "unanswered")
		_, body := r.get("/report/updates?only=unanswered")
		if !strings.Contains(body, `"text":"unanswered"`) || strings.Contains(body, "dropped") {
			t.Errorf("%s", body)
		}
	})
}

func TestPollsAreListed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := played(t)
		_, body := r.get("/report/polls?from=2")
		var list []PollRecord
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			t.Fatal(err)
		}
		if len(list) != 1 || list[0].Poller != bob || list[0].Code != http.StatusOK || list[0].Updates != 2 || list[0].End.IsZero() {
			t.Errorf("%+v", list)
		}
		if _, body := r.get("/report/polls?from=3"); body != "[]" {
			t.Errorf("%s, want an empty list", body)
		}
	})
}

func TestSimulatorSaysItIsAlive(t *testing.T) {
	t.Parallel()
	if code, body := newRig(t).get("/livez"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("%d %q", code, body)
	}
}

// Beside a bot that is elsewhere "none lost" would be a claim about it.
func TestWithoutABotThereIsNoAccount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.cfg.AwaitBot = true
		if n, err := testutil.GatherAndCount(r.registry); n != 0 || err != nil {
			t.Errorf("%d metrics of no bot: %v", n, err)
		}
		r.call(alice, "getUpdates", "timeout", "0").expect(t, http.StatusOK, "")
		if n, err := testutil.GatherAndCount(r.registry); n == 0 || err != nil {
			t.Errorf("%d metrics of a bot that polls: %v", n, err)
		}
	})
}

func TestMetricsTellTheAccountAndAreWellFormed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := played(t)
		problems, err := testutil.GatherAndLint(r.registry)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
		code, body := r.get("/metrics")
		if code != http.StatusOK {
			t.Fatalf("%d %s", code, body)
		}
		for _, line := range []string{
			`habot_simulator_updates{state="sent"} 3`, `habot_simulator_updates{state="answered_twice"} 1`,
			`habot_simulator_updates{state="lost"} 0`, `habot_simulator_updates{state="dropped"} 1`,
			`habot_simulator_updates{state="unanswered"} 1`, `habot_simulator_polls_total 2`,
			`habot_simulator_poll_overlaps_total 0`, `habot_simulator_conflicts_total 0`,
			`habot_simulator_poller_changes_total 1`, `habot_simulator_longest_unpolled_seconds 40`,
		} {
			if !strings.Contains(body, line+"\n") {
				t.Errorf("the metrics lack %s", line)
			}
		}
		if strings.Contains(body, testToken) {
			t.Error("the metrics carry the token")
		}
	})
}

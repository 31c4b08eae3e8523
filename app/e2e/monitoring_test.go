//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	promapi "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"habot/app/monitoring"
	"habot/app/simulator"
)

const (
	scrapeEvery = time.Second
	// skew is how long Prometheus may still believe a replica to be what it was: until its next scrape, or
	// until one that has gone is missed.
	skew = 6 * time.Second
	// shownWithin bounds the wait for Prometheus to show what has happened, on a busy machine too.
	shownWithin = 20 * time.Second
)

// What replica:habot_role says.
const (
	roleStandby = 2
	rolePrimary = 3
	// roleNoTelegram more: it does not reach Telegram.
	roleNoTelegram = 10
)

// prometheusAPI is a real Prometheus: that of the common stack answers at 127.0.0.1:9090.
func prometheusAPI(t *testing.T, address string) promapi.API {
	t.Helper()
	client, err := api.NewClient(api.Config{Address: "http://" + address})
	if err != nil {
		t.Fatal(err)
	}
	return promapi.NewAPI(client)
}

// atOnce asks about this moment, and gives what it answers by one label; "" for all without it.
func atOnce(ctx context.Context, p promapi.API, expr string, label model.LabelName) (map[string]float64, error) {
	v, _, _, err := p.Query(ctx, expr, time.Now())
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", expr, err)
	}
	vector, ok := v.(model.Vector)
	if !ok {
		return nil, fmt.Errorf("%s is %s", expr, v.Type())
	}
	all := map[string]float64{}
	for _, s := range vector {
		all[string(s.Metric[label])] = float64(s.Value)
	}
	return all, nil
}

// overTime asks about a stretch of time.
func overTime(t *testing.T, p promapi.API, expr string, from, to time.Time, step time.Duration) model.Matrix {
	t.Helper()
	v, warnings, _, err := p.QueryRange(t.Context(), expr, promapi.Range{Start: from, End: to, Step: step})
	if err != nil {
		t.Fatalf("ask %s: %v", expr, err)
	}
	if len(warnings) > 0 {
		t.Errorf("%s: %v", expr, warnings)
	}
	matrix, ok := v.(model.Matrix)
	if !ok {
		t.Fatalf("%s is %s", expr, v.Type())
	}
	return matrix
}

// upset is one stretch of time in which the primary is, or may be, changing.
type upset struct{ from, to time.Time }

// watched is the run of the test below: what was done, and when.
type watched struct {
	p      promapi.API
	names  []string
	begun  time.Time
	upsets []upset
	blind  upset // while Prometheus restarts
}

// shows waits until a question is answered as want says; by is the label that tells answers apart.
func (w *watched) shows(t *testing.T, within time.Duration, expr string, by model.LabelName, want func(map[string]float64) bool) {
	t.Helper()
	eventually(t, within, func() error {
		got, err := atOnce(t.Context(), w.p, expr, by)
		if err == nil && !want(got) {
			err = fmt.Errorf("%s is %v", expr, got)
		}
		return err
	})
}

// change has something change the primary and expects Prometheus to report it: the new primary, the previous one, the reason.
func (w *watched) change(t *testing.T, reason string, cause, heal func(*testing.T, replica)) {
	t.Helper()
	old, _ := settled(t, size)
	polls := lastPoll(t)
	start := time.Now()
	cause(t, old)
	successor := takeover(t, old.name, polls, start).Poller
	// The three panels that answer at once.
	w.shows(t, shownWithin, `habot:primary_since_timestamp_seconds`, "replica", func(got map[string]float64) bool {
		return len(got) == 1 && math.Abs(got[successor]-unixSeconds(start)) < 30
	})
	w.shows(t, shownWithin, `habot:last_change_timestamp_seconds{previous="`+old.name+`", reason="`+reason+`"}`, "replica",
		func(got map[string]float64) bool { return len(got) == 1 && got[successor] > 0 })
	w.shows(t, shownWithin, `habot:last_change_gap_seconds <= on () group_left () (2 * habot:lease_seconds + 0.5)`, "replica", func(got map[string]float64) bool {
		_, told := got[successor]
		return len(got) == 1 && told
	})
	if last := ask[simulator.Report](t, "/report").Handovers; len(last) == 0 || last[len(last)-1].From != old.name || last[len(last)-1].To != successor {
		t.Errorf("Telegram did not see the role move from %s to %s", old.name, successor)
	}
	heal(t, old)
	settled(t, size)
	w.shows(t, 2*shownWithin, "replica:habot_role", "replica", func(got map[string]float64) bool {
		return len(got) == size && got[successor] == rolePrimary && got[old.name] == roleStandby
	})
	w.upsets = append(w.upsets, upset{start, time.Now()})
}

func unixSeconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

// TestMonitoring takes the stack through a kill, a handover, a partition and an outage of Telegram while the
// real Prometheus looks on, and then puts every question of the dashboard to it.
func TestMonitoring(t *testing.T) {
	_, _ = settled(t, size)
	w := &watched{p: prometheusAPI(t, "127.0.0.1:9090")}
	for _, r := range replicas(t) {
		w.names = append(w.names, r.name)
	}
	w.shows(t, 3*shownWithin, "replica:habot_role", "replica", func(got map[string]float64) bool {
		return len(got) == size
	})
	w.begun = time.Now()
	before := ask[simulator.Report](t, "/report")

	w.change(t, "crash", command("kill"), command("start"))
	w.change(t, "shutdown", command("stop"), command("start"))
	w.change(t, "crash", peersOnly("-A"), peersOnly("-D"))
	w.telegramFails(t)
	w.telegramLimits(t)
	w.prometheusRestarts(t)

	end := time.Now()
	if after := ask[simulator.Report](t, "/report"); after.Lost != before.Lost {
		t.Errorf("%d updates were lost", after.Lost-before.Lost)
	}
	w.onePrimary(t, end)
	w.noPanelIsEmpty(t, end)
	w.annotations(t, end)
	w.alerts(t, end)
}

// telegramFails: nothing moves, and the dashboard says why no chat is answered.
func (w *watched) telegramFails(t *testing.T) {
	t.Helper()
	primary, _ := settled(t, size)
	const lasting = 32 * time.Second
	control(t, simulator.Control{Faults: []simulator.Fault{{Kind: simulator.FaultError500, Seconds: lasting.Seconds()}}})
	w.shows(t, lasting, `replica:habot_role`, "replica", func(got map[string]float64) bool {
		return got[primary.name] == rolePrimary+roleNoTelegram
	})
	w.shows(t, lasting, `ALERTS{alertname="TelegramUnreachable", severity="critical", alertstate="firing"}`, "replica",
		func(got map[string]float64) bool { return len(got) == 1 && got[primary.name] == 1 })
	if poller := ask[simulator.Report](t, "/report").Poller; poller != primary.name {
		t.Errorf("the role moved from %s to %s, and no replica reaches Telegram", primary.name, poller)
	}
	w.shows(t, lasting, `ALERTS{alertname="TelegramUnreachable", alertstate="firing"}`, "replica",
		func(got map[string]float64) bool { return len(got) == 0 })
	if again, _ := settled(t, size); again.name != primary.name {
		t.Errorf("the role moved from %s to %s: no other replica reached Telegram before it", primary.name, again.name)
	}
}

// telegramLimits: the wait that Telegram asks for is shown.
func (w *watched) telegramLimits(t *testing.T) {
	t.Helper()
	const wait = 2
	control(t, simulator.Control{Faults: []simulator.Fault{{Kind: simulator.FaultLimit, Seconds: 3, RetryAfterSeconds: wait}}})
	w.shows(t, shownWithin, question(t, "Rate-limit wait (retry_after)").Substitute(scrapeEvery, time.Minute), "",
		func(got map[string]float64) bool { return math.Abs(got[""]-wait) < 0.01 })
	_, _ = settled(t, size)
	time.Sleep(skew) // for the last of it to be scraped
}

// prometheusRestarts: it goes on where it was, and no change is seen that was none.
func (w *watched) prometheusRestarts(t *testing.T) {
	t.Helper()
	changes := question(t, "Changes in 24 h").Expr
	value := func(expr string) map[string]float64 {
		got, err := atOnce(t.Context(), w.p, expr, "replica")
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	counted, last := value(changes), value("habot:last_change_timestamp_seconds")
	w.blind.from = time.Now()
	if out, err := compose(t.Context(), "restart", "--timeout", "10", "prometheus"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.shows(t, 2*shownWithin, "replica:habot_role", "replica", func(got map[string]float64) bool {
		return len(got) == size && !slices.Contains(slices.Collect(maps.Values(got)), 0)
	})
	time.Sleep(skew)
	w.blind.to = time.Now()
	if got := value(changes); !maps.Equal(got, counted) {
		t.Errorf("%v changes were counted before Prometheus restarted, %v after", counted, got)
	}
	if got := value("habot:last_change_timestamp_seconds"); !maps.Equal(got, last) {
		t.Errorf("the last change was %v before Prometheus restarted, %v after", last, got)
	}
}

// questions are those of the dashboard.
func questions(t *testing.T) []monitoring.Query {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root(), "grafana", "dashboards", "habot.json"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := monitoring.Read(raw)
	if err != nil {
		t.Fatal(err)
	}
	all, err := monitoring.Queries(d)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func question(t *testing.T, of string) monitoring.Query {
	t.Helper()
	all := questions(t)
	i := slices.IndexFunc(all, func(q monitoring.Query) bool { return q.Of == of })
	if i < 0 {
		t.Fatalf("the dashboard has no %s", of)
	}
	return all[i]
}

// onePrimary: as the panel of roles shows it there is exactly one at each second, but for the upsets; and for no
// longer than a scrape or two more than one even then.
func (w *watched) onePrimary(t *testing.T, end time.Time) {
	t.Helper()
	primaries := map[time.Time]int{}
	for _, s := range overTime(t, w.p, question(t, "Roles").Expr, w.begun, end, scrapeEvery) {
		name := string(s.Metric["replica"])
		if !slices.Contains(w.names, name) {
			t.Errorf("the roles show %q, which is no replica's name", name)
		}
		for _, v := range s.Values {
			at := v.Timestamp.Time()
			primaries[at] += 0
			if int(v.Value)%roleNoTelegram == rolePrimary {
				primaries[at]++
			}
		}
	}
	if len(primaries) < int((end.Sub(w.begun)-w.blind.to.Sub(w.blind.from))/scrapeEvery)-1 {
		t.Errorf("the roles have %d seconds of %v", len(primaries), end.Sub(w.begun))
	}
	// On a busy machine a replica may be asked in vain.
	asked := map[time.Time]bool{}
	for _, s := range overTime(t, w.p, fmt.Sprintf("min_over_time(habot:replicas_live[3s]) == %d", size), w.begun, end, scrapeEvery) {
		for _, v := range s.Values {
			asked[v.Timestamp.Time()] = true
		}
	}
	two, calm := 0, 0
	for at, n := range primaries {
		changing := slices.ContainsFunc(append(w.upsets, w.blind), func(u upset) bool {
			return at.After(u.from.Add(-scrapeEvery)) && at.Before(u.to.Add(scrapeEvery))
		})
		if n > 1 {
			two++
		}
		if changing || !asked[at] {
			continue
		}
		if calm++; n != 1 {
			t.Errorf("%d primaries at %v, when nothing changed", n, at)
		}
	}
	t.Logf("FIGURE roles: %d seconds shown, %d of them calm, %d with two primaries in %d changes", len(primaries), calm, two, len(w.upsets))
	if two > int(skew/scrapeEvery)*len(w.upsets) {
		t.Errorf("two primaries are shown for %d s in %d changes", two, len(w.upsets))
	}
	if calm < 10 {
		t.Errorf("only %d seconds of %d were calm: that shows nothing", calm, len(primaries))
	}
}

// noPanelIsEmpty puts each question as Grafana does. Each must have an answer that can be drawn, without warnings,
// and with names where a replica is meant; but for those about webhook backends and copies, of which this stack has none.
func (w *watched) noPanelIsEmpty(t *testing.T, end time.Time) {
	t.Helper()
	shown := end.Sub(w.begun).Round(time.Second)
	address := regexp.MustCompile(`^\d+\.\d+\.\d+\.\d+(:\d+)?$|^[0-9a-f]{12}$`)
	for _, q := range questions(t) {
		expr, step := q.Substitute(scrapeEvery, shown), q.Step(scrapeEvery, shown)
		var series model.Matrix
		if q.Instant {
			series = overTime(t, w.p, expr, end, end, step)
		} else {
			series = overTime(t, w.p, expr, w.begun, end, step)
		}
		drawn := 0
		for _, s := range series {
			for _, v := range s.Values {
				if !math.IsNaN(float64(v.Value)) && !math.IsInf(float64(v.Value), 0) {
					drawn++
				}
			}
			for label, value := range s.Metric {
				if label == "instance" || address.MatchString(string(value)) {
					t.Errorf("%s shows an address: %s", q.Of, s.Metric)
				}
				if label == "replica" && !slices.Contains(append(w.names, "nobody"), string(value)) {
					t.Errorf("%s shows %s, which is no replica's name", q.Of, value)
				}
			}
			for _, label := range monitoring.Labels(q.Legend) {
				if _, has := s.Metric[model.LabelName(label)]; !has {
					t.Errorf("%s has {{%s}} in its legend and not in %s", q.Of, label, s.Metric)
				}
			}
		}
		// The built-in bot has no webhook backends and no copies: the questions about them are evaluated here, and have no answer.
		if absent := strings.Contains(expr, "habot_backend_") || strings.Contains(expr, "habot_gateway_"); (drawn == 0) != absent {
			t.Errorf("%s has %d values: %s", q.Of, drawn, expr)
		}
	}
	w.answers(t, end, shown)
}

// answers: what the panels of this run must show, besides something.
func (w *watched) answers(t *testing.T, end time.Time, shown time.Duration) {
	t.Helper()
	report := ask[simulator.Report](t, "/report")
	total := func(of, label string) map[string]float64 {
		sums := map[string]float64{}
		q := question(t, of)
		for _, s := range overTime(t, w.p, q.Substitute(scrapeEvery, shown), w.begun, end, q.Step(scrapeEvery, shown)) {
			for _, v := range s.Values {
				if !math.IsNaN(float64(v.Value)) {
					sums[string(s.Metric[model.LabelName(label)])] += float64(v.Value)
				}
			}
		}
		return sums
	}
	for _, c := range []struct {
		of, label string
		good      func(map[string]float64) bool
	}{
		{"Replicas", "", func(got map[string]float64) bool { return got[""] == size }},
		{"Quorum margin", "", func(got map[string]float64) bool { return got[""] == size-(size/2+1) }},
		{"Changes in 24 h", "", func(got map[string]float64) bool { return got[""] >= float64(len(w.upsets)) }},
		{"Lost, twice", "", func(got map[string]float64) bool { return got[""] == float64(report.Lost) }},
		{"Primary", "replica", func(got map[string]float64) bool { return len(got) == 1 && got[report.Poller] > 0 }},
	} {
		w.shows(t, shownWithin, question(t, c.of).Substitute(scrapeEvery, shown), model.LabelName(c.label), c.good)
	}
	if handled := total("Updates handled, by replica", "replica"); len(handled) < 2 || handled[report.Poller] == 0 {
		t.Errorf("updates are handled by %v", handled)
	}
	if reasons := total("Takeovers by reason", "reason"); reasons["crash"] == 0 || reasons["shutdown"] == 0 {
		t.Errorf("takeovers have the reasons %v", reasons)
	}
	if each := total("Each takeover", "replica"); len(each) < 2 {
		t.Errorf("takeovers are shown of %v", each)
	}
	if codes := total("Requests by method and code", "code"); codes["200"] == 0 || codes["500"] == 0 || codes["429"] == 0 {
		t.Errorf("requests have the codes %v", codes)
	}
	if outcomes := total("Outcomes", "outcome"); outcomes["answered"] == 0 || outcomes["panic"] != 0 {
		t.Errorf("updates have the outcomes %v", outcomes)
	}
}

// annotations: one for each change, at its time, that names the new primary and the previous one.
func (w *watched) annotations(t *testing.T, end time.Time) {
	t.Helper()
	shown := end.Sub(w.begun).Round(time.Second)
	q := question(t, "Changes of primary")
	if !q.Annotation {
		t.Fatal("changes of primary are no annotation")
	}
	var at []time.Time
	for _, s := range overTime(t, w.p, q.Substitute(scrapeEvery, shown), w.begun, end, q.Step(scrapeEvery, shown)) {
		if s.Metric["replica"] == "" || s.Metric["previous"] == "" || s.Metric["reason"] == "" {
			t.Errorf("a change does not say who, from whom, why: %s", s.Metric)
		}
		for _, v := range s.Values {
			at = append(at, time.UnixMilli(int64(v.Value)))
		}
	}
	for _, u := range w.upsets {
		if !slices.ContainsFunc(at, func(a time.Time) bool { return !a.Before(u.from) && !a.After(u.to) }) {
			t.Errorf("no annotation between %v and %v", u.from, u.to)
		}
	}
	for _, a := range at {
		if a.After(w.begun) && !slices.ContainsFunc(w.upsets, func(u upset) bool { return !a.Before(u.from) && !a.After(u.to) }) {
			t.Errorf("an annotation at %v, when nothing changed", a)
		}
	}
}

// alerts: none has begun to fire that this run is no reason for, and every rule was evaluated.
func (w *watched) alerts(t *testing.T, end time.Time) {
	t.Helper()
	fired := map[string]bool{}
	for _, s := range overTime(t, w.p, `ALERTS{alertstate="firing"}`, w.begun, end, scrapeEvery) {
		fired[string(s.Metric["alertname"])] = true
	}
	delete(fired, "TelegramUnreachable")
	delete(fired, "FailoverFlapping") // changes of tests that ran before count too
	for _, s := range overTime(t, w.p, `ALERTS{alertstate="firing"}`, w.begun, w.begun, scrapeEvery) {
		delete(fired, string(s.Metric["alertname"]))
	}
	for name := range fired {
		t.Errorf("%s fired", name)
	}
	rules, err := w.p.Rules(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	health := healthOf(rules)
	for rule, h := range health {
		if h.of != promapi.RuleHealthGood {
			t.Errorf("%s is %s: %s", rule, h.of, h.lastError)
		}
	}
	if len(health) < 30 {
		t.Errorf("only %d rules are evaluated", len(health))
	}
}

// ruleHealth is how the last evaluation of a rule went.
type ruleHealth struct {
	of        promapi.RuleHealth
	lastError string
}

// healthOf is the health of each rule, by its number and name: several alerts share a name.
func healthOf(rules promapi.RulesResult) map[string]ruleHealth {
	all := map[string]ruleHealth{}
	for _, g := range rules.Groups {
		for i, r := range g.Rules {
			switch r := r.(type) {
			case promapi.RecordingRule:
				all[fmt.Sprintf("%s %d %s", g.Name, i, r.Name)] = ruleHealth{r.Health, r.LastError}
			case promapi.AlertingRule:
				all[fmt.Sprintf("%s %d %s", g.Name, i, r.Name)] = ruleHealth{r.Health, r.LastError}
			}
		}
	}
	return all
}

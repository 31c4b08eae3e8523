package monitoring_test

import (
	"regexp"
	"strings"
	"testing"
)

// Prometheus writes no stale markers when it is stopped: what it had scraped and recorded stays visible for five minutes.
// The head of rules.yml lists the condition that each kind of series needs.
const (
	named   = "0 * (topk by (instance, job) (1, timestamp(habot_replica_info)) > time() - 5)"
	present = "and on (replica) replica:habot_seen_timestamp_seconds > time() - 5"
	latest  = "topk(1, habot:last_change_timestamp_seconds)"
)

// leftovers are the series that a query uses without the condition that leaves out an earlier Prometheus'.
func leftovers(expr string) []string {
	expr = unwrapped(expr)
	var all []string
	// Names and ids are those of the newest replica at an address.
	for _, m := range regexp.MustCompile(`group_left \(\w+\) (.{0,90})`).FindAllStringSubmatch(expr, -1) {
		if !strings.HasPrefix(m[1], named) {
			all = append(all, m[0])
		}
	}
	byAddress := strings.Contains(expr, strings.TrimSuffix(strings.TrimPrefix(named, "0 * ("), ")"))
	for _, m := range regexp.MustCompile(`\b((?:replica:|habot:)?(?:habot_)?[a-z_]+(?::event)?)({[^}]*})?(\[)?`).FindAllStringSubmatch(expr, -1) {
		series, selected := m[1], m[1]+m[2]
		fresh := strings.Contains(expr, "timestamp("+selected+") > time() - 5")
		switch {
		case m[3] == "[": // a window ends by itself
		case series == "replica:habot_seen_timestamp_seconds", series == "replica:habot_role": // written anew for each name, gone or not
		case strings.HasPrefix(series, "replica:"):
			if !byAddress && !strings.Contains(expr, present) {
				all = append(all, selected)
			}
		case strings.HasPrefix(series, "habot:last_change_"), strings.HasPrefix(series, "habot:primary_since_"):
			aggregated := regexp.MustCompile(`(?:max|topk)\((?:1, )?` + series + `(?: offset \w+)?\)`).MatchString(expr)
			if !fresh && !aggregated && !strings.Contains(expr, latest) {
				all = append(all, selected)
			}
		case strings.HasPrefix(series, "habot:"): // without labels: each evaluation writes it anew
		case strings.HasPrefix(series, "habot_"), strings.HasPrefix(series, "process_"), strings.HasPrefix(series, "go_"):
			ofTheLatest := strings.Contains(expr, "== on () group_left () max(habot:last_change_timestamp_seconds)")
			if !byAddress && !fresh && !ofTheLatest {
				all = append(all, selected)
			}
		}
	}
	return all
}

func TestLeftoversAreRecognised(t *testing.T) {
	for _, expr := range []string{
		`max by (replica) (habot_primary * on (instance, job) group_left (replica) instance:habot_replica:fresh)`,
		`max by (replica) (habot_primary + on (instance, job) group_left (replica) 0 * habot_replica_info)`,
		`count(habot_primary == 1)`,
		`max(habot_quorum and timestamp(habot_lease_seconds) > time() - 5)`,
		`sum(habot_simulator_updates{state="lost"})`,
		`max by (kind) (replica:habot_telegram_trouble)`,
		`habot:primary_since_timestamp_seconds * 1000`,
		`habot:last_change_gap_seconds{reason!="start"}`,
		`max(process_resident_memory_bytes)`,
		`count(instance:habot_replica:fresh)`,
	} {
		if len(leftovers(expr)) == 0 {
			t.Errorf("no leftover is recognised in %s", expr)
		}
	}
}

// questionsOfRules are the queries of rules.yml, those in descriptions included, by the rule.
func questionsOfRules(t *testing.T) map[string][]string {
	t.Helper()
	rules := regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAllString(read(t, "prometheus/rules.yml"), "")
	all := map[string][]string{}
	for _, rule := range regexp.MustCompile(`(?m)^ +- (?:record|alert): `).Split(rules, -1)[1:] {
		name := strings.Fields(rule)[0]
		expr := regexp.MustCompile(`(?s)\n +expr: (?:>-\n)?(.*?)(?:\n +(?:for|labels|annotations|- name):|$)`).FindStringSubmatch(rule)
		if expr == nil {
			t.Fatalf("%s has no expression", name)
		}
		all[name] = append(all[name], expr[1])
		for _, m := range regexp.MustCompile(`query "((?:[^"\\]|\\.)*)"`).FindAllStringSubmatch(rule, -1) {
			all[name] = append(all[name], strings.ReplaceAll(m[1], `\"`, `"`))
		}
	}
	return all
}

func TestQueriesLeaveOutAnEarlierPrometheus(t *testing.T) {
	asked := questionsOfRules(t)
	if len(asked) < 30 || len(asked["NoPrimary"]) < 5 {
		t.Fatalf("only %d rules were read, NoPrimary asks %q", len(asked), asked["NoPrimary"])
	}
	for _, q := range queries(t) {
		asked[q.Of] = append(asked[q.Of], q.Expr)
	}
	for of, exprs := range asked {
		for _, expr := range exprs {
			for _, series := range leftovers(expr) {
				t.Errorf("%s uses %s of an earlier Prometheus too: %s", of, series, unwrapped(expr))
			}
		}
	}
}

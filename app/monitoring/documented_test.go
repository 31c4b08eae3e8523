package monitoring_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"habot/app/monitoring"
)

// The documents keep step with the code, both ways: this is the one place that compares them.

// between is what is in one list and not in the other.
func between(t *testing.T, where string, documented, there []string) {
	t.Helper()
	if len(there) == 0 {
		t.Fatalf("%s: there is nothing to compare with", where)
	}
	for _, name := range there {
		if !slices.Contains(documented, name) {
			t.Errorf("%s lacks %s", where, name)
		}
	}
	for _, name := range documented {
		if !slices.Contains(there, name) {
			t.Errorf("%s has %s, which does not exist", where, name)
		}
	}
}

// first is the first group of each match.
func first(pattern, in string) []string {
	var all []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(in, -1) {
		all = append(all, m[1])
	}
	return all
}

func TestEveryMetricIsDocumentedWithItsType(t *testing.T) {
	replica, simulated := exported(t)
	exposition := string(replica) + string(simulated)
	doc := read(t, "prometheus/METRICS.md")
	between(t, "METRICS.md", first("(?m)^\\| `(habot_[a-z_]+)` \\| [a-z]+ \\|", doc), first(`(?m)^# TYPE (habot_\S+) `, exposition))
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (habot_\S+) (\S+)$`).FindAllStringSubmatch(exposition, -1) {
		row := regexp.MustCompile("(?m)^\\| `" + m[1] + "` \\| " + m[2] + " \\| ([^|]*)\\| ([^|]+) \\|$").FindStringSubmatch(doc)
		if row == nil {
			t.Errorf("METRICS.md does not say that %s is a %s, and what it means", m[1], m[2])
			continue
		}
		// Labels, as far as this metric has a series.
		series := regexp.MustCompile(`(?m)^` + m[1] + `(?:_bucket|_sum|_count)?(?:{(.*)})? `).FindStringSubmatch(exposition)
		if series == nil {
			continue
		}
		labels := slices.DeleteFunc(first(`([a-z_]+)="`, series[1]), func(l string) bool { return l == "le" })
		labelled := first("`([a-z_]+)`", row[1])
		slices.Sort(labels)
		slices.Sort(labelled)
		if !slices.Equal(labels, labelled) {
			t.Errorf("METRICS.md: %s has the labels %v, not %v", m[1], labels, labelled)
		}
	}
}

// Labels with a closed set of values: each value that is exported is named in the metric's row, and each value that
// the row names is exported.
func TestEveryValueOfAClosedLabelIsDocumented(t *testing.T) {
	replica, simulated := exported(t)
	doc := read(t, "prometheus/METRICS.md")
	values := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^(habot_[a-z_]+){(?:reason|result|outcome|kind|state)="([^"]*)"(?:,witnessed="[a-z]+")?} `).FindAllStringSubmatch(string(replica)+string(simulated), -1) {
		values[m[1]] = append(values[m[1]], m[2])
	}
	if len(values) < 9 {
		t.Fatalf("only %v have such labels", values)
	}
	for metric, exported := range values {
		row := regexp.MustCompile("(?m)^\\| `" + metric + "` \\| [a-z]+ \\| [^|]*\\| [^|:]*:([^|]*) \\|$").FindStringSubmatch(doc)
		if row == nil {
			t.Errorf("METRICS.md does not list the values of %s", metric)
			continue
		}
		between(t, "METRICS.md: "+metric, first("`([a-z_]+)`", row[1]), exported)
	}
}

func TestEveryRecordedSeriesIsDocumented(t *testing.T) {
	between(t, "METRICS.md", first("(?m)^\\| `((?:instance|replica|habot):[a-z_:]+)` \\|", read(t, "prometheus/METRICS.md")),
		first(`(?m)^ +- record: (\S+)$`, read(t, "prometheus/rules.yml")))
}

// Whatever a panel or a rule asks for exists: a metric that was renamed would leave them empty.
func TestNobodyAsksForWhatIsNotThere(t *testing.T) {
	doc := read(t, "prometheus/METRICS.md")
	known := append(first("(?m)^\\| `(habot_[a-z_]+)` \\|", doc), first("(?m)^\\| `([a-z]+:[a-z_:]+)` \\|", doc)...)
	asked := read(t, "prometheus/rules.yml")
	for _, q := range queries(t) {
		asked += "\n" + q.Expr
	}
	asked = regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAllString(asked, "")
	for _, name := range first(`\b((?:(?:instance|replica|habot):)?habot_[a-z_]+(?::[a-z]+)?|habot:[a-z_:]+)`, asked) {
		base := name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if h, cut := strings.CutSuffix(name, suffix); cut && slices.Contains(known, h) {
				base = h
			}
		}
		if !slices.Contains(known, base) {
			t.Errorf("a rule or panel asks for %s", name)
		}
	}
}

// unwrapped is a text in one line.
func unwrapped(s string) string { return strings.Join(strings.Fields(s), " ") }

// The document says of each panel what the panel says of itself, in the same order.
func TestEveryPanelIsDocumented(t *testing.T) {
	var want []string
	for _, p := range readDashboard(t).Panels {
		if p.RowPanel != nil {
			want = append(want, "## "+*p.RowPanel.Title)
		} else {
			want = append(want, "- **"+*p.Panel.Title+".** "+*p.Panel.Description)
		}
	}
	_, doc, found := strings.Cut(read(t, "grafana/README.md"), "\n# Panels\n")
	if !found {
		t.Fatal("grafana/README.md has no panels")
	}
	var got []string
	for paragraph := range strings.SplitSeq(strings.ReplaceAll(doc, "\n- **", "\n\n- **"), "\n\n") {
		paragraph = strings.TrimSpace(paragraph)
		if strings.HasPrefix(paragraph, "- **") || strings.HasPrefix(paragraph, "## ") {
			got = append(got, unwrapped(paragraph))
		}
	}
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("grafana/README.md lacks %q", want[i])
		case i >= len(want):
			t.Errorf("grafana/README.md has %q, which does not exist", got[i])
		case got[i] != unwrapped(want[i]):
			t.Fatalf("grafana/README.md says %q where the dashboard says %q", got[i], want[i])
		}
	}
}

// What the runbook and the document tell people to look at is there, under that name.
func TestPanelsThatPeopleAreSentToExist(t *testing.T) {
	var titles []string
	for _, p := range readDashboard(t).Panels {
		title, _ := titleOf(p)
		titles = append(titles, title)
	}
	intro, _, _ := strings.Cut(read(t, "grafana/README.md"), "\n# Panels\n")
	sent := first(`[^*]\*([A-Z][^*]+)\*[^*]`, read(t, "prometheus/RUNBOOK.md")+intro)
	if len(sent) < 10 {
		t.Fatalf("people are sent to %v only", sent)
	}
	for _, title := range sent {
		// What ends with a colon begins a paragraph: "*No standby reaches Telegram:*".
		if title = unwrapped(title); !slices.Contains(titles, title) && !strings.HasSuffix(title, ":") {
			t.Errorf("people are sent to *%s*, which does not exist", title)
		}
	}
}

// alerts are those that must be there.
func alerts() []string {
	return []string{
		"NoPrimary", "MoreThanOnePrimary", "ReplicasMissing", "QuorumAtRisk", "FailoverFlapping", "TakeoverSlow", "TelegramConflict",
		"TelegramUnreachable", "NoBackend", "NoSpareCopy", "TokenRejected", "UpdatesLagging", "ConfigMismatch",
	}
}

func TestEveryAlertIsCompleteAndHasItsSectionInTheRunbook(t *testing.T) {
	rules, runbook := read(t, "prometheus/rules.yml"), read(t, "prometheus/RUNBOOK.md")
	between(t, "rules.yml", first(`(?m)^ +- alert: (\S+)$`, rules), alerts())
	between(t, "RUNBOOK.md", slices.DeleteFunc(first(`(?m)^## (\S+)$`, runbook), func(s string) bool { return !slices.Contains(alerts(), s) }), alerts())
	for _, rule := range regexp.MustCompile(`(?m)^ +- alert: `).Split(rules, -1)[1:] {
		name := strings.Fields(rule)[0]
		for _, key := range []string{`severity: (?:critical|warning)\n`, `summary: \S`, `description: \S`, `runbook: prometheus/RUNBOOK\.md#` + strings.ToLower(name) + `\n`} {
			if !regexp.MustCompile(`\n +` + key).MatchString(rule) {
				t.Errorf("%s has no %s", name, key)
			}
		}
	}
}

// Each alert is seen to fire and to end.
func TestEveryAlertIsTestedToFireAndToEnd(t *testing.T) {
	tests := regexp.MustCompile(`(?m)^  - name: `).Split(read(t, "prometheus/rules_test.yml"), -1)
	for _, name := range alerts() {
		fires, ends := false, false
		for _, test := range tests {
			fired := false
			for _, m := range regexp.MustCompile(`- alertname: `+name+`\n +eval_time: \S+\n +exp_alerts:(.*)\n`).FindAllStringSubmatch(test, -1) {
				none := strings.TrimSpace(m[1]) == "[]"
				ends = ends || fired && none
				fired = fired || !none
			}
			fires = fires || fired
		}
		if !fires || !ends {
			t.Errorf("%s: tested to fire: %v, and then to end: %v", name, fires, ends)
		}
	}
}

// What a legend shows is worth a word: labels are those that metrics have.
func TestAnnotationsSayWhoFromWhomAndWhy(t *testing.T) {
	for _, a := range readDashboard(t).Annotations.List {
		if a.Name != "Changes of primary" {
			continue
		}
		shown := monitoring.Labels(*a.TitleFormat + *a.TextFormat)
		if !slices.Equal(shown, []string{"replica", "previous", "reason"}) || a.Hide != nil && *a.Hide || !a.Enable {
			t.Errorf("a change is exported with %v", shown)
		}
		return
	}
	t.Error("changes are not told")
}

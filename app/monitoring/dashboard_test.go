package monitoring_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"

	"habot/app/monitoring"
)

func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile("../../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func readDashboard(t *testing.T) monitoring.Dashboard {
	t.Helper()
	d, err := monitoring.Read([]byte(read(t, "grafana/dashboards/habot.json")))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(monitoring.Panels(d)); n < 30 {
		t.Fatalf("only %d panels were read", n)
	}
	return d
}

func queries(t *testing.T) []monitoring.Query {
	t.Helper()
	all, err := monitoring.Queries(readDashboard(t))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A field that Grafana does not know would be lost without a word.
func TestAFieldThatGrafanaDoesNotKnowIsAnError(t *testing.T) {
	good := read(t, "grafana/dashboards/habot.json")
	for _, field := range []string{`"textMode"`, `"noValue"`, `"useValueForTime"`, `"legendFormat"`, `"editable"`} {
		if _, err := monitoring.Read([]byte(strings.Replace(good, field, `"misspelt"`, 1))); err == nil {
			t.Errorf("%s can be misspelt", field)
		}
	}
	if _, err := monitoring.Read([]byte(strings.Replace(good, `"type": "stat"`, `"type": "piechart"`, 1))); err == nil {
		t.Error("a panel whose options are not checked is accepted")
	}
}

func TestTheDashboardIsForReading(t *testing.T) {
	d := readDashboard(t)
	if d.Editable == nil || *d.Editable {
		t.Error("it can be edited, and what is edited is lost")
	}
	if d.Uid == nil || *d.Uid != "habot" || d.Title == nil || *d.Title == "" || d.Description == nil || *d.Description == "" {
		t.Error("it has no fixed address, title or description")
	}
	if strings.Contains(read(t, "grafana/dashboards/habot.json"), "__inputs") {
		t.Error("it asks for inputs, which a provisioned dashboard is not given")
	}
}

// One variable, the data source, that has the provisioned one for its default: nothing has to be chosen.
func TestTheDataSourceIsAVariableWithAFixedDefault(t *testing.T) {
	d := readDashboard(t)
	if len(d.Templating.List) != 1 {
		t.Fatalf("%d variables: replicas come and go, the rules know them by name", len(d.Templating.List))
	}
	v := d.Templating.List[0]
	if v.Type != dashboard.VariableTypeDatasource || v.Name != "datasource" || v.Label == nil || *v.Label != "Data source" ||
		v.Query == nil || v.Query.String == nil || *v.Query.String != "prometheus" {
		t.Errorf("the variable is %+v", v)
	}
	uid := regexp.MustCompile(`(?m)^\s+uid: (\S+)$`).FindStringSubmatch(read(t, "grafana/provisioning/datasources/prometheus.yml"))
	if v.Current == nil || v.Current.Value.String == nil || uid == nil || *v.Current.Value.String != uid[1] {
		t.Errorf("the default is %+v, the provisioned data source %v", v.Current, uid)
	}
	if v.Multi != nil && *v.Multi || v.IncludeAll != nil && *v.IncludeAll {
		t.Error("more than one data source can be chosen")
	}
	is := func(of string, s *common.DataSourceRef) {
		if s == nil || s.Type == nil || *s.Type != "prometheus" || s.Uid == nil || *s.Uid != "${datasource}" {
			t.Errorf("%s does not ask the data source of the variable", of)
		}
	}
	for _, p := range monitoring.Panels(d) {
		is(*p.Title, p.Datasource)
	}
	for _, a := range d.Annotations.List {
		if a.BuiltIn == nil {
			is(a.Name, a.Datasource)
		}
	}
}

func TestEveryPanelExplainsItself(t *testing.T) {
	d := readDashboard(t)
	titles, ids := map[string]bool{}, map[uint32]bool{}
	for _, p := range monitoring.Panels(d) {
		if p.Title == nil || *p.Title == "" || titles[*p.Title] {
			t.Fatalf("panel %d has no title of its own", *p.Id)
		}
		if ids[*p.Id] {
			t.Errorf("%s shares its id, %d", *p.Title, *p.Id)
		}
		titles[*p.Title], ids[*p.Id] = true, true
		if p.Description == nil || len(*p.Description) < 20 {
			t.Errorf("%s has no description", *p.Title)
		}
		if p.FieldConfig == nil || p.FieldConfig.Defaults.Unit == nil || *p.FieldConfig.Defaults.Unit == "" {
			t.Errorf("%s has no unit", *p.Title)
			continue
		}
		if p.FieldConfig.Defaults.NoValue == nil || *p.FieldConfig.Defaults.NoValue == "" {
			t.Errorf("%s does not say what no data means", *p.Title)
		}
		if len(p.Targets) == 0 {
			t.Errorf("%s asks nothing", *p.Title)
		}
	}
}

// titleOf is the title of a panel or row, and where it is.
func titleOf(p dashboard.PanelOrRowPanel) (string, *dashboard.GridPos) {
	if p.RowPanel != nil {
		return *p.RowPanel.Title, p.RowPanel.GridPos
	}
	return *p.Panel.Title, p.Panel.GridPos
}

// Panels stand side by side within 24 columns, and none on another.
func TestPanelsDoNotOverlap(t *testing.T) {
	d := readDashboard(t)
	taken := map[[2]uint32]string{}
	for _, p := range d.Panels {
		title, at := titleOf(p)
		if at == nil || at.X+at.W > 24 {
			t.Fatalf("%s is at %+v", title, at)
		}
		for x := at.X; x < at.X+at.W; x++ {
			for y := at.Y; y < at.Y+at.H; y++ {
				if other := taken[[2]uint32{x, y}]; other != "" {
					t.Fatalf("%s stands on %s", title, other)
				}
				taken[[2]uint32{x, y}] = title
			}
		}
	}
}

// The usual rules for queries. Two of them are turned round: replicas are known by their names, so there is
// no variable for jobs and instances, and no address is to be shown.
func TestQueriesKeepTheUsualRules(t *testing.T) {
	counter := regexp.MustCompile(`\b[a-z_]+_(?:total|sum|count|bucket)\b(?:{[^}]*})?(\[[^\]]*\])?`)
	window := regexp.MustCompile(`\[([^\]]*)\]`)
	// What is asked about a time of its own, whatever time is shown.
	fixed := map[string]string{"Changes in 24 h": "24h", "No primary in 24 h": "24h"}
	for _, q := range queries(t) {
		for _, m := range window.FindAllStringSubmatch(q.Expr, -1) {
			want := "$__rate_interval"
			if q.Instant {
				want = "$__range"
			}
			if fixed[q.Of] != "" {
				want = fixed[q.Of]
			}
			if m[1] != want {
				t.Errorf("%s looks at [%s], want [%s]: %s", q.Of, m[1], want, q.Expr)
			}
		}
		for _, m := range counter.FindAllStringSubmatch(q.Expr, -1) {
			// What a simulator's overlaps add up to is a figure of its own, as its other states are.
			if m[1] == "" && !strings.HasPrefix(m[0], "habot_simulator_") {
				t.Errorf("%s shows a counter as it is, which falls at every restart: %s", q.Of, m[0])
			}
		}
		for _, address := range []string{"instance", "pod"} {
			if slices.Contains(monitoring.Labels(q.Legend), address) {
				t.Errorf("%s shows addresses", q.Of)
			}
		}
		if strings.Contains(q.Expr, "instance=") || strings.Contains(q.Expr, "job=") {
			t.Errorf("%s is about one address or job: %s", q.Of, q.Expr)
		}
		for _, label := range monitoring.Labels(q.Legend) {
			if !strings.Contains(q.Expr, label) && !strings.HasPrefix(q.Expr, "replica:") && !strings.Contains(q.Expr, "habot:") {
				t.Errorf("%s has {{%s}} in its legend, and no such label in %s", q.Of, label, q.Expr)
			}
		}
	}
}

func TestSubstituteDoesWhatGrafanaDoes(t *testing.T) {
	q := monitoring.Query{Expr: "rate(x[$__rate_interval]) / increase(x[$__range]) / x[$__interval]"}
	for span, want := range map[time.Duration]string{
		15 * time.Minute: "rate(x[4s]) / increase(x[900s]) / x[1s]",
		24 * time.Hour:   "rate(x[87s]) / increase(x[86400s]) / x[86s]",
	} {
		if got := q.Substitute(time.Second, span); got != want {
			t.Errorf("over %v: %s, want %s", span, got, want)
		}
	}
	q.MinStep = 15 * time.Second
	if got, want := q.Substitute(time.Second, time.Minute), "rate(x[16s]) / increase(x[60s]) / x[15s]"; got != want {
		t.Errorf("with a least step: %s, want %s", got, want)
	}
}

// Which replica is primary and which copy is active are read together: one timeline right below the other, of the same width.
func TestTheActiveCopyStandsRightBelowTheRoles(t *testing.T) {
	at := map[string]dashboard.GridPos{}
	for _, p := range readDashboard(t).Panels {
		title, pos := titleOf(p)
		at[title] = *pos
	}
	roles, active := at["Roles"], at["Active copy"]
	if roles.W == 0 || active.X != roles.X || active.W != roles.W || active.Y != roles.Y+roles.H {
		t.Errorf("the active copy is at %+v, the roles at %+v", active, roles)
	}
}

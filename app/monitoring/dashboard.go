package monitoring

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/text"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// maxDataPoints is how many points a panel of usual width asks for.
const maxDataPoints = 1000

// Dashboard is one as Grafana reads it from a file; the later schema is for its API.
type Dashboard = dashboard.Dashboard //nolint:staticcheck // deprecated for the later schema

// Query is one question that the dashboard puts to Prometheus.
type Query struct {
	// Of is the panel's title, or the annotation's name.
	Of         string
	Annotation bool
	// Expr is written for Grafana: see Substitute.
	Expr   string
	Legend string
	// Instant: asked about one moment, the end of the time shown; otherwise about all of it.
	Instant bool
	// MinStep is the least time between two points; 0 if the panel does not say.
	MinStep time.Duration
}

// Read decodes a dashboard strictly: a field that Grafana does not know is an error, and so is one that
// it cannot do without. Not safe for concurrent use: Grafana's types keep a registry of panels.
func Read(raw []byte) (Dashboard, error) {
	known := register()
	var d Dashboard
	if err := strict(&d, raw); err != nil {
		return d, fmt.Errorf("decode the dashboard strictly: %w", err)
	}
	// Grafana's types leave out of the strict look what fields show, and keep no panel from it.
	var fields struct {
		Panels []struct {
			Title       string          `json:"title"`
			Type        string          `json:"type"`
			FieldConfig json.RawMessage `json:"fieldConfig"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return d, fmt.Errorf("decode the panels: %w", err)
	}
	for _, p := range fields.Panels {
		if _, ok := known.ConfigForPanelcfgVariant(p.Type); !ok && p.Type != "row" {
			return d, fmt.Errorf("%s is a panel of the kind %s, whose options are not checked: register it", p.Title, p.Type)
		}
		if err := strict(&dashboard.FieldConfigSource{}, p.FieldConfig); err != nil {
			return d, fmt.Errorf("decode the fields of %s strictly: %w", p.Title, err)
		}
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, fmt.Errorf("decode the dashboard: %w", err)
	}
	return d, nil
}

// register makes the panels known that a dashboard may have. All that Grafana has would be thirty packages
// more to compile for the tests.
func register() *cog.Runtime {
	known := cog.NewRuntime()
	for _, panel := range []variants.PanelcfgConfig{
		bargauge.VariantConfig(), heatmap.VariantConfig(), stat.VariantConfig(), statetimeline.VariantConfig(),
		table.VariantConfig(), text.VariantConfig(), timeseries.VariantConfig(),
	} {
		known.RegisterPanelcfgVariant(panel)
	}
	known.RegisterDataqueryVariant(prometheus.VariantConfig())
	return known
}

// strict decodes; Grafana's types return an empty list of errors, which is not nil, if there are none.
func strict(into interface{ UnmarshalJSONStrict(raw []byte) error }, raw []byte) error {
	err := into.UnmarshalJSONStrict(raw)
	if problems := (cog.BuildErrors)(nil); errors.As(err, &problems) && len(problems) == 0 {
		return nil
	}
	return err //nolint:wrapcheck // said by the caller
}

// Panels are the dashboard's panels without its rows, in order.
func Panels(d Dashboard) []dashboard.Panel {
	var all []dashboard.Panel
	for _, p := range d.Panels {
		switch {
		case p.Panel != nil && p.Panel.Type != "row":
			all = append(all, *p.Panel)
		case p.RowPanel != nil:
			all = append(all, p.RowPanel.Panels...)
		}
	}
	return all
}

// Queries are all questions of panels and annotations, in order.
func Queries(d Dashboard) ([]Query, error) {
	var all []Query
	add := func(of string, annotation bool, target variants.Dataquery, interval *string) error {
		// Where the kind of data source is only known by its variable, Grafana's types give a value or a pointer.
		q, ok := target.(*prometheus.Dataquery)
		if !ok {
			v, isValue := target.(prometheus.Dataquery)
			if !isValue {
				return fmt.Errorf("%s asks %T, not Prometheus", of, target)
			}
			q = &v
		}
		step, err := time.ParseDuration(orEmpty(interval, "0s"))
		if err != nil {
			return fmt.Errorf("read the interval of %s: %w", of, err)
		}
		all = append(all, Query{of, annotation, q.Expr, orEmpty(q.LegendFormat, ""), q.Instant != nil && *q.Instant, step})
		return nil
	}
	for _, p := range Panels(d) {
		for _, target := range p.Targets {
			if err := add(orEmpty(p.Title, "?"), false, target, p.Interval); err != nil {
				return nil, err
			}
		}
	}
	for _, a := range d.Annotations.List {
		if a.BuiltIn != nil { // what people note down in Grafana itself
			continue
		}
		if err := add(a.Name, true, a.Target, nil); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func orEmpty(s *string, otherwise string) string {
	if s == nil {
		return otherwise
	}
	return *s
}

// Step is the time between two points when a span is shown of what is scraped every so often.
func (q Query) Step(scrape, span time.Duration) time.Duration {
	return max(scrape, q.MinStep, (span / maxDataPoints).Round(time.Second))
}

// Substitute puts in what Grafana does for its own variables: $__rate_interval is the step and one scrape, four
// scrapes at least, so that a rate always has two samples.
func (q Query) Substitute(scrape, span time.Duration) string {
	seconds := func(d time.Duration) string { return strconv.Itoa(int(d/time.Second)) + "s" }
	step := q.Step(scrape, span)
	return strings.NewReplacer(
		"$__rate_interval", seconds(max(4*scrape, step+scrape)),
		"$__interval", seconds(step),
		"$__range", seconds(span),
	).Replace(q.Expr)
}

// Labels are the labels that a legend, or the text of an annotation, shows.
func Labels(format string) []string {
	var all []string
	for _, m := range regexp.MustCompile(`{{\s*(\w+)\s*}}`).FindAllStringSubmatch(format, -1) {
		all = append(all, m[1])
	}
	return all
}

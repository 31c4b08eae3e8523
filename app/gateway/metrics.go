package gateway

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/turns"
)

// What became of calls. The set is closed: they are values of a metric's label.
const (
	callPassed  = "passed"
	callRefused = "refused"
	callUnsent  = "unsent"
	callUnknown = "unknown"
	callBad     = "bad"
)

// metrics are the gateway's; their names are public interface.
type metrics struct {
	turns  *prometheus.CounterVec
	again  prometheus.Counter
	calls  *prometheus.CounterVec
	tokens prometheus.Counter
}

func newMetrics(g *Gateway) *metrics {
	m := &metrics{
		turns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "habot_gateway_turns_total", Help: "Turns of copies that began or ended on this replica, by the reason.",
		}, []string{"reason"}),
		again: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "habot_gateway_given_again_total", Help: "Updates that a copy had confirmed and that were given to its successor.",
		}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "habot_gateway_calls_total", Help: "Calls of clients by what became of them.",
		}, []string{"result"}),
		tokens: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "habot_gateway_refused_tokens_total", Help: "Requests refused because of a wrong token.",
		}),
	}
	for _, r := range []turns.Reason{
		turns.ReasonFirst, turns.ReasonEnded, turns.ReasonStopped, turns.ReasonGone, turns.ReasonSilent, turns.ReasonRestarted, turns.ReasonOperator,
	} {
		m.turns.WithLabelValues(string(r))
	}
	for _, r := range []string{callPassed, callRefused, callUnsent, callUnknown, callBad} {
		m.calls.WithLabelValues(r)
	}
	g.cfg.Registerer.MustRegister(m.turns, m.again, m.calls, m.tokens, collector{g})
	return m
}

// collector shows what is known of copies now, on the primary.
type collector struct{ g *Gateway }

func descriptions() (up, copies, active, pending, inHand, kept, unconfirmed *prometheus.Desc) {
	return prometheus.NewDesc("habot_gateway_up", "1 if a copy of the bot takes updates.", nil, nil),
		prometheus.NewDesc("habot_gateway_copies", "Copies of the bot by what they do.", []string{"role"}, nil),
		prometheus.NewDesc("habot_gateway_active", "1 for the active copy; absent if there is none.", []string{"copy"}, nil),
		prometheus.NewDesc("habot_gateway_pending", "Updates that wait to be confirmed by a copy.", nil, nil),
		prometheus.NewDesc("habot_gateway_in_hand", "Updates that the active copy was given and has not confirmed.", nil, nil),
		prometheus.NewDesc("habot_gateway_kept", "Updates that are kept to be given again.", nil, nil),
		prometheus.NewDesc("habot_gateway_unconfirmed_seconds", "How long the active copy has confirmed nothing of what it has in hand; 0 if it has nothing.", nil, nil)
}

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	up, copies, active, pending, inHand, kept, unconfirmed := descriptions()
	for _, d := range []*prometheus.Desc{up, copies, active, pending, inHand, kept, unconfirmed} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.g.session()
	if s == nil {
		return // the primary knows
	}
	v, ok := s.snapshot()
	if !ok {
		return
	}
	up, copies, active, pending, inHand, kept, unconfirmed := descriptions()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	takes := 0.0
	if v.trouble(s.began) == "" {
		takes = 1
	}
	gauge(up, takes)
	count := map[string]int{}
	for _, one := range v.Copies {
		count[one.Role]++
	}
	for _, role := range roles() {
		gauge(copies, float64(count[role]), role)
	}
	if v.Active != "" {
		gauge(active, 1, v.Active)
	}
	gauge(pending, float64(v.Pending))
	gauge(inHand, float64(v.InHand))
	gauge(kept, float64(v.Kept))
	age := 0.0
	if !v.LastConfirmed.IsZero() {
		age = max(0, time.Since(v.LastConfirmed).Seconds())
	}
	gauge(unconfirmed, age)
}

package relay

import (
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// What became of a backend's answer as a call. The set is closed: they are values of a metric's label.
const (
	replyCarriedOut = "carried_out"
	replyRefused    = "refused"
	replyFailed     = "failed"
	replyForbidden  = "forbidden"
	replyMalformed  = "malformed"
)

// metrics are the relay's; their names are public interface. The label backend is a configured URL's scheme, host and
// port: addresses come and go with containers.
type metrics struct {
	requests       *prometheus.CounterVec
	requestSeconds *prometheus.HistogramVec
	replies        *prometheus.CounterVec
	givenUp        *prometheus.CounterVec
}

func newMetrics(r *Relay) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "habot_backend_requests_total",
			Help: "Updates sent to webhook backends by what came of it: the class of the status code, timeout, broken, unreachable or aborted.",
		}, []string{"backend", "result"}),
		requestSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "habot_backend_request_seconds", Help: "Time to a webhook backend's whole answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"backend"}),
		replies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "habot_backend_replies_total", Help: "Calls of the Bot API that webhook backends answered with, by what became of them.",
		}, []string{"outcome"}),
		givenUp: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "habot_backend_given_up_total", Help: "Updates that no webhook backend took until they were given up.",
		}, []string{"reason"}),
	}
	for _, o := range []string{replyCarriedOut, replyRefused, replyFailed, replyForbidden, replyMalformed} {
		m.replies.WithLabelValues(o)
	}
	for _, o := range []string{"poison", "expired"} {
		m.givenUp.WithLabelValues(o)
	}
	for _, b := range r.cfg.Backends {
		for _, result := range []string{"2xx", "3xx", "4xx", "5xx", "other", "timeout", "broken", "unreachable", "aborted"} {
			m.requests.WithLabelValues(b.Name(), result)
		}
	}
	r.cfg.Registerer.MustRegister(m.requests, m.requestSeconds, m.replies, m.givenUp, collector{r})
	return m
}

// attempt counts an attempt and what came of it.
func (m *metrics) attempt(backend string, o outcome, took time.Duration) {
	m.requests.WithLabelValues(backend, label(o)).Inc()
	if o.result == answeredWell || o.result == answeredError {
		m.requestSeconds.WithLabelValues(backend).Observe(took.Seconds())
	}
}

func label(o outcome) string {
	switch o.result {
	case timedOut:
		return "timeout"
	case brokenOff, stale:
		return "broken"
	case unreachable, tooSlow:
		return "unreachable"
	case aborted:
		return "aborted"
	case answeredWell, answeredError:
	}
	if class := o.status / 100; class >= 2 && class <= 5 {
		return strconv.Itoa(class) + "xx"
	}
	return "other"
}

// collector shows what is known of the backends now.
type collector struct{ relay *Relay }

func descriptions() (addresses, inFlight, waiting, up *prometheus.Desc) {
	return prometheus.NewDesc("habot_backend_addresses", "Addresses of webhook backends by what is known of them.", []string{"backend", "state"}, nil),
		prometheus.NewDesc("habot_backend_in_flight", "Updates that a webhook backend is being sent, or has not answered yet.", []string{"backend"}, nil),
		prometheus.NewDesc("habot_backend_waiting", "Updates that wait for a webhook backend, or for their next attempt.", nil, nil),
		prometheus.NewDesc("habot_backend_up", "1 if a webhook backend takes updates.", nil, nil)
}

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	addresses, inFlight, waiting, up := descriptions()
	ch <- addresses
	ch <- inFlight
	ch <- waiting
	ch <- up
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	addresses, inFlight, waiting, up := descriptions()
	s := c.relay.Snapshot()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	isUp := 0
	if c.relay.Readiness().Ready == nil {
		isUp = 1
	}
	gauge(up, isUp)
	gauge(waiting, s.Waiting)
	for _, name := range c.relay.names() {
		states, flying := map[State]int{}, 0
		for _, a := range s.Addresses {
			if a.Backend == name {
				states[a.State]++
				flying += a.InFlight
			}
		}
		for _, state := range States() {
			gauge(addresses, states[state], name, string(state))
		}
		gauge(inFlight, flying, name)
	}
}

// names are the backends', each once: two URLs may differ in their paths alone.
func (r *Relay) names() []string {
	var names []string
	for _, b := range r.cfg.Backends {
		if !slices.Contains(names, b.Name()) {
			names = append(names, b.Name())
		}
	}
	return names
}

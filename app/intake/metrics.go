package intake

import (
	"github.com/prometheus/client_golang/prometheus"

	"habot/app/update"
)

// metrics are the intake's; their names are public interface.
type metrics struct {
	updates       *prometheus.CounterVec
	updateSeconds prometheus.Histogram
	updateAge     prometheus.Histogram
	conflicts     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		updates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "habot_updates_total", Help: "Updates by what became of them.",
		}, []string{"outcome"}),
		updateSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "habot_update_seconds", Help: "Time to handle one update, answers and retries included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		updateAge: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "habot_update_age_seconds", Help: "From Telegram's date of an update, in whole seconds, to its being handled.",
			Buckets: []float64{.25, .5, 1, 2, 3, 5, 10, 30, 60, 300, 900, 3600, 86400},
		}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "habot_telegram_conflicts_total", Help: "Polls refused with 409: another program polls with this token, or a webhook is set.",
		}),
	}
	for _, o := range update.Outcomes() {
		m.updates.WithLabelValues(string(o))
	}
	reg.MustRegister(m.updates, m.updateSeconds, m.updateAge, m.conflicts)
	return m
}

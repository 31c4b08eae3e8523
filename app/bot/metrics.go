package bot

import (
	"github.com/prometheus/client_golang/prometheus"

	"habot/app/diagnosis"
)

// Outcomes of updates. The set is closed: they are values of a metric's label.
const (
	outcomeAnswered = "answered"
	outcomeIgnored  = "ignored"
	outcomeFailed   = "failed"
	outcomePanic    = "panic"
	outcomeSkipped  = "skipped"
)

// Outcomes of messages to admins. The set is closed, too.
const (
	outcomeSent    = "sent"
	outcomeRefused = "refused"
	// outcomeFailed, as of updates: Telegram failed until it was given up.
)

// metrics are the bot's; their names are public interface.
type metrics struct {
	updates        *prometheus.CounterVec
	updateSeconds  prometheus.Histogram
	updateAge      prometheus.Histogram
	requests       *prometheus.CounterVec
	requestSeconds *prometheus.HistogramVec
	conflicts      prometheus.Counter
	retryAfter     prometheus.Histogram
	trouble        *prometheus.GaugeVec
	adminMessages  *prometheus.CounterVec
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
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "habot_telegram_requests_total", Help: "Requests to Telegram by method and status code; error if there was no answer.",
		}, []string{"method", "code"}),
		requestSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "habot_telegram_request_seconds", Help: "Time to Telegram's answer; getUpdates waits for updates.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"method"}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "habot_telegram_conflicts_total", Help: "Polls refused with 409: another program polls with this token, or a webhook is set.",
		}),
		retryAfter: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "habot_telegram_retry_after_seconds", Help: "How long Telegram told the bot to wait (429), five minutes at most.",
			Buckets: []float64{1, 2, 5, 10, 30, 60, 300},
		}),
		trouble: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "habot_telegram_trouble", Help: "1 while Telegram refuses this bot for a reason that no other replica could mend.",
		}, []string{"kind"}),
		adminMessages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "habot_admin_messages_total", Help: "Messages to admins' chats about changes of primary and trouble, by what became of them.",
		}, []string{"outcome"}),
	}
	for _, o := range []string{outcomeAnswered, outcomeIgnored, outcomeFailed, outcomePanic, outcomeSkipped} {
		m.updates.WithLabelValues(o)
	}
	for _, k := range diagnosis.Troubles() {
		m.trouble.WithLabelValues(string(k))
	}
	for _, o := range []string{outcomeSent, outcomeRefused, outcomeFailed} {
		m.adminMessages.WithLabelValues(o)
	}
	reg.MustRegister(m.adminMessages, m.updates, m.updateSeconds, m.updateAge, m.requests, m.requestSeconds, m.conflicts, m.retryAfter, m.trouble)
	return m
}

package telegram

import "github.com/prometheus/client_golang/prometheus"

// metrics are the client's; their names are public interface.
type metrics struct {
	requests       *prometheus.CounterVec
	requestSeconds *prometheus.HistogramVec
	retryAfter     prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "habot_telegram_requests_total", Help: "Requests to Telegram by method and status code; error if there was no answer.",
		}, []string{"method", "code"}),
		requestSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "habot_telegram_request_seconds", Help: "Time to Telegram's answer; getUpdates waits for updates.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"method"}),
		retryAfter: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "habot_telegram_retry_after_seconds", Help: "How long Telegram told the bot to wait (429), five minutes at most.",
			Buckets: []float64{1, 2, 5, 10, 30, 60, 300},
		}),
	}
	reg.MustRegister(m.requests, m.requestSeconds, m.retryAfter)
	return m
}

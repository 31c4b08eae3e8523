package service

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// cachedCollector collects from a collector that costs much no more often than every so often, and gives what it
// had before in between: what a process uses changes slowly, and reading it each second costs more than
// the election.
type cachedCollector struct {
	prometheus.Collector
	every time.Duration

	mu      sync.Mutex
	last    time.Time
	metrics []prometheus.Metric
}

// Collect implements prometheus.Collector.
func (s *cachedCollector) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.metrics == nil || now.Sub(s.last) >= s.every {
		s.last, s.metrics = now, nil
		fresh := make(chan prometheus.Metric)
		go func() {
			defer close(fresh)
			s.Collector.Collect(fresh)
		}()
		for m := range fresh {
			s.metrics = append(s.metrics, m)
		}
	}
	for _, m := range s.metrics {
		ch <- m
	}
}

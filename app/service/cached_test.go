package service

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// costly counts how often it is collected.
type costly struct {
	desc *prometheus.Desc
	n    float64
}

func (c *costly) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }
func (c *costly) Collect(ch chan<- prometheus.Metric) {
	c.n++
	ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, c.n)
}

func TestWhatCostsMuchIsCollectedSeldomAndAlwaysGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &cachedCollector{Collector: &costly{desc: prometheus.NewDesc("n", "How often it was collected.", nil, nil)}, every: 5 * time.Second}
		for second := range 11 {
			if got, want := testutil.ToFloat64(s), float64(second/5+1); got != want {
				t.Errorf("after %d s: %v, want %v", second, got, want)
			}
			time.Sleep(time.Second)
		}
	})
}

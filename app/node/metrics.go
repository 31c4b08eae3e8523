package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"habot/app/election"
)

// metrics are the election's; their names are public interface. Gauges are read when scraped.
type metrics struct {
	n               *Node
	changes         prometheus.Counter
	takeovers       *prometheus.CounterVec
	elections       *prometheus.CounterVec
	stepdowns       *prometheus.CounterVec
	mismatches      *prometheus.CounterVec
	takeoverSeconds prometheus.Histogram
	claimSeconds    prometheus.Histogram
}

func newMetrics(n *Node, reg prometheus.Registerer) *metrics {
	m := &metrics{
		n: n,
		changes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "habot_primary_changes_total", Help: "Changes of primary this replica has seen.",
		}),
		elections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "habot_elections_total", Help: "Candidacies of this replica, by how they ended.",
		}, []string{"result"}),
		stepdowns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "habot_stepdowns_total", Help: "Times this replica stopped being primary, by reason.",
		}, []string{"reason"}),
		mismatches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "habot_config_mismatches_total", Help: "Replicas met whose configuration keeps them from taking part, by what differs.",
		}, []string{"reason"}),
		takeovers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "habot_takeovers_total", Help: "Times this replica became primary, by why the role was free, and whether it saw the old primary's process end.",
		}, []string{"reason", "witnessed"}),
		takeoverSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "habot_takeover_seconds",
			Help:    "Time without a primary before this replica took over, as it measured it.",
			Buckets: []float64{.01, .025, .05, .1, .2, .3, .4, .5, .6, .7, .8, .9, 1, 1.1, 1.2, 1.3, 1.5, 2, 3, 5, 10, 30},
		}),
		claimSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "habot_claim_seconds",
			Help:    "Round trips of claims and renewals that were answered.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .025, .05, .1, .25, .5, 1},
		}),
	}
	for _, r := range []election.ElectionResult{
		election.ElectionWon, election.ElectionYielded, election.ElectionRefused, election.ElectionTimedOut, election.ElectionAbandoned,
	} {
		m.elections.WithLabelValues(string(r))
	}
	for _, r := range election.Reasons() {
		m.takeovers.WithLabelValues(string(r), "false")
	}
	m.takeovers.WithLabelValues(string(election.ReasonCrash), "true")
	for _, r := range []election.Reason{
		election.ReasonLeaseLost, election.ReasonShutdown, election.ReasonSwitchover, election.ReasonUnhealthy,
		election.ReasonLowerPrimary, election.ReasonPartFailed,
	} {
		m.stepdowns.WithLabelValues(string(r))
	}
	for _, r := range []election.Refusal{election.RefusedLease, election.RefusedProtocol} {
		m.mismatches.WithLabelValues(string(r))
	}
	reg.MustRegister(m.changes, m.takeovers, m.elections, m.stepdowns, m.mismatches, m.takeoverSeconds, m.claimSeconds, newGauges(n.View))
	return m
}

// gauges are read from a view when scraped.
type gauges struct {
	view  func() election.View
	table []gauge
	// changeTime and changeGap tell the last change alone: however often the role moves, a replica has
	// one series of each.
	changeTime, changeGap *prometheus.Desc
}

// gauge is one of them: its name, what it means, and how it is read.
type gauge struct {
	desc *prometheus.Desc
	read func(v election.View) float64
	// telegram: it is of the way to Telegram, which a witness does not have.
	telegram bool
}

func newGauge(name, help string, read func(v election.View) float64) gauge {
	return gauge{desc: prometheus.NewDesc(name, help, nil, nil), read: read}
}

// ofTelegram marks a gauge of the way to Telegram.
func (g gauge) ofTelegram() gauge {
	g.telegram = true
	return g
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func newGauges(view func() election.View) gauges {
	change := []string{"primary", "previous", "reason"}
	return gauges{view: view, table: []gauge{
		newGauge("habot_primary", "1 if this replica is primary.", func(v election.View) float64 { return truth(v.IsPrimary()) }),
		newGauge("habot_primary_known", "1 if this replica knows a primary.", func(v election.View) float64 { return truth(v.Known()) }),
		newGauge("habot_primary_timestamp_seconds", "Timestamp of the primary this replica knows; 0 if none.",
			func(v election.View) float64 { return float64(v.Self.Primary.Timestamp) / 1e9 }),
		newGauge("habot_primary_since_timestamp_seconds", "When the primary this replica knows took over, by a wall clock, for people; 0 if none.",
			func(v election.View) float64 {
				if !v.Known() {
					return 0
				}
				return float64(v.Since(v.Self.Primary).UnixNano()) / 1e9
			}),
		newGauge("habot_lease_remaining_seconds", "What is left of this replica's own lease; 0 unless it is primary.",
			func(v election.View) float64 {
				if !v.IsPrimary() {
					return 0
				}
				return v.Self.Remaining.Seconds()
			}),
		newGauge("habot_replicas_expected", "Number of replicas in force: configured, or a larger number that was observed.",
			func(v election.View) float64 { return float64(v.Expected) }),
		newGauge("habot_replicas_reachable", "Replicas in contact lately, this one included.",
			func(v election.View) float64 { return float64(v.Reachable) }),
		newGauge("habot_quorum", "Grants that make a primary.", func(v election.View) float64 { return float64(v.Quorum) }),
		newGauge("habot_lease_seconds", "The configured lease.", func(v election.View) float64 { return v.Self.Lease.Seconds() }),
		newGauge("habot_healthy", "1 if this replica reaches Telegram, or polls it with success; absent of a witness.",
			func(v election.View) float64 { return truth(v.Self.Health.OK) }).ofTelegram(),
		newGauge("habot_witness", "1 if this replica is a witness, which votes and never is primary.",
			func(v election.View) float64 { return truth(v.Self.IsWitness()) }),
		newGauge("habot_witnesses_reachable", "Witnesses among the replicas in contact lately, this one included.",
			func(v election.View) float64 {
				n := truth(v.Self.IsWitness())
				for _, p := range v.Peers {
					n += truth(p.Reachable && p.Status.IsWitness())
				}
				return n
			}),
	},
		changeTime: prometheus.NewDesc("habot_last_change_timestamp_seconds",
			"Timestamp of the last change of primary this replica knows: to which replica, from which (empty: none known), why.", change, nil),
		changeGap: prometheus.NewDesc("habot_last_change_gap_seconds",
			"Time without a primary at the last change this replica knows, as the new primary measured it; absent if it could not.", change, nil),
	}
}

// Describe implements prometheus.Collector.
func (g gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, x := range g.table {
		ch <- x.desc
	}
	ch <- g.changeTime
	ch <- g.changeGap
}

// Collect implements prometheus.Collector.
func (g gauges) Collect(ch chan<- prometheus.Metric) {
	v := g.view()
	for _, x := range g.table {
		if !x.telegram || !v.Self.IsWitness() {
			ch <- prometheus.MustNewConstMetric(x.desc, prometheus.GaugeValue, x.read(v))
		}
	}
	if c := v.Self.Change; !c.Claim.IsZero() {
		labels := []string{c.Name, c.Previous, string(c.Reason)}
		ch <- prometheus.MustNewConstMetric(g.changeTime, prometheus.GaugeValue, float64(c.Claim.Timestamp)/1e9, labels...)
		if c.GapMeasured() {
			ch <- prometheus.MustNewConstMetric(g.changeGap, prometheus.GaugeValue, c.Gap.Seconds(), labels...)
		}
	}
}

package node_test

import (
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"habot/app/election"
	"habot/app/node"
)

// metric is the value of one metric, by name and the value of its only label, "" if it has none. Of a
// histogram it is the number of observations.
func metric(t *testing.T, g prometheus.Gatherer, name, label string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) > 0 != (label != "") || (label != "" && m.GetLabel()[0].GetValue() != label) {
				continue
			}
			switch {
			case m.Histogram != nil:
				return float64(m.GetHistogram().GetSampleCount())
			case m.Counter != nil:
				return m.GetCounter().GetValue()
			default:
				return m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s{%s}", name, label)
	return 0
}

func lint(t *testing.T, g prometheus.Gatherer) {
	t.Helper()
	problems, err := testutil.GatherAndLint(g)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// sample is one metric's expected value.
type sample struct {
	name, label string
	want        float64
}

func expect(t *testing.T, m *member, samples ...sample) {
	t.Helper()
	for _, s := range samples {
		if got := metric(t, m.reg, s.name, s.label); got != s.want {
			t.Errorf("%s: %s{%s} is %v, want %v", m.name(), s.name, s.label, got, s.want)
		}
	}
}

func TestMetricsFollowTheRole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		for _, m := range c.all() {
			lint(t, m.reg)
		}
		time.Sleep(3 * lease)
		if err := p.node.Switchover(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		next, _ := c.successor(p, fewTrips)
		time.Sleep(2 * lease)
		stamp := float64(next.term.Change.Claim.Timestamp) / 1e9
		for _, m := range c.all() {
			expect(t, m,
				sample{"habot_primary_known", "", 1},
				sample{"habot_primary_timestamp_seconds", "", stamp},
				sample{"habot_primary_changes_total", "", 2},
				sample{"habot_replicas_expected", "", 3},
				sample{"habot_replicas_reachable", "", 3},
				sample{"habot_quorum", "", 2},
				sample{"habot_healthy", "", 1},
			)
			if m != next.who {
				expect(t, m, sample{"habot_primary", "", 0}, sample{"habot_lease_remaining_seconds", "", 0})
			}
		}
		expect(t, next.who,
			sample{"habot_primary", "", 1},
			sample{"habot_elections_total", "won", 1},
			sample{"habot_takeover_seconds", "", 1},
			sample{"habot_stepdowns_total", "switchover", 0},
		)
		expect(t, p,
			sample{"habot_elections_total", "won", 1},
			sample{"habot_stepdowns_total", "switchover", 1},
			sample{"habot_stepdowns_total", "lease_lost", 0},
			sample{"habot_takeover_seconds", "", 0}, // the first primary had no predecessor
		)
		if left := metric(t, next.who.reg, "habot_lease_remaining_seconds", ""); left <= 0 || left > lease.Seconds() {
			t.Errorf("%v s of the lease are left", left)
		}
		if n := metric(t, next.who.reg, "habot_claim_seconds", ""); n < 10 {
			t.Errorf("%v claims in two leases", n)
		}
		next.who.node.SetHealth(election.Health{})
		synctest.Wait()
		expect(t, next.who, sample{"habot_healthy", "", 0})
	})
}

// lastChange is the labels and the value of a metric of the last change; nil if there is none.
func lastChange(t *testing.T, g prometheus.Gatherer, name string) (labels map[string]string, value float64) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		if n := len(f.GetMetric()); n != 1 {
			t.Fatalf("%s has %d series: only the last change may be exported, or they grow without end", name, n)
		}
		labels = map[string]string{}
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		return labels, f.GetMetric()[0].GetGauge().GetValue()
	}
	return nil, 0
}

// Every replica exports the last change, so that any survivor can be asked.
func TestMetricsTellTheLastChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		time.Sleep(lease)
		for _, m := range c.all() {
			if labels, _ := lastChange(t, m.reg, "habot_last_change_timestamp_seconds"); labels["primary"] != p.name() || labels["previous"] != "" || labels["reason"] != "start" {
				t.Errorf("%s tells %v of the first primary", m.name(), labels)
			}
			if labels, gap := lastChange(t, m.reg, "habot_last_change_gap_seconds"); labels != nil {
				t.Errorf("%s tells %v: %v s without a primary, which it did not measure", m.name(), labels, gap)
			}
		}
		c.sever(p, true)
		next, _ := c.successor(p, 2*lease)
		time.Sleep(2 * lease)
		for _, m := range c.all() {
			if m == p {
				continue
			}
			labels, at := lastChange(t, m.reg, "habot_last_change_timestamp_seconds")
			if labels["primary"] != next.who.name() || labels["previous"] != p.name() || labels["reason"] != "crash" {
				t.Errorf("%s tells %v", m.name(), labels)
			}
			if want := float64(next.term.Change.Claim.Timestamp) / 1e9; at != want {
				t.Errorf("%s tells the time %v, want %v", m.name(), at, want)
			}
			gapOf, gap := lastChange(t, m.reg, "habot_last_change_gap_seconds")
			if !maps.Equal(gapOf, labels) || gap != next.term.Change.Gap.Seconds() || gap <= 0 {
				t.Errorf("%s tells %v: no primary for %v s, want %v s", m.name(), gapOf, gap, next.term.Change.Gap.Seconds())
			}
			lint(t, m.reg)
		}
	})
}

func TestMetricsOfAReplicaAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		m := c.start("a")
		time.Sleep(5 * lease)
		expect(t, m,
			sample{"habot_primary", "", 0},
			sample{"habot_primary_known", "", 0},
			sample{"habot_primary_timestamp_seconds", "", 0},
			sample{"habot_primary_changes_total", "", 0},
			sample{"habot_replicas_reachable", "", 1},
		)
		if labels, _ := lastChange(t, m.reg, "habot_last_change_timestamp_seconds"); labels != nil {
			t.Errorf("it tells of a change to %v", labels)
		}
		if n := metric(t, m.reg, "habot_elections_total", "timed_out"); n == 0 {
			t.Error("no candidacy timed out")
		}
	})
}

func TestReplicaOfAnotherLeaseIsCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		c.start("odd", func(m *member) { m.cfg.Election.Lease = 2 * lease })
		time.Sleep(3 * lease)
		expect(t, p,
			sample{"habot_config_mismatches_total", "lease_mismatch", 1},
			sample{"habot_replicas_reachable", "", 3},
		)
	})
}

func TestBootClockRunsAndNeverGoesBack(t *testing.T) {
	t.Parallel()
	var clock node.BootClock
	last := clock.Read()
	for range 1000 {
		r := clock.Read()
		if r.Now < last.Now {
			t.Fatalf("the local clock went from %d to %d", last.Now, r.Now)
		}
		last = r
	}
	first := clock.Read()
	for clock.Read().Now == first.Now { // it ends when the clock runs
	}
	if off := time.Since(time.Unix(0, last.Wall)); off < -time.Minute || off > time.Minute {
		t.Errorf("the wall clock is off by %s", off)
	}
}

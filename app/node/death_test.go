package node_test

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/election"
)

// A primary whose process has ended without a word is replaced within a few round trips by those that know of it.
func TestWitnessedDeathOfThePrimary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lines := &journal{}
		c, p := three(t, debugging(lines))
		time.Sleep(5 * lease)
		c.sever(p, true) // what it sends from now on reaches no replica
		p.leave(nil)
		c.await(lease/4, "the end of its work", func() bool { return c.primary() == nil })
		others := c.others(p)
		for i, m := range others {
			m.node.ProcessDied(p.cfg.Election.Self, []election.ReplicaID{others[1-i].cfg.Election.Self})
		}
		next, took := c.successor(p, lease)
		if took > fewTrips {
			t.Errorf("a successor after %s", took)
		}
		if ch := next.term.Change; ch.Reason != election.ReasonCrash || !ch.Witnessed || ch.Previous != p.name() || ch.Gap > fewTrips {
			t.Errorf("took over: %+v", ch)
		}
		time.Sleep(lease)
		if n := len(c.terms()); n != 2 {
			t.Errorf("%d terms, want 2", n)
		}
		for _, m := range others {
			v := m.node.View()
			if v.Reachable != 2 || len(v.Peers) != 2 {
				t.Errorf("%s sees %+v", m.name(), v)
			}
			want := 0.0
			if m == next.who {
				want = 1
			}
			if got := takeovers(t, m.reg, "crash", "true"); got != want {
				t.Errorf("%s: %v takeovers after a witnessed crash, want %v", m.name(), got, want)
			}
			if s, err := m.node.Status(t.Context()); err != nil || s.Change.Witnessed {
				t.Errorf("%s tells others what they do not know: %+v, %v", m.name(), s.Change, err)
			}
		}
		if n := lines.count("the process of a replica has ended"); n != 2 {
			t.Errorf("%d lines of a death, want one of each witness", n)
		}
		if n := lines.count("took over after a death"); n != 1 {
			t.Errorf("%d traces of a takeover, want one of the successor", n)
		}
		for _, e := range lines.entries(t) {
			if took, ok := e["microseconds"].(float64); e["msg"] == "took over after a death" && (!ok || took <= 0 || took > float64(fewTrips.Microseconds()) || e["replica"] != next.who.name()) {
				t.Errorf("traced %v", e)
			}
			if e["msg"] == "primary changed" && e["reason"] == "crash" && e["witnessed"] != (e["replica"] != p.name()) {
				t.Errorf("logged %v", e)
			}
		}
	})
}

// debugging is into with the lines at level debug.
func debugging(j *journal) option {
	return func(m *member) {
		m.cfg.Logger = slog.New(slog.NewJSONHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug})).With("replica", m.name())
	}
}

// A crash of which no lifeline tells is a crash, too: it counts as one that was not witnessed, and nothing of it is traced.
func TestACrashThatTheLeaseDecidesIsNotWitnessed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lines := &journal{}
		c, p := three(t, debugging(lines))
		time.Sleep(5 * lease)
		c.sever(p, true)
		p.leave(nil)
		next, took := c.successor(p, 2*lease)
		if took < lease/2 {
			t.Errorf("a successor after %s, without evidence", took)
		}
		if ch := next.term.Change; ch.Reason != election.ReasonCrash || ch.Witnessed {
			t.Errorf("took over: %+v", ch)
		}
		time.Sleep(lease)
		for _, m := range c.others(p) {
			want := 0.0
			if m == next.who {
				want = 1
			}
			if unseen, seen := takeovers(t, m.reg, "crash", "false"), takeovers(t, m.reg, "crash", "true"); unseen != want || seen != 0 {
				t.Errorf("%s: %v takeovers after a crash, %v of them witnessed; want %v, 0", m.name(), unseen+seen, seen, want)
			}
		}
		if n := lines.count("took over after a death"); n != 0 {
			t.Errorf("%d traces of a death", n)
		}
	})
}

// takeovers is the counter's value.
func takeovers(t *testing.T, reg *prometheus.Registry, reason, witnessed string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			l := m.GetLabel()
			if f.GetName() == "habot_takeovers_total" && l[0].GetValue() == reason && l[1].GetValue() == witnessed {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Errorf("no habot_takeovers_total{reason=%q,witnessed=%q}", reason, witnessed)
	return -1
}

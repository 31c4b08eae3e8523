//go:build e2e

package e2e

import (
	"context"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	promapi "github.com/prometheus/client_golang/api/prometheus/v1"
)

// restarted is what the Prometheus of a stack showed after all of the stack had been down.
type restarted struct {
	p      promapi.API
	at     time.Time         // when the stack was started again
	failed map[string]string // rules that could not be evaluated, and why
	asked  int               // how often the health of the rules was read
}

// containerOf is the container of a service that has one.
func (s *stack) containerOf(t *testing.T, service string) string {
	t.Helper()
	return docker(t, "ps", "-a", "-q", "--filter", "label=com.docker.compose.project="+s.project, "--filter", "label=com.docker.compose.service="+service)
}

// addressOf is where a container is reached.
func addressOf(t *testing.T, container string) string {
	t.Helper()
	return docker(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container)
}

// addresses are those of the replicas, by name.
func (s *stack) addresses(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, r := range s.replicas(t) {
		all[r.name] = addressOf(t, r.container)
	}
	return all
}

// monitored starts the stack's Prometheus and waits until it knows all replicas.
func (s *stack) monitored(t *testing.T) promapi.API {
	t.Helper()
	if out, err := s.compose(t.Context(), "up", "--detach", "prometheus"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p := prometheusAPI(t, addressOf(t, s.containerOf(t, "prometheus"))+":9090")
	allKnown(t, p)
	return p
}

// allKnown waits until Prometheus sees one primary, and all others stand by.
func allKnown(t *testing.T, p promapi.API) {
	t.Helper()
	w := &watched{p: p}
	w.shows(t, 3*shownWithin, "replica:habot_role", "replica", func(got map[string]float64) bool {
		primaries := 0
		for _, role := range got {
			switch role {
			case rolePrimary:
				primaries++
			case roleStandby:
			default:
				return false
			}
		}
		return len(got) == size && primaries == 1
	})
}

// TestNoFalseAlertAfterAllWereDown stops everything for 15 s, Prometheus too: what it had recorded stays visible for
// five minutes, and the replicas come back at other addresses.
func TestNoFalseAlertAfterAllWereDown(t *testing.T) {
	const down = 15 * time.Second
	t.Run("down and up", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, "habote2e-downup")
		s.monitored(t)
		s.settled(t, size)
		time.Sleep(skew) // for the primary to have been recorded as such
		before := s.addresses(t)
		subnet := docker(t, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", s.project+"_default")
		if out, err := s.compose(t.Context(), "down", "--timeout", "15"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		// None of the old addresses is used again.
		taken := s.project + "-taken"
		docker(t, "network", "create", "--subnet", subnet, taken)
		t.Cleanup(func() { _ = dockerQuietly("network", "rm", taken) })
		time.Sleep(down)
		r := s.comesUp(t, func() {
			if out, err := s.compose(t.Context(), "up", "--detach", "telegram", "bot", "prometheus"); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		})
		for name, address := range s.addresses(t) {
			for _, old := range before {
				if address == old {
					t.Fatalf("%s is at %s, where a replica was before: the test shows nothing", name, address)
				}
			}
		}
		r.isCalm(t)
	})
	t.Run("stop and start", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, "habote2e-stopstart")
		s.monitored(t)
		s.settled(t, size)
		time.Sleep(skew)
		before := s.addresses(t)
		containers := s.replicas(t)
		slices.SortFunc(containers, func(a, b replica) int { return strings.Compare(before[a.name], before[b.name]) })
		if out, err := s.compose(t.Context(), "stop", "--timeout", "15"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		time.Sleep(down)
		// Docker assigns the lowest free address: each replica gets that of another.
		r := s.comesUp(t, func() {
			docker(t, "start", s.containerOf(t, "telegram"))
			for i := range containers {
				docker(t, "start", containers[(i+1)%len(containers)].container)
			}
			docker(t, "start", s.containerOf(t, "prometheus"))
		})
		moved := 0
		for name, address := range s.addresses(t) {
			for other, old := range before {
				if address == old && name != other {
					moved++
				}
			}
		}
		if moved == 0 {
			t.Fatalf("no address has another replica than before: the test shows nothing. Before %v, now %v", before, s.addresses(t))
		}
		r.isCalm(t)
	})
}

func dockerQuietly(args ...string) error {
	return exec.CommandContext(context.Background(), "docker", args...).Run()
}

// comesUp starts the stack again and reads the health of the rules for 80 s: of the false alerts ConfigMismatch takes
// longest to fire, a minute.
func (s *stack) comesUp(t *testing.T, start func()) *restarted {
	t.Helper()
	r := &restarted{at: time.Now(), failed: map[string]string{}}
	start()
	r.p = prometheusAPI(t, addressOf(t, s.containerOf(t, "prometheus"))+":9090")
	eventually(t, shownWithin, func() error {
		_, err := r.p.Rules(t.Context(), nil)
		return err
	})
	for time.Since(r.at) < 80*time.Second {
		rules, err := r.p.Rules(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for rule, h := range healthOf(rules) {
			if h.of == promapi.RuleHealthBad {
				r.failed[rule] = h.lastError
			}
		}
		r.asked++
		time.Sleep(500 * time.Millisecond)
	}
	allKnown(t, r.p)
	return r
}

// isCalm: no rule failed, no alert fired, no query of the dashboard is an error, and no panel shows two values where
// there is one.
func (r *restarted) isCalm(t *testing.T) {
	t.Helper()
	if r.asked < 20 {
		t.Errorf("the health of the rules was read only %d times", r.asked)
	}
	for rule, why := range r.failed {
		t.Errorf("%s failed: %s", rule, why)
	}
	failures, err := atOnce(t.Context(), r.p, "prometheus_rule_evaluation_failures_total", "rule_group")
	if err != nil {
		t.Fatal(err)
	}
	if len(failures) < 3 {
		t.Errorf("failures are counted of %v", failures)
	}
	for group, n := range failures {
		if n > 0 {
			t.Errorf("%v evaluations failed in %s", n, group)
		}
	}
	now := time.Now()
	for _, s := range overTime(t, r.p, `ALERTS{alertstate="firing"}`, r.at, now, scrapeEvery) {
		t.Errorf("%s fired %d s", s.Metric, len(s.Values))
	}
	shown := now.Sub(r.at).Round(time.Second)
	one := []string{"Primary", "Last takeover", "Last change", "Replicas", "Lost, twice"}
	for _, q := range questions(t) {
		at := map[int64]int{}
		for _, series := range overTime(t, r.p, q.Substitute(scrapeEvery, shown), r.at, now, scrapeEvery) {
			for _, v := range series.Values {
				at[int64(v.Timestamp)]++
			}
		}
		if !slices.Contains(one, q.Of) || q.Annotation {
			continue
		}
		two := 0
		for _, n := range at {
			if n > 1 {
				two++
			}
		}
		if two > 0 {
			t.Errorf("%s has more than one value in %d s of %d: %s", q.Of, two, len(at), q.Expr)
		}
	}
	live, err := atOnce(t.Context(), r.p, question(t, "Replicas").Expr, "")
	if err != nil || live[""] != size {
		t.Errorf("%v replicas are shown: %v", live, err)
	}
}

// TestReplicasAreMonitoredByIPv6 has Prometheus scrape each replica over IPv4 and IPv6, and then over IPv6 alone: it
// counts as one replica all the time.
func TestReplicasAreMonitoredByIPv6(t *testing.T) {
	s := plannedStack(t, "habote2e-ipv6")
	s.files = append(s.files, "app/e2e/testdata/dualstack.yml")
	s.up(t)
	w := &watched{p: s.monitored(t)}
	s.settled(t, size)
	time.Sleep(skew) // for alerts that are pending during the start to end
	w.begun = time.Now()
	scraped := func(want map[string]float64) {
		t.Helper()
		w.shows(t, 2*shownWithin, `count by (ip_family) (up{job="habot"} == 1)`, "ip_family", func(got map[string]float64) bool {
			return maps.Equal(got, want)
		})
		time.Sleep(2 * skew) // for rates, and alerts, to be of that time
		for expr, want := range map[string]float64{"habot:replicas_live": size, "habot:primaries": 1} {
			w.shows(t, shownWithin, expr, "", func(got map[string]float64) bool { return got[""] == want })
		}
		// If both families were summed up, it would be twice what the simulator sends.
		answered := question(t, "Outcomes").Substitute(scrapeEvery, time.Minute)
		w.shows(t, shownWithin, answered, "outcome", func(got map[string]float64) bool {
			return got["answered"] > 0.5*load && got["answered"] < 1.5*load
		})
	}
	scraped(map[string]float64{"": size, "ipv6": size})
	pid, err := strconv.Atoi(docker(t, "inspect", "-f", "{{.State.Pid}}", s.containerOf(t, "prometheus")))
	if err != nil {
		t.Fatal(err)
	}
	inNetwork(t, pid, "iptables", "-A", "OUTPUT", "-p", "tcp", "--dport", "8080", "-j", "DROP")
	scraped(map[string]float64{"ipv6": size})
	for _, s := range overTime(t, w.p, "ALERTS", w.begun, time.Now(), scrapeEvery) {
		t.Errorf("%s for %d s", s.Metric, len(s.Values))
	}
}

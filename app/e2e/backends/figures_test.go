//go:build e2e

package backends

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"habot/app/simulator"
)

var figureRounds = flag.Int("figures", 0, "how many rounds of throughput and latency to measure; 0: none are")

// burst is how many updates wait for a bot at the start of a round of throughput; paced is how many come one by one in a round of latency.
const (
	burst = 2000
	paced = 100
)

// throughput is how many updates a second are answered, of many that come at once.
func (s *site) throughput() float64 {
	s.t.Helper()
	start, before := time.Now(), s.sim.Report().Answered
	for range burst {
		s.written++
		s.sim.Write(simulator.FirstChat+s.written%chats, fmt.Sprintf("message %d", s.written))
	}
	eventually(s.t, 2*time.Minute, "all are answered", func() bool { return s.sim.Report().Answered == before+burst })
	return burst / time.Since(start).Seconds()
}

// latency is the median time from an update to its answer, of updates that come one by one.
func (s *site) latency() time.Duration {
	s.t.Helper()
	from := s.sim.Report().Sent + 1
	for range paced {
		s.written++
		s.sim.Write(simulator.FirstChat+s.written%chats, fmt.Sprintf("message %d", s.written))
		time.Sleep(50 * time.Millisecond)
	}
	eventually(s.t, time.Minute, "all are answered", func() bool { return s.sim.Report().Unanswered == 0 })
	var all []time.Duration
	for _, u := range list[simulator.Record](s, fmt.Sprint("/report/updates?from=", from)) {
		all = append(all, u.Answered[0].At.Sub(u.Sent))
	}
	return median(all)
}

func median[T float64 | time.Duration](all []T) T {
	slices.Sort(all)
	return all[len(all)/2]
}

// What the gateway costs: the same bot polls the simulated Telegram directly, through the primary, and through a standby. One round
// of each after the other, so that what else the machine does hits all of them.
func TestGatewayFigures(t *testing.T) {
	if *figureRounds == 0 {
		t.Skip("-figures N measures")
	}
	oneByOne(t, func(t *testing.T, f framework) {
		sites := map[string]*site{"directly": newSite(t, 0)}
		direct := sites["directly"]
		direct.copyAt(f, "a", direct.telegram, "").start(t)
		ways := []string{"directly", "through the primary"}
		if *replicaCount > 1 {
			ways = append(ways, "through a standby")
		}
		for _, way := range ways[1:] {
			s := newSite(t, *replicaCount)
			at := s.primary()
			if way == "through a standby" {
				at = s.replicas[(slices.Index(s.replicas, at)+1)%len(s.replicas)]
			}
			s.copyAt(f, "a", "http://bot:8082", at.address+" bot\n").start(t)
			sites[way] = s
		}
		rates, latencies := map[string][]float64{}, map[string][]time.Duration{}
		for round := range *figureRounds + 1 {
			for _, way := range ways {
				rate, latency := sites[way].throughput(), sites[way].latency()
				if round > 0 { // the first warms up
					rates[way], latencies[way] = append(rates[way], rate), append(latencies[way], latency)
				}
			}
		}
		for _, way := range ways {
			t.Logf("FIGURE %s %s: %.0f updates/s, %.2f of directly; latency %.1f ms, %.1f more than directly; n=%d", f.name, way,
				median(rates[way]), median(rates[way])/median(rates["directly"]), ms(median(latencies[way])),
				ms(median(latencies[way])-median(latencies["directly"])), *figureRounds)
			if r := sites[way].sim.Report(); r.AnsweredTwice != 0 || r.Lost != 0 {
				t.Errorf("%s: %d answered twice, %d lost", way, r.AnsweredTwice, r.Lost)
			}
		}
	})
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

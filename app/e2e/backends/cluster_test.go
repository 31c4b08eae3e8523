//go:build e2e

package backends

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"habot/app/simulator"
)

// newCluster starts three replicas that hand updates to backends, and has them killed when the test ends. They have no lifelines, as if
// each were on a machine of its own.
func newCluster(t *testing.T, telegram string, backends ...string) map[string]*replica {
	t.Helper()
	const n = 3
	var peers []string
	for range n {
		peers = append(peers, net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t))))
	}
	all := map[string]*replica{}
	for i, peer := range peers {
		name := fmt.Sprintf("r%d", i+1)
		all[name] = newReplica(t, &host{name: name},
			"REPLICA_NAME="+name, "PEER_ADDR="+peer, "HTTP_ADDR=127.0.0.1:"+strconv.Itoa(freePort(t)), "REPLICAS="+strconv.Itoa(n),
			"INSTANCES="+strings.Join(peers, ","), "TELEGRAM_API_URL="+telegram, "BOT_TOKEN="+token, "LIFELINE_DIR=",
			"BACKEND="+strings.Join(backends, ","), "BACKEND_SECRET="+secret, "GOMAXPROCS=1", "GOMEMLIMIT=20MiB")
	}
	return all
}

// primary waits until a replica polls other than some, and returns it.
func primary(t *testing.T, sim *simulator.Simulator, cluster map[string]*replica, former string) *replica {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if p := sim.Report().Poller; p != "" && p != former && cluster[p] != nil {
			return cluster[p]
		}
	}
	t.Fatalf("no replica but %q polls: %+v", former, sim.Report())
	return nil
}

// people write, each chat in turn, until stop is called; it returns how many messages.
func people(sim *simulator.Simulator, every time.Duration) (stop func() int) {
	end, written := make(chan struct{}), make(chan int)
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-end:
				written <- n
				return
			case <-tick.C:
				sim.Write(simulator.FirstChat+int64(n%writers), fmt.Sprintf("message %d", n))
			}
		}
	}()
	return func() int {
		close(end)
		return <-written
	}
}

// Each framework's two copies behind three replicas with an election, while people write: a copy is killed, the primary is, and both at
// once. By the account of the simulated Telegram nothing is lost, and each chat is answered in order.
func TestFrameworksBehindReplicas(t *testing.T) {
	for _, f := range frameworks() {
		if *only != "" && *only != f.name {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			const kills = 4
			sim, telegram := newSimulator(t)
			a, b := newCopy(t, f, f.name+"-a", telegram), newCopy(t, f, f.name+"-b", telegram)
			cluster := newCluster(t, telegram, a.url(), b.url())
			first := primary(t, sim, cluster, "")
			sim.Write(simulator.FirstChat, "before all")
			if r := settled(t, sim, 20*time.Second); r.Answered != 1 {
				t.Fatalf("the first update is not answered: %+v", r)
			}

			stop := people(sim, 50*time.Millisecond)
			pause := func() { time.Sleep(1500 * time.Millisecond) }
			pause()
			a.kill()
			pause()
			a.start(t)
			first.kill()
			second := primary(t, sim, cluster, first.name)
			first.start(t)
			pause()
			b.kill()
			second.kill()
			third := primary(t, sim, cluster, second.name)
			second.start(t)
			b.start(t)
			pause()
			written := int64(stop())

			r := settled(t, sim, 30*time.Second)
			if written < 100 || r.Sent != written+1 || r.Answered != r.Sent || r.Confirmed != r.Sent || r.Lost != 0 || r.OutOfOrder != 0 || r.Dropped != 0 || r.StrayMessages != 0 {
				t.Errorf("of %d that were written: %+v", written+1, r)
			}
			if r.AnsweredTwice > kills*writers { // what was in hand, an update of each chat at most
				t.Errorf("%d updates are answered twice", r.AnsweredTwice)
			}
			t.Logf("%d answered, %d twice; primaries %s, %s, %s; unpolled for %.1f s at most", r.Answered, r.AnsweredTwice, first.name, second.name, third.name,
				r.LongestUnpolledSeconds)
		})
	}
}

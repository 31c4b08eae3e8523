//go:build e2e

package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"habot/app/simulator"
)

const size = 3

// fault is one way to take the primary away, and back.
type fault struct {
	name         string
	cause, heal  func(t *testing.T, r replica)
	median, most time.Duration
	// duplicates is how many updates may be answered twice each time.
	duplicates int64
}

func signal(sig syscall.Signal) func(*testing.T, replica) {
	return func(t *testing.T, r replica) {
		t.Helper()
		if err := syscall.Kill(r.pid, sig); err != nil {
			t.Fatal(err)
		}
	}
}

func command(args ...string) func(*testing.T, replica) {
	return func(t *testing.T, r replica) {
		t.Helper()
		docker(t, append(append([]string{}, args...), r.container)...)
	}
}

func nothing(*testing.T, replica) {}

// peersOnly cuts a replica off from the others, but not from Telegram; verb is -A or -D.
func peersOnly(verb string) func(*testing.T, replica) {
	return func(t *testing.T, r replica) {
		t.Helper()
		for _, chain := range [][]string{{"INPUT", "!", "-i", "lo"}, {"OUTPUT", "!", "-o", "lo"}} {
			for _, port := range []string{"--dport", "--sport"} {
				rule := append(append([]string{"iptables", "-w", verb}, chain...), "-p", "tcp", port, "7175", "-j", "DROP")
				inNetwork(t, r.pid, rule...)
			}
		}
	}
}

// outgoing has nothing leave a replica, though everything comes in: what it has sent waits in its kernel, and must
// not arrive when the way is free again. verb is -A or -D.
func outgoing(verb string) func(*testing.T, replica) {
	return func(t *testing.T, r replica) {
		t.Helper()
		inNetwork(t, r.pid, "iptables", "-w", verb, "OUTPUT", "!", "-o", "lo", "-j", "DROP")
	}
}

// cable pulls a replica's cable, or plugs it in again.
func cable(state string) func(*testing.T, replica) {
	return func(t *testing.T, r replica) {
		t.Helper()
		inNetwork(t, r.pid, "ip", "link", "set", "eth0", state)
	}
}

func faults() []fault {
	s := time.Second
	return []fault{
		{"kill -9", signal(syscall.SIGKILL), nothing, s, 1300 * time.Millisecond, 3},
		{"SIGSTOP", signal(syscall.SIGSTOP), signal(syscall.SIGCONT), 1500 * time.Millisecond, 1500 * time.Millisecond, 3},
		{"pulled cable", cable("down"), cable("up"), 1500 * time.Millisecond, 1500 * time.Millisecond, 3},
		{"cut off from peers", peersOnly("-A"), peersOnly("-D"), 1500 * time.Millisecond, 1500 * time.Millisecond, 3},
		{"nothing gets out", outgoing("-A"), outgoing("-D"), 1500 * time.Millisecond, 1500 * time.Millisecond, 3},
		{"docker kill", command("kill"), command("start"), 1500 * time.Millisecond, 2 * s, 3},
		{"docker pause", command("pause"), command("unpause"), 1500 * time.Millisecond, 2 * s, 3},
		{"docker network disconnect", network("disconnect"), network("connect"), 1500 * time.Millisecond, 2 * s, 3},
	}
}

func network(verb string) func(*testing.T, replica) {
	return func(t *testing.T, r replica) {
		t.Helper()
		args := []string{"network", verb}
		if verb == "connect" {
			args = append(args, "--alias", "bot")
		}
		docker(t, append(args, project+"_default", r.container)...)
	}
}

// TestTakeover takes the primary away under load in every way, and looks at what the simulator says.
func TestTakeover(t *testing.T) {
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			var took figures
			for range *repetitions {
				primary, _ := settled(t, size)
				before := ask[simulator.Report](t, "/report")
				start := time.Now()
				f.cause(t, primary)
				first := takeover(t, primary.name, before.Polls, start)
				took = append(took, first.Start.Sub(start))
				time.Sleep(500 * time.Millisecond) // so that the old primary has time to misbehave
				f.heal(t, primary)
				settled(t, size)
				if f.name != "kill -9" && f.name != "docker kill" { // there a new process has the old one's name
					nothingFrom(t, primary.name, first)
				}
				after := nothingLost(t)
				if n := after.AnsweredTwice - before.AnsweredTwice; n > f.duplicates {
					t.Errorf("%d updates were answered twice, at most %d may be", n, f.duplicates)
					for _, u := range ask[[]simulator.Record](t, fmt.Sprintf("/report/updates?only=twice&from=%d", before.Sent-100)) {
						t.Logf("twice, %v before the fault: sent %v, %+v", start.Sub(u.Answered[0].At), start.Sub(u.Sent), u)
					}
				}
				if n := after.OutOfOrder - before.OutOfOrder; n > 0 {
					t.Errorf("%d updates were answered out of order", n)
				}
			}
			took.tell(t, f.name+" to the next poll", f.median, f.most)
		})
	}
}

// TestHandover stops the primary on purpose: no user notices.
func TestHandover(t *testing.T) {
	handover := func(t *testing.T, name string, hand func(t *testing.T, primary replica, others []replica), heal func(*testing.T, replica)) {
		t.Helper()
		var unpolled figures
		for range *repetitions {
			primary, others := settled(t, size)
			before := ask[simulator.Report](t, "/report")
			hand(t, primary, others)
			takeover(t, primary.name, before.Polls, time.Now().Add(-10*time.Second))
			after := ask[simulator.Report](t, "/report")
			last := after.Handovers[len(after.Handovers)-1]
			if last.From != primary.name {
				t.Fatalf("the last change of poller is from %s, not %s", last.From, primary.name)
			}
			unpolled = append(unpolled, time.Duration(last.GapSeconds*float64(time.Second)))
			heal(t, primary)
			settled(t, size)
			if after = nothingLost(t); after.AnsweredTwice != before.AnsweredTwice {
				t.Errorf("%d updates were answered twice", after.AnsweredTwice-before.AnsweredTwice)
			}
			if after.Conflicts != before.Conflicts {
				t.Errorf("%d conflicts", after.Conflicts-before.Conflicts)
			}
		}
		unpolled.tell(t, name+", Telegram unpolled", 100*time.Millisecond, 100*time.Millisecond)
	}
	t.Run("docker stop", func(t *testing.T) {
		handover(t, "docker stop", func(t *testing.T, p replica, _ []replica) { docker(t, "stop", p.container) }, command("start"))
	})
	t.Run("switchover", func(t *testing.T) {
		handover(t, "switchover to a named replica", func(t *testing.T, p replica, others []replica) {
			docker(t, "exec", p.container, "/habot", "switchover", others[0].name)
			eventually(t, 10*time.Second, func() error {
				if poller := ask[simulator.Report](t, "/report").Poller; poller != others[0].name {
					return fmt.Errorf("%s polls, %s was named", poller, others[0].name)
				}
				return nil
			})
		}, nothing)
	})
}

// TestTogether starts all replicas at once.
func TestTogether(t *testing.T) {
	var took figures
	for range *repetitions {
		settled(t, size)
		all := replicas(t)
		var ids []string
		for _, r := range all {
			ids = append(ids, r.container)
		}
		docker(t, append([]string{"kill"}, ids...)...)
		before := ask[simulator.Report](t, "/report")
		docker(t, append([]string{"start"}, ids...)...)
		var started time.Time // when the first of them ran
		for _, r := range replicas(t) {
			at, err := time.Parse(time.RFC3339Nano, docker(t, "inspect", "-f", "{{.State.StartedAt}}", r.container))
			if err != nil {
				t.Fatal(err)
			}
			if started.IsZero() || at.Before(started) {
				started = at
			}
		}
		first := takeover(t, "", before.Polls, started.Add(-time.Minute))
		for first.Number <= before.Polls {
			first = takeover(t, "", first.Number+1, started.Add(-time.Minute))
		}
		took = append(took, first.Start.Sub(started))
		settled(t, size)
		if after := nothingLost(t); after.Conflicts != before.Conflicts {
			t.Errorf("%d conflicts", after.Conflicts-before.Conflicts)
		}
	}
	took.tell(t, "all started together, first poll", 2*time.Second, 2*time.Second)
}

// TestTelegramFails: what no replica can mend moves no role.
func TestTelegramFails(t *testing.T) {
	for _, kind := range []string{simulator.FaultError500, simulator.FaultHang, simulator.FaultHTML502, simulator.FaultDrop} {
		t.Run(kind, func(t *testing.T) {
			var back figures
			for range max(1, *repetitions/4) {
				primary, _ := settled(t, size)
				before := ask[simulator.Report](t, "/report")
				const lasting = 10 * time.Second
				end := time.Now().Add(lasting)
				control(t, simulator.Control{Faults: []simulator.Fault{{Kind: kind, Seconds: lasting.Seconds()}}})
				time.Sleep(time.Until(end) - 100*time.Millisecond)
				from := lastPoll(t)
				first := takeover(t, "", from+1, end.Add(-50*time.Millisecond))
				back = append(back, max(0, first.Start.Sub(end)))
				if now, _ := settled(t, size); now.name != primary.name {
					t.Errorf("the role moved from %s to %s", primary.name, now.name)
				}
				if after := nothingLost(t); after.PollerChanges != before.PollerChanges || after.AnsweredTwice != before.AnsweredTwice {
					t.Errorf("%d changes of poller, %d answered twice", after.PollerChanges-before.PollerChanges, after.AnsweredTwice-before.AnsweredTwice)
				}
			}
			back.tell(t, "Telegram back after "+kind+", polled again", 3*time.Second, 3*time.Second)
		})
	}
}

// TestTelegramFailsWhileAStandbyStartsAgain: one that does not know yet that Telegram is down is no reason to move the role.
func TestTelegramFailsWhileAStandbyStartsAgain(t *testing.T) {
	primary, standbys := settled(t, size)
	before := ask[simulator.Report](t, "/report")
	const (
		lasting = 35 * time.Second
		ill     = 20 * time.Second // by then the primary says that it does not reach Telegram
	)
	began := time.Now()
	control(t, simulator.Control{Faults: []simulator.Fault{{Kind: simulator.FaultHang, Seconds: lasting.Seconds()}}})
	time.Sleep(time.Until(began.Add(ill)))
	v, err := view(t, primary)
	if err != nil {
		t.Fatal(err)
	}
	if v.Self.Health.OK {
		t.Fatal("the primary is healthy: nothing is shown")
	}
	docker(t, "restart", standbys[0].container)
	time.Sleep(time.Until(began.Add(lasting)))
	if now, _ := settled(t, size); now.name != primary.name {
		t.Errorf("the role moved from %s to %s", primary.name, now.name)
	}
	if after := nothingLost(t); after.PollerChanges != before.PollerChanges {
		t.Errorf("%d changes of poller", after.PollerChanges-before.PollerChanges)
	}
}

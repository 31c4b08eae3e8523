package bot

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
	"habot/app/simulator"
)

// What Telegram takes and answers with a proxy's page, or too late, or not at all: a message whose fate is unknown is sent
// again, for it must not be lost; but a few times, and ever more slowly.
func TestAMessageOfUnknownFateIsSentAgainAFewTimes(t *testing.T) {
	t.Parallel()
	for kind, most := range map[string]struct{ inHalfAMinute, inAMinute int }{
		simulator.FaultTaken502:  {4, 5},
		simulator.FaultTakenDrop: {4, 5},
		simulator.FaultTakenLate: {2, 2}, // the second answer is waited for
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sim := againstSimulator(t)
				sim.Apply(simulator.Control{
					Faults:   []simulator.Fault{{Kind: kind, Methods: []string{"sendMessage"}, Seconds: 3600, LatencySeconds: 11}},
					Messages: []simulator.Message{{Chat: 7, Text: "hello"}},
				})
				copies := func() int { return int(sim.Report().Answered+sim.Report().StrayMessages) + again(t, sim) }
				after(30 * time.Second)
				if n := copies(); n < 1 || n > most.inHalfAMinute {
					t.Errorf("%d copies in half a minute, want at most %d", n, most.inHalfAMinute)
				}
				after(32 * time.Second)
				if n := copies(); n > most.inAMinute {
					t.Errorf("%d copies in 62 s, want at most %d", n, most.inAMinute)
				}
				after(giveUpAfter)
				if n := copies(); n > 7 {
					t.Errorf("%d copies in all, want at most 7", n)
				}
				if r := sim.Report(); r.Confirmed != r.Sent {
					t.Errorf("the account is %+v", r)
				}
			})
		})
	}
}

// again is how many answers there were to the only update, beyond the first.
func again(t *testing.T, sim *simulator.Simulator) int {
	t.Helper()
	records := records(t, sim)
	return len(records[0].Answered) - 1
}

// Answers that are late are learned from: the next message is sent once.
func TestOnceAnswersAreSeenToBeLateMessagesAreSentOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := againstSimulator(t)
		sim.Apply(simulator.Control{
			Faults:   []simulator.Fault{{Kind: simulator.FaultTakenLate, Methods: []string{"sendMessage"}, Seconds: 3600, LatencySeconds: 11}},
			Messages: []simulator.Message{{Chat: 7, Text: "the first"}},
		})
		after(time.Minute)
		for i := range 5 {
			sim.Write(7, fmt.Sprint("another ", i))
			after(20 * time.Second)
		}
		if r := sim.Report(); r.Answered != 6 || r.AnsweredTwice != 1 {
			t.Errorf("the account is %+v", r)
		}
	})
}

// failingWay is a simulated Telegram to which requests do not even leave while broken says so.
func failingWay(sim *simulator.Simulator, broken func(method string) error) base {
	working := simulated(sim)
	return func(req *http.Request) (*http.Response, error) {
		if err := broken(path.Base(req.URL.Path)); err != nil {
			return nil, err // its body was not read
		}
		return working(req)
	}
}

// A request that surely did not leave is tried again at will: once Telegram can be reached the answer is there at once, and it
// is one.
func TestAMessageThatDidNotLeaveIsTriedAgainAtWill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulator()
		over := time.Now().Add(9 * time.Minute)
		f := newFixtureOn(t, failingWay(sim, func(method string) error {
			if method == "sendMessage" && time.Now().Before(over) {
				return &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
			}
			return nil
		}))
		f.start(election.Change{})
		after(time.Second)
		sim.Write(7, "hello")
		after(time.Until(over))
		if n := f.metric("habot_telegram_requests_total", "method", "sendMessage", "code", "error"); n < 100 {
			t.Errorf("%v attempts in nine minutes", n)
		}
		after(sendBackOff)
		if r := sim.Report(); r.Answered != 1 || r.AnsweredTwice != 0 || r.Confirmed != 1 {
			t.Errorf("the account is %+v", r)
		}
	})
}

// While Telegram is down for all chats nothing is sent again and again, and however long that lasts no answer is given up.
func TestAnOutageOfAnyLengthLosesNoAnswer(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{simulator.FaultHTML502, simulator.FaultError500, simulator.FaultDrop, simulator.FaultHang, simulator.FaultLoggedOut, simulator.FaultToken, "dial"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const lasting = 30 * time.Minute
				sim := newSimulator()
				over := time.Now().Add(lasting)
				f := newFixtureOn(t, failingWay(sim, func(string) error {
					if kind == "dial" && time.Now().Before(over) && time.Until(over) < lasting-10*time.Second {
						return errors.New("connection refused")
					}
					return nil
				}))
				f.start(election.Change{})
				after(9*time.Second + 990*time.Millisecond)
				for chat := range int64(20) {
					sim.Write(1+chat, "in hand")
				}
				if kind != "dial" {
					sim.Apply(simulator.Control{Faults: []simulator.Fault{{Kind: kind, Seconds: time.Until(over).Seconds()}}})
				}
				after(time.Until(over))
				tried := 0.0
				for _, code := range []string{"error", "502", "500", "400", "401"} {
					tried += f.metric("habot_telegram_requests_total", "method", "sendMessage", "code", code)
				}
				if tried > 20*10 {
					t.Errorf("%v attempts to send 20 messages in half an hour of an outage", tried)
				}
				f.expectOutcome(outcomeFailed, 0)
				after(time.Minute) // a poll is the first to know that it is over
				if r := sim.Report(); r.Answered != 20 || r.Confirmed != 20 || r.Lost != 0 {
					t.Errorf("the account is %+v", r)
				}
			})
		})
	}
}

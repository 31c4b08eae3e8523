package web

import (
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"habot/app/diagnosis"
	"habot/app/election"
	"habot/app/relay"
)

// judged is a status with its verdict.
func judged(v election.View, change func(*Status)) Status {
	s := Status{View: v, Verdict: diagnosis.Of(diagnosis.Facts{View: v})}
	if change != nil {
		change(&s)
	}
	return s
}

func TestWriteStatus(t *testing.T) {
	t.Parallel()
	alone := healthy(election.Looking)
	alone.Self.Lease = 550 * time.Millisecond
	started := healthy(election.Primary)
	started.Mode, started.Expected, started.Quorum = "bot-only", 1, 1
	started.History = []election.Change{{Claim: started.Self.Primary, Name: "habot-bot-1", Reason: election.ReasonStart}}
	ill := cluster()
	ill.Self.Role, ill.Self.Primary.Replica, ill.Self.PrimaryName = election.Primary, "cc", "habot-bot-3"
	ill.Self.Health = election.Health{Detail: "polling Telegram fails: " + strings.Repeat("dial tcp: lookup api.telegram.org: ", 20) + "\ni/o timeout"}
	ill.Peers, ill.History = ill.Peers[:0], nil
	linked := healthy(election.Primary)
	linked.Self.Lease, linked.Reachable = 550*time.Millisecond, 3
	for i, name := range []string{"habot-bot-2", "habot-bot-3", "habot-bot-4"} {
		linked.Peers = append(linked.Peers, election.Peer{Status: election.Status{Name: name, Role: election.Standby, Version: "1.0.0", Health: election.Health{OK: true}}, Reachable: true, Lifeline: i != 1})
	}
	voter := cluster()
	voter.Self.Health, voter.Peers, voter.Reachable = election.WitnessHealth(), voter.Peers[:1], 2
	voter.Expected, voter.Quorum, voter.History = 3, 2, nil
	for _, c := range []struct {
		what   string
		status Status
		want   string
	}{
		{"a witness", judged(voter, nil), `
the bot answers: habot-bot-1 is primary

REPLICA      ROLE     TELEGRAM   PRIMARY SINCE            VERSION
habot-bot-1  primary  reachable  2026-01-02 03:09:00 UTC  1.0.0
habot-bot-3  witness  -          -                        1.0.0

as habot-bot-3 sees it: 2 of 3 replicas reachable, 2 needed; lease 1s; a witness, without a way to Telegram
problem: 1 of 3 replicas missing, no contact for a minute or ever
problem: the next failure stops the bot: 2 of 3 replicas reachable, 2 needed
`},
		{"all there is to say", judged(cluster(), nil), `
the bot answers: habot-bot-1 is primary

REPLICA      ROLE           TELEGRAM       PRIMARY SINCE            VERSION
habot-bot-1  primary        reachable      2026-01-02 03:09:00 UTC  1.0.0
habot-bot-2  not reachable  unknown        -                        0.9.0
habot-bot-3  standby        reachable      -                        1.0.0
habot-bot-4  standby        not reachable  -                        1.0.0

as habot-bot-3 sees it: 3 of 4 replicas reachable, 3 needed; lease 1s; real Telegram
last change: habot-bot-1 became primary at 2026-01-02 03:09:00 UTC, replacing habot-bot-2. Reason: habot-bot-2 stopped responding (crash, freeze or partition). Downtime: 1.23 s
problem: habot-bot-2 is not reachable, last contact 12 s ago
problem: habot-bot-4 does not reach Telegram: Telegram does not answer
problem: the next failure stops the bot: 3 of 4 replicas reachable, 3 needed
`},
		{"lifelines", judged(linked, func(s *Status) { s.Verdict.Problems, s.LastPoll = nil, time.Second }), `
the bot answers: habot-bot-1 is primary

REPLICA      ROLE     TELEGRAM   PRIMARY SINCE            VERSION
habot-bot-1  primary  reachable  2023-11-14 22:13:20 UTC  1.0.0
habot-bot-2  standby  reachable  -                        1.0.0
habot-bot-3  standby  reachable  -                        1.0.0
habot-bot-4  standby  reachable  -                        1.0.0

as habot-bot-1 sees it: 3 of 3 replicas reachable, 2 needed; lease 550ms; real Telegram; last poll answered 1.00 s ago; lifelines to habot-bot-2, habot-bot-4
`},
		{"webhook backends", judged(cluster(), func(s *Status) {
			s.Verdict.Problems = nil
			s.Backends = &relay.Snapshot{Waiting: 3, Unresolved: map[string]string{"http://other:80": "no such host"}, Addresses: []relay.Status{
				{Backend: "http://mybot:8000", Address: "10.0.0.7:8000", State: relay.Up, InFlight: 2},
				{Backend: "http://mybot:8000", Address: "10.0.0.8:8000", State: relay.Down, Detail: "connect: connection refused"},
			}}
		}), `
the bot answers: habot-bot-1 is primary

REPLICA      ROLE           TELEGRAM       PRIMARY SINCE            VERSION
habot-bot-1  primary        reachable      2026-01-02 03:09:00 UTC  1.0.0
habot-bot-2  not reachable  unknown        -                        0.9.0
habot-bot-3  standby        reachable      -                        1.0.0
habot-bot-4  standby        not reachable  -                        1.0.0

as habot-bot-3 sees it: 3 of 4 replicas reachable, 3 needed; lease 1s; real Telegram
last change: habot-bot-1 became primary at 2026-01-02 03:09:00 UTC, replacing habot-bot-2. Reason: habot-bot-2 stopped responding (crash, freeze or partition). Downtime: 1.23 s
backend http://mybot:8000 at 10.0.0.7:8000: up, 2 in flight
backend http://mybot:8000 at 10.0.0.8:8000: down, connect: connection refused
backend http://other:80: no such host
updates that wait for a backend: 3
`},
		{"nothing known", judged(alone, func(s *Status) { s.Demo, s.LastPoll = true, time.Second }), `
no primary: 1 of 3 replicas reachable, 2 needed (demo: BOT_TOKEN is not set, Telegram is simulated)

REPLICA      ROLE     TELEGRAM   PRIMARY SINCE  VERSION
habot-bot-1  looking  reachable  -              1.0.0

as habot-bot-1 sees it: 1 of 3 replicas reachable, 2 needed; lease 550ms; simulated Telegram
problem: 2 of 3 replicas missing, no contact for a minute or ever
`},
		{"the first primary", judged(started, func(s *Status) {
			s.LastPoll, s.At = 430*time.Millisecond, time.Unix(0, started.Self.Primary.Timestamp).Add(31*time.Second)
		}), `
the bot answers: habot-bot-1 is primary

REPLICA      ROLE     TELEGRAM   PRIMARY SINCE            VERSION
habot-bot-1  primary  reachable  2023-11-14 22:13:20 UTC  1.0.0

as habot-bot-1 sees it: mode bot-only, no election; real Telegram; last poll answered 0.43 s ago
last change: habot-bot-1 became primary at 2023-11-14 22:13:20 UTC, 31 s ago. Reason: no previous primary was known (first start, or all replicas restarted). Downtime: unknown
`},
		{"a long error", judged(ill, nil), `
the primary habot-bot-3 does not reach Telegram: ` + ill.Self.Health.Detail[:160] + `...

REPLICA      ROLE     TELEGRAM       PRIMARY SINCE            VERSION
habot-bot-3  primary  not reachable  2026-01-02 03:09:00 UTC  1.0.0

as habot-bot-3 sees it: 3 of 4 replicas reachable, 3 needed; lease 1s; real Telegram; no poll answered yet
problem: habot-bot-3 does not reach Telegram: ` + ill.Self.Health.Detail[:160] + `...
problem: 3 of 4 replicas missing, no contact for a minute or ever
problem: the next failure stops the bot: 3 of 4 replicas reachable, 3 needed
`},
	} {
		var got strings.Builder
		WriteStatus(&got, c.status)
		if got.String() != c.want[1:] {
			t.Errorf("%s: got\n%s\nwant%s", c.what, &got, c.want)
		}
	}
}

func TestWriteStatusLeavesTheViewAsItIs(t *testing.T) {
	t.Parallel()
	v := cluster()
	v.Peers = append(make([]election.Peer, 0, 10), v.Peers...)
	WriteStatus(io.Discard, judged(v, nil))
	if !reflect.DeepEqual(v, cluster()) {
		t.Errorf("the view was changed: %+v", v)
	}
}

func TestWriteHistory(t *testing.T) {
	t.Parallel()
	changes := append(cluster().History, election.Change{
		Claim: cluster().History[1].Claim, Name: "habot-bot-3", Previous: "habot-bot-1", Reason: election.ReasonShutdown, Gap: 2 * time.Millisecond,
	})
	const want = `
TIME                     NEW PRIMARY  PREVIOUS     DOWNTIME  REASON
2026-01-02 03:04:05 UTC  habot-bot-2  -            unknown   no previous primary was known (first start, or all replicas restarted)
2026-01-02 03:09:00 UTC  habot-bot-1  habot-bot-2  1.23 s    habot-bot-2 stopped responding (crash, freeze or partition)
2026-01-02 03:09:00 UTC  habot-bot-3  habot-bot-1  2 ms      habot-bot-1 was shut down
`
	var got strings.Builder
	if WriteHistory(&got, changes); got.String() != want[1:] {
		t.Errorf("got\n%s\nwant%s", &got, want)
	}
	got.Reset()
	if WriteHistory(&got, nil); got.String() != "no change of primary is known to this replica\n" {
		t.Errorf("got %q", &got)
	}
}

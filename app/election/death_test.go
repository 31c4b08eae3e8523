package election_test

import (
	"fmt"
	"testing"

	"habot/app/election"
)

func TestWitnessedDeathOfThePrimaryIsFollowedAtOnce(t *testing.T) {
	t.Parallel()
	story(t, replica{}, standbyOfEarlier+`
		1200 status z
		1300 died p seen=z
		  > dead p, p
		  > claim m/1000 as candidate, round 1
		1301 granted z m/1000 sent=1300
		  > election m/1000 won after 1
		  > primary is m/1000, crash witnessed of p, gap 1
		  > bot until 2190, lease ends 2290
		  > start bot m/1000
		  > claim m/1000 as primary, round 2
		# it is told once
		1302 died p seen=z
	`)
}

func TestAStandbyRemembersTheDeathThatItWitnessed(t *testing.T) {
	t.Parallel()
	story(t, replica{}, standbyOfEarlier+`
		1300 died p seen=a
		  > dead p, p
		1301 claim a/950
		  > grant a/950
		1302 claim a/950 role=primary reason=crash
		  > primary is a/950, crash witnessed
		  > grant a/950
	`)
}

func TestThoseThatWitnessADeathClaimInTurn(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 5}, standbyOfEarlier+`
		# a and b are before m, and so is c, but it has died too
		1290 died c seen=a,b,z
		  > dead c
		1300 died p seen=a,b,c,z
		  > dead p, p
		1300 next
		  > next 1350
		1349 tick
		# the first claims meanwhile
		1349 claim a/1000
		  > grant a/1000
		1350 tick
		1350 state
		  > looking follows=- remaining=0 floor=a/1000
	`)
	story(t, replica{Replicas: 5}, standbyOfEarlier+`
		1290 died c seen=a,b,p,z
		  > dead c
		1300 died p seen=a,b,c,z
		  > dead p, p
		# the first two do not claim
		1350 tick
		  > claim m/1000 as candidate, round 1
	`)
}

func TestOneOfManyThatWitnessADeathDoesNotWaitForItsPlace(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 9}, standbyOfEarlier+`
		1110 status a,b,c,d,e,f,g
		1300 died p
		  > dead p, p
		  > claim m/1000 as candidate, round 1
	`)
}

// A turn is for one term and one claim: of many, all would claim at once.
func TestTurnEndsWithItsTermAndItsClaim(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 9}, standbyOfEarlier+`
		1300 died p seen=a
		  > dead p, p
		1310 claim a/1000 role=primary reason=crash
		  > primary is a/1000, crash witnessed
		  > grant a/1000
		2310 tick
		2310 state
		  > looking follows=- remaining=0 floor=a/1000
	`)
	story(t, replica{Replicas: 9}, standbyOfEarlier+`
		1300 died p
		  > dead p, p
		  > claim m/1000 as candidate, round 1
		1301 refused b m/1000 floor floor=x/2000
		  > election m/1000 refused after 1
		  > withdraw m/1000
		1302 state
		  > looking follows=- remaining=0 floor=p/900
	`)
}

func TestDeathOfAnotherThanThePrimaryFreesNothingElse(t *testing.T) {
	t.Parallel()
	story(t, replica{}, standbyOfEarlier+`
		1200 status z
		1200 size
		  > expected=3 quorum=2 reachable=3
		1300 died z seen=p
		  > dead z, z
		1300 size
		  > expected=3 quorum=2 reachable=2
		1300 state
		  > standby follows=p/900 remaining=800 floor=p/900
		1301 claim b/950
		  > refuse b/950 held holder=p/900 remaining=799 floor=p/900
		# nor does a process of its own, or of nobody
		1302 died m
		1302 died
		1302 state
		  > standby follows=p/900 remaining=798 floor=p/900
	`)
}

func TestLateMessagesOfTheDeadBindNobody(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1005 claim p/900 role=primary
		  > primary is p/900, start
		  > refuse p/900 joining remaining=5 floor=p/900
		1006 health bad
		1100 claim p/900 role=primary
		  > grant p/900
		1300 died p
		  > dead p, p
		1301 claim p/900 role=primary
		  > refuse p/900 ended floor=p/900
		# one that it made after it had been heard last, too
		1302 claim p/950
		  > refuse p/950 ended floor=p/900
		1303 status p role=primary primary=p/950
		# and what others still believe
		1304 status b primary=p/950
		1305 withdraw p/950
		1306 release p/950 to=b
		1306 state
		  > looking follows=- remaining=0 floor=p/900
		1306 next
		  > next 1350
		# ORDER: it may have won
		1307 claim b/899
		  > refuse b/899 floor floor=p/900
		1308 claim b/901
		  > grant b/901
	`)
}

// A process that starts again has the name of the one before it.
func TestLateWordOfTheDeadDoesNotHideItsSuccessor(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1005 claim p/900 role=primary
		  > primary is p/900, start
		  > refuse p/900 joining remaining=5 floor=p/900
		1200 status y name=x
		1210 died y
		  > dead y, x
		1300 status z name=x
		1420 status y name=x
		1420 size
		  > expected=3 quorum=2 reachable=3
	`)
	// Nor does it if it had left in order.
	story(t, replica{}, standbyOfEarlier+`
		1200 status y name=x
		1310 status z name=x
		1420 departed y name=x
		  > x has left
		  > no claim
		1420 size
		  > expected=3 quorum=2 reachable=3
	`)
}

func TestPromiseToADeadCandidateIsFree(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1005 claim b/900
		  > refuse b/900 joining remaining=5 floor=-
		1009 claim c/950
		  > refuse c/950 joining remaining=1 floor=-
		1010 claim c/950
		  > claim m/1000 as candidate, round 1
		  > election m/1000 yielded after 0
		  > withdraw m/1000
		  > grant c/950
		1020 died c
		  > dead c, c
		# ORDER: it may have won
		1020 claim b/940
		  > refuse b/940 floor floor=c/950
		1020 claim b/960
		  > grant b/960
	`)
}

func TestCandidateAsksAgainAtOnceWhenTheHolderDies(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 5}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 refused b m/1000 held holder=c/900 remaining=900
		1021 next
		  > next 1060
		1022 died c
		  > dead c
		  > claim m/1000 as candidate, round 2
		# one that does not know yet is asked again soon, and less soon each time
		1022 refused b m/1000 held holder=c/900 remaining=900 sent=1022
		1022 next
		  > next 1034
		1034.5 tick
		  > claim m/1000 as candidate, round 3
	`)
	story(t, replica{Replicas: 5}, standbyOfEarlier+`
		1300 died p
		  > dead p, p
		  > claim m/1000 as candidate, round 1
		1300.5 refused b m/1000 held holder=p/900 remaining=800
		1300.5 next
		  > next 1302.0625
		1302.1 tick
		  > claim m/1000 as candidate, round 2
		1303 refused b m/1000 held holder=p/900 remaining=800
		1303 next
		  > next 1306
	`)
}

func TestOwnTermIsNotEndedByTheDeathOfAGranter(t *testing.T) {
	t.Parallel()
	story(t, replica{}, won+`
		1021 status c
		1022 granted b m/1000 sent=1020
		  > bot until 1910, lease ends 2010
		1022 granted c m/1000 sent=1020
		1030 died b
		  > dead b, b
		1030 lease
		  > lease remaining=980
		# but nobody hands over to the dead
		1031 successor b
		  > no successor
		1031 resign switchover
		  > drain bot, switchover
		1040 died c
		  > dead c, c
		1050 stopped
		  > stepped down m/1000, switchover
		  > release m/1000 switchover
	`)
}

func TestSuccessorThatDiesWhileTheBotStopsIsReplaced(t *testing.T) {
	t.Parallel()
	story(t, replica{}, won+`
		1022 granted b,c m/1000 sent=1020
		  > bot until 1910, lease ends 2010
		1031 resign switchover to=b
		  > drain bot, switchover
		1040 died b
		  > dead b, b
		1050 stopped
		  > stepped down m/1000, switchover
		  > release m/1000 switchover to c
	`)
}

// Many that have died, or left, make no claim of the living forgotten, and take no more room than a bound.
func TestThoseThatAreGoneAreBounded(t *testing.T) {
	t.Parallel()
	from := func(id election.ReplicaID, role election.Role) election.Status {
		return election.Status{Protocol: election.Protocol, Replica: id, Name: string(id), Lease: lease, Role: role}
	}
	for name, gone := range map[string]func(id election.ReplicaID) election.Input{
		"died": func(id election.ReplicaID) election.Input { return election.ProcessDied{Replica: id} },
		"left": func(id election.ReplicaID) election.Input {
			return election.LeaveReceived{Request: election.LeaveRequest{From: from(id, election.Leaving), Departed: true}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := election.New(election.Config{Self: "m", Name: "m", Lease: lease, Replicas: 3}, election.Reading{})
			now := election.Instant(2 * lease)
			step := func(in election.Input) []election.Output {
				return m.Step(election.Reading{Now: now, Wall: 1}, in)
			}
			refusal := func(c election.Claim) election.Refusal {
				for _, out := range step(election.ClaimReceived{Request: election.ClaimRequest{From: from(c.Replica, election.Candidate), Claim: c}}) {
					if r, ok := out.(election.Reply); ok {
						return r.Answer.Refusal
					}
				}
				return ""
			}
			ended := election.Claim{Timestamp: 1, Replica: "living"}
			step(election.EndReceived{Request: election.EndRequest{From: from("living", election.Candidate), Claim: ended}})
			const many = 1000
			for i := range many {
				now++
				step(gone(election.ReplicaID(fmt.Sprintf("gone-%04d", i))))
			}
			if got := refusal(ended); got != election.RefusedEnded {
				t.Errorf("a claim that a living replica has withdrawn: %q, want %q", got, election.RefusedEnded)
			}
			if got := refusal(election.Claim{Timestamp: 9e18, Replica: "gone-0999"}); got != election.RefusedEnded {
				t.Errorf("a claim of the last that is gone: %q, want %q", got, election.RefusedEnded)
			}
			if got := refusal(election.Claim{Timestamp: 9e18, Replica: "gone-0000"}); got == election.RefusedEnded {
				t.Errorf("all of %d that are gone are remembered", many)
			}
		})
	}
}

func TestNamedSuccessorThatDiesIsHeldBackForNoLonger(t *testing.T) {
	t.Parallel()
	story(t, replica{}, standby+`
		1300 release p/5000 role=standby reason=switchover to=z
		1310 died z
		  > dead z
		  > claim m/5001 as candidate, round 1
	`)
}

// The witnesses may need the grant of one that leaves.
func TestReplicaThatLeavesStaysForThoseThatWitnessADeath(t *testing.T) {
	t.Parallel()
	story(t, replica{}, standbyWithB+`
		1500 leave
		  > say that it leaves
		1510 needed p p/5000
		1520 died p seen=b
		  > say that it leaves
		  > dead p, p
		1520 next
		  > next 1870
		1530 claim b/6000
		  > grant b/6000
	`)
	// No replica is left that needs it.
	story(t, replica{}, standbyWithB+`
		1500 leave
		  > say that it leaves
		1510 needed p p/5000
		1520 died b
		  > say that it leaves
		  > dead b, b
		1520 died p
		  > dead p, p
		  > say that it has left
		  > left
	`)
}

func TestLeavingOfTheDead(t *testing.T) {
	t.Parallel()
	primary := won + `
		1022 granted b,c m/1000 sent=1020
		  > bot until 1910, lease ends 2010
	`
	// What it sent before counts for nothing, except that it had left when it died.
	story(t, replica{}, primary+`
		1030 died b
		  > dead b, b
		1031 leaving b
		  > needed for m/1000
		1032 departed b
		  > b has left
		  > needed for m/1000
	`)
	// One that has left has ended in order: there is nothing to tell.
	story(t, replica{}, primary+`
		1032 departed b
		  > b has left
		  > needed for m/1000
		1033 died b
		1034 claim b/2000
		  > refuse b/2000 ended floor=m/1000
	`)
}

package election_test

import "testing"

// Replicas that start together have met only while they joined.
func TestCandidateCountsAtOnceAllThatAreThere(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		900 status b,c,d role=joining
		1010 tick
		  > claim m/1000 as candidate, round 1
		1010 size
		  > expected=4 quorum=3 reachable=4
		1020 granted b m/1000
		1030 granted c m/1000
		  > election m/1000 won after 20
		  > size 4, configured 3
		  > primary is m/1000, start
		  > bot until 1900, lease ends 2000
		  > start bot m/1000
		  > claim m/1000 as primary, round 2
		  > bot until 1910, lease ends 2010
		# the quorum of the term is that of the election
		1430 granted b m/1000
		  > claim m/1000 as primary, round 3
		  > bot until 1920, lease ends 2020
		1440 granted c m/1000
		  > bot until 2320, lease ends 2420
	`)
}

// What is gone is not counted: one last in contact half a lease ago, one that leaves, one that has started again since.
func TestCandidateCountsNoneThatMayBeGone(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		509 status d role=joining
		900 status e role=leaving
		990 status c1 role=joining name=c
		1000 status b role=joining
		1005 status c2 role=joining name=c
		1006 status m1 role=joining name=m
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 granted b m/1000
		  > election m/1000 won after 10
		  > primary is m/1000, start
		  > bot until 1900, lease ends 2000
		  > start bot m/1000
		  > claim m/1000 as primary, round 2
		  > bot until 1910, lease ends 2010
	`)
}

// One that cannot reach a quorum of all that are there, since its INSTANCES are fewer, lets others have their turn.
func TestCandidateAmongMoreThanReplicasGivesUpSoonAndWaits(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1000 status b role=joining
		1000 claim c/900
		  > refuse c/900 joining remaining=10 floor=-
		1000 claim d/901
		  > refuse d/901 joining remaining=10 floor=-
		1010 tick
		  > claim m/1000 as candidate, round 1
		1060 granted b m/1000
		  > claim m/1000 as candidate, round 2
		1110 status c,d,e
		  > claim m/1000 as candidate, round 3
		1259 tick
		  > claim m/1000 as candidate, round 4
		1260 tick
		  > election m/1000 timed_out after 250
		  > withdraw m/1000
		1270 claim c/902
		  > grant c/902
		1280 withdraw c/902
		# half a lease and a part of one by its place
		2666 tick
		2667 tick
		  > claim m/1001 as candidate, round 5
	`)
}

// One that reaches a quorum only waits for what the others have promised to a claim whose end they do not know of yet.
func TestCandidateAmongMoreThanReplicasThatReachesAQuorumClaimsAgainAtOnce(t *testing.T) {
	t.Parallel()
	story(t, replica{}, standbyOfEarlier+`
		1110 status b,c,d
		1300 died p seen=
		  > dead p, p
		  > claim m/1000 as candidate, round 1
		1310 refused b m/1000 held holder=p/900 remaining=790
		1310 refused c m/1000 held holder=p/900 remaining=790
		1550 tick
		  > election m/1000 timed_out after 250
		  > withdraw m/1000
		  > claim m/1001 as candidate, round 2
	`)
}

func TestPrimaryOfAMajorityStepsDownForALaterOne(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 granted b m/1000
		  > election m/1000 won after 10
		  > primary is m/1000, start
		  > bot until 1900, lease ends 2000
		  > start bot m/1000
		  > claim m/1000 as primary, round 2
		  > bot until 1910, lease ends 2010
		# another's word, and an answer from before the term, are not enough
		1030 status c primary=b/2000
		1040 status b role=primary primary=b/2000 sent=1015
		  > claim m/1000 as primary, round 3
		# a request may be late, so this replica asks with a renewal
		1050 claim b/2000 role=primary
		  > refuse b/2000 held holder=m/1000 remaining=990 floor=b/2000
		  > claim m/1000 as primary, round 4
		1060 refused b m/1000 held holder=b/2000 role=primary primary=b/2000
		  > stop bot now, lease_lost
		1070 stopped
		  > stepped down m/1000, lease_lost
		  > release m/1000 lease_lost
		1080 status b role=primary primary=b/2000
		  > primary is b/2000, start
		1080 state
		  > standby follows=b/2000 remaining=1000 floor=b/2000
	`)
}

// A later primary leaves an earlier one half a lease to find out. One that stays does not know of it.
func TestPrimaryOfAMajorityStepsDownForAnEarlierOneThatStays(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 granted b m/1000
		  > election m/1000 won after 10
		  > primary is m/1000, start
		  > bot until 1900, lease ends 2000
		  > start bot m/1000
		  > claim m/1000 as primary, round 2
		  > bot until 1910, lease ends 2010
		1030 granted b m/1000
		1040 status c role=primary primary=c/900 sent=1035
		1420 granted b m/1000
		  > claim m/1000 as primary, round 3
		  > bot until 1920, lease ends 2020
		  > bot until 2310, lease ends 2410
		1540 status c role=primary primary=c/900 sent=1539
		1820 granted b m/1000
		  > claim m/1000 as primary, round 4
		  > bot until 2710, lease ends 2810
		1830 refused c m/1000 held holder=c/900 role=primary primary=c/900 sent=1820
		  > stop bot now, lease_lost
		1840 stopped
		  > stepped down m/1000, lease_lost
		  > release m/1000 lease_lost
	`)
}

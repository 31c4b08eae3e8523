package election_test

import "testing"

func TestReplicaThatHasPromisedNothingLeavesAtOnce(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1000 status p role=primary primary=p/5000
		  > primary is p/5000, start
		1010 tick
		1500 leave
		  > say that it has left
		  > left
		1500 leave
		3000 tick
		# it may have been counted out, so it promises nothing any more
		3000 claim b/6000
		  > refuse b/6000 joining floor=p/5000
	`)
}

func TestStandbyThatLeavesGoesOnGrantingUntilThePrimaryDismissesIt(t *testing.T) {
	t.Parallel()
	story(t, replica{}, standby+`
		1500 leave
		  > say that it leaves
		1500 state
		  > leaving follows=p/5000 remaining=510 floor=p/5000
		1510 needed p p/5000
		1549 tick
		  > say that it leaves
		1550 tick
		1551 claim p/5000 role=primary
		  > grant p/5000
		1600 needed p p/5000
		  > say that it leaves
		1650 tick
		  > say that it leaves
		# neither another replica nor an answer about another claim counts
		1651 dismissed b p/5000
		1651 dismissed p p/4999
		1652 dismissed p p/5000
		  > say that it has left
		  > left
		1660 claim p/5000 role=primary
		  > refuse p/5000 joining floor=p/5000
		1660 claim b/6000
		  > refuse b/6000 joining floor=p/5000
	`)
}

func TestStandbyThatLeavesGoesWhenThePrimaryHasReleased(t *testing.T) {
	t.Parallel()
	t.Run("at once if the others leave too", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, standby+`
			1500 leave
			  > say that it leaves
			1510 leaving b
			  > no claim
			1510 needed p p/5000
			1600 release p/5000 role=leaving reason=shutdown
			  > say that it leaves
			  > say that it has left
			  > left
		`)
	})
	t.Run("when the successor needs it no more", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, standbyWithB+`
			1500 leave
			  > say that it leaves
			1510 needed p p/5000
			1600 release p/5000 role=leaving reason=shutdown to=b
			  > say that it leaves
			1600 next
			  > next 1950
			1610 claim b/6000
			  > grant b/6000
			1620 claim b/6000 role=primary
			  > primary is b/6000, start
			  > grant b/6000
			  > say that it leaves
			1660 tick
			  > say that it leaves
			1670 dismissed b b/6000
			  > say that it has left
			  > left
		`)
	})
	t.Run("or after a moment without a claim", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, standbyWithB+`
			1500 leave
			  > say that it leaves
			1510 needed p p/5000
			1600 release p/5000 role=leaving reason=shutdown to=b
			  > say that it leaves
			1949 tick
			1950 tick
			  > say that it has left
			  > left
		`)
	})
}

// A promise to a primary that has gone silent runs out: then no claimant counts it.
func TestStandbyThatLeavesWaitsForItsPromiseToRunOut(t *testing.T) {
	t.Parallel()
	story(t, replica{}, standby+`
		1900 leave
		  > say that it leaves
		2009 tick
		  > say that it leaves
		2010 tick
		  > say that it has left
		  > left
	`)
}

// A primary of version 1.0.0 knows no such question. It would go on renewing for ever, so the replica leaves without being
// counted out.
func TestStandbyLeavesAPrimaryThatNeverAnswersWithoutAWord(t *testing.T) {
	t.Parallel()
	story(t, replica{}, standby+`
		1500 leave
		  > say that it leaves
		1550 tick
		  > say that it leaves
		1650 tick
		  > say that it leaves
		1850 tick
		  > say that it leaves
		1900 claim p/5000 role=primary
		  > grant p/5000
		2050 tick
		  > say that it leaves
		2250 tick
		  > say that it leaves
		2300 claim p/5000 role=primary
		  > grant p/5000
		2450 tick
		  > say that it leaves
		2499 tick
		2500 tick
		  > left
	`)
}

func TestNobodyLeavesLaterThanItMay(t *testing.T) {
	t.Parallel()
	t.Run("though it is needed", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, standby+`
			1500 leave
			  > say that it leaves
			1900 claim p/5000 role=primary
			  > say that it leaves
			  > grant p/5000
			1901 needed p p/5000
			2800 claim p/5000 role=primary
			  > say that it leaves
			  > grant p/5000
			2801 needed p p/5000
			3700 claim p/5000 role=primary
			  > say that it leaves
			  > grant p/5000
			3701 needed p p/5000
			4600 claim p/5000 role=primary
			  > say that it leaves
			  > grant p/5000
			4601 needed p p/5000
			5500 claim p/5000 role=primary
			  > say that it leaves
			  > grant p/5000
			5501 needed p p/5000
			6400 claim p/5000 role=primary
			  > say that it leaves
			  > grant p/5000
			6401 needed p p/5000
			6499 tick
			6500 tick
			  > left
		`)
	})
	t.Run("at once if it may not wait", func(t *testing.T) {
		t.Parallel()
		story(t, replica{Hurried: true}, standby+`
			1500 leave
			  > left
		`)
	})
	t.Run("at once if a part of it has failed", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, standby+`
			1500 leave reason=part_failed
			  > left
		`)
	})
}

func TestCandidateThatLeavesWithdraws(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 leave
		  > election m/1000 abandoned after 10
		  > withdraw m/1000
		  > say that it has left
		  > left
		1020 granted b m/1000 sent=1010
	`)
}

func TestPrimaryThatLeavesHandsOverFirst(t *testing.T) {
	t.Parallel()
	t.Run("to a successor that needs it no more", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, won+`
			1100 leave
			  > drain bot, shutdown
			1110 stopped
			  > stepped down m/1000, shutdown
			  > release m/1000 shutdown to b
			1110 state
			  > leaving follows=- remaining=0 floor=m/1000
			1120 claim b/2000
			  > grant b/2000
			1130 claim b/2000 role=primary
			  > primary is b/2000, start
			  > grant b/2000
			  > say that it leaves
			1170 tick
			  > say that it leaves
			1171 dismissed b b/2000
			  > say that it has left
			  > left
		`)
	})
	t.Run("or there is no claim for a moment", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, won+`
			1100 leave
			  > drain bot, shutdown
			1110 stopped
			  > stepped down m/1000, shutdown
			  > release m/1000 shutdown to b
			1110 next
			  > next 1460
			1459 tick
			1460 tick
			  > say that it has left
			  > left
			3000 tick
		`)
	})
	t.Run("or all leave", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, won+`
			1020 granted c m/1000 sent=1010
			1100 leave
			  > drain bot, shutdown
			1101 leaving b
			  > dismiss from m/1000
			1101 leaving c
			  > needed for m/1000
			1110 stopped
			  > stepped down m/1000, shutdown
			  > release m/1000 shutdown
			  > say that it has left
			  > left
		`)
	})
	t.Run("or the others leave while it waits", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, won+`
			1100 leave
			  > drain bot, shutdown
			1110 stopped
			  > stepped down m/1000, shutdown
			  > release m/1000 shutdown to b
			1115 departed b
			  > b has left
			  > no claim
			  > say that it has left
			  > left
		`)
	})
	t.Run("and goes once a successor has claimed if it may not wait", func(t *testing.T) {
		t.Parallel()
		story(t, replica{Hurried: true}, won+`
			1100 leave
			  > drain bot, shutdown
			1110 stopped
			  > stepped down m/1000, shutdown
			  > release m/1000 shutdown to b
			1120 claim b/2000
			  > grant b/2000
			  > left
		`)
	})
	t.Run("and so if a part of it has failed", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, won+`
			1100 leave reason=part_failed
			  > drain bot, part_failed
			1110 stopped
			  > stepped down m/1000, part_failed
			  > release m/1000 part_failed to b
			1120 claim b/2000
			  > grant b/2000
			  > left
		`)
	})
}

// The primary gives a leaver its promise back only if a quorum supports it well without.
func TestPrimaryDismissesWhomItDoesNotNeed(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1005 leaving b
		  > no claim
		1010 tick
		  > claim m/1000 as candidate, round 1
		# a candidate needs every replica
		1015 leaving c
		  > needed for m/1000
		1020 granted b m/1000 sent=1010
		  > election m/1000 won after 10
		  > primary is m/1000, start
		  > bot until 1900, lease ends 2000
		  > start bot m/1000
		  > claim m/1000 as primary, round 2
		1021 leaving b
		  > needed for m/1000
		1030 granted c m/1000 sent=1020
		  > bot until 1910, lease ends 2010
		1040 leaving b
		  > dismiss from m/1000
		1040 lease
		  > lease remaining=970
		# asked again, since the answer was lost
		1050 leaving b
		  > dismiss from m/1000
		# what b grants counts no more
		1060 granted b m/1000 sent=1050
		1060 lease
		  > lease remaining=950
		1070 leaving c
		  > needed for m/1000
		1080 departed b
		  > b has left
		  > needed for m/1000
		1090 granted b m/1000 sent=1050
		1090 size
		  > expected=3 quorum=2 reachable=2
	`)
}

func TestPrimaryThatFallsSilentDismissesNobody(t *testing.T) {
	t.Parallel()
	story(t, replica{}, wonByBoth+`
		1900 tick
		  > stop bot now, lease_lost
		1901 leaving b
		  > needed for m/1000
	`)
}

func TestBelowAMajorityNobodyIsDismissedBeforeOrAfterATerm(t *testing.T) {
	t.Parallel()
	story(t, two, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 leaving b
		  > needed for m/1000
		1510 done 1
		  > election m/1000 won after 500
		  > primary is m/1000, start
		  > bot until 1900, lease ends 2000
		  > start bot m/1000
		  > claim m/1000 as primary, round 2
		  > bot until 2400, lease ends 2500
		1520 leaving b
		  > dismiss from m/1000
		1600 status b role=primary primary=b/900
		  > stop bot now, lower_primary
		1610 leaving c
		  > needed for m/1000
	`)
}

// Grants that are about to run out would leave the primary no time to renew.
func TestPrimaryKeepsALeaverWhileItsOtherGrantsAreOld(t *testing.T) {
	t.Parallel()
	story(t, replica{}, wonByBoth+`
		1400 tick
		  > claim m/1000 as primary, round 3
		1420 granted b m/1000 sent=1420
		  > bot until 2290, lease ends 2390
		1510 leaving b
		  > needed for m/1000
		1530 granted c m/1000 sent=1520
		  > bot until 2310, lease ends 2410
		1540 leaving b
		  > bot until 2290, lease ends 2390
		  > dismiss from m/1000
	`)
}

// A nominated successor that leaves never claims.
func TestNobodyHoldsBackForASuccessorThatLeaves(t *testing.T) {
	t.Parallel()
	t.Run("known before", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, standbyWithB+`
			1100 leaving b
			  > no claim
			1200 release p/5000 reason=shutdown to=b
			  > claim m/5001 as candidate, round 1
		`)
	})
	t.Run("known after", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, standbyWithB+`
			1200 release p/5000 reason=shutdown to=b
			1200 next
			  > next 1250
			1210 leaving b
			  > no claim
			  > claim m/5001 as candidate, round 1
		`)
	})
	t.Run("it has left", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, standbyWithB+`
			1200 release p/5000 reason=shutdown to=b
			1210 departed b
			  > b has left
			  > no claim
			  > claim m/5001 as candidate, round 1
		`)
	})
	t.Run("chosen by an operator", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, wonByBoth+`
			1100 resign switchover to=b
			  > drain bot, switchover
			1150 leaving b
			  > claim m/1000 as primary, round 3
			  > dismiss from m/1000
			1200 stopped
			  > stepped down m/1000, switchover
			  > release m/1000 switchover to c
		`)
	})
}

// One that has left in order had its promise back and grants nothing more, so one replica less may have promised something.
func TestReplicaThatHasLeftIsCountedOutAtOnce(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1000 status b,c,d,e,p primary=p/5000
		  > primary is p/5000, start
		1900 status b,c,d,e,p primary=p/5000
		2800 status b,c,d,e,p primary=p/5000
		3700 status b,c,d,e,p primary=p/5000
		4600 status b,c,d,e,p primary=p/5000
		5000 tick
		  > size 6, configured 3
		5000 size
		  > expected=6 quorum=4 reachable=6
		# one that leaves has promised something still
		5010 leaving d
		  > no claim
		5010 size
		  > expected=6 quorum=4 reachable=6
		5020 departed d
		  > d has left
		  > size 5, configured 3
		  > no claim
		5020 size
		  > expected=5 quorum=3 reachable=5
		# once
		5021 departed d
		  > no claim
		5021 size
		  > expected=5 quorum=3 reachable=5
		# not by a late message
		5022 status d primary=p/5000
		5022 size
		  > expected=5 quorum=3 reachable=5
		5023 claim d/9000
		  > refuse d/9000 ended floor=-
		5030 departed e
		  > e has left
		  > size 4, configured 3
		  > no claim
		5030 size
		  > expected=4 quorum=3 reachable=4
		# never below REPLICAS
		5040 departed c
		  > c has left
		  > size 3, configured 3
		  > no claim
		5040 size
		  > expected=3 quorum=2 reachable=3
		5050 departed b
		  > b has left
		  > no claim
		5050 size
		  > expected=3 quorum=2 reachable=2
	`)
}

// The last to know how high timestamps are may be the one that leaves.
func TestReplicaThatHasLeftHandsOnTheHighestTimestamp(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		900 departed b floor=p/9000
		  > b has left
		  > no claim
		1010 tick
		  > claim m/9001 as candidate, round 1
	`)
}

// Those that are silent may be there, and have promised something: they are waited for.
func TestReplicaThatHasLeftIsNotCountedOutForOneThatIsSilent(t *testing.T) {
	t.Parallel()
	t.Run("the silent one is known", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, `
			1000 status b,c,d,p primary=p/5000
			  > primary is p/5000, start
			1900 status b,c,d,p primary=p/5000
			2800 status b,c,d,p primary=p/5000
			3700 status b,c,d,p primary=p/5000
			4600 status b,c,d,p primary=p/5000
			5000 tick
			  > size 5, configured 3
			# f takes the place of d under another name
			7200 status b,c,f,p primary=p/5000
			  > claim m/5001 as candidate, round 1
			  > election m/5001 yielded after 0
			  > withdraw m/5001
			7200 size
			  > expected=5 quorum=3 reachable=5
			7300 departed f
			  > f has left
			  > no claim
			7300 size
			  > expected=5 quorum=3 reachable=4
		`)
	})
	t.Run("the one that leaves never counted", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, `
			1000 status b,c,d,p primary=p/5000
			  > primary is p/5000, start
			1900 status b,c,d,p primary=p/5000
			2800 status b,c,d,p primary=p/5000
			3700 status b,c,d,p primary=p/5000
			4600 status b,c,d,p primary=p/5000
			5000 tick
			  > size 5, configured 3
			5000 size
			  > expected=5 quorum=3 reachable=5
			64000 status b,c,p primary=p/5000
			  > claim m/5001 as candidate, round 1
			  > election m/5001 yielded after 0
			  > withdraw m/5001
			64990 status f role=joining primary=p/5000
			65000 departed f
			  > f has left
			  > no claim
			65000 size
			  > expected=5 quorum=3 reachable=4
			65001 departed g
			  > g has left
			  > no claim
			65001 size
			  > expected=5 quorum=3 reachable=4
		`)
	})
	t.Run("the one that leaves has not joined", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, `
			1000 status b,c,d,p primary=p/5000
			  > primary is p/5000, start
			1900 status b,c,d,p primary=p/5000
			2800 status b,c,d,p primary=p/5000
			3700 status b,c,d,p primary=p/5000
			4600 status b,c,d,p primary=p/5000
			5000 tick
			  > size 5, configured 3
			64000 status b,c,p primary=p/5000
			  > claim m/5001 as candidate, round 1
			  > election m/5001 yielded after 0
			  > withdraw m/5001
			64990 leaving f
			  > no claim
			64991 departed f
			  > f has left
			  > no claim
			64991 size
			  > expected=5 quorum=3 reachable=4
		`)
	})
}

// The claims of a replica that has left are over, whether its release arrived or not.
func TestClaimsOfAReplicaThatHasLeftAreOver(t *testing.T) {
	t.Parallel()
	t.Run("a standby looks for another primary", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, standby+`
			1100 departed p
			  > p has left
			  > no claim
			  > claim m/5001 as candidate, round 1
			# hearsay of it is old
			1101 status b primary=p/5000
			1101 claim p/5000 role=primary
			  > refuse p/5000 ended floor=m/5001
			1101 release p/5000 reason=shutdown to=b
			1101 state
			  > candidate follows=- remaining=0 floor=m/5001
		`)
	})
	t.Run("a candidate's refusals are", func(t *testing.T) {
		t.Parallel()
		story(t, replica{Replicas: 2, Quorum: 1}, `
			1010 tick
			  > claim m/1000 as candidate, round 1
			1020 refused b m/1000 joining remaining=500 role=joining
			1030 departed b
			  > b has left
			  > needed for m/1000
			1510 done 1
			  > election m/1000 won after 500
			  > primary is m/1000, start
			  > bot until 1900, lease ends 2000
			  > start bot m/1000
			  > claim m/1000 as primary, round 2
			  > bot until 2400, lease ends 2500
		`)
	})
}

// A replica of another LEASE or version takes no part, nor does its leaving.
func TestLeavingOfAMismatchedReplicaChangesNothing(t *testing.T) {
	t.Parallel()
	story(t, replica{}, wonByBoth+`
		1100 leaving b lease=2000
		  > mismatch b lease_mismatch: 2s
		  > needed for m/1000
		1110 departed b protocol=3
		  > mismatch b protocol_mismatch: another version of the protocol
		  > needed for m/1000
		1120 leaving m
		  > claim m/1000 as primary, round 3
		  > needed for m/1000
		1130 leaving b
		  > dismiss from m/1000
	`)
}

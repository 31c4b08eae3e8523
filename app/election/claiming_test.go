package election_test

import "testing"

func TestTimestampIsTheWallClockIfThatIsHighest(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick wall=5000
		  > claim m/5000 as candidate, round 1
		1010 state
		  > candidate follows=- remaining=0 floor=m/5000
	`)
}

func TestTimestampIsAboveTheHighestFloorMet(t *testing.T) {
	t.Parallel()
	t.Run("granted", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, `
			0 health bad
			1010 claim b/7000
			  > grant b/7000
			2010 tick
			  > claim m/7001 as candidate, round 1
		`)
	})
	t.Run("in a status", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, `
			500 status b floor=c/7000
			1010 tick
			  > claim m/7001 as candidate, round 1
		`)
	})
	t.Run("of a primary", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, `
			10 status b role=primary primary=b/7000
			  > primary is b/7000, start
			1010 tick
			  > claim m/7001 as candidate, round 1
		`)
	})
	t.Run("in a refusal", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, `
			1010 tick
			  > claim m/1000 as candidate, round 1
			1020 refused b m/1000 floor floor=c/7000
			  > election m/1000 refused after 10
			  > withdraw m/1000
			  > claim m/7001 as candidate, round 2
		`)
	})
	t.Run("of the holder in a refusal", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, `
			1010 tick
			  > claim m/1000 as candidate, round 1
			1020 refused b m/1000 held holder=c/7000 remaining=500 floor=-
			2010 tick
			  > election m/1000 timed_out after 1000
			  > withdraw m/1000
			  > claim m/7001 as candidate, round 2
		`)
	})
}

func TestTimestampIsNeverUsedTwice(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 claim b/900
		  > election m/1000 yielded after 10
		  > withdraw m/1000
		  > grant b/900
		1070 withdraw b/900
		  > claim m/1001 as candidate, round 2
		# the wall clock has gone back
		1070 claim c/800 wall=500
		  > election m/1001 yielded after 0
		  > withdraw m/1001
		  > grant c/800
		1120 withdraw c/800
		  > claim m/1002 as candidate, round 3
		1120 tick
	`)
}

// Two that yield to each other's claims, withdrawn long since, and claim again at once, would chase each
// other for as long as their messages take equally long.
func TestCandidateThatYieldedLetsWithdrawnClaimsArriveBeforeItClaimsAgain(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 claim b/900
		  > election m/1000 yielded after 10
		  > withdraw m/1000
		  > grant b/900
		1021 withdraw b/900
		1022 claim b/901
		  > grant b/901
		1023 withdraw b/901
		1069 tick
		1070 tick
		  > claim m/1001 as candidate, round 2
	`)
}

func TestLateAnswersToAWithdrawnClaimCountForNothing(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 claim b/900
		  > election m/1000 yielded after 10
		  > withdraw m/1000
		  > grant b/900
		# while it has no claim
		1025 granted c m/1000 sent=1010
		1070 withdraw b/900
		  > claim m/1001 as candidate, round 2
		1070 tick
		1080 granted b m/1000 sent=1010
		1080 granted c m/1000 sent=1010
		1080 refused b m/1000 floor sent=1010
		1090 granted c m/1001 sent=1070
		  > election m/1001 won after 20
		  > primary is m/1001, start
		  > bot until 1960, lease ends 2060
		  > start bot m/1001
		  > claim m/1001 as primary, round 3
	`)
}

func TestAcknowledgementCountsFromTheSendingOfItsRequest(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1500 granted b m/1000 sent=1010
		  > claim m/1000 as candidate, round 2
		  > election m/1000 won after 490
		  > primary is m/1000, start
		  > bot until 1900, lease ends 2000
		  > start bot m/1000
		  > claim m/1000 as primary, round 3
		1500 lease
		  > lease remaining=500
	`)
}

// Nothing is won with an acknowledgement that leaves the bot no time before the stop margin.
func TestAcknowledgementThatIsTooOldWinsNothing(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1900 granted b m/1000 sent=1010
		  > claim m/1000 as candidate, round 2
		1901 granted b m/1000 sent=1012
		  > election m/1000 won after 891
		  > primary is m/1000, start
		  > bot until 1902, lease ends 2002
		  > start bot m/1000
		  > claim m/1000 as primary, round 3
	`)
}

func TestAcknowledgementsAreCountedByReplica(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 5}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		# the same replica under another address or name is the same replica
		1020 granted b m/1000 sent=1010
		1020 granted b m/1000 sent=1010
		1020 granted b m/1000 sent=1010 name=b2
		# one's own answer is one's own grant
		1020 granted m m/1000 sent=1010
		1030 granted c m/1000 sent=1010
		  > election m/1000 won after 20
		  > primary is m/1000, start
		  > bot until 1900, lease ends 2000
		  > start bot m/1000
		  > claim m/1000 as primary, round 2
	`)
}

func TestDeadlineIsTheQuorumthLatestExpiry(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 5}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1060 tick
		  > claim m/1000 as candidate, round 2
		1110 tick
		  > claim m/1000 as candidate, round 3
		1120 granted b m/1000 sent=1010
		# its own, c's and b's: b's is the third
		1120 granted c m/1000 sent=1110
		  > election m/1000 won after 110
		  > primary is m/1000, start
		  > bot until 1900, lease ends 2000
		  > start bot m/1000
		  > claim m/1000 as primary, round 4
		# its own, c's and d's
		1130 granted d m/1000 sent=1060
		  > bot until 1950, lease ends 2050
		# an older answer of the same replica moves nothing
		1140 granted d m/1000 sent=1010
		# its own, c's and e's
		1150 granted e m/1000 sent=1110
		  > bot until 2000, lease ends 2100
	`)
}

func TestCandidateAsksAgainAndGivesUpAfterALease(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1010 next
		  > next 1060
		1060 tick
		  > claim m/1000 as candidate, round 2
		1110 tick
		  > claim m/1000 as candidate, round 3
		2010 tick
		  > election m/1000 timed_out after 1000
		  > withdraw m/1000
		  > claim m/1001 as candidate, round 4
	`)
}

func TestCandidateYieldsToAPrimaryItHearsOf(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 status b primary=p/5000 remaining=700
		  > primary is p/5000, start
		  > election m/1000 yielded after 10
		  > withdraw m/1000
		1020 state
		  > standby follows=p/5000 remaining=700 floor=-
	`)
}

// A refusal by the floor is acted on at once.
func TestCandidateClaimsAgainAtOnceAboveTheFloor(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 refused b m/1000 floor floor=z/8000
		  > election m/1000 refused after 10
		  > withdraw m/1000
		  > claim m/8001 as candidate, round 2
		1030 granted b m/8001 sent=1020
		  > election m/8001 won after 10
		  > primary is m/8001, start
		  > bot until 1910, lease ends 2010
		  > start bot m/8001
		  > claim m/8001 as primary, round 3
	`)
}

// Two of three replicas have promised themselves to a lower claim, whose candidate may be dead: the
// candidacy is hopeless until the first of the two promises has run out.
func TestCandidateWaitsForPromisesToLowerClaims(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 refused b m/1000 held holder=a/500 remaining=400
		1020 refused c m/1000 held holder=a/500 remaining=600
		  > election m/1000 yielded after 10
		  > withdraw m/1000
		1020 next
		  > next 1070
		1419 tick
		1420 tick
		  > claim m/1001 as candidate, round 2
	`)
}

// A higher candidate withdraws when it receives this claim; there is nothing to wait for.
func TestCandidateStaysWhenHigherClaimsAreInTheWay(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 refused b m/1000 held holder=z/2000 remaining=400
		1020 refused z m/1000 held holder=z/2000 remaining=400
		1060 tick
		  > claim m/1000 as candidate, round 2
	`)
}

// Replicas that have just started say how long they will be silent; two of them keep a quorum away.
func TestCandidateKeepsAskingReplicasThatAreJoining(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 refused b m/1000 joining remaining=90 role=joining
		1020 refused c m/1000 joining remaining=90 role=joining
		1060 tick
		  > claim m/1000 as candidate, round 2
		1110 tick
		  > claim m/1000 as candidate, round 3
		1110 granted b m/1000
		  > election m/1000 won after 100
		  > primary is m/1000, start
		  > bot until 2000, lease ends 2100
		  > start bot m/1000
		  > claim m/1000 as primary, round 4
	`)
}

func TestUnhealthyReplicaLetsHealthyOnesClaimFirst(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1010 tick
		1010 next
		  > next 1210
		1509 tick
		1510 tick
		  > claim m/1000 as candidate, round 1
	`)
}

func TestReplicaThatRecoversWhileItWaitsClaimsAtOnce(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1010 tick
		1100 health ok
		  > claim m/1000 as candidate, round 1
	`)
}

func TestStandbyFollowsTheAnswerFromItsSending(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		800 tick
		# the question left 300 ago: of 800 there is 500 left
		900 status b sent=600 primary=p/5000 remaining=800
		  > primary is p/5000, start
		1010 tick
		1010 state
		  > looking follows=p/5000 remaining=390 floor=-
		1399 tick
		1400 tick
		  > claim m/5001 as candidate, round 1
	`)
}

// Two standbys that believe each other would keep a dead primary alive for ever.
func TestRequestOfAStandbyIsNoSignOfAPrimary(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1010 claim b/6000 role=standby primary=p/5000
		  > grant b/6000
		1010 state
		  > looking follows=- remaining=0 floor=b/6000
	`)
}

// A replica that stands by wakes for renewals anyway.
func TestAStandbyAsksWithARenewalWhatItWouldAskBeforeTheNext(t *testing.T) {
	t.Parallel()
	story(t, replica{Queries: true}, `
		600 status p role=primary primary=p/5000
		  > ask all
		  > primary is p/5000, start
		1010 claim p/5000 role=primary
		  > ask all
		  > grant p/5000
		1210 tick
		  > ask all but p
		1410 claim p/5000 role=primary
		  > grant p/5000
		1810 claim p/5000 role=primary
		  > grant p/5000
		  > ask all but p
		2210 claim p/5000 role=primary
		  > grant p/5000
		2610 claim p/5000 role=primary
		  > grant p/5000
		  > ask all but p
	`)
	// Many would all ask at once.
	story(t, replica{Replicas: 9, Queries: true}, `
		600 status p role=primary primary=p/5000
		  > ask 1/2
		  > primary is p/5000, start
		1010 claim p/5000 role=primary
		  > ask 1/2
		  > grant p/5000
		1210 tick
		  > ask 1/2
		1410 claim p/5000 role=primary
		  > grant p/5000
		1810 claim p/5000 role=primary
		  > grant p/5000
	`)
}

// Where the primary's INSTANCES lack this replica, another one's word is all it knows the primary by.
func TestAPrimaryThatDoesNotRenewHereIsAskedLikeAnother(t *testing.T) {
	t.Parallel()
	story(t, replica{Queries: true}, `
		0 tick
		  > ask all
		400 status b primary=p/5000
		  > ask all
		  > primary is p/5000, start
		1010 status b primary=p/5000
		  > ask all
		1410 status b primary=p/5000
		  > ask all
		1810 status b primary=p/5000
		2210 status b primary=p/5000
		2410 tick
		  > ask all
	`)
}

func TestQuestionsAreFrequentWhileNoPrimaryShowsItself(t *testing.T) {
	t.Parallel()
	story(t, replica{Queries: true}, `
		0 tick
		  > ask all
		200 tick
		  > ask all
		400 status p role=primary primary=p/5000
		  > ask all
		  > primary is p/5000, start
		600 tick
		  > ask all
		# a standby whose primary renews asks once a second
		1010 claim p/5000 role=primary
		  > ask all
		  > grant p/5000
		1210 tick
		  > ask all but p
		1300 claim p/5000 role=primary
		  > grant p/5000
		1700 claim p/5000 role=primary
		  > grant p/5000
		2200 tick
		# one that has received nothing from it for half a lease asks often
		2201 tick
		  > ask all
		2400 tick
		2401 tick
		  > ask all
		2601 tick
		  > ask all
	`)
}

func TestReleaseNamesTheOneThatClaimsAtOnce(t *testing.T) {
	t.Parallel()
	t.Run("this one", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, `
			100 status p role=primary primary=p/5000
			  > primary is p/5000, start
			1010 claim p/5000 role=primary
			  > grant p/5000
			1500 release p/5000 reason=switchover to=m
			  > claim m/5001 as candidate, round 1
			1501 granted b m/5001 sent=1500
			  > election m/5001 won after 1
			  > primary is m/5001, switchover of p, gap 1
			  > bot until 2390, lease ends 2490
			  > start bot m/5001
			  > claim m/5001 as primary, round 2
		`)
	})
	t.Run("another", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, `
			100 status p role=primary primary=p/5000
			  > primary is p/5000, start
			1010 claim p/5000 role=primary
			  > grant p/5000
			1500 release p/5000 reason=switchover to=b
			1500 state
			  > looking follows=- remaining=0 floor=p/5000
			1749 tick
			1750 tick
			  > claim m/5001 as candidate, round 1
		`)
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, `
			100 status p role=primary primary=p/5000
			  > primary is p/5000, start
			1010 claim p/5000 role=primary
			  > grant p/5000
			1500 release p/5000 reason=shutdown
			  > claim m/5001 as candidate, round 1
		`)
	})
	t.Run("this one though it is not healthy", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, `
			100 status p role=primary primary=p/5000
			  > primary is p/5000, start
			1010 claim p/5000 role=primary
			  > grant p/5000
			1400 health bad
			1500 release p/5000 reason=switchover to=m
			  > claim m/5001 as candidate, round 1
		`)
	})
}

func TestReleasedPrimaryIsNotFollowedAgainOnHearsay(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		100 status p role=primary primary=p/5000
		  > primary is p/5000, start
		1010 claim p/5000 role=primary
		  > grant p/5000
		1500 release p/5000 reason=switchover to=b
		1510 status c primary=p/5000 remaining=900
		1520 claim p/5000 role=primary
		  > refuse p/5000 ended floor=p/5000
		1520 state
		  > looking follows=- remaining=0 floor=p/5000
	`)
}

func TestSuccessorKnowsWhyAndForHowLongNobodyWasPrimary(t *testing.T) {
	t.Parallel()
	t.Run("crash", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, `
			100 status p role=primary primary=p/5000
			  > primary is p/5000, start
			1010 claim p/5000 role=primary
			  > grant p/5000
			1200 claim p/5000 role=primary
			  > grant p/5000
			2199 tick
			2200 tick
			  > claim m/5001 as candidate, round 1
			2210 granted b m/5001 sent=2200
			  > election m/5001 won after 10
			  > primary is m/5001, crash of p, gap 1010
			  > bot until 3090, lease ends 3190
			  > start bot m/5001
			  > claim m/5001 as primary, round 2
		`)
	})
	t.Run("lease lost: it is in contact after its lease has run out", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, `
			100 status p role=primary primary=p/5000
			  > primary is p/5000, start
			1010 claim p/5000 role=primary
			  > grant p/5000
			2010 tick
			  > claim m/5001 as candidate, round 1
			2020 status p role=looking
			2030 granted b m/5001 sent=2010
			  > election m/5001 won after 20
			  > primary is m/5001, lease_lost of p, gap 1020
			  > bot until 2900, lease ends 3000
			  > start bot m/5001
			  > claim m/5001 as primary, round 2
		`)
	})
	t.Run("released", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, `
			100 status p role=primary primary=p/5000
			  > primary is p/5000, start
			1010 claim p/5000 role=primary
			  > grant p/5000
			1500 release p/5000 reason=unhealthy to=m
			  > claim m/5001 as candidate, round 1
			1530 granted b m/5001 sent=1500
			  > election m/5001 won after 30
			  > primary is m/5001, unhealthy of p, gap 30
			  > bot until 2390, lease ends 2490
			  > start bot m/5001
			  > claim m/5001 as primary, round 2
		`)
	})
}

// With a majority quorum there is one primary: of two that are reported the one with the newer claim is the later.
func TestStandbyFollowsTheNewerPrimary(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		100 status b primary=p/5000
		  > primary is p/5000, start
		200 status c primary=q/6000
		  > primary is q/6000, start
		300 status b primary=p/5000
		1010 state
		  > joining follows=q/6000 remaining=190 floor=-
	`)
}

package election_test

import (
	"fmt"
	"testing"

	"habot/app/election"
)

func TestReplicaThatHasJustStartedGrantsAndClaimsNothing(t *testing.T) {
	t.Parallel()
	story(t, replica{Queries: true}, `
		0 tick
		  > ask all
		0 claim b/500
		  > refuse b/500 joining remaining=1010 floor=-
		0 next
		  > next 200
		200 tick
		  > ask all
		1009 claim b/500
		  > ask all
		  > refuse b/500 joining remaining=1 floor=-
		1009 state
		  > joining follows=- remaining=0 floor=-
		1010 tick
		  > claim m/1000 as candidate, round 1
	`)
}

// A process that leaves before it has joined knows as little of its earlier promises as one that stays.
func TestReplicaThatLeavesBeforeItHasJoinedGrantsNothing(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		100 leave
		  > left
		200 claim b/500
		  > refuse b/500 joining remaining=810 floor=-
		1009 claim b/500
		  > refuse b/500 joining remaining=1 floor=-
		1010 claim b/500
		  > refuse b/500 joining floor=-
	`)
}

func TestLowestClaimWinsAmongCandidates(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		# higher ones are refused: they withdraw when they receive this claim
		1020 claim z/1100
		  > refuse z/1100 held holder=m/1000 remaining=990 floor=m/1000
		# the candidacy is withdrawn, then the lower claim is granted
		1030 claim b/900
		  > election m/1000 yielded after 20
		  > withdraw m/1000
		  > grant b/900
		1040 claim c/950
		  > refuse c/950 held holder=b/900 remaining=990 floor=b/900
		# a promise to another stands even against a lower claim
		1050 claim a/800
		  > refuse a/800 held holder=b/900 remaining=980 floor=b/900
		1060 claim b/900
		  > grant b/900
	`)
}

func TestCandidatesEqualInTimestampAreToldApartByReplica(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 claim z/1000
		  > refuse z/1000 held holder=m/1000 remaining=990 floor=m/1000
		1030 claim a/1000
		  > election m/1000 yielded after 20
		  > withdraw m/1000
		  > grant a/1000
	`)
}

func TestPromiseLastsALeaseOnTheGrantersClock(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1100 claim b/900
		  > grant b/900
		2099 claim c/950
		  > refuse c/950 held holder=b/900 remaining=1 floor=b/900
		# renewed
		2099 claim b/900
		  > grant b/900
		3098 claim c/950
		  > refuse c/950 held holder=b/900 remaining=1 floor=b/900
		3099 claim c/950
		  > claim m/1000 as candidate, round 1
		  > election m/1000 yielded after 0
		  > withdraw m/1000
		  > grant c/950
	`)
}

func TestRefusalCarriesHolderRemainingAndFloor(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1010 claim b/2000
		  > grant b/2000
		1300 claim c/2500
		  > refuse c/2500 held holder=b/2000 remaining=710 floor=b/2000
		1300 claim c/1500
		  > refuse c/1500 held holder=b/2000 remaining=710 floor=b/2000
		1300 state
		  > looking follows=- remaining=0 floor=b/2000
	`)
}

func TestGrantRaisesTheFloorForGood(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1010 claim b/2000
		  > grant b/2000
		# the promise has run out, the floor has not
		2010 claim c/1999
		  > claim m/2001 as candidate, round 1
		  > refuse c/1999 floor floor=m/2001
		2010 claim c/2001
		  > election m/2001 yielded after 0
		  > withdraw m/2001
		  > grant c/2001
		# b's is the floor below c's
		2020 withdraw c/2001
		2020 state
		  > looking follows=- remaining=0 floor=b/2000
		2020 claim d/1999
		  > refuse d/1999 floor floor=b/2000
	`)
}

func TestRenewalThatIsLowerThanTheFloorIsRefused(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1010 claim b/2000
		  > grant b/2000
		2010 claim c/2001
		  > claim m/2001 as candidate, round 1
		  > election m/2001 yielded after 0
		  > withdraw m/2001
		  > grant c/2001
		3010 claim b/2000
		  > claim m/2002 as candidate, round 2
		  > refuse b/2000 floor floor=m/2002
	`)
}

// The floor's own claim may renew after its promise has run out: no other claim was granted since.
func TestFloorsOwnClaimMayBeRenewedAfterItHasExpired(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1010 claim b/2000
		  > grant b/2000
		2100 claim a/2000
		  > claim m/2001 as candidate, round 1
		  > refuse a/2000 floor floor=m/2001
		2100 claim c/2000
		  > refuse c/2000 floor floor=m/2001
		2100 claim b/2000
		  > election m/2001 yielded after 0
		  > withdraw m/2001
		  > grant b/2000
	`)
}

func TestWithdrawalRestoresTheFloorAndFreesThePromise(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1010 claim b/2000
		  > grant b/2000
		1020 withdraw b/2000
		1020 state
		  > looking follows=- remaining=0 floor=-
		1030 claim c/1500
		  > grant c/1500
		1030 state
		  > looking follows=- remaining=0 floor=c/1500
	`)
}

func TestReleaseFreesThePromiseAndLeavesItsFloor(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1010 claim b/2000 role=primary
		  > primary is b/2000, start
		  > grant b/2000
		1020 release b/2000 reason=shutdown to=c
		1020 state
		  > looking follows=- remaining=0 floor=b/2000
		1030 claim c/1999
		  > refuse c/1999 floor floor=b/2000
		1030 claim c/2001
		  > grant c/2001
	`)
}

// A release can arrive where its claim never did.
func TestReleaseOfAClaimThatWasNeverGrantedHereRaisesTheFloor(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1020 release b/2000 reason=shutdown to=c
		1030 claim c/1999
		  > refuse c/1999 floor floor=b/2000
	`)
}

func TestPrimaryHeardDirectlyRaisesTheFloor(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1020 status p role=primary primary=p/3000 remaining=100
		  > primary is p/3000, start
		1120 claim c/2999
		  > refuse c/2999 floor floor=p/3000
		1120 state
		  > looking follows=- remaining=0 floor=p/3000
	`)
}

// Another replica's report of a primary is enough to follow it, not to refuse claims below it.
func TestPrimaryHeardOfFromAStandbyRaisesNoFloor(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1020 status b primary=p/3000 remaining=100
		  > primary is p/3000, start
		1020 state
		  > standby follows=p/3000 remaining=100 floor=-
		1120 claim c/2999
		  > grant c/2999
	`)
}

func TestClaimThatHasEndedIsNeverGrantedAgain(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1010 claim b/900
		  > grant b/900
		1020 withdraw b/900
		# late duplicates
		1030 claim b/900
		  > refuse b/900 ended floor=-
		1030 claim b/899
		  > refuse b/899 ended floor=-
		1030 state
		  > looking follows=- remaining=0 floor=-
		1040 claim b/901
		  > grant b/901
		# here the withdrawal overtook its claim
		1050 withdraw c/950
		1060 claim c/950
		  > refuse c/950 ended floor=b/901
	`)
}

func TestWithdrawalInAnotherReplicasNameIsIgnored(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1010 claim b/900
		  > grant b/900
		1020 withdraw b/900 by=c
		1030 claim c/950
		  > refuse c/950 held holder=b/900 remaining=980 floor=b/900
	`)
}

func TestWithdrawalOfAnOlderClaimLeavesTheNewerPromise(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1010 claim b/900
		  > grant b/900
		1020 withdraw b/800
		1030 claim c/950
		  > refuse c/950 held holder=b/900 remaining=980 floor=b/900
		1030 claim b/900
		  > grant b/900
	`)
}

func TestStandbyRefusesANewcomerWhoseClockRunsBehind(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		100 status p role=primary primary=p/5000
		  > primary is p/5000, start
		1010 claim p/5000 role=primary
		  > grant p/5000
		1100 claim b/1
		  > refuse b/1 floor floor=p/5000
		1100 claim b/6000
		  > refuse b/6000 held holder=p/5000 remaining=910 floor=p/5000
		1100 state
		  > standby follows=p/5000 remaining=910 floor=p/5000
	`)
}

func TestPrimaryGrantsNobody(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1010 granted b m/1000
		  > election m/1000 won after 0
		  > primary is m/1000, start
		  > bot until 1900, lease ends 2000
		  > start bot m/1000
		  > claim m/1000 as primary, round 2
		# neither a newcomer whose clock runs behind nor one whose clock runs ahead
		1100 claim c/1
		  > refuse c/1 held holder=m/1000 remaining=910 floor=m/1000
		1100 claim c/9000
		  > refuse c/9000 held holder=m/1000 remaining=910 floor=m/1000
		# nor while its bot still runs, whatever has become of its lease
		1999 tick
		  > stop bot now, lease_lost
		2005 claim c/9000
		  > refuse c/9000 held holder=m/1000 remaining=5 floor=m/1000
	`)
}

func TestLeaseMismatchIsRefusedAndReportedOnce(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1010 claim b/900 lease=2000
		  > mismatch b lease_mismatch: 2s
		  > refuse b/900 lease_mismatch floor=-
		1020 claim b/900 lease=2000
		  > refuse b/900 lease_mismatch floor=-
		1030 status b lease=2000 role=primary primary=b/900
		1040 withdraw b/900 lease=2000
		1040 state
		  > looking follows=- remaining=0 floor=-
		# put right, then wrong again
		1050 claim b/901
		  > grant b/901
		1060 withdraw b/901
		1070 claim b/902 lease=500
		  > mismatch b lease_mismatch: 500ms
		  > refuse b/902 lease_mismatch floor=-
	`)
}

func TestProtocolMismatchIsRefusedAndReportedOnce(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 health bad
		1010 claim b/900 protocol=3
		  > mismatch b protocol_mismatch: another version of the protocol
		  > refuse b/900 protocol_mismatch floor=-
		1020 claim b/901 protocol=3
		  > refuse b/901 protocol_mismatch floor=-
		1030 status b protocol=3 floor=b/9000
		1510 tick
		  > claim m/1000 as candidate, round 1
	`)
}

// Of the range of versions the oldest is as good as the newest, and what is below or above it is refused.
func TestProtocolsOfTheRangeAreGranted(t *testing.T) {
	t.Parallel()
	for protocol, granted := range map[int]bool{
		election.OldestProtocol - 1: false, election.OldestProtocol: true, election.Protocol: true, election.Protocol + 1: false,
	} {
		answer := "grant b/900"
		if !granted {
			answer = "mismatch b protocol_mismatch: another version of the protocol\n  > refuse b/900 protocol_mismatch floor=-"
		}
		story(t, replica{}, fmt.Sprintf("0 health bad\n1010 claim b/900 protocol=%d\n  > %s", protocol, answer))
	}
}

func TestGrantOfAReplicaThatDoesNotMatchIsNotCounted(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1010 granted b m/1000 lease=2000
		  > mismatch b lease_mismatch: 2s
		1010 granted c m/1000 protocol=3
		  > mismatch c protocol_mismatch: another version of the protocol
		1020 granted d m/1000
		  > election m/1000 won after 10
		  > primary is m/1000, start
		  > bot until 1900, lease ends 2000
		  > start bot m/1000
		  > claim m/1000 as primary, round 2
		  > bot until 1910, lease ends 2010
	`)
}

// The candidate b died, or its withdrawal was lost, after m had granted it; c has won with a lower claim.
// Without m it might lose its lease as soon as another standby restarts.
func TestPrimaryThatIsFollowedRenewsUnderAFloorThatNobodyWithdrew(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1000 status d primary=p/400
		  > primary is p/400, start
		1020 claim b/5000
		  > grant b/5000
		1100 status d primary=c/900
		  > primary is c/900, start
		1200 claim c/900 role=primary
		  > refuse c/900 held holder=b/5000 remaining=820 floor=b/5000
		2000 status c role=primary primary=c/900
		2030 claim c/900 role=primary
		  > grant c/900
		2040 claim d/4000
		  > refuse d/4000 floor floor=b/5000
	`)
}

// A late status of f, whose term was before, raises the floor; c has won meanwhile.
func TestPrimaryRenewsWhatItWasPromisedThoughTheFloorWasRaised(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1000 status d primary=p/400
		  > primary is p/400, start
		1020 claim c/900
		  > grant c/900
		1030 status f role=primary primary=f/5000 remaining=100
		  > primary is f/5000, start
		# of a candidate, the floor is the judge
		1040 claim c/900
		  > refuse c/900 floor floor=f/5000
		1050 claim c/900 role=primary
		  > grant c/900
	`)
}

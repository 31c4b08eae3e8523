package election_test

import "testing"

// Two machines, availability first: quorum 1.
var two = replica{Replicas: 2, Quorum: 1}

func TestBelowAMajorityEverybodyIsAskedFirst(t *testing.T) {
	t.Parallel()
	story(t, two, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		# the round is not complete: it neither wins nor asks again
		1060 tick
		1100 tick
		1510 done 1
		  > election m/1000 won after 500
		  > primary is m/1000, start
		  > bot until 1900, lease ends 2000
		  > start bot m/1000
		  > claim m/1000 as primary, round 2
		  > bot until 2400, lease ends 2500
		1510 granted b m/1000
	`)
}

func TestBelowAMajorityAllThatAnswerMustGrant(t *testing.T) {
	t.Parallel()
	story(t, two, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 refused b m/1000 joining remaining=500 role=joining
		1020 done 1
		1060 tick
		  > claim m/1000 as candidate, round 2
		1070 refused b m/1000 held holder=b/900 remaining=400
		  > election m/1000 yielded after 60
		  > withdraw m/1000
		1070 done 2
		1469 tick
		1470 tick
		  > claim m/1001 as candidate, round 3
		1480 granted b m/1001
		1480 done 3
		  > election m/1001 won after 10
		  > primary is m/1001, start
		  > bot until 2370, lease ends 2470
		  > start bot m/1001
		  > claim m/1001 as primary, round 4
	`)
}

func TestRoundThatIsOverTellsNothingOfTheCurrentOne(t *testing.T) {
	t.Parallel()
	story(t, two, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 refused b m/1000 joining remaining=500 role=joining
		1020 done 1
		1060 tick
		  > claim m/1000 as candidate, round 2
		1070 done 1
		1080 granted b m/1000
		1080 done 2
		  > election m/1000 won after 70
		  > primary is m/1000, start
		  > bot until 1970, lease ends 2070
		  > start bot m/1000
		  > claim m/1000 as primary, round 3
	`)
}

func TestHigherPrimaryStepsDownWhenPartitionsMeet(t *testing.T) {
	t.Parallel()
	story(t, two, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 done 1
		  > election m/1000 won after 10
		  > primary is m/1000, start
		  > bot until 1900, lease ends 2000
		  > start bot m/1000
		  > claim m/1000 as primary, round 2
		  > bot until 1910, lease ends 2010
		# another's word, a request, and an answer to a question from before the term are not enough
		1100 status c primary=b/900
		1110 claim b/900 role=primary
		  > refuse b/900 held holder=m/1000 remaining=910 floor=m/1000
		1120 status b role=primary primary=b/900 sent=1015
		1130 status b role=primary primary=b/900 sent=1100
		  > stop bot now, lower_primary
		1140 stopped
		  > stepped down m/1000, lower_primary
		  > release m/1000 lower_primary
		1150 status b role=primary primary=b/900
		  > primary is b/900, start
		1150 state
		  > standby follows=b/900 remaining=1000 floor=m/1000
	`)
}

func TestLowerPrimaryStaysWhenPartitionsMeet(t *testing.T) {
	t.Parallel()
	story(t, two, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 done 1
		  > election m/1000 won after 10
		  > primary is m/1000, start
		  > bot until 1900, lease ends 2000
		  > start bot m/1000
		  > claim m/1000 as primary, round 2
		  > bot until 1910, lease ends 2010
		1130 status b role=primary primary=b/1001
		1140 claim b/1001 role=primary
		  > refuse b/1001 held holder=m/1000 remaining=880 floor=b/1001
		1150 release b/1001 reason=lower_primary
		1150 state
		  > primary follows=m/1000 remaining=860 floor=b/1001
	`)
}

func TestBelowAMajorityStandbysFollowTheLowestPrimary(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 4, Quorum: 1}, `
		100 status b primary=p/5000
		  > primary is p/5000, start
		200 status c primary=q/6000
		200 state
		  > joining follows=p/5000 remaining=900 floor=-
		300 status c primary=o/4000
		  > primary is o/4000, start
		300 state
		  > joining follows=o/4000 remaining=1000 floor=-
	`)
}

// A cluster of one cannot know that it is alone.
func TestClusterOfOneAsksEverybodyAllTheSame(t *testing.T) {
	t.Parallel()
	t.Run("and wins", func(t *testing.T) {
		t.Parallel()
		story(t, replica{Replicas: 1}, `
			1010 tick
			  > claim m/1000 as candidate, round 1
			1010 done 1
			  > election m/1000 won after 0
			  > primary is m/1000, start
			  > bot until 1900, lease ends 2000
			  > start bot m/1000
			  > claim m/1000 as primary, round 2
		`)
	})
	t.Run("and follows", func(t *testing.T) {
		t.Parallel()
		story(t, replica{Replicas: 1}, `
			1010 tick
			  > claim m/1000 as candidate, round 1
			1011 status b role=primary primary=b/5000
			  > primary is b/5000, start
			  > election m/1000 yielded after 1
			  > withdraw m/1000
			1011 done 1
		`)
	})
}

// The higher primary's claim is the floor for good; the lower one's renewals count all the same, or it
// could never hand over.
func TestBelowAMajorityThePrimaryThatStayedIsGrantedUnderTheHigherOnesFloor(t *testing.T) {
	t.Parallel()
	story(t, two, `
		100 status b role=primary primary=b/5000
		  > primary is b/5000, start
		200 release b/5000 reason=lower_primary
		300 status c role=primary primary=c/900
		  > primary is c/900, start
		1050 claim c/900 role=primary
		  > grant c/900
		# but no other replica's below the floor
		1100 claim d/4000
		  > refuse d/4000 floor floor=b/5000
	`)
}

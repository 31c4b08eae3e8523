package election_test

import "testing"

// The order of places is d, e, g, f, a, c, b, m, l, o, n, i, h, ...: m has seven before it among nine that are called a to i and m.

func TestOneOfManyAsksAFewAtATime(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 9, Queries: true}, `
		0 tick
		  > ask 1/2
		199 tick
		200 tick
		  > ask 1/2
		300 status p role=primary primary=p/5000
		  > primary is p/5000, start
		400 tick
		  > ask 1/2
		# it stands by once it may take part
		600 tick
		  > ask 1/2
		800 tick
		  > ask 1/2
		1000 tick
		  > ask 1/2, and p
		1010 status p role=primary primary=p/5000
		1010 state
		  > standby follows=p/5000 remaining=1000 floor=p/5000
		# while the primary is in contact, seldom
		1200 tick
		  > ask 1/2
		1500 status p role=primary primary=p/5000
		1900 status p role=primary primary=p/5000
		2199 tick
		2200 tick
		  > ask 1/2
		2300 status p role=primary primary=p/5000
		# when it is not, more often, and it itself in any case
		2800 tick
		2801 tick
		  > ask 1/2, and p
		3000 tick
		3001 tick
		  > ask 1/2, and p
	`)
}

func TestOneOfTwentyFiveAsksLessOften(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 25, Queries: true}, `
		0 tick
		  > ask 1/6
		599 tick
		600 tick
		  > ask 1/6
		1199 tick
		1200 tick
		  > ask 1/6
	`)
}

// Of nine that start together, and know nothing of each other yet, each waits for about as many twentieths of a lease as
// there are others before it, but not for more than can be missing.
func TestManyThatStartTogetherClaimOneAfterTheOther(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 9}, `
		1010 tick
		1209 tick
		1210 tick
		  > claim m/1000 as candidate, round 1
	`)
}

func TestFirstOfManyClaimsAtOnce(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 9}, `
		500 status h,i,j,k,l,n,o,p role=joining
		1010 tick
		  > claim m/1000 as candidate, round 1
	`)
}

func TestSecondOfManyClaimsALittleLater(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 9}, `
		500 status h,i,j,k,l,n,o,b role=joining
		1010 tick
		1059 tick
		1060 tick
		  > claim m/1000 as candidate, round 1
	`)
}

func TestSecondOfManyDoesNotClaimWhenTheFirstHas(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 9}, `
		500 status h,i,j,k,l,n,o,b role=joining
		1010 tick
		1030 claim b/900
		  > grant b/900
		1060 tick
		1100 claim b/900 role=primary
		  > primary is b/900, start
		  > grant b/900
		1100 state
		  > standby follows=b/900 remaining=1000 floor=b/900
	`)
}

// No candidate waits for one that leaves, one that is out of contact, one that cannot reach Telegram, or the primary
// that is gone.
func TestOnlyThoseThatCanClaimAreWaitedFor(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 9}, `
		500 status g,h,i,j,k,l,n primary=d/5000
		  > primary is d/5000, start
		1500 status d role=primary primary=d/5000
		2500 status d role=primary primary=d/5000
		3500 status d role=primary primary=d/5000
		4500 status d role=primary primary=d/5000
		5500 status d role=primary primary=d/5000
		5600 status h,i,j,k,l,n
		5600 status a role=leaving
		5600 status b health=bad
		6499 tick
		6500 tick
		  > claim m/5001 as candidate, round 1
	`)
}

func TestIllOneOfManyComesAfterTheHealthy(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 9}, `
		0 health bad
		500 status h,i,j,k,l,n,o role=joining
		500 status p role=joining health=bad
		1010 tick
		# half a lease for its health, and four twentieths for those before it
		1709 tick
		1710 tick
		  > claim m/1000 as candidate, round 1
	`)
}

func TestNamedSuccessorAmongManyClaimsAtOnce(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 9}, `
		1100 claim p/900 role=primary
		  > primary is p/900, start
		  > grant p/900
		1200 release p/900 reason=shutdown to=m
		  > claim m/1000 as candidate, round 1
	`)
}

// A standby of nine asks each of the others every other round only.
func TestOneOfManyIsMissedLater(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 9}, `
		1010 claim p/900 role=primary
		  > primary is p/900, start
		  > grant p/900
		1010 status b,c primary=p/900
		1500 claim p/900 role=primary
		  > grant p/900
		6010 size
		  > expected=9 quorum=5 reachable=4
		6011 size
		  > expected=9 quorum=5 reachable=2
	`)
}

// All answer a primary's renewals, so it misses them sooner. When it is primary no longer, those it reached do not count as
// lost before it can have asked them.
func TestPrimaryOfManyMissesOthersSoonerAndNobodyWhenItStepsDown(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 9}, `
		500 status h,i,j,k,l,n,o,p role=joining
		1010 tick
		  > claim m/1000 as candidate, round 1
		1010 granted h,i,j,k m/1000
		  > election m/1000 won after 0
		  > primary is m/1000, start
		  > bot until 1900, lease ends 2000
		  > start bot m/1000
		  > claim m/1000 as primary, round 2
		1100 granted h,i,j,k,l m/1000
		  > bot until 1990, lease ends 2090
		# the others were asked as by a standby, and are missed later
		3601 size
		  > expected=9 quorum=5 reachable=4
		3601 granted h,i,j,k m/1000
		  > stop bot now, lease_lost
		3650 stopped
		  > stepped down m/1000, lease_lost
		  > release m/1000 lease_lost to h
		8600 size
		  > expected=9 quorum=5 reachable=5
		8602 size
		  > expected=9 quorum=5 reachable=1
	`)
}

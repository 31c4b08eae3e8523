package election_test

import (
	"testing"
	"time"
)

func TestPrimaryRenewsEveryHeartbeatAndItsLeaseMoves(t *testing.T) {
	t.Parallel()
	story(t, replica{}, won+`
		1030 granted b m/1000 sent=1020
		  > bot until 1910, lease ends 2010
		1030 next
		  > next 1420
		1419 tick
		1420 tick
		  > claim m/1000 as primary, round 3
		1430 granted c m/1000 sent=1420
		  > bot until 2310, lease ends 2410
		1430 next
		  > next 1820
		1820 tick
		  > claim m/1000 as primary, round 4
		1830 granted c m/1000 sent=1820
		  > bot until 2710, lease ends 2810
		# no question is due before the next
		1830 next
		  > next 2220
	`)
}

func TestRenewalThatNoQuorumGrantsIsSentAgainSoon(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 5}, wonByBoth+`
		# the answer to an earlier round, or one of the two that are needed, is not enough
		1030 granted b m/1000 sent=1020
		1040 granted c m/1000 sent=1010
		1119 tick
		1120 tick
		  > claim m/1000 as primary, round 3
		1130 granted b m/1000 sent=1120
		1140 granted c m/1000 sent=1120
		  > bot until 2010, lease ends 2110
		# from then on it goes on as if the first had come through
		1140 next
		  > next 1520
		1520 tick
		  > claim m/1000 as primary, round 4
		1620 tick
		  > claim m/1000 as primary, round 5
	`)
}

func TestFailedRenewalNeverMovesTheDeadline(t *testing.T) {
	t.Parallel()
	story(t, replica{}, won+`
		1220 tick
		  > claim m/1000 as primary, round 3
		1230 refused b m/1000 held holder=c/2000 remaining=900 sent=1220
		1230 refused c m/1000 floor floor=c/2000 sent=1220
		1420 done 3
		  > claim m/1000 as primary, round 4
		1420 tick
		1620 tick
		  > claim m/1000 as primary, round 5
		1820 tick
		  > claim m/1000 as primary, round 6
		1899 tick
		1899 lease
		  > lease remaining=101
		# a stop margin before the end
		1900 tick
		  > stop bot now, lease_lost
	`)
}

func TestWorkThatStopsInTimeReleasesTheLease(t *testing.T) {
	t.Parallel()
	story(t, replica{}, won+`
		1900 tick
		  > stop bot now, lease_lost
		1900 next
		  > next 2000
		# too late: the bot is stopping
		1910 granted b m/1000 sent=1890
		1999 stopped
		  > stepped down m/1000, lease_lost
		  > release m/1000 lease_lost to b
		1999 state
		  > looking follows=- remaining=0 floor=m/1000
		# a role that ended by itself is left to others for a moment
		2248 tick
		2249 tick
		  > claim m/1001 as candidate, round 3
	`)
}

func TestHaltWhenTheWorkHasNotStoppedAtTheEndOfTheLease(t *testing.T) {
	t.Parallel()
	story(t, replica{}, won+`
		1900 tick
		  > stop bot now, lease_lost
		1999 tick
		2000 tick
		  > HALT lease_lost
	`)
}

// A process that was frozen beyond its lease could not stop its bot in time. The bot looks at the lease
// before every request, so it gets the stop margin to notice.
func TestFrozenPrimaryHasAStopMarginBeforeItHalts(t *testing.T) {
	t.Parallel()
	story(t, replica{}, won+`
		5000 granted c m/1000 sent=1020
		  > stop bot now, lease_lost
		5099 tick
		5100 tick
		  > HALT lease_lost
	`)
}

func TestReleaseGoesOutOnlyAfterTheWorkHasStopped(t *testing.T) {
	t.Parallel()
	story(t, replica{}, won+`
		1100 resign switchover to=c
		  > drain bot, switchover
		1100 state
		  > primary follows=m/1000 remaining=900 floor=m/1000
		# while it drains it is primary, grants no claim and renews
		1110 claim c/2000
		  > refuse c/2000 held holder=m/1000 remaining=910 floor=m/1000
		1220 tick
		  > claim m/1000 as primary, round 3
		1230 granted b m/1000 sent=1220
		  > bot until 2110, lease ends 2210
		1300 stopped
		  > stepped down m/1000, switchover
		  > release m/1000 switchover to c
		1300 state
		  > looking follows=- remaining=0 floor=m/1000
	`)
}

func TestSecondResignIsIgnoredWhileTheWorkDrains(t *testing.T) {
	t.Parallel()
	story(t, replica{}, won+`
		1100 resign switchover to=c
		  > drain bot, switchover
		1110 resign part_failed to=b
		1300 stopped
		  > claim m/1000 as primary, round 3
		  > stepped down m/1000, switchover
		  > release m/1000 switchover to c
	`)
}

func TestDrainEndsWhenTheLeaseIsLost(t *testing.T) {
	t.Parallel()
	story(t, replica{}, won+`
		1100 resign switchover to=c
		  > drain bot, switchover
		1900 tick
		  > stop bot now, lease_lost
		1950 stopped
		  > stepped down m/1000, switchover
		  > release m/1000 switchover to c
	`)
}

func TestWorkThatDiesReleasesTheLease(t *testing.T) {
	t.Parallel()
	story(t, replica{}, won+`
		1100 stopped
		  > stepped down m/1000, part_failed
		  > release m/1000 part_failed to b
	`)
}

func TestHeirIsTheFirstHealthyStandbyThatGranted(t *testing.T) {
	t.Parallel()
	story(t, replica{Replicas: 5}, `
		500 successor
		  > not primary
		1010 tick
		  > claim m/1000 as candidate, round 1
		1020 granted c m/1000 sent=1010 health=bad
		1020 granted e m/1000 sent=1010
		  > election m/1000 won after 10
		  > primary is m/1000, start
		  > bot until 1900, lease ends 2000
		  > start bot m/1000
		  > claim m/1000 as primary, round 2
		1020 granted d m/1000 sent=1010
		# b is in contact and has not granted, f leaves
		1030 status b
		1030 granted f m/1000 sent=1020 role=leaving
		1030 successor
		  > d
		1030 successor c
		  > c
		1030 successor b
		  > no successor
		1030 successor f
		  > no successor
		1030 successor nobody
		  > no successor
		1100 resign switchover
		  > drain bot, switchover
		1110 stopped
		  > stepped down m/1000, switchover
		  > release m/1000 switchover to d
	`)
}

func TestUnhealthyPrimaryHandsOverOnlyToAHealthyStandby(t *testing.T) {
	t.Parallel()
	story(t, replica{}, claims+"1020 granted b m/1000 sent=1010 health=bad"+wins+`
		# Telegram itself may be down: nothing moves
		1100 health bad
		1220 tick
		  > claim m/1000 as primary, round 3
		1230 granted b m/1000 sent=1220 health=bad
		  > bot until 2110, lease ends 2210
		1230 status c
		# c is healthy and has granted
		1240 granted c m/1000 sent=1220
		  > drain bot, unhealthy
		1300 stopped
		  > stepped down m/1000, unhealthy
		  > release m/1000 unhealthy to c
	`)
}

// A process that has just started, or woken, says that it is healthy until it knows better.
func TestUnhealthyPrimaryTrustsNoStandbyThatItHasNotHeardForAWhile(t *testing.T) {
	t.Parallel()
	story(t, replica{HealthSettles: 500 * time.Millisecond}, claims+"1020 granted b m/1000 sent=1010 health=bad"+wins+`
		1030 granted b m/1000 sent=1020 health=bad
		  > bot until 1910, lease ends 2010
		1100 health bad
		# c has just started
		1200 granted c m/1000 sent=1020
		1420 tick
		  > claim m/1000 as primary, round 3
		1430 granted b m/1000 sent=1420 health=bad
		  > bot until 2310, lease ends 2410
		1640 granted c m/1000 sent=1420
		1699 tick
		1700 tick
		  > drain bot, unhealthy
	`)
	t.Run("without a break", func(t *testing.T) {
		t.Parallel()
		story(t, replica{HealthSettles: 500 * time.Millisecond}, `
			100 status b role=standby
			100 status c role=standby health=bad
			2800 tick
			  > claim m/1000 as candidate, round 1
			2810 granted c m/1000 sent=2800 health=bad
			  > election m/1000 won after 10
			  > primary is m/1000, start
			  > bot until 3690, lease ends 3790
			  > start bot m/1000
			  > claim m/1000 as primary, round 2
			2820 granted c m/1000 sent=2810 health=bad
			  > bot until 3700, lease ends 3800
			2830 health bad
			# b was out of contact for more than two and a half seconds
			2830 granted b m/1000 sent=2810
			3210 tick
			  > claim m/1000 as primary, round 3
			3220 granted c m/1000 sent=3210 health=bad
			  > bot until 4100, lease ends 4200
			3329 tick
			3330 tick
			  > drain bot, unhealthy
		`)
	})
}

// The status of an old primary, asked for before this replica won, can arrive after: with a clock that
// reads the same at both, its age tells nothing. A clock may be that coarse.
func TestWordOfAnOldPrimaryAskedForInTheInstantOfWinningDisplacesNobody(t *testing.T) {
	t.Parallel()
	story(t, replica{}, won+`
		1030 status c role=primary primary=c/900 sent=1020
		1030 state
		  > primary follows=m/1000 remaining=970 floor=m/1000
	`)
}

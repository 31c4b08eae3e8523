package election_test

import (
	"fmt"
	"testing"
	"time"
)

// patient waits 700 ms for the next sign of a newcomer.
var patient = replica{Patience: 700 * time.Millisecond}

// allLeave: a primary is asked to leave, and so are the others.
const allLeave = `
	1100 leave
	  > say that it leaves
	1110 leaving b,c
	  > dismiss from m/1000
	  > needed for m/1000
`

// renewed is a grant of c, which leaves as the primary does.
func renewed(at, round int) string {
	return fmt.Sprintf(`
		%[1]d granted c m/1000 sent=%[1]d role=leaving
		  > claim m/1000 as primary, round %[2]d
		  > say that it leaves
		  > bot until %[3]d, lease ends %[4]d
	`, at, round, at+890, at+990)
}

// Which of the others leave as well is known after a moment.
func TestPrimaryThatLeavesHandsOverToAReplicaThatStays(t *testing.T) {
	t.Parallel()
	story(t, patient, wonByBoth+`
		1100 leave
		  > say that it leaves
		1110 leaving b
		  > dismiss from m/1000
		1120 granted c m/1000 sent=1110
		  > claim m/1000 as primary, round 3
		  > say that it leaves
		  > bot until 2000, lease ends 2100
		1500 granted c m/1000 sent=1500
		  > claim m/1000 as primary, round 4
		  > say that it leaves
		  > bot until 2390, lease ends 2490
		1599 tick
		  > say that it leaves
		1600 tick
		  > drain bot, shutdown
		1610 stopped
		  > stepped down m/1000, shutdown
		  > release m/1000 shutdown to c
	`)
}

func TestPrimaryThatLeavesActsOnUntilANewcomerCanTakeOver(t *testing.T) {
	t.Parallel()
	story(t, patient, wonByBoth+`
		1100 leave
		  > say that it leaves
		1110 leaving b,c
		  > dismiss from m/1000
		  > needed for m/1000
		1120 granted c m/1000 sent=1110 role=leaving
		  > claim m/1000 as primary, round 3
		  > say that it leaves
		  > bot until 2000, lease ends 2100
		# b is gone and its host starts again: each sign of it is waited for
		1120 departed b
		  > b has left
		  > needed for m/1000
		1510 granted c m/1000 sent=1510 role=leaving
		  > claim m/1000 as primary, round 4
		  > say that it leaves
		  > bot until 2400, lease ends 2500
		1700 refused b2 m/1000 joining remaining=500 role=joining name=b
		  > say that it leaves
		1701 granted c m/1000 sent=1700 role=leaving
		1801 tick
		  > say that it leaves
		# what it said before is late
		1802 granted c m/1000 sent=1090
		1910 granted c m/1000 sent=1910 role=leaving
		  > claim m/1000 as primary, round 5
		  > bot until 2590, lease ends 2690
		  > bot until 2800, lease ends 2900
		2200 granted b2 m/1000 sent=2200 name=b
		  > say that it leaves
		  > drain bot, shutdown
		2210 stopped
		  > stepped down m/1000, shutdown
		  > release m/1000 shutdown to b2
	`)
}

func TestPrimaryThatLeavesWaitsNoLongerThanItsPatience(t *testing.T) {
	t.Parallel()
	t.Run("for the next sign of a newcomer", func(t *testing.T) {
		t.Parallel()
		story(t, patient, wonByBoth+allLeave+renewed(1410, 3)+`
			1799 tick
			  > say that it leaves
			1800 tick
			  > drain bot, shutdown
			1810 stopped
			  > claim m/1000 as primary, round 4
			  > stepped down m/1000, shutdown
			  > release m/1000 shutdown
			  > say that it has left
			  > left
		`)
	})
	t.Run("nor than there is time", func(t *testing.T) {
		t.Parallel()
		renewals := ""
		for i := range 5 {
			renewals += renewed(1410+800*i, 3+i)
		}
		story(t, replica{Patience: 9 * time.Second}, wonByBoth+allLeave+renewals+`
			5099 tick
			  > claim m/1000 as primary, round 8
			  > say that it leaves
			5100 tick
			  > drain bot, shutdown
		`)
	})
	t.Run("nor at all if a part of it fails", func(t *testing.T) {
		t.Parallel()
		story(t, patient, wonByBoth+`
			1100 leave
			  > say that it leaves
			1110 leave reason=part_failed
			  > drain bot, part_failed
			1120 stopped
			  > claim m/1000 as primary, round 3
			  > stepped down m/1000, part_failed
			  > release m/1000 part_failed to b
			1130 claim b/2000
			  > grant b/2000
			  > left
		`)
	})
	t.Run("nor if there is no other replica", func(t *testing.T) {
		t.Parallel()
		story(t, replica{Replicas: 1, Patience: 700 * time.Millisecond}, `
			1010 tick
			  > claim m/1000 as candidate, round 1
			1011 done 1
			  > election m/1000 won after 1
			  > primary is m/1000, start
			  > bot until 1900, lease ends 2000
			  > start bot m/1000
			  > claim m/1000 as primary, round 2
			  > bot until 1901, lease ends 2001
			1100 leave
			  > drain bot, shutdown
		`)
	})
}

// One that is primary and leaves finishes first. For the sake of one that stays a standby waits no longer than for a newcomer.
func TestNeededStandbyWaitsForANewcomer(t *testing.T) {
	t.Parallel()
	t.Run("no longer than its patience", func(t *testing.T) {
		t.Parallel()
		story(t, patient, standby+`
			1500 leave
			  > say that it leaves
			1501 needed p p/5000
			1900 claim p/5000 role=primary
			  > say that it leaves
			  > grant p/5000
			1901 needed p p/5000
			2300 claim p/5000 role=primary
			  > say that it leaves
			  > grant p/5000
			2301 needed p p/5000
			2499 tick
			  > say that it leaves
			2500 tick
			  > left
		`)
	})
	t.Run("and then for it to stand by", func(t *testing.T) {
		t.Parallel()
		story(t, patient, standby+`
			1500 leave
			  > say that it leaves
			1501 needed p p/5000
			1900 claim p/5000 role=primary
			  > say that it leaves
			  > grant p/5000
			1901 needed p p/5000
			2100 status b2 role=joining primary=p/5000
			  > say that it leaves
			2300 claim p/5000 role=primary
			  > say that it leaves
			  > grant p/5000
			2301 needed p p/5000
			2700 claim p/5000 role=primary
			  > say that it leaves
			  > grant p/5000
			2701 needed p p/5000
			2710 status b2 primary=p/5000
			3100 claim p/5000 role=primary
			  > say that it leaves
			  > grant p/5000
			3101 needed p p/5000
			3409 tick
			  > say that it leaves
			3410 tick
			  > left
		`)
	})
	t.Run("but for a primary that leaves as long as it is needed", func(t *testing.T) {
		t.Parallel()
		story(t, patient, standby+`
			1500 leave
			  > say that it leaves
			1500 leaving p role=primary primary=p/5000
			  > no claim
			1501 needed p p/5000
			1900 claim p/5000 role=primary
			  > say that it leaves
			  > grant p/5000
			1901 needed p p/5000
			2300 claim p/5000 role=primary
			  > say that it leaves
			  > grant p/5000
			2301 needed p p/5000
			2700 claim p/5000 role=primary
			  > say that it leaves
			  > grant p/5000
			2701 needed p p/5000
			2710 release p/5000 role=leaving reason=shutdown
			  > say that it has left
			  > left
		`)
	})
}

// One that takes over may need more replicas than the one that hands over, with a larger REPLICAS say.
func TestPrimaryThatHandsOverKeepsThoseThatLeave(t *testing.T) {
	t.Parallel()
	story(t, patient, wonByBoth+`
		1100 leave
		  > say that it leaves
		1410 granted b m/1000 sent=1410
		  > claim m/1000 as primary, round 3
		  > say that it leaves
		  > bot until 2300, lease ends 2400
		1600 tick
		  > say that it leaves
		  > drain bot, shutdown
		1610 leaving c
		  > needed for m/1000
		1620 stopped
		  > stepped down m/1000, shutdown
		  > release m/1000 shutdown to b
	`)
}

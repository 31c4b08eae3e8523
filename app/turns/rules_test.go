package turns

import (
	"testing"
	"time"
)

// These rules have stories of their own, for without them a mutant survived all others.

func TestAPollThatIsHeldHereWasOpenOnItsConnection(t *testing.T) {
	t.Parallel()
	story{}.play(t, spare+`
		# The replica that reports the end does not know of the poll.
		5000 ends a idle=5000
		6000 tick
		> died a, ended
		> active a -> b, ended
	`)
}

func TestAnEndThatWasBeforeTheLastRequestIsNoSignOfDeath(t *testing.T) {
	t.Parallel()
	story{}.play(t, spareForLong+`
		5000 writes a conn=2
		> pass
		5050 ends a conn=2 idle=10
		# It was told late.
		5100 ends a polling ago=500
		7000 tick
	`)
}

func TestALateCallDoesNotPutOffThatACopyIsDue(t *testing.T) {
	t.Parallel()
	story{patience: 20 * time.Second}.play(t, active+`
		1000 batch 101/1
		> answer 1: 101
		5000 ends a idle=4000
		6000 writes a
		> pass
		21000 tick
		> died a, silent
		> active a -> -, silent
	`)
}

func TestDoubtEndsWithASignOfLife(t *testing.T) {
	t.Parallel()
	story{}.play(t, spare+`
		1000 writes a conn=2 via=r2
		> pass
		2000 ends a polling
		3500 poll a poll=3 conn=3 via=r2
		4000 replica r2
		6000 tick
	`)
	// It has a connection open still, and that is idle.
	story{}.play(t, spare+`
		500 writes a conn=3 via=r3
		> pass
		1000 writes a conn=2 via=r2
		> pass
		2000 ends a polling
		4000 replica r2
		4500 ends a conn=3 via=r3 idle=4000
		6000 tick
	`)
}

func TestACopyThatSaysFarewellDoesNotBecomeActive(t *testing.T) {
	t.Parallel()
	story{}.play(t, spareForShort+`
		10000 tick
		> answer 2: -
		10100 ends a polling
		11100 tick
		> died a, ended
		> active a -> -, ended
		11200 poll b poll=3 timeout=0
		14200 tick
		> answer 3: -
	`)
}

func TestAStandbyThatPollsWhileNoCopyIsActiveBecomesActive(t *testing.T) {
	t.Parallel()
	story{}.play(t, spareForShort+`
		10000 tick
		> answer 2: -
		10001 poll b poll=3
		20001 tick
		> answer 3: -
		20100 ends a polling
		21100 tick
		> died a, ended
		> active a -> -, ended
		22000 poll b poll=4
		> active a -> b, ended
	`)
}

func TestACopyWhoseTurnWasMovedOnStandsBy(t *testing.T) {
	t.Parallel()
	story{}.play(t, spare+`
		10 next
		> active a -> b, operator
		20 next
		> active b -> a, operator
	`)
}

func TestACopyThatDiesBeforeTheNextTurnIsInForceMayNotWrite(t *testing.T) {
	t.Parallel()
	story{slow: true}.play(t, activeSlowly+`
		10 poll b poll=2
		> joined b
		> delta 2 roster
		20 known
		30 next
		> delta 3 roster
		40 gone a asked=35
		> died a, gone
		> answer 1: -
		> delta 4 roster
		50 writes a
		> refuse b
		> delta 5 roster
	`)
}

func TestAStandbyThatSkipsIsAnsweredAfterThreeSeconds(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		0 poll b poll=2 offset=-1
		> joined b
		3000 tick
		> answer 2: -
	`)
}

func TestAnOlderPollGetsNothingWhenTheNewerWasAnswered(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		1000 poll a poll=2 conn=2
		2000 batch 101
		> answer 2: 101
		2500 batch 102
		3000 tick
		> answer 1: -
	`)
}

func TestAPollThatSkipsGetsNothingWhileItIsHeld(t *testing.T) {
	t.Parallel()
	story{}.play(t, `
		0 poll a poll=1 offset=-1
		> joined a
		> answer 1: -
		> active - -> a, first
		1000 poll a poll=2 offset=-1
		2000 batch 101
		4000 tick
		> answer 2: -
		4100 poll a poll=3
		> answer 3: 101
	`)
}

// --- what is confirmed on trust -------------------------------------------------------------------

func TestAnotherCopyConfirmsNothingOnTrust(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		1000 primary
		1100 batch 101 102
		1200 poll b poll=2 limit=1
		> joined b
		1300 next
		> active a -> b, operator
		> answer 2: 101
		# It was not given the second.
		1400 poll b poll=3 offset=103
		> answer 3: 102
		> confirmed 101
	`)
}

func TestAProcessThatBeginsConfirmsNothingOnTrust(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		1000 primary
		1100 batch 101 102
		1200 poll a poll=2 limit=1
		> answer 2: 101
		1300 poll a poll=3 offset=103
		> answer 3: 102
		> confirmed 101
	`)
}

// Ids may fall back: an offset that came before an update was given says nothing of it.
func TestAnOffsetCountsOnceForWhatComesLater(t *testing.T) {
	t.Parallel()
	story{replay: -1}.play(t, `
		0 poll a poll=1 offset=100
		> joined a
		> active - -> a, first
		10 batch 104
		> answer 1: 104
		20 poll a poll=2 offset=105
		> confirmed 104
		30 batch 101
		> answer 2: 101
		40 batch 102
		50 poll a poll=3 offset=102
		> answer 3: 102
		> confirmed 101
	`)
}

func TestWhatIsGivenAgainIsNotDoneBecauseTelegramBringsItAgain(t *testing.T) {
	t.Parallel()
	story{}.play(t, confirmed+`
		20 poll b poll=3
		> joined b
		30 next
		> active a -> b, operator, 1 again
		> answer 3: 101
		1000 primary
		1100 batch 101/1
		1200 poll b poll=4
		> answer 4: 101
		1300 poll b poll=5 offset=102
		> confirmed 101
	`)
}

// --- what is given again ----------------------------------------------------------------------------

func TestTheWindowAges(t *testing.T) {
	t.Parallel()
	story{replay: 30 * time.Second}.play(t, confirmed+`
		10010 tick
		> answer 2: -
		29000 poll a poll=3 offset=102
		29000 state
		> active=a pending=0 in-hand=0 kept=1 bytes=10
		30001 poll a poll=4 offset=102
		30001 state
		> active=a pending=0 in-hand=0 kept=0 bytes=0
	`)
	// Under the next primary, too.
	story{replay: 30 * time.Second}.play(t, confirmed+`
		10010 tick
		> answer 2: -
		20000 primary
		29000 poll a poll=3 offset=102
		29000 state
		> active=a pending=0 in-hand=0 kept=1 bytes=10
		30001 poll a poll=4 offset=102
		30001 state
		> active=a pending=0 in-hand=0 kept=0 bytes=0
	`)
}

// After a replica was lost, the connection that ends may be another process's than the one that polled.
func TestTheEndOfWhatMayBeAnotherProcessIsNotThatOfTheOneThatPolled(t *testing.T) {
	t.Parallel()
	story{replay: 30 * time.Second}.play(t, activeByR2+`
		1000 batch 101/1
		> answer 1: 101
		1100 poll a poll=2 offset=102 timeout=50000 via=r2
		> confirmed 101
		20000 replica r2
		40000 reads a conn=2
		> pass
		40500 reads a conn=2
		> pass
		40600 ends a conn=2 idle=100
		41600 tick
		> died a, ended
		> active a -> -, ended
		41700 poll b poll=3
		> joined b
		> active a -> b, ended, 1 again
		> answer 3: 101
	`)
}

func TestWhatTelegramBringsAgainComesBeforeWhatIsToBeGivenAgain(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		0 batch 101/1 102/2
		> answer 1: 101 102
		10 poll a poll=2 offset=103
		> confirmed 101 102
		20 signs a chat=1
		30 poll b poll=3
		> joined b
		40 next
		> active a -> b, operator, 1 again
		> answer 3: 102
		1000 primary
		# Telegram has not been told of the first.
		1100 batch 101/1 103/3
		1200 poll b poll=4
		> answer 4: 101 102 103
	`)
}

func TestWithoutReplayTheOthersAreToldOfNoUpdate(t *testing.T) {
	t.Parallel()
	story{slow: true, replay: -1}.play(t, activeSlowly+`
		10 batch 101/1
		> answer 1: 101
		20 poll a poll=2 offset=102
		> confirmed 101
		> delta 2 roster
		30 batch 102/1
		> answer 2: 102
		40 poll a poll=3 offset=103
		> confirmed 102
	`)
}

// A call that was under way when an operator moved the turn on, and is answered before the next turn is in force.
func TestALateSignSparesTheNextWhatItWasNotGivenYet(t *testing.T) {
	t.Parallel()
	story{slow: true}.play(t, activeSlowly+`
		10 batch 101/1 102/2
		> answer 1: 101 102
		20 poll a poll=2 offset=103
		> delta 2 101 102 roster
		25 known
		> confirmed 101 102
		30 poll b poll=3
		> joined b
		> delta 3 roster
		40 next
		> delta 4 101! 102! roster
		50 signs a chat=1 began=35
		> delta 5 -101
		60 known
		> active a -> b, operator, 2 again
		> answer 3: 102
	`)
}

func TestACallFromBeforeThePollThatMayBeAnotherProcesssSignsNothing(t *testing.T) {
	t.Parallel()
	story{}.play(t, activeByR2+`
		1000 batch 101/1 102/2
		> answer 1: 101 102
		1100 poll a poll=2 offset=103 via=r2
		> confirmed 101 102
		3000 replica r2
		4000 writes a conn=3
		> pass
		4100 poll a poll=3 conn=3 offset=103
		4200 signs a chat=1 began=4000
		4300 state
		> active=a pending=0 in-hand=0 kept=2 bytes=20
		4400 signs a chat=1
		4500 state
		> active=a pending=0 in-hand=0 kept=1 bytes=10
	`)
}

// --- who may write ------------------------------------------------------------------------------------

func TestACopyWhoseLastConnectionTheNetworkLostHasNotEnded(t *testing.T) {
	t.Parallel()
	story{}.play(t, spareForLong+`
		4400 writes a conn=2
		> pass
		4500 ends a conn=2 idle=10
		5000 ends a polling lost
		6000 tick
		> died a, ended
		> active a -> b, ended
		9000 writes a conn=3
		> refuse b
	`)
}

func TestAStandbyThatCallsGetMeWithoutAConnectionOpenStarts(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		0 poll b poll=2 via=r2
		> joined b
		1000 replica r2
		1100 starts b conn=2
		> pass
		1200 writes b conn=2
		> pass
	`)
}

// --- what the next primary knows ------------------------------------------------------------------------

func TestTheOthersLearnOfAStandbysLives(t *testing.T) {
	t.Parallel()
	const begin = activeSlowly + `
		10 poll b poll=2
		> joined b
		> delta 2 roster
	`
	story{slow: true}.play(t, begin+`
		1000 gone b asked=500
		> died b, gone
		> answer 2: -
		> delta 3 roster
	`)
	story{slow: true}.play(t, begin+`
		1000 ends b polling
		> delta 3 roster
		1100 starts b conn=2
		> pass
		> delta 4 roster
	`)
}

func TestTheOthersLearnThatTheActiveCopyPollsAgain(t *testing.T) {
	t.Parallel()
	story{slow: true}.play(t, `
		0 poll a poll=1 timeout=0
		> joined a
		> answer 1: -
		> delta 1 full roster
		5 known
		> active - -> a, first
		1000 ends a polling
		> delta 2 roster
		1100 starts a conn=2
		> pass
		> delta 3 roster
		1200 poll a poll=2 conn=3 timeout=0
		> joined a
		> answer 2: -
		> delta 4 roster
	`)
}

func TestTheNextPrimaryKnowsWhoHasWaitedLongest(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		100 poll b poll=2
		> joined b
		200 poll c poll=3
		> joined c
		1000 primary
		1100 poll c poll=4
		1200 poll b poll=5
		1300 poll a poll=6
		2000 gone a asked=1900
		> died a, gone
		> answer 6: -
		> active a -> b, gone
	`)
}

func TestTheNextPrimaryRecognizesAFarewell(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		1000 primary
		1050 batch 101
		1100 poll a poll=2 timeout=0
		> answer 2: -
	`)
}

func TestTheNextPrimaryKnowsWhoIsDead(t *testing.T) {
	t.Parallel()
	story{}.play(t, spare+`
		500 gone b asked=400
		> died b, gone
		> answer 2: -
		1000 primary
		1000 copies
		> a active
		> b dead
	`)
}

func TestTheNextPrimaryKnowsWhenTheFormerCopyLivedLast(t *testing.T) {
	t.Parallel()
	story{patience: 90 * time.Second, replay: 30 * time.Second}.play(t, confirmed+`
		10010 tick
		> answer 2: -
		100010 tick
		> died a, silent
		> active a -> -, silent
		101000 primary
		102000 poll b poll=3
		> joined b
		> active a -> b, silent, 1 again
		> answer 3: 101
	`)
}

func TestACopyThatMakesNoRequestForADayIsForgotten(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		1000 gone a asked=500
		> died a, gone
		> answer 1: -
		> active a -> -, gone
		86400000 copies
		> a dead
		86401001 copies
	`)
}

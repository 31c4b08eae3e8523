package turns

import (
	"testing"
	"time"
)

func TestTheFirstToPollIsActiveAndStaysSo(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		100 poll b poll=2
		> joined b
		1000 batch 101/1 102/2
		> answer 1: 101 102
		1010 poll a poll=3 offset=103
		> confirmed 101 102
		2000 copies
		> a active, polling
		> b standby, polling
		# A standby gets nothing for as long as it asked.
		10099 tick
		10100 tick
		> answer 2: -
		10110 poll b poll=4 conn=2
		# b's new connection is nobody's end.
		11010 tick
		> answer 3: -
		11011 poll a poll=5 offset=103
		11012 batch 103
		> answer 5: 103
	`)
}

func TestAStandbyIsHeldForThreeSecondsAtLeastAndFiftyAtMost(t *testing.T) {
	t.Parallel()
	story{}.play(t, activeForLong+`
		0 poll b poll=2 timeout=0
		> joined b
		0 poll c poll=3 timeout=59000
		> joined c
		2999 tick
		3000 tick
		> answer 2: -
		3001 poll b poll=4 timeout=1000
		6000 tick
		6001 tick
		> answer 4: -
		49999 tick
		50000 tick
		> answer 1: -
		> answer 3: -
	`)
}

// --- dead -----------------------------------------------------------------------------------------

func TestDeadIsWhoseConnectionEndsWithAPollOpen(t *testing.T) {
	t.Parallel()
	story{}.play(t, spare+`
		5000 ends a polling
		5999 tick
		6000 tick
		> died a, ended
		> active a -> b, ended
		7000 batch 101/1
		> answer 2: 101
	`)
}

func TestSuchAnEndIsNoneIfSomethingComesWithinASecond(t *testing.T) {
	t.Parallel()
	story{}.play(t, spare+`
		5000 ends a polling
		5900 writes a conn=2
		> pass
		9000 tick
		9100 ends a conn=2 polling
		9500 writes a conn=3
		> pass
		10000 tick
		> answer 2: -
		20000 tick
	`)
}

// A process that has ended has no connection open.
func TestSuchAnEndIsNoneWhileAnotherConnectionIsOpen(t *testing.T) {
	t.Parallel()
	story{}.play(t, spare+`
		100 writes a conn=2
		> pass
		5000 ends a polling
		9999 tick
		10000 tick
		> answer 2: -
		# Its end is one of an idle connection.
		10001 ends a conn=2 idle=9900
		50000 tick
	`)
}

func TestAllConnectionsOfAProcessEndTogether(t *testing.T) {
	t.Parallel()
	story{}.play(t, spare+`
		100 writes a conn=2
		> pass
		5000 ends a conn=2 idle=4900
		5001 ends a polling
		6000 tick
		6001 tick
		> died a, ended
		> active a -> b, ended
	`)
}

func TestDeadIsWhoseKeptConnectionEndsSoonAfterItsUse(t *testing.T) {
	t.Parallel()
	story{}.play(t, `
		0 poll a poll=1 timeout=1000
		> joined a
		> active - -> a, first
		0 poll b poll=2
		> joined b
		1000 tick
		> answer 1: -
		1001 poll a poll=3
		2000 batch 101/1
		> answer 3: 101
		# It handles the update, and confirms it later.
		5000 ends a idle=3000
		5999 tick
		6000 tick
		> died a, ended
		> active a -> b, ended
		> answer 2: 101
	`)
}

func TestAnIdleConnectionThatEndsIsNoSignOfDeath(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"idle for more than 3 s": active + `
			0 batch 101/1
			> answer 1: 101
			100 poll a poll=2 offset=102
			> confirmed 101
			200 batch 102/1
			> answer 2: 102
			3201 ends a idle=3001
			60000 tick
			`,
		"whose call has ended before": active + `
			0 batch 101/1
			> answer 1: 101
			1 ends a idle=1
			100 writes a conn=2
			> pass
			200 alive a conn=2
			201 ends a conn=2 idle=101
			60000 tick
			`,
		"of a copy that does not keep its connections": active + `
			0 batch 101/1
			> answer 1: 101
			1 ends a idle=1
			2 poll a poll=2 conn=2 offset=102
			> confirmed 101
			200 batch 102/1
			> answer 2: 102
			201 ends a conn=2 idle=1
			60000 tick
			`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			story{}.play(t, script)
		})
	}
}

func TestDeadIsWhoseAddressIsGone(t *testing.T) {
	t.Parallel()
	story{}.play(t, spare+`
		# Something came since the attempt began: it proves nothing.
		5000 writes a conn=2
		> pass
		6000 gone a asked=4999
		7000 gone c asked=6000
		8000 gone a asked=7000
		> died a, gone
		> answer 1: -
		> active a -> b, gone
		9000 gone a asked=8000
	`)
}

// What one replica does not reach another one may: the poll that is open there shows that the copy lives.
func TestAnAddressIsNotGoneWhileAPollIsOpenThroughAnotherReplica(t *testing.T) {
	t.Parallel()
	story{}.play(t, `
		0 poll a poll=1 timeout=50000 via=r2
		> joined a
		> active - -> a, first
		0 poll b poll=2 timeout=50000 via=r1
		> joined b
		6000 gone a asked=5000 via=r1
		7000 gone a asked=6000 via=r1
		8000 batch 101/1
		> answer 1: 101
		9000 poll a poll=3 offset=102 via=r2
		> confirmed 101
		# The replica that has the poll does not reach it either.
		15000 gone a asked=14000 via=r2
		> died a, gone
		> answer 3: -
		> active a -> b, gone, 1 again
		> answer 2: 101
	`)
	// A poll that went with its replica shows nothing.
	story{}.play(t, `
		0 poll a poll=1 timeout=50000 via=r2
		> joined a
		> active - -> a, first
		0 poll b poll=2 timeout=50000 via=r1
		> joined b
		6000 gone a asked=5000 via=r1
		7000 replica r2
		8000 gone a asked=7500 via=r1
		> died a, gone
		> active a -> b, gone
	`)
}

func TestDeadIsWhosePollIsDueForLong(t *testing.T) {
	t.Parallel()
	story{patience: 90 * time.Second}.play(t, spareForLong+`
		1000 batch 101/1
		> answer 1: 101
		# It handles that for 80 s.
		50000 tick
		> answer 2: -
		50001 poll b poll=3 timeout=50000
		81000 writes a
		> pass
		100001 tick
		> answer 3: -
		100002 poll b poll=4 timeout=50000
		# What is answered here and what only shows that it runs is no poll.
		150000 starts a
		> pass
		150002 tick
		> answer 4: -
		150003 poll b poll=5 timeout=50000
		170999 tick
		171000 tick
		> died a, silent
		> active a -> b, silent
		> answer 5: 101
	`)
}

func TestAnUploadIsASignOfLife(t *testing.T) {
	t.Parallel()
	story{patience: 10 * time.Second}.play(t, active+`
		1000 batch 101/1
		> answer 1: 101
		2000 writes a
		> pass
		11000 alive a
		20999 tick
		21000 tick
		> died a, silent
		> active a -> -, silent
	`)
}

// The answer to what a copy sent may come after its end: it shows nothing of the copy.
func TestACallThatGoesOnWithoutItsCopyIsNoSignOfLife(t *testing.T) {
	t.Parallel()
	story{}.play(t, spare+`
		1000 batch 101/1
		> answer 1: 101
		1100 writes a
		> pass
		1200 ends a idle=0
		1300 alive a
		2199 tick
		2200 tick
		> died a, ended
		> active a -> b, ended
		> answer 2: 101
	`)
}

// aiogram closes all connections when it stops. What its tasks still call comes on a new one, and passes for the first call of the
// next process. That one ends, too.
func TestAProcessThatCallsOnANewConnectionAsItEndsIsDead(t *testing.T) {
	t.Parallel()
	story{}.play(t, spare+`
		1000 writes a conn=2
		> pass
		1100 writes a conn=2
		> pass
		2000 ends a polling
		2001 ends a conn=2 idle=900
		2100 writes a conn=3
		> pass
		2101 alive a conn=3
		# On a machine that is busy its end takes a while.
		5500 ends a conn=3 idle=3399
		6499 tick
		6500 tick
		> died a, ended
		> active a -> b, ended
	`)
}

// A process that starts, and takes its time until it polls, has a connection open, or calls.
func TestAProcessThatStartsHasASecondFromCallToCall(t *testing.T) {
	t.Parallel()
	story{}.play(t, spare+`
		1000 reads a
		> pass
		2000 ends a polling
		2500 starts a conn=3
		> pass
		2600 ends a conn=3 idle=90
		3500 starts a conn=4
		> pass
		# It keeps this one open.
		9999 poll a poll=3 conn=4
		> joined a
		10000 tick
		> answer 2: -
		11000 batch 101/1
		> answer 3: 101
	`)
}

// The end of a connection, and what came on another one or on that one, reach the primary in any order.
func TestACallThatWasOnItsWayWhenItsProcessEndedIsNoSignOfLife(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]string{
		"its answer came before the end of its connection": `
			2000 ends a polling
			2002 alive a conn=2
			2003 ends a conn=2 idle=0 ago=3
			`,
		"it arrived after that end": `
			2001 ends a polling ago=1
			2002 writes a conn=2
			> pass
			2003 ends a conn=2 idle=0 ago=3
			`,
		"two of them": `
			1990 writes a conn=3
			> pass
			2001 ends a polling ago=1
			2002 alive a conn=2
			2002 alive a conn=3
			2003 ends a conn=2 idle=0 ago=3
			2003 ends a conn=3 idle=0 ago=3
			`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			story{}.play(t, spare+`
		1000 writes a conn=2
		> pass
		1100 writes a conn=2
		> pass
		`+ends+`
		2999 tick
		3000 tick
		> died a, ended
		> active a -> b, ended
	`)
		})
	}
}

// It seemed to have another connection open, and has not.
func TestAnEndCountsOnceTheOtherConnectionWentWithAReplica(t *testing.T) {
	t.Parallel()
	story{}.play(t, spare+`
		1000 writes a conn=2 via=r2
		> pass
		2000 ends a polling
		3500 tick
		4000 replica r2
		4999 tick
		5000 tick
		> died a, ended
		> active a -> b, ended
	`)
	// What lives shows itself within a second.
	story{}.play(t, spare+`
		1000 writes a conn=2 via=r2
		> pass
		2000 ends a polling
		2500 poll a poll=3 conn=3 via=r2
		3500 tick
		4000 replica r2
		5000 tick
		6000 tick
	`)
}

// Requests and ends of connections reach the primary on different ways through another replica.
func TestARequestThatTheEndOfItsConnectionOvertookIsNoSignOfLife(t *testing.T) {
	t.Parallel()
	story{}.play(t, spare+`
		1000 batch 101/1
		> answer 1: 101
		1100 writes a
		> pass
		1200 ends a idle=0
		1201 writes a
		> pass
		1202 alive a
		1203 poll a poll=3 offset=102
		> answer 3: -
		2199 tick
		2200 tick
		> died a, ended
		> active a -> b, ended
		> answer 2: 101
		# After its death, too.
		2300 poll a poll=4 offset=102
		> answer 4: -
		2400 writes a
		> refuse b
	`)
}

func TestWhatDiesTheReplicaTakesAlongIsNoSign(t *testing.T) {
	t.Parallel()
	story{}.play(t, activeByR2+`
		0 poll b poll=2
		> joined b
		5000 replica r2
		9000 batch 101/1
		10000 tick
		> answer 2: -
		13000 poll a poll=3 conn=7
		> answer 3: 101
	`)
}

func TestTheLongestWaitingTakesOver(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		100 poll c poll=2
		> joined c
		200 poll b poll=3
		> joined b
		300 poll d poll=4
		> joined d
		# c is between two polls; of the others b has waited longest.
		10000 tick
		> answer 1: -
		10001 poll a poll=5
		10100 tick
		> answer 2: -
		10200 tick
		> answer 3: -
		10210 poll b poll=6
		10300 tick
		> answer 4: -
		10310 poll d poll=7
		10400 ends a polling
		11400 tick
		> died a, ended
		> active a -> b, ended
		11500 poll c poll=8
		12000 ends b polling
		13000 tick
		> died b, ended
		> active b -> c, ended
	`)
}

func TestWithoutASpareTheNextToPollTakesOver(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		100 batch 101/1
		> answer 1: 101
		200 poll a poll=2 offset=102
		> confirmed 101
		5000 ends a polling
		6000 tick
		> died a, ended
		> active a -> -, ended
		7000 batch 102/1
		20000 poll b poll=3
		> joined b
		> active a -> b, ended, 1 again
		> answer 3: 101 102
	`)
}

// Time in which this process did not run is no time in which a copy was silent.
func TestALateStepDeclaresNothingDead(t *testing.T) {
	t.Parallel()
	story{dozes: true}.play(t, spare+`
		5000 ends a polling
		6301 tick
		7200 writes a conn=2
		> pass
		8000 ends a conn=2 polling
		9000 poll a poll=3 conn=3
		> joined a
		9100 ends a conn=3 polling
		10300 tick
		> died a, ended
		> answer 2: -
		> active a -> b, ended
	`)
}

// --- another life -----------------------------------------------------------------------------

func TestACopyThatStartsOverStaysActiveAndGetsWhatIsUnconfirmed(t *testing.T) {
	t.Parallel()
	story{}.play(t, spareForLong+`
		1000 batch 101/1 102/2
		> answer 1: 101 102
		1001 poll a poll=3 offset=103
		> confirmed 101 102
		2000 batch 103/1
		> answer 3: 103
		2100 signs a chat=1
		3000 ends a idle=900
		3900 starts a conn=2
		> pass
		4900 starts a conn=2
		> pass
		5000 poll a poll=4 conn=2
		> joined a
		> active a -> a, restarted, 1 again
		> answer 4: 102 103
	`)
}

func TestACopyThatKeepsFailingToStartIsDead(t *testing.T) {
	t.Parallel()
	story{patience: 20 * time.Second}.play(t, spareForLong+`
		5000 ends a polling
		5500 starts a conn=2
		> pass
		5600 writes a conn=2
		> pass
		5700 ends a conn=2 idle=100
		6500 starts a conn=3
		> pass
		6700 ends a conn=3 idle=200
		15000 starts a conn=4
		> pass
		25000 writes a conn=4
		> pass
		25500 tick
		> died a, silent
		> active a -> b, silent
	`)
	// Of a framework that keeps its connections their ends show that.
	story{}.play(t, spareForLong+`
		4000 reads a
		> pass
		5000 ends a polling
		5500 starts a conn=2
		> pass
		5700 ends a conn=2 idle=100
		6500 starts a conn=3
		> pass
		6700 ends a conn=3 idle=200
		7699 tick
		7700 tick
		> died a, ended
		> active a -> b, ended
	`)
}

// A framework's own polls begin at 0, 1 or without an offset; those of a bot that was given nothing do so always.
func TestThePollsOfAnIdleCopyAreNoNewLife(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		10000 tick
		> answer 1: -
		10001 poll a poll=2 conn=2 offset=1
		20001 tick
		> answer 2: -
		20002 poll a poll=3 conn=3 offset=1
		20003 batch 101/1
		> answer 3: 101
	`)
}

// --- the ends of polls ----------------------------------------------------------------------------

// The last call of a framework that stops does not wait for updates and throws them away.
func TestTheLastCallConfirmsAndGetsNothing(t *testing.T) {
	t.Parallel()
	story{}.play(t, spare+`
		10 batch 101/1
		> answer 1: 101
		20 poll a poll=3
		> answer 3: 101
		30 batch 102/1
		40 signs a chat=1
		50 poll a poll=4 offset=102 limit=1 timeout=0
		> answer 4: -
		> confirmed 101
		# It ends, which needs no second to be believed.
		300 ends a idle=250
		> died a, stopped
		> active a -> b, stopped
		> answer 2: 102
	`)
}

// It cancels its poll first, and with that its only connection.
func TestTheLastCallMayComeOnTheOnlyConnection(t *testing.T) {
	t.Parallel()
	story{}.play(t, spare+`
		10 batch 101/1
		> answer 1: 101
		20 poll a poll=3 offset=102
		> confirmed 101
		5000 ends a polling
		5001 batch 102/1
		5002 poll a poll=4 offset=102 timeout=0 conn=2
		> answer 4: -
		5003 ends a conn=2 idle=1
		> died a, stopped
		> active a -> b, stopped, 1 again
		> answer 2: 101 102
	`)
}

// A process that starts is none that stops: it skips what waits, or it never waits.
func TestAPollThatDoesNotWaitMayBeTheFirst(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		5000 ends a polling
		5500 poll a poll=2 offset=-1 timeout=0 conn=2
		> joined a
		> answer 2: -
		5600 batch 101
		5700 poll a poll=3 offset=1 conn=2
		> answer 3: 101
	`)
	story{}.play(t, `
		0 poll a poll=1 timeout=0
		> joined a
		> answer 1: -
		> active - -> a, first
		100 poll a poll=2 timeout=0
		200 ends a polling
		300 batch 101
		900 poll a poll=3 offset=1 timeout=0 conn=2
		> joined a
		> answer 3: 101
	`)
}

func TestACopyThatStopsMayTakeItsTime(t *testing.T) {
	t.Parallel()
	story{}.play(t, spareForLong+`
		10 batch 101/1
		> answer 1: 101
		20 poll a poll=3 offset=102
		> confirmed 101
		30 poll a poll=4 offset=102 timeout=0 conn=2
		> answer 4: -
		31 ends a polling
		1031 tick
		5031 ends a conn=2 idle=5000
		40000 writes a conn=3
		> pass
	`)
}

func TestACopyThatNeverWaitsIsGivenUpdates(t *testing.T) {
	t.Parallel()
	story{}.play(t, `
		0 poll a poll=1 timeout=0 limit=1
		> joined a
		> answer 1: -
		> active - -> a, first
		# Asked again at once, it has to wait.
		100 poll a poll=2 timeout=0 limit=1
		500 batch 101 102
		> answer 2: 101
		501 poll a poll=3 timeout=0 limit=1 offset=102
		> answer 3: 102
		> confirmed 101
		600 poll a poll=4 timeout=0 limit=1 offset=103
		> confirmed 102
		3599 tick
		3600 tick
		> answer 4: -
		7000 poll a poll=5 timeout=0 limit=1 offset=103
		> answer 5: -
	`)
}

func TestACopyThatGoesOnAfterSuchACallIsGivenUpdatesAgain(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		0 batch 101 102
		> answer 1: 101 102
		10 poll a poll=2 timeout=0 offset=102 limit=1
		> answer 2: -
		> confirmed 101
		1000 poll a poll=3 timeout=0 offset=102 limit=1
		> answer 3: 102
		2000 poll a poll=4 timeout=0 offset=102
		> answer 4: 102
		3000 poll a poll=5 timeout=1000 offset=102
		> answer 5: 102
	`)
}

func TestOfTwoPollsOfACopyTheNewerCounts(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		1000 poll a poll=2 conn=2
		2000 batch 101
		> answer 2: 101
		# The older gets nothing, and not at once: it might be another process that asks again at once.
		2999 tick
		3000 tick
		> answer 1: -
		5000 poll a poll=3 conn=3
		> answer 3: 101
		6000 poll a poll=4 offset=102 timeout=50000
		> confirmed 101
		16000 poll a poll=5 offset=102 timeout=50000
		> answer 4: -
	`)
}

func TestPollsOfACopyAreBounded(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		1 poll a poll=2
		2 poll a poll=3
		3 poll a poll=4
		4 poll a poll=5
		5 poll a poll=6
		6 poll a poll=7
		7 poll a poll=8
		8 poll a poll=9
		> answer 1: -
	`)
}

func TestAPollWhoseClientHangsUpGetsNothing(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		1000 hangs-up poll=1
		2000 batch 101
		20000 tick
		20001 poll a poll=2
		> answer 2: 101
	`)
}

// --- offsets ----------------------------------------------------------------------------------------

func TestOffsetsConfirmAsTheRealServersDo(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"below": `
			10 poll a poll=2 offset=100
			> answer 2: 101 102 103
			`,
		"at the first": `
			10 poll a poll=2 offset=101
			> answer 2: 101 102 103
			`,
		"in between": `
			10 poll a poll=2 offset=103
			> answer 2: 103
			> confirmed 101 102
			`,
		"at the end": `
			10 poll a poll=2 offset=104
			> confirmed 101 102 103
			`,
		"a bit past the end": `
			10 poll a poll=2 offset=114
			> confirmed 101 102 103
			`,
		"far past the end": `
			10 poll a poll=2 offset=115
			> answer 2: 101 102 103
			`,
		"as far as can be": `
			10 poll a poll=2 offset=2147483647
			> answer 2: 101 102 103
			`,
		"limited": `
			10 poll a poll=2 offset=102 limit=1
			> answer 2: 102
			> confirmed 101
			`,
		"the same again at once": `
			10 poll a poll=2
			> answer 2: 101
			600 poll a poll=3
			> answer 3: 101 102 103
			`,
		"the newest only": `
			5000 poll a poll=2 offset=-2
			> answer 2: -
			6000 poll a poll=3 offset=-2147483648
			9000 tick
			> answer 3: -
			9100 poll a poll=4
			> answer 4: 101 102 103
			`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			story{replay: -1}.play(t, active+`
				0 batch 101 102 103
				> answer 1: 101 102 103
				`+script)
		})
	}
}

// A copy that starts and skips what waits, with its first call, would throw away what people wrote.
func TestACopyThatStartsSkipsNothing(t *testing.T) {
	t.Parallel()
	story{}.play(t, `
		0 batch 101 102
		0 poll a poll=1 offset=-1
		> joined a
		> answer 1: -
		> active - -> a, first
		10 poll a poll=2 offset=1
		> answer 2: 101 102
		20 poll a poll=3 offset=103
		> confirmed 101 102
		1000 ends a polling
		# It starts over.
		1100 poll a poll=4 offset=-1 conn=2
		> joined a
		> answer 4: -
		> active a -> a, restarted, 2 again
		1200 poll a poll=5 offset=1 conn=2
		> answer 5: 101 102
	`)
}

func TestAStandbyConfirmsNothing(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		0 batch 101 102
		> answer 1: 101 102
		10 poll b poll=2 offset=103
		> joined b
		20 poll c poll=3 offset=-1
		> joined c
		30 state
		> active=a pending=2 in-hand=2 kept=0 bytes=0
		# When its turn comes it gets what it was not given in this turn, whatever its offset is.
		100 ends a idle=50
		200 next
		> active a -> b, operator
		> answer 2: 101 102
		300 poll b poll=4 offset=103
		> confirmed 101 102
	`)
}

func TestAnAnswerIsBounded(t *testing.T) {
	t.Parallel()
	story{}.play(t, `
		0 batch 1 2 3 size=2000000
		0 batch 4 size=5000000
		0 poll a poll=1
		> joined a
		> active - -> a, first
		> answer 1: 1 2
		10 poll a poll=2 offset=3
		> answer 2: 3
		> confirmed 1 2
		20 poll a poll=3 offset=4
		> answer 3: 4
		> confirmed 3
		30 poll a poll=4 offset=5
		> confirmed 4
	`)
}

func TestWhatHasExpiredIsNotGiven(t *testing.T) {
	t.Parallel()
	story{}.play(t, `
		0 batch 101/1
		0 batch 102/2 expires=5000
		4000 poll a poll=1
		> joined a
		> active - -> a, first
		> answer 1: 101 102
		5000 poll a poll=2 offset=102
		> expired 102
		> confirmed 101
	`)
}

// Ids start again lower after a quiet week.
func TestIdsThatStartAgainAreGiven(t *testing.T) {
	t.Parallel()
	story{patience: time.Hour, replay: -1}.play(t, active+`
		0 batch 900001
		> answer 1: 900001
		10 poll a poll=2 offset=900002
		> confirmed 900001
		10010 tick
		> answer 2: -
		600001 poll a poll=3 offset=900002
		600010 batch 5000 5001
		> answer 3: 5000 5001
		601020 poll a poll=4 offset=900002
		> answer 4: 5000 5001
		601030 poll a poll=5 offset=5002
		> confirmed 5000 5001
	`)
}

// --- given again --------------------------------------------------------------------------------

func TestWhatWasConfirmedAndShowedNoSignIsGivenAgain(t *testing.T) {
	t.Parallel()
	story{}.play(t, spareForLong+`
		1000 batch 101/1 102/2 103/1 104?q 105?r 106
		> answer 1: 101 102 103 104 105 106
		1100 poll a poll=3 offset=107
		> confirmed 101 102 103 104 105 106
		1500 signs a chat=1,7
		1600 signs a query=q
		2000 ends a polling
		3000 tick
		> died a, ended
		> active a -> b, ended, 3 again
		> answer 2: 102 105 106
		3100 poll b poll=4 offset=107
		4000 state
		> active=b pending=0 in-hand=0 kept=3 bytes=30
	`)
}

func TestASignIsOneOnlyAfterTheUpdateWasGiven(t *testing.T) {
	t.Parallel()
	story{}.play(t, spareForLong+`
		1000 batch 101/1
		> answer 1: 101
		1100 poll a poll=3 offset=102
		> confirmed 101
		# This call was under way when the update was given, and that one is another copy's.
		1200 signs a chat=1 began=1000
		1300 signs b chat=1
		2000 ends a polling
		3000 tick
		> died a, ended
		> active a -> b, ended, 1 again
		> answer 2: 101
	`)
}

// What is not confirmed is given again, signed or not: the sign may have been of a part of the work.
func TestASignDoesNotConfirm(t *testing.T) {
	t.Parallel()
	story{}.play(t, spareForLong+`
		1000 batch 101/1 102/1
		> answer 1: 101 102
		1100 signs a chat=1
		1200 next
		> active a -> b, operator
		> answer 2: 101 102
		# What the next one is given it has to sign itself.
		1300 poll b poll=3 offset=103
		> confirmed 101 102
		1400 state
		> active=b pending=0 in-hand=0 kept=2 bytes=20
		1500 signs b chat=1
		1600 state
		> active=b pending=0 in-hand=0 kept=0 bytes=0
	`)
}

// A call that was under way when its copy's turn ended is a sign still, as long as the update was not given again.
func TestALateSignSparesTheSuccessorTheUpdate(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		1000 batch 101/1 102/2
		> answer 1: 101 102
		1100 poll a poll=2 offset=103
		> confirmed 101 102
		2000 ends a polling
		3000 tick
		> died a, ended
		> active a -> -, ended
		3100 signs a chat=1 began=1900
		3200 poll b poll=3
		> joined b
		> active a -> b, ended, 1 again
		> answer 3: 102
		3300 signs a chat=2 began=1900
		3400 poll b poll=4 offset=103
		3500 ends b polling
		4500 tick
		> died b, ended
		> active b -> -, ended
		4600 poll b poll=5 conn=2
		> joined b
		> active b -> b, ended, 1 again
		> answer 5: 102
	`)
}

// A bot that comes up greets its admin, who had written: that is no answer.
func TestAGreetingIsNoSignOfWhatIsToBeGivenAgain(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		1000 batch 101/1
		> answer 1: 101
		1100 poll a poll=2 offset=102
		> confirmed 101
		2000 ends a polling
		2100 poll a poll=3 conn=2 offset=-1
		> joined a
		> answer 3: -
		> active a -> a, restarted, 1 again
		2200 signs a chat=1
		2300 poll a poll=4 conn=2
		> answer 4: 101
	`)
	story{}.play(t, active+`
		1000 batch 101/1
		> answer 1: 101
		1100 poll a poll=2 offset=102
		> confirmed 101
		2000 ends a polling
		2100 writes a conn=2
		> pass
		2150 signs a chat=1 began=2100
		2200 poll a poll=3 conn=2
		> joined a
		> active a -> a, restarted, 1 again
		> answer 3: 101
		2250 signs a chat=1 began=2100
		2300 poll a poll=4 conn=2 offset=102
		2400 state
		> active=a pending=0 in-hand=0 kept=1 bytes=10
	`)
}

// What the next process of a copy is given it has to sign itself, though nothing had been confirmed.
func TestASignIsOfTheLastGiving(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		1000 batch 101/1
		> answer 1: 101
		1100 signs a chat=1
		2000 ends a polling
		2600 poll a poll=2 conn=2
		> joined a
		> answer 2: 101
		2700 poll a poll=3 conn=2 offset=102
		> confirmed 101
		2800 state
		> active=a pending=0 in-hand=0 kept=1 bytes=10
	`)
}

// Of what waits to be given again, a process that was not given it yet signs nothing, though it is of the same copy.
func TestAProcessSignsNothingThatItWasNotGiven(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		1000 batch 101/1 102/2
		> answer 1: 101 102
		1100 poll a poll=2 offset=103
		> confirmed 101 102
		2000 ends a polling
		2100 poll a poll=3 conn=2 limit=1
		> joined a
		> active a -> a, restarted, 2 again
		> answer 3: 101
		2300 ends a conn=2 polling
		3300 tick
		> died a, ended
		> active a -> -, ended
		3310 signs a chat=2 began=2250
		3400 poll a poll=5 conn=3
		> joined a
		> active a -> a, ended
		> answer 5: 101 102
	`)
}

func TestOnlyWhatWasGivenShortlyBeforeItsEndIsGivenAgain(t *testing.T) {
	t.Parallel()
	story{replay: 30 * time.Second}.play(t, spareForLong+`
		1000 batch 101
		> answer 1: 101
		1100 poll a poll=3 offset=102 timeout=29000
		> confirmed 101
		2000 batch 102
		> answer 3: 102
		2100 poll a poll=4 offset=103 timeout=50000
		> confirmed 102
		31500 ends a polling
		# It counts from the end, not from when that is believed.
		32500 tick
		> died a, ended
		> active a -> b, ended, 1 again
		> answer 2: 102
	`)
}

// What is given to the next process of a copy is given anew, though nothing had been confirmed.
func TestTheTimeOfTheLastGivingCounts(t *testing.T) {
	t.Parallel()
	story{replay: 5 * time.Second}.play(t, active+`
		1000 batch 101
		> answer 1: 101
		20000 poll a poll=2 conn=2
		> answer 2: 101
		20100 poll a poll=3 conn=2 offset=102
		> confirmed 101
		21000 poll b poll=4
		> joined b
		22000 ends a conn=2 polling
		22001 ends a idle=21000
		23000 tick
		> died a, ended
		> active a -> b, ended, 1 again
		> answer 4: 101
	`)
}

// What the next process calls before it polls is no sign of life of the one before.
func TestTheEndOfAProcessIsNotWhenTheNextOneStarts(t *testing.T) {
	t.Parallel()
	const begin = active + `
		1000 batch 101
		> answer 1: 101
		1100 poll a poll=2 offset=102 timeout=50000
		> confirmed 101
		31000 ends a polling
		31900 starts a conn=2
		> pass
	`
	story{replay: 30 * time.Second}.play(t, begin+`
		35000 starts a conn=2
		> pass
		40000 poll a poll=3 conn=2
		> joined a
		> active a -> a, restarted, 1 again
		> answer 3: 101
	`)
	story{replay: 30 * time.Second}.play(t, begin+`
		35000 ends a conn=2 idle=3100 lost
		40000 gone a asked=36000
		> died a, gone
		> active a -> -, gone
		41000 poll b poll=3
		> joined b
		> active a -> b, gone, 1 again
		> answer 3: 101
	`)
}

// A primary that does not know whether a process has ended does not take the next one's calls for its.
func TestWhatAProcessCallsDoesNotShowThatItIsTheOneThatPolled(t *testing.T) {
	t.Parallel()
	story{replay: 30 * time.Second}.play(t, activeByR2+`
		1000 batch 101
		> answer 1: 101
		1100 poll a poll=2 offset=102 timeout=50000 via=r2
		> confirmed 101
		20000 primary
		40000 starts a conn=2
		> pass
		40100 writes a conn=2
		> pass
		40200 poll a poll=3 conn=2
		> joined a
		> active a -> a, restarted, 1 again
		> answer 3: 101
	`)
}

// A process that greets, and polls only then, may be another than the one that polled: nothing of that one was seen.
func TestWhatMayBeAnotherProcessSignsNothing(t *testing.T) {
	t.Parallel()
	const begin = activeByR2 + `
		1000 batch 101/1 102/2
		> answer 1: 101 102
		1100 poll a poll=2 offset=103 via=r2
		> confirmed 101 102
		2000 writes a conn=2 via=r2
		> pass
	`
	const end = `
		4000 writes a conn=3
		> pass
		4100 signs a chat=1
		# This call was under way.
		4200 signs a chat=2 began=2000
		4300 poll a poll=3 conn=3
		> joined a
		> active a -> a, restarted, 1 again
		> answer 3: 101
		4400 signs a chat=1 began=4000
		4500 signs a chat=2 began=2000
		4600 poll a poll=4 conn=3 offset=103
		4700 state
		> active=a pending=0 in-hand=0 kept=1 bytes=10
		4800 signs a chat=1
		4900 state
		> active=a pending=0 in-hand=0 kept=0 bytes=0
	`
	story{}.play(t, begin+"3000 replica r2\n"+end)
	story{}.play(t, begin+`
		3000 primary
		4000 writes a conn=3
		> pass
		4100 signs a chat=1
		4300 poll a poll=3 conn=3
		> joined a
		> active a -> a, restarted, 2 again
		> answer 3: 101 102
	`)
}

// Of a copy that the network has lost it is not known when it ended.
func TestTheEndOfACopyThatTheNetworkLostIsWhenItWasHeardLast(t *testing.T) {
	t.Parallel()
	story{replay: 30 * time.Second}.play(t, spareForLong+`
		1000 batch 101
		> answer 1: 101
		1100 poll a poll=3 offset=102 timeout=50000
		> confirmed 101
		40000 ends a polling lost
		41000 tick
		> died a, ended
		> active a -> b, ended, 1 again
		> answer 2: 101
	`)
}

// Of a copy that falls silent it is not known when it ended. It is given the benefit of the doubt.
func TestTheEndOfASilentCopyIsWhenItWasHeardLast(t *testing.T) {
	t.Parallel()
	story{patience: 90 * time.Second, replay: 30 * time.Second}.play(t, active+`
		1000 batch 101
		> answer 1: 101
		1100 poll a poll=2 offset=102
		> confirmed 101
		11100 tick
		> answer 2: -
		60000 poll b poll=3 timeout=50000
		> joined b
		101099 tick
		101100 tick
		> died a, silent
		> active a -> b, silent, 1 again
		> answer 3: 101
	`)
}

func TestWhatEndsEachCopyIsGivenAgainThreeTimes(t *testing.T) {
	t.Parallel()
	story{}.play(t, `
		0 batch 101
		0 poll a poll=1
		> joined a
		> active - -> a, first
		> answer 1: 101
		10 poll a poll=2 offset=102
		> confirmed 101
		20 ends a polling
		500 poll a poll=3 conn=2
		> joined a
		> active a -> a, restarted, 1 again
		> answer 3: 101
		510 poll a poll=4 offset=102 conn=2
		520 ends a conn=2 polling
		1000 poll a poll=5 conn=3
		> joined a
		> active a -> a, restarted, 1 again
		> answer 5: 101
		1010 poll a poll=6 offset=102 conn=3
		1020 ends a conn=3 polling
		1500 poll a poll=7 conn=4
		> joined a
		> active a -> a, restarted, 1 again
		> answer 7: 101
		1510 poll a poll=8 offset=102 conn=4
		1520 ends a conn=4 polling
		2000 poll a poll=9 conn=5
		> joined a
		> active a -> a, restarted
		2100 state
		> active=a pending=0 in-hand=0 kept=0 bytes=0
	`)
}

func TestWithoutReplayNothingIsKept(t *testing.T) {
	t.Parallel()
	story{replay: -1}.play(t, `
		0 batch 101
		0 poll a poll=1
		> joined a
		> active - -> a, first
		> answer 1: 101
		10 poll a poll=2 offset=102
		> confirmed 101
		15 state
		> active=a pending=0 in-hand=0 kept=0 bytes=0
		20 ends a polling
		500 poll a poll=3 conn=2
		> joined a
	`)
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	t.Parallel()
	story{}.play(t, `
		0 batch 101 102 103 size=400000
		0 poll a poll=1
		> joined a
		> active - -> a, first
		> answer 1: 101 102 103
		10 poll a poll=2 offset=103
		> answer 2: 103
		> confirmed 101 102
		20 state
		> active=a pending=1 in-hand=1 kept=2 bytes=800000
		30 poll a poll=3 offset=104
		> confirmed 103
		40 state
		> active=a pending=0 in-hand=0 kept=2 bytes=800000
		50 batch 104 size=1048577
		> answer 3: 104
		60 poll a poll=4 offset=105
		> confirmed 104
		70 state
		> active=a pending=0 in-hand=0 kept=2 bytes=800000
		# The oldest are let go.
		90 poll a poll=5 offset=0
		> joined a
		> active a -> a, restarted, 2 again
		> answer 5: 102 103
	`)
}

// --- what the other replicas have to know --------------------------------------------------------

// An update is confirmed to Telegram only when the others have what might have to be given again.
func TestConfirmedIsWhatTheOthersKnow(t *testing.T) {
	t.Parallel()
	story{slow: true}.play(t, `
		0 poll a poll=1
		> joined a
		> delta 1 full roster
		0 known
		> active - -> a, first
		0 batch 101/1 102/2 103/3
		> answer 1: 101 102 103
		5 signs a chat=2
		10 poll a poll=2 offset=104
		> confirmed 102
		> delta 2 101 103 roster
		20 known seq=1
		30 batch 104/4
		> answer 2: 104
		40 poll a poll=3 offset=105
		> delta 3 104
		50 known seq=2
		> confirmed 101 103
		60 batch 105/5
		> answer 3: 105
		70 poll a poll=4 offset=106
		> delta 4 105
		# What is signed meanwhile is kept by none.
		80 signs a chat=4
		> confirmed 104
		> delta 5 -104
		90 known seq=100
		> confirmed 105
		100 ends a polling
		> delta 6 roster
		1100 tick
		> died a, ended
		> active a -> -, ended
		> delta 7 roster
		1200 poll b poll=5
		> joined b
		> delta 8 101! 103! 105! roster
		1210 known
		> active a -> b, ended, 3 again
		> answer 5: 101 103 105
		1300 poll b poll=6 offset=104
		> answer 6: 105
		> delta 9 101 103 roster
	`)
}

// What a copy has confirmed, and another is given again before the others know it, waits for the other to confirm it.
func TestWhatIsGivenAgainIsConfirmedByTheOneThatHasIt(t *testing.T) {
	t.Parallel()
	story{slow: true}.play(t, `
		0 poll a poll=1
		> joined a
		> delta 1 full roster
		0 known
		> active - -> a, first
		0 batch 101/1
		> answer 1: 101
		10 poll a poll=2 offset=102
		> delta 2 101 roster
		20 poll b poll=3
		> joined b
		> delta 3 roster
		30 next
		> delta 4 101! roster
		40 known
		> active a -> b, operator, 1 again
		> answer 3: 101
		50 poll b poll=4 offset=102
		> confirmed 101
		> delta 5 101 roster
	`)
}

// A primary that takes over would go on with the turn before.
func TestATurnIsInForceOnceAMajorityKnows(t *testing.T) {
	t.Parallel()
	const begin = `
		0 poll a poll=1 allowed=["poll"]
		> joined a
		> delta 1 full roster
		1 writes a
		> pass
		> delta 2 roster
		5 known
		> active - -> a, first
		> allow ["poll"]
		10 batch 101/1
		> answer 1: 101
		20 poll b poll=2 allowed=[]
		> joined b
		> delta 3 roster
		30 known
		`
	story{slow: true}.play(t, begin+`
		40 next
		> delta 4 roster
		# Until then a may write, for it lives, and b may not.
		50 writes a
		> pass
		60 writes b
		> refuse a
		> delta 5 roster
		70 state
		> active=a pending=1 in-hand=0 kept=0 bytes=0
		80 known seq=3
		90 known seq=4
		> active a -> b, operator
		> allow []
		> answer 2: 101
		100 writes a
		> refuse b
		110 writes b
		> pass
	`)
	story{slow: true}.play(t, begin+`
		40 gone a asked=30
		> died a, gone
		> delta 4 roster
		50 writes a
		> refuse b
		55 writes b
		> pass
		> delta 5 roster
		# The next one dies before its turn is in force. What is due is due to the one after it.
		60 poll c poll=3
		> joined c
		> delta 6 roster
		70 gone b asked=65
		> died b, gone
		> answer 2: -
		> delta 7 roster
		80 known seq=4
		90 known seq=7
		> active a -> c, gone
		> answer 3: 101
	`)
	story{slow: true}.play(t, begin+`
		40 poll a poll=4 offset=102
		> delta 4 101
		50 known
		> confirmed 101
		60 next unseen
		> delta 5 101! roster
		# The primary ends, and its successor knows nothing of that.
		70 primary
		> delta 1 full 101 roster
		75 known
		80 writes a
		> pass
		90 writes b
		> refuse a
		> delta 2 roster
	`)
}

func TestAPrimaryThatTakesOverKeepsTheCopyAndWhatItHad(t *testing.T) {
	t.Parallel()
	story{}.play(t, `
		0 poll a poll=1 allowed=["poll"]
		> joined a
		> active - -> a, first
		> allow ["poll"]
		0 poll b poll=2 allowed=["message"]
		> joined b
		1000 batch 101/1 102/2
		> answer 1: 101 102
		1010 poll a poll=3 offset=102
		> answer 3: 102
		> confirmed 101
		1020 batch 103/3
		1030 poll a poll=4 offset=103
		> answer 4: 103
		> confirmed 102
		1040 poll a poll=5 offset=104
		> confirmed 103
		2000 primary
		# The standby may poll first: it is one still, and may not write.
		2100 poll b poll=12
		2200 writes b
		> refuse a
		2300 writes a
		> pass
		# Telegram had not been told of all yet.
		2400 batch 102/2 103/3 104/4
		> confirmed 102 103
		2500 poll a poll=11 offset=104
		> allow ["poll"]
		> answer 11: 104
		3000 ends a polling idle=0
		4000 tick
		> died a, ended
		> active a -> b, ended, 3 again
		> allow ["message"]
		> answer 12: 101 102 103 104
	`)
}

// What Telegram brings again was there before some of what the predecessor has told of.
func TestWhatTelegramBringsAgainKeepsItsPlace(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		0 batch 101/1 102/2 103/1
		> answer 1: 101 102 103
		10 poll a poll=2 offset=104
		> confirmed 101 102 103
		# Telegram has not heard of it.
		20 signs a chat=1 began=5
		1000 primary
		1100 batch 101/1 103/1 104/1
		1200 poll b poll=3
		> joined b
		1300 gone a asked=1250
		> died a, gone
		> active a -> b, gone, 1 again
		> answer 3: 101 102 103 104
	`)
}

func TestWhatIsKeptExpiresUnderEachPrimary(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		0 batch 101 102 expires=20000
		> answer 1: 101 102
		10 poll a poll=2 offset=103
		> confirmed 101 102
		10000 primary
		10100 poll a poll=3 offset=103
		19000 next
		> no spare
		19900 poll a poll=4
		> joined a
		> answer 3: -
		> active a -> a, restarted, 2 again
		> answer 4: 101 102
		19910 poll a poll=5 offset=102
		> answer 5: 102
		20000 poll a poll=6 offset=102
	`)
}

// The predecessor knew that the copy had started over, and has told none.
func TestAnOffsetBelowWhatWasConfirmedIsThatOfAnotherProcess(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		0 batch 101 102 103
		> answer 1: 101 102 103
		10 poll a poll=2 offset=104
		> confirmed 101 102 103
		1000 primary
		# Its next process was given the first.
		1100 poll a poll=3 offset=102 conn=2
		> joined a
		> active a -> a, restarted, 2 again
		> answer 3: 102 103
		1200 poll a poll=4 offset=104 conn=2
		1300 state
		> active=a pending=0 in-hand=0 kept=3 bytes=30
	`)
}

// What a predecessor gave it does not know all of: the copy's offset says it.
func TestWhatAPredecessorGaveIsConfirmedByTheSameCopy(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		0 batch 101/1 102/2
		> answer 1: 101 102
		1000 primary
		1100 batch 101/1 102/2 103/3
		1200 poll a poll=2 offset=103
		> answer 2: 103
		> confirmed 101 102
		# Of what came later it is known what it was given.
		1300 batch 104/4
		1400 poll a poll=3 offset=105
		> answer 3: 104
		> confirmed 103
	`)
}

// A poll that is open when the primary changes reaches the next one before Telegram has answered that.
func TestAnOffsetCountsThatCameBeforeTheFirstBatch(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		0 batch 101/1 102/2
		> answer 1: 101 102
		1000 primary
		1100 poll a poll=2 offset=103
		1200 batch 101/1 102/2 103/3
		> answer 2: 103
		> confirmed 101 102
		1300 batch 104/4
		1400 poll a poll=3 offset=105
		> answer 3: 104
		> confirmed 103
	`)
	// One that starts over has confirmed nothing.
	story{}.play(t, active+`
		0 batch 101/1 102/2
		> answer 1: 101 102
		1000 primary
		1100 poll a poll=2
		1200 batch 101/1 102/2
		> answer 2: 101 102
	`)
}

func TestAnEndThatThePredecessorMissedCountsFromTheBeginOfTheTerm(t *testing.T) {
	t.Parallel()
	story{}.play(t, spare+`
		1000 batch 101/1
		> answer 1: 101
		1010 poll a poll=3 offset=102
		> confirmed 101
		3000 primary
		3000 ends a polling ago=1500
		3100 poll b poll=12
		3999 tick
		4000 tick
		> died a, ended
		> active a -> b, ended, 1 again
		> answer 12: 101
	`)
	story{}.play(t, active+`
		3000 primary
		3100 poll a poll=11
		# That was before.
		3200 ends a conn=9 polling ago=1500
		5000 tick
	`)
}

func TestAPrimaryThatTakesOverWhileNoCopyIsActiveKnowsWhatIsDue(t *testing.T) {
	t.Parallel()
	story{}.play(t, confirmed+`
		500 ends a polling
		1500 tick
		> died a, ended
		> active a -> -, ended
		60000 primary
		60001 writes a conn=2 age=60000
		> refuse
		60100 poll b poll=3 offset=102
		> joined b
		> active a -> b, ended, 1 again
		> answer 3: 101
	`)
}

func TestACopyThatWasDeadBeforeThePrimaryChangedIsKnown(t *testing.T) {
	t.Parallel()
	story{patience: 90 * time.Second}.play(t, spare+`
		1000 primary
		1000 poll b poll=3 timeout=50000
		51000 tick
		> answer 3: -
		51001 poll b poll=4 timeout=50000
		90999 tick
		91000 tick
		> died a, silent
		> active a -> b, silent
	`)
}

// --- who may write --------------------------------------------------------------------------------

func TestWhoMayWrite(t *testing.T) {
	t.Parallel()
	story{}.play(t, `
		# A client that does not poll.
		0 writes shop
		> pass
		# A copy until its first poll.
		10 writes b
		> pass
		100 poll a poll=1
		> joined a
		> active - -> a, first
		110 poll b poll=2
		> joined b
		200 writes a
		> pass
		210 writes b
		> refuse a
		220 reads b
		> pass
		230 starts b
		> pass
		240 writes b
		> refuse a
		300 writes shop
		> pass
		# A standby that starts over.
		400 ends b polling
		500 writes b conn=2
		> pass
		600 poll b poll=3 conn=2
		> joined b
		700 writes b conn=2
		> refuse a
		# When its turn has come.
		1000 ends a polling
		2000 tick
		> died a, ended
		> active a -> b, ended
		2010 writes b conn=2
		> pass
		# The network has lost a, which lives on.
		2020 copies
		> a dead
		> b active, polling
	`)
}

func TestAFormerCopyThatWakesSaysNothing(t *testing.T) {
	t.Parallel()
	story{patience: 20 * time.Second}.play(t, spareForLong+`
		1000 batch 101/1
		> answer 1: 101
		21000 tick
		> died a, silent
		> active a -> b, silent
		> answer 2: 101
		21100 poll b poll=3 offset=102 timeout=50000
		> confirmed 101
		# It wakes, with the connection that it had, and with a new one.
		30000 writes a
		> refuse b
		30010 writes a conn=2
		> refuse b
		30020 starts a conn=3
		> pass
		30030 writes a conn=3
		> refuse b
		30040 poll a poll=4 offset=102
		> joined a
		30050 writes a
		> refuse b
	`)
	story{patience: 20 * time.Second}.play(t, spareForLong+`
		1000 batch 101/1
		> answer 1: 101
		21000 tick
		> died a, silent
		> active a -> b, silent
		> answer 2: 101
		# It wakes, and closes what was idle for long.
		30000 ends a idle=29000
		30010 writes a conn=2
		> refuse b
	`)
}

func TestACopyThatTheNetworkLostSaysNothing(t *testing.T) {
	t.Parallel()
	story{}.play(t, spareForLong+`
		5000 ends a polling lost
		6000 tick
		> died a, ended
		> active a -> b, ended
		9000 writes a conn=2
		> refuse b
		9001 ends a conn=2 idle=1
		# Its own side has closed that. It is dead and has no connection open: this may be another process.
		9002 writes a conn=3
		> pass
	`)
}

// Frameworks whose start-up hook sends something end when that is refused, and are started again.
func TestACopyThatEndsWhenItIsRefusedComesUpInTheEnd(t *testing.T) {
	t.Parallel()
	story{patience: 20 * time.Second}.play(t, activeForLong+`
		0 poll b poll=2 timeout=50000 via=r2
		> joined b
		# Its end is not seen.
		1000 replica r2
		2000 writes b conn=2
		> refuse a
		2001 ends b conn=2 idle=1
		12000 writes b conn=3
		> refuse a
		12001 ends b conn=3 idle=1
		21000 tick
		> died b, silent
		22000 writes b conn=4
		> pass
		22001 starts b conn=4
		> pass
		22002 poll b poll=3 conn=4
		> joined b
	`)
}

// A late request of a process that has ended is not one of the next.
func TestARequestOnAnOldConnectionIsNoNewLife(t *testing.T) {
	t.Parallel()
	story{}.play(t, bothForLong+`
		5000 ends b polling
		5500 writes b conn=2 age=501
		> refuse a
		5501 ends b conn=2 idle=1
		# After that it is not known to have ended, until it is dead.
		6000 writes b conn=3
		> refuse a
		6001 ends b conn=3 idle=1
	`)
	story{}.play(t, bothForLong+`
		5000 ends b polling
		5500 writes b conn=2 age=500
		> pass
	`)
}

func TestALateRequestIsNotOneOfTheProcessThatStarts(t *testing.T) {
	t.Parallel()
	story{}.play(t, bothForLong+`
		5000 ends b polling
		5500 starts b conn=2
		> pass
		5510 writes b conn=3 age=511
		> refuse a
		5520 writes b conn=4 age=510
		> pass
	`)
}

func TestOfTheConnectionsOfAProcessThatEndsSomeWereIdle(t *testing.T) {
	t.Parallel()
	story{}.play(t, bothForLong+`
		10 reads b conn=2
		> pass
		9000 ends b polling
		9001 ends b conn=2 idle=8990
		9500 writes b conn=3
		> pass
	`)
}

func TestAProcessThatStartsAfterAChangeOfPrimaryMayGreet(t *testing.T) {
	t.Parallel()
	story{}.play(t, bothForLong+`
		0 poll c poll=3 timeout=50000
		> joined c
		5000 ends b polling
		6000 tick
		> died b, ended
		6500 ends c polling
		7000 primary
		7100 writes b conn=2
		> pass
		7200 writes c conn=2
		> pass
		7300 poll b poll=4 conn=2
		> joined b
		7400 writes b conn=2
		> refuse a
	`)
}

func TestWhileNoCopyIsActiveFormerOnesAreRefused(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		1000 gone a asked=500
		> died a, gone
		> answer 1: -
		> active a -> -, gone
		1100 writes a
		> refuse
	`)
}

// --- operators, kinds, bounds -------------------------------------------------------------------------

func TestAnOperatorMovesTheTurnOn(t *testing.T) {
	t.Parallel()
	story{}.play(t, `
		0 next
		> no spare
		0 poll a poll=1
		> joined a
		> active - -> a, first
		10 next
		> no spare
		100 poll b poll=2
		> joined b
		200 batch 101/1 102/2
		> answer 1: 101 102
		210 poll a poll=3 offset=102
		> answer 3: 102
		> confirmed 101
		300 next
		> active a -> b, operator, 1 again
		> answer 2: 101 102
		310 writes a
		> refuse b
		320 poll b poll=4 offset=103
		> confirmed 102
		400 next
		> no spare
		500 poll a poll=5 offset=103
		600 next
		> active b -> a, operator, 2 again
		> answer 5: 101 102
	`)
}

// An operator may move the turn on before it is known that the active copy has long been gone.
func TestAnOperatorsWordIsNoSignOfLife(t *testing.T) {
	t.Parallel()
	const begin = spare + `
		1000 batch 101/1
		> answer 1: 101
		1100 poll a poll=3 offset=102 timeout=50000
		> confirmed 101
		10000 tick
		> answer 2: -
		`
	story{replay: 30 * time.Second}.play(t, begin+`
		20000 primary
		30000 poll b poll=4
		35000 next
		> active a -> b, operator, 1 again
		> answer 4: 101
	`)
	story{replay: 30 * time.Second}.play(t, begin+`
		30000 poll b poll=4
		# It lives, and was given that long ago.
		35000 next
		> active a -> b, operator
	`)
}

// One that says farewell, or has hung up, is no spare.
func TestASpareIsOneThatWaits(t *testing.T) {
	t.Parallel()
	story{}.play(t, spareForShort+`
		1000 poll b poll=3 timeout=0
		1100 next
		> no spare
		3000 tick
		> answer 2: -
		4000 tick
		> answer 3: -
		4100 ends a polling
		5100 tick
		> died a, ended
		> active a -> -, ended
		5200 poll b poll=4
		> active a -> b, ended
		5300 poll b poll=5 timeout=0
		> answer 5: -
		8200 tick
		> answer 4: -
		9000 gone b asked=8000
		> died b, gone
		> active b -> -, gone
		10000 poll c poll=6
		> joined c
		> active b -> c, gone
		11000 poll c poll=7 timeout=0
		> answer 7: -
		12000 gone c asked=11500
		> died c, gone
		> answer 6: -
		> active c -> -, gone
	`)
}

func TestAStoppedMachineGivesNothingButConfirms(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		0 batch 101
		> answer 1: 101
		10 stop
		20 batch 102
		30 poll a poll=2 offset=102
		> confirmed 101
		10030 tick
		> answer 2: -
	`)
}

func TestTheActiveCopysKindsAreAskedFor(t *testing.T) {
	t.Parallel()
	story{}.play(t, active+`
		10 poll b poll=2 allowed=["poll"]
		> joined b
		10000 tick
		> answer 1: -
		10001 poll a poll=3 allowed=[]
		> allow []
		# Absent is as it was.
		10002 poll a poll=4
		10010 tick
		> answer 2: -
		10011 poll b poll=5
		10100 next
		> active a -> b, operator
		> allow ["poll"]
	`)
}

func TestNextSaysWhenSomethingIsDue(t *testing.T) {
	t.Parallel()
	story{patience: 90 * time.Second}.play(t, `
		0 due
		> due 86400000
		0 poll a poll=1
		> joined a
		> active - -> a, first
		0 due
		> due 10000
		1000 ends a polling
		1000 due
		> due 2000
		1500 writes a conn=2
		> pass
		1500 due
		> due 91500
		2000 poll a poll=2 conn=2 timeout=0
		> joined a
		> answer 2: -
	`)
}

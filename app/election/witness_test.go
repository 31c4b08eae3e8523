package election_test

import (
	"testing"

	"habot/app/election"
)

func TestAWitnessGrantsAndNeverClaims(t *testing.T) {
	t.Parallel()
	story(t, replica{Witness: true}, `
		1010 tick
		# it looks, and asks others, and that is all
		1010 next
		  > next 1210
		9000 tick
		9000 state
		  > looking follows=- remaining=0 floor=-
		9100 claim p/5000
		  > grant p/5000
		9110 claim q/4000
		  > refuse q/4000 held holder=p/5000 remaining=990 floor=p/5000
		9120 claim q/6000
		  > refuse q/6000 held holder=p/5000 remaining=980 floor=p/5000
		9130 claim p/5000 role=primary
		  > primary is p/5000, start
		  > grant p/5000
		# the primary is gone: the other gets the grant at the end of the promise
		10130 tick
		10130 state
		  > looking follows=- remaining=0 floor=p/5000
		99000 claim q/6000
		  > grant q/6000
	`)
}

func TestAWitnessDoesNotClaimWhateverItIsAskedTo(t *testing.T) {
	t.Parallel()
	// a 1.0.0, which does not know witnesses, may name one
	story(t, replica{Witness: true}, standby+`
		1300 release p/5000 reason=switchover to=m
		1300 state
		  > looking follows=- remaining=0 floor=p/5000
		9000 tick
		9000 resign switchover
	`)
	story(t, replica{Witness: true}, standby+`
		1300 died p seen=z
		  > dead p, p
		9000 tick
		9000 state
		  > looking follows=- remaining=0 floor=p/5000
	`)
	// its health is not what a probe reports
	story(t, replica{Witness: true}, standby+`
		1300 health ok
		9000 tick
		9000 state
		  > looking follows=- remaining=0 floor=p/5000
	`)
}

func TestAWitnessIsKnownByItsHealth(t *testing.T) {
	t.Parallel()
	m := election.New(election.Config{Self: "w", Name: "w", Lease: lease, Replicas: 3, Witness: true}, election.Reading{})
	m.Step(election.Reading{Now: 1}, election.HealthChanged{Health: election.Health{OK: true}})
	s := m.Status(1)
	if !s.IsWitness() {
		t.Error("a witness is not known as one")
	}
	// a replica of the last version has it in its code
	if want := "this replica is a witness: it votes, and has no way to Telegram"; s.Health.Detail != want || s.Health.OK {
		t.Errorf("the health of a witness is %+v: it is part of the protocol", s.Health)
	}
	s.Health.OK = true
	if s.IsWitness() {
		t.Error("a healthy replica is taken for a witness")
	}
	if (election.Status{}).IsWitness() {
		t.Error("an unhealthy replica is taken for a witness")
	}
}

func TestAWitnessMakesAQuorum(t *testing.T) {
	t.Parallel()
	story(t, replica{}, claims+"1020 granted w m/1000 sent=1010 health=witness"+wins+`
		1020 size
		  > expected=3 quorum=2 reachable=2
	`)
}

func TestNoPrimaryHandsOverToAWitness(t *testing.T) {
	t.Parallel()
	won := claims + "1020 granted b m/1000 sent=1010 health=witness" + wins + `
	`
	// asked to, and by its name
	story(t, replica{}, won+`
		1100 successor
		  > no successor
		1100 successor b
		  > no successor
	`)
	// b is the first by name, c can take over
	story(t, replica{}, won+`
		1100 granted c m/1000 sent=1020 health=bad
		  > bot until 1910, lease ends 2010
		1110 successor
		  > c
		1110 resign switchover
		  > drain bot, switchover
		1120 stopped
		  > stepped down m/1000, switchover
		  > release m/1000 switchover to c
	`)
	// unhealthy, and no other replica is there
	story(t, replica{}, won+`
		1100 health bad
		1110 successor
		  > no successor
	`)
	// it shuts down: no replica could claim, and so it waits for none
	story(t, replica{}, won+`
		1100 leave
		  > drain bot, shutdown
		1110 stopped
		  > stepped down m/1000, shutdown
		  > release m/1000 shutdown
		  > say that it has left
		  > left
	`)
}

func TestNoReplicaWaitsForAWitness(t *testing.T) {
	t.Parallel()
	// an older primary names it
	story(t, replica{}, standbyOfEarlier+`
		1150 status b health=witness
		1300 release p/900 reason=switchover to=b
		  > claim m/1000 as candidate, round 1
	`)
	// a and b learn of the death too, and b is a witness
	story(t, replica{Replicas: 5}, standbyOfEarlier+`
		1150 status b health=witness
		1160 status a
		1300 died p seen=a,b
		  > dead p, p
		1300 next
		  > next 1325
	`)
	// of many, unhealthy as it is, m waits for those that are as healthy and before it, which a witness never is
	story(t, replica{Replicas: 9}, standbyOfEarlier+`
		1110 status a,b,c,d,e,f,g health=witness
		1200 health bad
		2100 tick
		2599 tick
		2600 tick
		  > claim m/1000 as candidate, round 1
	`)
}

func TestAWitnessLeavesInOrder(t *testing.T) {
	t.Parallel()
	story(t, replica{Witness: true}, standby+`
		1100 leave
		  > say that it leaves
		1110 dismissed p p/5000 sent=1100
		  > say that it has left
		  > left
	`)
}

// It counts like any replica: among more than REPLICAS, too.
func TestAWitnessCounts(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1000 status b,c,p primary=p/5000
		  > primary is p/5000, start
		1000 status w primary=p/5000 health=witness
		1900 status b,c,p primary=p/5000
		1900 status w primary=p/5000 health=witness
		2800 status b,c,p primary=p/5000
		2800 status w primary=p/5000 health=witness
		3700 status b,c,p primary=p/5000
		3700 status w primary=p/5000 health=witness
		4600 status b,c,p primary=p/5000
		4600 status w primary=p/5000 health=witness
		5000 tick
		  > size 5, configured 3
		5000 size
		  > expected=5 quorum=3 reachable=5
	`)
}

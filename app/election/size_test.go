package election_test

import "testing"

// More replicas than were configured raise the number in force once they have been in contact together for
// four leases. It stays for a minute after they were last counted.
func TestLargerNumberOfReplicasHeardRaisesTheQuorumAndDecays(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		0 size
		  > expected=3 quorum=2 reachable=1
		1000 status b,c,d,p primary=p/5000
		  > primary is p/5000, start
		1000 size
		  > expected=3 quorum=2 reachable=5
		1900 status b,c,d,p primary=p/5000
		2800 status b,c,d,p primary=p/5000
		3700 status b,c,d,p primary=p/5000
		4600 status b,c,d,p primary=p/5000
		4999 tick
		4999 size
		  > expected=3 quorum=2 reachable=5
		5000 tick
		  > size 5, configured 3
		5000 size
		  > expected=5 quorum=3 reachable=5
		# from now on none is in contact; they are counted until two and a half leases have passed
		7099 tick
		  > claim m/5001 as candidate, round 1
		7100 tick
		7101 size
		  > expected=5 quorum=3 reachable=1
		67100 tick
		  > election m/5001 timed_out after 60001
		  > withdraw m/5001
		67100 size
		  > expected=5 quorum=3 reachable=1
		67101 tick
		  > size 3, configured 3
		67101 size
		  > expected=3 quorum=2 reachable=1
	`)
}

func TestLargerNumberMustBeHeardWithoutInterruption(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1000 status b,c,d primary=p/5000
		  > primary is p/5000, start
		1900 status b,c primary=p/5000
		2800 status b,c primary=p/5000
		# d was out of contact for longer than two and a half leases
		3501 status b,c primary=p/5000
		3600 status d primary=p/5000
		4500 status b,c,d primary=p/5000
		5400 status b,c,d primary=p/5000
		6300 status b,c,d primary=p/5000
		7200 status b,c,d primary=p/5000
		7599 tick
		7599 size
		  > expected=3 quorum=2 reachable=4
		7600 tick
		  > size 4, configured 3
		7600 size
		  > expected=4 quorum=3 reachable=4
	`)
}

// What joins has promised nothing. What leaves has, until it has left; unless it leaves before it has joined.
func TestReplicasThatJoinDoNotCountAndThoseThatLeaveDo(t *testing.T) {
	t.Parallel()
	t.Run("one that joins", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, `
			1000 status b,p primary=p/5000
			  > primary is p/5000, start
			1000 status d role=joining
			1900 status b,p primary=p/5000
			1900 status d role=joining
			2800 status b,p primary=p/5000
			2800 status d role=joining
			3700 status b,p primary=p/5000
			3700 status d role=joining
			4600 status b,p primary=p/5000
			4600 status d role=joining
			5100 status b,p primary=p/5000
			5100 status d role=joining
			5100 size
			  > expected=3 quorum=2 reachable=4
		`)
	})
	t.Run("one that leaves", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, `
			1000 status b,p primary=p/5000
			  > primary is p/5000, start
			1000 status d role=standby
			1900 status b,p primary=p/5000
			1900 status d role=leaving
			2800 status b,p primary=p/5000
			2800 status d role=leaving
			3700 status b,p primary=p/5000
			3700 status d role=leaving
			4600 status b,p primary=p/5000
			4600 status d role=leaving
			5100 status b,p primary=p/5000
			  > size 4, configured 3
			5100 status d role=leaving
			5100 size
			  > expected=4 quorum=3 reachable=4
		`)
	})
	t.Run("one that leaves before it has joined", func(t *testing.T) {
		t.Parallel()
		story(t, replica{}, `
			1000 status b,p primary=p/5000
			  > primary is p/5000, start
			1000 status d role=joining
			1900 status b,p primary=p/5000
			1900 status d role=leaving
			2800 status b,p primary=p/5000
			2800 status d role=leaving
			3700 status b,p primary=p/5000
			3700 status d role=leaving
			4600 status b,p primary=p/5000
			4600 status d role=leaving
			5100 status b,p primary=p/5000
			5100 status d role=leaving
			5100 size
			  > expected=3 quorum=2 reachable=4
		`)
	})
}

// One that starts again has the same name and another id.
func TestReplicaThatStartsAgainIsOneReplica(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1000 status b,c primary=p/5000
		  > primary is p/5000, start
		1200 status b2 name=b primary=p/5000
		1200 size
		  > expected=3 quorum=2 reachable=3
	`)
}

func TestLargerQuorumBringsThePrimarysDeadlineNearer(t *testing.T) {
	t.Parallel()
	story(t, replica{}, `
		1010 tick
		  > claim m/1000 as candidate, round 1
		1010 granted b,c,d,e m/1000
		  > election m/1000 won after 0
		  > primary is m/1000, start
		  > bot until 1900, lease ends 2000
		  > start bot m/1000
		  > claim m/1000 as primary, round 2
		1800 tick
		  > claim m/1000 as primary, round 3
		1800 granted b,c,d,e m/1000
		  > bot until 2690, lease ends 2790
		2600 tick
		  > claim m/1000 as primary, round 4
		2600 granted b,c,d,e m/1000
		  > bot until 3490, lease ends 3590
		3400 tick
		  > claim m/1000 as primary, round 5
		3400 granted b,c,d,e m/1000
		  > bot until 4290, lease ends 4390
		4200 tick
		  > claim m/1000 as primary, round 6
		4200 granted b,c,d,e m/1000
		  > bot until 5090, lease ends 5190
		# only b renews from here on: for the larger quorum that is not enough
		4900 tick
		  > claim m/1000 as primary, round 7
		4900 granted b m/1000
		  > bot until 5790, lease ends 5890
		5009 tick
		5010 tick
		  > size 5, configured 3
		  > bot until 5090, lease ends 5190
		5010 size
		  > expected=5 quorum=3 reachable=5
		5090 tick
		  > stop bot now, lease_lost
	`)
}

package election

import "time"

// DriftBound bounds the difference between the rates of two replicas' local clocks under which SAFETY
// holds: one part in DriftBound (1 %). Quartz clocks stay below one in a thousand by far.
const DriftBound = 100

// Config is one replica's part in the election. All replicas of a bot MUST have the same Lease.
type Config struct {
	Self    ReplicaID
	Name    string
	Version string
	// Lease is L: how long a grant is a promise.
	Lease time.Duration
	// Replicas is N, the configured number of replicas, at least 1.
	Replicas int
	// Quorum is how many grants make a primary; 0 stands for a majority of the replicas.
	Quorum int
	// HealthSettles is how long a standby must have been in contact without a break before an unhealthy primary relies
	// on its report that it is healthy and hands over to it: a process that has just started, or woken, may not know yet.
	HealthSettles time.Duration
	// Witness: the replica votes and never is primary.
	Witness bool
	// LeaveWithin bounds how long a replica that leaves goes on granting because a primary needs it for a quorum.
	LeaveWithin time.Duration
	// LeavePatience is how long a replica that leaves waits for the next sign of a newcomer that may take its place, within
	// LeaveWithin. 0: a primary hands over at once, and one that stands by waits as long as it is needed.
	LeavePatience time.Duration
	// StopWithin is how much of LeaveWithin a primary keeps for what it has in hand.
	StopWithin time.Duration
}

// Heartbeat is how often a primary renews: two fifths of the lease. A renewal that a quorum has not
// granted within Resend is sent again, so that a lost one costs little and the others need not be many.
func (c Config) Heartbeat() time.Duration { return 2 * c.Lease / 5 }

// Resend is how long a renewal may stay without a quorum's grants before it is sent again.
func (c Config) Resend() time.Duration { return c.Lease / 10 }

// StopMargin is how long before the end of its lease the bot receives the order to stop, and so how long it has
// to fall silent.
func (c Config) StopMargin() time.Duration { return c.Lease / 10 }

// GrantedFor is how long an acknowledgement counts at the claimant, from the sending of its request:
// L(1-ε), for the granter's clock may run faster.
func (c Config) GrantedFor() time.Duration { return c.Lease - c.Lease/DriftBound }

// JoinSilence is how long a process that has just started grants and claims nothing: L(1+ε), until
// every promise of an earlier life has expired.
func (c Config) JoinSilence() time.Duration { return c.Lease + c.Lease/DriftBound }

// Retry is how often a candidate sends its claim again.
func (c Config) Retry() time.Duration { return c.Lease / 20 }

// HoldBack is how long replicas leave a named successor alone.
func (c Config) HoldBack() time.Duration { return c.Lease / 4 }

// successorWait is how long a replica that leaves waits after a release for a claim that may need its grant: if the
// successor that was named is gone, until one that held back for it has claimed.
func (c Config) successorWait() time.Duration { return c.HoldBack() + c.Resend() }

// leaveSettles is how long a primary that is asked to stop waits to learn which of the others are, too.
func (c Config) leaveSettles() time.Duration { return min(c.Lease/2, 500*time.Millisecond) }

// TurnAfterDeath is how long one of those that witness a primary's death leaves each of those before it alone.
func (c Config) TurnAfterDeath() time.Duration { return c.Lease / 40 }

// QueryTimeout bounds a request to another replica: an answer that took longer is of no use.
func (c Config) QueryTimeout() time.Duration { return c.Lease / 2 }

// pollInterval is how often a replica that knows no primary, or is out of contact with it, asks every other.
func (c Config) pollInterval() time.Duration { return c.Lease / 5 }

// seekInterval is how often standbys ask every other replica, to know which are there.
func (c Config) seekInterval() time.Duration { return min(2*c.Lease, time.Second) }

// sparing bounds how long a primary under another lease is left alone at a time: no lease is longer.
const sparing = time.Minute

// historyLength bounds the changes of primary that are remembered.
const historyLength = 100

// endedLength bounds the withdrawn and released claims that are remembered, one per replica.
const endedLength = 256

package election

import "time"

// Reading is one look at both clocks.
type Reading struct {
	// Now is the local clock; it drives every expiry.
	Now Instant
	// Wall is the wall clock in nanoseconds since the Unix epoch; it only makes timestamps.
	Wall int64
}

// Input is something that happened. The set is closed.
type Input interface{ input() }

// Inputs.
type (
	// Tick says that time has passed.
	Tick struct{}
	// ClaimReceived is another replica's claim. Exactly one output is a Reply.
	ClaimReceived struct{ Request ClaimRequest }
	// EndReceived is another replica's withdrawal or release.
	EndReceived struct{ Request EndRequest }
	// LeaveReceived says that another replica leaves, or has left. Exactly one output is a LeaveReply.
	LeaveReceived struct{ Request LeaveRequest }
	// LeaveAnswerReceived answers a SendLeave of our own, sent at SentAt.
	LeaveAnswerReceived struct {
		Answer LeaveAnswer
		SentAt Instant
	}
	// AnswerReceived answers a claim of our own, sent at SentAt.
	AnswerReceived struct {
		Answer ClaimAnswer
		SentAt Instant
	}
	// StatusReceived answers a question of our own, sent at SentAt.
	StatusReceived struct {
		Status Status
		SentAt Instant
	}
	// RoundDone says that every instance asked in that round of claims has answered or failed.
	RoundDone struct{ Round uint64 }
	// ProcessDied says that the process of another replica has ended. It MUST be given only when that is certain: nothing of
	// that process runs or sends any more. Witnesses are the replicas, besides this one, that learn of it as well.
	ProcessDied struct {
		Replica   ReplicaID
		Witnesses []ReplicaID
	}
	// HistoryReceived is what another replica knows of earlier changes of primary. It is for people: nothing is decided by it.
	HistoryReceived struct{ History History }
	// WorkStopped says that the work's last request has ended.
	WorkStopped struct{}
	// HealthChanged brings the replica's own health.
	HealthChanged struct{ Health Health }
	// Resign asks a primary to hand over (ReasonSwitchover, ReasonPartFailed). Successor may be empty.
	Resign struct {
		Reason    Reason
		Successor ReplicaID
	}
	// Leave asks a replica to shut down: to hand over if it is primary, and never to claim again.
	Leave struct{ Reason Reason }
)

func (Tick) input()                {}
func (ClaimReceived) input()       {}
func (EndReceived) input()         {}
func (LeaveReceived) input()       {}
func (LeaveAnswerReceived) input() {}
func (AnswerReceived) input()      {}
func (StatusReceived) input()      {}
func (RoundDone) input()           {}
func (ProcessDied) input()         {}
func (HistoryReceived) input()     {}
func (WorkStopped) input()         {}
func (HealthChanged) input()       {}
func (Resign) input()              {}
func (Leave) input()               {}

// Output is something to do, or to tell. The set is closed. Outputs MUST be carried out in order.
type Output interface{ output() }

// Outputs.
type (
	// Reply answers the ClaimReceived of this step.
	Reply struct{ Answer ClaimAnswer }
	// SendQuery asks instances for their Status: the next share of them in turn, so that each is asked once in so many
	// Rounds; every instance if that is 1. Missed, if not empty, is a primary that is out of contact: it is asked in any case.
	// Known, if not empty, is a primary whose renewals arrive: it need not be asked.
	SendQuery struct {
		Rounds        int
		Missed, Known ReplicaID
	}
	// SendClaim sends the claim to every instance; RoundDone follows when all have answered or failed.
	SendClaim struct {
		Request ClaimRequest
		Round   uint64
	}
	// SendEnd sends a withdrawal or a release to every instance.
	SendEnd struct{ Request EndRequest }
	// StartWork makes this replica act as primary. It comes with an ExtendLease before it.
	StartWork struct{ Change Change }
	// ExtendLease says how far the lease reaches. WorkUntil can move backwards when the quorum grew.
	ExtendLease struct {
		// WorkUntil is when the bot MUST be silent, LeaseEnd when another replica may be primary.
		WorkUntil, LeaseEnd Instant
	}
	// StopWork stops the bot. With Drain it finishes what it has in hand, otherwise it falls silent
	// at once. A second StopWork without Drain may follow one with it.
	StopWork struct {
		Drain  bool
		Reason Reason
	}
	// Halt is fail-stop: the bot did not stop in time.
	Halt struct{ Reason Reason }
	// LeaveReply answers the LeaveReceived of this step. It MUST NOT be sent before the outputs ahead of it are
	// carried out: a lease that it shortens comes first.
	LeaveReply struct{ Answer LeaveAnswer }
	// SendLeave says to every instance that this replica leaves, or has left.
	SendLeave struct{ Request LeaveRequest }
	// Left ends a Leave: the process may exit, and grants nothing any more.
	Left struct{}
	// Died tells, once, that another replica's process has ended without leaving. Name is empty if no message of it ever came.
	Died struct {
		Name    string
		Replica ReplicaID
	}
	// Departed tells that another replica has left in order.
	Departed struct {
		Name    string
		Replica ReplicaID
	}
	// PrimaryChanged tells of a new primary, this replica or another.
	PrimaryChanged struct{ Change Change }
	// SteppedDown tells that this replica's role has ended; the work is silent.
	SteppedDown struct {
		Claim  Claim
		Reason Reason
	}
	// ElectionEnded tells how a candidacy of this replica ended.
	ElectionEnded struct {
		Claim  Claim
		Result ElectionResult
		Took   time.Duration
	}
	// Mismatch tells of a replica whose configuration keeps it from taking part with this one.
	Mismatch struct {
		Peer    string
		Refusal Refusal
		Theirs  string
	}
	// SizeChanged tells that the number of replicas in force has changed.
	SizeChanged struct{ Expected, Configured int }
)

func (Reply) output()          {}
func (SendQuery) output()      {}
func (SendClaim) output()      {}
func (SendEnd) output()        {}
func (StartWork) output()      {}
func (ExtendLease) output()    {}
func (StopWork) output()       {}
func (Halt) output()           {}
func (LeaveReply) output()     {}
func (SendLeave) output()      {}
func (Left) output()           {}
func (Died) output()           {}
func (Departed) output()       {}
func (PrimaryChanged) output() {}
func (SteppedDown) output()    {}
func (ElectionEnded) output()  {}
func (Mismatch) output()       {}
func (SizeChanged) output()    {}

// ElectionResult is how a candidacy ended. The set is closed: it is a metric's label.
type ElectionResult string

// The results.
const (
	// ElectionWon: a quorum granted.
	ElectionWon ElectionResult = "won"
	// ElectionYielded: withdrawn for a lower claim or a primary.
	ElectionYielded ElectionResult = "yielded"
	// ElectionRefused: withdrawn because its timestamp was too low or promises stood in the way.
	ElectionRefused ElectionResult = "refused"
	// ElectionTimedOut: no quorum answered within a lease.
	ElectionTimedOut ElectionResult = "timed_out"
	// ElectionAbandoned: withdrawn because the replica shuts down.
	ElectionAbandoned ElectionResult = "abandoned"
)

package turns

import "time"

// Instant is a reading of a local clock that cannot be set, as the time since an arbitrary origin.
type Instant time.Duration

// Add returns the instant d after i.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub returns how long i is after j; it is negative if i is before j.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i - j) }

// CopyID names a copy: its address, or the name that it gives itself.
type CopyID string

// PollID names one poll. It is the caller's, and never used twice in a term.
type PollID uint64

// Connection names a copy's connection: the replica's process that has it, and its number there. A replica that starts
// again is another.
type Connection struct {
	Replica string
	Number  uint64
}

// Client is who a request comes from.
type Client struct {
	Copy CopyID
	// Address is where the replica that it talks to sees it.
	Address    string
	Connection Connection
	// Age is how long ago the connection was opened. Reused: this is not the first request on it.
	Age    time.Duration
	Reused bool
}

// Update is an update as far as turns depend on it.
type Update struct {
	// ID is Telegram's, above 0.
	ID int64
	// Chat and Query are what a call has to name to be a sign that the update was handled; 0 and empty if there is none.
	Chat  int64
	Query string
	// Expires is when Telegram drops it; 0 if that is far away.
	Expires Instant
	// Raw is the update as Telegram sent it. It MUST NOT be changed.
	Raw []byte
}

// Kind is what a call is, as far as it matters who may make it. The set is closed.
type Kind string

// The kinds of calls.
const (
	// KindStartUp is a call with which frameworks begin, such as getMe. It passes always.
	KindStartUp Kind = "start_up"
	// KindFree changes nothing, or the same in each copy. It passes always.
	KindFree Kind = "free"
	// KindWrite is what only the active copy may do.
	KindWrite Kind = "write"
)

// Reason is why a copy became active, or ceased to be. The set is closed: it is a metric's label.
type Reason string

// The reasons.
const (
	// ReasonFirst: no copy was active.
	ReasonFirst Reason = "first"
	// ReasonEnded: its connections ended as they do when a process ends.
	ReasonEnded Reason = "ended"
	// ReasonStopped: its framework confirmed for the last time, and its connections ended.
	ReasonStopped Reason = "stopped"
	// ReasonGone: its address is no longer there.
	ReasonGone Reason = "gone"
	// ReasonSilent: its poll was due for Config.Patience.
	ReasonSilent Reason = "silent"
	// ReasonRestarted: it has started over. The copy stays the same.
	ReasonRestarted Reason = "restarted"
	// ReasonOperator: an operator moved the turn on.
	ReasonOperator Reason = "operator"
)

// Outcome is what became of an update. The set is closed: it is a metric's label.
type Outcome string

// The outcomes.
const (
	// OutcomeConfirmed: a copy has confirmed it.
	OutcomeConfirmed Outcome = "confirmed"
	// OutcomeExpired: Telegram does not keep it any longer.
	OutcomeExpired Outcome = "expired"
)

// Input is something that happened. The set is closed.
type Input interface{ input() }

// Inputs.
type (
	// Tick says that time has passed.
	Tick struct{}
	// Polled is a getUpdates. An Answer follows, unless the poll ends before.
	Polled struct {
		Poll   PollID
		Client Client
		// Offset, Limit and Timeout are within the bounds of the Bot API; Allowed is empty if it says nothing of kinds.
		Offset  int64
		Limit   int
		Timeout time.Duration
		Allowed string
	}
	// PollEnded says that a poll's client does not wait for the answer any longer.
	PollEnded struct{ Poll PollID }
	// Called is any other call, when it begins. Exactly one output is a Verdict.
	Called struct {
		Client Client
		Kind   Kind
	}
	// Alive says that a call goes on, for example as bytes of an upload arrive, or has ended. After the end of its connection
	// it says nothing.
	Alive struct{ Client Client }
	// Signed says that Telegram has answered a call that names chats or a query, and not with a failure of its own.
	Signed struct {
		Copy CopyID
		// Began is when the call began.
		Began Instant
		Chats []int64
		Query string
	}
	// ConnectionEnded says that a copy's connection has ended.
	ConnectionEnded struct {
		Client Client
		// Closed: the copy's side has closed it. Otherwise the network lost it.
		Closed bool
		// Poll: a poll was open on it.
		Poll bool
		// Idle is how long before its end the last request on it was answered; 0 if it was not.
		Idle time.Duration
		// Ago is how long before this input it ended.
		Ago time.Duration
	}
	// ReplicaLost says that nothing is known any more of the connections and polls that came through a replica.
	ReplicaLost struct{ Replica string }
	// AddressGone says that an address is unreachable for a replica, as found by an attempt that began at Asked. It MUST be given only
	// if the same replica has reached that address before.
	AddressGone struct {
		Address string
		Replica string
		Asked   Instant
	}
	// Batch brings new updates.
	Batch struct{ Updates []Update }
	// Replicated says that a majority of the replicas, this one included, has all deltas up to Seq.
	Replicated struct{ Seq uint64 }
	// Next moves the turn on to another copy.
	Next struct{}
	// Stop ends the giving of updates. What copies confirm still counts.
	Stop struct{}
)

func (Tick) input()            {}
func (Polled) input()          {}
func (PollEnded) input()       {}
func (Called) input()          {}
func (Alive) input()           {}
func (Signed) input()          {}
func (ConnectionEnded) input() {}
func (ReplicaLost) input()     {}
func (AddressGone) input()     {}
func (Batch) input()           {}
func (Replicated) input()      {}
func (Next) input()            {}
func (Stop) input()            {}

// Output is something to do, or to tell. The set is closed.
type Output interface{ output() }

// Outputs.
type (
	// Answer answers a poll, with updates or without.
	Answer struct {
		Poll    PollID
		Updates []Update
	}
	// Verdict tells whether a call may pass. If not, Active says why: empty if no copy is active.
	Verdict struct {
		Pass   bool
		Active CopyID
	}
	// Done says that updates need not be kept by Telegram any longer.
	Done struct {
		IDs     []int64
		Outcome Outcome
	}
	// Allow says which kinds of updates to ask Telegram for, a JSON array.
	Allow struct{ Allowed string }
	// Replicate is what the other replicas have to know before this one ends.
	Replicate struct{ Delta Delta }
	// ActiveChanged tells of a turn that has begun, or, without To, of one that has ended.
	ActiveChanged struct {
		From, To CopyID
		Reason   Reason
		// Again is how many updates that From had confirmed are given again.
		Again int
	}
	// Joined tells of a copy that has polled for the first time, or for the first time after it was dead.
	Joined struct{ Copy CopyID }
	// Died tells of a copy that is dead.
	Died struct {
		Copy   CopyID
		Reason Reason
	}
	// NoSpare answers Next: no other copy waits.
	NoSpare struct{}
)

func (Answer) output()        {}
func (Verdict) output()       {}
func (Done) output()          {}
func (Allow) output()         {}
func (Replicate) output()     {}
func (ActiveChanged) output() {}
func (Joined) output()        {}
func (Died) output()          {}
func (NoSpare) output()       {}

package election

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"
)

// The versions of the messages that replicas exchange. A replica reads and writes those from OldestProtocol to Protocol, and two
// replicas use the newest that both have. Where they have none in common messages are refused and reported, never half
// understood. Any change of a message needs a new version, because messages are decoded strictly.
const (
	// OldestProtocol is that of version 1.0.0. It MUST NOT be above the Protocol of the minor version before, so that replicas
	// one minor version apart work together.
	OldestProtocol = 1
	// Protocol is the newest: since 2 Progress has Notes and Settled, and its answer Unknown.
	Protocol = 2
)

// Speaks reports whether messages of a version are read here.
func Speaks(protocol int) bool { return OldestProtocol <= protocol && protocol <= Protocol }

// MaxText bounds each text in a message, in bytes.
const MaxText = 256

// MaxHandled bounds the updates in a Progress.
const MaxHandled = 1000

// Instant is a reading of a local clock that cannot be set and that runs while the machine sleeps
// (CLOCK_BOOTTIME on Linux), as the time since an arbitrary origin. Instants of two replicas MUST
// NOT be compared; the election never sends one.
type Instant time.Duration

// Add returns the instant d after i.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub returns how long i is after j; it is negative if i is before j.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i - j) }

// ReplicaID names one process for as long as it lives. It is random: a process that starts again is
// another replica, for it has forgotten what the first one promised.
type ReplicaID string

// Claim is the right a replica asks for, or has: to be primary under a timestamp. It is the term's
// identity, the tie-break and the fencing token. The zero Claim stands for none.
type Claim struct {
	// Timestamp is in nanoseconds since the Unix epoch. It may run ahead of the wall clock.
	Timestamp int64     `json:"timestamp_ns"`
	Replica   ReplicaID `json:"replica"`
}

// IsZero reports whether c stands for no claim.
func (c Claim) IsZero() bool { return c == Claim{} }

// Compare orders claims by timestamp, then by replica: negative if c is the lower, that is the
// better one of two candidates.
func (c Claim) Compare(o Claim) int {
	if d := cmp.Compare(c.Timestamp, o.Timestamp); d != 0 {
		return d
	}
	return cmp.Compare(c.Replica, o.Replica)
}

// Time is the claim's timestamp as a wall clock would show it. It may be far ahead of all wall clocks: View.Since is for
// people.
func (c Claim) Time() time.Time { return time.Unix(0, c.Timestamp) }

// Role is what a replica is in the election.
type Role string

// The roles, in the order in which a replica passes through them.
const (
	// Joining: just started; silent until whatever it promised in an earlier life has expired.
	Joining Role = "joining"
	// Looking: knows no primary and is not yet allowed, or not yet willing, to claim.
	Looking Role = "looking"
	// Candidate: has claimed and counts grants.
	Candidate Role = "candidate"
	// Primary: holds a lease from a quorum; it alone runs the bot. It stays primary until the bot
	// has stopped, also while it is stepping down.
	Primary Role = "primary"
	// Standby: follows a primary.
	Standby Role = "standby"
	// Leaving: shutting down; still grants, never claims.
	Leaving Role = "leaving"
)

// Roles are all the roles.
func Roles() []Role { return []Role{Joining, Looking, Candidate, Primary, Standby, Leaving} }

// Reason says why a primary stopped being primary, and so why the next one took over.
type Reason string

// The reasons. The set is closed: they are values of a metric's label.
const (
	// ReasonStart: there was no primary before, as far as the new one knows.
	ReasonStart Reason = "start"
	// ReasonCrash: the old primary's lease ran out and it has not been in contact since.
	ReasonCrash Reason = "crash"
	// ReasonLeaseLost: the old primary could not renew its lease in time.
	ReasonLeaseLost Reason = "lease_lost"
	// ReasonShutdown: the old primary received SIGTERM.
	ReasonShutdown Reason = "shutdown"
	// ReasonSwitchover: an operator moved the role.
	ReasonSwitchover Reason = "switchover"
	// ReasonUnhealthy: the old primary could not poll Telegram while a standby could reach it.
	ReasonUnhealthy Reason = "unhealthy"
	// ReasonLowerPrimary: the old primary met another one with a lower timestamp (quorum below a majority).
	ReasonLowerPrimary Reason = "lower_primary"
	// ReasonPartFailed: a part of the old primary's process died or stalled.
	ReasonPartFailed Reason = "part_failed"
)

// Reasons are all the reasons.
func Reasons() []Reason {
	return []Reason{
		ReasonStart, ReasonCrash, ReasonLeaseLost, ReasonShutdown, ReasonSwitchover, ReasonUnhealthy, ReasonLowerPrimary, ReasonPartFailed,
	}
}

// Refusal says why a claim was not granted.
type Refusal string

// The refusals.
const (
	// RefusedJoining: the granter has just started and does not know what it promised before.
	RefusedJoining Refusal = "joining"
	// RefusedFloor: the claim is below the granter's floor.
	RefusedFloor Refusal = "floor"
	// RefusedHeld: the granter has promised to support another claim.
	RefusedHeld Refusal = "held"
	// RefusedEnded: the claim was withdrawn or released; a late message of it arrived.
	RefusedEnded Refusal = "ended"
	// RefusedLease: the claim was made under another LEASE.
	RefusedLease Refusal = "lease_mismatch"
	// RefusedProtocol: the claim was made under another version of the protocol.
	RefusedProtocol Refusal = "protocol_mismatch"
)

// Refusals are all the refusals.
func Refusals() []Refusal {
	return []Refusal{RefusedJoining, RefusedFloor, RefusedHeld, RefusedEnded, RefusedLease, RefusedProtocol}
}

// Change is one change of primary, as the new primary knows it.
type Change struct {
	Claim Claim `json:"claim"`
	// Name is the new primary's, Previous the old one's; Previous is empty if none was known.
	Name     string `json:"name"`
	Previous string `json:"previous"`
	Reason   Reason `json:"reason"`
	// Witnessed: the replica whose history this is saw the old primary's process end, before its lease ran out. It is set in
	// a View alone, and is never sent to other replicas.
	Witnessed bool `json:"witnessed,omitempty"`
	// Gap is the time without a primary: from the last sign of the old primary's role (its release, its witnessed death, or
	// its last renewal received) to the new one's. It means something only if GapMeasured.
	Gap time.Duration `json:"gap_ns,omitempty"`
	// WonAt is when the new primary took over, by a wall clock: its own where this is its own history, elsewhere the
	// claim's timestamp or, if that lies ahead, the time at which this replica learned of the change. For people: it
	// orders nothing. It is set in a View alone, and is never sent to other replicas.
	WonAt time.Time `json:"won_at,omitzero"`
}

// Since is when the new primary took over, for people.
func (c Change) Since() time.Time {
	if c.WonAt.IsZero() {
		return c.Claim.Time()
	}
	return c.WonAt
}

// GapMeasured reports whether Gap was measured. A primary that knows of none before it cannot tell how long there was
// none: all replicas may have restarted.
func (c Change) GapMeasured() bool { return c.Reason != ReasonStart }

// Health is what a replica knows of its own way to Telegram.
type Health struct {
	// OK: a primary's polls succeed, or a standby reaches Telegram.
	OK bool `json:"ok"`
	// Detail says what is wrong, for people. It never contains a token. It is UTF-8 of at most MaxText
	// bytes in a Status; what else a Machine is given is cut.
	Detail string `json:"detail,omitempty"`
}

// bounded is h as others take it: they refuse a message with a longer text, and its claim with it.
func (h Health) bounded() Health {
	h.Detail = strings.ToValidUTF8(h.Detail, "?")
	if len(h.Detail) > MaxText {
		h.Detail = strings.ToValidUTF8(h.Detail[:MaxText], "") // without half a character at its end
	}
	return h
}

// Status is what a replica says of itself in every message: the ancestor's timestamp broadcast.
type Status struct {
	// Protocol is the version in which the message is written, in a replica's own View its newest.
	Protocol int       `json:"protocol"`
	Replica  ReplicaID `json:"replica"`
	// Name is what people read: habot-bot-2.
	Name    string `json:"name"`
	Version string `json:"version"`
	Role    Role   `json:"role"`
	// Primary is the claim of the primary it follows, its own if it is primary; zero if it knows none.
	Primary Claim `json:"primary"`
	// PrimaryName goes with Primary; empty if not known.
	PrimaryName string `json:"primary_name"`
	// Remaining is what is left of the lease it follows, on its own clock: of its own lease if it
	// is primary, otherwise of its own promise. 0 if there is none.
	Remaining time.Duration `json:"remaining_ns"`
	// Floor: claims below it are refused.
	Floor  Claim  `json:"floor"`
	Health Health `json:"health"`
	// Lease, Replicas and Quorum are its configuration: L, N and q.
	Lease    time.Duration `json:"lease_ns"`
	Replicas int           `json:"replicas"`
	Quorum   int           `json:"quorum"`
	// Change is the last change of primary it knows of.
	Change Change `json:"change"`
}

// ClaimRequest asks for a grant, or renews one (POST /v1/claims).
type ClaimRequest struct {
	From  Status `json:"from"`
	Claim Claim  `json:"claim"`
}

// ClaimAnswer answers a ClaimRequest.
type ClaimAnswer struct {
	From Status `json:"from"`
	// Claim is the request's: late answers are recognized by it.
	Claim   Claim   `json:"claim"`
	Granted bool    `json:"granted"`
	Refusal Refusal `json:"refusal,omitempty"`
	// Holder is the claim that stands in the way, if Refusal is RefusedHeld.
	Holder Claim `json:"holder"`
	// Remaining is how long it will stand in the way: the rest of the promise (RefusedHeld) or of
	// the silence (RefusedJoining).
	Remaining time.Duration `json:"remaining_ns"`
}

// EndRequest withdraws a candidacy or releases a lease (DELETE /v1/claims). A release MUST be sent
// only after the work has stopped.
type EndRequest struct {
	From  Status `json:"from"`
	Claim Claim  `json:"claim"`
	// Released: the claim was a primary's. Otherwise it was a candidate's and never won.
	Released bool   `json:"released"`
	Reason   Reason `json:"reason,omitempty"`
	// Successor, if not empty, is the only one to claim at once; the others hold back for a moment.
	Successor ReplicaID `json:"successor,omitempty"`
}

// Settled names the notes of an earlier term, as one of its messages carried them.
type Settled struct {
	Claim    Claim  `json:"claim"`
	Sequence uint64 `json:"sequence"`
}

// LeaveRequest says that its sender shuts down (POST /v1/leave). A replica of version 1.0.0 does not know it.
type LeaveRequest struct {
	From Status `json:"from"`
	// Departed: it has left, grants nothing any more, and none of its grants is counted. Until then it goes on
	// granting and asks the claimant that has its promise to give it back.
	Departed bool `json:"departed"`
}

// LeaveAnswer answers a LeaveRequest.
type LeaveAnswer struct {
	From Status `json:"from"`
	// Claim is the answerer's own, zero if it has none.
	Claim Claim `json:"claim"`
	// Dismissed: the primary that answers does not count the leaver's grants of Claim any more, nor ever again.
	Dismissed bool `json:"dismissed"`
}

// History is the changes of primary that a replica knows (GET /v1/history), oldest first; at most 100. One that has just started
// asks for it. A replica of version 1.0.0 does not know the question.
type History struct {
	Changes []Change `json:"changes"`
}

// Progress is what the primary tells standbys of the updates it has handled, so that a successor
// skips what its predecessor finished. The election carries it and never looks inside Handled.
type Progress struct {
	Claim Claim `json:"claim"`
	// Sequence grows with each message of a claim: one that was overtaken tells nothing new.
	Sequence uint64 `json:"sequence"`
	// Handled are the ids of updates handled since the last confirmation to Telegram; at most 1000.
	Handled []int64 `json:"handled"`
	// Notes are what else the work wants its successor to know, as it wrote them; at most 1000, 48 KiB together.
	Notes []json.RawMessage `json:"notes,omitempty"`
	// Settled are earlier terms whose notes this one has taken over, as they were then, the newest first; at most 16.
	Settled []Settled `json:"settled,omitempty"`
}

// ProgressAnswer is a standby's to Progress.
type ProgressAnswer struct {
	// WithoutNotes: the standby speaks a version of the protocol that has no notes, and knows none. It is set where the
	// answer is received.
	WithoutNotes bool `json:"-"`
	// Unknown is what an earlier term told, if it has notes that the one who tells has not taken over.
	Unknown *Progress `json:"unknown,omitempty"`
}

// Peer is another replica as this one sees it.
type Peer struct {
	Status Status `json:"status"`
	// Age is how long ago Status was received.
	Age time.Duration `json:"age_ns"`
	// Reachable: in contact recently enough to count.
	Reachable bool `json:"reachable"`
	// Lifeline: the kernel will tell this replica when the other's process ends. It is left to the caller.
	Lifeline bool `json:"lifeline,omitempty"`
}

// Mismatched is a replica in contact whose configuration keeps it from taking part with this one.
type Mismatched struct {
	Name   string  `json:"name"`
	Reason Refusal `json:"reason"`
	// Theirs is what it has there, for people.
	Theirs string `json:"theirs"`
}

// View is everything a replica knows, for operators, the bot and metrics.
type View struct {
	Mode string `json:"mode"` // primary-backup or bot-only
	Self Status `json:"self"`
	// Peers are sorted by name, then id; Self is not among them.
	Peers []Peer `json:"peers"`
	// Mismatched are sorted by name; they are not among Peers.
	Mismatched []Mismatched `json:"mismatched,omitempty"`
	// Expected is N as in force: configured, or the larger number observed. Reachable counts Self.
	Expected  int `json:"expected"`
	Reachable int `json:"reachable"`
	Quorum    int `json:"quorum"`
	// History is the changes of primary known here, oldest first; at most 100.
	History []Change `json:"history"`
}

// Since is when the holder of a claim took over, for people: as in History if it is there.
func (v View) Since(c Claim) time.Time {
	for _, h := range v.History {
		if h.Claim == c {
			return h.Since()
		}
	}
	return c.Time()
}

// Known reports whether this replica knows a primary now, itself included.
func (v View) Known() bool { return !v.Self.Primary.IsZero() }

// IsPrimary reports whether this replica is primary.
func (v View) IsPrimary() bool { return v.Self.Role == Primary }

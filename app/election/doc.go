// Package election decides which replica is primary. It is a pure state machine: a clock reading and
// an input go in, outputs come out. No I/O, no goroutine, no lock, no logging, no clock of its own.
//
// What it does not guarantee, first:
//
//   - NOT exactly-once. A crash may make the next primary handle an update again.
//   - NOT fencing inside Telegram. A request that was already on the wire when the lease ended cannot
//     be recalled.
//   - NOT safety below a majority. With Quorum below a majority every partition keeps a primary;
//     when partitions meet, the higher timestamp steps down.
//
// What it does:
//
//   - SAFETY. With a majority quorum at most one replica acts as primary at any instant, whatever
//     messages are lost, delayed, duplicated or reordered, whichever replicas crash, restart or are
//     frozen, however wall clocks are set. It rests on five assumptions, which SAFETY.md states: on clock
//     rates (those of any two local clocks differ by less than DriftBound), identity, the number of
//     replicas, one lease, and membership.
//   - ORDER. Timestamps of successive primaries strictly increase, as long as the new primary's
//     majority holds one replica that granted the last term and has not restarted since.
//   - NO PREEMPTION. A healthy primary is never displaced by a newcomer whose clock runs behind.
//   - LIVENESS. When a majority can talk to each other, there is a primary within a lease and a few
//     round trips.
//   - LEAVING. A replica that leaves in order is counted out once no claimant counts its grant: those that
//     stay need no larger quorum on its account.
//   - IN TURN. Of replicas that leave at once a primary acts on until one that stays can take over, as long as newcomers show
//     themselves.
//   - LOWEST WINS. Of candidates that receive each other's claims the lowest wins; nothing is random.
//
// The protocol is a diskless lease in the family of PaxosLease (Trencséni, Gazsó, Reinhardt,
// arXiv:1209.4187) with the lowest timestamp in place of ballots.
//
// The caller's duties:
//
//   - Step MUST be called from one goroutine at a time, with readings that never go back.
//   - Step MUST be called with Tick no later than Next says; later is safe but slow.
//   - The bot MUST NOT start before StartWork, MUST send nothing once a lease's WorkUntil has passed
//     on the local clock, and MUST be stopped on StopWork; WorkStopped MUST be given only after its last
//     request has ended.
//   - ProcessDied MUST be given only when it is certain that the process has ended: a quiet replica is not a dead one.
//   - SentAt of an answer MUST be read before the request left.
//   - Outputs MUST be carried out in order: a LeaveReply that dismisses is sent only after the lease was
//     shortened.
//   - On Halt the process MUST exit at once.
//
// This room imports the standard library only.
package election

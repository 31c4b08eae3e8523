// Package turns decides which copy of a polling bot is active, and what each poll is given. It is a pure state machine:
// a clock reading and an input go in, outputs come out. No I/O, no goroutine, no lock, no logging, no clock of its own.
// TURNS.md has the argument for what follows, and its assumptions.
//
// What it does not guarantee, first:
//
//   - NOT exactly once. What a copy was given and did not confirm is given to the next one, and what it confirmed and
//     showed no sign of having handled is given once more, though it may have been handled.
//   - NOT that a copy that is replaced has stopped. It is refused what it writes from then on.
//   - NOT a replay of what showed a sign, of more than MaxReplay updates or MaxReplayBytes, or of an update more often
//     than MaxAgain.
//
// What it does:
//
//   - ONE. At most one copy is active: it alone is given updates, and its writes alone pass, beside those of clients
//     that do not poll and of copies that are starting up.
//   - CONFIRMED. An update is confirmed to Telegram only if a copy that was given it has confirmed it, or if it
//     has expired.
//   - REPLAY. What the active copy was given within Config.Replay before it was last known to live, and confirmed, but
//     showed no sign of having handled, is given to its successor; also if the primary ends at the same time.
//   - ORDER. What a copy is given comes in Telegram's order, from the first update that is not confirmed on.
//   - STABLE. A copy stays active until it is dead by the rules below, an operator moves its turn on, or it starts over
//     (which is a turn of its own). A primary that takes over keeps the copy.
//   - HANDED ON. A copy that is dead is replaced at once by the one that has waited longest.
//
// The caller's duties:
//
//   - Step MUST be called from one goroutine at a time, with readings that never go back, and with Tick no later than
//     Next says; later is safe but slow.
//   - Outputs MUST be carried out in order, and only while the term's lease holds.
//   - What a Replicate holds MUST be given to the other replicas' Mirror, and Replicated MUST be given once a majority has
//     it: until then updates are not confirmed to Telegram. A primary that takes over MUST begin with the freshest Mirror of
//     all replicas that can be reached.
//   - Batch MUST bring each update once in a term, in Telegram's order, and no more than a hundred that are not Done.
//   - ConnectionEnded MUST be given only for connections that the copy or the network ended, not for those that the
//     replica closed or lost because it ended itself.
//
// This room imports the standard library only.
package turns

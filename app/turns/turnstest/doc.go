// Package turnstest runs a primary's turns among simulated replicas, copies of polling bots and Telegram, in virtual
// time, deterministically from a seed, and checks what turns guarantees: see Guarantee for what exactly is asserted.
//
// Its copies behave like real frameworks: they confirm before or after they handle, keep connections or not, begin at
// offset 0, 1 or -1, say farewell or not, send when they start and once a second, think for up to 80 s, and ignore
// updates. Its faults: copies that are killed, terminated, frozen, cut off, started over; replicas that crash, a primary
// and the active copy at once, a primary that does not run for a moment, deltas that come late or not at all; requests
// that are late. Many strike at a moment, such as right after an answer.
//
// One command runs as many schedules as wanted, from any seed on, and fails if a kind of fault, input or output never
// occurred in 2,000 or more:
//
//	go test ./app/turns/turnstest -run Random -v -schedules 20000 -seed 1
//
// A failure is shrunk to the faults that it needs. With -seed alone it tells its story.
//
// This room imports turns and the standard library only.
package turnstest

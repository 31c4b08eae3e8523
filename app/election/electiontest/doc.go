// Package electiontest runs whole clusters of election machines on a simulated network in virtual
// time, deterministically from a seed, and checks the election's guarantees after every event.
//
// Its faults: loss, delay, reordering, duplication, one-way and partial partitions, crash and restart
// with memory lost, freeze and wake, clock drift at the bound, wall clocks that jump by hours,
// flapping health, bots that die, hand-overs, shutdowns, resizes, and strangers under another lease.
// Its tests count every fault and every output, and fail if one never occurred.
//
// Its command mutants breaks one rule of the election at a time and expects the tests to notice.
//
// This room imports election and the standard library only.
package electiontest

// Package electiontest runs whole clusters of election machines on a simulated network in virtual
// time, deterministically from a seed, and checks the election's guarantees after every step: see
// Guarantee for what exactly is asserted, and the constants Recovery, Takeover and HandOver for the bounds
// of LIVENESS.
//
// Its faults: loss, delay, reordering, duplication, one-way and partial partitions, crash and restart
// with memory lost, freeze and wake, clock drift at the bound, wall clocks that jump by hours or all show the
// same, flapping health, bots that die, hand-overs, shutdowns, resizes up and down, another REPLICAS or
// QUORUM, and incompatible hosts under another lease or protocol. Deaths are witnessed by all, some or none, at once
// or late. Half of them strike the primary, many at a moment,
// such as the next grant, and many last about as long as a lease, since faults at random times are too tame.
//
// One command runs as many schedules as wanted, from any seed on, and fails if a fault, an output, a
// change of role, or a role with a promise in a context never occurred in 5,000 or more:
//
//	go test ./app/election/electiontest -run Random -v -schedules 100000 -seed 1
//
// A failure is shrunk to a list of faults that people can read. With -seed alone it tells its story; with
// -keep it becomes a file in testdata/kept, which is replayed by every run of the tests.
//
// A checker that cannot fail is worth nothing: the tests have every check fail on purpose, and the command
// mutants breaks one rule of the election at a time and expects the tests to notice.
//
// This room imports election and the standard library only.
package electiontest

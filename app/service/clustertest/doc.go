// Package clustertest runs whole replicas against a simulated Telegram in one process and in virtual time
// (testing/synctest): the real node with its goroutine, sender and timers, the real bot with its poll
// loop, and the real simulator, from a seed. Between them is a network in memory. All of it is tests.
//
// Its faults: messages between replicas and requests to Telegram that are lost, late, doubled, or cut off
// one way or both; requests that a proxy answers with 500 or 502, also when the server took them in, or
// whose answer is lost; a Telegram that is down, hangs, limits, refuses, or has a webhook set; ids that
// start again lower; crash, freeze and wake, orderly stop, restart with the memory lost, switchover;
// clocks that drift at the bound and wall clocks that jump by hours. Every eighth schedule is orderly:
// nothing but stops, switchovers and wall clocks, of which no user may notice anything. In half of the schedules
// the other processes learn of the end of one within moments, as over lifelines. In every third one of the replicas is a
// witness, which has no bot. Other schedules scale
// in from more replicas than REPLICAS amid all of these.
//
// A crash takes a process's doors away: what had left still arrives, nothing leaves or comes in any more,
// and what is left of its goroutines ends unheard. A freeze shuts the doors and stops the clock, which then
// jumps. The goroutines of a bubble cannot be stopped; one whose clock stands still is like one that ran
// just before the freeze, and what it says is said after it. Its timers fire for nothing meanwhile: one
// wake-up of the loop stands for them.
//
// It judges by the simulator's account and by its own, which asks no replica: who granted what by which clock,
// what left which process when, what arrived. A request of a term may leave only while the promises of a majority
// stand, by the clocks of those who gave them; while no other replica holds a lease; and never after one of a
// newer term. Timestamps of terms increase. Every update is answered, those of a chat in order, and twice
// only where a crash, a lost lease or something lost on its way explains it. What a replica knows to be
// handled it does not answer. No live part goes without a sign of life for longer than it promised its
// watcher, no process halts without cause, and a stop ends in time. No process counts fewer replicas than run and
// have not announced that they have left. Once all is mended a poll is answered
// within a bound, and then everything that waits.
//
// What is drawn from the seed is the schedule and the fate of every message, by its way and number. The
// order of goroutines at one instant, the choice of a select, the bot's jitter and the simulator's first
// id are not: most seeds that fail do so each time, not all. So a failure tells the story of that very run.
//
// What it cannot show: a loop or a goroutine that stands still alone, a scheduler that starves them, the
// wire format, TLS, name servers, and quorums below a majority. Those have tests of their own.
//
// It may import node, bot, simulator, supervise, election and, for copies, service, gateway, peer and turns: it puts them together as
// service does.
package clustertest

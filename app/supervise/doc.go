// Package supervise runs the components of a replica and ends the process when one of them fails.
//
// It owns the watchdog, the self-checks of the replica's own servers, the order of starting and stopping (the
// election starts last and stops first), and the exit policy: a component that dies or stalls makes the replica
// step down and exit non-zero.
//
// How soon: a component that ends is noticed at once. One that stalls is noticed when its promise has passed; for the
// election loop and the servers' handlers that is Patience. The replica then has 7/20 of a lease to leave before the process
// is ended. Together that is one lease, or 300 ms + 7/20 of a lease where that is longer (a LEASE below 462 ms). The
// poll loop and the chats promise what their requests to Telegram may take, or the wait that Telegram asked for, so a
// stall there is noticed after up to 11 s, or after that wait. On a starved machine the time by which the watchdog's own
// checks came late does not count, and there is grace of one lease, once: in a process that uses up a quota of a tenth
// of a processor a stall is reported within 0.4 to 2.1 s.
//
// It may import the standard library alone.
package supervise

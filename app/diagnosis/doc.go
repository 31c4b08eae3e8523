// Package diagnosis states in plain words what a replica knows: whether the bot answers and if not why, what else is
// wrong, why the primary changed, and why a switchover is refused. The command line, the operators' addresses, the log and
// the bot's messages use the same words.
//
// It is pure: no clock, no I/O. It may import election alone.
package diagnosis

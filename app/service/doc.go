// Package service is the one place where the rooms meet: it makes the parts of a replica, starts them
// in order, the election last, watches them, and stops the election first.
//
// It owns what a process does when one of its parts dies or stalls: step down, and exit non-zero within
// the lease. It may import every room but the simulator's rules, and decides nothing of theirs.
package service

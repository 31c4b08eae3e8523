// Package service is the one place where the rooms meet: it makes the components of a replica, wires them, and hands
// them to supervise to run.
//
// It may import every room but the simulator's rules, and decides nothing of theirs.
package service

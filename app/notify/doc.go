// Package notify decides which notifications admins get of changes of primary and of what is wrong: what, when, from
// which replica, and in which words.
//
// It owns the bound on messages, and what counts as sent. It sends nothing, reads no clock and starts no
// goroutine: its user gives it one snapshot after the other, and sends what it returns.
//
// It may import election, diagnosis and golang.org/x/time/rate.
package notify

// Package telling decides what the admins are told of changes of primary and of what is wrong: what, when, by
// which replica, and in which words.
//
// It owns the bound on messages, and what counts as told. It sends nothing, reads no clock and starts no
// goroutine: whoever uses it gives it one look after the other, and sends what it says.
//
// It may import election alone.
package telling

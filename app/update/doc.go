// Package update splits what getUpdates answers into raw updates, and reads of each the little that decides where it
// goes: its id, kind, queue, chat, query and date.
//
// It owns the bytes of an update: they stay exactly as received, so that fields, kinds and numbers that this version
// of habot does not know reach the user's bot unchanged. It is pure: no I/O, no clock, no goroutine.
//
// It imports the standard library only.
package update

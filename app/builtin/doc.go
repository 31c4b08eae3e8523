// Package builtin is the bot that comes along: commands and texts.
//
// It owns what is answered, and which chat gets it; a developer who wants a bot in Go begins with replies in commands.go. It reads
// updates with telego, by itself: parts of an update that this version of telego does not know are left out. It does not own
// order, slots and confirmation (queues, intake), or how a message is sent (message).
//
// It may import admins, diagnosis, logging, message, queues, telegram, update and telego.
package builtin

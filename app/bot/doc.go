// Package bot is a replica's side towards Telegram: the poller, the built-in commands, the health of
// the way to Telegram, and sending the admins their notifications.
//
// It owns when an update counts as handled and when it is confirmed. It never decides who is primary:
// it is told when to run, asks before each request whether it still may, and stops when told. Outside a term
// it asks Telegram who it is, and writes to admins; nothing else leaves, which the transport sees to.
//
// It may import election, diagnosis, logging, notify, telego, client_golang and golang.org/x/sys.
package bot

// Package bot is a replica's side towards Telegram: the poller, the built-in commands, the health of
// the way to Telegram, and telling the admins of changes of primary.
//
// It owns when an update counts as handled and when it is confirmed. It never decides who is primary:
// it is told when to run, asks before each request whether it still may, and stops when told.
//
// It may import election, telego and client_golang.
package bot

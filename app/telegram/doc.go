// Package telegram is the one way to Telegram. Each request of a replica leaves here, and nowhere else.
//
// It owns the token, which is in no error and no log line, the check of the lease right before a request leaves, the
// connections, the bounds of an answer, and what an error means for what to do next. It decides nothing about who is
// primary, and tries nothing again. Outside a term only those requests leave that conflict with no primary: getMe,
// getWebhookInfo, the download of a file, and sendMessage to an admin.
//
// It may import client_golang and golang.org/x/sys.
package telegram

// Package simulator is a faithful stand-in for the Telegram Bot API: the rules of getUpdates, webhook
// conflicts, errors and parameter encodings of the real server (tdlib/telegram-bot-api), for one bot.
// It plays the users too, and keeps account of what became of every update and of every poll.
//
// It owns everything beneath the Bot API's address and decides nothing about replicas: it is what
// they are judged by, so it imports nothing of theirs. The rules (queue, updates, account) are pure
// and take the time as an argument; server, users and control are the shell around them.
//
// It does not deliver to webhooks: it only keeps their settings and the conflicts they cause. Of the
// marked-up texts it parses HTML alone, and the messages it answers with show no reply_to_message.
//
// Its page shows what it sees, live. The page's model and files are in playground; what it has in common with the replicas'
// page is in page. It may import those, gin and client_golang.
package simulator

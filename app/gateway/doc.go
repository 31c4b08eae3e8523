// Package gateway is the local Bot API server that copies of an unmodified polling bot use (BACKEND=gateway).
//
// It owns the port, the check of tokens, what is answered here and never passed on, the way of calls and files through to
// Telegram, and the loop that drives turns for a term. Whose turn it is turns decides; how a request is read and an answer
// written botapi knows; what leaves for Telegram leaves through telegram.
//
// It may import botapi, intake, listener, logging, peer, telegram, turns, update, gin and client_golang.
package gateway

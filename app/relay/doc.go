// Package relay hands updates to webhook backends, as Telegram's own server does: one POST for each update, a 2xx
// answer means handled, anything else is tried again.
//
// It owns which backend an update goes to, how a backend's state is known, the attempts, when an update is given up,
// and the calls of the Bot API that backends answer with. It does not own the order of updates (queues), when an
// update is confirmed, or the way to Telegram: calls leave by the Forwarder that it is given. The choice (fleet), the
// attempts and the reading of answers are pure; Relay is the shell around them.
//
// It may import logging, message, queues, telegram, update and client_golang.
package relay

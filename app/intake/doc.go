// Package intake is where updates come in: it polls for a term, gives what is new to a consumer, and confirms to Telegram
// what is handled.
//
// It owns the poll loop, when an update counts as handled and when it is confirmed, what the standbys receive of that,
// removing a webhook, and the end of a term: to drain, and to confirm once more. It does not know who handles updates. It
// never decides who is primary: its caller decides when it runs and when it stops.
//
// It may import diagnosis, reach, telegram, term, update and client_golang.
package intake

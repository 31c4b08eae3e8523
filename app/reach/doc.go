// Package reach judges the way to Telegram, and makes the replica's health of it: probes on a standby, polls on a primary.
//
// It owns the probes, when health turns bad and good again, why Telegram refuses the bot (trouble), and how long answers
// take. It decides nothing about who is primary, and polls nothing: intake tells it how its polls went. The tracker is pure;
// Reach is the shell around it.
//
// It may import diagnosis, election, telegram and client_golang.
package reach

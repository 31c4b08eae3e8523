// Package doctor checks what a replica needs, and writes one line a check: fine, or what is wrong and what to do.
//
// It owns the checks, their levels and their words. A check is a function of the configuration and of what Probes
// return; World is the thin shell that asks network, files and the system. Nothing here polls, claims or changes
// anything: replicas are asked for their status and for copies of a polling bot, Telegram for getMe and getWebhookInfo, and
// connections are made and closed. Each probe is bounded, and independent checks run at the same time; the order of lines is fixed.
//
// No line contains a secret: lines are made without them, and what another side wrote is searched for them.
//
// It may import config, diagnosis, election (for Status), gateway (for Snapshot), lifeline, peer, relay, telegram, and
// client_golang for the registries that those want.
package doctor

// Package web is what operators talk to: health, role, cluster, history, switchover and metrics over
// HTTP, and the client behind the command line's healthcheck, status and switchover.
//
// It owns those addresses and who may do what there: everything is read-only but the switchover and moving
// the turn on to another copy, which take the administrators' token, or the key that the command line in the same container derives from its
// configuration. It decides nothing: what it shows and does is the replica's. Its page shows the same
// live to a few watchers. It may import diagnosis, election, gateway, listener, page, relay, gin and client_golang.
package web

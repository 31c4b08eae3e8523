// Package node runs one replica's election: one goroutine owns the machine; around it are its timers,
// its messages to the other replicas, and the work that only the primary does.
//
// It owns the lease that the work is held to, the fail-stop, and what the primary tells standbys of
// its progress. It decides nothing: the election does. It knows no HTTP, no Telegram and no
// environment; what it needs of those it is given.
//
// It may import election, logging, term, client_golang and x/sys.
package node

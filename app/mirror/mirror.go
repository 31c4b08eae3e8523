// Package mirror keeps on each replica what the others have to know of the primary's turns.
//
// It owns the encoding of what is sent, the sending to all replicas, the count of those that have it, and the search for the
// freshest when a term begins. What is sent it does not judge: turns does.
//
// It may import turns and client_golang.
package mirror

import (
	"context"

	"habot/app/turns"
)

// Transport reaches the other replicas, by address. It MUST be safe for concurrent use and honour contexts.
type Transport interface {
	// Addresses are where other replicas may be now; a copy.
	Addresses() []string
	// Message takes a message there, and its answer back.
	Message(ctx context.Context, addr string, body []byte) ([]byte, error)
}

// Cluster is what the election knows of the replicas.
type Cluster struct {
	// Quorum is how many make a majority, Expected how many there are to be.
	Quorum, Expected int
	// Reachable are the processes of others that are reachable.
	Reachable []string
}

// Mirror is one replica's. It is safe for concurrent use.
type Mirror struct{}

// Receive takes a message of another replica and returns the answer to it.
func (m *Mirror) Receive(ctx context.Context, body []byte) ([]byte, error) { return nil, ctx.Err() }

// Begin, Replicate and End are gateway.Replicas.
var _ turns.Delta

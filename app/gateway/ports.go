package gateway

import (
	"context"
	"sync"
	"time"

	"habot/app/turns"
)

// Replicas is what the gateway needs of the other replicas for one term after the other. Its methods are safe for concurrent
// use.
type Replicas interface {
	// Begin returns what a term begins from: the state of the freshest Mirror of all replicas that can be reached, this one
	// included, as of its return. It waits no longer than a bound of its own, or until ctx ends. term is the claim's timestamp; terms
	// rise. replicated is to be called once a majority, this replica included, has all deltas up to seq. It never blocks, and is safe
	// for concurrent use.
	Begin(ctx context.Context, term int64, replicated func(seq uint64)) turns.State
	// Replicate hands a delta of the term that began last to the others, in order. It never blocks.
	Replicate(d turns.Delta)
	// End says that no delta of the term follows.
	End()
}

// Alone is Replicas of a replica without others: what it has, a majority has. Its zero value is ready.
type Alone struct {
	mu         sync.Mutex
	replicated func(seq uint64)
	mirror     turns.Mirror
	began      time.Time
}

// Begin implements Replicas.
func (a *Alone) Begin(_ context.Context, _ int64, replicated func(seq uint64)) turns.State {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.began.IsZero() {
		a.began = time.Now()
	}
	a.replicated = replicated
	return a.mirror.State(turns.Instant(time.Since(a.began)))
}

// copies are the addresses of copies.
func (a *Alone) copies() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mirror.State(turns.Instant(time.Since(a.began))).Addresses()
}

// Replicate implements Replicas.
func (a *Alone) Replicate(d turns.Delta) {
	a.mu.Lock()
	a.mirror.Apply(turns.Instant(time.Since(a.began)), d)
	replicated := a.replicated
	a.mu.Unlock()
	replicated(d.Seq)
}

// End implements Replicas.
func (a *Alone) End() {}

// Origin is where a request entered: the replica that the client talks to, and the connection there.
type Origin struct {
	// Replica is the process of that replica: one that starts again is another.
	Replica string
	// Address is the client's, without its port.
	Address string
	// Connection is its number there, opened Age ago; Reused: this is not the first request on it.
	Connection uint64
	Age        time.Duration
	Reused     bool
	// Waited is how long the request has waited so far: a poll is held that much less, for a second at least.
	Waited time.Duration
}

// client is who a request comes from. The name is the one in its path; without one it is known by its address.
func (o Origin) client(name string) turns.Client {
	id := turns.CopyID(o.Address)
	if name != "" {
		id = turns.CopyID(name)
	}
	return turns.Client{
		Copy: id, Address: o.Address, Age: o.Age, Reused: o.Reused,
		Connection: turns.Connection{Replica: o.Replica, Number: o.Connection},
	}
}

package turns

import (
	"math"
	"time"
)

// Config is what an operator sets.
type Config struct {
	// Patience is how long the active copy's poll may be due without any request of it (GATEWAY_PATIENCE).
	Patience time.Duration
	// Replay is how long what a copy was given and confirmed is kept for its successor (GATEWAY_REPLAY); 0 keeps nothing.
	Replay time.Duration
}

// Bounds.
const (
	// MaxCopies is how many copies are remembered, dead ones included.
	MaxCopies = 500
	// MaxReplay and MaxReplayBytes bound what is kept to be given again.
	MaxReplay      = 1000
	MaxReplayBytes = 1 << 20
	// MaxAgain is how often an update that was confirmed is given again: one that ends each process that gets it must not
	// end them for ever.
	MaxAgain = 3
	// MaxAnswer bounds the updates in an answer, in bytes; one update may be larger. It is the real server's.
	MaxAnswer = 4 << 20
	// maxPolls and maxConnections bound what one copy may have open here. A framework that handles updates side by side has a
	// connection for each of them; telego's client opens 512 at most.
	maxPolls       = 8
	maxConnections = 512
)

// never is after all that happens.
const never = Instant(math.MaxInt64)

// Times.
const (
	// quiet is how long nothing may come from a copy, whose connection ended as if it were dead, until it is.
	quiet = time.Second
	// lastUse is how long after its last use a connection that ends may be idle to be a sign of death: no framework
	// closes idle connections before 4 s.
	lastUse = 3 * time.Second
	// skew is by how much the ends of connections that end together may seem to differ: they are reported by several replicas.
	skew = 10 * time.Millisecond
	// minHold is how long an empty answer is held at least, for a copy that polls without a pause.
	minHold = 3 * time.Second
	// oneAtATime is how soon after a poll the same offset is given a single update, as by the real server.
	oneAtATime = 500 * time.Millisecond
	// maxHold bounds a poll's timeout, as the real server does.
	maxHold = 50 * time.Second
	// overslept is by how much a step is late when time has passed that this process did not see.
	overslept = 300 * time.Millisecond
	// forget is how long a copy is remembered that makes no request.
	forget = 24 * time.Hour
	// beyond is how far past the newest update an offset is still believed, as by the real server.
	beyond = 10
)

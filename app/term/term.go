// Package term is what the work of a primary is given: one role as primary, from its start to its end.
//
// It owns no behaviour: the node makes a term, the wiring adds the watchdog, and intake, queues and handlers are given
// what they need of it.
//
// It may import election.
package term

import (
	"context"
	"encoding/json"
	"time"

	"habot/app/election"
)

// Term is one role as primary, as the work sees it. Its functions are safe for concurrent use.
type Term struct {
	// Change says how the role came here.
	Change election.Change
	// Held tells whether the lease still allows a request to leave, or an answer to be handled. It is cheap.
	Held func() bool
	// Drain is closed when the work is to finish what it has in hand and return.
	Drain <-chan struct{}
	// Handled are updates that the predecessor finished and may not have confirmed.
	Handled []int64
	// Report tells the standbys what has been handled since the last confirmation. It never blocks.
	Report func(handled []int64)
	// Notes are what earlier terms' work noted last, as far as this replica knows. Gather waits, two seconds at most, until so
	// many others have been asked that all is known. Late returns what another knows beyond that, and waits for it; false if
	// there is none when ctx ends. settle MUST be called once that is among what is noted, and not before.
	Notes  []json.RawMessage
	Gather func(ctx context.Context)
	Late   func(ctx context.Context) (notes []json.RawMessage, settle func(), ok bool)
	// Note tells the standbys, from now on with each report, what else the successor is to know; it replaces what was noted
	// before. It never blocks. Noted tells whether so many know the latest that the successor will: every replica that is
	// reachable, and with this one a majority of all there are to be. It asks the loop, and so takes a moment.
	Note  func(notes []json.RawMessage)
	Noted func() bool
	// Expect promises the watchdog that a part of the work, the poll loop or a queue, calls it again within d; 0 ends the
	// part's promise. The node leaves it to the wiring.
	Expect func(part string, d time.Duration)
}

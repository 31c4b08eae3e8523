package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"habot/app/turns"
)

// What a replica has seen of copies it reports to the primary, in order. It waits for one if there is none.
const (
	// maxReports wait; of more the oldest are dropped. maxReported go in one message.
	maxReports  = 1024
	maxReported = 100
	// endsFor is how long the end of a connection is worth a report, and seenFor how long anything else.
	endsFor = time.Minute
	seenFor = 3 * time.Second
	// reportAgain is how soon a report is tried again, and reportBound bounds one attempt.
	reportAgain = 100 * time.Millisecond
	reportBound = 3 * time.Second
	// maxReport bounds a message of reports.
	maxReport = 256 << 10
)

// reports are what waits to be reported.
type reports struct {
	mu      sync.Mutex
	waiting []seen
	stirred chan struct{}
}

// seen is something that was seen at a time.
type seen struct {
	in turns.Input
	at time.Time
}

// report is one of them on its way to another replica. Exactly one of its inputs is not nil.
type report struct {
	Ago    time.Duration
	Ended  *turns.ConnectionEnded `json:",omitempty"`
	Called *turns.Called          `json:",omitempty"`
	Gone   string                 `json:",omitempty"` // an address that By does not reach
	By     string                 `json:",omitempty"`
}

func (r *reports) stir() {
	select {
	case r.stirred <- struct{}{}:
	default:
	}
}

// Saw has the primary know of something that this replica has seen of copies: turns.ConnectionEnded, turns.Called or
// turns.AddressGone. It does not block.
func (p *Passer) Saw(in turns.Input) {
	p.reports.mu.Lock()
	defer p.reports.mu.Unlock()
	p.waiting = append(p.waiting, seen{in, time.Now()})
	if len(p.waiting) > maxReports {
		p.waiting = p.waiting[1:]
	}
	p.stir()
	p.flush()
}

// flush reports here what waits, if this replica acts. It MUST be called with the reports' mu held.
func (p *Passer) flush() {
	if act, _ := p.acts(); act == nil {
		return
	}
	for _, s := range p.fresh(time.Now()) {
		p.cfg.Report(p.since(s.in, time.Since(s.at)))
	}
	p.waiting = nil
}

// fresh drops what is not worth a report any more, and returns the rest. It MUST be called with the reports' mu held.
func (p *Passer) fresh(now time.Time) []seen {
	kept := p.waiting[:0]
	for _, s := range p.waiting {
		worth := seenFor
		if _, ended := s.in.(turns.ConnectionEnded); ended {
			worth = endsFor
		}
		if now.Sub(s.at) < worth {
			kept = append(kept, s)
		}
	}
	p.waiting = kept
	return kept
}

// since is an input that was seen ago.
func (p *Passer) since(in turns.Input, ago time.Duration) turns.Input {
	switch in := in.(type) {
	case turns.ConnectionEnded:
		in.Ago += ago
		return in
	case turns.AddressGone:
		in.Asked = min(in.Asked, p.now().Add(-ago))
		return in
	}
	return in
}

func (p *Passer) now() turns.Instant {
	if p.cfg.Now == nil {
		return 0
	}
	return p.cfg.Now()
}

// report reports what waits until ctx ends.
func (p *Passer) report(ctx context.Context) {
	for {
		var again <-chan time.Time
		_, acts := p.acts()
		primary, addr, moved := p.cfg.Primary()
		p.reports.mu.Lock()
		p.flush()
		waiting := p.fresh(time.Now())
		batch := append([]seen{}, waiting[:min(len(waiting), maxReported)]...)
		p.reports.mu.Unlock()
		switch {
		case len(batch) == 0:
		case primary == "" || primary == p.cfg.Self:
		case addr == "" || p.send(ctx, addr, batch) != nil:
			again = time.After(reportAgain)
		default:
			p.reported(batch)
			p.stir()
		}
		select {
		case <-p.stirred:
			if again == nil {
				continue
			}
			select { // not at once again
			case <-again:
			case <-acts:
			case <-moved:
			case <-ctx.Done():
				return
			}
		case <-again:
		case <-acts:
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}

// reported drops what has been sent: it is what waits first, unless that was dropped meanwhile.
func (p *Passer) reported(batch []seen) {
	p.reports.mu.Lock()
	defer p.reports.mu.Unlock()
	last := batch[len(batch)-1].at
	for n := len(batch); n > 0 && len(p.waiting) > 0 && !p.waiting[0].at.After(last); n-- {
		p.waiting = p.waiting[1:]
	}
}

// send takes reports to the primary.
func (p *Passer) send(ctx context.Context, addr string, batch []seen) error {
	ctx, cancel := context.WithTimeout(ctx, reportBound)
	defer cancel()
	var all []report
	for _, s := range batch {
		r := report{Ago: time.Since(s.at)}
		switch in := s.in.(type) {
		case turns.ConnectionEnded:
			r.Ended = &in
		case turns.Called:
			r.Called = &in
		case turns.AddressGone:
			r.Gone, r.By = in.Address, in.Replica
			r.Ago = max(r.Ago, p.now().Sub(in.Asked))
		default:
			continue
		}
		all = append(all, r)
	}
	raw, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("encode what was seen of copies: %w", err)
	}
	return p.cfg.Message(ctx, addr, raw)
}

// ErrReport says that a message is none of reports: malformed, or out of bounds.
var ErrReport = errors.New("not a valid report of what was seen of copies")

// decodeReports reads a message of reports.
func decodeReports(raw []byte) ([]report, error) {
	if len(raw) > maxReport {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrReport, maxReport)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	var all []report
	if err := d.Decode(&all); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows", ErrReport)
	}
	if len(all) > maxReported {
		return nil, fmt.Errorf("%w: more than %d", ErrReport, maxReported)
	}
	for _, r := range all {
		spans := []time.Duration{r.Ago}
		if r.Ended != nil {
			spans = append(spans, r.Ended.Idle, r.Ended.Ago, r.Ended.Client.Age)
		}
		if r.Called != nil {
			spans = append(spans, r.Called.Client.Age)
		}
		for _, d := range spans {
			if d < 0 || d > 10*365*24*time.Hour {
				return nil, fmt.Errorf("%w: a duration is out of bounds", ErrReport)
			}
		}
	}
	return all, nil
}

// Receive takes what another replica has seen. An error says that it was not taken, and is to be sent again.
func (p *Passer) Receive(raw []byte) error {
	all, err := decodeReports(raw)
	if err != nil {
		return err
	}
	if act, _ := p.acts(); act == nil {
		return ErrNotPrimary
	}
	for _, r := range all {
		switch {
		case r.Ended != nil:
			p.cfg.Report(p.since(*r.Ended, r.Ago))
		case r.Called != nil:
			p.cfg.Report(*r.Called)
		case r.Gone != "":
			p.cfg.Report(turns.AddressGone{Address: r.Gone, Replica: r.By, Asked: p.now().Add(-r.Ago)})
		}
	}
	return nil
}

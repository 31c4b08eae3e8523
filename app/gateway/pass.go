package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"habot/app/botapi"
	"habot/app/turns"
)

// ErrNotPrimary says that this replica does not act: nothing was done, and nothing of an answer was written.
var ErrNotPrimary = errors.New("this replica is not primary")

// Act answers a request on the primary; OriginOf its context says where it entered. It returns ErrNotPrimary if the term
// ends before anything was done, and nothing was written and nothing of the body read: the request then goes to the next
// primary. A poll that is held when the term ends is such a request. Any other error counts as answered.
type Act func(w http.ResponseWriter, r *http.Request) error

// Ask is what the front has read of a request, as far as its way to the primary depends on it.
type Ask struct {
	// Origin is where it entered, as Connections have it, and Name the name in its path.
	Origin Origin
	Name   string
	// Poll: it is a getUpdates, which is held for Hold.
	Poll bool
	Hold time.Duration
	// Again: it may be carried out twice, as getUpdates and get* may.
	Again bool
	// Body, if not nil, is all of the body. Otherwise the request's own is passed on as it arrives, once the primary reads it.
	Body []byte
}

// PassConfig is what a Passer is made of.
type PassConfig struct {
	// Self is this replica's process.
	Self string
	// Primary is who this replica takes for primary: its process and where it is reached; empty if none is known. It is
	// asked again and again while requests wait.
	Primary func(ctx context.Context) (replica, addr string)
	// Forward passes a request on: peer's Passer.
	Forward func(ctx context.Context, addr string, r *http.Request) (*http.Response, error)
	// Message takes a message to another replica, and its answer back.
	Message func(ctx context.Context, addr string, body []byte) ([]byte, error)
	// Report takes what replicas have seen of copies' connections while this replica acts: turns.ConnectionEnded,
	// turns.ReplicaLost and turns.AddressGone. It MUST NOT block for long.
	Report func(in turns.Input)
}

// How long a poll waits for a primary at least, and any other request at most: frameworks give a send 5 s.
const (
	minWait  = time.Second
	callWait = 4 * time.Second
)

// Passer brings requests to the primary: to its Act if that is this replica, through another one otherwise. It is safe for
// concurrent use.
type Passer struct {
	cfg PassConfig

	mu      sync.Mutex
	act     Act
	changed chan struct{} // closed when act changes
}

// NewPasser returns a Passer of a replica that does not act.
func NewPasser(cfg PassConfig) *Passer { return &Passer{cfg: cfg, changed: make(chan struct{})} }

// Acts says that this replica acts from now on; nil: that it does not any more. It is to be called when the machine of a term
// runs, and before it ends.
func (p *Passer) Acts(act Act) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.act = act
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Passer) acts() (act Act, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.act, p.changed
}

// Saw has the primary know of something that this replica has seen of copies. It does not block.
func (p *Passer) Saw(in turns.Input) {
	if act, _ := p.acts(); act != nil {
		p.cfg.Report(in)
	}
}

// Serve brings a request to the primary, and answers it. While no replica is primary it waits, a poll as long as it asked,
// others for 4 s.
func (p *Passer) Serve(w http.ResponseWriter, r *http.Request, ask Ask) {
	began, wait := time.Now(), callWait
	if ask.Poll {
		wait = max(ask.Hold, minWait)
	}
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		act, changed := p.acts()
		if act != nil {
			ask.Origin.Waited = time.Since(began)
			one := r.WithContext(withOrigin(r.Context(), ask.Origin))
			if ask.Body != nil {
				one.Body, one.ContentLength = io.NopCloser(bytes.NewReader(ask.Body)), int64(len(ask.Body))
			}
			if err := act(w, one); !errors.Is(err, ErrNotPrimary) {
				return
			}
		}
		select {
		case <-changed:
		case <-over.C:
			write(w, botapi.Later(http.StatusBadGateway, textNoPrimary, 1))
			return
		case <-r.Context().Done():
			return
		}
	}
}

type originKey struct{}

func withOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// OriginOf is where the request of a context entered.
func OriginOf(ctx context.Context) Origin {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o
}

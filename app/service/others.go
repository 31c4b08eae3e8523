package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"habot/app/election"
	"habot/app/gateway"
	"habot/app/mirror"
	"habot/app/node"
	"habot/app/peer"
	"habot/app/turns"
)

// The kinds of messages between gateways; gateway.MessageCopies is another.
const (
	messageTurns   = "turns"
	messageReports = "reports"
)

var (
	errNoMessage = errors.New("no such message")
	errNoCopies  = errors.New("a witness serves no copies")
)

// Peers bring requests and messages to other replicas; *peer.Passer does. They MUST be safe for concurrent use.
type Peers interface {
	// Forward passes a request on. The error is one of peer's.
	Forward(ctx context.Context, addr string, r *http.Request, origin string) (*http.Response, error)
	Message(ctx context.Context, addr, kind string, body []byte) ([]byte, error)
}

// OthersConfig is what Others are made of.
type OthersConfig struct {
	Self election.ReplicaID
	Node *node.Node
	// Addresses are where other replicas may be now.
	Addresses func() []string
	Peers     Peers
	// Now reads the local clock.
	Now    func() turns.Instant
	Logger *slog.Logger
}

// Others are what the gateways of several replicas share: requests that are passed on, and what each knows of turns.
type Others struct {
	cfg    OthersConfig
	mirror *mirror.Mirror
	passer *gateway.Passer // nil for a witness, which serves no copies
}

// NewOthers returns those of a replica that serves no copies yet.
func NewOthers(cfg OthersConfig) *Others {
	o := &Others{cfg: cfg}
	o.mirror = mirror.New(mirror.Config{Self: string(cfg.Self), Transport: o, Cluster: o.cluster, Now: cfg.Now, Logger: cfg.Logger})
	return o
}

// Join makes a gateway one of several.
func (o *Others) Join(cfg *gateway.Config) {
	cfg.Replicas, cfg.Pass, cfg.Elsewhere = o, o.pass(), o.copies
}

// Serve says that copies are served here. It MUST be called before anything is served.
func (o *Others) Serve(p *gateway.Passer) { o.passer = p }

// Gone reports that another replica's process has ended, or has left.
func (o *Others) Gone(id election.ReplicaID) {
	if o.passer != nil {
		o.passer.Gone(string(id))
	}
}

// Served is what other replicas ask of this one.
func (o *Others) Served() peer.Gateway { return served{o} }

// pass is how requests reach the primary.
func (o *Others) pass() gateway.PassConfig {
	return gateway.PassConfig{
		Primary: func() (string, string, <-chan struct{}) {
			id, addr, changed := o.cfg.Node.Followed()
			return string(id), addr, changed
		},
		Reachable: func() []string { return o.cluster().Reachable },
		Active:    o.mirror.Active,
		Forward:   o.cfg.Peers.Forward,
		Message: func(ctx context.Context, addr string, body []byte) error {
			_, err := o.cfg.Peers.Message(ctx, addr, messageReports, body)
			return err //nolint:wrapcheck // it names the act
		},
	}
}

// copies are the addresses of copies that are not known to be dead, the active one's first.
func (o *Others) copies() []string { return o.mirror.State().Addresses() }

func (o *Others) cluster() mirror.Cluster {
	v := o.cfg.Node.View()
	c := mirror.Cluster{Expected: v.Expected, Quorum: v.Quorum}
	for _, p := range v.Peers {
		if p.Reachable {
			c.Reachable = append(c.Reachable, string(p.Status.Replica))
		}
	}
	return c
}

// Addresses implements mirror.Transport.
func (o *Others) Addresses() []string { return o.cfg.Addresses() }

// Message implements mirror.Transport.
func (o *Others) Message(ctx context.Context, addr string, body []byte) ([]byte, error) {
	return o.cfg.Peers.Message(ctx, addr, messageTurns, body) //nolint:wrapcheck // it names the act
}

// Begin implements gateway.Replicas.
func (o *Others) Begin(ctx context.Context, term int64, replicated func(seq uint64)) turns.State {
	return o.mirror.Begin(ctx, term, replicated)
}

// Replicate implements gateway.Replicas.
func (o *Others) Replicate(d turns.Delta) { o.mirror.Replicate(d) }

// End implements gateway.Replicas.
func (o *Others) End() { o.mirror.End() }

// served is Others as a peer.Gateway.
type served struct{ *Others }

// Forwarded implements peer.Gateway.
func (s served) Forwarded(w http.ResponseWriter, r *http.Request, origin string) error {
	if s.passer == nil {
		return errNoCopies
	}
	return s.passer.Forwarded(w, r, origin) //nolint:wrapcheck // only whether there is one counts
}

// Message implements peer.Gateway.
func (s served) Message(ctx context.Context, kind string, body []byte) ([]byte, error) {
	switch {
	case kind == messageTurns:
		return s.mirror.Receive(body) //nolint:wrapcheck // it names the act
	case kind == messageReports && s.passer != nil:
		return nil, s.passer.Receive(body) //nolint:wrapcheck // it names the act
	case kind == gateway.MessageCopies && s.passer != nil:
		copies := s.passer.Copies(ctx)
		if copies == nil {
			return nil, gateway.ErrUnknown
		}
		return copies, nil
	}
	return nil, fmt.Errorf("%w: %.16q", errNoMessage, kind)
}

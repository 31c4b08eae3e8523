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

// The kinds of messages between gateways.
const (
	messageTurns   = "turns"
	messageReports = "reports"
)

var (
	errNoMessage = errors.New("no such message")
	errNoCopies  = errors.New("a witness serves no copies")
)

// others is what the gateways of several replicas share: requests that are passed on, and what each knows of turns.
type others struct {
	node      *node.Node
	addresses func() []string
	peers     *peer.Passer
	mirror    *mirror.Mirror
	passer    *gateway.Passer // set before anything is served; nil for a witness, which serves no copies
}

func newOthers(self election.ReplicaID, n *node.Node, client *peer.Client, peers *peer.Passer, log *slog.Logger) *others {
	o := &others{node: n, addresses: client.Addresses, peers: peers}
	o.mirror = mirror.New(mirror.Config{
		Self: string(self), Transport: o, Cluster: o.cluster, Logger: log,
		Now: func() turns.Instant { return turns.Instant(node.BootClock{}.Read().Now) },
	})
	return o
}

// pass is how requests reach the primary.
func (o *others) pass() gateway.PassConfig {
	return gateway.PassConfig{
		Primary: func() (string, string, <-chan struct{}) {
			id, addr, changed := o.node.Followed()
			return string(id), addr, changed
		},
		Reachable: func() []string { return o.cluster().Reachable },
		Forward:   o.peers.Forward,
		Message: func(ctx context.Context, addr string, body []byte) error {
			_, err := o.peers.Message(ctx, addr, messageReports, body)
			return err //nolint:wrapcheck // it names the act
		},
	}
}

// copies are the addresses of copies that are not known to be dead, the active one's first.
func (o *others) copies() []string { return o.mirror.State().Addresses() }

func (o *others) cluster() mirror.Cluster {
	v := o.node.View()
	c := mirror.Cluster{Expected: v.Expected, Quorum: v.Quorum}
	for _, p := range v.Peers {
		if p.Reachable {
			c.Reachable = append(c.Reachable, string(p.Status.Replica))
		}
	}
	return c
}

// Addresses implements mirror.Transport.
func (o *others) Addresses() []string { return o.addresses() }

// Message implements mirror.Transport.
func (o *others) Message(ctx context.Context, addr string, body []byte) ([]byte, error) {
	return o.peers.Message(ctx, addr, messageTurns, body) //nolint:wrapcheck // it names the act
}

// Begin implements gateway.Replicas.
func (o *others) Begin(ctx context.Context, term int64, replicated func(seq uint64)) turns.State {
	return o.mirror.Begin(ctx, term, replicated)
}

// Replicate implements gateway.Replicas.
func (o *others) Replicate(d turns.Delta) { o.mirror.Replicate(d) }

// End implements gateway.Replicas.
func (o *others) End() { o.mirror.End() }

// served is what other replicas ask of these; it is peer.Gateway.
type served struct{ *others }

// Forwarded implements peer.Gateway.
func (s served) Forwarded(w http.ResponseWriter, r *http.Request, origin string) error {
	if s.passer == nil {
		return errNoCopies
	}
	return s.passer.Forwarded(w, r, origin) //nolint:wrapcheck // only whether there is one counts
}

// Message implements peer.Gateway.
func (s served) Message(_ context.Context, kind string, body []byte) ([]byte, error) {
	switch {
	case kind == messageTurns:
		return s.mirror.Receive(body) //nolint:wrapcheck // it names the act
	case kind == messageReports && s.passer != nil:
		return nil, s.passer.Receive(body) //nolint:wrapcheck // it names the act
	}
	return nil, fmt.Errorf("%w: %.16q", errNoMessage, kind)
}

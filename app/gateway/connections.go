package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"habot/app/botapi"
	"habot/app/turns"
)

// keepAlive finds out soon that a copy's machine is gone.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}
}

// maxCopies is how many copies are remembered of one connection, which a proxy may share.
const maxCopies = 16

// ownIdle is how long a connection counts as idle that this replica has closed: its end is no sign of a copy's death.
const ownIdle = time.Minute

// Connections knows the connections of clients to this replica, and sees how they end. It is safe for concurrent use. The
// server of the gateway's port MUST serve on Listener's and have ConnContext for its own.
type Connections struct {
	passer *Passer

	// ending: no more are taken, and each answer closes its own.
	ending atomic.Bool

	mu   sync.Mutex
	last uint64
	open int
}

// Open is how many there are that a copy has used.
func (c *Connections) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

func (c *Connections) opened(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open += n
}

// NewConnections returns the connections of a replica; their ends are reported by the Passer.
func NewConnections(p *Passer) *Connections { return &Connections{passer: p} }

// Listener returns a listener whose connections are known.
func (c *Connections) Listener(l net.Listener) net.Listener { return &numbered{l, c} }

type connectionKey struct{}

// ConnContext is for http.Server.
func (c *Connections) ConnContext(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, conn)
}

// connectionOf is the connection of a request; nil if it is not one of these.
func connectionOf(r *http.Request) *connection {
	c, _ := r.Context().Value(connectionKey{}).(*connection)
	return c
}

type numbered struct {
	net.Listener
	conns *Connections
}

// Accept implements net.Listener.
func (n *numbered) Accept() (net.Conn, error) {
	conn, err := n.Listener.Accept()
	for err == nil && n.conns.ending.Load() { // who polls is to ask another replica, and not this one again and again
		_ = conn.Close()
		conn, err = n.Listener.Accept()
	}
	if err != nil {
		return nil, err //nolint:wrapcheck // net/http looks at it
	}
	n.conns.mu.Lock()
	defer n.conns.mu.Unlock()
	n.conns.last++
	now := time.Now()
	return &connection{Conn: conn, conns: n.conns, number: n.conns.last, opened: now, answered: now}, nil
}

// connection is one connection of a copy.
type connection struct {
	net.Conn
	conns  *Connections
	number uint64
	opened time.Time

	mu       sync.Mutex
	requests int // so far
	busy     int // under way
	polls    int // open
	answered time.Time
	clients  []turns.Client // who has used it
	asked    bool           // the client wants it closed after the answer
	ended    bool           // which is reported
	closed   bool           // by this side, too
}

// began takes note of a request, and returns where it entered; done MUST be called when it ends.
func (c *connection) began() Origin {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	c.busy++
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		host = c.RemoteAddr().String()
	}
	return Origin{Replica: c.conns.passer.cfg.Self, Address: host, Connection: c.number, Age: time.Since(c.opened), Reused: c.requests > 1}
}

func (c *connection) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy--
	c.answered = time.Now()
}

// uses takes note of who uses the connection, and whether for its last request.
func (c *connection) uses(client turns.Client, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = c.asked || last
	i := slices.IndexFunc(c.clients, func(o turns.Client) bool { return o.Copy == client.Copy })
	switch {
	case i >= 0:
		c.clients[i] = client
	case len(c.clients) < maxCopies:
		if c.clients = append(c.clients, client); len(c.clients) == 1 && !c.closed {
			c.conns.opened(1)
		}
	}
}

// polling counts polls that are open.
func (c *connection) polling(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.polls += n
}

// Read implements io.Reader. Its error shows that the other side is gone.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && !errors.Is(err, net.ErrClosed) && !isTimeout(err) {
		c.end(errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET), true)
	}
	return n, err //nolint:wrapcheck // io.EOF must stay what it is
}

// Write implements io.Writer. It has a bound, since net/http has none for what it writes beside a handler.
func (c *connection) Write(p []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(stallBound)) // what cannot be bounded is not
	c.mu.Lock()
	handled := c.busy > 0
	c.mu.Unlock()
	if !handled {
		if refusal := refusalOf(p); refusal != nil {
			_, err := c.Conn.Write(refusal)
			return len(p), err
		}
	}
	return c.Conn.Write(p) //nolint:wrapcheck // net/http looks at it
}

// refusalOf is an answer in the form of the Bot API for one with which net/http refuses by itself what is no request for a handler: it
// writes an error's status and headers in one piece, as text, and closes the connection. nil: it is none.
func refusalOf(p []byte) []byte {
	rest, http1 := bytes.CutPrefix(p, []byte("HTTP/1.1 "))
	if !http1 {
		return nil
	}
	head, _, _ := bytes.Cut(rest, []byte("\r\n\r\n"))
	line, headers, _ := strings.Cut(string(head), "\r\n")
	code, reason, _ := strings.Cut(line, " ")
	status, err := strconv.Atoi(code)
	if err != nil || status < http.StatusBadRequest || !slices.Contains(strings.Split(headers, "\r\n"), "Connection: close") {
		return nil
	}
	if status == http.StatusRequestHeaderFieldsTooLarge {
		reason += ": the headers exceed " + strconv.Itoa(maxHeaders>>10) + " KiB"
	}
	body := botapi.Failure(status, reason).Body
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), botapi.ContentType, len(body), body)
}

// isTimeout tells whether a deadline has passed, which this replica has set.
func isTimeout(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	return ok && netErr.Timeout() && !errors.Is(err, syscall.ETIMEDOUT)
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.end(false, false)
	c.mu.Lock()
	if len(c.clients) > 0 && !c.closed {
		c.conns.opened(-1)
	}
	c.closed = true
	c.mu.Unlock()
	return c.Conn.Close() //nolint:wrapcheck // net/http looks at it
}

// end reports the end of the connection, once. closed: the other side has closed it; theirs: it is not this replica that ends it.
func (c *connection) end(closed, theirs bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	in := turns.ConnectionEnded{Closed: closed, Poll: c.polls > 0}
	if c.busy == 0 {
		in.Idle = time.Since(c.answered)
	}
	if !theirs {
		// Who asks for a connection to be closed after the answer has closed it. Otherwise its end says nothing of the copy.
		in.Closed, in.Poll = c.asked, false
		if !c.asked {
			in.Idle = max(in.Idle, ownIdle)
		}
	}
	for _, client := range c.clients {
		in.Client = client
		c.conns.passer.Saw(in)
	}
}

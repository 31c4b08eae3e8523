package lifeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"habot/app/election"
)

const (
	suffix = ".sock"
	// handshakeBound bounds a handshake, not the connection after it.
	handshakeBound = 5 * time.Second
	// maxLines bounds the connections of this process: fifty replicas have two each at most.
	maxLines = 256
	// maxDials bounds the connections that are being made at a time.
	maxDials = 8
	// acceptPause is waited after a failed accept (no descriptors left).
	acceptPause = time.Second
	// staleAfter is the age at which a socket that refuses connections is removed: it was left behind, or it belongs to
	// another machine that shares the folder, which is of no use here either.
	staleAfter = 24 * time.Hour
)

// Config is what lifelines are made of.
type Config struct {
	// Dir is the folder that the replicas of this machine share.
	Dir string
	// Self is this process's replica id: 16 characters.
	Self election.ReplicaID
	// Secret is the cluster secret; keys are derived from it.
	Secret []byte
	Logger *slog.Logger
	// Died is called once for each replica whose process has ended. It is called concurrently and MUST NOT block for long:
	// a takeover waits for it.
	Died func(election.ReplicaID)
}

// Lifelines are the connections of one replica. Its methods are safe for concurrent use.
type Lifelines struct {
	cfg Config
	key []byte
	own uint64
	// processOf is who is at the other end of a connection.
	processOf func(*net.UnixConn) (*process, error)
	// bound is of a handshake, and waited before one that was not answered is tried again.
	bound  time.Duration
	sock   *net.UnixListener
	denied atomic.Bool // it was said that connecting is not allowed

	mu    sync.Mutex
	lines map[*line]election.ReplicaID // "" until the other end has proved who it is
	ended bool
}

// line is one established connection. It is reachable from Lifelines until its process has ended: a connection that
// the garbage collector could close would pass for a death at the other end.
type line struct {
	conn *net.UnixConn
	pid  *process // nil: the end of the connection counts
}

func (l *line) close() {
	_ = l.conn.Close()
	if l.pid != nil {
		l.pid.close()
	}
}

// Open opens this replica's socket. An error means that the folder cannot be used: there are no lifelines then, and
// the lease decides.
func Open(cfg Config) (*Lifelines, error) {
	if !isID(string(cfg.Self)) {
		return nil, fmt.Errorf("open a lifeline: %q is no replica id: %d hex digits are", cfg.Self, idLength)
	}
	key, err := deriveKey(cfg.Secret)
	if err != nil {
		return nil, err
	}
	addr := &net.UnixAddr{Name: filepath.Join(cfg.Dir, string(cfg.Self)+suffix), Net: "unix"}
	sock, err := net.ListenUnix("unix", addr) // removes its file when it is closed
	if err != nil {
		return nil, fmt.Errorf("open a lifeline: %w", err)
	}
	return &Lifelines{cfg: cfg, key: key, own: ownIdentity(), processOf: peerProcess, bound: handshakeBound, sock: sock, lines: map[*line]election.ReplicaID{}}, nil
}

// Run connects to the replicas that are there, takes connections from those that come, and reports deaths until ctx ends.
// ctx MUST end only after this replica's claim was released: the end of its connections may count as its death.
//
// A replica that starts connects to all that have started before, so one look at the folder, after its own socket is open, is
// enough for every pair to meet. One that is frozen meanwhile is tried again.
func (l *Lifelines) Run(ctx context.Context) error {
	var all sync.WaitGroup
	stop := context.AfterFunc(ctx, l.close)
	defer stop()
	all.Go(func() { l.dialAll(ctx, &all) })
	for {
		conn, err := l.sock.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			all.Wait()
			return nil
		case errors.Is(err, net.ErrClosed):
			all.Wait()
			return fmt.Errorf("take lifelines: %w", err)
		case err != nil:
			l.cfg.Logger.Warn("a lifeline could not be taken", "error", err)
			t := time.NewTimer(acceptPause)
			select {
			case <-t.C:
			case <-ctx.Done():
			}
			t.Stop()
			continue
		}
		all.Go(func() {
			if err := l.establish(conn, ""); err != nil {
				l.cfg.Logger.Debug("a lifeline was refused", "error", err)
			}
		})
	}
}

// Connected are the replicas to which there is a lifeline, in order.
func (l *Lifelines) Connected() []election.ReplicaID {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []election.ReplicaID
	for _, id := range l.lines {
		if id != "" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// close ends all lifelines of this process.
func (l *Lifelines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	_ = l.sock.Close()
	for x := range l.lines {
		x.close()
	}
}

// dialAll connects to all sockets in the folder but the own one.
func (l *Lifelines) dialAll(ctx context.Context, all *sync.WaitGroup) {
	entries, err := os.ReadDir(l.cfg.Dir)
	if err != nil {
		l.cfg.Logger.Warn("the folder of the lifelines cannot be read", "error", err)
		return
	}
	slots := make(chan struct{}, maxDials)
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || !isID(id) || id == string(l.cfg.Self) {
			continue
		}
		all.Go(func() {
			for l.meet(ctx, election.ReplicaID(id), slots) {
				t := time.NewTimer(l.bound)
				select {
				case <-t.C:
				case <-ctx.Done():
				}
				t.Stop()
			}
		})
	}
}

// meet connects to a replica, once there is a slot for that, and watches it. It tells whether to try again: a process that is frozen, or
// short of processor time, does not answer in time, and may later.
func (l *Lifelines) meet(ctx context.Context, id election.ReplicaID, slots chan struct{}) (again bool) {
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	socket := string(id) + suffix
	conn, err := dial(ctx, filepath.Join(l.cfg.Dir, socket), l.bound)
	<-slots
	if err == nil {
		err = l.establish(conn, id)
	}
	if err != nil {
		l.failed(socket, err)
	}
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.EAGAIN)
}

// failed tells that a socket could not be connected to. It proves nothing: the socket may be another machine's, or left behind.
// That it is not allowed is for the operator to change, and is logged once.
func (l *Lifelines) failed(socket string, err error) {
	if errors.Is(err, fs.ErrPermission) && l.denied.CompareAndSwap(false, true) {
		l.cfg.Logger.Warn("connecting to a lifeline is not allowed here: after a crash the lease decides", "error", err)
		return
	}
	l.cfg.Logger.Debug("no lifeline", "socket", socket, "error", err)
}

func dial(ctx context.Context, path string, bound time.Duration) (*net.UnixConn, error) {
	bounded, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(bounded, "unix", path)
	if err != nil {
		info, e := os.Lstat(path)
		if errors.Is(err, syscall.ECONNREFUSED) && e == nil && info.Mode()&os.ModeSocket != 0 && time.Since(info.ModTime()) > staleAfter {
			_ = os.Remove(path)
		}
		return nil, fmt.Errorf("connect: %w", err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("connect: no Unix socket"), conn.Close())
	}
	return unixConn, nil
}

// establish proves who both ends are and watches the other end from then on. What ends before that proves nothing. whose is the
// replica whose socket was dialled; empty if the other end has dialled.
func (l *Lifelines) establish(conn *net.UnixConn, whose election.ReplicaID) error {
	x := &line{conn: conn}
	if !l.add(x) {
		x.close() // nothing was proved yet, so it is taken for no replica's death
		return fmt.Errorf("more than %d lifelines", maxLines)
	}
	id, err := l.prove(x, whose)
	if err != nil {
		l.drop(x)
		return err
	}
	l.mu.Lock()
	l.lines[x] = id
	l.mu.Unlock()
	l.cfg.Logger.Debug("lifeline established", "peer", id, "pidfd", x.pid != nil)
	l.watch(id, x)
	return nil
}

// add keeps a connection reachable; false if there are too many, or this replica has stopped.
func (l *Lifelines) add(x *line) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || len(l.lines) >= maxLines {
		return false
	}
	l.lines[x] = ""
	return true
}

func (l *Lifelines) drop(x *line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.lines, x)
	x.close()
}

func (l *Lifelines) prove(x *line, whose election.ReplicaID) (election.ReplicaID, error) {
	pid, err := l.processOf(x.conn)
	if err != nil {
		return "", err
	}
	l.mu.Lock()
	x.pid = pid
	l.mu.Unlock()
	var other uint64
	if pid != nil {
		other = pid.identity
	}
	if err := x.conn.SetDeadline(time.Now().Add(l.bound)); err != nil {
		return "", fmt.Errorf("bound the handshake: %w", err)
	}
	return handshake(x.conn, l.key, l.cfg.Self, whose, l.own, other, func() error {
		return x.conn.SetDeadline(time.Time{})
	})
}

// watch reports the death of the process at the other end.
func (l *Lifelines) watch(id election.ReplicaID, x *line) {
	err := x.over()
	l.mu.Lock()
	_, known := l.lines[x]
	known = known && !l.ended
	if known && err != nil {
		l.lines[x] = "" // it stays open, and is a lifeline no longer
	}
	if known && err == nil {
		for other, whose := range l.lines {
			if whose == id {
				other.close()
				delete(l.lines, other)
			}
		}
	}
	l.mu.Unlock()
	switch {
	case !known: // this process stops, or the other connection to that replica was quicker
	case err != nil:
		l.cfg.Logger.Warn("a lifeline cannot be watched: the lease decides", "peer", id, "error", err)
	default:
		l.cfg.Died(id)
		// Its socket is of no use to any process: the one that it belonged to has ended.
		_ = os.Remove(filepath.Join(l.cfg.Dir, string(id)+suffix))
	}
}

// over returns nil once the process at the other end has ended.
func (x *line) over() error {
	if x.pid != nil {
		return x.pid.wait()
	}
	// The other end never writes after the handshake and never closes while it lives.
	_, err := x.conn.Read(make([]byte, 1))
	switch {
	case err == nil:
		return errors.New("the other end has written")
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return nil
	default: // our own end was closed, say: that proves nothing
		return fmt.Errorf("wait for the end of the connection: %w", err)
	}
}

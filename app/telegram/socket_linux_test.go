package telegram

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dialled is a connection as newBase makes them, and its peer's end, which reads nothing by itself.
func dialled(t *testing.T) (near *net.TCPConn, far net.Conn) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	rt := newBase(nil)
	conn, err := rt.DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if far, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	near, ok := conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("a connection is a %T", conn)
	}
	return near, far
}

// What the kernel has not delivered when the lease ends must not arrive once the path heals.
func TestClosingAConnectionThrowsAwayWhatWasNotDelivered(t *testing.T) {
	t.Parallel()
	near, far := dialled(t)
	if err := near.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	sent, err := near.Write(make([]byte, 64<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a peer that does not read was sent %d bytes: %v", sent, err)
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	read, err := io.Copy(io.Discard, far)
	if !errors.Is(err, unix.ECONNRESET) || read >= int64(sent) {
		t.Errorf("of %d bytes %d arrived after the connection was closed, and then %v; want fewer, and a reset", sent, read, err)
	}
}

// A frozen process cannot close its connections.
func TestKernelGivesUpAConnectionThatIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	near, _ := dialled(t)
	raw, err := near.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got int
	var failed error
	if err := raw.Control(func(fd uintptr) {
		got, failed = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	if d := time.Duration(got) * time.Millisecond; d != unacknowledgedFor {
		t.Errorf("the kernel sends again for %v, want %v", d, unacknowledgedFor)
	}
}

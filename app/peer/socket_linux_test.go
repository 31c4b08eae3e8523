package peer

import (
	"log/slog"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A path that is broken is found by the kernel: a connection of which nothing is acknowledged ends within Timeout.
func TestKernelWaitsForAcknowledgementsNoLongerThanTimeout(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := NewClient(ClientConfig{Identity: identity(t, "ours"), Timeout: 275 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	conn, err := transport(t, c).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got int
	if err := raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) }); err != nil {
		t.Fatal(err)
	}
	if err != nil || got != 275 {
		t.Errorf("TCP_USER_TIMEOUT is %d ms, %v", got, err)
	}
}

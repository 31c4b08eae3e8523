package peer

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// acknowledged has the kernel close a connection of which nothing that was sent is acknowledged within d.
func acknowledged(d time.Duration) func(network, address string, conn syscall.RawConn) error {
	return func(_, _ string, conn syscall.RawConn) error {
		var failed error
		err := conn.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
		})
		if err == nil {
			err = failed
		}
		if err != nil {
			return fmt.Errorf("bound the wait for acknowledgements: %w", err)
		}
		return nil
	}
}

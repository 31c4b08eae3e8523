package telegram

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// abortOnClose makes a connection throw away what was not delivered when it is closed, as it is when the lease
// ends; otherwise the kernel would go on sending it, and it would arrive when the way out is mended.
func abortOnClose(conn syscall.RawConn) error {
	var failed error
	err := conn.Control(func(fd uintptr) {
		failed = errors.Join(
			unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 0}),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledgedFor.Milliseconds())),
		)
	})
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("set a connection's options: %w", err)
	}
	return nil
}

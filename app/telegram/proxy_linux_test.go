package telegram

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The proxy's own connection throws away what was not delivered, and is given up by the kernel, as Telegram's is.
func TestConnectionsToAProxyAreForgetfulToo(t *testing.T) {
	t.Parallel()
	eachProxy(t, func(t *testing.T, kind, scheme string) {
		x := proxiedClient(t, kind, scheme, proxyPassword)
		if err := getMe(t.Context(), x.client); err != nil {
			t.Fatal(err)
		}
		raw, err := (<-x.conns).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var timeout int
		var linger *unix.Linger
		var failed error
		if err := raw.Control(func(fd uintptr) {
			var other error
			timeout, failed = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
			linger, other = unix.GetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER)
			failed = errors.Join(failed, other)
		}); err != nil || failed != nil {
			t.Fatal(err, failed)
		}
		if d := time.Duration(timeout) * time.Millisecond; d != unacknowledgedFor || linger.Onoff != 1 || linger.Linger != 0 {
			t.Errorf("the kernel sends again for %v, and lingers %+v", d, linger)
		}
	})
}

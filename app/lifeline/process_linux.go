package lifeline

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// pidfsMagic is the type of the file system of pidfds since Linux 6.9: there a pidfd's inode number belongs to one
// process until the machine restarts (include/uapi/linux/magic.h).
const pidfsMagic = 0x50494446

// process is a pidfd: it stands for one process, whatever becomes of its number.
type process struct {
	file *os.File
	// identity is the kernel's number for the process, the same for every process that asks; 0 if it gives none.
	identity uint64
}

// ownIdentity is the kernel's number for this process; 0 if it gives none.
func ownIdentity() uint64 {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	return identityOf(fd)
}

func identityOf(fd int) uint64 {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Fstatfs(fd, &fs) != nil || fs.Type != pidfsMagic || unix.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Ino
}

// peerProcess returns the process at the other end of c: the one that called connect or listen. It is nil without
// an error where the kernel has no SO_PEERPIDFD.
func peerProcess(c *net.UnixConn) (*process, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("ask who is at the other end: %w", err)
	}
	fd, failed := -1, error(nil)
	err = raw.Control(func(socket uintptr) {
		fd, failed = unix.GetsockoptInt(int(socket), unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	})
	switch {
	case errors.Is(failed, unix.ENOPROTOOPT):
		return nil, nil //nolint:nilnil // documented: an older kernel
	case errors.Join(err, failed) != nil:
		return nil, fmt.Errorf("ask who is at the other end: %w", errors.Join(err, failed))
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("watch a process: %w", err), unix.Close(fd))
	}
	return &process{os.NewFile(uintptr(fd), "pidfd"), identityOf(fd)}, nil
}

// wait returns nil when the process has ended, and an error when the file was closed or cannot be watched.
func (p *process) wait() error {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch a process: %w", err)
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // a descriptor's number is small
		_, failed = unix.Poll(poll, 0)
		if errors.Is(failed, syscall.EINTR) {
			failed = nil
			return false
		}
		// A pidfd is readable when its process has ended, and not before (pidfd_open(2)).
		return failed != nil || poll[0].Revents&(unix.POLLIN|unix.POLLHUP) != 0
	})
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("watch a process: %w", err)
	}
	return nil
}

func (p *process) close() { _ = p.file.Close() }

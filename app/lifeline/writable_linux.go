package lifeline

import "golang.org/x/sys/unix"

// writable tells whether this process may make files in a folder, without making one.
func writable(dir string) error {
	return unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS) //nolint:wrapcheck // the caller says what failed
}

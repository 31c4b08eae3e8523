package lifeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// maxTried bounds the sockets that Usable connects to.
	maxTried = 8
	// triedWithin bounds each of these connections.
	triedWithin = time.Second
)

// Usable tells whether this process could have lifelines in a folder, and returns how many sockets of replicas are in it.
// It changes nothing there: it connects to some sockets and closes the connection before anything is sent, which proves
// nothing to the other end. It takes eight seconds at most, and no time unless a socket hangs.
func Usable(ctx context.Context, dir string) (sockets int, err error) {
	if err := writable(dir); err != nil {
		return 0, fmt.Errorf("make a socket in it: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("read it: %w", err)
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || !isID(id) {
			continue
		}
		if sockets++; sockets > maxTried {
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, triedWithin)
		conn, err := (&net.Dialer{}).DialContext(bounded, "unix", filepath.Join(dir, e.Name()))
		cancel()
		switch {
		case err == nil:
			_ = conn.Close() // nothing was sent
		case errors.Is(err, fs.ErrPermission):
			return sockets, fmt.Errorf("connect to a socket in it: %w", err)
		}
	}
	return sockets, nil
}

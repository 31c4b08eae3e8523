package lifeline

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"habot/app/election"
)

// A folder is tried without a trace: a replica that lives in it takes no process for dead, and no file comes or goes.
func TestUsableTriesAFolderAndLeavesItAsItIs(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("known on Linux alone")
	}
	dir := dir(t)
	lines, err := Open(Config{Dir: dir, Self: "0123456789abcdef", Secret: []byte("secret"), Logger: slog.New(slog.DiscardHandler), Died: func(id election.ReplicaID) {
		t.Errorf("%s passes for dead", id)
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- lines.Run(ctx) }()
	for _, name := range []string{"fedcba9876543210.sock", "other.sock", "x"} { // left behind; not ours
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := Usable(t.Context(), dir); n != 2 || err != nil {
		t.Errorf("%d sockets, %v", n, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 4 {
		t.Errorf("the folder has %d files, %v", len(left), err)
	}
	stop()
	if err := <-ended; err != nil || len(lines.Connected()) != 0 {
		t.Errorf("%v, connected %v", err, lines.Connected())
	}
	if _, err := Usable(t.Context(), filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is missing: %v", err)
	}
	if _, err := Usable(t.Context(), filepath.Join(dir, "x")); err == nil {
		t.Error("a file passes for a folder")
	}
	readOnly := filepath.Join(dir, "closed")
	if err := os.Mkdir(readOnly, 0o500); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 { // root may write anywhere
		if _, err := Usable(t.Context(), readOnly); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a folder that is not writable: %v", err)
		}
	}
}

//go:build unix

package doctor

import (
	"io/fs"
	"syscall"
)

// owner is a file's user and group; known is false if the file system has none.
func owner(info fs.FileInfo) (user, group uint32, known bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return stat.Uid, stat.Gid, true
}

//go:build !unix

package doctor

import "io/fs"

// owner is not known here.
func owner(fs.FileInfo) (user, group uint32, known bool) { return 0, 0, false }

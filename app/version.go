package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// Set by the image's build (-ldflags -X, see Dockerfile). Other builds have what Go recorded.
var version, commit string //nolint:gochecknoglobals // the linker reaches nothing else

// build is what this binary was made of.
type build struct {
	version string
	// commit is empty if nothing recorded it; it ends with "-modified" if files had changed since.
	commit string
}

// buildInfo is what Go recorded; nil if nothing.
func buildInfo() *debug.BuildInfo {
	info, _ := debug.ReadBuildInfo()
	return info
}

// thisBuild prefers what the linker was given to what Go recorded.
func thisBuild(info *debug.BuildInfo) build {
	b := build{version: version, commit: commit}
	if info == nil {
		info = &debug.BuildInfo{}
	}
	b.version = cmp.Or(b.version, info.Main.Version, "(devel)")
	if b.commit != "" {
		return b
	}
	modified := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "-modified"
		}
	}
	if b.commit != "" {
		b.commit += modified
	}
	return b
}

// String is what "habot version" prints.
func (b build) String() string {
	return fmt.Sprintf("habot %s, commit %s, %s %s/%s", b.version, cmp.Or(b.commit, "unknown"), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

package main

import (
	"bytes"
	"runtime/debug"
	"strings"
	"testing"
)

func TestTheLinkersVersionAndCommitComeFirst(t *testing.T) {
	recorded := &debug.BuildInfo{Main: debug.Module{Version: "v0.9.0"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"},
	}}
	for _, test := range []struct {
		version, commit string
		info            *debug.BuildInfo
		want            build
	}{
		{"1.2.3", "def", recorded, build{"1.2.3", "def"}},
		{"", "", recorded, build{"v0.9.0", "abc-modified"}},
		{"1.2.3", "", recorded, build{"1.2.3", "abc-modified"}},
		{"1.2.3", "", &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "false"}}}, build{"1.2.3", "abc"}},
		{"", "", &debug.BuildInfo{}, build{"(devel)", ""}},
		{"", "", nil, build{"(devel)", ""}},
	} {
		oldVersion, oldCommit := version, commit
		version, commit = test.version, test.commit
		if got := thisBuild(test.info); got != test.want {
			t.Errorf("linked %q %q, recorded %+v: %+v, want %+v", test.version, test.commit, test.info, got, test.want)
		}
		version, commit = oldVersion, oldCommit
	}
}

func TestVersionPrintsVersionAndCommit(t *testing.T) {
	for commit, want := range map[string]string{"abc": "habot 1.2.3, commit abc, go1.", "": "habot 1.2.3, commit unknown, go1."} {
		if got := (build{"1.2.3", commit}).String(); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	var out, errs bytes.Buffer
	if code := run([]string{"version"}, &out, &errs); code != 0 || !strings.Contains(out.String(), ", commit ") {
		t.Errorf("exit code %d, printed %q %q", code, out.String(), errs.String())
	}
}

package backends

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The README's versions are those that are installed.
func TestTableNamesTheVersions(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	pinned := read("python/requirements.txt") + read("node/package.json") + read("go/go.mod")
	rows := regexp.MustCompile(`(?m)^\| (\S+) \| (\d\S*) \| \[\S+\]\((\S+)\)`).FindAllStringSubmatch(read("README.md"), -1)
	if len(rows) != 9 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows {
		name, version, file := row[1], row[2], row[3]
		found := false
		for _, line := range []string{name + "==" + version + "\n", strings.ToLower(`"` + name + `": "` + version + `"`), name + " v" + version + "\n", name + ".v4 v" + version + "\n"} {
			found = found || strings.Contains(pinned, line)
		}
		if !found {
			t.Errorf("%s %s is not what is installed", name, version)
		}
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
}

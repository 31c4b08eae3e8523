package logging

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// line is one that the code writes: its message and keys, as far as they are written there.
type line struct {
	msg  string
	keys []string
	at   token.Position
}

// LOG.md lists every line that replicas write at level info and above, with its keys.
func TestEveryLineIsDocumentedWithItsKeys(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("LOG.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(raw), "## Lines")
	table, _, _ = strings.Cut(table, "## Keys")
	documented := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|([^|\n]*)\\|$").FindAllStringSubmatch(table, -1) {
		documented[row[1]] = nil
		for _, key := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[2], -1) {
			documented[row[1]] = append(documented[row[1]], key[1])
		}
	}
	lines := written(t)
	if len(lines) < 30 {
		t.Fatalf("only %d lines were found in the code", len(lines))
	}
	for _, l := range lines {
		keys, ok := documented[l.msg]
		if !ok {
			t.Errorf("%s: %q is not in LOG.md", l.at, l.msg)
		}
		for _, k := range l.keys {
			if !slices.Contains(keys, k) {
				t.Errorf("%s: %q has the key %s, which LOG.md does not give it", l.at, l.msg, k)
			}
		}
	}
	for msg, keys := range documented {
		var found []string
		is := false
		for _, l := range lines {
			if l.msg == msg {
				is, found = true, append(found, l.keys...)
			}
		}
		for _, k := range keys {
			if is && !slices.Contains(found, k) {
				t.Errorf("LOG.md gives %q the key %s, which it does not have", msg, k)
			}
		}
		if !is && !slices.Contains(byVariable(), msg) {
			t.Errorf("no code writes %q, which is in LOG.md", msg)
		}
	}
}

// byVariable are lines whose message is not written in the call.
func byVariable() []string {
	return []string{"a replica speaks another version of the protocol", "an instance belongs to another bot: its cluster secret differs"}
}

// written are the lines of the replicas' code; the simulator and tests are none.
func written(t *testing.T) []line {
	t.Helper()
	var all []line
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		if strings.Contains(path, "simulator") || strings.Contains(path, "electiontest") || strings.Contains(path, "e2e") {
			return nil
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if l, ok := lineOf(call); ok && !strings.Contains(l.msg, "simulat") {
					l.at = files.Position(call.Pos())
					all = append(all, l)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// lineOf takes a call of a logger apart: Info(msg, key, value ...), or Log(ctx, level, msg, key, value ...).
func lineOf(call *ast.CallExpr) (l line, ok bool) {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return l, false
	}
	args := call.Args
	switch method.Sel.Name {
	case "Info", "Warn", "Error":
	case "Log":
		args = args[min(2, len(args)):]
	default:
		return l, false
	}
	for i, a := range args {
		text, literal := a.(*ast.BasicLit)
		if !literal || text.Kind != token.STRING {
			continue
		}
		s, err := strconv.Unquote(text.Value)
		switch {
		case err != nil:
		case i == 0:
			l.msg = s
		case i%2 == 1:
			l.keys = append(l.keys, s)
		}
	}
	return l, l.msg != ""
}

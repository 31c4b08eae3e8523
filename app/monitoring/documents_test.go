package monitoring_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents are the names of all documents of the repository.
func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir("../..", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == ".git":
			return fs.SkipDir
		case !d.IsDir() && strings.HasSuffix(name, ".md"):
			all = append(all, strings.TrimPrefix(filepath.ToSlash(name), "../../"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("only %v were found", all)
	}
	return all
}

var (
	fenced = regexp.MustCompile("(?ms)^```.*?^```$")
	code   = regexp.MustCompile("`[^`\n]*`")
)

// anchors are the headings of a document as links name them.
func anchors(doc string) []string {
	var all []string
	for _, heading := range first(`(?m)^#+ (.+)$`, fenced.ReplaceAllString(doc, "")) {
		heading = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading), "")
		all = append(all, strings.ReplaceAll(heading, " ", "-"))
	}
	return all
}

// Each link to a file of the repository leads to one that is there, and to a heading that it has.
func TestLinksBetweenDocumentsLeadSomewhere(t *testing.T) {
	links := 0
	for _, name := range documents(t) {
		doc := read(t, name)
		for _, link := range first(`\]\(([^)\s]+)\)`, code.ReplaceAllString(fenced.ReplaceAllString(doc, ""), "")) {
			if strings.Contains(link, "://") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(link, "#")
			target := name
			if file != "" {
				target = path.Join(path.Dir(name), file)
			}
			info, err := os.Stat("../../" + target)
			if err != nil {
				t.Errorf("%s: %s leads nowhere", name, link)
			} else if anchor != "" && (info.IsDir() || !slices.Contains(anchors(read(t, target)), anchor)) {
				t.Errorf("%s: %s: there is no such heading", name, link)
			}
		}
	}
	if links < 30 {
		t.Fatalf("only %d links were found", links)
	}
}

// A document's pictures are small: they are loaded with it, and stay in the repository for good.
func TestPicturesOfDocumentsAreSmall(t *testing.T) {
	const most = 150_000
	pictures := 0
	for _, name := range documents(t) {
		for _, link := range first(`!\[[^\]]*\]\(([^)\s]+)\)`, read(t, name)) {
			pictures++
			if info, err := os.Stat("../../" + path.Join(path.Dir(name), link)); err == nil && info.Size() > most {
				t.Errorf("%s: %s has %d bytes, more than %d", name, link, info.Size(), most)
			}
		}
	}
	if pictures < 3 {
		t.Fatalf("only %d pictures were found", pictures)
	}
}

// The README is one page. Its figures are those of FIGURES.md, which has their conditions.
func TestReadmeIsOnePageWithFiguresOfFigures(t *testing.T) {
	readme, figures := read(t, "README.md"), read(t, "app/e2e/FIGURES.md")
	if n := strings.Count(readme, "\n"); n > 120 {
		t.Errorf("README.md has %d lines: move what is beyond 120 beside what it describes", n)
	}
	rows := first(`(?m)^(\| .* ms \|)$`, readme)
	if len(rows) != 6 {
		t.Errorf("README.md shows %d figures, not 6", len(rows))
	}
	for _, row := range rows {
		if !strings.Contains(figures, "\n"+row+"\n") {
			t.Errorf("FIGURES.md does not have the row %s", row)
		}
	}
}

// imported are the packages of ours that a package imports outside of its tests.
func imported(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(folder + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			if ours, is := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), "habot/app/"); is && !slices.Contains(all, ours) {
				all = append(all, ours)
			}
		}
	}
	slices.Sort(all)
	return all
}

// The table "Packages" of app/README.md has a row for each package right under app, with what it imports.
func TestEveryPackageStandsInTheTableWithWhatItImports(t *testing.T) {
	_, table, _ := strings.Cut(read(t, "app/README.md"), "## Packages\n")
	table, _, _ = strings.Cut(table, "\n## ")
	documented := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9.]+)` \\| [^|]+ \\|([^|]*)\\|$").FindAllStringSubmatch(table, -1) {
		documented[m[1]] = first("`([a-z0-9/]+)`", m[2])
	}
	folders, err := filepath.Glob("../*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	there := []string{"main.go"}
	for _, file := range folders {
		if name := filepath.Base(filepath.Dir(file)); !slices.Contains(there, name) {
			there = append(there, name)
		}
	}
	rows := make([]string, 0, len(documented))
	for name := range documented {
		rows = append(rows, name)
	}
	between(t, "app/README.md, the table of packages,", rows, there)
	for _, name := range there {
		folder := "../" + name
		if name == "main.go" {
			folder = ".."
		}
		if got, want := documented[name], imported(t, folder); !slices.Equal(got, want) {
			t.Errorf("app/README.md: %s imports %v, not %v", name, want, got)
		}
	}
}

// unclear are words that say less than they seem to, or that are said of people where a protocol is meant.
var unclear = regexp.MustCompile(`(?i)\b(nobody|somebody|everybody|anybody|whoever|whom|oneself|by and by|(?:is|are|was|were|be|being) told|hears?|heard|holds? up|politely|of its word|word of)\b`)

// The log's lines and keys, in code spans, are interface.
func TestDocumentsAreInPlainWords(t *testing.T) {
	for _, name := range append(documents(t), ".env.example") {
		doc := code.ReplaceAllString(fenced.ReplaceAllString(read(t, name), ""), "")
		for n, line := range strings.Split(doc, "\n") {
			if word := unclear.FindString(line); word != "" {
				t.Errorf("%s: %q in %q (line %d without code blocks)", name, word, strings.TrimSpace(line), n+1)
			}
		}
	}
}

// Comments are held to the words of documents. A comment may break between two words, so it is read as one line.
func TestCommentsAreInPlainWords(t *testing.T) {
	held := map[string]int{}
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") {
			return err
		}
		folder := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(name)), "../")
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		held[folder]++
		for _, group := range file.Comments {
			var text string
			for _, comment := range group.List {
				text += " " + strings.Trim(comment.Text, "/* \t\n")
			}
			text = strings.Join(strings.Fields(text), " ")
			for _, at := range unclear.FindAllStringIndex(text, -1) {
				t.Errorf("%s: %q in %q", fset.Position(group.Pos()), text[at[0]:at[1]], text[max(0, at[0]-40):min(len(text), at[1]+40)])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"..", "bot", "e2e/backends", "election", "election/electiontest/mutants", "lifeline", "node", "service", "service/clustertest"} {
		if held[folder] == 0 {
			t.Errorf("no file of %s was found, in %v", folder, held)
		}
	}
}

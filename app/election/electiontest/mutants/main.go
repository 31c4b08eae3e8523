// Command mutants checks the election's tests: it breaks one rule of the election at a time in a copy
// of the sources and expects the tests to notice.
//
//	go run ./app/election/electiontest/mutants [-schedules 200] [-run regexp]
//
// It prints which test killed each mutant. It exits with 1 if one survived, and with 2 if it could not
// tell: a mutation whose text does not match the source, sources that do not compile, tests that fail
// without any mutation.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// errCannotTell says that the check itself is broken, not the tests it checks.
var errCannotTell = errors.New("the mutation check cannot tell")

// errSurvived says that the tests did not notice a mutation.
var errSurvived = errors.New("mutants survived")

const (
	storyTests    = "./app/election"
	scheduleTests = "./app/election/electiontest"
)

func main() {
	schedules := flag.Int("schedules", 200, "how many random schedules each mutant must get through")
	timeout := flag.Duration("timeout", 2*time.Minute, "bounds each run of the tests; running into it kills the mutant")
	run := flag.String("run", "", "only the mutants whose rule matches this regular expression")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := check(ctx, *schedules, *timeout, *run)
	stop()
	switch {
	case errors.Is(err, errSurvived):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func check(ctx context.Context, schedules int, timeout time.Duration, run string) error {
	only, err := regexp.Compile(run)
	if err != nil {
		return fmt.Errorf("reading -run: %w", err)
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return fmt.Errorf("making a directory for the copy: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary directory
	if err := copyElection(ctx, dir); err != nil {
		return fmt.Errorf("copying the election: %w", err)
	}
	b := bench{dir: dir, schedules: schedules, timeout: timeout}
	if err := matchAll(dir); err != nil {
		return err
	}
	switch v, err := b.judge(ctx); {
	case err != nil:
		return err
	case v.killed():
		return fmt.Errorf("%w: without any mutation %s fails", errCannotTell, v)
	}

	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RULE THAT IS BROKEN\tSTORIES\tRANDOM SCHEDULES")
	var survivors []string
	tried := 0
	for _, m := range mutants {
		if !only.MatchString(m.rule) {
			continue
		}
		tried++
		v, err := b.try(ctx, m)
		if err != nil {
			return fmt.Errorf("%q: %w", m.rule, err)
		}
		verdict := v.stories
		if !v.killed() {
			survivors = append(survivors, m.rule)
			verdict = "SURVIVED"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", m.rule, verdict, v.schedules)
		fmt.Fprintf(os.Stderr, "%s: %s\n", m.rule, v)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("printing the table: %w", err)
	}
	fmt.Println("\nNot expressible here: acknowledgements counted by address instead of replica. The machine never sees an address.")
	if tried == 0 {
		return fmt.Errorf("%w: no rule matches -run %q", errCannotTell, run)
	}
	if len(survivors) > 0 {
		return fmt.Errorf("%w: %s", errSurvived, strings.Join(survivors, ", "))
	}
	return nil
}

// copyElection copies the election's packages, tests included, into a module of their own: they import
// the standard library only, so it needs nothing else.
func copyElection(ctx context.Context, dir string) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("asking for the module: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	text, err := os.ReadFile(mod)
	if err != nil {
		return fmt.Errorf("reading the module: %w", err)
	}
	var kept []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "module ") || strings.HasPrefix(line, "go ") {
			kept = append(kept, line)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(strings.Join(kept, "")), 0o600); err != nil {
		return err
	}
	from := os.DirFS(filepath.Dir(mod))
	return fs.WalkDir(from, "app/election", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "mutants":
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(dir, path), 0o700)
		case filepath.Ext(path) != ".go":
			return nil
		}
		b, err := fs.ReadFile(from, path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, path), b, 0o600)
	})
}

// matchAll sees that every mutation finds its text, before any time is spent on one of them.
func matchAll(dir string) error {
	var errs []error
	for _, m := range mutants {
		for _, e := range m.edits {
			text, err := os.ReadFile(e.path(dir))
			if err != nil {
				return fmt.Errorf("%w: %q: %w", errCannotTell, m.rule, err)
			}
			if n := strings.Count(string(text), e.old); n != 1 {
				errs = append(errs, fmt.Errorf("%w: %q: its text occurs %d times in %s, want once: %q", errCannotTell, m.rule, n, e.file, e.old))
			}
		}
	}
	return errors.Join(errs...)
}

// bench runs the tests of the copy.
type bench struct {
	dir       string
	schedules int
	timeout   time.Duration
}

// verdict is what killed a mutant, of either kind of test; "-" if nothing did.
type verdict struct{ stories, schedules string }

func (v verdict) killed() bool   { return v.stories != "-" || v.schedules != "-" }
func (v verdict) String() string { return v.stories + "; " + v.schedules }

// try makes a mutation, judges it, and takes it back.
func (b bench) try(ctx context.Context, m mutant) (v verdict, err error) {
	for _, e := range m.edits {
		text, err := os.ReadFile(e.path(b.dir))
		if err != nil {
			return v, err
		}
		broken := strings.Replace(string(text), e.old, e.new, 1)
		if err := os.WriteFile(e.path(b.dir), []byte(broken), 0o600); err != nil {
			return v, err
		}
		defer func() { err = errors.Join(err, os.WriteFile(e.path(b.dir), text, 0o600)) }()
	}
	return b.judge(ctx)
}

func (b bench) judge(ctx context.Context) (v verdict, err error) {
	if v.stories, err = b.test(ctx, storyTests); err != nil {
		return v, err
	}
	v.schedules, err = b.test(ctx, scheduleTests, "-schedules", strconv.Itoa(b.schedules))
	return v, err
}

// brokenLine is how the random schedules tell of a broken guarantee, or of an event that never came.
var brokenLine = regexp.MustCompile(`seed \d+: .*|".*" (never occurred|occurred \d+ times)`)

// test runs one package's tests and says which failed first and how many others did.
func (b bench) test(ctx context.Context, pkg string, flags ...string) (string, error) {
	args := append([]string{"test", "-json", "-count=1", "-timeout", b.timeout.String(), pkg}, flags...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err == nil {
		return "-", nil
	}
	var failed []string
	var output strings.Builder
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var e struct{ Action, Test, Output string }
		if err := dec.Decode(&e); err != nil {
			return "", fmt.Errorf("%w: reading the tests' output: %w", errCannotTell, err)
		}
		output.WriteString(e.Output)
		if e.Action == "build-fail" {
			return "", fmt.Errorf("%w: it does not compile:\n%s", errCannotTell, &output)
		}
		top, _, _ := strings.Cut(e.Test, "/")
		if e.Action == "fail" && top != "" && !slices.Contains(failed, top) {
			failed = append(failed, top)
		}
	}
	timedOut := strings.Contains(output.String(), "panic: test timed out")
	if len(failed) == 0 && timedOut {
		return "timed out", nil
	}
	if len(failed) == 0 {
		return "", fmt.Errorf("%w: no test failed, but %s did: %w\n%s%s", errCannotTell, pkg, err, &output, &stderr)
	}
	slices.Sort(failed)
	said := failed[0]
	switch text := output.String(); {
	case timedOut:
		said += ": timed out"
	case strings.Contains(text, "panic: "):
		said += ": panic"
	case pkg == scheduleTests:
		if s := brokenLine.FindString(text); s != "" {
			said = s
		}
	}
	if len(failed) > 1 {
		said += fmt.Sprintf(" and %d more", len(failed)-1)
	}
	return said, nil
}

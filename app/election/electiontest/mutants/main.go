// Command mutants checks the tests of the election and of turns: it breaks one rule at a time, or one of the
// node and the bot where a rule is theirs, in a copy of the sources and expects the tests to notice.
//
//	go run ./app/election/electiontest/mutants [-schedules 300] [-run regexp] [-all]
//
// It prints which test killed each mutant: the first, or with -all both a story and a random schedule where
// they do. It exits with 1 if one survived, and with 2 if it could not tell: a mutation whose text does
// not match the source, sources that do not compile, tests that fail without any mutation.
//
// The mutants of turns alone: -run ^turns/
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// errCannotTell says that the check itself is broken, not the tests it checks.
var errCannotTell = errors.New("the mutation check cannot tell")

// errSurvived says that the tests did not notice a mutation.
var errSurvived = errors.New("mutants survived")

const (
	electionTests = "./app/election"
	scheduleTests = "./app/election/electiontest"
	nodeTests     = "./app/node"
	botTests      = "./app/bot"
	reachTests    = "./app/reach"
	lifelineTests = "./app/lifeline"
	turnsTests    = "./app/turns"

	turnScheduleTests = "./app/turns/turnstest"

	// enumeration is the test that takes longest.
	enumeration = "EveryReachableState"
)

func main() {
	schedules := flag.Int("schedules", 300, "how many random schedules each mutant must get through")
	all := flag.Bool("all", false, "let random schedules judge also what another test has killed")
	jobs := flag.Int("jobs", runtime.GOMAXPROCS(0), "how many mutants to judge at once")
	timeout := flag.Duration("timeout", 2*time.Minute, "bounds each run of the tests; running into it kills the mutant")
	run := flag.String("run", "", "only the mutants whose file and rule, as \"turns/polls.go: a last call gets updates\", match this regular expression")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := check(ctx, bench{schedules: *schedules, timeout: *timeout, all: *all}, *jobs, *run)
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

func check(ctx context.Context, b bench, jobs int, run string) error {
	only, err := regexp.Compile(run)
	if err != nil {
		return fmt.Errorf("reading -run: %w", err)
	}
	var chosen []mutant
	var pkgs []string
	for _, m := range all() {
		if only.MatchString(m.edits[0].file + ": " + m.rule) {
			chosen = append(chosen, m)
			pkgs = append(pkgs, m.pkg())
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("%w: no rule matches -run %q", errCannotTell, run)
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return fmt.Errorf("making a directory for the copies: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary directory
	benches := make([]bench, max(1, jobs))
	for i := range benches {
		benches[i] = b
		benches[i].dir = filepath.Join(dir, strconv.Itoa(i))
		if err := copySources(ctx, benches[i].dir); err != nil {
			return fmt.Errorf("copying the sources: %w", err)
		}
	}
	if err := matchAll(benches[0].dir); err != nil {
		return err
	}
	slices.Sort(pkgs)
	unbroken := benches[0]
	unbroken.print = true
	for _, pkg := range slices.Compact(pkgs) {
		switch v, err := unbroken.judge(ctx, pkg); {
		case err != nil:
			return err
		case v.killed():
			return fmt.Errorf("%w: without any mutation %s fails", errCannotTell, v)
		}
	}
	verdicts, err := tryAll(ctx, benches, chosen)
	if err != nil {
		return err
	}
	return report(chosen, verdicts)
}

// tryAll judges the mutants, on every bench one at a time.
func tryAll(ctx context.Context, benches []bench, chosen []mutant) ([]verdict, error) {
	verdicts := make([]verdict, len(chosen))
	errs := make([]error, len(benches))
	var next atomic.Int64
	var workers sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for w, b := range benches {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(chosen); i = int(next.Add(1)) - 1 {
				m := chosen[i]
				v, err := b.try(ctx, m)
				if err != nil {
					errs[w] = fmt.Errorf("%q: %w", m.rule, err)
					cancel()
					return
				}
				verdicts[i] = v
				fmt.Fprintf(os.Stderr, "%s: %s\n", m.rule, v)
			}
		})
	}
	workers.Wait()
	return verdicts, errors.Join(errs...)
}

func report(chosen []mutant, verdicts []verdict) error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RULE THAT IS BROKEN\tSTORIES\tRANDOM SCHEDULES")
	var survivors []string
	for i, m := range chosen {
		v := verdicts[i]
		if !v.killed() {
			survivors = append(survivors, m.rule)
			v.stories = "SURVIVED"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", m.rule, v.stories, v.schedules)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("printing the table: %w", err)
	}
	fmt.Printf("\n%d mutants, %d survived\n", len(chosen), len(survivors))
	if len(survivors) > 0 {
		return fmt.Errorf("%w: %s", errSurvived, strings.Join(survivors, ", "))
	}
	return nil
}

// copySources copies the module's packages, tests included.
func copySources(ctx context.Context, dir string) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("asking for the module: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	if err := os.CopyFS(filepath.Join(dir, "app"), os.DirFS(filepath.Join(root, "app"))); err != nil {
		return err
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// matchAll sees that every mutation finds its text, before any time is spent on one of them.
func matchAll(dir string) error {
	var errs []error
	for _, m := range all() {
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
	all       bool
	print     bool // what failing tests print, to stderr
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
	return b.judge(ctx, m.pkg())
}

// judge runs the tests of the package that was changed and, if it has them, random schedules.
func (b bench) judge(ctx context.Context, pkg string) (v verdict, err error) {
	v.stories, v.schedules = "-", "-"
	if pkg == electionTests || pkg == turnsTests { // most are killed by a story, in a second; the enumeration takes many
		if v.stories, err = b.test(ctx, pkg, "-skip", enumeration); err != nil || v.killed() && !b.all {
			return v, err
		}
	}
	if !v.killed() {
		if v.stories, err = b.test(ctx, pkg); err != nil {
			return v, err
		}
	}
	if pkg == reachTests && !v.killed() { // polls make health, too, and those are tried with all rooms together
		v.stories, err = b.test(ctx, botTests)
	}
	schedules := map[string]string{electionTests: scheduleTests, turnsTests: turnScheduleTests}[pkg]
	if schedules != "" && (b.all || !v.killed()) {
		v.schedules, err = b.test(ctx, schedules, "-run", "Random|Kept", "-shrink=false", "-schedules", strconv.Itoa(b.schedules))
	}
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
	printed := map[string]string{} // by top-level test
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
		printed[top] += e.Output
		if e.Action == "fail" && top != "" && !slices.Contains(failed, top) {
			failed = append(failed, top)
		}
	}
	timedOut := strings.Contains(output.String(), "panic: test timed out")
	switch {
	case len(failed) == 0 && timedOut:
		return "timed out", nil
	case len(failed) == 0 && strings.Contains(output.String(), "panic: "):
		return "panic", nil // on a goroutine that is no test's
	}
	if len(failed) == 0 {
		return "", fmt.Errorf("%w: no test failed, but %s did: %w\n%s%s", errCannotTell, pkg, err, &output, &stderr)
	}
	slices.Sort(failed)
	if b.print {
		for _, test := range failed {
			fmt.Fprint(os.Stderr, printed[test])
		}
	}
	said := failed[0]
	switch text := output.String(); {
	case timedOut:
		said += ": timed out"
	case strings.Contains(text, "panic: "):
		said += ": panic"
	case pkg == scheduleTests, pkg == turnScheduleTests:
		if s := brokenLine.FindString(text); s != "" {
			said = s
		}
	}
	if len(failed) > 1 {
		said += fmt.Sprintf(" and %d more", len(failed)-1)
	}
	return said, nil
}

// Command mutants breaks rpmig on purpose, one small edit at a time, and tells which test or which cell notices:
//
//	go run ./bench/mutants [-o FILE] [-only PATTERN] [-parallel N]
//
// A check that cannot fail proves nothing, and a table of edits that it has to notice shows that it can. The edits are the rows of
// table.go. Each is made in a copy of its file, which go build and go test take in place of the original (-overlay): the tree is
// never written to. First the tree as it is has to pass whatever the rows name, so that "caught" is not "always red".
//
// It takes root, as the modes with BPF do. Rows go to the standard output as a Markdown table, progress to the standard error. The
// exit status is 0 if every mutant was caught, or survives for a reason that its row gives; 1 if one survives without; 2 if a row
// is wrong, such as one whose text is no longer in its file, and where nothing could be found out.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/bench/tool"
	"github.com/rpmig/rpmig/result"
)

// mutant is a row of the table: an edit, and who has to notice it.
type mutant struct {
	name     string // what is wrong with rpmig then, as a clause
	file     string // from the module's root, with slashes
	old, new string // the edit; old is in the file once
	test     string // a pattern for go test -run; empty: no test is asked
	in       string // the package of that test, where it is not the file's own
	cells    string // arguments of rpmig run; empty: no cell is asked
	survives string // why all that are asked stay green; empty: each of them must turn red
}

// pkg is the package of the row's test.
func (m *mutant) pkg() string {
	if m.in != "" {
		return m.in
	}
	return path.Dir(m.file)
}

// edit makes the edit in the text of the file.
func (m *mutant) edit(text string) (string, error) {
	if n := strings.Count(text, m.old); n != 1 {
		return "", fmt.Errorf("the row has gone stale: its old text is in %s %d times, want once", m.file, n)
	}
	return strings.Replace(text, m.old, m.new, 1), nil
}

// outcome is what came of a mutant.
type outcome struct {
	test string // the first test that was red; empty: none
	cell string // the first cell that was red, with its reason; empty: none
	err  error  // nothing could be found out
}

// wrong says what is wrong with a row after it was played; empty: nothing.
func (m *mutant) wrong(o outcome) (problem string, status int) {
	red := o.test != "" || o.cell != ""
	green := m.test != "" && o.test == "" || m.cells != "" && o.cell == ""
	switch {
	case o.err != nil:
		return o.err.Error(), 2
	case m.survives != "" && red:
		return "it is caught after all, by " + o.caughtBy() + ": its row should give no reason why it survives", 2
	case m.survives == "" && !red:
		return "it survives", 1
	case m.survives == "" && green && o.test == "":
		return "no test of " + m.test + " turned red", 1
	case m.survives == "" && green:
		return "no cell of " + m.cells + " turned red", 1
	}
	return "", 0
}

func (o outcome) caughtBy() string {
	return strings.Join(slices.DeleteFunc([]string{o.test, o.cell}, func(s string) bool { return s == "" }), "; ")
}

func main() {
	var p player
	out := flag.String("o", "", "write the table to `FILE` too, with a head")
	only := flag.String("only", "", "play the rows whose file or name the `PATTERN` matches")
	flag.IntVar(&p.parallel, "parallel", 2, "play `N` mutants at a time")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: mutants [-o FILE] [-only PATTERN] [-parallel N]")
		flag.PrintDefaults()
	}
	flag.Parse()
	tool.Main("mutants", func(ctx context.Context) (int, error) { return p.run(ctx, *out, *only) })
}

// run plays the rows, and returns the exit status.
func (p *player) run(ctx context.Context, out, only string) (status int, err error) {
	began := time.Now()
	pattern, err := regexp.Compile(only)
	if err != nil {
		return 2, err
	}
	if flag.NArg() != 0 || out != "" && only != "" {
		return 2, errors.New("it takes no arguments, and writes no FILE of some rows only: see -help")
	}
	if os.Getuid() != 0 {
		return 2, errors.New("the modes with BPF take root, and so do their mutants: run it as root")
	}
	rows := slices.DeleteFunc(slices.Clone(table), func(m mutant) bool {
		return !pattern.MatchString(m.file) && !pattern.MatchString(m.name)
	})
	if len(rows) == 0 {
		return 2, fmt.Errorf("no row matches %q", only)
	}
	if p.root, err = tool.ModuleRoot(); err != nil {
		return 2, err
	}
	if p.dir, err = os.MkdirTemp("", "rpmig-mutants-"); err != nil {
		return 2, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(p.dir)) }()
	// Some tests play rpmig as another user, who has to get at it.
	if err := os.Chmod(p.dir, 0o777|os.ModeSticky); err != nil {
		return 2, err
	}

	fmt.Fprintf(os.Stderr, "mutants: the tree as it is: what %d rows name has to be green\n", len(rows))
	if err := p.baseline(ctx, rows); err != nil {
		return 2, fmt.Errorf("the tree as it is: %w", err)
	}
	outcomes := p.all(ctx, rows)
	if err := ctx.Err(); err != nil {
		return 2, err
	}
	for i := range rows {
		problem, s := rows[i].wrong(outcomes[i])
		if status = max(status, s); problem != "" {
			fmt.Fprintf(os.Stderr, "mutants: %s: %s: %s\n", rows[i].file, rows[i].name, problem)
		}
	}
	if err := writeRows(os.Stdout, rows, outcomes); err != nil {
		return 2, err
	}
	if out != "" && status < 2 {
		var b bytes.Buffer
		writeHead(&b, time.Since(began))
		if err := writeRows(&b, rows, outcomes); err != nil {
			return 2, err
		}
		if err := os.WriteFile(out, b.Bytes(), 0o644); err != nil {
			return 2, err
		}
	}
	return status, nil
}

// player plays mutants.
type player struct {
	root, dir string // the module, and a folder for all that is made here
	parallel  int
	commands  atomic.Int32 // that were run
}

// all plays all rows, some at a time.
func (p *player) all(ctx context.Context, rows []mutant) []outcome {
	outcomes := make([]outcome, len(rows))
	var playing errgroup.Group
	playing.SetLimit(max(p.parallel, 1))
	var ended atomic.Int32
	for i := range rows {
		playing.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			m, began := &rows[i], time.Now()
			outcomes[i] = p.play(ctx, m, filepath.Join(p.dir, fmt.Sprint(i)))
			if ctx.Err() != nil {
				return nil
			}
			said := outcomes[i].caughtBy()
			if problem, _ := m.wrong(outcomes[i]); problem != "" {
				said = "WRONG: " + problem
			} else if m.survives != "" {
				said = "survives, for a reason"
			}
			fmt.Fprintf(os.Stderr, "mutants: %d of %d, %.1f s: %s: %s: %s\n", ended.Add(1), len(rows), time.Since(began).Seconds(), m.file, m.name, said)
			return nil
		})
	}
	_ = playing.Wait() // none of them fails
	return outcomes
}

// play makes one edit, in a copy below dir, and asks who is to notice it.
func (p *player) play(ctx context.Context, m *mutant, dir string) (o outcome) {
	defer func() { _ = os.RemoveAll(dir) }() // a binary is 20 MB
	overlay, err := p.overlay(m, dir)
	if err != nil {
		return outcome{err: err}
	}
	if m.test != "" {
		tests, err := p.test(ctx, overlay, m.test, m.pkg())
		if err != nil {
			return outcome{err: err}
		}
		o.test = tests.firstRed()
	}
	if m.cells != "" {
		binary := filepath.Join(dir, "rpmig")
		if err := p.build(ctx, overlay, binary); err != nil {
			return outcome{err: err}
		}
		if o.cell, _, err = p.cells(ctx, binary, m.cells); err != nil {
			return outcome{err: err}
		}
	}
	return o
}

// overlay makes the edit in a copy of the file, and returns the file that tells go of it.
func (p *player) overlay(m *mutant, dir string) (string, error) {
	original := filepath.Join(p.root, filepath.FromSlash(m.file))
	text, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	edited, err := m.edit(string(text))
	if err != nil {
		return "", err
	}
	replacement, list := filepath.Join(dir, path.Base(m.file)), filepath.Join(dir, "overlay.json")
	b, err := json.Marshal(map[string]map[string]string{"Replace": {original: replacement}})
	return list, errors.Join(err, os.MkdirAll(dir, 0o755), os.WriteFile(replacement, []byte(edited), 0o644), os.WriteFile(list, b, 0o644))
}

// baseline plays what the rows name on the tree as it is.
func (p *player) baseline(ctx context.Context, rows []mutant) error {
	var patterns, packages, args []string
	for _, m := range rows {
		if m.test != "" {
			patterns, packages = append(patterns, m.test), append(packages, m.pkg())
		}
		if m.cells != "" {
			args = append(args, m.cells)
		}
	}
	slices.Sort(packages)
	slices.Sort(patterns)
	slices.Sort(args)
	if patterns = slices.Compact(patterns); patterns != nil {
		packages = slices.Compact(packages)
		tests, err := p.test(ctx, "", strings.Join(patterns, "|"), packages...)
		if err != nil {
			return err
		}
		for _, pkg := range tests.order {
			if err := p.testAgain(ctx, tests, pkg); err != nil {
				return err
			}
		}
		for _, m := range rows {
			if missing := tests.notPlayed(&m); missing != "" {
				return fmt.Errorf("%s of %s was not played, or was skipped: its mutants would survive", missing, m.pkg())
			}
		}
	}
	if args == nil {
		return nil
	}
	binary := filepath.Join(p.dir, "rpmig")
	if err := p.build(ctx, "", binary); err != nil {
		return err
	}
	for _, a := range slices.Compact(args) {
		red, played, err := p.cells(ctx, binary, a)
		switch {
		case err != nil:
			return err
		case red != "":
			return fmt.Errorf("rpmig run %s: %s", a, red)
		case played == 0:
			return fmt.Errorf("rpmig run %s: every cell was skipped: its mutants would survive", a)
		}
	}
	return nil
}

// testAgain plays the tests of a package that were red in the tree as it is again, and alone: on a busy machine a test may be red
// now and then, which is to be known, and no reason to give up.
func (p *player) testAgain(ctx context.Context, t *tests, pkg string) error {
	tries := 3
	for _, name := range t.failed[pkg] {
		if strings.Contains(name, "/") {
			continue // with its test
		}
		for try := 1; ; try++ {
			fmt.Fprintf(os.Stderr, "mutants: %s of %s is red in the tree as it is; it is played again\n", name, pkg)
			again, err := p.test(ctx, "", "^"+name+"$", pkg)
			if err != nil {
				return err
			}
			if again.firstRed() == "" {
				t.passed[pkg] = append(t.passed[pkg], name)
				break
			}
			if try == tries {
				return fmt.Errorf("%s is red, %d times and once more", again.firstRed(), tries)
			}
		}
	}
	return nil
}

// limit is how long a test binary, or rpmig, may take. They need some seconds, and what hangs has been noticed.
const limit = time.Minute

// test runs the tests of the packages that the pattern matches.
func (p *player) test(ctx context.Context, overlay, pattern string, packages ...string) (*tests, error) {
	timeout := limit
	if overlay == "" { // those of all rows together
		timeout *= 5
	}
	args := []string{"test", "-json", "-count=1", "-vet=off", "-ldflags=-w", "-timeout", timeout.String(), "-overlay", overlay, "-run", pattern}
	for _, pkg := range packages {
		args = append(args, "./"+pkg)
	}
	stdout, stderr, err := p.command(ctx, "go", args...)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	t, broken := readTests(stdout)
	if broken != nil {
		return nil, broken
	}
	if err != nil && t.firstRed() == "" {
		return nil, fmt.Errorf("go test: %w: %s", err, tool.LastLine(stderr))
	}
	return t, nil
}

// build builds rpmig.
func (p *player) build(ctx context.Context, overlay, binary string) error {
	_, stderr, err := p.command(ctx, "go", "build", "-buildvcs=false", "-ldflags=-w", "-overlay", overlay, "-o", binary, "./cmd/rpmig")
	if err != nil {
		return fmt.Errorf("it does not compile: %w: %s", err, tool.LastLine(stderr))
	}
	return nil
}

// cells plays cells, and returns the first that is red, and how many were not skipped. An ERROR has to come twice: it may be the
// doing of a machine that does not keep up.
func (p *player) cells(ctx context.Context, binary, args string) (red string, played int, err error) {
	first, err := p.playCells(ctx, binary, args)
	if err != nil || first.red() == "" || first.fails() {
		return first.red(), first.played, err
	}
	again, err := p.playCells(ctx, binary, args)
	if err != nil {
		return "", 0, err
	}
	again.bad = slices.DeleteFunc(again.bad, func(b badCell) bool {
		return !slices.ContainsFunc(first.bad, func(f badCell) bool { return f.id == b.id })
	})
	return again.red(), first.played, nil
}

// cells is what came of some cells.
type cells struct {
	played int       // not skipped
	bad    []badCell // each FAIL before each ERROR
	ended  string    // how rpmig ended, where no cell tells why
}

type badCell struct {
	id, reason string
	status     result.Status
}

func (c *cells) fails() bool { return len(c.bad) > 0 && c.bad[0].status == result.Fail }

// red is the first that is red; empty: none.
func (c *cells) red() string {
	if len(c.bad) == 0 {
		return c.ended
	}
	b := c.bad[0]
	return fmt.Sprintf("%s is %s: %s", b.id, b.status, b.reason)
}

// playCells plays cells once.
func (p *player) playCells(ctx context.Context, binary, args string) (c cells, err error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	stdout, stderr, err := p.command(limited, binary, append(append([]string{"run"}, strings.Fields(args)...), "--format=jsonl", "--quiet", "--no-confirm")...)
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return c, ctx.Err()
	case limited.Err() != nil:
		c.ended = fmt.Sprintf("it did not end in %v", limit)
		return c, nil
	case err != nil && !errors.As(err, &exit):
		return c, err
	case exit != nil && exit.ExitCode() == result.ExitUsage:
		return c, fmt.Errorf("rpmig run %s: %s", args, tool.LastLine(stderr))
	}
	run, err := result.Read(bytes.NewReader(stdout))
	switch {
	case err != nil && exit == nil:
		return c, fmt.Errorf("rpmig run %s: %w", args, err)
	case err == nil:
		for i := range run.Cells {
			cell := &run.Cells[i]
			if cell.Status != result.Skip {
				c.played++
			}
			if cell.Bad() {
				id := path.Join(cell.Scenario, cell.Family, cell.Mode)
				c.bad = append(c.bad, badCell{id: id, reason: p.masked(cell.Reason), status: cell.Status})
			}
		}
	}
	// They end in another order each time.
	slices.SortFunc(c.bad, func(a, b badCell) int {
		return cmp.Or(-cmp.Compare(a.status, b.status), cmp.Compare(a.id, b.id)) // FAIL comes behind ERROR in the alphabet
	})
	if exit != nil && c.bad == nil && exit.ExitCode() != result.ExitSkip {
		c.ended = fmt.Sprintf("%v: %s", exit, p.masked(tool.LastLine(stderr)))
	}
	return c, nil
}

// portNumber is one that the kernel has picked.
var portNumber = regexp.MustCompile(`:[1-9]\d{4}\b`)

// masked is a text without what differs from run to run.
func (p *player) masked(s string) string {
	return portNumber.ReplaceAllString(strings.ReplaceAll(s, p.dir, "…"), ":…")
}

// command runs a command in the module's root, in a process group of its own, which is ended with the context. Whatever it has
// started ends with it.
func (p *player) command(ctx context.Context, name string, args ...string) (stdout, stderr []byte, err error) {
	mark := fmt.Sprintf("RPMIG_MUTANT=%s/%d", p.dir, p.commands.Add(1))
	cmd := tool.Command(ctx, p.root, []string{"CGO_ENABLED=0", "TMPDIR=" + p.dir, "GOTMPDIR=" + p.dir, mark}, name, args...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err = cmd.Run()
	endMarked(mark)
	return out.Bytes(), complaint.Bytes(), err
}

// endMarked ends the processes that have this in their environment: mutants that leave nothing running are not to be counted on.
func endMarked(mark string) {
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range all {
		env, err := os.ReadFile(name)
		if err == nil && slices.Contains(strings.Split(string(env), "\x00"), mark) {
			if pid, err := strconv.Atoi(strings.Split(name, "/")[2]); err == nil {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
}

// tests is what came of some tests, in the order in which they ended; subtests have the name of their test before a slash.
type tests struct {
	passed, failed map[string][]string // by package, as a folder of the module
	order          []string            // the packages of failed, in the order in which they failed
}

// firstRed is the first test that failed, or rather the first of its subtests that did; empty: none.
func (t *tests) firstRed() string {
	for _, pkg := range t.order {
		names := t.failed[pkg]
		for _, name := range names {
			inside := func(other string) bool { return strings.HasPrefix(other, name+"/") }
			if !slices.ContainsFunc(names, inside) {
				return name
			}
		}
	}
	return ""
}

// notPlayed is the first of the tests that a row names that did not pass; empty: all have.
func (t *tests) notPlayed(m *mutant) string {
	for _, name := range m.testNames() {
		if !slices.Contains(t.passed[m.pkg()], name) {
			return name
		}
	}
	return ""
}

// testNames are the names of the tests in the row's pattern, which is names with slashes behind them, between bars.
func (m *mutant) testNames() []string {
	var names []string
	for one := range strings.SplitSeq(m.test, "|") {
		name, _, _ := strings.Cut(one, "/")
		if name = strings.Trim(name, "^$"); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// module is the module's path.
const module = "github.com/rpmig/rpmig/"

// readTests reads what go test -json prints (cmd/test2json). It fails if a package did not compile.
func readTests(b []byte) (*tests, error) {
	t := &tests{passed: map[string][]string{}, failed: map[string][]string{}}
	running := map[string][]string{}
	var complaint strings.Builder // of the compiler
	for d := json.NewDecoder(bytes.NewReader(b)); ; {
		var e struct{ Action, Package, Test, Output string }
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return t, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what go test prints: %w", err)
		}
		pkg := strings.TrimPrefix(e.Package, module)
		ended := func() {
			running[pkg] = slices.DeleteFunc(running[pkg], func(name string) bool { return name == e.Test })
		}
		switch e.Action {
		case "build-output":
			complaint.WriteString(e.Output)
		case "build-fail":
			return nil, fmt.Errorf("it does not compile: %s", tool.LastLine([]byte(complaint.String())))
		case "run":
			running[pkg] = append(running[pkg], e.Test)
		case "pass":
			ended()
			t.passed[pkg] = append(t.passed[pkg], e.Test)
		case "skip":
			ended()
		case "fail":
			if e.Test == "" && t.failed[pkg] == nil {
				// It ended in the midst of a test, as when that took too long; or after the last of them, as when goleak finds something.
				e.Test = "TestMain"
				if r := running[pkg]; len(r) > 0 {
					e.Test = r[len(r)-1]
				}
			}
			ended()
			if e.Test != "" {
				if t.failed[pkg] == nil {
					t.order = append(t.order, pkg)
				}
				t.failed[pkg] = append(t.failed[pkg], e.Test)
			}
		}
	}
}

// processors is how many there are, in words.
func processors() string { return result.Plural(runtime.NumCPU(), "processor", "processors") }

//go:build linux

package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/scenarios"
)

// root is the top of the repository, from where the tests of this package run.
const root = "../.."

// pages are the texts that are written by hand and that people read first.
var pages = []string{"README.md", "CONTRIBUTING.md", "docs/COOKBOOK.md", "docs/STABILITY.md", "docs/BISECT.md", "ci/README.md"}

func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// firstColumn returns the first column of the table whose header begins with a cell, without backquotes, in order.
func firstColumn(t *testing.T, page, header string) []string {
	t.Helper()
	var column []string
	inside := false
	for line := range strings.Lines(readPage(t, page)) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || cells[0] != "" {
			if inside {
				break
			}
			continue
		}
		first := strings.Trim(cells[1], " `")
		switch {
		case !inside:
			inside = first == header
		case strings.Trim(first, "-:") != "":
			column = append(column, first)
		}
	}
	if len(column) == 0 {
		t.Fatalf("%s: no table whose first column is %q", page, header)
	}
	return column
}

// TestTables holds the tables to what the program has: a row for each, and no row for what there is not.
func TestTables(t *testing.T) {
	var witnesses, statuses, exits []string
	for _, w := range result.Witnesses() {
		witnesses = append(witnesses, string(w))
	}
	for _, s := range result.Statuses() {
		statuses = append(statuses, string(s))
	}
	for _, code := range []int{result.ExitOK, result.ExitFail, result.ExitSkip, result.ExitUsage, result.ExitSoftware} {
		exits = append(exits, strconv.Itoa(code))
	}
	for _, c := range []struct {
		page, header string
		want         []string
	}{
		{"README.md", "--migrate", migrate.Names()},
		{"README.md", "witness", witnesses},
		{"README.md", "verdict", statuses},
		{"README.md", "exit code", exits},
		{"CONTRIBUTING.md", "package", packages(t)},
		{"CONTRIBUTING.md", "module", modules(t)},
	} {
		got := firstColumn(t, c.page, c.header)
		for _, name := range c.want {
			if !slices.Contains(got, name) {
				t.Errorf("%s: the table of each %s has no row for %s", c.page, c.header, name)
			}
		}
		for i, name := range got {
			if !slices.Contains(c.want, name) {
				t.Errorf("%s: the table of each %s has a row for %s, which there is not", c.page, c.header, name)
			}
			if slices.Contains(got[:i], name) {
				t.Errorf("%s: the table of each %s has two rows for %s", c.page, c.header, name)
			}
		}
	}
}

// packages lists the folders with Go files, relative to the root.
func packages(t *testing.T) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(name, ".go") {
			folder, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			if folder = filepath.ToSlash(folder); !slices.Contains(found, folder) {
				found = append(found, folder)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// modules lists what go.mod requires directly.
func modules(t *testing.T) []string {
	t.Helper()
	var direct []string
	inside := false
	for line := range strings.Lines(readPage(t, "go.mod")) {
		line = strings.TrimSpace(line)
		switch {
		case line == "require (":
			inside = true
		case line == ")":
			inside = false
		case strings.HasSuffix(line, "// indirect"):
		case inside || strings.HasPrefix(line, "require "):
			if fields := strings.Fields(strings.TrimPrefix(line, "require ")); len(fields) > 1 {
				direct = append(direct, fields[0])
			}
		}
	}
	if len(direct) == 0 {
		t.Fatal("go.mod: no direct requirement was found")
	}
	return direct
}

var (
	fenced    = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")
	quoted    = regexp.MustCompile("`([^`\n]+)`")
	inCommand = regexp.MustCompile(`(?:^|[ /|])rpmig ([a-z]+)`)
	aFlag     = regexp.MustCompile(`(?:^|[ "])--([a-z-]+)`)
	playing   = regexp.MustCompile(`rpmig run ([^ ]+)`)
	making    = regexp.MustCompile(`(?:^|[ &])make ([a-z][a-z0-9-]*)`)
)

// code returns what a page shows as code to type: the lines of its sh blocks, without comments, and what is in backquotes.
func code(page string) []string {
	var lines []string
	for _, block := range fenced.FindAllStringSubmatch(page, -1) {
		for line := range strings.Lines(block[1]) {
			line, _, _ = strings.Cut(line, " # ")
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	// Without the blocks, whose fences are backquotes too.
	for _, span := range quoted.FindAllStringSubmatch(regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(page, ""), -1) {
		lines = append(lines, span[1])
	}
	return lines
}

// TestCommandsOfPages holds every command, flag, scenario and make target that a page shows to what there is.
func TestCommandsOfPages(t *testing.T) {
	e := env{scenarios: scenarios.All()}
	var commands, flags []string
	for _, c := range e.app().Commands {
		commands = append(commands, c.Name)
		for _, f := range c.Flags {
			flags = append(flags, f.Names()...)
		}
		for _, sub := range c.Subcommands {
			for _, f := range sub.Flags {
				flags = append(flags, f.Names()...)
			}
		}
	}
	targets := readPage(t, "Makefile")
	for _, page := range pages {
		seen := 0
		for _, line := range code(readPage(t, page)) {
			line, _, _ = strings.Cut(line, " -- ") // behind it is a server's own command
			for _, m := range inCommand.FindAllStringSubmatch(line, -1) {
				seen++
				if !slices.Contains(commands, m[1]) {
					t.Errorf("%s: %q: there is no command %s", page, line, m[1])
				}
			}
			if m := playing.FindStringSubmatch(line); m != nil {
				for name := range strings.SplitSeq(strings.Trim(m[1], `'"`), ",") {
					known := name == "all" || slices.ContainsFunc(e.scenarios, func(s lab.Scenario) bool {
						ok, err := filepath.Match(name, s.Name)
						return ok && err == nil
					})
					if !known && !strings.HasPrefix(name, "-") {
						t.Errorf("%s: %q: there is no scenario %s", page, line, name)
					}
				}
			}
			if !strings.HasPrefix(line, "git ") && !strings.HasPrefix(line, "docker ") {
				for _, m := range aFlag.FindAllStringSubmatch(line, -1) {
					if !slices.Contains(flags, m[1]) {
						t.Errorf("%s: %q: no command has the flag --%s", page, line, m[1])
					}
				}
			}
			for _, m := range making.FindAllStringSubmatch(line, -1) {
				if !strings.Contains(targets, "\n"+m[1]+":") {
					t.Errorf("%s: %q: the Makefile has no target %s", page, line, m[1])
				}
			}
		}
		if page == "README.md" && seen == 0 {
			t.Errorf("%s: no command was found", page)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestLinks: what a page links to is there, unless it is on another host.
func TestLinks(t *testing.T) {
	for _, page := range append(slices.Clone(pages), "CHANGELOG.md") {
		for _, m := range link.FindAllStringSubmatch(readPage(t, page), -1) {
			file, _, _ := strings.Cut(m[1], "#")
			if strings.Contains(file, "://") || file == "" {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(page), file)); err != nil {
				t.Errorf("%s: a link leads nowhere: %v", page, err)
			}
		}
	}
}

// TestPages: they can be read in a terminal, the README says which Go builds it, and counts nothing that grows.
func TestPages(t *testing.T) {
	const columns = 100
	for _, page := range pages {
		n := 0
		for line := range strings.Lines(readPage(t, page)) {
			n++
			line = strings.TrimRight(line, "\n")
			if utf8.RuneCountInString(line) > columns && !strings.HasPrefix(line, "|") && !link.MatchString(line) {
				t.Errorf("%s:%d: more than %d columns", page, n, columns)
			}
			if line != strings.TrimRight(line, " \t") {
				t.Errorf("%s:%d: blanks at the end", page, n)
			}
		}
		if counted := regexp.MustCompile(`[0-9]+ (scenarios|cells played|modes|witnesses)`).FindString(readPage(t, page)); counted != "" {
			t.Errorf("%s: %q is counted by hand", page, counted)
		}
	}
	m := regexp.MustCompile(`(?m)^go ([0-9]+\.[0-9]+)`).FindStringSubmatch(readPage(t, "go.mod"))
	if m == nil || !strings.Contains(readPage(t, "README.md"), "Go "+m[1]) {
		t.Errorf("README.md: the Go that go.mod wants is not named: %q", m)
	}
}

// TestNamedTests: there are the tests that are named in these pages.
func TestNamedTests(t *testing.T) {
	var tests strings.Builder
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		tests.Write(code)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"docs/FAULTS.md", "CONTRIBUTING.md"} {
		named := regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w+`).FindAllString(readPage(t, page), -1)
		if len(named) == 0 {
			t.Errorf("%s names none", page)
		}
		for _, name := range named {
			if !strings.Contains(tests.String(), "\nfunc "+name+"(") {
				t.Errorf("%s: there is no %s", page, name)
			}
		}
	}
}

// TestNamedCode: what CONTRIBUTING.md says is in a file is declared there.
func TestNamedCode(t *testing.T) {
	const page = "CONTRIBUTING.md"
	named := regexp.MustCompile("`(\\w+)` in\\s+\\[[^\\]]+\\]\\(([^)]+)\\)").FindAllStringSubmatch(readPage(t, page), -1)
	if len(named) < 5 {
		t.Errorf("only %v", named)
	}
	for _, m := range named {
		declared := regexp.MustCompile(`(?m)^(func (\([^)]*\) )?|type |var |const )` + m[1] + `\b`)
		if !declared.MatchString(readPage(t, m[2])) {
			t.Errorf("%s: there is no %s in %s", page, m[1], m[2])
		}
	}
}

// TestReleased holds the date in the manual page to that of the latest release in the changelog.
func TestReleased(t *testing.T) {
	found := regexp.MustCompile(`(?m)^## \[\d+\.\d+\.\d+\] - (\d{4}-\d\d-\d\d)$`).FindStringSubmatch(readPage(t, "CHANGELOG.md"))
	if found == nil || found[1] != released {
		t.Errorf("the latest release of CHANGELOG.md is of %v, and version.go says %s", found, released)
	}
}

// TestFirstScreen plays what the README says to try first. The reader gets what stands below it, but for numbers and names of this machine.
func TestFirstScreen(t *testing.T) {
	t.Parallel()
	needRoot(t) // else bpf is SKIP
	needPlay(t)
	_, try, _ := strings.Cut(readPage(t, "README.md"), "\n## Try it\n")
	blocks := strings.SplitN(try, "```", 5)
	if len(blocks) < 5 {
		t.Fatalf("want a command, and what it prints: %.300s", try)
	}
	command, _, _ := strings.Cut(blocks[1], "  #")
	_, command, found := strings.Cut(command, "\nbin/rpmig ")
	if !found {
		t.Fatalf("no command in %q", blocks[1])
	}
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "bin"), 0o755), os.Symlink(rpmigPath(t), filepath.Join(dir, "bin", "rpmig"))); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "exec bin/rpmig "+command)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr // pipes
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	same := func(text string) string {
		for _, r := range []string{`rpmig \S+ on Linux .+`, `dropped by .+`, `127\.0\.0\.1:\d{3,}`, `[\d.]+ s`} {
			text = regexp.MustCompile(r).ReplaceAllString(text, "~")
		}
		return text
	}
	first, last, _ := strings.Cut(same(strings.TrimPrefix(blocks[3], "\n")), "  …\n") // what is left out between them
	if got := same(stdout.String() + stderr.String()); !strings.HasPrefix(got, first) || !strings.HasSuffix(got, last) {
		t.Errorf("want %s\n…\n%s\ngot %s", first, last, got)
	}
}

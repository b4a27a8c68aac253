package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/scenarios"
)

// TestMutants: each patch can be read, names scenarios that there are and that are played, and says what no other says.
func TestMutants(t *testing.T) {
	mutants, err := readMutants(".")
	if err != nil {
		t.Fatal(err)
	}
	if len(mutants) < 14 {
		t.Errorf("%d mutants", len(mutants))
	}
	known := map[string]bool{}
	for _, s := range scenarios.All() {
		known[s.Name] = true
	}
	seen := map[string]bool{}
	for _, m := range mutants {
		if seen[m.title] {
			t.Errorf("%s: another patch is about %q", m.name, m.title)
		}
		seen[m.title] = true
		for _, s := range m.caught {
			if !known[s] {
				t.Errorf("%s: there is no scenario %s", m.name, s)
			}
			if !slices.ContainsFunc(strings.Split(played, ","), func(p string) bool {
				ok, err := filepath.Match(strings.ReplaceAll(p, "/", "_"), strings.ReplaceAll(s, "/", "_"))
				return ok && err == nil
			}) {
				t.Errorf("%s: %s is not played", m.name, s)
			}
		}
	}
}

// TestDocument: docs/MUTANTS.md tells of each patch, as it is, and of no other.
func TestDocument(t *testing.T) {
	mutants, err := readMutants(".")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/MUTANTS.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| \d+ \| (\S+) \| (.*) \| \d+ \| \d+ \| \d+ \| (.*) \|$`).FindAllStringSubmatch(string(text), -1)
	said := map[string][]string{}
	for _, row := range rows {
		said[row[1]] = row[2:]
	}
	for _, m := range mutants {
		row := said[m.name]
		if row == nil || row[0] != cell(m.title) || m.survives != "" && row[1] != "it survives: "+cell(m.survives) {
			t.Errorf("%s: it says %q: make mutants", m.name, row)
		}
	}
	if len(rows) != len(mutants) {
		t.Errorf("it has %d rows, and there are %d patches: make mutants", len(rows), len(mutants))
	}
}

func TestParseMutant(t *testing.T) {
	const diff = "\n\n--- a/net/x.c\n+++ b/net/x.c\n@@ -1 +1 @@\n-a\n+b\n"
	m, err := parseMutant([]byte("it is broken\ncaught: quiz1 quiz2" + diff))
	if err != nil || m.title != "it is broken" || !slices.Equal(m.caught, []string{"quiz1", "quiz2"}) || !slices.Equal(m.files, []string{"net/x.c"}) {
		t.Errorf("%+v, %v", m, err)
	}
	m, err = parseMutant([]byte("it is broken\nsurvives: nobody can see it" + diff))
	if err != nil || m.survives != "nobody can see it" {
		t.Errorf("%+v, %v", m, err)
	}
	for _, text := range []string{
		"", "it is broken", "it is broken" + diff, "it is broken\ncaught:" + diff, "it is broken\ncaught: " + diff, "it is broken\nsurvives: " + diff,
		"\ncaught: quiz1" + diff, "it is broken\ncaught: quiz1\nmore: than that" + diff, "it is broken\ncaught: quiz1\n\nno diff\n",
		"it is broken\ncaught: quiz1\n\n--- a/../x.c\n+++ b/../x.c\n",
	} {
		if m, err := parseMutant([]byte(text)); err == nil {
			t.Errorf("%q: %+v", text, m)
		}
	}
}

// TestWrong: only a FAIL of each scenario that a patch names is enough.
func TestWrong(t *testing.T) {
	m := mutant{name: "m", caught: []string{"quiz1", "quiz2"}}
	for _, tt := range []struct {
		name    string
		m       mutant
		o       outcome
		problem string
		status  int
	}{
		{"all that it names", m, outcome{cells: map[string]tally{"quiz1": {fail: 1}, "quiz2": {fail: 2, pass: 1}}}, "", 0},
		{"one of two", m, outcome{cells: map[string]tally{"quiz1": {fail: 1}, "quiz2": {pass: 6}}}, "no FAIL of quiz2", 1},
		{"an ERROR", m, outcome{cells: map[string]tally{"quiz1": {fail: 1}, "quiz2": {err: 6}}}, "no FAIL of quiz2 (6 ERROR)", 1},
		{"nothing", m, outcome{cells: map[string]tally{"quiz1": {pass: 6}}}, "it survives", 1},
		{"another scenario", m, outcome{cells: map[string]tally{"other": {fail: 6}}}, "no FAIL of quiz1, quiz2", 1},
		{"it was not played", m, outcome{err: errors.New("no QEMU")}, "no QEMU", 2},
		{"for a reason", mutant{name: "m", survives: "so"}, outcome{cells: map[string]tally{"quiz1": {pass: 6}}}, "", 0},
		{"no reason", mutant{name: "m", survives: "so"}, outcome{by: "quiz1/ipv4/off", cells: map[string]tally{"quiz1": {fail: 6}}},
			"it is caught after all, by quiz1/ipv4/off: its patch should give no reason why it survives", 2},
		{"as it is", mutant{}, outcome{cells: map[string]tally{"quiz1": {pass: 6}}}, "", 0},
		{"as it is, skipped", mutant{}, outcome{cells: map[string]tally{"quiz1": {skip: 6}}}, "every cell was skipped: its mutants would survive", 2},
		{"as it is, and red", mutant{}, outcome{by: "quiz1/ipv4/off", reason: "oh", cells: map[string]tally{"quiz1": {fail: 1}}},
			"1 FAIL, 0 ERROR, 0 PASS, 0 SKIP: quiz1/ipv4/off oh", 2},
		{"as it is, and lost", mutant{}, outcome{ended: "it hangs", cells: map[string]tally{"quiz1": {pass: 1}}}, "it hangs", 2},
	} {
		if problem, status := tt.m.wrong(tt.o); problem != tt.problem || status != tt.status {
			t.Errorf("%s: %q, %d, want %q, %d", tt.name, problem, status, tt.problem, tt.status)
		}
	}
}

func TestCount(t *testing.T) {
	run := &result.Run{Header: result.Header{Cells: 7}, Cells: []result.Cell{
		{Scenario: "quiz2", Family: "ipv4", Mode: "off", Repeat: 1, Status: result.Fail, Reason: "later"},
		{Scenario: "quiz1", Family: "ipv4", Mode: "off", Repeat: 1, Status: result.Fail, Reason: "first"},
		{Scenario: "quiz1", Family: "ipv4", Mode: "bpf", Repeat: 1, Status: result.XFail},
		{Scenario: "quiz1", Family: "ipv4", Mode: "sysctl", Repeat: 1, Status: result.Error},
		{Scenario: "quiz1", Family: "ipv4", Mode: "bpf-pass", Repeat: 1, Status: result.Skip},
	}}
	o := count(run)
	if got := o.cells["quiz1"]; got != (tally{pass: 1, fail: 1, err: 1, skip: 1}) || o.reason != "first" || o.ended != "2 cells are missing" {
		t.Errorf("%+v", o)
	}
	run.Ending = &result.Ending{Why: "the kernel died"}
	if o := count(run); o.ended != "the kernel died" {
		t.Errorf("%+v", o)
	}
}

func TestNotTaken(t *testing.T) {
	const config = "CONFIG_NET=y\n# CONFIG_SMP is not set\n"
	if line := notTaken("# what it needs\nCONFIG_NET=y\n\n", config); line != "" {
		t.Error(line)
	}
	for _, line := range []string{"CONFIG_SMP=y", "CONFIG_NE=y", "CONFIG_NET=m"} {
		if got := notTaken("CONFIG_NET=y\n"+line+"\n", config); got != line {
			t.Errorf("%s: %q", line, got)
		}
	}
}

// TestRestore: what a patch has changed is undone, and what it has not keeps its time.
func TestRestore(t *testing.T) {
	tr := &tree{p: &player{}, dir: t.TempDir()}
	write := func(path, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(tr.src(), name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	write(filepath.Join(tr.src(), "net/x.c"), "a\n")
	write(filepath.Join(tr.src(), "net/y.c"), "a\n")
	patch := func(name string) *mutant {
		m, err := parseMutant([]byte("broken\ncaught: quiz1\n\n--- a/" + name + "\n+++ b/" + name + "\n@@ -1 +1 @@\n-a\n+b\n"))
		if err != nil {
			t.Fatal(err)
		}
		return &m
	}
	for _, name := range []string{"net/x.c", "net/y.c"} {
		if err := errors.Join(tr.restore(), tr.apply(t.Context(), patch(name))); err != nil {
			t.Fatal(err)
		}
		if read(name) != "b\n" {
			t.Errorf("%s: %q", name, read(name))
		}
	}
	if read("net/x.c") != "a\n" {
		t.Error("the first patch was not undone")
	}
	if err := tr.apply(t.Context(), patch("net/y.c")); err == nil || !strings.Contains(err.Error(), "does not apply") {
		t.Errorf("twice: %v", err)
	}
	before, _ := os.Stat(filepath.Join(tr.src(), "net/x.c"))
	if err := tr.restore(); err != nil || read("net/y.c") != "a\n" {
		t.Errorf("%v, %q", err, read("net/y.c"))
	}
	if after, _ := os.Stat(filepath.Join(tr.src(), "net/x.c")); !after.ModTime().Equal(before.ModTime()) {
		t.Error("a file that was as it should be was written")
	}
}

// TestTables: what has caught a mutant, and what has not, can be seen.
func TestTables(t *testing.T) {
	mutants := []mutant{
		{name: "one", title: "a|b", caught: []string{"quiz1"}},
		{name: "two", title: "c", caught: []string{"quiz2"}},
		{name: "three", title: "d", survives: "nobody can see it"},
	}
	outcomes := []outcome{
		{cells: map[string]tally{"quiz1": {fail: 2, err: 1, pass: 3}, "quiz2": {pass: 6}}, by: "quiz1/ipv4/off", reason: "lost"},
		{cells: map[string]tally{"quiz1": {pass: 6}, "quiz2": {err: 1, pass: 5}}, ended: "it hangs"},
		{cells: map[string]tally{"quiz1": {pass: 6}}},
	}
	var b bytes.Buffer
	writeTables(&b, mutants, outcomes)
	for _, want := range []string{
		"| 1 | one | a\\|b | 2 | 1 | 9 | `quiz1/ipv4/off`: lost |\n",
		"| 2 | two | c | 0 | 1 | 11 | **no FAIL of quiz2 (1 ERROR)**; (the guest ended early: it hangs) |\n",
		"| 3 | three | d | 0 | 0 | 6 | it survives: nobody can see it |\n",
		"| scenario | 1 | 2 | 3 |\n| --- | --- | --- | --- |\n| quiz1 | **2 1e** |  |  |\n| quiz2 |  | **1e** |  |\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, b.String())
		}
	}
}

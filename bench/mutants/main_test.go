package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rpmig/rpmig/bench/tool"
	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/scenarios"
)

// TestTable: each row can be made in the tree as it is, compiles, and names tests and scenarios that there are. It is how a row that
// has gone stale is found, long before anybody plays the mutants.
func TestTable(t *testing.T) {
	root, err := tool.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(table, func(a, b mutant) int { return strings.Compare(a.file, b.file) }) {
		t.Error("the rows are not sorted by file")
	}
	packages := listPackages(t, root)
	seen := map[string]bool{}
	for _, m := range table {
		t.Run(m.file+": "+m.name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m.file)))
			if err != nil {
				t.Fatal(err)
			}
			edited, err := m.edit(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if edited == string(text) {
				t.Error("it changes nothing")
			}
			if err := packages.check(path.Dir(m.file), path.Base(m.file), edited); err != nil {
				t.Errorf("it does not compile: %v", err)
			}
			if seen[m.name] {
				t.Error("another row has this name")
			}
			seen[m.name] = true
			if m.test == "" && m.cells == "" {
				t.Error("it asks nobody")
			}
			for _, name := range m.testNames() {
				if !hasTest(t, filepath.Join(root, filepath.FromSlash(m.pkg())), name) {
					t.Errorf("%s has no %s", m.pkg(), name)
				}
			}
			checkCells(t, m.cells)
		})
	}
}

// packages are those of the table, as go list has them, and the compiled ones that they import.
type packages struct {
	root     string
	set      *token.FileSet
	files    map[string][]string // of a folder, from the module's root
	imported types.Importer
}

func listPackages(t *testing.T, root string) *packages {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles"}
	for _, m := range table {
		args = append(args, "./"+path.Dir(m.file))
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	p, exports := &packages{root: root, set: token.NewFileSet(), files: map[string][]string{}}, map[string]string{}
	p.imported = importer.ForCompiler(p.set, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var one struct {
			ImportPath, Dir, Export string
			GoFiles                 []string
		}
		if err := d.Decode(&one); err == io.EOF {
			return p
		} else if err != nil {
			t.Fatal(err)
		}
		exports[one.ImportPath] = one.Export
		if dir, err := filepath.Rel(root, one.Dir); err == nil {
			p.files[filepath.ToSlash(dir)] = one.GoFiles
		}
	}
}

// check checks the types of a package one file of which has another text.
func (p *packages) check(dir, file, text string) error {
	var files []*ast.File
	for _, name := range p.files[dir] {
		var src any // nil: as it is
		if name == file {
			src = text
		}
		f, err := parser.ParseFile(p.set, filepath.Join(p.root, dir, name), src, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	_, err := (&types.Config{Importer: p.imported}).Check(dir, p.set, files, nil)
	return err
}

// TestCheck: a variable that nobody uses any more, and a name that is gone.
func TestCheck(t *testing.T) {
	root, err := tool.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	p := listPackages(t, root)
	p.files["x"] = []string{"x.go"}
	for text, want := range map[string]string{
		"package x; func f() {}":               "",
		"package x; func f() { a := 1 }":       "declared and not used: a",
		"package x; func f() { a() }":          "undefined: a",
		"package x; import \"fmt\"; var a int": "imported and not used",
		"package x; func f() {":                "expected",
	} {
		err := p.check("x", "x.go", text)
		if got := fmt.Sprint(err); (err == nil) != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// hasTest tells whether a package has a test of that name.
func hasTest(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		declares := func(of string) bool { return bytes.Contains(text, []byte("\nfunc "+name+"("+of+")")) }
		return err == nil && (declares("t *testing.T") || declares("f *testing.F")) // a fuzz target is a test of its seeds
	})
}

// checkCells checks the scenarios and modes in the arguments of rpmig run.
func checkCells(t *testing.T, args string) {
	t.Helper()
	if args == "" {
		return
	}
	words := strings.Fields(args)
	if _, err := harness.Select(scenarios.All(), words[0]); err != nil {
		t.Error(err)
	}
	for _, word := range words[1:] {
		if list, ok := strings.CutPrefix(word, "--migrate="); ok {
			if _, err := migrate.Parse(list); err != nil {
				t.Error(err)
			}
		}
		if list, ok := strings.CutPrefix(word, "--family="); ok {
			if _, err := lab.ParseFamilies(list); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestEdit: a row whose text is gone, or is there twice, is refused.
func TestEdit(t *testing.T) {
	m := mutant{file: "a/b.go", old: "x++", new: "x--"}
	for text, want := range map[string]string{"x++; y++": "x--; y++", "y++": "", "x++; x++": ""} {
		got, err := m.edit(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), "the row has gone stale: its old text is in a/b.go") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestWrong: whoever is asked has to notice, or nobody where the row says why.
func TestWrong(t *testing.T) {
	both, why := mutant{test: "TestA", cells: "quiz1"}, mutant{test: "TestA", survives: "it is the same"}
	for _, tt := range []struct {
		name   string
		m      mutant
		o      outcome
		status int
		want   string
	}{
		{"caught by both", both, outcome{test: "TestA", cell: "quiz1 is FAIL"}, 0, ""},
		{"caught by the only one that is asked", mutant{test: "TestA"}, outcome{test: "TestA"}, 0, ""},
		{"not caught", both, outcome{}, 1, "it survives"},
		{"not caught by the test", both, outcome{cell: "quiz1 is FAIL"}, 1, "no test of TestA"},
		{"not caught by a cell", both, outcome{test: "TestA"}, 1, "no cell of quiz1"},
		{"it survives for a reason", why, outcome{}, 0, ""},
		{"it survives for a reason that is none", why, outcome{test: "TestA"}, 2, "caught after all, by TestA"},
		{"it does not compile", both, outcome{err: errors.New("it does not compile")}, 2, "it does not compile"},
		{"it does not compile, and should survive", why, outcome{err: errors.New("it does not compile")}, 2, "it does not compile"},
	} {
		problem, status := tt.m.wrong(tt.o)
		if status != tt.status || !strings.Contains(problem, tt.want) || (problem == "") != (status == 0) {
			t.Errorf("%s: got %d, %q; want %d, %q", tt.name, status, problem, tt.status, tt.want)
		}
	}
}

// TestReadTests: what go test -json prints.
func TestReadTests(t *testing.T) {
	event := func(action, test, output string) string {
		return fmt.Sprintf(`{"Action":%q,"Package":"github.com/rpmig/rpmig/capture","Test":%q,"Output":%q}`+"\n", action, test, output)
	}
	begun := event("run", "TestA", "") + event("run", "TestA/x", "")
	for _, tt := range []struct {
		name, printed, red string
		passed             []string
		refused            string
	}{
		{"all pass", begun + event("pass", "TestA/x", "") + event("pass", "TestA", "") + event("pass", "", ""), "", []string{"TestA/x", "TestA", ""}, ""},
		{"a test fails", begun + event("pass", "TestA/x", "") + event("fail", "TestA", "") + event("fail", "", ""), "TestA", []string{"TestA/x"}, ""},
		{"a subtest fails, and is told of first", begun + event("fail", "TestA/x", "") + event("fail", "TestA", "") + event("fail", "", ""), "TestA/x", nil, ""},
		{"a subtest fails, and is told of last", begun + event("fail", "TestA", "") + event("fail", "TestA/x", "") + event("fail", "", ""), "TestA/x", nil, ""},
		{"it ends in a test", begun + event("output", "TestA/x", "panic") + event("fail", "", ""), "TestA/x", nil, ""},
		{"it ends behind the tests", begun + event("pass", "TestA/x", "") + event("pass", "TestA", "") + event("fail", "", ""), "TestMain", []string{"TestA/x", "TestA"}, ""},
		{"a test is skipped", begun + event("skip", "TestA/x", "") + event("skip", "TestA", "") + event("pass", "", ""), "", []string{""}, ""},
		{"it does not compile", event("build-output", "", "a.go:1:1: no\n") + event("build-fail", "", ""), "", nil, "it does not compile: a.go:1:1: no"},
		{"it prints something else", "FAIL", "", nil, "read what go test prints"},
	} {
		got, err := readTests([]byte(tt.printed))
		if tt.refused != "" {
			if err == nil || !strings.Contains(err.Error(), tt.refused) {
				t.Errorf("%s: %v, want %q", tt.name, err, tt.refused)
			}
			continue
		}
		if err != nil || got.firstRed() != tt.red || !slices.Equal(got.passed["capture"], tt.passed) {
			t.Errorf("%s: red %q, passed %q, %v", tt.name, got.firstRed(), got.passed, err)
		}
	}
}

// TestNotPlayed: a test that was skipped cannot catch anything.
func TestNotPlayed(t *testing.T) {
	m := mutant{file: "capture/flow.go", test: "TestA|^TestB$/x"}
	for want, passed := range map[string][]string{"": {"TestA", "TestB/x", "TestB"}, "TestB": {"TestA"}, "TestA": {"TestA/x", "TestB"}} {
		if got := (&tests{passed: map[string][]string{"capture": passed}}).notPlayed(&m); got != want {
			t.Errorf("%q passed: got %q, want %q", passed, got, want)
		}
	}
}

// TestWrite: the table has whatever came of each row, and nothing of this machine's folders.
func TestWrite(t *testing.T) {
	p := player{dir: "/tmp/x"}
	rows := []mutant{
		{name: "a | b", file: "capture/flow.go", test: "TestA", cells: "quiz1"},
		{name: "c", file: "capture/flow.go", test: "TestB", in: "harness"},
		{name: "d", file: "capture/flow.go", test: "TestB", survives: "it is the same"},
		{name: "e", file: "capture/flow.go", test: "TestB"},
	}
	outcomes := []outcome{
		{test: "TestA/x", cell: p.masked("quiz1/ipv4/off is ERROR: 127.0.0.1:40211 lost; open /tmp/x/1")},
		{test: "TestB"}, {}, {},
	}
	const want = `| what is wrong | file | test that is red | cell that is red |
| --- | --- | --- | --- |
| a \| b | capture/flow.go | TestA/x | quiz1/ipv4/off is ERROR: 127.0.0.1:… lost; open …/1 |
| c | capture/flow.go | TestB of harness |  |
| d | capture/flow.go | none: it is the same |  |
| e | capture/flow.go | **it survives** |  |
`
	var b strings.Builder
	if err := writeRows(&b, rows, outcomes); err != nil || b.String() != want {
		t.Errorf("%v\ngot\n%s\nwant\n%s", err, b.String(), want)
	}
	b.Reset()
	writeHead(&b, 90*time.Second+time.Millisecond)
	if !strings.Contains(b.String(), "It took 1m30s with two mutants at a time, on") {
		t.Error(b.String())
	}
}

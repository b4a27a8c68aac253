//go:build linux

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rpmig/rpmig/result"
)

var docs = filepath.Join("..", "..", "docs")

// TestPage: each recipe says what the table needs, make deps-servers installs what it needs, and it has its row, as has no other.
func TestPage(t *testing.T) {
	all, err := recipes(filepath.Join(docs, "recipes"), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(docs, "SERVERS.md"))
	if err != nil {
		t.Fatal(err)
	}
	begin, _, _ := strings.Cut(string(b), "| [")
	rows, err := rowsOf(string(b), begin)
	if err != nil {
		t.Fatal(err)
	}
	if page(begin, rows) != string(b) {
		t.Error("docs/SERVERS.md is not as make servers writes it")
	}
	makefile, err := os.ReadFile(filepath.Join("..", "..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if rows[r.name] == "" {
			t.Errorf("docs/SERVERS.md has no row of %s: make servers SERVERS=%[1]s", r.name)
		}
		delete(rows, r.name)
		for need := range strings.FieldsSeq(r.head["needs"]) {
			if !slices.Contains([]string{"go=golang", "node=nodejs"}, need) && !slices.Contains(strings.Fields(string(makefile)), need) {
				t.Errorf("make deps-servers does not install %s of %s", need, r.name)
			}
		}
	}
	if len(rows) > 0 {
		t.Errorf("docs/SERVERS.md has rows of what is no recipe: %v", rows)
	}
}

// TestRowsOf: the rows of recipes that are not named stay, but not those of another kernel.
func TestRowsOf(t *testing.T) {
	const begin = "head\n| --- |\n"
	old := page(begin, map[string]string{"a": "| [a](recipes/a.sh) | old |\n", "b": "| [b](recipes/b.sh) | old |\n"})
	rows, err := rowsOf(old, begin)
	if err != nil {
		t.Fatal(err)
	}
	rows["b"] = "| [b](recipes/b.sh) | new |\n"
	if got, want := page(begin, rows), strings.Replace(old, "b.sh) | old", "b.sh) | new", 1); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err := rowsOf(old, "another "+begin); err == nil {
		t.Error("rows of another kernel stay")
	}
}

// TestUnavailable: a recipe may find that its server is too old, and says so in the table.
func TestUnavailable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.sh")
	if err := os.WriteFile(path, []byte("echo first >&2; echo too old >&2; exit 69\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := recipe{name: "x", path: path, head: map[string]string{"version": "true"}}
	run, missing, err := r.play("rpmig", 1)
	if run != nil || missing != "too old" || err != nil {
		t.Fatalf("%v, %q, %v", run, missing, err)
	}
	if row := r.row(run, missing); !strings.Contains(row, "| not played: too old |") {
		t.Error(row)
	}
	if row := r.row(&result.Run{Cells: []result.Cell{{Mode: "bpf", Status: result.Skip}}}, ""); !strings.Contains(row, "| cannot be had |") {
		t.Error(row)
	}
}

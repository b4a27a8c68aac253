//go:build linux

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rpmig/rpmig/compare"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/scenarios"
)

// TestStability holds what docs/STABILITY.md promises: numbers and words that are written down here again, so that a change of one
// is seen as what it is.
func TestStability(t *testing.T) {
	codes := map[int]string{result.ExitOK: "0", result.ExitFail: "1", result.ExitSkip: "4", result.ExitUsage: "64", result.ExitSoftware: "70"}
	var want []string
	for code, written := range codes {
		want = append(want, written)
		if got := firstColumn(t, "docs/STABILITY.md", "exit code"); !slices.Contains(got, written) {
			t.Errorf("docs/STABILITY.md has no exit code %s", written)
		}
		if map[string]int{"0": 0, "1": 1, "4": 4, "64": 64, "70": 70}[written] != code {
			t.Errorf("exit code %d was %s", code, written)
		}
	}
	if got := firstColumn(t, "docs/STABILITY.md", "exit code"); len(got) != len(want) {
		t.Errorf("docs/STABILITY.md has exit codes %v", got)
	}
	if got := result.Statuses(); !slices.Equal(got, []result.Status{"PASS", "XFAIL", "SKIP", "FAIL", "ERROR"}) {
		t.Errorf("verdicts: %v", got)
	}
	if name := (compare.Key{Scenario: "quiz2", Family: "ipv4", Mode: "sysctl"}).String(); name != "quiz2.ipv4.sysctl" {
		t.Errorf("a cell is called %s", name)
	}
	if compare.BaselineSchema < 1 || result.Schema < 2 || compare.Schema < 1 {
		t.Error("a schema has become older")
	}
	for _, word := range []string{"quiz2.ipv4.sysctl", "run.schema.json", "rpmig_baseline", "Holm"} {
		if !strings.Contains(readPage(t, "docs/STABILITY.md"), word) {
			t.Errorf("docs/STABILITY.md does not speak of %s", word)
		}
	}
}

// namesFile lists the names that were ever given.
const namesFile = "testdata/names.txt"

// TestNamesStay: none of the names that were ever given is gone, and all there are, are in the list. -update adds what is new.
func TestNamesStay(t *testing.T) {
	text, err := os.ReadFile(namesFile)
	if err != nil && !*update {
		t.Fatal(err)
	}
	given := strings.Fields(string(text))
	var have []string
	for _, s := range scenarios.All() {
		have = append(have, s.Name)
	}
	have = append(append(have, lab.FamilyNames()...), migrate.Names()...)
	for _, name := range given {
		if !slices.Contains(have, name) {
			t.Errorf("%s is gone: docs/STABILITY.md promises that a name stays", name)
		}
	}
	all := slices.Clone(given)
	for _, name := range have {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	if len(all) == len(given) {
		return
	}
	if !*update {
		t.Fatalf("%s lacks %v: go test ./cmd/rpmig -run TestNamesStay -update", namesFile, all[len(given):])
	}
	slices.Sort(all)
	if err := os.WriteFile(filepath.FromSlash(namesFile), []byte(strings.Join(all, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

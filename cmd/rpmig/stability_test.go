//go:build linux

package main

import (
	"cmp"
	"encoding"
	"os"
	"path/filepath"
	"reflect"
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
	if compare.BaselineSchema != 1 || result.Schema != 2 || compare.Schema != 1 {
		t.Error("a schema is another: old programs will refuse what is written now")
	}
	for _, word := range []string{"quiz2.ipv4.sysctl", "run.schema.json", "rpmig_baseline", "Holm"} {
		if !strings.Contains(readPage(t, "docs/STABILITY.md"), word) {
			t.Errorf("docs/STABILITY.md does not speak of %s", word)
		}
	}
}

// TestNamesStay: none of the names that were ever given is gone, and all there are, are in the list.
func TestNamesStay(t *testing.T) {
	var have []string
	for _, s := range scenarios.All() {
		have = append(have, s.Name)
	}
	stay(t, "testdata/names.txt", append(append(have, lab.FamilyNames()...), migrate.Names()...))
}

// TestFieldsStay: so it is with the fields of a ledger, and what kind of value each has.
func TestFieldsStay(t *testing.T) {
	var have []string
	for name, of := range map[string]any{"header": result.Header{}, "cell": result.Cell{}, "ending": result.Ending{}} {
		have = append(have, fields(name, reflect.TypeOf(of))...)
	}
	slices.Sort(have)
	stay(t, "testdata/fields.txt", have)
}

// fields are those of the JSON of a type: "cell.resets[].frame=integer".
func fields(path string, of reflect.Type) (all []string) {
	text := reflect.TypeFor[encoding.TextMarshaler]()
	if of.Implements(text) || reflect.PointerTo(of).Implements(text) {
		return []string{path + "=string"}
	}
	switch of.Kind() {
	case reflect.Pointer:
		return fields(path, of.Elem())
	case reflect.Slice, reflect.Array:
		return fields(path+"[]", of.Elem())
	case reflect.Map:
		return fields(path+"{}", of.Elem())
	case reflect.Struct:
		for _, f := range reflect.VisibleFields(of) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "-" || f.Anonymous || !f.IsExported() {
				continue
			}
			all = append(all, fields(path+"."+cmp.Or(name, f.Name), f.Type)...)
		}
		return all
	case reflect.Float64:
		return []string{path + "=number"}
	case reflect.String:
		return []string{path + "=string"}
	case reflect.Bool:
		return []string{path + "=boolean"}
	default: // an int of some size
		return []string{path + "=integer"}
	}
}

// stay holds a list of what was ever promised against what there is. -update adds what is new, and takes nothing away.
func stay(t *testing.T, file string, have []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil && !*update {
		t.Fatal(err)
	}
	given := strings.Fields(string(text))
	for _, name := range given {
		if !slices.Contains(have, name) {
			t.Errorf("%s is gone: docs/STABILITY.md promises that it stays", name)
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
		t.Fatalf("%s lacks %v: go test ./cmd/rpmig -run %s -update", file, all[len(given):], t.Name())
	}
	slices.Sort(all)
	if err := os.WriteFile(filepath.FromSlash(file), []byte(strings.Join(all, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

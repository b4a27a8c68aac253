package compare

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"

	"github.com/rpmig/rpmig/result"
)

// skimmedSides are the runs of a ledger's text, as rpmig compare takes them.
func skimmedSides(text []byte, path string) ([]*Side, error) {
	sides, cells := map[*result.Run]*Side{}, map[*result.Run]int{}
	runs, err := result.Skim(bytes.NewReader(text), func(run *result.Run, c *result.Cell) error {
		if sides[run] == nil {
			sides[run] = NewSide(path, "")
		}
		sides[run].Add(c)
		cells[run]++
		return nil
	})
	var all []*Side
	for _, run := range runs {
		s := sides[run]
		if s == nil {
			s = NewSide(path, "")
		}
		s.Finish(run, cells[run])
		all = append(all, s)
	}
	return all, err
}

func ledgerText(t testing.TB, run *result.Run) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := result.NewWriter(&b, run.Header)
	if err != nil {
		t.Fatal(err)
	}
	for i := range run.Cells {
		if err := w.Write(&run.Cells[i]); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// FuzzCompare: whatever ledgers are read are compared, and shown in texts that are whole and harmless. A run has not changed from
// itself.
func FuzzCompare(f *testing.F) {
	ledger := func(scenario, spec string) []byte {
		cells := plays(scenario, spec)
		return ledgerText(f, &result.Run{Header: result.Header{Kernel: "6.1.180", Version: "v1", Machine: "x86_64", Cells: len(cells)}, Cells: cells})
	}
	pass, fail := ledger("quiz1", "PASS*9"), ledger("quiz1", "PASS*5 FAIL*4")
	f.Add(pass, fail)
	f.Add(fail, ledger("quiz1", "XFAIL SKIP ERROR"))
	f.Add(append(bytes.Clone(pass), fail...), ledger("selftest/a", "FAIL*9"))
	f.Add(fail[:len(fail)-30], append(bytes.Clone(pass), `{"ending":{"why":"it \u001b[2J died"}}`+"\n"...))
	f.Add(bytes.ReplaceAll(fail, []byte("want 1"), []byte(`]]>\u0000\u001b[2J|<b>`)), pass)
	f.Fuzz(func(t *testing.T, was, is []byte) {
		old, err := skimmedSides(was, "old")
		if err != nil {
			return
		}
		for _, s := range old {
			c := Compare([]Pair{{s, s}}, Options{Alpha: DefaultAlpha})[0]
			for _, ch := range c.Changes {
				if ch.Scenario != "" && ch.Kind != StillFailing {
					t.Errorf("compared with itself: %s is %s", ch.Key, ch.Kind)
				}
			}
		}
		changed, err := skimmedSides(is, "new")
		if err != nil {
			return
		}
		pairs, err := Pairs(old, changed)
		if err != nil {
			return
		}
		all := Compare(pairs, Options{Alpha: DefaultAlpha, Path: func(string) string { return "tcp_check_req" }})
		if exit := ExitCode(all); exit != result.ExitOK && exit != result.ExitFail && exit != result.ExitSoftware {
			t.Errorf("exit status %d", exit)
		}
		for _, format := range Formats() {
			var b strings.Builder
			if err := Render(&b, format, all, View{All: true}); err != nil {
				t.Fatal(err)
			}
			wholeText(t, format, b.String())
		}
	})
}

// wholeText holds a rendered comparison to its format, and to what a terminal may be shown; JSON is for programs.
func wholeText(t *testing.T, format, text string) {
	t.Helper()
	control := func(r rune) bool { return r != '\n' && unicode.IsControl(r) }
	if i := strings.IndexFunc(text, control); i >= 0 && format != "json" {
		t.Errorf("%s: a control character: %q", format, text[max(i-20, 0):i+1])
	}
	switch format {
	case "json":
		if !json.Valid([]byte(text)) {
			t.Errorf("no JSON: %s", text)
		}
	case "junit":
		d := xml.NewDecoder(strings.NewReader(text))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				t.Fatalf("%v: %s", err, text)
			}
		}
	}
}

// FuzzMerge: shards that are taken come to a ledger that can be read, with all of their cells.
func FuzzMerge(f *testing.F) {
	parts := shards()
	f.Add(ledgerText(f, parts[0].Run), ledgerText(f, parts[1].Run))
	f.Add(bytes.ReplaceAll(ledgerText(f, parts[0].Run), []byte(`"of":2`), []byte(`"of":1`)), []byte("{}"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var parts []Part
		cells := 0
		for _, text := range [][]byte{a, b} {
			run, err := result.ReadStored(bytes.NewReader(text), bytes.NewReader(text), 0)
			if err != nil {
				break // one may be all
			}
			parts = append(parts, Part{"part", run})
			cells += run.Len()
		}
		merged, err := merge(t, parts)
		if err != nil {
			return
		}
		again, err := result.Read(bytes.NewReader(ledgerText(t, merged)))
		if err != nil {
			t.Fatal(err)
		}
		if len(again.Cells) != cells || again.Missing() != 0 {
			t.Errorf("%d of %d cells, %d are missing", len(again.Cells), cells, again.Missing())
		}
	})
}

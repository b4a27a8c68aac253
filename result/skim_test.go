package result

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// skimmedCells are those that Skim hands over.
func skimmedCells(text string) (*Run, []Cell, error) {
	var cells []Cell
	run, err := Skim(strings.NewReader(text), func(c *Cell) error {
		cells = append(cells, *c)
		return nil
	})
	return run, cells, err
}

// TestSkim: it tells of each cell what Read does, as far as it tells.
func TestSkim(t *testing.T) {
	with := func(edit func(*Cell)) Cell {
		c := failed()
		edit(&c)
		return c
	}
	whole := ledger(t, header(3), passed(), failed(), skipped())
	for name, text := range map[string]string{
		"whole": whole, "cut": whole[:len(whole)-40], "schema 1": schema1, "empty lines": strings.ReplaceAll(whole, "\n", "\n\n"),
		"ending":  whole + `{"ending":{"why":"it died"}}` + "\n",
		"escapes": ledger(t, header(1), with(func(c *Cell) { c.Reason = `a "quoted\" one \\` + "\\" })),
		"spaces":  strings.NewReplacer(`,"`, ` , "`, `":`, `" : `).Replace(ledger(t, header(1), passed())),
	} {
		t.Run(name, func(t *testing.T) {
			want, err := Read(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			run, cells, err := skimmedCells(text)
			if err != nil {
				t.Fatal(err)
			}
			var briefs []Cell
			for i := range want.Cells {
				briefs = append(briefs, *brief(&want.Cells[i]))
			}
			if diff := cmp.Diff(briefs, cells, equalAddrs); diff != "" {
				t.Errorf("-Read +Skim:\n%s", diff)
			}
			want.Cells = nil
			if diff := cmp.Diff(want, run); diff != "" {
				t.Errorf("-Read +Skim:\n%s", diff)
			}
		})
	}
}

func TestSkimRefuses(t *testing.T) {
	whole := ledger(t, header(3), passed(), failed(), skipped())
	for name, text := range map[string]string{
		"nothing":   "",
		"no ledger": "hello\n",
		"newer":     strings.Replace(whole, `"schema":2`, `"schema":3`, 1),
		"twice":     whole + whole[strings.Index(whole, "\n")+1:],
		"no status": strings.Replace(whole, `"status":"PASS"`, `"status":"FINE"`, 1),
		"garbage":   whole + "}{\n",
		"no value":  whole + `{"scenario":}` + "\n",
	} {
		if _, _, err := skimmedCells(text); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	mine := errors.New("mine")
	if _, err := Skim(strings.NewReader(whole), func(*Cell) error { return mine }); err != mine {
		t.Errorf("got %v, want the error of who was handed a cell", err)
	}
}

// FuzzSkim: what Read takes, Skim takes, and tells the same of it.
func FuzzSkim(f *testing.F) {
	whole := ledger(f, header(3), passed(), failed(), skipped())
	f.Add([]byte(whole))
	f.Add([]byte(whole[:len(whole)-40]))
	f.Add([]byte(strings.ReplaceAll(whole, `":`, `" :	`)))
	f.Add([]byte(schema1))
	f.Add([]byte("\x00\xff{]\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, cells, err := skimmedCells(string(data))
		run, readErr := Read(bytes.NewReader(data))
		if readErr != nil {
			return
		}
		if err != nil || len(cells) != len(run.Cells) {
			t.Fatalf("Read takes it with %d cells, Skim has %d, and says %v", len(run.Cells), len(cells), err)
		}
		for i := range cells {
			a, b := run.Cells[i].Brief(), cells[i]
			if a.ID() != b.ID() || a.Status != b.Status || a.Reason != b.Reason || a.Elapsed != b.Elapsed || a.Connections != b.Connections {
				t.Fatalf("Read has %+v, Skim %+v", a, b)
			}
		}
	})
}

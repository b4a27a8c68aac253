package result

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// skimmedCells are those that Skim hands over.
func skimmedCells(text string) ([]*Run, [][]Cell, error) {
	var cells [][]Cell
	of := map[*Run]int{}
	runs, err := Skim(strings.NewReader(text), func(run *Run, c *Cell) error {
		if _, ok := of[run]; !ok {
			of[run] = len(cells)
			cells = append(cells, nil)
		}
		cells[of[run]] = append(cells[of[run]], *c)
		return nil
	})
	return runs, cells, err
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
		"two": whole + whole, "whole": whole, "cut": whole[:len(whole)-40], "schema 1": schema1, "empty lines": strings.ReplaceAll(whole, "\n", "\n\n"),
		"ending":  whole + `{"ending":{"why":"it died"}}` + "\n",
		"escapes": ledger(t, header(1), with(func(c *Cell) { c.Reason = `a "quoted\" one \\` + "\\" })),
		"twice named": strings.NewReplacer(`"status":"PASS"`, `"status":"FAIL","Status":"PASS"`, `"reason":"`, `"reason":"\u0041","reason":"B","reason":"`,
			`"mode":"`, `"mode":"x","MODE":"`, `"checks":[`, `"\u212Aind":1,"check\u017F":[{"name":"a","ok":true}],"checks":[`).Replace(whole),
		"null":    strings.NewReplacer(`"reason":"`, `"reason":null,"bug":null,"reason":"`).Replace(whole),
		"letters": ledger(t, header(1), with(func(c *Cell) { c.Reason = "größer → 5 \u2028" })),
		"spaces":  strings.NewReplacer(`,"`, ` , "`, `":`, `" : `).Replace(ledger(t, header(1), passed())),
	} {
		t.Run(name, func(t *testing.T) {
			want, err := ReadAll(strings.NewReader(text), 0)
			if err != nil {
				t.Fatal(err)
			}
			runs, cells, err := skimmedCells(text)
			if err != nil {
				t.Fatal(err)
			}
			var briefs [][]Cell
			for _, run := range want {
				var of []Cell
				for i := range run.Cells {
					of = append(of, *brief(&run.Cells[i]))
				}
				briefs = append(briefs, of)
				run.Cells = nil
			}
			if diff := cmp.Diff(briefs, cells, equalAddrs); diff != "" {
				t.Errorf("-Read +Skim:\n%s", diff)
			}
			if diff := cmp.Diff(want, runs); diff != "" {
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
		"cut head":  whole + whole[:20],
		"no status": strings.Replace(whole, `"status":"PASS"`, `"status":"FINE"`, 1),
		"garbage":   whole + "}{\n",
		"no value":  whole + `{"scenario":}` + "\n",
	} {
		if _, _, err := skimmedCells(text); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	mine := errors.New("mine")
	if _, err := Skim(strings.NewReader(whole), func(*Run, *Cell) error { return mine }); err != mine {
		t.Errorf("got %v, want the error of who was handed a cell", err)
	}
}

// TestPick: the cells that are wanted are whole, each of its own run.
func TestPick(t *testing.T) {
	whole := ledger(t, header(3), passed(), failed(), skipped())
	picked, runs, err := Pick(strings.NewReader(whole+whole), func(run int, c *Cell) bool { return run == 1 && c.Status == Fail })
	if err != nil || runs != 2 {
		t.Fatalf("%d runs, %v", runs, err)
	}
	want, err := Read(strings.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[int][]Cell{1: {want.Cells[1]}}, picked, equalAddrs); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// FuzzSkim: what Read takes, Skim takes, and tells the same of it; and what Read refuses because it contradicts itself Skim refuses so.
func FuzzSkim(f *testing.F) {
	whole := ledger(f, header(3), passed(), failed(), skipped())
	f.Add([]byte(whole))
	f.Add([]byte(whole[:len(whole)-40]))
	f.Add([]byte(strings.ReplaceAll(whole, `":`, `" :	`)))
	f.Add([]byte(strings.Replace(whole, `"status":"`, `"status":"FAIL","STATUS":"`, 1)))
	for _, edit := range [][2]string{{`"frame":6`, `"frame":7`}, {`"step":2`, `"step":3`}, {`"ok":true`, `"ok":false`}, {`"resets":[`, `"resets":[],"resets":[`}} {
		f.Add([]byte(strings.Replace(whole, edit[0], edit[1], 1)))
	}
	f.Add([]byte(schema1))
	f.Add([]byte("\x00\xff{]\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		runs, cells, err := skimmedCells(string(data))
		want, readErr := ReadAll(bytes.NewReader(data), 0)
		if against := new(ContradictionError); errors.As(readErr, &against) && (err == nil || err.Error() != readErr.Error()) {
			t.Fatalf("Read: %v\nSkim: %v", readErr, err)
		}
		if readErr != nil {
			return
		}
		var skimmed, read []Cell
		for _, of := range cells {
			skimmed = append(skimmed, of...)
		}
		for _, run := range want {
			read = append(read, run.Cells...)
		}
		if err != nil || len(skimmed) != len(read) || len(runs) != len(want) {
			t.Fatalf("Read takes it with %d cells, Skim has %d, and says %v", len(read), len(skimmed), err)
		}
		for i := range skimmed {
			if diff := cmp.Diff(*brief(&read[i]), skimmed[i], equalAddrs); diff != "" {
				t.Fatalf("-Read +Skim:\n%s", diff)
			}
		}
	})
}

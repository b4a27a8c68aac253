package result

import (
	"strings"
	"testing"
	"time"
)

// TestStoredSummary: cells that stay in their file are counted as those in memory are.
func TestStoredSummary(t *testing.T) {
	text := ledger(t, header(4), passed(), failed(), skipped(), streamed())
	held, err := Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	stored, err := ReadStored(strings.NewReader(text), strings.NewReader(text), 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := stored.Summary(), held.Summary(); got != want || !strings.HasSuffix(want, "; 1 measured again") {
		t.Errorf("want %s, got %s", want, got)
	}
}

// TestTook: a run ends with its last cell. The cycles of a reload's cells take turns, and what a cell tells of itself is shorter than
// from its first cycle to its last.
func TestTook(t *testing.T) {
	at := Time{time.Unix(1, 0)}
	turns := func(at float64, cycles ...ReloadCycle) Cell {
		return Cell{Scenario: "reload/x", At: at, Elapsed: 2, Reload: &Reload{Cycles: cycles}}
	}
	for name, tt := range map[string]struct {
		started Time
		cells   []Cell
		want    float64
		known   bool
	}{
		"side by side": {at, []Cell{{Scenario: "a", At: 1, Elapsed: 5}, {Scenario: "b", At: 3, Elapsed: 1}}, 6, true},
		"by turns":     {at, []Cell{turns(2.5, ReloadCycle{At: 1, To: 2}, ReloadCycle{At: 5, To: 6}), turns(4, ReloadCycle{At: 2.5, To: 4.5})}, 7.5, true},
		"no cycle":     {at, []Cell{turns(0)}, 0, false},
		"no clock":     {Time{}, []Cell{{Scenario: "a", At: 1, Elapsed: 5}}, 6, false},
	} {
		run := Run{Header: Header{Started: tt.started}, Cells: tt.cells}
		if took, known := run.Took(); known != tt.known || known && took != tt.want {
			t.Errorf("%s: want %v s, %t, got %v, %t", name, tt.want, tt.known, took, known)
		}
	}
}

package result

import (
	"strings"
	"testing"
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

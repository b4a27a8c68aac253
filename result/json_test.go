package result

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestJSON: nothing in it can drive a terminal, and it says what the value does.
func TestJSON(t *testing.T) {
	text := "<a> \x1b[2J\x7f\u0080\u009b31m\u009f\u00a0£é≥\u0bc2\u07ff\U000c2c2c \\ \" \n"
	for _, indent := range []string{"", "  "} {
		got, err := JSON(map[string]string{text: text}, indent)
		if err != nil {
			t.Fatal(err)
		}
		if i := strings.IndexFunc(string(got), func(r rune) bool { return r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 }); i >= 0 {
			t.Errorf("%q has a control character at %d", got, i)
		}
		if !strings.Contains(string(got), `<a> \u001b[2J\u007f\u0080\u009b31m\u009f`+"\u00a0£é≥") {
			t.Errorf("got %q", got)
		}
		var again map[string]string
		if err := json.Unmarshal(got, &again); err != nil || again[text] != text {
			t.Errorf("read again: %q, %v; want %q", again, err, text)
		}
	}
	if _, err := JSON(func() {}, ""); err == nil {
		t.Error("a function is no JSON")
	}
	// Each cell of a ledger goes through it.
	c := passed()
	c.Reason = text
	if got := ledger(t, header(1), c); strings.ContainsAny(got, "\x7f\u009b") {
		t.Errorf("a ledger has it raw: %q", got)
	} else if run, err := Read(strings.NewReader(got)); err != nil || run.Cells[0].Reason != text {
		t.Errorf("read: %v", err)
	}
}

package result

import "testing"

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                          "",
		"want 5, got 0":             "want 5, got 0",
		"\x1b[2J and\r\nmore\ttext": `\x1b[2J and\r\nmore\ttext`,
		"größer → 5 µs":             "größer → 5 µs",
		"\x00\x7f\u0085\ufffe":      `\x00\x7f\u0085\ufffe`,
		"\u202eright to left":       `\u202eright to left`,
		"\xff":                      "\ufffd",
	} {
		if got := Printable(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

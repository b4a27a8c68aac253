package scenarios

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rpmig/rpmig/harness"
)

func TestAll(t *testing.T) {
	if err := harness.Validate(All()); err != nil {
		t.Fatal(err)
	}
	for _, s := range All() {
		for line := range strings.Lines(s.Doc + "\n" + s.Path) {
			if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 78 {
				t.Errorf("%s: %q does not fit a help text of 80 columns", s.Name, line)
			}
		}
	}
}

package reports

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rpmig/rpmig/result"
)

// TestFold folds what comes three times or more, alone or in a row of several, and nothing else; no reset is folded.
func TestFold(t *testing.T) {
	steps := func(format string, n int) (all []moment) {
		for i := range n {
			for part := range strings.SplitSeq(format, ";") {
				text := part
				if strings.Contains(part, "%d") {
					text = fmt.Sprintf(part, i)
				}
				all = append(all, moment{kind: stepMoment, text: text})
			}
		}
		return all
	}
	resets := steps("R. seq 1", 5)
	for i := range resets {
		resets[i].reset = &result.Reset{}
	}
	for _, c := range []struct {
		name string
		all  []moment
		want string
	}{
		{"nothing", nil, ""},
		{"twice", steps("again", 2), "again|again"},
		{"the same", steps("again", 25), "again (× 25)"},
		{"numbers differ", steps("slot %d", 4), "slot 0 (× 4, to: slot 3)"},
		{"words differ", append(steps("a", 1), steps("b", 1)...), "a|b"},
		{"a row", steps("accept;queue %d", 9), "[accept,queue 0] × 9"},
		{"a row between others", append(append(steps("x", 1), steps("a;b", 3)...), steps("y", 1)...), "x|[a,b] × 3|y"},
		{"resets", resets, "R. seq 1|R. seq 1|R. seq 1|R. seq 1|R. seq 1"},
	} {
		var got []string
		moments := 0
		for _, f := range fold(c.all) {
			moments += f.times * len(f.moments)
			var texts []string
			for _, m := range f.moments {
				texts = append(texts, m.text)
			}
			text := strings.Join(texts, ",") + f.often()
			if len(f.moments) > 1 {
				text = fmt.Sprintf("[%s] × %d", text, f.times)
			}
			got = append(got, text)
		}
		if text := strings.Join(got, "|"); text != c.want {
			t.Errorf("%s: got %s, want %s", c.name, text, c.want)
		}
		if moments != len(c.all) {
			t.Errorf("%s: %d moments became %d", c.name, len(c.all), moments)
		}
	}
}

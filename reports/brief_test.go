package reports

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rpmig/rpmig/result"
)

// TestBrief: the formats that show no checks say the same of a run whose later repeats are kept in brief.
func TestBrief(t *testing.T) {
	whole := &result.Run{Header: result.Header{Version: "v", Kernel: "6.18", Machine: "m", Modes: modes()}}
	for repeat := 1; repeat <= 40; repeat++ {
		for _, scenario := range []string{"quiz1", "quiz2"} {
			for _, mode := range []string{"off", "sysctl"} {
				whole.Cells = append(whole.Cells, play(scenario, "ipv4", mode, repeat))
			}
		}
	}
	whole.Header.Cells = len(whole.Cells)
	brief := *whole
	brief.Cells = nil
	for _, c := range whole.Cells {
		if c.Repeat > 10 {
			c = c.Brief()
		}
		brief.Cells = append(brief.Cells, c)
	}
	for _, f := range Formats() {
		var a, b bytes.Buffer
		if err := f.Render(&a, []*result.Run{whole}, Options{}); err != nil {
			t.Fatal(err)
		}
		if err := f.Render(&b, []*result.Run{&brief}, Options{}); err != nil {
			t.Fatal(err)
		}
		if !f.Checks && !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Errorf("%s: -whole +brief:\n%s", f.Name, cmp.Diff(a.String(), b.String()))
		}
	}
}

package result

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestContradictions: whatever a ledger says against itself is refused by name, when it is read and when it would be written.
func TestContradictions(t *testing.T) {
	wrong := Check{Name: "accepted", Witness: Application, Want: "1", Got: "0"}
	for _, tt := range []struct {
		name   string
		change func(*Cell)
		want   string
	}{
		{"99 of 1", func(c *Cell) { c.Connections = Connections{Staged: 1, Survived: 99} }, "99 connections survived and 0 were lost, of 1"},
		{"lost and found", func(c *Cell) { c.Connections.Survived = 1 }, "1 connections survived and 1 were lost, of 1"},
		{"deaf and alive", func(c *Cell) { c.Connections.Deaf = 2 }, "2 connections were deaf, of 1"},
		{"less than none", func(c *Cell) { c.Connections.Deaf = -1 }, "-1 connections were deaf"},
		{"another stream", func(c *Cell) { c.Stream = &Stream{Connections: 5} }, "its stream has lost 0 of 5 connections"},
		{"a frame that is not there", func(c *Cell) { c.Capture.Packets = 5 }, "a reset in frame 6 of 5"},
		{"a frame before the first", func(c *Cell) { c.Resets[0].Frame = 0 }, "a reset in frame 0 of 6"},
		{"two resets at once", func(c *Cell) { c.Resets = append(c.Resets, c.Resets[0]) }, "two resets in frame 6"},
		{"a step that is not there", func(c *Cell) { c.Resets[0].Step = len(c.Steps) + 1 }, "a reset during step "},
		{"a step before the first", func(c *Cell) { c.Resets[0].Step = -1 }, "a reset during step -1"},
		{"a segment behind the last", func(c *Cell) { c.Flow = []Segment{{Frame: 7}} }, "a segment in frame 7 of 6"},
		{"a segment before the first", func(c *Cell) { c.Flow = []Segment{{Frame: 0}} }, "a segment in frame 0 of 6"},
		{"a PASS that failed", func(c *Cell) { c.Checks = append(c.Checks, wrong) }, "it is a PASS, and a check did not hold: accepted: want 1, got 0"},
		{"a FAIL that passed", func(c *Cell) { c.Status = Fail }, "it is a FAIL, and no check failed"},
		{"an XFAIL that passed", func(c *Cell) { c.Status, c.Bug = XFail, "CVE-1" }, "it is an XFAIL, and no check failed"},
		{"an XFAIL for nothing", func(c *Cell) { c.Status, c.Checks = XFail, []Check{wrong} }, "names no known bug"},
		{"a SKIP that was played", func(c *Cell) { c.Status = Skip }, "it is a SKIP, and was played"},
		{"a SKIP with a bug", func(c *Cell) { *c = skipped(); c.Bug = "CVE-1" }, "it is a SKIP, and names the bug CVE-1"},
		{"1 is not 2", func(c *Cell) { c.Checks[0].Want, c.Checks[0].Got = "1", "2" }, "a check that held: accept on B: want 1, got 2"},
		{"1 is 1", func(c *Cell) { c.Status, c.Checks[0] = Fail, Check{Name: "x", Want: "1", Got: "1"} }, "a check that did not hold: x: want 1, got 1"},
		{"known is not known", func(c *Cell) {
			c.Status, c.Checks[0] = Fail, Check{Name: "x", Witness: Application, Want: "known", Got: "known"}
		}, "a check that did not hold: x: want known, got known"},
		{"none is not some", func(c *Cell) {
			c.Checks = append(c.Checks, Check{Name: "x", Witness: Wire, Want: "none", Got: "some", OK: true})
		}, "a check that held: x: want none, got some"},
		{"a bug that nobody knows", func(c *Cell) {
			c.Status, c.Bug, c.Checks = XFail, "CVE-2", []Check{wrong}
		}, `the header has no bug "CVE-2"`},
		{"a PASS that was confirmed", func(c *Cell) { c.Confirmed = &Replay{Status: Fail} }, "it is a PASS, and was played again as a FAIL"},
		{"a FAIL that was not", func(c *Cell) {
			c.Status, c.Checks, c.Confirmed = Fail, []Check{wrong}, &Replay{Status: Pass}
		}, "it is a FAIL that was not confirmed: played again, it was a PASS"},
		{"void and a FAIL", func(c *Cell) { c.Void = &Replay{Status: Fail} }, "its first measurement was void, and a FAIL"},
		{"no such mode", func(c *Cell) { c.Mode = "magic" }, `the header has no mode "magic"`},
		{"no such family", func(c *Cell) { c.Family = "ipv9" }, `the header has no family "ipv9"`},
		{"no such scenario", func(c *Cell) { c.Scenario = "magic" }, `the header has no scenario "magic"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := passed()
			tt.change(&c)
			head := header(1)
			head.Scenarios, head.Bugs, head.Families = []About{{Name: "quiz2"}}, []Bug{{ID: "CVE-1"}}, []string{"ipv4"}
			if strings.Contains(tt.want, "CVE-2") { // of none that are known
				head.Bugs = nil
			}
			_, err := Read(strings.NewReader(unchecked(t, head, c)))
			var against *ContradictionError
			if !errors.As(err, &against) || against.Line != 2 || against.Cell != c.ID() || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want line 2, %s and %q, got %v", c.ID(), tt.want, err)
			}
			sameRefusal(t, unchecked(t, head, c))
			w, err := NewWriter(new(strings.Builder), header(1))
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Write(&c); (err == nil) != strings.Contains(tt.want, "the header has no") { // a writer knows the cell alone
				t.Errorf("to write it: %v", err)
			}
		})
	}
}

// sameRefusal holds each reader of ledgers to what ReadAll says of one.
func sameRefusal(t *testing.T, text string) {
	t.Helper()
	_, want := ReadAll(strings.NewReader(text), 0)
	if want == nil {
		t.Error("ReadAll takes it")
		return
	}
	for name, read := range map[string]func() error{
		"ReadStored": func() error {
			_, err := ReadStored(strings.NewReader(text), strings.NewReader(text), 0)
			return err
		},
		"Skim": func() error {
			_, err := Skim(strings.NewReader(text), func(*Run, *Cell) error { return nil })
			return err
		},
		"Pick": func() error {
			_, _, err := Pick(strings.NewReader(text), func(int, *Cell) bool { return false })
			return err
		},
	} {
		if err := read(); err == nil || err.Error() != want.Error() {
			t.Errorf("%s: %v\nReadAll: %v", name, err, want)
		}
	}
}

// TestContradictionsAsWritten: however somebody has written into a ledger what it says against itself, each reader sees it.
func TestContradictionsAsWritten(t *testing.T) {
	c := passed()
	c.Flow = []Segment{{Frame: 1, Text: "S seq 0"}}
	whole := unchecked(t, header(2), c)
	for name, edit := range map[string][2]string{
		"a check by another name":  {`"ok":true`, `"ok":true,"OK":false`},
		"a check with an escape":   {`"ok":true`, `"ok":true,"o\u006b":false`},
		"want by another name":     {`"got":`, `"witness":"wire","WANT":"x","got":`},
		"a check that is null":     {`"checks":[`, `"checks":[null,`},
		"checks twice":             {`"checks":[`, `"checks":[{"want":"2"}],"checks":[{"got":"1","ok":true}],"x":[`},
		"a frame by another name":  {`"frame":6`, `"frame":6,"Frame":7`},
		"a frame with an escape":   {`"frame":6`, `"frame":6,"\u0066rame":7`},
		"a frame that is null":     {`"frame":6`, `"frame":null`},
		"a frame that is left out": {`"frame":6,`, ``},
		"a frame of a segment":     {`"frame":1`, ` "frame" : 7 `},
		"a frame behind a text":    {`"frame":1`, `"text":"\"}","frame":7`},
		"a reset that is null":     {`"resets":[`, `"resets":[null,`},
		"resets by another name":   {`"flow":[`, `"RESETS":[{"frame":9}],"flow":[`},
		"a step by another name":   {`"step":2`, `"step":2,"Step":3`},
		"fewer steps":              {`"steps":[`, `"steps":[{"name":"A","at":0}],"x":[`},
		"fewer packets":            {`"packets":6`, `"packets":6,"Packets":5`},
		"flow twice":               {`"flow":[`, `"flow":[{"frame":7}],"flow":[{}],"x":[`},
		"another status":           {`"status":"PASS"`, `"status":"PASS","Status":"FAIL"`},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(whole, edit[0], edit[1], 1)
			if text == whole {
				t.Fatalf("%s is not in %s", edit[0], whole)
			}
			sameRefusal(t, text)
		})
	}
}

// TestPlan: no more cells are there than were planned, and none twice; where there is no plan there are as many as there are.
func TestPlan(t *testing.T) {
	var cells []Cell
	for repeat := range 200 {
		c := passed()
		c.Repeat = repeat + 1
		cells = append(cells, c)
	}
	for _, planned := range []int{0, 200, 300} {
		if run, err := Read(strings.NewReader(unchecked(t, header(planned), cells...))); err != nil || len(run.Cells) != 200 {
			t.Errorf("of %d: %v", planned, err)
		}
	}
	for _, tt := range []struct {
		planned, again int
		want           string
	}{
		{199, 0, "line 201: quiz2/ipv4/off/200 contradicts itself: it is one more than the 199 cells of the plan"},
		{0, 1, "line 202: quiz2/ipv4/off/1 contradicts itself: it is there already"},
		{0, 64, "line 202: quiz2/ipv4/off/64 "},
		{0, 200, "line 202: quiz2/ipv4/off/200 "},
	} {
		all := cells
		if tt.again > 0 {
			all = append(all[:200:200], cells[tt.again-1])
		}
		if _, err := Read(strings.NewReader(unchecked(t, header(tt.planned), all...))); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("of %d, and %d again: want %q, got %v", tt.planned, tt.again, tt.want, err)
		}
	}
}

// unchecked is a ledger that a Writer would refuse to write.
func unchecked(t *testing.T, h Header, cells ...Cell) string {
	t.Helper()
	var b strings.Builder
	w, err := NewWriter(&b, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cells {
		if err := w.line(filled(c), nil); err != nil {
			t.Fatal(fmt.Errorf("%s: %w", c.ID(), err))
		}
	}
	return b.String()
}

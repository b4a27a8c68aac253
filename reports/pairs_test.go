package reports

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/rpmig/rpmig/result"
)

// TestParts: two plays part at the first step that differs in what counts, and at none where only times, ports and repetitions do.
func TestParts(t *testing.T) {
	server, client := netip.MustParseAddrPort("127.0.0.1:80"), netip.MustParseAddrPort("127.0.0.1:40000")
	cell := func(edit func(*result.Cell)) *result.Cell {
		c := &result.Cell{
			Connections: result.Connections{Staged: 1, Survived: 1},
			Steps:       result.Steps{{Name: "listen A"}, {Name: "connect", At: 0.1}, {Name: "close A", At: 0.2}},
			Flow: []result.Segment{
				{Time: 0.11, FromClient: true, Role: result.RoleSYN}, {Time: 0.12, Role: result.RoleSYNACK},
				{Time: 0.13, FromClient: true, Role: result.RoleHandshakeACK},
			},
		}
		edit(c)
		return c
	}
	same := cell(func(*result.Cell) {})
	for name, c := range map[string]struct {
		is   *result.Cell
		step int
		say  string
	}{
		"the same": {same, -1, "is the same in both"},
		"later, from elsewhere, with more ACKs": {cell(func(c *result.Cell) {
			c.Client, c.Steps[2].At = client, 0.5
			c.Flow = append(c.Flow, result.Segment{Time: 0.14, Role: result.RoleACK}, result.Segment{Time: 0.6, Role: result.RoleSYNACK, Again: true})
		}), -1, "is the same in both"},
		"dropped": {cell(func(c *result.Cell) { c.Flow[2].Dropped = true }), 1, `step 2, "connect": the old run has the client's syn`},
		"reset": {cell(func(c *result.Cell) {
			c.Resets = []result.Reset{{Time: 0.3, Step: 3, From: server, To: client, Flavour: result.RSTACK, Owner: result.ClosingListener}}
		}), 2, "and the new one a RST+ACK of the closing listener"},
		"a reset that only answers":         {cell(func(c *result.Cell) { c.Resets = []result.Reset{{Step: 3, Crossed: true, Flavour: result.BareRST}} }), -1, "is the same"},
		"another step":                      {cell(func(c *result.Cell) { c.Steps[1].Name = "wait" }), 1, `"connect" in the old run, and "wait" in the new one`},
		"no more steps":                     {cell(func(c *result.Cell) { c.Steps = c.Steps[:2] }), 2, `the old run went on with "close A"`},
		"one more step":                     {cell(func(c *result.Cell) { c.Steps = append(c.Steps, result.Step{Name: "accept", At: 1}) }), 3, `the new one went on with "accept"`},
		"another end that no step tells of": {cell(func(c *result.Cell) { c.Connections = result.Connections{Staged: 1, Lost: 1} }), 2, "0 of 1 lived in the new one"},
	} {
		step, words := parts(same, c.is)
		if step != c.step || !strings.Contains(words, c.say) {
			t.Errorf("%s: %d, %q; want %d, %q", name, step, words, c.step, c.say)
		}
	}
}

// TestPairsPage: both diagrams are there, the step is marked, and what strangers wrote stays text.
func TestPairsPage(t *testing.T) {
	run := quizzes()
	off, on := &run.Cells[0], &run.Cells[1]
	const evil = `<img src=x onerror=alert(1)>`
	page := &Pairs{
		Title: evil, Runs: []string{evil}, Summary: []string{evil},
		Sections: []PairSection{{Title: evil, More: 3, Pairs: []Pair{
			{Name: "a/b.c=" + evil, Was: evil, Is: evil, Said: []string{evil}, Old: &PairCell{&run.Header, off}, New: &PairCell{&run.Header, on}},
			{Name: "a/b.c=" + evil, Was: "PASS", Is: "not played", Old: &PairCell{&run.Header, off}},
		}}},
	}
	var b bytes.Buffer
	if err := RenderPairs(&b, page); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	if n := strings.Count(got, `<svg class="sequence"`); n != 3 {
		t.Errorf("%d diagrams, want 3", n)
	}
	if strings.Contains(got, "<img") || strings.Contains(got, "<script") {
		t.Error("what was text is an element")
	}
	if n := strings.Count(got, ".step rect { stroke: var(--bad); stroke-width: 3; }"); n != 1 || !strings.Contains(got, "They part at step") {
		t.Errorf("%d marks, want 1", n)
	}
	if !strings.Contains(got, "and 3 more") {
		t.Error("it does not say that there is more")
	}
	b.Reset()
	if err := RenderPairs(&b, &Pairs{}); err != nil || !strings.Contains(b.String(), "Nothing has changed.") {
		t.Errorf("%v", err)
	}
}

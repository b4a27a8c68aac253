package reports

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// maxLost is how many lines tell of lost connections before the rest is counted; no list of one more is cut to say "one
// more".
const (
	maxLost  = 10
	someLost = 8
)

// renderText writes what a person reads: the table, what was lost and to which frame, what is in doubt, what went wrong,
// and the sum as the last line, where the eye is when a run ends.
func renderText(w io.Writer, run *result.Run, o Options) error {
	p := newPage(o)
	cells := sorted(run)

	h := run.Header
	p.heading(printable(fmt.Sprintf("rpmig %s on Linux %s %s", h.Version, h.Release(), h.Machine)))
	if backends := dropBackends(cells); len(backends) > 0 {
		p.say(0, 2, plain, "", "packets dropped by "+strings.Join(backends, " and by "))
	}
	p.table(&h, cells)
	if o.Verbose {
		p.details(cells, NewStories(run))
	}
	p.streams(cells)
	p.reloads(cells)
	p.lost(cells, o.Verbose)
	p.doubts(cells)
	p.gaps(cells)
	p.skips(cells)
	p.problems(cells, o)
	p.line("")
	p.say(0, 2, bold, run.Summary(), "")

	if _, err := w.Write(p.Bytes()); err != nil {
		return fmt.Errorf("write text: %w", err)
	}
	return nil
}

func dropBackends(cells []*result.Cell) []string {
	names := map[string]bool{}
	for _, c := range cells {
		if c.DropBackend != "" {
			names[printable(c.DropBackend)] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// place is "quiz2 ipv4 off", and "quiz2 ipv4 off #2" for the second repeat.
func place(c *result.Cell) string {
	s := c.Scenario + " " + c.Family + " " + c.Mode
	if c.Repeat > 1 {
		s += fmt.Sprintf(" #%d", c.Repeat)
	}
	return printable(s)
}

// places names cells without their repeats, in brief: "quiz1 ipv4 off, bpf; quiz2 ipv4 off". Cells are sorted.
func places(cells []*result.Cell) string {
	var b strings.Builder
	for i, c := range cells {
		switch {
		case i == 0:
			b.WriteString(c.Scenario + " " + c.Family + " " + c.Mode)
		case row(c) != row(cells[i-1]):
			b.WriteString("; " + c.Scenario + " " + c.Family + " " + c.Mode)
		case c.Mode != cells[i-1].Mode:
			b.WriteString(", " + c.Mode)
		}
	}
	return printable(b.String())
}

// lost says which frame ended each connection that was lost, or without all the first of each cell.
func (p *page) lost(cells []*result.Cell, all bool) {
	type line struct {
		place, text string
		lost        int // connections that it speaks of
	}
	var lines []line
	for _, c := range cells {
		if c.Connections.Lost == 0 || c.Reload != nil { // which tells of them itself
			continue
		}
		resets := killers(c)
		unseen := c.Connections.Lost - c.Connections.Deaf - len(resets)
		if more := len(resets) - 1; more > 0 && !all {
			lines = append(lines, line{place(c) + ": ", fmt.Sprintf("%s; and %d more", resetLine(c, resets[0]), more), len(resets)})
			resets = nil
		}
		for _, r := range resets {
			lines = append(lines, line{place(c) + ": ", resetLine(c, r), 1})
		}
		if n := c.Connections.Deaf; n > 0 {
			lines = append(lines, line{place(c) + ": ", fmt.Sprintf("%d accepted and deaf: nothing gets through, and there is no reset", n), n})
		}
		if unseen > 0 {
			lines = append(lines, line{place(c) + ": ", fmt.Sprintf("%d lost without a reset in the capture", unseen), unseen})
		}
	}
	if len(lines) == 0 {
		return
	}
	p.heading("Lost connections, and the frame that ended each")
	more := 0
	if len(lines) > maxLost && !all {
		for _, l := range lines[someLost:] {
			more += l.lost
		}
		lines = lines[:someLost]
	}
	for _, l := range lines {
		p.say(2, 6, bold, l.place, l.text)
	}
	if more > 0 {
		p.say(2, 6, plain, "", fmt.Sprintf("and %d more", more))
	}
}

// doubts names the cells where the absence of a reset proves less.
func (p *page) doubts(cells []*result.Cell) {
	cells = slices.DeleteFunc(slices.Clone(cells), func(c *result.Cell) bool { return !doubtful(c) })
	if len(cells) == 0 {
		return
	}
	p.heading(strings.ToUpper(doubt[:1]) + doubt[1:])
	p.say(2, 6, plain, "", places(cells))
}

// skips names the skipped cells under each reason.
func (p *page) skips(cells []*result.Cell) {
	reasons := map[string][]*result.Cell{}
	for _, c := range cells {
		if c.Status == result.Skip {
			reasons[c.Reason] = append(reasons[c.Reason], c)
		}
	}
	if len(reasons) == 0 {
		return
	}
	p.heading("Skipped")
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		p.say(2, 6, statusStyles[result.Skip], printable(reason)+": ", places(reasons[reason]))
	}
}

// problems shows every cell that did not go as the mode promises, with what was wanted and seen under each other.
func (p *page) problems(cells []*result.Cell, o Options) {
	for _, c := range cells {
		if c.Status != result.Pass && c.Status != result.Skip {
			p.line("")
			p.say(0, 2, statusStyles[c.Status], string(c.Status), " "+printable(c.ID()))
			p.say(2, 4, plain, "", printable(c.Reason))
			for _, k := range c.Failed() {
				p.check(k)
			}
			if c.Reload != nil && len(c.Reload.Output) > 0 {
				p.say(2, 4, plain, "", "the last that it printed:")
				for _, line := range c.Reload.Output {
					p.say(4, 6, plain, "", printable(line))
				}
			}
			if folder := o.evidence(c); folder != "" {
				p.say(2, 4, plain, "", "evidence in "+printable(folder))
			}
		}
	}
}

func (p *page) check(k result.Check) {
	p.say(2, 4, bold, printable(k.Name), printable(fmt.Sprintf(" (%s)", k.Witness)))
	p.say(4, 9, plain, "", "want "+printable(k.Want))
	p.say(4, 9, plain, "", "got  "+printable(k.Got))
}

// details tells the story of each cell, and what the verdict leans on.
func (p *page) details(cells []*result.Cell, stories *Stories) {
	for _, c := range cells {
		p.line("")
		p.story(c, stories)
		if len(c.Steps) > 0 {
			p.line("")
		}
		item := func(name, text string) { p.say(2, 12, plain, pad(name, 10), printable(text)) }
		var moved []string
		for _, name := range slices.Sorted(maps.Keys(c.Counters)) {
			moved = append(moved, fmt.Sprintf("%s %+d", name, c.Counters[name]))
		}
		if moved != nil {
			item("counters", strings.Join(moved, ", "))
		}
		if c.Program != nil {
			item("program", fmt.Sprintf("asked about %d SYN, %d stray, %d migrating", c.Program.SYN, c.Program.Stray, c.Program.Migrated))
		}
		for _, k := range c.Checks {
			if k.OK {
				item("check", fmt.Sprintf("%s (%s): %s", k.Name, k.Witness, k.Got))
			}
		}
		for _, k := range c.Failed() {
			p.check(k)
		}
		if c.DropBackend != "" {
			item("rule", c.DropBackend)
		}
		if c.Capture.File != "" {
			item("capture", captureLine(c))
		}
	}
}

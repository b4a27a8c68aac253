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
	p.out = w
	p.heading(onKernel(&run.Header))
	p.guest(run.Header.Guest, o)
	if err := p.run(run, o); err != nil {
		return err
	}
	return p.flush(0)
}

// renderTexts writes a block for each kernel, then where they differ, and the sums.
func renderTexts(w io.Writer, all []*kernelRun, o Options) error {
	p := newPage(o)
	p.out = w
	p.heading(onKernels(all))
	for i, k := range all {
		p.heading(printable(fmt.Sprintf("Kernel %d of %d: %s", i+1, len(all), k.name)))
		p.say(0, 2, plain, "", onKernel(&k.Header))
		p.guest(k.Header.Guest, o)
		if err := p.run(k.Run, k.o); err != nil {
			return err
		}
	}
	p.compared(all)
	p.heading("In all")
	for _, k := range all {
		p.say(2, 6, bold, printable(k.name)+": ", k.Summary())
	}
	p.line("")
	p.say(0, 2, bold, result.Plural(len(all), "kernel", "kernels")+", "+result.Summary(runsOf(all)), "")
	return p.flush(0)
}

// flush hands over what there is, if it is more than that many bytes.
func (p *page) flush(more int) error {
	if p.Len() <= more {
		return nil
	}
	p.flushed = true
	_, err := p.out.Write(p.Bytes())
	p.Reset()
	if err != nil {
		return fmt.Errorf("write text: %w", err)
	}
	return nil
}

// flushAt is how much text is held, in bytes.
const flushAt = 64 << 10

// run writes all that follows the heading of a run. It goes through the cells once for what is counted of all, and again for
// those that are told one by one.
func (p *page) run(run *result.Run, o Options) error {
	cells := cellsOf(run)
	d := newDigest(&run.Header)
	if err := cells.each(func(c *result.Cell) error { d.add(c); return nil }); err != nil {
		return err
	}
	if len(d.backends) > 0 {
		p.say(0, 2, plain, "", "packets dropped by "+strings.Join(slices.Sorted(maps.Keys(d.backends)), " and by "))
	}
	p.table(&run.Header, d.table)
	if o.Verbose {
		if err := cells.each(func(c *result.Cell) error { p.details(c, d.stories); return p.flush(flushAt) }); err != nil {
			return err
		}
	}
	p.streams(d.streams)
	if err := p.reloads(cells, d.reloads, o.Verbose); err != nil {
		return err
	}
	if err := p.lost(cells, d.lost, o.Verbose); err != nil {
		return err
	}
	p.again(d.again)
	p.doubts(d.doubted)
	p.gaps(&d.gaps)
	p.skips(d.skipped, d.others)
	told := func(s result.Status) bool { return s != result.Pass && s != result.Skip }
	if err := cells.eachOf(told, func(c *result.Cell) error { p.problem(c, o); return p.flush(flushAt) }); err != nil {
		return err
	}
	p.ending(run.Ending, o.Verbose)
	p.line("")
	p.say(0, 2, bold, run.Summary(), "")
	return nil
}

// guest says in what machine a run was played, if not in this one.
func (p *page) guest(g *result.Guest, o Options) {
	for _, f := range guestFacts(g) {
		if f.Name != imageFact || o.Verbose { // a long number
			p.say(0, 2, plain, f.Name+": ", f.Value)
		}
	}
}

// maxConsole is how many of the console's last lines are shown, where not all are wanted.
const maxConsole = 12

// ending says how a run ended that did not end by itself.
func (p *page) ending(e *result.Ending, all bool) {
	if e == nil {
		return
	}
	p.line("")
	p.say(0, 2, statusStyles[result.Error], "It did not end by itself: ", printable(e.Why))
	lines := e.Console
	if len(lines) > maxConsole && !all {
		p.say(2, 4, plain, "", fmt.Sprintf("the console's last %d lines of %d", maxConsole, len(lines)))
		lines = lines[len(lines)-maxConsole:]
	}
	for _, line := range lines {
		p.say(2, 6, plain, "| ", printable(line))
	}
}

// compared says where kernels differ: a table kernel by scenario, families and modes where they are needed.
func (p *page) compared(all []*kernelRun) {
	c := compare(all)
	rows := c.rows(differs)
	if len(rows) == 0 {
		p.heading("Where the kernels differ: nowhere")
	} else {
		p.heading("Where the kernels differ")
		p.kernelTable(all, rows)
		p.line("")
	}
	p.say(2, 6, plain, "", c.alike())
}

// kernelWidth is how wide a kernel's column is at most, in columns of the terminal. Four fit.
const kernelWidth = 10

// kernelTable writes rows by kernel, in as many bands as it takes.
func (p *page) kernelTable(all []*kernelRun, rows []comparedRow) {
	left := column{cells: [][]tableCell{nil}}
	for _, r := range rows {
		var label []tableCell
		for i, line := range wrap(printable(strings.TrimSuffix(r.scenario+": "+r.where, ": ")), p.width*2/5, p.width*2/5-2) {
			if i > 0 {
				line = "  " + line
			}
			label = append(label, tableCell{text: line})
		}
		left.cells = append(left.cells, label)
	}
	band := []column{left}
	for i, k := range all {
		var head []tableCell
		for _, line := range foldName(printable(k.name), kernelWidth) {
			head = append(head, tableCell{text: line, style: bold})
		}
		col := column{cells: [][]tableCell{head}}
		for _, r := range rows {
			col.cells = append(col.cells, wordCells(r.words[i]))
		}
		if len(band) > 1 && totalWidth(band)+gap+col.width() > p.width {
			p.band(band)
			band = []column{left}
		}
		band = append(band, col)
	}
	p.band(band)
}

// wordCells are the words of an entry, a line each.
func wordCells(words string) (lines []tableCell) {
	if words == "" {
		return []tableCell{{before: "-"}}
	}
	for _, word := range strings.Split(words, ", ") {
		_, status, found := strings.Cut(word, " ")
		if !found {
			status = word
		}
		lines = append(lines, tableCell{text: printable(word), style: statusStyles[result.Status(status)]})
	}
	return lines
}

// foldName breaks a kernel's name before "-", "+" and "_" into lines of so many columns. A part that is longer is cut.
func foldName(name string, width int) (lines []string) {
	line := ""
	flush := func() {
		if line != "" {
			lines = append(lines, clip(line, width))
		}
	}
	for name != "" {
		end := len(name)
		if i := strings.IndexAny(name[1:], "-+_"); i >= 0 {
			end = i + 1
		}
		part := name[:end]
		if name = name[end:]; columns(line)+columns(part) > width {
			flush()
			line = ""
		}
		line += part
	}
	flush()
	return lines
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

// lostLine tells of connections that were lost.
type lostLine struct {
	place, text string
	lost        int // how many
}

// lostLines say which frame ended each connection of a cell that was lost, or without all the first.
func lostLines(c *result.Cell, all bool) (lines []lostLine) {
	if c.Connections.Lost == 0 || c.Reload != nil { // which tells of them itself
		return nil
	}
	resets := killers(c)
	unseen := c.Connections.Lost - c.Connections.Deaf - len(resets)
	if more := len(resets) - 1; more > 0 && !all {
		lines = append(lines, lostLine{place(c) + ": ", fmt.Sprintf("%s; and %d more", resetLine(c, resets[0]), more), len(resets)})
		resets = nil
	}
	for _, r := range resets {
		lines = append(lines, lostLine{place(c) + ": ", resetLine(c, r), 1})
	}
	if n := c.Connections.Deaf; n > 0 {
		lines = append(lines, lostLine{place(c) + ": ", fmt.Sprintf("%d accepted and deaf: nothing gets through, and there is no reset", n), n})
	}
	if unseen > 0 {
		lines = append(lines, lostLine{place(c) + ": ", fmt.Sprintf("%d lost without a reset in the capture", unseen), unseen})
	}
	return lines
}

// lostAll is what a report says of all that was lost.
type lostAll struct {
	first []lostLine // no more than maxLost
	more  int        // connections that those do not tell of
	lines int
}

func (l *lostAll) add(lines []lostLine) {
	for _, line := range lines {
		if l.lines++; l.lines <= maxLost {
			l.first = append(l.first, line)
		} else {
			l.more += line.lost
		}
	}
}

// lost says which connections were lost, all of them or the first.
func (p *page) lost(cells *cells, l lostAll, all bool) error {
	if l.lines == 0 {
		return nil
	}
	p.heading("Lost connections, and the frame that ended each")
	if all {
		return cells.each(func(c *result.Cell) error {
			for _, line := range lostLines(c, true) {
				p.say(2, 6, bold, line.place, line.text)
			}
			return p.flush(flushAt)
		})
	}
	p.some(l)
	return nil
}

// some says the first lines, and how many more there are.
func (p *page) some(l lostAll) {
	first := l.first
	if l.lines > maxLost {
		first = l.first[:someLost]
		for _, line := range l.first[someLost:] {
			l.more += line.lost
		}
	}
	for _, line := range first {
		p.say(2, 6, bold, line.place, line.text)
	}
	if l.more > 0 {
		p.say(2, 6, plain, "", fmt.Sprintf("and %d more", l.more))
	}
}

// again says which cells were measured again, or the first of them.
func (p *page) again(l lostAll) {
	if l.lines > 0 {
		p.heading("Measured again, alone")
		p.some(l)
	}
}

// doubts names the cells where the absence of a reset proves less.
func (p *page) doubts(cells []*result.Cell) {
	if len(cells) == 0 {
		return
	}
	p.heading(strings.ToUpper(doubt[:1]) + doubt[1:])
	p.say(2, 6, plain, "", places(cells))
}

// skips names the skipped cells under each reason, but for so many others.
func (p *page) skips(reasons map[string][]*result.Cell, others int) {
	if len(reasons) == 0 {
		return
	}
	p.heading("Skipped")
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		p.say(2, 6, statusStyles[result.Skip], printable(reason)+": ", places(reasons[reason]))
	}
	if others > 0 {
		p.say(2, 6, plain, "", fmt.Sprintf("and %s for other reasons", result.Plural(others, "cell", "cells")))
	}
}

// problem shows a cell that did not go as the mode promises, with what was wanted and seen under each other.
func (p *page) problem(c *result.Cell, o Options) {
	p.line("")
	p.say(0, 2, statusStyles[c.Status], printable(string(c.Status)), " "+printable(c.ID()))
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

func (p *page) check(k result.Check) {
	p.say(2, 4, bold, printable(k.Name), printable(fmt.Sprintf(" (%s)", k.Witness)))
	p.say(4, 9, plain, "", "want "+printable(k.Want))
	p.say(4, 9, plain, "", "got  "+printable(k.Got))
}

// details tells the story of a cell, and what the verdict leans on.
func (p *page) details(c *result.Cell, stories *Stories) {
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

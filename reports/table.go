package reports

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// gap is the space between two columns of the table.
const gap = 2

// statusWidth is how wide a status is at most: one that is not rpmig's may be of any length.
const statusWidth = 8

// entry is one scenario, family and mode over all its repeats.
type entry struct {
	lived, staged int // connections
	repeats       int
	count         map[result.Status]int // of repeats
}

func (e *entry) add(c *result.Cell) {
	e.lived += c.Connections.Survived
	e.staged += c.Connections.Staged
	e.repeats++
	e.count[c.Status]++
}

// statusCount is a status, and how many of the repeats came to it; 0: all.
type statusCount struct {
	status result.Status
	n      int
}

func (s statusCount) String() string {
	if s.n == 0 {
		return string(s.status)
	}
	return fmt.Sprintf("%d %s", s.n, s.status)
}

// statuses are those that its repeats came to.
func (e *entry) statuses() (all []statusCount) {
	for _, s := range slices.Concat(result.Statuses(), unknown(e.count)) {
		switch n := e.count[s]; n {
		case 0:
		case e.repeats:
			return []statusCount{{s, 0}}
		default:
			all = append(all, statusCount{s, n})
		}
	}
	return all
}

// words are its statuses: "PASS", and "19 PASS, 1 FAIL" where repeats differ.
func (e *entry) words() string {
	var parts []string
	for _, s := range e.statuses() {
		parts = append(parts, s.String())
	}
	return strings.Join(parts, ", ")
}

// row is the label of a cell's line in the table.
func row(c *result.Cell) string { return c.Scenario + " " + c.Family }

// table is what there is to say of cells, by scenario and family, and by mode.
type table struct {
	rows, modes []string
	entries     map[[2]string]*entry // by row and mode
	seen        map[result.Status]bool
	scenarios   bool // there are cells that are no server's reloads
}

// add adds the next cell, in the order of reports.
func (t *table) add(c *result.Cell) {
	key := [2]string{row(c), c.Mode}
	e := t.entries[key]
	if e == nil {
		e = &entry{count: map[result.Status]int{}}
		t.entries[key] = e
	}
	e.add(c)
	t.seen[c.Status] = true
	t.scenarios = t.scenarios || c.Reload == nil
	if len(t.rows) == 0 || t.rows[len(t.rows)-1] != key[0] {
		t.rows = append(t.rows, key[0])
	}
	if !slices.Contains(t.modes, c.Mode) {
		t.modes = append(t.modes, c.Mode)
	}
}

// table writes scenario and family by mode, each entry as "1/1 PASS": lived of staged, summed over the repeats, and the
// verdict. Where repeats differ, each verdict has its count and a line of its own under the fact. Modes that do not fit
// the width follow in a table of their own.
func (p *page) table(h *result.Header, t *table) {
	if len(t.rows) == 0 {
		return
	}
	rows, modes, entries := t.rows, t.modes, t.entries
	slices.SortFunc(modes, modeOrder(h))

	left := column{cells: [][]tableCell{nil}}
	for _, r := range rows {
		left.cells = append(left.cells, []tableCell{{text: clip(printable(r), p.width*2/5)}})
	}
	band := []column{left}
	for _, mode := range modes {
		col := column{cells: [][]tableCell{{{text: clip(printable(mode), p.width/3), style: bold}}}}
		factWidth := 0
		for _, r := range rows {
			factWidth = max(factWidth, columns(entries[[2]string{r, mode}].fact()))
		}
		for _, r := range rows {
			col.cells = append(col.cells, entries[[2]string{r, mode}].lines(min(factWidth, p.width/4)))
		}
		if len(band) > 1 && totalWidth(band)+gap+col.width() > p.width {
			p.band(band)
			band = []column{left}
		}
		band = append(band, col)
	}
	p.band(band)
	p.legend(t)
}

// fact is "1/1", and "-" for cells that were not played. A nil entry is a mode that this row was not planned in.
func (e *entry) fact() string {
	switch {
	case e == nil:
		return ""
	case e.staged == 0:
		return "-"
	default:
		return fmt.Sprintf("%d/%d", e.lived, e.staged)
	}
}

func (e *entry) lines(factWidth int) []tableCell {
	if e == nil {
		return nil
	}
	fact := clip(e.fact(), factWidth)
	lines := []tableCell{{before: fact}}
	for _, s := range e.statuses() {
		style := statusStyles[s.status]
		s.status = result.Status(clip(printable(string(s.status)), statusWidth))
		cell := tableCell{text: s.String(), style: style}
		if s.n == 0 {
			cell.before = pad(fact, factWidth) + " "
			return []tableCell{cell}
		}
		lines = append(lines, cell)
	}
	return lines
}

// tableCell is one line of one place in the table: some plain text and then some styled.
type tableCell struct {
	before, text string
	style        style
}

func (c tableCell) width() int { return columns(c.before) + columns(c.text) }

// column holds the lines of each row, the heading being row 0.
type column struct{ cells [][]tableCell }

func (c column) width() int {
	n := 0
	for _, lines := range c.cells {
		for _, l := range lines {
			n = max(n, l.width())
		}
	}
	return n
}

func totalWidth(cols []column) int {
	n := gap * (len(cols) - 1)
	for _, c := range cols {
		n += c.width()
	}
	return n
}

// band writes columns side by side.
func (p *page) band(cols []column) {
	p.line("")
	for r := range cols[0].cells {
		height := 1
		for _, c := range cols {
			height = max(height, len(c.cells[r]))
		}
		for i := range height {
			var b strings.Builder
			for _, c := range cols {
				var l tableCell
				if i < len(c.cells[r]) {
					l = c.cells[r][i]
				}
				b.WriteString(l.before + p.paint(l.style, l.text) + strings.Repeat(" ", c.width()-l.width()+gap))
			}
			p.line(b.String())
		}
	}
}

// meanings explains each status in the words of its table.
var meanings = map[result.Status]string{
	result.Pass:  "as the mode promises (off promises a loss)",
	result.XFail: "broken by a known bug",
	result.Skip:  "cannot be played here",
	result.Fail:  "not as the mode promises",
	result.Error: "no conclusion",
}

// meaningsOf are those of cells of scenarios, or else of the reloads of servers.
func meaningsOf(scenarios bool) map[result.Status]string {
	if scenarios {
		return meanings
	}
	return reloadMeanings
}

// legend explains what stands in the table and nothing else.
func (p *page) legend(t *table) {
	parts := []string{"n/m: n of m connections lived"}
	for _, s := range result.Statuses() {
		if t.seen[s] {
			parts = append(parts, fmt.Sprintf("%s: %s", s, meaningsOf(t.scenarios)[s]))
		}
	}
	p.line("")
	p.say(0, 0, plain, "", strings.Join(parts, "; "))
}

package reports

import (
	"cmp"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// htmlKernel is a run.
type htmlKernel struct {
	*kernelRun
	Name         string
	Release      string
	Command      string
	Facts        []fact
	Backends     string
	Uncontrolled string
	Streams      []*pool
	Reloads      []*htmlReload
}

// newHTMLPage is a page without its rows.
func newHTMLPage(all []*kernelRun) *htmlPage {
	h, css := modesOf(all), pageCSS
	if len(all) > 1 {
		css += kernelsCSS
	}
	css, js := inline(css), inline(pageJS)
	p := &htmlPage{
		reloads: map[string]bool{},
		Summary: result.Summary(runsOf(all)), DoubtSentence: doubt,
		CSS: template.CSS(css), JS: template.JS(js), Policy: policy(js, css),
	}
	for _, s := range result.Statuses() {
		if slices.ContainsFunc(all, func(k *kernelRun) bool { return k.Count(s) > 0 }) {
			p.Statuses = append(p.Statuses, s)
		}
	}
	for _, run := range all {
		p.add(run)
	}
	slices.SortFunc(p.Modes, modeOrder(h))
	p.ModeDocs = slices.DeleteFunc(slices.Clone(h.Modes), func(m result.Mode) bool { return !slices.Contains(p.Modes, m.Name) })
	cells := 0
	for _, k := range all {
		cells += k.Len()
	}
	p.Lean = cells > maxText
	return p
}

// add adds what the page says of a run besides its rows.
func (p *htmlPage) add(run *kernelRun) {
	cells := sorted(run.Run)
	k := &htmlKernel{
		kernelRun: run, Name: run.name, Release: run.Header.Release(), Facts: guestFacts(run.Header.Guest),
		Command:  command(run.Header.Command),
		Backends: strings.Join(dropBackends(cells), " and by "), Streams: pools(cells), Reloads: htmlReloads(cells, run.name, p.reloads),
	}
	var doubted []*result.Cell
	for _, c := range cells {
		if !slices.Contains(p.Modes, c.Mode) {
			p.Modes = append(p.Modes, c.Mode)
		}
		if doubtful(c) {
			doubted = append(doubted, c)
		}
		p.AnyTables = p.AnyTables || len(c.Tables) > 0
		p.Scenarios = p.Scenarios || c.Reload == nil
	}
	k.Uncontrolled = places(doubted)
	p.AnyStreams = p.AnyStreams || len(k.Streams) > 0
	p.Kernels = append(p.Kernels, k)
}

// draw makes the sections of a run, and adds its cases. Their ids are none of those that are taken.
func (p *htmlPage) draw(k *htmlKernel, taken map[string]bool) ([]*htmlSection, error) {
	d := htmlDrawer{
		stories: NewStories(k.Run), alone: NewStories(&result.Run{Header: k.Header}), modes: p.Modes, o: k.o, lean: p.Lean, kernel: k.name,
	}
	rows := htmlRows(sorted(k.Run), k.name, taken)
	p.Cases = d.cases(p.Cases, rows)
	var of [][]rowCells
	for i, r := range rows {
		if i == 0 || r.cells[0].Scenario != rows[i-1].cells[0].Scenario {
			of = append(of, nil)
		}
		of[len(of)-1] = append(of[len(of)-1], r)
	}
	return d.sections(of)
}

// htmlCompared is what a page of several kernels has of them side by side.
type htmlCompared struct {
	Kernels []string
	Rows    []htmlDifference // what differs
	Alike   string
	lean    bool
	Groups  []*htmlGroup // all
}

// htmlDifference is a row of the table of what differs: see comparedRow.
type htmlDifference struct {
	Scenario, Where string
	Entries         []htmlEntry // by kernel
}

// htmlGroup is a scenario in a family.
type htmlGroup struct {
	Scenario, Family string
	Lines            []*htmlLine // by mode
}

type htmlLine struct {
	Mode    string
	Differs bool
	Entries []htmlEntry // by kernel
}

// renderPages writes one page of several kernels, each a column. It belongs in the folder that holds theirs.
func renderPages(w io.Writer, all []*kernelRun, _ Options) error {
	p := newHTMLPage(all)
	p.Title = "on " + result.Plural(len(all), "kernel", "kernels")
	p.Compared = &htmlCompared{lean: p.Lean}
	taken := map[string]bool{}
	entries := map[string]map[setting][]htmlEntry{} // by scenario, a kernel each
	for i, k := range p.Kernels {
		p.Compared.Kernels = append(p.Compared.Kernels, k.name)
		sections, err := p.draw(k, taken)
		if err != nil {
			return fmt.Errorf("write html: %w", err)
		}
		p.Sections = append(p.Sections, sections...)
		for _, r := range rowsOf(sections) {
			for _, e := range r.Entries {
				s := setting{r.Family, e.Mode}
				if entries[r.Scenario] == nil {
					entries[r.Scenario] = map[setting][]htmlEntry{}
				}
				if entries[r.Scenario][s] == nil {
					entries[r.Scenario][s] = make([]htmlEntry, len(all))
				}
				entries[r.Scenario][s][i] = e
			}
		}
	}
	slices.SortStableFunc(p.Sections, func(a, b *htmlSection) int { return cmp.Compare(a.Scenario, b.Scenario) })
	p.Compared.fill(compare(all), entries)
	return p.write(w)
}

func rowsOf(sections []*htmlSection) []*htmlRow {
	var rows []*htmlRow
	for _, s := range sections {
		rows = append(rows, s.Rows...)
	}
	return rows
}

// blockRows is how many rows a table of a Lean page has: a browser lays out and paints those of the tables on the screen.
const blockRows = 50

// blocks are rows in as many tables as the page has.
func blocks[R any](rows []R, lean bool) [][]R {
	if !lean {
		return slices.Collect(slices.Chunk(rows, max(len(rows), 1)))
	}
	return slices.Collect(slices.Chunk(rows, blockRows))
}

// Blocks are the rows of the matrix.
func (p *htmlPage) Blocks() [][]*htmlRow { return blocks(rowsOf(p.Sections), p.Lean) }

// Blocks are the groups of the matrix.
func (h *htmlCompared) Blocks() [][]*htmlGroup { return blocks(h.Groups, h.lean) }

// fill takes what is told of cells from entries.
func (h *htmlCompared) fill(c *comparison, entries map[string]map[setting][]htmlEntry) {
	h.Alike = "Cells " + c.alike() + "."
	for _, r := range c.rows(differs) {
		scenario := r.scenario
		for i := 0; (r.scenario == everyScenario || r.scenario == mostScenarios) && i < len(c.scenarios); i++ {
			if slices.Equal(c.words[c.scenarios[i]][r.first], r.words) { // the first of them
				scenario = c.scenarios[i]
				break
			}
		}
		h.Rows = append(h.Rows, htmlDifference{r.scenario, r.where, entries[scenario][r.first]})
	}
	for _, scenario := range c.scenarios {
		var group *htmlGroup
		for _, s := range c.settings[scenario] {
			if group == nil || group.Family != s.family {
				group = &htmlGroup{Scenario: scenario, Family: s.family}
				h.Groups = append(h.Groups, group)
			}
			group.Lines = append(group.Lines, &htmlLine{s.mode, differs(c.words[scenario][s]), entries[scenario][s]})
		}
	}
}

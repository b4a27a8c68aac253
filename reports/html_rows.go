package reports

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"

	"github.com/rpmig/rpmig/result"
)

// rowCells are the cells of a scenario in a family, sorted, and the ids of their row and of each.
type rowCells struct {
	id      string
	cells   []*result.Cell
	anchors []string
}

// htmlRows groups sorted cells of a kernel, which has a name on a page of several. It takes ids.
func htmlRows(cells []*result.Cell, kernel string, taken map[string]bool) []rowCells {
	var rows []rowCells
	if kernel != "" {
		kernel += "/"
	}
	for len(cells) > 0 {
		n := 1
		for n < len(cells) && cells[n].Scenario == cells[0].Scenario && cells[n].Family == cells[0].Family {
			n++
		}
		r := rowCells{id: unique("row="+anchor(kernel+cells[0].Scenario+"/"+cells[0].Family), taken), cells: cells[:n]}
		for _, c := range r.cells {
			r.anchors = append(r.anchors, unique("cell="+anchor(kernel+c.ID()), taken))
		}
		rows, cells = append(rows, r), cells[n:]
	}
	return rows
}

// htmlDrawer makes the rows of a page.
type htmlDrawer struct {
	stories *Stories
	alone   *Stories // for the timeline of a cell beside which the outcome stands already
	modes   []string
	o       Options
	lean    bool   // see htmlPage
	kernel  string // its name on a page of several, and the folder of the run below that of the page
}

// sections makes several at a time: one takes milliseconds, most of them in its template, and there may be hundreds.
func (d *htmlDrawer) sections(of [][]rowCells) ([]*htmlSection, error) {
	made, errs := make([]*htmlSection, len(of)), make([]error, len(of))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.NumCPU(), len(of)) {
		workers.Go(func() {
			s := &scratch{}
			s.z, _ = gzip.NewWriterLevel(&s.packed, gzip.BestCompression) // a level that there is
			for i := int(next.Add(1)) - 1; i < len(of); i = int(next.Add(1)) - 1 {
				made[i], errs[i] = d.section(of[i], s)
			}
		})
	}
	workers.Wait()
	return made, errors.Join(errs...)
}

// scratch is what making a section takes. It is used again for the next, since a page has hundreds, and a compressor has a megabyte.
type scratch struct {
	z      *gzip.Writer
	packed bytes.Buffer
	text   bytes.Buffer
	parts  []part
}

// part ends a part, of which the text was written.
func (s *scratch) part(kind, place, nth int) {
	from := 0
	if len(s.parts) > 0 {
		from = s.parts[len(s.parts)-1].to
	}
	s.parts = append(s.parts, part{[3]int{kind, place, nth}, from, s.text.Len()})
}

// part is something of a cell that is packed.
type part struct {
	at       [3]int // kind, place of the cell in its row, row
	from, to int    // in the scratch's text
}

// The kinds of parts.
const (
	bodyPart = iota // what is in a row that is packed as a whole
	detailsPart
	drawingPart
)

func (d *htmlDrawer) section(rows []rowCells, s *scratch) (*htmlSection, error) {
	name := rows[0].cells[0].Scenario
	out := &htmlSection{Scenario: name, Title: d.stories.header.Title(name), Kernel: d.kernel}
	s.parts = s.parts[:0]
	s.text.Reset()
	told := slices.IndexFunc(rows, func(r rowCells) bool { return r.cells[0].Family == "ipv4" })
	for i := range rows {
		var like *htmlLink
		if told = max(told, 0); i != told {
			like = &htmlLink{printable(rows[told].cells[0].Family), template.URL("#" + rows[told].id)}
		}
		r, err := d.row(rows[i], i, like, s)
		if err != nil {
			return nil, err
		}
		out.Rows = append(out.Rows, r)
	}
	// Gzip looks back 32 kB. What resembles each other most are the same parts of the same cell in other families.
	slices.SortStableFunc(s.parts, func(a, b part) int { return slices.Compare(a.at[:], b.at[:]) })
	s.packed.Reset()
	s.z.Reset(&s.packed)
	for _, p := range s.parts {
		if _, err := s.z.Write(s.text.Bytes()[p.from:p.to]); err != nil {
			return nil, err
		}
	}
	if err := s.z.Close(); err != nil {
		return nil, err
	}
	out.Chunk = template.HTML(base64.StdEncoding.EncodeToString(s.packed.Bytes())) // no letter in it needs escaping
	return out, nil
}

// row makes a row, the nth of its section; what is drawn of it is added to the parts.
func (d *htmlDrawer) row(row rowCells, nth int, like *htmlLink, s *scratch) (*htmlRow, error) {
	cells := row.cells
	r := &htmlRow{
		Kernel: d.kernel, ID: row.id, Href: template.URL("#" + row.id), Scenario: cells[0].Scenario, Family: cells[0].Family, Like: like,
		Packed: d.lean && !slices.ContainsFunc(cells, func(c *result.Cell) bool { return c.Status != result.Pass }),
	}
	left, right := d.pair(cells)
	pictures := map[string]int{}
	shown := map[string]*htmlCell{} // by mode, the cell that the matrix links to
	first := map[[2]string]string{} // by mode and status, the anchor of the first that is shown
	for i, c := range cells {
		h := d.cell(c, row.anchors[i])
		is := [2]string{c.Mode, string(c.Status)}
		if first[is] == "" && (c.Status != result.Pass || shown[c.Mode] == nil) {
			first[is] = h.Anchor
		}
		begins := shown[c.Mode] == nil
		if begins || shown[c.Mode].Status == result.Pass && c.Status != result.Pass {
			shown[c.Mode] = h
		}
		if !begins && c.Status == result.Pass {
			continue // one of a kind is enough; its verdict is counted in the matrix
		}
		h.Happened, h.Remedy = d.stories.Outcome(c)
		drawn := newScene(d.stories.header, c)
		if c == left || c == right {
			if len(c.Flow) > 0 && (like == nil || c.Status != result.Pass) {
				h.Timeline = d.stories.timeline(drawn)
			}
			r.Pair = append(r.Pair, h)
		} else {
			h.Folded = true
			r.Others = append(r.Others, h)
		}
		if pictures[c.Mode]++; pictures[c.Mode] <= maxPictures {
			if err := d.pack(h, drawn, i, nth, s); err != nil {
				return nil, err
			}
		}
	}
	if r.Packed {
		fmt.Fprintf(&s.text, `<div data-row="%s">`, r.ID)
		if err := pageTemplate().ExecuteTemplate(&s.text, "body", r); err != nil {
			return nil, err
		}
		s.text.WriteString("</div>")
		s.part(bodyPart, 0, nth)
	}
	for _, mode := range d.modes {
		r.Entries = append(r.Entries, newHTMLEntry(cells, mode, shown[mode], first))
	}
	return r, nil
}

func (d *htmlDrawer) cell(c *result.Cell, anchor string) *htmlCell {
	h := &htmlCell{
		Cell: c, Anchor: anchor, Title: d.title(c), Gaps: gaps(c.Trace), MeasuredAgain: measuredAgain(c), Evidence: d.o.evidence(c),
		Bugs: bugsOf(d.stories.header, c.Bug), First: partedOf(c, anchor),
	}
	if doubtful(c) {
		h.Doubtful = doubt
	}
	if c.Status != result.Pass {
		h.Again = again(d.stories.header, c)
	}
	return h
}

// pack adds what is drawn of a cell to the parts.
func (d *htmlDrawer) pack(h *htmlCell, drawn *scene, place, nth int, s *scratch) error {
	if err := cellTemplate().Execute(&s.text, d.details(h, drawn)); err != nil {
		return err
	}
	s.part(detailsPart, place, nth)
	if c := h.Cell; len(c.Steps)+len(c.Flow) > 0 {
		fmt.Fprintf(&s.text, `<div class="drawing" tabindex="0" data-of="%s">%s</div>`, h.Anchor, sequence(drawn))
		s.part(drawingPart, place, nth)
	}
	return nil
}

// pair picks the two cells that stand side by side: the off cell, and the first of the migrating modes that saved the
// connection, or the first there is.
func (d *htmlDrawer) pair(cells []*result.Cell) (left, right *result.Cell) {
	for _, c := range cells {
		if c.Control == result.IsControl && left == nil {
			left = c
		}
		better := right == nil || right.Connections.Lost > 0 && c.Connections.Lost == 0
		if d.stories.saves(c.Mode) != "" && c.Connections.Staged > 0 && better {
			right = c
		}
	}
	if left == nil && right == nil {
		left = cells[0]
	}
	return left, right
}

func newHTMLEntry(cells []*result.Cell, mode string, shown *htmlCell, first map[[2]string]string) htmlEntry {
	if shown == nil {
		return htmlEntry{Mode: mode}
	}
	e := htmlEntry{Mode: mode, Href: template.URL("#" + shown.Anchor)}
	var sum result.Cell
	of := entry{count: map[result.Status]int{}}
	for _, c := range cells {
		if c.Mode == mode {
			sum.Connections.Staged += c.Connections.Staged
			sum.Connections.Survived += c.Connections.Survived
			sum.Connections.Lost += c.Connections.Lost
			of.add(c)
		}
	}
	e.Fact, e.Lost, e.Repeats = sum.Fact(), sum.Connections.Lost > 0, of.repeats
	for _, s := range of.statuses() {
		at := cmp.Or(first[[2]string{mode, string(s.status)}], shown.Anchor)
		e.Counts = append(e.Counts, htmlCount{s.status, s.n, template.URL("#" + at)})
	}
	return e
}

package reports

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io"
	"maps"
	"net/url"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rpmig/rpmig/result"
)

var (
	//go:embed page/page.html
	pageHTML string
	//go:embed page/cell.html
	cellHTML string
	//go:embed page/page.css
	pageCSS string
	//go:embed page/kernels.css
	kernelsCSS string // besides, of a page of several kernels
	//go:embed page/page.js
	pageJS string

	htmlFuncs = template.FuncMap{
		"mark": mark, "class": statusClass, "meaning": func(s result.Status) string { return meanings[s] },
		"seconds": seconds, "printable": printable, "slots": slots, "alike": alike,
		"sentence": sentence, "was": was, "command": command, "first": func(c []htmlCount) result.Status { return c[0].Status },
	}
)

// Parsed when they are needed: this package is part of every process that rpmig starts, such as a worker.
var (
	pageTemplate = sync.OnceValue(func() *template.Template {
		return template.Must(template.New("page").Funcs(htmlFuncs).Parse(pageHTML))
	})
	cellTemplate = sync.OnceValue(func() *template.Template {
		return template.Must(template.New("cell").Funcs(htmlFuncs).Parse(cellHTML))
	})
)

// maxPictures is how many repeats of a mode have a diagram and tables: the first, and those that went wrong. A thousand
// pictures of one failure would tell no more and make the page too large to send.
const maxPictures = 6

// htmlPage is what page.html shows.
type htmlPage struct {
	One           *htmlKernel // the run, of a page of one
	Kernels       []*htmlKernel
	Title         string
	Summary       string
	Statuses      []result.Status // that occur
	Modes         []string
	ModeDocs      []result.Mode
	Sections      []*htmlSection
	Cases         []*htmlCase   // what is not PASS, worst first
	Lean          bool          // too many cells for each to be on the page as text
	Compared      *htmlCompared // of a page of several
	AnyStreams    bool
	Policy        string // Content-Security-Policy
	CSS           template.CSS
	JS            template.JS
	AnyTables     bool
	DoubtSentence string
}

// maxText is how many cells a page may have that says of each, as text, what happened. A larger one says so of what is not PASS, and
// has the rest packed: a browser that has to build all of it would keep its reader waiting for seconds.
const maxText = 2500

// htmlSection is a scenario.
type htmlSection struct {
	Scenario string
	Title    string
	Kernel   string // of a page of several
	Rows     []*htmlRow
	// Chunk has what is drawn of the cells: gzip, base64. They are packed together, since they resemble one another; each on its own
	// would take four times the room.
	Chunk template.HTML
}

// htmlRow is a scenario in a family.
type htmlRow struct {
	Kernel           string // of a page of several
	ID               string
	Href             template.URL // of the row itself
	Scenario, Family string
	Entries          []htmlEntry // by mode, in the page's order
	Pair             []*htmlCell // off, and the mode that saves the connection, if both were played
	Others           []*htmlCell
	Packed           bool      // what is in it is in the section's Chunk
	Like             *htmlLink // the row of the scenario that has its timelines as text; nil: this one does
}

// htmlEntry is one mode of a row, over all its repeats.
type htmlEntry struct {
	Mode    string
	Href    template.URL // of the cell that tells most
	Fact    string
	Lost    bool
	Repeats int
	Counts  []htmlCount
}

type htmlCount struct {
	Status result.Status
	N      int
	Href   template.URL // of the first cell of that status that is shown
}

// was are the modes of entries with what each came to, for the page's filter.
func was(entries []htmlEntry) string {
	var words []string
	for _, e := range entries {
		for _, c := range e.Counts {
			words = append(words, printable(e.Mode+"="+string(c.Status)))
		}
	}
	return strings.Join(words, " ")
}

// htmlCell is a cell. The page holds its sentences and its timeline as they are, so that it can be read without a
// script; what has pictures is in its row's Chunk and is unpacked when it is looked at.
type htmlCell struct {
	*result.Cell
	Anchor           string // id of its element: what a link's fragment says
	Title            string
	Happened, Remedy string
	Doubtful         string
	Gaps             string // of the kernel's trace
	Timeline         string
	Evidence         string // its folder, where that is known
	Bugs             []htmlBug
	First            *htmlParted
	Again            string // command that plays it again
}

// renderHTML writes one file that needs nothing beside it and asks no network: links lead to the captures by relative
// paths. A policy in the page itself allows the page's own script and style, by their hashes, and nothing else.
func renderHTML(w io.Writer, run *result.Run, o Options) error {
	p := newHTMLPage([]*kernelRun{{Run: run, o: o}})
	p.One = p.Kernels[0]
	p.Title = "on Linux " + printable(run.Header.Kernel)
	var err error
	if p.Sections, err = p.draw(p.One, map[string]bool{}); err != nil {
		return fmt.Errorf("write html: %w", err)
	}
	return p.write(w)
}

func (p *htmlPage) write(w io.Writer) error {
	var buf bytes.Buffer
	if err := pageTemplate().Execute(&buf, p); err != nil {
		return fmt.Errorf("write html: %w", err)
	}
	if _, err := w.Write(buf.Bytes()); err != nil {
		return fmt.Errorf("write html: %w", err)
	}
	return nil
}

// policy forbids all that the page does not need; the network is part of it.
func policy(js, css string) string {
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return fmt.Sprintf("default-src 'none'; script-src %s; style-src %s; base-uri 'none'; form-action 'none'", hash(js), hash(css))
}

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
	for range min(runtime.GOMAXPROCS(0), len(of)) {
		workers.Go(func() {
			s := &scratch{}
			s.z, _ = gzip.NewWriterLevel(&s.packed, gzip.BestCompression) // the level is one that there is
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
	parts  []part
}

// part is something of a cell that is packed.
type part struct {
	at   [3]int // kind, place of the cell in its row, row
	text []byte
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
		if _, err := s.z.Write(p.text); err != nil {
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
		if c == left || c == right {
			if len(c.Flow) > 0 && (like == nil || c.Status != result.Pass) {
				h.Timeline = d.stories.Timeline(c)
			}
			r.Pair = append(r.Pair, h)
		} else {
			r.Others = append(r.Others, h)
		}
		if pictures[c.Mode]++; pictures[c.Mode] <= maxPictures {
			if err := d.pack(h, i, nth, s); err != nil {
				return nil, err
			}
		}
	}
	if r.Packed {
		var body bytes.Buffer
		fmt.Fprintf(&body, `<div data-row="%s">`, r.ID)
		if err := pageTemplate().ExecuteTemplate(&body, "body", r); err != nil {
			return nil, err
		}
		body.WriteString("</div>")
		s.parts = append(s.parts, part{[3]int{bodyPart, 0, nth}, body.Bytes()})
	}
	for _, mode := range d.modes {
		r.Entries = append(r.Entries, newHTMLEntry(cells, mode, shown[mode], first))
	}
	return r, nil
}

func (d *htmlDrawer) cell(c *result.Cell, anchor string) *htmlCell {
	h := &htmlCell{
		Cell: c, Anchor: anchor, Title: d.title(c), Gaps: gaps(c.Trace), Evidence: d.o.evidence(c),
		Bugs: bugsOf(d.stories.header, c.Bug), First: partedOf(c, anchor),
	}
	if doubtful(c) {
		h.Doubtful = doubt
	}
	if c.Status != result.Pass {
		h.Again = again(c)
	}
	return h
}

// pack adds what is drawn of a cell to the parts.
func (d *htmlDrawer) pack(h *htmlCell, place, nth int, s *scratch) error {
	var details bytes.Buffer
	if err := cellTemplate().Execute(&details, d.details(h)); err != nil {
		return err
	}
	s.parts = append(s.parts, part{[3]int{detailsPart, place, nth}, details.Bytes()})
	if c := h.Cell; len(c.Steps)+len(c.Flow) > 0 {
		drawn := fmt.Appendf(nil, `<div class="drawing" tabindex="0" data-of="%s">%s</div>`, h.Anchor, sequence(d.stories.header, c))
		s.parts = append(s.parts, part{[3]int{drawingPart, place, nth}, drawn})
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
	count := map[result.Status]int{}
	for _, c := range cells {
		if c.Mode == mode {
			sum.Connections.Staged += c.Connections.Staged
			sum.Connections.Survived += c.Connections.Survived
			sum.Connections.Lost += c.Connections.Lost
			count[c.Status]++
			e.Repeats++
		}
	}
	e.Fact, e.Lost = sum.Fact(), sum.Connections.Lost > 0
	for _, s := range slices.Concat(result.Statuses(), unknown(count)) {
		if count[s] > 0 {
			at := cmp.Or(first[[2]string{mode, string(s)}], shown.Anchor)
			e.Counts = append(e.Counts, htmlCount{s, count[s], template.URL("#" + at)})
		}
	}
	return e
}

// unknown returns the statuses that no rpmig writes; a ledger may be of another program.
func unknown(count map[result.Status]int) []result.Status {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(count)), func(s result.Status) bool {
		return slices.Contains(result.Statuses(), s)
	})
}

// anchor makes a name fit for an id and a fragment, without anything to escape in either.
func anchor(name string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./", r)) {
			return r
		}
		return '_'
	}, name[:min(len(name), 200)])
}

func unique(id string, taken map[string]bool) string {
	for n := 2; taken[id]; n++ {
		if next := fmt.Sprintf("%s_%d", id, n); !taken[next] {
			id = next
		}
	}
	taken[id] = true
	return id
}

// settings are what a reader may want to paste; a line does not break in one.
var settings = regexp.MustCompile(`--migrate=[a-z-]*[a-z]|net\.ipv4\.[a-z_]+=[0-9]`)

// sentence is text with its settings set apart.
func sentence(s string) template.HTML {
	return template.HTML(settings.ReplaceAllString(template.HTMLEscapeString(s), "<code>$0</code>"))
}

// mark is a shape for each verdict, for readers who cannot tell green from red.
func mark(s result.Status) string {
	switch s {
	case result.Pass:
		return "✓"
	case result.Fail:
		return "✗"
	case result.XFail:
		return "△"
	case result.Skip:
		return "○"
	}
	return "‼"
}

func statusClass(s result.Status) string {
	if !slices.Contains(result.Statuses(), s) {
		return "error"
	}
	return strings.ToLower(string(s))
}

// htmlDetails is what cell.html shows.
type htmlDetails struct {
	*htmlCell
	Stages   []htmlStage
	Last     int // of Stages
	Decides  int // the stage at which the connection's fate was decided: where the slider is at first
	Tables   bool
	Checks   []result.Check // failed ones first
	Capture  string         // its link, if it has one
	Client   string         // of the connection that is drawn
	Resets   []string
	Text     string // the timeline, where the page does not have it already
	Many     bool
	Counters []htmlCounter
}

type htmlCounter struct {
	Name  string
	Delta int64
}

// htmlStage is a stop of the slider: a step, and the socket tables once it is over.
type htmlStage struct {
	result.Step
	view
	Known  bool
	Parted *htmlParted // the check that failed from here on
}

func (d *htmlDrawer) details(h *htmlCell) *htmlDetails {
	c := h.Cell
	out := &htmlDetails{
		htmlCell: h, Last: len(c.Steps) - 1, Tables: len(c.Tables) > 0, Many: c.Connections.Staged > 1,
	}
	if h.Timeline == "" && len(c.Flow) > 0 {
		out.Text = d.alone.Timeline(c)
	}
	views := walk(c)
	out.Decides = decisive(c, views)
	_, at := parted(c)
	for i, s := range c.Steps {
		stage := htmlStage{Step: s}
		if i == at {
			stage.Parted = h.First
		}
		if views != nil {
			stage.view, stage.Known = views[i], views[i].Known
		}
		out.Stages = append(out.Stages, stage)
	}
	out.Checks = c.Failed()
	for _, k := range c.Checks {
		if k.OK {
			out.Checks = append(out.Checks, k)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Counters)) {
		out.Counters = append(out.Counters, htmlCounter{name, c.Counters[name]})
	}
	const most = 8
	for i, r := range killers(c) {
		if i == most {
			out.Resets = append(out.Resets, fmt.Sprintf("and more: %d resets in all", len(c.Resets)))
			break
		}
		out.Resets = append(out.Resets, resetLine(c, r))
	}
	if client, ok := flowClient(c); ok {
		out.Client = client.String()
	}
	// A path that leads out of the ledger's folder, or to another scheme or host, is shown and not linked.
	if f := c.Capture.File; f != "" && filepath.IsLocal(f) && (d.kernel == "" || filepath.IsLocal(d.kernel)) {
		out.Capture = (&url.URL{Path: "./" + d.folder() + f}).String()
	}
	return out
}

// folder is that of the run, as the page sees it.
func (d *htmlDrawer) folder() string {
	if d.kernel == "" {
		return ""
	}
	return d.kernel + "/"
}

// title is the name of a cell, on a page of several kernels with that of its own.
func (d *htmlDrawer) title(c *result.Cell) string {
	if d.kernel == "" {
		return place(c)
	}
	return place(c) + " on " + printable(d.kernel)
}

// decisive returns the step at which a check that failed parted from what was expected, or in which the connection was reset, or in which it was seen at its new listener, or the last.
func decisive(c *result.Cell, views []view) int {
	last := max(len(c.Steps)-1, 0)
	if _, at := parted(c); at >= 0 {
		return at
	}
	if r, ok := ending(c); ok && c.Connections.Lost > 0 {
		return min(max(r.Step-1, 0), last)
	}
	for i, v := range views {
		closed := slices.ContainsFunc(v.Listeners, func(l listenerView) bool { return l.State == "closed" })
		moved := slices.ContainsFunc(v.Changes, func(c change) bool { return c.moves })
		if closed && moved {
			return i
		}
	}
	return last
}

// slots is how an accept queue is drawn: as many places as hold something, with what is known of each.
func slots(l listenerView) []string {
	const most = 8
	var out []string
	for _, s := range l.Held {
		out = append(out, fmt.Sprintf("port %d", s.Port()))
	}
	for len(out) < min(l.Queue, most) {
		out = append(out, "waits")
	}
	if len(out) > most || l.Queue > len(out) {
		out = append(out[:min(len(out), most)], fmt.Sprintf("%d in all", l.Queue))
	}
	return out
}

// htmlSockets are sockets that differ in their ports alone.
type htmlSockets struct {
	socketView
	N int
}

// alike folds sockets of which the page would say the same.
func alike(all []socketView) []htmlSockets {
	var out []htmlSockets
	for _, s := range all {
		same := func(o htmlSockets) bool {
			return o.State == s.State && o.Of == s.Of && o.OfGone == s.OfGone && o.Cloned == s.Cloned && o.Owned == s.Owned && o.Retries == s.Retries
		}
		if i := slices.IndexFunc(out, same); i >= 0 {
			out[i].N++
		} else {
			out = append(out, htmlSockets{s, 1})
		}
	}
	return out
}

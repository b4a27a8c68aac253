package reports

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

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
		"mark": mark, "class": statusClass, "seconds": seconds, "printable": printable,
		"sentence": sentence, "was": was, "plural": result.Plural,
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
	ModeDocs      []result.Mode // of these, what the ledger says
	Sections      []*htmlSection
	Cases         []*htmlCase   // what is not PASS, worst first
	Lean          bool          // too many cells for each to be on the page as text
	Compared      *htmlCompared // of a page of several
	AnyStreams    bool
	reloads       map[string]bool // ids that are taken
	Policy        string          // Content-Security-Policy
	CSS           template.CSS
	JS            template.JS
	AnyTables     bool
	Scenarios     bool // there are cells that are no server's reloads
	DoubtSentence string
}

// Meaning explains a status.
func (p *htmlPage) Meaning(s result.Status) string { return meaningsOf(p.Scenarios)[s] }

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
	N      int          // of the repeats; 0: all
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
	Folded           bool // into an element whose summary says what it came to
	Happened, Remedy string
	Doubtful         string
	Gaps             string // of the kernel's trace
	MeasuredAgain    string
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

// inline is a script or a style as it stands between its tags: without space at its ends, which vnu leaves out where it holds what a
// policy allows against what is there.
func inline(s string) string { return strings.TrimSpace(s) }

// policy forbids all that the page does not need; the network is part of it.
func policy(js, css string) string {
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return fmt.Sprintf("default-src 'none'; script-src %s; style-src %s; base-uri 'none'; form-action 'none'", hash(js), hash(css))
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

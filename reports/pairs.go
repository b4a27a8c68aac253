package reports

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/rpmig/rpmig/result"
)

//go:embed page/pairs.html
var pairsHTML string

var pairsTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("pairs").Funcs(htmlFuncs).Parse(pairsHTML))
})

// Pairs is a page of cells that are looked at in two runs, side by side.
type Pairs struct {
	Title    string
	Runs     []string // in a few words each
	Summary  []string // a line for each comparison
	Sections []PairSection
}

// PairSection is some of them under a heading.
type PairSection struct {
	Title string
	Pairs []Pair
	More  int // that are not shown
}

// Pair is a cell in two runs.
type Pair struct {
	Name     string
	Was, Is  string   // what it came to
	Said     []string // sentences
	Old, New *PairCell
}

// PairCell is the cell of a run; nil: it was not played there, or is not known.
type PairCell struct {
	Header *result.Header
	Cell   *result.Cell
}

// htmlPairs is what pairs.html shows.
type htmlPairs struct {
	*Pairs
	Policy   string
	CSS      template.CSS
	Sections []htmlPairSection
}

type htmlPairSection struct {
	PairSection
	Pairs []htmlPair
}

type htmlPair struct {
	Pair
	ID       string
	Parted   string // where they part, in words; empty: nothing is drawn of both
	Pictures []htmlPicture
}

type htmlPicture struct {
	Label string
	SVG   template.HTML
}

// partMark shows the step at which two diagrams part. A page has a rule for each step that one does.
const partMark = `#%s .sequence [data-step="%d"] .step rect { stroke: var(--bad); stroke-width: 3; }`

// RenderPairs writes the page. Like that of a run it needs nothing beside it, and has no script.
func RenderPairs(w io.Writer, p *Pairs) error {
	page := &htmlPairs{Pairs: p}
	css := []string{pageCSS}
	taken := map[string]bool{}
	for _, s := range p.Sections {
		section := htmlPairSection{PairSection: s}
		for _, pair := range s.Pairs {
			h := htmlPair{Pair: pair, ID: unique("pair="+anchor(pair.Name), taken)}
			h.draw("old: "+pair.Was, pair.Old)
			h.draw("new: "+pair.Is, pair.New)
			if len(h.Pictures) == 2 {
				at, words := parts(pair.Old.Cell, pair.New.Cell)
				h.Parted = words
				if at >= 0 {
					css = append(css, fmt.Sprintf(partMark, cssID(h.ID), at))
				}
			}
			section.Pairs = append(section.Pairs, h)
		}
		page.Sections = append(page.Sections, section)
	}
	style := inline(strings.Join(css, "\n"))
	page.CSS, page.Policy = template.CSS(style), policy("", style)
	if err := pairsTemplate().Execute(w, page); err != nil {
		return fmt.Errorf("write html: %w", err)
	}
	return nil
}

// cssID escapes an id of anchor for a selector.
func cssID(id string) string { return strings.NewReplacer("=", `\=`, "/", `\/`, ".", `\.`).Replace(id) }

func (h *htmlPair) draw(label string, c *PairCell) {
	if c == nil || len(c.Cell.Steps)+len(c.Cell.Flow) == 0 {
		return
	}
	h.Pictures = append(h.Pictures, htmlPicture{label, template.HTML(sequence(newScene(c.Header, c.Cell)))}) // which escapes all words
}

// parts finds the first step at which two plays of a cell part, counted from 0, and says how; -1: they do not. What differs from
// play to play does not count: times, ports, frames' numbers, pure ACKs, and what is sent again.
func parts(a, b *result.Cell) (step int, words string) {
	for i := range max(len(a.Steps), len(b.Steps)) {
		was, is := a.StepName(i+1), b.StepName(i+1)
		switch {
		case was != is && is == "":
			return i, fmt.Sprintf("They part at step %d: the old run went on with %q, and the new one ended.", i+1, was)
		case was != is && was == "":
			return i, fmt.Sprintf("They part at step %d: the old run ended, and the new one went on with %q.", i+1, is)
		case was != is:
			return i, fmt.Sprintf("They part at step %d: %q in the old run, and %q in the new one.", i+1, was, is)
		}
		during, now := during(a, i+1), during(b, i+1)
		if !slices.Equal(during, now) {
			return i, fmt.Sprintf("They part at step %d, %q: the old run has %s, and the new one %s.", i+1, is, listed(during), listed(now))
		}
	}
	if a.Connections != b.Connections {
		last := max(len(b.Steps)-1, 0)
		return last, fmt.Sprintf("All steps look the same; in the end %s in the old run, and %s in the new one.", a.Fact(), b.Fact())
	}
	return -1, "What is drawn is the same in both."
}

// during are the segments of the connection that is drawn and the resets of all, of a step counted from 1.
func during(c *result.Cell, step int) []string {
	var seen []string
	for _, s := range c.Flow {
		if s.Again || s.Role == result.RoleACK || s.Role == result.RoleReset || c.Steps.At(s.Time) != step {
			continue
		}
		from := "the server's"
		if s.FromClient {
			from = "the client's"
		}
		word := from + " " + string(s.Role)
		if s.Dropped {
			word += " (dropped)"
		}
		if !slices.Contains(seen, word) {
			seen = append(seen, word)
		}
	}
	for _, r := range c.Resets {
		if r.Step != step || r.Crossed {
			continue
		}
		word := "a " + r.Flavour.String()
		if r.Owner != "" {
			word += " of " + ownerPhrase(r.Owner)
		}
		if !slices.Contains(seen, word) {
			seen = append(seen, word)
		}
	}
	return seen
}

func listed(words []string) string {
	if len(words) == 0 {
		return "nothing new on the wire"
	}
	return strings.Join(words, ", ")
}

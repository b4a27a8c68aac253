// Package reports makes every format of report from a ledger. Each is a pure function of a run, or of several, so no two can
// disagree and all can be made again later. Apart from jsonl, they list cells in one order, whatever order the cells ended
// in, unless they are written while the run lasts (Format.Stream).
//
// A new format is one file, and one line in Formats.
package reports

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// Options are what a renderer may depend on besides the run.
type Options struct {
	Color   bool  // ANSI colours
	Width   int   // of the terminal, in columns; none or more than 80 means 80, less than 40 means 40
	Verbose bool  // the story, counters and checks of every cell
	KCIDB   KCIDB // of format kcidb
	// Dir is the run's folder, as the user named it; of several runs, or of one that has a name, the folder that holds the folder of
	// each. Empty: it is not known, and no report says where evidence is.
	Dir string
	// Names are those of the runs, and of the folders of each below Dir; nil: they are called after their kernels.
	Names []string
}

// Format is a way to write a run, or several.
type Format struct {
	Name   string
	Doc    string // one phrase
	Story  bool   // it shows what happened inside each cell, even without Options.Verbose
	Checks bool   // it shows the checks and steps of each cell, even without Options.Verbose
	Stored bool   // Render takes one run whose cells are stored (result.Run), and holds no more than one of them at a time
	// Most is how many cells a report may have; 0: any number. Of more it could not be read, or would take more memory than there is.
	Most int
	// Stream begins a report that is written while the run lasts, its cells in the order in which they end; nil: the format has
	// none, as it needs to know the whole run first.
	Stream func(w io.Writer) Stream
	one    func(w io.Writer, run *result.Run, o Options) error
	all    func(w io.Writer, runs []*kernelRun, o Options) error // at least two
}

// Stream is a report of which each cell is written as soon as it has ended. After an error the rest is not worth writing.
type Stream interface {
	// Begin is called when the plan is made, so that Header.Cells is right.
	Begin(h *result.Header) error
	Cell(c *result.Cell, o Options) error
	// End is called with the run as it is then, whole or cut short. Its cells are those that were written, or Brief.
	End(run *result.Run) error
}

// How many cells there may be on a page, which a browser has to draw, and in a document of JSON, which its readers have in memory.
const (
	maxPage = 20_000
	maxList = 100_000
)

// Formats lists every format, sorted by name.
func Formats() []Format {
	return []Format{
		{"html", "one page to look at, with diagrams, for people", true, true, false, maxPage, nil, renderHTML, renderPages},
		{"jsonl", "the ledger itself, one JSON object a line", true, true, true, 0, streamJSONL, renderJSONL, renderLedgers},
		{"junit", "JUnit XML, for GitLab, GitHub and Jenkins", false, true, true, 0, nil, renderJUnit, renderSuites},
		{"kcidb", "tests for KernelCI's database, schema 5.3", false, true, true, maxList, nil, renderKCIDB, renderKCIDBs},
		{"ktap", "KTAP version 1, as kernel tests print", false, false, true, 0, streamTAP(ktapVersion), renderTAP(ktapVersion), renderNested},
		{"lava", "the signals by which a LAVA job tells of results", false, false, true, 0, streamLAVA, renderLAVA, renderLAVAs},
		{"markdown", "what did not pass, or where kernels differ, as tables of Markdown", false, false, true, 0, nil, renderMarkdown, renderMarkdowns},
		{"nipa", "JSON as the workers of netdev's CI hand it in", false, false, true, maxList, nil, renderNIPA, renderNIPAs},
		{"tap", "the same as TAP version 13, for other readers of TAP", false, false, true, 0, streamTAP(tapVersion), renderTAP(tapVersion), renderFlat},
		{"text", "tables and sentences, for people", false, false, true, 0, nil, renderText, renderTexts},
	}
}

// Lookup returns the format of that name. The error lists the names there are.
func Lookup(name string) (Format, error) {
	var names []string
	for _, f := range Formats() {
		if f.Name == name {
			return f, nil
		}
		names = append(names, f.Name)
	}
	return Format{}, fmt.Errorf("unknown format %q: want one of %s", name, strings.Join(names, ", "))
}

// modeOrder compares modes by the ledger's order; those that it does not list follow, sorted by name.
func modeOrder(h *result.Header) func(a, b string) int {
	rank := map[string]int{} // below zero, which is the rank of others
	for i, m := range h.Modes {
		rank[m.Name] = i - len(h.Modes)
	}
	return func(a, b string) int { return cmp.Or(cmp.Compare(rank[a], rank[b]), cmp.Compare(a, b)) }
}

// sorted returns the cells in the order of reports. A ledger has them in the order in which they ended, which differs
// from run to run.
func sorted(run *result.Run) []*result.Cell {
	cells := make([]*result.Cell, len(run.Cells))
	for i := range run.Cells {
		cells[i] = &run.Cells[i]
	}
	compareModes := modeOrder(&run.Header)
	slices.SortStableFunc(cells, func(a, b *result.Cell) int {
		return cmp.Or(
			cmp.Compare(a.Scenario, b.Scenario),
			cmp.Compare(a.Family, b.Family),
			compareModes(a.Mode, b.Mode),
			cmp.Compare(a.Repeat, b.Repeat),
		)
	})
	return cells
}

// printable is a text as a report may show it.
func printable(s string) string { return result.Printable(s) }

// resetLine says all that is known of a reset: its frame, flavour, ends, time and step.
func resetLine(c *result.Cell, r result.Reset) string {
	line := fmt.Sprintf("frame %d, %s from %s to %s at %s", r.Frame, r.Flavour, r.From, r.To, seconds(r.Time))
	if step := c.StepName(r.Step); step != "" {
		line += `, during "` + step + `"`
	}
	if r.Owner != "" {
		line += ", of " + ownerPhrase(r.Owner)
		if r.Reason != "" {
			line += " (" + r.Reason + ")"
		}
	}
	return printable(line)
}

// captureLine says where the packets are and whether all of them are there.
func captureLine(c *result.Cell) string {
	return fmt.Sprintf("%d frames and %d lost in %s", c.Capture.Packets, c.Capture.Lost, c.Capture.File)
}

// evidence is where a cell's evidence is; empty where it has left none, or where that is not known.
func (o Options) evidence(c *result.Cell) string {
	if o.Dir == "" || !c.HasEvidence() {
		return ""
	}
	return filepath.Join(o.Dir, filepath.FromSlash(c.Folder()))
}

// killers returns the first reset of each connection. Later ones answer what was still under way.
func killers(c *result.Cell) []result.Reset {
	var first []result.Reset
	seen := map[[2]netip.AddrPort]bool{}
	for _, r := range c.Resets {
		ends := [2]netip.AddrPort{r.From, r.To}
		if r.From.Compare(r.To) > 0 {
			ends = [2]netip.AddrPort{r.To, r.From}
		}
		if !seen[ends] {
			seen[ends] = true
			first = append(first, r)
		}
	}
	return first
}

// doubt is what to say of a cell that is doubtful.
const doubt = "uncontrolled: no off cell showed that this capture catches resets"

// doubtful reports whether the absence of a reset proves less in this cell. A skipped cell claims nothing, and a server that was
// reloaded is judged by what its clients saw.
func doubtful(c *result.Cell) bool {
	return c.Reload == nil && c.Control == result.Uncontrolled && c.Status != result.Skip
}

// seconds shows a time to a tenth of a millisecond, which tells the frames of one step apart.
func seconds(s float64) string { return strconv.FormatFloat(s, 'f', 4, 64) + " s" }

// ownerPhrase names whose reset it is in a sentence.
func ownerPhrase(o result.Owner) string {
	switch o {
	case result.NoSocket, result.OwnSocket:
		return string(o)
	default:
		return "the " + string(o)
	}
}

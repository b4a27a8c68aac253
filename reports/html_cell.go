package reports

import (
	"fmt"
	"html/template"
	"net/url"
	"path/filepath"
	"slices"

	"github.com/rpmig/rpmig/result"
)

// htmlDetails is what cell.html shows.
type htmlDetails struct {
	*htmlCell
	Stages   []htmlStage
	Last     int // of Stages
	Decides  int // the stage at which the connection's fate was decided: where the slider is at first
	Checks   template.HTML
	Capture  string // its link, if it has one
	Client   string // of the connection that is drawn
	Resets   []string
	Text     string // the timeline, where the page does not have it already
	Many     bool   // one of several connections is drawn
	Counters template.HTML
}

// AlsoFailed are the checks that do not hold, but for the first.
func (h *htmlCell) AlsoFailed() []result.Check {
	failed := h.Failed()
	return failed[min(1, len(failed)):]
}

// htmlStage is a stop of the slider: a step, and what has changed in the socket tables once it is over.
type htmlStage struct {
	Name, At string
	Parted   *htmlParted   // the check that failed from here on
	Known    bool          // there is a snapshot of the tables
	Changes  []change      // in them
	Tables   template.HTML // if they do not look as at the stop before
}

func (d *htmlDrawer) details(h *htmlCell, drawn *scene) *htmlDetails {
	c, views := h.Cell, drawn.views
	out := &htmlDetails{
		htmlCell: h, Last: len(c.Steps) - 1, Decides: decisive(c, views), Many: c.Connections.Staged > 1 && len(c.Flow) > 0,
	}
	if h.Timeline == "" && len(c.Flow) > 0 {
		out.Text = d.alone.timeline(drawn)
	}
	_, at := parted(c)
	var shown template.HTML
	for i, s := range c.Steps {
		stage := htmlStage{Name: printable(s.Name), At: seconds(s.At)}
		if i == at {
			stage.Parted = h.First
		}
		if views != nil {
			stage.Known, stage.Changes = views[i].Known, views[i].Changes
			if tables := drawTables(&views[i]); tables != shown {
				stage.Tables, shown = tables, tables
			}
		}
		out.Stages = append(out.Stages, stage)
	}
	out.Checks, out.Counters = drawChecks(c.Checks), drawCounters(c.Counters)
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

// decisive returns the step at which a check that failed parted from what was expected, or in which the connection was reset, or in
// which it was seen at its new listener, or the last.
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

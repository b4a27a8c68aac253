package reports

import (
	"fmt"
	"maps"
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
	Tables   bool
	Checks   []result.Check // failed ones first
	Capture  string         // its link, if it has one
	Client   string         // of the connection that is drawn
	Resets   []string
	Text     string // the timeline, where the page does not have it already
	Many     bool   // one of several connections is drawn
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
		htmlCell: h, Last: len(c.Steps) - 1, Tables: len(c.Tables) > 0, Many: c.Connections.Staged > 1 && len(c.Flow) > 0,
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

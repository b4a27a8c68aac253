package reports

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// ofTheHost is what a trace by tracefs is.
const ofTheHost = "comes from tracefs, of the whole host, and leaves out what may be another's"

// gaps says in a sentence what the kernel's trace cannot tell; "" of one that is whole, and where there is none.
func gaps(t *result.Trace) string {
	if t == nil {
		return ""
	}
	var parts []string
	if t.Lost != 0 {
		events := "events"
		if t.Lost == 1 {
			events = "event"
		}
		parts = append(parts, fmt.Sprintf("lost %d %s", t.Lost, events))
	}
	if len(t.Missing) > 0 {
		parts = append(parts, "has no "+strings.Join(t.Missing, ", ")+", which this kernel lacks")
	}
	if t.HostWide {
		parts = append(parts, ofTheHost)
	}
	if len(parts) == 0 {
		return ""
	}
	return printable("the kernel's trace " + strings.Join(parts, "; it ") + ": what it does not show may have happened")
}

// traceGaps is what the kernel's trace does not tell, of all cells.
type traceGaps struct {
	lost    int // events
	host    bool
	missing few
	lossy   []*result.Cell // some of those that have lost events: one of each mode
}

func (g *traceGaps) add(c *result.Cell) {
	if c.Trace == nil {
		return
	}
	g.host = g.host || c.Trace.HostWide
	for _, name := range c.Trace.Missing {
		g.missing.add(name)
	}
	if g.lost += c.Trace.Lost; c.Trace.Lost != 0 {
		g.lossy = addPlace(g.lossy, c)
	}
}

// gaps says of which cells events were lost, which tracepoints the kernel lacks, and which cells have only what it told of
// the whole host.
func (p *page) gaps(g *traceGaps) {
	lost, host, missing, lossy := g.lost, g.host, g.missing, g.lossy
	if len(lossy) == 0 && len(missing) == 0 && !host {
		return
	}
	p.heading("The kernel's trace is not whole: what it does not show may have happened")
	if len(lossy) > 0 {
		p.say(2, 6, plain, fmt.Sprintf("events lost: %d: ", lost), places(lossy))
	}
	if len(missing) > 0 {
		p.say(2, 6, plain, "this kernel lacks ", printable(strings.Join(slices.Sorted(maps.Keys(missing)), ", ")))
	}
	if host {
		p.say(2, 6, plain, "it "+ofTheHost, "; so cells were played one at a time")
	}
}

package reports

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

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
	if len(parts) == 0 {
		return ""
	}
	return printable("the kernel's trace " + strings.Join(parts, "; it ") + ": what it does not show may have happened")
}

// gaps says of which cells events were lost, and which tracepoints the kernel lacks.
func (p *page) gaps(cells []*result.Cell) {
	lost := 0
	missing := map[string]bool{}
	var lossy []*result.Cell
	for _, c := range cells {
		if c.Trace == nil {
			continue
		}
		for _, name := range c.Trace.Missing {
			missing[name] = true
		}
		if lost += c.Trace.Lost; c.Trace.Lost != 0 {
			lossy = append(lossy, c)
		}
	}
	if len(lossy) == 0 && len(missing) == 0 {
		return
	}
	p.heading("The kernel's trace is not whole: what it does not show may have happened")
	if len(lossy) > 0 {
		p.say(2, 6, plain, fmt.Sprintf("events lost: %d: ", lost), places(lossy))
	}
	if len(missing) > 0 {
		p.say(2, 6, plain, "this kernel lacks ", printable(strings.Join(slices.Sorted(maps.Keys(missing)), ", ")))
	}
}

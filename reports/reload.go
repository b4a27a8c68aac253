package reports

import (
	"fmt"
	"strings"
	"time"

	"github.com/rpmig/rpmig/result"
)

// reloadMeanings explains each status of a server that was reloaded.
var reloadMeanings = map[result.Status]string{
	result.Pass:  "lost no more than it may, or is not judged",
	result.Skip:  "cannot be played here",
	result.Fail:  "lost more than it may, or does not end its reloads",
	result.Error: "no conclusion",
}

// reloadMode is the mode of a server that was reloaded.
func reloadMode(c *result.Cell) string { return clip(printable(c.Mode), 12) }

// reloads is what servers lost over their reloads, and why; the heads alone where each cell's story has told it. modes is how many
// columns the widest mode takes; 0: no server was reloaded.
func (p *page) reloads(cells *cells, modes int, told bool) error {
	if modes == 0 {
		return nil
	}
	server := ""
	return cells.each(func(c *result.Cell) error {
		r := c.Reload
		if r == nil || len(r.Cycles) == 0 {
			return nil
		}
		if row(c) != server {
			server = row(c)
			p.heading(printable("Reloads under load: " + c.Scenario))
			p.say(2, 4, plain, "load: ", printable(r.Load))
			p.say(2, 4, plain, "", fmt.Sprintf("the modes took turns in the order of --seed %d", r.Seed))
		}
		if told {
			return nil
		}
		p.say(2, 4+modes, bold, pad(reloadMode(c), modes), "  "+r.Rating())
		for _, line := range reloadLines(c, false) {
			p.say(4+modes, 6+modes, plain, "", line)
		}
		return p.flush(flushAt)
	})
}

// reloadLines are what is to be said of a cell beside its rating.
func reloadLines(c *result.Cell, verbose bool) []string {
	r := c.Reload
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, printable(fmt.Sprintf(format, args...))) }
	for _, cause := range r.Causes {
		add("%s", causeLine(cause))
	}
	if r.P != nil {
		add("against off: p = %.3g, by permutation of the cycles", *r.P)
	}
	if r.Reloading.Count > 0 {
		add("replies, 99 of 100 within %s between reloads and %s in them, the slowest %s; without one for %s at most",
			milli(r.Between.P99), milli(r.Reloading.P99), milli(r.Reloading.Max), milli(r.Pause))
	}
	if first, last, n := settled(r); n > 0 {
		add("who listens changed from %s to %s after a reload began, on average", milli(first), milli(last))
	}
	if r.Void > 0 {
		add("%d connections were void: the load generator itself did not get to run", r.Void)
	}
	if r.Untraced != "" && r.Lost > 0 {
		add("the kernel was not asked why it resets: %s", r.Untraced)
	}
	if r.Missed > 0 {
		add("%d events of the kernel's trace are missing", r.Missed)
	}
	if r.Verdict != "" && (!verbose || !strings.Contains(c.Reason, r.Verdict)) { // a story begins with the reason
		add("%s", r.Verdict)
	}
	if verbose {
		seen := map[string]bool{"": true} // most have the same
		for _, alike := range lossesAlike(r.Examples) {
			add("%s", lossLine(alike))
			for _, f := range alike {
				if stack := strings.Join(f.Stack, " < "); !seen[stack] {
					seen[stack] = true
					add("its stack in the kernel: %s", stack)
				}
			}
		}
	}
	return lines
}

// lossesAlike puts together the losses that differ in when, where and which process alone, in the order of the first of each.
func lossesAlike(all []result.LostFlow) [][]result.LostFlow {
	var groups [][]result.LostFlow
	at := map[[6]string]int{}
	for _, f := range all {
		kind := [6]string{f.End, f.Phase, f.Why, programOf(f.By), f.Reason, f.State}
		if _, seen := at[kind]; !seen {
			at[kind] = len(groups)
			groups = append(groups, nil)
		}
		groups[at[kind]] = append(groups[at[kind]], f)
	}
	return groups
}

// programOf is the name of a process, without its number.
func programOf(by string) string {
	name, _, _ := strings.Cut(by, " (")
	return name
}

// causeLine is a cause in a line.
func causeLine(c result.LossCause) string {
	said := fmt.Sprintf("%d %s", c.Count, c.Why)
	if c.By != "" {
		said += ", by " + c.By
	}
	switch c.Whose {
	case result.OfApplication:
		said += " (the application's)"
	case result.OfNobody:
		said += " (whose, is not known)"
	}
	return said
}

// lossLine is a lost connection in a line, or several that are alike, of which it names a few.
func lossLine(alike []result.LostFlow) string {
	const few = 3
	var which []string
	for _, f := range alike[:min(few, len(alike))] {
		which = append(which, fmt.Sprintf("%s: %s > %s, cycle %d", seconds(f.At), f.Client, f.Server, f.Cycle))
	}
	f := alike[0]
	if len(alike) > 1 {
		f.By = programOf(f.By)
	}
	said := fmt.Sprintf("%s (%s): %s", f.End, f.Phase, f.Why)
	var more []string
	for _, s := range []struct{ what, is string }{{"by ", f.By}, {"reason ", f.Reason}, {"socket in ", f.State}} {
		if s.is != "" {
			more = append(more, s.what+s.is)
		}
	}
	if len(more) > 0 {
		said += " (" + strings.Join(more, ", ") + ")"
	}
	if len(alike) == 1 {
		return which[0] + ": " + said
	}
	return fmt.Sprintf("%d × %s, such as %s", len(alike), said, strings.Join(which, "; "))
}

// settled is when, on average, who holds the listeners first and last changed in a reload; n is in how many it did.
func settled(r *result.Reload) (first, last float64, n int) {
	for _, c := range r.Cycles {
		for _, s := range c.Steps {
			if s.Changed {
				first, last, n = first+s.First, last+s.Last, n+1
			}
		}
	}
	if n > 0 {
		first, last = first/float64(n), last/float64(n)
	}
	return first, last, n
}

// milli shows a time to three digits.
func milli(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	default:
		return fmt.Sprintf("%.2g ms", d.Seconds()*1e3)
	}
}

// reloaded says what a cell came to, in sentences.
func reloaded(c *result.Cell) (happened, remedy string) {
	r := c.Reload
	if len(r.Cycles) == 0 {
		said := "Nothing is known of its reloads: " + c.Reason + "."
		if len(r.Output) > 0 {
			said += " The server printed: " + strings.Join(r.Output, " / ")
		}
		return said, ""
	}
	happened = r.Rating() + "."
	if len(r.Causes) > 0 {
		var causes []string
		for _, cause := range r.Causes {
			causes = append(causes, causeLine(cause))
		}
		happened += " " + strings.Join(causes, "; ") + "."
	}
	return happened, r.Verdict
}

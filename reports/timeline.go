package reports

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// Timeline draws one connection of a cell: the client on the left, the server on the right, segments as arrows in
// tcpdump's words, and the steps between them, in the order in which they happened. Times are seconds.
func Timeline(c *result.Cell) string {
	type event struct {
		at   float64
		text string
	}
	var events []event
	for _, s := range c.Steps {
		events = append(events, event{s.At, "* " + s.Name})
	}
	for _, s := range c.Flow {
		events = append(events, event{s.Time, arrow(s)})
	}
	// A step is noted before what it does.
	slices.SortStableFunc(events, func(a, b event) int {
		switch {
		case a.at < b.at:
			return -1
		case a.at > b.at:
			return 1
		default:
			return 0
		}
	})
	var b strings.Builder
	fmt.Fprintf(&b, "%9s  %-36s%s\n", "", "client", "server")
	for _, e := range events {
		fmt.Fprintf(&b, "%9.4f  %s\n", e.at, strings.TrimRight(printable(e.text), " "))
	}
	return b.String()
}

// arrow is a segment of 42 columns, and what there is to say of it.
func arrow(s result.Segment) string {
	const width = 40
	text := " " + s.Text + " "
	fill := max(width-len(text), 2)
	left := strings.Repeat("-", fill/2)
	right := strings.Repeat("-", fill-fill/2)
	line := "|" + left + text + right + ">|"
	if !s.FromClient {
		line = "|<" + left + text + right + "|"
	}
	switch {
	case strings.Contains(s.Note, "dropped"):
		line = strings.TrimSuffix(line, ">|") + "x| dropped"
	case strings.Contains(s.Note, "retransmits"):
		line += " again"
	case strings.Contains(s.Note, "reset"):
		line += " reset"
	}
	return line
}

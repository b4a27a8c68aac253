package reports

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// htmlReload is a server that was reloaded, in all its modes.
type htmlReload struct {
	ID     string
	Title  string
	Load   string
	Server string
	Modes  []htmlReloadMode
	Course template.HTML // how the run went, drawn
	Lost   []htmlLost
}

type htmlReloadMode struct {
	Cell   *result.Cell
	Rating string
	Lines  []string
}

// htmlLost is a connection that was lost.
type htmlLost struct {
	Mode string
	result.LostFlow
}

// htmlReloads are those of sorted cells of a kernel, which has a name on a page of several. It takes ids.
func htmlReloads(cells []*result.Cell, kernel string, taken map[string]bool) []*htmlReload {
	var all []*htmlReload
	cells = slices.DeleteFunc(slices.Clone(cells), func(c *result.Cell) bool { return c.Reload == nil })
	for _, r := range htmlRows(cells, kernel, taken) {
		first := r.cells[0]
		h := &htmlReload{ID: "reload-" + r.id, Title: strings.TrimPrefix(kernel+" "+row(first), " "), Load: first.Reload.Load, Server: strings.Join(first.Reload.Server, " ")}
		for _, c := range r.cells {
			h.Modes = append(h.Modes, htmlReloadMode{c, c.Reload.Rating(), reloadLines(c, false)})
			for _, f := range c.Reload.Examples {
				h.Lost = append(h.Lost, htmlLost{c.Mode, f})
			}
		}
		h.Course = course(r.cells)
		all = append(all, h)
	}
	return all
}

// The measures of the drawing.
const (
	courseWidth, courseLeft = 1000, 70
	stripHeight, stripGap   = 70, 24
)

// strip is a quantity over the time of a run.
type strip struct {
	name string
	of   func(result.ReloadPart) float64
	unit func(float64) string
	bars bool
}

var strips = []strip{
	{"lost", func(p result.ReloadPart) float64 { return float64(p.Lost) }, func(v float64) string { return fmt.Sprintf("%.0f", v) }, true},
	{"replies", func(p result.ReloadPart) float64 { return float64(p.Replies) }, func(v float64) string { return fmt.Sprintf("%.0f", v) }, false},
	{"99 of 100 within", func(p result.ReloadPart) float64 { return p.P99 }, milli, false},
}

// course draws how a run went: what was lost, the replies and their latency, over time, with the cycles as bands in the colour of
// their mode, the reloads as bands from their beginning to the last change of who listens, and how many processes did.
func course(cells []*result.Cell) template.HTML {
	end := 0.0
	for _, c := range cells {
		for _, cycle := range c.Reload.Cycles {
			end = max(end, cycle.To)
		}
	}
	if !(end > 0 && end < 1e9) {
		return ""
	}
	x := func(at float64) float64 {
		return courseLeft + within(at, end)/end*(courseWidth-courseLeft)
	}
	height := (len(strips)+1)*(stripHeight+stripGap) + stripGap
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="course" viewBox="0 0 %d %d" role="img" aria-label="What was lost, the replies, their latency and the processes that listen, over %.1f seconds">`,
		courseWidth, height, end)
	for m, c := range cells {
		for _, cycle := range c.Reload.Cycles {
			fmt.Fprintf(&b, `<rect class="mode%d" x="%.1f" y="0" width="%.1f" height="%d"><title>%s</title></rect>`,
				m%4, x(cycle.At), x(cycle.To)-x(cycle.At), height-stripGap, template.HTMLEscapeString(printable(fmt.Sprintf("cycle %d: %s", cycle.Number, c.Mode))))
			for _, s := range cycle.Steps {
				fmt.Fprintf(&b, `<rect class="reloading" x="%.1f" y="0" width="%.1f" height="%d"/>`, x(s.At), max(x(s.At+s.Last)-x(s.At), 1), height-stripGap)
			}
		}
	}
	parts, holders := partsOf(cells)
	for i, s := range strips {
		drawStrip(&b, s, i, parts, x)
	}
	drawHolders(&b, len(strips), holders, x)
	fmt.Fprintf(&b, `<text x="%d" y="%d">0 s</text><text x="%d" y="%d" text-anchor="end">%.1f s</text></svg>`,
		courseLeft, height-6, courseWidth, height-6, end)
	return template.HTML(b.String()) // what is not a number in it is escaped
}

// within is a number between 0 and the most there is; 0 of what is none.
func within(v, most float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return min(max(v, 0), most)
}

// partsOf are all parts and steps of a run, in the order of time.
func partsOf(cells []*result.Cell) (parts []result.ReloadPart, steps []result.ReloadStep) {
	for _, c := range cells {
		for _, cycle := range c.Reload.Cycles {
			parts = append(parts, cycle.Course...)
			steps = append(steps, cycle.Steps...)
		}
	}
	slices.SortFunc(parts, func(a, b result.ReloadPart) int { return compareTimes(a.At, b.At) })
	slices.SortFunc(steps, func(a, b result.ReloadStep) int { return compareTimes(a.At, b.At) })
	return parts, steps
}

func compareTimes(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

// base is the y of a strip's zero.
func base(n int) float64 { return float64((n + 1) * (stripHeight + stripGap)) }

func drawStrip(b *strings.Builder, s strip, n int, parts []result.ReloadPart, x func(float64) float64) {
	most := 0.0
	for _, p := range parts {
		most = max(most, within(s.of(p), math.MaxFloat64))
	}
	label(b, s.name, s.unit(most), n)
	if most <= 0 {
		return
	}
	y := func(v float64) float64 { return base(n) - within(v, most)/most*stripHeight }
	var points []string
	for _, p := range parts {
		switch v := s.of(p); {
		case s.bars && v > 0:
			fmt.Fprintf(b, `<rect class="bar" x="%.1f" y="%.1f" width="2" height="%.1f"/>`, x(p.At), y(v), base(n)-y(v))
		case !s.bars:
			points = append(points, fmt.Sprintf("%.1f %.1f", x(p.At), y(v)))
		}
	}
	if points != nil {
		fmt.Fprintf(b, `<path d="M%s"/>`, strings.Join(points, "L"))
	}
}

func drawHolders(b *strings.Builder, n int, steps []result.ReloadStep, x func(float64) float64) {
	most := 0
	for _, s := range steps {
		most = max(most, s.Holders)
	}
	label(b, "who listens", fmt.Sprint(most), n)
	var points []string
	last := 0.0
	for i, s := range steps {
		y := base(n) - within(float64(s.Holders), float64(most))/float64(max(most, 1))*stripHeight
		if i > 0 {
			points = append(points, fmt.Sprintf("%.1f %.1f", x(s.At+s.Last), last))
		}
		points = append(points, fmt.Sprintf("%.1f %.1f", x(s.At+s.Last), y))
		last = y
	}
	if points != nil {
		fmt.Fprintf(b, `<path d="M%s"/>`, strings.Join(points, "L"))
	}
}

// label names a strip, and says what its top is.
func label(b *strings.Builder, name, most string, n int) {
	fmt.Fprintf(b, `<path class="zero" d="M%d %.0fL%d %.0f"/><text x="%d" y="%.0f">%s, to %s</text>`,
		courseLeft, base(n), courseWidth, base(n), courseLeft, base(n)-stripHeight-6, name, most)
}

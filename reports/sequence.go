package reports

import (
	"fmt"
	"html"
	"net/netip"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// The sequence diagram, in units of its viewBox. It is narrow enough to be read on a phone.
const (
	seqWidth  = 520
	seqTime   = 58  // times end here
	seqClient = 76  // the client's lifeline
	seqRule   = 318 // where a rule drops what the client sends
	seqServer = 366 // the edge of the server's kernel
	seqBar    = 392 // the first listener's bar
	seqBars   = 3   // listeners that have a bar
	seqStep   = 34  // from one bar to the next
	seqConn   = 494 // the middle of the bar of the connection itself
	seqTop    = 34
	// A wait of this many seconds or more is shown as one.
	seqWait = 0.05
)

// sequence draws one connection as SVG: the client's lifeline, the server's kernel with a bar for each listener as long
// as it lives and one for what the server has of the connection, and between them what Timeline shows as text. Everything
// that belongs to a step is in a group with the step's number. It has no ids and no styles of its own, so that a page may
// hold many.
func sequence(drawn *scene) string {
	c, views := drawn.Cell, drawn.views
	d := &diagram{y: seqTop}
	d.body.Grow(200 * len(drawn.moments))
	client, known := flowClient(c)
	check, at := parted(c)
	last := 0.0
	for i, m := range foldSteps(drawn.moments, at) {
		if i > 0 && m.at-last >= seqWait && m.at-last < 1e6 {
			d.y += 4
			d.group(m.step, "wait")
			d.text((seqClient+seqServer)/2, 12, "wait", fmt.Sprintf("⋮ %.0f ms later", (m.at-last)*1000))
			d.end(18)
		}
		last = m.at
		switch m.kind {
		case stepMoment:
			d.begin(&m)
			d.bars(views, m.step)
			if m.step == at {
				said := fmt.Sprintf("%s: want %s, got %s", check.Name, check.Want, check.Got)
				d.note(&moment{step: m.step, text: said}, "parted", "✗ ", seqClient+10, 42)
			}
		case segmentMoment:
			d.segment(&m)
		case eventMoment:
			d.note(&m, "event", "⚙ ", seqServer-8, 44)
		case tableMoment:
			if known {
				d.connection(&views[m.step], client, m.step)
			}
			d.note(&m, "table", "▸ ", seqClient+10, 44)
		}
	}
	d.fate(c)
	d.body.WriteString("</g>")

	var svg strings.Builder
	svg.Grow(d.body.Len() + d.under.Len() + 1024)
	fmt.Fprintf(&svg, `<svg class="sequence" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">`,
		seqWidth, d.y, html.EscapeString("Sequence diagram of "+place(c)+"; the same follows as text"))
	fmt.Fprintf(&svg, `<rect class="kernel" x="%d" y="22" width="%d" height="%d"/>`, seqServer, seqWidth-seqServer, d.y-22)
	fmt.Fprintf(&svg, `<path class="life" d="M%d 22V%d"/>`, seqClient, d.y)
	fmt.Fprintf(&svg, `<text class="head" x="%d" y="14">client</text>`, seqClient)
	fmt.Fprintf(&svg, `<text class="head" x="%d" y="14">server</text>`, (seqServer+seqWidth)/2)
	for i := range d.open {
		d.bar(i, d.y)
	}
	d.connBar()
	svg.WriteString(d.under.String())
	svg.WriteString(d.body.String())
	svg.WriteString("</svg>")
	return svg.String()
}

// foldSteps makes one of steps that follow one another, have the same name, and have nothing to show between them. The one at which a
// check parted has that to show. Unlike fold it leaves rows of several moments alone, since the slider stops at each of their steps.
func foldSteps(all []moment, parted int) []moment {
	folds := func(m moment) bool { return m.kind == stepMoment && m.step != parted }
	var out []moment
	for i := 0; i < len(all); {
		m, n := all[i], 1
		for folds(m) && i+n < len(all) && folds(all[i+n]) && all[i+n].text == m.text {
			n++
		}
		if n > 1 {
			m.text += fmt.Sprintf(" × %d", n)
		}
		out = append(out, m)
		i += n
	}
	return out
}

type diagram struct {
	y           int
	body, under strings.Builder // under: bars, which lie beneath the rest
	step        struct {        // whose group is open in the body
		begun bool
		n, y  int // y: where it begins
	}
	open [seqBars]struct {
		from, step int
		name       string
		listens    bool
	}
	conn struct {
		from, step int
		kind       string // "request", "connection", or empty
	}
}

// group begins at d.y, in the group of its step, and what is in either is drawn from there: so the same thing is the same text
// wherever it stands, which packs well.
func (d *diagram) group(step int, class string) {
	if !d.step.begun || d.step.n != step {
		if d.step.begun {
			d.body.WriteString("</g>")
		}
		d.step.begun, d.step.n, d.step.y = true, step, d.y
		fmt.Fprintf(&d.body, `<g data-step="%d" transform="translate(0 %d)">`, step, d.y)
	}
	fmt.Fprintf(&d.body, `<g class="%s" transform="translate(0 %d)">`, class, d.y-d.step.y)
}

func (d *diagram) end(height int) {
	d.body.WriteString("</g>")
	d.y += height
}

// text is the only way in for words, and it escapes them.
func (d *diagram) text(x, dy int, class, words string) {
	fmt.Fprintf(&d.body, `<text class="%s" x="%d" y="%d">%s</text>`, class, x, dy, html.EscapeString(printable(words)))
}

func (d *diagram) time(dy int, at float64) {
	d.text(seqTime, dy, "time", strings.TrimSpace(clock(at)))
}

func (d *diagram) begin(m *moment) {
	lines := wrap(printable(m.text), 40, 40)
	d.y += 4
	d.group(m.step, "step")
	fmt.Fprintf(&d.body, `<rect x="%d" y="0" width="%d" height="%d" rx="4"/>`, seqClient-12, seqServer-seqClient+4, 6+15*len(lines))
	d.time(15, m.at)
	for i, l := range lines {
		d.text(seqClient-4, 15+15*i, "name", l)
	}
	d.end(12 + 15*len(lines))
}

// segmentWords are the class of a segment and what is said under its arrow.
func segmentWords(m *moment) (class, note string) {
	switch s := &m.segment; {
	case s.Dropped && s.Again:
		return "segment dropped", "sent again, and dropped by the rule"
	case s.Dropped:
		return "segment dropped", "dropped by the rule: the server never sees it"
	case s.Again:
		return "segment again", "sent again: nothing had acknowledged it"
	case s.Role == result.RoleHandshakeACK:
		return "segment", "the final ACK of the handshake"
	case s.Role != result.RoleReset:
		return "segment", ""
	case m.reset == nil:
		return "segment reset", "reset"
	}
	note = m.reset.Flavour.String()
	if m.reset.Owner != "" {
		note += ", by " + ownerWords(m.reset.Owner)
	}
	if m.reset.Reason != "" {
		note += ": " + m.reset.Reason
	}
	return "segment reset", note
}

func (d *diagram) segment(m *moment) {
	class, note := segmentWords(m)
	from, to := seqClient, seqServer
	if m.segment.Dropped {
		to = seqRule
	}
	if !m.segment.FromClient {
		from, to = to, from
	}
	d.group(m.step, class)
	d.time(24, m.at)
	d.text((seqClient+seqServer)/2, 15, "flags", clip(m.text, 36))
	y, tip := 20, 7
	if from < to {
		tip = -7
	}
	fmt.Fprintf(&d.body, `<path class="line" d="M%d %dH%d"/>`, from, y, to)
	if m.segment.Dropped {
		// It ends at the rule, before the server.
		fmt.Fprintf(&d.body, `<path class="rule" d="M%d %dv20"/><path class="cross" d="M%d %dl12 12m0 -12l-12 12"/>`, seqRule, y-10, seqRule-6, y-6)
	} else {
		fmt.Fprintf(&d.body, `<path class="tip" d="M%d %dl%d -4v8z"/>`, to, y, tip)
	}
	height := 28
	if note != "" {
		below, width := 35, 46
		switch {
		case m.segment.Dropped:
			below, height = below+4, height+4 // clear of the rule's mark
		case m.segment.Role == result.RoleReset:
			width = 38 // in bold
		}
		lines := wrap(printable(note), width, width)
		for i, l := range lines {
			d.text((seqClient+seqServer)/2, below+13*i, "why", l)
		}
		height += 14 * len(lines)
	}
	d.end(height)
}

// ownerWords puts an article before whose reset it is.
func ownerWords(o result.Owner) string {
	switch o {
	case result.NoSocket:
		return "no socket"
	case result.Harness:
		return "rpmig itself"
	case result.ClosingListener, result.SurvivingListener:
		return "the " + string(o)
	}
	return string(o)
}

// note is an event at the server's edge, or a change of the socket tables.
func (d *diagram) note(m *moment, class, sign string, x, width int) {
	lines := wrap(sign+printable(m.text), width, width)
	d.group(m.step, class)
	for i, l := range lines {
		d.text(x, 12+14*i, "note", l)
	}
	d.end(3 + 14*len(lines))
}

// bars begins the bar of each listener that came with a step and ends those that went.
func (d *diagram) bars(views []view, step int) {
	if views == nil {
		return
	}
	for i, l := range views[step].Listeners {
		if i == seqBars {
			return
		}
		b := &d.open[i]
		switch {
		case l.State == "LISTEN" && !b.listens:
			b.listens, b.from, b.step, b.name = true, d.y, step, l.Name
		case l.State != "LISTEN" && b.listens:
			d.bar(i, d.y)
			x := seqBar + 7 + seqStep*i
			fmt.Fprintf(&d.under, `<path class="closed" data-step="%d" d="M%d %dl12 12m0 -12l-12 12"/>`, step, x-6, d.y-6)
			b.listens = false
		}
	}
}

func (d *diagram) bar(i, until int) {
	w := &d.under
	b := &d.open[i]
	if !b.listens {
		return
	}
	x := seqBar + seqStep*i
	fmt.Fprintf(w, `<g class="listener" data-step="%d"><rect class="l%d" x="%d" y="%d" width="14" height="%d"/>`, b.step, i, x, b.from, until-b.from)
	// Above the bar, where there is room for "L30".
	fmt.Fprintf(w, `<text x="%d" y="%d">%s</text></g>`, x+7, b.from-4, html.EscapeString(printable(clip(b.name, 5))))
}

// connection draws what the server has of the connection: first a request socket, then a full one. A line leads to the
// listener that it certainly belongs to.
func (d *diagram) connection(v *view, client netip.AddrPort, step int) {
	kind := "request"
	s, ok := find(v.Requests, client)
	if !ok {
		kind = "connection"
		if s, ok = find(v.server(), client); !ok {
			kind = ""
		}
	}
	if kind == d.conn.kind {
		return
	}
	d.connBar()
	if kind == "" {
		fmt.Fprintf(&d.under, `<path class="closed" data-step="%d" d="M%d %dl12 12m0 -12l-12 12"/>`, step, seqConn-6, d.y-6)
	}
	d.conn.from, d.conn.step, d.conn.kind = d.y, step, kind
	for i, l := range v.Listeners {
		if i < seqBars && kind != "" && l.Name == s.Of {
			fmt.Fprintf(&d.under, `<path class="of" data-step="%d" d="M%d %dH%d"/>`, step, seqConn, d.y+2, seqBar+14+seqStep*i)
		}
	}
}

func (d *diagram) connBar() {
	if d.conn.kind == "" {
		return
	}
	fmt.Fprintf(&d.under, `<g class="conn %s" data-step="%d"><rect x="%d" y="%d" width="8" height="%d"/>`,
		d.conn.kind, d.conn.step, seqConn-4, d.conn.from, d.y-d.conn.from)
	fmt.Fprintf(&d.under, `<text x="%d" y="%d">%s</text></g>`, seqConn-7, d.conn.from+15, map[string]string{"request": "request", "connection": "socket"}[d.conn.kind])
}

func (d *diagram) fate(c *result.Cell) {
	class, words := "fate lived", "✓ "+c.Fact()
	switch {
	case c.Connections.Staged == 0:
		class, words = "fate", c.Fact()
	case c.Connections.Lost > 0:
		class, words = "fate lost", "✕ "+c.Fact()
	}
	d.y += 6
	d.group(max(len(c.Steps)-1, 0), class)
	d.text((seqClient+seqServer)/2, 14, "name", words)
	d.end(26)
}

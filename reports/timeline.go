package reports

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// momentKind is what a moment of a timeline is. At one time, the order is theirs: a step is noted before what it does.
type momentKind int

const (
	stepMoment momentKind = iota
	segmentMoment
	eventMoment
	tableMoment
)

// moment is something on a timeline.
type moment struct {
	at      float64
	step    int // the step that was running
	kind    momentKind
	text    string
	segment result.Segment // of a segmentMoment
	reset   *result.Reset  // what is known of it, if the segment is one
}

// reason is the kernel's, of a reset.
func (m *moment) reason() string {
	if m.reset == nil {
		return ""
	}
	return m.reset.Reason
}

// scene is what there is to draw of a cell.
type scene struct {
	*result.Cell
	views   []view   // see walk
	moments []moment // in the order in which they happened
}

func newScene(h *result.Header, c *result.Cell) *scene {
	views := walk(c)
	return &scene{c, views, moments(h, c, views)}
}

func moments(h *result.Header, c *result.Cell, views []view) []moment {
	all := make([]moment, 0, 2*(len(c.Steps)+len(c.Flow)))
	for i, s := range c.Steps {
		all = append(all, moment{at: s.At, step: i, kind: stepMoment, text: s.Name})
	}
	for _, s := range c.Flow {
		m := moment{at: s.Time, kind: segmentMoment, text: s.Text, segment: s}
		for i := range c.Resets {
			if c.Resets[i].Frame == s.Frame {
				m.reset = &c.Resets[i]
			}
		}
		all = append(all, m)
	}
	port := serverPort(h, c)
	for _, e := range flowEvents(c) {
		all = append(all, moment{at: e.Time, kind: eventMoment, text: eventText(e, port)})
	}
	for i, t := range byStep(c) {
		if t == nil || views == nil {
			continue
		}
		for _, change := range views[i].Changes {
			all = append(all, moment{at: t.At, step: i, kind: tableMoment, text: change.String()})
		}
	}
	slices.SortStableFunc(all, func(a, b moment) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.kind, b.kind)) })
	step := 0
	for i := range all {
		switch all[i].kind {
		case stepMoment:
			step = all[i].step
		case segmentMoment, eventMoment:
			all[i].step = step
		}
	}
	return all
}

// flowEvents returns the events that belong to the connection in Flow: with one client all do, and with several those
// that name it.
func flowEvents(c *result.Cell) []result.Event {
	client, known := flowClient(c)
	var events []result.Event
	for _, e := range c.Events {
		if c.Connections.Staged <= 1 || known && (e.From == client || e.To == client) {
			events = append(events, e)
		}
	}
	return events
}

// serverPort is the port of the listeners; 0: not known. An old ledger has it in its tables alone.
func serverPort(h *result.Header, c *result.Cell) uint16 {
	if h.Port != 0 {
		return h.Port
	}
	for _, t := range c.Tables {
		for _, s := range t.Sockets {
			if s.State == "LISTEN" {
				return s.Local.Port()
			}
		}
	}
	return 0
}

// eventText is "server: tcp_send_reset TCP_FLAGS, in LISTEN".
func eventText(e result.Event, port uint16) string {
	text := e.Kind
	if at, known := happenedAt(e); known && port != 0 {
		if at.Port() == port {
			text = "server: " + text
		} else {
			text = "client: " + text
		}
	}
	if e.Reason != "" {
		text += " " + e.Reason
	}
	switch {
	case e.Old != "":
		text += " " + e.Old + " → " + e.State
	case e.State != "":
		text += ", in " + e.State
	}
	switch e.By {
	case "address":
		text += " (by its addresses)"
	case "thread":
		text += " (by the thread alone)"
	}
	return text
}

// happenedAt is the end whose socket an event is of: the sender's, or the receiver's of a reset or of what was dropped. A
// drop without a socket is of neither.
func happenedAt(e result.Event) (end netip.AddrPort, known bool) {
	switch e.Kind[strings.LastIndexByte(e.Kind, ':')+1:] { // without the tracepoint's group
	case "kfree_skb":
		return e.To, e.State != ""
	case "tcp_receive_reset":
		return e.To, true
	default:
		return e.From, true
	}
}

// Timeline draws one connection of a cell in 80 columns: the client on the left, the server on the right, segments as
// arrows in tcpdump's words; between them, in the order in which they happened, the steps (*), what the kernel's trace
// told (!) and what changed in the socket tables (=). It ends with what Outcome says. Times are seconds.
func (s *Stories) Timeline(c *result.Cell) string { return s.timeline(newScene(s.header, c)) }

func (s *Stories) timeline(drawn *scene) string {
	p := &page{width: 80}
	p.timeline(drawn, s)
	return p.String()
}

// Explain tells a cell's story: the verdict, and the Timeline.
func (s *Stories) Explain(c *result.Cell, o Options) string {
	p := newPage(o)
	p.story(c, s)
	return p.String()
}

func (p *page) story(c *result.Cell, stories *Stories) {
	p.say(0, 2, statusStyles[c.Status], printable(string(c.Status)),
		printable(fmt.Sprintf(" %s: %s, %s", c.ID(), c.Fact(), seconds(c.Elapsed))))
	p.say(2, 4, plain, "", printable(c.Reason))
	if c.Reload != nil {
		for _, line := range reloadLines(c, true) {
			p.say(2, 4, plain, "", line)
		}
	}
	if len(c.Steps) > 0 {
		p.line("")
		p.timeline(newScene(stories.header, c), stories)
	}
}

func (p *page) timeline(drawn *scene, stories *Stories) {
	c, all := drawn.Cell, drawn.moments
	legend := "seconds  * a step"
	for _, sign := range []struct {
		kind momentKind
		text string
	}{{eventMoment, "! the kernel's trace"}, {tableMoment, "= the socket tables"}} {
		if slices.ContainsFunc(all, func(m moment) bool { return m.kind == sign.kind }) {
			legend += "   " + sign.text
		}
	}
	p.say(2, 2, plain, "", legend)
	p.line(fmt.Sprintf("%9s  %-*s%s", "", p.arrowWidth()-4, "client", "server"))
	for _, f := range fold(all) {
		for i := range f.moments {
			p.moment(&f.moments[i], f.often())
		}
		if len(f.moments) > 1 && f.times > 1 {
			p.say(0, 13, plain, "", fmt.Sprintf("%9s  × %d: the %d lines above, until %s", "", f.times, len(f.moments),
				strings.TrimSpace(clock(f.last[len(f.last)-1].at))))
		}
	}
	happened, remedy := stories.Outcome(c)
	p.line("")
	p.say(0, 2, plain, "", happened)
	p.say(0, 2, plain, "", remedy)
	if said := gaps(c.Trace); said != "" {
		p.say(0, 2, plain, "", said)
	}
}

// moment writes a line, with how often it came.
func (p *page) moment(m *moment, often string) {
	if m.kind == segmentMoment {
		line, told := arrow(m, p.arrowWidth())
		p.say(0, 13, plain, fmt.Sprintf("%9s  %s", clock(m.at), line), printable(strings.TrimRight(" "+told+often, " ")))
		return
	}
	p.say(0, 13, plain, fmt.Sprintf("%9s  %s ", clock(m.at), [...]string{stepMoment: "*", eventMoment: "    !", tableMoment: "    ="}[m.kind]),
		printable(m.text+often))
}

// arrowWidth is how long arrows are, in columns.
func (p *page) arrowWidth() int { return min(40, p.width-14) }

// clock is a time in at most nine columns; a ledger that was tampered with may hold any.
func clock(s float64) string {
	if math.Abs(s) >= 1000 {
		return fmt.Sprintf("%9.3g", s)
	}
	return fmt.Sprintf("%9.4f", s)
}

// arrow is a segment in two columns more than width, and what there is to say of it.
func arrow(m *moment, width int) (line, told string) {
	text := printable(m.segment.Text)
	if columns(text) > width-6 {
		told, text = text, clip(text, width-6)
	}
	fill := max(width-columns(text)-2, 2)
	left, right := strings.Repeat("-", fill/2), strings.Repeat("-", fill-fill/2)
	line = "|<" + left + " " + text + " " + right + "|"
	if m.segment.FromClient {
		tip := ">"
		if m.segment.Dropped {
			tip = "x"
		}
		line = "|" + left + " " + text + " " + right + tip + "|"
	}
	fate := ""
	switch {
	case m.segment.Dropped && m.segment.Again:
		fate = "again, dropped"
	case m.segment.Dropped:
		fate = "dropped"
	case m.segment.Again:
		fate = "again"
	case m.segment.Role == result.RoleReset:
		fate = "reset " + printable(m.reason())
	}
	return line, strings.Trim(told+" "+fate, " ")
}

package reports

import (
	"fmt"
	"html"
	"html/template"
	"maps"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// drawTables draws the socket tables of a step. Like sequence it writes markup itself: a page has tens of thousands, and a template
// takes ten times as long.
func drawTables(v *view) template.HTML {
	b := &markup{}
	b.raw(`<div class="tables">` + "\n" + `<section class="ehash"><h5>ehash <small>connections and handshakes, by both ends</small></h5>` + "\n")
	for _, s := range alike(v.Requests) {
		b.request(&s)
	}
	for _, s := range alike(v.Children) {
		who := ", no process has it"
		if s.Owned {
			who = ", accepted"
		}
		b.raw(`<div class="sock child"><b>connection</b> ` + s.ports() + `<br>`).words(s.State).raw(who + "</div>\n")
	}
	if len(v.Requests)+len(v.Children) == 0 {
		b.raw(`<p class="empty">`)
		if slices.ContainsFunc(v.Listeners, func(l listenerView) bool { return len(l.Held) > 0 }) {
			b.raw("What there is waits in an accept queue.")
		}
		b.raw("</p>")
	}
	b.raw("</section>\n" + `<section class="group"><h5>lhash2 <small>listeners, by address and port</small></h5>` + "\n")
	for i := range v.Listeners {
		b.listener(&v.Listeners[i])
	}
	if len(v.Listeners) == 0 {
		b.raw(`<p class="empty">none</p>`)
	}
	b.raw("</section>\n")
	if len(v.Clients) > 0 {
		b.raw(`<section class="clients"><h5>clients</h5>`)
		for _, s := range alike(v.Clients) {
			b.raw(`<div class="sock client">` + s.ports() + `<br>`).words(s.State).raw("</div>")
		}
		b.raw("</section>\n")
	}
	b.raw("</div>")
	if v.More > 0 {
		b.raw(fmt.Sprintf(`<p class="none">%d more sockets did not fit the table.</p>`, v.More))
	}
	return template.HTML(b.String())
}

// drawChecks are the rows of the table of checks, failed ones first.
func drawChecks(checks []result.Check) template.HTML {
	b := &markup{}
	for _, ok := range []bool{false, true} {
		for _, k := range checks {
			switch {
			case k.OK != ok:
				continue
			case k.OK:
				b.raw(`<tr><th scope="row">✓ `)
			default:
				b.raw(`<tr class="bad"><th scope="row">✗ `)
			}
			b.words(k.Name).raw("</th><td>").words(string(k.Witness)).raw("</td><td>").words(k.Want).raw("</td><td>").words(k.Got).raw("</td></tr>\n")
		}
	}
	return template.HTML(b.String())
}

// drawCounters are those that moved.
func drawCounters(counters map[string]int64) template.HTML {
	b := &markup{}
	for _, name := range slices.Sorted(maps.Keys(counters)) {
		b.raw("<span>").words(name).raw(fmt.Sprintf(" <b>%+d</b></span> ", counters[name]))
	}
	return template.HTML(b.String())
}

// markup is HTML.
type markup struct{ strings.Builder }

// raw adds markup.
func (b *markup) raw(s string) *markup {
	b.WriteString(s)
	return b
}

// words are the only way in for what somebody else wrote.
func (b *markup) words(s string) *markup { return b.raw(html.EscapeString(printable(s))) }

func (b *markup) request(s *htmlSockets) {
	class := "sock request"
	if s.OfGone {
		class += " orphan"
	}
	b.raw(`<div class="` + class + `"><b>request socket</b> ` + s.ports() + `<br>`).words(s.State).raw(": the handshake is not done")
	if s.Of != "" {
		b.raw("<br>made for ").words(s.Of)
	}
	if s.OfGone {
		b.raw(", which has closed")
	}
	if s.Cloned != "" {
		b.raw("<br><em>a clone: ").words(s.Cloned).raw("</em>")
	}
	if s.Retries > 0 {
		b.raw(fmt.Sprintf("<br>SYN+ACK sent again %d×", s.Retries))
	}
	b.raw("</div>\n")
}

func (b *markup) listener(l *listenerView) {
	switch l.State {
	case "LISTEN":
		b.raw(`<div class="listener up"><b>`).words(l.Name).raw(`</b> LISTEN<div class="queue">`)
		b.raw(fmt.Sprintf(`accept queue, %d of %d<div class="slots">`, l.Queue, l.Backlog))
		held := slots(l)
		for _, s := range held {
			b.raw(`<span class="slot">` + s + "</span>")
		}
		if len(held) == 0 {
			b.raw(`<span class="slot free">empty</span>`)
		}
		b.raw("</div></div></div>\n")
	case "closed":
		b.raw(`<div class="listener gone"><b>`).words(l.Name).raw("</b> closed ✕</div>\n")
	default:
		b.raw(`<div class="listener later"><b>`).words(l.Name).raw("</b> not yet</div>\n")
	}
}

// slots is how an accept queue is drawn: as many places as hold something, with what is known of each.
func slots(l *listenerView) []string {
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

// ports is the port of one, and of several how many they are.
func (s *htmlSockets) ports() string {
	if s.N > 1 {
		return fmt.Sprintf("× %d", s.N)
	}
	return fmt.Sprintf("port %d", s.Port())
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

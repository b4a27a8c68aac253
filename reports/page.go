package reports

import (
	"bytes"
	"io"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// page is text that fits a width, coloured or not.
type page struct {
	bytes.Buffer
	width   int // in columns
	color   bool
	out     io.Writer // where flush writes to; nil: all of it stays in the buffer
	flushed bool      // there was something before what is in the buffer
}

// leastWidth is how narrow a page can be: what is not as wide has its lines broken by the terminal.
const leastWidth = 40

// newPage is as wide as the terminal, within bounds.
func newPage(o Options) *page {
	width := 80
	if o.Width > 0 {
		width = min(max(o.Width, leastWidth), width)
	}
	return &page{width: width, color: o.Color}
}

// style is a list of ANSI attributes, as in ESC [ style m.
type style string

const (
	plain style = ""
	bold  style = "1"
)

var statusStyles = map[result.Status]style{
	result.Pass:  "32",   // green
	result.XFail: "33",   // yellow
	result.Skip:  "36",   // cyan
	result.Fail:  "1;31", // red
	result.Error: "1;35", // magenta
}

func (p *page) paint(st style, s string) string {
	if !p.color || st == plain {
		return s
	}
	return "\x1b[" + string(st) + "m" + s + "\x1b[m"
}

// say writes lead, in a style, and then text. Lines after the first are indented by hang. A lead that does not fit the
// first line stays plain.
func (p *page) say(indent, hang int, st style, lead, text string) {
	lines := wrap(lead+text, p.width-indent, p.width-hang)
	if rest, ok := strings.CutPrefix(lines[0], lead); ok {
		lines[0] = p.paint(st, lead) + rest
	}
	p.line(strings.Repeat(" ", indent) + lines[0])
	for _, l := range lines[1:] {
		p.line(strings.Repeat(" ", hang) + l)
	}
}

// heading begins a section.
func (p *page) heading(text string) {
	if p.Len() > 0 || p.flushed {
		p.line("")
	}
	p.say(0, 2, bold, strings.TrimRight(text, " "), "")
}

func (p *page) line(s string) {
	p.WriteString(strings.TrimRight(s, " "))
	p.WriteByte('\n')
}

// wrap breaks s at spaces into lines of at most first columns, then of at most rest. A word that fits no line is cut.
func wrap(s string, first, rest int) []string {
	var lines []string
	var line strings.Builder
	room := first // left on this line
	for i, word := range strings.Split(s, " ") {
		if i > 0 && columns(word) < room {
			line.WriteByte(' ')
			room--
		} else if i > 0 {
			lines = append(lines, line.String())
			line.Reset()
			room = rest
		}
		head, tail := take(word, room)
		for tail != "" {
			lines = append(lines, head)
			room = rest
			head, tail = take(tail, room)
		}
		line.WriteString(head)
		room -= columns(head)
	}
	return append(lines, line.String())
}

// take splits s after the last character that fits in so many columns, or after the first if none does.
func take(s string, width int) (head, tail string) {
	for i, r := range s {
		width -= runeColumns(r)
		if width < 0 && i > 0 {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

// clip shortens s to so many columns and shows that it did.
func clip(s string, width int) string {
	if columns(s) <= width {
		return s
	}
	head, _ := take(s, width-1)
	return head + "…"
}

// pad fills s with spaces to so many columns.
func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(width-columns(s), 0))
}

func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

// runeColumns is how wide a terminal may show a character. East Asian scripts and emoji begin at U+1100; some above it
// are narrow, but a line that breaks early is no harm.
func runeColumns(r rune) int {
	if r >= 0x1100 && r != '…' {
		return 2
	}
	return 1
}

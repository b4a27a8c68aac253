package reports

import (
	"fmt"

	"github.com/rpmig/rpmig/result"
)

// Sheet is a text for people that is of no run, in the same shape as the reports of runs.
type Sheet struct{ p *page }

// NewSheet begins one.
func NewSheet(o Options) *Sheet { return &Sheet{newPage(o)} }

// Heading begins a section.
func (s *Sheet) Heading(text string) { s.p.heading(printable(text)) }

// Say writes a paragraph, indented; of its lines after the first by two columns more.
func (s *Sheet) Say(indent int, text string) { s.p.say(indent, indent+2, plain, "", printable(text)) }

// Item writes a paragraph behind a word of its own.
func (s *Sheet) Item(indent int, word, text string) {
	s.p.say(indent, indent+len(word)+1, bold, printable(word), " "+printable(text))
}

// Gap leaves a line empty.
func (s *Sheet) Gap() { s.p.line("") }

// Arrows draws a connection as Stories.Timeline does. Between its first segments and its last some may be left out, before the one
// of that place.
func (s *Sheet) Arrows(flow []result.Segment, at, leftOut int) {
	s.p.line(fmt.Sprintf("%9s  %-*s%s", "seconds", s.p.arrowWidth()-4, "client", "server"))
	for i, segment := range flow {
		if i == at && leftOut > 0 {
			s.p.line(fmt.Sprintf("%9s  ... %s", "", result.Plural(leftOut, "segment", "segments")))
		}
		line, told := arrow(&moment{segment: segment}, s.p.arrowWidth())
		if segment.Note != "" {
			told = printable(segment.Note)
		}
		s.p.say(0, 13, plain, fmt.Sprintf("%9s  %s", clock(segment.Time), line), spaced(told))
	}
}

func spaced(told string) string {
	if told == "" {
		return ""
	}
	return " " + told
}

func (s *Sheet) String() string { return s.p.String() }

package result

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// Skim reads ledgers as ReadAll does, in a tenth of the time and without keeping them: each cell is handed over as it comes, with
// its run as far as that is known. It is a Brief with the checks that failed and, of the counters, MigrateSuccess alone. The runs
// that Skim returns have no cells, and their Header.Cells less the cells handed over are those that are missing.
//
// A ledger that contradicts itself is refused as ReadAll refuses it. Of what Skim leaves out it looks no further than that takes: a
// ledger whose tables, to name one, are a number and no list is read.
//
// An error of each ends it, and is returned as it is.
func Skim(r io.Reader, each func(*Run, *Cell) error) ([]*Run, error) {
	runs, err := skimAll(r, func(runs []*Run, l *line) error {
		if err := each(runs[len(runs)-1], l.cell); err != nil {
			return &handedBack{err}
		}
		return nil
	})
	var theirs *handedBack
	switch {
	case errors.As(err, &theirs):
		return nil, theirs.error
	case err != nil:
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	return runs, nil
}

// Pick reads those cells of ledgers whole that are wanted, by what Skim hands over of each and the number of its run, from 0. It
// also returns how many runs there are.
func Pick(r io.Reader, want func(run int, c *Cell) bool) (picked map[int][]Cell, runs int, err error) {
	picked = map[int][]Cell{}
	all, err := skimAll(r, func(of []*Run, l *line) error {
		n := len(of) - 1
		if !want(n, l.cell) {
			return nil
		}
		whole, err := parseCell(l.text, l.schema)
		if err == nil {
			picked[n] = append(picked[n], *whole)
		}
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read ledger: %w", err)
	}
	return picked, len(all), nil
}

// handedBack is an error of who was handed a cell.
type handedBack struct{ error }

// skimAll hands over the line of each cell, with the runs so far, of which the last is its own.
func skimAll(r io.Reader, each func(runs []*Run, l *line) error) (runs []*Run, err error) {
	var s skimmer
	err = scan(r, s.cell, func(h *Header) {
		runs = append(runs, &Run{Header: *h})
	}, func(l *line) error {
		if l.ending != nil {
			runs[len(runs)-1].Ending = l.ending
			return nil
		}
		return each(runs, l)
	})
	return runs, err
}

// lines are those of ledgers that hold something, up to one that was cut short.
type lines struct {
	scan  *bufio.Scanner
	n     int  // of the line, counted from 1
	some  bool // there was one
	empty int  // lines right before it that hold nothing
	text  []byte
	at    int64 // where it begins, in bytes
	end   int64 // of what was read
	err   error // names the line
}

func newLines(r io.Reader) *lines {
	l := &lines{scan: bufio.NewScanner(r)}
	l.scan.Buffer(make([]byte, 256<<10), maxLine)
	l.scan.Split(splitLines)
	return l
}

// What a line may hold, and how many in a row may hold nothing: a small file may be packed that says little in many bytes, and a small
// text may say what takes a hundred times its memory.
const (
	maxValues = 1 << 18 // objects and nulls, each an element of something; in what rpmig writes they are longer than maxLine allows
	maxEmpty  = 10_000
)

// next goes to the next line.
func (l *lines) next() bool {
	for l.scan.Scan() {
		l.n++
		l.text = l.scan.Bytes()
		l.at, l.end = l.end, l.end+int64(len(l.text))
		whole := bytes.HasSuffix(l.text, []byte("\n"))
		if !whole {
			l.text = bytes.TrimRight(l.text, "\x00") // what a power cut leaves of what was not yet on the disk
		}
		switch {
		case len(bytes.TrimSpace(l.text)) == 0: // an editor's, or one that was pasted in
			if l.empty++; l.empty > maxEmpty {
				l.err = fmt.Errorf("line %d: it is empty, as are the %d before it", l.n, maxEmpty)
				return false
			}
		case bytes.Count(l.text, []byte("{"))+bytes.Count(l.text, []byte("null")) > maxValues:
			l.err = fmt.Errorf("line %d: more than %d values", l.n, maxValues)
			return false
		case l.some && !whole && cutShort(l.text):
			if isHeader(l.text) { // a run began of which nothing is known
				l.err = fmt.Errorf("line %d: the header of another run, cut short", l.n)
			}
			l.rest(l.n)
			return false
		default:
			l.some, l.empty = true, 0
			return true
		}
	}
	l.unread(l.n + 1)
	return false
}

// rest tells whether nothing but white space is left, and sets the error of what could not be read, on that line.
func (l *lines) rest(line int) bool {
	for l.scan.Scan() {
		if len(bytes.Trim(l.scan.Bytes(), "\x00 \t\r\n")) > 0 {
			return false
		}
	}
	l.unread(line)
	return l.err == nil
}

// unread sets the error of what could not be read on a line, once the scanner has ended.
func (l *lines) unread(line int) {
	err := l.scan.Err()
	switch {
	case err == nil || l.err != nil:
	case errors.Is(err, io.ErrUnexpectedEOF) && l.some: // of a packed file
	case errors.Is(err, bufio.ErrTooLong):
		l.err = fmt.Errorf("line %d: longer than %d MiB", line, maxLine>>20)
	default:
		l.err = fmt.Errorf("line %d: %w", line, err)
	}
}

// isCutLast tells whether the line was cut short, and got a newline afterwards, and nothing is behind it.
func (l *lines) isCutLast() bool {
	return cutShort(bytes.TrimRight(l.text, "\r\n")) && !isHeader(l.text) && l.rest(l.n+1)
}

// isHeader tells whether a line begins as a header does.
func isHeader(text []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(text), []byte(`{"schema":`)) }

// header reads the header of the next run on a line that is no cell, which the error says; it is of what the line is taken for.
func (l *lines) header(noCell error) (*Header, error) {
	h, err := parseHeader(l.text, l.n)
	if errors.Is(err, ErrNoHeader) {
		return nil, onLine(l.n, noCell)
	}
	return h, err
}

// skimmer decodes cells; it keeps its buffers from one to the next.
type skimmer struct {
	rest   []byte
	resets []Reset
	flow   []Segment
	steps  Steps
}

// parts are the fields of a cell, as they are written, that Skim leaves out and looks into. They are most of a ledger's bytes, together
// with those of which nothing is asked.
type parts struct{ resets, counters, checks, steps, flow []byte }

// of is the part of that name; left: it is left out.
func (p *parts) of(field string) (part *[]byte, left bool) {
	switch field {
	case "resets":
		return &p.resets, true
	case "counters":
		return &p.counters, true
	case "checks":
		return &p.checks, true
	case "steps":
		return &p.steps, true
	case "flow":
		return &p.flow, true
	case "client", "tables", "events", "namespace", "program":
		return nil, true
	default:
		return nil, false
	}
}

// cell decodes what a line says of a cell but what Skim leaves out, and holds it against itself.
func (s *skimmer) cell(line []byte, schema int) (*Cell, error) {
	var c Cell
	var p parts
	s.rest = append(s.rest[:0], '{')
	sure := schema != 1 // whose fields are others
	sure = isObject(line, func(key, value []byte) {
		if text := c.text(string(key)); text != nil {
			sure = sure && (plainText(value, text) || json.Unmarshal(value, text) == nil)
			return
		}
		if part, left := p.of(string(key)); left {
			if part != nil {
				sure = sure && *part == nil // of two json.Unmarshal would make one
				*part = value
			}
			return
		}
		sure = sure && plainKey(key)
		if len(s.rest) > 1 {
			s.rest = append(s.rest, ',')
		}
		s.rest = append(append(append(append(s.rest, '"'), key...), `":`...), value...)
	}) && sure
	if sure {
		if err := c.decode(append(s.rest, '}'), schema); err != nil {
			return nil, err
		}
		sure = s.look(&c, &p)
	}
	if !sure { // all of it is read
		whole, err := parseCell(line, schema)
		if err != nil {
			return nil, err
		}
		return brief(whole), nil
	}
	if err := consistent(&c); err != nil {
		return nil, err
	}
	return brief(&c), nil
}

// look sets what consistent and brief ask of the parts. It is false if it is not sure of it.
func (s *skimmer) look(c *Cell, p *parts) bool {
	if n, ok := counter(p.counters, MigrateSuccess); ok {
		c.Counters = map[string]int64{MigrateSuccess: n}
	}
	if p.checks != nil && (c.Status != Pass || !allHeld(p.checks)) && json.Unmarshal(p.checks, &c.Checks) != nil {
		return false
	}
	s.resets, s.flow = s.resets[:0], s.flow[:0]
	steps := 0
	sure := walkArray(p.resets, func(text []byte) int {
		frame, step, n := frameAndStep(text)
		s.resets = append(s.resets, Reset{Frame: frame, Step: step})
		return n
	}) && walkArray(p.flow, func(text []byte) int {
		frame, _, n := frameAndStep(text)
		s.flow = append(s.flow, Segment{Frame: frame})
		return n
	}) && (len(s.resets) == 0 || walkArray(p.steps, func(text []byte) int { // by which resets are held against them
		steps++
		return valueEnd(text)
	}))
	s.steps = slices.Grow(s.steps[:0], steps)
	c.Resets, c.Flow, c.Steps = s.resets, s.flow, s.steps[:steps]
	return sure
}

// text is a field that every cell has and that is a text, by its name; nil: there is none.
func (c *Cell) text(field string) *string {
	switch field {
	case "scenario":
		return &c.Scenario
	case "family":
		return &c.Family
	case "mode":
		return &c.Mode
	case "status":
		return (*string)(&c.Status)
	case "reason":
		return &c.Reason
	case "control":
		return (*string)(&c.Control)
	default:
		return nil
	}
}

// plainText decodes a JSON string of printable ASCII without an escape, as most are; it is false of others.
func plainText(value []byte, into *string) bool {
	n := len(value)
	if n < 2 || value[0] != '"' || !printableASCII(value) || bytes.IndexByte(value, '\\') >= 0 {
		return false
	}
	*into = string(value[1 : n-1])
	return true
}

// brief is a cell as Skim hands it over.
func brief(c *Cell) *Cell {
	b := c.Brief()
	if n, ok := c.Counters[MigrateSuccess]; ok {
		b.Counters = map[string]int64{MigrateSuccess: n}
	}
	if c.Status != Pass {
		b.Checks = c.Failed()
	}
	return &b
}

// counter is the value of one of a JSON object of numbers.
func counter(object []byte, name string) (int64, bool) {
	if len(object) == 0 || !bytes.Contains(object, []byte(`"`+name+`"`)) {
		return 0, false
	}
	var n int64
	found := false
	isObject(object, func(key, value []byte) {
		if v, err := strconv.ParseInt(string(value), 10, 64); err == nil && string(key) == name {
			n, found = v, true
		}
	})
	return n, found
}

// allHeld tells of a JSON array of checks whether each held, as a look at it says, and got what it wanted. It is false of what it does not
// understand.
func allHeld(checks []byte) bool {
	return walkArray(checks, func(text []byte) int {
		var want, got []byte
		held, sure := false, true
		n := walkObject(text, func(key, value []byte) {
			switch string(key) {
			case "want":
				want = value
			case "got":
				got = value
			case "ok":
				held = string(value) == "true"
			default:
				sure = sure && plainKey(key)
			}
		})
		if !held || !sure || !bytes.Equal(want, got) {
			return -1
		}
		return n
	})
}

// frameAndStep are those of a reset or a segment, and how long it is, as walkObject returns it.
func frameAndStep(text []byte) (frame, step, length int) {
	sure := true
	length = walkObject(text, func(key, value []byte) {
		var err error
		switch string(key) {
		case "frame":
			frame, err = strconv.Atoi(string(value))
		case "step":
			step, err = strconv.Atoi(string(value))
		default:
			sure = sure && plainKey(key)
		}
		sure = sure && err == nil
	})
	if !sure {
		length = -1
	}
	return frame, step, length
}

// plainKey tells whether a name is written as rpmig writes all: json.Unmarshal may take another for one of those.
func plainKey(key []byte) bool {
	return !slices.ContainsFunc(key, func(b byte) bool { return b != '_' && (b < 'a' || b > 'z') })
}

// walkArray hands over what is left of a JSON array from each of its values on, and is told how long that is. It is false where it is
// told that this is not understood, or does not understand it. Of no text it tells nothing.
func walkArray(text []byte, each func(text []byte) int) bool {
	if len(text) == 0 {
		return true
	}
	if text[0] != '[' {
		return false
	}
	for text = trimSpace(text[1:]); len(text) > 0 && text[0] != ']'; text = trimSpace(text) {
		n := each(text)
		if n <= 0 {
			return false
		}
		if text = trimSpace(text[n:]); len(text) > 0 && text[0] == ',' {
			text = trimSpace(text[1:])
		}
	}
	return len(text) == 1
}

// isObject is walkObject of a text that is one and no more.
func isObject(text []byte, each func(key, value []byte)) bool {
	text = trimSpace(text)
	n := walkObject(text, each)
	return n > 0 && len(trimSpace(text[n:])) == 0
}

// walkObject tells of each key of the JSON object that a text begins with, as it is written, and its value, and returns how long the
// object is. It is -1 where it meets what it does not understand, which need not be an error in JSON. Values are not checked but for
// where they end.
func walkObject(text []byte, each func(key, value []byte)) int {
	if len(text) == 0 || text[0] != '{' {
		return -1
	}
	rest := trimSpace(text[1:])
	if len(rest) > 0 && rest[0] == '}' {
		return len(text) - len(rest) + 1
	}
	for {
		n := stringEnd(rest)
		if n < 0 {
			return -1
		}
		key := rest[1 : n-1]
		rest = trimSpace(rest[n:])
		if len(rest) == 0 || rest[0] != ':' {
			return -1
		}
		rest = trimSpace(rest[1:])
		n = valueEnd(rest)
		if n <= 0 {
			return -1
		}
		each(key, rest[:n])
		rest = trimSpace(rest[n:])
		switch {
		case len(rest) == 0:
			return -1
		case rest[0] == '}':
			return len(text) - len(rest) + 1
		case rest[0] != ',':
			return -1
		}
		rest = trimSpace(rest[1:])
	}
}

// trimSpace leaves out the white space of JSON that a text begins with: most often there is none.
func trimSpace(text []byte) []byte {
	for len(text) > 0 && (text[0] == ' ' || text[0] == '\t' || text[0] == '\r' || text[0] == '\n') {
		text = text[1:]
	}
	return text
}

// stringEnd is how long the JSON string is that a text begins with; -1: it begins with none.
func stringEnd(text []byte) int {
	if len(text) == 0 || text[0] != '"' {
		return -1
	}
	for at := 1; ; {
		n := bytes.IndexByte(text[at:], '"')
		if n < 0 {
			return -1
		}
		at += n + 1
		slashes := 0
		for text[at-2-slashes] == '\\' { // ends at the string's first quote at the latest
			slashes++
		}
		if slashes%2 == 0 {
			return at
		}
	}
}

// valueEnd is how long the JSON value is that a text begins with; -1: it has no end.
func valueEnd(text []byte) int {
	depth := 0
	for at := 0; at < len(text); {
		switch text[at] {
		case '"':
			n := stringEnd(text[at:])
			if n < 0 {
				return -1
			}
			at += n
			if depth == 0 {
				return at
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth < 0 { // of the object around it
				return at
			}
			if depth == 0 {
				return at + 1
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return at
			}
		}
		at++
	}
	return -1
}

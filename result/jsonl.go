package result

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
)

// maxLine is the longest line, in bytes, that Read accepts: some thousand connections with all their resets fit well
// inside it, and a file that is no ledger does not fill the memory.
const maxLine = 16 << 20

// SchemaError says that a ledger was written by a newer rpmig.
type SchemaError struct {
	Got   int // of the ledger
	Known int // the newest that this rpmig reads
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("this ledger has schema %d; this rpmig reads up to %d; use a newer rpmig", e.Got, e.Known)
}

// ErrNoHeader says that what was read does not begin as a ledger does.
var ErrNoHeader = errors.New("no header")

// ErrSeveral says that ledgers follow one another where one was wanted.
var ErrSeveral = errors.New("several runs, one after another")

// Writer appends cells to a ledger, one JSON line each, as they end. It is not safe for concurrent use.
type Writer struct {
	w   io.Writer
	err error // of the first write that failed
}

// NewWriter starts a ledger: it writes the header line, with Schema as its schema.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	h.Schema = Schema
	lw := &Writer{w: w}
	h.fill()
	if err := lw.line(h, nil); err != nil {
		return nil, err
	}
	return lw, nil
}

// Write appends a cell in a single call of the underlying writer, so that a process killed between two cells leaves
// whole lines. A cell that Read would refuse is refused here, and nothing is written.
//
// After an underlying write has failed, every later Write returns that first error: part of a line may be in the file,
// and Read forgives a cut line at the very end only.
func (lw *Writer) Write(c *Cell) error { return lw.WriteChanged(c, nil) }

// WriteChanged is Write of a cell whose JSON is changed before it is written. nil changes nothing.
func (lw *Writer) WriteChanged(c *Cell, change func(text []byte) []byte) error {
	if err := cmp.Or(validate(c), consistent(c)); err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	return lw.line(filled(*c), change)
}

// End appends how a run ended that did not end by itself.
func (lw *Writer) End(e Ending) error { return lw.line(endingLine{e}, nil) }

// endingLine is what a line holds that is neither the header nor a cell.
type endingLine struct {
	Ending Ending `json:"ending"`
}

func (lw *Writer) line(v any, change func([]byte) []byte) error {
	if lw.err != nil {
		return lw.err
	}
	text, err := JSON(v, "")
	if err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	if change != nil {
		text = append(change(text[:len(text)-1]), '\n')
	}
	if _, err := lw.w.Write(text); err != nil {
		lw.err = fmt.Errorf("write ledger: %w", err)
	}
	return lw.err
}

// fill replaces what is nil by what is empty.
func (h *Header) fill() {
	if h.Command == nil {
		h.Command = []string{}
	}
	if h.Modes == nil {
		h.Modes = []Mode{}
	}
}

// filled replaces what is nil by what is empty, so that no reader of the JSON meets a null.
func filled(c Cell) Cell {
	if c.Resets == nil {
		c.Resets = []Reset{}
	}
	if c.Counters == nil {
		c.Counters = map[string]int64{}
	}
	if c.Checks == nil {
		c.Checks = []Check{}
	}
	if c.Flow == nil {
		c.Flow = []Segment{}
	}
	if c.Steps == nil {
		c.Steps = Steps{}
	}
	return c
}

// Read reads a ledger. A last line that was cut short, because the process was killed while writing it or because the end of a packed
// file is missing, is dropped: the Run holds what came before and its Missing counts the rest. Fields that this version does not know
// are ignored, and so are empty lines.
//
// Read returns a *SchemaError if the ledger was written by a newer rpmig, ErrSeveral if the text is more than one, and a
// *ContradictionError if it says what no run does: see consistent and plan. All other errors in the text name the line.
func Read(r io.Reader) (*Run, error) {
	runs, err := ReadAll(r, 0)
	switch {
	case err != nil:
		return nil, err
	case len(runs) > 1:
		return nil, fmt.Errorf("read ledger: %w: %d", ErrSeveral, len(runs))
	default:
		return runs[0], nil
	}
}

// ErrManyCells says that there are more cells than may be in memory.
var ErrManyCells = errors.New("too many cells")

// ReadAll reads ledgers that follow one another, each as Read does: a header begins the next. There is at least one. A
// line that was cut short is dropped at the very end only. Of more than most cells it returns ErrManyCells; 0: any number will do.
func ReadAll(r io.Reader, most int) ([]*Run, error) {
	runs, err := readAll(r, most)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	return runs, nil
}

func readAll(r io.Reader, most int) (runs []*Run, err error) {
	var run *Run // the last of them
	keep, cells := Keeper{}, 0
	err = scan(r, parseCell, func(h *Header) {
		run = &Run{Header: *h}
		runs = append(runs, run)
	}, func(l *line) error {
		if l.ending != nil {
			run.Ending = l.ending
			return nil
		}
		if cells++; most > 0 && cells > most {
			return ErrManyCells
		}
		run.Cells = append(run.Cells, *keep.Cell(l.cell))
		return nil
	})
	return runs, err
}

// line is a line of a ledger that is not its header: one of cell and ending is not nil.
type line struct {
	cell   *Cell
	ending *Ending
	text   []byte // as it is in the file, with its newline; valid until the next line is read
	at     int64  // where it begins, in bytes
	schema int    // of its ledger
}

// scan reads ledgers that follow one another, line by line, and holds each against itself. parse makes a cell of a line, as parseCell
// does.
func scan(r io.Reader, parse func(text []byte, schema int) (*Cell, error), begin func(*Header), take func(*line) error) error {
	lines := newLines(r)
	begun, schema := false, 0 // of the last ledger
	var planned plan
	end := func() error {
		e := planned.cutShort()
		if e == nil {
			return nil
		}
		return take(&line{ending: e, schema: schema})
	}
	start := func(h *Header) error {
		if err := end(); err != nil {
			return err
		}
		begun, schema, planned = true, h.Schema, newPlan(h)
		h.Schema = Schema // as it is in memory, and if it is written again
		begin(h)
		return nil
	}
	for lines.next() {
		if !begun {
			h, err := parseHeader(lines.text, lines.n)
			if err != nil {
				return err
			}
			if err := start(h); err != nil {
				return err
			}
			continue
		}
		l := line{text: lines.text, at: lines.at, schema: schema}
		if ending, ok := parseEnding(lines.text); ok {
			l.ending, planned.ended = ending, true
		} else {
			c, err := parse(lines.text, schema)
			if err != nil {
				h, err := lines.header(err)
				if err != nil && lines.isCutLast() {
					break
				} else if err != nil {
					return err
				}
				if err := start(h); err != nil {
					return err
				}
				continue
			}
			if err := planned.take(c); err != nil {
				return onLine(lines.n, err)
			}
			l.cell = c
		}
		if err := take(&l); err != nil {
			return onLine(lines.n, err)
		}
	}
	if lines.err != nil {
		return lines.err
	}
	if !begun {
		return fmt.Errorf("line 1: %w: the file is empty", ErrNoHeader)
	}
	return end()
}

// onLine says on which line an error is.
func onLine(n int, err error) error {
	var against *ContradictionError
	if errors.As(err, &against) {
		against.Line = n
		return against
	}
	return fmt.Errorf("line %d: %w", n, err)
}

// splitLines is bufio.ScanLines, but leaves the newline on: only its absence tells that a line was cut short.
func splitLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i+1], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// cutShort reports whether a line is the beginning of a JSON value and not all of it. A whole value that lacks nothing
// but its newline is not cut short, and neither is garbage.
func cutShort(line []byte) bool {
	if bytes.HasSuffix(line, []byte("\n")) {
		return false
	}
	var v json.RawMessage
	err := json.NewDecoder(bytes.NewReader(line)).Decode(&v)
	return errors.Is(err, io.ErrUnexpectedEOF)
}

// ParseHeader reads the first line of a ledger that comes line by line.
func ParseHeader(line []byte) (*Header, error) { return parseHeader(line, 1) }

// ParseCell reads one of the lines behind it, of this Schema.
func ParseCell(line []byte) (*Cell, error) { return parseCell(line, Schema) }

// parseHeader reads the header on a line of the file.
func parseHeader(line []byte, n int) (*Header, error) {
	// The schema is looked at first and alone: a newer one may have changed all else.
	var first struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(line, &first); err != nil {
		return nil, fmt.Errorf("line %d: %w: %w", n, ErrNoHeader, err)
	}
	if first.Schema < 1 {
		return nil, fmt.Errorf("line %d: %w: want a schema of 1 or more, got %d", n, ErrNoHeader, first.Schema)
	}
	if first.Schema > Schema {
		return nil, &SchemaError{Got: first.Schema, Known: Schema}
	}
	var h Header
	if err := json.Unmarshal(line, &h); err != nil {
		return nil, fmt.Errorf("line %d: %w", n, err)
	}
	if h.Cells < 0 {
		return nil, fmt.Errorf("line %d: cells is negative: %d", n, h.Cells)
	}
	if u := h.UntilFail; u != nil && (u.Most < 0 || h.Cells > 0) {
		return nil, fmt.Errorf("line %d: a run until something fails has no plan: got %d cells, and %d at most", n, h.Cells, u.Most)
	}
	if s := h.Shard; s != nil && (s.Index < 1 || s.Index > s.Of || s.Planned < h.Cells) {
		return nil, fmt.Errorf("line %d: it cannot be that shard %s has %d of %s", n, s, h.Cells, Plural(s.Planned, "cell", "cells"))
	}
	for _, list := range []struct {
		of        string
		has, most int
	}{{"scenarios", len(h.Scenarios), 10_000}, {"modes", len(h.Modes), 100}, {"bugs", len(h.Bugs), 1000}} { // reports look through them
		if list.has > list.most {
			return nil, fmt.Errorf("line %d: %d %s: want no more than %d", n, list.has, list.of, list.most)
		}
	}
	if h.Schema == 1 {
		h.upgrade()
	}
	h.fill()
	return &h, nil
}

// parseEnding tells whether a line is an ending, and which.
func parseEnding(line []byte) (*Ending, bool) {
	if !bytes.HasPrefix(bytes.TrimSpace(line), []byte(`{"ending":`)) { // a cell has many fields, and is looked at once
		return nil, false
	}
	var e endingLine
	if err := json.Unmarshal(line, &e); err != nil || e.Ending.Why == "" {
		return nil, false // the cell's error tells of it
	}
	return &e.Ending, true
}

func parseCell(line []byte, schema int) (*Cell, error) {
	var c Cell
	if err := c.decode(line, schema); err != nil {
		return nil, err
	}
	if err := consistent(&c); err != nil {
		return nil, err
	}
	c = filled(c)
	return &c, nil
}

// decode sets what a line says of the cell.
func (c *Cell) decode(line []byte, schema int) error {
	var err error
	if schema == 1 {
		err = c.parseSchema1(line)
	} else {
		err = json.Unmarshal(line, c)
	}
	if err != nil {
		return err
	}
	return validate(c)
}

// word is what the parts of an ID may look like. An ID is used as a path below a
// folder, so neither a leading separator nor ".." may get in.
var word = regexp.MustCompile(`^[A-Za-z0-9]+([._/-][A-Za-z0-9]+)*$`)

// validate checks what reports lean on, not that a cell makes sense: see consistent.
func validate(c *Cell) error {
	for _, f := range []struct{ field, value string }{
		{"scenario", c.Scenario}, {"family", c.Family}, {"mode", c.Mode},
	} {
		if !word.MatchString(f.value) {
			return fmt.Errorf("%s %q: want letters and digits, joined by single '.', '_', '-' or '/'", f.field, f.value)
		}
	}
	if c.Repeat < 1 || c.Repeat > math.MaxInt32 {
		return fmt.Errorf("repeat %d: repeats are counted from 1", c.Repeat)
	}
	if !slices.Contains(Statuses(), c.Status) {
		return fmt.Errorf("%s: unknown status %q", c.ID(), c.Status)
	}
	if !slices.Contains([]Control{IsControl, Controlled, Uncontrolled}, c.Control) {
		return fmt.Errorf("%s: unknown control %q", c.ID(), c.Control)
	}
	for _, f := range []struct {
		field string
		value int
	}{
		{"connections.staged", c.Connections.Staged},
		{"connections.survived", c.Connections.Survived},
		{"connections.lost", c.Connections.Lost},
		{"capture.packets", c.Capture.Packets},
		{"capture.lost", c.Capture.Lost},
	} {
		if f.value < 0 {
			return fmt.Errorf("%s: %s is negative: %d", c.ID(), f.field, f.value)
		}
	}
	if c.At < 0 || c.Elapsed < 0 {
		return fmt.Errorf("%s: it began after %g s, and took %g s", c.ID(), c.At, c.Elapsed)
	}
	return nil
}

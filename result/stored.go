package result

import (
	"fmt"
	"io"
	"slices"
)

// Stored is the cells of a ledger that stay in its file: an index has 24 bytes of each. What was read once is read again when it
// is asked for.
type Stored struct {
	Kinds []*Kind // in the order in which their first cells ended

	file  io.ReaderAt
	cells [][]storedCell // in blocks, all of which are full but the last: nobody knows how many there will be
	n     int
}

// storedBlock is how many cells a block of the index has.
const storedBlock = 1 << 14

// storedCell is where a cell is.
type storedCell struct {
	at     int64
	length int32
	kind   int32
	repeat int32
	schema uint8
	status uint8 // among Statuses
}

// Kind is all repeats of a cell: one scenario, family and mode.
type Kind struct {
	Scenario, Family, Mode string
	Cells                  int
	Count                  map[Status]int
	Again                  int     // how many were measured again: see Cell.Void
	Elapsed                float64 // seconds, the sum
	Began, Until           float64 // seconds since the run started: when the first began and the last ended; 0: not known
	Evidence               bool    // one of them has left some
}

func (k *Kind) add(c *Cell) {
	k.Cells++
	k.Count[c.Status]++
	if c.Void != nil {
		k.Again++
	}
	k.Elapsed += c.Elapsed
	k.Evidence = k.Evidence || c.HasEvidence()
	if c.At > 0 {
		if k.Began == 0 || c.At < k.Began {
			k.Began = c.At
		}
		k.Until = max(k.Until, c.until())
	}
}

// kinds are those of cells that come one after another.
type kinds struct {
	all    []*Kind
	number map[[3]string]int
}

// add returns the number of a cell's kind.
func (k *kinds) add(c *Cell) int {
	key := [3]string{c.Scenario, c.Family, c.Mode}
	n, ok := k.number[key]
	if !ok {
		if k.number == nil {
			k.number = map[[3]string]int{}
		}
		n = len(k.all)
		k.number[key] = n
		k.all = append(k.all, &Kind{Scenario: c.Scenario, Family: c.Family, Mode: c.Mode, Count: map[Status]int{}})
	}
	k.all[n].add(c)
	return n
}

// Kinds are those of all cells, in the order in which their first ended.
func (r *Run) Kinds() []*Kind {
	if r.Stored != nil {
		return r.Stored.Kinds
	}
	var k kinds
	for i := range r.Cells {
		k.add(&r.Cells[i])
	}
	return k.all
}

// ReadStored reads a ledger as Read does, and leaves its cells in the file, which must not change, and hold by then what was read. Of more
// than most cells it returns ErrManyCells; 0: any number will do.
func ReadStored(r io.Reader, file io.ReaderAt, most int) (*Run, error) {
	var k kinds
	s := &Stored{file: file}
	run := &Run{Stored: s}
	begun := 0
	err := scan(r, parseCell, func(h *Header) {
		if begun++; begun == 1 {
			run.Header = *h
		}
	}, func(l *line) error {
		switch {
		case begun > 1:
		case l.ending != nil:
			run.Ending = l.ending
		case most > 0 && s.n == most:
			return ErrManyCells
		default:
			s.add(storedCell{
				at: l.at, length: int32(len(l.text)), kind: int32(k.add(l.cell)), repeat: int32(l.cell.Repeat), schema: uint8(l.schema),
				status: uint8(slices.Index(Statuses(), l.cell.Status)),
			})
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("read ledger: %w", err)
	case begun > 1:
		return nil, fmt.Errorf("read ledger: %w: %d", ErrSeveral, begun)
	}
	s.Kinds = k.all
	return run, nil
}

func (s *Stored) add(c storedCell) {
	if s.n%storedBlock == 0 {
		s.cells = append(s.cells, make([]storedCell, 0, storedBlock))
	}
	last := &s.cells[len(s.cells)-1]
	*last = append(*last, c)
	s.n++
}

func (s *Stored) at(i int) *storedCell { return &s.cells[i/storedBlock][i%storedBlock] }

// Each calls do with the cells in the order in which they ended. One that is stored is read for it.
func (r *Run) Each(do func(*Cell) error) error {
	for i := range r.Len() {
		c, err := r.Cell(i)
		if err != nil {
			return err
		}
		if err := do(c); err != nil {
			return err
		}
	}
	return nil
}

// Cell is one by its place, counted from 0 in the order in which they ended. One that is stored is read.
func (r *Run) Cell(i int) (*Cell, error) {
	if r.Stored != nil {
		return r.Stored.Cell(i)
	}
	return &r.Cells[i], nil
}

// Place says which cell that is, without reading it.
func (r *Run) Place(i int) (scenario, family, mode string, repeat int) {
	if r.Stored != nil {
		k := r.Stored.Kind(i)
		return k.Scenario, k.Family, k.Mode, r.Stored.Repeat(i)
	}
	c := &r.Cells[i]
	return c.Scenario, c.Family, c.Mode, c.Repeat
}

// Len returns how many cells there are.
func (s *Stored) Len() int { return s.n }

// Kind is that of a cell by its place, counted from 0 in the order in which they ended.
func (s *Stored) Kind(i int) *Kind { return s.Kinds[s.at(i).kind] }

// Repeat is that of a cell.
func (s *Stored) Repeat(i int) int { return int(s.at(i).repeat) }

// Status is that of a cell.
func (s *Stored) Status(i int) Status { return Statuses()[s.at(i).status] }

// Cell reads a cell.
func (s *Stored) Cell(i int) (*Cell, error) {
	at := s.at(i)
	text := make([]byte, at.length)
	if _, err := s.file.ReadAt(text, at.at); err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	c, err := parseCell(text, int(at.schema))
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	return c, nil
}

// Samples are one cell of each kind: the first repeat among those that went worst.
func (s *Stored) Samples() ([]Cell, error) {
	best := make([]int, len(s.Kinds)) // by kind, the cell's place and one; 0: none yet
	for i := range s.n {
		c := s.at(i)
		b := &best[c.kind]
		if *b == 0 || c.status > s.at(*b-1).status || c.status == s.at(*b-1).status && c.repeat < s.at(*b-1).repeat {
			*b = i + 1
		}
	}
	var all []Cell
	for _, i := range best {
		c, err := s.Cell(i - 1)
		if err != nil {
			return nil, err
		}
		all = append(all, *c)
	}
	return all, nil
}

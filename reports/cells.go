package reports

import (
	"cmp"
	"slices"

	"github.com/rpmig/rpmig/result"
)

// cells are those of a run in the order of reports, wherever they are: no more than one of them need be in memory.
type cells struct {
	run   *result.Run
	held  []*result.Cell // nil: they are stored
	order []int32        // of stored ones
}

// cellsOf sorts the cells of a run. A ledger has them in the order in which they ended, which differs from run to run.
func cellsOf(run *result.Run) *cells {
	if run.Stored == nil {
		return &cells{run: run, held: sorted(run)}
	}
	s := run.Stored
	c := &cells{run: run, order: make([]int32, s.Len())}
	for i := range c.order {
		c.order[i] = int32(i)
	}
	compareModes := modeOrder(&run.Header)
	slices.SortStableFunc(c.order, func(a, b int32) int {
		k, l := s.Kind(int(a)), s.Kind(int(b))
		if k == l {
			return cmp.Compare(s.Repeat(int(a)), s.Repeat(int(b)))
		}
		return compareKinds(compareModes, k, l)
	})
	return c
}

func compareKinds(compareModes func(a, b string) int, k, l *result.Kind) int {
	return cmp.Or(cmp.Compare(k.Scenario, l.Scenario), cmp.Compare(k.Family, l.Family), compareModes(k.Mode, l.Mode))
}

// each calls do with one after another. What it keeps of a cell it copies.
func (c *cells) each(do func(*result.Cell) error) error {
	return c.eachOf(func(result.Status) bool { return true }, do)
}

// eachOf does so with the cells of some statuses.
func (c *cells) eachOf(of func(result.Status) bool, do func(*result.Cell) error) error {
	for _, cell := range c.held {
		if of(cell.Status) {
			if err := do(cell); err != nil {
				return err
			}
		}
	}
	for _, i := range c.order {
		if !of(c.run.Stored.Status(int(i))) {
			continue
		}
		cell, err := c.run.Stored.Cell(int(i))
		if err == nil {
			err = do(cell)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// kindsOf returns the kinds of a run, in the order of reports.
func kindsOf(run *result.Run) []*result.Kind {
	kinds := slices.Clone(run.Kinds())
	compareModes := modeOrder(&run.Header)
	slices.SortFunc(kinds, func(k, l *result.Kind) int { return compareKinds(compareModes, k, l) })
	return kinds
}

package result

import "slices"

// Keeper makes cells smaller that are kept: they say the same words by the hundred thousand, and what was decoded has room to spare.
type Keeper map[string]string

// Cell returns the cell, which it has changed.
func (k Keeper) Cell(c *Cell) *Cell {
	const most = 1 << 15 // words, of a ledger in which they differ
	if len(k) > most {
		clear(k)
	}
	c.Events, c.Checks = slices.Clone(c.Events), slices.Clone(c.Checks)
	for i := range c.Events {
		e := &c.Events[i]
		k.words(&e.Kind, &e.Reason, &e.State, &e.Old, &e.By)
	}
	for i := range c.Tables {
		t := &c.Tables[i]
		t.Sockets = slices.Clone(t.Sockets)
		for i := range t.Sockets {
			k.words(&t.Sockets[i].State, &t.Sockets[i].Name)
		}
	}
	for i := range c.Checks {
		check := &c.Checks[i]
		k.words(&check.Name, (*string)(&check.Witness), &check.Want, &check.Got)
	}
	for i := range c.Steps {
		k.words(&c.Steps[i].Name)
	}
	return c
}

// words makes those that are the same share their bytes.
func (k Keeper) words(all ...*string) {
	for _, s := range all {
		if *s == "" {
			continue
		}
		if known, ok := k[*s]; ok {
			*s = known
		} else {
			k[*s] = *s
		}
	}
}

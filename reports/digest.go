package reports

import "github.com/rpmig/rpmig/result"

// digest is what a report says of all cells together, in as much memory as there are kinds of them.
type digest struct {
	table    *table
	stories  *Stories
	backends few
	streams  []*pool
	reloads  int // columns that the widest mode takes of a server that was reloaded; 0: there is none
	lost     lostAll
	again    lostAll // cells that were measured again
	doubted  []*result.Cell
	gaps     traceGaps
	skipped  map[string][]*result.Cell // by reason
	others   int                       // that were skipped for other reasons
}

// maxFew is how many names or reasons are told that a ledger may have any number of. No run comes to so many.
const maxFew = 100

// few are names, each once.
type few map[string]bool

func (f few) add(name string) {
	if !f.takes(name) {
		f["others"] = true
	}
}

// takes tells whether a name is among them, or there was room for it.
func (f few) takes(name string) bool {
	if !f[name] && len(f) >= maxFew {
		return false
	}
	f[name] = true
	return true
}

func newDigest(h *result.Header) *digest {
	return &digest{
		table:   &table{entries: map[[2]string]*entry{}, seen: map[result.Status]bool{}},
		stories: newStories(h), backends: few{}, gaps: traceGaps{missing: few{}}, skipped: map[string][]*result.Cell{},
	}
}

// add adds the next cell, in the order of reports.
func (d *digest) add(c *result.Cell) {
	d.table.add(c)
	d.stories.add(c)
	if c.DropBackend != "" {
		d.backends.add(printable(c.DropBackend))
	}
	d.streams = addToPool(d.streams, c)
	if c.Reload != nil {
		d.reloads = max(d.reloads, columns(reloadMode(c)))
	}
	d.lost.add(lostLines(c, false))
	if c.Void != nil {
		d.again.add([]lostLine{{place(c) + ": ", "the first time " + printable(c.Void.Reason), 1}})
	}
	if doubtful(c) {
		d.doubted = addPlace(d.doubted, c)
	}
	d.gaps.add(c)
	if c.Status == result.Skip {
		if d.skipped[c.Reason] == nil && len(d.skipped) >= maxFew {
			d.others++
		} else {
			d.skipped[c.Reason] = addPlace(d.skipped[c.Reason], c)
		}
	}
}

// addPlace adds the next cell to those that places names, unless one of its kind is there.
func addPlace(all []*result.Cell, c *result.Cell) []*result.Cell {
	if n := len(all); n > 0 && row(all[n-1]) == row(c) && all[n-1].Mode == c.Mode {
		return all
	}
	brief := c.Brief()
	return append(all, &brief)
}

package reports

import (
	"fmt"

	"github.com/rpmig/rpmig/result"
)

// pool is the streams of all repeats of a cell.
type pool struct {
	Cell *result.Cell // one of them
	result.Pool
}

// pools are those of sorted cells, in their order. What came to no conclusion is left out.
func pools(cells []*result.Cell) (all []*pool) {
	for _, c := range cells {
		all = addToPool(all, c)
	}
	return all
}

// addToPool adds the next cell, in the order of reports. It is not kept whole.
func addToPool(all []*pool, c *result.Cell) []*pool {
	if c.Stream == nil || c.Status == result.Error {
		return all
	}
	n := len(all)
	if n == 0 || row(all[n-1].Cell) != row(c) || all[n-1].Cell.Mode != c.Mode {
		brief := c.Brief()
		all = append(all, &pool{Cell: &brief})
		n++
	}
	all[n-1].Add(c.Stream)
	return all
}

// Interval is the 95 % confidence interval of the loss per million.
func (p *pool) Interval() string { return fmt.Sprintf("%.0f–%.0f", p.Low, p.High) }

// Classes says how clients were lost; "" where none was, and where the ledger does not say.
func (p *pool) Classes() string {
	if p.Losses == (result.Losses{}) {
		return ""
	}
	return p.Losses.String()
}

// bound is on which side of what may be lost the loss surely is, and how many repeats would tell where it is not known; 0: too
// many. A ledger that does not have the bounds tells nothing, and neither does that nothing was lost where nothing may be.
func (p *pool) bound() (told result.Bound, repeats int) {
	if p.Most == nil || p.Least == nil {
		return result.Within, 0
	}
	low, high := p.Surely()
	told = result.Against(low, high, *p.Least, *p.Most)
	switch {
	case told != result.Unknown:
		return told, 0
	case *p.Most == 0:
		return result.Within, 0
	default:
		return told, p.RepeatsToTell(*p.Least, *p.Most)
	}
}

// Told says in words what the bounds are, and on which side of them the loss surely is.
func (p *pool) Told() string {
	told, repeats := p.bound()
	if p.Most == nil || p.Least == nil {
		return ""
	}
	said := fmt.Sprintf("%.0f to %.0f", *p.Least, *p.Most)
	switch told {
	case result.Beyond:
		said += "; it is beyond"
	case result.Unknown:
		said += "; too few to tell"
	}
	if repeats > 0 {
		said += fmt.Sprintf(": --repeat %d would", repeats)
	}
	return said
}

// streams is what servers lost that reload under clients, a row for all repeats of a cell.
func (p *page) streams(all []*pool) {
	if len(all) == 0 {
		return
	}
	p.heading("Servers that reload under a stream of clients: lost of a million (95 % confidence)")
	modes, unknown, repeats := 0, false, 0
	for _, s := range all {
		modes = max(modes, columns(printable(s.Cell.Mode)))
	}
	for i, s := range all {
		if i == 0 || row(s.Cell) != row(all[i-1].Cell) {
			p.say(2, 6, plain, "", printable(row(s.Cell)))
		}
		said := fmt.Sprintf("%.0f (%s): %d of %d, %s", s.PerMillion, s.Interval(), s.Failed(), s.Connections,
			result.Plural(s.Reloads, "reload", "reloads"))
		if s.Repeats > 1 {
			said += fmt.Sprintf(" in %d repeats", s.Repeats)
		}
		switch told, enough := s.bound(); told {
		case result.Unknown:
			unknown, repeats = true, max(repeats, enough)
			said += " ?"
		case result.Beyond:
			said += fmt.Sprintf("; beyond %.0f to %.0f", *s.Least, *s.Most)
		}
		if how := s.Classes(); how != "" {
			said += "; " + how
		}
		p.say(4, 8, bold, pad(printable(s.Cell.Mode), modes), "  "+said)
	}
	if unknown {
		said := "too few to tell from what may be lost"
		if repeats > 0 {
			said += fmt.Sprintf("; --repeat %d would", repeats)
		}
		p.say(2, 6, plain, "?: ", said)
	}
}

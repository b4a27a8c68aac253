package result

import (
	"fmt"
	"slices"
	"strconv"
)

// ContradictionError says that a ledger contradicts itself, which no rpmig writes: somebody or something has changed it.
type ContradictionError struct {
	Line int    // of the ledger; 0: it has not got into one
	Cell string // its ID
	Says string // and what speaks against that
}

func (e *ContradictionError) Error() string {
	said := fmt.Sprintf("%s contradicts itself: %s", e.Cell, e.Says)
	if e.Line > 0 {
		said = fmt.Sprintf("line %d: %s", e.Line, said)
	}
	return said
}

// Hint is what to do next.
func (e *ContradictionError) Hint() string {
	return "no rpmig writes that, so it was changed: ask for the ledger as the run left it"
}

// consistent holds a cell against itself. Refused are
//   - a PASS with a check that did not hold, and a FAIL or XFAIL without one;
//   - an XFAIL that names no known bug, and a known bug of a cell that was not judged;
//   - a SKIP that was played;
//   - a check that holds though it got something else than it wanted, or does not though it got that, see Check.exact;
//   - connections that do not add up, and a stream that is not among them;
//   - a reset or a segment in a frame that is not there, two resets in one frame, and a reset in a step that is not there;
//   - a FAIL, XFAIL or PASS that came to something else when it was played again;
//   - a void measurement that has concluded something: what is played again for another reason than that would hide a failure.
//
// No checks prove nothing: of a later repeat they may not be kept, and a kernel that died in a cell leaves none.
func consistent(c *Cell) error {
	for _, says := range []string{c.countsAgainst(), c.checksAgainst(), c.statusAgainst()} {
		if says != "" {
			return &ContradictionError{Cell: c.ID(), Says: says}
		}
	}
	return nil
}

// countsAgainst says which counts cannot be.
func (c *Cell) countsAgainst() string {
	n := c.Connections
	switch s := c.Stream; {
	case n.Survived+n.Lost != n.Staged:
		return fmt.Sprintf("%d connections survived and %d were lost, of %d", n.Survived, n.Lost, n.Staged)
	case n.Deaf < 0 || n.Deaf > n.Lost:
		return fmt.Sprintf("%d connections were deaf, of %d that were lost", n.Deaf, n.Lost)
	case s != nil && c.Status != Error && (s.Connections != n.Staged || s.Failed() != n.Lost):
		return fmt.Sprintf("its stream has lost %d of %d connections, and it %d of %d", s.Failed(), s.Connections, n.Lost, n.Staged)
	}
	resets := make(map[int]bool, len(c.Resets))
	for _, r := range c.Resets {
		switch {
		case r.Frame < 1 || r.Frame > c.Capture.Packets:
			return fmt.Sprintf("a reset in frame %d of %d", r.Frame, c.Capture.Packets)
		case resets[r.Frame]:
			return fmt.Sprintf("two resets in frame %d", r.Frame)
		case r.Step < 0 || r.Step > len(c.Steps) && len(c.Steps) > 0:
			return fmt.Sprintf("a reset during step %d of %d", r.Step, len(c.Steps))
		}
		resets[r.Frame] = true
	}
	for _, f := range c.Flow {
		if f.Frame < 1 || f.Frame > c.Capture.Packets {
			return fmt.Sprintf("a segment in frame %d of %d", f.Frame, c.Capture.Packets)
		}
	}
	return ""
}

// checksAgainst says which check cannot be.
func (c *Cell) checksAgainst() string {
	for _, k := range c.Checks {
		if same := k.Want == k.Got; same && !k.OK || !same && k.OK && k.exact() {
			return fmt.Sprintf("a check that %s: %s", map[bool]string{true: "held", false: "did not hold"}[k.OK], k)
		}
	}
	return ""
}

// exact tells whether a check wants one thing alone. What a server may lose and what a scenario finds out may be a range.
func (k *Check) exact() bool {
	return k.Witness != Application && k.Witness != Scenario || whole(k.Want) && whole(k.Got)
}

func whole(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil
}

// statusAgainst says what speaks against the status.
func (c *Cell) statusAgainst() string {
	failed := slices.IndexFunc(c.Checks, func(k Check) bool { return !k.OK })
	switch {
	case c.Status == Pass && failed >= 0:
		return fmt.Sprintf("it is a PASS, and a check did not hold: %s", c.Checks[failed])
	case failed < 0 && len(c.Checks) > 0 && (c.Status == Fail || c.Status == XFail):
		return fmt.Sprintf("it is %s, and no check failed", article(c.Status))
	case c.Status == XFail && c.Bug == "":
		return "it is an XFAIL, and names no known bug"
	case c.Bug != "" && c.Status == Skip:
		return fmt.Sprintf("it is a SKIP, and names the bug %s", c.Bug)
	// A program on a server's listeners is seen to be asked nothing only while the server is reloaded.
	case c.Status == Skip && c.Reload == nil && (len(c.Checks) > 0 || c.Connections.Staged > 0 || c.Capture.Packets > 0):
		return "it is a SKIP, and was played"
	case c.Confirmed != nil && c.Status != Fail && c.Status != Error:
		return fmt.Sprintf("it is %s, and was played again as a FAIL", article(c.Status))
	case c.Confirmed != nil && c.Status == Fail && c.Confirmed.Status != Fail:
		return fmt.Sprintf("it is a FAIL that was not confirmed: played again, it was %s", article(c.Confirmed.Status))
	case c.Void != nil && c.Void.Status != Error && c.Void.Status != Skip:
		return fmt.Sprintf("its first measurement was void, and %s", article(c.Void.Status))
	}
	return ""
}

func article(s Status) string {
	if s == XFail || s == Error {
		return "an " + string(s)
	}
	return "a " + string(s)
}

// plan holds the cells of a ledger against its header, and against one another.
type plan struct {
	header    *Header
	scenarios map[string]bool // of the header
	cells     int
	bad       bool // one of them is
	played    bool // one of them was
	ended     bool // a line says how
	seen      seen
}

func newPlan(h *Header) plan {
	p := plan{header: h, scenarios: map[string]bool{}}
	for _, s := range h.Scenarios {
		p.scenarios[s.Name] = true
	}
	return p
}

// maxKinds is how many cells there may be, each counted once however often it was played: a hundred times as many as the catalogue has. What
// is kept of a ledger, and what a report says of it, grows with them.
const maxKinds = 100_000

// take refuses a cell that the run has not played: one more than were planned, one of a scenario, a family or a mode that there is none of, one
// with a bug that is not known, one that is there already, and one of a kind more than any run has.
func (p *plan) take(c *Cell) error {
	against := func(format string, args ...any) error {
		return &ContradictionError{Cell: c.ID(), Says: fmt.Sprintf(format, args...)}
	}
	p.cells++
	p.bad, p.played = p.bad || c.Bad(), p.played || c.Status != Skip
	switch h := p.header; {
	case h.Cells > 0 && p.cells > h.Cells: // 0: the plan had no end
		return against("it is one more than the %s of the plan", Plural(h.Cells, "cell", "cells"))
	case h.UntilFail != nil && h.UntilFail.Most > 0 && p.cells > h.UntilFail.Most:
		return against("it is one more than the %s that there are at most", Plural(h.UntilFail.Most, "cell", "cells"))
	case len(h.Scenarios) > 0 && !p.scenarios[c.Scenario]:
		return against("the header has no scenario %q", c.Scenario)
	case len(h.Families) > 0 && !slices.Contains(h.Families, c.Family):
		return against("the header has no family %q", c.Family)
	case len(h.Modes) > 0 && !slices.ContainsFunc(h.Modes, func(m Mode) bool { return m.Name == c.Mode }):
		return against("the header has no mode %q", c.Mode)
	// A header that has families has all bugs, too; of older ones nothing is known where they have none.
	case len(h.Bugs)+len(h.Families) > 0 && c.Bug != "" && !slices.ContainsFunc(h.Bugs, func(b Bug) bool { return b.ID == c.Bug }):
		return against("the header has no bug %q", c.Bug)
	case !p.seen.add(c):
		return against("it is there already")
	case len(p.seen.kinds) > maxKinds:
		return against("it is one more than %d different cells", maxKinds)
	}
	return nil
}

// cutShort is how a run ended that was to go on until something fails: where nothing has, something else ended it. nil: it ended by
// itself, or a line says how, or it has a plan, by which Missing tells.
func (p *plan) cutShort() *Ending {
	switch {
	case p.header == nil || p.header.UntilFail == nil || p.bad || p.ended:
		return nil
	case p.header.UntilFail.Most == 0 && !p.played && p.cells > 0: // nothing can be
		return nil
	case p.header.UntilFail.Most == 0:
		return &Ending{Why: "it was to go on until something fails, and nothing has"}
	case p.cells < p.header.UntilFail.Most:
		return &Ending{Why: fmt.Sprintf("it was to go on until something fails, or for %s, and has %d",
			Plural(p.header.UntilFail.Most, "cell", "cells"), p.cells)}
	default:
		return nil
	}
}

// seen is which cells were there, in few bytes for each: there may be millions, of few kinds.
type seen struct {
	kinds   map[[3]string]uint64
	repeats map[uint64]uint64 // by the number of the kind and what is left of the repeat, 64 repeats a bit each
}

// add tells whether the cell is new.
func (s *seen) add(c *Cell) bool {
	if s.kinds == nil {
		s.kinds, s.repeats = map[[3]string]uint64{}, map[uint64]uint64{}
	}
	key := [3]string{c.Scenario, c.Family, c.Mode}
	kind, ok := s.kinds[key]
	if !ok {
		kind = uint64(len(s.kinds))
		s.kinds[key] = kind
	}
	at, bit := kind<<32|uint64(c.Repeat)>>6, uint64(1)<<(c.Repeat&63)
	if s.repeats[at]&bit != 0 {
		return false
	}
	s.repeats[at] |= bit
	return true
}

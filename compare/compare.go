package compare

import (
	"fmt"
	"math"
	"slices"

	"github.com/rpmig/rpmig/result"
)

// Kind is what became of a cell.
type Kind string

// The kinds, in the order in which they are told.
const (
	Regressed    Kind = "regressed"       // it worked, or a known bug explained why not
	NoConclusion Kind = "no conclusion"   // one side says nothing of what the other does
	Gone         Kind = "gone"            // it is not played any more, or cannot be
	Fixed        Kind = "fixed"           // it was broken
	StillFailing Kind = "still failing"   // as before
	OtherReason  Kind = "other reason"    // still failing, in another way
	New          Kind = "new"             // it was not played before
	Untold       Kind = "cannot be told"  // the rates differ, and chance may make them differ so much
	Speed        Kind = "another speed"   // it takes longer, or less long, than its own noise explains
	Contradicts  Kind = "against version" // it works or not, and the kernel's version says otherwise
)

// Kinds lists them.
func Kinds() []Kind {
	return []Kind{Regressed, NoConclusion, Gone, Fixed, OtherReason, StillFailing, New, Untold, Contradicts, Speed}
}

// DefaultAlpha is the chance that a run whose kernel has not changed is told to have a cell with another rate.
const DefaultAlpha = 0.05

// Options are the user's choices.
type Options struct {
	Alpha float64 // see DefaultAlpha
	// Part tells that new runs are meant to have fewer cells than the old one.
	Part bool
	// Path names the kernel functions that decide what becomes of a scenario's connections; empty: not known.
	Path func(scenario string) string
}

// Pair is an old run and a new one.
type Pair struct{ Old, New *Side }

// Change is a cell that has changed, or that does not work.
type Change struct {
	Key
	Kind     Kind
	Old, New *outcome // nil: it was not played there
	// Exit is the status that it alone would end rpmig with.
	Exit int
	Why  string  // a sentence of its own; may be empty
	P    float64 // of rates and speeds, corrected for how many are compared; 0: none was asked for
	// Repeats on each side would tell, where it cannot be told; 0: more than anybody plays.
	Repeats int
	Path    string // see Options.Path

	unexplainedP float64 // as P, of how often no known bug explains it; 0: that is not asked
}

// Comparison is what changed from one run to another.
type Comparison struct {
	Pair
	Alpha   float64
	Changes []Change // by kind, in the order of Kinds, and then by name
	Same    int      // cells that are as they were, and as they should be
	Tested  int      // rates that were compared, in all pairs
}

// Compare compares each pair. The rates of all pairs are corrected together.
func Compare(pairs []Pair, o Options) []*Comparison {
	all := make([]*Comparison, len(pairs))
	var rates, speeds tests
	for i, p := range pairs {
		all[i] = &Comparison{Pair: p, Alpha: o.Alpha}
		all[i].cells(o, &rates, &speeds)
	}
	rates.settle()
	speeds.settle()
	for _, c := range all {
		c.Tested = len(rates.p)
		c.finish(o, len(rates.p))
	}
	return all
}

// tests are p-values of one family, and where they are to go once they are corrected.
type tests struct {
	p  []float64
	to []*float64
}

func (t *tests) add(p float64, to *float64) { t.p, t.to = append(t.p, p), append(t.to, to) }

func (t *tests) settle() {
	for i, p := range holm(t.p) {
		*t.to[i] = max(p, math.SmallestNonzeroFloat64) // 0 would say that there was no test
	}
}

// cells goes through all cells of both sides. What leans on a test is looked at again by finish.
func (c *Comparison) cells(o Options, rates, speeds *tests) {
	keys := make([]Key, 0, max(len(c.Old.cells), len(c.New.cells)))
	for k := range c.New.cells {
		keys = append(keys, k)
	}
	for k := range c.Old.cells {
		if c.New.cells[k] == nil {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, Key.compare)
	c.Changes = make([]Change, 0, len(keys)) // tests point into it
	for _, k := range keys {
		ch := Change{Key: k, Old: c.Old.cells[k], New: c.New.cells[k]}
		c.classify(&ch, o)
		c.Changes = append(c.Changes, ch)
		at := &c.Changes[len(c.Changes)-1]
		if at.Kind == Untold {
			rates.add(fisher(at.New.broken(), at.New.concluded(), at.Old.broken(), at.Old.concluded()), &at.P)
			if at.unexplained() && !at.New.steady() && at.New.count(result.XFail) > 0 {
				rates.add(fisher(at.New.count(result.Fail), at.New.concluded(), 0, at.Old.concluded()), &at.unexplainedP)
			}
		}
		if c.timed(at) {
			speeds.add(mannWhitney(at.New.times, at.Old.times), &at.P)
		}
	}
}

// timed tells whether the speed of a cell can be compared: it has gone well on both sides, often enough, and at the same pace.
func (c *Comparison) timed(ch *Change) bool {
	return ch.Kind == "" && ch.Old != nil && ch.New != nil && len(ch.Old.times) >= fewestTimes && len(ch.New.times) >= fewestTimes &&
		c.Old.pace() == c.New.pace()
}

// pace is what makes all cells of a run faster or slower than those of another, as far as the header tells.
type pace struct {
	machine, accelerator string
	virtual              bool
}

func (s *Side) pace() pace {
	p := pace{machine: s.Header.Machine}
	if g := s.Header.Guest; g != nil {
		p.accelerator, p.virtual = g.Accelerator, g.Virtual
	}
	return p
}

// classify tells what became of a cell, but for what a test decides: where repeats differ among themselves it is Untold.
func (c *Comparison) classify(ch *Change, o Options) {
	was, is := ch.Old.state(), ch.New.state()
	switch {
	case was == concluded && is == concluded:
		c.rates(ch)
	case is == concluded && was == erred:
		ch.noConclusion("the old run came to no conclusion")
	case is == concluded && was == absent && c.Old.cut():
		ch.noConclusion("the old run was cut short before it")
	case is == concluded: // absent or skipped before
		ch.fresh()
	case is == erred && was != erred:
		ch.noConclusion("the new run came to no conclusion")
	case was == concluded && is == absent && c.New.cut():
		ch.noConclusion("the new run was cut short before it")
	case was == concluded && is == absent && !o.Part:
		ch.Kind, ch.Exit, ch.Why = Gone, result.ExitSoftware, "the new run has not planned it"
	case was == concluded && is == skipped:
		ch.Kind, ch.Exit, ch.Why = Gone, result.ExitSoftware, "it cannot be played any more"
	}
}

// cut tells that not all of a run is there.
func (s *Side) cut() bool { return s.Missing > 0 || s.Ending != nil }

func (ch *Change) noConclusion(why string) {
	ch.Kind, ch.Exit, ch.Why = NoConclusion, result.ExitSoftware, why
}

// fresh is a cell that was not played before. One that fails is nobody's known failure.
func (ch *Change) fresh() {
	ch.Kind = New
	if ch.New.count(result.Fail) > 0 {
		ch.Exit = result.ExitFail
	}
}

// rates compares a cell of which both sides say something. Where all repeats of each agree there is nothing to calculate: a test
// of few repeats could only acquit.
func (c *Comparison) rates(ch *Change) {
	was, is := ch.Old, ch.New
	switch {
	case was.broken() == 0 && is.broken() == 0:
	case !was.steady() || !is.steady():
		ch.Kind = Untold
	case was.broken() == 0:
		ch.regressed()
	case is.broken() == 0:
		ch.Kind = Fixed
	default:
		c.stillFails(ch)
	}
}

func (ch *Change) regressed() { ch.Kind, ch.Exit = Regressed, result.ExitFail }

// unexplained tells that a known bug explained all that was broken, and now does not.
func (ch *Change) unexplained() bool {
	return ch.Old.broken() > 0 && ch.Old.count(result.Fail) == 0 && ch.New.count(result.Fail) > 0
}

// stillFails is for a cell that both sides have broken. What a known bug explained, and now nothing does, is a regression.
func (c *Comparison) stillFails(ch *Change) {
	switch {
	case c.lostExplanation(ch):
	case !ch.Old.worst.same(ch.New.worst):
		ch.Kind = OtherReason
	default:
		ch.Kind = StillFailing
	}
}

// lostExplanation makes a cell a regression that is unexplained, if that is not by chance.
func (c *Comparison) lostExplanation(ch *Change) bool {
	lost := ch.unexplained() && (ch.New.steady() || ch.New.count(result.XFail) == 0 || ch.unexplainedP > 0 && ch.unexplainedP <= c.Alpha)
	if lost {
		ch.regressed()
		ch.Why = "a known bug explained it, and now none does"
	}
	return lost
}

// finish settles what leans on tests, and leaves out what has not changed.
func (c *Comparison) finish(o Options, tested int) {
	for i := range c.Changes {
		ch := &c.Changes[i]
		switch {
		case ch.Kind == Untold:
			c.byRate(ch, tested)
		case ch.P > 0 && ch.P <= c.Alpha:
			c.bySpeed(ch)
		}
	}
	c.Changes = slices.DeleteFunc(c.Changes, func(ch Change) bool {
		if ch.Kind != "" {
			return false
		}
		if ch.New.state() == concluded {
			c.Same++
		}
		return true
	})
	c.ending()
	if c.Old.Header.Release() != c.New.Header.Release() { // of one kernel it is said once
		c.Changes = append(c.Changes, contradictions(c.Old, "old")...)
	}
	c.Changes = append(c.Changes, contradictions(c.New, "new")...)
	for i := range c.Changes {
		if ch := &c.Changes[i]; o.Path != nil && ch.Scenario != "" {
			ch.Path = o.Path(ch.Scenario)
		}
	}
	slices.SortStableFunc(c.Changes, func(a, b Change) int {
		return slices.Index(Kinds(), a.Kind) - slices.Index(Kinds(), b.Kind)
	})
}

// ending is said of a new run that is not whole, where no cell tells of it: its kernel may have died when the last was over, or what was
// not played is a later repeat, or new.
func (c *Comparison) ending() {
	told := func(ch Change) bool { return ch.Exit == result.ExitSoftware }
	if !c.New.cut() || slices.ContainsFunc(c.Changes, told) {
		return
	}
	why := fmt.Sprintf("the new run was cut short: %s", result.Plural(c.New.Missing, "cell is missing", "cells are missing"))
	if c.New.Ending != nil {
		why = "the new run did not end by itself: " + c.New.Ending.Why
	}
	ch := Change{}
	ch.noConclusion(why)
	c.Changes = append(c.Changes, ch)
}

// byRate decides on a cell whose repeats differ.
func (c *Comparison) byRate(ch *Change, tested int) {
	was, is := share(ch.Old), share(ch.New)
	switch {
	case ch.P <= c.Alpha && is > was:
		ch.regressed()
	case c.lostExplanation(ch): // however seldom it is broken now
	case ch.P <= c.Alpha:
		ch.Kind = Fixed
	case was > 0 && is > 0 && (was == is || !ch.Old.worst.same(ch.New.worst)):
		c.stillFails(ch)
	default:
		ch.Repeats = repeatsToTell(was, is, c.Alpha/float64(tested))
		if was == 0 && c.couldOnlyAcquit(ch, tested) {
			ch.noConclusion(fmt.Sprintf("too few plays to compare: broken 0 times of %d, and now %d of %d", ch.Old.concluded(), ch.New.broken(), ch.New.concluded()))
		}
	}
	if ch.Kind != StillFailing && ch.Why == "" {
		ch.Why = fmt.Sprintf("broken %d times of %d, and now %d of %d: p = %.2g", ch.Old.broken(), ch.Old.concluded(), ch.New.broken(), ch.New.concluded(), ch.P)
	}
}

// couldOnlyAcquit tells that one side has so few plays that the test would not tell so many which all work from so many which are all
// broken. To take what was seen for chance would hide any regression.
func (c *Comparison) couldOnlyAcquit(ch *Change, tested int) bool {
	n := min(ch.Old.concluded(), ch.New.concluded())
	return fisher(n, n, 0, n)*float64(tested) > c.Alpha
}

// share is how many of the plays are broken, from 0 to 1.
func share(o *outcome) float64 { return float64(o.broken()) / float64(o.concluded()) }

// bySpeed looks at a cell of which the times differ: by more than those of one side do among themselves?
func (c *Comparison) bySpeed(ch *Change) {
	was, noise := spread(ch.Old.times)
	is, noiseNow := spread(ch.New.times)
	noise = max(noise, noiseNow)
	switch {
	case is-was > noise:
		ch.Kind = Speed
		ch.Why = "slower: "
	case was-is > noise:
		ch.Kind = Speed
		ch.Why = "faster: "
	default:
		return
	}
	ch.Why += fmt.Sprintf("%.4g s before, %.4g s now, and repeats differ by %.2g s: p = %.2g", was, is, noise, ch.P)
	c.Same++ // in its verdict
}

// ExitCode is the status of the process: 1 for a regression, 70 where nothing can be said of a cell, which outweighs it as in a
// run.
func ExitCode(all []*Comparison) int {
	exit := result.ExitOK
	for _, c := range all {
		for i := range c.Changes {
			exit = max(exit, c.Changes[i].Exit)
		}
	}
	return exit
}

// Count is how many changes are of a kind.
func (c *Comparison) Count(k Kind) int {
	n := 0
	for i := range c.Changes {
		if c.Changes[i].Kind == k {
			n++
		}
	}
	return n
}

package verdict

import (
	"fmt"

	"github.com/rpmig/rpmig/result"
)

// interval is what a stream of clients, or a pool of streams, tells of its loss.
type interval interface {
	Surely() (low, high float64) // per million
}

// lossCheck holds a loss against what may be lost. It fails where the whole interval is beyond a bound: few connections are no
// FAIL.
func lossCheck(name string, may Range, perMillion float64, told interval) result.Check {
	low, high := told.Surely()
	return result.Check{
		Name: name, Witness: result.Application, Want: may.String(),
		Got: fmt.Sprintf("%.0f per million (surely %.0f to %.0f)", perMillion, low, high),
		OK:  result.Against(low, high, may.Min, may.Max) != result.Beyond,
	}
}

// untold says what streams that are not beyond a bound do not tell: few connections are no proof of a PASS either. It is empty where they
// are within the bounds, and where nothing may be lost and nothing was.
func untold(may Range, p *result.Pool) string {
	low, high := p.Surely()
	if may.Max == 0 || result.Against(low, high, may.Min, may.Max) != result.Unknown {
		return ""
	}
	bound := may.Max
	if high <= bound {
		bound = may.Min
	}
	said := fmt.Sprintf("; surely between %.0f and %.0f per million: too few to tell from the bound of %g", low, high, bound)
	if n := p.RepeatsToTell(may.Min, may.Max); n > 0 {
		said += fmt.Sprintf("; --repeat %d would", n)
	}
	return said
}

// streamed is the reason of a PASS.
func (j *judgement) streamed() string {
	var p result.Pool
	p.Add(j.o.Stream)
	return j.o.Stream.String() + untold(j.exp.Loss, &p)
}

// Pool holds what this cell and the repeats before it have lost together against what may be lost. A cell that passes by itself
// is a FAIL if they are beyond a bound: nothing else of a run that is made of cells could say so, and what goes by a cell's
// status (--until-fail, an exit code, a list of tests) need not know of pools. Pool tells whether the cell is a FAIL, by
// itself or by this: the pool has been accused then, and the next cell should begin another.
func (v *Verdict) Pool(may Range, s *result.Stream, p *result.Pool) bool {
	if v.Status != result.Pass || p.Repeats < 2 {
		return v.Status == result.Fail
	}
	c := lossCheck(fmt.Sprintf("lost, in %d repeats together", p.Repeats), may, p.PerMillion, p)
	v.Checks = append(v.Checks, c)
	if !c.OK {
		v.Status, v.Reason = result.Fail, c.String()
		return true
	}
	if v.Bug == "" { // otherwise the reason speaks of that
		v.Reason = fmt.Sprintf("%s; %d repeats so far: %.0f per million%s", s, p.Repeats, p.PerMillion, untold(may, p))
	}
	return false
}

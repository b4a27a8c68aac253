package verdict

import (
	"slices"

	"github.com/rpmig/rpmig/result"
)

// parted returns the step in which what a check that does not hold has seen parted from what was wanted, counted from 1; 0: that is
// not known. It judges nothing: it is where a reader should look first.
func (o *Observation) parted(exp Expectation, c *result.Check) int {
	switch c.Witness {
	case result.Staging:
		return o.Steps.At(o.StagedAt)
	case result.Scenario:
		if i := slices.IndexFunc(o.Facts, func(f Fact) bool { return f.Name == c.Name }); i >= 0 {
			return o.Facts[i].Step
		}
	case result.After:
		return len(o.Steps)
	case result.Application, result.Wire, result.TraceSaid, result.Counters:
		for _, r := range o.Wire.Resets {
			if !r.Crossed && exp.odd(r) {
				return r.Step
			}
		}
	}
	return 0
}

// odd tells whether a reset is one that should not have come, or not in this way.
func (exp Expectation) odd(r result.Reset) bool {
	switch {
	case exp.Lives, r.FromClient, r.Flavour != exp.Flavour:
		return true
	case exp.Owner != "" && r.Owner != "" && r.Owner != exp.Owner:
		return true
	default:
		return exp.Reason != "" && r.Reason != "" && r.Reason != exp.Reason
	}
}

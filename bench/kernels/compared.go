package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/compare"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/scenarios"
)

// side is a run as rpmig compare takes it.
func side(run *result.Run) *compare.Side {
	s := compare.NewSide("", "")
	for i := range run.Cells {
		s.Add(&run.Cells[i])
	}
	s.Finish(run, len(run.Cells))
	return s
}

// kernelPath is the path through the kernel of a scenario.
func kernelPath(scenario string) string {
	for _, s := range scenarios.All() {
		if s.Name == scenario {
			return s.Path
		}
	}
	return ""
}

// uncompared says what rpmig compare lacks of a mutant, given the kernel as it is: each scenario that has caught it has regressed, and the
// path through the kernel is named. Empty: nothing.
func (m *mutant) uncompared(was, is *compare.Side, path func(scenario string) string) string {
	c := compare.Compare([]compare.Pair{{Old: was, New: is}}, compare.Options{Alpha: compare.DefaultAlpha, Path: path})[0]
	var lacking, nameless []string
	for _, s := range m.caught {
		of := slices.DeleteFunc(c.Of(compare.Regressed), func(ch *compare.Change) bool { return ch.Scenario != s })
		switch {
		case len(of) == 0:
			lacking = append(lacking, s)
		case slices.ContainsFunc(of, func(ch *compare.Change) bool { return ch.Path == "" }):
			nameless = append(nameless, s)
		}
	}
	switch {
	case lacking != nil:
		return fmt.Sprintf("compare has no regression of %s", strings.Join(lacking, ", "))
	case nameless != nil:
		return fmt.Sprintf("compare names no path through the kernel for %s", strings.Join(nameless, ", "))
	}
	return ""
}

package reports

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// setting is a family and a mode.
type setting struct{ family, mode string }

// comparison is several runs held against each other, cell by cell, over all repeats.
type comparison struct {
	runs  int
	idle  []bool                // by run: it has played nothing
	order func(a, b string) int // of modes

	scenarios []string                        // sorted
	settings  map[string][]setting            // of each scenario, in the order of reports
	words     map[string]map[setting][]string // by run; "": it has not played the cell
	cells     int                             // that any of them has played
	differ    int                             // of those, in more than that a run has not played it
	lacking   int                             // of the others, those that some run has not played
}

// compare compares runs. Two cells are alike that came to the same statuses, however often they were played: what was lost
// of a stream, and when, differs from one run to the next on the same kernel.
func compare(runs []*kernelRun) *comparison {
	c := &comparison{runs: len(runs), settings: map[string][]setting{}, words: map[string]map[setting][]string{}}
	c.order = modeOrder(modesOf(runs))
	for i, k := range runs {
		c.idle = append(c.idle, k.Len() == 0)
		for _, kind := range k.Kinds() {
			e := entry{repeats: kind.Cells, count: kind.Count}
			c.set(kind.Scenario, setting{kind.Family, kind.Mode}, i, e.words())
		}
	}
	slices.Sort(c.scenarios)
	for scenario, of := range c.settings {
		slices.SortFunc(of, c.bySetting)
		for _, s := range of {
			c.cells++
			switch words := c.words[scenario][s]; {
			case differs(words):
				c.differ++
			case c.lacks(words):
				c.lacking++
			}
		}
	}
	return c
}

func (c *comparison) set(scenario string, s setting, run int, words string) {
	if c.words[scenario] == nil {
		c.words[scenario] = map[setting][]string{}
		c.scenarios = append(c.scenarios, scenario)
	}
	if c.words[scenario][s] == nil {
		c.words[scenario][s] = make([]string, c.runs)
		c.settings[scenario] = append(c.settings[scenario], s)
	}
	c.words[scenario][s][run] = words
}

// differs tells whether runs that have played a cell came to different statuses.
func differs(words []string) bool {
	first := ""
	for _, w := range words {
		if w != "" && first != "" && w != first {
			return true
		}
		first = cmp.Or(first, w)
	}
	return false
}

// lacks tells whether a run has not played a cell, of those that have played any.
func (c *comparison) lacks(words []string) bool {
	for i, w := range words {
		if w == "" && !c.idle[i] {
			return true
		}
	}
	return false
}

// notPass tells whether a cell came to anything but PASS in some run.
func notPass(words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return w != "" && w != string(result.Pass) })
}

// comparedRow is some cells of a scenario, or of every one, that fared alike.
type comparedRow struct {
	scenario string
	where    string // families and modes, as far as they are needed: "ipv4: sysctl, bpf"; "": all that the scenario has
	words    []string
	first    setting // of those
}

// What stands in the place of a scenario where most fared alike.
const (
	everyScenario = "every scenario"
	mostScenarios = "every scenario not below"
)

// rows are the cells of interest, those that fared alike together. Where most scenarios fared alike in a family and mode, as on
// a kernel that lacks the mode, that is said once, and of the others each is a row, of interest or not.
func (c *comparison) rows(interesting func(words []string) bool) []comparedRow {
	rows, common := c.common(interesting)
	for _, scenario := range c.scenarios {
		var of []setting
		for _, s := range c.settings[scenario] {
			words := c.words[scenario][s]
			if w := common[s]; w == nil && interesting(words) || w != nil && !slices.Equal(words, w) {
				of = append(of, s)
			}
		}
		rows = append(rows, c.grouped(scenario, of, c.settings[scenario], func(s setting) []string { return c.words[scenario][s] })...)
	}
	return rows
}

// common is what more than half of the scenarios came to in a family and mode, where that is of interest; and its rows.
func (c *comparison) common(interesting func(words []string) bool) (rows []comparedRow, common map[setting][]string) {
	type kind struct {
		setting
		words string
	}
	count, total := map[kind]int{}, map[setting]int{}
	var all []setting
	common = map[setting][]string{}
	for _, scenario := range c.scenarios {
		for _, s := range c.settings[scenario] {
			if total[s]++; total[s] == 1 {
				all = append(all, s)
			}
			count[kind{s, strings.Join(c.words[scenario][s], "\x00")}]++
		}
	}
	for k, n := range count {
		if words := strings.Split(k.words, "\x00"); n > 1 && n*2 > total[k.setting] && interesting(words) {
			common[k.setting] = words
		}
	}
	slices.SortFunc(all, c.bySetting)
	words := func(s setting) []string { return common[s] }
	for _, each := range []bool{true, false} {
		name := everyScenario
		if !each {
			name = mostScenarios
		}
		var of []setting
		for _, s := range all {
			if w := common[s]; w != nil && each == (count[kind{s, strings.Join(w, "\x00")}] == total[s]) {
				of = append(of, s)
			}
		}
		rows = append(rows, c.grouped(name, of, all, words)...)
	}
	return rows, common
}

func (c *comparison) bySetting(a, b setting) int {
	return cmp.Or(cmp.Compare(a.family, b.family), c.order(a.mode, b.mode))
}

// grouped makes a row of all settings with the same words.
func (c *comparison) grouped(scenario string, of, all []setting, words func(setting) []string) (rows []comparedRow) {
	for len(of) > 0 {
		w := words(of[0])
		var group, rest []setting
		for _, s := range of {
			if slices.Equal(words(s), w) {
				group = append(group, s)
			} else {
				rest = append(rest, s)
			}
		}
		rows = append(rows, comparedRow{scenario, where(group, all), w, group[0]})
		of = rest
	}
	return rows
}

// where names settings among all that a scenario has, in the same order, in brief.
func where(group, all []setting) string {
	if len(group) == len(all) {
		return ""
	}
	modes := func(of []setting, family string) (names []string) {
		for _, s := range of {
			if s.family == family {
				names = append(names, s.mode)
			}
		}
		return names
	}
	var families []string // of all
	for _, s := range all {
		if !slices.Contains(families, s.family) {
			families = append(families, s.family)
		}
	}
	var parts, said []string
	for _, family := range families {
		of := modes(group, family)
		if of == nil || slices.Contains(said, family) {
			continue
		}
		var same []string // families with the same modes
		whole := true     // all that these have
		for _, f := range families {
			if slices.Equal(modes(group, f), of) {
				same = append(same, f)
				whole = whole && len(of) == len(modes(all, f))
			}
		}
		said = append(said, same...)
		part := strings.Join(same, ", ")
		switch names := strings.Join(of, ", "); {
		case len(same) == len(families):
			part = names
		case !whole:
			part += ": " + names
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}

// alike says how many cells came to the same on all kernels that have played any.
func (c *comparison) alike() string {
	on := "all kernels"
	if idle := len(slices.DeleteFunc(slices.Clone(c.idle), func(idle bool) bool { return !idle })); idle > 0 {
		on = fmt.Sprintf("%d of %d kernels, as no other played any", c.runs-idle, c.runs)
	}
	said := fmt.Sprintf("alike on %s: %d of %s", on, c.cells-c.differ-c.lacking, result.Plural(c.cells, "cell", "cells"))
	if c.differ > 0 {
		said += fmt.Sprintf("; different: %d", c.differ)
	}
	if c.lacking > 0 {
		said += fmt.Sprintf("; not played on all: %d", c.lacking)
	}
	return said
}

package reports

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// kernelRun is a run among several, each in a kernel of its own.
type kernelRun struct {
	*result.Run
	name string  // unique among them
	o    Options // Dir is its own folder
}

// RenderAll writes several runs, each in a kernel of its own, as one report. One run is written as Format.Render does.
// o.Dir is the folder that holds the folder of each.
func RenderAll(w io.Writer, f Format, runs []*result.Run, o Options) error {
	all := kernelRuns(runs, o)
	switch len(all) {
	case 0:
		return errors.New("no run to report on")
	case 1:
		return f.Render(w, all[0].Run, all[0].o)
	default:
		return f.all(w, all, o)
	}
}

// kernelRuns gives each run its name: that of Options.Names, or of its guest, or its kernel's release. A name that
// another run has is told apart by its number.
func kernelRuns(runs []*result.Run, o Options) []*kernelRun {
	var all []*kernelRun
	taken := map[string]bool{}
	for i, run := range runs {
		name := run.Header.Kernel
		switch {
		case i < len(o.Names):
			name = o.Names[i]
		case run.Header.Guest != nil:
			name = cmp.Or(run.Header.Guest.Name, name)
		}
		k := &kernelRun{run, unique(cmp.Or(name, "unknown"), taken), o}
		k.o.Names, k.o.Dir = nil, ""
		if o.Dir != "" && filepath.IsLocal(name) { // a ledger may come from a stranger
			k.o.Dir = filepath.Join(o.Dir, name)
		}
		all = append(all, k)
	}
	return all
}

// runsOf are the runs without what is known of each besides.
func runsOf(all []*kernelRun) []*result.Run {
	var runs []*result.Run
	for _, k := range all {
		runs = append(runs, k.Run)
	}
	return runs
}

// versions are those of rpmig that made the runs, one mostly.
func versions(all []*kernelRun) string {
	var said []string
	for _, k := range all {
		if !slices.Contains(said, k.Header.Version) {
			said = append(said, k.Header.Version)
		}
	}
	return strings.Join(said, " and ")
}

// onKernels is "rpmig 0.1.0 on 3 kernels".
func onKernels(all []*kernelRun) string {
	return printable(fmt.Sprintf("rpmig %s on %s", versions(all), result.Plural(len(all), "kernel", "kernels")))
}

// onKernel is "rpmig 0.1.0 on Linux 6.18.5 x86_64".
func onKernel(h *result.Header) string {
	return strings.TrimRight(printable(fmt.Sprintf("rpmig %s on Linux %s %s", h.Version, h.Release(), h.Machine)), " ")
}

// virtualTime is what to say of a guest whose clock is that of the instructions it runs.
const virtualTime = "virtual, counted in the guest's instructions: no figure of a machine"

// fact is something that is known of a run besides its cells.
type fact struct{ Name, Value string }

// guestFacts are what is known of the guest in which a run was played; nil: it was on the machine's own kernel.
func guestFacts(g *result.Guest) []fact {
	if g == nil {
		return nil
	}
	facts := []fact{{"guest", fmt.Sprintf("%s, %s, %d MiB, %s", g.Emulator, g.Accelerator, g.Memory, result.Plural(g.CPUs, "CPU", "CPUs"))}}
	add := func(name, value string) {
		if value != "" {
			facts = append(facts, fact{name, printable(value)})
		}
	}
	facts[0].Value = printable(facts[0].Value)
	add("kernel from", g.From)
	add("image", g.Image)
	add("config", g.Config)
	if g.Virtual {
		add("time", virtualTime)
	}
	return facts
}

// notWhole says why a run is not whole; "" of one that is.
func notWhole(run *result.Run) string {
	said := ""
	if run.Ending != nil {
		said = run.Ending.Why
	}
	if n := run.Missing(); n > 0 {
		if said != "" {
			said += "; "
		}
		said += fmt.Sprintf("%d planned cells were not played", n)
	}
	return said
}

// setting is a family and a mode.
type setting struct{ family, mode string }

// comparison is several runs held against each other, cell by cell, over all repeats.
type comparison struct {
	runs  int
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
	c.order = modeOrder(&runs[0].Header)
	for i, k := range runs {
		entries := map[string]map[setting]*entry{}
		for j := range k.Cells {
			cell := &k.Cells[j]
			s := setting{cell.Family, cell.Mode}
			if entries[cell.Scenario] == nil {
				entries[cell.Scenario] = map[setting]*entry{}
			}
			if entries[cell.Scenario][s] == nil {
				entries[cell.Scenario][s] = &entry{count: map[result.Status]int{}}
			}
			entries[cell.Scenario][s].add(cell)
		}
		for scenario, of := range entries {
			for s, e := range of {
				c.set(scenario, s, i, e.words())
			}
		}
	}
	slices.Sort(c.scenarios)
	for scenario, of := range c.settings {
		slices.SortFunc(of, func(a, b setting) int { return cmp.Or(cmp.Compare(a.family, b.family), c.order(a.mode, b.mode)) })
		for _, s := range of {
			c.cells++
			switch words := c.words[scenario][s]; {
			case differs(words):
				c.differ++
			case slices.Contains(words, ""):
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

// everyScenario stands in the place of a scenario.
const everyScenario = "every scenario"

// rows are the cells of interest, those that fared alike together.
func (c *comparison) rows(interesting func(words []string) bool) []comparedRow {
	rows, told := c.everywhere(interesting)
	for _, scenario := range c.scenarios {
		var of []setting
		for _, s := range c.settings[scenario] {
			if !told[s] && interesting(c.words[scenario][s]) {
				of = append(of, s)
			}
		}
		rows = append(rows, c.grouped(scenario, of, c.settings[scenario], func(s setting) []string { return c.words[scenario][s] })...)
	}
	return rows
}

// everywhere tells of families and modes in which all scenarios fared alike, such as one that a kernel lacks.
func (c *comparison) everywhere(interesting func(words []string) bool) (rows []comparedRow, told map[setting]bool) {
	words, mixed, n := map[setting][]string{}, map[setting]bool{}, map[setting]int{}
	var all []setting
	for _, scenario := range c.scenarios {
		for _, s := range c.settings[scenario] {
			w := c.words[scenario][s]
			if n[s]++; n[s] == 1 {
				words[s] = w
				all = append(all, s)
			}
			mixed[s] = mixed[s] || !interesting(w) || !slices.Equal(w, words[s])
		}
	}
	slices.SortFunc(all, func(a, b setting) int { return cmp.Or(cmp.Compare(a.family, b.family), c.order(a.mode, b.mode)) })
	told = map[setting]bool{}
	var of []setting
	for _, s := range all {
		if !mixed[s] && n[s] > 1 {
			told[s] = true
			of = append(of, s)
		}
	}
	return c.grouped(everyScenario, of, all, func(s setting) []string { return words[s] }), told
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

// alike says how many cells came to the same on all kernels.
func (c *comparison) alike() string {
	said := fmt.Sprintf("alike on all kernels: %d of %s", c.cells-c.differ-c.lacking, result.Plural(c.cells, "cell", "cells"))
	if c.differ > 0 {
		said += fmt.Sprintf("; different: %d", c.differ)
	}
	if c.lacking > 0 {
		said += fmt.Sprintf("; not played on all: %d", c.lacking)
	}
	return said
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/compare"
	"github.com/rpmig/rpmig/result"
)

// mutant is a kernel with a few lines changed.
type mutant struct {
	name     string   // of its file, without .patch; empty: the kernel as it is
	title    string   // what is wrong with the kernel then, as a clause
	caught   []string // the scenarios that have to turn red
	survives string   // why none of them can; empty: each has to
	patch    []byte   // all of the file
	files    []string // that it changes, from the kernel's root
}

// readMutants reads the patches of a folder.
func readMutants(dir string) ([]mutant, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	var mutants []mutant
	for _, name := range names { // sorted
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		m, err := parseMutant(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(name), err)
		}
		m.name = strings.TrimSuffix(filepath.Base(name), ".patch")
		mutants = append(mutants, m)
	}
	return mutants, nil
}

// changed is the line of a patch that names the file as it was.
var changed = regexp.MustCompile(`(?m)^--- a/(\S+)$`)

// parseMutant reads a patch: what is wrong, in one line; then "caught:" and the scenarios, or "survives:" and the reason; then an
// empty line and the diff.
func parseMutant(text []byte) (mutant, error) {
	m := mutant{patch: text}
	head, _, found := bytes.Cut(text, []byte("\n\n"))
	title, key, ok := strings.Cut(string(head), "\n")
	if !found || !ok || strings.TrimSpace(title) == "" {
		return m, errors.New("it does not begin with what is wrong, and who has to notice")
	}
	m.title = title
	switch name, value, _ := strings.Cut(key, ": "); {
	case strings.Contains(key, "\n"):
		return m, errors.New("its head has more than two lines")
	case name == "caught" && len(strings.Fields(value)) > 0:
		m.caught = strings.Fields(value)
	case name == "survives" && value != "":
		m.survives = value
	default:
		return m, fmt.Errorf("it should say who has caught it, or why it survives: %q", key)
	}
	for _, file := range changed.FindAllSubmatch(text, -1) {
		if !filepath.IsLocal(string(file[1])) {
			return m, fmt.Errorf("it changes %s, which is not the kernel's", file[1])
		}
		m.files = append(m.files, string(file[1]))
	}
	if m.files == nil {
		return m, errors.New("it changes no file")
	}
	return m, nil
}

// tally is what came of the cells of a scenario.
type tally struct{ pass, fail, err, skip int }

// outcome is what came of a kernel.
type outcome struct {
	cells  map[string]tally // by scenario
	reason string           // of the first FAIL
	by     string           // the cell of it
	doubt  string           // the first ERROR: the cell, and its reason
	ended  string           // why the guest ended before its run did; empty: it did not
	side   *compare.Side    // the run, for rpmig compare
	err    error            // nothing could be found out
}

// count makes an outcome of a run. A known bug that shows is a PASS: the mutants are not what it is about.
func count(run *result.Run) outcome {
	o := outcome{cells: map[string]tally{}, side: side(run)}
	for i := range run.Cells {
		c := &run.Cells[i]
		t := o.cells[c.Scenario]
		switch c.Status {
		case result.Fail:
			t.fail++
		case result.Error:
			t.err++
		case result.Skip:
			t.skip++
		default:
			t.pass++
		}
		o.cells[c.Scenario] = t
		if said := c.ID() + ": " + c.Reason; c.Status == result.Error && (o.doubt == "" || said < o.doubt) {
			o.doubt = said
		}
		if id := c.ID(); c.Status == result.Fail && (o.by == "" || id < o.by) { // they end in another order each time
			o.by, o.reason = id, c.Reason
		}
	}
	if run.Ending != nil {
		o.ended = run.Ending.Why
	} else if n := run.Missing(); n > 0 {
		o.ended = result.Plural(n, "cell is missing", "cells are missing")
	}
	return o
}

// total adds up all scenarios.
func (o *outcome) total() (t tally) {
	for _, s := range o.cells {
		t.pass, t.fail, t.err, t.skip = t.pass+s.pass, t.fail+s.fail, t.err+s.err, t.skip+s.skip
	}
	return t
}

func (o *outcome) summary() string {
	t := o.total()
	return fmt.Sprintf("%d FAIL, %d ERROR, %d PASS, %d SKIP", t.fail, t.err, t.pass, t.skip)
}

// spoilt says why this is not what comes of a kernel without a bug; empty: it is.
func (o *outcome) spoilt() string {
	t := o.total()
	switch {
	case o.err != nil:
		return o.err.Error()
	case o.ended != "":
		return o.ended
	case t.fail+t.err > 0:
		return fmt.Sprintf("%s: %s %s", o.summary(), o.by, o.reason)
	case t.pass == 0:
		return "every cell was skipped: its mutants would survive"
	}
	return ""
}

// wrong says what is wrong with a mutant after it was played; empty: nothing.
func (m *mutant) wrong(o outcome) (problem string, status int) {
	if m.name == "" {
		problem = o.spoilt()
		return problem, min(2*len(problem), 2)
	}
	if o.err != nil {
		return o.err.Error(), 2
	}
	t := o.total()
	if m.survives != "" {
		if t.fail > 0 {
			return fmt.Sprintf("it is caught after all, by %s: its patch should give no reason why it survives", o.by), 2
		}
		return "", 0
	}
	green := slices.DeleteFunc(slices.Clone(m.caught), func(s string) bool { return o.cells[s].fail > 0 })
	switch {
	case len(green) == 0:
		return "", 0
	case t.fail == 0 && t.err == 0:
		return "it survives", 1
	}
	for i, s := range green {
		if n := o.cells[s].err; n > 0 {
			green[i] += fmt.Sprintf(" (%d ERROR)", n)
		}
	}
	return "no FAIL of " + strings.Join(green, ", "), 1
}

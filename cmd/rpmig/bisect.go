//go:build linux

package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/vm"
)

// What git bisect run takes a status for (git-bisect(1)).
const (
	bisectGood  = 0
	bisectBad   = 1
	bisectSkip  = 125 // nothing is known of this one
	bisectAbort = 128 // nothing will be known of others either
)

// asksBisect tells whether --bisect is on a command line, however it is spelled, and even where the rest of it cannot be read. Where
// rpmig cannot run, it still must not end with a status that says that a kernel is bad.
func asksBisect(args []string) bool {
	if end := slices.Index(args, "--"); end >= 0 { // what follows is another's command line
		args = args[:end]
	}
	return slices.ContainsFunc(args, func(arg string) bool {
		name, value, given := strings.Cut(arg, "=")
		on, err := strconv.ParseBool(value)
		return (name == "--bisect" || name == "-bisect") && (!given || on || err != nil)
	})
}

// bisected is what rpmig ends with under --bisect: with a verdict of the scenario, or with none.
func (e *env) bisected(err error, runs []*result.Run) error {
	var status exitStatus
	switch {
	case errors.Is(err, vm.ErrNotBuilt):
		return &bisectError{err, bisectSkip}
	case err != nil && !errors.As(err, &status):
		return &bisectError{err, bisectAbort}
	}
	verdict, why := bisectVerdict(runs)
	if why != "" {
		fmt.Fprintf(e.stderr, "rpmig: no verdict for git bisect: %s\n", printable(why))
	}
	return exitStatus(verdict)
}

// bisectVerdict is that of the runs, and why there is none.
func bisectVerdict(runs []*result.Run) (status int, why string) {
	count := func(s result.Status) int {
		n := 0
		for _, run := range runs {
			n += run.Count(s)
		}
		return n
	}
	cells := 0
	for _, run := range runs {
		cells += len(run.Cells)
	}
	switch {
	case cells == 0:
		return bisectSkip, "nothing was played"
	case result.ExitCode(runs) == result.ExitSoftware:
		return bisectSkip, result.Summary(runs)
	case count(result.Fail) > 0:
		return bisectBad, ""
	case count(result.XFail) > 0:
		return bisectSkip, "a known bug is in the way; where that is what you look for, add --strict"
	case count(result.Skip) > 0:
		return bisectSkip, "not all of it can be played there"
	default:
		return bisectGood, ""
	}
}

// bisectError is an error that ends rpmig with a status of git bisect's.
type bisectError struct {
	error
	status int
}

func (e *bisectError) Unwrap() error { return e.error }

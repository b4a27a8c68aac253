package compare

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// migrates is the first release of Linux that migrates connections (commit 55d444b310c6 counts it).
const migrates = "5.14"

// contradictions are what a run shows of its kernel that the kernel's version denies. They say nothing of what changed, and end
// with no status of their own.
func contradictions(s *Side, which string) []Change {
	var moved, unwell int
	xpass := map[string][]string{} // by bug, cells
	var keys []Key
	for k, o := range s.cells {
		if o.moved {
			moved++
		}
		if o.unwell && s.Header.Mode(k.Mode).Saves != "" {
			unwell++
		}
		if o.xpass != "" {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, Key.compare)
	for _, k := range keys {
		bug := s.cells[k].xpass
		xpass[bug] = append(xpass[bug], k.String())
	}
	var found []Change
	say := func(format string, args ...any) {
		found = append(found, Change{Kind: Contradicts, Why: fmt.Sprintf("the %s run, on Linux %s: ", which, s.Header.Release()) + fmt.Sprintf(format, args...)})
	}
	before, known := s.Header.Before(migrates)
	switch {
	case known && before && moved > 0:
		say("%s, and Linux has that since %s: was it backported?", result.Plural(moved, "cell has migrated connections", "cells have migrated connections"), migrates)
	case known && !before && moved == 0 && unwell > 0:
		say("nothing migrated, and Linux does that since %s", migrates)
	}
	for _, bug := range slices.Sorted(maps.Keys(xpass)) {
		say("%s does not show, though this version has it: %s", bug, some(xpass[bug]))
	}
	return found
}

// some names the first few.
func some(names []string) string {
	const few = 3
	if len(names) <= few+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

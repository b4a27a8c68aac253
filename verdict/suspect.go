package verdict

import "github.com/rpmig/rpmig/result"

// Suspect is a known bug that may show in a cell.
type Suspect struct {
	result.Bug
	// Unknown tells that the kernel's version does not say whether it has the bug. It is neither excused then nor accused:
	// what looks like the bug is no FAIL, and a kernel without it is no surprise.
	Unknown bool
}

// Suspects picks those of the bugs that can show in a mode, and that the kernel has, or may have, by the release of Linux that
// it was made of.
func Suspects(bugs []result.Bug, upstream, mode string) []Suspect {
	var all []Suspect
	for _, b := range bugs {
		if in := b.In(upstream); in != result.HasNot && b.ShowsIn(mode) {
			all = append(all, Suspect{Bug: b, Unknown: in == result.MayHave})
		}
	}
	return all
}

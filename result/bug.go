package result

import (
	"fmt"
	"slices"
	"strings"
)

// Bug is a known bug of the kernel.
type Bug struct {
	ID   string `json:"id"`   // a CVE, or a name
	Doc  string `json:"doc"`  // one line
	Link string `json:"link"` // to read on, or the commit that fixes it
	// Fixed lists the first release of each stable series that has the fix, such as 6.12.86, oldest first. Series that
	// are newer than the last have it from their start; all others never got it.
	Fixed []string `json:"fixed"`
	// Check is the name of the one check that fails by it.
	Check string `json:"check"`
}

// Affects tells whether a kernel has the bug, by its release (uname -r). That is a hint and no more: distributions
// back-port fixes and keep their own numbers.
func (b Bug) Affects(release string) bool {
	have, ok := parseRelease(release)
	if !ok {
		return false
	}
	for _, f := range b.Fixed {
		fixed, ok := parseRelease(f)
		if !ok {
			return false
		}
		if have[0] == fixed[0] && have[1] == fixed[1] {
			return have[2] < fixed[2]
		}
	}
	last, _ := parseRelease(b.Fixed[len(b.Fixed)-1])
	return slices.Compare(have[:], last[:]) < 0
}

// parseRelease reads the numbers at the start of a release: 6.18.44-rc1 is 6, 18, 44; the third may be missing.
func parseRelease(s string) (n [3]int, ok bool) {
	read, _ := fmt.Sscanf(strings.SplitN(s, "-", 2)[0], "%d.%d.%d", &n[0], &n[1], &n[2])
	return n, read >= 2
}

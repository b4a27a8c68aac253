package result

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
)

// Bug is a known bug of the kernel.
type Bug struct {
	ID   string `json:"id"`   // a CVE, or a name
	Doc  string `json:"doc"`  // one line
	Link string `json:"link"` // to read on, or the commit that fixes it
	// Since is the first release that has the bug.
	Since string `json:"since"`
	// Fixed lists the first release of each series that has the fix, such as 6.12.86, oldest first. Series that are newer
	// than the last have it from their start.
	Fixed []string `json:"fixed"`
	// Still lists releases that are known to lack the fix, of series of which none is known to have it, oldest first.
	Still []string `json:"still,omitempty"`
	// Modes are those in which the bug can show: in all others its check says nothing of it. nil: every mode.
	Modes []string `json:"modes,omitempty"`
	// Check is the name of the one check that fails by it. A scenario of which several fail lists the bug with each of them.
	Check string `json:"check"`
}

// Presence is whether a kernel has a bug, as far as its version tells.
type Presence int

// The zero Presence neither accuses nor excuses.
const (
	MayHave Presence = iota
	Has
	HasNot
)

// In tells whether a kernel has the bug, by the release of Linux that it was made of; empty where that is not known. It is
// a hint and no more: distributions take fixes from later releases.
//
// Of a series that is older than the last one with the fix, and not listed, it is not known whether it got the fix or
// was given up before; nor of what came after a release that still had the bug.
func (b Bug) In(upstream string) Presence {
	have, err := parseVersion(upstream)
	if err != nil {
		return MayHave
	}
	if since, err := parseVersion(b.Since); err != nil || have.couldBe(since) {
		return MayHave
	} else if have.compare(since) < 0 {
		return HasNot
	}
	for _, s := range b.Still {
		if still, err := parseVersion(s); err == nil && have.series() == still.series() && have.compare(still) <= 0 {
			return Has
		}
	}
	var last version
	for _, f := range b.Fixed {
		fixed, err := parseVersion(f)
		if err != nil || have.couldBe(fixed) {
			return MayHave
		}
		last = fixed
		if have.series() == fixed.series() {
			if have.compare(fixed) < 0 {
				return Has
			}
			return HasNot
		}
	}
	if last.number != [3]int{} && have.compare(last) > 0 {
		return HasNot
	}
	return MayHave
}

// ShowsIn tells whether the bug can show in a mode.
func (b Bug) ShowsIn(mode string) bool { return b.Modes == nil || slices.Contains(b.Modes, mode) }

// Validate refuses a bug that
//   - lacks its name, its line, its link or its check;
//   - names a release that is not one of Linux;
//   - does not list its fixes from the oldest series to the newest, or what still has it;
//   - is fixed in a series that still has it.
func (b Bug) Validate() error {
	if b.ID == "" || b.Doc == "" || b.Link == "" || b.Check == "" || len(b.Fixed) == 0 {
		return fmt.Errorf("bug %q: half written", b.ID)
	}
	since, err := parseVersion(b.Since)
	if err != nil {
		return fmt.Errorf("bug %s: since %w", b.ID, err)
	}
	fixed, err := ascending(since, b.Fixed)
	if err != nil {
		return fmt.Errorf("bug %s: fixed in %w", b.ID, err)
	}
	still, err := ascending(since, b.Still)
	if err != nil {
		return fmt.Errorf("bug %s: still in %w", b.ID, err)
	}
	for _, s := range still {
		if s.compare(fixed[len(fixed)-1]) > 0 || slices.ContainsFunc(fixed, func(f version) bool { return f.series() == s.series() }) {
			return fmt.Errorf("bug %s: it is fixed in the series %v, and still there", b.ID, s.series())
		}
	}
	return nil
}

// ascending parses versions of which each is to come after what is before it.
func ascending(last version, texts []string) ([]version, error) {
	var all []version
	for _, s := range texts {
		v, err := parseVersion(s)
		if err != nil {
			return nil, err
		}
		if v.compare(last) <= 0 {
			return nil, fmt.Errorf("%s, which does not come after what is before it", s)
		}
		all, last = append(all, v), v
	}
	return all, nil
}

// version is a release of Linux, or a candidate for one.
type version struct {
	number    [3]int
	candidate int // as in 6.12-rc6; 0: it is no candidate
}

var versionText = regexp.MustCompile(`^(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:-rc(\d{1,6}))?$`)

// parseVersion reads a version; its third number may be missing.
func parseVersion(s string) (v version, err error) {
	m := versionText.FindStringSubmatch(s)
	if m == nil {
		return v, fmt.Errorf("%q: no version of Linux", s)
	}
	for i := range v.number {
		v.number[i], _ = strconv.Atoi(m[i+1]) // nothing or digits
	}
	v.candidate, _ = strconv.Atoi(m[4])
	return v, nil
}

func (v version) series() [2]int { return [2]int(v.number[:2]) }

// compare compares without the candidates.
func (v version) compare(w version) int { return slices.Compare(v.number[:], w.number[:]) }

// couldBe tells whether a candidate may or may not have what is in its release.
func (v version) couldBe(w version) bool { return v.candidate > 0 && v.compare(w) == 0 }

// startsWithVersion finds the numbers at the start of a release, as uname -r prints it.
var startsWithVersion = regexp.MustCompile(`^\d{1,6}\.\d{1,6}(\.\d{1,6})?`)

// Release is the kernel's, as uname -r prints it, and the release of Linux that it was made of where the former does not
// say it: "6.1.0-52-cloud-amd64 (6.1.180)".
func (h *Header) Release() string {
	upstream, err := parseVersion(h.Upstream)
	if err != nil {
		return h.Kernel
	}
	says, err := parseVersion(startsWithVersion.FindString(h.Kernel))
	if err == nil && says.compare(upstream) == 0 {
		return h.Kernel
	}
	return fmt.Sprintf("%s (%s)", h.Kernel, h.Upstream)
}

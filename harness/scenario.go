// Package harness is the engine: it plans which scenarios are played in which family and mode, gives each cell a network
// namespace and witnesses of its own, and judges what they saw.
package harness

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/result"
)

// Mode is a way to ask the kernel for migration; see package migrate.
type Mode = migrate.Mode

// Scenario is a case that can be played. It is a value: its file under scenarios/ holds all there is to know of it.
type Scenario struct {
	Name string // lower case, as typed after "rpmig run"
	Doc  string // a title, an empty line, and the story
	Path string // the kernel functions that decide the connection's fate
	// Play stages the case with the words of the Lab. A word that cannot be done ends the cell as an ERROR.
	Play func(*Lab)
	// Expect tells what the kernel should do in a mode.
	Expect func(Mode) Expectation
}

// Title is the first line of the Doc.
func (s *Scenario) Title() string {
	title, _, _ := strings.Cut(s.Doc, "\n")
	return title
}

// Story is the Doc without its title.
func (s *Scenario) Story() string {
	_, story, _ := strings.Cut(s.Doc, "\n")
	return strings.TrimSpace(story)
}

var scenarioName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

// Validate refuses scenarios that are half written or share a name.
func Validate(all []Scenario) error {
	seen := map[string]bool{}
	for i, s := range all {
		switch {
		case !scenarioName.MatchString(s.Name):
			return fmt.Errorf("scenario %d: bad name %q", i, s.Name)
		case seen[s.Name]:
			return fmt.Errorf("scenario %s: the name is taken", s.Name)
		case s.Title() == "" || s.Story() == "":
			return fmt.Errorf("scenario %s: the doc wants a title, an empty line and a story", s.Name)
		case s.Path == "" || s.Play == nil || s.Expect == nil:
			return fmt.Errorf("scenario %s: path, play or expectation is missing", s.Name)
		}
		seen[s.Name] = true
	}
	return nil
}

// Expectation is what the kernel should do with each of the staged connections.
type Expectation struct {
	Lives bool // accepted on the surviving listener, with its data; else lost
	// Flavour is that of the one reset which the server sends for a lost connection.
	Flavour result.Flavour
	// Counted is by how much each counter moves for one connection.
	Counted map[string]int
	// Asked is how often a migrate program is asked about migrating one connection.
	Asked int
	// Strays is how many segments of one connection find no socket but a listener, so that a program is asked anew.
	Strays int
}

// String is the expectation in a few words, for help texts.
func (e Expectation) String() string {
	if e.Lives {
		return "lives: accepted on the new listener, no RST"
	}
	return "lost: the server sends " + e.Flavour.String()
}

// Family is an address family: where listeners bind and clients connect.
type Family struct {
	Name   string
	Domain int        // AF_INET or AF_INET6
	Addr   netip.Addr // loopback; never looked up by name
}

var families = []Family{
	{"ipv4", unix.AF_INET, netip.AddrFrom4([4]byte{127, 0, 0, 1})},
	{"ipv6", unix.AF_INET6, netip.IPv6Loopback()},
}

// Families returns every family, in the order in which reports show them.
func Families() []Family { return append([]Family(nil), families...) }

// ParseFamilies reads a comma list of families, or "all", into table order, each once.
func ParseFamilies(list string) ([]Family, error) {
	if list == "all" {
		return Families(), nil
	}
	want := map[string]bool{}
	for name := range strings.SplitSeq(list, ",") {
		want[strings.TrimSpace(name)] = true
	}
	var found []Family
	for _, f := range families {
		if want[f.Name] {
			found = append(found, f)
			delete(want, f.Name)
		}
	}
	for name := range want {
		return nil, fmt.Errorf("no address family %q: want ipv4, ipv6, or all", name)
	}
	return found, nil
}

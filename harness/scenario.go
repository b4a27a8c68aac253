// Package harness is the engine: it plans which scenarios are played in which family and mode, gives each cell a network
// namespace and witnesses of its own, and judges what they saw.
package harness

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
)

// What scenarios are written in besides the words of the Lab.
type (
	// Mode is a way to ask the kernel for migration; see package migrate.
	Mode = migrate.Mode
	// Policy is what a mode's program does.
	Policy = migrate.Policy
	// Sysctl is a setting of the cell's namespace.
	Sysctl = netns.Sysctl
)

// Scenario is a case that can be played. It is a value: its file under scenarios/ holds all there is to know of it.
type Scenario struct {
	Name    string // lower case, as typed after "rpmig run"
	Section string // of the talk, or one of the other sections below
	Doc     string // a title, an empty line, and the story
	Path    string // the kernel functions that decide the connection's fate
	// Timers names the kernel timers that the case has to sit out, and Cost is what they add up to.
	Timers string
	Cost   time.Duration

	// Busy is a case that keeps processors busy instead of waiting: only as many are played at a time as there are.
	Busy bool

	// Modes and Families that make sense for the case; nil is all of them.
	Modes    []string
	Families []string
	// Connections is how many clients there are unless the user says otherwise; 0 is 1.
	Connections int
	// Ends is how many sockets there are to each connection; 0 is 2, a client's and what accept returns for it.
	Ends int
	// Listeners is how many there are at a time; 0 is few.
	Listeners int
	// Frames is room in the capture for more than those connections and their clients' retransmissions.
	Frames int
	// Weather is what the case wants of its namespace besides netns.Weather.
	Weather []Sysctl

	// Probe tells whether this kernel and this user can play it at all: nil, a kernel.NotSupportedError, or an error
	// that means it could not find out. It runs in a namespace of netns.Do. Nil: no question.
	Probe func() error
	// Play stages the case with the words of the Lab. A word that cannot be done ends the cell as an ERROR.
	Play func(*Lab)
	// Expect tells what the kernel should do in a mode.
	Expect func(Mode) Expectation
	// Bugs are the known kernel bugs that make it do otherwise.
	Bugs []result.Bug
}

// Sections, in the order in which they are listed. The first are those of the talk.
const (
	SectionWhat      = "What is SO_REUSEPORT?"
	SectionMisbehave = "When SO_REUSEPORT misbehaves"
	SectionWorkround = "Workarounds"
	SectionWhere     = "Where SO_REUSEPORT misbehaves"
	SectionHow       = "How to make it acceptable"
	SectionSelftest  = "The kernel's selftest migrate_reuseport"
	SectionBeyond    = "Beyond the talk"
)

// Sections lists them.
func Sections() []string {
	return []string{SectionWhat, SectionMisbehave, SectionWorkround, SectionWhere, SectionHow, SectionSelftest, SectionBeyond}
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

// sitsOutSYNACKTimer tells whether the case waits for that timer; all others must be over before it fires.
func (s *Scenario) sitsOutSYNACKTimer() bool { return strings.Contains(s.Timers, "SYN+ACK timer") }

// PlaysMode tells whether the scenario makes sense in the mode.
func (s *Scenario) PlaysMode(m Mode) bool { return s.Modes == nil || slices.Contains(s.Modes, m.Name) }

// PlaysFamily tells whether the scenario makes sense in the family.
func (s *Scenario) PlaysFamily(f Family) bool {
	return s.Families == nil || slices.Contains(s.Families, f.Name)
}

var scenarioName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*(/[a-z0-9]+(-[a-z0-9]+)*)?$`)

// Validate refuses scenarios that are half written or share a name.
func Validate(all []Scenario) error {
	seen := map[string]bool{}
	for i, s := range all {
		switch {
		case !scenarioName.MatchString(s.Name):
			return fmt.Errorf("scenario %d: bad name %q", i, s.Name)
		case seen[s.Name]:
			return fmt.Errorf("scenario %s: the name is taken", s.Name)
		case !slices.Contains(Sections(), s.Section):
			return fmt.Errorf("scenario %s: no section %q", s.Name, s.Section)
		case s.Title() == "" || s.Story() == "":
			return fmt.Errorf("scenario %s: the doc wants a title, an empty line and a story", s.Name)
		case s.Path == "" || s.Play == nil || s.Expect == nil:
			return fmt.Errorf("scenario %s: path, play or expectation is missing", s.Name)
		case (s.Timers == "") != (s.Cost == 0):
			return fmt.Errorf("scenario %s: timers and their cost go together", s.Name)
		}
		for _, m := range s.Modes {
			if !slices.Contains(migrate.Names(), m) {
				return fmt.Errorf("scenario %s: no mode %q", s.Name, m)
			}
		}
		for _, f := range s.Families {
			if !slices.ContainsFunc(families, func(x Family) bool { return x.Name == f }) {
				return fmt.Errorf("scenario %s: no family %q", s.Name, f)
			}
		}
		seen[s.Name] = true
	}
	return nil
}

// Expectation is what the kernel should do with each of the staged connections.
type Expectation struct {
	Lives bool // accepted with its data by some listener; else lost
	// Flavour is that of the one reset which the server sends for a lost connection.
	Flavour result.Flavour
	// Owner is whose reset it is, and Reason why it is sent, in the kernel's words. They are looked at where there is a
	// trace, and the reason where the kernel gives one (Linux 6.10). Empty is not looked at.
	Owner  result.Owner
	Reason string
	// Migrations is how often each survivor has migrated: what TCPMigrateReqSuccess counts of it.
	Migrations int
	// Counted is by how much each counter moves for one connection.
	Counted map[string]int
	// Asked is how often a migrate program is asked about migrating one connection.
	Asked int
	// Strays is how many segments of one connection find no socket but a listener, so that a program is asked anew.
	Strays int
	// Client is what a client's socket says in the end; empty is EAGAIN for the living and ECONNRESET for the lost.
	Client string
	// Loss is how many of a million connections may be lost in a Stream.
	Loss Range
	// Facts are what the scenario should find out by itself, by name: what Lab.Fact should give; or a Range; or Each,
	// for what depends on how many connections there are.
	Facts map[string]any
}

// Each is an expectation of a Fact: so many for each connection.
type Each int

// Range is an expectation of a Fact that is a number: from Min to Max, both included.
type Range struct {
	Min, Max float64
	Unit     string
}

func (r Range) String() string {
	return strings.TrimSpace(fmt.Sprintf("%g to %g %s", r.Min, r.Max, r.Unit))
}

// String is the expectation in a few words, for help texts.
func (e Expectation) String() string {
	switch {
	case e.Loss.Unit != "":
		return "loses " + e.Loss.String()
	case !e.Lives:
		return "lost: the server sends " + e.Flavour.String()
	case e.Migrations == 0:
		return "lives, without migration"
	case e.Migrations > 1:
		return fmt.Sprintf("lives: migrates %d times", e.Migrations)
	default:
		return "lives: migrates to the new listener"
	}
}

// Family is an address family: where listeners bind and clients connect.
type Family struct {
	Name   string
	Listen netip.Addr // what listeners bind to
	Dial   netip.Addr // what clients connect to; never looked up by name
}

// Domain is the listeners' AF_INET or AF_INET6.
func (f Family) Domain() int { return domain(f.Listen) }

// socketFamilies are those in which sock_diag lists the cell's sockets, both ends of each connection.
func (f Family) socketFamilies() []uint8 {
	listen, dial := uint8(domain(f.Listen)), uint8(domain(f.Dial))
	if listen == dial {
		return []uint8{listen}
	}
	return []uint8{listen, dial}
}

func domain(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

var families = []Family{
	{"ipv4", netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.AddrFrom4([4]byte{127, 0, 0, 1})},
	{"ipv6", netip.IPv6Loopback(), netip.IPv6Loopback()},
	// An IPv6 wildcard listener with an IPv4 client, as most servers are set up.
	{"dual", netip.IPv6Unspecified(), netip.AddrFrom4([4]byte{127, 0, 0, 1})},
}

// Families returns every family, in the order in which reports show them.
func Families() []Family { return append([]Family(nil), families...) }

// FamilyNames returns their names.
func FamilyNames() []string {
	var names []string
	for _, f := range families {
		names = append(names, f.Name)
	}
	return names
}

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
		return nil, fmt.Errorf("no address family %q: want %s, or all", name, strings.Join(FamilyNames(), ", "))
	}
	return found, nil
}

// Package lab plays one cell: a scenario in a family and a mode, in a network namespace with witnesses of its own. The Lab is what
// a scenario is written in.
package lab

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// What scenarios are written in besides the methods of the Lab.
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
	// Timers are the kernel timers that the case has to sit out, and Cost is what they add up to.
	Timers []Timer
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
	// OnlyItsOwn keeps the Lab from opening further listeners in a mode whose program chooses, beside the one that it is to
	// choose: the case itself has several, or one in which the program's choice is not there to be had.
	OnlyItsOwn bool
	// Listeners is how many there are at a time; 0 is few.
	Listeners int
	// Frames is room in the capture for more than those connections and their clients' retransmissions.
	Frames int
	// Sysctls are what the case wants of its namespace besides netns.BaseSysctls.
	Sysctls []Sysctl

	// Probe tells whether this kernel and this user can play it at all: nil, a kernel.NotSupportedError, or an error
	// that means it could not find out. It runs in a namespace of netns.Do. Nil: no question.
	Probe func() error
	// Play stages the case with the methods of the Lab. One that cannot be done ends the cell as an ERROR.
	Play func(*Lab)
	// Expect tells what the kernel should do in a mode.
	Expect func(Mode) verdict.Expectation
	// Bugs are the known kernel bugs that make it do otherwise. The check that fails by one has the same name in every mode.
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
func (s *Scenario) sitsOutSYNACKTimer() bool {
	return slices.ContainsFunc(s.Timers, func(t Timer) bool { return t.SYNACK })
}

// Sockets is how many TCP sockets a cell of that many connections holds open at most.
func (s *Scenario) Sockets(connections int) int {
	const fewListeners = 8 + others // the selftest's five, and what the aftercare opens
	return cmp.Or(s.Listeners, fewListeners) + cmp.Or(s.Ends, 2)*connections
}

// TimerNames are the names of its kernel timers in a list for people; empty where there are none.
func (s *Scenario) TimerNames() string {
	var names []string
	for _, t := range s.Timers {
		names = append(names, t.Name)
	}
	return strings.Join(names, ", ")
}

// Timer is a kernel timer that a case sits out.
type Timer struct {
	Name   string // for people
	SYNACK bool   // it is the SYN+ACK timer; every case without it must be over before that fires
}

// The timers of most cases.
var (
	SYNACKTimer         = Timer{Name: "the SYN+ACK timer (1 s)", SYNACK: true}
	DelayedACKTimer     = Timer{Name: "the server's delayed ACK (TCP_DELACK_MIN, 40 ms)"}
	RetransmissionTimer = Timer{Name: "the client's first retransmission (200 ms)"}
)

// ModesIn names the modes in which something holds.
func ModesIn(holds func(Mode) bool) []string {
	var names []string
	for _, m := range migrate.Modes() {
		if holds(m) {
			names = append(names, m.Name)
		}
	}
	return names
}

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
		case (s.Timers == nil) != (s.Cost == 0):
			return fmt.Errorf("scenario %s: timers and their cost go together", s.Name)
		}
		named := slices.Clone(s.Modes)
		for _, b := range s.Bugs {
			if err := b.Validate(); err != nil {
				return fmt.Errorf("scenario %s: %w", s.Name, err)
			}
			named = append(named, b.Modes...)
		}
		for _, m := range named {
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

// Package compare tells what changed from one run to another, keeps what is known to fail in a baseline, and joins the parts of a
// run that was played on several machines. All of it is made from ledgers.
package compare

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// Key names a cell over all its repeats.
type Key struct{ Scenario, Family, Mode string }

// String is the cell's name in KTAP, as quiz2.ipv4.sysctl. It stays the same from version to version: see docs/STABILITY.md.
func (k Key) String() string { return k.Scenario + "." + k.Family + "." + k.Mode }

// parseKey reads what String has written.
func parseKey(name string) (Key, error) {
	parts := strings.Split(name, ".")
	if len(parts) < 3 || slices.Contains(parts, "") {
		return Key{}, fmt.Errorf("%q is no cell: want SCENARIO.FAMILY.MODE", name)
	}
	n := len(parts)
	return Key{strings.Join(parts[:n-2], "."), parts[n-2], parts[n-1]}, nil
}

func (k Key) compare(other Key) int {
	return cmp.Or(cmp.Compare(k.Scenario, other.Scenario), cmp.Compare(k.Family, other.Family), cmp.Compare(k.Mode, other.Mode))
}

// Side is what a run came to.
type Side struct {
	Path   string // as the user named it
	Run    string // its name among several in one folder; empty: it is the only one
	Number int    // among those of Path, from 0
	Header result.Header
	// Missing is how many planned cells were not played.
	Missing int
	Ending  *result.Ending

	cells map[Key]*outcome
}

// NewSide is a run of which nothing has ended yet.
func NewSide(path, run string) *Side { return &Side{Path: path, Run: run, cells: map[Key]*outcome{}} }

// Played is how many cells there are, each once however often it was played.
func (s *Side) Played() int { return len(s.cells) }

// name is the side in a few words.
func (s *Side) name() string {
	if s.Run != "" {
		return s.Path + " (" + s.Run + ")"
	}
	return s.Path
}

// outcome is what a cell came to over its repeats.
type outcome struct {
	plays  [5]int // by place in result.Statuses
	worst  *story // nil: every play was a PASS
	xpass  string // the bug that a PASS shows to be absent
	times  []float64
	moved  bool // a connection has migrated
	unwell bool // a FAIL that lost connections, and none of them migrated
	repeat int  // of the first play
}

// story is why a play was no PASS.
type story struct {
	status result.Status
	repeat int // of which it is told
	reason string
	bug    string
	failed []string // names of its checks, sorted, each once
	// lasting is the reason without what differs from play to play: what was wanted first, and not what was seen.
	lasting string
}

// severity orders statuses by how much is to be said of them.
func severity(s result.Status) int {
	return slices.Index([]result.Status{result.Pass, result.Skip, result.Error, result.XFail, result.Fail}, s)
}

func rank(s result.Status) int { return slices.Index(result.Statuses(), s) }

// Shown is the repeat of a cell that tells most of what it came to; 0: there is none.
func (s *Side) Shown(k Key) int {
	switch o := s.cells[k]; {
	case o == nil:
		return 0
	case o.worst != nil:
		return o.worst.repeat
	default:
		return o.repeat
	}
}

// Add takes a play. It must be as result.Skim hands it over, or whole.
func (s *Side) Add(c *result.Cell) {
	k := Key{c.Scenario, c.Family, c.Mode}
	o := s.cells[k]
	if o == nil {
		o = &outcome{repeat: c.Repeat}
		s.cells[k] = o
	}
	o.plays[rank(c.Status)]++
	moved := c.Counters[result.MigrateSuccess] > 0
	o.moved = o.moved || moved
	o.unwell = o.unwell || c.Status == result.Fail && c.Connections.Lost > 0 && !moved
	if c.Status == result.Pass && c.Bug != "" {
		o.xpass = c.Bug
	}
	if c.Status != result.Error && c.Status != result.Skip && c.Void == nil { // which was played alone, and so took less
		o.times = append(o.times, c.Elapsed)
	}
	if c.Status != result.Pass && (o.worst == nil || severity(c.Status) > severity(o.worst.status)) {
		o.worst = &story{c.Status, c.Repeat, c.Reason, c.Bug, failed(c), lasting(c)}
	}
}

// failed are the names of the checks that failed.
func failed(c *result.Cell) []string {
	var names []string
	for _, k := range c.Checks {
		if !k.OK {
			names = append(names, k.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func lasting(c *result.Cell) string {
	if failed := c.Failed(); len(failed) > 0 && c.Status != result.Error {
		return failed[0].Name + ": want " + failed[0].Want
	}
	return c.Reason
}

func (o *outcome) count(s result.Status) int { return o.plays[rank(s)] }

// broken is how often the kernel did otherwise, whether a known bug explains it or not.
func (o *outcome) broken() int { return o.count(result.Fail) + o.count(result.XFail) }

// concluded is how many plays tell something of the kernel.
func (o *outcome) concluded() int { return o.count(result.Pass) + o.broken() }

// all is how many plays there were.
func (o *outcome) all() int {
	n := 0
	for _, k := range o.plays {
		n += k
	}
	return n
}

// state is what a cell comes to as a whole.
type state int

const (
	absent    state = iota // it was not planned
	skipped                // it cannot be played there
	erred                  // no play came to a conclusion
	concluded              // at least one did
)

func (o *outcome) state() state {
	switch {
	case o == nil:
		return absent
	case o.concluded() > 0:
		return concluded
	case o.count(result.Error) > 0:
		return erred
	default:
		return skipped
	}
}

// steady tells that every play that came to a conclusion came to the same.
func (o *outcome) steady() bool { return o.broken() == 0 || o.broken() == o.concluded() }

// same tells whether two cells that are broken are so in the same way, as far as that is known.
func (s *story) same(other *story) bool {
	if s == nil || other == nil {
		return s == other
	}
	told := func(s *story) bool { return len(s.failed) > 0 || s.lasting != "" } // a baseline need not
	return s.status == other.status && s.bug == other.bug && (!told(s) || !told(other) || slices.Equal(s.failed, other.failed))
}

// Finish notes how a run ended, of which so many cells were added.
func (s *Side) Finish(run *result.Run, cells int) {
	s.Header, s.Ending = run.Header, run.Ending
	s.Missing = max(run.Header.Cells-cells, 0)
}

package harness

import (
	"cmp"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
)

// Options are the user's choices for a run.
type Options struct {
	Scenarios   []Scenario
	Families    []Family
	Modes       []Mode
	NoControl   bool
	Repeat      int // how often each cell is played; 0 means until something fails
	UntilFail   bool
	Parallel    int    // cells side by side; 0 means what suits the machine
	Connections int    // clients in a cell; 0 means as many as the scenario says
	Kernel      string // release, to tell which known bugs it has; empty takes none for granted
	Port        uint16
	TimeoutMul  float64
	Strict      bool // a known bug excuses nothing
	RealTimers  bool // the talk's kernel timers, not shorter ones; deadlines stretch with them
	Dropper     netns.Dropper
	Again       netns.Dropper // of the repeats after the first; nil: the same
	Progress    *Progress     // nil: nobody asks
	// Tracer returns the kernel's trace once it is open, which takes as long as a cell needs to get ready; it may be called
	// from many goroutines. nil, or a nil tracer: no trace. An error ends the run. With one that is HostWide, cells are got
	// ready side by side, and played one at a time.
	Tracer func() (*trace.Tracer, error)
	Tables bool // note the socket tables at each step, which a tracer implies
	Keep   bool // the evidence of every cell is kept, not only that of FAIL and ERROR
}

// Select returns the scenarios that a comma list of names and globs, or "all", stands for, in list order, each once.
func Select(all []Scenario, list string) ([]Scenario, error) {
	if list == "all" {
		return all, nil
	}
	chosen := map[string]bool{}
	for pattern := range strings.SplitSeq(list, ",") {
		found := false
		for _, s := range all {
			match, err := path.Match(pattern, s.Name)
			if err != nil {
				return nil, fmt.Errorf("bad pattern %q: %w", pattern, err)
			}
			if match {
				chosen[s.Name], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("no scenario %q", pattern)
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(s Scenario) bool { return !chosen[s.Name] }), nil
}

// slot is a cell of the plan: what is the same in each of its repeats.
type slot struct {
	scenario *Scenario
	family   Family
	mode     Mode
	skip     string // why it cannot run here; empty: it can
}

// group is a set of cells that share an "off" control.
type group []slot

// plan lists what one repeat plays: scenario × family × mode, as far as the scenario makes sense there. A mode other
// than off brings its control with it. What takes longest comes first, so that nothing waits for it in the end.
func plan(o Options, cannot func(*Scenario, Family, Mode) string) []group {
	modes := o.Modes
	if !o.NoControl && !slices.ContainsFunc(modes, isOff) {
		modes = append([]Mode{migrate.Off()}, modes...)
	}
	var groups []group
	for i := range o.Scenarios {
		s := &o.Scenarios[i]
		// A control alone is not what was asked for.
		if !slices.ContainsFunc(o.Modes, s.PlaysMode) {
			continue
		}
		for _, f := range o.Families {
			if !s.PlaysFamily(f) {
				continue
			}
			var g group
			for _, m := range modes {
				if s.PlaysMode(m) {
					g = append(g, slot{scenario: s, family: f, mode: m, skip: cannot(s, f, m)})
				}
			}
			groups = append(groups, g)
		}
	}
	slices.SortStableFunc(groups, func(a, b group) int { return cmp.Compare(b[0].scenario.Cost, a[0].scenario.Cost) })
	return groups
}

// connections is how many clients a scenario has.
func (o *Options) connections(s *Scenario) int { return cmp.Or(o.Connections, s.Connections, 1) }

func isOff(m Mode) bool { return m.Name == migrate.Off().Name }

// cellsPerCPU is how many cells are played side by side on each processor. A cell spends most of its time waiting for
// the kernel's timers and grace periods; with more, the staging of one takes so long that the SYN+ACK timer fires. Cells
// of one connection are light.
const cellsPerCPU, lightCellsPerCPU = 24, 32

// closing is how many descriptors of a cell are closed while another cell goes on in its place: its ring, and the netlink
// socket of its rule.
const closing = 2

// descriptors is how many files a cell holds open at most: its ring, two listeners, both ends of each connection, a
// program with its maps, an epoll, netlink sockets, the pipes of an iptables that it runs, and what is still closing of the
// cell before it.
func descriptors(connections int) int { return 17 + closing + 2*connections }

// reserved is how many descriptors the process holds beside its cells: the standard streams, the ledger, the runtime.
const reserved = 20

// LimitError says that RLIMIT_NOFILE has no room for what was asked for.
type LimitError struct{ Need, Have, Parallel int }

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s side by side need %d file descriptors, and the limit is %d",
		plural(e.Parallel, "cell", "cells"), e.Need, e.Have)
}

// Hint is what to type next.
func (e *LimitError) Hint() string {
	return fmt.Sprintf("ulimit -n %d, or a smaller --parallel or --connections", e.Need)
}

// parallel settles how many cells are played side by side, within the limit on descriptors; busy ones come on top.
func parallel(asked, connections, busy int) (int, error) {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 0, fmt.Errorf("read the limit on file descriptors: %w", err)
	}
	have := int(min(lim.Cur, 1<<30))
	n := asked
	if asked == 0 {
		perCPU := cellsPerCPU
		if connections == 1 {
			perCPU = lightCellsPerCPU
		}
		n = min(perCPU*runtime.NumCPU(), max((have-reserved)/descriptors(connections)-busy, 1))
	}
	if need := reserved + (n+busy)*descriptors(connections); need > have {
		return 0, &LimitError{Need: need, Have: have, Parallel: n + busy}
	}
	return n, nil
}

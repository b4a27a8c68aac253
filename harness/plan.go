// Package harness plays a run: it plans which scenarios are played in which family and mode, plays cells side by side, and hands
// over what each came to, beside its control.
package harness

import (
	"cmp"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
)

// Options are the user's choices for a run.
type Options struct {
	lab.Settings
	Scenarios   []lab.Scenario
	Families    []lab.Family
	Modes       []migrate.Mode
	NoControl   bool
	Repeat      int // how often each cell is played; 0 means until something fails
	UntilFail   bool
	Parallel    int  // cells side by side; 0 means what suits the machine
	Connections int  // clients in a cell; 0 means as many as the scenario says
	NoConfirm   bool // no cell is played again: neither a FAIL nor what was void
	Dropper     netns.Dropper
	Again       netns.Dropper // of the repeats after the first; nil: the same
	Progress    *Progress     // nil: there is no live line
	Watch       Watch         // nil: none
	Faults      Faults        // nil: the kernel is not asked for faults of its own
	Shard       Shard         // the part of the plan that is played; the zero one is all of it
}

// Select returns the scenarios that a comma list of names and globs, or "all", stands for, in list order, each once.
func Select(all []lab.Scenario, list string) ([]lab.Scenario, error) {
	if list == "all" {
		return all, nil
	}
	chosen := map[string]bool{}
	for pattern := range strings.SplitSeq(list, ",") {
		pattern = strings.TrimSpace(pattern)
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
	return slices.DeleteFunc(slices.Clone(all), func(s lab.Scenario) bool { return !chosen[s.Name] }), nil
}

// plannedCell is a cell of the plan: what is the same in each of its repeats.
type plannedCell struct {
	lab.Case
	order int    // within its group
	skip  string // why it cannot run here; empty: it can
}

// group is a set of cells that share an "off" control.
type group []plannedCell

// plan lists what one repeat plays: scenario × family × mode, as far as the scenario makes sense there. A mode other
// than off brings its control with it. What takes longest comes first, so that nothing waits for it in the end.
func plan(o Options, cannot func(*lab.Scenario, lab.Family, migrate.Mode) string) []group {
	modes := o.Modes
	if !o.NoControl && !slices.ContainsFunc(modes, isOff) {
		modes = append([]migrate.Mode{migrate.Off()}, modes...)
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
					g = append(g, plannedCell{Case: lab.Case{Scenario: s, Family: f, Mode: m}, order: len(g), skip: cannot(s, f, m)})
				}
			}
			groups = append(groups, g)
		}
	}
	slices.SortStableFunc(groups, func(a, b group) int { return cmp.Compare(b[0].Scenario.Cost, a[0].Scenario.Cost) })
	return o.Shard.of(groups)
}

// connections is how many clients a scenario has.
func (o *Options) connections(s *lab.Scenario) int { return cmp.Or(o.Connections, s.Connections, 1) }

func isOff(m migrate.Mode) bool { return m.Name == migrate.Off().Name }

// placesPerCPU is how many cells are at work on each processor at a time. One that sits a kernel timer out has left its
// place to another. With many more, the staging of one takes so long that the SYN+ACK timer fires; with fewer, a processor
// waits for the grace periods that the kernel takes to open a packet socket.
const placesPerCPU = 8

// mostPerCPU is how many cells there are at a time, for each processor, with those that sit a timer out. Each has a namespace
// and a packet ring, some half a megabyte in the kernel.
const mostPerCPU = 128

// nonSocketFDs is how many files a cell holds open at most that are no TCP sockets: its ring, a program with its maps, an epoll,
// netlink sockets, files of /proc, and the pipes of an iptables that it runs.
const nonSocketFDs = 18

// descriptors is how many files a cell holds open at most.
func descriptors(s *lab.Scenario, connections int) int { return nonSocketFDs + s.Sockets(connections) }

// processFDs is how many descriptors the process holds beside its cells: the standard streams, the ledger, the runtime.
const processFDs = 20

// room is what there is for cells.
type room struct {
	places int  // how many are at work at a time; busy ones come on top
	cells  int  // how many there may be at a time in all
	keep   bool // a cell keeps its place until it ends
	files  int  // descriptors that all may hold together
}

// share is how much of room.files a cell takes: its descriptors, or more where there is room for fewer cells.
func (r room) share(s *lab.Scenario, connections int) int64 {
	return int64(max(descriptors(s, connections), r.files/r.cells))
}

// What a run takes beside its cells, and a cell at most: that of two workers, each a process with a handful of threads, or of a
// stream's clients.
var (
	takenByRun  = kernel.Take{Threads: 6, MiB: 30}
	takenByCell = kernel.Take{Threads: 8, MiB: 16}
)

// makeRoom settles how many cells are played side by side, within the limits on this process.
func makeRoom(o Options) (room, error) {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return room{}, fmt.Errorf("read the limit on file descriptors: %w", err)
	}
	most := 0
	for i := range o.Scenarios {
		most = max(most, descriptors(&o.Scenarios[i], o.connections(&o.Scenarios[i])))
	}
	r := room{places: o.Parallel, keep: true, files: int(min(lim.Cur, 1<<30)) - processFDs}
	if o.Parallel == 0 {
		r.places, r.keep = placesPerCPU*runtime.NumCPU(), false
	}
	atLeast := max(o.Parallel, 1)
	if need := atLeast * most; need > r.files {
		return r, &kernel.LimitError{
			Parts: atLeast, Part: "cell", Need: need + processFDs, What: "file descriptors", But: fmt.Sprintf("the limit is %d", lim.Cur),
			Raise: fmt.Sprintf("ulimit -n %d, or a smaller --parallel or --connections", need+processFDs),
		}
	}
	var err error
	if r.cells, err = kernel.Room("cell", atLeast, takenByRun, takenByCell); err != nil {
		return r, err
	}
	r.places = min(r.places, r.cells)
	return r, nil
}

// Fits tells whether this process may have what at least one cell needs. An error has a hint.
func (o Options) Fits() error {
	_, err := makeRoom(o)
	return err
}

// sysctls are all that the cells set.
func (o *Options) sysctls() []netns.Sysctl {
	var all []netns.Sysctl
	for i := range o.Scenarios {
		all = append(all, o.Scenarios[i].Sysctls...)
	}
	for _, m := range o.Modes {
		all = append(all, m.Setting())
	}
	return append(all, netns.BaseSysctls(lab.MinBacklog, o.Port, true)...)
}

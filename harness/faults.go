package harness

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
)

// Watch is told of the cells of a run as they are played, at any time and by several goroutines.
type Watch interface {
	Began(id string)
	// Ended is told that nothing of a cell runs any more. It is handed to the sink later.
	Ended(id string)
}

// Faults is where the kernel reports faults of its own. It must be the log of a kernel on which nothing but the run is played.
type Faults interface {
	// Reports returns the first line of each report since it was last asked.
	Reports() ([]string, error)
	// Rearm has the kernel report again what it reports once.
	Rearm()
	// MayBeHost tells whether a report may be due to the machine that the kernel runs on, which may have had no time for it.
	MayBeHost(line string) bool
}

// faults finds out which cell has made the kernel report a fault of its own. Whichever cells were in play when it came are
// suspects. A cell with which nothing else was or had been played is the one. Other suspects are played again, each alone; if the
// report comes then, that cell is the one, and the others are cleared. If it comes for none of them, all are an ERROR: the kernel
// has a fault, and what brings it about is not known. So no cell answers for what another has done. A report that may be due to the
// machine is no FAIL, however often it comes: the cell in whose time it came is an ERROR.
type faults struct {
	ask Faults // nil: faults are not asked for

	mu     sync.Mutex
	inPlay map[*suspect]bool
	played int // cells that have begun
	err    error
	loose  []string // reports while no cell was in play
}

// suspect is a cell in whose time a report came, or may come.
type suspect struct {
	lab.Case
	repeat    int
	incidents []*incident
	again     *bool // whether a report came when it was played again, alone; nil: it was not
}

// incident is a report, and who is suspected.
type incident struct {
	line     string
	suspects []*suspect
	first    bool // nothing else had been played before
	host     bool // it may be due to the machine
}

// explained tells whether one of the suspects, who have been played again, has brought it about.
func (i *incident) explained() bool {
	return slices.ContainsFunc(i.suspects, func(s *suspect) bool { return *s.again })
}

// inherit makes a cell answer for what was reported when it was played again.
func (s *suspect) inherit(again *suspect) {
	if s == nil {
		return
	}
	for _, i := range again.incidents {
		i.suspects = []*suspect{s}
		s.incidents = append(s.incidents, i)
	}
	again.incidents = nil
}

// accusable tells whether any of a cell's incidents can only be the kernel's doing.
func (s *suspect) accusable() bool {
	return slices.ContainsFunc(s.incidents, func(i *incident) bool { return !i.host })
}

func newFaults(ask Faults) *faults {
	return &faults{ask: ask, inPlay: map[*suspect]bool{}}
}

// read blames what was reported since the last time on those in play, who are the same since then.
func (f *faults) read() {
	lines, err := f.ask.Reports()
	if err != nil && f.err == nil {
		f.err = err
	}
	for _, line := range lines {
		if len(f.inPlay) == 0 {
			f.loose = append(f.loose, line)
			continue
		}
		i := &incident{line: line, first: f.played == 1, host: f.ask.MayBeHost(line)}
		for s := range f.inPlay {
			i.suspects = append(i.suspects, s)
			s.incidents = append(s.incidents, i)
		}
	}
}

// began notes that a cell is in play. It returns nil where faults are not asked for.
func (f *faults) began(c lab.Case, repeat int) *suspect {
	if f.ask == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read()
	s := &suspect{Case: c, repeat: repeat}
	f.inPlay[s] = true
	f.played++
	return s
}

func (f *faults) ended(s *suspect) {
	if s == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read()
	delete(f.inPlay, s)
}

// late tells whether a report has come since the last cell ended that can only be the kernel's doing.
func (f *faults) late() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := len(f.loose)
	f.read()
	came := slices.ContainsFunc(f.loose[before:], func(line string) bool { return !f.ask.MayBeHost(line) })
	f.loose = f.loose[:before]
	return came
}

// end returns what is left to say once all cells have ended.
func (f *faults) end() error {
	if f.ask == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read()
	switch {
	case f.err != nil:
		return f.err
	case len(f.loose) > 0:
		return fmt.Errorf("the kernel reported a fault of its own, and not while a cell was played: %s", f.loose[0])
	default:
		return nil
	}
}

// settled is how long what a cell leaves behind may keep the kernel busy: its namespace is taken down in the background
// (net/core/net_namespace.c:cleanup_net), and nothing tells when that is over. In virtual time it costs nothing. Where it is too
// short, a report that comes later finds no culprit.
const settled = time.Second

// accuse makes of a cell's verdict what the reports in its time come to. It tells whether they decide the verdict, and whether the
// run was cancelled meanwhile.
func (r *runner) accuse(ctx context.Context, p *played) (decided, cut bool) {
	if p.suspect == nil {
		return false, false
	}
	var open, host *incident
	for _, i := range p.suspect.incidents {
		switch {
		case i.host:
			host = cmp.Or(host, i)
			continue
		case i.first:
			p.Verdict.Fault(i.line)
			return true, false
		}
		if !r.tryAlone(ctx, i) {
			return false, true
		}
		if *p.suspect.again {
			p.Verdict.Fault(i.line)
			p.Confirmed = &result.Replay{Status: result.Fail, Reason: p.Verdict.Reason}
			return true, false
		}
		if !i.explained() {
			open = cmp.Or(open, i)
		}
	}
	switch {
	case open != nil:
		p.Verdict.NoCulprit(open.line)
	case host != nil:
		p.Verdict.Stalled(host.line)
	default:
		return false, false
	}
	return true, false
}

// tryAlone plays the suspects of an incident again, each alone, as far as that has not been done. It returns false if the run was
// cancelled meanwhile.
func (r *runner) tryAlone(ctx context.Context, i *incident) bool {
	r.trying.Lock()
	defer r.trying.Unlock()
	for _, s := range i.suspects {
		if s.again == nil && !r.tryOne(ctx, s) {
			return false
		}
	}
	return true
}

// tryOne finds out whether a report comes while a suspect is played again, alone. It returns false if the run was cancelled
// meanwhile.
func (r *runner) tryOne(ctx context.Context, s *suspect) bool {
	files := r.room.share(s.Scenario, r.o.connections(s.Scenario))
	if r.files.Acquire(ctx, files) != nil { // before the lock, as in confirm
		return false
	}
	r.running.Lock() // every cell that was in play has ended
	defer r.running.Unlock()
	time.Sleep(settled)
	r.o.Faults.Rearm()
	again := r.playAt(&place{r: r, files: files, keep: true}, s.Case, s.repeat)
	guilty := again.suspect.accusable()
	if !guilty {
		time.Sleep(settled)
		guilty = r.faults.late()
	}
	if again.Cut && !guilty {
		return false
	}
	s.again = &guilty
	return true
}

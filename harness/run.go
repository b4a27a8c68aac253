package harness

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/evidence"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/tcp"
	"github.com/rpmig/rpmig/verdict"
)

// Sink receives a run as it goes. Its methods are never called at the same time.
type Sink interface {
	// Begin is told how many cells are planned; 0 when there is no end to it.
	Begin(cells int) error
	// Cell takes a finished cell, with its evidence.
	Cell(c *result.Cell, files evidence.Files) error
}

// Run plays the plan and hands each cell to the sink once it is judged. It returns when every cell that was begun has
// ended: with the context's error if it was cancelled, or with the sink's, which ends the run.
func Run(ctx context.Context, o Options, sink Sink) error {
	room, err := makeRoom(o)
	if err != nil {
		return err
	}
	cannot, err := probe(o)
	if err != nil {
		return err
	}
	groups := plan(o, cannot)
	if len(groups) == 0 && o.Planned() == 0 { // a shard may be empty
		return ErrNothingToPlay
	}
	cells := 0
	for _, g := range groups {
		cells += len(g)
	}
	if o.UntilFail {
		cells = 0
	}
	planned := cells * o.Repeat
	if err := sink.Begin(planned); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The Lab waits in poll(2) and epoll_wait(2), where a context does not reach: this descriptor does.
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	defer unix.Close(pipe[0])
	context.AfterFunc(ctx, func() { unix.Close(pipe[1]) })

	r := &runner{
		o: o, sink: sink, cancel: cancel, cancelled: pipe[0], room: room, files: semaphore.NewWeighted(int64(room.files)),
		pools: map[pooled]*result.Pool{}, faults: newFaults(o.Faults), again: replays{planned: planned},
	}
	var busy, idle []group
	for _, g := range groups {
		if g[0].Scenario.Busy {
			busy = append(busy, g)
		} else {
			idle = append(idle, g)
		}
	}
	o.Progress.plan(idle, busy, room, o.Repeat)
	var done sync.WaitGroup
	done.Go(func() { r.work(ctx, busy, runtime.NumCPU()) })
	done.Go(func() { r.work(ctx, idle, room.places) })
	done.Wait()
	r.inBackground.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, errFoundFailure) {
		return err
	}
	return r.faults.end()
}

// ErrNothingToPlay says that no scenario that was asked for makes sense in a mode and family that were asked for.
var ErrNothingToPlay = errors.New("nothing to play: no such scenario makes sense in these modes and families")

// errFoundFailure ends a run with --until-fail.
var errFoundFailure = errors.New("a cell failed")

// probe asks once what this kernel and this user cannot do, by scenario, family and mode.
func probe(o Options) (func(*lab.Scenario, lab.Family, migrate.Mode) string, error) {
	reasons := map[string]string{}
	// A clear "no" becomes a reason to skip; any other error means that we could not find out.
	note := func(what string, err error) error {
		var no *kernel.NotSupportedError
		if errors.As(err, &no) {
			reasons[what] = no.Reason + ": " + no.Next
			return nil
		}
		if err != nil {
			return fmt.Errorf("probe %s: %w", what, err)
		}
		return nil
	}
	err := netns.Do(func() error {
		if err := netns.Check(o.sysctls(), o.Port); err != nil {
			return err
		}
		for _, m := range o.Modes {
			if err := note("mode "+m.Name, m.Probe()); err != nil {
				return err
			}
		}
		for _, f := range o.Families {
			fd, err := unix.Socket(tcp.Domain(f.Listen), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if errors.Is(err, unix.EAFNOSUPPORT) {
				err = &kernel.NotSupportedError{Reason: "this kernel has no " + f.Name, Next: "rpmig run all --family=ipv4"}
			} else if err == nil {
				unix.Close(fd)
			}
			if err := note("family "+f.Name, err); err != nil {
				return err
			}
		}
		for i := range o.Scenarios {
			if s := &o.Scenarios[i]; s.Probe != nil {
				if err := note("scenario "+s.Name, s.Probe()); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return func(s *lab.Scenario, f lab.Family, m migrate.Mode) string {
		return cmp.Or(reasons["mode "+m.Name], reasons["family "+f.Name], reasons["scenario "+s.Name])
	}, err
}

type runner struct {
	o         Options
	sink      Sink
	cancel    context.CancelCauseFunc
	cancelled int
	mu        sync.Mutex // around the sink
	alone     sync.Mutex // around a cell whose trace is host-wide
	// running is held for reading by each cell that is played, and for writing by one that is played again, alone.
	running sync.RWMutex
	// inBackground is what cells wait for that have ended.
	inBackground sync.WaitGroup
	room         room
	files        *semaphore.Weighted // descriptors
	pools        map[pooled]*result.Pool
	faults       *faults
	trying       sync.Mutex // around those who find out whose fault one is
	again        replays
}

// pooled is what has the repeats of a cell in common.
type pooled struct{ scenario, family, mode string }

// work plays groups with that many cells at work at a time. The next one begins where one ends, or waits for a timer.
func (r *runner) work(ctx context.Context, groups []group, places int) {
	var playing errgroup.Group
	playing.SetLimit(max(places, mostPerCPU*runtime.NumCPU()))
	defer func() { _ = playing.Wait() }() // none of them fails
	taken := make(chan struct{}, places)
	some := true // of them can be played: without end, there is one only for these
	for repeat := 1; (r.o.Repeat == 0 && some || repeat <= r.o.Repeat) && ctx.Err() == nil; repeat++ {
		some = false
		for _, g := range groups {
			pending := &pendingGroup{runner: r, ctx: ctx, left: len(g)}
			for i, s := range g {
				if s.skip != "" {
					pending.done(skipped(s, repeat))
					continue
				}
				some = true
				files := r.room.share(s.Scenario, r.o.connections(s.Scenario))
				select {
				case taken <- struct{}{}:
				case <-ctx.Done():
					pending.cut(len(g) - i)
					return
				}
				if r.files.Acquire(ctx, files) != nil { // only where the run was cancelled
					pending.cut(len(g) - i)
					return
				}
				playing.Go(func() error {
					leave := sync.OnceFunc(func() { <-taken })
					defer leave()
					r.running.RLock()
					p := r.play(s, repeat, files, leave)
					r.running.RUnlock()
					pending.done(p)
					return nil
				})
			}
		}
	}
}

// played is a cell of the plan that has been played, or skipped.
type played struct {
	lab.Played
	order   int      // within its group
	suspect *suspect // nil: the kernel's faults are not asked for
}

func skipped(s plannedCell, repeat int) played {
	said := verdict.Verdict{Status: result.Skip, Reason: s.skip}
	return played{Played: lab.Played{Case: s.Case, Repeat: repeat, Verdict: said}, order: s.order}
}

// play plays a cell that may hold that many descriptors, and calls leave when another may take its place.
func (r *runner) play(s plannedCell, repeat int, files int64, leave func()) played {
	at := r.o.Progress.began(s.Scenario, time.Now())
	defer func() { at.ended(time.Now()) }()
	p := r.playAt(&place{r: r, files: files, leave: leave, at: at, keep: r.room.keep || s.Scenario.Busy}, s.Case, repeat)
	p.order = s.order
	return p
}

// playAt plays a cell in a place.
func (r *runner) playAt(at *place, c lab.Case, repeat int) played {
	cfg := lab.Config{
		Settings: r.o.Settings, Case: c, Repeat: repeat, Connections: r.o.connections(c.Scenario),
		Dropper: r.o.Dropper, Cancelled: r.cancelled, Alone: &r.alone,
	}
	if repeat > 1 && r.o.Again != nil {
		cfg.Dropper = r.o.Again
	}
	suspect := r.faults.began(c, repeat)
	if r.o.Watch != nil {
		id := result.ID(c.Scenario.Name, c.Family.Name, c.Mode.Name, repeat)
		r.o.Watch.Began(id)
		defer r.o.Watch.Ended(id)
	}
	p := lab.Play(cfg, at)
	r.faults.ended(suspect)
	r.files.Release(at.files)
	if p.Fatal != nil {
		r.cancel(p.Fatal)
	}
	return played{Played: p, suspect: suspect}
}

// confirm plays a cell that was a FAIL again, alone, and notes what it came to. It tells whether the run was cancelled
// meanwhile.
//
// What is void has neither confirmed it nor come out otherwise: then it is played once more. The FAIL still takes two plays that
// were not held up, and no third is played after one that says something.
func (r *runner) confirm(ctx context.Context, p *played) (cut bool) {
	again, cut := r.playAgain(ctx, p)
	if !cut && again.IsVoid() {
		if _, ok := r.again.take(); ok {
			void := again.Verdict.Reason
			if again, cut = r.playAgain(ctx, p); !cut {
				again.Verdict.Reason += "; before that it was void: " + void
			}
		}
	}
	if cut {
		return true
	}
	p.Confirmed = &result.Replay{Status: again.Verdict.Status, Reason: again.Verdict.Reason}
	p.Verdict.Confirm(again.Verdict)
	return false
}

// playAgain plays a cell again, alone. What the kernel reports meanwhile is the cell's.
func (r *runner) playAgain(ctx context.Context, p *played) (again played, cut bool) {
	files := r.room.share(p.Scenario, r.o.connections(p.Scenario))
	if r.files.Acquire(ctx, files) != nil { // before the lock: cells that wait for that hold theirs
		return played{}, true
	}
	r.running.Lock()
	defer r.running.Unlock()
	again = r.playAt(&place{r: r, files: files, keep: true}, p.Case, p.Repeat)
	if !again.Cut {
		p.suspect.inherit(again.suspect)
	}
	return again, again.Cut
}

// measureAgain plays a cell again, alone, of which the measurement was void, and has the second count. It tells whether the run was
// cancelled meanwhile.
//
// This hides no failure that comes now and then. A void measurement has asserted nothing, neither that the kernel does as it should
// nor that it does not: the judge refuses to say, because it was observed that the machine was late (verdict.Observation.IsVoid).
// No other ERROR is played again, and no FAIL: a FAIL of the second must still be confirmed by a third, and what is void twice is
// the ERROR that it was. That there was a first is told in the ledger, and in each report that has room for more than verdicts.
func (r *runner) measureAgain(ctx context.Context, p *played) (cut bool) {
	if most, ok := r.again.take(); !ok {
		p.Verdict.Reason += fmt.Sprintf("; not measured again, since the machine was too slow for more than %s",
			result.Plural(most, "cell", "cells"))
		return false
	}
	again, cut := r.playAgain(ctx, p)
	if cut {
		return true
	}
	again.order, again.suspect = p.order, p.suspect
	again.Void = &result.Replay{Status: p.Verdict.Status, Reason: p.Verdict.Reason}
	*p = again
	return false
}

// replays bounds how many void measurements are played again. While one is, no other cell is begun, so that on a machine on which
// most are void a run would be played one cell after another. A tenth of all are no more than the odd moments of a machine that is
// busy with other things as well; with more, it is the run that asks too much of it, and --parallel helps. A few are in the
// smallest run.
type replays struct {
	planned int // cells of the run; 0: there is no end to it

	mu    sync.Mutex
	ended int // cells that have ended
	taken int
}

const (
	fewReplays   = 10
	shareOfCells = 10 // one of so many
)

// take tells whether one more may be played, and how many may be.
func (r *replays) take() (most int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	most = max(fewReplays, max(r.planned, r.ended)/shareOfCells)
	if r.taken >= most {
		return most, false
	}
	r.taken++
	return most, true
}

// end notes that so many cells have ended.
func (r *replays) end(cells int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended += cells
}

// place is the host of a cell.
type place struct {
	r     *runner
	files int64 // descriptors that the cell may still hold
	leave func()
	at    *playing
	keep  bool // a busy cell that waits, waits for a processor
}

func (p *place) Background(wait func()) {
	p.files-- // it is held for longer than the others
	p.r.inBackground.Go(func() {
		wait()
		p.r.files.Release(1)
	})
}

func (p *place) Yield() {
	p.at.yields(time.Now())
	p.leave()
}

func (p *place) Keeps() bool { return p.keep }

// pendingGroup is a group that is being played. Its cells are held back until their control has ended: whether "no RST was
// seen" counts depends on it.
type pendingGroup struct {
	runner *runner
	ctx    context.Context
	left   int
	ended  []played
}

func (g *pendingGroup) done(p played) {
	g.runner.mu.Lock()
	if !p.Cut {
		g.ended = append(g.ended, p)
	}
	g.runner.mu.Unlock()
	g.cut(1)
}

// cut takes cells off the group, and hands the others over once none is left.
func (g *pendingGroup) cut(cells int) {
	g.runner.mu.Lock()
	g.left -= cells
	last := g.left == 0
	g.runner.mu.Unlock()
	if last {
		g.end()
	}
}

// end hands over the cells of a group. All have ended: a group is a handful of cells that take the same time, so none waits
// long for the others.
func (g *pendingGroup) end() {
	r := g.runner
	control := result.Status("")
	var ended []*played
	r.again.end(len(g.ended))
	for i := range g.ended {
		p := &g.ended[i]
		decided, cut := r.accuse(g.ctx, p)
		if p.IsVoid() && !decided && !cut && !r.o.NoConfirm {
			if cut = r.measureAgain(g.ctx, p); !cut {
				decided, cut = r.accuse(g.ctx, p) // of what was reported meanwhile
			}
		}
		if p.Verdict.Status == result.Fail && !decided && !cut && !r.o.NoConfirm {
			if cut = r.confirm(g.ctx, p); !cut {
				_, cut = r.accuse(g.ctx, p) // of what was reported meanwhile
			}
		}
		if cut {
			continue
		}
		if ended = append(ended, p); isOff(p.Mode) {
			control = p.Verdict.Status
		}
	}
	slices.SortFunc(ended, func(a, b *played) int { return a.order - b.order })
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range ended {
		r.hand(p, control)
	}
}

// pool holds a stream of clients against those of the repeats that ended before it. What came to no conclusion is left out.
func (r *runner) pool(p *played) {
	s, v := p.Stream(), &p.Verdict
	if s == nil || v.Status != result.Pass && v.Status != result.Fail {
		return
	}
	may := p.Scenario.Expect(p.Mode).Loss
	s.Least, s.Most = &may.Min, &may.Max
	key := pooled{p.Scenario.Name, p.Family.Name, p.Mode.Name}
	if r.pools[key] == nil {
		r.pools[key] = &result.Pool{}
	}
	r.pools[key].Add(s)
	if v.Pool(may, s, r.pools[key]) {
		delete(r.pools, key)
	}
}

// hand gives the sink a cell that has met its control.
func (r *runner) hand(p *played, control result.Status) {
	r.pool(p)
	c := p.Cell(control, r.o.Detail >= lab.EvidenceDetail)
	if err := r.sink.Cell(&c, p.Files); err != nil {
		r.cancel(err)
		return
	}
	if c.Bad() && r.o.UntilFail {
		r.cancel(errFoundFailure)
	}
}

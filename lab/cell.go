package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/evidence"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
	"github.com/rpmig/rpmig/wait"
)

// Settings are the user's choices that one cell depends on.
type Settings struct {
	Port       uint16
	Upstream   string  // the release of Linux that known bugs are judged by, as kernel.Upstream; empty where it is not known
	TimeoutMul float64 // of deadlines
	RealTimers bool    // the talk's kernel timers, not shorter ones; deadlines stretch with them
	Strict     bool    // a known bug excuses nothing
	// Started is when the run began: what the times of its cells count from; zero: they have none.
	Started time.Time
	// Slow says that this machine is known not to keep up: nothing is asserted on time, and a case that it was too slow for is
	// skipped.
	Slow bool
	// Tracer returns the kernel's trace once it is open, which takes as long as a cell needs to get ready; it may be called
	// from many goroutines. A nil tracer is that there is none; the socket tables are noted at each step all the same. An
	// error ends the run. With a tracer that is HostWide, cells are got ready side by side, and played one at a time. nil: no
	// trace and no tables.
	Tracer func() (*trace.Tracer, error)
	// Detail is how much is kept of each cell.
	Detail Detail
}

// Detail is how much is kept of a cell, beyond what the judge needs. Of a cell that is FAIL or ERROR all is kept; but of one that is
// a FAIL for what all repeats lost together no more than of others, since that is not in its packets.
type Detail int

const (
	VerdictDetail  Detail = iota // nothing more
	StoryDetail                  // what happened: its socket tables, events, and the connection that is drawn
	EvidenceDetail               // and its capture, and the state of its namespace
)

// Case is what is played in a cell.
type Case struct {
	Scenario *Scenario
	Family   Family
	Mode     Mode
}

// Config is all that playing one cell depends on.
type Config struct {
	Settings
	Case
	Repeat      int // from 1
	Connections int // clients
	Dropper     netns.Dropper
	Cancelled   int         // a descriptor that becomes readable when the run is to end
	Alone       *sync.Mutex // held from the first packet to the last where a tracer is HostWide
	faults      faults
}

// faults are the ways in which the tests of this package break a cell, to see the judge notice.
type faults struct {
	noRule   bool // the packet-drop rule is never put in
	tinyRing bool // the capture has no room for what is sent
	noChoice bool // the listener that the program is to choose is never in its array
	keepRule bool // the rule that a scenario has left in stays while the survivors talk
	other    *Mode
	lacks    []string // counters that this kernel does not have
}

// hide takes from the counters what the kernel lacks.
func (f *faults) hide(c kernel.Counters) kernel.Counters {
	for _, name := range f.lacks {
		delete(c, name)
	}
	return c
}

// Host is what a cell needs of the run that it is played in.
type Host interface {
	// Background does what waits for the kernel and need not be waited for.
	Background(wait func())
	// Yield lets another cell begin in this one's place, for as long as this one waits for one of the kernel's timers.
	Yield()
	// Keeps tells that the cell does not leave its place before it ends.
	Keeps() bool
}

// Played is a cell that has been played, or skipped, before it is held against its control.
type Played struct {
	Case
	Repeat    int
	Verdict   verdict.Verdict
	Confirmed *result.Replay // nil: it was not played again
	Void      *result.Replay // a first measurement, of which nothing else is kept; nil: this is the first
	Files     evidence.Files
	Cut       bool  // the run was cancelled in its midst: there is nothing to say of it
	Fatal     error // the run cannot go on, not just this cell
	obs       verdict.Observation
	story     story
	namespace *result.Namespace // nil: its evidence is not kept
	at        time.Duration     // when it began; 0: it was skipped
	elapsed   time.Duration
}

// Stream is what the cell's stream of clients met; nil: it has none.
func (p *Played) Stream() *result.Stream { return p.obs.Stream }

// IsVoid tells whether nothing was concluded because the machine did not keep up.
func (p *Played) IsVoid() bool { return p.obs.IsVoid(p.Verdict) }

// story is what a cell keeps for the reader. It decides nothing.
type story struct {
	tables []result.Table
	events []result.Event
	client netip.AddrPort // of the connection that is drawn
	flow   []result.Segment
}

// Play plays one cell in a namespace of its own. Whatever goes wrong ends in the cell as an ERROR.
func Play(cfg Config, h Host) Played {
	began := time.Now()
	l := newLab(cfg, h)
	p := Played{Case: cfg.Case, Repeat: cfg.Repeat}
	if !cfg.Started.IsZero() {
		p.at = began.Sub(cfg.Started)
	}
	keep := true
	err := netns.Do(func() error {
		defer func() {
			if l.release != nil {
				l.release()
			}
		}()
		err := l.play()
		if err == nil {
			p.Verdict = l.judge()
		}
		if keep = cfg.Detail >= EvidenceDetail || err != nil || bad(p.Verdict.Status); keep && !l.cutShort(err) {
			p.namespace = l.namespaceState()
		}
		return err
	})
	p.elapsed = time.Since(began) - l.waited
	if p.Cut = l.cutShort(err); p.Cut {
		p.Fatal = fatal(err)
		return p // evidence would take time, and is not wanted
	}
	var stack []byte
	if err != nil {
		var panicked *panicError
		if errors.As(err, &panicked) {
			stack = panicked.stack
		}
		p.Verdict = verdict.Verdict{Status: result.Error, Reason: l.obs.Slowly(err.Error())}
	}
	if cfg.Slow {
		p.Verdict = l.obs.OnSlowMachine(p.Verdict)
	}
	if keep || cfg.Detail >= StoryDetail {
		p.story, p.Files = l.tell(stack)
	}
	p.obs = l.obs
	return p
}

func newLab(cfg Config, h Host) *Lab {
	l := &Lab{cfg: cfg, host: h, record: evidence.Record{Start: time.Now()}}
	l.waiter = wait.Waiter{Mul: cfg.TimeoutMul, Cancelled: cfg.Cancelled, Prompt: handshakeTimeout, Delayed: l.delayed}
	if cfg.RealTimers {
		l.waiter.Mul *= 5 // the longest wait is the talk's 31 s and what the client's own timer adds to it
	}
	if !h.Keeps() {
		l.waiter.Leave = h.Yield
	}
	return l
}

// cutShort tells whether an error comes of the end of the run, or may: a cell that is cancelled goes wrong in many ways.
func (l *Lab) cutShort(err error) bool {
	return err != nil && (l.waiter.IsCancelled() || errors.Is(err, netns.ErrInterrupted) || fatal(err) != nil)
}

// fatal is why the run cannot go on, not just this cell; nil if it can.
func fatal(err error) error {
	var whole *fatalError
	var full *netns.UnshareError // there is no room for what was asked for
	switch {
	case errors.As(err, &whole):
		return whole.error
	case errors.As(err, &full):
		return err
	default:
		return nil
	}
}

func bad(s result.Status) bool { return s == result.Fail || s == result.Error }

// judge holds what was observed against what the scenario expects, and against the known bugs of this kernel.
func (l *Lab) judge() verdict.Verdict {
	s, mode := l.cfg.Scenario, l.cfg.Mode
	return verdict.Judge(s.Expect(mode), &l.obs, verdict.Suspects(s.Bugs, l.cfg.Upstream, mode.Name), l.cfg.Strict)
}

// tell returns what happened in the cell, and the files that tell it. It takes as long as a tenth of the cell.
func (l *Lab) tell(stack []byte) (story, evidence.Files) {
	var s story
	for _, n := range l.noted {
		s.tables = append(s.tables, l.table(n))
	}
	comments := l.record.Comments(&l.obs, s.tables)
	s.client, s.flow = l.record.Flow(comments)
	s.events = l.record.Events()
	return s, l.record.Files(comments, stack)
}

// Cell is what the ledger says of the cell, beside a control of that status; empty is that none was played.
func (p *Played) Cell(control result.Status, keep bool) result.Cell {
	o, v := &p.obs, p.Verdict
	c := result.Cell{
		Scenario: p.Scenario.Name, Family: p.Family.Name, Mode: p.Mode.Name, Repeat: p.Repeat,
		Control: v.Control(p.Mode.Name == migrate.Off().Name, control),
		Status:  v.Status, Reason: v.Reason, Void: p.Void, At: p.at.Seconds(), Elapsed: p.elapsed.Seconds(),
	}
	if v.Status == result.Skip { // what was seen on a machine too slow for the case proves nothing
		return c
	}
	c.Confirmed, c.Bug, c.Checks = p.Confirmed, v.Bug, v.Checks
	c.Steps, c.Resets, c.Counters, c.Program = o.Steps, o.Wire.Resets, o.Counters, o.Program
	c.Client, c.Flow, c.Tables, c.Events = p.story.client, p.story.flow, p.story.tables, p.story.events
	c.Namespace, c.Capture = p.namespace, result.Capture{Packets: o.Wire.Packets, Lost: o.Wire.Lost}
	if o.Rule != nil {
		c.DropBackend = o.Rule.Backend
	}
	if o.Trace != nil {
		c.Trace = &o.Trace.Trace
	}
	if v.Checks != nil { // otherwise it was not judged
		c.Connections, c.Stream = o.Connections(), o.Stream
	}
	if p.Files.HasCapture() && (keep || c.Bad()) {
		c.Capture.File = c.Folder() + "/" + evidence.CaptureName
	}
	return c
}

// framesPerConnection is room for a connection's frames: about ten in the longest scenario, as many retransmissions, and a
// dozen for its talk.
const framesPerConnection = 48

// play runs on the namespace's thread.
func (l *Lab) play() error {
	defer l.close()
	l.step("prepare")
	// What has to wait longest should begin to wait first. The thread dies with the cell.
	nice := 0
	if l.cfg.Scenario.Cost >= time.Second {
		nice = -10
	}
	if err := kernel.SetNice(nice); err != nil {
		return err
	}
	if err := l.prepare(); err != nil {
		return err
	}
	if err := l.trace(); err != nil {
		return err
	}
	l.record.Start = time.Now() // zero of the cell's times: nothing has been sent yet
	l.obs.Steps, l.obs.Delays = nil, nil
	l.waiter.ReadClock()
	l.obs.SYNACKTimer = l.cfg.Scenario.sitsOutSYNACKTimer()
	l.obs.SysctlTaken = l.cfg.Mode.Sysctl != migrate.Off().Sysctl
	if err := l.perform(); l.cutShort(err) {
		return err
	} else if err != nil {
		// What was captured so far is evidence of what went wrong.
		return errors.Join(err, l.drain())
	}
	if err := l.collect(); err != nil {
		return err
	}
	if err := l.checkListeners(); err != nil {
		return err
	}
	return l.checkFreed()
}

// prepare sets the namespace up, loads the mode's program and opens the capture.
func (l *Lab) prepare() (err error) {
	mode := l.cfg.Mode
	if l.cfg.faults.other != nil {
		mode = *l.cfg.faults.other
	}
	sysctls := netns.BaseSysctls(l.cfg.backlog(), l.cfg.Port, l.cfg.Family.Listen.Is6())
	sysctls = append(append(sysctls, l.cfg.Scenario.Sysctls...), mode.Setting())
	if err := netns.ApplySysctls(sysctls); err != nil {
		return err
	}
	if l.diag, err = kernel.OpenDiag(); err != nil {
		return err
	}
	if l.counting, err = kernel.OpenCounting(); err != nil {
		return err
	}
	l.sysctls = sysctls
	if l.cfg.Detail >= EvidenceDetail {
		if l.before, err = l.counting.MIB(); err != nil {
			return err
		}
	}
	if l.program, err = mode.Load(); err != nil {
		return err
	}
	frames := framesPerConnection*(l.cfg.Connections+2) + l.cfg.Scenario.Frames
	if l.cfg.faults.tinyRing {
		frames = 1
	}
	if l.ring, err = capture.Open("lo", frames); errors.Is(err, unix.EPERM) { // for every cell
		return &fatalError{kernel.Explain(err, false, "CAP_NET_RAW")}
	}
	return err
}

// trace begins to record the kernel's trace, if there is one.
func (l *Lab) trace() error {
	if l.cfg.Tracer == nil {
		return nil
	}
	tracer, err := l.cfg.Tracer()
	if err != nil {
		return &fatalError{err}
	}
	if tracer == nil {
		return nil
	}
	if tracer.HostWide { // what another cell does now could not be told from what this one does
		waits := time.Now()
		l.cfg.Alone.Lock()
		l.waited, l.release = time.Since(waits), l.cfg.Alone.Unlock
	}
	l.watch, err = tracer.WatchThread()
	return err
}

// fatalError says that the run cannot go on, not just this cell.
type fatalError struct{ error }

func (e *fatalError) Unwrap() error { return e.error }

// panicError says that a scenario has panicked.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("the scenario panicked: %v", e.value) }

// perform plays the scenario's steps.
func (l *Lab) perform() (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case abort:
			err = r.err
		default:
			err = &panicError{r, debug.Stack()}
		}
	}()
	l.cfg.Scenario.Play(l)
	l.acceptOthers()
	return nil
}

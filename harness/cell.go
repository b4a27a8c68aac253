package harness

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
)

// cellConfig is all that playing one cell depends on.
type cellConfig struct {
	Scenario    *Scenario
	Family      Family
	Mode        Mode
	Repeat      int
	Port        uint16
	Connections int
	TimeoutMul  float64
	RealTimers  bool
	Dropper     netns.Dropper
	Bugs        []result.Bug // of the scenario, that this kernel should have
	Tracer      func() (*trace.Tracer, error)
	Alone       *sync.Mutex // held from the first packet to the last where a tracer is HostWide
	Strict      bool
	Tables      bool // note the socket tables
	Keep        bool // the cell's evidence is kept, whatever becomes of it
	Story       bool // somebody reads what happened in the cell, whatever becomes of it
	cancelled   int  // a descriptor that becomes readable when the run is to end
	faults      faults
}

// faults are the ways in which the tests of this package break a cell, to see the judge notice.
type faults struct {
	noRule   bool // the packet-drop rule is never put in
	tinyRing bool // the capture has no room for what is sent
	other    *Mode
}

// played is a cell that has been played, before it is judged against its control.
type played struct {
	cell   result.Cell
	rec    *capture.Recording // nil: it did not get so far
	notes  map[int][]string   // by frame number
	panic  []byte             // the stack, where the scenario panicked
	cut    bool               // the run was cancelled in its midst: there is nothing to say of it
	fatal  error              // it is not the cell that cannot be played, but the run
	alone  func()             // nil: other cells may be played meanwhile
	waited time.Duration      // to be alone
}

// framesPerConnection is room for a connection's frames: about ten in the longest scenario, and as many
// retransmissions.
const framesPerConnection = 24

// play plays one cell in a namespace of its own. Whatever goes wrong ends in the cell as an ERROR.
// The caller has later do what waits for the kernel and need not be waited for, and learns by rests when the cell waits for
// one of the kernel's timers.
func play(cfg cellConfig, later func(func()), rests func()) played {
	p := played{cell: result.Cell{
		Scenario: cfg.Scenario.Name, Family: cfg.Family.Name, Mode: cfg.Mode.Name, Repeat: cfg.Repeat,
	}}
	began := time.Now()
	l := &Lab{cfg: cfg, start: began, later: later, rests: rests}
	c, o := &p.cell, &l.obs
	var v Verdict
	bad := true
	err := netns.Do(func() error {
		defer func() {
			if p.alone != nil {
				p.alone()
			}
		}()
		err := l.play(&p)
		if err == nil {
			v = judge(cfg.Mode, cfg.Scenario.Expect(cfg.Mode), o, cfg.Bugs, cfg.Strict)
		}
		bad = err != nil || v.Status == result.Fail || v.Status == result.Error
		if cfg.Keep || bad {
			c.Namespace = l.scene()
		}
		return err
	})
	c.Steps = l.steps
	c.Elapsed = (time.Since(began) - p.waited).Seconds()
	if o.Rule != nil {
		c.DropBackend = o.Rule.Backend
	}
	c.Resets, c.Counters, c.Program = o.Wire.Resets, o.Counters, o.Program
	c.Capture = result.Capture{Packets: o.Wire.Packets, Lost: o.Wire.Lost}
	if o.Trace != nil {
		c.Trace = &result.Trace{Lost: o.Trace.Lost, Missing: o.Trace.Missing, HostWide: o.Trace.HostWide}
	}
	if cfg.Story || bad {
		l.relate(&p)
	}
	if err != nil {
		c.Status, c.Reason = result.Error, err.Error()
		p.cut = p.fatal != nil || errors.Is(err, errCancelled) || errors.Is(err, netns.ErrInterrupted)
		return p
	}
	lived := o.lived()
	c.Connections = result.Connections{Staged: o.Staged, Survived: lived, Lost: o.Staged - lived}
	if s := o.Stream; s != nil {
		lost := s.Lost + s.Refused
		c.Stream = &result.Stream{
			Reloads: s.Reloads, Connections: s.Connections, InQueue: s.InQueue, InHandshake: s.InHandshake,
			Lingered: s.Lingered.Seconds() / float64(max(s.Reloads, 1)),
		}
		c.Stream.PerMillion, c.Stream.Low, c.Stream.High = s.PerMillion()
		c.Connections = result.Connections{Staged: s.Connections, Survived: s.Connections - lost, Lost: lost}
	}
	c.Status, c.Reason, c.Bug, c.Checks = v.Status, v.Reason, v.Bug, v.Checks
	return p
}

// relate puts into the cell what happened in it. It takes as long as a tenth of the cell, and decides nothing.
func (l *Lab) relate(p *played) {
	c, o := &p.cell, &l.obs
	for _, n := range l.noted {
		c.Tables = append(c.Tables, l.table(n))
	}
	p.rec, p.notes = o.Wire.recording, annotate(o, l.start, l.steps, c.Tables)
	c.Client, c.Flow = exemplar(o, l.start, p.notes)
	if o.Trace != nil {
		c.Events = told(o.Trace.events, l.start)
	}
}

// play runs on the namespace's thread.
func (l *Lab) play(p *played) (err error) {
	defer l.close()
	l.step("prepare")
	// Who has to wait longest should begin to wait first. The thread dies with the cell.
	if l.cfg.Scenario.Cost >= time.Second {
		if err := precedence(-10); err != nil {
			return err
		}
	}
	mode := l.cfg.Mode
	if l.cfg.faults.other != nil {
		mode = *l.cfg.faults.other
	}
	weather := netns.Weather(max(minBacklog, l.cfg.Connections), l.cfg.Port, l.cfg.Family.Listen.Is6())
	weather = append(append(weather, l.cfg.Scenario.Weather...), mode.Weather())
	if err := netns.SetWeather(weather); err != nil {
		return err
	}
	if l.diag, err = kernel.OpenDiag(); err != nil {
		return err
	}
	if l.counting, err = kernel.OpenCounting(); err != nil {
		return err
	}
	l.weather = weather
	if l.cfg.Keep {
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
	if l.ring, err = capture.Open("lo", frames); err != nil {
		return err
	}
	if l.cfg.Tracer != nil {
		if l.tracer, p.fatal = l.cfg.Tracer(); p.fatal != nil {
			return p.fatal
		}
	}
	if l.tracer != nil {
		if l.tracer.HostWide { // what another cell does now could not be told from what this one does
			waited := time.Now()
			l.cfg.Alone.Lock()
			p.waited = time.Since(waited)
			p.alone = l.cfg.Alone.Unlock
		}
		if l.watch, err = l.tracer.WatchThread(); err != nil {
			return err
		}
	}
	l.start = time.Now() // zero of the cell's times: nothing has been sent yet
	l.steps = nil
	l.obs.SYNACKTimer = l.cfg.Scenario.sitsOutSYNACKTimer()
	if err := l.perform(p); err != nil {
		// What was captured so far is evidence of what went wrong.
		return errors.Join(err, l.drain())
	}
	if err := l.ask(); err != nil {
		return err
	}
	return l.try()
}

// perform plays the scenario's steps.
func (l *Lab) perform(p *played) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case abort:
			err = r.err
		default:
			p.panic = debug.Stack()
			err = fmt.Errorf("the scenario panicked: %v", r)
		}
	}()
	l.cfg.Scenario.Play(l)
	return nil
}

// exemplar is the connection that tells the cell's story: the first that was reset, or the first.
func exemplar(o *Observation, start time.Time, notes map[int][]string) (client netip.AddrPort, segments []result.Segment) {
	if len(o.Wire.flows) == 0 {
		return client, nil
	}
	flow := o.Wire.flows[0]
	if i := slices.IndexFunc(o.Wire.flows, func(f capture.Flow) bool { return len(f.Resets()) > 0 }); i >= 0 {
		flow = o.Wire.flows[i]
	}
	const most = 40 // more would be a transfer, and no story
	for _, s := range flow.Frames[:min(len(flow.Frames), most)] {
		segment := result.Segment{Time: s.Time.Sub(start).Seconds(), Frame: s.Number, FromClient: s.FromClient, Text: s.Short()}
		if told := notes[s.Number]; told != nil {
			segment.Note = told[0]
		}
		segments = append(segments, segment)
	}
	return flow.Client, segments
}

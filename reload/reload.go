// Package reload starts a server in namespaces of its own, reloads it again and again under load, in one mode of migration
// after the other, and finds out which connections it loses, and why. It plays no scenario and knows no Lab: the server is the
// user's own.
//
// It has to be process 1 of a sandbox (netns.ReexecSandbox), so that all that the server forks is seen, and dies with it.
package reload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/reload/load"
)

// Config is what to play.
type Config struct {
	Server []string // the command that starts it
	Setup  []string // for the shell, before that
	Env    []string // NAME=VALUE, beside those of this process
	Dir    string   // where the commands run; empty: where this process is
	UID    int      // whose the server's processes are; -1: this process's
	GID    int

	Steps  []Step
	Stop   unix.Signal // what ends the old one of a rolling restart
	Modes  []Mode
	Cycles int    // in each mode
	Seed   uint64 // of the order of modes

	Load   load.Config
	WarmUp time.Duration // how long the server is under load before the first reload, and may lose nothing

	Ready    time.Duration // how long the server may take to start
	Deadline time.Duration // how long a reload may take to change who holds the listeners, and its command to return
	Still    time.Duration // for how long nobody else holds the listeners once a reload is done

	Tracer  *trace.Tracer // nil: there is no trace
	Packets bool          // keep the last frames of the first PacketsOf lost connections
	Say     func(format string, args ...any)
}

// Outcome is what was found out.
type Outcome struct {
	Cycles  []Cycle
	Load    load.Report
	Skipped map[string]string // modes that cannot be had here, and why
	Names   map[int]string    // of the processes that held a listener
	// Unending is set where listeners of before stay with old processes, reload after reload.
	Unending string
	Output   []string      // the last lines that the server printed
	Offset   time.Duration // how far the wall clock is ahead of CLOCK_MONOTONIC
	Began    time.Duration // CLOCK_MONOTONIC, as is Ready: when the server had given its first reply
	Ready    time.Duration

	packets            *packets // nil: none were kept
	frames, framesLost int
}

// Cycle is each step played once, in one mode.
type Cycle struct {
	Mode        Mode
	Steps       []Played
	First, Last int           // its intervals in the load's report
	From, To    time.Duration // CLOCK_MONOTONIC
	Counters    kernel.Counters
	Asked       migrate.Asked // of the program
	Resets      []trace.Event // that the kernel sent on lost connections, by its trace
	TraceLost   int           // events that are not there
}

// Played is how a step went.
type Played struct {
	Step
	At       time.Duration // CLOCK_MONOTONIC
	Returned time.Duration // after At, the command
	Changed  bool          // who holds the listeners
	First    time.Duration // after At, the first change
	Last     time.Duration // the last one
	Took     time.Duration // until nobody else had held the listeners for Config.Still, or the deadline was over
	Closed   int           // listeners of before that are gone
	Holders  int           // processes, when it was done
	Inodes   int           // listeners
}

// Phases is where the time went.
type Phases struct {
	Start   time.Duration // of the server, until its first reply
	WarmUp  time.Duration
	Reloads int
	Change  time.Duration // of these: until who holds the listeners had changed for the last time
	Still   time.Duration // and from then on, until each was done
	Between time.Duration // from one cycle to the next, and beside the reloads in them: to switch the mode
}

// Phases adds it up; of a run without a cycle it knows only the start.
func (o *Outcome) Phases() (p Phases) {
	p.Start = max(o.Ready-o.Began, 0)
	for i, c := range o.Cycles {
		if i == 0 {
			p.WarmUp = c.From - o.Ready
		} else {
			p.Between += c.From - o.Cycles[i-1].To
		}
		p.Between += c.To - c.From
		for _, s := range c.Steps {
			p.Reloads++
			changed := min(max(s.Last, s.Returned), s.Took)
			p.Change += changed
			p.Still += s.Took - changed
			p.Between -= s.Took
		}
	}
	return p
}

func (p Phases) String() string {
	said := fmt.Sprintf("the server's start %.1f s", p.Start.Seconds())
	if p.Reloads > 0 {
		said += fmt.Sprintf(", the warm-up %.1f s, %d reloads %.1f s until who listens had changed for the last time and %.1f s until that was certain, the modes %.1f s",
			p.WarmUp.Seconds(), p.Reloads, p.Change.Seconds(), p.Still.Seconds(), p.Between.Seconds())
	}
	return said
}

// ServerError says that the server, or a command that belongs to it, did not do as it has to: nothing can be concluded.
type ServerError struct {
	What   string
	Output []string // the last lines that it printed
	hint   string
}

func (e *ServerError) Error() string { return e.What }

// Hint returns what to do next.
func (e *ServerError) Hint() string { return e.hint }

// run is a Config that is being played.
type run struct {
	Config
	out       Outcome
	procs     *processes
	look      *looker
	modes     *switcher
	server    *process // the one that was started last
	instances int      // how often it was
	now       *holding
	stuck     map[uint32]int // listeners that only old processes hold, and for how many reloads
	engine    *load.Engine
	marks     int // how many intervals have begun
	counting  *kernel.Counting
	lost      func(from int) []load.Lost // the engine's
	told      int                        // how many losses are known
	losing    map[ends]bool              // whose they are
}

// Play plays it. The Outcome is nil only with an error. An error is a ServerError where it is the server's doing; where the context
// has ended, the Outcome has the cycles until then, if there are any.
func Play(ctx context.Context, c Config) (*Outcome, error) {
	if c.Load.TLS == nil && len(c.Load.Command) == 0 {
		defer LittleGarbage()()
	}
	r := &run{Config: c, stuck: map[uint32]int{}, losing: map[ends]bool{}}
	r.out = Outcome{Began: load.Now(), Skipped: map[string]string{}, Names: map[int]string{}}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	defer r.close()
	err := r.play(ctx)
	switch {
	case ctx.Err() != nil && len(r.out.Cycles) == 0:
		return nil, context.Cause(ctx)
	case ctx.Err() != nil:
		return &r.out, context.Cause(ctx)
	}
	if r.server != nil {
		r.out.Output = r.server.output.lines()
	}
	var said *ServerError
	if errors.As(err, &said) && said.Output == nil {
		said.Output = r.out.Output
	}
	return &r.out, err
}

// LittleGarbage keeps a long run as large as it is, until the function that it returns is called: the engine for plain TCP allocates
// nothing for a connection, so that what the recording of a cycle leaves would lie for minutes, and look as if it grew. To collect it
// sooner costs next to nothing, as there is little. TLS and commands leave so much that it is collected all the time.
func LittleGarbage() (end func()) {
	before := debug.SetGCPercent(garbageKept)
	return func() { debug.SetGCPercent(before) }
}

// garbageKept is how much garbage may lie, in percent of what is in use, some 10 MiB.
const garbageKept = 20

// prepare sets the namespace up.
func (r *run) prepare() (err error) {
	if r.Dir == "" {
		if r.Dir, err = os.Getwd(); err != nil {
			return err
		}
	}
	if err := netns.ApplySysctls(sysctls); err != nil {
		return err
	}
	raiseFiles()
	if r.out.Offset, err = wallOffset(); err != nil {
		return err
	}
	if r.counting, err = kernel.OpenCounting(); err != nil {
		return err
	}
	if r.look, err = newLooker(r.Load.To.Port()); err != nil {
		return err
	}
	r.procs = newProcesses()
	r.Load.Run = r.procs.client
	r.modes = &switcher{look: r.look}
	return nil
}

// sysctls are what a result depends on, and what keeps the load from running out of ports or of room in TIME_WAIT.
var sysctls = []netns.Sysctl{
	{Name: "net.core.somaxconn", Value: "4096"},
	{Name: "net.ipv4.ip_local_port_range", Value: "1100 65535"},
	{Name: "net.ipv4.ip_unprivileged_port_start", Value: "0"},
	{Name: "net.ipv4.tcp_max_syn_backlog", Value: "4096"},
	{Name: "net.ipv4.tcp_max_tw_buckets", Value: "262144"},
	{Name: "net.ipv4.tcp_tw_reuse", Value: "1"},
	{Name: "net.ipv6.conf.all.disable_ipv6", Value: "0"},
	{Name: "net.ipv6.conf.lo.accept_dad", Value: "0"},
	{Name: "net.ipv6.conf.lo.disable_ipv6", Value: "0"},
}

// raiseFiles raises the limit on open files as far as it may: HAProxy refuses to start below what its maxconn wants.
func raiseFiles() {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil {
		return
	}
	lim.Cur = lim.Max
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &lim)
	lim.Cur, lim.Max = max(lim.Max, 1<<20), max(lim.Max, 1<<20)
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &lim)
}

// wallOffset is how far CLOCK_REALTIME is ahead of CLOCK_MONOTONIC.
func wallOffset() (time.Duration, error) {
	var mono, wall unix.Timespec
	err := errors.Join(unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono), unix.ClockGettime(unix.CLOCK_REALTIME, &wall))
	return time.Duration(wall.Nano() - mono.Nano()), err
}

func (r *run) close() {
	r.modes.close()
	r.look.close()
	r.counting.Close()
	r.procs.close()
}

func (r *run) play(ctx context.Context) error {
	for _, command := range r.Setup {
		if err := r.shell(ctx, "setup", command); err != nil {
			return err
		}
	}
	if err := r.start(); err != nil {
		return err
	}
	if err := r.ready(ctx); err != nil {
		return err
	}
	r.out.Ready = load.Now()
	return r.underLoad(ctx)
}

// underLoad puts the server under load, and plays the cycles.
func (r *run) underLoad(ctx context.Context) (err error) {
	if r.engine, err = load.Start(ctx, r.Load); err != nil {
		return err
	}
	r.lost = r.engine.Lost
	if r.Packets {
		r.out.packets, err = keepPackets(r.Load.To.Port(), r.lost)
	}
	if err == nil {
		err = r.warmUp(ctx)
	}
	var limit time.Duration // for what is open in the end
	if err == nil {
		err, limit = r.cycles(ctx), r.Load.Timeout
	}
	report, loadErr := r.engine.Stop(limit)
	r.forget()
	r.out.Load = report
	var endErr error
	if r.out.packets != nil {
		r.out.frames, r.out.framesLost, endErr = r.out.packets.end()
	}
	return cmp.Or(err, loadErr, endErr)
}

// start starts the server.
func (r *run) start() (err error) {
	r.instances++
	s := r.spawn("the server", r.Server)
	s.env = append(s.env, fmt.Sprintf("RPMIG_INSTANCE=%d", r.instances))
	if r.UID >= 0 {
		s.user = &user{uint32(r.UID), uint32(r.GID)}
	}
	var output *output
	if r.server != nil {
		output = r.server.output
	}
	if r.server, err = r.procs.start(s, output); err != nil {
		return &ServerError{What: err.Error(), hint: hint(err)}
	}
	return nil
}

func hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

func (r *run) spawn(name string, args []string) spawn {
	return spawn{name: name, args: args, env: slices.Concat(os.Environ(), r.Env), dir: r.Dir}
}

// shell runs a command to its end.
func (r *run) shell(ctx context.Context, name, command string) error {
	one, err := r.procs.start(r.spawn(name, []string{"/bin/sh", "-c", command}), nil)
	if err != nil {
		return err
	}
	limit := time.NewTimer(r.Ready)
	defer limit.Stop()
	select {
	case <-one.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-limit.C:
		r.procs.kill(one)
		return &ServerError{What: fmt.Sprintf("%s: %q did not end within %v", name, command, r.Ready), Output: one.output.lines()}
	}
	if one.status != 0 {
		return &ServerError{What: fmt.Sprintf("%s: %q %s", name, command, one.fate()), Output: one.output.lines()}
	}
	return nil
}

// warmUp lets the load run without a reload: what fails then is no loss of a reload, but a wrong request, or a server that cannot
// keep up.
func (r *run) warmUp(ctx context.Context) error {
	if err := pause(ctx, r.WarmUp); err != nil {
		return err
	}
	// On a busy machine nothing may have come to an end yet that says something.
	for deadline := time.Now().Add(r.Ready + r.Load.Timeout); r.engine.Counts().Judged() == 0; {
		select {
		case <-r.engine.Done(): // for an error
			return nil
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the load generator did not get to run: of its connections none was served or lost in %v, and %d were void",
				r.WarmUp+r.Ready+r.Load.Timeout, r.engine.Counts()[load.Void])
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	// One that hangs would count in a cycle when its time is over.
	if err := r.catchUp(ctx); err != nil {
		return err
	}
	report := r.engine.Snapshot()
	if report.Counts.Lost() > 0 {
		return &ServerError{
			What: fmt.Sprintf("without any reload, %d of %d connections fail: %s", report.Counts.Lost(), report.Counts.Judged(), replies(report)),
			hint: "a request that the server does not answer as expected is no loss: see --http, --status, --send and --expect",
		}
	}
	return nil
}

// pause waits for a time, which is what the load is to have.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// orderOf is the modes of all cycles: each in a random order before any comes again, so that what drifts meets all alike.
func orderOf(all []Mode, cycles int, seed uint64) []Mode {
	random := rand.New(rand.NewPCG(seed, 0))
	var order []Mode
	for range cycles {
		for _, i := range random.Perm(len(all)) {
			order = append(order, all[i])
		}
	}
	return order
}

func (r *run) cycles(ctx context.Context) error {
	order := orderOf(r.Modes, r.Cycles, r.Seed)
	for i, mode := range order {
		if _, skipped := r.out.Skipped[mode.Name]; skipped {
			continue
		}
		r.Say("cycle %d of %d: %s", i+1, len(order), mode.Name)
		err := r.cycle(ctx, mode)
		var no *notHere
		if errors.As(err, &no) {
			r.out.Skipped[mode.Name] = no.reason
			if err := r.modes.to(modes[0]); err != nil {
				return err
			}
			continue
		}
		if err != nil || r.out.Unending != "" {
			return err
		}
	}
	return nil
}

// cycle plays each step once in a mode.
func (r *run) cycle(ctx context.Context, mode Mode) (err error) {
	if err := r.modes.to(mode); err != nil {
		return err
	}
	if err := r.inForce(ctx); err != nil {
		return err
	}
	c := Cycle{Mode: mode, From: load.Now()}
	asked, err := r.modes.asked()
	if err != nil {
		return err
	}
	before, err := r.counting.Read()
	if err != nil {
		return err
	}
	stopTrace, err := r.watch(&c)
	if err != nil {
		return err
	}
	if err := r.mark(c.From, load.Label{Name: mode.Name}); err != nil {
		return err
	}
	c.First = r.marks
	for _, step := range r.Steps {
		played, err := r.reload(ctx, step)
		if err != nil {
			_ = stopTrace()
			return err
		}
		c.Steps = append(c.Steps, *played)
	}
	if err := r.catchUp(ctx); err != nil {
		_ = stopTrace()
		return err
	}
	c.Last, c.To = r.marks, load.Now()
	// What ends from here on, until the next mode is in force, is of no cycle.
	if err := errors.Join(r.mark(c.To, load.Label{Name: "between cycles"}), stopTrace()); err != nil {
		return err
	}
	after, err := r.counting.Read()
	if err != nil {
		return err
	}
	c.Counters = after.Since(before)
	delete(c.Counters, "CurrEstab") // which is none, but how many there are
	now, err := r.modes.asked()
	if err != nil {
		return err
	}
	c.Asked = migrate.Asked{SYN: now.SYN - asked.SYN, Named: now.Named - asked.Named,
		Established: now.Established - asked.Established, SYNRecv: now.SYNRecv - asked.SYNRecv, NewSYNRecv: now.NewSYNRecv - asked.NewSYNRecv}
	r.record(c)
	return r.modes.settle()
}

// catchUp waits until the load has noticed all that became of its connections up to now: on a busy machine it may do so late, and
// would count a loss in the mode that comes next. So would a connection that hangs: it comes to its end meanwhile.
func (r *run) catchUp(ctx context.Context) error {
	now := load.Now()
	for deadline := time.Now().Add(r.Load.Timeout + time.Second); r.engine.Seen() < now && time.Now().Before(deadline); {
		select {
		case <-r.engine.Done(): // for an error
			return nil
		default:
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// mark begins an interval of the load.
func (r *run) mark(at time.Duration, label load.Label) error {
	err := r.engine.Mark(at, label)
	if errors.Is(err, load.ErrPast) { // more has happened since than the load remembers
		err = r.engine.Mark(load.Now(), label)
	}
	if err != nil {
		return fmt.Errorf("divide the load's record: %w", err)
	}
	r.marks++
	return nil
}

// inForce waits until the program of a mode sees what arrives. A program that sees none is attached to another group.
func (r *run) inForce(ctx context.Context) error {
	if !r.modes.mode.Program {
		return nil
	}
	first, err := r.modes.asked()
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(r.Deadline); ; {
		now, err := r.modes.asked()
		if err != nil {
			return err
		}
		if now.SYN > first.SYN {
			return nil
		}
		if time.Now().After(deadline) {
			return &notHere{"the program is attached, and no connection reaches it: what clients connect to is another group"}
		}
		if err := pause(ctx, r.look.pause()); err != nil {
			return err
		}
	}
}

// watch begins to trace a cycle, if there is a trace.
func (r *run) watch(c *Cycle) (stop func() error, err error) {
	if r.Tracer == nil {
		return func() error { return nil }, nil
	}
	w, err := r.Tracer.WatchThread()
	if err != nil {
		return nil, err
	}
	return func() error {
		recording, err := w.Stop()
		if err != nil {
			return err
		}
		c.TraceLost = recording.Lost
		for _, e := range recording.Events {
			if e.Kind == trace.ResetSent && e.Src.Port() == r.Load.To.Port() {
				c.Resets = append(c.Resets, e)
			}
		}
		return nil
	}, nil
}

// record adds a cycle. A loss of it may not be told yet; those of the one before are.
func (r *run) record(c Cycle) {
	r.forget()
	r.out.Cycles = append(r.out.Cycles, c)
}

// forget forgets the resets of the last cycle that are of no loss: connections that were served can end so, too.
func (r *run) forget() {
	for _, l := range r.lost(r.told) {
		r.told++
		r.losing[ends{l.Local, l.Remote}] = true
	}
	if last := len(r.out.Cycles) - 1; last >= 0 {
		r.out.Cycles[last].forget(r.losing)
	}
}

func (c *Cycle) forget(lost map[ends]bool) {
	c.Resets = slices.Clone(slices.DeleteFunc(c.Resets, func(e trace.Event) bool { return !lost[ends{e.Dst, e.Src}] }))
}

package reload

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/reload/load"
)

// ready waits until the server serves: there is a listener, and one reply as expected. A listener alone says little, as a
// supervisor may have bound it before the first worker is there.
func (r *run) ready(ctx context.Context) error {
	deadline := time.Now().Add(r.Ready)
	for {
		all, err := r.look.listeners()
		if err != nil {
			return err
		}
		if len(all) > 0 {
			break
		}
		// One that becomes a daemon ends, well, and leaves others behind.
		pids, err := processIDs()
		switch {
		case err != nil:
			return err
		case !r.server.alive() && (r.server.status != 0 || len(pids) == 0):
			return &ServerError{What: fmt.Sprintf("the server %s before it listened on port %d", r.server.fate(), r.look.port)}
		case time.Now().After(deadline):
			return &ServerError{
				What: fmt.Sprintf("the server does not listen on port %d after %v", r.look.port, r.Ready),
				hint: "which port is it? --port; does it take longer? --ready",
			}
		}
		if err := pause(ctx, r.look.pause()); err != nil {
			return err
		}
	}
	return r.firstReply(ctx, deadline)
}

// firstReply waits for it.
func (r *run) firstReply(ctx context.Context, deadline time.Time) error {
	one := r.Load
	one.Clients, one.Rate, one.Pause, one.Sources = 1, 0, 20*time.Millisecond, nil
	one.Timeout = min(one.Timeout, time.Second)
	engine, err := load.Start(ctx, one)
	if err != nil {
		return err
	}
	for engine.Counts()[load.OK] == 0 && time.Now().Before(deadline) && ctx.Err() == nil {
		if !r.server.alive() && r.server.status != 0 {
			break
		}
		_ = pause(ctx, 2*time.Millisecond) // the load's own thread is at work
	}
	report, err := engine.Stop(0)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case report.Counts[load.OK] > 0:
		return nil
	case !r.server.alive() && r.server.status != 0:
		return &ServerError{What: "the server " + r.server.fate() + " before it had answered"}
	}
	return &ServerError{
		What: fmt.Sprintf("the server listens and does not answer as expected within %v: %s", r.Ready, replies(report)),
		hint: "see --http, --status, --send and --expect for the request, and --ready for the time",
	}
}

// replies says what came instead of what was expected.
func replies(report load.Report) string {
	var said []string
	for e, n := range report.Counts {
		if load.End(e).Lost() && n > 0 {
			said = append(said, fmt.Sprintf("%s %d", load.End(e), n))
		}
	}
	if len(said) == 0 {
		return "nothing came"
	}
	for _, l := range report.Lost {
		if l.Detail != "" {
			said = append(said, fmt.Sprintf("the first such reply begins %q", l.Detail))
			break
		}
	}
	return strings.Join(said, ", ")
}

// reloading is a step that is being played.
type reloading struct {
	*run
	Played
	before  *holding
	command *process       // nil: there is none
	old     *process       // of a rolling restart
	queues  map[uint32]int // of the new listeners, at the last look
	idle    map[uint32]int // looks in a row at which they were empty
	accepts map[uint32]bool
	ending  bool // the old one was told to end
	none    time.Time
}

// reload plays a step, and returns when it is done: when who holds the listeners has changed, and not changed again for a while.
// That a command has returned says nothing.
func (r *run) reload(ctx context.Context, step Step) (*Played, error) {
	before, err := r.look.look()
	if err != nil {
		return nil, err
	}
	w := &reloading{run: r, Played: Played{Step: step}, before: before}
	r.now = before
	r.note(before)
	mode := r.modes.mode.Name
	w.At = load.Now()
	if err := cmp.Or(r.mark(w.At, load.Label{Name: mode, Reload: true}), w.begin()); err != nil {
		return nil, err
	}
	for done := false; !done; {
		if err := w.see(); err != nil {
			return nil, err
		}
		if done, err = w.over(); err != nil {
			return nil, err
		}
		if err := pause(ctx, r.look.pause()); err != nil {
			return nil, err
		}
	}
	w.Took = load.Now() - w.At
	if err := r.mark(w.At+max(w.Last, w.Returned), load.Label{Name: mode}); err != nil {
		return nil, err
	}
	w.Closed = len(before.newer(r.now)) // those of before that are not there now
	w.Holders, w.Inodes = len(r.now.pids()), len(r.now.inodes)
	w.stay()
	return &w.Played, nil
}

// begin does what the step is.
func (w *reloading) begin() (err error) {
	switch {
	case w.Rolling:
		w.old = w.server
		err = w.start()
	case w.Signal != 0:
		err = w.send(w.Signal)
	default:
		s := w.spawn("the reload", []string{"/bin/sh", "-c", w.Command})
		s.env = append(s.env, fmt.Sprintf("RPMIG_PID=%d", w.main()))
		w.command, err = w.procs.start(s, nil)
	}
	return err
}

// main is the server's process: the one that was started or, where that has become a daemon, the oldest that holds a listener.
func (r *run) main() int {
	if r.server.alive() {
		return r.server.pid
	}
	if pids := r.now.pids(); len(pids) > 0 {
		return pids[0]
	}
	return 0
}

// send sends the server a signal.
func (w *reloading) send(s unix.Signal) error {
	if w.server.alive() {
		return w.procs.signal(w.server, s)
	}
	pid := w.main()
	if pid == 0 {
		return &ServerError{What: "there is no server to send " + unix.SignalName(s) + " to"}
	}
	return unix.Kill(pid, s)
}

// see looks who holds the listeners, and does what a change calls for.
func (w *reloading) see() error {
	h, err := w.look.look()
	if err != nil {
		return err
	}
	at := load.Now() - w.At
	if !h.same(w.now) {
		if !w.Changed {
			w.First = at
		}
		w.Changed, w.Last = true, at
		w.note(h)
	}
	w.now = h
	if w.command != nil && w.Returned == 0 && !w.command.alive() {
		w.Returned = at
	}
	if err := w.modes.drain(h, w.before); err != nil {
		return err
	}
	if w.Rolling && !w.ending {
		return w.roll()
	}
	return nil
}

// serves tells whether the new server accepts from each of its listeners: the queue has become shorter, or stays empty.
func (w *reloading) serves() (bool, error) {
	const enough = 3
	newer := w.now.newer(w.before)
	all, err := w.look.listeners()
	if err != nil || len(newer) == 0 {
		return false, err
	}
	if w.queues == nil {
		w.queues, w.idle, w.accepts = map[uint32]int{}, map[uint32]int{}, map[uint32]bool{}
	}
	for _, s := range all {
		if w.idle[s.Inode]++; s.Queue > 0 {
			w.idle[s.Inode] = 0
		}
		if s.Queue < w.queues[s.Inode] || w.idle[s.Inode] >= enough {
			w.accepts[s.Inode] = true
		}
		w.queues[s.Inode] = s.Queue
	}
	return !slices.ContainsFunc(newer, func(i uint32) bool { return !w.accepts[i] }), nil
}

// roll ends the old server once the new one serves.
func (w *reloading) roll() error {
	if !w.server.alive() && w.server.status != 0 {
		return &ServerError{What: "the new server of a rolling restart " + w.server.fate() + " beside the old one",
			hint: "the two may want the same file or port; RPMIG_INSTANCE counts them: 1, 2, 3"}
	}
	if serves, err := w.serves(); err != nil || !serves {
		return err
	}
	w.ending = true
	if !w.old.alive() {
		pids := w.before.pids()
		if len(pids) == 0 {
			return nil
		}
		return unix.Kill(pids[0], w.Stop)
	}
	return w.procs.signal(w.old, w.Stop)
}

// over tells whether the step is done, for good or at its deadline.
func (w *reloading) over() (bool, error) {
	at := load.Now() - w.At
	running := w.command != nil && w.command.alive()
	if len(w.now.inodes) == 0 {
		if w.none.IsZero() {
			w.none = time.Now()
		}
		if time.Since(w.none) > w.Still && w.goneForGood() {
			return false, &ServerError{What: fmt.Sprintf("the reload %q has ended the server: nobody listens on port %d any more", w.Text, w.look.port)}
		}
	} else {
		w.none = time.Time{}
	}
	still := at-w.Last >= w.Still
	switch {
	case w.command != nil && !running && w.command.status != 0:
		return false, &ServerError{What: fmt.Sprintf("the reload %q %s", w.Text, w.command.fate()), Output: w.command.output.lines()}
	case running && at > w.deadline():
		w.procs.kill(w.command)
		return false, &ServerError{What: fmt.Sprintf("the reload %q did not return within %v", w.Text, w.deadline()), Output: w.command.output.lines()}
	case w.Rolling && !w.ending && at > w.deadline():
		return false, &ServerError{What: fmt.Sprintf("the new server of a rolling restart did not serve within %v", w.deadline())}
	case running, w.Rolling && !w.ending:
		return false, nil
	case w.Changed && still && len(w.now.inodes) > 0:
		return true, nil
	case at <= w.deadline():
		return false, nil
	case len(w.now.inodes) == 0:
		return false, &ServerError{What: fmt.Sprintf("nobody listens on port %d, %v after the reload %q", w.look.port, w.deadline(), w.Text)}
	case !w.Changed:
		return true, nil
	default: // it changes all the time: children that come and go have the listener too
		return at > 2*w.deadline(), nil
	}
}

// goneForGood tells whether there is nobody left who could listen again.
func (w *reloading) goneForGood() bool {
	pids, err := processIDs()
	return err == nil && !w.server.alive() && len(pids) == 0
}

// deadline is shorter once a server has been seen not to change its listeners.
func (w *reloading) deadline() time.Duration {
	if len(w.out.Cycles) > 0 && !slices.ContainsFunc(w.out.Cycles, Cycle.changed) && (w.command == nil || !w.command.alive()) {
		return min(w.Deadline, time.Second)
	}
	return w.Deadline
}

func (c Cycle) changed() bool {
	return slices.ContainsFunc(c.Steps, func(p Played) bool { return p.Changed })
}

// closed tells whether a listener was.
func (c Cycle) closed() bool {
	return slices.ContainsFunc(c.Steps, func(p Played) bool { return p.Closed > 0 })
}

// note remembers the names of those who hold listeners, for when they are gone.
func (r *run) note(h *holding) {
	for _, pid := range h.pids() {
		if r.out.Names[pid] == "" {
			r.out.Names[pid] = command(pid)
		}
	}
}

// stay counts the listeners of before that only processes of before hold, though newer ones are there and there are more than before:
// three times in a row, and the reloads do not end. A server may well replace some of its listeners and keep the others.
func (w *reloading) stay() {
	const enough = 3
	old := w.before.pids()
	for _, inode := range w.before.inodes {
		var holders []int
		for _, h := range w.now.holders {
			if h.inode == inode {
				holders = append(holders, h.pid)
			}
		}
		fresh := slices.ContainsFunc(holders, func(pid int) bool { return !slices.Contains(old, pid) })
		if len(holders) == 0 || fresh || len(w.now.inodes) <= len(w.before.inodes) {
			delete(w.stuck, inode)
			continue
		}
		if w.stuck[inode]++; w.stuck[inode] >= enough {
			w.out.Unending = fmt.Sprintf("a reload that does not end: after %d more, process %d (%s) still has its listener; there are %d now",
				enough-1, holders[0], w.out.Names[holders[0]], len(w.now.inodes))
		}
	}
}

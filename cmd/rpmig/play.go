//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime/debug"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
)

// manyScenarios are more than a user plays to see iptables at work. To start it for each cell would take a tenth of the
// time.
const manyScenarios = 5

// play plays what the command line asks for and reports on it.
func (e *env) play(c *cli.Context, selector string) error {
	r, err := e.request(c, selector)
	if err == nil {
		err = e.playRequest(c, r)
	}
	switch {
	case !c.Bool("bisect") || r != nil && r.relayed:
		return err
	case r == nil:
		return e.bisected(err, nil)
	default:
		return e.bisected(err, r.played)
	}
}

func (e *env) playRequest(c *cli.Context, r *request) error {
	if c.IsSet("kernel") {
		return e.playThere(c, r)
	}
	if err := fit(r.Options); err != nil {
		return err
	}
	if err := reexecInUserNS(); err != nil {
		r.relayed = errors.As(err, new(exitStatus))
		return err
	}
	closeTrace, err := r.startTrace()
	if err != nil {
		return err
	}
	defer closeTrace()
	if err := r.chooseDroppers(c, e.stderr); err != nil {
		return err
	}
	out, err := newOutput(e, c, r)
	if err != nil {
		return err
	}
	if e.home != nil {
		closeFaults, err := r.goHome(e.home)
		if err != nil {
			return err
		}
		defer closeFaults()
	}
	r.played = []*result.Run{&out.run}
	runErr := e.runTo(c, r, out)
	if len(out.run.Cells) > 0 {
		e.sayNoTrace(c, r)
	}
	if err := cmp.Or(runErr, e.report(c, r, out)); err != nil || r.baseline == nil {
		return r.status(err, &out.run)
	}
	return e.againstBaseline(c, r, []*output{out})
}

// report makes the report of a run, or ends the one that was written meanwhile.
func (e *env) report(c *cli.Context, r *request, out *output) error {
	switch {
	case out.said != nil:
		return out.said.end(&out.run)
	case out.home != nil:
		return nil
	case len(out.run.Cells) == 0 && (r.Shard.Of == 0 || r.Planned() == 0): // but that a shard is empty is a result
		return nil
	}
	ctx, done := e.afterwards(c.Context)
	defer done()
	if err := e.render(ctx, c, r.format, &out.run, out.dir); err != nil {
		return err
	}
	e.next(c, r.format, &out.run, out.dir)
	return nil
}

// startTrace begins to open the kernel's trace, if there is to be one. What it returns closes it.
func (r *request) startTrace() (closeTrace func(), err error) {
	if r.trace == "off" {
		return func() {}, nil
	}
	// Cells get ready meanwhile: all that comes before the first packet of a cell takes as long.
	opening := trace.Start(func() (t *trace.Tracer, err error) {
		t, r.noTrace, err = openTracer(r.trace, len(r.Scenarios) == 1)
		return t, err
	})
	r.Tracer = opening.Wait
	if r.trace != "auto" { // a "no" is best told before anything else has been
		if _, err := opening.Wait(); err != nil {
			return nil, err
		}
	}
	return func() { _ = opening.Close() }, nil
}

// openTracer opens the kernel's trace. "auto" does without it wherever it cannot be had, for the reason why, and where it is not
// worth it: for more than one scenario, if it can only be of the whole host.
func openTracer(want string, one bool) (t *trace.Tracer, why, err error) {
	// Its programs and maps hold some forty descriptors.
	const enough = 256
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); want == "auto" && err == nil && files.Cur < enough {
		return nil, fmt.Errorf("it takes file descriptors, and the limit is %d: ulimit -n %d", files.Cur, enough), nil
	}
	t, err = trace.OpenWith(trace.Options{Tracefs: want == "tracefs"})
	if err != nil && want == "auto" {
		return nil, err, nil
	}
	if err == nil && !worthIt(want, t.HostWide, one) {
		return nil, fmt.Errorf("%w (--trace=tracefs has it, and plays one cell at a time)", t.NoBPF), t.Close()
	}
	return t, nil, err
}

// sayNoTrace says why "auto" does without the kernel's trace. That this user may not have it goes without saying.
func (e *env) sayNoTrace(c *cli.Context, r *request) {
	if r.Tracer == nil || c.Bool("q") {
		return
	}
	_, _ = r.Tracer() // is open, or there is none
	if r.noTrace == nil || kernel.MayNot(r.noTrace) {
		return
	}
	fmt.Fprintf(e.stderr, "rpmig: there is no trace of the kernel: %s\n", oneLine(r.noTrace))
}

// worthIt tells whether a trace is wanted at the price of playing cells one at a time, if it is of the whole host.
func worthIt(want string, hostWide, one bool) bool { return want != "auto" || !hostWide || one }

// chooseDroppers chooses what drops the ACK. "auto" is iptables, but not where that would have to be started many times.
// Where iptables is there and does not work, a line on stderr says so.
func (r *request) chooseDroppers(c *cli.Context, stderr io.Writer) error {
	if r.drop != "auto" {
		return r.chooseDropper(c.Context)
	}
	choose := netns.Auto
	if len(r.Scenarios) > manyScenarios {
		choose = netns.Cheapest
	}
	var why error
	r.Dropper, why = choose(c.Context)
	if c.Err() != nil {
		return &interruptedError{}
	}
	if why != nil && !errors.Is(why, exec.ErrNotFound) && !c.Bool("q") {
		fmt.Fprintf(stderr, "rpmig: %s; the ACK is dropped by %s\n", oneLine(why), r.Dropper.Name())
	}
	if r.Repeat != 1 {
		r.Again, _ = netns.Cheapest(c.Context)
	}
	return nil
}

// chooseDropper takes the backend that was asked for, and no other.
func (r *request) chooseDropper(ctx context.Context) (err error) {
	r.Dropper, err = netns.NewDropper(ctx, r.drop)
	other := "rpmig run " + quote(r.selector) + " --drop=nftables"
	switch {
	case ctx.Err() != nil:
		return &interruptedError{}
	case errors.Is(err, exec.ErrNotFound):
		return &hintedError{err, "apt-get install iptables, or: " + other}
	case errors.Is(err, netns.ErrNoIPTables):
		return &hintedError{err, other}
	default:
		return err
	}
}

// runMemory is how much memory a run takes, in bytes, before the garbage collector works harder than debug.SetGCPercent
// says.
const runMemory = 128 << 20

// runTo plays the cells, which go to out, and ends out.
func (e *env) runTo(c *cli.Context, r *request, out *output) error {
	bundling, err := newBundling(c, out)
	if err != nil {
		return err
	}
	r.Progress = out.live.estimate()
	if !out.whole {
		// However long it is. Nothing of this size is live, so that it costs next to no time.
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(runMemory))
	}
	err = harness.Run(c.Context, r.Options, out)
	var interrupted *interruptedError
	if errors.Is(err, context.Canceled) {
		interrupted = &interruptedError{played: len(out.run.Cells), of: out.run.Header.Cells}
		err = interrupted
	}
	ctx, done := e.afterwards(c.Context)
	defer done()
	endErr := cmp.Or(out.cutBy(err), bundling.end(ctx, out))
	if interrupted != nil {
		interrupted.also = endErr
	}
	return cmp.Or(err, endErr)
}

// status is what rpmig ends with after a run: an exitStatus, or what kept it from being whole.
func (r *request) status(err error, run *result.Run) error {
	switch {
	case errors.Is(err, harness.ErrNothingToPlay):
		return &usageError{err.Error(), "rpmig explain " + quote(r.selector)}
	case err != nil:
		return err
	default:
		return exitStatus(run.ExitCode())
	}
}

// reexecInUserNS runs rpmig again in a user namespace when this user has no right to make network namespaces. It returns
// the exitStatus of that; nil means that all can be done here.
func reexecInUserNS() error {
	err := netns.Probe()
	var refused *netns.UnshareError
	if !errors.As(err, &refused) || !refused.NotAllowed() || netns.InUserNS() {
		return err
	}
	status, err := netns.Reexec()
	if err != nil {
		return err
	}
	return exitStatus(status)
}

// interruptedError says that a signal ended the run.
type interruptedError struct {
	played, of int
	also       error // what could not be done afterwards
}

func (e *interruptedError) Error() string {
	said := fmt.Sprintf("interrupted: %d of %d cells were played", e.played, e.of)
	if e.of == 0 {
		said = fmt.Sprintf("interrupted after %d cells", e.played)
	}
	if e.also != nil {
		said += "; " + e.also.Error()
	}
	return said
}

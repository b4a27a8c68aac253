//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"

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
	if err != nil {
		return err
	}
	if err := reexecInUserNS(); err != nil {
		return err
	}
	closeTrace, err := r.startTrace()
	if err != nil {
		return err
	}
	defer closeTrace()
	if err := r.chooseDroppers(); err != nil {
		return err
	}
	out, err := newOutput(e, c, r)
	if err != nil {
		return err
	}
	runErr := r.run(c, out)
	if len(out.run.Cells) > 0 {
		if err := e.render(c, r.format, &out.run, out.dir); err != nil {
			return err
		}
		e.next(c, r.format, &out.run, out.dir)
	}
	return r.status(runErr, &out.run)
}

// startTrace begins to open the kernel's trace, if there is to be one. What it returns closes it.
func (r *request) startTrace() (closeTrace func(), err error) {
	if r.trace == "off" {
		return func() {}, nil
	}
	// Cells get ready meanwhile: all that comes before the first packet of a cell takes as long.
	opening := trace.Start(func() (*trace.Tracer, error) { return openTracer(r.trace, len(r.Scenarios) == 1) })
	r.Tracer = opening.Wait
	if r.trace != "auto" { // a "no" is best told before anything else has been
		if _, err := opening.Wait(); err != nil {
			return nil, err
		}
	}
	return func() { _ = opening.Close() }, nil
}

// openTracer opens the kernel's trace. "auto" does without it where this kernel or this user cannot have it, and
// where it is not worth it: for more than one scenario, if it can only be of the whole host.
func openTracer(want string, one bool) (*trace.Tracer, error) {
	// Its programs and maps hold some forty descriptors.
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); want == "auto" && err == nil && files.Cur < 256 {
		return nil, nil
	}
	t, err := trace.OpenWith(trace.Options{Tracefs: want == "tracefs"})
	if errors.Is(err, kernel.ErrNotSupported) && want == "auto" {
		return nil, nil
	}
	if err == nil && !worthIt(want, t.HostWide, one) {
		return nil, t.Close()
	}
	return t, err
}

// worthIt tells whether a trace is wanted at the price of playing cells one at a time, if it is of the whole host.
func worthIt(want string, hostWide, one bool) bool { return want != "auto" || !hostWide || one }

// chooseDroppers chooses what drops the ACK. "auto" is iptables, but not where that would have to be started many times.
func (r *request) chooseDroppers() (err error) {
	auto := r.drop == "auto"
	if auto && len(r.Scenarios) > manyScenarios {
		r.Dropper, err = netns.Cheapest()
	} else {
		r.Dropper, err = netns.NewDropper(r.drop)
	}
	if errors.Is(err, netns.ErrNoIPTables) {
		return &hintedError{err, "apt-get install iptables, or: rpmig run " + quote(r.selector) + " --drop=nftables"}
	} else if err != nil {
		return err
	}
	if auto && r.Repeat != 1 {
		r.Again, err = netns.Cheapest()
	}
	return err
}

// run plays the cells, which go to out, and ends out.
func (r *request) run(c *cli.Context, out *output) error {
	bundling, err := newBundling(c, out)
	if err != nil {
		return err
	}
	r.Progress = out.live.estimate()
	err = harness.Run(c.Context, r.Options, out)
	if endErr := bundling.end(c.Context, out); err == nil {
		err = endErr
	}
	return err
}

// status is what rpmig ends with after a run: an exitStatus, or what kept it from being whole.
func (r *request) status(err error, run *result.Run) error {
	switch {
	case errors.Is(err, harness.ErrNothingToPlay):
		return &usageError{err.Error(), "rpmig explain " + quote(r.selector)}
	case errors.Is(err, context.Canceled):
		return &interruptedError{played: len(run.Cells), of: run.Header.Cells}
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
type interruptedError struct{ played, of int }

func (e *interruptedError) Error() string {
	if e.of == 0 {
		return fmt.Sprintf("interrupted after %d cells", e.played)
	}
	return fmt.Sprintf("interrupted: %d of %d cells were played", e.played, e.of)
}

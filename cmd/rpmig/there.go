//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/rpmig/rpmig/evidence"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/reports"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/vm"
)

// Files of a guest's run, beside its ledger.
const (
	consoleName = "console.txt"
	configName  = "kernel.config"
)

// there is a run that is played in a guest. It is the vm.Sink that brings it into an output, as harness.Run does here.
type there struct {
	*output
	e       *env
	kernel  *vm.Kernel
	guest   vm.Guest
	header  *result.Guest
	config  []byte
	command []string
	line    *guestLine
	// bundling is that of --bundle.
	bundling *bundling
	printed  [2]bytes.Buffer // standard output and error of the run in the guest
}

// playThere plays the run in each kernel that the command line names, and reports on all of them.
func (e *env) playThere(c *cli.Context, r *request) error {
	g, err := e.findGuests(c)
	if err != nil {
		return err
	}
	if c.IsSet("bundle") && len(g.kernels) > 1 {
		return &usageError{"--bundle: it holds the run of one kernel", "--out DIR, and then for each: rpmig bundle DIR/KERNEL -o FILE.tar.gz"}
	}
	runs, err := e.prepareThere(c, r, g)
	if err != nil {
		return err
	}
	lines := e.guestLines(c, runs)
	ended := make([]*vm.Ended, len(runs))
	playing, ctx := errgroup.WithContext(c.Context)
	playing.SetLimit(g.sideBySide())
	for i, t := range runs {
		playing.Go(func() (err error) {
			ended[i], err = t.play(ctx, g, guestOrder(c, r))
			return err
		})
	}
	err = playing.Wait()
	lines.end()
	for i, t := range runs {
		err = cmp.Or(err, t.finish(c, ended[i]))
	}
	return e.reportThere(c, r, runs, err)
}

// prepareThere makes an output for each kernel.
func (e *env) prepareThere(c *cli.Context, r *request, g *guests) ([]*there, error) {
	root := sync.OnceValues(newEvidenceDir)
	var runs []*there
	for _, k := range g.kernels {
		t := &there{output: blankOutput(e, c, r), e: e, kernel: k, command: e.args}
		t.newDir = func() (string, error) {
			dir, err := root()
			if err != nil {
				return "", err
			}
			dir = filepath.Join(dir, k.Name)
			return dir, os.MkdirAll(dir, 0o755)
		}
		if t.side != nil {
			t.side.Run = k.Name
		}
		if len(g.kernels) > 1 {
			t.prefix = printable(k.Name) + ": "
		} else {
			t.said = newStreaming(e, c, r.format)
		}
		t.whole = t.said == nil && t.whole
		t.beside = t.putConfig
		if k.Config != "" {
			var err error
			if t.config, err = os.ReadFile(k.Config); err != nil {
				return nil, fmt.Errorf("read the kernel's .config: %w", err)
			}
		}
		if out := c.Path("out"); out != "" {
			if err := freeOut(out); err != nil {
				return nil, err
			}
			if err := t.makeOut(filepath.Join(out, k.Name)); err != nil {
				return nil, err
			}
		}
		var err error
		if t.bundling, err = newBundling(c, t.output); err != nil {
			return nil, err
		}
		t.run.Header = result.Header{
			Schema: result.Schema, Version: version, Kernel: k.Release, Machine: machineOf(k.Arch), Command: e.args, Port: r.Port, Modes: ledgerModes(),
			Scenarios: ledgerScenarios(r.Scenarios), Bugs: ledgerBugs(r.Scenarios), Families: ledgerFamilies(r.Families),
		}
		runs = append(runs, t)
	}
	return runs, nil
}

// machineOf is what uname -m says on an architecture that GOARCH names so.
func machineOf(arch string) string {
	if m, ok := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch]; ok {
		return m
	}
	return arch
}

// guestOrder is the command line for the guest: the same, without what is about the host.
func guestOrder(c *cli.Context, r *request) vm.Order {
	o := vm.Order{Args: []string{"run"}}
	hosts := []string{"out", "bundle", "force", "format", "no-color", "quiet", "baseline", "alpha", "bisect", "shard", "timeout-mul"}
	for _, f := range slices.Concat(machineFlags(), kcidbOptions()) {
		hosts = append(hosts, f.Names()[0])
	}
	for _, f := range c.Command.Flags {
		name := f.Names()[0]
		if !c.IsSet(name) || slices.Contains(hosts, name) {
			continue
		}
		o.Args = append(o.Args, fmt.Sprintf("--%s=%v", name, c.Value(name)))
	}
	if !c.IsSet("family") { // its default depends on what was typed
		o.Args = append(o.Args, "--family="+c.String("family"))
	}
	// What the environment says is known here.
	o.Args = append(o.Args, fmt.Sprintf("--timeout-mul=%v", r.TimeoutMul))
	if r.Slow {
		o.Env = append(o.Env, slowVariable+"=yes")
	}
	if r.Shard.Of > 0 {
		o.Args = append(o.Args, fmt.Sprintf("--shard=%d/%d", r.Shard.Index, r.Shard.Of))
	}
	// The report is made here, and shows no more than came home.
	o.Args = append(o.Args, "--format="+r.format.Name, "--", r.selector)
	if c.IsSet("out") || c.IsSet("bundle") {
		o.Env = append(o.Env, keepVariable+"=1")
	}
	return o
}

// play plays the run in its guest.
func (t *there) play(ctx context.Context, g *guests, o vm.Order) (*vm.Ended, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var err error
	// Where idle time costs nothing there is nothing to fill it with, and cells that are played one by one never hold each other up.
	if m := g.machine.Filled(); m.Virtual() && m.CPUs == 1 && !slices.ContainsFunc(o.Args, func(a string) bool { return strings.HasPrefix(a, "--parallel=") }) {
		o.Args = slices.Insert(slices.Clone(o.Args), 1, "--parallel=1")
	}
	if t.guest, err = g.guest(t.kernel, o); err != nil {
		return nil, err
	}
	t.guest.Machine = t.guest.Machine.Filled()
	t.header = t.guest.Describe(ctx)
	if t.config != nil {
		t.header.Config = configName
	}
	t.run.Header.Guest = t.header
	t.line.set("booting")
	ended, err := vm.Run(ctx, t.guest, t)
	t.line.set("done")
	return ended, err
}

// Hello implements vm.Sink.
func (t *there) Hello(h vm.Hello) error {
	t.line.set("up")
	for _, w := range h.Words {
		fmt.Fprintln(&t.printed[1], "rpmig: in the guest: "+w)
	}
	return nil
}

// Header implements vm.Sink.
func (t *there) Header(h *result.Header, files []vm.File) error {
	t.run.Header = *h
	t.run.Header.Command, t.run.Header.Guest = t.command, t.header
	if err := t.Begin(h.Cells); err != nil {
		return err
	}
	t.line.plan(h.Cells)
	if to := t.place(&result.Cell{}); to != nil {
		return putAll(to, files)
	}
	return nil
}

// Cell implements vm.Sink.
func (t *there) Cell(c *result.Cell, files []vm.File) error {
	t.line.cell(c.Bad())
	return t.take(c, func(to evidence.Place) error { return putAll(to, files) })
}

// Output implements vm.Sink.
func (t *there) Output(stderr bool, text []byte) error {
	const most = 1 << 20 // of a run that complains without end
	b := &t.printed[0]
	if stderr {
		b = &t.printed[1]
	}
	if b.Len() < most {
		b.Write(text)
	}
	return nil
}

func putAll(to evidence.Place, files []vm.File) error {
	for _, f := range files {
		if err := evidence.Put(to, f.Name, f.Data); err != nil {
			return err
		}
	}
	return nil
}

func (t *there) putConfig(to evidence.Place) error {
	if t.config == nil {
		return nil
	}
	return evidence.Put(to, configName, t.config)
}

// guestError is what the run in the guest said when it failed.
func (t *there) guestError() (said, hint string) {
	for line := range strings.Lines(t.printed[1].String()) {
		if s, ok := strings.CutPrefix(line, "rpmig: error: "); ok {
			said = strings.TrimSpace(s)
		}
		if s, ok := strings.CutPrefix(line, "rpmig: hint: "); ok {
			hint = strings.TrimSpace(s)
		}
	}
	return said, hint
}

// finish writes down how the guest ended, and what became of the cells that it was playing.
func (t *there) finish(c *cli.Context, ended *vm.Ended) error {
	if ended == nil { // it was not begun, or this machine failed
		return t.end()
	}
	said, hint := t.guestError()
	why := ended.Why
	switch {
	case why == "" && c.Err() != nil: // it ended as it was told to
		if err := t.cutBy(&interruptedError{played: len(t.run.Cells)}); err != nil {
			return err
		}
	case why == "" && ended.Status == result.ExitUsage:
		return &usageError{said, cmp.Or(hint, "rpmig explain "+quote(c.Args().First()))}
	case why == "" && ended.Status == result.ExitSoftware && (t.run.ExitCode() != result.ExitSoftware || said != ""), why == "" && t.run.Header.Cells == 0 && said != "":
		why = cmp.Or(said, fmt.Sprintf("the run in the guest ended with status %d", ended.Status))
		if t.kernel.Modules == "" {
			hint = "this kernel was booted without modules: --modules DIR; or " + hint
		}
	}
	if why != "" {
		if err := t.cutShort(ended, why, cmp.Or(ended.Hint, hint)); err != nil {
			return err
		}
	}
	var to evidence.Place
	switch {
	case t.store != nil:
		to = t.store
	case t.ledger != nil:
		to = evidence.Dir(t.dir)
	}
	if to != nil {
		if err := evidence.Put(to, consoleName, ended.Console); err != nil {
			return t.unwritten(err)
		}
	}
	ctx, done := t.e.afterwards(c.Context)
	defer done()
	return t.bundling.end(ctx, t.output)
}

// cutShort ends the run of a guest that did not end by itself: without an end record there is no conclusion but for the cells
// that came home.
func (t *there) cutShort(ended *vm.Ended, why, hint string) error {
	if t.ledger == nil && t.store == nil {
		if t.dir == "" {
			if err := t.makeDir(); err != nil {
				return err
			}
		}
		if err := t.open(); err != nil {
			return err
		}
	}
	for _, id := range ended.InPlay {
		c, err := lostCell(id, why, ended.Died)
		if err != nil {
			return err
		}
		if err := t.take(c, func(to evidence.Place) error { return evidence.Files{}.Write(to, c, t.meta) }); err != nil {
			return err
		}
	}
	if err := t.notByItself(result.Ending{Why: why, Died: ended.Died, Console: ended.Last}); err != nil {
		return err
	}
	fmt.Fprintf(t.e.stderr, "rpmig: %s: %s\n", printable(t.kernel.Name), printable(why))
	if hint != "" {
		t.e.advise("hint: %s", printable(hint))
	}
	return nil
}

// lostCell is a cell that was being played when its guest was lost. Where the kernel itself has said that it gives up, that is
// its doing.
func lostCell(id, why string, died bool) (*result.Cell, error) {
	c := &result.Cell{Status: result.Error, Reason: why, Control: result.Uncontrolled}
	var err error
	if c.Scenario, c.Family, c.Mode, c.Repeat, err = result.ParseID(id); err != nil {
		return nil, fmt.Errorf("what the guest was playing: %w", err)
	}
	if died {
		c.Status = result.Fail
	}
	if c.Mode == migrate.Off().Name {
		c.Control = result.IsControl
	}
	return c, nil
}

// reportThere makes the report of all runs, and returns what rpmig ends with.
func (e *env) reportThere(c *cli.Context, r *request, runs []*there, err error) error {
	var all []*result.Run
	var outs []*output
	played, planned := 0, 0
	for _, t := range runs {
		e.sayPrinted(c, t)
		if t.run.Header.Guest == nil { // it was not begun
			continue
		}
		played, planned = played+len(t.run.Cells), planned+t.run.Header.Cells
		if t.run.Header.Cells > 0 || t.run.Ending != nil || t.run.Header.Shard != nil || c.Bool("until-fail") {
			all = append(all, &t.run)
			outs = append(outs, t.output)
		}
	}
	if c.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		err = &interruptedError{played: played, of: planned}
	}
	if len(all) > 0 {
		ctx, done := e.afterwards(c.Context)
		defer done()
		err = cmp.Or(err, e.renderThere(ctx, c, r.format, runs, all))
	}
	r.played = all
	if err != nil {
		return err
	}
	if r.baseline != nil && len(outs) > 0 {
		return e.againstBaseline(c, r, outs)
	}
	return exitStatus(result.ExitCode(all))
}

func (e *env) renderThere(ctx context.Context, c *cli.Context, format reports.Format, runs []*there, all []*result.Run) error {
	if len(runs) == 1 {
		t := runs[0]
		if t.said != nil {
			return t.said.end(&t.run)
		}
		if err := e.render(ctx, c, format, &t.run, t.dir); err != nil {
			return err
		}
		e.next(c, format, &t.run, t.dir)
		return nil
	}
	rec := &recorded{runs: all}
	for _, run := range all {
		rec.names = append(rec.names, run.Header.Guest.Name)
	}
	for _, t := range runs {
		if t.dir != "" {
			rec.dir = filepath.Dir(t.dir)
		}
	}
	if err := e.renderAll(ctx, c, format, rec); err != nil {
		return err
	}
	e.nextOf(c, format, rec)
	return nil
}

// sayPrinted passes on what the run in the guest had to say besides its errors.
func (e *env) sayPrinted(c *cli.Context, t *there) {
	if c.Bool("q") || c.Err() != nil {
		return
	}
	for line := range strings.Lines(t.printed[1].String()) {
		if strings.HasPrefix(line, "rpmig: error: ") || strings.HasPrefix(line, "rpmig: hint: ") {
			continue // the run's ending tells
		}
		fmt.Fprintf(e.stderr, "rpmig: %s: %s\n", printable(t.kernel.Name), printable(strings.TrimPrefix(strings.TrimSpace(line), "rpmig: ")))
	}
}

//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/compare"
	"github.com/rpmig/rpmig/result"
)

func (e *env) compareCommand() *cli.Command {
	return &cli.Command{
		Name:      "compare",
		Usage:     "tell what changed from one run to another",
		UsageText: "rpmig compare OLD NEW [NEW...] [options]",
		Description: strings.Join(wrapWords("OLD and NEW are what a run wrote with --out or --bundle, a folder with several such folders, or what "+
			"rpmig baseline wrote. Each NEW is compared with OLD; runs of several kernels, name by name.", helpWidth), "\n") + "\n\n" +
			strings.Join(wrapWords("Cells that were played many times are compared by their rates: Fisher's exact test, corrected after Holm "+
				"for how many are compared.", helpWidth), "\n") + "\n\n" +
			strings.Join(wrapWords("Exit status: "+compareStatuses, helpWidth), "\n"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Value: "text", Usage: "print it as `FORMAT`: " + strings.Join(compareFormats(), ", ")},
			alphaFlag(),
			boolFlag("verbose", "v", "cut no list short"),
			noColorFlag(),
		},
		Action: e.compare,
	}
}

const compareStatuses = "0 nothing has regressed, 1 something has, 64 wrong usage, 70 one run says nothing of a cell of which the other does, or the new one was cut short."

// htmlFormat is the one that package reports draws.
const htmlFormat = "html"

func compareFormats() []string {
	names := append(compare.Formats(), htmlFormat)
	slices.Sort(names)
	return names
}

func alphaFlag() cli.Flag {
	return &cli.Float64Flag{Name: "alpha", Value: compare.DefaultAlpha, Usage: "of runs that do not differ, a share of `X` may be told to differ in a rate"}
}

func checkAlpha(c *cli.Context) error {
	if a := c.Float64("alpha"); !(a > 0 && a < 1) { // NaN is neither
		return &usageError{fmt.Sprintf("--alpha: %v is not between 0 and 1", a), c.Command.HelpName + " --help"}
	}
	return nil
}

// compareMemory is how much memory two ledgers of 100,000 cells take with ease, in bytes, before the garbage collector works harder
// than debug.SetGCPercent says.
const compareMemory = 192 << 20

func (e *env) compare(c *cli.Context) error {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(compareMemory))
	if c.NArg() < 2 {
		return &usageError{"compare: want an old run and a new one", "rpmig compare OLD NEW, each written by: rpmig run all --out DIR"}
	}
	if err := notOneOf(c, "format", compareFormats(), c.Command.HelpName+" --help"); err != nil {
		return err
	}
	format := c.String("format")
	if err := checkAlpha(c); err != nil {
		return err
	}
	for _, name := range c.Args().Slice() { // what is drawn is read once it is known what has changed
		if info, err := os.Stat(name); format == htmlFormat && err == nil && !info.Mode().IsRegular() && !info.IsDir() {
			return &usageError{fmt.Sprintf("compare: --format=html reads each run twice, and %s is no plain file", name),
				"cat " + quote(name) + " >LEDGER, and then the same of LEDGER"}
		}
	}
	sides, err := openAll(c.Context, c.Args().Slice())
	if err != nil {
		return err
	}
	var pairs []compare.Pair
	for _, changed := range sides[1:] {
		p, err := compare.Pairs(sides[0], changed)
		if err != nil {
			return &usageError{"compare: " + err.Error(), c.Command.HelpName + " --help"}
		}
		pairs = append(pairs, p...)
	}
	all := compare.Compare(pairs, compare.Options{Alpha: c.Float64("alpha"), Path: e.kernelPath})
	if err := unlessEnded(c.Context, func() error {
		w := &untilEnded{c.Context, e.stdout}
		if format == htmlFormat {
			return e.sideBySide(c.Context, w, all)
		}
		return compare.Render(w, format, all, compare.View{Color: e.colorOut && !c.Bool("no-color"), All: c.Bool("v")})
	}); err != nil {
		return reportError(err)
	}
	return exitStatus(compare.ExitCode(all))
}

// openAll reads several at a time: most of it is work for the processor.
func openAll(ctx context.Context, names []string) ([][]*compare.Side, error) {
	sides, errs := make([][]*compare.Side, len(names)), make([]error, len(names))
	var reading sync.WaitGroup
	for i, name := range names {
		reading.Go(func() { sides[i], errs[i] = openSides(ctx, name) })
	}
	reading.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return sides, nil
}

// kernelPath is the path through the kernel of a scenario; empty where this rpmig does not know it.
func (e *env) kernelPath(scenario string) string {
	for i := range e.scenarios {
		if e.scenarios[i].Name == scenario {
			return e.scenarios[i].Path
		}
	}
	return ""
}

// againstBaseline says what changed from a baseline to some runs, and returns what rpmig ends with.
func (e *env) againstBaseline(c *cli.Context, r *request, outs []*output) error {
	var sides []*compare.Side
	var runs []*result.Run
	for _, out := range outs {
		out.side.Finish(&out.run, len(out.run.Cells))
		sides, runs = append(sides, out.side), append(runs, &out.run)
	}
	pairs, err := compare.Pairs(r.baseline, sides)
	if err != nil {
		return fmt.Errorf("--baseline: %w", err)
	}
	pairs = slices.DeleteFunc(pairs, func(p compare.Pair) bool { return !slices.Contains(sides, p.New) }) // kernels that were not asked for
	all := compare.Compare(pairs, compare.Options{Alpha: c.Float64("alpha"), Path: e.kernelPath, Part: true})
	w := e.stderr
	if r.format.Name == "text" {
		w = e.stdout
		fmt.Fprintln(w)
	}
	if err := compare.Render(w, "text", all, compare.View{Color: w == e.stdout && e.colorOut && !c.Bool("no-color"), All: c.Bool("v")}); err != nil {
		return reportError(err)
	}
	exit, own := compare.ExitCode(all), result.ExitCode(runs)
	if own == result.ExitSoftware || own == result.ExitSkip && exit == result.ExitOK {
		exit = own // nothing is known, whatever was known before
	}
	return exitStatus(exit)
}

// openBaseline reads what --baseline names; nil where nothing is.
func openBaseline(c *cli.Context) ([]*compare.Side, error) {
	if !c.IsSet("baseline") {
		return nil, nil
	}
	if c.Path("baseline") == "" {
		return nil, &usageError{"--baseline: which file?", "rpmig run all --out DIR; rpmig baseline DIR -o FILE"}
	}
	sides, err := openSides(c.Context, c.Path("baseline"))
	if err != nil {
		return nil, fmt.Errorf("--baseline: %w", err)
	}
	if len(sides) > 1 && !c.IsSet("kernel") {
		return nil, &usageError{fmt.Sprintf("--baseline: %s has several runs", c.Path("baseline")), "rpmig baseline DIR/NAME -o FILE, of one of them"}
	}
	return sides, nil
}

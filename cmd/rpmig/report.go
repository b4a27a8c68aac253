//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/reports"
	"github.com/rpmig/rpmig/result"
)

func (e *env) reportCommand() *cli.Command {
	return &cli.Command{
		Name:      "report",
		Usage:     "make any report again from the ledger of a run",
		UsageText: "rpmig report DIR [--format=FORMAT]",
		Description: "DIR is what a run wrote with --out, or the folder that a failing run named. Of a\n" +
			"run in several kernels, DIR has a folder for each: DIR makes one report of all,\n" +
			"DIR/KERNEL of one.\n" +
			"Exit status: 0 when the report was made, whatever it says.",
		Flags: append([]cli.Flag{
			formatFlag(), verboseFlag(), noColorFlag(),
		}, kcidbOptions()...),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return &usageError{"report: want one folder", "rpmig run all --out DIR && rpmig report DIR"}
			}
			format, err := lookupFormat(c)
			if err != nil {
				return err
			}
			if _, err := e.kcidb(c, format); err != nil {
				return err
			}
			debug.SetGCPercent(100) // most formats hold one cell at a time, and no more garbage than that is worth
			saveMemory(180)
			rec, err := readRuns(c.Context, c.Args().First(), reading{stored: format.Stored, cells: format.Most})
			if errors.Is(err, result.ErrManyCells) {
				return &usageError{fmt.Sprintf("report: %s has more than the %d cells that --format=%s is for", c.Args().First(), format.Most, format.Name),
					"rpmig report " + quote(c.Args().First()) + ", or --format=jsonl: these take any number"}
			} else if err != nil {
				return err
			}
			defer rec.close()
			rec.sayBroken(e.stderr)
			if err := e.renderAll(c.Context, c, format, rec); err != nil {
				return err
			}
			if e.personErr {
				e.nextOf(c, format, rec)
			}
			return nil
		},
	}
}

// saveMemory makes the garbage collector keep to that many MiB. Where what is in use does not fit in there any more, it would work
// without end, and is let alone from then on.
func saveMemory(most int64) {
	most <<= 20
	debug.SetMemoryLimit(most)
	afterCollections(func() (again bool) {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		if live[0].Value.Uint64() <= uint64(most/5*4) {
			return true
		}
		debug.SetGCPercent(100)
		debug.SetMemoryLimit(math.MaxInt64)
		return false
	})
}

// afterCollections calls do each time that garbage was collected, for as long as it says so.
func afterCollections(do func() (again bool)) {
	type garbage struct{ _ *int }
	var collected func(*garbage)
	collected = func(*garbage) {
		if do() {
			runtime.SetFinalizer(&garbage{}, collected)
		}
	}
	collected(nil)
}

// runDir is the folder of a run that was named as readLedger takes it.
func runDir(path string) string {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return filepath.Dir(path)
	}
	return path
}

func lookupFormat(c *cli.Context) (reports.Format, error) {
	if err := notOneOf(c, "format", formatNames(), c.Command.HelpName+" --help"); err != nil {
		return reports.Format{}, err
	}
	return reports.Lookup(c.String("format"))
}

// render writes the report of a run, whose folder is dir if it has one. With -q the text of a run in which all went well is
// one line.
func (e *env) render(ctx context.Context, c *cli.Context, format reports.Format, run *result.Run, dir string) error {
	return e.renderAll(ctx, c, format, &recorded{runs: []*result.Run{run}, dir: dir})
}

// renderAll writes one report of all runs.
func (e *env) renderAll(ctx context.Context, c *cli.Context, format reports.Format, rec *recorded) error {
	if c.Bool("q") && format.Name == "text" && result.ExitCode(rec.runs) == result.ExitOK {
		_, err := io.WriteString(e.textOut(), rec.summary())
		return reportError(err)
	}
	ids, err := e.kcidb(c, format)
	if err != nil {
		return err
	}
	if format.Name == "text" {
		e.pasteable(rec.runs)
	}
	o := reports.Options{Color: e.colorOut && !c.Bool("no-color"), Width: e.widthOut, Verbose: c.Bool("v"), Dir: rec.dir, Names: rec.names, KCIDB: ids}
	return reportError(unlessEnded(ctx, func() error {
		w := &untilEnded{ctx, e.stdout}
		if format.Name == "text" {
			w.w = e.textOut()
		}
		return format.Render(w, rec.runs, o)
	}))
}

// pasteable has what is said of skipped cells be commands that can be pasted, of runs whose ledgers have been written.
func (e *env) pasteable(runs []*result.Run) {
	for _, run := range runs {
		for i := range run.Cells { // none of a ledger whose cells are in its file, which others may have written elsewhere
			if c := &run.Cells[i]; c.Status == result.Skip {
				c.Reason = e.asStarted(c.Reason)
			}
		}
	}
}

func reportError(err error) error {
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

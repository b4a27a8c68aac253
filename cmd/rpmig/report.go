//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/reports"
	"github.com/rpmig/rpmig/result"
)

func (e *env) reportCommand() *cli.Command {
	return &cli.Command{
		Name:      "report",
		Usage:     "make any report again from the ledger of a run",
		UsageText: "rpmig report DIR [--format=FORMAT]",
		Description: "DIR is what a run wrote with --out, or the folder that a failing run named.\n" +
			"Exit status: 0 when the report was made, whatever it says.",
		Flags: []cli.Flag{
			formatFlag(), verboseFlag(), noColorFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return &usageError{"report: want one folder", "rpmig run all --out DIR && rpmig report DIR"}
			}
			format, err := lookupFormat(c)
			if err != nil {
				return err
			}
			run, err := readLedger(c.Context, c.Args().First())
			if err != nil {
				return err
			}
			if n := run.Missing(); n > 0 {
				fmt.Fprintf(e.stderr, "rpmig: the run was cut short: %d of %d cells are missing\n", n, run.Header.Cells)
			}
			if err := e.render(c.Context, c, format, run, runDir(c.Args().First())); err != nil {
				return err
			}
			if e.personErr {
				e.next(c, format, run, c.Args().First())
			}
			return nil
		},
	}
}

// runDir is the folder of a run that was named as readLedger takes it.
func runDir(path string) string {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return filepath.Dir(path)
	}
	return path
}

func lookupFormat(c *cli.Context) (reports.Format, error) {
	f, err := reports.Lookup(c.String("format"))
	if err != nil {
		return f, &usageError{"--format: " + err.Error(), c.Command.HelpName + " --help"}
	}
	return f, nil
}

// render writes the report of a run, whose folder is dir if it has one. With -q the text of a run in which all went well is
// one line.
func (e *env) render(ctx context.Context, c *cli.Context, format reports.Format, run *result.Run, dir string) error {
	if c.Bool("q") && format.Name == "text" && run.ExitCode() == result.ExitOK {
		_, err := fmt.Fprintln(e.stdout, run.Summary())
		return err
	}
	o := reports.Options{Color: e.colorOut && !c.Bool("no-color"), Width: e.widthOut, Verbose: c.Bool("v"), Dir: dir}
	return reportError(unlessEnded(ctx, func() error { return format.Render(&untilEnded{ctx, e.stdout}, run, o) }))
}

func reportError(err error) error {
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

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
			formatFlag(), noColorFlag(),
			&cli.BoolFlag{Name: "v", Aliases: []string{"verbose"}, Usage: "show steps, counters and checks"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return &usageError{"report: want one folder", "rpmig run all --out DIR, then rpmig report DIR"}
			}
			format, err := lookupFormat(c)
			if err != nil {
				return err
			}
			run, err := readLedger(c.Args().First())
			if err != nil {
				return err
			}
			if n := run.Missing(); n > 0 {
				fmt.Fprintf(e.stderr, "rpmig: the run was cut short: %d of %d cells are missing\n", n, run.Header.Cells)
			}
			return e.render(c, format, run)
		},
	}
}

func readLedger(dir string) (*result.Run, error) {
	f, err := os.Open(filepath.Join(dir, ledgerName))
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	defer f.Close()
	run, err := result.Read(f)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %s: %w", f.Name(), err)
	}
	return run, nil
}

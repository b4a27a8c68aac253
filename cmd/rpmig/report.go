//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
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
			run, err := readLedger(c.Args().First())
			if err != nil {
				return err
			}
			if n := run.Missing(); n > 0 {
				fmt.Fprintf(e.stderr, "rpmig: the run was cut short: %d of %d cells are missing\n", n, run.Header.Cells)
			}
			if err := e.render(c, format, run); err != nil {
				return err
			}
			if e.personErr {
				e.next(c, format, run, c.Args().First())
			}
			return nil
		},
	}
}

// readLedger reads the ledger of a run by its folder, or by the name that the run printed when it ended.
func readLedger(path string) (*result.Run, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, ledgerName)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &usageError{"report: " + err.Error(), "rpmig run all --out DIR && rpmig report DIR"}
	} else if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	defer func() { _ = f.Close() }()
	run, err := result.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return run, nil
}

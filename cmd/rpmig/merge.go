//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/compare"
	"github.com/rpmig/rpmig/result"
)

func (e *env) mergeCommand() *cli.Command {
	return &cli.Command{
		Name:      "merge",
		Usage:     "join the shards of a run",
		UsageText: "rpmig merge DIR DIR... -o DIR",
		Description: strings.Join(wrapWords("Each DIR is what rpmig run --shard=I/N --out=DIR wrote. All shards of one run must be there, each once. "+
			"The ledger and the evidence are as they would be without --shard. Exit status: that of the run, as rpmig run has it.", helpWidth), "\n"),
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "output", Aliases: []string{"o"}, Usage: "write run.jsonl and the evidence to `DIR`"},
		},
		Action: func(c *cli.Context) error {
			switch {
			case c.NArg() == 0:
				return &usageError{"merge: which shards?", "rpmig run all --shard=1/2 --out A; rpmig run all --shard=2/2 --out B; rpmig merge A B -o DIR"}
			case c.Path("output") == "":
				return &usageError{"merge: into which folder?", "rpmig merge DIR DIR... -o DIR"}
			}
			return e.merge(c.Context, c.Args().Slice(), c.Path("output"))
		},
	}
}

func (e *env) merge(ctx context.Context, dirs []string, to string) error {
	if _, err := os.Stat(filepath.Join(to, ledgerName)); err == nil {
		return &usageError{fmt.Sprintf("-o: %s holds a run already", to), "choose another folder"}
	}
	var parts []compare.Part
	for _, dir := range dirs {
		run, err := readLedger(ctx, dir)
		if err != nil {
			return err
		}
		parts = append(parts, compare.Part{Path: dir, Run: run})
	}
	for _, dir := range dirs {
		if hasEvidence(dir) && inside(to, runDir(dir)) {
			return &usageError{fmt.Sprintf("-o: %s is inside %s", to, dir), "choose another folder"}
		}
	}
	merged, err := compare.Merge(parts)
	if err != nil {
		return &usageError{"merge: " + err.Error(), "rpmig merge takes each shard of one run once"}
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return &outputError{err}
	}
	for _, dir := range dirs {
		if !hasEvidence(dir) {
			continue
		}
		if err := unlessEnded(ctx, func() error { return copyEvidence(ctx, runDir(dir), to) }); err != nil {
			return &outputError{err}
		}
	}
	if err := writeLedger(filepath.Join(to, ledgerName), merged); err != nil { // last: with it the folder is a run
		return &outputError{err}
	}
	fmt.Fprintf(e.stderr, "rpmig: %s; the ledger is %s\n", merged.Summary(), printable(filepath.Join(to, ledgerName)))
	return exitStatus(merged.ExitCode())
}

// hasEvidence tells whether there is evidence beside a ledger: of a folder, or of the ledger in one. Beside a file of another name is
// what has nothing to do with it.
func hasEvidence(path string) bool {
	info, err := os.Stat(path)
	return err == nil && (info.IsDir() || filepath.Base(path) == ledgerName)
}

// inside tells whether a folder is another one, or below it.
func inside(dir, other string) bool {
	a, err := filepath.Abs(dir)
	b, otherErr := filepath.Abs(other)
	if err != nil || otherErr != nil {
		return false
	}
	rel, err := filepath.Rel(b, a)
	return err == nil && filepath.IsLocal(rel)
}

func writeLedger(name string, run *result.Run) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w, err := result.NewWriter(f, run.Header)
	for i := 0; err == nil && i < len(run.Cells); i++ {
		err = w.Write(&run.Cells[i])
	}
	return err
}

// copyEvidence copies what a run has left beside its ledger. What is there already is the same: the program and its log, which
// each shard has.
func copyEvidence(ctx context.Context, from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		name, relErr := filepath.Rel(from, path)
		if err = errors.Join(err, relErr); err != nil {
			return err
		}
		target := filepath.Join(to, name)
		switch {
		case name == ledgerName:
			return nil
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		if _, err := os.Stat(target); err == nil {
			return nil
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = in.Close() }()
		out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = out.ReadFrom(in)
		return errors.Join(err, out.Close())
	})
}

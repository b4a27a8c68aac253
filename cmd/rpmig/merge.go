//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
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
	debug.SetGCPercent(100) // as for a report
	var parts []compare.Part
	for _, dir := range dirs {
		run, closed, err := openRun(ctx, dir, reading{stored: true}, nameFolder)
		if err != nil {
			return err
		}
		defer closed()
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
	if err := makeFolder("-o", to); err != nil {
		return err
	}
	for _, dir := range dirs {
		if !hasEvidence(dir) {
			continue
		}
		if err := unlessEnded(ctx, func() error { return copyEvidence(ctx, runDir(dir), to) }); err != nil {
			return &outputError{err, "-o"}
		}
	}
	var run *result.Run
	if err := unlessEnded(ctx, func() (err error) {
		run, err = writeLedger(ctx, filepath.Join(to, ledgerName), merged) // last: with it the folder is a run
		return err
	}); err != nil {
		return &outputError{err, "-o"}
	}
	fmt.Fprintf(e.stderr, "rpmig: %s; the ledger is %s\n", run.Summary(), printable(filepath.Join(to, ledgerName)))
	return exitStatus(run.ExitCode())
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

// writeLedger writes a ledger, and returns what its reader will find, of which the cells are not to be asked for.
func writeLedger(ctx context.Context, name string, merged *compare.Merged) (*result.Run, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	buf := bufio.NewWriterSize(&untilEnded{ctx, f}, 256<<10)
	w, err := result.NewWriter(buf, merged.Header)
	if err == nil {
		err = merged.Each(w.Write)
	}
	if err == nil {
		err = buf.Flush()
	}
	var run *result.Run
	if err == nil {
		run, err = result.ReadStored(io.NewSectionReader(f, 0, math.MaxInt64), f, 0)
	}
	return run, errors.Join(err, f.Close())
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

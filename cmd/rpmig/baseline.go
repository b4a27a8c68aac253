//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/compare"
)

func (e *env) baselineCommand() *cli.Command {
	return &cli.Command{
		Name:      "baseline",
		Usage:     "write down what is known of each cell, to be committed",
		UsageText: "rpmig baseline OLD [OLD...] [-o FILE]",
		Description: strings.Join(wrapWords("OLD is what rpmig compare takes. Several runs are taken together: a cell that fails now and then "+
			"is known to do so. With rpmig run --baseline=FILE only what differs from that makes a run fail.", helpWidth), "\n"),
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "output", Aliases: []string{"o"}, DefaultText: "standard output", Usage: "write it to `FILE`, over what is there"},
		},
		Action: func(c *cli.Context) error {
			switch {
			case c.NArg() == 0:
				return &usageError{"baseline: of which run?", "rpmig run all --out DIR; rpmig baseline DIR -o FILE"}
			case c.IsSet("output") && c.Path("output") == "":
				return &usageError{"baseline: to which file?", "rpmig baseline DIR -o FILE"}
			}
			return e.baseline(c.Context, c.Args().Slice(), c.Path("output"))
		},
	}
}

func (e *env) baseline(ctx context.Context, names []string, file string) error {
	read, err := openAll(ctx, names)
	if err != nil {
		return err
	}
	var sides []*compare.Side
	for _, s := range read {
		sides = append(sides, s...)
	}
	var text bytes.Buffer
	cells, err := compare.WriteBaseline(&text, sides)
	if err != nil {
		return fmt.Errorf("write the baseline: %w", err)
	}
	for _, s := range sides {
		switch {
		case s.Missing > 0:
			fmt.Fprintf(e.stderr, "rpmig: %s was cut short: %d cells are missing, and not known\n", printable(s.Path), s.Missing)
		case s.Ending != nil:
			fmt.Fprintf(e.stderr, "rpmig: %s did not end by itself: %s\n", printable(s.Path), printable(s.Ending.Why))
		}
	}
	if file == "" {
		return unlessEnded(ctx, func() error {
			_, err := e.stdout.Write(text.Bytes())
			return err
		})
	}
	// Behind a link of theirs may be what is no plain file, which replaceFile writes to.
	if err := ownWay("-o", file, false); err != nil {
		return err
	}
	if err := replaceFile(ctx, file, text.Bytes()); err != nil {
		return baselineError(file, err)
	}
	fmt.Fprintf(e.stderr, "rpmig: %d cells are in %s\n", cells, printable(file))
	return nil
}

// baselineError says what to do about a baseline that could not be written.
func baselineError(file string, err error) error {
	err = fmt.Errorf("write the baseline: %w", err)
	switch {
	case errors.Is(err, unix.EISDIR):
		return &usageError{err.Error(), "choose a file: " + quote(filepath.Join(file, "known.jsonl"))}
	case notThere(err):
		return &usageError{err.Error(), "choose a file in a folder that is there"}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return &hintedError{err, "choose a file in a folder that you may write to"}
	default:
		return err
	}
}

// replaceFile writes a file, so that there is the old one or the whole new one. What is no plain file is written to.
func replaceFile(ctx context.Context, name string, text []byte) error {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return unlessEnded(ctx, func() error { return os.WriteFile(name, text, 0o644) }) // a pipe may have no reader
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".rpmig-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // it is gone, if all went well
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

//go:build linux

package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/bundle"
	"github.com/rpmig/rpmig/compare"
	"github.com/rpmig/rpmig/result"
)

// openSides reads what can be compared: a ledger, the folder of a run or of several, a bundle, or a baseline.
func openSides(ctx context.Context, name string) (sides []*compare.Side, err error) {
	err = unlessEnded(ctx, func() (err error) {
		return eachLedger(ctx, name, func(run string, text io.Reader) error {
			found, err := skim(name, run, text)
			sides = append(sides, found...)
			return err
		}, func(text io.Reader) (err error) {
			sides, err = compare.ReadBaseline(text, name)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	for i, s := range sides {
		s.Number = i
	}
	return sides, nil
}

// skim reads the ledgers of a file. Of several in one, which have no folders, each is called after its kernel.
func skim(name, folder string, text io.Reader) ([]*compare.Side, error) {
	var sides []*compare.Side
	cells := map[*result.Run]int{}
	at := map[*result.Run]*compare.Side{}
	runs, err := result.Skim(text, func(run *result.Run, c *result.Cell) error {
		if at[run] == nil {
			at[run] = compare.NewSide(name, folder)
		}
		cells[run]++
		at[run].Add(c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	taken := map[string]bool{}
	for _, run := range runs {
		side := at[run]
		if side == nil {
			side = compare.NewSide(name, folder)
		}
		side.Finish(run, cells[run])
		if len(runs) > 1 {
			kernel := run.Header.Kernel
			if g := run.Header.Guest; g != nil {
				kernel = g.Name
			}
			side.Run = path.Join(folder, kernel)
			for n := 2; taken[side.Run]; n++ {
				side.Run = path.Join(folder, fmt.Sprintf("%s_%d", kernel, n))
			}
			taken[side.Run] = true
		}
		sides = append(sides, side)
	}
	return sides, nil
}

// pickCells reads cells whole from where openSides has read them, by the number of the side.
func pickCells(ctx context.Context, name string, want func(side int, c *result.Cell) bool) (map[int][]result.Cell, error) {
	picked := map[int][]result.Cell{}
	before := 0 // sides
	err := unlessEnded(ctx, func() error {
		return eachLedger(ctx, name, func(_ string, text io.Reader) error {
			found, runs, err := result.Pick(text, func(run int, c *result.Cell) bool { return want(before+run, c) })
			for run, cells := range found {
				picked[before+run] = cells
			}
			before += runs
			return err
		}, func(io.Reader) error { return nil }) // a baseline has none
	})
	return picked, err
}

// eachLedger hands over the ledgers that a name stands for, each with the name of its run where there are several, or a baseline.
func eachLedger(ctx context.Context, name string, ledger func(run string, text io.Reader) error, baseline func(text io.Reader) error) error {
	info, err := os.Stat(name)
	switch {
	case name == "":
		return &usageError{"read a run: its name is empty", "rpmig run all --out DIR, and then the same again"}
	case notThere(err):
		return &usageError{err.Error(), "rpmig run all --out DIR, and then the same again"}
	case err != nil:
		return err
	case info.IsDir():
		return eachInFolder(ctx, name, ledger)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	in, is, err := unpacked(name, &untilEndedReader{ctx, f})
	if err != nil {
		return err
	}
	switch is {
	case isArchive:
		return named(name, eachInBundle(in, ledger))
	case isBaseline:
		return named(name, baseline(in))
	case isLedger:
		return named(name, ledger("", in))
	default:
		return is.refused(name, "ledger")
	}
}

// named puts the file's name before an error, and a hint behind that of a file which is none of what it may be.
func named(name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, result.ErrNoHeader):
		return &hintedError{fmt.Errorf("%s: %w", name, err), "what can be compared is what rpmig run --out=DIR, rpmig bundle or rpmig baseline writes"}
	default:
		return unpackError(name, err)
	}
}

// eachInFolder hands over the ledger of a run, or those of the runs in the folders below.
func eachInFolder(ctx context.Context, dir string, ledger func(run string, text io.Reader) error) error {
	one := func(run, name string) error {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		text, err := ledgerText(name, &untilEndedReader{ctx, f})
		if err != nil {
			return err
		}
		return named(name, ledger(run, text))
	}
	if _, err := os.Stat(filepath.Join(dir, ledgerName)); err == nil {
		return one("", filepath.Join(dir, ledgerName))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err // such as that the folder may not be looked into
	}
	below := runFolders(dir)
	for _, name := range below {
		if err := one(name, filepath.Join(dir, name, ledgerName)); err != nil {
			return err
		}
	}
	if below == nil {
		return &usageError{fmt.Sprintf("%s has no %s, and no folder with one", dir, ledgerName), "rpmig run all --out DIR, and then the same again"}
	}
	return nil
}

// eachInBundle hands over the ledgers of a tar file. Nothing in it is verified: that is what rpmig bundle --check does.
func eachInBundle(in io.Reader, ledger func(run string, text io.Reader) error) error {
	bounded := &io.LimitedReader{R: in, N: bundle.MaxBytes}
	archive := tar.NewReader(bounded)
	var runs []string
	for {
		h, err := archive.Next()
		switch {
		case bounded.N <= 0:
			return fmt.Errorf("larger than %d MiB", bundle.MaxBytes>>20)
		case errors.Is(err, io.EOF) && runs == nil:
			return fmt.Errorf("it has no %s", ledgerName)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the archive: %w", err)
		}
		dir, file := path.Split(path.Clean(h.Name))
		run := strings.TrimSuffix(dir, "/")
		if file != ledgerName || h.Typeflag != tar.TypeReg || strings.Contains(run, "/") {
			continue
		}
		if slices.Contains(runs, run) {
			return fmt.Errorf("%q is there twice", h.Name)
		}
		runs = append(runs, run)
		if err := ledger(run, archive); err != nil {
			return err
		}
	}
}

// untilEndedReader reads until a context ends.
type untilEndedReader struct {
	ctx context.Context
	r   io.Reader
}

func (u *untilEndedReader) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.Read(p)
}

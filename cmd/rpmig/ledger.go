//go:build linux

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/rpmig/rpmig/nameless"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/unpack"
)

// readLedger reads the ledger of a run by its folder, or by the name that the run printed when it ended.
func readLedger(ctx context.Context, path string) (*result.Run, error) {
	run, _, err := openRun(ctx, path, reading{}, nameFolder)
	return run, err
}

// nameFolder is the hint where one of several runs is wanted.
func nameFolder(dir string) string { return "name its folder: " + dir }

// openRun opens the one run of a path until closed; the hint is that of recorded.one.
func openRun(ctx context.Context, path string, how reading, hint func(dir string) string) (run *result.Run, closed func(), err error) {
	rec, err := readRuns(ctx, path, how)
	if err != nil {
		return nil, nil, err
	}
	if run, err = rec.one(path, hint); err != nil {
		rec.close()
		return nil, nil, err
	}
	return run, rec.close, nil
}

// recorded are the runs of a folder or of a file.
type recorded struct {
	runs []*result.Run
	// names are those of the folders of each, below dir; nil: they are in one file.
	names []string
	dir   string   // empty: it is not known where the evidence is
	file  *os.File // where the cells of a run are that are stored; nil: there are none
}

func (r *recorded) close() {
	if r.file != nil {
		_ = r.file.Close()
	}
}

// reading is how runs are read.
type reading struct {
	stored bool  // the cells of one run stay in its file
	bytes  int64 // no more than so many of the text of one that is stored; 0: any number
	cells  int   // no more than so many, which are in memory; 0: any number
}

// errTooLarge says that a ledger is larger than was asked for.
var errTooLarge = errors.New("too large")

// readRuns reads a run as readLedger does, or those of a folder that has a folder for each, or of a file in which they are one
// after another.
func readRuns(ctx context.Context, path string, how reading) (*recorded, error) {
	var rec *recorded
	if err := unlessEnded(ctx, func() (err error) {
		rec, err = openRuns(path, how) // a pipe may stay silent, and a million cells take half a minute
		return err
	}); err != nil {
		return nil, err
	}
	return rec, nil
}

func openRuns(path string, how reading) (*recorded, error) {
	names := runFolders(path)
	if names == nil && how.stored {
		return openStored(path, how)
	}
	if names == nil {
		runs, err := openLedgers(path, how.cells)
		if err != nil {
			return nil, err
		}
		rec := &recorded{runs: runs}
		if len(runs) == 1 {
			rec.dir = runDir(path)
		}
		return rec, nil
	}
	rec := &recorded{names: names, dir: path}
	cells := 0
	for _, name := range names {
		file := filepath.Join(path, name, ledgerName)
		left := how.cells - cells
		if how.cells > 0 && left <= 0 {
			return nil, fmt.Errorf("%s: %w", path, result.ErrManyCells)
		}
		runs, err := openLedgers(file, max(left, 0))
		if err != nil {
			return nil, err
		}
		if len(runs) > 1 {
			return nil, fmt.Errorf("%s: %w: want one in each folder", file, result.ErrSeveral)
		}
		rec.runs = append(rec.runs, runs...)
		for _, run := range runs {
			cells += run.Len()
		}
	}
	return rec, nil
}

// runFolders are the folders of runs in a folder, in the order of their names, in which 6.9 comes before 6.10. There are none
// in the folder of a run.
func runFolders(path string) (names []string) {
	if _, err := os.Stat(filepath.Join(path, ledgerName)); err == nil {
		return nil
	}
	entries, _ := os.ReadDir(path) // it is a file, or what opens it says why it cannot be read
	for _, entry := range entries {
		if _, err := os.Stat(filepath.Join(path, entry.Name(), ledgerName)); err == nil {
			names = append(names, entry.Name())
		}
	}
	slices.SortFunc(names, byNumbers)
	return names
}

var numbers = regexp.MustCompile(`\d+|\D+`)

// byNumbers compares names part by part, numbers by what they are.
func byNumbers(a, b string) int {
	return slices.CompareFunc(numbers.FindAllString(a, -1), numbers.FindAllString(b, -1), func(a, b string) int {
		m, errA := strconv.ParseUint(a, 10, 64)
		n, errB := strconv.ParseUint(b, 10, 64)
		if errA == nil && errB == nil && m != n {
			return cmp.Compare(m, n)
		}
		return cmp.Compare(a, b)
	})
}

// one is the run, of a path that has one alone. Of several, the hint is what to say of the folder of the worst.
func (r *recorded) one(path string, hint func(dir string) string) (*result.Run, error) {
	if r.names == nil && len(r.runs) == 1 {
		return r.runs[0], nil
	}
	said := fmt.Sprintf("%s holds %s, and one is wanted", path, result.Plural(len(r.runs), "run", "runs"))
	if r.names == nil {
		return nil, &usageError{said, "rpmig report " + quote(path) + " shows all"}
	}
	return nil, &usageError{said, hint(quote(filepath.Join(path, r.names[r.worst()])))}
}

// worst is the run to look at first.
func (r *recorded) worst() int {
	for i, run := range r.runs {
		if run.ExitCode() == result.ExitCode(r.runs) {
			return i
		}
	}
	return 0
}

// summary is a line a run.
func (r *recorded) summary() string {
	if r.names == nil && len(r.runs) == 1 {
		return r.runs[0].Summary() + "\n"
	}
	var b strings.Builder
	for i, run := range r.runs {
		name := run.Header.Release()
		if r.names != nil {
			name = r.names[i]
		}
		fmt.Fprintf(&b, "%s: %s\n", printable(name), run.Summary())
	}
	return b.String()
}

// sayBroken says which runs are not whole.
func (r *recorded) sayBroken(w io.Writer) {
	for i, run := range r.runs {
		who := "the run"
		switch {
		case r.names != nil:
			who = r.names[i]
		case len(r.runs) > 1:
			who = fmt.Sprintf("run %d, on %s,", i+1, run.Header.Kernel)
		}
		if run.Ending != nil {
			fmt.Fprintf(w, "rpmig: %s did not end by itself: %s\n", printable(who), printable(run.Ending.Why))
		}
		if n := run.Missing(); n > 0 {
			fmt.Fprintf(w, "rpmig: %s was cut short: %d of %d cells are missing\n", printable(who), n, run.Header.Cells)
		}
	}
}

// openLedgers reads the ledgers of a file, or of the one in a run's folder: no more than so many cells; 0: any number.
func openLedgers(path string, most int) ([]*result.Run, error) {
	f, text, err := openText(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	runs, err := result.ReadAll(text, most)
	return runs, ledgerError(f.Name(), err)
}

// openStored reads the one ledger of a file, and leaves its cells there; several are read as openLedgers does. A text that can be read
// but once goes to a file without a name, where temporary files are, as far as it is a ledger.
func openStored(path string, how reading) (*recorded, error) {
	f, text, err := openText(path)
	if err != nil {
		return nil, err
	}
	name := f.Name()
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
	cells, r := f, io.Reader(text)
	if text.changed || !info.Mode().IsRegular() {
		defer func() { _ = f.Close() }()
		if cells, err = nameless.Temp(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		r = io.TeeReader(r, cells)
	} else if how.bytes > 0 && info.Size() > how.bytes {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, errTooLarge), f.Close())
	}
	if how.bytes > 0 {
		r = &notMore{r, how.bytes}
	}
	run, err := result.ReadStored(r, cells, how.cells)
	if errors.Is(err, result.ErrSeveral) { // all of which it has read
		defer func() { _ = cells.Close() }()
		runs, err := result.ReadAll(io.NewSectionReader(cells, 0, math.MaxInt64), how.cells)
		return &recorded{runs: runs}, ledgerError(name, err)
	}
	if err != nil {
		_ = cells.Close()
		return nil, ledgerError(name, err)
	}
	return &recorded{runs: []*result.Run{run}, dir: runDir(path), file: cells}, nil
}

// notMore reads no more than so many bytes, of what may have one more.
type notMore struct {
	r    io.Reader
	left int64
}

func (n *notMore) Read(p []byte) (int, error) {
	read, err := n.r.Read(p)
	if n.left -= int64(read); n.left < 0 {
		return 0, errTooLarge
	}
	return read, err
}

// openText opens the ledger of a file, or of the one in a run's folder.
func openText(path string) (*os.File, *text, error) {
	if path == "" {
		return nil, nil, &usageError{"read the ledger: its name is empty", "rpmig run all --out DIR && rpmig report DIR"}
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, ledgerName)
	}
	f, err := os.Open(path)
	if notThere(err) {
		return nil, nil, &usageError{"read the ledger: " + err.Error(), "rpmig run all --out DIR && rpmig report DIR"}
	} else if err != nil {
		return nil, nil, fmt.Errorf("read the ledger: %w", err)
	}
	in, err := ledgerText(path, f)
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, in, nil
}

// ledgerError says in which file an error is, and what a ledger is.
func ledgerError(name string, err error) error {
	if err == nil {
		return nil
	}
	err = unpackError(name, err)
	if errors.Is(err, result.ErrNoHeader) {
		return &hintedError{err, ledgerHint}
	}
	return err
}

// text is what a ledger says.
type text struct {
	*bufio.Reader
	changed bool // the file has other bytes: it is packed, or has a mark
}

// unpackError says in which file an error is, and what to do about a packed one that looks back further than package unpack lets it.
func unpackError(name string, err error) error {
	err = fmt.Errorf("%s: %w", name, err)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return &hintedError{err, "zstd -d --long=31, and then the same again"}
	}
	return err
}

// ledgerText is the text of a ledger, also of one that somebody has packed or an editor has had. What is something else is named.
func ledgerText(name string, r io.Reader) (*text, error) {
	in, is, err := unpacked(name, r)
	if err == nil && is != isLedger {
		err = is.refused(name, "ledger")
	}
	return in, err
}

// unpacked is what is in a file that may be a ledger, and what that is by its beginning. A mark is passed over.
func unpacked(name string, r io.Reader) (*text, *fileKind, error) {
	packed := bufio.NewReader(r)
	plain, _, err := unpack.Reader(packed)
	if err != nil {
		return nil, nil, unpackError(name, err)
	}
	in := bufio.NewReader(plain)
	head, err := in.Peek(fileHead)
	if len(head) == 0 && errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil, &usageError{name + " is packed, and cut short before anything of it can be unpacked", ledgerHint}
	}
	if len(head) == 0 && err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, unpackError(name, err) // in would take it for the end
	}
	is := kindOfFile(head)
	marked := bytes.HasPrefix(head, []byte(byteOrderMark))
	if marked {
		_, _ = in.Discard(len(byteOrderMark)) // they are there
	}
	return &text{in, marked || in != packed}, is, nil
}

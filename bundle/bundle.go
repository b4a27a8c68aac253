// Package bundle puts a run into one file that can be attached to a report, and verifies such a file. All in it but the
// captures and what is known of the machine is made from the ledger, so a check makes that again and compares: a page or
// a report that says something else than its ledger is refused.
package bundle

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/rpmig/rpmig/nameless"
	"github.com/rpmig/rpmig/reports"
	"github.com/rpmig/rpmig/result"
)

// What a bundle may hold. A bundle comes in a mail from somebody, so it may be a bomb; and none is written that would
// be taken for one.
const (
	MaxBytes  = 512 << 20
	MaxFiles  = 100_000
	maxMemory = 128 << 20 // of a file that is read as a whole

	// MaxLedger is how large a ledger may be.
	MaxLedger = maxMemory
)

const (
	reportName   = "report.txt"
	ledgerName   = "run.jsonl"
	pageName     = "page.html"
	envName      = "environment.json"
	configName   = "kernel.config"
	manifestName = "manifest.json"
	captureFile  = "capture.pcapng"
	panicFile    = "panic.txt"
	consoleFile  = "console.txt" // of a guest

	socketsFile   = "sockets.txt"
	namespaceFile = "namespace.txt"
)

// Source is what a bundle is made of.
type Source struct {
	Files        fs.FS // the run's folder
	Run          *result.Run
	Environment  reports.Environment
	KernelConfig []byte // nil: not found
	Redact       bool   // take Identity, and the addresses of networks, out of all texts
	Identity     Identity
	// Without is told of each capture that is left out, as it cannot be read or is not that of its cell; nil: nobody is.
	Without func(capture reports.LeftOut)
}

// manifest lists every file but itself. It shows that a bundle arrived whole, not who made it.
type manifest struct {
	Schema int    `json:"schema"`
	Files  []file `json:"files"` // in the order of the archive
}

type file struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// manifestSchema is 2 since the ledger's is, and since environment.json lists what was left out by file.
const manifestSchema = 2

// entry is a file of a bundle, made when its turn comes.
type entry struct {
	name string
	make func() ([]byte, error)
	// pour makes one that is too large to be in memory, each time that it is called; nil: make does.
	pour func(w io.Writer) error
}

// made makes the file. What it returns writes it.
func (e *entry) made() (file, func(w io.Writer) error, error) {
	if e.pour == nil {
		data, err := e.make()
		return file{e.name, int64(len(data)), sum(data)}, func(w io.Writer) error {
			_, err := w.Write(data)
			return err
		}, err
	}
	sum := sha256.New()
	var size counter
	err := e.pour(io.MultiWriter(sum, &size))
	return file{e.name, int64(size), hex.EncodeToString(sum.Sum(nil))}, e.pour, err
}

// Write writes a bundle. The same source gives the same bytes.
func Write(ctx context.Context, w io.Writer, src Source) (err error) {
	played := src.Run.Len() - src.Run.Count(result.Skip)
	if n := played * filesOfCell; n > MaxFiles { // of a million cells this is known a minute before the files are
		return tooMany(n)
	}
	p := &packing{files: src.Files, run: &result.Run{Header: src.Run.Header, Ending: src.Run.Ending}, env: src.Environment, without: src.Without}
	p.env.LeftOut = slices.Clone(p.env.LeftOut)
	if src.Redact {
		p.redactor = newRedactor(src.Identity, p.run.Header.Kernel, p.run.Header.Version, p.env.Release, p.env.Rpmig)
	}
	if src.KernelConfig != nil {
		p.entries = append(p.entries, entry{name: configName, make: func() ([]byte, error) { return p.text(src.KernelConfig), nil }})
	}
	p.programs()
	p.console()
	if err := p.head(); err != nil {
		return err
	}
	ledger, err := nameless.Temp()
	if err != nil {
		return err
	}
	defer func() { _ = ledger.Close() }()
	run, err := p.cells(ctx, src.Run, ledger)
	if err != nil {
		return err
	}
	if p.env, err = redact(p.redactor, p.env); err != nil {
		return err
	}
	entries := append(p.entries, derived(run, &p.env)...)
	for i := range entries {
		if entries[i].name == ledgerName {
			entries[i].pour = pourFile(ledger) // which has what would be made of the run
		}
	}
	slices.SortFunc(entries, compareEntries)
	return write(ctx, w, entries)
}

// packing is a bundle as it is put together.
type packing struct {
	files    fs.FS     // the run's folder
	redactor *redactor // nil: nothing is redacted
	run      *result.Run
	env      reports.Environment
	entries  []entry
	without  func(reports.LeftOut) // as in Source
}

// console adds what the console of a guest has said.
func (p *packing) console() {
	switch {
	case p.run.Header.Guest == nil:
	case isFile(p.files, consoleFile):
		p.take(consoleFile, p.text)
	default:
		p.env.LeftOut = append(p.env.LeftOut, reports.LeftOut{File: consoleFile, Why: "which is not in the run's folder"})
	}
}

// head redacts what the ledger says besides its cells. A guest's kernel was named by its user, and a console may say anything.
func (p *packing) head() (err error) {
	h := &p.run.Header
	if h.Command, err = redact(p.redactor, h.Command); err != nil {
		return err
	}
	if h.Guest, err = redact(p.redactor, h.Guest); err != nil {
		return err
	}
	p.run.Ending, err = redact(p.redactor, p.run.Ending)
	return err
}

// take adds a file of the run's folder, made fit for a bundle.
func (p *packing) take(name string, fit func([]byte) []byte) {
	p.entries = append(p.entries, entry{name: name, make: func() ([]byte, error) {
		data, err := readFile(p.files, name)
		return fit(data), err
	}})
}

// text redacts a file.
func (p *packing) text(data []byte) []byte { return []byte(p.redactor.text(string(data))) }

// cells adds the cells of the ledger, writes the bundle's own ledger to a file, and returns the run as a reader of the bundle will find
// it there: what else is in the bundle is made from that.
func (p *packing) cells(ctx context.Context, of *result.Run, f *os.File) (*result.Run, error) {
	buf := bufio.NewWriterSize(f, 256<<10)
	w, err := result.NewWriter(buf, p.run.Header)
	if err != nil {
		return nil, err
	}
	// A cell that was read, and is written as it is, need not be read again: of a thousand that is half a second.
	var written []byte // a cell's line, where it has to be
	change := func(text []byte) []byte {
		clean := text
		if p.redactor != nil {
			clean = p.redactor.json(text)
		}
		if written = nil; of.Stored == nil || !bytes.Equal(text, clean) {
			written = clean
		}
		return clean
	}
	run := &result.Run{Ending: p.run.Ending, Cells: make([]result.Cell, 0, of.Len())}
	keep := result.Keeper{}
	if err := of.Each(func(c *result.Cell) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		clean := *c
		p.cell(&clean)
		if err := w.WriteChanged(&clean, change); err != nil {
			return err
		}
		if written != nil {
			again, err := result.ParseCell(written)
			if err != nil {
				return fmt.Errorf("%s, redacted: %w", c.ID(), err)
			}
			clean = *again
		}
		run.Cells = append(run.Cells, *keep.Cell(&clean))
		return nil
	}); err != nil {
		return nil, err
	}
	if p.run.Ending != nil {
		if err := w.End(*p.run.Ending); err != nil {
			return nil, err
		}
	}
	if err := buf.Flush(); err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, err
	}
	if size > MaxLedger {
		return nil, &LimitError{fmt.Sprintf("%s: larger than %d MiB", ledgerName, MaxLedger>>20)}
	}
	first, err := bufio.NewReader(io.NewSectionReader(f, 0, size)).ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	header, err := result.ParseHeader(first)
	if err != nil {
		return nil, err
	}
	run.Header = *header
	return run, nil
}

// pourFile writes a file from its beginning.
func pourFile(f *os.File) func(w io.Writer) error {
	return func(w io.Writer) error {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		_, err := io.Copy(w, f)
		return err
	}
}

// cell adds what the run has left of a cell, and names it as the bundle does.
func (p *packing) cell(c *result.Cell) {
	if c.Capture.File != "" {
		c.Capture.File = path.Join(c.Folder(), captureFile)
	}
	if name := c.Capture.File; name != "" {
		if why := p.withoutCapture(name, c); why != "" {
			left := reports.LeftOut{File: name, Why: "which " + why}
			p.env.LeftOut = append(p.env.LeftOut, left)
			if p.without != nil {
				p.without(left)
			}
		} else {
			reason := c.Reason
			p.take(name, func(data []byte) []byte { return p.redactor.capture(data, reason) })
		}
	}
	if name := path.Join(c.Folder(), panicFile); isFile(p.files, name) {
		p.take(name, p.text)
	}
}

// withoutCapture says why a cell's capture cannot be taken; empty: it can.
func (p *packing) withoutCapture(name string, c *result.Cell) string {
	if !isFile(p.files, name) {
		return "is not in the run's folder"
	}
	f, err := p.files.Open(name)
	if err != nil {
		return fmt.Sprintf("cannot be read: %v", err)
	}
	defer func() { _ = f.Close() }()
	if err := readCapture(io.LimitReader(f, MaxBytes+1)).holds(c); err != nil {
		return err.Error()
	}
	return ""
}

// programFile is what a run leaves of the BPF program that it loaded: the program itself, and of each mode the verifier's
// log.
var programFile = regexp.MustCompile(`^bpf/(select\.bpf\.[co]|[a-z0-9]+(-[a-z0-9]+)*\.txt)$`)

// programs adds those files. The program is rpmig's own, the same for all, and tells nothing of the machine.
func (p *packing) programs() {
	all, _ := fs.ReadDir(p.files, "bpf") // it is not there: then there are none, and the environment says why
	for _, f := range all {
		name := path.Join("bpf", f.Name())
		if !programFile.MatchString(name) || !isFile(p.files, name) {
			continue
		}
		fit := func(data []byte) []byte { return data }
		if path.Ext(name) == ".txt" {
			fit = p.text
		}
		p.take(name, fit)
	}
}

// compareEntries puts the report first, which is what a person opens.
func compareEntries(a, b entry) int {
	rank := func(e entry) int {
		if e.name == reportName {
			return 0
		}
		return 1
	}
	return cmp.Or(rank(a)-rank(b), cmp.Compare(a.name, b.name))
}

// filesOfCell is how many files derived makes of a cell that was played.
const filesOfCell = 4

// derived returns the files that the ledger and the environment make, and these two.
func derived(run *result.Run, env *reports.Environment) []entry {
	stories := reports.NewStories(run)
	entries := []entry{
		{name: reportName, make: func() ([]byte, error) { return []byte(reports.Bundle(run, env)), nil }},
		{name: ledgerName, pour: func(w io.Writer) error { return renderRun(w, run, "jsonl") }},
		{name: pageName, make: func() ([]byte, error) {
			var b bytes.Buffer
			err := renderRun(&b, run, "html")
			return b.Bytes(), err
		}},
		{name: envName, make: func() ([]byte, error) { return indented(env) }},
	}
	for i := range run.Cells {
		c := &run.Cells[i]
		if c.Status == result.Skip {
			continue // it was not played
		}
		add := func(name string, make func() ([]byte, error)) {
			entries = append(entries, entry{name: name, make: make})
		}
		add(path.Join(c.Folder(), "cell.json"), func() ([]byte, error) { return indented(c) })
		add(path.Join(c.Folder(), socketsFile), func() ([]byte, error) { return []byte(reports.Sockets(c)), nil })
		add(path.Join(c.Folder(), namespaceFile), func() ([]byte, error) { return []byte(reports.Namespace(c)), nil })
		add(path.Join("timelines", c.ID()+".txt"), func() ([]byte, error) { return []byte(stories.Timeline(c)), nil })
	}
	return entries
}

func renderRun(w io.Writer, run *result.Run, format string) error {
	f, err := reports.Lookup(format)
	if err != nil {
		return err
	}
	return f.Render(w, []*result.Run{run}, reports.Options{Dir: "."}) // a bundle is a run's folder, packed
}

func indented(v any) ([]byte, error) { return result.JSON(v, "  ") }

// isFile tells whether it is a plain file: a link may lead anywhere.
func isFile(files fs.FS, name string) bool {
	info, err := fs.Lstat(files, name)
	return err == nil && info.Mode().IsRegular()
}

func readFile(files fs.FS, name string) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, MaxBytes+1)) // write refuses the one byte more
}

// write puts the entries into a tar.gz that does not tell when and where it was made, or by which user.
func write(ctx context.Context, w io.Writer, entries []entry) error {
	if len(entries)+1 > MaxFiles { // with the manifest
		return tooMany(len(entries) + 1)
	}
	zip := gzip.NewWriter(w)
	archive := tar.NewWriter(zip)
	total := int64(0)
	put := func(e *entry) (file, error) {
		f, pour, err := e.made()
		if err != nil {
			return f, err
		}
		// Its header and what fills its last block count too, as they do for the reader.
		if total += f.Size + 4096; total > MaxBytes {
			return f, &LimitError{fmt.Sprintf("more than %d MiB", MaxBytes>>20)}
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Size: f.Size, Mode: 0o644, ModTime: time.Unix(0, 0)}
		if err := archive.WriteHeader(h); err != nil {
			return f, err
		}
		return f, pour(archive)
	}
	m := manifest{Schema: manifestSchema, Files: []file{}}
	entries = append(entries, entry{name: manifestName, make: func() ([]byte, error) { return indented(m) }}) // of all before it
	for i := range entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		f, err := put(&entries[i])
		if err != nil {
			return fmt.Errorf("%s: %w", entries[i].name, err)
		}
		m.Files = append(m.Files, f)
	}
	return errors.Join(archive.Close(), zip.Close())
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// LimitError says that a run is too big for one bundle.
type LimitError struct{ what string }

func (e *LimitError) Error() string { return e.what }

func tooMany(files int) error {
	return &LimitError{fmt.Sprintf("%d files: want no more than %d", files, MaxFiles)}
}

// Hint is what to do next.
func (e *LimitError) Hint() string { return "run fewer scenarios or repeats, and bundle those" }

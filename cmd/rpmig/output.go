//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/compare"
	"github.com/rpmig/rpmig/evidence"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/vm"
)

const ledgerName = "run.jsonl"

// output is the harness.Sink of a run: the ledger, the evidence, and words on stderr while it lasts.
type output struct {
	run   result.Run
	side  *compare.Side // what each cell came to, for --baseline; nil: there is none
	whole bool          // all that is known of each cell is shown in the end
	live  *liveLine     // nil: there is no terminal to draw on
	said  *streaming    // the report, as far as the run has come; nil: it is made when the run is over
	words func(format string, args ...any)
	// prefix tells this run from others, in words about its cells.
	prefix string

	dir    string   // where the ledger is; empty: nowhere yet
	home   *vm.Home // takes it all, where the run is that of a guest; nil: it is not
	asked  bool     // --out says so
	keep   bool     // keep the evidence of cells there, for --out, and not only of FAIL and ERROR
	keeps  packets
	store  *store // of the evidence of every cell, until it is bundled; nil: there is none
	file   *os.File
	ledger *result.Writer
	meta   capture.Meta
	modes  []migrate.Mode // that were asked for
	// beside writes what is kept beside the ledger.
	beside func(evidence.Place) error
	// newDir makes a folder for a run that went wrong, where nobody asked for one.
	newDir func() (string, error)
}

func newOutput(e *env, c *cli.Context, r *request) (*output, error) {
	o := blankOutput(e, c, r)
	o.run.Header = result.Header{
		Schema: result.Schema, Version: version, Kernel: r.kernel, Upstream: r.Upstream, Machine: r.machine, Command: e.args,
		Port: r.Port, Modes: ledgerModes(), Started: result.Time{Time: r.Started},
		Scenarios: ledgerScenarios(r.Scenarios), Bugs: ledgerBugs(r.Scenarios), Families: ledgerFamilies(r.Families),
	}
	if r.Shard.Of > 0 {
		o.run.Header.Shard = &result.Shard{Index: r.Shard.Index, Of: r.Shard.Of, Planned: r.Planned()}
	}
	if r.UntilFail {
		o.run.Header.UntilFail = &result.UntilFail{Most: r.Planned()}
	}
	o.modes = r.Modes
	o.meta = capture.Meta{Application: "rpmig " + version, OS: "Linux " + r.kernel, Hardware: r.machine, Interface: "lo"}
	o.beside = o.writePrograms
	if o.home = e.home; o.home != nil {
		o.keep = e.homeKeeps
		return o, nil
	}
	o.said = newStreaming(e, c, r.format)
	o.whole = o.said == nil && o.whole
	// Both on one terminal would write over each other.
	if !c.Bool("q") && e.liveErr != nil && (o.said == nil || e.widthOut == 0) {
		o.live = &liveLine{drawnLine: drawnLine{w: e.stderr, columns: e.liveErr}}
	}
	return o, o.makeOut(c.Path("out"))
}

// blankOutput is an output that goes nowhere yet.
func blankOutput(e *env, c *cli.Context, r *request) *output {
	o := &output{
		whole:  r.format.Checks || c.Bool("v"),
		newDir: newEvidenceDir,
		keeps:  packets(c.String("packets")),
		words: func(format string, args ...any) {
			if !c.Bool("q") {
				fmt.Fprintf(e.stderr, format, args...)
			}
		},
	}
	if r.baseline != nil {
		o.side = compare.NewSide("this run", "")
	}
	return o
}

func newEvidenceDir() (string, error) { return os.MkdirTemp("", "rpmig-evidence-") }

// notByItself notes how a run ended that did not end by itself.
func (o *output) notByItself(e result.Ending) error {
	o.run.Ending = &e
	if o.ledger == nil {
		return nil
	}
	if err := o.ledger.End(e); err != nil {
		return o.unwritten(err)
	}
	return nil
}

// cutBy notes that an error ended a run of which no plan tells that cells are missing. Of a guest's run its host does.
func (o *output) cutBy(err error) error {
	if err == nil || o.run.Header.UntilFail == nil || o.home != nil {
		return nil
	}
	return o.notByItself(result.Ending{Why: err.Error()})
}

// makeOut makes the folder that the run was asked to be written to; empty: it was not.
func (o *output) makeOut(dir string) error {
	if dir == "" {
		return nil
	}
	o.dir, o.keep, o.asked = dir, true, true
	return cmp.Or(freeOut(dir), makeFolder("--out", dir))
}

// ledgerModes are all modes, as readers of the ledger need to know them.
func ledgerModes() []result.Mode {
	var all []result.Mode
	for _, m := range migrate.Modes() {
		all = append(all, result.Mode{Name: m.Name, Doc: m.Doc, Saves: m.Saves, Advice: m.Advice})
	}
	return all
}

// ledgerFamilies is what the ledger says of families.
func ledgerFamilies(families []lab.Family) []string {
	var names []string
	for _, f := range families {
		names = append(names, f.Name)
	}
	return names
}

// ledgerScenarios is what the ledger says of scenarios.
func ledgerScenarios(scenarios []lab.Scenario) []result.About {
	var all []result.About
	for i := range scenarios {
		all = append(all, result.About{Name: scenarios[i].Name, Title: scenarios[i].Title()})
	}
	return all
}

// ledgerBugs are the known bugs that can show in scenarios, each once.
func ledgerBugs(scenarios []lab.Scenario) []result.Bug {
	var all []result.Bug
	for i := range scenarios {
		for _, b := range scenarios[i].Bugs {
			if !slices.ContainsFunc(all, func(o result.Bug) bool { return o.ID == b.ID }) {
				all = append(all, b)
			}
		}
	}
	return all
}

// Begin implements harness.Sink.
func (o *output) Begin(cells int) error {
	o.run.Header.Cells = cells
	if err := o.said.begin(&o.run.Header); err != nil {
		return err
	}
	o.live.begin(cells)
	switch {
	case o.home != nil:
		return o.openHome()
	case o.keep:
		return o.open()
	case o.store != nil:
		return o.beside(o.store)
	default:
		return nil
	}
}

// openHome starts the ledger of a run in a guest.
func (o *output) openHome() (err error) {
	if o.keep {
		if err := o.beside(o.home); err != nil {
			return err
		}
	}
	if o.ledger, err = result.NewWriter(o.home, o.run.Header); err != nil {
		return o.unwritten(err)
	}
	return nil
}

// open starts the ledger and brings it up to date.
func (o *output) open() (err error) {
	if o.file, err = os.OpenFile(filepath.Join(o.dir, ledgerName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
		return o.unwritten(err)
	}
	if o.ledger, err = result.NewWriter(o.file, o.run.Header); err != nil {
		return o.unwritten(err)
	}
	for i := range o.run.Cells {
		if err := o.ledger.Write(&o.run.Cells[i]); err != nil {
			return o.unwritten(err)
		}
	}
	if o.run.Ending != nil {
		if err := o.ledger.End(*o.run.Ending); err != nil {
			return o.unwritten(err)
		}
	}
	return o.beside(evidence.Dir(o.dir))
}

// The folder with the program and what the verifier says of it, below that of the run.
const (
	programDir    = "bpf"
	programSource = "select.bpf.c"
	programObject = "select.bpf.o"
)

// writePrograms leaves the program, and the verifier's log of each mode that loads it, beside the ledger. A log takes
// milliseconds, so it is asked for once and not in each cell.
func (o *output) writePrograms(to evidence.Place) error {
	source, object := migrate.Source()
	files := map[string][]byte{}
	for _, m := range o.modes {
		if m.HasProgram() {
			files[programSource], files[programObject] = source, object
			files[m.Name+".txt"] = []byte(m.Inspect())
		}
	}
	for name, data := range files {
		if err := evidence.Put(to, path.Join(programDir, name), data); err != nil {
			return o.unwritten(err)
		}
	}
	return nil
}

// Cell implements harness.Sink.
func (o *output) Cell(c *result.Cell, files evidence.Files) error {
	return o.take(c, func(to evidence.Place) error { return files.Write(to, c, o.meta) })
}

// take takes a cell, and has its evidence written where it is kept.
func (o *output) take(c *result.Cell, write func(evidence.Place) error) error {
	if c.Bad() && o.ledger == nil && o.store == nil {
		if err := o.makeDir(); err != nil {
			return err
		}
		if err := o.open(); err != nil {
			return err
		}
	}
	if !o.keeps.capture(c) {
		c.Capture.File = ""
	} else if to := o.place(c); to != nil {
		if err := write(to); err != nil {
			return o.unwritten(err)
		}
	}
	if o.side != nil {
		o.side.Add(c)
	}
	o.remember(c)
	if o.ledger != nil {
		if err := o.ledger.Write(c); err != nil {
			return o.unwritten(err)
		}
	}
	o.progress(c)
	return o.said.cell(c, o.dir)
}

// place is where the evidence of a cell is kept; nil: nowhere.
func (o *output) place(c *result.Cell) evidence.Place {
	switch {
	case o.store != nil:
		return o.store
	case !o.keep && !c.Bad():
		return nil
	case o.home != nil:
		return o.home
	default:
		return evidence.Dir(o.dir)
	}
}

// wholeRepeats is how many repeats of a cell are kept whole: the report shows the lost connections of fewer.
const wholeRepeats = 10

// remember keeps a cell for the report, and no more of it than that will show.
func (o *output) remember(c *result.Cell) {
	kept := *c
	if !o.whole && !c.Bad() && c.Repeat > wholeRepeats {
		kept = c.Brief()
	}
	o.run.Cells = append(o.run.Cells, kept)
}

func (o *output) makeDir() (err error) {
	if o.dir, err = o.newDir(); err != nil {
		return o.unwritten(err)
	}
	return nil
}

// progress counts the cell on the live line; where there is none each bad cell gets a line, as it ends.
func (o *output) progress(c *result.Cell) {
	if o.live == nil && o.home == nil && c.Bad() {
		o.words("rpmig: %s%s: %s: %s\n", o.prefix, c.ID(), c.Status, printable(c.Reason))
	}
	o.live.cell(c.Bad())
}

// end closes the ledger and clears the line.
func (o *output) end() error {
	o.live.end()
	if o.file == nil {
		return nil
	}
	o.words("rpmig: the ledger is %s\n", printable(filepath.Join(o.dir, ledgerName)))
	if err := o.file.Close(); err != nil {
		return o.unwritten(err)
	}
	return nil
}

// unwritten says that the run could not be written down.
func (o *output) unwritten(err error) error {
	by := temporary
	if o.asked {
		by = "--out"
	}
	return &outputError{err, by}
}

// outputError says that the run could not be written down, which ends it: what is not kept is not proven.
type outputError struct {
	err error
	by  string // the option that says where it is written, or temporary
}

// temporary is where files are that nobody has named a folder for.
const temporary = "TMPDIR"

func (e *outputError) Error() string { return "write the run: " + e.err.Error() }

func (e *outputError) Unwrap() error { return e.err }

// Usage tells that what was named can be no folder.
func (e *outputError) Usage() bool { return e.by != temporary && errors.Is(e.err, unix.ENOTDIR) }

// Hint is what to type next.
func (e *outputError) Hint() string {
	say := func(which string) string {
		if e.by == temporary {
			return "set TMPDIR to " + which + ", or add --out=DIR"
		}
		return "choose " + which + " with " + e.by
	}
	switch {
	case errors.Is(e.err, unix.ENOSPC), errors.Is(e.err, unix.EDQUOT):
		return "the disk is full: " + say("another folder")
	case errors.Is(e.err, fs.ErrPermission), errors.Is(e.err, unix.EROFS), errors.Is(e.err, fs.ErrNotExist): // there may be no /tmp
		return say("a folder that you may write to")
	default:
		return say("another folder")
	}
}

// uname returns the kernel's release and machine, as uname(1) -r and -m print them.
func uname() (release, machine string, err error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", runtime.GOARCH, fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]), nil
}

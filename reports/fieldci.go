package reports

import (
	"fmt"
	"io"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/rpmig/rpmig/result"
)

// Formats of those who test kernels: NIPA (netdev), LAVA (Linaro and many labs) and KCIDB (KernelCI).

// nipaOutcome is a test as a worker of NIPA hands it in (contest/remote/vmksft-p.py): the run as one test, and its cells below. It
// knows no XFAIL, which passes as in KTAP, and no ERROR, which fails.
type nipaOutcome struct {
	Test    string       `json:"test"`
	Group   string       `json:"group"`
	Result  string       `json:"result"`
	Link    string       `json:"link,omitempty"` // the run's folder, where it is known
	Time    float64      `json:"time"`           // seconds, of all cells together
	Results []nipaResult `json:"results"`
}

type nipaResult struct {
	Test   string `json:"test"`
	Result string `json:"result"`
	Time   int    `json:"time"` // whole seconds, as NIPA has it of nested tests
}

// renderNIPA writes what goes under "results" of NIPA's JSON.
func renderNIPA(w io.Writer, run *result.Run, o Options) error {
	outcome, err := nipaOf(run, "rpmig", o)
	if err != nil {
		return err
	}
	return writeJSON(w, "nipa", []nipaOutcome{outcome})
}

// renderNIPAs writes a test for each kernel.
func renderNIPAs(w io.Writer, all []*kernelRun, _ Options) error {
	var outcomes []nipaOutcome
	for _, k := range all {
		outcome, err := nipaOf(k.Run, nipaName("rpmig-"+k.name), k.o)
		if err != nil {
			return err
		}
		outcomes = append(outcomes, outcome)
	}
	return writeJSON(w, "nipa", outcomes)
}

func nipaOf(run *result.Run, name string, o Options) (nipaOutcome, error) {
	all := nipaOutcome{Test: name, Group: "selftests-rpmig", Link: o.Dir, Results: []nipaResult{}}
	err := cellsOf(run).each(func(c *result.Cell) error {
		all.Time += c.Elapsed
		all.Results = append(all.Results, nipaResult{nipaName(ktapName(c)), nipaStatus(c.Status), int(math.Round(c.Elapsed))})
		return nil
	})
	switch run.ExitCode() {
	case result.ExitOK:
		all.Result = "pass"
	case result.ExitSkip:
		all.Result = "skip"
	default:
		all.Result = "fail"
	}
	if notWhole(run) != "" {
		all.Results = append(all.Results, nipaResult{nipaName(missingName), "fail", 0})
	}
	return all, err
}

var nipaOther = regexp.MustCompile(`[^0-9a-zA-Z]+`)

// nipaName is what NIPA makes of a name (contest/remote/lib/fetcher.py, namify), so that the same test has the same name whether it
// comes in by KTAP or this way.
func nipaName(name string) string {
	return strings.TrimSuffix(nipaOther.ReplaceAllString(name, "-"), "-")
}

func nipaStatus(s result.Status) string {
	switch s {
	case result.Pass, result.XFail:
		return "pass"
	case result.Skip:
		return "skip"
	default:
		return "fail"
	}
}

// renderLAVA writes the line by which lava-test-case tells LAVA of a result, for each cell: a job may let rpmig print to the console
// and needs no parser. What there is to say of a cell stands before it, as in KTAP. LAVA knows pass, fail, skip and unknown; an
// XFAIL passes, and an ERROR is unknown.
func renderLAVA(w io.Writer, run *result.Run, o Options) error {
	s := streamLAVA(w)
	if err := s.Begin(&run.Header); err != nil {
		return err
	}
	if err := cellsOf(run).each(func(c *result.Cell) error { return s.Cell(c, o) }); err != nil {
		return err
	}
	return s.End(run)
}

// renderLAVAs puts the kernel before the name of each.
func renderLAVAs(w io.Writer, all []*kernelRun, _ Options) error {
	for _, k := range all {
		s := &lavaStream{w, k.name + "."}
		err := s.Begin(&k.Header)
		for _, c := range sorted(k.Run) {
			if err == nil {
				err = s.Cell(c, k.o)
			}
		}
		if err == nil {
			err = s.End(k.Run)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func streamLAVA(w io.Writer) Stream { return &lavaStream{w, ""} }

type lavaStream struct {
	w      io.Writer
	prefix string // of names
}

func (s *lavaStream) Begin(h *result.Header) error {
	return s.write(fmt.Sprintf("# rpmig %s on Linux %s %s\n", printable(h.Version), printable(h.Release()), printable(h.Machine)))
}

func (s *lavaStream) Cell(c *result.Cell, _ Options) error {
	said := ""
	if c.Status != result.Pass {
		said = fmt.Sprintf("# %s: %s: %s\n", lavaName(s.prefix+ktapName(c)), c.Status, lavaQuiet(printable(c.Reason)))
	}
	if again := measuredAgain(c); again != "" {
		said += fmt.Sprintf("# %s: %s\n", lavaName(s.prefix+ktapName(c)), lavaQuiet(again))
	}
	return s.write(said + lavaSignal(s.prefix+ktapName(c), lavaStatus(c.Status), fmt.Sprintf(" MEASUREMENT=%.3f UNITS=seconds", c.Elapsed)))
}

func (s *lavaStream) End(run *result.Run) error {
	why := notWhole(run)
	if why == "" {
		return nil
	}
	name := s.prefix + missingName
	return s.write(fmt.Sprintf("# %s: %s\n", lavaName(name), lavaQuiet(printable(why))) + lavaSignal(name, "unknown", ""))
}

func (s *lavaStream) write(text string) error {
	if _, err := io.WriteString(s.w, text); err != nil {
		return fmt.Errorf("write lava: %w", err)
	}
	return nil
}

func lavaSignal(name, status, more string) string {
	return fmt.Sprintf("<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=%s RESULT=%s%s>\n", lavaName(name), status, more)
}

// lavaQuiet keeps a sentence from being a signal.
func lavaQuiet(s string) string { return strings.ReplaceAll(s, "<LAVA_SIGNAL", "<-LAVA_SIGNAL") }

var lavaOther = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)

// lavaName is the name of KTAP, with a point for the slash, which would part LAVA's web addresses.
func lavaName(name string) string {
	return lavaOther.ReplaceAllString(strings.ReplaceAll(name, "/", "."), "_")
}

func lavaStatus(s result.Status) string {
	switch s {
	case result.Pass, result.XFail:
		return "pass"
	case result.Fail:
		return "fail"
	case result.Skip:
		return "skip"
	default:
		return "unknown"
	}
}

// KCIDB is what a submission to KernelCI's database leans on beside the run. One that is not valid makes a report that is not.
type KCIDB struct {
	Origin string // the CI system's name in that database
	Build  string // id of the tested build, in that database: ORIGIN:SOMETHING
	ID     string // of the run among all of the origin: it is the beginning of each test's id, behind the origin
}

var (
	kcidbOrigin = regexp.MustCompile(`^[a-z0-9_]+$`)
	kcidbBuild  = regexp.MustCompile(`^[a-z0-9_]+:[ -~]+$`)
	kcidbID     = regexp.MustCompile(`^[!-~]+$`)
)

// Validate names what is missing, or is not as KCIDB wants it.
func (k KCIDB) Validate() error {
	switch {
	case !kcidbOrigin.MatchString(k.Origin):
		return fmt.Errorf("the origin %q: want small letters, digits and _", k.Origin)
	case !kcidbBuild.MatchString(k.Build):
		return fmt.Errorf("the build %q: want ORIGIN:SOMETHING", k.Build)
	case !kcidbID.MatchString(k.ID):
		return fmt.Errorf("the id %q: want a word that no other run of this origin has", k.ID)
	}
	return nil
}

// The parts of KCIDB's schema v5.3 that rpmig writes (kcidb-io, kcidb_io/schema/v05_03.py).
type (
	kcidbAll struct {
		Version kcidbVersion `json:"version"`
		Tests   []kcidbTest  `json:"tests"`
	}
	kcidbVersion struct {
		Major int `json:"major"`
		Minor int `json:"minor"`
	}
	kcidbTest struct {
		BuildID     string           `json:"build_id"`
		ID          string           `json:"id"`
		Origin      string           `json:"origin"`
		Environment kcidbEnvironment `json:"environment"`
		Path        string           `json:"path"`
		Comment     string           `json:"comment,omitempty"`
		LogExcerpt  string           `json:"log_excerpt,omitempty"`
		Status      string           `json:"status"`
		StartTime   string           `json:"start_time,omitempty"` // RFC 3339
		Duration    float64          `json:"duration,omitempty"`   // seconds
		Misc        kcidbMisc        `json:"misc"`
	}
	kcidbEnvironment struct {
		Misc map[string]string `json:"misc"`
	}
	kcidbMisc struct {
		Rpmig    string        `json:"rpmig"` // its version
		Status   result.Status `json:"rpmig_status,omitempty"`
		Repeat   int           `json:"repeat,omitempty"`
		KnownBug string        `json:"known_bug,omitempty"`
	}
)

// maxExcerpt is how long log_excerpt may be.
const maxExcerpt = 16384

// renderKCIDB writes tests for KernelCI's database. A known bug is a FAIL there, as it is the kernel's: the database links it to an
// issue of its own. What was never begun is MISS, the harness's failure, and what was and came to nothing is ERROR.
func renderKCIDB(w io.Writer, run *result.Run, o Options) error {
	tests, err := kcidbTests(run, o.KCIDB)
	if err != nil {
		return err
	}
	return writeJSON(w, "kcidb", kcidbAll{kcidbVersion{5, 3}, tests})
}

// renderKCIDBs writes those of several kernels. Each is a build of its own: its name is put behind the build's id, and the run's.
func renderKCIDBs(w io.Writer, all []*kernelRun, o Options) error {
	tests := []kcidbTest{}
	for _, k := range all {
		name := lavaName(k.name)
		of, err := kcidbTests(k.Run, KCIDB{o.KCIDB.Origin, o.KCIDB.Build + "-" + name, o.KCIDB.ID + ":" + name})
		if err != nil {
			return err
		}
		tests = append(tests, of...)
	}
	return writeJSON(w, "kcidb", kcidbAll{kcidbVersion{5, 3}, tests})
}

func kcidbTests(run *result.Run, ids KCIDB) ([]kcidbTest, error) {
	h := &run.Header
	tests := []kcidbTest{}
	add := func(name string, t kcidbTest) {
		t.BuildID, t.Origin, t.ID = ids.Build, ids.Origin, ids.Origin+":"+ids.ID+":"+name
		t.Environment.Misc = map[string]string{"kernel": printable(h.Kernel), "machine": printable(h.Machine)}
		t.Misc.Rpmig = printable(h.Version)
		tests = append(tests, t)
	}
	err := cellsOf(run).each(func(c *result.Cell) error {
		name := printable(ktapName(c))
		said := c.Fact() + ": " + c.Reason
		if again := measuredAgain(c); again != "" {
			said += "\n" + again
		}
		for _, k := range c.Failed() {
			said += "\n" + k.String()
		}
		add(name, kcidbTest{
			Path: kcidbPath(c), Comment: place(c), LogExcerpt: excerpt(said), Status: kcidbStatus(c),
			StartTime: kcidbStart(h, c), Duration: max(c.Elapsed, 0),
			Misc: kcidbMisc{Status: c.Status, Repeat: c.Repeat, KnownBug: printable(c.Bug)},
		})
		return nil
	})
	if why := notWhole(run); why != "" {
		add(missingName, kcidbTest{Path: missingName, Status: "MISS", Comment: printable(why)})
	}
	return tests, err
}

// excerpt is as much of a text as there is room for.
func excerpt(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	whole := []rune(strings.Join(lines, "\n"))
	return string(whole[:min(len(whole), maxExcerpt)])
}

// kcidbPath is the cell's place in the tree of tests: the name of KTAP without the repeat, below "rpmig", with a point for the
// slash.
func kcidbPath(c *result.Cell) string {
	var parts []string
	for part := range strings.FieldsFuncSeq(c.Scenario+"."+c.Family+"."+c.Mode, func(r rune) bool { return r == '.' || r == '/' }) {
		parts = append(parts, lavaOther.ReplaceAllString(part, "_"))
	}
	return "rpmig." + strings.Join(parts, ".")
}

// mostSeconds are in a run of 30 years: what a ledger says of longer ones is not to be believed.
const mostSeconds = 1e9

// kcidbStart is when a cell began; empty where the ledger does not tell.
func kcidbStart(h *result.Header, c *result.Cell) string {
	if h.Started.IsZero() || !(c.At > 0 && c.At < mostSeconds) {
		return ""
	}
	began := h.Started.UTC().Add(time.Duration(c.At * float64(time.Second)))
	if began.Year() > 9999 {
		return "" // RFC 3339 has no such year
	}
	return began.Format("2006-01-02T15:04:05.000Z07:00")
}

func kcidbStatus(c *result.Cell) string {
	switch c.Status {
	case result.Pass:
		return "PASS"
	case result.Fail, result.XFail:
		return "FAIL"
	case result.Skip:
		return "SKIP"
	}
	if len(c.Steps) == 0 {
		return "MISS"
	}
	return "ERROR"
}

func writeJSON(w io.Writer, format string, v any) error {
	text, err := result.JSON(v, "  ")
	if err == nil {
		_, err = w.Write(text)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", format, err)
	}
	return nil
}

package reports

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/rpmig/rpmig/result"
)

// The first lines of the two formats. NIPA (contest/remote/lib/results.py) looks for "TAP version", and tappy takes a first line
// that it does not know for a test that came before the plan.
const (
	ktapVersion = "KTAP version 1"
	tapVersion  = "TAP version 13"
)

// renderTAP writes a test a cell, after Linux Documentation/dev-tools/ktap.rst: version, plan, then for each test its
// diagnostic lines and its result line. The totals are those of kselftest.h (ksft_print_cnts). The two formats differ in their
// first line alone.
//
// A run that was cut short ends with one more test that failed, and the plan counts it: a parser that reads result
// lines alone must not take half a run for a whole one.
func renderTAP(version string) func(io.Writer, *result.Run, Options) error {
	return func(w io.Writer, run *result.Run, o Options) error {
		tests := run.Len()
		if notWhole(run) != "" {
			tests++
		}
		s := &tapStream{w: w, version: version}
		if err := writeTAP(w, version, tests, tapFacts(&run.Header, ""), &bytes.Buffer{}); err != nil {
			return err
		}
		if err := cellsOf(run).each(func(c *result.Cell) error { return s.Cell(c, o) }); err != nil {
			return err
		}
		return s.End(run)
	}
}

// renderNested writes a test a kernel, whose subtests are its cells. The line that begins with "Subtest" is what
// kunit_parser.py takes a parent's name from.
func renderNested(w io.Writer, all []*kernelRun, _ Options) error {
	var body bytes.Buffer
	outer := &tap{w: &body}
	for _, k := range all {
		var inner, whole bytes.Buffer
		t := &tap{w: &inner}
		t.run(k.Run, k.o)
		t.totals()
		name := tapName(k.name)
		fmt.Fprintf(&whole, "%s\n# Subtest: %s\n1..%d\n%s%s", ktapVersion, name, t.tests, tapFacts(&k.Header, ""), &inner)
		for line := range strings.Lines(whole.String()) {
			body.WriteString("  " + line)
		}
		outer.kernel(name, k.Run)
	}
	outer.totals()
	return writeTAP(w, ktapVersion, outer.tests, "# "+onKernels(all)+"\n", &body)
}

// renderFlat writes a test a cell of each kernel, whose name begins with that of the kernel. TAP 13 knows no subtests: its
// readers pass over lines that are indented, and would see nothing but a line a kernel.
func renderFlat(w io.Writer, all []*kernelRun, _ Options) error {
	var body bytes.Buffer
	head := "# " + onKernels(all) + "\n"
	t := &tap{w: &body}
	for _, k := range all {
		t.prefix = tapName(k.name) + "/"
		head += tapFacts(&k.Header, tapName(k.name)+": ")
		t.run(k.Run, k.o)
	}
	t.totals()
	return writeTAP(w, tapVersion, t.tests, head, &body)
}

// writeTAP writes what goes before the first test, and the tests.
func writeTAP(w io.Writer, version string, tests int, head string, body *bytes.Buffer) error {
	_, err := fmt.Fprintf(w, "%s\n1..%d\n%s", version, tests, head)
	if err == nil {
		_, err = w.Write(body.Bytes())
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", version, err)
	}
	return nil
}

// tapFacts are diagnostic lines on a run, each after a prefix.
func tapFacts(h *result.Header, prefix string) string {
	said := fmt.Sprintf("# %srpmig %s on Linux %s %s\n", prefix, printable(h.Version), printable(h.Kernel), printable(h.Machine))
	for _, f := range guestFacts(h.Guest) {
		said += fmt.Sprintf("# %s%s: %s\n", prefix, f.Name, f.Value)
	}
	return said
}

// streamTAP writes the same, but a test as soon as its cell has ended, so that they come in that order. The plan is what was
// planned: of a run that was cut short there are fewer tests, of which the last is the one that failed.
func streamTAP(version string) func(io.Writer) Stream {
	return func(w io.Writer) Stream { return &tapStream{w: w, version: version} }
}

type tapStream struct {
	w       io.Writer
	version string
	tap     tap
}

func (s *tapStream) Begin(h *result.Header) error {
	return writeTAP(s.w, s.version, h.Cells, tapFacts(h, ""), &bytes.Buffer{})
}

func (s *tapStream) Cell(c *result.Cell, o Options) error {
	return s.write(func() { s.tap.cell(c, o) })
}

func (s *tapStream) End(run *result.Run) error {
	return s.write(func() {
		s.tap.end(run)
		s.tap.totals()
	})
}

// write hands over what was added, in a single write: a process killed between two cells leaves whole lines.
func (s *tapStream) write(add func()) error {
	var text bytes.Buffer
	s.tap.w = &text
	add()
	if _, err := s.w.Write(text.Bytes()); err != nil {
		return fmt.Errorf("write %s: %w", s.version, err)
	}
	return nil
}

// missingName is the test that stands for all planned cells that are not in the ledger.
const missingName = "rpmig.whole-plan-played"

type tap struct {
	w                                     *bytes.Buffer
	prefix                                string // of each test's name
	tests                                 int
	pass, fail, xfail, xpass, skip, error int
}

// run writes the tests of a run.
func (t *tap) run(run *result.Run, o Options) {
	for _, c := range sorted(run) {
		t.cell(c, o)
	}
	t.end(run)
}

// end writes what follows the last cell of a run that is not whole.
func (t *tap) end(run *result.Run) {
	why := notWhole(run)
	if why == "" {
		return
	}
	name := t.prefix + missingName
	if run.Ending != nil {
		for _, line := range run.Ending.Console {
			t.diagnostic(name, "console: "+line)
		}
	}
	t.result("not ok", name, "ERROR "+why, 0)
	t.error++
}

// kernel writes the result of a test whose subtests are a run's cells: what its exit status says.
func (t *tap) kernel(name string, run *result.Run) {
	switch run.ExitCode() {
	case result.ExitOK:
		t.pass++
		t.result("ok", name, "", 0)
	case result.ExitSkip:
		t.skip++
		t.result("ok", name, "SKIP every cell was skipped", 0)
	case result.ExitFail:
		t.fail++
		t.result("not ok", name, "", 0)
	default:
		t.error++
		why := notWhole(run)
		if n := run.Count(result.Error); n > 0 {
			why = strings.TrimPrefix(fmt.Sprintf("%s; %s came to no conclusion", why, result.Plural(n, "cell", "cells")), "; ")
		}
		t.result("not ok", name, "ERROR "+why, 0)
	}
}

func (t *tap) totals() {
	fmt.Fprintf(t.w, "# Totals: pass:%d fail:%d xfail:%d xpass:%d skip:%d error:%d\n",
		t.pass, t.fail, t.xfail, t.xpass, t.skip, t.error)
}

func (t *tap) cell(c *result.Cell, o Options) {
	name := t.prefix + ktapName(c)
	t.diagnostic(name, c.Fact()+": "+c.Reason)
	if doubtful(c) {
		t.diagnostic(name, doubt)
	}
	if said := measuredAgain(c); said != "" {
		t.diagnostic(name, said)
	}
	if said := gaps(c.Trace); said != "" {
		t.diagnostic(name, said)
	}
	for _, check := range c.Failed() {
		t.diagnostic(name, check.String())
	}
	if folder := o.evidence(c); folder != "" {
		t.diagnostic(name, "evidence in "+folder)
	}

	// kselftest says "ok" where it says XFAIL: what was expected to fail did (kselftest.h, ksft_test_result_xfail).
	switch c.Status {
	case result.Pass:
		if c.Bug != "" { // the bug that was expected did not show; the diagnostics above say which
			t.xpass++
		} else {
			t.pass++
		}
		t.result("ok", name, "", c.Elapsed)
	case result.XFail:
		t.xfail++
		t.result("ok", name, "XFAIL "+c.Reason, c.Elapsed)
	case result.Skip:
		t.skip++
		t.result("ok", name, "SKIP "+c.Reason, c.Elapsed)
	case result.Fail:
		t.fail++
		t.result("not ok", name, "", c.Elapsed)
	default:
		t.error++
		t.result("not ok", name, "ERROR "+c.Reason, c.Elapsed)
	}
}

func (t *tap) diagnostic(name, text string) {
	fmt.Fprintf(t.w, "# %s: %s\n", name, printable(text))
}

// result writes the line of a test that took some seconds; none: it was not played. The time is written as the kernel's selftests
// of MPTCP do (tools/testing/selftests/net/mptcp/mptcp_lib.sh), and where NIPA and node-tap look for it: in the comment, of which
// there is only one.
func (t *tap) result(verdict, name, directive string, elapsed float64) {
	t.tests++
	fmt.Fprintf(t.w, "%s %d %s", verdict, t.tests, name)
	var comment []string
	if directive != "" {
		// Escaped as in TAP 14: a parser may take the last bare hash for the one before the directive.
		comment = append(comment, strings.ReplaceAll(printable(directive), "#", `\#`))
	}
	if elapsed > 0 {
		comment = append(comment, fmt.Sprintf("time=%.0fms", min(elapsed, mostSeconds)*1000))
	}
	if comment != nil {
		fmt.Fprintf(t.w, " # %s", strings.Join(comment, " "))
	}
	t.w.WriteByte('\n')
}

// ktapName is "quiz2.ipv4.bpf", and "quiz2.ipv4.bpf.2" for the second repeat: the first keeps its name however often the
// cell is repeated, so that results compare over time. KTAP forbids '#' in names.
func ktapName(c *result.Cell) string {
	name := c.Scenario + "." + c.Family + "." + c.Mode
	if c.Repeat > 1 {
		name += fmt.Sprintf(".%d", c.Repeat)
	}
	return tapName(name)
}

// tapName makes a name fit for a result line.
func tapName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '#' || r == ' ' || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, name)
}

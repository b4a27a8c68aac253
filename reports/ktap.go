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
		var body bytes.Buffer
		t := &tap{w: &body}
		for _, c := range sorted(run) {
			t.cell(c, o)
		}
		t.end(run)
		if err := tapHead(w, version, t.tests, &run.Header); err != nil {
			return err
		}
		if _, err := w.Write(body.Bytes()); err != nil {
			return fmt.Errorf("write %s: %w", version, err)
		}
		return nil
	}
}

func tapHead(w io.Writer, version string, tests int, h *result.Header) error {
	if _, err := fmt.Fprintf(w, "%s\n1..%d\n# rpmig %s on Linux %s %s\n",
		version, tests, printable(h.Version), printable(h.Kernel), printable(h.Machine)); err != nil {
		return fmt.Errorf("write %s: %w", version, err)
	}
	return nil
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

func (s *tapStream) Begin(h *result.Header) error { return tapHead(s.w, s.version, h.Cells, h) }

func (s *tapStream) Cell(c *result.Cell, o Options) error {
	return s.write(func() { s.tap.cell(c, o) })
}

func (s *tapStream) End(run *result.Run) error { return s.write(func() { s.tap.end(run) }) }

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
	tests                                 int
	pass, fail, xfail, xpass, skip, error int
}

// end writes what follows the last cell.
func (t *tap) end(run *result.Run) {
	if n := run.Missing(); n > 0 {
		t.result("not ok", missingName, fmt.Sprintf("ERROR %d planned cells were not played", n), 0)
		t.error++
	}
	fmt.Fprintf(t.w, "# Totals: pass:%d fail:%d xfail:%d xpass:%d skip:%d error:%d\n",
		t.pass, t.fail, t.xfail, t.xpass, t.skip, t.error)
}

func (t *tap) cell(c *result.Cell, o Options) {
	name := ktapName(c)
	t.diagnostic(name, c.Fact()+": "+c.Reason)
	if doubtful(c) {
		t.diagnostic(name, doubt)
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
		comment = append(comment, fmt.Sprintf("time=%.0fms", elapsed*1000))
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
	return strings.Map(func(r rune) rune {
		if r == '#' || r == ' ' || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, name)
}

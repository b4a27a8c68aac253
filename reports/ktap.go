package reports

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/rpmig/rpmig/result"
)

// renderKTAP writes a test a cell, after Linux Documentation/dev-tools/ktap.rst: version, plan, then for each test its
// diagnostic lines and its result line. The totals are those of kselftest.h (ksft_print_cnts).
//
// A run that was cut short ends with one more test that failed, and the plan counts it: a parser that reads result
// lines alone must not take half a run for a whole one.
func renderKTAP(w io.Writer, run *result.Run, o Options) error {
	k := &ktap{}
	for _, c := range sorted(run) {
		k.cell(c, o)
	}
	if n := run.Missing(); n > 0 {
		k.result("not ok", missingName, fmt.Sprintf("ERROR %d planned cells were not played", n))
		k.error++
	}

	var head bytes.Buffer
	fmt.Fprintf(&head, "KTAP version 1\n1..%d\n", k.tests)
	fmt.Fprintf(&head, "# rpmig %s on Linux %s %s\n",
		printable(run.Header.Version), printable(run.Header.Kernel), printable(run.Header.Machine))
	fmt.Fprintf(&k.body, "# Totals: pass:%d fail:%d xfail:%d xpass:%d skip:%d error:%d\n",
		k.pass, k.fail, k.xfail, k.xpass, k.skip, k.error)
	if _, err := w.Write(append(head.Bytes(), k.body.Bytes()...)); err != nil {
		return fmt.Errorf("write ktap: %w", err)
	}
	return nil
}

// missingName is the test that stands for all planned cells that are not in the ledger.
const missingName = "rpmig.whole-plan-played"

type ktap struct {
	body                                  bytes.Buffer
	tests                                 int
	pass, fail, xfail, xpass, skip, error int
}

func (k *ktap) cell(c *result.Cell, o Options) {
	name := ktapName(c)
	k.diagnostic(name, c.Fact()+": "+c.Reason)
	if doubtful(c) {
		k.diagnostic(name, doubt)
	}
	if said := gaps(c.Trace); said != "" {
		k.diagnostic(name, said)
	}
	for _, check := range c.Failed() {
		k.diagnostic(name, check.String())
	}
	if folder := o.evidence(c); folder != "" {
		k.diagnostic(name, "evidence in "+folder)
	}

	// kselftest says "ok" where it says XFAIL: what was expected to fail did (kselftest.h, ksft_test_result_xfail).
	switch c.Status {
	case result.Pass:
		if c.Bug != "" { // the bug that was expected did not show; the diagnostics above say which
			k.xpass++
		} else {
			k.pass++
		}
		k.result("ok", name, "")
	case result.XFail:
		k.xfail++
		k.result("ok", name, "XFAIL "+c.Reason)
	case result.Skip:
		k.skip++
		k.result("ok", name, "SKIP "+c.Reason)
	case result.Fail:
		k.fail++
		k.result("not ok", name, "")
	default:
		k.error++
		k.result("not ok", name, "ERROR "+c.Reason)
	}
}

func (k *ktap) diagnostic(name, text string) {
	fmt.Fprintf(&k.body, "# %s: %s\n", name, printable(text))
}

func (k *ktap) result(verdict, name, directive string) {
	k.tests++
	fmt.Fprintf(&k.body, "%s %d %s", verdict, k.tests, name)
	if directive != "" {
		// Escaped as in TAP 14: a parser may take the last bare hash for the one before the directive.
		fmt.Fprintf(&k.body, " # %s", strings.ReplaceAll(printable(directive), "#", `\#`))
	}
	k.body.WriteByte('\n')
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

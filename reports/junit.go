package reports

import (
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rpmig/rpmig/result"
)

// The elements are those on which Jenkins, GitLab and the GitHub actions agree (https://github.com/testmoapp/junitxml), as far as
// the strictest of them lets them in: the Jenkins xUnit plugin, by its junit-10.xsd, refuses a whole file for one attribute. That
// is why nothing but a suite has a file and a timestamp, and the root does not count what was skipped. Times are seconds.
type (
	junitSuites struct {
		XMLName xml.Name `xml:"testsuites"`
		Name    string   `xml:"name,attr"`
		junitCounts
		Suites []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name string `xml:"name,attr"`
		junitCounts
		Skipped    int             `xml:"skipped,attr"`
		Timestamp  string          `xml:"timestamp,attr,omitempty"` // when its first cell began
		File       string          `xml:"file,attr,omitempty"`      // the folder of its cells' evidence
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
	}
	junitCounts struct {
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Time     junitSecond `xml:"time,attr"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Name    string       `xml:"name,attr"`
		Class   string       `xml:"classname,attr"`
		Time    junitSecond  `xml:"time,attr"`
		Skipped *junitReason `xml:"skipped"`
		Error   *junitReason `xml:"error"`
		Failure *junitReason `xml:"failure"`
		Output  *junitText   `xml:"system-out"`
	}
	junitReason struct {
		Message string `xml:"message,attr"`
		junitText
	}
	// junitText is CDATA, which keeps newlines legible in the file. encoding/xml checks no characters there, so that
	// text must be printable.
	junitText struct {
		Text string `xml:",cdata"`
	}
	junitSecond float64
)

// MarshalText writes a time with three decimals and without sign or exponent: SUREFIRE_TIME in junit-10.xsd.
func (s junitSecond) MarshalText() ([]byte, error) {
	const year = 365 * 24 * 3600 // longer than any run; a ledger may say anything
	return fmt.Appendf(nil, "%.3f", min(max(float64(s), 0), year)), nil
}

// renderJUnit writes a testsuite a scenario and a testcase a cell. XFAIL is "skipped", as JUnit has no word for it and a
// known bug must not turn a pipeline red. That a run is not whole is one error in a suite of its own.
func renderJUnit(w io.Writer, run *result.Run, o Options) error {
	all := junitSuites{Name: "rpmig"}
	all.run(run, o, "")
	if took, timed := run.Took(); timed {
		all.Time = junitSecond(took)
	}
	return all.write(w)
}

// renderSuites writes a testsuite a kernel and scenario: "6.1.0-56-cloud-amd64/quiz1".
func renderSuites(w io.Writer, runs []*kernelRun, _ Options) error {
	all := junitSuites{Name: "rpmig"}
	for _, k := range runs {
		all.run(k.Run, k.o, printable(k.name))
	}
	return all.write(w)
}

func (all *junitSuites) write(w io.Writer) error {
	out, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("write junit: %w", err)
	}
	if _, err := io.WriteString(w, xml.Header+string(out)+"\n"); err != nil {
		return fmt.Errorf("write junit: %w", err)
	}
	return nil
}

// junitTime is when that many seconds after the start of a run were over; empty where it is not known.
func junitTime(started result.Time, at float64) string {
	const year = 365 * 24 * 3600
	if started.IsZero() || at <= 0 || at > year {
		return ""
	}
	return started.Add(time.Duration(at * float64(time.Second))).UTC().Format("2006-01-02T15:04:05Z")
}

// run adds the suites of a run; kernel: its name among several.
func (all *junitSuites) run(run *result.Run, o Options, kernel string) {
	prefix, class := "", "rpmig"
	if kernel != "" {
		prefix, class = kernel+"/", class+"."+kernel
	}
	properties := junitProperties(run)
	cells := sorted(run)
	for len(cells) > 0 {
		scenario, file := cells[0].Scenario, ""
		at := 0.0 // when the first of them began
		var cases []junitCase
		for len(cells) > 0 && cells[0].Scenario == scenario {
			if c := cells[0]; c.At > 0 && (at == 0 || c.At < at) {
				at = c.At
			}
			if o.evidence(cells[0]) != "" {
				file = filepath.Join(o.Dir, "cells", scenario)
			}
			cases = append(cases, junitCell(cells[0], o, class))
			cells = cells[1:]
		}
		all.add(junitSuite{
			Name: prefix + printable(scenario), Properties: properties, File: printable(file), Timestamp: junitTime(run.Header.Started, at), Cases: cases,
		})
	}
	if why := notWhole(run); why != "" {
		c := junitCase{Name: "whole plan played", Class: class, Error: &junitReason{Message: printable(why)}}
		if run.Ending != nil && len(run.Ending.Console) > 0 {
			c.Error.Text = "\n"
			for _, line := range run.Ending.Console {
				c.Error.Text += printable(line) + "\n"
			}
		}
		all.add(junitSuite{Name: prefix + "rpmig", Properties: properties, Cases: []junitCase{c}})
	}
}

func junitProperties(run *result.Run) []junitProperty {
	times := "how long each cell took; of suites the sum: cells are played side by side, and the run took less"
	if _, timed := run.Took(); timed {
		times = "how long each cell took, and of suites the sum: cells are played side by side; of the whole how long the run took"
	}
	properties := []junitProperty{
		{"kernel", printable(run.Header.Kernel)},
		{"machine", printable(run.Header.Machine)},
		{"version", printable(run.Header.Version)},
		{"times", times},
	}
	for _, f := range guestFacts(run.Header.Guest) {
		properties = append(properties, junitProperty(f))
	}
	return properties
}

// add adds a suite, and counts its cases.
func (all *junitSuites) add(suite junitSuite) {
	for i := range suite.Cases {
		if suite.Cases[i].Skipped != nil {
			suite.Skipped++
		}
		suite.count(&suite.Cases[i])
		all.count(&suite.Cases[i])
	}
	all.Suites = append(all.Suites, suite)
}

func (n *junitCounts) count(c *junitCase) {
	n.Tests++
	n.Time += c.Time
	switch {
	case c.Failure != nil:
		n.Failures++
	case c.Error != nil:
		n.Errors++
	}
}

func junitCell(c *result.Cell, o Options, class string) junitCase {
	out := junitCase{
		Name:   printable(c.Family + "/" + c.Mode),
		Class:  printable(class + "." + c.Scenario),
		Time:   junitSecond(c.Elapsed),
		Output: &junitText{junitFacts(c, o)},
	}
	if c.Repeat > 1 {
		out.Name += fmt.Sprintf(" #%d", c.Repeat)
	}

	reason := &junitReason{Message: printable(c.Reason)}
	switch c.Status {
	case result.Pass:
	case result.XFail:
		reason.Message = "XFAIL: " + reason.Message
		out.Skipped = reason
	case result.Skip:
		out.Skipped = reason
	case result.Fail:
		reason.Text = junitChecks(c)
		out.Failure = reason
	default:
		reason.Text = junitChecks(c)
		out.Error = reason
	}
	return out
}

func junitChecks(c *result.Cell) string {
	var b strings.Builder
	for _, k := range c.Failed() {
		fmt.Fprintf(&b, "\n%s (%s)\n  want %s\n  got  %s\n",
			printable(k.Name), printable(string(k.Witness)), printable(k.Want), printable(k.Got))
	}
	return b.String()
}

func junitFacts(c *result.Cell, o Options) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteByte('\n')
		b.WriteString(printable(fmt.Sprintf(format, args...)))
	}
	line("%s: %s", c.Fact(), c.Reason)
	if doubtful(c) {
		line(doubt)
	}
	if said := gaps(c.Trace); said != "" {
		line("%s", said)
	}
	for _, r := range c.Resets {
		line("reset: %s", resetLine(c, r))
	}
	for _, s := range c.Steps {
		line("step: %s %s", seconds(s.At), s.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Counters)) {
		line("counter: %s %d", name, c.Counters[name])
	}
	if c.DropBackend != "" {
		line("dropped by: %s", c.DropBackend)
	}
	if c.Capture.File != "" {
		line("capture: %s", captureLine(c))
	}
	if folder := o.evidence(c); folder != "" {
		line("evidence: %s", folder)
		if c.Capture.File != "" {
			// GitLab and Jenkins's JUnit attachments link such a file, if it was archived: a line of its own.
			line("[[ATTACHMENT|%s]]", filepath.Join(folder, path.Base(c.Capture.File)))
		}
	}
	b.WriteByte('\n')
	return b.String()
}

package reports

import (
	"bufio"
	"cmp"
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
		Name string
		junitCounts
	}
	junitSuite struct {
		Name string
		junitCounts
		Skipped   int
		Timestamp string // when its first cell began; empty: not known
		File      string // the folder of its cells' evidence; empty: none is known
	}
	junitCounts struct {
		Tests, Failures, Errors int
		Time                    junitSecond
	}
	junitPropertyList struct {
		Properties []junitProperty `xml:"property"`
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
	return writeJUnit(w, []*kernelRun{{run, "", o}})
}

// renderSuites writes a testsuite a kernel and scenario: "6.1.0-56-cloud-amd64/quiz1".
func renderSuites(w io.Writer, runs []*kernelRun, _ Options) error { return writeJUnit(w, runs) }

// writeJUnit writes suite by suite, and in it case by case: the counts, which come first, are known of the kinds of cells.
func writeJUnit(w io.Writer, runs []*kernelRun) error {
	var plans []*junitPlan
	root := junitSuites{Name: "rpmig"}
	for _, k := range runs {
		p := newJUnitPlan(k)
		for _, s := range p.suites {
			root.addSuite(&s.junitCounts)
		}
		plans = append(plans, p)
	}
	if took, timed := runs[0].Took(); timed && len(runs) == 1 {
		root.Time = junitSecond(took)
	}
	out := bufio.NewWriterSize(w, 64<<10)
	_, err := out.WriteString(xml.Header)
	enc := &junitWriter{Encoder: xml.NewEncoder(out), err: err}
	enc.Indent("", "  ")
	enc.start("testsuites", &root)
	for _, p := range plans {
		enc.run(p)
	}
	enc.end("testsuites")
	if enc.err == nil {
		enc.err = enc.Flush()
	}
	if enc.err == nil {
		_, enc.err = out.WriteString("\n")
	}
	if err := cmp.Or(enc.err, out.Flush()); err != nil {
		return fmt.Errorf("write junit: %w", err)
	}
	return nil
}

// junitPlan is the suites of a run, without their cases.
type junitPlan struct {
	*kernelRun
	prefix, class string
	properties    []junitProperty
	suites        []*junitSuite // one a scenario, and one for what is not whole
	whole         *junitCase    // of that one; nil: the run is whole
}

func newJUnitPlan(k *kernelRun) *junitPlan {
	p := &junitPlan{kernelRun: k, class: "rpmig", properties: junitProperties(k.Run)}
	if k.name != "" {
		name := printable(k.name)
		p.prefix, p.class = name+"/", p.class+"."+name
	}
	scenario := ""
	for i, kind := range kindsOf(k.Run) {
		if i == 0 || kind.Scenario != scenario {
			scenario = kind.Scenario
			p.suites = append(p.suites, &junitSuite{Name: p.prefix + printable(scenario)})
		}
		s := p.suites[len(p.suites)-1]
		s.Tests += kind.Cells
		s.Failures += kind.Count[result.Fail]
		s.Skipped += kind.Count[result.Skip] + kind.Count[result.XFail]
		s.Errors += kind.Cells - kind.Count[result.Pass] - kind.Count[result.Fail] - kind.Count[result.Skip] - kind.Count[result.XFail]
		s.Time += junitSecond(kind.Elapsed)
		if kind.Evidence && k.o.Dir != "" {
			s.File = printable(filepath.Join(k.o.Dir, "cells", scenario))
		}
		if began := junitTime(k.Header.Started, kind.Began); began != "" && (s.Timestamp == "" || began < s.Timestamp) {
			s.Timestamp = began
		}
	}
	if why := notWhole(k.Run); why != "" {
		p.whole = &junitCase{Name: "whole plan played", Class: p.class, Error: &junitReason{Message: printable(why)}}
		if k.Ending != nil && len(k.Ending.Console) > 0 {
			p.whole.Error.Text = "\n"
			for _, line := range k.Ending.Console {
				p.whole.Error.Text += printable(line) + "\n"
			}
		}
		p.suites = append(p.suites, &junitSuite{Name: p.prefix + "rpmig", junitCounts: junitCounts{Tests: 1, Errors: 1}})
	}
	return p
}

func (n *junitCounts) addSuite(s *junitCounts) {
	n.Tests += s.Tests
	n.Failures += s.Failures
	n.Errors += s.Errors
	n.Time += s.Time
}

// junitWriter writes elements one after another. After an error it writes no more.
type junitWriter struct {
	*xml.Encoder
	err error
}

// start begins an element with the attributes of a value, which has no children yet.
func (w *junitWriter) start(name string, v interface{ attributes() []xml.Attr }) {
	if w.err == nil {
		w.err = w.EncodeToken(xml.StartElement{Name: xml.Name{Local: name}, Attr: v.attributes()})
	}
}

func (w *junitWriter) end(name string) {
	if w.err == nil {
		w.err = w.EncodeToken(xml.EndElement{Name: xml.Name{Local: name}})
	}
}

func (w *junitWriter) element(name string, v any) {
	if w.err == nil {
		w.err = w.EncodeElement(v, xml.StartElement{Name: xml.Name{Local: name}})
	}
}

// run writes the suites of a run.
func (w *junitWriter) run(p *junitPlan) {
	left := p.suites
	begin := func() {
		w.start("testsuite", left[0])
		w.element("properties", junitPropertyList{p.properties})
		left = left[1:]
	}
	scenario, open := "", false
	err := cellsOf(p.Run).each(func(c *result.Cell) error {
		if !open || c.Scenario != scenario {
			if open {
				w.end("testsuite")
			}
			scenario, open = c.Scenario, true
			begin()
		}
		w.element("testcase", junitCell(c, p.o, p.class))
		return w.err
	})
	if open {
		w.end("testsuite")
	}
	if p.whole != nil {
		begin()
		w.element("testcase", p.whole)
		w.end("testsuite")
	}
	w.err = cmp.Or(w.err, err)
}

func (n *junitCounts) attributes() []xml.Attr {
	time, _ := n.Time.MarshalText() // it has no error
	return []xml.Attr{
		attribute("tests", n.Tests), attribute("failures", n.Failures), attribute("errors", n.Errors), attribute("time", string(time)),
	}
}

func (s *junitSuites) attributes() []xml.Attr {
	return append([]xml.Attr{attribute("name", s.Name)}, s.junitCounts.attributes()...)
}

func (s *junitSuite) attributes() []xml.Attr {
	all := append([]xml.Attr{attribute("name", s.Name)}, s.junitCounts.attributes()...)
	all = append(all, attribute("skipped", s.Skipped))
	if s.Timestamp != "" {
		all = append(all, attribute("timestamp", s.Timestamp))
	}
	if s.File != "" {
		all = append(all, attribute("file", s.File))
	}
	return all
}

func attribute(name string, value any) xml.Attr {
	return xml.Attr{Name: xml.Name{Local: name}, Value: fmt.Sprint(value)}
}

// junitTime is when that many seconds after the start of a run were over; empty where it is not known.
func junitTime(started result.Time, at float64) string {
	const year = 365 * 24 * 3600
	if started.IsZero() || at <= 0 || at > year {
		return ""
	}
	return started.Add(time.Duration(at * float64(time.Second))).UTC().Format("2006-01-02T15:04:05Z")
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
	if said := measuredAgain(c); said != "" {
		line("%s", said)
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

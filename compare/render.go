package compare

import (
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// Formats lists the names of what Render writes.
func Formats() []string { return []string{"json", "junit", "markdown", "text"} }

// View is how a comparison is shown.
type View struct {
	Color bool // of text
	All   bool // of text and Markdown: no list is cut
}

// Render writes comparisons in a format of Formats.
func Render(w io.Writer, format string, all []*Comparison, v View) error {
	var out string
	var err error
	switch format {
	case "json":
		out, err = renderJSON(all)
	case "junit":
		out, err = renderJUnit(all)
	case "markdown":
		out = renderMarkdown(all, v)
	default:
		out = renderText(all, v)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", format, err)
	}
	_, err = io.WriteString(w, out)
	return err
}

// Schema is the version of what format json writes: a field that is added needs no new one.
const Schema = 1

type (
	jsonAll struct {
		Schema      int              `json:"schema"`
		Exit        int              `json:"exit"`
		Alpha       float64          `json:"alpha"`
		Comparisons []jsonComparison `json:"comparisons"`
	}
	jsonComparison struct {
		Old     jsonSide     `json:"old"`
		New     jsonSide     `json:"new"`
		Same    int          `json:"same"`
		Tested  int          `json:"tested"` // rates, in all comparisons
		Changes []jsonChange `json:"changes"`
	}
	jsonSide struct {
		Path     string `json:"path"`
		Run      string `json:"run,omitempty"`
		Kernel   string `json:"kernel,omitempty"`
		Upstream string `json:"upstream,omitempty"`
		Machine  string `json:"machine,omitempty"`
		Version  string `json:"version,omitempty"` // of rpmig
		Cells    int    `json:"cells"`             // each once, however often it was played
		Missing  int    `json:"missing,omitempty"`
	}
	jsonChange struct {
		Cell     string       `json:"cell,omitempty"`
		Scenario string       `json:"scenario,omitempty"`
		Family   string       `json:"family,omitempty"`
		Mode     string       `json:"mode,omitempty"`
		Kind     Kind         `json:"kind"`
		Exit     int          `json:"exit"`
		Why      string       `json:"why,omitempty"`
		P        *float64     `json:"p,omitempty"`
		Repeats  int          `json:"repeats_to_tell,omitempty"`
		Path     string       `json:"kernel_path,omitempty"`
		Old      *jsonOutcome `json:"old,omitempty"`
		New      *jsonOutcome `json:"new,omitempty"`
	}
	jsonOutcome struct {
		Status result.Status         `json:"status"`
		Plays  map[result.Status]int `json:"plays,omitempty"` // where there are several
		Reason string                `json:"reason,omitempty"`
		Failed []string              `json:"failed,omitempty"` // checks
		Bug    string                `json:"bug,omitempty"`
	}
)

func renderJSON(all []*Comparison) (string, error) {
	out := jsonAll{Schema: Schema, Exit: ExitCode(all), Comparisons: []jsonComparison{}}
	for _, c := range all {
		out.Alpha = c.Alpha
		j := jsonComparison{Old: c.Old.json(), New: c.New.json(), Same: c.Same, Tested: c.Tested, Changes: []jsonChange{}}
		for i := range c.Changes {
			j.Changes = append(j.Changes, c.Changes[i].json())
		}
		out.Comparisons = append(out.Comparisons, j)
	}
	text, err := result.JSON(out, "  ")
	return string(text), err
}

func (s *Side) json() jsonSide {
	h := s.Header
	return jsonSide{s.Path, s.Run, h.Kernel, h.Upstream, h.Machine, h.Version, len(s.cells), s.Missing}
}

func (ch *Change) json() jsonChange {
	j := jsonChange{Kind: ch.Kind, Exit: ch.Exit, Why: ch.Why, Repeats: ch.Repeats, Path: ch.Path, Old: ch.Old.json(), New: ch.New.json()}
	if ch.Scenario != "" {
		j.Cell, j.Scenario, j.Family, j.Mode = ch.String(), ch.Scenario, ch.Family, ch.Mode
	}
	if ch.P > 0 {
		j.P = &ch.P
	}
	return j
}

func (o *outcome) json() *jsonOutcome {
	if o == nil {
		return nil
	}
	j := &jsonOutcome{Status: o.status(), Plays: o.several()}
	if s := o.worst; s != nil {
		j.Reason, j.Failed, j.Bug = s.reason, s.failed, s.bug
	}
	return j
}

// status is the worst that the plays came to, if they came to anything.
func (o *outcome) status() result.Status {
	switch {
	case o.state() == erred:
		return result.Error
	case o.state() == skipped:
		return result.Skip
	case o.count(result.Fail) > 0:
		return result.Fail
	case o.count(result.XFail) > 0:
		return result.XFail
	default:
		return result.Pass
	}
}

// several counts the plays by status; nil where there is but one.
func (o *outcome) several() map[result.Status]int {
	if o.all() < 2 {
		return nil
	}
	plays := map[result.Status]int{}
	for i, s := range result.Statuses() {
		if o.plays[i] > 0 {
			plays[s] = o.plays[i]
		}
	}
	return plays
}

// String is "FAIL", or "97 PASS, 3 FAIL".
func (o *outcome) String() string {
	if o == nil {
		return "not played"
	}
	plays := o.several()
	if plays == nil {
		return string(o.status())
	}
	var parts []string
	for _, s := range result.Statuses() {
		if plays[s] > 0 {
			parts = append(parts, strconv.Itoa(plays[s])+" "+string(s))
		}
	}
	return strings.Join(parts, ", ")
}

// Sentences are what there is to say of a change beside its name and its two outcomes.
func (ch *Change) Sentences() []string {
	var said []string
	if ch.Why != "" {
		said = append(said, ch.Why)
	}
	if ch.Kind == Untold || ch.Repeats > 0 {
		said = append(said, ch.needed())
	}
	if ch.Kind == Speed {
		return said
	}
	reason := func(lead string, o *outcome) {
		if o == nil || o.worst == nil {
			return
		}
		text := o.worst.reason
		if bug := o.worst.bug; bug != "" && !strings.HasPrefix(text, bug) {
			text = strings.TrimSuffix(bug+": "+text, ": ")
		}
		if text != "" { // a baseline need not have one
			said = append(said, lead+": "+text)
		}
	}
	if ch.Kind != StillFailing {
		reason("was", ch.Old)
	}
	reason("now", ch.New)
	if ch.Path != "" && ch.New != nil && ch.New.broken() > 0 {
		said = append(said, "kernel path: "+ch.Path)
	}
	return said
}

// needed says how many repeats would tell what these do not.
func (ch *Change) needed() string {
	if ch.Repeats == 0 {
		return fmt.Sprintf("if these are the rates, more than %d repeats on each side would be needed to tell them apart", mostRepeats)
	}
	return fmt.Sprintf("if these are the rates, some %d repeats on each side would tell them apart", ch.Repeats)
}

// junit is a test a change: what has regressed fails, and what nothing is known of is an error. All else is said, and passes.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string     `xml:"name,attr"`
		Class   string     `xml:"classname,attr"`
		Error   *junitText `xml:"error"`
		Failure *junitText `xml:"failure"`
		Output  *junitText `xml:"system-out"`
	}
	junitText struct {
		Message string `xml:"message,attr,omitempty"`
		Text    string `xml:",cdata"`
	}
)

func renderJUnit(all []*Comparison) (string, error) {
	out := junitSuites{Name: "rpmig compare"}
	for _, c := range all {
		suite := junitSuite{Name: result.Printable(c.Old.name() + " and " + c.New.name())}
		for i := range c.Changes {
			ch := &c.Changes[i]
			jc := junitCase{Name: string(ch.Kind), Class: "rpmig.compare"}
			if ch.Scenario != "" {
				jc.Name, jc.Class = result.Printable(ch.String()), result.Printable("rpmig.compare."+ch.Scenario)
			}
			what, said := fmt.Sprintf("%s: was %s, is %s", ch.Kind, ch.Old, ch.New), ch.Sentences()
			if ch.Scenario == "" { // it is of the run as a whole
				what, said = fmt.Sprintf("%s: %s", ch.Kind, ch.Why), nil
			}
			text := &junitText{result.Printable(what), "\n" + result.Printable(strings.Join(append([]string{what}, said...), "; ")) + "\n"}
			switch ch.Exit {
			case result.ExitFail:
				jc.Failure = text
				suite.Failures++
			case result.ExitSoftware:
				jc.Error = text
				suite.Errors++
			default:
				text.Message = ""
				jc.Output = text
			}
			suite.Cases = append(suite.Cases, jc)
		}
		suite.Cases = append(suite.Cases, junitCase{Name: "the same", Class: "rpmig.compare", Output: &junitText{"", "\n" + c.Summary() + "\n"}})
		suite.Tests = len(suite.Cases)
		out.Suites = append(out.Suites, suite)
		out.Tests, out.Failures, out.Errors = out.Tests+suite.Tests, out.Failures+suite.Failures, out.Errors+suite.Errors
	}
	text, err := xml.MarshalIndent(out, "", "  ")
	return xml.Header + string(text) + "\n", err
}

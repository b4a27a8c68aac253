package reports

import (
	"bytes"
	"encoding/xml"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rpmig/rpmig/published"
	"github.com/rpmig/rpmig/result"
)

// program runs a program on a text, which is its last argument as a file, and returns what it says.
func program(t *testing.T, text, name string, args ...string) (said string, err error) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%v: make deps", err)
	}
	file := filepath.Join(t.TempDir(), "report")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(name, append(args, file)...).CombinedOutput()
	return string(out), err
}

// TestJUnitSchema: Jenkins's xUnit plugin takes every report.
func TestJUnitSchema(t *testing.T) {
	schema := published.File(t, "junit-10.xsd")
	valid := func(text string) error {
		said, err := program(t, text, "xmllint", "--noout", "--schema", schema)
		if err != nil {
			t.Log(said)
		}
		return err
	}
	for name, run := range runs() {
		for _, dir := range []string{"", "/tmp/rpmig-2291"} {
			if err := valid(render(t, "junit", run, Options{Dir: dir})); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	text := render(t, "junit", mixed(), Options{})
	for _, broken := range []string{
		regexp.MustCompile(`(<testsuite .*time="[0-9.]+)`).ReplaceAllString(text, `${1}0`), strings.Replace(text, `name="rpmig"`, `name="rpmig" skipped="1"`, 1),
	} {
		if broken == text || valid(broken) == nil {
			t.Error("the schema takes what it should refuse")
		}
	}
}

// TestGitLabReads: by the rules of https://docs.gitlab.com/ci/testing/unit_test_reports/ each cell is counted, as what it is: a test is
// known by classname and name, of which the first counts alone, and a suite by its name.
func TestGitLabReads(t *testing.T) {
	type read struct {
		Suites []struct {
			Name  string `xml:"name,attr"`
			Cases []struct {
				Class   string    `xml:"classname,attr"`
				Name    string    `xml:"name,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
				Skipped *struct{} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	whole := 0
	for name, run := range runs() {
		if writeLedgers(io.Discard, []*result.Run{run}) != nil {
			continue // such as one with a cell that is there twice, of which no ledger can be
		}
		var r read
		if err := xml.Unmarshal([]byte(render(t, "junit", run, Options{})), &r); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		suites, tests, count := map[string]bool{}, map[[2]string]bool{}, map[string]int{}
		for _, s := range r.Suites {
			if suites[s.Name] {
				t.Errorf("%s: two suites %q", name, s.Name)
			}
			suites[s.Name] = true
			for _, c := range s.Cases {
				if key := [2]string{c.Class, c.Name}; tests[key] {
					t.Errorf("%s: two tests %q", name, key)
				} else {
					tests[key] = true
				}
				switch {
				case c.Failure != nil:
					count["failed"]++
				case c.Error != nil:
					count["error"]++
				case c.Skipped != nil:
					count["skipped"]++
				default:
					count["success"]++
				}
			}
		}
		if run.Ending != nil || run.Missing() > 0 { // which is a test of its own
			continue
		}
		whole++
		want := map[string]int{"success": run.Count(result.Pass), "failed": run.Count(result.Fail), "error": run.Count(result.Error),
			"skipped": run.Count(result.Skip) + run.Count(result.XFail)}
		maps.DeleteFunc(want, func(_ string, n int) bool { return n == 0 })
		if !maps.Equal(want, count) {
			t.Errorf("%s: want %v, got %v", name, want, count)
		}
	}
	if whole < 3 {
		t.Errorf("%d whole runs", whole)
	}
}

// TestTAPReaders: readers of TAP that are packaged find every test, its result and its name, and miss nothing.
func TestTAPReaders(t *testing.T) {
	for name, run := range runs() {
		if name == "empty" || name == "zero" { // a plan of none, without a reason, is an error to both
			continue
		}
		readTAP(t, name, render(t, "tap", run, Options{}))
	}
}

// readTAP lets both readers read a report.
func readTAP(t *testing.T, name, text string) {
	t.Helper()
	const tappy = `
import sys, warnings
warnings.simplefilter("ignore")
from tap.parser import Parser
for line in Parser().parse_file(sys.argv[1]):
    if line.category == "test":
        print("ok" if line.ok else "not ok", line.number, line.description, *(["SKIP"] if line.skip else []))
    elif line.category not in ("version", "plan", "diagnostic"):
        print("not read:", line)
`
	perl := []string{"-MTAP::Parser", "-e", `
open my $report, "<", $ARGV[0] or die; local $/;
my $p = TAP::Parser->new({tap => <$report>});
while (my $r = $p->next) {
	if ($r->is_test) {
		(my $name = $r->description) =~ s/ # .*//;
		print join(" ", $r->is_actual_ok ? "ok" : "not ok", $r->number, $name, $r->has_skip ? "SKIP" : ()), "\n";
	} elsif ($r->is_unknown) {
		print "not read: ", $r->as_string, "\n";
	}
}
print "not read: $_\n" for $p->parse_errors;
`}
	want := tapTests(text)
	for reader, args := range map[string][]string{"/usr/bin/python3": {"-c", tappy}, "perl": perl} {
		t.Run(name+"/"+filepath.Base(reader), func(t *testing.T) {
			said, err := program(t, text, reader, args...)
			if strings.Contains(said, "No module named 'tap'") || strings.Contains(said, "Can't locate TAP/Parser.pm") {
				t.Skip("its package is not there: make deps")
			}
			if err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			if diff := cmp.Diff(want, said); diff != "" {
				t.Errorf("-printed +read:\n%s", diff)
			}
		})
	}
}

// tapTests is what there is to read in a report.
func tapTests(text string) string {
	var b strings.Builder
	for _, m := range regexp.MustCompile(`(?m)^((?:not )?ok \d+ [^# \n]+)( # SKIP)?`).FindAllStringSubmatch(text, -1) {
		b.WriteString(m[1])
		if m[2] != "" {
			b.WriteString(" SKIP")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestKernelReaders holds result lines against the expressions of kunit_parser.py and of NIPA's results.py.
func TestKernelReaders(t *testing.T) {
	kunit := regexp.MustCompile(`^\s*(ok|not ok) ([0-9]+) (- )?([^#]*)( # .*)?$`)
	kunitSkip := regexp.MustCompile(`^\s*(ok|not ok) ([0-9]+) (- )?(.*) # SKIP ?(.*)$`)
	nipa := regexp.MustCompile(`^(not )?ok (\d+)( \d+)?( -)? ([^#]*[^ ])( +# +)?([^ ].*)?$`)
	nipaTime := regexp.MustCompile(`time=(\d+)ms`)
	for name, run := range runs() {
		cells := sorted(run)
		for line := range strings.Lines(render(t, "ktap", run, Options{})) {
			line = strings.TrimSuffix(line, "\n")
			if !strings.HasPrefix(line, "ok ") && !strings.HasPrefix(line, "not ok ") || strings.Contains(line, missingName) {
				continue
			}
			c := cells[0]
			cells = cells[1:]
			k, n := kunit.FindStringSubmatch(line), nipa.FindStringSubmatch(line)
			if k == nil || n == nil || k[4] != ktapName(c) || n[5] != ktapName(c) {
				t.Fatalf("%s: kunit_parser reads %q, NIPA %q of %q", name, k, n, line)
			}
			skip := c.Status == result.Skip
			if s := kunitSkip.FindStringSubmatch(line); (s != nil) != skip || skip && s[4] != ktapName(c) {
				t.Errorf("%s: kunit_parser: SKIP: %q of %q", name, s, line)
			}
			if got := n[6] != "" && strings.HasPrefix(strings.ToLower(n[7]), "skip"); got != skip {
				t.Errorf("%s: NIPA: SKIP: %t of %q", name, got, line)
			}
			if got := nipaTime.MatchString(n[7]); got != (c.Elapsed > 0) {
				t.Errorf("%s: NIPA: a time: %t of %q", name, got, line)
			}
		}
		if len(cells) > 0 {
			t.Errorf("%s: %d cells without a result line", name, len(cells))
		}
	}
}

// TestNIPAReader: NIPA's own parser, of a clone of linux-netdev/nipa where what others have published is, finds every test of what
// kselftest's runner makes of a report, with its name, result and time; and in a report of --format=ktap it finds none.
func TestNIPAReader(t *testing.T) {
	const parse = `
import sys
sys.path.insert(0, sys.argv[1])
import results
for r in results.parse_nested_tests(open(sys.argv[2]).read(), lambda name: name):
    print(r["result"], r["test"], *(["timed"] if "time" in r else []))
`
	lib := filepath.Dir(published.File(t, "nipa/contest/remote/lib/results.py"))
	line := regexp.MustCompile(`(?m)^(not ok|ok) \d+ ([^# \n]+)(?: # (SKIP)?.*?(time=\d+ms)?)?$`)
	for name, run := range runs() {
		nested := func(format string) (text, read string) {
			text = render(t, format, run, Options{})
			read, err := program(t, "# "+strings.ReplaceAll(text, "\n", "\n# "), "python3", "-c", parse, lib)
			if err != nil {
				t.Fatalf("%s: %v: %s", name, err, read)
			}
			return text, read
		}
		text, read := nested("tap")
		var want strings.Builder
		for _, m := range line.FindAllStringSubmatch(text, -1) {
			want.WriteString(map[string]string{"ok": "pass", "not ok": "fail", "okSKIP": "skip"}[m[1]+m[3]] + " " + m[2])
			if m[4] != "" {
				want.WriteString(" timed")
			}
			want.WriteByte('\n')
		}
		if diff := cmp.Diff(want.String(), read); diff != "" || len(run.Cells) > strings.Count(read, "\n") {
			t.Errorf("%s: -printed +read:\n%s", name, diff)
		}
		if _, read := nested("ktap"); read != "" {
			t.Errorf("%s: it reads KTAP as well, and --format=tap is not needed: %s", name, read)
		}
	}
}

// TestHTMLValidator: the checker of the W3C, vnu, has nothing to say of a page.
func TestHTMLValidator(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: vnu takes seconds")
	}
	vnu := published.Package(t, "vnu-jar/build/dist/vnu.jar")
	if _, err := exec.LookPath("java"); err != nil {
		t.Skipf("%v: make deps-consumers", err)
	}
	check := func(pages map[string]string) string {
		args := []string{"-Xss8m", "-jar", vnu, "--no-langdetect", "--html"}
		dir := t.TempDir()
		for name, page := range pages {
			file := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, file)
		}
		said, err := exec.Command("java", args...).CombinedOutput()
		if err != nil && len(said) == 0 {
			t.Fatal(err)
		}
		return string(said)
	}
	pages := kindsOfPages(t)
	pages["unpacked"] = unfold(t, pages["of a run"])
	pages["hostile"] = unfold(t, render(t, "html", poisoned(), Options{}))
	if said := check(pages); said != "" {
		t.Error(said)
	}
	for name, page := range pages {
		pages[name] = strings.Replace(page, "</body>", "<p id=a></p><p id=a></p></body>", 1)
	}
	said := check(pages)
	for name := range pages {
		if !regexp.MustCompile(regexp.QuoteMeta(strings.ReplaceAll(name, " ", "-")) + `".*Duplicate ID`).MatchString(said) {
			t.Errorf("%s: vnu has nothing to say of an id that is there twice: %s", name, said)
		}
	}
}

// kindsOfPages returns one of each.
func kindsOfPages(t *testing.T) map[string]string {
	t.Helper()
	run := quizzes()
	var pairs bytes.Buffer
	if err := RenderPairs(&pairs, &Pairs{Title: "a", Sections: []PairSection{{Title: "b", Pairs: []Pair{
		{Name: "c", Old: &PairCell{&run.Header, &run.Cells[0]}, New: &PairCell{&run.Header, &run.Cells[1]}},
	}}}}); err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"of a run": render(t, "html", faulty(), Options{}), "of several kernels": renderAll(t, "html", three(), Options{}), "compared": pairs.String(),
	}
}

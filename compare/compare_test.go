package compare

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/rpmig/rpmig/result"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: -want +got; -update takes what was got:\n%s", name, diff)
	}
}

// plays are those of a cell: "PASS*9 FAIL" is nine and one.
func plays(scenario, spec string) []result.Cell {
	var all []result.Cell
	for word := range strings.FieldsSeq(spec) {
		status, count, _ := strings.Cut(word, "*")
		n := 1
		if count != "" {
			fmt.Sscan(count, &n)
		}
		// FAIL:x fails by check x.
		status, check, _ := strings.Cut(status, ":")
		for range n {
			c := result.Cell{
				Scenario: scenario, Family: "ipv4", Mode: "sysctl", Repeat: len(all) + 1, Status: result.Status(status), Control: result.Controlled,
				Connections: result.Connections{Staged: 1, Survived: 1}, Elapsed: 0.01, Counters: map[string]int64{result.MigrateSuccess: 1},
			}
			switch c.Status {
			case result.XFail:
				c.Bug = "CVE-1"
				fallthrough
			case result.Fail:
				c.Connections, c.Counters = result.Connections{Staged: 1, Lost: 1}, nil
				c.Reason = "accepted: want 1, got 0"
				c.Checks = []result.Check{{Name: "accepted" + check, Witness: result.Application, Want: "1", Got: "0"}}
			case result.Skip, result.Error:
				c.Reason, c.Connections = "for some reason", result.Connections{}
			}
			all = append(all, c)
		}
	}
	return all
}

// side is a run of cells, each by its scenario.
func side(path, kernel string, cells map[string]string) *Side {
	s := NewSide(path, "")
	run := &result.Run{Header: result.Header{Kernel: kernel, Machine: "x86_64", Version: "v1", Modes: []result.Mode{{Name: "sysctl", Saves: "it"}}}}
	n := 0
	for _, scenario := range sortedKeys(cells) {
		for _, c := range plays(scenario, cells[scenario]) {
			s.Add(&c)
			n++
		}
	}
	run.Header.Cells = n
	s.Finish(run, n)
	return s
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func compareOne(was, is string, edit func(old, changed *Side)) *Comparison {
	of := func(spec string) map[string]string {
		if spec == "" {
			return nil
		}
		return map[string]string{"quiz1": spec}
	}
	old, changed := side("old", "6.1.180", of(was)), side("new", "6.1.192", of(is))
	if edit != nil {
		edit(old, changed)
	}
	return Compare([]Pair{{old, changed}}, Options{Alpha: DefaultAlpha})[0]
}

// TestKinds: what becomes of a cell, and the exit status of it.
func TestKinds(t *testing.T) {
	cutOld := func(old, _ *Side) { old.Missing = 1 }
	lessNew := func(_, changed *Side) { changed.Missing = 1 }
	cutNew := func(_, changed *Side) { changed.Ending = &result.Ending{Why: "it died"} }
	for _, c := range []struct {
		was, is string
		edit    func(old, changed *Side)
		kind    Kind
		exit    int
	}{
		{was: "PASS", is: "PASS"},
		{was: "PASS", is: "FAIL", kind: Regressed, exit: 1},
		{was: "PASS", is: "XFAIL", kind: Regressed, exit: 1},
		{was: "XFAIL", is: "FAIL", kind: Regressed, exit: 1}, // nothing explains it any more
		{was: "FAIL", is: "PASS", kind: Fixed},
		{was: "XFAIL", is: "PASS", kind: Fixed},
		{was: "FAIL", is: "FAIL", kind: StillFailing},
		{was: "XFAIL", is: "XFAIL", kind: StillFailing},
		{was: "FAIL", is: "XFAIL", kind: OtherReason},
		{was: "FAIL:a", is: "FAIL:b", kind: OtherReason},
		{was: "", is: "PASS", kind: New},
		{was: "", is: "XFAIL", kind: New},
		{was: "", is: "FAIL", kind: New, exit: 1},
		{was: "SKIP", is: "PASS", kind: New},
		{was: "SKIP", is: "SKIP"},
		{was: "ERROR", is: "ERROR"},
		{was: "ERROR", is: "SKIP"},
		{was: "PASS", is: "", kind: Gone, exit: 70},
		{was: "PASS", is: "SKIP", kind: Gone, exit: 70},
		{was: "SKIP", is: ""},
		{was: "PASS", is: "ERROR", kind: NoConclusion, exit: 70},
		{was: "FAIL", is: "ERROR", kind: NoConclusion, exit: 70},
		{was: "ERROR", is: "PASS", kind: NoConclusion, exit: 70},
		{was: "", is: "ERROR", kind: NoConclusion, exit: 70},
		{was: "PASS", is: "", edit: cutNew, kind: NoConclusion, exit: 70},
		{was: "PASS", is: "PASS", edit: cutNew, kind: NoConclusion, exit: 70}, // it died when the last cell was over
		{was: "", is: "PASS", edit: cutOld, kind: NoConclusion, exit: 70},
		{was: "PASS", is: "", edit: lessNew, kind: NoConclusion, exit: 70},
		{was: "PASS*9", is: "PASS*8", edit: lessNew, kind: NoConclusion, exit: 70}, // and the ninth play is not known
		{was: "PASS*9", is: "PASS*8", edit: cutOld},                                // the old one has enough
		{was: "SKIP", is: "PASS", edit: cutOld, kind: New},                         // it was there
		{was: "", is: "SKIP", edit: cutOld},
		{was: "PASS", is: "SKIP", edit: lessNew, kind: Gone, exit: 70},

		// Repeats that agree among themselves are one result, however few they are.
		{was: "PASS*2", is: "FAIL*2", kind: Regressed, exit: 1},
		{was: "FAIL*3", is: "PASS", kind: Fixed},
		{was: "PASS*9 ERROR", is: "PASS*10"},
		// Those that do not are rates.
		{was: "PASS*100", is: "PASS*99 FAIL", kind: Untold},
		{was: "PASS*100", is: "PASS*80 FAIL*20", kind: Regressed, exit: 1},
		{was: "PASS*80 FAIL*20", is: "PASS*100", kind: Fixed},
		{was: "PASS*80 FAIL*20", is: "PASS*80 FAIL*20", kind: StillFailing},
		{was: "PASS*80 FAIL*20", is: "PASS*20 FAIL*80", kind: Regressed, exit: 1},
		{was: "PASS*80 FAIL*20", is: "PASS*75 FAIL*25", kind: Untold},
		{was: "PASS*50 XFAIL*50", is: "PASS*50 FAIL*50", kind: Regressed, exit: 1},
		{was: "PASS*10 XFAIL*90", is: "PASS*80 FAIL*20", kind: Regressed, exit: 1}, // it is broken less often, and nothing explains it
		{was: "PASS*50 XFAIL*50", is: "PASS*50 XFAIL*10 FAIL*40", kind: Regressed, exit: 1},
		{was: "PASS*50 XFAIL*50", is: "PASS*50 XFAIL*49 FAIL", kind: OtherReason},
		{was: "PASS*80 FAIL:a*20", is: "PASS*75 FAIL:b*25", kind: OtherReason},
		{was: "PASS*3 FAIL", is: "PASS*3", kind: Untold},
		{was: "XFAIL*9", is: "XFAIL*8 FAIL", kind: Regressed, exit: 1}, // broken each time, and once nothing explains it
		// Of too few plays a test can say nothing, and nothing is acquitted by that.
		{was: "PASS", is: "PASS*40 FAIL*60", kind: NoConclusion, exit: 70},
		{was: "PASS*3", is: "PASS*2 FAIL", kind: NoConclusion, exit: 70},
		{was: "PASS*5", is: "PASS FAIL*4", kind: Regressed, exit: 1},
		{was: "PASS*5", is: "PASS*4 FAIL", kind: Untold},
		{was: "PASS*3 FAIL", is: "FAIL*3", kind: Untold}, // it is known to be broken now and then
	} {
		got := compareOne(c.was, c.is, c.edit)
		var kinds []Kind
		for _, ch := range got.Changes {
			if ch.Kind != Contradicts {
				kinds = append(kinds, ch.Kind)
			}
		}
		var want []Kind
		if c.kind != "" {
			want = []Kind{c.kind}
		}
		if exit := ExitCode([]*Comparison{got}); !slices.Equal(kinds, want) || exit != c.exit {
			t.Errorf("%q, then %q: %v, exit %d; want %v, exit %d", c.was, c.is, kinds, exit, want, c.exit)
		}
	}
}

// TestPart: what a run does not plan is not gone where it is meant to be a part.
func TestPart(t *testing.T) {
	old, changed := side("old", "6.1", map[string]string{"quiz1": "PASS", "quiz2": "PASS"}), side("new", "6.1", map[string]string{"quiz1": "FAIL"})
	c := Compare([]Pair{{old, changed}}, Options{Alpha: DefaultAlpha, Part: true})
	if ExitCode(c) != 1 || len(c[0].Of(Gone)) != 0 {
		t.Errorf("exit %d, %d gone", ExitCode(c), c[0].Count(Gone))
	}
}

// TestAlpha: of 200 runs of 50 cells each that do not differ, no more than a share of alpha has a cell that is told to.
func TestAlpha(t *testing.T) {
	const runs, cells, repeats = 200, 50, 40
	alarms := 0
	seed := uint64(1)
	flaky := func() string { // one in four fails; a generator of its own, so that the test is the same each time
		fails := 0
		for range repeats {
			seed = seed*6364136223846793005 + 1442695040888963407
			if seed>>62 == 0 {
				fails++
			}
		}
		return fmt.Sprintf("PASS*%d FAIL*%d", repeats-fails, max(fails, 1))
	}
	for range runs {
		was, is := map[string]string{}, map[string]string{}
		for i := range cells {
			was[fmt.Sprint("c", i)], is[fmt.Sprint("c", i)] = flaky(), flaky()
		}
		c := Compare([]Pair{{side("old", "6.1", was), side("new", "6.1", is)}}, Options{Alpha: DefaultAlpha})
		if c[0].Count(Regressed)+c[0].Count(Fixed) > 0 {
			alarms++
		}
	}
	if most := runs * 5 / 100; alarms > most {
		t.Errorf("%d of %d runs: want %d or fewer", alarms, runs, most)
	}
}

// TestContradicts: a result that the kernel's version denies is pointed out.
func TestContradicts(t *testing.T) {
	for _, c := range []struct{ kernel, spec, want string }{
		{"5.10.262", "PASS", "Linux has that since 5.14"},
		{"5.10.262", "FAIL", ""},
		{"6.1.0-52-cloud-amd64", "FAIL", "nothing migrated"},
		{"6.1.0-52-cloud-amd64", "PASS", ""},
		{"5.14.0", "FAIL", "nothing migrated"},
		{"mine", "FAIL", ""},
	} {
		s := side("new", c.kernel, map[string]string{"quiz1": c.spec})
		found := contradictions(s, "new")
		if len(found) > 1 || (len(found) == 1) != (c.want != "") || c.want != "" && !strings.Contains(found[0].Why, c.want) {
			t.Errorf("%s, %s: %+v", c.kernel, c.spec, found)
		}
	}
	// Each run that is compared is looked at, and what both have of one kernel is said once.
	for kernel, want := range map[string]int{"5.10.261": 2, "5.10.262": 1} {
		pair := Pair{side("old", "5.10.262", map[string]string{"quiz1": "PASS"}), side("new", kernel, map[string]string{"quiz1": "PASS"})}
		if c := Compare([]Pair{pair}, Options{Alpha: DefaultAlpha})[0]; c.Count(Contradicts) != want {
			t.Errorf("5.10.262, then %s: %+v", kernel, c.Changes)
		}
	}
	s := NewSide("new", "")
	x := plays("quiz1", "PASS")[0]
	x.Bug = "CVE-2"
	s.Add(&x)
	if found := contradictions(s, "new"); len(found) != 1 || !strings.Contains(found[0].Why, "CVE-2 does not show") {
		t.Errorf("XPASS: %+v", found)
	}
}

// TestSpeed: a cell is slower where its repeats do not overlap, and not where one run is an outlier.
func TestSpeed(t *testing.T) {
	timed := func(mul float64) *Side {
		s := NewSide("x", "")
		for i, c := range plays("quiz1", "PASS*20") {
			c.Elapsed = mul * (1 + float64(i%7)/100)
			s.Add(&c)
		}
		return s
	}
	for mul, want := range map[float64]string{1: "", 1.002: "", 0.998: "", 1.5: "slower: 1.03 s before, 1.545 s now, and repeats differ by 0.0",
		0.5: "faster: 1.03 s before, 0.515 s now, and repeats differ by 0.0"} {
		c := Compare([]Pair{{timed(1), timed(mul)}}, Options{Alpha: DefaultAlpha})[0]
		if said := c.Count(Speed) == 1; said != (want != "") || len(c.Changes) > 1 || c.Same != 1 || ExitCode([]*Comparison{c}) != 0 {
			t.Errorf("times %v: %+v", mul, c)
		}
		for _, ch := range c.Changes {
			if !strings.HasPrefix(ch.Why, want) {
				t.Errorf("times %v: %q, want %q", mul, ch.Why, want)
			}
		}
	}
}

// TestSpeedOfMany: that p is too small for a number does not hide a difference; and what makes a whole run slow is none of a cell.
func TestSpeedOfMany(t *testing.T) {
	timed := func(mul float64, accelerator string) *Side {
		s := NewSide("x", "")
		for i, c := range plays("quiz1", "PASS*2000") {
			c.Elapsed = mul * (1 + float64(i%7)/100)
			s.Add(&c)
		}
		s.Header.Guest = &result.Guest{Accelerator: accelerator}
		return s
	}
	for accelerator, want := range map[string]int{"kvm": 1, "tcg": 0} {
		c := Compare([]Pair{{timed(1, "kvm"), timed(2, accelerator)}}, Options{Alpha: DefaultAlpha})[0]
		if c.Count(Speed) != want {
			t.Errorf("kvm, and then %s: %+v", accelerator, c.Changes)
		}
	}
}

// TestFewPlaysOfMany: whether so few plays could tell anything depends on how many cells are tested.
func TestFewPlaysOfMany(t *testing.T) {
	was, is := map[string]string{}, map[string]string{}
	for i := range 50 {
		name := fmt.Sprint("c", i)
		was[name], is[name] = "PASS*5", "PASS FAIL*4"
	}
	c := Compare([]Pair{{side("old", "6.1", was), side("new", "6.1", is)}}, Options{Alpha: DefaultAlpha})
	if c[0].Count(NoConclusion) != 50 || ExitCode(c) != 70 {
		t.Errorf("exit %d: %s", ExitCode(c), c[0].Summary())
	}
}

// several is a comparison with something of each kind.
func several() []*Comparison {
	old := side("a/run", "6.1.180", map[string]string{
		"broke": "PASS", "fixed": "XFAIL", "gone": "PASS", "lost": "PASS", "still": "FAIL", "other": "FAIL:a", "same": "PASS", "rate": "PASS*50",
	})
	changed := side("b/run", "6.1.192", map[string]string{
		"broke": "FAIL", "fixed": "PASS", "lost": "ERROR", "still": "FAIL", "other": "FAIL:b", "same": "PASS", "rate": "PASS*49 FAIL", "fresh": "PASS",
	})
	x := plays("xpass", "PASS")[0]
	x.Bug = "CVE-2 <b>|x|"
	changed.Add(&x)
	return Compare([]Pair{{old, changed}}, Options{Alpha: DefaultAlpha, Path: func(s string) string { return "inet_csk_listen_stop" }})
}

func TestRender(t *testing.T) {
	for _, format := range Formats() {
		var b bytes.Buffer
		if err := Render(&b, format, several(), View{}); err != nil {
			t.Fatal(err)
		}
		golden(t, "several."+format, b.String())
		var again bytes.Buffer
		if err := Render(&again, format, several(), View{}); err != nil || again.String() != b.String() {
			t.Errorf("%s is not stable: %v", format, err)
		}
		switch format {
		case "text":
			for line := range strings.Lines(b.String()) {
				if utf8.RuneCountInString(line) > 81 {
					t.Errorf("longer than 80 columns: %s", line)
				}
			}
		case "json":
			var v struct{ Exit int }
			if err := json.Unmarshal(b.Bytes(), &v); err != nil || v.Exit != 70 {
				t.Errorf("%+v, %v", v, err)
			}
		case "junit":
			var v struct {
				Failures int `xml:"failures,attr"`
				Errors   int `xml:"errors,attr"`
			}
			if err := xml.Unmarshal(b.Bytes(), &v); err != nil || v.Failures != 1 || v.Errors != 2 {
				t.Errorf("%+v, %v", v, err)
			}
		}
	}
}

// TestPairs: runs of several kernels are held against each other by name.
func TestPairs(t *testing.T) {
	named := func(path string, runs ...string) []*Side {
		var all []*Side
		for _, r := range runs {
			all = append(all, NewSide(path, r))
		}
		return all
	}
	for _, c := range []struct {
		old, changed []*Side
		want         string // empty: refused
	}{
		{named("a", ""), named("b", ""), "a:b"},
		{named("a", ""), named("b", "x", "y"), "a:b/x a:b/y"},
		{named("a", "x", "y"), named("b", "y", "z"), "a/y:b/y a/z:b/z a/x:b/x"},
		{named("a", "x"), named("b", "y"), "a/x:b/y"},
		{named("a", "x", "y"), named("b", ""), ""},
		{nil, named("b", ""), ""},
	} {
		pairs, err := Pairs(c.old, c.changed)
		var got []string
		for _, p := range pairs {
			got = append(got, strings.TrimSuffix(p.Old.Path+"/"+p.Old.Run, "/")+":"+strings.TrimSuffix(p.New.Path+"/"+p.New.Run, "/"))
		}
		if s := strings.Join(got, " "); s != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q, %v; want %q", s, err, c.want)
		}
		// One that was not there is made; what was there is not left out for it.
		for _, s := range slices.Concat(c.old, c.changed) {
			if err == nil && !slices.ContainsFunc(pairs, func(p Pair) bool { return p.Old == s || p.New == s }) {
				t.Errorf("%s: %s/%s is in no pair", c.want, s.Path, s.Run)
			}
		}
	}
}

// TestRenderEnding: how the new run ended is said of no cell, in each format.
func TestRenderEnding(t *testing.T) {
	c := compareOne("PASS", "PASS", func(_, changed *Side) { changed.Ending = &result.Ending{Why: "it died | of a panic"} })
	for format, want := range map[string]string{
		"text":     "\n    the new run did not end by itself: it died | of a panic\n",
		"markdown": "|  |  | the new run did not end by itself: it died \\| of a panic |\n",
		"junit":    `<error message="no conclusion: the new run did not end by itself: it died | of a panic">`,
		"json":     `"why": "the new run did not end by itself: it died | of a panic"`,
	} {
		var b bytes.Buffer
		if err := Render(&b, format, []*Comparison{c}, View{}); err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("%s: no %q, %v:\n%s", format, want, err, b.String())
		}
	}
}

package reports

import (
	"encoding/json"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/rpmig/rpmig/published"
	"github.com/rpmig/rpmig/result"
)

var someKCIDB = KCIDB{Origin: "mylab", Build: "mylab:6.18.44-x86", ID: "job-7"}

// TestKCIDBSchema: every report is valid by the published schema, which refuses one that is not.
func TestKCIDBSchema(t *testing.T) {
	name := published.File(t, "kcidb-5.3.json")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("kcidb.json", doc); err != nil {
		t.Fatal(err)
	}
	c.AssertFormat()
	schema, err := c.Compile("kcidb.json")
	if err != nil {
		t.Fatal(err)
	}
	valid := func(text string) error {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(v)
	}
	for name, run := range runs() {
		if err := valid(render(t, "kcidb", run, Options{KCIDB: someKCIDB})); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var several strings.Builder
	f, err := Lookup("kcidb")
	if err == nil {
		err = f.Render(&several, []*result.Run{mixed(), repeated()}, Options{KCIDB: someKCIDB, Names: []string{"6.1", "6.18 x"}})
	}
	if err != nil || valid(several.String()) != nil || !strings.Contains(several.String(), `"mylab:6.18.44-x86-6.18_x"`) {
		t.Errorf("several kernels: %v, %v", err, valid(several.String()))
	}
	for _, wrong := range []KCIDB{{}, {Origin: "My Lab", Build: "mylab:1", ID: "1"}, {Origin: "mylab", Build: "1", ID: "1"}} {
		if valid(render(t, "kcidb", mixed(), Options{KCIDB: wrong})) == nil || wrong.Validate() == nil {
			t.Errorf("%+v is taken", wrong)
		}
	}
}

// TestKCIDBStart: when a cell began is told where the ledger tells, and in a form that the schema takes.
func TestKCIDBStart(t *testing.T) {
	run := timed()
	late, east := run.Header, run.Header
	east.Started.Time = time.Date(2026, 11, 28, 23, 59, 59, 750e6, time.FixedZone("", 3600))
	late.Started.Time = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	for _, c := range []struct {
		h    result.Header
		at   float64
		want string
	}{
		{run.Header, 1.2, "2026-02-01T00:00:00.100Z"},
		{east, 0.0125, "2026-11-28T22:59:59.762Z"},
		{run.Header, 0, ""},
		{run.Header, -1, ""},
		{run.Header, 1e300, ""},
		{run.Header, math.NaN(), ""},
		{result.Header{}, 1, ""},
		{late, 2, ""},
	} {
		if got := kcidbStart(&c.h, &result.Cell{At: c.at}); got != c.want {
			t.Errorf("%v and %v s: %q, want %q", c.h.Started, c.at, got, c.want)
		}
	}
	if said := render(t, "kcidb", run, Options{KCIDB: someKCIDB}); strings.Count(said, `"start_time": "2026-0`) != 4 {
		t.Errorf("want the start of four cells:\n%s", said)
	}
}

// TestKCIDBStatus: whose failure it is.
func TestKCIDBStatus(t *testing.T) {
	steps := result.Steps{{Name: "close A"}}
	for _, c := range []struct {
		cell result.Cell
		want string
	}{
		{result.Cell{Status: result.Pass, Steps: steps}, "PASS"},
		{result.Cell{Status: result.Fail, Steps: steps}, "FAIL"},
		{result.Cell{Status: result.XFail, Steps: steps}, "FAIL"},
		{result.Cell{Status: result.Skip}, "SKIP"},
		{result.Cell{Status: result.Error, Steps: steps}, "ERROR"}, // the test's
		{result.Cell{Status: result.Error}, "MISS"},                // the harness's: it did not begin
	} {
		if got := kcidbStatus(&c.cell); got != c.want {
			t.Errorf("%s with %d steps: %s, want %s", c.cell.Status, len(c.cell.Steps), got, c.want)
		}
	}
	run := mixed()
	run.Header.Cells = len(run.Cells) + 3
	var all kcidbAll
	if err := json.Unmarshal([]byte(render(t, "kcidb", run, Options{KCIDB: someKCIDB})), &all); err != nil {
		t.Fatal(err)
	}
	if last := all.Tests[len(all.Tests)-1]; last.Status != "MISS" || last.Comment != "3 planned cells were not played" {
		t.Errorf("%+v", last)
	}
	ids := map[string]bool{}
	for _, test := range all.Tests {
		if ids[test.ID] || !strings.HasPrefix(test.ID, "mylab:job-7:") {
			t.Errorf("id %s", test.ID)
		}
		ids[test.ID] = true
	}
}

// TestNIPA: the same tests, under the names that NIPA gives those of the KTAP report, and with the results it reads there.
func TestNIPA(t *testing.T) {
	ktap := regexp.MustCompile(`(?m)^(ok|not ok) \d+ ([^# ]+)( # SKIP)?`)
	for name, run := range runs() {
		var want []nipaResult
		for _, m := range ktap.FindAllStringSubmatch(render(t, "ktap", run, Options{}), -1) {
			status := map[string]string{"ok": "pass", "not ok": "fail"}[m[1]]
			if m[3] != "" {
				status = "skip"
			}
			want = append(want, nipaResult{Test: nipaName(m[2]), Result: status})
		}
		var got []nipaOutcome
		if err := json.Unmarshal([]byte(render(t, "nipa", run, Options{})), &got); err != nil || len(got) != 1 {
			t.Fatalf("%s: %d, %v", name, len(got), err)
		}
		for i := range got[0].Results {
			got[0].Results[i].Time = 0
		}
		if !slices.Equal(got[0].Results, want) {
			t.Errorf("%s: %v, want %v", name, got[0].Results, want)
		}
		if fails := slices.ContainsFunc(want, func(r nipaResult) bool { return r.Result == "fail" }); fails != (got[0].Result == "fail") {
			t.Errorf("%s: %s", name, got[0].Result)
		}
	}
	if got := nipaName("quiz2.ipv4.bpf-pass."); got != "quiz2-ipv4-bpf-pass" {
		t.Error(got)
	}
}

// TestLAVA: a signal for each cell, and nothing else that LAVA may take for one.
func TestLAVA(t *testing.T) {
	signal := regexp.MustCompile(`^<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=[A-Za-z0-9_.-]+ RESULT=(pass|fail|skip|unknown)( MEASUREMENT=[0-9.e+-]+ UNITS=seconds)?>$`)
	for name, run := range runs() {
		n := 0
		for line := range strings.Lines(render(t, "lava", run, Options{})) {
			line = strings.TrimSuffix(line, "\n")
			switch {
			case signal.MatchString(line):
				n++
			case !strings.HasPrefix(line, "# ") || strings.Contains(line, "<LAVA_SIGNAL"):
				t.Errorf("%s: %q", name, line)
			}
		}
		want := len(run.Cells)
		if notWhole(run) != "" {
			want++
		}
		if n != want {
			t.Errorf("%s: %d signals, want %d", name, n, want)
		}
	}
	for status, want := range map[result.Status]string{
		result.Pass: "pass", result.XFail: "pass", result.Skip: "skip", result.Fail: "fail", result.Error: "unknown",
	} {
		if got := lavaStatus(status); got != want {
			t.Errorf("%s: %s, want %s", status, got, want)
		}
	}
}

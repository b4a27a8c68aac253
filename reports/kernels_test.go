package reports

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rpmig/rpmig/published"
	"github.com/rpmig/rpmig/result"
)

// inGuest is a run of both quizzes in a guest.
func inGuest(kernel, upstream string, modes ...string) *result.Run {
	run := &result.Run{Header: mixed().Header}
	h := &run.Header
	h.Kernel, h.Upstream, h.Command = kernel, upstream, []string{"run", "quiz*", "--kernel=debian:" + kernel}
	h.Guest = &result.Guest{
		Name: kernel, From: "debian:" + kernel, Image: strings.Repeat("5d0c", 16), Emulator: "QEMU 7.2.22", Accelerator: "tcg",
		Memory: 768, CPUs: 1, Virtual: true, Config: "kernel.config",
	}
	for _, scenario := range []string{"quiz1", "quiz2"} {
		for _, family := range []string{"ipv4", "ipv6"} {
			for _, mode := range modes {
				run.Cells = append(run.Cells, play(scenario, family, mode, 1))
			}
		}
	}
	h.Cells = len(run.Cells)
	return run
}

// died is a run whose guest did, in the middle.
func died() *result.Run {
	run := inGuest("6.12.117+deb12-cloud-amd64", "6.12.117", "off", "sysctl", "bpf")
	run.Cells = run.Cells[:7]
	c := &run.Cells[6]
	*c = result.Cell{Scenario: c.Scenario, Family: c.Family, Mode: c.Mode, Repeat: 1, Control: result.Uncontrolled,
		Status: result.Fail, Reason: "the kernel died: BUG: unable to handle page fault for address: ffffffffffffffd8"}
	run.Ending = &result.Ending{Why: "the kernel died: BUG: unable to handle page fault for address: ffffffffffffffd8", Died: true}
	for _, line := range []string{"BUG: unable to handle page fault for address: ffffffffffffffd8", "#PF: supervisor read access in kernel mode",
		"Oops: 0000 [#1] PREEMPT SMP PTI", "RIP: 0010:inet_csk_listen_stop+0x1c4/0x3e0", "Call Trace:", " <TASK>", " tcp_close+0x1f/0x80",
		" inet_release+0x3d/0x80", " __sock_release+0x3b/0xb0", " sock_close+0x11/0x20", " __fput+0x8d/0x250", " task_work_run+0x55/0x90",
		"Kernel panic - not syncing: Fatal exception in interrupt"} {
		run.Ending.Console = append(run.Ending.Console, fmt.Sprintf("[%12.6f] %s", 4.25+float64(len(run.Ending.Console))/1000, line))
	}
	return run
}

// three kernels: one with a known bug; one of the user's own, with a cell that differs; and one that died.
func three() []*result.Run {
	bug, own := inGuest("6.1.0-52-cloud-amd64", "6.1.180", "off", "sysctl", "bpf"), inGuest("6.12.117", "6.12.117", "off", "sysctl", "bpf")
	for i := range bug.Cells {
		if c := &bug.Cells[i]; c.Scenario == "quiz1" && c.Mode != "off" {
			c.Status, c.Bug, c.Reason = result.XFail, "CVE-2026-74696", "CVE-2026-74696: 10 of limit 5"
			c.Checks = append(c.Checks, result.Check{Name: "limit", Witness: result.Scenario, Want: "5", Got: "10"})
		}
	}
	*own.Header.Guest = result.Guest{Name: "mine", From: "linux/arch/x86/boot/bzImage", Emulator: "QEMU 7.2.22", Accelerator: "kvm", Memory: 768, CPUs: 2}
	for i := range own.Cells {
		if c := &own.Cells[i]; c.ID() == "quiz2/ipv6/sysctl/1" {
			fail(c)
		}
	}
	return []*result.Run{bug, own, died()}
}

// sets are runs that are reported on together.
func sets() map[string][]*result.Run {
	strange := mixed()
	strange.Header.Modes = nil
	return map[string][]*result.Run{
		"kernels": three(), "alike": {mixed(), mixed()}, "hostile": {hostile(), hostile(), mixed()}, "empty": {{Header: mixed().Header}, {}},
		"streams": {streams(), repeated(), strange}, "poisoned": {poisoned(), poisoned(), quizzes()},
		"skipped": {skipped(), mixed()},
	}
}

// skipped is a run of nothing but SKIP.
func skipped() *result.Run {
	run := inGuest("5.10.0-46-cloud-amd64", "5.10.262", "bpf")
	for i := range run.Cells {
		c := &run.Cells[i]
		*c = result.Cell{Scenario: c.Scenario, Family: c.Family, Mode: c.Mode, Repeat: 1, Status: result.Skip, Reason: noBPF, Control: result.Uncontrolled}
	}
	return run
}

func renderAll(t *testing.T, format string, runs []*result.Run, o Options) string {
	t.Helper()
	f, err := Lookup(format)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := f.Render(&buf, runs, o); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func TestKernelsGolden(t *testing.T) {
	const dir = "/tmp/rpmig-2291"
	packed := regexp.MustCompile(`(?s)(<style>|<script>|<template>).*?(</style>|</script>|</template>)`)
	policy := regexp.MustCompile(`'sha256-[^']*'`)
	for _, f := range Formats() {
		t.Run(f.Name, func(t *testing.T) {
			got := renderAll(t, f.Name, three(), Options{Dir: dir, KCIDB: someKCIDB})
			if f.Name == "html" { // apart from the script, the style, and what is packed by gzip, whose bytes are not ours
				got = policy.ReplaceAllString(packed.ReplaceAllString(got, "$1$2"), "'sha256-…'")
			}
			golden(t, "kernels."+f.Name, got)
		})
	}
	golden(t, "kernels-verbose.text", renderAll(t, "text", three(), Options{Dir: dir, Verbose: true}))
	golden(t, "kernels-narrow.text", renderAll(t, "text", three(), Options{Dir: dir, Width: 60}))
}

// TestOneKernel: one run that has a name is written as one that has none, but from the folder of that name.
func TestOneKernel(t *testing.T) {
	for name, run := range runs() {
		for _, f := range Formats() {
			if name == "hostile" && f.Name == "jsonl" { // the ledger refuses it
				continue
			}
			alone := render(t, f.Name, run, Options{Dir: "out/x"})
			if diff := cmp.Diff(alone, render(t, f.Name, run, Options{Dir: "out", Names: []string{"x"}})); diff != "" {
				t.Errorf("%s: %s: -alone +by its name:\n%s", name, f.Name, diff)
			}
		}
	}
}

func TestKernelsAreWrittenOrNot(t *testing.T) {
	want := errors.New("broken pipe")
	for _, f := range Formats() {
		if err := f.Render(broken{want}, three(), Options{}); !errors.Is(err, want) {
			t.Errorf("%s: want %v, got %v", f.Name, want, err)
		}
		if err := f.Render(&bytes.Buffer{}, nil, Options{}); err == nil {
			t.Errorf("%s: a report on nothing", f.Name)
		}
	}
}

// TestKernelNames: each run has a name of its own, and a folder only where its name leads to one below.
func TestKernelNames(t *testing.T) {
	guest := func(name string) *result.Run {
		return &result.Run{Header: result.Header{Kernel: "6.18.5", Guest: &result.Guest{Name: name}}}
	}
	host, none := &result.Run{Header: result.Header{Kernel: "6.18.5"}}, &result.Run{}
	for _, tt := range []struct {
		name string
		runs []*result.Run
		o    Options
		want []string // name and folder
	}{
		{"guests", []*result.Run{guest("a"), guest("b"), host}, Options{Dir: "out"}, []string{"a out/a", "b out/b", "6.18.5 out/6.18.5"}},
		{"no folder", []*result.Run{guest("a")}, Options{}, []string{"a "}},
		{"one name", []*result.Run{guest("a"), guest("a"), guest("")}, Options{Dir: "out"}, []string{"a out/a", "a_2 out/a", "6.18.5 out/6.18.5"}},
		{"nothing known", []*result.Run{none, none}, Options{Dir: "out"}, []string{"unknown ", "unknown_2 "}},
		{"folders", []*result.Run{guest("a"), guest("b")}, Options{Dir: "out", Names: []string{"x", "y"}}, []string{"x out/x", "y out/y"}},
		{"leads out", []*result.Run{guest("../a"), guest("/etc")}, Options{Dir: "out"}, []string{"../a ", "/etc "}},
	} {
		var got []string
		for _, k := range kernelRuns(tt.runs, tt.o) {
			got = append(got, k.name+" "+k.o.Dir)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tt.name, diff)
		}
	}
}

func TestKernelsFit(t *testing.T) {
	escapes := regexp.MustCompile("\x1b\\[[0-9;]*m")
	for name, runs := range sets() {
		for _, width := range []int{0, 60, 80} {
			plain := renderAll(t, "text", runs, Options{Width: width})
			for i, line := range strings.Split(plain, "\n") {
				if n := columns(line); n > 80 || width > 0 && n > width {
					t.Errorf("%s: line %d has %d columns: %q", name, i+1, n, line)
				}
			}
			coloured := escapes.ReplaceAllString(renderAll(t, "text", runs, Options{Width: width, Color: true}), "")
			if diff := cmp.Diff(plain, coloured); diff != "" {
				t.Errorf("%s: -plain +coloured:\n%s", name, diff)
			}
		}
		for _, format := range []string{"junit", "ktap", "markdown", "tap", "text"} {
			for _, r := range renderAll(t, format, runs, Options{Verbose: true, Dir: "d"}) {
				if r != '\n' && printable(string(r)) != string(r) {
					t.Errorf("%s: %s: %q got through", name, format, r)
				}
			}
		}
	}
}

// nest is a level of KTAP, held against its own plan, numbers and totals.
type nest struct {
	lines []string
	names []string
	bad   int // "not ok", of this level
}

// read reads a level, and those below it, from lines of that indentation.
func (n *nest) read(t *testing.T, indent string, parents func(name string, of *nest)) {
	t.Helper()
	resultLine := regexp.MustCompile(`^(ok|not ok) (\d+) ([^# ]+)(?: # (SKIP|XFAIL|ERROR)?(?: ?([^#]|\\#)+)?)?$`)
	plan, tests := -1, 0
	count := map[string]int{}
	var below *nest
	for len(n.lines) > 0 {
		line, ok := strings.CutPrefix(n.lines[0], indent)
		if !ok {
			break
		}
		if line == "  "+ktapVersion {
			below = &nest{lines: n.lines[1:]}
			below.read(t, indent+"  ", nil)
			n.lines = below.lines
			continue
		}
		n.lines = n.lines[1:]
		m := resultLine.FindStringSubmatch(line)
		switch {
		case strings.HasPrefix(line, "1.."):
			plan, _ = strconv.Atoi(line[3:])
		case m != nil:
			if tests++; m[2] != strconv.Itoa(tests) {
				t.Errorf("want number %d: %q", tests, line)
			}
			if m[1] == "not ok" {
				n.bad++
			}
			count[m[1]+" "+m[4]]++
			n.names = append(n.names, m[3])
			if parents != nil {
				parents(line, below)
			}
			below = nil
		case strings.HasPrefix(line, "# Totals: "):
			var pass, fail, xfail, xpass, skip, broken int
			if _, err := fmt.Sscanf(line, "# Totals: pass:%d fail:%d xfail:%d xpass:%d skip:%d error:%d", &pass, &fail, &xfail, &xpass, &skip, &broken); err != nil {
				t.Errorf("%q: %v", line, err)
			}
			want := fmt.Sprint(count["ok "], count["not ok "], count["ok XFAIL"], count["ok SKIP"], count["not ok ERROR"])
			if got := fmt.Sprint(pass+xpass, fail, xfail, skip, broken); got != want {
				t.Errorf("totals: want %s, got %q", want, line)
			}
		case !strings.HasPrefix(line, "#"):
			t.Errorf("neither a comment nor a result: %q", line)
		}
	}
	if plan != tests {
		t.Errorf("want a plan of %d, got %d", tests, plan)
	}
}

// TestKTAPNests: a kernel is a test whose subtests are its cells, as Documentation/dev-tools/ktap.rst has it: "ok" if its run
// ended with status 0 or 4.
func TestKTAPNests(t *testing.T) {
	for name, runs := range sets() {
		t.Run(name, func(t *testing.T) {
			text := renderAll(t, "ktap", runs, Options{Dir: "d"})
			n := &nest{lines: strings.Split(strings.TrimSuffix(text, "\n"), "\n")[1:]}
			all := kernelRuns(runs, Options{})
			i := 0
			n.read(t, "", func(line string, below *nest) {
				k := all[i]
				i++
				good := k.ExitCode() == result.ExitOK || k.ExitCode() == result.ExitSkip
				if strings.HasPrefix(line, "ok ") != good {
					t.Errorf("%s ended with status %d: %q", k.name, k.ExitCode(), line)
				}
				if below == nil {
					t.Fatalf("no subtests of %q", line)
				}
				want := len(k.Cells)
				if notWhole(k.Run) != "" {
					want++
				}
				if len(below.names) != want || (below.bad == 0) != good {
					t.Errorf("%s: %d subtests, %d bad; want %d", k.name, len(below.names), below.bad, want)
				}
			})
			if i != len(runs) || !strings.HasPrefix(text, ktapVersion+"\n1..") {
				t.Errorf("%d kernels, want %d", i, len(runs))
			}
		})
	}
	one := timed()
	one.Cells[0].Status = result.Error
	if text, want := renderAll(t, "ktap", []*result.Run{one, timed()}, Options{}), "not ok 1 6.18.5 # ERROR 1 cell came to no conclusion\n"; !strings.Contains(text, want) {
		t.Errorf("no %q in\n%s", want, text)
	}
}

// TestKernelsTAP: each cell of each kernel is a test of its own name.
func TestKernelsTAP(t *testing.T) {
	for name, runs := range sets() {
		n := &nest{lines: strings.Split(strings.TrimSuffix(renderAll(t, "tap", runs, Options{Dir: "d"}), "\n"), "\n")[1:]}
		n.read(t, "", nil)
		want := 0
		for _, run := range runs {
			if want += len(run.Cells); notWhole(run) != "" {
				want++
			}
		}
		if len(n.names) != want {
			t.Errorf("%s: want %d tests, got %d", name, want, len(n.names))
		}
		slices.Sort(n.names)
		if name != "hostile" && name != "poisoned" && len(slices.Compact(n.names)) != want {
			t.Errorf("%s: some tests have the same name", name)
		}
	}
}

// TestKernelsJUnit: each suite is a scenario on a kernel, and what is counted is what is there.
func TestKernelsJUnit(t *testing.T) {
	for name, runs := range sets() {
		var got readSuites
		if err := xml.Unmarshal([]byte(renderAll(t, "junit", runs, Options{})), &got); err != nil {
			t.Fatal(err)
		}
		want := readCounts{Time: got.Time}
		for _, run := range runs {
			want.Tests += len(run.Cells)
			want.Failures += run.Count(result.Fail)
			for i := range run.Cells {
				if !slices.Contains([]result.Status{result.Pass, result.Fail, result.XFail, result.Skip}, run.Cells[i].Status) {
					want.Errors++
				}
			}
			if notWhole(run) != "" {
				want.Tests++
				want.Errors++
			}
		}
		if got.readCounts != want {
			t.Errorf("%s: want %+v, got %+v", name, want, got.readCounts)
		}
		seen := map[string]bool{}
		for _, s := range got.Suites {
			if seen[s.Name] && name != "hostile" && name != "poisoned" {
				t.Errorf("%s: twice: suite %s", name, s.Name)
			}
			seen[s.Name] = true
		}
	}
	text := renderAll(t, "junit", three(), Options{})
	for _, want := range []string{`<testsuite name="mine/quiz1"`, `classname="rpmig.mine.quiz2"`, `<property name="guest" value="QEMU 7.2.22, tcg, 768 MiB, 1 CPU">`,
		`<testsuite name="6.12.117+deb12-cloud-amd64/rpmig" tests="1" failures="0" errors="1"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
}

// TestKernelsLedgers: what is written is read as what it was.
func TestKernelsLedgers(t *testing.T) {
	for _, name := range []string{"kernels", "alike", "skipped", "empty"} {
		runs := sets()[name]
		text := renderAll(t, "jsonl", runs, Options{})
		again, err := result.ReadAll(strings.NewReader(text), 0)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(text, renderAll(t, "jsonl", again, Options{})); diff != "" || len(again) != len(runs) {
			t.Errorf("%s: %d runs, -first +second:\n%s", name, len(again), diff)
		}
	}
	again, err := result.Read(strings.NewReader(render(t, "jsonl", died(), Options{})))
	if err != nil {
		t.Fatal(err)
	}
	want := died()
	if diff := cmp.Diff([]any{want.Header.Guest, want.Ending}, []any{again.Header.Guest, again.Ending}); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestKernelsConsumers: those who read reports of one run read those of several.
func TestKernelsConsumers(t *testing.T) {
	t.Run("xUnit", func(t *testing.T) {
		schema := published.File(t, "junit-10.xsd")
		for name, runs := range sets() {
			if said, err := program(t, renderAll(t, "junit", runs, Options{Dir: "d"}), "xmllint", "--noout", "--schema", schema); err != nil {
				t.Errorf("%s: %v: %s", name, err, said)
			}
		}
	})
	for name, runs := range sets() {
		if name != "empty" { // which has one test, that of what was not played
			readTAP(t, name, renderAll(t, "tap", runs, Options{Dir: "d"}))
		}
		// NIPA's results.py, on what kselftest's runner makes of it.
		nipa := regexp.MustCompile(`^(not )?ok (\d+)( \d+)?( -)? ([^#]*[^ ])( +# +)?([^ ].*)?$`)
		all := kernelRuns(runs, Options{})
		for line := range strings.Lines(renderAll(t, "tap", runs, Options{})) {
			line = strings.TrimSuffix(line, "\n")
			if !strings.HasPrefix(line, "ok ") && !strings.HasPrefix(line, "not ok ") {
				continue
			}
			m := nipa.FindStringSubmatch(line)
			if m == nil || !slices.ContainsFunc(all, func(k *kernelRun) bool { return strings.HasPrefix(m[5], tapName(k.name)+"/") }) {
				t.Errorf("%s: NIPA reads %q of %q", name, m, line)
			}
		}
	}
}

// TestMarkdownIsStable: times, ports, places and versions of rpmig leave no mark, and neither does the order of cells.
func TestMarkdownIsStable(t *testing.T) {
	want := renderAll(t, "markdown", three(), Options{})
	again := three()
	for _, run := range again {
		run.Header.Version, run.Header.Command, run.Header.Port = "v9", nil, 99
		slices.Reverse(run.Cells)
		for i := range run.Cells {
			c := &run.Cells[i]
			c.Elapsed, c.Steps, c.Resets = 99, nil, nil
			if c.Status == result.Pass {
				c.Reason = "some other frame"
			}
		}
	}
	if diff := cmp.Diff(want, renderAll(t, "markdown", again, Options{Dir: "/elsewhere", Verbose: true, Color: true, Width: 60})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if strings.Contains(want, "](") || strings.Contains(want, "://") {
		t.Errorf("a link in:\n%s", want)
	}
}

func TestMarkdownEscapes(t *testing.T) {
	for text, want := range map[string]string{
		"x86_64 and tcp_migrate_req": "x86_64 and tcp_migrate_req", "_a_ __b__": `\_a\_ \_\_b\_\_`, "a|b": `a\|b`, "[x](y) <b>&amp;": `\[x\](y) \<b\>\&amp;`,
		"*x* `y` ~z~ \\": "\\*x\\* \\`y\\` \\~z\\~ \\\\", "two\nlines": `two\\nlines`,
		"a_b": "a_b", "a_": `a\_`, "a_ b": `a\_ b`,
	} {
		if got := escape(text); got != want {
			t.Errorf("%q: want %q, got %q", text, want, got)
		}
	}
}

// TestMarkdownNone: where there is nothing to show, Markdown says so, of one kernel and of two.
func TestMarkdownNone(t *testing.T) {
	run := quizzes()
	run.Cells = slices.DeleteFunc(run.Cells, func(c result.Cell) bool { return c.Status != result.Pass })
	run.Header.Cells = len(run.Cells)
	for want, runs := range map[string][]*result.Run{
		"\n\n## What did not pass\n\nNothing.\n":                                        {run},
		"\n\n## Where they differ\n\nNowhere.\n\nAlike on all kernels: 6 of 6 cells.\n": {run, run},
	} {
		if got := renderAll(t, "markdown", runs, Options{}); !strings.HasSuffix(got, want) {
			t.Errorf("%d kernels: want %q behind the sums, got %s", len(runs), want, got)
		}
	}
	// What did not pass on either is no difference; and how many passed is told where none has.
	failed := mixed()
	got := renderAll(t, "markdown", []*result.Run{failed, failed}, Options{})
	if failed.ExitCode() == result.ExitOK || !strings.Contains(got, "\n## Where they differ\n\nNowhere.\n") {
		t.Errorf("of two runs that are alike: %s", got)
	}
	skipped := &result.Run{Header: result.Header{Cells: 1}}
	skipped.Cells = []result.Cell{{Scenario: "quiz1", Family: "ipv4", Mode: "bpf", Repeat: 1, Status: result.Skip, Reason: "needs BPF"}}
	if got := renderAll(t, "markdown", []*result.Run{skipped}, Options{}); !strings.HasPrefix(got, "| kernel | Linux | cells | PASS | SKIP |\n") {
		t.Errorf("of a run that was skipped: %s", got)
	}
}

// TestMarkdownNotes: what is so on some kernels names each of them.
func TestMarkdownNotes(t *testing.T) {
	var all []*result.Run
	for i, reason := range []string{"no BPF", "no BPF", "no root"} {
		run := &result.Run{Header: result.Header{Kernel: fmt.Sprint("6.", i), Cells: 1}}
		run.Cells = []result.Cell{{Scenario: "quiz1", Family: "ipv4", Mode: "bpf", Repeat: 1, Status: result.Skip, Reason: reason}}
		all = append(all, run)
	}
	if got := renderAll(t, "markdown", all, Options{}); !strings.HasSuffix(got, "\n\n- SKIP: no BPF (6.0, 6.1)\n- SKIP: no root (6.2)\n") {
		t.Error(got)
	}
}

// TestMarkdownTables: whatever a kernel, a scenario or a mode is called, each row of a table has as many cells as its heading.
func TestMarkdownTables(t *testing.T) {
	poisoned := func(kernel string, s result.Status) *result.Run {
		run := &result.Run{Header: result.Header{Kernel: kernel, Cells: 2}}
		for _, mode := range []string{"o|ff", "b|pf"} {
			c := play("quiz|1", "ipv|4", mode, 1)
			if mode == "b|pf" {
				c.Status, c.Reason = s, "be|cause"
			}
			run.Cells = append(run.Cells, c)
		}
		return run
	}
	for _, runs := range [][]*result.Run{{poisoned("6|1", result.Skip)}, {poisoned("6|1", result.Skip), poisoned("6|2", result.Pass)}} {
		text := strings.ReplaceAll(renderAll(t, "markdown", runs, Options{}), `\|`, "!")
		columns, tables := 0, 0
		for line := range strings.Lines(text) {
			switch n := strings.Count(line, "|"); {
			case n == 0:
				columns = 0
			case columns == 0:
				columns = n
				tables++
			case n != columns:
				t.Errorf("%d columns, want %d: %s", n-1, columns-1, line)
			}
		}
		if tables != 2 || !strings.Contains(text, "quiz!1") || !strings.Contains(text, "b!pf") {
			t.Errorf("%d tables:\n%s", tables, text)
		}
	}
}

// TestKernelsPage: the page is sound, links each cell of each kernel, and its captures are in the folders of the runs.
func TestKernelsPage(t *testing.T) {
	for name, runs := range sets() {
		t.Run(name, func(t *testing.T) { sound(t, renderAll(t, "html", runs, Options{Dir: "d"})) })
	}
	page := renderAll(t, "html", three(), Options{Dir: "d"})
	elements, text := parseHTML(t, unfold(t, page))
	cells, captures, columns := 0, 0, 0
	for _, e := range elements {
		href := e.attrs["href"]
		if strings.HasPrefix(href, "#cell=") {
			cells++
		}
		if strings.HasSuffix(href, "/capture.pcapng") {
			captures++
			if !strings.HasPrefix(href, "./mine/cells/") && !strings.HasPrefix(href, "./6.1.0-52-cloud-amd64/cells/") && !strings.HasPrefix(href, "./6.12.117+deb12-cloud-amd64/cells/") {
				t.Errorf("capture in %s", href)
			}
		}
		if e.name == "tbody" {
			columns++
		}
	}
	if played := 12 + 12 + 7; cells < played || captures != played-1 {
		t.Errorf("%d links to cells and %d to captures, want %d and one less", cells, captures, played)
	}
	for _, want := range []string{"Where the kernels differ", "mine", "It did not end by itself: the kernel died", "Kernel panic - not syncing", "5 planned cells were not played",
		"virtual, counted in the guest's instructions", "debian:6.1.0-52-cloud-amd64", "quiz2 ipv6 sysctl on mine"} {
		if !strings.Contains(text, want) && !strings.Contains(unfold(t, page), want) {
			t.Errorf("not on the page: %q", want)
		}
	}
}

// TestBrowserShowsKernels: the page of several kernels fits a phone, follows its links, and tells a screen reader all.
func TestBrowserShowsKernels(t *testing.T) {
	b := newTab(t)
	path := filepath.Join(t.TempDir(), "index.html")
	if keep := os.Getenv("RPMIG_KEEP_PAGES"); keep != "" {
		path = filepath.Join(keep, "kernels.html")
	}
	runs := three()
	runs = append(runs, quizzes())
	if err := os.WriteFile(path, []byte(renderAll(t, "html", runs, Options{Dir: "d"})), 0o644); err != nil {
		t.Fatal(err)
	}
	b.open(path, "#cell=mine/quiz2/ipv6/sysctl/1")
	if got := eval[string](b, `document.activeElement.id`); got != "cell=mine/quiz2/ipv6/sysctl/1" {
		t.Errorf("the link leads to %q", got)
	}
	if n := eval[int](b, `document.querySelectorAll(".bykernel thead th").length`); n != 2+len(runs) {
		t.Errorf("%d columns, want %d", n, 2+len(runs))
	}
	b.openAll()
	for _, s := range append(inaccessible(b.accessible()), b.pale()...) {
		t.Error(s)
	}
	if all := b.strangers(path); len(all) > 0 {
		t.Errorf("asked for %q", all)
	}
	b.phone()
	if w := b.width(); w > phone {
		t.Errorf("%d pixels wide, want %d", w, phone)
	}
}

package reports

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rpmig/rpmig/result"
)

// faulty is a run in which a case fails in two cells, another by a known bug, and one was not played.
func faulty() *result.Run {
	run := quizzes()
	run.Header.Upstream = "6.18.44"
	run.Header.Scenarios = []result.About{{Name: "quiz1", Title: "connections in the accept queue"}, {Name: "quiz2", Title: "handshakes"}}
	run.Header.Bugs = []result.Bug{{
		ID: "CVE-1", Doc: "the limit is not kept", Link: "https://example.org/CVE-1", Since: "5.14", Fixed: []string{"6.12.86", "6.18.45"}, Check: "limit",
	}}
	for i := range run.Cells {
		c := &run.Cells[i]
		switch {
		case c.Scenario == "quiz2" && c.Mode == "off":
			c.Status, c.Reason = result.Skip, "not here"
		case c.Scenario == "quiz2" && c.Mode == "bpf":
			c.Status, c.Bug, c.Reason = result.XFail, "CVE-1", "CVE-1: limit: want 5, got 10"
			c.Checks = append(c.Checks, result.Check{Name: "limit", Witness: result.Scenario, Want: "5", Got: "10", Step: 3})
		case c.Scenario == "quiz1" && c.Mode != "off":
			c.Status, c.Reason, c.Confirmed = result.Fail, "taken, and nothing migrated", &result.Replay{Status: result.Fail}
			c.Checks = append([]result.Check{{Name: "accepted", Witness: result.Application, Want: "1", Got: "0", Step: 5}}, c.Checks...)
			c.Checks = append(c.Checks, result.Check{Name: "resets", Witness: result.Wire, Want: "none", Got: "one"})
		}
	}
	return run
}

// TestHTMLCases: the page begins with what is not PASS, the worst first, and says of each what was seen, where that began, which
// bug it is, which releases have that, and how to play it again. What happened, and a verdict that is more than the first check,
// stand where no bug explains it.
func TestHTMLCases(t *testing.T) {
	page := render(t, "html", faulty(), Options{})
	_, all, _ := strings.Cut(page, "<h2>What is not PASS</h2>")
	all, _, _ = strings.Cut(all, `<h2 id="matrix">`)
	_, text := parseHTML(t, "<main>"+all+"</main>")
	text = strings.Join(strings.Fields(text), " ")
	want := "✗ 2 FAIL quiz1 connections in the accept queue ipv4 sysctl ipv4 bpf " +
		"accepted (application)want 1got 0since step 5 of 6, at 0.0008 s: close A " +
		"What happened in the first. The connection lived: the kernel moved what the closing listener held to another listener " +
		"(TCPMigrateReqSuccess +1), whose accept() returned it. Verdict. taken, and nothing migrated " +
		"No known bug explains it. Played again, alone, it was FAIL too. " +
		"To play it again: rpmig run quiz1 --family=ipv4 --migrate=sysctl -v " +
		"△ XFAIL quiz2 handshakes ipv4 bpf limit (scenario)want 5got 10since step 3 of 9, at 0.0671 s: 1 client connects and sends \"Hello World\" " +
		"Known bug CVE-1. the limit is not kept. In Linux since 5.14, fixed in 6.12.86, 6.18.45 and in what came after. " +
		"This kernel, 6.18.44, has it, by its version.https://example.org/CVE-1 " +
		"To play it again: rpmig run quiz2 --family=ipv4 --migrate=bpf -v ○ SKIP not here quiz2 ipv4 off"
	if diff := cmp.Diff(want, text); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, want := range []string{
		`href="#cell=quiz1/ipv4/sysctl/1&amp;step=5"`, `href="https://example.org/CVE-1"`, `id="wrong=fail"`, `id="wrong=skip"`, `href="#wrong=xfail"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("not on the page: %s", want)
		}
	}
	sound(t, page)
	// Of a cell the first check that failed stands by itself, and what failed besides is folded; its row says what it came to.
	_, cell, _ := strings.Cut(page, `id="cell=quiz1/ipv4/bpf/1">`)
	cell, _, _ = strings.Cut(cell, "</article>")
	before, folded, _ := strings.Cut(cell, `<details class="also"><summary>1 more check does not hold</summary>`)
	if folded, _, _ = strings.Cut(folded, "</details>"); !strings.Contains(before, "<b>accepted</b>") || strings.Contains(before, "<b>resets</b>") ||
		!strings.Contains(folded, "<b>resets</b>") || strings.Contains(folded, "<b>accepted</b>") {
		t.Errorf("want the first check that failed, and folded the other:\n%s", cell)
	}
	if _, row, _ := strings.Cut(page, `id="row=quiz1/ipv4"`); strings.Count(row[:strings.Index(row, "</summary>")], `<span class="badge fail">`) != 2 ||
		strings.Contains(row[:strings.Index(row, "</summary>")], `<span class="badge pass">`) {
		t.Error("a row that is closed does not say which of its modes are FAIL, and that alone")
	}
	if strings.Contains(page, "<b>bpf-drop</b>: ") || !strings.Contains(page, "<b>sysctl</b>: ") {
		t.Error("modes that are on the page are explained, and no others")
	}
	if strings.Contains(render(t, "html", quizzes(), Options{}), "What is not PASS") {
		t.Error("a run that is all PASS has such a list")
	}
}

// TestHTMLOfReloads: a server that was reloaded is none of rpmig's scenarios, and the page says nothing of it that only holds for those.
func TestHTMLOfReloads(t *testing.T) {
	run := reloads()
	run.Header.Command = []string{"reload", "--", "nginx", "-g", "daemon off;"}
	page := render(t, "html", run, Options{})
	sound(t, page)
	_, text := parseHTML(t, unfold(t, page))
	text = strings.Join(strings.Fields(text), " ")
	for _, want := range []string{
		"here a server was reloaded again and again under load", "how many of the connections of the clients were not lost",
		"To play it again: rpmig reload -- nginx -g 'daemon off;'", "the server ended with exit status 3 before it listened on port 80",
		reloadMeanings[result.Fail], "1 check, counters, captures",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("not on the page: %s", want)
		}
	}
	for _, no := range []string{
		"each cell below staged such a loss", "rpmig run reload/", "No known bug explains it", "all words and signs", "0 checks", "Drawn is one of",
		meanings[result.Fail],
	} {
		if strings.Contains(text, no) {
			t.Errorf("on the page: %s", no)
		}
	}
	if strings.Contains(page, "<b>What saves it.</b> </p>") {
		t.Error("it says what saves a connection, and then nothing")
	}
	run.Cells = append(run.Cells, quizzes().Cells...)
	if page := render(t, "html", run, Options{}); !strings.Contains(page, "each cell below staged such a loss") || strings.Contains(page, "here a server was reloaded") {
		t.Error("a page that has scenarios, too, is not told as theirs")
	}
}

// TestHTMLAgain: a cell is played again in the kernel that it was played in.
func TestHTMLAgain(t *testing.T) {
	c := play("quiz1", "ipv6", "bpf", 3)
	if got, want := again(&result.Header{Guest: &result.Guest{From: "my kernels/bzImage"}}, &c),
		"rpmig run quiz1 --family=ipv6 --migrate=bpf -v '--kernel=my kernels/bzImage'"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestHTMLRepeats: an entry of the matrix says how many of its repeats came to what where they differ, on a page of many cells too,
// and the fact once.
func TestHTMLRepeats(t *testing.T) {
	run := &result.Run{Header: mixed().Header}
	for repeat := range maxText + 1 {
		c := play("quiz1", "ipv4", "bpf", repeat+1)
		if repeat == 7 {
			fail(&c)
		}
		run.Cells = append(run.Cells, c)
	}
	run.Cells = append(run.Cells, play("quiz1", "ipv4", "off", 1))
	run.Header.Cells = len(run.Cells)
	_, text := parseHTML(t, render(t, "html", run, Options{}))
	text = strings.Join(strings.Fields(text), " ")
	if want := "quiz1 ipv40 of 1 lived ✓ PASS2500 of 2501 lived ✓ 2500 PASS✗ 1 FAIL"; !strings.Contains(text, want) {
		t.Errorf("not on the page: %s\n%.3000s", want, text)
	}
}

// TestHTMLBugLinks: a ledger may come from a stranger, and so may the link.
func TestHTMLBugLinks(t *testing.T) {
	for link, want := range map[string]bool{
		"https://nvd.nist.gov/vuln/detail/CVE-1": true, "https://git.kernel.org/linus/55d444b310c6": true, "http://example.org/": false, "javascript:boom()": false,
		"//example.org": false, "https://user@example.org/": false, "https:///x": false, "https://example.org/\u202ex": false, "": false,
	} {
		if got := newHTMLBug(&result.Header{}, result.Bug{ID: "B", Link: link}).Href != ""; got != want {
			t.Errorf("%q is a link: %t, want %t", link, got, want)
		}
	}
}

func TestHTMLBugHere(t *testing.T) {
	bug := result.Bug{ID: "B", Since: "5.14", Fixed: []string{"6.12.86", "6.18.45"}}
	for upstream, want := range map[string]string{
		"6.18.44": "This kernel, 6.18.44, has it, by its version.", "6.18.45": "This kernel, 6.18.45, does not have it, by its version.",
		"6.6.1": "Whether this kernel, 6.6.1, has it cannot be told by its version.", "": "Whether this kernel, 6.6-x, has it cannot be told by its version.",
	} {
		if got := newHTMLBug(&result.Header{Kernel: "6.6-x", Upstream: upstream}, bug).Here; got != want {
			t.Errorf("%s: %s", upstream, got)
		}
	}
	bug.Still = []string{"6.1.192", "6.6.30"}
	if got, want := newHTMLBug(&result.Header{}, bug).Releases, "In Linux since 5.14, fixed in 6.12.86, 6.18.45 and in what came after, not fixed in 6.1.192, 6.6.30."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestCommand: what the page says can be pasted into a shell.
func TestCommand(t *testing.T) {
	for want, args := range map[string][]string{
		"rpmig":                                 nil,
		"rpmig run all --out /tmp/a":            {"run", "all", "--out", "/tmp/a"},
		`rpmig run 'quiz*' '' 'it'\''s' '$(x)'`: {"run", "quiz*", "", "it's", "$(x)"},
	} {
		if got := command(args); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestParted: the slider is at first where a check that failed says, if the ledger says so and it may be so.
func TestParted(t *testing.T) {
	for _, tt := range []struct{ step, want int }{{3, 2}, {0, 4}, {99, 4}, {-1, 4}} {
		c := traced("quiz1", "off", 56564)
		c.Steps = append(c.Steps, result.Step{Name: "one more", At: 1})
		c.Resets[0].Step = 5
		c.Checks = append(c.Checks, result.Check{Name: "x", Step: tt.step})
		if got := decisive(&c, walk(&c)); got != tt.want {
			t.Errorf("step %d: at stop %d, want %d", tt.step, got, tt.want)
		}
	}
}

// TestSequenceFolds: steps of one name that have nothing between them are drawn once.
func TestSequenceFolds(t *testing.T) {
	c := result.Cell{Steps: result.Steps{{Name: "a"}, {Name: "accept", At: 1}, {Name: "accept", At: 2}, {Name: "accept", At: 3}, {Name: "b", At: 4}, {Name: "accept", At: 5}}}
	svg := sequence(newScene(&result.Header{}, &c))
	if strings.Count(svg, ">accept × 3<") != 1 || strings.Count(svg, ">accept<") != 1 {
		t.Error(svg)
	}
	// The step at which a check parted is drawn, and says so.
	c.Checks = []result.Check{{Name: "accepted", Want: "3", Got: "1", Step: 3}}
	svg = sequence(newScene(&result.Header{}, &c))
	if strings.Count(svg, ">accept × ") != 0 || strings.Count(svg, ">accept<") != 4 || !strings.Contains(svg, "accepted: want 3, got 1") {
		t.Error(svg)
	}
}

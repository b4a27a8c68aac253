package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rpmig/rpmig/result"
)

// writeHead says what the tables are.
func writeHead(w io.Writer, version string, baseline outcome, took time.Duration) {
	t := baseline.total()
	fmt.Fprintf(w, `# Mutants of the kernel

Does rpmig notice when a kernel migrates wrongly? Each mutant is a patch of a few lines, in
[bench/kernels](../bench/kernels), to Debian's %s %s. Each was built, booted with
`+"`rpmig run --kernel`"+`, and played in every mode over IPv4. The first lines of a patch name the
scenarios that have to notice, with at least one FAIL: an ERROR says only that rpmig could not
tell who is wrong. `+"`rpmig compare`"+` of the runs without and with a patch has to say that these
scenarios have regressed, and which path they take through the kernel, or `+"`make mutants`"+` fails.
The kernel without any of the patches passes: %s.

`+"`make mutants`"+` wrote this file, in %v. To play one: `+"`go run ./bench/kernels -only NAME`"+`.

`, source, version, strings.Join(counts(t), ", "), took.Round(time.Second))
}

// counts are a tally in words.
func counts(t tally) []string {
	var said []string
	for _, c := range []struct {
		n    int
		what result.Status
	}{{t.pass, result.Pass}, {t.fail, result.Fail}, {t.err, result.Error}, {t.skip, result.Skip}} {
		if c.n > 0 {
			said = append(said, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return said
}

// writeTables writes a table of the mutants, and one of who has noticed which.
func writeTables(w io.Writer, mutants []mutant, outcomes []outcome) {
	fmt.Fprint(w, "| | mutant | what is wrong with the kernel | FAIL | ERROR | PASS | a FAIL |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for i := range mutants {
		m, o := &mutants[i], &outcomes[i]
		t := o.total()
		said := cell(o.reason)
		if o.by != "" {
			said = fmt.Sprintf("`%s`: %s", o.by, said)
		}
		if o.ended != "" {
			said = strings.TrimSpace(said + " (the guest ended early: " + cell(o.ended) + ")")
		}
		if m.survives != "" {
			said = "it survives: " + cell(m.survives)
		}
		if problem, _ := m.wrong(*o); problem != "" {
			said = strings.TrimSuffix("**"+cell(problem)+"**; "+said, "; ")
		}
		fmt.Fprintf(w, "| %d | %s | %s | %d | %d | %d | %s |\n", i+1, m.name, cell(m.title), t.fail, t.err, t.pass, said)
	}
	fmt.Fprint(w, `
Below is who has noticed: how many cells of a scenario, of all modes, are FAIL in each mutant, by
the numbers above; `+"`e`"+` marks those that are ERROR. A scenario that the patch names is in bold
type.

`)
	writeMatrix(w, mutants, outcomes)
}

// writeMatrix writes scenarios by mutants. A scenario that is green in all is left out.
func writeMatrix(w io.Writer, mutants []mutant, outcomes []outcome) {
	names := map[string]bool{}
	for i := range mutants {
		for s, t := range outcomes[i].cells {
			if t.fail+t.err > 0 || slices.Contains(mutants[i].caught, s) {
				names[s] = true
			}
		}
	}
	fmt.Fprint(w, "| scenario |")
	for i := range mutants {
		fmt.Fprintf(w, " %d |", i+1)
	}
	fmt.Fprintf(w, "\n| --- |%s\n", strings.Repeat(" --- |", len(mutants)))
	for _, s := range slices.Sorted(maps.Keys(names)) {
		fmt.Fprintf(w, "| %s |", s)
		for i := range mutants {
			t, said := outcomes[i].cells[s], ""
			if t.fail > 0 {
				said = fmt.Sprint(t.fail)
			}
			if t.err > 0 {
				said = strings.TrimSpace(fmt.Sprintf("%s %de", said, t.err))
			}
			if slices.Contains(mutants[i].caught, s) {
				said = "**" + cmp.Or(said, "0") + "**"
			}
			fmt.Fprintf(w, " %s |", said)
		}
		fmt.Fprintln(w)
	}
}

// cell is text in a cell of a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

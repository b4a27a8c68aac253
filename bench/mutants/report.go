package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/rpmig/rpmig/kernel"
)

// writeHead says what the table is.
func writeHead(w io.Writer, took time.Duration) {
	fmt.Fprintf(w, `# Mutants of rpmig

What would notice if rpmig itself were wrong? Each row is a small bug that was put into rpmig on
purpose, the first test that turned red because of it, and the first cell that did: rpmig was built
with that bug, and played on the real kernel. An ERROR of a cell counts only where it came twice.
Where a column is empty nothing was asked. Who was asked is in
[bench/mutants/table.go](../bench/mutants/table.go). Without any of these bugs all of them pass:
that is checked first.

A mutant that nothing notices makes the program fail, unless its row says why nothing can. That
reason is in the table, too.

`+"`make mutants-self`"+`, as root, wrote this file. It took %v with two mutants at a time, on
%s and Linux %s. To play some rows only:
`+"`go run ./bench/mutants -only netns`"+`.

`, took.Round(time.Second), processors(), cmp.Or(kernel.Upstream(), kernel.Release()))
}

// writeRows writes the table.
func writeRows(w io.Writer, rows []mutant, outcomes []outcome) error {
	var b strings.Builder
	b.WriteString("| what is wrong | file | test that is red | cell that is red |\n| --- | --- | --- | --- |\n")
	cell := func(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
	for i := range rows {
		m, o := &rows[i], outcomes[i]
		test, played := o.test, o.cell
		if test != "" && m.in != "" {
			test += " of " + m.in
		}
		if problem, _ := m.wrong(o); problem != "" {
			test, played = strings.TrimPrefix(test+"; **"+problem+"**", "; "), o.cell
		} else if m.survives != "" {
			test = "none: " + m.survives
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", cell(m.name), m.file, cell(test), cell(played))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

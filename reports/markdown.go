package reports

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/rpmig/rpmig/result"
)

// renderMarkdown writes the sums of a run, and the cells that came to anything but PASS.
func renderMarkdown(w io.Writer, run *result.Run, o Options) error {
	return renderMarkdowns(w, kernelRuns([]*result.Run{run}, Options{}), o)
}

// renderMarkdowns writes the sums of each run and a table kernel by scenario of the cells that differ, families and modes
// where they are needed. Two runs with the same verdicts give the same bytes: no time, path, port or version of rpmig is in
// them, and no link, so that it can be committed and compared.
func renderMarkdowns(w io.Writer, all []*kernelRun, _ Options) error {
	var b markdown
	b.sums(all)
	c := compare(all)
	if len(all) > 1 {
		b.heading("Where they differ")
		b.rows(c.rows(differs), all, "Nowhere.")
		b.paragraph(strings.ToUpper(c.alike()[:1]) + c.alike()[1:] + ".")
	} else {
		b.heading("What did not pass")
		b.rows(c.rows(notPass), all, "Nothing.")
	}
	if err := b.notes(all); err != nil {
		return err
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write markdown: %w", err)
	}
	return nil
}

// markdown is GitHub's, https://github.github.com/gfm/.
type markdown struct{ bytes.Buffer }

// escape makes a text one that is shown as it is, also inside a table.
func escape(s string) string {
	var b strings.Builder
	runes := []rune(printable(s))
	inWord := func(i int) bool {
		return i >= 0 && i < len(runes) && (unicode.IsLetter(runes[i]) || unicode.IsDigit(runes[i]))
	}
	for i, r := range runes {
		if strings.ContainsRune("\\`*[]<>|&~", r) || r == '_' && (!inWord(i-1) || !inWord(i+1)) { // x86_64 stays as it is
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (b *markdown) heading(text string) { b.paragraph("## " + text) }

func (b *markdown) paragraph(text string) {
	if b.Len() > 0 {
		b.WriteByte('\n')
	}
	b.WriteString(text + "\n")
}

// table writes a heading and its rows, whose cells are escaped already.
func (b *markdown) table(heading []string, rows [][]string) {
	b.paragraph("| " + strings.Join(heading, " | ") + " |")
	b.WriteString("|" + strings.Repeat(" --- |", len(heading)) + "\n")
	for _, r := range rows {
		b.WriteString("| " + strings.Join(r, " | ") + " |\n")
	}
}

// sums writes how many cells of each kernel came to which status, those statuses that occur.
func (b *markdown) sums(all []*kernelRun) {
	heading := []string{"kernel", "Linux", "cells"}
	var statuses []result.Status
	for _, s := range result.Statuses() {
		if s == result.Pass || slices.ContainsFunc(all, func(k *kernelRun) bool { return k.Count(s) > 0 }) {
			statuses = append(statuses, s)
			heading = append(heading, string(s))
		}
	}
	missing := slices.ContainsFunc(all, func(k *kernelRun) bool { return k.Missing() > 0 })
	if missing {
		heading = append(heading, "not played")
	}
	var rows [][]string
	for _, k := range all {
		row := []string{escape(k.name), escape(upstream(&k.Header)), fmt.Sprint(k.Len())}
		for _, s := range statuses {
			row = append(row, fmt.Sprint(k.Count(s)))
		}
		if missing {
			row = append(row, fmt.Sprint(k.Missing()))
		}
		rows = append(rows, row)
	}
	b.table(heading, rows)
}

// upstream is the release of Linux that a kernel was made of, as far as that is known.
func upstream(h *result.Header) string {
	if h.Upstream != "" {
		return h.Upstream
	}
	return h.Kernel
}

// rows writes what some cells came to on each kernel; none is what to say where there is no such cell.
func (b *markdown) rows(rows []comparedRow, all []*kernelRun, none string) {
	if len(rows) == 0 {
		b.paragraph(none)
		return
	}
	heading := []string{"scenario", "where"}
	for _, k := range all {
		heading = append(heading, escape(k.name))
	}
	var lines [][]string
	for _, r := range rows {
		line := []string{escape(r.scenario), escape(r.where)}
		for _, words := range r.words {
			if words == "" {
				words = "not played"
			}
			line = append(line, escape(words))
		}
		lines = append(lines, line)
	}
	b.table(heading, lines)
}

// notes name the bugs behind each XFAIL and the reasons of each SKIP, and say which runs are not whole.
func (b *markdown) notes(all []*kernelRun) error {
	on, others := map[string][]string{}, map[string][]string{} // by note, the kernels
	for _, k := range all {
		reasons, bugs := few{}, few{}
		var otherReasons, otherBugs int // cells
		add := func(on map[string][]string, note string) {
			if name := escape(k.name); !slices.Contains(on[note], name) {
				on[note] = append(on[note], name)
			}
		}
		noted := func(s result.Status) bool { return s == result.XFail || s == result.Skip }
		if err := cellsOf(k.Run).eachOf(noted, func(c *result.Cell) error {
			switch {
			case c.Status == result.Skip && reasons.takes(c.Reason):
				add(on, "SKIP: "+escape(c.Reason))
			case c.Status == result.Skip:
				otherReasons++
			case bugs.takes(c.Bug):
				add(on, "XFAIL, "+escape(c.Scenario)+": "+escape(c.Bug))
			default:
				otherBugs++
			}
			return nil
		}); err != nil {
			return err
		}
		if otherReasons > 0 {
			add(others, fmt.Sprintf("SKIP: %s for other reasons", result.Plural(otherReasons, "cell", "cells")))
		}
		if otherBugs > 0 {
			add(others, fmt.Sprintf("XFAIL: %s of other bugs", result.Plural(otherBugs, "cell", "cells")))
		}
		if why := notWhole(k.Run); why != "" {
			add(on, "Not whole: "+escape(why))
		}
	}
	var lines []string
	for _, note := range slices.Concat(slices.Sorted(maps.Keys(on)), slices.Sorted(maps.Keys(others))) {
		line := "- " + note
		switch kernels := append(on[note], others[note]...); {
		case len(all) == 1:
		case len(kernels) == len(all):
			line += " (all kernels)"
		default:
			line += " (" + strings.Join(kernels, ", ") + ")"
		}
		lines = append(lines, line)
	}
	if lines != nil {
		b.paragraph(strings.Join(lines, "\n"))
	}
	return nil
}

//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// helpWidth is a width that every terminal has.
const helpWidth = 80

const exitStatuses = "0 all as expected, 1 the kernel did otherwise, 4 nothing could be played here, " +
	"64 wrong usage, 70 no conclusion."

// printHelp takes the place of the library's templates, which wrap nothing and speak of flags that are false.
func (e *env) printHelp(w io.Writer, _ string, about any) {
	c, ok := about.(*cli.Command)
	if app, isApp := about.(*cli.App); isApp {
		c = &cli.Command{
			HelpName: app.Name, Usage: app.Usage, UsageText: app.UsageText, Description: app.Description,
			Subcommands: app.Commands, Flags: app.Flags,
		}
	} else if !ok {
		return
	}
	var b strings.Builder
	hang(&b, "", c.HelpName+" - "+c.Usage)
	fmt.Fprintf(&b, "\nUsage:\n%s", indent(usageText(c)))
	if description := cmp.Or(c.Description, e.describe(c)); description != "" {
		fmt.Fprintf(&b, "\n%s\n", description)
	}
	if len(c.Subcommands) > 0 {
		fmt.Fprint(&b, "\nCommands:\n")
		var rows [][2]string
		for _, sub := range c.Subcommands {
			rows = append(rows, [2]string{sub.Name, sub.Usage})
		}
		twoColumns(&b, rows)
	}
	fmt.Fprint(&b, "\nOptions:\n")
	twoColumns(&b, options(c))
	_, _ = io.WriteString(w, b.String()) // the library leaves no way to tell
}

// describe tells of what rpmig run can be followed by. It takes a while for all of them, and who plays one need not wait.
func (e *env) describe(c *cli.Command) string {
	if c.Name == "all" {
		return "Plays every scenario there is; rpmig list names them."
	}
	for i := range e.scenarios {
		if s := &e.scenarios[i]; s.Name == c.Name {
			return explain(s)
		}
	}
	return ""
}

func usageText(c *cli.Command) string {
	if c.UsageText != "" {
		return c.UsageText
	}
	return c.HelpName + " [options]"
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(text, "\n", "\n  ") + "\n"
}

// options returns each option of a command, with its value and other names, and what it does.
func options(c *cli.Command) [][2]string {
	var rows [][2]string
	for _, f := range c.VisibleFlags() {
		names, usage, _ := strings.Cut(f.String(), "\t")
		rows = append(rows, [2]string{strings.TrimSpace(names), strings.TrimSpace(usage)})
	}
	return rows
}

func twoColumns(b *strings.Builder, rows [][2]string) {
	left := 0
	for _, r := range rows {
		left = max(left, len(r[0]))
	}
	for _, r := range rows {
		hang(b, fmt.Sprintf("  %-*s  ", left, r[0]), r[1])
	}
}

// hang writes a lead and the text behind it, whose further lines begin below its first word.
func hang(b *strings.Builder, lead, text string) {
	lines := wrapWords(text, helpWidth-len(lead))
	fmt.Fprintf(b, "%s%s\n", lead, strings.Join(lines, "\n"+strings.Repeat(" ", len(lead))))
}

// wrapWords breaks a text into lines of at most width columns; a longer word stays whole.
func wrapWords(text string, width int) []string {
	var lines []string
	line := ""
	for _, w := range strings.Fields(text) {
		if line != "" && len(line)+1+len(w) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += w
	}
	return append(lines, line)
}

// manual writes the manual page, in man(7).
func (e *env) manual(app *cli.App) string {
	var b strings.Builder
	macro := func(name string, args ...string) {
		fmt.Fprintf(&b, ".%s", name)
		for _, a := range args {
			fmt.Fprintf(&b, ` "%s"`, roff(strings.ReplaceAll(a, `"`, "'")))
		}
		b.WriteString("\n")
	}
	filled := func(text string) { fmt.Fprintln(&b, roff(text)) }
	asIs := func(text string) {
		macro("nf")
		filled(text)
		macro("fi")
	}

	tagged := func(tag, text string) {
		macro("TP")
		macro("B", tag)
		filled(text)
	}

	macro("TH", "RPMIG", "8", "", "rpmig "+version)
	macro("SH", "NAME")
	filled(app.Name + " - " + app.Usage)
	macro("SH", "SYNOPSIS")
	asIs(app.UsageText)
	macro("SH", "DESCRIPTION")
	filled(app.Description)
	macro("SH", "COMMANDS")
	for _, c := range app.Commands {
		macro("SS", app.Name+" "+c.Name)
		if c.UsageText != "" {
			asIs(c.UsageText)
			macro("PP")
		}
		filled(strings.ToUpper(c.Usage[:1]) + c.Usage[1:] + ".")
		if c.Description != "" {
			macro("PP")
			filled(c.Description)
		}
		for _, o := range options(c) {
			tagged(o[0], o[1])
		}
	}
	macro("SH", "SCENARIOS")
	for i := range e.scenarios {
		s := &e.scenarios[i]
		macro("SS", s.Name+": "+s.Title())
		filled(s.Story())
		macro("PP")
		asIs(expectations(s))
	}
	macro("SH", "EXIT STATUS")
	filled("Of rpmig run: " + exitStatuses)
	macro("SH", "ENVIRONMENT")
	tagged("NO_COLOR", "Set to anything: no colours.")
	tagged("TMPDIR", "Where a run without --out leaves the evidence of what is FAIL or ERROR; else /tmp.")
	macro("SH", "FILES")
	tagged("DIR/"+ledgerName, "With --out: one JSON object a line, the run first and then each cell as it ended; rpmig report reads it.")
	tagged("DIR/cells/SCENARIO/FAMILY/MODE/REPEAT/capture.pcapng", "What the cell's capture recorded, with comments on the frames that matter.")
	tagged("DIR/"+programDir+"/", "The BPF program, in C and as it is loaded, and what the kernel's verifier said of it, a file for each mode that loads it.")
	tagged("FILE.tar.gz", "A bundle: report.txt, to be pasted into a mail; run.jsonl and page.html; of each cell "+
		"its timeline, capture, socket tables step by step (sockets.txt), and the sysctls, rules and counters of its namespace "+
		"(namespace.txt); the BPF program and the verifier's log; the kernel's release, taint and configuration and the build "+
		"of rpmig (environment.json, kernel.config); and manifest.json, with a sum of each file. Names of host and user, paths "+
		"under home, addresses and the kernel's pointers are left out of all texts; the same folder gives the same bytes.")
	return b.String()
}

// roff makes a text stand for itself in a manual page.
func roff(text string) string {
	lines := strings.Split(strings.NewReplacer(`\`, `\e`, "-", `\-`, "→", `\(->`).Replace(text), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

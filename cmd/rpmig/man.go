//go:build linux

package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

func (e *env) manCommand() *cli.Command {
	return &cli.Command{
		Name:  "man",
		Usage: "print the manual page: rpmig man | man -l -",
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			_, err := fmt.Fprint(e.stdout, e.manual(e.app()))
			return err
		},
	}
}

// manual writes the manual page, in man(7).
func (e *env) manual(app *cli.App) string {
	var p manPage
	fmt.Fprintf(&p, ".TH RPMIG 8 %s \"rpmig %s\"\n", released, roff(version)) // a date with escaped hyphens is none
	p.macro("SH", "NAME")
	p.filled(app.Name + " - " + app.Usage)
	p.macro("SH", "SYNOPSIS")
	p.asIs(app.UsageText)
	p.macro("SH", "DESCRIPTION")
	p.filled(app.Description)
	p.macro("SH", "COMMANDS")
	for _, c := range app.Commands {
		p.command(app.Name, c)
	}
	p.macro("SH", "SCENARIOS")
	for i := range e.scenarios {
		s := &e.scenarios[i]
		p.macro("SS", s.Name+": "+s.Title())
		p.filled(s.Story())
		p.macro("PP")
		p.asIs(expectations(s))
	}
	p.macro("SH", "EXIT STATUS")
	p.filled("Of rpmig run: " + exitStatuses)
	p.macro("PP")
	p.filled("Of rpmig compare, and of rpmig run with --baseline: " + compareStatuses)
	p.macro("SH", "ENVIRONMENT")
	p.tagged("NO_COLOR", "Set to anything: no colours.")
	p.tagged("TMPDIR", "Where a run without --out leaves the evidence of what is FAIL or ERROR; else /tmp.")
	p.tagged("KSFT_MACHINE_SLOW", "Set to anything: deadlines are stretched by 4, unless --timeout-mul says otherwise, nothing is asserted on time, and what the machine is too slow for, also when it is played again alone, is a SKIP.")
	p.tagged("CI_NODE_INDEX, CI_NODE_TOTAL, BUILDKITE_PARALLEL_JOB, BUILDKITE_PARALLEL_JOB_COUNT, JOB_COMPLETION_INDEX", "What --shard=auto goes by, and nothing else does.")
	p.tagged("KCIDB_ORIGIN, KCIDB_BUILD_ID, KCIDB_TEST_ID", "What --kcidb-origin, --kcidb-build and --kcidb-id are where they are not given.")
	p.tagged("XDG_CACHE_HOME", "Above the folder rpmig, in which kernels are kept; else $HOME/.cache, else where temporary files are.")
	p.macro("SH", "FILES")
	p.files()
	p.macro("SH", "EXAMPLES")
	for _, x := range examples {
		p.macro("TP")
		p.macro("B", x.command)
		p.filled(x.does)
	}
	p.macro("SH", "SEE ALSO")
	for i, page := range seeAlso {
		name, section, _ := strings.Cut(page, "(")
		end := "(" + section + ","
		if i == len(seeAlso)-1 {
			end = strings.TrimSuffix(end, ",")
		}
		p.macro("BR", name, end)
	}
	return p.String()
}

var examples = []struct{ command, does string }{
	{"rpmig run 'quiz*'", "Play both quizzes of the talk: with migration off a connection is lost, with it on it lives."},
	{"rpmig doctor", "What can be played here, what is missing, and whether migration is on in this network namespace."},
	{"rpmig run quiz2 --migrate=bpf -v", "Play one scenario in one mode and in its control, and tell what happened."},
	{"rpmig run all --migrate=all --family=all --out evidence", "Play everything, and keep a capture of each cell."},
	{"rpmig explain evidence/quiz2/ipv4/off", "Tell a cell of that run as a timeline."},
	{"rpmig report evidence --format=html >page.html", "Make a page of it, with drawings."},
	{"rpmig bundle evidence -o run.tar.gz", "Put it into one file, for a bug report."},
	{"rpmig run 'drain-*' --until-fail", "Play the ways to drain a listener again and again, until one fails."},
	{"rpmig run all --kernel arch/x86/boot/bzImage --format=ktap", "In CI of a kernel: play everything in the one that was just built."},
}

// seeAlso is sorted by section, as man-pages(7) wants it.
var seeAlso = []string{
	"bpf(2)", "listen(2)", "socket(7)", "tcp(7)", "network_namespaces(7)", "user_namespaces(7)", "ss(8)", "sysctl(8)", "tcpdump(8)",
}

// manPage is a manual page that is being written.
type manPage struct{ strings.Builder }

func (p *manPage) macro(name string, args ...string) {
	fmt.Fprintf(p, ".%s", name)
	for _, a := range args {
		fmt.Fprintf(p, ` "%s"`, roff(strings.ReplaceAll(a, `"`, "'")))
	}
	p.WriteString("\n")
}

// filled is text whose lines man(1) breaks. Those of the source are short as well, as mandoc(1) -T lint wants them; an empty one
// begins a paragraph.
func (p *manPage) filled(text string) {
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			p.macro("PP")
		}
		for _, line := range wrapWords(paragraph, 60) { // an escaped hyphen takes two bytes
			fmt.Fprintln(p, roff(line))
		}
	}
}

// asIs is text that keeps its lines.
func (p *manPage) asIs(text string) {
	p.macro("nf")
	fmt.Fprintln(p, roff(text))
	p.macro("fi")
}

func (p *manPage) tagged(tag, text string) {
	p.macro("TP")
	p.macro("B", tag)
	p.filled(text)
}

func (p *manPage) command(app string, c *cli.Command) {
	p.macro("SS", app+" "+c.Name)
	if c.UsageText != "" {
		p.asIs(c.UsageText)
		p.macro("PP")
	}
	p.filled(strings.ToUpper(c.Usage[:1]) + c.Usage[1:] + ".")
	if c.Description != "" {
		p.macro("PP")
		p.filled(c.Description)
	}
	for _, o := range options(c) {
		p.tagged(o[0], o[1])
	}
}

func (p *manPage) files() {
	p.tagged("DIR/"+ledgerName, "With --out: one JSON object a line, the run first and then each cell as it ended; rpmig report reads it.")
	p.tagged("DIR/cells/SCENARIO/FAMILY/MODE/REPEAT/capture.pcapng", "What the cell's capture recorded, with comments on the frames that matter.")
	p.tagged("DIR/"+programDir+"/", "The BPF program, in C and as it is loaded, and what the kernel's verifier said of it, a file for each mode that loads it.")
	p.tagged("DIR/KERNEL/", "With --kernel: the same of the run in each kernel; with kernel.config, where that was found, and console.txt, all that its console said.")
	p.tagged("FILE.tar.gz", "A bundle: report.txt, to be pasted into a mail; run.jsonl and page.html; of each cell "+
		"its timeline, capture, socket tables step by step (sockets.txt), and the sysctls, rules and counters of its namespace "+
		"(namespace.txt); the BPF program and the verifier's log; the kernel's release, taint and configuration and the build "+
		"of rpmig (environment.json, kernel.config); and manifest.json, with a sum of each file. Names of host and user, paths "+
		"under home, addresses and the kernel's pointers are left out of all texts; the same folder gives the same bytes.")
}

// roff escapes a text, so that a manual page shows it as it is.
func roff(text string) string {
	lines := strings.Split(strings.NewReplacer(`\`, `\e`, "-", `\-`, "→", `\(->`, "…", "...").Replace(text), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

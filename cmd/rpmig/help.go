//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
)

// helpWidth is a width that every terminal has.
const helpWidth = 80

const exitStatuses = "0 all as expected, 1 the kernel did otherwise, 4 nothing could be played here, " +
	"64 wrong usage, 70 no conclusion."

// printHelp takes the place of the library's templates, which wrap no lines and say of each switch that it is false by
// default.
func (e *env) printHelp(w io.Writer, about any) error {
	c, ok := about.(*cli.Command)
	if app, isApp := about.(*cli.App); isApp {
		c = &cli.Command{
			HelpName: app.Name, Usage: app.Usage, UsageText: app.UsageText, Description: app.Description,
			Subcommands: app.Commands, Flags: app.Flags,
		}
	} else if !ok {
		return nil
	}
	var b strings.Builder
	width := e.width()
	hang(&b, width, "", c.HelpName+" - "+c.Usage)
	fmt.Fprintf(&b, "\nUsage:\n%s", narrowed(indent(e.asStarted(usageText(c))), width))
	if description := cmp.Or(c.Description, e.scenarioHelp(c)); description != "" {
		fmt.Fprint(&b, narrowed("\n"+e.asStarted(description)+"\n", width))
	}
	if len(c.Subcommands) > 0 {
		fmt.Fprint(&b, "\nCommands:\n")
		var rows [][2]string
		for _, sub := range c.Subcommands {
			if !sub.Hidden {
				rows = append(rows, [2]string{sub.Name, sub.Usage})
			}
		}
		twoColumns(&b, width, rows)
	}
	fmt.Fprint(&b, "\nOptions:\n")
	twoColumns(&b, width, options(c))
	_, err := io.WriteString(e.plain(w), b.String())
	return err
}

// scenarioHelp describes a subcommand of rpmig run; empty of any other command. It is put together only when help is asked
// for, as that of all scenarios would take each start of rpmig half a millisecond.
func (e *env) scenarioHelp(c *cli.Command) string {
	if c.Name == "all" {
		return "Plays every scenario there is; rpmig list names them."
	}
	for i := range e.scenarios {
		if s := &e.scenarios[i]; s.Name == c.Name {
			return s.Story() + "\n\n" + expectations(s)
		}
	}
	return ""
}

// expectations are the kernel path of a scenario and what to expect in each mode.
func expectations(s *lab.Scenario) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Kernel path:\n  %s\n\nExpected:\n", s.Path)
	for _, m := range migrate.Modes() {
		if s.PlaysMode(m) {
			fmt.Fprintf(&b, "  %-11s %s\n", m.Name, s.Expect(m))
		}
	}
	return strings.TrimSpace(b.String())
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

// twoColumns writes names and what they mean. A name that is longer than most has a line of its own; on a narrow terminal all do.
func twoColumns(b *strings.Builder, width int, rows [][2]string) {
	left := 0
	for _, r := range rows {
		left = max(left, len(r[0]))
	}
	if left = min(left, mostLeft); width < narrow {
		left = 2
	}
	for _, r := range rows {
		lead := fmt.Sprintf("  %-*s  ", left, r[0])
		if len(r[0]) > left {
			hang(b, width, "  ", r[0])
			lead = strings.Repeat(" ", left+4)
		}
		hang(b, width, lead, r[1])
	}
}

const (
	mostLeft = 31 // columns of names
	narrow   = 60 // a terminal that has no room for two columns
	least    = 40 // columns that are made use of, however few there are
)

// width is how many columns there are for text.
func (e *env) width() int {
	if e.widthOut == 0 {
		return helpWidth
	}
	return min(max(e.widthOut, least), helpWidth)
}

// hang writes a lead and the text behind it, whose further lines begin below its first word.
func hang(b *strings.Builder, width int, lead, text string) {
	lines := wrapWords(text, width-len(lead))
	fmt.Fprintf(b, "%s%s\n", lead, strings.Join(lines, "\n"+strings.Repeat(" ", len(lead))))
}

// wrapWords breaks a text into lines of at most width columns; a longer word stays whole.
func wrapWords(text string, width int) []string {
	var lines []string
	line := ""
	for _, w := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += w
	}
	return append(lines, line)
}

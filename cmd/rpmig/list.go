//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/scenarios"
)

// listed is what list --json prints.
type listed struct {
	Scenarios []listedScenario `json:"scenarios"`
	Modes     []listedMode     `json:"modes"`
	Families  []string         `json:"families"`
	Unweighed []result.Bug     `json:"unweighed_bugs"`
}

type listedScenario struct {
	Name     string            `json:"name"`
	Section  string            `json:"section"`
	Title    string            `json:"title"`
	Path     string            `json:"path"`
	Timers   string            `json:"timers,omitempty"`  // of the kernel, that it sits out
	Seconds  float64           `json:"seconds,omitempty"` // how long these take
	Families []string          `json:"families"`
	Expected map[string]string `json:"expected"` // by mode; only those it is played in
	Bugs     []result.Bug      `json:"bugs,omitempty"`
}

type listedMode struct {
	Name string `json:"name"`
	Doc  string `json:"doc"`
}

func (e *env) listCommand() *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "list scenarios, the kernel paths they walk, and the modes",
		Flags: []cli.Flag{boolFlag("json", "", "as JSON"), boolFlag("bugs", "", "the known kernel bugs that scenarios show")},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			l := e.list()
			if c.Bool("json") {
				return e.asJSON(c.Context, l)
			}
			var b strings.Builder
			if c.Bool("bugs") {
				listBugs(&b, e.width(), l)
			} else {
				e.listText(&b, l)
			}
			_, err := fmt.Fprint(e.textOut(), b.String())
			return err
		},
	}
}

// listText lists scenarios, variants of one case together, and what else a command line may name.
func (e *env) listText(b *strings.Builder, l listed) {
	width := e.width()
	for _, section := range lab.Sections() {
		var rows [][2]string
		for _, g := range groupVariants(e.ofSection(section)) {
			rows = append(rows, [2]string{g.name(), g.title})
		}
		if len(rows) > 0 {
			b.WriteString("\n")
			hang(b, width, "", section)
			twoColumns(b, width, rows)
		}
	}
	b.WriteString("\nModes (--migrate):\n")
	var rows [][2]string
	for _, m := range l.Modes {
		rows = append(rows, [2]string{m.Name, m.Doc})
	}
	twoColumns(b, width, rows)
	fmt.Fprintf(b, "\nFamilies (--family):\n  %s\n\n", strings.Join(l.Families, ", "))
	hang(b, width, "", e.asStarted("rpmig explain NAME tells the story, the kernel path, and what is expected."))
}

func (e *env) list() listed {
	l := listed{Unweighed: scenarios.Unweighed}
	for i := range e.scenarios {
		s := &e.scenarios[i]
		x := listedScenario{
			Name: s.Name, Section: s.Section, Title: s.Title(), Path: s.Path, Bugs: s.Bugs,
			Timers: s.TimerNames(), Seconds: s.Cost.Seconds(),
			Families: orAll(s.Families, lab.FamilyNames()), Expected: map[string]string{},
		}
		for _, m := range migrate.Modes() {
			if s.PlaysMode(m) {
				x.Expected[m.Name] = s.Expect(m).String()
			}
		}
		l.Scenarios = append(l.Scenarios, x)
	}
	for _, m := range migrate.Modes() {
		l.Modes = append(l.Modes, listedMode{m.Name, m.Doc})
	}
	for _, f := range lab.Families() {
		l.Families = append(l.Families, f.Name)
	}
	return l
}

// listBugs prints each known bug, with the scenarios that show it, and then those that no verdict is weighed by.
func listBugs(b *strings.Builder, width int, l listed) {
	var bugs []result.Bug
	shownBy := map[string][]string{}
	for _, s := range l.Scenarios {
		for _, bug := range once(s.Bugs) {
			if shownBy[bug.ID] == nil {
				bugs = append(bugs, bug)
			}
			shownBy[bug.ID] = append(shownBy[bug.ID], s.Name)
		}
	}
	for _, bug := range bugs {
		fmt.Fprintf(b, "%s\n", bug.ID)
		hang(b, width, "  ", bug.Doc)
		hang(b, width, "  ", releases(bug))
		hang(b, width, "  ", "shown by "+strings.Join(shownBy[bug.ID], ", ")+", in the modes "+strings.Join(orAll(bug.Modes, migrate.Names()), ", "))
		hang(b, width, "  ", bug.Link)
	}
	b.WriteString("\nNo verdict is weighed by these:\n")
	for _, bug := range l.Unweighed {
		fmt.Fprintf(b, "%s\n", bug.ID)
		hang(b, width, "  ", bug.Doc)
		hang(b, width, "  ", bug.Link)
	}
}

// once leaves out what differs in the check alone: a bug by which several checks of a scenario fail is listed with each.
func once(bugs []result.Bug) []result.Bug {
	return slices.CompactFunc(slices.Clone(bugs), func(a, b result.Bug) bool { return a.ID == b.ID })
}

// releases says which kernels have a bug.
func releases(b result.Bug) string {
	s := fmt.Sprintf("since %s; fixed in %s and later series", b.Since, strings.Join(b.Fixed, ", "))
	if len(b.Still) > 0 {
		s += "; not fixed in " + strings.Join(b.Still, ", ")
	}
	return s
}

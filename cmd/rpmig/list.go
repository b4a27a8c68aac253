//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/migrate"
)

// listed is what list --json prints.
type listed struct {
	Scenarios []listedScenario `json:"scenarios"`
	Modes     []listedMode     `json:"modes"`
	Families  []string         `json:"families"`
}

type listedScenario struct {
	Name     string            `json:"name"`
	Title    string            `json:"title"`
	Path     string            `json:"path"`
	Expected map[string]string `json:"expected"` // by mode
}

type listedMode struct {
	Name string `json:"name"`
	Doc  string `json:"doc"`
}

func (e *env) listCommand() *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "list scenarios, the kernel paths they walk, and the modes",
		Flags: []cli.Flag{boolFlag("json", "", "as JSON")},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			l := e.list()
			if c.Bool("json") {
				enc := json.NewEncoder(e.stdout)
				enc.SetEscapeHTML(false)
				enc.SetIndent("", "  ")
				return enc.Encode(l)
			}
			var b strings.Builder
			b.WriteString("Scenarios:\n")
			for _, s := range l.Scenarios {
				fmt.Fprintf(&b, "  %-11s %s\n  %-11s %s\n", s.Name, s.Title, "", s.Path)
			}
			b.WriteString("\nModes (--migrate):\n")
			for _, m := range l.Modes {
				fmt.Fprintf(&b, "  %-11s %s\n", m.Name, m.Doc)
			}
			fmt.Fprintf(&b, "\nFamilies (--family):\n  %s\n\nrpmig run NAME --help tells the story and what is expected.\n",
				strings.Join(l.Families, ", "))
			_, err := fmt.Fprint(e.stdout, b.String())
			return err
		},
	}
}

func (e *env) list() listed {
	var l listed
	for i := range e.scenarios {
		s := &e.scenarios[i]
		x := listedScenario{Name: s.Name, Title: s.Title(), Path: s.Path, Expected: map[string]string{}}
		for _, m := range migrate.Modes() {
			x.Expected[m.Name] = s.Expect(m).String()
		}
		l.Scenarios = append(l.Scenarios, x)
	}
	for _, m := range migrate.Modes() {
		l.Modes = append(l.Modes, listedMode{m.Name, m.Doc})
	}
	for _, f := range harness.Families() {
		l.Families = append(l.Families, f.Name)
	}
	return l
}

//go:build linux

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/docs"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
)

// catalogue is docs/SCENARIOS.md.
func (e *env) catalogue(m docs.Measured) string {
	var b strings.Builder
	b.WriteString("# Scenarios\n\nMade by `make docs` from the scenarios themselves; do not edit. `rpmig explain NAME` prints one of them.\n" +
		"What was measured is of the first family that a scenario is played in")
	if m.Kernel != "" {
		fmt.Fprintf(&b, ", on Linux %s", m.Kernel)
	}
	b.WriteString(".\n\n")
	for _, section := range lab.Sections() {
		groups := groupVariants(e.ofSection(section))
		if len(groups) == 0 {
			continue
		}
		fmt.Fprintf(&b, "- [%s](#%s)\n", section, anchor(section))
		for _, g := range groups {
			fmt.Fprintf(&b, "  - [%s](#%s): %s\n", g.name(), anchor(g.name()), g.title)
		}
	}
	for _, section := range lab.Sections() {
		groups := groupVariants(e.ofSection(section))
		if len(groups) > 0 {
			fmt.Fprintf(&b, "\n# %s\n", section)
		}
		for _, g := range groups {
			b.WriteString("\n" + g.describe(m))
		}
	}
	return b.String()
}

func (e *env) ofSection(section string) []*lab.Scenario {
	var all []*lab.Scenario
	for i := range e.scenarios {
		if s := &e.scenarios[i]; s.Section == section {
			all = append(all, s)
		}
	}
	return all
}

// anchor is what GitHub makes of a heading: lower case, without punctuation, with hyphens for spaces.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			return r
		default:
			return -1
		}
	}, strings.ToLower(heading))
}

// describe is all there is to say of variants, in Markdown that reads well as it is: first what is the same for all of them.
func (v *variants) describe(m docs.Measured) string {
	var b strings.Builder
	story, rest := v.commonStory()
	fmt.Fprintf(&b, "## %s\n\n%s\n", v.name(), v.title)
	if story != "" {
		fmt.Fprintf(&b, "\n%s\n", story)
	}
	shared := facts(v.all[0])
	for _, s := range v.all[1:] {
		shared = slices.DeleteFunc(shared, func(f string) bool { return !slices.Contains(facts(s), f) })
	}
	if len(shared) > 0 {
		b.WriteString("\n" + strings.Join(shared, "\n") + "\n")
	}
	for i, s := range v.all {
		if len(v.all) > 1 {
			fmt.Fprintf(&b, "\n### %s\n\n%s\n", s.Name, s.Title())
			if rest[i] != "" {
				fmt.Fprintf(&b, "\n%s\n", rest[i])
			}
		}
		own := slices.DeleteFunc(facts(s), func(f string) bool { return slices.Contains(shared, f) })
		if len(own) > 0 {
			b.WriteString("\n" + strings.Join(own, "\n") + "\n")
		}
		b.WriteString(seen(s, m.Scenarios[s.Name]))
	}
	return b.String()
}

// facts are lines of a list.
func facts(s *lab.Scenario) []string {
	all := []string{
		"- section: " + s.Section,
		"- kernel path: " + s.Path,
		"- kernel timers: " + cmp.Or(s.TimerNames(), "none"),
		"- families: " + strings.Join(orAll(s.Families, lab.FamilyNames()), ", "),
		fmt.Sprintf("- connections: %d", cmp.Or(s.Connections, 1)),
	}
	for _, bug := range once(s.Bugs) {
		all = append(all, fmt.Sprintf("- known kernel bug: %s, %s; %s; shows in the modes %s (%s)",
			bug.ID, bug.Doc, releases(bug), strings.Join(orAll(bug.Modes, migrate.Names()), ", "), bug.Link))
	}
	return all
}

// seen is what was expected and what was measured in each mode, and one connection as it was drawn.
func seen(s *lab.Scenario, measured docs.Scenario) string {
	var b strings.Builder
	byMode := map[string]docs.Cell{}
	for _, c := range measured.Cells {
		byMode[c.Mode] = c
	}
	b.WriteString("\n| mode | expected | seen |\n| --- | --- | --- |\n")
	for _, mode := range migrate.Modes() {
		if !s.PlaysMode(mode) {
			continue
		}
		was := "not yet"
		if c, ok := byMode[mode.Name]; ok {
			was = c.Fact + ", " + c.Status
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", mode.Name, s.Expect(mode), was)
	}
	if measured.Drawing != "" {
		fmt.Fprintf(&b, "\nOne connection, --migrate=%s, times in seconds:\n\n```\n%s```\n", measured.Drawn, measured.Drawing)
	}
	return b.String()
}

func orAll(chosen, all []string) []string {
	if chosen == nil {
		return all
	}
	return chosen
}

//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/docs"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/reports"
	"github.com/rpmig/rpmig/result"
)

func (e *env) explainCommand() *cli.Command {
	return &cli.Command{
		Name:        "explain",
		Usage:       "tell a scenario's story, what to expect and what was seen",
		UsageText:   "rpmig explain SCENARIO\nrpmig explain DIR/SCENARIO/FAMILY/MODE[/REPEAT]\nrpmig explain CAPTURE --port=PORT",
		Description: strings.Join(wrapWords(explainDoc, helpWidth), "\n"),
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "port", DefaultText: "any", Usage: "of a capture: look at servers on `PORT`"},
			boolFlag("verbose", "v", "of a capture: draw each connection that is told of, and not one of a kind"), noColorFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return &usageError{"explain: want one scenario", "rpmig explain quiz2, or rpmig list"}
			}
			if dir, id := splitCell(c.Args().First()); dir != "" && !c.IsSet("port") {
				return e.explainCell(c.Context, dir, id)
			}
			done, is, err := e.explainCapture(c, c.Args().First())
			if done || err != nil {
				return err
			}
			found, err := selectScenarios(e.scenarios, c.Args().First())
			switch {
			case err != nil && is != nil: // a file may have the name of a scenario
				return is.refused(c.Args().First(), "capture")
			case err != nil:
				return cmp.Or(whichRun(c.Args().First()), err)
			}
			m, err := docs.Read()
			if err != nil {
				return err
			}
			var all []*lab.Scenario
			for i := range found {
				all = append(all, &found[i])
			}
			for i, g := range groupVariants(all) {
				if _, err := fmt.Fprint(e.textOut(), strings.Repeat("\n", min(i, 1))+narrowed(g.describe(m), e.width())); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// narrowed breaks a description anew where it is wider than the terminal: paragraphs as a whole, and all else line by line. A drawing
// needs all of its columns, and is left out where it has not even those of its arrows.
func narrowed(text string, width int) string {
	var b strings.Builder
	var paragraph []string
	wide := func(line string) bool { return utf8.RuneCountInString(line) > width }
	end := func() {
		if slices.ContainsFunc(paragraph, wide) {
			paragraph = wrapWords(strings.Join(paragraph, " "), width)
		}
		for _, line := range paragraph {
			fmt.Fprintln(&b, line)
		}
		paragraph = nil
	}
	drawing := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		fence := strings.HasPrefix(line, "```")
		if !drawing && line != "" && !strings.ContainsAny(line[:1], "`|-# ") {
			paragraph = append(paragraph, line)
			continue
		}
		end()
		switch {
		case fence && !drawing && width < narrow:
			b.WriteString("It takes 60 columns to draw it.\n")
		case fence && width < narrow, drawing && width < narrow:
		case drawing || !wide(line):
			fmt.Fprintln(&b, line)
		default:
			fmt.Fprintln(&b, strings.Join(wrapWords(line, width-2), "\n  "))
		}
		if fence {
			drawing = !drawing
		}
	}
	end()
	return b.String()
}

// splitCell cuts DIR/quiz2/ipv4/off into the folder of a run and the cell's ID; dir is empty where there is no run.
func splitCell(arg string) (dir, id string) {
	for dir = arg; dir != "." && dir != "/"; {
		if _, err := os.Stat(filepath.Join(dir, ledgerName)); err == nil {
			id, _ = strings.CutPrefix(strings.TrimPrefix(arg, dir), "/")
			return dir, strings.TrimSuffix(strings.TrimPrefix(id, "cells/"), "/capture.pcapng")
		}
		dir = filepath.Dir(dir)
	}
	return "", ""
}

// whichRun asks for the folder of a run, where the name of a cell leads into one that has several; nil: it does not.
func whichRun(arg string) error {
	for dir := arg; dir != "." && dir != "/"; dir = filepath.Dir(dir) {
		if names := runFolders(dir); names != nil {
			id := strings.TrimPrefix(arg, dir)
			return &usageError{fmt.Sprintf("explain: %s holds %s: in which?", dir, result.Plural(len(names), "run", "runs")),
				"rpmig explain " + quote(filepath.Join(dir, names[0], id))}
		}
	}
	return nil
}

// explainCell tells a cell of a run as a timeline, beside the other modes of its group.
func (e *env) explainCell(ctx context.Context, dir, id string) error {
	debug.SetGCPercent(100) // as for a report
	run, closed, err := openRun(ctx, dir, reading{stored: true}, func(dir string) string { return "rpmig explain " + dir + "/" + quote(id) })
	if err != nil {
		return err
	}
	defer closed()
	if id == "" || id == ledgerName {
		hint := "rpmig report " + quote(dir)
		if run.Len() > 0 {
			hint = "rpmig explain " + quote(filepath.Join(dir, strings.TrimSuffix(result.ID(run.Place(0)), "/1"))) + "; " + hint + " names them"
		}
		return &usageError{fmt.Sprintf("explain: %s is a run: which cell of it?", dir), hint}
	}
	at := -1
	for i := range run.Len() {
		if is := result.ID(run.Place(i)); is == id || is == id+"/1" {
			at = i
			break
		}
	}
	if at < 0 {
		hint := "rpmig report " + quote(dir) + " names them"
		if near := closest(strings.ToLower(id), cellNames(run)); near != "" {
			hint = "did you mean this? rpmig explain " + quote(filepath.Join(dir, near))
		}
		return &usageError{fmt.Sprintf("explain: no cell %q in %s", id, dir), hint}
	}
	return unlessEnded(ctx, func() error {
		cell, err := run.Cell(at)
		if err != nil {
			return err
		}
		stories, err := reports.StoriesOf(run, cell.Scenario, cell.Family)
		if err != nil {
			return err
		}
		_, err = io.WriteString(&untilEnded{ctx, e.textOut()}, stories.Explain(cell, reports.Options{Color: e.colorOut, Width: e.widthOut}))
		return err
	})
}

// cellNames are what cells of a run may be called: those that were played once, without the repeat.
func cellNames(run *result.Run) []string {
	var names []string
	for i := range run.Len() {
		names = append(names, strings.TrimSuffix(result.ID(run.Place(i)), "/1"))
	}
	return names
}

// docsCommand makes docs/; it is for those who work on rpmig.
func (e *env) docsCommand() *cli.Command {
	return &cli.Command{
		Name:   "docs",
		Usage:  "make docs/SCENARIOS.md, or with --measure DIR docs/measured.json from a run",
		Hidden: true,
		Flags:  []cli.Flag{&cli.PathFlag{Name: "measure", Usage: "read the ledger in `DIR`"}},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if dir := c.Path("measure"); dir != "" {
				run, err := readLedger(c.Context, dir)
				if err != nil {
					return err
				}
				return e.asJSON(c.Context, measure(run))
			}
			m, err := docs.Read()
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(e.stdout, e.catalogue(m))
			return err
		},
	}
}

// measure picks what the documentation shows of a run.
func measure(run *result.Run) docs.Measured {
	m := docs.Measured{Kernel: run.Header.Kernel, Scenarios: map[string]docs.Scenario{}}
	cells := slices.Clone(run.Cells)
	slices.SortStableFunc(cells, func(a, b result.Cell) int {
		return cmp.Or(cmp.Compare(a.Scenario, b.Scenario),
			cmp.Compare(slices.Index(lab.FamilyNames(), a.Family), slices.Index(lab.FamilyNames(), b.Family)),
			byMode(&a, &b))
	})
	stories := reports.NewStories(&result.Run{Header: run.Header}) // each cell alone
	family := map[string]string{}
	for i := range cells {
		c := &cells[i]
		first := cmp.Or(family[c.Scenario], c.Family)
		if c.Repeat != 1 || c.Family != first {
			continue
		}
		family[c.Scenario] = first
		s := m.Scenarios[c.Scenario]
		s.Cells = append(s.Cells, docs.Cell{Mode: c.Mode, Fact: c.Fact(), Status: string(c.Status)})
		// The first mode in which the connection is saved tells the story, if there is one.
		saved := c.Connections.Lost == 0 && c.Connections.Staged > 0
		if len(c.Flow) > 0 && (s.Drawing == "" || saved && s.Drawn == migrate.Off().Name) {
			s.Drawn, s.Drawing = c.Mode, stories.Timeline(c)
		}
		m.Scenarios[c.Scenario] = s
	}
	return m
}

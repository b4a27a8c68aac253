//go:build linux

package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/reload"
	"github.com/rpmig/rpmig/reports"
	"github.com/rpmig/rpmig/result"
)

// next says, under a report for people, how to see more of the run, whose ledger is in dir if it is anywhere: the cell
// that is looked at first, and the page. Where there is no ledger it says how to get one.
func (e *env) next(c *cli.Context, format reports.Format, run *result.Run, dir string) {
	if c.Bool("q") || format.Name != "text" {
		return
	}
	dir = strings.TrimSuffix(dir, string(filepath.Separator)+ledgerName)
	cell := e.mostRelevant(run)
	_, err := os.Stat(filepath.Join(dir, ledgerName))
	switch {
	case cell == nil:
	case dir != "" && err == nil:
		if !c.Bool("v") {
			id := strings.TrimSuffix(cell.ID(), "/1")
			e.advise("why: rpmig explain %s", quote(filepath.Join(dir, id)))
		}
		e.advise("the page: rpmig report %s --format=html >page.html", quote(dir))
		e.nextReload(c, run)
	case cell.Reload != nil:
		if !c.Bool("v") && cell.Connections.Lost > 0 {
			e.advise("why: the same with -v tells of each lost connection")
		}
		e.nextReload(c, run)
		if c.Command.Name == reloadName && len(cell.Reload.Cycles) > 0 {
			packets := ""
			if cell.Connections.Lost > 0 && !c.Bool("packets") {
				packets = " --packets"
			}
			e.advise("the page: the same with --out=evidence%s; then rpmig report evidence --format=html >page.html", packets)
		}
	default:
		if !c.Bool("v") {
			e.advise("why: the same with -v; the story: rpmig explain %s", cell.Scenario)
		}
		e.advise("next: rpmig run all --out=evidence")
		e.advise("then its page: rpmig report evidence --format=html >page.html")
	}
}

// nextReload says with what to play reloads again, to learn what this run could not tell.
func (e *env) nextReload(c *cli.Context, run *result.Run) {
	if c.Command.Name != reloadName {
		return
	}
	const with = "next: the same with %s"
	var cycles, more int
	closed, migrates := false, false
	for _, cell := range run.Cells {
		if cell.Reload == nil {
			continue
		}
		migrates = migrates || cell.Mode != "off"
		cycles, more = max(cycles, len(cell.Reload.Cycles)), max(more, cell.Reload.More)
		for _, cycle := range cell.Reload.Cycles {
			closed = closed || slices.ContainsFunc(cycle.Steps, func(s result.ReloadStep) bool { return s.Closed > 0 })
		}
	}
	switch {
	case closed && !migrates:
		e.advise(with, "--migrate=off,sysctl,bpf tells what migration would save")
	case more > 0:
		e.advise(with, fmt.Sprintf("--cycles=%d may tell whether migration helps", min(cycles+more, mostCycles)))
	}
}

// nextOf says it under a report of several runs: the cell is one of the worst run.
func (e *env) nextOf(c *cli.Context, format reports.Format, rec *recorded) {
	worst := rec.runs[rec.worst()]
	if rec.names == nil || rec.dir == "" {
		e.next(c, format, worst, rec.dir)
		return
	}
	cell := e.mostRelevant(worst)
	if c.Bool("q") || format.Name != "text" || cell == nil {
		return
	}
	if !c.Bool("v") {
		id := strings.TrimSuffix(cell.ID(), "/1")
		e.advise("why: rpmig explain %s", quote(filepath.Join(rec.dir, rec.names[rec.worst()], id)))
	}
	e.advise("the page: rpmig report %s --format=html >page.html", quote(rec.dir))
}

// mostRelevant is the cell to look at first: one that went wrong, or else one in which a connection was lost, in the
// order of the scenarios. It is nil where nothing was played.
func (e *env) mostRelevant(run *result.Run) *result.Cell {
	var played []*result.Cell
	cells := run.Cells
	if run.Stored != nil {
		cells, _ = run.Stored.Samples() // what cannot be read any more is nothing to look at
	}
	for i := range cells {
		if c := &cells[i]; c.Status != result.Skip {
			played = append(played, c)
		}
	}
	if len(played) == 0 {
		return nil
	}
	rank := func(c *result.Cell) int {
		switch {
		case c.Status == result.Fail || c.Status == result.Error:
			return 0
		case c.Status == result.XFail:
			return 1
		case c.Connections.Lost > 0:
			return 2
		default:
			return 3
		}
	}
	names := e.names()
	return slices.MinFunc(played, func(a, b *result.Cell) int {
		return cmp.Or(
			cmp.Compare(rank(a), rank(b)),
			cmp.Compare(slices.Index(names, a.Scenario), slices.Index(names, b.Scenario)),
			cmp.Compare(a.Family, b.Family),
			byMode(a, b),
			cmp.Compare(a.Repeat, b.Repeat),
		)
	})
}

// byMode compares cells by the order of their modes.
func byMode(a, b *result.Cell) int {
	names := append(migrate.Names(), reload.ModeNames()...)
	return cmp.Compare(slices.Index(names, a.Mode), slices.Index(names, b.Mode))
}

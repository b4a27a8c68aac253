//go:build linux

package main

import (
	"context"
	"io"

	"github.com/rpmig/rpmig/compare"
	"github.com/rpmig/rpmig/reports"
	"github.com/rpmig/rpmig/result"
)

// mostDrawn is how many cells of each kind are drawn: more would make the page too large to send.
const mostDrawn = 20

// sideBySide writes the page of some comparisons: each cell that changed, as it was and as it is.
func (e *env) sideBySide(ctx context.Context, w io.Writer, all []*compare.Comparison) error {
	drawn, err := pickDrawn(ctx, all)
	if err != nil {
		return err
	}
	page := &reports.Pairs{Title: "rpmig: what changed"}
	for _, c := range all {
		page.Runs = append(page.Runs, "old: "+c.Old.About(), "new: "+c.New.About())
		page.Summary = append(page.Summary, c.Summary())
		for _, kind := range compare.Kinds() {
			changes := c.Of(kind)
			if len(changes) == 0 {
				continue
			}
			section := reports.PairSection{Title: kind.Title(), More: max(len(changes)-mostDrawn, 0)}
			for _, ch := range changes[:min(len(changes), mostDrawn)] {
				pair := reports.Pair{Said: ch.Sentences()}
				if ch.Scenario != "" {
					pair.Name, pair.Was, pair.Is = ch.String(), ch.Old.String(), ch.New.String()
					pair.Old, pair.New = drawn.cell(c.Old, ch.Key), drawn.cell(c.New, ch.Key)
				}
				section.Pairs = append(section.Pairs, pair)
			}
			page.Sections = append(page.Sections, section)
		}
	}
	return reports.RenderPairs(w, page)
}

// drawnCell is a cell of a side.
type drawnCell struct {
	side *compare.Side
	key  compare.Key
}

type drawnCells map[drawnCell]*result.Cell

func (d drawnCells) cell(s *compare.Side, k compare.Key) *reports.PairCell {
	c := d[drawnCell{s, k}]
	if c == nil {
		return nil
	}
	return &reports.PairCell{Header: &s.Header, Cell: c}
}

// pickDrawn reads the cells that are to be drawn whole, each ledger once.
func pickDrawn(ctx context.Context, all []*compare.Comparison) (drawnCells, error) {
	wanted := map[*compare.Side]map[compare.Key]bool{}
	for _, c := range all {
		for _, kind := range compare.Kinds() {
			changes := c.Of(kind)
			for _, ch := range changes[:min(len(changes), mostDrawn)] {
				for _, s := range []*compare.Side{c.Old, c.New} {
					if wanted[s] == nil {
						wanted[s] = map[compare.Key]bool{}
					}
					wanted[s][ch.Key] = true
				}
			}
		}
	}
	drawn := drawnCells{}
	for s, keys := range wanted {
		if s.Played() == 0 { // it stands for a run that is not there
			continue
		}
		picked, err := pickCells(ctx, s.Path, func(side int, c *result.Cell) bool {
			k := compare.Key{Scenario: c.Scenario, Family: c.Family, Mode: c.Mode}
			return side == s.Number && keys[k] && c.Repeat == s.Shown(k)
		})
		if err != nil {
			return nil, err
		}
		for i := range picked[s.Number] {
			c := &picked[s.Number][i]
			drawn[drawnCell{s, compare.Key{Scenario: c.Scenario, Family: c.Family, Mode: c.Mode}}] = c
		}
	}
	return drawn, nil
}

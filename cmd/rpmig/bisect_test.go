//go:build linux

package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/vm"
)

// TestBisectVerdict: only verdicts of the scenario are good or bad.
func TestBisectVerdict(t *testing.T) {
	run := func(statuses ...result.Status) *result.Run {
		r := &result.Run{Header: result.Header{Cells: len(statuses)}}
		for _, s := range statuses {
			r.Cells = append(r.Cells, result.Cell{Status: s})
		}
		return r
	}
	cut, died := run(result.Pass), run(result.Fail)
	cut.Header.Cells = 2
	died.Ending = &result.Ending{Why: "it died", Died: true}
	for name, c := range map[string]struct {
		runs []*result.Run
		want int
	}{
		"all as expected":          {[]*result.Run{run(result.Pass, result.Pass)}, 0},
		"otherwise":                {[]*result.Run{run(result.Pass, result.Fail)}, 1},
		"otherwise, and a SKIP":    {[]*result.Run{run(result.Skip, result.Fail)}, 1},
		"a known bug":              {[]*result.Run{run(result.Pass, result.XFail)}, 125},
		"a SKIP":                   {[]*result.Run{run(result.Pass, result.Skip)}, 125},
		"an ERROR":                 {[]*result.Run{run(result.Pass, result.Error)}, 125},
		"an ERROR beside a FAIL":   {[]*result.Run{run(result.Fail, result.Error)}, 125},
		"cut short":                {[]*result.Run{cut}, 125},
		"it did not boot, or died": {[]*result.Run{died}, 125},
		"nothing":                  {[]*result.Run{run()}, 125},
		"no run":                   {nil, 125},
	} {
		if got, why := bisectVerdict(c.runs); got != c.want || (why == "") != (got != 125) {
			t.Errorf("%s: %d, %q; want %d", name, got, why, c.want)
		}
	}
	e := &env{}
	for err, want := range map[error]int{fmt.Errorf("kernel .: %w", vm.ErrNotBuilt): 125, errors.New("no QEMU"): 128} {
		var b *bisectError
		if got := e.bisected(err, nil); !errors.As(got, &b) || b.status != want {
			t.Errorf("%v: %v, want %d", err, got, want)
		}
	}
}

package compare

import (
	"strings"
	"testing"

	"github.com/rpmig/rpmig/result"
)

// shards are two, with a cell each, of a run.
func shards() []Part {
	part := func(path string, index int, scenario string) Part {
		h := result.Header{
			Version: "v1", Kernel: "6.1", Machine: "x86_64", Cells: 1, Shard: &result.Shard{Index: index, Of: 2, Planned: 2},
			Command: []string{"run", "all", "--shard", path, "--out=" + path, "--repeat", "1"},
		}
		return Part{path, &result.Run{Header: h, Cells: plays(scenario, "PASS")}}
	}
	return []Part{part("b", 2, "quiz2"), part("a", 1, "quiz1")}
}

func TestMerge(t *testing.T) {
	run, err := Merge(shards())
	if err != nil {
		t.Fatal(err)
	}
	h := run.Header
	if h.Cells != 2 || len(run.Cells) != 2 || run.Cells[0].Scenario != "quiz1" || h.Shard != nil || strings.Join(h.Command, " ") != "run all --repeat 1" {
		t.Errorf("%+v", run)
	}
}

// TestMergeRefuses: by name, whatever is not all of one run.
func TestMergeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(p []Part) []Part
		want string
	}{
		"nothing":         {func([]Part) []Part { return nil }, "nothing"},
		"a whole run":     {func(p []Part) []Part { p[0].Run.Header.Shard = nil; return p }, "b is no shard"},
		"one of them":     {func(p []Part) []Part { return p[1:] }, "shard 2/2 is missing"},
		"twice":           {func(p []Part) []Part { return append(p, p[0]) }, "b and b are both shard 2/2"},
		"a number":        {func(p []Part) []Part { p[0].Run.Header.Shard.Index = 9; return p }, "b says that it is shard 9/2"},
		"another kernel":  {func(p []Part) []Part { p[1].Run.Header.Kernel = "6.2"; return p }, "b and a are of different runs: kernel: 6.1 and 6.2"},
		"another rpmig":   {func(p []Part) []Part { p[1].Run.Header.Version = "v2"; return p }, "rpmig: v1 and v2"},
		"another machine": {func(p []Part) []Part { p[1].Run.Header.Machine = "arm64"; return p }, "machine"},
		"another command": {func(p []Part) []Part { p[1].Run.Header.Command[1] = "quiz1"; return p }, "command: run all --repeat 1 and run quiz1 --repeat 1"},
		"another split":   {func(p []Part) []Part { p[1].Run.Header.Shard.Of = 3; return p }, "number of shards"},
		"another plan":    {func(p []Part) []Part { p[1].Run.Header.Shard.Planned = 3; return p }, "planned cells"},
		"cut short":       {func(p []Part) []Part { p[1].Run.Header.Cells = 5; return p }, "a was cut short: 4 of 5"},
		"died":            {func(p []Part) []Part { p[1].Run.Ending = &result.Ending{Why: "it died"}; return p }, "a was cut short"},
		"the same cell":   {func(p []Part) []Part { p[1].Run.Cells = p[0].Run.Cells; return p }, "quiz2/ipv4/sysctl/1 is in two shards"},
		"a gap": {func(p []Part) []Part {
			for i := range p {
				p[i].Run.Header.Shard.Planned = 3
			}
			return p
		}, "2 cells together, and 3 were planned"},
	} {
		if _, err := Merge(c.edit(shards())); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

package compare

import (
	"strings"
	"testing"
	"time"

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

// merge is Merge, with the cells in memory.
func merge(t *testing.T, parts []Part) (*result.Run, error) {
	t.Helper()
	merged, err := Merge(parts)
	if err != nil {
		return nil, err
	}
	run := &result.Run{Header: merged.Header}
	if err := merged.Each(func(c *result.Cell) error { run.Cells = append(run.Cells, *c); return nil }); err != nil {
		t.Fatal(err)
	}
	return run, nil
}

func TestMerge(t *testing.T) {
	run, err := merge(t, shards())
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
		"another image": {func(p []Part) []Part {
			for i := range p {
				p[i].Run.Header.Guest = &result.Guest{Image: strings.Repeat(p[i].Path, 64)}
			}
			return p
		}, "the kernel's image: bbb"},
		"no guest":        {func(p []Part) []Part { p[1].Run.Header.Guest = &result.Guest{}; return p }, "the machine's own and not known"},
		"another command": {func(p []Part) []Part { p[1].Run.Header.Command[1] = "quiz1"; return p }, "command: run all --repeat 1 and run quiz1 --repeat 1"},
		"another split":   {func(p []Part) []Part { p[1].Run.Header.Shard.Of = 3; return p }, "number of shards"},
		"another plan":    {func(p []Part) []Part { p[1].Run.Header.Shard.Planned = 3; return p }, "planned cells"},
		"cut short":       {func(p []Part) []Part { p[1].Run.Header.Cells = 5; return p }, "a was cut short: 4 of 5"},
		"died":            {func(p []Part) []Part { p[1].Run.Ending = &result.Ending{Why: "it died"}; return p }, "a did not end by itself: it died"},
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

// TestMergeTimes: shards that began one after another are one run, which began with the first; also those of labs that give each a name
// of its own.
func TestMergeTimes(t *testing.T) {
	p := shards()
	at := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	for i := range p {
		h := &p[i].Run.Header
		h.Started = result.Time{Time: at.Add(time.Duration(1-i) * time.Hour)} // b is the later one, and stands first
		h.Command = append(h.Command, "--kcidb-id=job-"+p[i].Path)
		p[i].Run.Cells[0].At, p[i].Run.Cells[0].Elapsed = 5, 1
	}
	run, err := merge(t, p)
	if err != nil {
		t.Fatal(err)
	}
	if took, known := run.Took(); !run.Header.Started.Equal(at) || run.Cells[0].At != 5 || run.Cells[1].At != 3605 || took != 3606 || !known {
		t.Errorf("began at %v, took %v, %v: %v and %v", run.Header.Started, took, known, run.Cells[0].At, run.Cells[1].At)
	}
	if p[0].Run.Cells[0].At != 5 {
		t.Error("the shard itself was changed")
	}
}
